//! The end of a fill: the whole file gets its name; an index, once packages have been compared with it.

use std::io;
use std::sync::{Arc, mpsc};

use super::fill::Fetch;
use super::rebuilt::Index;
use crate::rt::Runtime;
use crate::store::commit::Whole;

/// Puts the whole file in line for its name. Clients have all its bytes by now or get them from the
/// open file.
pub(super) fn commit<R: Runtime>(fetch: Fetch<R>, size: u64) {
    let Fetch { context, permit, partial, room, index, log, .. } = fetch;
    let shared = Arc::clone(&context.shared);
    let room = room.unwrap_or_else(|| shared.store.committer.rooms.take_anyway());
    index.iter().for_each(Index::mark);
    permit.fill().complete();
    let modified = permit.fill().modified();
    let path = if log.is_on() { context.shared.store.display(permit.key()) } else { String::new() };
    let busy = context.shared.stop.busy();
    let (ending, end) = mpsc::channel();
    let report = Box::new(move |outcome: io::Result<()>| {
        match outcome {
            Ok(()) => log.debug(format_args!("renamed {path}.in-progress to {path}")),
            Err(error) => {
                log.debug(format_args!("failed to rename {path}.in-progress to {path} - {error}"));
            }
        }
        drop::<mpsc::Sender<()>>(ending);
        drop(busy);
    });
    let file = Arc::clone(partial.file());
    let whole = Whole { permit, partial, size, modified, room, dated: None, report };
    match index {
        Some(index) => index.compare_all(file, size, move || {
            shared.store.committer.add(whole);
            end
        }),
        None => shared.store.committer.add(whole),
    }
}
