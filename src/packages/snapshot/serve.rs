//! Members of an index set: every client sees them as they were together at the origin.
//!
//! A client that begins gets the current generation, once the origin has been asked about the member that it wants.
//! If that has changed, a new generation is collected first (`collect`). A client that goes on gets what is in its
//! generation; what nobody has asked for yet joins it, if the origin has not changed since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fits::is_as_left;
use super::member::{self, Member, Named, What};
use super::refresh::Errand;
use super::table::{Generation, SetId, Turn, Who};
use crate::cache::fill::NoFile;
use crate::cache::inflight;
use crate::downstream::client::Client;
use crate::error::{Error, Kind, Side};
use crate::http::caching::reuse::{self, Reuse};
use crate::http::caching::stored::StoredHead;
use crate::http::request::Method;
use crate::http::response::ResponseHead;
use crate::key::Key;
use crate::outcome::{self, Stale, Why};
use crate::proxy::exchange::{Exchange, LOOKS};
use crate::proxy::fetch::origin;
use crate::proxy::loops;
use crate::proxy::next::Next;
use crate::proxy::passing::Passing;
use crate::proxy::revalidated::ask::{self, Asked};
use crate::proxy::revalidated::stored::Kept;
use crate::proxy::revalidated::wanted::{Wanted, may_use, why_stale};
use crate::proxy::revalidated::{answer, responses};
use crate::rt::remote_wake::Waiter;
use crate::rt::{Runtime, timeout};
use crate::sys::{clock, socket};

/// How long a client waits for a new generation before it gets the one that there is. Below the patience of package
/// managers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client waits each time that the origin has not what its generation lists, before it gets what there is.
/// Together below `PATIENCE`.
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
pub(crate) enum Step<R: Runtime> {
    /// With a member of a generation. The client `begins` with it.
    Member { generation: Arc<Generation<Member>>, member: Member, begins: bool, how: outcome::Kept },
    /// Look again.
    Again,
    /// Look again, a little later: what the origin has does not fit together.
    Misfit,
    /// As any other path.
    Apart,
    /// With this, which is no file: no member either.
    Alone(Kept, outcome::Kept),
    /// With what the origin says, which is not kept.
    Relay(Box<ResponseHead>, Box<Passing<R>>),
    /// With what the origin says to the client's own request.
    Own(Why),
    /// With an error, or what there is of the member.
    Failed(Error, Option<(Arc<Generation<Member>>, Arc<Kept>)>),
}

/// One request for a member.
pub(crate) struct Visit<'a, 'b, 'c, R: Runtime> {
    pub(crate) wanted: &'a Wanted<'b, 'c, R>,
    pub(crate) errand: Errand<R>,
    pub(crate) id: SetId,
    pub(crate) who: Who,
}

/// The next step of a request for a member of a set; [`Next::Apart`] where the set has nothing to do with it.
pub async fn step<R: Runtime>(
    exchange: &Exchange<'_, R>,
    client: &Client<R>,
    key: &Key,
    arrived: Instant,
) -> Next<R> {
    let wanted = match Wanted::of(exchange, key, arrived) {
        Ok(wanted) => wanted,
        Err(why) => return Next::Pass(why),
    };
    let next = if wanted.directives.no_store {
        go_on(&wanted, client).await
    } else if loops::has_looped(exchange.request) || exchange.has_returned() {
        // Not to wait for an exchange that waits for this very request.
        None
    } else {
        visit(&wanted, client).await
    };
    next.unwrap_or(Next::Apart)
}

/// Visits the set. `None`: it is none, or has nothing to do with the request.
async fn visit<R: Runtime>(wanted: &Wanted<'_, '_, R>, client: &Client<R>) -> Option<Next<R>> {
    let visit = Visit::new(wanted, client)?;
    let is_head = wanted.exchange.request.method == Method::Head;
    let mut misfits = MISFITS.iter();
    for _ in 0..LOOKS + MISFITS.len() {
        // HEAD fetches nothing into the cache.
        if is_head && !visit.is_there() {
            return None;
        }
        return Some(match visit.step().await {
            Step::Again => continue,
            Step::Misfit => match misfits.next() {
                Some(wait) => {
                    R::sleep(*wait).await;
                    continue;
                }
                None => Next::Pass(Why::Mismatch),
            },
            Step::Apart => return None,
            Step::Member { generation, member, begins, how } => {
                match visit.answer(&generation, &member, begins, how).await {
                    Some(next) => next,
                    None => continue,
                }
            }
            Step::Alone(kept, how) => answer::stored(wanted, kept, how),
            Step::Relay(_, _) if wanted.is_in_other_form() => Next::Pass(Why::OtherForm),
            Step::Relay(answer, body) if is_head => {
                origin::settle(body.rest);
                Next::RelayHead(answer)
            }
            Step::Relay(answer, body) => Next::hand_on(*answer, *body),
            Step::Own(why) => Next::Pass(why),
            Step::Failed(error, kept) => visit.failed(error, kept),
        });
    }
    Some(visit.failed(Error::new(Side::Us, Kind::Superseded), None))
}

