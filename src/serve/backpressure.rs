//! A disk that is behind slows fills down, and their clients with them; it does not stop them.

use std::time::Duration;

use futures_lite::future::or;

use super::exchange::Exchange;
use crate::rt::Runtime;
use crate::store::room::{Room, Rooms};

/// A line that has not moved for so long, or for the response timeout where that is longer, stands still.
const STANDSTILL: Duration = Duration::from_secs(10);

/// Room for a file that will wait for its name; `None` where the line for it stands still. As long as files get their
/// names it moves, and whoever waits gets his turn.
pub(super) async fn room<R: Runtime>(exchange: &Exchange<'_, R>) -> Option<Room> {
    let rooms = &exchange.context.shared.store.committer.rooms;
    let limit = exchange.context.upstream.limits().response_head_time.max(STANDSTILL);
    or(async { rooms.take(exchange.client).await.ok() }, stands_still::<R>(rooms, limit)).await
}

async fn stands_still<R: Runtime>(rooms: &Rooms, limit: Duration) -> Option<Room> {
    loop {
        let before = rooms.freed();
        R::sleep(limit).await;
        if rooms.freed() == before {
            return None;
        }
    }
}
