//! Index sets: every client sees the files of a set as they were together at the origin.

mod admit;
mod asked;
mod fits;
pub(super) mod generations;
mod held;
mod left;
mod member;
mod outage;
mod refresh;
pub mod serve;
mod switch;
