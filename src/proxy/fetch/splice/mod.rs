//! Bodies that move from the origin's socket inside the kernel, where the system can do that. Where
//! it cannot, nothing is moved here and the caller copies.

#[cfg(not(linux_calls))]
mod absent;
#[cfg(linux_calls)]
mod linux;

#[cfg(not(linux_calls))]
pub use absent::{Pipes, to_client, to_file};
#[cfg(linux_calls)]
pub use linux::{Pipes, to_client, to_file};
