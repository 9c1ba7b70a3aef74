//! Members of an index set: every client sees them as they were together at the origin.
//!
//! A client that begins gets the current generation, once the origin has been asked about the member that it wants.
//! If that has changed, a new generation is collected first (`collect`). A client that goes on gets what is in its
//! generation; what nobody has asked for yet joins it, if the origin has not changed since.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::member::{self, Member, MemberState, StoredMember};
use super::refresh::Refresh;
use super::table::{Access, Generation, RefreshTurn, SetId, Who};
use crate::cache::fill::NoFile;
use crate::cache::inflight;
use crate::cache::response::StoredResponse;
use crate::downstream::client::Client;
use crate::error::{Error, Kind, Side};
use crate::http::caching::reuse::{self, Reuse};
use crate::http::caching::stored::StoredHead;
use crate::http::request::Method;
use crate::http::response::ResponseHead;
use crate::key::Key;
use crate::outcome::{self, BypassReason, Stale};
use crate::proxy::exchange::LOOKS;
use crate::proxy::fetch::origin;
use crate::proxy::loops;
use crate::proxy::next::{FreshnessPolicy, Next};
use crate::proxy::passing::Passing;
use crate::proxy::revalidated::ask::FetchOutcome;
use crate::proxy::revalidated::wanted::CacheRequest;
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, timeout};
use crate::sys::{clock, socket};

/// How long a client waits for a new generation before it gets the one that there is. Below the patience of package
/// managers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client waits in all while the origin has not what its generation lists, before it gets what the origin
/// has.
const MISFIT_WAIT: Duration = Duration::from_secs(2);
/// How long before each further attempt.
const MISFITS: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(600),
    Duration::from_millis(1000),
];

/// How long a member must be fetched for until its client gets the beginning, without knowing whether it will fit.
const PROOF_WAIT: Duration = Duration::from_secs(1);

/// Whether the set has to do with the request, and with what it is answered.
pub(crate) enum SnapshotStep<R: Runtime> {
    /// With a member of a generation. The client `begins` with it.
    Member { generation: Arc<Generation<Member>>, member: Member, begins: bool, how: outcome::CacheUse },
    /// Look again.
    Again,
    /// Look again, a little later: what the origin has does not fit together.
    Misfit,
    /// As any other path.
    Apart,
    /// With this, which is no file: no member either.
    Alone(StoredResponse, outcome::CacheUse),
    /// With what the origin says, which is not kept.
    Relay(Box<ResponseHead>, Box<Passing<R>>),
    /// With what the origin says to the client's own request.
    Own(BypassReason),
    /// With an error, or what there is of the member.
    Failed(Error, Option<(Arc<Generation<Member>>, Arc<StoredResponse>)>),
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
    let exchange = wanted.exchange;
    if let Err(why) = wanted.is_of_class() {
        return Next::Pass(why);
    }
    let rules = &exchange.context.shared.config.rules;
    if exchange.request.fields.contains("authorization")
        && rules.place(&format!("/{}", wanted.key.as_str())).is_some()
    {
        // What one user may see neither joins the set nor takes the place of its files.
        return Next::Pass(BypassReason::Authorization);
    }
    let next = if wanted.directives.no_store {
        go_on(wanted, client).await
    } else if loops::has_looped(exchange.request) || exchange.has_returned() {
        // Not to wait for an exchange that waits for this very request.
        None
    } else {
        visit(wanted, client).await
    };
    next.unwrap_or(Next::Use(FreshnessPolicy::Revalidate))
}

