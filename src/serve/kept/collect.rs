//! New generations of an index set: all members are asked for again until none has changed during a whole round.
//!
//! A member that stayed the same from before the others came until after that was there with all of them at one time.
//! So it is enough to ask at the end about those that tell of every change, the anchors, where a set has such;
//! without them it takes all. One of them is asked about once more: where two machines answer in turn, the second
//! answer is the other one's. An origin whose members go back to what they were before is several machines in different
//! states, of which no generation can be made.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::exchange::{Context, Exchange, LOOKS};
use super::super::head;
use super::super::storable::contradicts_name;
use super::ask::{self, Asked};
use super::member::{self, Member, Named, Print, What, is_same};
use super::stored::Kept;
use super::wanted::Wanted;
use super::{find, held};
use crate::error::{Error, Kind, Side};
use crate::http::caching::Policy;
use crate::http::caching::directives::RequestDirectives;
use crate::http::request::{Method, RequestHead};
use crate::http::response::is_origin_failure;
use crate::index::release;
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::outcome::Why;
use crate::preset::Place;
use crate::rt::gather::gather;
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, blocking, spawn_guarded};
use crate::store::inflight;
use crate::store::sets::{Generation, Set, Turn};

/// Members asked about at a time, each with a place of the worker's at the origin.
const AT_ONCE: usize = 16;
/// Rounds after which an origin that changes all the time is left alone.
const ROUNDS: u32 = 8;
/// Rounds that find what does not fit together.
const PATIENT_ROUNDS: u32 = 2;
/// Between two rounds; longer each time.
const PAUSE: Duration = Duration::from_millis(20);
/// So long the last state that fits is kept where the origin contradicts itself; then it is taken as it is. Mirrors
/// that take one file after the other need minutes.
pub(super) const UNFIT: Duration = Duration::from_secs(600);
/// What is needed to ask about a set, for a client or after it has gone.
pub(super) struct Errand<R: Runtime> {
    pub(super) context: Rc<Context<R>>,
    pub(super) set: Arc<Set<Member>>,
    /// The request that gave rise to it: the origin hears its fields.
    request: RequestHead,
    log: RequestLog,
    policy: Policy,
    /// The directory that holds the members, with a slash at its end; nothing at the top.
    root: String,
    /// InRelease and Release list the sizes of the others.
    release: bool,
}

impl<R: Runtime> Clone for Errand<R> {
    fn clone(&self) -> Self {
        Self {
            context: Rc::clone(&self.context),
            set: Arc::clone(&self.set),
            request: self.request.clone(),
            log: self.log.clone(),
            policy: self.policy,
            root: self.root.clone(),
            release: self.release,
        }
    }
}

/// A member as the origin has it now.
pub(super) enum Renewed {
    /// What it was.
    Same(Member),
    /// Another than before. Its bytes then and now, where they can be read: no descriptor, as there may be many.
    Other { now: Member, before: Option<Print>, bytes: Option<Print> },
    /// The origin has none, or none that can be kept.
    Gone,
    /// Nobody knows.
    Failed(Error),
}

/// The states that members have been in while a generation comes together.
#[derive(Default)]
pub(super) struct Seen(HashMap<Key, Vec<Print>>);

impl Seen {
    /// It has changed; whether it is what it has been before.
    fn goes_back(&mut self, key: &Key, before: Option<Print>, now: Option<Print>) -> bool {
        let states = self.0.entry(key.clone()).or_default();
        if states.is_empty() {
            states.extend(before);
        }
        let is_known = now.is_some_and(|now| states.contains(&now));
        states.extend(now);
        is_known
    }
}

/// The text of a Release file; empty if it cannot be read or is none.
fn read(kept: &Kept) -> String {
    let mut bytes = vec![0; usize::try_from(kept.size()).unwrap_or(usize::MAX).min(release::MOST)];
    match kept.read_at(&mut bytes, 0) {
        Ok(count) if count == bytes.len() => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(_) | Err(_) => String::new(),
    }
}

