//! One request to the class of what is checked with the origin.

use crate::proxy::fetch::request;
use std::sync::Arc;
use std::time::Instant;

use crate::cache::lookup::Cache;
use crate::cache::response::StoredResponse;
use crate::error::{Error, Kind, Side};
use crate::http::caching::Policy;
use crate::http::caching::directives::RequestDirectives;
use crate::http::caching::reuse;
use crate::key::Key;
use crate::outcome::{BypassReason, Stale};
use crate::packages::index::Package;
use crate::proxy::exchange::Exchange;
use crate::proxy::fetch::form;
use crate::rt::Runtime;
use crate::sys::clock;

/// One request to this class.
pub(crate) struct CacheRequest<'a, 'b, R: Runtime> {
    pub(crate) exchange: &'a Exchange<'b, R>,
    pub(crate) key: &'a Key,
    pub(crate) directives: RequestDirectives,
    pub(crate) policy: Policy,
    /// When it came: whatever the origin says later is new enough.
    pub(crate) arrived: Instant,
    /// Where a file goes that is to wait for its name.
    pub(crate) place: Option<Key>,
    /// What a file must be, if that is known.
    pub(crate) proof: Option<Arc<Package>>,
}

impl<'a, 'b, R: Runtime> CacheRequest<'a, 'b, R> {
    /// A GET or HEAD that came at this moment; or why it is none for this class.
    pub(crate) fn of(
        exchange: &'a Exchange<'b, R>,
        key: &'a Key,
        arrived: Instant,
    ) -> Result<Self, BypassReason> {
        let class = exchange.context.shared.config.revalidate.as_ref();
        let policy = class.ok_or(BypassReason::NoMatch)?.policy;
        if !exchange.request.body.is_empty() {
            return Err(BypassReason::RequestBody);
        }
        let directives = RequestDirectives::of(&exchange.request.fields);
        Ok(Self { exchange, key, directives, policy, arrived, place: None, proof: None })
    }

    /// Is it a file that the client asks for in another form than it is fetched in?
    pub(crate) fn is_in_other_form(&self) -> bool {
        self.key.names_a_file() && form::differs(self.exchange.request)
    }

    /// By which fields of requests the answers are told apart, whether the origin says so or not.
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
}

/// Why what is kept is served after this error.
pub(crate) fn why_stale<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    kept: &StoredResponse,
    error: &Error,
) -> Stale {
    if error.kind == Kind::Offline {
        Stale::Offline
    } else if reuse::forbids_stale(&kept.head, &wanted.policy) {
        Stale::Forced
    } else if error.kind == Kind::Unavailable {
        Stale::ServerError
    } else {
        Stale::Unreachable
    }
}

/// May it be used after this error?
pub(crate) fn may_use<R: Runtime>(
    wanted: &CacheRequest<'_, '_, R>,
    kept: &StoredResponse,
    error: &Error,
) -> bool {
    // Who says --offline wants what there is.
    error.kind == Kind::Offline
        || error.side == Side::Origin
            && reuse::may_use_if_error(&kept.head, clock::unix_secs(), &wanted.policy)
}
