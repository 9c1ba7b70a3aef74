//! What all workers share of package sites.

use std::sync::Arc;

use super::comparisons::Comparisons;
use super::expected::ExpectedPackages;
use super::snapshot::generations::Sets;

/// The tables.
#[derive(Debug, Default)]
pub struct Tables {
    /// Index sets, and what their clients have read of them.
    pub sets: Sets,
    /// New package indexes that are being compared with what the cache has.
    pub comparisons: Arc<Comparisons>,
    /// Packages that the newest index contradicts.
    pub expected: ExpectedPackages,
}
