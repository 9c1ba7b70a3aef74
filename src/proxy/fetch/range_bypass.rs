//! A range far ahead of a fill: fetched from the origin beside it, and never stored. The fill goes
//! on and fetches these bytes again, which is what a client's wait of minutes is worth.

use super::request;
use std::future::pending;
use std::time::Duration;

use futures_lite::future::or;

use super::origin::{self, Follow};
use crate::cache::fill::{Answer, Follower, Pace, Progress, RangeBypass};
use crate::downstream::client::{Out, unless};
use crate::error::Error;
use crate::http::fields::Fields;
use crate::http::identity;
use crate::http::multipart::{self, read_content_range};
use crate::http::range::Span;
use crate::http::request::Method;
use crate::http::response::{ResponseBody, ResponseHead};
use crate::proxy::deliver::relay;
use crate::proxy::exchange::Exchange;
use crate::rt::Runtime;
use crate::rt::remote_wake::Waiter;
use crate::sys::clock;
use crate::upstream::body::OriginBody;

/// A range that the fill is expected to reach within this time waits for it.
const WORTH_WAITING: Duration = Duration::from_secs(1);
/// A fill's rate counts when it has been seen for so long: a fast origin shows itself by then.
const WATCH: Duration = Duration::from_millis(200);
/// Age in seconds from which on a Last-Modified is taken for a strong validator: one second by
/// RFC 9110 section 8.8.2.2, and what two clocks may differ by.
const SETTLED: u64 = 60;

/// A part on its way from the origin.
pub struct Direct<R: Runtime> {
    body: OriginBody<R>,
    span: Span,
    _place: RangeBypass,
}

/// Asks the origin for a part that lies far ahead of the fill. `None` where the fill is to be waited
/// for: the part is near, the origin does not prove it to be of the same file, it fails, or the fill
/// gets there first.
pub async fn fetch<R: Runtime>(
    exchange: &Exchange<'_, R>,
    out: &Out<'_, R>,
    answer: &Answer,
    follower: &Follower,
    waiter: &Waiter,
    span: Span,
) -> Option<Direct<R>> {
    let limit = exchange.context.shared.config.limits.far_range;
    if !is_ahead(follower.pace(), span.first, limit) {
        return None;
    }
    let validator = validator(answer, clock::unix_secs())?;
    let unwatched = WATCH.saturating_sub(follower.pace().took);
    if !unwatched.is_zero() {
        R::sleep(unwatched).await;
    }
    if !is_far(follower.pace(), span.first, limit) {
        return None;
    }
    let place = follower.bypass()?;
    let reached = async {
        match follower.next(span.first, waiter).await {
            Progress::Upto(_) | Progress::Piece(..) | Progress::End(_) => None,
            // A fill that has failed may have been the only one that could not go on.
            Progress::Broken(_) => pending().await,
        }
    };
    let body = or(ask(exchange, out, answer, span, validator), reached).await?;
    Some(Direct { body, span, _place: place })
}

impl<R: Runtime> Direct<R> {
    /// Sends the part, and tells what it cost the origin.
    pub async fn send(mut self, exchange: &Exchange<'_, R>, out: &Out<'_, R>) -> Result<(), Error> {
        let sent = unless(out.gone(), relay::send_body(exchange, out, &mut self.body, false)).await;
        let count = self.span.count() - self.body.left();
        let (first, last) = (self.span.first, self.span.end - 1);
        exchange.log.debug(format_args!(
            "range {first}-{last} came from the origin directly - {count} bytes fetched twice"
        ));
        sent
    }
}

async fn ask<R: Runtime>(
    exchange: &Exchange<'_, R>,
    out: &Out<'_, R>,
    answer: &Answer,
    span: Span,
    validator: &[u8],
) -> Option<OriginBody<R>> {
    let (upstream, log) = (&exchange.context.upstream, exchange.log);
    let (first, last) = (span.first, span.end - 1);
    log.debug(format_args!("range {first}-{last} is far ahead of the download - asking the origin for it"));
    let query = exchange.context.shared.config.fills.query;
    let asked = request::part_request(&upstream.origin, exchange.request, query, span, validator);
    match origin::ask(exchange, out.gone(), &asked, Follow::Maybe).await {
        Ok((head, body)) if is_part_of(&head, answer, span) => return Some(body),
        Ok((head, _)) => {
            let status = head.status;
            log.debug(format_args!(
                "range {first}-{last} waits for the download - not in the origin's {status}"
            ));
        }
        Err(error) => log.debug(format_args!("range {first}-{last} waits for the download - {error}")),
    }
    None
}

fn is_ahead(pace: Pace, first: u64, limit: u64) -> bool {
    first.saturating_sub(pace.stored) > limit
}

fn is_far(pace: Pace, first: u64, limit: u64) -> bool {
    is_ahead(pace, first, limit) && pace.time_for(first.saturating_sub(pace.stored)) > WORTH_WAITING
}

/// What names the file that the fill is fetching and no other, for If-Range at the time `now` (RFC 9110
/// section 13.1.5): its strong tag, or if it has no tag at all a date that is old enough.
fn validator(answer: &Answer, now: u64) -> Option<&[u8]> {
    match answer.head.fields.get("etag") {
        Some(tag) => tag.starts_with(b"\"").then_some(tag),
        None if answer.modified? + SETTLED <= now => answer.head.fields.get("last-modified"),
        None => None,
    }
}

fn is_part_of(head: &ResponseHead, answer: &Answer, span: Span) -> bool {
    let same_source = head.source == answer.head.source;
    same_source && answer.length.is_some_and(|size| proves(head, &answer.head.fields, span, size))
}

