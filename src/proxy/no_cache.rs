//! A request with `no-cache` for a file of the immutable class, under a preset: the origin is asked whether the file is
//! still the same, and only a response that shows that it is not takes its place.
//!
//! One request asks for all that come meanwhile, and once in a while for each file, whatever clients send. Without a
//! preset nothing of this happens: such a request is a hit.

use super::fetch::request::{self, OriginRequest};
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::exchange::Exchange;
use super::fetch::backpressure;
use super::fetch::fill;
use super::fetch::origin::{self, Follow};
use super::fetch::progress::Start;
use super::fetch::storable::{may_fill, storable};
use super::loops;
use super::next::{FreshnessPolicy, Next};
use crate::cache::Entry;
use crate::cache::fill::Fill;
use crate::cache::inflight::Permit;
use crate::cache::stored_file::{Location, StoredFile};
use crate::error::{Error, Kind, Side};
use crate::http::caching::directives::RequestDirectives;
use crate::http::date;
use crate::http::fields::Fields;
use crate::http::request::Method;
use crate::http::response::ResponseHead;
use crate::key::Key;
use crate::outcome::{BypassReason, Outcome};
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, timeout};
use crate::upstream::body::OriginBody;

/// How long the origin may take to answer; then the file that is there is served.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is known of the file that is there.
struct Known {
    size: u64,
    /// Seconds since 1970.
    modified: u64,
    etag: Option<Box<[u8]>>,
}

impl Known {
    /// Adds what the origin is to compare.
    fn add_to(&self, asked: &mut OriginRequest) {
        if let Some(tag) = &self.etag {
            asked.fields.push(b"If-None-Match", tag);
        }
        asked.fields.push(b"If-Modified-Since", &date::format(self.modified));
    }

    /// Is this 304 about it? One that tells another date or tag is about another file.
    fn is_meant_by(&self, told: &Fields) -> bool {
        self.is_tag(told).unwrap_or(true) && self.is_date(told).unwrap_or(true)
    }

    /// Is a 200 with this head the file that is there, sent by an origin that does not look at conditions? A length
    /// alone says nothing: a package that is built anew often has the same.
    fn is_same(&self, told: &ResponseHead) -> bool {
        let length = told.fields.only("content-length").and_then(|text| std::str::from_utf8(text).ok());
        let is_length =
            length.and_then(|text| text.parse().ok()).is_some_and(|length: u64| length == self.size);
        let is_said = match (self.is_tag(&told.fields), self.is_date(&told.fields)) {
            (Some(tag), date) => tag && date.unwrap_or(true),
            (None, Some(date)) => date,
            (None, None) => false,
        };
        is_length && is_said
    }

    /// Is it the tag that is told? Unknown where one of the two is.
    fn is_tag(&self, told: &Fields) -> Option<bool> {
        let opaque = |tag: &'_ [u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
        Some(opaque(told.get("etag")?) == opaque(self.etag.as_deref()?))
    }

    /// Is it the date that is told? Unknown where none is.
    fn is_date(&self, told: &Fields) -> Option<bool> {
        Some(date::parse(told.only("last-modified")?) == Some(self.modified))
    }
}

/// Is this a request that is to be asked about at the origin, should its path be of the immutable class?
pub fn is_wanted<R: Runtime>(exchange: &Exchange<'_, R>) -> bool {
    let (request, config) = (exchange.request, &exchange.context.shared.config);
    let is_general = || matches!(may_fill(exchange), Ok(()) | Err(BypassReason::HeadOnMiss));
    if config.presets.is_empty()
        || config.offline
        || !matches!(request.method, Method::Get | Method::Head)
        || !(request.fields.contains("cache-control") || request.fields.contains("pragma"))
    {
        return false;
    }
    let directives = RequestDirectives::of(&request.fields);
    directives.no_cache && !directives.only_if_cached && is_general() && !loops::has_looped(request)
}

/// Waits for what another request's exchange with the origin comes to.
pub(crate) async fn join<R: Runtime>(fill: Arc<Fill>) -> Next<R> {
    let waiter = Waiter::new();
    if fill.is_whole() {
        // It will be the file in a moment, and then that is asked about.
        fill.left(&waiter).await;
        return Next::Again;
    }
    // Joined before the response is waited for, so that nothing passes by meanwhile.
    let next = Next::follow(Arc::clone(&fill));
    if fill.answer(&waiter).await.is_ok() { next } else { Next::Again }
}

/// Asks the origin about the file, if its turn has come.
pub(crate) async fn lead<R: Runtime>(exchange: &Exchange<'_, R>, permit: Permit, entry: Entry) -> Next<R> {
    let (context, shared) = (exchange.context, &exchange.context.shared);
    if !shared.revalidated.begin(permit.key(), Instant::now()) {
        return as_it_is(permit);
    }
    let asked = request::fill_request(&context.upstream.origin, exchange.request, shared.config.fills.query);
    let known = known(exchange, permit.key(), entry).await;
    let path = || shared.store.display(permit.key());
    match ask(exchange, &asked, &known).await {
        Ok(Some((answer, body))) => return take(exchange, permit, asked, (answer, body)).await,
        Ok(None) => exchange.log.debug(format_args!("{} is unchanged", path())),
        Err(error) => exchange.log.debug(format_args!("{} is served as it is - {error}", path())),
    }
    as_it_is(permit)
}