impl<R: Runtime> Errand<R> {
    pub(super) fn new(wanted: &Wanted<'_, '_, R>, set: Arc<Set<Member>>, place: Place<'_>) -> Self {
        let exchange = wanted.exchange;
        let context = Rc::clone(exchange.context);
        // The other members are for everybody: nothing that this client says beyond it goes along.
        let fields = head::carried(exchange.request, &wanted.along());
        let request = RequestHead { fields, ..exchange.request.clone() };
        let root = place.root.trim_start_matches('/');
        let root = if root.is_empty() { String::new() } else { format!("{root}/") };
        let (log, policy) = (exchange.log.clone(), wanted.policy);
        Self { context, set, request, log, policy, root, release: place.release }
    }

    /// How the origin is asked for the member that the request is about.
    pub(super) fn target(&self) -> Arc<[u8]> {
        Arc::from(&*self.request.target)
    }

    /// The members that tell whether any has changed.
    pub(super) fn telling(&self, members: &BTreeMap<Key, Member>) -> Vec<Key> {
        let anchors: Vec<Key> = members.keys().filter(|key| self.is_anchor(key)).cloned().collect();
        if anchors.is_empty() { members.keys().cloned().collect() } else { anchors }
    }

    fn is_anchor(&self, key: &Key) -> bool {
        let path = format!("/{}", key.as_str());
        self.context.shared.config.rules.place(&path).is_some_and(|place| place.is_anchor)
    }

    /// Asks the origin for a member, whole.
    pub(super) async fn renew(&self, key: &Key, known: &Member) -> Renewed {
        let failed = |kind| Renewed::Failed(Error::new(Side::Us, kind));
        let Ok(waiter) = Waiter::new() else { return failed(Kind::Io) };
        let request =
            RequestHead { method: Method::Get, target: Box::from(&*known.target), ..self.request.clone() };
        let exchange = Exchange::new(&self.context, &request, &self.log);
        let directives = RequestDirectives { no_cache: true, ..RequestDirectives::default() };
        let wanted =
            Wanted { exchange: &exchange, key, directives, policy: self.policy, arrived: Instant::now() };
        for _ in 0..LOOKS {
            let permit = match self.context.shared.store.inflight.enter(key) {
                inflight::Turn::Lead(permit) => permit,
                inflight::Turn::Follow(fill) => {
                    fill.left(&waiter).await;
                    continue;
                }
                inflight::Turn::Full => break,
            };
            let Ok(kept) = find::find(&exchange, key).await else { return Renewed::Gone };
            let held = self.hold(key, kept.as_ref()).await;
            let before = known.as_file(held.as_deref().or(kept.as_ref())).await;
            let renewed = match ask::ask(&wanted, permit, kept).await {
                Asked::Kept(kept, _) if kept.is_file() => self.renewed(key, known, before, kept).await,
                Asked::Kept(..) => Renewed::Gone,
                Asked::Filling { fill, follower, .. } => {
                    drop(follower);
                    fill.left(&waiter).await;
                    match Kept::of_fill(&fill, &waiter).await {
                        // The name leads to this one now.
                        Some(kept) => return self.renewed(key, known, before, kept).await,
                        None => Renewed::Failed(member::failure(&fill, &waiter).await),
                    }
                }
                Asked::NotKept(answer, _) if is_origin_failure(answer.status) => {
                    Renewed::Failed(Error::with(Side::Origin, Kind::Unavailable, answer.status))
                }
                // A login page in its place does not say that it is gone.
                Asked::NotKept(answer, _) if contradicts_name(&answer, key, &self.context.shared.config) => {
                    let why = Why::ContentType.as_str();
                    Renewed::Failed(Error::with(Side::Origin, Kind::Protocol, why))
                }
                Asked::NotKept(..) => Renewed::Gone,
                // Vouched for towards one client, which proves nothing for the others.
                Asked::Told(_) => failed(Kind::Abandoned),
                // Nobody is here who has said more.
                Asked::Own(_) => Renewed::Gone,
                Asked::Failed(error, _) => Renewed::Failed(error),
            };
            self.let_go(key, held.as_deref());
            return renewed;
        }
        failed(Kind::Abandoned)
    }

