//! HEAD, where what is kept does not answer it: it goes to the origin, and its answer tells about
//! what is kept (RFC 9111 section 4.3.5).

use super::wanted::CacheRequest;
use crate::cache::response::StoredResponse;
use crate::downstream::client::Client;
use crate::error::{Error, Kind, Side};
use crate::fd_budget::OriginUse;
use crate::http::caching::may_store::{NotStorable, may_store, may_update};
use crate::http::caching::stored::Times;
use crate::http::caching::vary::Variant;
use crate::http::conditional;
use crate::http::fields::Fields;
use crate::http::request::Method;
use crate::http::response::{ResponseHead, is_origin_failure};
use crate::outcome::{BypassReason, Outcome};
use crate::proxy::fetch::origin::{self, Follow};
use crate::proxy::fetch::request::{self, OriginRequest};
use crate::proxy::fetch::storable::{contradicts_name, unify};
use crate::proxy::next::Next;
use crate::rt::Runtime;
use crate::sys::clock;
use std::time::Instant;

/// Passes it, and takes note of the response.
pub(crate) async fn step<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    client: &Client<R>,
    kept: Option<StoredResponse>,
) -> Next<R> {
    let exchange = wanted.exchange;
    // With conditions of the client's own, or in a form of its own, the answer may not be about what is kept. Any other
    // is asked for as a GET would be.
    let is_plain = conditional::is_plain(&exchange.request.fields) && !wanted.is_in_other_form();
    // Nor may it be where the file may have been asked for in yet another form.
    let is_about_kept = is_plain && (wanted.key.is_unreserved() || !wanted.key.names_a_file());
    let told = request::carried(exchange.request, &wanted.along());
    let origin = &exchange.context.upstream.origin;
    let asked = if is_plain {
        let asked = request::check_request(origin, exchange.request, wanted.key, &told, None);
        OriginRequest { method: Method::Head, errand: OriginUse::Pass, ..asked }
    } else {
        request::pass_request(origin, exchange.request)
    };
    exchange.log.debug(format_args!("proxying HEAD to {}", exchange.origin_url(&asked)));
    let begun = clock::unix_secs();
    let (mut answer, body) = match origin::ask(exchange, client.gone(), &asked, Follow::Maybe).await {
        Ok(answered) => answered,
        Err(error) => return wanted.failed(error, kept),
    };
    unify(&mut answer, wanted.key, &exchange.context.shared.config);
    if is_origin_failure(answer.status) {
        let error = Error::with(Side::Origin, Kind::Unavailable, answer.status);
        if kept.as_ref().is_some_and(|kept| wanted.may_use(kept, &error)) {
            return wanted.failed(error, kept);
        }
    }
    if is_plain && let Some(why) = is_for_others(wanted, &asked, &told, &answer) {
        origin::settle(body);
        return Next::Pass(why);
    }
    exchange.outcome.set(Some(Outcome::Pass(BypassReason::HeadOnMiss)));
    let targeted = wanted.policy.targeted;
    if let Some(kept) = kept
        && is_about_kept
        && answer.status == 200
        && kept.head.is_same_variant(&answer.fields, &told, wanted.told_apart())
        && !contradicts_name(&answer, wanted.key, &exchange.context.shared.config)
        && may_update(200, &answer, &exchange.request.fields, targeted)
    {
        let times = Times { requested: begun, received: clock::unix_secs() };
        let told = kept.head.is_described_by(&answer, kept.size());
        let (news, checked) = if told {
            (kept.head.updated(&answer.fields, times, &wanted.policy), Some(Instant::now()))
        } else {
            (kept.head.invalidated(), None)
        };
        wanted.cache().update::<R>(wanted.key, kept, news, checked).await;
    }
    Next::Relay(Box::new((answer, body)))
}

/// Why another answer is due to a client that says more than has gone along, if one is.
fn is_for_others<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    asked: &OriginRequest,
    told: &Fields,
    answer: &ResponseHead,
) -> Option<BypassReason> {
    let request = wanted.exchange.request;
    if !request::says_more(request, asked) {
        return None;
    }
    if request::is_denied(answer.status) {
        return Some(BypassReason::Denied);
    }
    let may = may_store(answer, &request.fields, wanted.policy.targeted);
    match (may, Variant::of(&answer.fields, told, wanted.told_apart())) {
        (Err(NotStorable::Private), _) => Some(BypassReason::Private),
        (Err(NotStorable::NoStore), _) => Some(BypassReason::NoStore),
        (_, Err(_)) => Some(BypassReason::Vary),
        (_, Ok(variant)) => (!variant.matches(&request.fields)).then_some(BypassReason::Variant),
    }
}
