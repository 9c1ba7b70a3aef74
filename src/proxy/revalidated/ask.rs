//! Asking the origin, once for everybody, and keeping what it says.

use crate::downstream::head;
use crate::proxy::fetch::request::{self, OriginRequest};
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::wanted::{CacheRequest, may_use};
use crate::cache::fill::{Answer, Fill, Follower, NoFile};
use crate::cache::inflight::Permit;
use crate::cache::memory::{Held, Memory, StoredBody};
use crate::cache::partial::Partial;
use crate::cache::response::{Body, StoredResponse};
use crate::cache::room::Room;
use crate::error::{Error, Kind, Side};
use crate::http::caching::storable::{NotKept, is_useful, may_keep, may_update};
use crate::http::caching::stored::{StoredHead, Times};
use crate::http::caching::vary::Variant;
use crate::http::date;
use crate::http::fields::Fields;
use crate::http::identity::Identity;
use crate::http::request::Method;
use crate::http::response::{ResponseBody, ResponseHead, is_origin_failure};
use crate::outcome::{self, BypassReason, Outcome};
use crate::packages::rebuilt;
use crate::proxy::fetch::backpressure;
use crate::proxy::fetch::fill::{self, Fetch};
use crate::proxy::fetch::origin::{self, Follow};
use crate::proxy::fetch::progress::Start;
use crate::proxy::fetch::receive::{self, Received};
use crate::proxy::fetch::resume::Rest;
use crate::proxy::fetch::storable::{coding_is_in_name, contradicts_name, has_contradicting_type, unify};
use crate::proxy::passing::Passing;
use crate::rt::Runtime;
use crate::sys::clock;
use crate::upstream::body::OriginBody;

/// What came of it.
pub(crate) enum FetchOutcome<R: Runtime> {
    /// This is the answer now.
    Stored(StoredResponse, outcome::CacheUse),
    /// It goes to a file, which is to be followed.
    Filling { fill: Arc<Fill>, follower: Result<Follower, NoFile>, at_hand: Option<Vec<u8>> },
    /// It is not kept.
    NotStored(Box<ResponseHead>, Passing<R>),
    /// The origin vouches for this towards this client, and for nobody else.
    Confirmed(StoredResponse),
    /// Another answer is due to what this client says, and that has not gone along: the request is to be passed.
    Bypass(BypassReason),
    /// There is none; this was kept before.
    Failed(Error, Option<StoredResponse>),
}

/// An answer of the origin, and when it was asked and came.
struct OriginResponse<R: Runtime> {
    asked: OriginRequest,
    /// What of the client's fields went along.
    told: Fields,
    answer: ResponseHead,
    body: OriginBody<R>,
    times: Times,
    at: Instant,
}

/// Asks, with the conditions of what is kept, and ends the turn: others have the same answer, or
/// find it, or ask for themselves.
pub(crate) async fn ask<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    permit: Permit,
    mut kept: Option<StoredResponse>,
) -> FetchOutcome<R> {
    let mut conditional = true;
    loop {
        let condition = kept.as_ref().filter(|kept| conditional && kept.can_be_validated());
        let came = match exchange_with_origin(wanted, condition).await {
            Ok(came) => came,
            Err(error) => {
                permit.fail(error.clone());
                return FetchOutcome::Failed(error, kept);
            }
        };
        if came.answer.status == 304 {
            if condition.is_none() {
                let error = Error::with(Side::Origin, Kind::Protocol, "304 to a request without a condition");
                permit.fail(error.clone());
                return FetchOutcome::Failed(error, kept);
            }
            match kept {
                Some(kept) if is_meant(wanted, &kept, &came) => {
                    let told = vouched(wanted, kept, came).await;
                    permit.withdraw();
                    return told;
                }
                // About another answer: ask for the whole.
                other => {
                    kept = other;
                    conditional = false;
                    continue;
                }
            }
        }
        let status = came.answer.status;
        if request::is_denied(status) && request::says_more(wanted.exchange.request, &came.asked) {
            return own(permit, came, BypassReason::Denied);
        }
        if is_origin_failure(status) {
            let error = Error::with(Side::Origin, Kind::Unavailable, status);
            if kept.as_ref().is_some_and(|kept| may_use(wanted, kept, &error)) {
                permit.fail(error.clone());
                return FetchOutcome::Failed(error, kept);
            }
        }
        match kept {
            Some(kept) if kept.head.status == 200 && status >= 400 => {
                return refused(wanted, permit, kept, came).await;
            }
            other => kept = other,
        }
        let outcome = if kept.is_some() { Outcome::Renewed } else { Outcome::Miss };
        wanted.exchange.outcome.set(Some(outcome));
        return keep(wanted, permit, came).await;
    }
}

