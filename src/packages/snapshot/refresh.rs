//! New generations of an index set: all members are asked for again until none has changed during a whole round.
//!
//! A member that stayed the same from before the others came until after that was there with all of them at one time.
//! So it is enough to ask at the end about those that tell of every change, the anchors, where a set has such;
//! without them it takes all. One of them is asked about once more: where two machines answer in turn, the second
//! answer is the other one's. An origin whose members go back to what they were before is several machines in different
//! states, of which no generation can be made. Where one of them lists the checksums of the others, what it does not
//! list is no member (`fits`).
//!
//! What has come waits beside the files that it is to replace, and gets its names when all of it is there, those that
//! tell of the others last. So what lies on the disk is of one generation, or is seen not to be.

use crate::proxy::fetch::request;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::held;
use super::member::{self, Member, MemberState, StoredMember, is_same};
use super::table::{Generation, RefreshTurn, Set};
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
use crate::outcome::BypassReason;
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

/// Members asked about at a time, each with a place of the worker's at the origin.
const AT_ONCE: usize = 16;
/// Rounds after which an origin that changes all the time is left alone.
const ROUNDS: u32 = 8;
/// Rounds that find what does not fit together.
const PATIENT_ROUNDS: u32 = 2;
/// Between two rounds; longer each time.
const PAUSE: Duration = Duration::from_millis(20);
/// So long the generation before is kept where the origin has not all of the next one; then that goes without what is
/// missing. Mirrors that take one file after the other need minutes.
const UNFIT: Duration = Duration::from_secs(600);

/// What is needed to ask about a set, for a client or after it has gone.
pub(crate) struct Refresh<R: Runtime> {
    pub(crate) context: Rc<Context<R>>,
    pub(crate) set: Arc<Set<Member>>,
    /// The request that gave rise to it: the origin hears its fields.
    pub(crate) request: RequestHead,
    pub(crate) log: RequestLog,
    /// Whose request it was.
    client: Option<Holder>,
    policy: Policy,
    /// The directory that holds the members.
    pub(crate) root: String,
}

impl<R: Runtime> Clone for Refresh<R> {
    fn clone(&self) -> Self {
        Self {
            context: Rc::clone(&self.context),
            set: Arc::clone(&self.set),
            request: self.request.clone(),
            log: self.log.clone(),
            client: self.client,
            policy: self.policy,
            root: self.root.clone(),
        }
    }
}

/// What a member tells of the others.
pub(crate) struct MemberRole {
    is_anchor: bool,
    pub(crate) lists: Option<Lists>,
}

/// A member as the origin has it now.
pub(crate) enum RefreshedMember {
    /// What it was.
    Same(Member),
    /// Another than before. The checksums of its bytes then and now, where they can be read.
    Other { now: Member, before: Option<Version>, bytes: Option<Version> },
    /// The origin has none, or none that can be kept.
    Gone,
    /// Nobody knows.
    Failed(Error),
}

/// The states that members have been in while a generation comes together.
#[derive(Default)]
pub(crate) struct Seen(HashMap<Key, Vec<Version>>);

impl Seen {
    /// It has changed; whether it is what it has been before.
    fn goes_back(&mut self, key: &Key, before: Option<Version>, now: Option<Version>) -> bool {
        let states = self.0.entry(key.clone()).or_default();
        if states.is_empty() {
            states.extend(before);
        }
        let is_known = now.as_ref().is_some_and(|now| states.contains(now));
        states.extend(now);
        is_known
    }
}

impl<R: Runtime> Refresh<R> {
    pub(crate) fn new(wanted: &CacheRequest<'_, '_, R>, set: Arc<Set<Member>>, place: Place<'_>) -> Self {
        let exchange = wanted.exchange;
        let context = Rc::clone(exchange.context);
        // The other members are for everybody: nothing that this client says beyond it goes along.
        let fields = request::carried(exchange.request, &wanted.along());
        let request = RequestHead { fields, ..exchange.request.clone() };
        let (log, policy, root) = (exchange.log.clone(), wanted.policy, place.root.to_owned());
        Self { context, set, request, log, client: exchange.client, policy, root }
    }

    /// How the origin is asked for the member that the request is about.
    pub(crate) fn target(&self) -> Arc<[u8]> {
        Arc::from(&*self.request.target)
    }

