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

mod addresses;
mod anonymous;
mod cache_status;
mod checked_rest;
mod coding_names;
mod cold;
mod connection;
mod content_types;
mod credentials;
mod delivery;
mod descriptors;
mod disk_faults;
mod disk_hangs;
mod documents;
mod engine;
mod fill;
mod fill_faults;
mod follow;
mod header_fields;
mod hit;
mod hostile_clients;
mod hostile_origins;
mod leaks;
mod lifecycle;
mod limits;
mod location;
mod memory;
mod miss_fast;
mod names;
mod no_cache;
mod odd_origins;
mod origin_reuse;
mod parity_cli;
mod parity_dir;
mod parity_log;
mod partial;
mod pass;
mod preset;
mod ranges;
mod ready;
mod rebuilt;
mod redirect;
mod regressions;
mod resume;
mod retry_after;
mod revalidate;
mod revalidate_rules;
mod rights;
mod set_checksums;
mod set_heads;
mod set_settling;
mod sets;
mod slow_documents;
mod snapshot;
mod stale_always;
mod targets;
mod time_limits;
mod tls;
mod units;
mod updates;
