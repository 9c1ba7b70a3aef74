//! Tests of what both backends promise.

mod contract;
mod harness;
mod wakes;
