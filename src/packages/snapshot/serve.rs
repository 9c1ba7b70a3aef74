//! Members of an index set: every client sees them as they were together at the origin.
//!
//! A client that begins gets the current generation, once the origin has been asked about the member that it wants.
//! If that has changed, a new generation is collected first (`refresh`). A client that continues gets what is in its
//! generation; a member that nobody has asked for yet joins it, if the origin has not changed since (`admit`).
//!
//! One loop does the steps; a step says what comes next and calls no other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::generations::{Access, Generation, RefreshTurn, SetId, Who};
use super::member::{Member, MemberState};
use super::refresh::Refresh;
use crate::cache::response::StoredResponse;
use crate::downstream::client::Client;
use crate::error::{Error, Kind, Side};
use crate::http::caching::reuse::{self, Reuse};
use crate::http::caching::stored::StoredHead;
use crate::http::request::Method;
use crate::key::Key;
use crate::outcome::{self, BypassReason, Stale};
use crate::proxy::exchange::LOOKS;
use crate::proxy::loops;
use crate::proxy::next::{FreshnessPolicy, Next};
use crate::proxy::revalidated::wanted::CacheRequest;
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, timeout};
use crate::sys::{clock, socket};

/// How long a client waits for a new generation before it gets the one that there is. Below the patience of package
/// managers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client waits in all while the origin's file is not the listed one, before it gets that file.
const MISFIT_WAIT: Duration = Duration::from_secs(2);
/// How long before each further attempt.
const MISFITS: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(600),
    Duration::from_millis(1000),
];

/// What comes next for a request.
pub(crate) enum SnapshotStep<R: Runtime> {
    /// It is answered with this member.
    Member(Served),
    /// Take the next step from the beginning.
    Again,
    /// The same a little later: the origin's file is not the listed one.
    Misfit,
    /// The end of the steps here.
    Done(Next<R>),
}

/// A member of a generation for a client, which `begins` with it or continues.
pub(crate) struct Served {
    pub(crate) generation: Arc<Generation>,
    pub(crate) member: Member,
    pub(crate) begins: bool,
    pub(crate) how: outcome::CacheUse,
}

/// What a set has of a member for a client.
pub(crate) enum SetState {
    /// No generation.
    Empty,
    /// A generation without the member.
    Without(Arc<Generation>),
    /// A generation with it.
    With(Arc<Generation>, Member),
}

impl SetState {
    fn of(generation: Option<Arc<Generation>>, key: &Key) -> Self {
        match generation.map(|generation| (generation.get(key), generation)) {
            Some((Some(member), generation)) => Self::With(generation, member),
            Some((None, generation)) => Self::Without(generation),
            None => Self::Empty,
        }
    }

    pub(crate) fn generation(&self) -> Option<&Arc<Generation>> {
        match self {
            Self::Empty => None,
            Self::Without(generation) | Self::With(generation, _) => Some(generation),
        }
    }
}

/// A request whose turn it is to ask the origin.
pub(crate) struct Asking {
    pub(crate) turn: RefreshTurn,
    pub(crate) state: SetState,
    pub(crate) begins: bool,
}

/// One request for a member.
pub(crate) struct SnapshotRequest<'a, 'b, 'c, R: Runtime> {
    pub(crate) wanted: &'a CacheRequest<'b, 'c, R>,
    pub(crate) refresh: Refresh<R>,
    pub(crate) id: SetId,
    pub(crate) who: Who,
}

/// The next step of a request for a member of a set; [`Next::Use`] where the set has nothing to do with it.
pub(crate) async fn step<R: Runtime>(wanted: &CacheRequest<'_, '_, R>, client: &Client<R>) -> Next<R> {
    let (exchange, key) = (wanted.exchange, wanted.key);
    if let Err(why) = wanted.is_of_class() {
        return Next::Pass(why);
    }
    let rules = &exchange.context.shared.config.rules;
    let path = format!("/{}", key.as_str());
    let (Some(place), Ok(peer)) = (rules.place(&path), socket::peer_address(&client.socket)) else {
        return apart();
    };
    if exchange.request.fields.contains("authorization") {
        // A user's own response neither joins the set nor replaces its files.
        return Next::Pass(BypassReason::Authorization);
    }
    if !key.names_a_file() {
        return apart();
    }
    let id = SetId { rule: place.rule, root: place.root.to_owned() };
    let refresh = Refresh::new(wanted, exchange.context.shared.packages.sets.get(&id), place);
    let visit = SnapshotRequest { wanted, refresh, id, who: Who(peer) };
    if wanted.directives.no_store {
        visit.continue_with_stored().await.unwrap_or(apart())
    } else if loops::has_looped(exchange.request) || exchange.has_returned() {
        // The exchange that it would wait for waits for this very request.
        apart()
    } else {
        visit.run().await
    }
}