    /// What has come for a member: is it what there was `before`?
    pub(super) async fn renewed(
        &self,
        key: &Key,
        known: &Member,
        before: Option<Arc<Kept>>,
        now: Kept,
    ) -> Renewed {
        let bytes = Arc::new(now);
        let same = match &before {
            Some(before) => is_same(before, &bytes).await,
            None => known.has_tag_of(&bytes),
        };
        let member = |kept: &Kept| {
            let what = Named::of(kept)?;
            Some(Member { target: Arc::clone(&known.target), what })
        };
        let learnt = match &before {
            Some(before) if same => held::learn(&self.context.shared, key, &bytes, before).await,
            Some(_) | None => None,
        };
        match member(learnt.as_ref().unwrap_or(&bytes)) {
            Some(now) if same => Renewed::Same(now),
            Some(now) => {
                let print = match &before {
                    Some(before) => Print::of(before).await,
                    None => None,
                };
                Renewed::Other { now, before: print, bytes: Print::of(&bytes).await }
            }
            None => Renewed::Gone,
        }
    }

    /// Opens the member of the current generation: its name may lead to another file afterwards. `kept` is what it
    /// leads to.
    pub(super) async fn hold(&self, key: &Key, kept: Option<&Kept>) -> Option<Arc<Kept>> {
        held::hold::<R>(&self.context.shared, &self.set.current()?, key, kept).await
    }

    /// Its name leads to it still.
    pub(super) fn let_go(&self, key: &Key, held: Option<&Kept>) {
        if let (Some(generation), Some(held)) = (self.set.current(), held) {
            held::let_go(&generation, key, held);
        }
    }

    /// Puts a member that is on its way into its generation as soon as it is there.
    pub(super) fn settle(&self, generation: &Arc<Generation<Member>>, key: &Key, member: &Member) {
        let What::Coming(fill) = &member.what else { return };
        let (fill, target) = (Arc::clone(fill), Arc::clone(&member.target));
        let (generation, key) = (Arc::clone(generation), key.clone());
        let busy = self.context.shared.stop.busy();
        spawn_guarded::<R>(busy, async move {
            let Ok(waiter) = Waiter::new() else { return };
            fill.left(&waiter).await;
            let kept = Kept::of_fill(&fill, &waiter).await;
            let this =
                |member: &Member| matches!(&member.what, What::Coming(coming) if Arc::ptr_eq(coming, &fill));
            match kept.as_ref().and_then(Named::of) {
                Some(what) if generation.get(&key).is_some_and(|known| this(&known)) => {
                    generation.put(&key, Member { target, what });
                }
                Some(_) => {}
                None => generation.remove_if(&key, this),
            }
        });
    }

    /// Collects a new generation of these members, and switches to it. A task of its own: it goes on when the client
    /// leaves.
    pub(super) fn collect(&self, turn: Turn<Member>, members: BTreeMap<Key, Member>) {
        let errand = self.clone();
        let busy = self.context.shared.stop.busy();
        self.log.debug(format_args!("an index set has changed - collecting {} files", members.len()));
        spawn_guarded::<R>(busy, async move {
            match errand.collected(members).await {
                Ok(members) => turn.switch(Generation::new(members)),
                Err(error) => {
                    errand.log.debug(format_args!("an index set stays as it was - {error}"));
                    turn.fail(error);
                }
            }
        });
    }

