//! What package sites need beyond HTTP: indexes, index sets that change together, packages rebuilt under an old name.
//!
//! The rest of the program names these and nothing else:
//! - `snapshot::serve::step`: the next step of a request for a member of an index set;
//! - [`rebuilt::wait`]: a request for a package waits until a new index has been compared;
//! - [`rebuilt::Index`] and [`comparisons::Pending`]: an index that is being fetched, and its comparison;
//! - [`listed`]: what a fetched file must be;
//! - [`tables`]: what all workers share.

pub mod comparisons;
mod expected;
mod index;
pub mod listed;
pub mod rebuilt;
pub mod snapshot;
pub mod tables;