/// The file that is there is good enough.
fn as_it_is<R: Runtime>(permit: Permit) -> Next<R> {
    permit.withdraw();
    Next::Use(FreshnessPolicy::Immutable)
}

/// What is known of the file: its date is the origin's, and it may have a head of the origin's.
async fn known<R: Runtime>(exchange: &Exchange<'_, R>, key: &Key, entry: Entry) -> Known {
    let info = entry.info;
    let cache = &exchange.context.shared.cache;
    let file = StoredFile::new(cache, key, Location::Tree, entry);
    // A disk that hangs has none.
    let head = cache.metadata::<R>(key, &file).await.ok().and_then(|known| known.head);
    let since = info.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let modified = head.as_ref().and_then(|head| head.modified()).unwrap_or(since);
    let tag = exchange.context.shared.revalidated.tag(key, info.id);
    let etag = tag.or_else(|| head.as_ref().and_then(|head| head.etag()).map(Box::from));
    Known { size: info.size, modified, etag }
}

/// The origin's response, if it is another file; `None` if it is the same.
async fn ask<R: Runtime>(
    exchange: &Exchange<'_, R>,
    asked: &OriginRequest,
    known: &Known,
) -> Result<Option<(ResponseHead, OriginBody<R>)>, Error> {
    exchange.log.debug(format_args!("revalidating with {}", exchange.origin_url(asked)));
    let mut conditional = asked.clone();
    known.add_to(&mut conditional);
    let (mut answer, mut body) = answer(exchange, &conditional).await?;
    if answer.status == 304 {
        if known.is_meant_by(&answer.fields) {
            return Ok(None);
        }
        // About another file than the one that is there: ask for the whole.
        (answer, body) = self::answer(exchange, asked).await?;
    }
    if answer.status != 200 {
        return Err(Error::with(Side::Origin, Kind::Unavailable, answer.status));
    }
    Ok(if known.is_same(&answer) { None } else { Some((answer, body)) })
}

async fn answer<R: Runtime>(
    exchange: &Exchange<'_, R>,
    asked: &OriginRequest,
) -> Result<(ResponseHead, OriginBody<R>), Error> {
    let answered = origin::ask(exchange, pending(), asked, Follow::Maybe);
    let late = || Err(Error::new(Side::Origin, Kind::Timeout));
    timeout::<R, _>(PATIENCE, Box::pin(answered)).await.unwrap_or_else(|_| late())
}

/// Another file: it is stored, and gets the name when it is whole. What cannot be stored leaves the one that is there.
async fn take<R: Runtime>(
    exchange: &Exchange<'_, R>,
    permit: Permit,
    asked: OriginRequest,
    (answer, body): (ResponseHead, OriginBody<R>),
) -> Next<R> {
    let shared = &exchange.context.shared;
    let begun = async {
        let end = storable(&answer, permit.key(), &shared.config)?;
        let room = backpressure::room(exchange).await.ok_or(BypassReason::DiskBehind)?;
        Ok::<_, BypassReason>((shared.cache.begin::<R>(permit.key()).await?, room, end))
    };
    let (partial, room, end) = match begun.await {
        Ok(begun) => begun,
        Err(why) => {
            let path = shared.store.display(permit.key());
            exchange.log.debug(format_args!("{path} is served as it is - {}", why.as_str()));
            return as_it_is(permit);
        }
    };
    shared.revalidated.note_new(permit.key(), answer.fields.get("etag"), partial.id());
    exchange.outcome.set(Some(Outcome::Renewed));
    let start = Start { end, ..Start::default() };
    fill::store(exchange, permit, asked, (answer, body), (partial, room, start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::Version;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn response(fields: Fields) -> ResponseHead {
        let (reason, version) = (b"OK".as_slice().into(), Version::Http11);
        ResponseHead { status: 200, reason, version, fields, source: None }
    }

    #[test]
    fn what_tells_of_another_file_and_what_does_not() {
        let known = Known { size: 5, modified: 0, etag: Some(b"\"a\"".as_slice().into()) };
        let (date, later) = ("Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:01 GMT");
        for (lines, same) in [
            (&[][..], true),
            (&[("ETag", "W/\"a\"")][..], true),
            (&[("ETag", "\"b\"")], false),
            (&[("Last-Modified", date)], true),
            (&[("ETag", "\"a\""), ("Last-Modified", later)], false),
        ] {
            assert_eq!(known.is_meant_by(&fields(lines)), same, "{lines:?}");
            let head = |length| {
                let mut fields = fields(lines);
                fields.push(b"Content-Length", length);
                response(fields)
            };
            assert_eq!(known.is_same(&head(b"5")), same && !lines.is_empty(), "{lines:?}");
            assert!(!known.is_same(&head(b"6")), "{lines:?}");
        }
        // A tag alone says nothing of a file whose tag is not known.
        let untagged = Known { etag: None, ..known };
        let head = response(fields(&[("ETag", "\"a\""), ("Content-Length", "5")]));
        assert!(!untagged.is_same(&head) && untagged.is_meant_by(&head.fields));
    }
}
