//! After an unsafe request what is kept of its target is to be checked (RFC 9111 section 4.4).

use std::sync::PoisonError;
use std::time::Instant;

use crate::http::caching::invalidate::{is_success, targets};
use crate::http::request::Method;
use crate::http::response::ResponseHead;
use crate::key::Key;
use crate::preset::{describes_nar, is_nar};
use crate::proxy::exchange::{Exchange, Shared};
use crate::proxy::fetch::form;
use crate::route::{self, Route};
use crate::rt::Runtime;

/// Takes note of the answer to a request that was passed. Files stay: they may be all there is when
/// the origin fails.
pub async fn note<R: Runtime>(exchange: &Exchange<'_, R>, answer: &ResponseHead) {
    let (context, request) = (exchange.context, exchange.request);
    if context.classes.revalidate.is_none() || request.method.is_safe() || !is_success(answer.status) {
        return;
    }
    let origin = &context.upstream.origin;
    let sites = [origin.host_field.as_bytes(), request.fields.get("host").unwrap_or_default()];
    for target in targets(&form::own(request), &answer.fields, &sites, &origin.prefix) {
        let mut get = request.clone();
        (get.method, get.target) = (Method::Get, target.into());
        let Route::Revalidate(key) = route::decide(&get, &context.classes) else { continue };
        exchange.log.debug(format_args!("{} is stale - {}", key.as_str(), request.method.as_str()));
        context.shared.cache.invalidate::<R>(&key).await;
    }
}

/// Takes note of a nar that the origin has no more: what names it may be out of date, whatever its lifetime is. Nix
/// asks for no nar that it has not seen named.
pub fn note_missing<R: Runtime>(exchange: &Exchange<'_, R>, answer: &ResponseHead) {
    let shared = &exchange.context.shared;
    let is_missing =
        || !shared.config.presets.is_empty() && is_nar(&String::from_utf8_lossy(exchange.request.path()));
    if matches!(answer.status, 404 | 410) && exchange.request.method == Method::Get && is_missing() {
        exchange.log.debug(format_args!("narinfo files are stale - a nar is missing"));
        *shared.missing_nar.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// May it, which the origin vouched for then, name a nar that is missing by now?
pub(crate) fn is_in_doubt(shared: &Shared, key: &Key, checked: Option<Instant>) -> bool {
    let missed = || *shared.missing_nar.lock().unwrap_or_else(PoisonError::into_inner);
    describes_nar(key.as_str())
        && missed().is_some_and(|missed| checked.is_none_or(|checked| checked <= missed))
}
