//! The contract, tested through the real binary over real sockets: nothing of the library is
//! linked. One module a family of behaviour; wire tests run on both backends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed assumption of a test is a failed test, in helpers too"
)]
#![allow(clippy::print_stderr, reason = "a skipped test says so, a failed one shows what the server said")]

#[path = "../support/mod.rs"]
mod support;

mod cold;
mod connection;
mod engine;
mod fill;
mod fill_faults;
mod follow;
mod hit;
mod leaks;
mod lifecycle;
mod miss_fast;
mod names;
mod odd_origins;
mod parity_cli;
mod parity_dir;
mod parity_log;
mod pass;
mod preset;
mod ready;
mod regressions;
mod revalidate;
mod revalidate_rules;
mod sets;
mod time_limits;
mod tls;