async fn exchange_with_origin<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    condition: Option<&StoredResponse>,
) -> Result<OriginResponse<R>, Error> {
    let exchange = wanted.exchange;
    let how = if condition.is_some() { "revalidating with" } else { "proxying GET to" };
    let conditions = condition.map(|kept| &*kept.head);
    let origin = &exchange.context.upstream.origin;
    let told = request::carried(exchange.request, &wanted.along());
    let asked = request::check_request(origin, exchange.request, wanted.key, &told, conditions);
    exchange.log.debug(format_args!("{how} {}", exchange.origin_url(&asked)));
    let begun = clock::unix_secs();
    let (mut answer, body) = origin::ask(exchange, pending(), &asked, Follow::Maybe).await?;
    unify(&mut answer, wanted.key, &exchange.context.shared.config);
    let times = Times { asked: begun, came: clock::unix_secs() };
    Ok(OriginResponse { asked, told, answer, body, times, at: Instant::now() })
}

/// Passes the request of a client that says more than went along.
fn own<R: Runtime>(permit: Permit, came: OriginResponse<R>, why: BypassReason) -> FetchOutcome<R> {
    origin::settle(came.body);
    permit.decline(why);
    FetchOutcome::Bypass(why)
}

/// Is this 304 about what is kept, and for the same requests?
fn is_meant<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    kept: &StoredResponse,
    came: &OriginResponse<R>,
) -> bool {
    kept.head.is_meant_by(&came.answer.fields)
        && kept.head.is_same_variant(&came.answer.fields, &came.told, wanted.told_apart())
}

/// The origin says that it is still the same: its head is brought up to date. An exchange that could have stored
/// nothing changes nothing either: then the word is for this client alone.
async fn vouched<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    kept: StoredResponse,
    mut came: OriginResponse<R>,
) -> FetchOutcome<R> {
    wanted.debug("is unchanged");
    if has_contradicting_type(&came.answer, wanted.key, &wanted.exchange.context.shared.config) {
        // Some servers label every 304 as a page. It says nothing of what is kept.
        came.answer.fields.remove("content-type");
    }
    let head = kept.head.updated(&came.answer.fields, came.times, &wanted.policy);
    if may_update(kept.head.status, &came.answer, &wanted.exchange.request.fields, wanted.policy.targeted) {
        return FetchOutcome::Stored(
            wanted.cache().update::<R>(wanted.key, kept, head, Some(came.at)).await,
            outcome::CacheUse::Revalidated,
        );
    }
    wanted.debug("is not updated - the response is for one client");
    FetchOutcome::Confirmed(StoredResponse { head: Arc::new(head), checked: Some(came.at), ..kept })
}

