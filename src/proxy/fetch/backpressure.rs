//! A disk that is behind slows fills down, and their clients with them; it does not stop them.

use std::time::Duration;

use futures_lite::future::or;

use crate::cache::memory::Memory;
use crate::cache::room::Room;
use crate::proxy::exchange::Exchange;
use crate::rt::{Runtime, budget};

/// A line that has not moved for so long, or for the response timeout where that is longer, stands still.
const STANDSTILL: Duration = Duration::from_secs(10);

/// Room for a file that will wait for its name; `None` where the line for it stands still. As long as files get their
/// names it moves, and whoever waits gets his turn.
pub(crate) async fn room<R: Runtime>(exchange: &Exchange<'_, R>) -> Option<Room> {
    let rooms = &exchange.context.shared.store.committer.rooms;
    let limit = exchange.context.upstream.limits().response_head_time.max(STANDSTILL);
    or(async { Some(rooms.take(exchange.client).await) }, stands_still::<R, _>(limit, || rooms.freed())).await
}

/// Clients that take nothing give their memory back after a second. A line for it that has not moved for so long stands
/// still.
const MEMORY_STANDSTILL: Duration = Duration::from_secs(3);

/// Room in memory for a stored answer; `None` where the line for it stands still, or there never is so much.
pub(crate) async fn memory_room<R: Runtime>(memory: &Memory, count: usize) -> Option<budget::Permit> {
    if count > memory.most() {
        return None;
    }
    let room = async { Some(memory.room(count).await) };
    or(room, stands_still::<R, _>(MEMORY_STANDSTILL, || memory.freed())).await
}

/// Ends when a number has stayed the same for so long.
async fn stands_still<R: Runtime, T>(limit: Duration, number: impl Fn() -> u64) -> Option<T> {
    loop {
        let before = number();
        R::sleep(limit).await;
        if number() == before {
            return None;
        }
    }
}
