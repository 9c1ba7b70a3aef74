//! The class of paths that are kept and checked with the origin (RFC 9111).
//!
//! One request, in order: what is kept is looked up (`find`); [`reuse`] says whether it may be
//! used; if not, the origin is asked once for all who want the same (`ask`), and what is kept by
//! then, or comes, is the answer (`answer`). What the rules are is in [`crate::http::caching`].

mod admit;
mod answer;
mod ask;
mod collect;
mod find;
mod fits;
pub mod head_request;
mod held;
pub mod invalidate;
pub mod member;
pub mod set;
pub mod stored;
mod switch;
mod wanted;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::cached::unusable;
use super::client::Client;
use super::exchange::{Context, Exchange, LOOKS};
use super::follow::{self, Role};
use super::reply::Reply;
use super::{loops, pass};
use crate::error::{Error, Kind, Side};
use crate::http::caching::Policy;
use crate::http::caching::directives::RequestDirectives;
use crate::http::caching::reuse::{self, Reuse};
use crate::http::request::Method;
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::outcome::{self, Outcome, Stale, Why};
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, spawn_guarded};
use crate::store::fill::{Fill, NoFile};
use crate::store::inflight::{Permit, Turn};
use crate::sys::clock;
use answer::failed;
use ask::Asked;
use stored::Kept;
use wanted::Wanted;

/// Answers a GET or HEAD that came at this moment.
pub async fn serve<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &mut Client<R>,
    key: &Key,
    arrived: Instant,
) -> Reply {
    let Some(policy) = policy(exchange.context) else {
        return pass::run(exchange, client, Why::NoMatch).await;
    };
    let request = exchange.request;
    let directives = RequestDirectives::of(&request.fields);
    if !request.body.is_empty() {
        return pass::run(exchange, client, Why::RequestBody).await;
    }
    let wanted = Wanted { exchange, key, directives, policy, arrived, place: None, proof: None };
    if directives.no_store {
        if let Some(reply) = set::go_on(&wanted, client).await {
            return reply;
        }
        return pass::run(exchange, client, Why::NoStore).await;
    }
    // Not to wait for an exchange that waits for this very request: what is at hand has to do.
    let (loops, returned) = (loops::has_looped(request), exchange.has_returned());
    if !loops
        && !returned
        && let Some(reply) = set::serve(&wanted, client).await
    {
        return reply;
    }
    let inflight = &exchange.context.shared.store.inflight;
    for _ in 0..LOOKS {
        let endings = inflight.endings();
        let kept = match find::find(exchange, key).await {
            Ok(kept) => kept,
            Err(why) => return unusable(exchange, client, why).await,
        };
        let kept = match use_at_once(&wanted, client, kept).await {
            Ok(reply) => return reply,
            Err(kept) => kept,
        };
        if directives.only_if_cached {
            let error = Error::new(Side::Origin, Kind::NotCached);
            return exchange.send_error(client, &error).await;
        }
        if loops {
            return pass::looped(exchange, client).await;
        }
        if returned {
            return pass::run(exchange, client, Why::Returned).await;
        }
        if request.method == Method::Head {
            return head_request::run(&wanted, client, kept).await;
        }
        match inflight.enter(key) {
            Turn::Lead(permit) if inflight.endings() == endings => {
                return lead(&wanted, client, permit, kept).await;
            }
            // A fill has ended since, maybe of this path; while the turn is ours, none of it does.
            Turn::Lead(permit) => match find::find(exchange, key).await {
                Ok(Some(kept)) if usable_at_once(&wanted, &kept).is_some() => permit.withdraw(),
                Ok(kept) => return lead(&wanted, client, permit, kept).await,
                Err(why) => {
                    permit.withdraw();
                    return unusable(exchange, client, why).await;
                }
            },
            Turn::Full => return pass::run(exchange, client, Why::FillsFull).await,
            Turn::Follow(fill) => {
                if let Some(reply) = join(&wanted, client, &fill, kept).await {
                    return reply;
                }
            }
        }
    }
    pass::run(exchange, client, Why::Disk).await
}

fn policy<R: Runtime>(context: &Context<R>) -> Option<Policy> {
    context.shared.config.revalidate.as_ref().map(|class| class.policy)
}

/// As what it may be used without a word of the origin, if it may.
fn usable_at_once<R: Runtime>(wanted: &Wanted<'_, '_, R>, kept: &Kept) -> Option<outcome::Kept> {
    let verdict = reuse::decide(&kept.head, &wanted.directives, clock::unix_secs(), &wanted.policy);
    match verdict {
        _ if invalidate::is_in_doubt(&wanted.exchange.context.shared, wanted.key, kept.checked) => None,
        _ if kept.is_checked_since(wanted.arrived) => Some(outcome::Kept::Revalidated),
        Reuse::Fresh => Some(outcome::Kept::Hit),
        Reuse::Stale => Some(outcome::Kept::Stale(Stale::Accepted)),
        Reuse::WhileChecked => Some(outcome::Kept::Stale(Stale::WhileRevalidate)),
        Reuse::Check => None,
    }
}

/// Answers from what is kept, if that takes no word of the origin; or gives it back.
async fn use_at_once<R: Runtime>(
    wanted: &Wanted<'_, '_, R>,
    client: &Client<R>,
    kept: Option<Kept>,
) -> Result<Reply, Option<Kept>> {
    let Some(kept) = kept else { return Err(None) };
    let Some(how) = usable_at_once(wanted, &kept) else { return Err(Some(kept)) };
    if how == outcome::Kept::Stale(Stale::WhileRevalidate) {
        check_behind(wanted);
    }
    Ok(answer::send(wanted, client, &kept, how).await)
}