/// Keeps an answer, if it may be kept.
async fn keep<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    permit: Permit,
    came: OriginResponse<R>,
) -> FetchOutcome<R> {
    let request = wanted.exchange.request;
    if came.answer.status != 200 && wanted.is_in_other_form() {
        return decline(wanted, permit, came, BypassReason::OtherForm);
    }
    if contradicts_name(&came.answer, wanted.key, &wanted.exchange.context.shared.config) {
        return decline(wanted, permit, came, BypassReason::ContentType);
    }
    let may = may_keep(&came.answer, &request.fields, wanted.policy.targeted).map_err(why);
    let of = || Variant::of(&came.answer.fields, &came.told, wanted.told_apart());
    let variant = may.and_then(|()| of().map_err(|_| BypassReason::Vary));
    let framing = came.answer.body(&Method::Get).unwrap_or(ResponseBody::UntilClose);
    let variant = variant.and_then(|variant| match framing {
        ResponseBody::UntilClose => Err(BypassReason::NoEnd),
        ResponseBody::None | ResponseBody::Length(_) | ResponseBody::Chunked => Ok(variant),
    });
    let variant = match variant {
        Ok(variant) => variant,
        // Made for one client, and this one has not been heard.
        Err(why @ (BypassReason::Private | BypassReason::NoStore | BypassReason::Vary))
            if request::says_more(request, &came.asked) =>
        {
            return own(permit, came, why);
        }
        Err(why) => return decline(wanted, permit, came, why),
    };
    let head = StoredHead::new(&came.answer, came.times, variant, &wanted.policy);
    let plain = wanted.key.names_a_file()
        && came.answer.status == 200
        && head.variant.is_only_one()
        && coding_is_in_name(&came.answer, wanted.key.file_name());
    let room = if plain { backpressure::room(wanted.exchange).await } else { None };
    if let Some(room) = room
        && let Ok(partial) = wanted.cache().begin::<R>(wanted.key).await
    {
        let length = match framing {
            ResponseBody::Length(length) => Some(length),
            ResponseBody::None | ResponseBody::Chunked | ResponseBody::UntilClose => None,
        };
        let place = Place { partial, room, length };
        return to_file(wanted, permit, came, head, place);
    }
    to_stock(wanted, permit, came, head).await
}

/// The origin refuses what is kept: the client hears that, and what is kept stays for the time when the origin fails.
/// What the origin has no more is checked whenever it is asked for.
async fn refused<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    permit: Permit,
    kept: StoredResponse,
    came: OriginResponse<R>,
) -> FetchOutcome<R> {
    if matches!(came.answer.status, 404 | 410) && !kept.head.invalid {
        let head = kept.head.invalidated();
        wanted.cache().update::<R>(wanted.key, kept, head, None).await;
    }
    decline(wanted, permit, came, BypassReason::Refused)
}

fn decline<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    permit: Permit,
    came: OriginResponse<R>,
    why: BypassReason,
) -> FetchOutcome<R> {
    decline_begun(wanted, permit, came, why, Vec::new())
}

/// The same after some of its body has been read.
fn decline_begun<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    permit: Permit,
    came: OriginResponse<R>,
    why: BypassReason,
    begun: Vec<StoredBody>,
) -> FetchOutcome<R> {
    wanted.exchange.log.debug(format_args!("not stored - {}", why.as_str()));
    wanted.exchange.outcome.set(Some(Outcome::Pass(why)));
    permit.decline(why);
    FetchOutcome::NotStored(Box::new(came.answer), Passing { begun, rest: came.body })
}

/// The file that an answer goes to.
struct Place {
    partial: Partial,
    /// Its place in the line for a name.
    room: Room,
    /// Its bytes, where the origin has said so.
    length: Option<u64>,
}

