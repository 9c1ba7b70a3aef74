//! A disk that is behind slows fills down, and their clients with them; it does not stop them.

use futures_lite::future::or;

use super::client::Client;
use super::{Context, Exchange, Reply, fill, pass};
use crate::error::{Error, Kind, Side};
use crate::outcome::Why;
use crate::rt::mailbox::Waiter;
use crate::rt::{Runtime, timeout};
use crate::store::inflight::Permit;
use crate::store::room::Room;

/// Fetches the file, see [`fill::fetch`], once there is room for one more that waits for its name.
pub async fn lead<R: Runtime>(exchange: &Exchange<'_, R>, client: &mut Client<R>, permit: Permit) -> Reply {
    let hung_up = async {
        client.hung_up().await;
        Err(Error::with(Side::Us, Kind::Busy, "who asked hung up in the line for the disk"))
    };
    let room = async { Ok(room(exchange.context).await) };
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

/// Room for a file that will wait for its name; `None` where there was none for as long as an answer of
/// the origin would be waited for.
pub(super) async fn room<R: Runtime>(context: &Context<R>) -> Option<Room> {
    let rooms = &context.shared.store.committer.rooms;
    if let Some(room) = rooms.try_take() {
        return Some(room);
    }
    let waiter = Waiter::new().ok()?;
    timeout::<R, _>(context.upstream.limits().response_head_time, rooms.take(&waiter)).await.ok()
}
