//! The rest of a file: of a fill whose origin broke off, and of one that an earlier run has left.
//!
//! Parts of two files are never put together: the origin is asked with If-Range, and its answer is
//! held against the validator all the same. Who follows the file just waits.

use super::request::{self, OriginRequest};
use std::future::{Future, pending};
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::origin::{self, Answered, Follow};
use super::progress::Start;
use crate::cache::partial::{self, LeftOver, Partial};
use crate::cache::resume_record::WORTH;
use crate::error::{Error, Kind, Side};
use crate::http::fields::Fields;
use crate::http::identity::{Continuation, Identity};
use crate::http::response::ResponseHead;
use crate::http::retry_after::retry_after;
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::proxy::exchange::{Context, Exchange};
use crate::rt::Runtime;
use crate::sys::clock;
use crate::upstream::body::OriginBody;

/// Before the rest is asked for; doubled with each time that nothing new has come.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The most of what the origin asks for in Retry-After: clients wait on their connections meanwhile.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Bytes that count as something new: less, again and again, would be a request for each.
const SOMETHING: u64 = 64 * 1024;
/// Nothing new for so many stall times, and the origin is not asked again.
const STALLS: u32 = 3;

/// Why there is no rest.
#[derive(Debug)]
pub enum NoRest {
    /// The origin was asked for it and could not answer.
    Unanswered(Error),
    /// It answered, if it was asked, and broke off again.
    Broken(Error),
    /// The bytes so far are in doubt, or of another file than the origin has.
    Wrong(Error),
}

impl NoRest {
    /// May a later fill go on with the `stored` bytes, of which `had` were there before this one?
    pub fn keeps(&self, had: u64, stored: u64) -> bool {
        match self {
            Self::Unanswered(_) => true,
            // Once more from there, and again nothing: then there is no way on from it.
            Self::Broken(_) => had == 0 || stored >= had.saturating_add(SOMETHING),
            Self::Wrong(_) => false,
        }
    }

    /// What went wrong last.
    pub fn into_error(self) -> Error {
        let (Self::Unanswered(error) | Self::Broken(error) | Self::Wrong(error)) = self;
        error
    }
}

/// The way to the rest of one file.
#[derive(Debug)]
pub struct Rest {
    /// The request for the whole.
    asked: OriginRequest,
    /// Without one the rest is never asked for.
    identity: Option<Identity>,
    /// Times asked since something new came, and when that was first missed.
    tried: u32,
    since: Instant,
    /// Bytes in the file then.
    stored: u64,
}

impl Rest {
    /// The rest of what `asked` has asked for.
    pub fn new(asked: OriginRequest, identity: Option<Identity>) -> Self {
        Self { asked, identity, tried: 0, since: Instant::now(), stored: 0 }
    }

    /// Asks for what comes after the `stored` bytes, `error` having ended the body there, until an
    /// answer goes on with them; or says why there is none.
    pub async fn ask<R: Runtime>(
        &mut self,
        context: &Context<R>,
        stored: u64,
        mut error: Error,
        log: &RequestLog,
    ) -> Result<(OriginBody<R>, Start), NoRest> {
        if !is_cut(&error) {
            return Err(NoRest::Wrong(error));
        }
        let Some(identity) = &self.identity else { return Err(NoRest::Broken(error)) };
        if self.tried == 0 || stored >= self.stored.saturating_add(SOMETHING) {
            (self.tried, self.since, self.stored) = (0, Instant::now(), stored);
        }
        let limits = context.upstream.limits();
        let (from, patience) = (identity.ask_from(stored), limits.stall_time * STALLS);
        let asked = request::rest_request(&self.asked, from, identity.condition());
        let mut told = None;
        let give_up = |tried| {
            tried >= context.shared.config.fills.resume_attempts
                || self.since.elapsed() > patience
                || context.shared.stop.is_asked()
        };
        if give_up(self.tried) && !context.shared.stop.is_asked() {
            return Err(NoRest::Broken(error));
        }
        while !give_up(self.tried) {
            self.tried += 1;
            let attempt = self.tried;
            log.debug(format_args!(
                "body ended at {stored} - {error} - asking for the rest, attempt {attempt}"
            ));
            let wait = wait_before(attempt, told, patience.saturating_sub(self.since.elapsed()));
            or(R::sleep(wait), context.shared.stop.wait()).await;
            if context.shared.stop.is_asked() {
                break;
            }
            match origin::ask_origin(context, &asked, Follow::Maybe, log).await {
                Ok(Answered { head: answer, body, .. }) => match identity.continues(&answer, from) {
                    Continuation::From { first, total } => {
                        let start = Start::at(stored, first, total).ok_or(NoRest::Wrong(error))?;
                        log.debug(format_args!("resuming at {stored}, {first} bytes saved"));
                        return Ok((body, start));
                    }
                    Continuation::Later => told = retry_after(&answer.fields, clock::unix_secs()),
                    Continuation::Other => {
                        let status = answer.status;
                        log.debug(format_args!(
                            "cannot resume at {stored} - the origin sent another version ({status})"
                        ));
                        return Err(NoRest::Wrong(error));
                    }
                },
                Err(failed) => error = failed,
            }
        }
        Err(if error.is_outage() { NoRest::Unanswered(error) } else { NoRest::Wrong(error) })
    }
}

