//! Systems without splice.

use std::sync::Arc;

use crate::cache::aside::Shelf;
use crate::downstream::client::Out;
use crate::error::Error;
use crate::fd_budget::Descriptors;
use crate::proxy::fetch::progress::{Progress, Stop};
use crate::rt::Runtime;
use crate::upstream::body::OriginBody;

/// Nothing to keep.
#[derive(Debug)]
pub struct Pipes {}

impl Pipes {
    /// Takes nothing.
    pub fn new(_: Descriptors) -> Self {
        Self {}
    }

    /// Nothing to close.
    pub fn clear(&self) {}

    /// Nothing to close.
    pub fn prune(&self) {}
}

/// Moves nothing.
pub async fn to_file<R: Runtime>(_: &Pipes, _: &mut OriginBody<R>, _: &mut Progress) -> Result<(), Stop> {
    Ok(())
}

/// Moves nothing.
pub async fn to_client<R: Runtime>(
    _: &Pipes,
    _: &Arc<Shelf>,
    _: &mut OriginBody<R>,
    _: &Out<'_, R>,
) -> Result<(), Error> {
    Ok(())
}