/// Visits the set. `None`: it is none, or has nothing to do with the request.
async fn visit<R: Runtime>(wanted: &CacheRequest<'_, '_, R>, client: &Client<R>) -> Option<Next<R>> {
    let visit = SnapshotRequest::new(wanted, client)?;
    let is_head = visit.access() == Access::Head;
    let mut misfits = MISFITS.iter();
    let mut misfit_since = None;
    for _ in 0..LOOKS + MISFITS.len() {
        // HEAD fetches nothing into the cache.
        if is_head && !visit.is_there() {
            return None;
        }
        return Some(match visit.step().await {
            SnapshotStep::Again => continue,
            SnapshotStep::Misfit => match misfits.next() {
                Some(wait) if misfit_since.get_or_insert_with(Instant::now).elapsed() < MISFIT_WAIT => {
                    R::sleep(*wait).await;
                    continue;
                }
                Some(_) | None => Next::Pass(BypassReason::Mismatch),
            },
            SnapshotStep::Apart => return None,
            SnapshotStep::Member { generation, member, begins, how } => {
                match visit.answer(&generation, &member, begins, how).await {
                    Some(next) => next,
                    None => continue,
                }
            }
            SnapshotStep::Alone(kept, how) => Next::Stored(Box::new(kept), how),
            SnapshotStep::Relay(_, _) if wanted.is_in_other_form() => Next::Pass(BypassReason::OtherForm),
            SnapshotStep::Relay(answer, body) if is_head => {
                origin::settle(body.rest);
                Next::RelayHead(answer)
            }
            SnapshotStep::Relay(answer, body) => Next::hand_on(*answer, *body),
            SnapshotStep::Own(why) => Next::Pass(why),
            SnapshotStep::Failed(error, kept) => visit.failed(error, kept),
        });
    }
    Some(visit.failed(Error::new(Side::Proxy, Kind::Superseded), None))
}

/// The same for one that wants nothing stored, if its client goes on with a generation that has the member.
async fn go_on<R: Runtime>(wanted: &CacheRequest<'_, '_, R>, client: &Client<R>) -> Option<Next<R>> {
    let visit = SnapshotRequest::new(wanted, client)?;
    let generation = visit.pinned()?;
    let member = generation.get(visit.key())?;
    visit.answer(&generation, &member, false, outcome::CacheUse::Hit).await
}

impl<'a, 'b, 'c, R: Runtime> SnapshotRequest<'a, 'b, 'c, R> {
    fn new(wanted: &'a CacheRequest<'b, 'c, R>, client: &Client<R>) -> Option<Self> {
        let shared = &wanted.exchange.context.shared;
        let rules = &shared.config.rules;
        if rules.is_empty() || !wanted.key.names_a_file() {
            return None;
        }
        let path = format!("/{}", wanted.key.as_str());
        let place = rules.place(&path)?;
        let id = SetId { rule: place.rule, root: place.root.to_owned() };
        let who = Who(socket::peer_address(&client.socket).ok()?);
        let refresh = Refresh::new(wanted, shared.sets.get(&id), place);
        Some(Self { wanted, refresh, id, who })
    }

    /// Answers with a member. `None`: it is not there any more.
    async fn answer(
        &self,
        generation: &Arc<Generation<Member>>,
        member: &Member,
        begins: bool,
        how: outcome::CacheUse,
    ) -> Option<Next<R>> {
        let exchange = self.wanted.exchange;
        if let MemberState::Coming(fill) = &member.what {
            self.pin(generation, begins);
            self.wanted.debug("download in progress - response follows it");
            return Some(Next::follow(Arc::clone(fill)));
        }
        let Some(kept) = member.open(exchange, self.key()).await else {
            // Somebody has removed or replaced the file: as if nobody had asked for it yet.
            let is_named =
                |known: &Member| matches!(known.what, MemberState::StoredMember(_)) && known.is_as(member);
            generation.remove_if(self.key(), is_named);
            return None;
        };
        self.pin(generation, begins);
        Some(Next::Stored(Box::new(StoredResponse::clone(&kept)), how))
    }

    pub(crate) fn key(&self) -> &Key {
        self.wanted.key
    }

    async fn stored(&self) -> Result<Option<StoredResponse>, BypassReason> {
        let exchange = self.wanted.exchange;
        exchange.context.shared.cache.find::<R>(exchange.request, self.key()).await
    }

    pub(crate) fn pinned(&self) -> Option<Arc<Generation<Member>>> {
        self.refresh.context.shared.sets.pinned(self.who, &self.id, self.key())
    }

    pub(crate) fn pin(&self, generation: &Arc<Generation<Member>>, begins: bool) {
        self.refresh.context.shared.sets.pin(
            self.who,
            &self.id,
            self.key(),
            (&self.refresh.set, generation),
            (begins, self.access()),
        );
    }

    pub(crate) fn access(&self) -> Access {
        if self.wanted.exchange.request.method == Method::Head { Access::Head } else { Access::Read }
    }

    /// Is it in the generation of this client, or in the current one?
    fn is_there(&self) -> bool {
        let generations = [self.pinned(), self.refresh.set.current()];
        generations.into_iter().flatten().any(|generation| generation.get(self.key()).is_some())
    }