    async fn collected(&self, mut members: BTreeMap<Key, Member>) -> Result<BTreeMap<Key, Member>, Error> {
        // One file fits itself.
        if members.len() == 1 {
            return Ok(members);
        }
        let (mut unfit, mut seen) = (0, self.changed(&members).await);
        for round in 1..=ROUNDS {
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
                if self.fits(&members).await || self.set.is_unfit_for(UNFIT) {
                    return Ok(members);
                }
                // An origin that changes file by file is not through yet; most need more than a moment.
                unfit += 1;
                if unfit == PATIENT_ROUNDS {
                    self.set.note_unsettled();
                    break;
                }
            }
            R::sleep(PAUSE * round).await;
        }
        Err(Error::new(Side::Us, Kind::Superseded))
    }

    /// What has changed already since the current generation.
    async fn changed(&self, members: &BTreeMap<Key, Member>) -> Seen {
        let (mut seen, exchange) = (Seen::default(), Exchange::new(&self.context, &self.request, &self.log));
        let Some(current) = self.set.current() else { return seen };
        for (key, member) in members {
            let Some(known) = current.get(key).filter(|known| !known.is_as(member)) else { continue };
            let (before, now) = (known.open(&exchange, key).await, member.open(&exchange, key).await);
            if let (Some(before), Some(now)) = (before, now)
                && !is_same(&before, &now).await
            {
                seen.goes_back(key, Print::of(&before).await, Print::of(&now).await);
            }
        }
        seen
    }

    /// Have the members the sizes that the Release file among them lists, if there is one?
    pub(super) async fn fits(&self, members: &BTreeMap<Key, Member>) -> bool {
        let name = |key: &Key| key.as_str().strip_prefix(&self.root).unwrap_or_default().to_owned();
        let is_release = |(key, _): &(&Key, &Member)| matches!(&*name(key), "InRelease" | "Release");
        let Some(release) = members.iter().find(is_release).filter(|_| self.release) else {
            return true;
        };
        let (key, release) = release;
        let Some(release) = release.open(&Exchange::new(&self.context, &self.request, &self.log), key).await
        else {
            return true;
        };
        let mut sizes = Vec::with_capacity(members.len());
        for (key, member) in members {
            sizes.extend(member.size().await.map(|size| (name(key), size)));
        }
        let fits = move || {
            let text = read(&release);
            let listed = release::sizes(&text);
            sizes.iter().all(|(name, size)| listed.get(&**name).is_none_or(|listed| listed == size))
        };
        let fits = blocking::run(&blocking::READS, fits).await.unwrap_or(true);
        self.set.note_fit(fits);
        fits
    }

    /// Brings members up to date; whether all are what they were. An error where one goes back to what it was before.
    async fn update(
        &self,
        members: &mut BTreeMap<Key, Member>,
        seen: &mut Seen,
        keys: Vec<Key>,
    ) -> Result<bool, Error> {
        let mut calm = true;
        for (key, renewed) in self.renew_all(members, keys).await {
            match renewed {
                Renewed::Same(now) => drop(members.insert(key, now)),
                Renewed::Other { now, bytes, before } => {
                    if seen.goes_back(&key, before, bytes) {
                        let is_back = "an index file is again what it was before";
                        self.log.debug(format_args!("{is_back}: {}", key.as_str()));
                        self.set.note_unsettled();
                        return Err(Error::new(Side::Us, Kind::Superseded));
                    }
                    members.insert(key, now);
                    calm = false;
                }
                Renewed::Gone => {
                    members.remove(&key);
                    calm = false;
                }
                Renewed::Failed(error) => return Err(error),
            }
        }
        Ok(calm)
    }

    /// Asks for some of the members, several at a time, until one fails.
    pub(super) async fn renew_all(
        &self,
        members: &BTreeMap<Key, Member>,
        keys: Vec<Key>,
    ) -> Vec<(Key, Renewed)> {
        let known = keys.into_iter().filter_map(|key| members.get(&key).map(|known| (key, known)));
        let renew = |(key, known)| async move {
            let renewed = self.renew(&key, known).await;
            (key, renewed)
        };
        gather(AT_ONCE, known.map(renew), |(_, renewed)| matches!(renewed, Renewed::Failed(_))).await
    }
}