/// Is this exactly the asked part of the file of `size` bytes that `known` describes?
fn proves(head: &ResponseHead, known: &Fields, span: Span, size: u64) -> bool {
    let given = &head.fields;
    let range = given.only("content-range").and_then(read_content_range);
    let length = head.body(&Method::Get);
    let (tag, date) = (given.get("etag"), given.get("last-modified"));
    let same = match known.get("etag") {
        // A part need not repeat the date (RFC 9110 section 15.3.7).
        Some(known_tag) => tag == Some(known_tag) && (date.is_none() || date == known.get("last-modified")),
        None => tag.is_none() && date.is_some() && date == known.get("last-modified"),
    };
    head.status == 206
        && !multipart::is_one(given)
        && range == Some((span, size))
        && length == Ok(ResponseBody::Length(span.count()))
        && same
        && identity::coding(given) == identity::coding(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::HeadLimits;
    use crate::http::response::parse;

    const MIB: u64 = 1024 * 1024;
    const DATE: &str = "Sat, 16 May 2015 20:31:39 GMT";

    fn pace(stored: u64, millis: u64) -> Pace {
        Pace { stored, gained: stored, took: Duration::from_millis(millis) }
    }

    #[test]
    fn far_is_beyond_the_limit_and_more_than_a_second_away() {
        let limit = 8 * MIB;
        for (stored, millis, first, far) in [
            // A MiB a second.
            (MIB, 1_000, 4_096 * MIB, true),
            (MIB, 1_000, 9 * MIB + 1, true),
            (MIB, 1_000, 9 * MIB, false),
            (MIB, 1_000, 0, false),
            // A GiB a second.
            (1_024 * MIB, 1_000, 2_047 * MIB, false),
            (1_024 * MIB, 1_000, 2_050 * MIB, true),
            // Nothing yet.
            (0, 200, 9 * MIB, true),
            (0, 200, 8 * MIB, false),
            (0, 200, u64::MAX, true),
        ] {
            assert_eq!(is_far(pace(stored, millis), first, limit), far, "{stored} in {millis}, {first}");
        }
    }

    #[test]
    fn what_a_fill_found_in_its_file_is_no_rate() {
        let resumed = Pace { stored: 100 * MIB, gained: MIB, took: Duration::from_secs(1) };
        assert_eq!(resumed.time_for(10 * MIB), Duration::from_secs(10));
    }

    fn head(status: &str, fields: &str) -> ResponseHead {
        let text = format!("HTTP/1.1 {status}\r\n{}\r\n\r\n", fields.replace('\n', "\r\n"));
        parse(text.as_bytes(), &HeadLimits::default(), &mut 0).unwrap().unwrap().0
    }

    #[test]
    fn rfc9110_15_3_7_only_the_asked_part_of_the_same_file_will_do() {
        let span = Span { first: 10, end: 20 };
        let tagged = Fields::from_iter([("ETag", "\"a\""), ("Last-Modified", DATE)]);
        let dated = Fields::from_iter([("Last-Modified", DATE)]);
        let base = "Content-Length: 10\nContent-Range: bytes 10-19/100";
        for (status, fields, by_tag, by_date) in [
            ("206 OK", format!("{base}\nETag: \"a\""), true, false),
            ("206 OK", format!("{base}\nETag: \"a\"\nLast-Modified: {DATE}"), true, false),
            ("206 OK", format!("{base}\nLast-Modified: {DATE}"), false, true),
            ("206 OK", format!("{base}\nETag: \"b\"\nLast-Modified: {DATE}"), false, false),
            (
                "206 OK",
                format!("{base}\nETag: \"a\"\nLast-Modified: Sat, 16 May 2015 20:31:40 GMT"),
                false,
                false,
            ),
            ("206 OK", base.to_owned(), false, false),
            (
                "206 OK",
                format!("{base}\nETag: \"a\"\nContent-Type: multipart/byteranges; boundary=x"),
                false,
                false,
            ),
            ("206 OK", format!("{base}\nLast-Modified: {DATE}\nContent-Encoding: gzip"), false, false),
            ("206 OK", format!("{base}\nETag: \"a\"\nContent-Encoding: gzip"), false, false),
            ("206 OK", format!("{base}\nETag: \"a\"\nContent-Encoding: identity"), true, false),
            ("206 OK", format!("{base}\nETag: \"a\"\nContent-Range: bytes 10-19/100"), false, false),
            (
                "206 OK",
                "Content-Length: 10\nETag: \"a\"\nContent-Range: bytes 10-19/101".into(),
                false,
                false,
            ),
            (
                "206 OK",
                "Content-Length: 10\nETag: \"a\"\nContent-Range: bytes 11-20/100".into(),
                false,
                false,
            ),
            ("206 OK", "Content-Length: 10\nETag: \"a\"\nContent-Range: bytes 10-19/*".into(), false, false),
            ("206 OK", "Content-Length: 9\nETag: \"a\"\nContent-Range: bytes 10-19/100".into(), false, false),
            ("206 OK", "ETag: \"a\"\nContent-Range: bytes 10-19/100".into(), false, false),
            ("200 OK", format!("{base}\nETag: \"a\""), false, false),
            ("416 OK", format!("{base}\nETag: \"a\""), false, false),
        ] {
            let head = head(status, &fields);
            assert_eq!(proves(&head, &tagged, span, 100), by_tag, "{status} {fields}");
            assert_eq!(proves(&head, &dated, span, 100), by_date, "{status} {fields}");
        }
    }
}