/// The wait before an attempt: no shorter than the origin has `told` us to wait, within bounds and the `patience`
/// that is left.
fn wait_before(attempt: u32, told: Option<Duration>, patience: Duration) -> Duration {
    let doubled = 2_u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let ours = FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT);
    let theirs = told.unwrap_or_default().min(LONGEST_RETRY_AFTER).min(patience);
    ours.max(theirs)
}

/// Is this a body that was cut off, whose bytes so far are good? One that breaks the rules is none: no
/// telling where in it the fault began.
fn is_cut(error: &Error) -> bool {
    error.side == Side::Origin
        && matches!(error.kind, Kind::Closed | Kind::Timeout | Kind::Truncated | Kind::Io)
}

/// The origin's answer to a request that fills a file.
pub struct Opened<R: Runtime> {
    /// For clients: that of the whole, also where only the rest was sent.
    pub answer: ResponseHead,
    /// What was sent.
    pub body: OriginBody<R>,
    /// The file that it goes on with, and where.
    pub left: Option<(Partial, Start)>,
}

/// Asks for a file: for the rest of it, where an earlier fill has left something to go on with.
///
/// The client may have `gone` while it waits for its turn at the origin: then nobody is asked.
pub async fn open<R: Runtime>(
    exchange: &Exchange<'_, R>,
    gone: impl Future<Output = ()>,
    key: &Key,
    asked: &OriginRequest,
) -> Result<Opened<R>, Error> {
    if let Some(left) = left_over(exchange, key, asked).await
        && let Some(opened) = go_on(exchange, left, asked).await?
    {
        return Ok(opened);
    }
    let (answer, body) = origin::ask(exchange, gone, asked, Follow::Maybe).await?;
    Ok(Opened { answer, body, left: None })
}

async fn left_over<R: Runtime>(
    exchange: &Exchange<'_, R>,
    key: &Key,
    asked: &OriginRequest,
) -> Option<LeftOver> {
    let shared = &exchange.context.shared;
    if shared.config.fills.resume_attempts == 0 {
        return None;
    }
    shared.cache.left_over::<R>(key, exchange.origin_url(asked).into_bytes()).await
}

/// Goes on with what was left, or removes it and says `None`: then the whole is to be asked for.
async fn go_on<R: Runtime>(
    exchange: &Exchange<'_, R>,
    left: LeftOver,
    asked: &OriginRequest,
) -> Result<Option<Opened<R>>, Error> {
    let LeftOver { partial, record, stored } = left;
    let identity = &record.identity;
    let (answer, body, continuation) = match ask_behind(exchange, stored, identity, asked).await {
        Ok(answered) => answered,
        Err(error) => {
            partial::leave::<R>(partial, stored).await;
            return Err(error);
        }
    };
    if let Continuation::From { first, total } = continuation
        && let Some(start) = Start::at(stored, first, total)
    {
        exchange.log.debug(format_args!("resuming at {stored}, {first} bytes saved"));
        let fields = whole_fields(&answer.fields, &record.content_type, identity);
        let answer = ResponseHead { status: 200, reason: b"OK"[..].into(), fields, ..answer };
        return Ok(Some(Opened { answer, body, left: Some((partial, start)) }));
    }
    if continuation == Continuation::Later {
        partial::leave::<R>(partial, stored).await;
        return Ok(Some(Opened { answer, body, left: None }));
    }
    exchange.log.debug(format_args!("the partial file is not of the origin's current version"));
    drop(partial);
    // A whole one is what would be asked for now.
    Ok((answer.status == 200).then_some(Opened { answer, body, left: None }))
}

