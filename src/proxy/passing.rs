//! The body of an answer that is passed on, some of which may have been read already.

use crate::cache::memory::StoredBody;
use crate::rt::Runtime;
use crate::upstream::body::OriginBody;

/// The body of an answer that is passed on.
pub struct Passing<R: Runtime> {
    /// What has been read of it, in order.
    pub begun: Vec<StoredBody>,
    /// What follows.
    pub rest: OriginBody<R>,
}

impl<R: Runtime> From<OriginBody<R>> for Passing<R> {
    fn from(rest: OriginBody<R>) -> Self {
        Self { begun: Vec::new(), rest }
    }
}
