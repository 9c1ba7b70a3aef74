//! New generations of an index set: all members are asked for again until none has changed during a whole round.
//!
//! A member that was the same before the others were fetched and after that was there with all of them at one time. So
//! it is enough to validate at the end the anchors, which change whenever any other does; all members in a set without
//! anchors. One is validated twice: where two machines answer in turn, both are asked. An origin whose members return
//! to an earlier state is several machines in different states, of which no generation can be made. Where a member
//! lists the checksums of the others, a file that differs is no member (`fits`).
//!
//! New files wait beside those that they are to replace, and get their names when all are complete, the anchors last. So
//! the files on the disk are of one generation, or are seen not to be.

use crate::proxy::fetch::request;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::generations::{Generation, RefreshTurn, Set};
use super::held;
use super::member::{self, Member, MemberState, StoredMember, is_same};
use crate::cache::inflight;
use crate::cache::response::StoredResponse;
use crate::cache::spare::Spare;
use crate::error::{Error, Kind, Side};
use crate::http::caching::directives::RequestDirectives;
use crate::http::caching::{IfError, Policy};
use crate::http::request::{Method, RequestHead};
use crate::http::response::is_origin_failure;
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::outcome::{BypassReason, CacheUse};
use crate::packages::index::{Proof, Version};
use crate::preset::{Lists, Place};
use crate::proxy::exchange::{Context, Exchange, LOOKS};
use crate::proxy::fetch::storable::contradicts_name;
use crate::proxy::revalidated::ask::FetchOutcome;
use crate::proxy::revalidated::wanted::CacheRequest;
use crate::rt::budget::Holder;
use crate::rt::gather::gather;
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, spawn_guarded};

/// Requests for members at a time, each with one of the worker's places at the origin.
const AT_ONCE: usize = 16;
/// Rounds after which collecting ends where the origin changes all the time.
const ROUNDS: u32 = 8;
/// Rounds that may find members that do not fit.
const PATIENT_ROUNDS: u32 = 2;
/// Between two rounds; longer each time.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the generation before is kept where the origin has not all of the next one; then that goes without the
/// missing members. Mirrors that copy one file after the other need minutes.
const UNFIT: Duration = Duration::from_secs(600);

/// What is needed to ask about a set, for a client or after it has gone.
#[derive(Clone)]
pub(crate) struct Refresh<R: Runtime> {
    pub(crate) context: Rc<Context<R>>,
    pub(crate) set: Arc<Set>,
    /// The client's request: its fields go to the origin.
    pub(crate) request: RequestHead,
    pub(crate) log: RequestLog,
    /// Whose request it was.
    client: Option<Holder>,
    policy: Policy,
    /// The directory that holds the members.
    pub(crate) root: String,
}

/// A member as the origin has it now.
pub(crate) enum RefreshedMember {
    /// Unchanged.
    Same(Member),
    /// Changed.
    Other(Member),
    /// The origin has none, or none that can be stored.
    Gone,
    /// There is no answer.
    Failed(Error),
}

/// The states that members have been in while a generation is collected.
type Seen = HashMap<Key, Vec<Version>>;

impl<R: Runtime> Refresh<R> {
    pub(crate) fn new(wanted: &CacheRequest<'_, '_, R>, set: Arc<Set>, place: Place<'_>) -> Self {
        let exchange = wanted.exchange;
        let context = Rc::clone(exchange.context);
        // The other members are for all clients: no other fields of this client are sent.
        let fields = request::carried(exchange.request, &wanted.along());
        let request = RequestHead { fields, ..exchange.request.clone() };
        let (log, policy, root) = (exchange.log.clone(), wanted.policy, place.root.to_owned());
        Self { context, set, request, log, client: exchange.client, policy, root }
    }

    /// How the origin is asked for the member that the request is about.
    pub(crate) fn target(&self) -> Arc<[u8]> {
        Arc::from(&*self.request.target)
    }

    /// The anchors, or all members where there are none.
    pub(crate) fn anchors_or_all(&self, members: &BTreeMap<Key, Member>) -> Vec<Key> {
        let anchors: Vec<Key> = members.keys().filter(|key| self.is_anchor(key)).cloned().collect();
        if anchors.is_empty() { members.keys().cloned().collect() } else { anchors }
    }

    /// Whether it changes whenever any other does, and what it lists of the others.
    pub(crate) fn role(&self, key: &Key) -> (bool, Option<Lists>) {
        let path = format!("/{}", key.as_str());
        let place = self.context.shared.config.rules.place(&path);
        place.map_or((false, None), |place| (place.is_anchor, place.lists))
    }

    pub(crate) fn is_anchor(&self, key: &Key) -> bool {
        self.role(key).0
    }

