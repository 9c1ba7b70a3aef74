//! Index sets: every client sees the files of a set as they were together at the origin.

pub mod admit;
pub mod fits;
pub mod held;
pub mod left;
pub mod member;
pub mod outage;
pub mod refresh;
pub mod serve;
pub mod switch;
pub mod table;
