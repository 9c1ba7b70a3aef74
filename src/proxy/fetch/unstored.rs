//! A body that the disk has refused.

use std::io;

use crate::cache::inflight::Permit;
use crate::cache::partial::Partial;
use crate::observe::log::RequestLog;
use crate::rt::Runtime;
use crate::rt::remote_wake::Waiter;
use crate::upstream::body::OriginBody;

/// After a disk error: the rest of the body goes to those who follow, through memory, paced by the
/// slowest. New requests start anew.
pub(crate) async fn unstored<R: Runtime>(
    permit: Permit,
    partial: Partial,
    body: &mut OriginBody<R>,
    mut piece: Vec<u8>,
    error: &io::Error,
    log: &RequestLog,
) {
    log.debug(format_args!("failed to save local file {error}"));
    drop(partial);
    permit.fill().lose_file();
    permit.leave();
    let waiter = Waiter::new();
    loop {
        if !piece.is_empty() && !permit.fill().hand_over(std::mem::take(&mut piece), &waiter).await {
            return;
        }
        match body.next(&mut piece).await {
            Ok(true) => {}
            Ok(false) => return permit.fill().complete(),
            Err(error) => return permit.fail(error),
        }
    }
}
