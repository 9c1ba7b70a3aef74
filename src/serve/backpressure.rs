//! A disk that is behind slows fills down, and their clients with them; it does not stop them.

use std::time::Duration;

use futures_lite::future::or;

use super::client::Client;
use super::exchange::Exchange;
use super::reply::Reply;
use super::{fill, pass};
use crate::error::{Error, Kind, Side};
use crate::outcome::Why;
use crate::rt::Runtime;
use crate::store::inflight::Permit;
use crate::store::room::{Room, Rooms};

/// Fetches the file, see `fill::fetch`, once there is room for one more that waits for its name.
pub async fn lead<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>, permit: Permit) -> Reply {
    let hung_up = async {
        client.hung_up().await;
        Err(Error::with(Side::Us, Kind::Busy, "who asked hung up in the line for the disk"))
    };
    let room = async { Ok(room(exchange).await) };
    match or(room, hung_up).await {
        Ok(Some(room)) => fill::fetch(exchange, client, permit, room).await,
        Ok(None) => {
            exchange.log.debug(format_args!("not saved - {}", Why::DiskBehind.as_str()));
            permit.decline(Why::DiskBehind);
            pass::run(exchange, client, Why::DiskBehind).await
        }
        Err(error) => {
            exchange.log.debug(format_args!("error with proxy request {error}"));
            // Only this client has gone: one of those who wait leads instead.
            permit.withdraw();
            client.send_error(&error, false, true).await
        }
    }
}

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