/// Asks the origin, and answers with what comes of it.
async fn lead<R: Runtime>(
    wanted: &Wanted<'_, '_, R>,
    client: &mut Client<R>,
    permit: Permit,
    kept: Option<Kept>,
) -> Reply {
    let exchange = wanted.exchange;
    match ask::ask(wanted, permit, kept).await {
        Asked::Kept(kept, how) => answer::send(wanted, client, &kept, how).await,
        Asked::Filling { fill, follower, at_hand } => {
            match follow::serve(exchange, client, &fill, follower, Role::Leader(at_hand)).await {
                Some(reply) => reply,
                None => client.send_empty(500, false).await,
            }
        }
        Asked::NotKept(_, _) if wanted.is_in_other_form() => {
            pass::run(exchange, client, Why::OtherForm).await
        }
        Asked::NotKept(answer, body) => pass::hand_on(exchange, client, *answer, body).await,
        Asked::Told(kept) => answer::send(wanted, client, &kept, outcome::Kept::Revalidated).await,
        Asked::Own(why) => pass::run(exchange, client, why).await,
        Asked::Failed(error, kept) => failed(wanted, client, &error, kept).await,
    }
}

/// Waits for what another request's exchange with the origin comes to. `None`: look again.
async fn join<R: Runtime>(
    wanted: &Wanted<'_, '_, R>,
    client: &mut Client<R>,
    fill: &Arc<Fill>,
    kept: Option<Kept>,
) -> Option<Reply> {
    let exchange = wanted.exchange;
    let Ok(waiter) = Waiter::new() else { return Some(client.send_empty(500, false).await) };
    // Joined before the head is waited for, so that nothing passes by meanwhile.
    let follower = fill.follow(0);
    match fill.answer(&waiter).await {
        Ok(_) => {
            let kept = fill.kept();
            let is_new = kept.as_ref().is_none_or(|kept| kept.checked > wanted.arrived);
            let fresh = kept.as_ref().is_some_and(|kept| {
                let now = clock::unix_secs();
                let checked = Some(kept.checked);
                reuse::decide(&kept.head, &wanted.directives, now, &wanted.policy) == Reuse::Fresh
                    && !invalidate::is_in_doubt(&exchange.context.shared, wanted.key, checked)
            });
            if !is_new && !fresh && fill.is_whole() {
                // It will be the file in a moment, and then that is checked.
                drop(follower);
                fill.left(&waiter).await;
                return None;
            }
            // Nor does anybody begin with what an unsafe request has overtaken.
            if !is_new && (wanted.directives.no_cache || fill.is_invalid()) {
                return Some(pass::run(exchange, client, Why::NoCache).await);
            }
            exchange.outcome.set(Some(Outcome::Follow));
            wanted.debug("download in progress - response follows it");
            follow::serve(exchange, client, fill, follower, Role::Follower).await
        }
        Err(NoFile::Again) => None,
        Err(NoFile::Declined(why)) => Some(pass::run(exchange, client, why).await),
        Err(NoFile::Failed(error)) => Some(failed(wanted, client, &error, kept).await),
    }
}

/// Checks what is kept while its client is served, unless somebody does so already.
fn check_behind<R: Runtime>(wanted: &Wanted<'_, '_, R>) {
    let context = Rc::clone(wanted.exchange.context);
    let first = context.shared.store.inflight.enter(wanted.key);
    if !matches!(&first, Turn::Lead(_)) && !is_ending(&first) {
        return;
    }
    let (request, log): (_, RequestLog) = (wanted.exchange.request.clone(), wanted.exchange.log.clone());
    let (key, directives, policy) = (wanted.key.clone(), wanted.directives, wanted.policy);
    let busy = context.shared.stop.busy();
    spawn_guarded::<R>(busy, async move {
        let exchange = Exchange::new(&context, &request, &log);
        let arrived = Instant::now();
        let wanted =
            Wanted { exchange: &exchange, key: &key, directives, policy, arrived, place: None, proof: None };
        let Some(permit) = after_the_last(&wanted, first).await else { return };
        // A copy of its own: the one at hand is for the client.
        let Ok(kept) = find::find(&exchange, &key).await else { return permit.withdraw() };
        // Every wait in it has its limit. A fill goes on as a task of its own.
        drop(ask::ask(&wanted, permit, kept).await);
    });
}

/// Is it a fill that has all of its file, which may have its name already? What is found then is its file, and nobody
/// checks that.
fn is_ending(turn: &Turn) -> bool {
    matches!(turn, Turn::Follow(fill) if fill.is_whole())
}

/// The right to ask, once what is ending has ended. `None`: somebody else asks.
async fn after_the_last<R: Runtime>(wanted: &Wanted<'_, '_, R>, first: Turn) -> Option<Permit> {
    match first {
        Turn::Lead(permit) => Some(permit),
        Turn::Full => None,
        Turn::Follow(fill) => {
            fill.left(&Waiter::new().ok()?).await;
            match wanted.exchange.context.shared.store.inflight.enter(wanted.key) {
                Turn::Lead(permit) => Some(permit),
                Turn::Follow(_) | Turn::Full => None,
            }
        }
    }
}