    /// The members that tell whether any has changed.
    pub(crate) fn telling(&self, members: &BTreeMap<Key, Member>) -> Vec<Key> {
        let anchors: Vec<Key> = members.keys().filter(|key| self.is_anchor(key)).cloned().collect();
        if anchors.is_empty() { members.keys().cloned().collect() } else { anchors }
    }

    pub(crate) fn place(&self, key: &Key) -> Option<MemberRole> {
        let path = format!("/{}", key.as_str());
        let place = self.context.shared.config.rules.place(&path)?;
        Some(MemberRole { is_anchor: place.is_anchor, lists: place.lists })
    }

    pub(crate) fn is_anchor(&self, key: &Key) -> bool {
        self.place(key).is_some_and(|place| place.is_anchor)
    }

    /// Asks the origin for a member, whole.
    pub(crate) async fn renew(&self, key: &Key, known: &Member) -> RefreshedMember {
        let failed = |kind| RefreshedMember::Failed(Error::new(Side::Proxy, kind));
        let waiter = Waiter::new();
        let request =
            RequestHead { method: Method::Get, target: Box::from(&*known.target), ..self.request.clone() };
        let exchange = Exchange::new(&self.context, &request, &self.log).on_behalf_of(self.client);
        let directives = RequestDirectives { no_cache: true, ..RequestDirectives::default() };
        let (arrived, place) = (Instant::now(), key.spare());
        let wanted = CacheRequest {
            exchange: &exchange,
            key,
            directives,
            policy: self.policy,
            arrived,
            place,
            proof: None,
        };
        for _ in 0..LOOKS {
            let permit = match self.context.shared.store.inflight.enter(key) {
                inflight::Turn::Lead(permit) => permit,
                inflight::Turn::Follow(fill) => {
                    fill.left(&waiter).await;
                    continue;
                }
                inflight::Turn::Full => break,
            };
            let before = known.open(&exchange, key).await;
            let found = self.context.shared.cache.find::<R>(&request, key).await;
            let kept = match (known.spare().and(before.as_ref()), found) {
                (Some(spare), _) => Some((**spare).clone()),
                (None, Ok(kept)) => kept,
                (None, Err(_)) => return RefreshedMember::Gone,
            };
            return match wanted.ask(permit, kept).await {
                FetchOutcome::Stored(kept, _) if kept.is_file() => {
                    self.renewed(&wanted, known, before, kept, None).await
                }
                FetchOutcome::Stored(..) => RefreshedMember::Gone,
                FetchOutcome::Filling { fill, follower, .. } => {
                    drop(follower);
                    let spare = self.spare(&wanted);
                    fill.left(&waiter).await;
                    match StoredResponse::of_fill::<R>(&fill, &waiter).await {
                        Some(kept) => self.renewed(&wanted, known, before, kept, spare).await,
                        None => RefreshedMember::Failed(member::failure(&fill, &waiter).await),
                    }
                }
                FetchOutcome::NotStored(answer, _) if is_origin_failure(answer.status) => {
                    RefreshedMember::Failed(Error::with(Side::Origin, Kind::Unavailable, answer.status))
                }
                // A login page in its place does not say that it is gone.
                FetchOutcome::NotStored(answer, _)
                    if contradicts_name(&answer, key, &self.context.shared.config) =>
                {
                    let why = BypassReason::ContentType.as_str();
                    RefreshedMember::Failed(Error::with(Side::Origin, Kind::Protocol, why))
                }
                FetchOutcome::NotStored(..) => RefreshedMember::Gone,
                // Vouched for towards one client, which proves nothing for the others.
                FetchOutcome::Confirmed(_) => failed(Kind::Abandoned),
                // Nobody is here who has said more.
                FetchOutcome::Bypass(_) => RefreshedMember::Gone,
                FetchOutcome::Failed(error, _) => RefreshedMember::Failed(error),
            };
        }
        failed(Kind::Abandoned)
    }

    /// What is being fetched for this and waits for its name when it is whole.
    pub(crate) fn spare(&self, wanted: &CacheRequest<'_, '_, R>) -> Option<Arc<Spare>> {
        let place = wanted.place.clone()?;
        Some(Arc::new(self.context.shared.store.spare(wanted.key, place)))
    }