/// Starts to write it to a file; it has its name, and its head, once it is whole.
fn to_file<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    permit: Permit,
    mut came: OriginResponse<R>,
    mut head: StoredHead,
    Place { mut partial, room, length }: Place,
) -> FetchOutcome<R> {
    let (exchange, store) = (wanted.exchange, &wanted.exchange.context.shared.store);
    if exchange.log.is_on() {
        let path = store.display(wanted.key);
        exchange.log.debug(format_args!("saving local file to {path}.in-progress"));
    }
    let at_hand = length.and_then(|_| came.body.at_hand(fill::AT_HAND));
    let identity = if at_hand.is_none() { identify(wanted, &came.answer) } else { None };
    // The name explains it, and every client of the name gets the same bytes.
    head.fields.remove("content-encoding");
    let mut full = StoredHead::received(&came.answer, came.times, head.variant.clone());
    full.fields.remove("content-encoding");
    let answer = ResponseHead { fields: head::kept_fields(&full, None), ..came.answer };
    let modified = answer.fields.get("last-modified").and_then(date::parse);
    let fill = Arc::clone(permit.fill());
    if let Some(place) = &wanted.place {
        partial.name_as(place);
    }
    if wanted.proof.is_some() {
        fill.keep_back();
    }
    partial.hold(came.body.take_naming(), &fill);
    let kept = wanted.cache().replace_by(wanted.key, head, came.at);
    fill.announce(Answer {
        head: answer,
        length,
        modified,
        file: Arc::clone(partial.file()),
        kept: Some(kept),
    });
    let follower = fill.follow(0);
    let start = Start { end: length, ..Start::default() };
    // Nothing is left for a later fill: another version may be there by then.
    let rest = Rest::new(came.asked.without_conditions(), identity);
    let (context, log) = (Rc::clone(exchange.context), exchange.log.clone());
    let (body, room) = (came.body, Some(room));
    let index = rebuilt::Index::named(&context.shared, permit.key(), &log);
    let proof = wanted.proof.clone();
    let fetch = Fetch { context, permit, partial, room, body, start, rest, index, proof, log };
    fill::begin(fetch, at_hand.as_deref());
    FetchOutcome::Filling { fill, follower, at_hand }
}

/// What proves that a later answer goes on with this one.
fn identify<R: Runtime>(wanted: &CacheRequest<'_, '_, R>, answer: &ResponseHead) -> Option<Identity> {
    let attempts = wanted.exchange.context.shared.config.fills.resume_attempts;
    (attempts > 0).then(|| Identity::of(answer, clock::unix_secs())).flatten()
}

/// Reads it whole; it may be found from then on.
async fn to_stock<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    permit: Permit,
    mut came: OriginResponse<R>,
    head: StoredHead,
) -> FetchOutcome<R> {
    let store = &wanted.exchange.context.shared.store;
    if !is_useful(&head, &wanted.policy) {
        return decline(wanted, permit, came, BypassReason::NoUse);
    }
    let overhead = Memory::overhead(wanted.key, &head);
    let (body, room) = match receive::whole(store, &mut came.body, overhead).await {
        Ok(Received::All(body, room)) => (body, room),
        Ok(Received::Not(why, begun)) => return decline_begun(wanted, permit, came, why, begun),
        Err(error) => {
            permit.fail(error.clone());
            return FetchOutcome::Failed(error, None);
        }
    };
    let (head, checked) = (Arc::new(head), came.at);
    let held = Held { head: Arc::clone(&head), body: body.clone(), checked };
    wanted.cache().put(wanted.key, &held, room, permit.fill());
    permit.withdraw();
    if !head.variant.matches(&wanted.exchange.request.fields) {
        return FetchOutcome::Bypass(BypassReason::Variant);
    }
    // This client is the one that may have every field.
    let full = Arc::new(StoredHead::received(&came.answer, came.times, head.variant.clone()));
    let kept = StoredResponse { head: full, body: Body::Memory(body), checked: Some(checked) };
    FetchOutcome::Stored(kept, outcome::CacheUse::Fetched)
}

fn why(not: NotKept) -> BypassReason {
    match not {
        NotKept::NoStore => BypassReason::NoStore,
        NotKept::Private => BypassReason::Private,
        NotKept::Authorization => BypassReason::Authorization,
        NotKept::Partial => BypassReason::Status,
        NotKept::NoUse => BypassReason::NoUse,
    }
}
