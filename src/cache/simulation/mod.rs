//! Simulations: the store in every order of events that a seed can think of. Tests only.

mod fill;
mod restarts;