    /// What has come for a member: is it what there was `before`?
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
        if let (true, Some(_), None) = (same, &spare, &before)
            && let Some(what) = StoredMember::of(&bytes)
        {
            // Somebody has removed the file: here it is again.
            let now = Member { target: Arc::clone(&known.target), what };
            let placed = (key.clone(), now.clone().placed(spare));
            return match self.name(vec![placed]).await {
                Ok(()) => RefreshedMember::Same(now),
                Err(error) => RefreshedMember::Failed(error),
            };
        }
        if same {
            // What there was stays, with all the tags that its bytes have had.
            let learnt = match &before {
                Some(before) => held::learn::<R>(&self.context.shared, key, &bytes, before).await,
                None => None,
            };
            let now = known.with(learnt.as_ref().unwrap_or(&bytes));
            return now.map_or(RefreshedMember::Gone, RefreshedMember::Same);
        }
        let Some(what) = StoredMember::of(&bytes) else { return RefreshedMember::Gone };
        let now = Member { target: Arc::clone(&known.target), what }.placed(spare);
        let before = match &before {
            Some(_) => known.sum(wanted.exchange, key, Proof::Sha256).await,
            None => None,
        };
        let bytes = now.sum(wanted.exchange, key, Proof::Sha256).await;
        RefreshedMember::Other { now, before, bytes }
    }

    /// Puts a member that is on its way into its generation as soon as it is there.
    pub(crate) fn settle(&self, generation: &Arc<Generation<Member>>, key: &Key, member: &Member) {
        let MemberState::Coming(fill) = &member.what else { return };
        let (fill, target) = (Arc::clone(fill), Arc::clone(&member.target));
        let (refresh, generation, key) = (self.clone(), Arc::clone(generation), key.clone());
        let busy = self.context.shared.stop.busy();
        spawn_guarded::<R>(busy, async move {
            let waiter = Waiter::new();
            fill.left(&waiter).await;
            let kept = StoredResponse::of_fill::<R>(&fill, &waiter).await;
            let this = |member: &Member| matches!(&member.what, MemberState::Coming(coming) if Arc::ptr_eq(coming, &fill));
            match kept.as_ref().and_then(StoredMember::of) {
                Some(what) if generation.get(&key).is_some_and(|known| this(&known)) => {
                    let member = Member { target, what };
                    let proof = refresh.proof(&generation, &key).await;
                    let fits = match &proof {
                        Some(listed) => refresh.is_as_listed(&key, &member, listed).await,
                        None => true,
                    };
                    if fits {
                        generation.put(&key, member);
                    } else {
                        generation.remove_if(&key, this);
                    }
                }
                Some(_) => {}
                None => generation.remove_if(&key, this),
            }
        });
    }

    /// Collects a new generation of these members, and switches to it. A task of its own: it goes on when the client
    /// leaves.
    pub(crate) fn collect(&self, turn: RefreshTurn<Member>, members: BTreeMap<Key, Member>) {
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
            let telling = self.telling(&members);
            let again = telling.first().cloned().into_iter().collect();
            let calm = self.update(&mut members, &mut seen, telling).await?
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
                // An origin that changes file by file is not through yet; most need more than a moment.
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

    /// Is the generation that there is kept for now, as not all of the next one can be had?
    fn waits(&self) -> bool {
        self.set.note_unfit();
        !self.set.is_unfit_for(UNFIT)
    }

    /// What has changed already since the current generation.
    async fn changed(&self, members: &BTreeMap<Key, Member>) -> Seen {
        let (mut seen, exchange) = (Seen::default(), Exchange::new(&self.context, &self.request, &self.log));
        let Some(current) = self.set.current() else { return seen };
        for (key, member) in members {
            let Some(known) = current.get(key).filter(|known| !known.is_as(member)) else { continue };
            let (before, now) = (known.open(&exchange, key).await, member.open(&exchange, key).await);
            if let (Some(before), Some(now)) = (before, now)
                && !is_same::<R>(&before, &now).await
            {
                let sum = Proof::Sha256;
                let sums = (known.sum(&exchange, key, sum).await, member.sum(&exchange, key, sum).await);
                seen.goes_back(key, sums.0, sums.1);
            }
        }
        seen
    }

    /// Brings members up to date; whether all are what they were. One that fails is left out, if others do not, and if
    /// it is not to be served stale. An error where one goes back to what it was before.
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
                RefreshedMember::Other { now, bytes, before } => {
                    if seen.goes_back(&key, before, bytes) {
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

    /// Asks for some of the members, several at a time, until so many have failed that no more need be asked for.
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