/// Asks for what comes behind the `stored` bytes: the answer, and what it is.
///
/// Some origins cannot answer for a part. One that does not answer for the rest is asked for the whole: what
/// is there of it is passed over.
async fn ask_behind<R: Runtime>(
    exchange: &Exchange<'_, R>,
    stored: u64,
    identity: &Identity,
    asked: &OriginRequest,
) -> Result<(ResponseHead, OriginBody<R>, Continuation), Error> {
    let from = identity.ask_from(stored);
    exchange.log.debug(format_args!("{stored} bytes are left of an earlier fill - asking for the rest"));
    let rest = request::rest_request(asked, from, identity.condition());
    match origin::ask(exchange, pending(), &rest, Follow::Maybe).await {
        Ok((answer, body)) => {
            let continuation = identity.continues(&answer, from);
            // One that says when, or that it has been asked too often, would be asked once more at once.
            let is_busy = answer.status == 429 || answer.fields.contains("retry-after");
            if continuation != Continuation::Later || is_busy {
                return Ok((answer, body, continuation));
            }
        }
        Err(error) if is_refusal(&error) => {}
        Err(error) => return Err(error),
    }
    exchange.log.debug(format_args!("no answer for the rest - asking for the whole"));
    let (answer, body) = origin::ask(exchange, pending(), asked, Follow::Maybe).await?;
    let continuation = identity.continues(&answer, 0);
    Ok((answer, body, continuation))
}

/// Somebody may be there who does not answer this request as it should be: maybe it would another one.
fn is_refusal(error: &Error) -> bool {
    error.side == Side::Origin
        && matches!(error.kind, Kind::Closed | Kind::Timeout | Kind::Protocol | Kind::Redirects)
}

/// The fields of an answer that only gave the rest, with those that it need not repeat (RFC 9110
/// section 15.3.7).
fn whole_fields(part: &Fields, content_type: &[u8], identity: &Identity) -> Fields {
    let mut fields = part.clone();
    fields.remove("content-range");
    let known = [
        ("Content-Type", Some(content_type).filter(|kind| !kind.is_empty())),
        ("Last-Modified", identity.modified.as_deref()),
        ("ETag", identity.etag.as_deref()),
    ];
    for (name, value) in known {
        if let Some(value) = value
            && !fields.contains(name)
        {
            fields.push(name.as_bytes(), value);
        }
    }
    fields
}

/// What proves that a later response resumes this one, which is as long as `end` says.
pub fn identify<R: Runtime>(
    exchange: &Exchange<'_, R>,
    answer: &ResponseHead,
    end: Option<u64>,
) -> Option<Identity> {
    if exchange.context.shared.config.fills.resume_attempts == 0 {
        return None;
    }
    Some(Identity { length: end, ..Identity::of(answer, clock::unix_secs())? })
}

/// Says in the file what it is, where that is worth it, for a later fill that resumes it.
pub fn describe<R: Runtime>(
    exchange: &Exchange<'_, R>,
    asked: &OriginRequest,
    answer: &ResponseHead,
    partial: &Partial,
    identity: Option<&Identity>,
) {
    if let Some(identity) = identity
        && identity.length.is_none_or(|length| length >= WORTH)
    {
        let content_type = answer.fields.get("content-type").unwrap_or_default().to_vec();
        partial.describe(exchange.origin_url(asked).into_bytes(), content_type, identity.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let wait = |attempt| wait_before(attempt, None, Duration::MAX);
        let waits: Vec<u128> = (1..=9).map(|attempt| wait(attempt).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(wait(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn what_the_origin_wants_counts_within_bounds() {
        let seconds = Duration::from_secs;
        for (attempt, told, patience, wait) in [
            (1, 5, 180, seconds(5)),
            (1, 0, 180, FIRST_WAIT),
            (9, 5, 180, LONGEST_WAIT),
            (1, 3_600, 180, LONGEST_RETRY_AFTER),
            (1, 3_600, 20, seconds(20)),
            (2, u64::MAX, 0, FIRST_WAIT * 2),
        ] {
            assert_eq!(
                wait_before(attempt, Some(seconds(told)), seconds(patience)),
                wait,
                "{told} {patience}"
            );
        }
    }

    #[test]
    fn what_says_nothing_against_the_bytes_keeps_them() {
        let error = || Error::new(Side::Origin, Kind::Closed);
        let kept = |why: NoRest| [(0, 5), (5, 5), (5, SOMETHING + 5)].map(|(had, has)| why.keeps(had, has));
        assert_eq!(kept(NoRest::Unanswered(error())), [true, true, true]);
        assert_eq!(kept(NoRest::Broken(error())), [true, false, true]);
        assert_eq!(kept(NoRest::Wrong(error())), [false, false, false]);
    }

    #[test]
    fn a_body_that_begins_behind_what_is_stored_or_ends_before_it_does_not_fit() {
        assert!(Start::at(5, 6, None).is_none());
        assert!(Start::at(5, 0, Some(4)).is_none());
        assert_eq!(Start::at(5, 4, Some(5)).map(|start| start.skip), Some(1));
    }
}
