//! Asking the origin, once for all who want the same, and storing its response.

use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::document::{Arrived, Document};
use super::wanted::CacheRequest;
use crate::cache::fill::{Fill, Follower, NoFile};
use crate::cache::inflight::Permit;
use crate::cache::partial::Partial;
use crate::cache::response::{Body, StoredResponse};
use crate::cache::room::Room;
use crate::downstream::head;
use crate::error::{Error, Kind, Side};
use crate::http::caching::may_store::{NotStorable, is_useful, may_store, may_update};
use crate::http::caching::stored::{StoredHead, Times};
use crate::http::caching::vary::Variant;
use crate::http::fields::Fields;
use crate::http::request::Method;
use crate::http::response::{ResponseBody, ResponseHead, is_origin_failure};
use crate::outcome::{BypassReason, CacheUse, Outcome};
use crate::proxy::fetch::backpressure;
use crate::proxy::fetch::origin::{self, Follow};
use crate::proxy::fetch::progress::Start;
use crate::proxy::fetch::receive::Announcement;
use crate::proxy::fetch::request::{self, OriginRequest};
use crate::proxy::fetch::storable::{coding_is_in_name, has_contradicting_type, unify};
use crate::proxy::fetch::transfer::{self, Storing};
use crate::proxy::passing::Passing;
use crate::rt::Runtime;
use crate::sys::clock;
use crate::upstream::body::OriginBody;

/// What came of it.
pub(crate) enum FetchOutcome<R: Runtime> {
    /// This is the stored response now.
    Stored(StoredResponse, CacheUse),
    /// The response goes to a file, which is to be followed.
    Filling { fill: Arc<Fill>, follower: Result<Follower, NoFile>, at_hand: Option<Vec<u8>> },
    /// It arrives slowly, and no file of the tree can stand for it: to be followed.
    Slow { fill: Arc<Fill>, follower: Result<Follower, NoFile> },
    /// It is not stored.
    NotStored(Box<ResponseHead>, Passing<R>),
    /// The origin has validated this for this client, and for nobody else.
    Confirmed(StoredResponse),
    /// Another response is due to what this client says, and that has not gone along: the request is to be passed.
    Bypass(BypassReason),
    /// There is none; this was stored before.
    Failed(Error, Option<StoredResponse>),
}

/// A response of the origin, and when it was asked and came.
struct OriginResponse<R: Runtime> {
    asked: OriginRequest,
    /// What of the client's fields went along.
    told: Fields,
    /// The client says more than that.
    says_more: bool,
    answer: ResponseHead,
    /// Its media type contradicts the name.
    contradicts: bool,
    /// It is a file as its name says.
    is_plain: bool,
    body: OriginBody<R>,
    times: Times,
    at: Instant,
}

impl<R: Runtime> CacheRequest<'_, '_, R> {
    /// Asks, with the conditions of the stored response, and ends the turn: others have the same response, or find it,
    /// or ask for themselves.
    pub(crate) async fn ask(&self, permit: Permit, stored: Option<StoredResponse>) -> FetchOutcome<R> {
        let condition = stored.as_ref().filter(|stored| stored.can_be_validated());
        let mut asked = self.exchange_with_origin(condition).await;
        if let (Ok(came), Some(stored)) = (&asked, &stored)
            && condition.is_some()
            && came.answer.status == 304
            && !self.is_meant(stored, came)
        {
            // About another response: ask for the whole.
            asked = self.exchange_with_origin(None).await.and_then(|came| came.unless_304());
        } else if condition.is_none() {
            asked = asked.and_then(|came| came.unless_304());
        }
        let came = match asked {
            Ok(came) => came,
            Err(error) => return fail(permit, error, stored),
        };
        let status = came.answer.status;
        let stored = match stored {
            Some(stored) if status == 304 => {
                let validated = self.validated(stored, came).await;
                permit.withdraw();
                return validated;
            }
            stored => stored,
        };
        if came.says_more && request::is_denied(status) {
            return own(permit, came, BypassReason::Denied);
        }
        if is_origin_failure(status) {
            let error = Error::with(Side::Origin, Kind::Unavailable, status);
            if stored.as_ref().is_some_and(|stored| self.may_use(stored, &error)) {
                return fail(permit, error, stored);
            }
        }
        match stored {
            Some(stored) if stored.head.status == 200 && status >= 400 => {
                self.refused(permit, stored, came).await
            }
            stored => {
                let outcome = if stored.is_some() { Outcome::Renewed } else { Outcome::Miss };
                self.exchange.outcome.set(Some(outcome));
                self.keep(permit, came).await
            }
        }
    }

