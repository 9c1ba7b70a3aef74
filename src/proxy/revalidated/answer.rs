//! A stored response as the client gets it: the stored head and its age.

use super::wanted::CacheRequest;
use crate::cache::response::{self, StoredResponse};
use crate::downstream::client::Client;
use crate::downstream::head;
use crate::downstream::reply::Reply;
use crate::http::caching::freshness;
use crate::http::conditional::Validators;
use crate::outcome::{CacheUse, Outcome};
use crate::proxy::deliver::{Body, Representation, deliver};
use crate::rt::Runtime;
use crate::sys::clock;

/// Sends a stored response, which is used in this way.
pub(crate) async fn send<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    client: &Client<R>,
    stored: StoredResponse,
    how: CacheUse,
) -> Reply {
    wanted.debug(&format!("is stored, {} - streaming to client", how.as_str()));
    let (head, now, exchange) = (&stored.head, clock::unix_secs(), wanted.exchange);
    // How long ago a file of which nothing is known was checked cannot be said.
    let age = (!head.is_unknown()).then(|| freshness::age(head, now));
    let left = freshness::left(head, now, &wanted.policy);
    exchange.outcome.set(Some(match how {
        CacheUse::Hit => Outcome::Hit(Some(left)),
        CacheUse::Revalidated => Outcome::Revalidated,
        CacheUse::Fetched => exchange.outcome.get().unwrap_or(Outcome::Miss),
        CacheUse::Stale(why) => Outcome::Stale(why, -left),
    }));
    // Without a Last-Modified it is as old as its date (RFC 9111 section 4.3.2).
    let (last_modified, etags) = (head.modified(), [head.etag(), None]);
    let since = last_modified.or(head.date()).or(Some(head.times.received));
    let validators = Validators { etags, last_modified, since, now };
    let body = match stored.body {
        response::Body::File(_, file) => Body::File(file),
        response::Body::Memory(stock) => Body::StoredBody(stock),
    };
    let (status, reason, fields) = (head.status, &*head.reason, head::kept_fields(head, age));
    deliver(exchange, client, Representation { status, reason, fields, validators, body }).await
}
