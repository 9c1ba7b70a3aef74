//! One request for what the cache may have.

use std::sync::Arc;
use std::time::Instant;

use crate::cache::lookup::Cache;
use crate::cache::response::StoredResponse;
use crate::error::{Error, Kind, Side};
use crate::http::caching::directives::RequestDirectives;
use crate::http::caching::{Policy, reuse};
use crate::key::Key;
use crate::outcome::{BypassReason, CacheUse, Stale};
use crate::packages::listed::Package;
use crate::proxy::exchange::Exchange;
use crate::proxy::fetch::{form, request};
use crate::proxy::next::Next;
use crate::rt::Runtime;
use crate::sys::clock;

/// A GET or HEAD of something that the cache may have.
pub(crate) struct CacheRequest<'a, 'b, R: Runtime> {
    pub(crate) exchange: &'a Exchange<'b, R>,
    pub(crate) key: &'a Key,
    pub(crate) directives: RequestDirectives,
    /// What the operator wants of the revalidated class.
    pub(crate) policy: Policy,
    /// When it came: whatever the origin says later is new enough.
    pub(crate) arrived: Instant,
    /// Where a file goes that is to wait for its name.
    pub(crate) place: Option<Key>,
    /// What a file must be, if that is known.
    pub(crate) proof: Option<Arc<Package>>,
}

impl<'a, 'b, R: Runtime> CacheRequest<'a, 'b, R> {
    /// A request that came at this moment.
    pub(crate) fn new(exchange: &'a Exchange<'b, R>, key: &'a Key, arrived: Instant) -> Self {
        let class = exchange.context.shared.config.revalidate.as_ref();
        let policy = class.map(|class| class.policy).unwrap_or_default();
        let directives = RequestDirectives::of(&exchange.request.fields);
        Self { exchange, key, directives, policy, arrived, place: None, proof: None }
    }

    /// May it be answered from the revalidated class?
    pub(crate) fn is_of_class(&self) -> Result<(), BypassReason> {
        if self.exchange.context.shared.config.revalidate.is_none() {
            return Err(BypassReason::NoMatch);
        }
        if self.exchange.request.body.is_empty() { Ok(()) } else { Err(BypassReason::RequestBody) }
    }

    /// Is it a file that the client asks for in another form than it is fetched in?
    pub(crate) fn is_in_other_form(&self) -> bool {
        self.key.names_a_file() && form::differs(self.exchange.request)
    }

    /// By which fields of requests the responses are told apart, whether the origin says so or not.
    pub(crate) fn told_apart(&self) -> &'static [&'static str] {
        if self.key.names_a_file() { &[] } else { &request::NEGOTIATED }
    }

    /// The client's fields that go along to the origin, beside the permitted ones.
    pub(crate) fn along(&self) -> Vec<&str> {
        let further = self.exchange.context.shared.config.revalidate.iter().flat_map(|class| &class.fields);
        let own = further.map(String::as_str).chain(["authorization"]);
        own.chain(self.told_apart().iter().copied()).collect()
    }

    /// The cache.
    pub(crate) fn cache(&self) -> &'a Arc<Cache> {
        &self.exchange.context.shared.cache
    }

    pub(crate) fn debug(&self, what: &str) {
        if self.exchange.log.is_on() {
            let path = self.exchange.context.shared.store.display_path(self.key.as_str());
            self.exchange.log.debug(format_args!("{path} {what}"));
        }
    }

    /// May this stored response be used after this error?
    pub(crate) fn may_use(&self, stored: &StoredResponse, error: &Error) -> bool {
        // With --offline the operator wants what there is.
        error.kind == Kind::Offline
            || error.side == Side::Origin
                && reuse::may_use_if_error(&stored.head, clock::unix_secs(), &self.policy)
    }

    /// Why it is used stale after this error.
    pub(crate) fn why_stale(&self, stored: &StoredResponse, error: &Error) -> Stale {
        if error.kind == Kind::Offline {
            Stale::Offline
        } else if reuse::forbids_stale(&stored.head, &self.policy) {
            Stale::Forced
        } else if error.kind == Kind::Unavailable {
            Stale::ServerError
        } else {
            Stale::Unreachable
        }
    }

    /// The origin could not be asked, or failed: a stored response is used, if the rules allow.
    pub(crate) fn failed(&self, error: Error, stored: Option<StoredResponse>) -> Next<R> {
        self.exchange.log.debug(format_args!("error with proxy request {error}"));
        match stored.filter(|stored| self.may_use(stored, &error)) {
            Some(stored) => {
                let how = CacheUse::Stale(self.why_stale(&stored, &error));
                Next::Stored(Box::new(stored), how)
            }
            None => Next::Fail(error),
        }
    }
}