    async fn exchange_with_origin(
        &self,
        condition: Option<&StoredResponse>,
    ) -> Result<OriginResponse<R>, Error> {
        let exchange = self.exchange;
        let how = if condition.is_some() { "revalidating with" } else { "proxying GET to" };
        let conditions = condition.map(|stored| &*stored.head);
        let origin = &exchange.context.upstream.origin;
        let told = request::carried(exchange.request, &self.along());
        let asked = request::check_request(origin, exchange.request, self.key, &told, conditions);
        let says_more = request::says_more(exchange.request, &asked);
        exchange.log.debug(format_args!("{how} {}", exchange.origin_url(&asked)));
        let begun = clock::unix_secs();
        let (mut answer, body) = origin::ask(exchange, pending(), &asked, Follow::Maybe).await?;
        let config = &exchange.context.shared.config;
        unify(&mut answer, self.key, config);
        let contradicts = has_contradicting_type(&answer, self.key, config);
        let is_plain = self.key.names_a_file()
            && answer.status == 200
            && coding_is_in_name(&answer, self.key.file_name());
        let times = Times { requested: begun, received: clock::unix_secs() };
        Ok(OriginResponse {
            asked,
            told,
            says_more,
            answer,
            contradicts,
            is_plain,
            body,
            times,
            at: Instant::now(),
        })
    }

    /// Is this 304 about the stored response, and for the same requests?
    fn is_meant(&self, stored: &StoredResponse, came: &OriginResponse<R>) -> bool {
        stored.head.is_selected_by(&came.answer.fields)
            && stored.head.is_same_variant(&came.answer.fields, &came.told, self.told_apart())
    }

    /// The origin says that it is still the same: its head is brought up to date. An exchange that could have stored
    /// nothing changes nothing either: then the word is for this client alone.
    async fn validated(&self, stored: StoredResponse, mut came: OriginResponse<R>) -> FetchOutcome<R> {
        self.debug("is unchanged");
        if came.contradicts {
            // Some servers label every 304 as a page. It says nothing of the stored response.
            came.answer.fields.remove("content-type");
        }
        let head = stored.head.updated(&came.answer.fields, came.times, &self.policy);
        let fields = &self.exchange.request.fields;
        if may_update(stored.head.status, &came.answer, fields, self.policy.targeted) {
            let stored = self.cache().update::<R>(self.key, stored, head, Some(came.at)).await;
            return FetchOutcome::Stored(stored, CacheUse::Revalidated);
        }
        self.debug("is not updated - the response is for one client");
        FetchOutcome::Confirmed(StoredResponse { head: Arc::new(head), checked: Some(came.at), ..stored })
    }

    /// Stores a response, if it may be stored.
    async fn keep(&self, permit: Permit, came: OriginResponse<R>) -> FetchOutcome<R> {
        let framing = came.answer.body(&Method::Get).unwrap_or(ResponseBody::UntilClose);
        let variant = match self.variant(&came, framing) {
            Ok(variant) => variant,
            // Made for one client, and this one has not been heard.
            Err(why @ (BypassReason::Private | BypassReason::NoStore | BypassReason::Vary))
                if came.says_more =>
            {
                return own(permit, came, why);
            }
            Err(why) => return self.decline(permit, came, why),
        };
        let head = StoredHead::new(&came.answer, came.times, variant, &self.policy);
        let length = match framing {
            ResponseBody::Length(length) => Some(length),
            ResponseBody::None | ResponseBody::Chunked | ResponseBody::UntilClose => None,
        };
        let is_plain = came.is_plain && head.variant.is_only_one();
        let room = if is_plain { backpressure::room(self.exchange).await } else { None };
        if let Some(room) = room
            && let Ok(partial) = self.cache().begin::<R>(self.key).await
        {
            return self.to_file(permit, came, head, (partial, room, length));
        }
        self.to_memory(permit, came, head, length).await
    }

    /// For which requests a response is, if it may be stored at all.
    fn variant(&self, came: &OriginResponse<R>, framing: ResponseBody) -> Result<Variant, BypassReason> {
        if came.answer.status != 200 && self.is_in_other_form() {
            return Err(BypassReason::OtherForm);
        }
        if came.answer.status == 200 && came.contradicts {
            return Err(BypassReason::ContentType);
        }
        may_store(&came.answer, &self.exchange.request.fields, self.policy.targeted).map_err(why)?;
        let variant = Variant::of(&came.answer.fields, &came.told, self.told_apart());
        let variant = variant.map_err(|_| BypassReason::Vary)?;
        if framing == ResponseBody::UntilClose { Err(BypassReason::NoEnd) } else { Ok(variant) }
    }

    /// The origin refuses what is stored: the client hears that, and the stored response stays for the time when the
    /// origin fails. What the origin has no more is revalidated whenever it is asked for.
    async fn refused(
        &self,
        permit: Permit,
        stored: StoredResponse,
        came: OriginResponse<R>,
    ) -> FetchOutcome<R> {
        if matches!(came.answer.status, 404 | 410) && !stored.head.invalid {
            let head = stored.head.invalidated();
            self.cache().update::<R>(self.key, stored, head, None).await;
        }
        self.decline(permit, came, BypassReason::Refused)
    }

