//! A stored answer as the client gets it: the stored head and its age.

use crate::downstream::head;
use std::sync::Arc;

use super::wanted::{CacheRequest, may_use, why_stale};
use crate::cache::response::{self, StoredResponse};
use crate::downstream::client::Client;
use crate::downstream::reply::Reply;
use crate::error::Error;
use crate::http::caching::freshness;
use crate::http::conditional::Validators;
use crate::http::fields::Fields;
use crate::outcome::{CacheUse as How, Outcome};
use crate::proxy::deliver::{Body, Representation, deliver};
use crate::proxy::exchange::Exchange;
use crate::proxy::next::Next;
use crate::rt::Runtime;
use crate::sys::clock;

/// The next step: this is sent, in this way.
pub(crate) fn stored<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    kept: StoredResponse,
    how: How,
) -> Next<R> {
    wanted.debug(&format!("is stored, {} - streaming to client", how.as_str()));
    let stored = Arc::clone(&kept.head);
    // How long ago a file of which nothing is known was checked cannot be said.
    let age = (!stored.is_unknown()).then(|| freshness::age(&stored, clock::unix_secs()));
    let fields = head::kept_fields(&stored, age);
    let now = clock::unix_secs();
    let left = freshness::left(&stored, now, &wanted.policy);
    wanted.exchange.outcome.set(Some(match how {
        How::Hit => Outcome::Hit(Some(left)),
        How::Revalidated => Outcome::Revalidated,
        // In the place of what was there, or not: whoever asked knows.
        How::Fetched => wanted.exchange.outcome.get().unwrap_or(Outcome::Miss),
        How::Stale(why) => Outcome::Stale(why, -left),
    }));
    Next::Stored(Box::new((kept, fields)))
}

/// Sends a stored response with these fields.
pub async fn send<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    kept: StoredResponse,
    fields: Fields,
) -> Reply {
    let (stored, now) = (&kept.head, clock::unix_secs());
    // Without a Last-Modified it is as old as its date (RFC 9111 section 4.3.2).
    let (last_modified, etags) = (stored.modified(), [stored.etag(), None]);
    let since = last_modified.or(stored.date()).or(Some(stored.times.came));
    let validators = Validators { etags, last_modified, since, now };
    let body = match kept.body {
        response::Body::File(_, file) => Body::File(file),
        response::Body::Memory(stock) => Body::StoredBody(stock),
    };
    let (status, reason) = (stored.status, &*stored.reason);
    deliver(exchange, client, Representation { status, reason, fields, validators, body }).await
}

/// The origin could not be asked, or failed: what is kept will do, if the rules allow.
pub(crate) fn failed<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    error: Error,
    kept: Option<StoredResponse>,
) -> Next<R> {
    wanted.exchange.log.debug(format_args!("error with proxy request {error}"));
    match kept.filter(|kept| may_use(wanted, kept, &error)) {
        Some(kept) => {
            let why = why_stale(wanted, &kept, &error);
            stored(wanted, kept, How::Stale(why))
        }
        None => Next::Fail(error),
    }
}