    pub(crate) fn exchange(&self) -> Exchange<'_, R> {
        Exchange::new(&self.context, &self.request, &self.log)
    }

    /// Asks the origin for a member, whole.
    pub(crate) async fn renew(&self, key: &Key, known: &Member) -> RefreshedMember {
        let failed = |kind| RefreshedMember::Failed(Error::new(Side::Proxy, kind));
        let waiter = Waiter::new();
        let request =
            RequestHead { method: Method::Get, target: Box::from(&*known.target), ..self.request.clone() };
        let exchange = Exchange::new(&self.context, &request, &self.log).on_behalf_of(self.client);
        let directives = RequestDirectives { no_cache: true, ..RequestDirectives::default() };
        let (policy, arrived, place) = (self.policy, Instant::now(), key.spare());
        let wanted =
            CacheRequest { exchange: &exchange, key, directives, policy, arrived, place, proof: None };
        for _ in 0..LOOKS {
            let permit = match self.context.shared.store.inflight.enter(key) {
                inflight::Turn::Lead(permit) => permit,
                inflight::Turn::Follow(fill) => {
                    fill.left(&waiter).await;
                    continue;
                }
                inflight::Turn::Full => break,
            };
            let spare = match known.spare() {
                Some(_) => known.open(&exchange, key).await,
                None => None,
            };
            let kept = match (spare, self.context.shared.cache.find::<R>(&request, key).await) {
                (Some(spare), _) => Some((*spare).clone()),
                (None, Ok(kept)) => kept,
                (None, Err(_)) => return RefreshedMember::Gone,
            };
            return match self.ask(&wanted, (permit, kept), known, &waiter).await {
                Ok((renewed, _)) => renewed,
                Err(outcome) => self.no_member(key, outcome),
            };
        }
        failed(Kind::Abandoned)
    }

    /// Asks the origin for a member of which this is known. An error: what it has is no member.
    pub(crate) async fn ask(
        &self,
        wanted: &CacheRequest<'_, '_, R>,
        (permit, kept): (inflight::Permit, Option<StoredResponse>),
        known: &Member,
        waiter: &Waiter,
    ) -> Result<(RefreshedMember, CacheUse), FetchOutcome<R>> {
        let before = known.open(wanted.exchange, wanted.key).await;
        match wanted.ask(permit, kept).await {
            FetchOutcome::Stored(kept, how) if kept.is_file() => {
                Ok((self.renewed(wanted, known, before, kept, None).await, how))
            }
            FetchOutcome::Filling { fill, follower, .. } => {
                drop(follower);
                let spare = self.spare(wanted);
                fill.left(waiter).await;
                let renewed = match StoredResponse::of_fill::<R>(&fill, waiter).await {
                    Some(kept) => self.renewed(wanted, known, before, kept, spare).await,
                    None => RefreshedMember::Failed(member::failure(&fill, waiter).await),
                };
                Ok((renewed, CacheUse::Fetched))
            }
            outcome @ (FetchOutcome::Stored(..)
            | FetchOutcome::Slow { .. }
            | FetchOutcome::NotStored(..)
            | FetchOutcome::Confirmed(_)
            | FetchOutcome::Bypass(_)
            | FetchOutcome::Failed(..)) => Err(outcome),
        }
    }

    fn no_member(&self, key: &Key, outcome: FetchOutcome<R>) -> RefreshedMember {
        RefreshedMember::Failed(match outcome {
            FetchOutcome::NotStored(answer, _) if is_origin_failure(answer.status) => {
                Error::with(Side::Origin, Kind::Unavailable, answer.status)
            }
            // A login page in its place does not say that it is gone.
            FetchOutcome::NotStored(answer, _)
                if contradicts_name(&answer, key, &self.context.shared.config) =>
            {
                Error::with(Side::Origin, Kind::Protocol, BypassReason::ContentType.as_str())
            }
            // Confirmed for one client, which proves nothing for the others.
            FetchOutcome::Confirmed(_) => Error::new(Side::Proxy, Kind::Abandoned),
            FetchOutcome::Failed(error, _) => error,
            // No client is here that has said more.
            FetchOutcome::NotStored(..)
            | FetchOutcome::Bypass(_)
            | FetchOutcome::Stored(..)
            | FetchOutcome::Slow { .. }
            | FetchOutcome::Filling { .. } => return RefreshedMember::Gone,
        })
    }

    /// The file that is being fetched for this, which waits for its name when it is complete.
    pub(crate) fn spare(&self, wanted: &CacheRequest<'_, '_, R>) -> Option<Arc<Spare>> {
        let place = wanted.place.clone()?;
        Some(Arc::new(self.context.shared.store.spare(wanted.key, place)))
    }

    /// Compares the response for a member with the file that was stored `before`.
    pub(crate) async fn renewed(
        &self,
        wanted: &CacheRequest<'_, '_, R>,
        known: &Member,
        before: Option<Arc<StoredResponse>>,
        now: StoredResponse,
        spare: Option<Arc<Spare>>,
    ) -> RefreshedMember {
        let (key, bytes) = (wanted.key, Arc::new(now));
        let same = match &before {
            Some(before) => is_same::<R>(before, &bytes).await,
            None => known.has_tag_of(&bytes),
        };
        if same && let (Some(_), None, Some(what)) = (&spare, &before, StoredMember::of(&bytes)) {
            // The file had been removed from the disk: here it is again.
            let now = Member { target: Arc::clone(&known.target), what };
            let named = self.name(vec![(key.clone(), now.clone().placed(spare))]).await;
            return named.map_or_else(RefreshedMember::Failed, |()| RefreshedMember::Same(now));
        }
        if same {
            // The stored file stays, with all the tags that its bytes have had.
            let learnt = match &before {
                Some(before) => held::learn::<R>(&self.context.shared, key, &bytes, before).await,
                None => None,
            };
            let now = known.with(learnt.as_ref().unwrap_or(&bytes));
            return now.map_or(RefreshedMember::Gone, RefreshedMember::Same);
        }
        let Some(what) = StoredMember::of(&bytes) else { return RefreshedMember::Gone };
        let now = Member { target: Arc::clone(&known.target), what }.placed(spare);
        RefreshedMember::Other(now)
    }

    /// Puts a member that is being fetched into its generation as soon as it is complete.
    pub(crate) fn settle(&self, generation: &Arc<Generation>, key: &Key, member: &Member) {
        let MemberState::Filling(fill) = &member.what else { return };
        let (fill, target) = (Arc::clone(fill), Arc::clone(&member.target));
        let (refresh, generation, key) = (self.clone(), Arc::clone(generation), key.clone());
        let busy = self.context.shared.stop.busy();
        spawn_guarded::<R>(busy, async move {
            let waiter = Waiter::new();
            fill.left(&waiter).await;
            let kept = StoredResponse::of_fill::<R>(&fill, &waiter).await;
            let this = |member: &Member| matches!(&member.what, MemberState::Filling(filling) if Arc::ptr_eq(filling, &fill));
            let member = kept.as_ref().and_then(StoredMember::of).map(|what| Member { target, what });
            let fits = match (&member, refresh.proof(&generation, &key).await) {
                (Some(member), Some(listed)) => refresh.is_as_listed(&key, member, &listed).await,
                (_, _) => true,
            };
            match member.filter(|_| fits) {
                Some(member) if generation.get(&key).is_some_and(|known| this(&known)) => {
                    generation.put(&key, member);
                }
                Some(_) => {}
                None => generation.remove_if(&key, this),
            }
        });
    }

    /// Collects a new generation of these members, and switches to it, in a task of its own: also when the client has
    /// left.
    pub(crate) fn collect(&self, turn: RefreshTurn, members: BTreeMap<Key, Member>) {
        let refresh = self.clone();
        let busy = self.context.shared.stop.busy();
        self.log.debug(format_args!("an index set has changed - collecting {} files", members.len()));
        spawn_guarded::<R>(busy, async move {
            let switched = match refresh.collected(members).await {
                Ok(members) => refresh.switch(&turn, members).await,
                Err(error) => Err(error),
            };
            if let Err(error) = switched {
                refresh.log.debug(format_args!("an index set is not refreshed - {error}"));
                turn.fail(None, error);
            }
        });
    }

    async fn collected(&self, mut members: BTreeMap<Key, Member>) -> Result<BTreeMap<Key, Member>, Error> {
        let (mut unfit, mut seen) = (0, self.changed(&members).await);
        for round in 1..=ROUNDS {
            // One file fits itself.
            if members.len() == 1 {
                return Ok(members);
            }
            let (first, rest): (Vec<Key>, Vec<Key>) =
                members.keys().cloned().partition(|key| self.is_anchor(key));
            for keys in [first, rest] {
                self.update(&mut members, &mut seen, keys).await?;
            }
            let anchors = self.anchors_or_all(&members);
            let again = anchors.first().cloned().into_iter().collect();
            let calm = self.update(&mut members, &mut seen, anchors).await?
                && self.update(&mut members, &mut seen, again).await?;
            if calm {
                // Where the origin refuses all of them, that is no new state.
                if members.is_empty() {
                    break;
                }
                let misfits = self.misfits(&members).await;
                if misfits.is_empty() {
                    return Ok(members);
                }
                // An origin that changes file by file is in the middle of an update, which takes time.
                unfit += 1;
                if unfit == PATIENT_ROUNDS {
                    if self.set.current().is_some_and(|current| self.is_listed(&current)) && self.waits() {
                        self.set.note_unsettled();
                        break;
                    }
                    members.retain(|key, _| !misfits.contains(key));
                    return Ok(members);
                }
            }
            R::sleep(PAUSE * round).await;
        }
        Err(Error::new(Side::Proxy, Kind::Superseded))
    }

    /// Whether the current generation is kept for now, as the origin has not all of the next one.
    fn waits(&self) -> bool {
        self.set.note_unfit();
        !self.set.is_unfit_for(UNFIT)
    }

    /// The members that have changed already since the current generation.
    async fn changed(&self, members: &BTreeMap<Key, Member>) -> Seen {
        let (mut seen, exchange) = (Seen::default(), self.exchange());
        let Some(current) = self.set.current() else { return seen };
        for (key, member) in members {
            let Some(known) = current.get(key).filter(|known| !known.is_as(member)) else { continue };
            let (before, now) = (known.open(&exchange, key).await, member.open(&exchange, key).await);
            if let (Some(before), Some(now)) = (before, now)
                && !is_same::<R>(&before, &now).await
            {
                self.goes_back(&mut seen, key, &known, member).await;
            }
        }
        seen
    }

    /// A member has changed; whether it is again what it was before.
    async fn goes_back(&self, seen: &mut Seen, key: &Key, known: &Member, now: &Member) -> bool {
        let (states, exchange) = (seen.entry(key.clone()).or_default(), self.exchange());
        if states.is_empty() {
            states.extend(known.sum(&exchange, key, Proof::Sha256).await);
        }
        let now = now.sum(&exchange, key, Proof::Sha256).await;
        let is_known = now.as_ref().is_some_and(|now| states.contains(now));
        states.extend(now);
        is_known
    }

    /// Brings members up to date; whether all are unchanged. One that fails is left out, unless all fail or it may be
    /// served stale. An error where a member returns to an earlier state.
    async fn update(
        &self,
        members: &mut BTreeMap<Key, Member>,
        seen: &mut Seen,
        keys: Vec<Key>,
    ) -> Result<bool, Error> {
        let (mut calm, asked, mut failing) = (true, keys.len(), Vec::new());
        let tells = keys.iter().any(|key| self.is_anchor(key));
        for (key, renewed) in self.renew_all(members, keys).await {
            match renewed {
                RefreshedMember::Same(now) => drop(members.insert(key, now)),
                RefreshedMember::Other(now) => {
                    let known = members.get(&key).unwrap_or(&now);
                    if self.goes_back(seen, &key, known, &now).await {
                        let is_back = "an index file is again what it was before";
                        self.log.debug(format_args!("{is_back}: {}", key.as_str()));
                        self.set.note_unsettled();
                        return Err(Error::new(Side::Proxy, Kind::Superseded));
                    }
                    members.insert(key, now);
                    calm = false;
                }
                RefreshedMember::Gone => {
                    members.remove(&key);
                    calm = false;
                }
                RefreshedMember::Failed(error) => failing.push((key, error)),
            }
        }
        let is_stale_good = self.policy.if_error != IfError::AsSaid;
        let is_all = failing.len() == asked && (tells || !members.keys().any(|key| self.is_anchor(key)));
        let is_outage = is_all || failing.len() >= AT_ONCE;
        for (key, error) in failing {
            if is_outage || is_stale_good && self.waits() {
                return Err(error);
            }
            self.log.debug(format_args!("{} is left out of its index set - {error}", key.as_str()));
            members.remove(&key);
            calm = false;
        }
        Ok(calm)
    }

    /// Requests some of the members, several at a time, until `AT_ONCE` have failed.
    pub(crate) async fn renew_all(
        &self,
        members: &BTreeMap<Key, Member>,
        keys: Vec<Key>,
    ) -> Vec<(Key, RefreshedMember)> {
        let known = keys.into_iter().filter_map(|key| members.get(&key).map(|known| (key, known)));
        let renew = |(key, known)| async move {
            let renewed = self.renew(&key, known).await;
            (key, renewed)
        };
        let failed = Cell::new(0);
        let is_last = |(_, renewed): &(Key, RefreshedMember)| {
            failed.set(failed.get() + usize::from(matches!(renewed, RefreshedMember::Failed(_))));
            failed.get() >= AT_ONCE
        };
        gather(AT_ONCE, known.map(renew), is_last).await
    }
}