    /// It is not stored.
    fn decline(&self, permit: Permit, came: OriginResponse<R>, why: BypassReason) -> FetchOutcome<R> {
        self.not_stored(permit, came.answer, came.body.into(), why)
    }

    /// The same. Some of its body may have been read already.
    fn not_stored(
        &self,
        permit: Permit,
        answer: ResponseHead,
        body: Passing<R>,
        why: BypassReason,
    ) -> FetchOutcome<R> {
        self.exchange.log.debug(format_args!("not stored - {}", why.as_str()));
        self.exchange.outcome.set(Some(Outcome::Pass(why)));
        permit.decline(why);
        FetchOutcome::NotStored(Box::new(answer), body)
    }

    /// Starts to write it to a file, of so many bytes if the origin has said so. The file has its name, and its head,
    /// once it is whole.
    fn to_file(
        &self,
        permit: Permit,
        came: OriginResponse<R>,
        mut head: StoredHead,
        (mut partial, room, end): (Partial, Room, Option<u64>),
    ) -> FetchOutcome<R> {
        // The name explains it, and every client of the name gets the same bytes.
        head.fields.remove("content-encoding");
        let mut full = StoredHead::received(&came.answer, came.times, head.variant.clone());
        full.fields.remove("content-encoding");
        if let Some(place) = &self.place {
            partial.name_as(place);
        }
        if self.proof.is_some() {
            permit.fill().keep_back();
        }
        let storing = Storing {
            // Nothing is left for a later fill: another version may be there by then.
            asked: came.asked.without_conditions(),
            fields: head::kept_fields(&full, None),
            answer: came.answer,
            body: came.body,
            partial,
            room,
            start: Start { end, ..Start::default() },
            kept: Some(self.cache().replace_by(self.key, head, came.at)),
            proof: self.proof.clone(),
        };
        let (fill, follower, at_hand) = transfer::store(self.exchange, permit, storing);
        FetchOutcome::Filling { fill, follower, at_hand }
    }

    /// Receives it; it may be found once it is complete, and followed before that.
    async fn to_memory(
        &self,
        permit: Permit,
        came: OriginResponse<R>,
        head: StoredHead,
        length: Option<u64>,
    ) -> FetchOutcome<R> {
        let exchange = self.exchange;
        if !is_useful(&head, &self.policy) {
            return self.decline(permit, came, BypassReason::NoUse);
        }
        let is_for_client = head.variant.matches(&exchange.request.fields);
        // This client is the one that may have every field.
        let full = Arc::new(StoredHead::received(&came.answer, came.times, head.variant.clone()));
        let (fill, checked) = (Arc::clone(permit.fill()), came.at);
        let kept = self.cache().new_head(head, checked);
        let announcement = Announcement { fill: Arc::clone(&fill), full: Arc::clone(&full), length, kept };
        let (context, log) = (Rc::clone(exchange.context), exchange.log.clone());
        let document = Document { context, permit, body: came.body, announcement, log };
        match document.receive().await {
            Arrived::Stored(_) | Arrived::Slow(_) if !is_for_client => {
                FetchOutcome::Bypass(BypassReason::Variant)
            }
            Arrived::Stored(body) => {
                let body = Body::Memory(body);
                let stored = StoredResponse { head: full, body, checked: Some(checked) };
                FetchOutcome::Stored(stored, CacheUse::Fetched)
            }
            Arrived::Slow(follower) => FetchOutcome::Slow { fill, follower },
            Arrived::NotStored(why, permit, body) => self.not_stored(permit, came.answer, *body, why),
            Arrived::Failed(error) => FetchOutcome::Failed(error, None),
        }
    }
}

impl<R: Runtime> OriginResponse<R> {
    /// An error if it is a 304 to a request without a condition.
    fn unless_304(self) -> Result<Self, Error> {
        let error = || Error::with(Side::Origin, Kind::Protocol, "304 to a request without a condition");
        if self.answer.status == 304 { Err(error()) } else { Ok(self) }
    }
}

/// There is no response; others hear of it.
fn fail<R: Runtime>(permit: Permit, error: Error, stored: Option<StoredResponse>) -> FetchOutcome<R> {
    permit.fail(error.clone());
    FetchOutcome::Failed(error, stored)
}

/// Passes the request of a client that says more than went along.
fn own<R: Runtime>(permit: Permit, came: OriginResponse<R>, why: BypassReason) -> FetchOutcome<R> {
    origin::settle(came.body);
    permit.decline(why);
    FetchOutcome::Bypass(why)
}

fn why(not: NotStorable) -> BypassReason {
    match not {
        NotStorable::NoStore => BypassReason::NoStore,
        NotStorable::Private => BypassReason::Private,
        NotStorable::Authorization => BypassReason::Authorization,
        NotStorable::Partial => BypassReason::Status,
        NotStorable::NoUse => BypassReason::NoUse,
    }
}