/// The same for one that wants nothing stored, if its client goes on with a generation that has the member.
async fn go_on<R: Runtime>(wanted: &Wanted<'_, '_, R>, client: &Client<R>) -> Option<Next<R>> {
    let visit = Visit::new(wanted, client)?;
    let generation = visit.pinned()?;
    let member = generation.get(visit.key())?;
    visit.answer(&generation, &member, false, outcome::Kept::Hit).await
}

impl<'a, 'b, 'c, R: Runtime> Visit<'a, 'b, 'c, R> {
    fn new(wanted: &'a Wanted<'b, 'c, R>, client: &Client<R>) -> Option<Self> {
        let (exchange, shared) = (wanted.exchange, &wanted.exchange.context.shared);
        let rules = &shared.config.rules;
        // What one user may see is nobody else's.
        let apart = exchange.request.fields.contains("authorization");
        if rules.is_empty() || apart || !wanted.key.names_a_file() {
            return None;
        }
        let path = format!("/{}", wanted.key.as_str());
        let place = rules.place(&path)?;
        let id = SetId { rule: place.rule, root: place.root.to_owned() };
        let who = Who(socket::peer_address(&client.socket).ok()?);
        let errand = Errand::new(wanted, shared.sets.get(&id), place);
        Some(Self { wanted, errand, id, who })
    }

    /// Answers with a member. `None`: it is not there any more.
    async fn answer(
        &self,
        generation: &Arc<Generation<Member>>,
        member: &Member,
        begins: bool,
        how: outcome::Kept,
    ) -> Option<Next<R>> {
        let exchange = self.wanted.exchange;
        if let What::Coming(fill) = &member.what {
            self.pin(generation, begins);
            self.wanted.debug("download in progress - response follows it");
            return Some(Next::follow(Arc::clone(fill)));
        }
        let Some(kept) = member.open(exchange, self.key()).await else {
            // Somebody has removed or replaced the file: as if nobody had asked for it yet.
            let is_named = |known: &Member| matches!(known.what, What::Named(_)) && known.is_as(member);
            generation.remove_if(self.key(), is_named);
            return None;
        };
        self.pin(generation, begins);
        Some(answer::stored(self.wanted, Kept::clone(&kept), how))
    }

    pub(crate) fn key(&self) -> &Key {
        self.wanted.key
    }

    fn pinned(&self) -> Option<Arc<Generation<Member>>> {
        self.errand.context.shared.sets.pinned(self.who, &self.id, self.key())
    }

    fn pin(&self, generation: &Arc<Generation<Member>>, begins: bool) {
        self.errand.context.shared.sets.pin(
            self.who,
            &self.id,
            self.key(),
            (&self.errand.set, generation),
            begins,
        );
    }

    /// Is it in the generation of this client, or in the current one?
    fn is_there(&self) -> bool {
        let generations = [self.pinned(), self.errand.set.current()];
        generations.into_iter().flatten().any(|generation| generation.get(self.key()).is_some())
    }

