//! What package sites need beyond HTTP: indexes, index sets that change together, packages rebuilt under an old name.

pub mod comparisons;
pub mod contradicted;
pub mod index;
pub mod rebuilt;
pub mod snapshot;
