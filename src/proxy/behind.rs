//! A stale response is revalidated while its client is served (RFC 5861 section 3).

use std::rc::Rc;
use std::time::Instant;

use super::cached;
use super::exchange::Exchange;
use super::next::{FreshnessPolicy, Next};
use super::revalidated::wanted::CacheRequest;
use crate::http::caching::directives::RequestDirectives;
use crate::http::request::{Method, RequestHead};
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, spawn_guarded};

/// Has a stored response revalidated while its client is served, unless somebody does so already. It takes the same
/// steps as a request that demands it.
pub(crate) fn revalidate<R: Runtime>(wanted: &CacheRequest<'_, '_, R>) {
    let context = Rc::clone(wanted.exchange.context);
    // One that has all of its file will leave the key in a moment: its file is what is found then.
    if context.shared.store.inflight.get(wanted.key).is_some_and(|fill| !fill.is_whole()) {
        return;
    }
    let request = RequestHead { method: Method::Get, ..wanted.exchange.request.clone() };
    let (log, key, arrived) = (wanted.exchange.log.clone(), wanted.key.clone(), Instant::now());
    let (busy, client) = (context.shared.stop.busy(), wanted.exchange.client);
    spawn_guarded::<R>(busy, async move {
        let exchange = Exchange::new(&context, &request, &log).on_behalf_of(client);
        let directives = RequestDirectives { no_cache: true, ..RequestDirectives::default() };
        let wanted = CacheRequest { directives, ..CacheRequest::new(&exchange, &key, arrived) };
        let mut next = cached::step(&wanted, FreshnessPolicy::Revalidate).await;
        if let Next::Join(fill, _) = &next
            && fill.is_whole()
        {
            fill.left(&Waiter::new()).await;
            next = cached::step(&wanted, FreshnessPolicy::Revalidate).await;
        }
        if let Next::Revalidate(permit, stored) = next {
            // Every wait in it has its limit. A fill goes on as a task of its own.
            drop(wanted.ask(permit, stored.map(|stored| *stored)).await);
        }
    });
}