    async fn step(&self) -> Step<R> {
        match self.pinned() {
            Some(generation) => match generation.get(self.key()) {
                Some(member) => Step::Member { generation, member, begins: false, how: outcome::Kept::Hit },
                None if self.errand.set.is_current(&generation) => self.ask(Some(generation)).await,
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
    fn at_once(&self) -> Option<Step<R>> {
        self.good().or_else(|| {
            let generation = self.errand.set.current().filter(|_| self.errand.set.rests())?;
            let member = generation.get(self.key())?;
            let how = outcome::Kept::Stale(Stale::WhileRevalidate);
            Some(Step::Member { generation, member, begins: true, how })
        })
    }

    /// The member in the current generation, if it is fresh.
    fn good(&self) -> Option<Step<R>> {
        let generation = self.errand.set.current()?;
        let member = generation.get(self.key())?;
        let how = match (&member.what, member.told()) {
            (What::Coming(fill), _) if fill.is_whole() => {
                // It may wait for its name for a while.
                let kept = fill.kept()?;
                self.how_good(&kept.head, Some(kept.checked))?
            }
            (_, Some((head, checked))) => self.how_good(head, checked)?,
            (_, None) => outcome::Kept::Fetched,
        };
        Some(Step::Member { generation, member, begins: true, how })
    }

    /// May it be used without a word of the origin?
    fn how_good(&self, head: &StoredHead, checked: Option<Instant>) -> Option<outcome::Kept> {
        if checked.is_some_and(|checked| checked > self.wanted.arrived) {
            return Some(outcome::Kept::Revalidated);
        }
        let (now, wanted) = (clock::unix_secs(), self.wanted);
        let verdict = reuse::decide(head, &wanted.directives, now, &wanted.policy);
        (verdict == Reuse::Fresh).then_some(outcome::Kept::Hit)
    }

    /// Asks the origin, one client of the set at a time. `pinned`: the client goes on with this generation.
    async fn ask(&self, pinned: Option<Arc<Generation<Member>>>) -> Step<R> {
        let Ok(waiter) = Waiter::new() else { return Step::Failed(Error::new(Side::Us, Kind::Io), None) };
        // Who has something to begin with does not wait anew for what others have waited for.
        let busy = if self.is_there() { self.errand.set.busy_for() } else { Duration::ZERO };
        let patience = PATIENCE.saturating_sub(busy);
        let entered = timeout::<R, _>(patience, self.errand.set.enter(&waiter)).await;
        let current = pinned.clone().or_else(|| self.errand.set.current());
        let had = current.as_ref().and_then(|generation| generation.get(self.key()));
        let Ok(turn) = entered else {
            // A new generation is on its way, and takes its time.
            return match (current, had) {
                (Some(generation), Some(member)) => {
                    let how = outcome::Kept::Stale(Stale::WhileRevalidate);
                    Step::Member { generation, member, begins: pinned.is_none(), how }
                }
                _ if pinned.is_none() => Step::Own(Why::Mismatch),
                _ => Step::Failed(Error::new(Side::Us, Kind::Timeout), None),
            };
        };
        // Somebody else has asked meanwhile.
        let done = match &pinned {
            Some(generation) => had.is_some() || !self.errand.set.is_current(generation),
            None => self.at_once().is_some(),
        };
        if done || current.is_none() && self.take_up_left(&turn).await {
            return Step::Again;
        }
        if let Some(error) = self.errand.set.failed_since(self.wanted.arrived, self.key()) {
            let kept = responses::find(self.wanted.exchange, self.key()).await.ok().flatten();
            return self.without_origin(&turn, error, current, had, kept).await;
        }
        if self.wanted.directives.only_if_cached {
            return Step::Failed(Error::new(Side::Origin, Kind::NotCached), None);
        }
        if had.is_none() && current.as_ref().is_some_and(|generation| !generation.has_room()) {
            return Step::Apart;
        }
        self.ask_in_turn(turn, current, had, pinned.is_none(), &waiter).await
    }

    async fn ask_in_turn(
        &self,
        turn: Turn<Member>,
        current: Option<Arc<Generation<Member>>>,
        had: Option<Member>,
        begins: bool,
        waiter: &Waiter,
    ) -> Step<R> {
        let (wanted, exchange) = (self.wanted, self.wanted.exchange);
        let permit = match exchange.context.shared.store.inflight.enter(self.key()) {
            inflight::Turn::Lead(permit) => permit,
            inflight::Turn::Follow(fill) => {
                fill.left(waiter).await;
                return Step::Again;
            }
            inflight::Turn::Full => return Step::Apart,
        };
        let Ok(kept) = responses::find(exchange, self.key()).await else { return Step::Apart };
        let before = match &had {
            Some(had) => had.open(exchange, self.key()).await,
            None => None,
        };
        let proof = match (&had, &current) {
            (None, Some(generation)) => self.errand.proof(generation, self.key()).await,
            (Some(_), _) | (None, None) => None,
        };
        // One that replaces another waits for its name until all of them are there.
        let place = had.as_ref().and_then(|_| self.key().spare());
        let wanted = &Wanted { place, proof, ..*wanted };
        match (ask::ask(wanted, permit, kept).await, had) {
            (Asked::Kept(kept, how), Some(had)) if kept.is_file() => {
                let renewed = self.errand.renewed(wanted, &had, before, kept, None).await;
                self.compared(turn, current, renewed, how).await
            }
            (Asked::Kept(kept, how), _) => match Named::of(&kept) {
                None => Step::Alone(kept, how),
                Some(what) => self.first(turn, current, self.member(what), begins, how).await,
            },
            (Asked::Filling { fill, follower, .. }, Some(had)) => {
                drop(follower);
                let spare = self.errand.spare(wanted);
                fill.left(waiter).await;
                let Some(kept) = Kept::of_fill::<R>(&fill, waiter).await else {
                    let error = member::failure(&fill, waiter).await;
                    return Step::Failed(error, current.zip(before));
                };
                let renewed = self.errand.renewed(wanted, &had, before, kept, spare).await;
                self.compared(turn, current, renewed, outcome::Kept::Fetched).await
            }
            (Asked::Filling { fill, follower, .. }, None) => {
                let how = outcome::Kept::Fetched;
                let member = self.member(What::Coming(Arc::clone(&fill)));
                let Some((_, generation)) = wanted.proof.as_ref().zip(current.clone()) else {
                    return self.first(turn, current, member, begins, how).await;
                };
                timeout::<R, _>(PROOF_WAIT, fill.left(waiter)).await.unwrap_or_default();
                drop(follower);
                match fill.answer(waiter).await {
                    Err(NoFile::Failed(error)) if error.kind == Kind::Mismatch => {
                        self.misfit(turn, generation).await
                    }
                    Err(NoFile::Failed(error)) => Step::Failed(error, None),
                    Ok(_) | Err(_) => self.first(turn, current, member, begins, how).await,
                }
            }
            (Asked::Told(kept), _) => Step::Alone(kept, outcome::Kept::Revalidated),
            (Asked::Own(why), _) => Step::Own(why),
            // A refusal says nothing of the others, and discards nothing: it is this client's.
            (Asked::NotKept(answer, body), _) => Step::Relay(answer, Box::new(body)),
            (Asked::Failed(error, kept), had) => {
                // Where nobody is there, nobody need be asked for another member.
                let is_all = matches!(error.kind, Kind::Connect | Kind::Resolve | Kind::Tls);
                turn.fail((!is_all).then(|| self.key()), error.clone());
                self.without_origin(&turn, error, current, had, kept).await
            }
        }
    }

    /// The origin could not be asked. A set that is as an earlier process has left it has what is on the disk: that was
    /// all there was then, and the origin is asked about all of it as soon as it can be.
    async fn without_origin(
        &self,
        turn: &Turn<Member>,
        error: Error,
        current: Option<Arc<Generation<Member>>>,
        had: Option<Member>,
        kept: Option<Kept>,
    ) -> Step<R> {
        // Who has replaced the file on the disk wants that one, if it fits.
        let had = match had {
            Some(had) => had.open(self.wanted.exchange, self.key()).await,
            None => None,
        };
        if had.is_some() {
            return Step::Failed(error, current.zip(had));
        }
        let left = kept.filter(|kept| may_use(self.wanted, kept, &error));
        let left = left.map(|kept| Kept { checked: None, ..kept });
        let left = left.and_then(|kept| Some((Named::of(&kept)?, kept)));
        let Some((what, kept)) = left.filter(|_| current.as_ref().is_none_or(is_as_left)) else {
            return Step::Failed(error, None);
        };
        // What an earlier process has left may be of two generations.
        let mut members = match &current {
            Some(current) => self.still_there(current).await,
            None => BTreeMap::new(),
        };
        members.insert(self.key().clone(), self.member(what.clone()));
        if !self.errand.misfits(&members).await.is_empty() {
            return Step::Failed(error, None);
        }
        let generation = current.unwrap_or_else(|| {
            let generation = Generation::new(BTreeMap::new());
            turn.switch(Arc::clone(&generation));
            generation
        });
        generation.put(self.key(), self.member(what));
        Step::Failed(error, Some((generation, Arc::new(kept))))
    }

    fn failed(&self, error: Error, kept: Option<(Arc<Generation<Member>>, Arc<Kept>)>) -> Next<R> {
        let exchange = self.wanted.exchange;
        exchange.log.debug(format_args!("error with index set {error}"));
        let usable = |kept: &Kept| error.kind == Kind::Superseded || may_use(self.wanted, kept, &error);
        match kept.filter(|(_, kept)| usable(kept)) {
            Some((generation, kept)) => {
                let why = if error.kind == Kind::Superseded {
                    Stale::WhileRevalidate
                } else {
                    why_stale(self.wanted, &kept, &error)
                };
                self.pin(&generation, self.pinned().is_none());
                answer::stored(self.wanted, Kept::clone(&kept), outcome::Kept::Stale(why))
            }
            None => Next::Fail(error),
        }
    }
}