/// The next step where the set has nothing to do with the request.
pub(crate) fn apart<R: Runtime>() -> Next<R> {
    Next::Use(FreshnessPolicy::Revalidate)
}

/// The origin has files of another generation than the client has read.
pub(crate) fn superseded() -> Error {
    Error::new(Side::Proxy, Kind::Superseded)
}

impl<R: Runtime> SnapshotRequest<'_, '_, '_, R> {
    async fn run(&self) -> Next<R> {
        let (mut misfits, mut misfit_since) = (MISFITS.iter(), None);
        for _ in 0..LOOKS + MISFITS.len() {
            // HEAD fetches nothing into the cache.
            if self.access() == Access::Head && !self.is_there() {
                return apart();
            }
            match self.step().await {
                SnapshotStep::Again => {}
                SnapshotStep::Misfit => match misfits.next() {
                    Some(wait) if misfit_since.get_or_insert_with(Instant::now).elapsed() < MISFIT_WAIT => {
                        R::sleep(*wait).await;
                    }
                    Some(_) | None => return Next::Pass(BypassReason::Mismatch),
                },
                SnapshotStep::Member(served) => {
                    if let Some(next) = self.answer(served).await {
                        return next;
                    }
                }
                SnapshotStep::Done(next) => return next,
            }
        }
        self.failed(superseded(), None)
    }

    /// The same for a request that wants nothing stored, if its client continues with a generation that has the member.
    async fn continue_with_stored(&self) -> Option<Next<R>> {
        let generation = self.pinned()?;
        let (member, how) = (generation.get(self.key())?, outcome::CacheUse::Hit);
        self.answer(Served { generation, member, begins: false, how }).await
    }

    /// Answers with a member. `None`: it is not there any more.
    async fn answer(&self, Served { generation, member, begins, how }: Served) -> Option<Next<R>> {
        if let MemberState::Filling(fill) = &member.what {
            self.pin(&generation, begins);
            self.wanted.debug("download in progress - response follows it");
            return Some(Next::follow(Arc::clone(fill)));
        }
        let Some(kept) = member.open(self.wanted.exchange, self.key()).await else {
            // The file has been removed or replaced on the disk: the generation is without it.
            let is_named =
                |known: &Member| matches!(known.what, MemberState::StoredMember(_)) && known.is_as(&member);
            generation.remove_if(self.key(), is_named);
            return None;
        };
        self.pin(&generation, begins);
        Some(Next::Stored(Box::new(StoredResponse::clone(&kept)), how))
    }

    pub(crate) fn key(&self) -> &Key {
        self.wanted.key
    }

    pub(crate) fn pinned(&self) -> Option<Arc<Generation>> {
        self.refresh.context.shared.packages.sets.pinned(self.who, &self.id, self.key())
    }

    pub(crate) fn pin(&self, generation: &Arc<Generation>, begins: bool) {
        let (sets, of) = (&self.refresh.context.shared.packages.sets, (&self.refresh.set, generation));
        sets.pin(self.who, &self.id, self.key(), of, (begins, self.access()));
    }

    pub(crate) fn access(&self) -> Access {
        if self.wanted.exchange.request.method == Method::Head { Access::Head } else { Access::Read }
    }

    /// Whether it is in the generation of this client, or in the current one.
    fn is_there(&self) -> bool {
        let generations = [self.pinned(), self.refresh.set.current()];
        generations.into_iter().flatten().any(|generation| generation.get(self.key()).is_some())
    }

    async fn step(&self) -> SnapshotStep<R> {
        let Some(generation) = self.pinned() else {
            return match self.at_once() {
                Some(served) => SnapshotStep::Member(served),
                None => self.ask(None).await,
            };
        };
        match generation.get(self.key()) {
            Some(member) => {
                let how = outcome::CacheUse::Hit;
                SnapshotStep::Member(Served { generation, member, begins: false, how })
            }
            None if self.refresh.set.is_current(&generation) => self.ask(Some(generation)).await,
            None => self.carry_over(&generation).await,
        }
    }

    /// What a client that begins gets without validation: what is fresh, or what there is while no new generation can
    /// be collected.
    fn at_once(&self) -> Option<Served> {
        let generation = self.refresh.set.current()?;
        let member = generation.get(self.key())?;
        let rests = || self.refresh.set.rests().then_some(outcome::CacheUse::Stale(Stale::WhileRevalidate));
        let how = self.how_fresh(&member).or_else(rests)?;
        Some(Served { generation, member, begins: true, how })
    }

    /// How a member may be used without validation.
    fn how_fresh(&self, member: &Member) -> Option<outcome::CacheUse> {
        match (&member.what, member.stored_head()) {
            (MemberState::Filling(fill), _) if fill.is_whole() && !fill.is_unfit() => {
                // It may be waiting for its name.
                let kept = fill.kept()?;
                self.how_good(&kept.head, Some(kept.checked))
            }
            (_, Some((head, checked))) => self.how_good(head, checked),
            (_, None) => Some(outcome::CacheUse::Fetched),
        }
    }

    fn how_good(&self, head: &StoredHead, checked: Option<Instant>) -> Option<outcome::CacheUse> {
        if checked.is_some_and(|checked| checked > self.wanted.arrived) {
            return Some(outcome::CacheUse::Revalidated);
        }
        let (now, wanted) = (clock::unix_secs(), self.wanted);
        let verdict = reuse::decide(head, &wanted.directives, now, &wanted.policy);
        (verdict == Reuse::Fresh).then_some(outcome::CacheUse::Hit)
    }

    /// Asks the origin, one request of the set at a time. `pinned`: the client continues with this generation.
    async fn ask(&self, pinned: Option<Arc<Generation>>) -> SnapshotStep<R> {
        let waiter = Waiter::new();
        let (set, begins) = (&self.refresh.set, pinned.is_none());
        // A client that could begin with the current generation shares the deadline of those that wait already.
        let busy = if self.is_there() { set.busy_for() } else { Duration::ZERO };
        let entered = timeout::<R, _>(PATIENCE.saturating_sub(busy), set.enter(&waiter)).await;
        let state = SetState::of(pinned.clone().or_else(|| set.current()), self.key());
        let Ok(turn) = entered else { return self.too_late(state, begins) };
        // Another request has asked meanwhile.
        let done = match (&pinned, &state) {
            (Some(_), SetState::With(..)) => true,
            (Some(generation), _) => !set.is_current(generation),
            (None, _) => self.at_once().is_some(),
        };
        if done || matches!(state, SetState::Empty) && self.take_up_stored(&turn).await {
            return SnapshotStep::Again;
        }
        let asking = Asking { turn, state, begins };
        if let Some(error) = set.failed_since(self.wanted.arrived, self.key()) {
            let found =
                self.refresh.context.shared.cache.find::<R>(self.wanted.exchange.request, self.key()).await;
            return self.without_origin(&asking, error, found.ok().flatten()).await;
        }
        if self.wanted.directives.only_if_cached {
            return SnapshotStep::Done(self.failed(Error::new(Side::Origin, Kind::NotCached), None));
        }
        match &asking.state {
            SetState::Without(generation) if !generation.has_room() => SnapshotStep::Done(apart()),
            SetState::Empty | SetState::Without(_) | SetState::With(..) => {
                self.ask_in_turn(asking, &waiter).await
            }
        }
    }

    /// The deadline has passed: a new generation is still being collected.
    fn too_late(&self, state: SetState, begins: bool) -> SnapshotStep<R> {
        match state {
            SetState::With(generation, member) => {
                let how = outcome::CacheUse::Stale(Stale::WhileRevalidate);
                SnapshotStep::Member(Served { generation, member, begins, how })
            }
            SetState::Empty | SetState::Without(_) if begins => {
                SnapshotStep::Done(Next::Pass(BypassReason::Mismatch))
            }
            SetState::Empty | SetState::Without(_) => {
                SnapshotStep::Done(self.failed(Error::new(Side::Proxy, Kind::Timeout), None))
            }
        }
    }
}
