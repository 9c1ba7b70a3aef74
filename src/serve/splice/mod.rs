//! Bodies that move from the origin's socket inside the kernel, where the system can do that. Where
//! it cannot, nothing is moved here and the caller copies.

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod absent;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod linux;

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub use absent::{Pipes, to_client, to_file};
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub use linux::{Pipes, to_client, to_file};