    async fn step(&self) -> SnapshotStep<R> {
        match self.pinned() {
            Some(generation) => match generation.get(self.key()) {
                Some(member) => {
                    SnapshotStep::Member { generation, member, begins: false, how: outcome::CacheUse::Hit }
                }
                None if self.refresh.set.is_current(&generation) => self.ask(Some(generation)).await,
                None => self.carry_over(&generation).await,
            },
            None => match self.at_once() {
                Some(step) => step,
                None => self.ask(None).await,
            },
        }
    }

    /// What a client that begins gets without a word of the origin: what is fresh, or what there is while no new
    /// generation comes together.
    fn at_once(&self) -> Option<SnapshotStep<R>> {
        self.good().or_else(|| {
            let generation = self.refresh.set.current().filter(|_| self.refresh.set.rests())?;
            let member = generation.get(self.key())?;
            let how = outcome::CacheUse::Stale(Stale::WhileRevalidate);
            Some(SnapshotStep::Member { generation, member, begins: true, how })
        })
    }

    /// The member in the current generation, if it is fresh.
    fn good(&self) -> Option<SnapshotStep<R>> {
        let generation = self.refresh.set.current()?;
        let member = generation.get(self.key())?;
        let how = match (&member.what, member.told()) {
            (MemberState::Coming(fill), _) if fill.is_whole() && !fill.is_unfit() => {
                // It may wait for its name for a while.
                let kept = fill.kept()?;
                self.how_good(&kept.head, Some(kept.checked))?
            }
            (_, Some((head, checked))) => self.how_good(head, checked)?,
            (_, None) => outcome::CacheUse::Fetched,
        };
        Some(SnapshotStep::Member { generation, member, begins: true, how })
    }

    /// May it be used without a word of the origin?
    fn how_good(&self, head: &StoredHead, checked: Option<Instant>) -> Option<outcome::CacheUse> {
        if checked.is_some_and(|checked| checked > self.wanted.arrived) {
            return Some(outcome::CacheUse::Revalidated);
        }
        let (now, wanted) = (clock::unix_secs(), self.wanted);
        let verdict = reuse::decide(head, &wanted.directives, now, &wanted.policy);
        (verdict == Reuse::Fresh).then_some(outcome::CacheUse::Hit)
    }

    /// Asks the origin, one client of the set at a time. `pinned`: the client goes on with this generation.
    async fn ask(&self, pinned: Option<Arc<Generation<Member>>>) -> SnapshotStep<R> {
        let waiter = Waiter::new();
        // Who has something to begin with does not wait anew for what others have waited for.
        let busy = if self.is_there() { self.refresh.set.busy_for() } else { Duration::ZERO };
        let patience = PATIENCE.saturating_sub(busy);
        let entered = timeout::<R, _>(patience, self.refresh.set.enter(&waiter)).await;
        let current = pinned.clone().or_else(|| self.refresh.set.current());
        let had = current.as_ref().and_then(|generation| generation.get(self.key()));
        let Ok(turn) = entered else {
            // A new generation is on its way, and takes its time.
            return match (current, had) {
                (Some(generation), Some(member)) => {
                    let how = outcome::CacheUse::Stale(Stale::WhileRevalidate);
                    SnapshotStep::Member { generation, member, begins: pinned.is_none(), how }
                }
                _ if pinned.is_none() => SnapshotStep::Own(BypassReason::Mismatch),
                _ => SnapshotStep::Failed(Error::new(Side::Proxy, Kind::Timeout), None),
            };
        };
        // Somebody else has asked meanwhile.
        let done = match &pinned {
            Some(generation) => had.is_some() || !self.refresh.set.is_current(generation),
            None => self.at_once().is_some(),
        };
        if done || current.is_none() && self.take_up_left(&turn).await {
            return SnapshotStep::Again;
        }
        if let Some(error) = self.refresh.set.failed_since(self.wanted.arrived, self.key()) {
            let kept = self.stored().await.ok().flatten();
            return self.without_origin(&turn, error, current, had, kept).await;
        }
        if self.wanted.directives.only_if_cached {
            return SnapshotStep::Failed(Error::new(Side::Origin, Kind::NotCached), None);
        }
        if had.is_none() && current.as_ref().is_some_and(|generation| !generation.has_room()) {
            return SnapshotStep::Apart;
        }
        self.ask_in_turn(turn, current, had, pinned.is_none(), &waiter).await
    }

    async fn ask_in_turn(
        &self,
        turn: RefreshTurn<Member>,
        current: Option<Arc<Generation<Member>>>,
        had: Option<Member>,
        begins: bool,
        waiter: &Waiter,
    ) -> SnapshotStep<R> {
        let (wanted, exchange) = (self.wanted, self.wanted.exchange);
        let permit = match exchange.context.shared.store.inflight.enter(self.key()) {
            inflight::Turn::Lead(permit) => permit,
            inflight::Turn::Follow(fill) => {
                fill.left(waiter).await;
                return SnapshotStep::Again;
            }
            inflight::Turn::Full => return SnapshotStep::Apart,
        };
        let Ok(kept) = self.stored().await else { return SnapshotStep::Apart };
        let before = match &had {
            Some(had) => had.open(exchange, self.key()).await,
            None => None,
        };
        let proof = match (&had, &current) {
            (None, Some(generation)) => self.refresh.proof(generation, self.key()).await,
            (Some(_), _) | (None, None) => None,
        };
        // One that replaces another waits for its name until all of them are there.
        let place = had.as_ref().and_then(|_| self.key().spare());
        let wanted = &CacheRequest { place, proof, ..*wanted };
        match (wanted.ask(permit, kept).await, had) {
            (FetchOutcome::Stored(kept, how), Some(had)) if kept.is_file() => {
                let renewed = self.refresh.renewed(wanted, &had, before, kept, None).await;
                self.compared(turn, current, renewed, how).await
            }
            (FetchOutcome::Stored(kept, how), _) => match StoredMember::of(&kept) {
                None => SnapshotStep::Alone(kept, how),
                Some(what) => self.first(turn, current, self.member(what), begins, how).await,
            },
            (FetchOutcome::Filling { fill, follower, .. }, Some(had)) => {
                drop(follower);
                let spare = self.refresh.spare(wanted);
                fill.left(waiter).await;
                let Some(kept) = StoredResponse::of_fill::<R>(&fill, waiter).await else {
                    let error = member::failure(&fill, waiter).await;
                    return SnapshotStep::Failed(error, current.zip(before));
                };
                let renewed = self.refresh.renewed(wanted, &had, before, kept, spare).await;
                self.compared(turn, current, renewed, outcome::CacheUse::Fetched).await
            }
            (FetchOutcome::Filling { fill, follower, .. }, None) => {
                let how = outcome::CacheUse::Fetched;
                let member = self.member(MemberState::Coming(Arc::clone(&fill)));
                let Some((_, generation)) = wanted.proof.as_ref().zip(current.clone()) else {
                    return self.first(turn, current, member, begins, how).await;
                };
                let ended = timeout::<R, _>(PROOF_WAIT, fill.left(waiter)).await;
                // A client that has the beginning gets the end as well, if the origin has nothing better.
                if ended.is_err() && self.is_still_listed(&generation).await {
                    fill.give_anyway();
                }
                drop(follower);
                match fill.answer(waiter).await {
                    Err(NoFile::Failed(error)) if error.kind == Kind::Mismatch => {
                        self.misfit(turn, generation).await
                    }
                    Err(NoFile::Failed(error)) => SnapshotStep::Failed(error, None),
                    Ok(_) | Err(_) => self.first(turn, current, member, begins, how).await,
                }
            }
            (FetchOutcome::Confirmed(kept), _) => SnapshotStep::Alone(kept, outcome::CacheUse::Revalidated),
            (FetchOutcome::Bypass(why), _) => SnapshotStep::Own(why),
            // A refusal says nothing of the others, and discards nothing: it is this client's.
            (FetchOutcome::NotStored(answer, body), _) => SnapshotStep::Relay(answer, Box::new(body)),
            (FetchOutcome::Failed(error, kept), had) => {
                // Where nobody is there, nobody need be asked for another member.
                let is_all = matches!(error.kind, Kind::Connect | Kind::Resolve | Kind::Tls);
                turn.fail((!is_all).then(|| self.key()), error.clone());
                self.without_origin(&turn, error, current, had, kept).await
            }
        }
    }
}
