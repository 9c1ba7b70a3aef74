//! Members of an index set: every client sees them as they were together at the origin.
//!
//! A client that begins gets the current generation, once the origin has been asked about the member that it wants.
//! If that has changed, a new generation is collected first (`collect`). A client that goes on gets what is in its
//! generation; what nobody has asked for yet joins it, if the origin has not changed since.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::super::client::Client;
use super::super::follow::{self, Role};
use super::super::{LOOKS, Reply, pass};
use super::ask::{self, Asked};
use super::collect::{self, Errand, Renewed};
use super::{Body, Kept, Wanted, answer, find, may_use, why_stale};
use crate::error::{Error, Kind, Side};
use crate::http::caching::reuse::{self, Reuse};
use crate::http::request::Method;
use crate::http::response::ResponseHead;
use crate::key::Key;
use crate::outcome::{self, Stale, Why};
use crate::rt::mailbox::Waiter;
use crate::rt::{Runtime, timeout};
use crate::store::Entry;
use crate::store::fill::Fill;
use crate::store::inflight;
use crate::store::sets::{Generation, SetId, Turn, Who};
use crate::sys::{clock, file, socket};
use crate::upstream::body::OriginBody;

/// How long a client waits for a new generation before it gets the one that there is. Below the patience of package
/// managers.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is held of a member.
#[derive(Clone, Debug)]
pub struct Member {
    /// How the origin is asked for it.
    pub(super) target: Arc<[u8]>,
    pub(super) what: What,
}

/// How far it is.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// There.
    Whole(Arc<Kept>),
    /// On its way.
    Coming(Arc<Fill>),
}

/// Whether the set has to do with the request, and with what it is answered.
enum Step<R: Runtime> {
    /// With a member of a generation. The client `begins` with it.
    Member { generation: Arc<Generation<Member>>, member: Member, begins: bool, how: outcome::Kept },
    /// Look again.
    Again,
    /// As any other path.
    Apart,
    /// With this, which is no file: no member either.
    Alone(Kept, outcome::Kept),
    /// With what the origin says, which is not kept.
    Relay(Box<ResponseHead>, OriginBody<R>),
    /// With an error, or what there is of the member.
    Failed(Error, Option<(Arc<Generation<Member>>, Arc<Kept>)>),
}

/// One request for a member.
struct Visit<'a, 'b, 'c, R: Runtime> {
    wanted: &'a Wanted<'b, 'c, R>,
    errand: Errand<R>,
    id: SetId,
    who: Who,
}

/// Answers a request for a member of a set. `None`: it is none, or the set has nothing to do with the request.
pub(super) async fn serve<R: Runtime>(wanted: &Wanted<'_, '_, R>, client: &mut Client<R>) -> Option<Reply> {
    let visit = Visit::new(wanted, client)?;
    let exchange = wanted.exchange;
    if exchange.request.method == Method::Head {
        let (generation, member) = visit.at_hand()?;
        let What::Whole(kept) = member.what else { return None };
        // Who looks before it reads goes on with what it has seen.
        visit.pin(&generation, visit.pinned().is_none());
        return Some(answer::send(wanted, client, &kept, outcome::Kept::Hit).await);
    }
    for _ in 0..LOOKS {
        match visit.step().await {
            Step::Again => {}
            Step::Apart => return None,
            Step::Member { generation, member, begins, how } => {
                visit.pin(&generation, begins);
                match member.what {
                    What::Whole(kept) => return Some(answer::send(wanted, client, &kept, how).await),
                    What::Coming(fill) => {
                        wanted.debug("download in progress - response follows it");
                        let follower = fill.follow(0);
                        let reply = follow::serve(exchange, client, &fill, follower, Role::Follower).await;
                        if reply.is_some() {
                            return reply;
                        }
                    }
                }
            }
            Step::Alone(kept, how) => return Some(answer::send(wanted, client, &kept, how).await),
            Step::Relay(_, _) if wanted.is_in_other_form() => {
                return Some(pass::run(exchange, client, Why::OtherForm).await);
            }
            Step::Relay(answer, body) => {
                return Some(pass::hand_on(exchange, client, *answer, body).await);
            }
            Step::Failed(error, kept) => return Some(visit.failed(client, error, kept).await),
        }
    }
    Some(visit.failed(client, Error::new(Side::Us, Kind::Superseded), None).await)
}

impl<'a, 'b, 'c, R: Runtime> Visit<'a, 'b, 'c, R> {
    fn new(wanted: &'a Wanted<'b, 'c, R>, client: &Client<R>) -> Option<Self> {
        let (exchange, shared) = (wanted.exchange, &wanted.exchange.context.shared);
        let rules = &shared.config.rules;
        // Offline there is nothing to compare with; what one user may see is nobody else's.
        let apart = shared.config.offline || exchange.request.fields.contains("authorization");
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

    fn key(&self) -> &Key {
        self.wanted.key
    }

    fn pinned(&self) -> Option<Arc<Generation<Member>>> {
        self.errand.context.shared.sets.pinned(self.who, &self.id, self.key())
    }

    fn pin(&self, generation: &Arc<Generation<Member>>, begins: bool) {
        self.errand.context.shared.sets.pin(self.who, &self.id, self.key(), generation, begins);
    }

    /// The member as this client would get it, without a word of the origin.
    fn at_hand(&self) -> Option<(Arc<Generation<Member>>, Member)> {
        let generation = self.pinned().or_else(|| self.errand.set.current())?;
        let member = generation.get(self.key())?;
        Some((generation, member))
    }

    async fn step(&self) -> Step<R> {
        match self.pinned() {
            Some(generation) => match generation.get(self.key()) {
                Some(member) => Step::Member { generation, member, begins: false, how: outcome::Kept::Hit },
                None if self.errand.set.is_current(&generation) => self.ask(Some(generation)).await,
                None => Step::Failed(Error::new(Side::Us, Kind::Superseded), None),
            },
            None => match self.good() {
                Some(step) => step,
                None => self.ask(None).await,
            },
        }
    }

    /// The member in the current generation, if it is fresh.
    fn good(&self) -> Option<Step<R>> {
        let generation = self.errand.set.current()?;
        let member = generation.get(self.key())?;
        let how = match &member.what {
            What::Coming(_) => outcome::Kept::Fetched,
            What::Whole(kept) if kept.is_checked_since(self.wanted.arrived) => outcome::Kept::Revalidated,
            What::Whole(kept) => {
                let (now, wanted) = (clock::unix_secs(), self.wanted);
                let verdict = reuse::decide(&kept.head, &wanted.directives, now, &wanted.policy);
                (verdict == Reuse::Fresh).then_some(outcome::Kept::Hit)?
            }
        };
        Some(Step::Member { generation, member, begins: true, how })
    }

    /// Asks the origin, one client of the set at a time. `pinned`: the client goes on with this generation.
    async fn ask(&self, pinned: Option<Arc<Generation<Member>>>) -> Step<R> {
        let Ok(waiter) = Waiter::new() else { return Step::Failed(Error::new(Side::Us, Kind::Io), None) };
        let entered = timeout::<R, _>(PATIENCE, self.errand.set.enter(&waiter)).await;
        let current = pinned.clone().or_else(|| self.errand.set.current());
        let had = current.as_ref().and_then(|generation| generation.get(self.key()));
        let Ok(turn) = entered else {
            // A new generation is on its way, and takes its time.
            return match (current, had) {
                (Some(generation), Some(member)) => {
                    let how = outcome::Kept::Stale(Stale::WhileRevalidate);
                    Step::Member { generation, member, begins: pinned.is_none(), how }
                }
                _ => Step::Failed(Error::new(Side::Us, Kind::Timeout), None),
            };
        };
        // Somebody else has asked meanwhile.
        let done = match &pinned {
            Some(generation) => had.is_some() || !self.errand.set.is_current(generation),
            None => self.good().is_some(),
        };
        if done {
            return Step::Again;
        }
        if let Some(error) = self.errand.set.failed_since(self.wanted.arrived) {
            let kept = find::find(self.wanted.exchange, self.key()).await.ok().flatten();
            return self.without_origin(&turn, error, current, had, kept);
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
        let Ok(kept) = find::find(exchange, self.key()).await else { return Step::Apart };
        let (what, how) = match ask::ask(wanted, permit, kept).await {
            Asked::Kept(kept, how) if kept.is_file() => (What::Whole(Arc::new(kept)), how),
            Asked::Kept(kept, how) => return Step::Alone(kept, how),
            Asked::Filling { fill, .. } => (What::Coming(fill), outcome::Kept::Fetched),
            // A refusal says nothing of the others, and discards nothing: it is this client's.
            Asked::NotKept(answer, body) => return Step::Relay(answer, body),
            Asked::Failed(error, kept) => {
                turn.fail(error.clone());
                return self.without_origin(&turn, error, current, had, kept);
            }
        };
        let member = Member { target: self.errand.target(), what };
        match (current, had) {
            (None, _) => {
                let generation = Generation::new(BTreeMap::from([(self.key().clone(), member.clone())]));
                turn.switch(Arc::clone(&generation));
                self.errand.settle(&generation, self.key(), &member);
                Step::Member { generation, member, begins, how }
            }
            (Some(generation), None) => self.admit(turn, generation, member, begins, how).await,
            (Some(generation), Some(had)) => {
                if collect::is_same(&had, &member).await {
                    if is_as_left(&generation) {
                        return self.admit(turn, generation, member, begins, how).await;
                    }
                    generation.put(self.key(), member.clone());
                    return Step::Member { generation, member, begins, how };
                }
                let mut members = generation.all();
                members.insert(self.key().clone(), member);
                self.errand.collect(turn, members);
                Step::Again
            }
        }
    }

    /// The origin could not be asked. A set that is as an earlier process has left it has what is on the disk: that was
    /// all there was then, and the origin is asked about all of it as soon as it can be.
    fn without_origin(
        &self,
        turn: &Turn<Member>,
        error: Error,
        current: Option<Arc<Generation<Member>>>,
        had: Option<Member>,
        kept: Option<Kept>,
    ) -> Step<R> {
        let left = kept.filter(|kept| kept.is_file() && may_use(self.wanted, kept, &error));
        let is_left = had.is_none() && current.as_ref().is_none_or(is_as_left);
        let Some(left) = left.filter(|_| is_left) else {
            return Step::Failed(error, current.zip(whole(had)));
        };
        let kept = Arc::new(Kept { checked: None, ..left });
        let member = Member { target: self.errand.target(), what: What::Whole(Arc::clone(&kept)) };
        let generation = current.unwrap_or_else(|| {
            let generation = Generation::new(BTreeMap::new());
            turn.switch(Arc::clone(&generation));
            generation
        });
        generation.put(self.key(), member);
        Step::Failed(error, Some((generation, kept)))
    }

    /// Adds a member that has just come to the current generation, if that is still what the origin has.
    async fn admit(
        &self,
        turn: Turn<Member>,
        generation: Arc<Generation<Member>>,
        member: Member,
        begins: bool,
        how: outcome::Kept,
    ) -> Step<R> {
        let mut members = generation.all();
        let all = is_as_left(&generation).then(|| members.keys().cloned().collect());
        for key in all.unwrap_or_else(|| self.errand.telling(&members)) {
            let Some(known) = members.get(&key) else { continue };
            match self.errand.renew(&key, known).await {
                Renewed::Now(now) if collect::is_same(known, &now).await => generation.put(&key, now),
                Renewed::Failed(error) => {
                    turn.fail(error.clone());
                    return Step::Failed(error, None);
                }
                Renewed::Now(_) | Renewed::Gone => {
                    members.insert(self.key().clone(), member);
                    self.errand.collect(turn, members);
                    return Step::Again;
                }
            }
        }
        members.insert(self.key().clone(), member.clone());
        if !self.errand.fits(&members).await && !self.errand.set.is_unfit_for(collect::UNFIT) {
            self.errand.collect(turn, members);
            return Step::Again;
        }
        generation.put(self.key(), member.clone());
        self.errand.settle(&generation, self.key(), &member);
        Step::Member { generation, member, begins, how }
    }

    async fn failed(
        &self,
        client: &mut Client<R>,
        error: Error,
        kept: Option<(Arc<Generation<Member>>, Arc<Kept>)>,
    ) -> Reply {
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
                answer::send(self.wanted, client, &kept, outcome::Kept::Stale(why)).await
            }
            None => client.send_error(&error, exchange.keep(), exchange.request.method != Method::Head).await,
        }
    }
}

/// Has it members that no origin has vouched for since the process began?
fn is_as_left(generation: &Arc<Generation<Member>>) -> bool {
    let unchecked = |member: &Member| matches!(&member.what, What::Whole(kept) if kept.checked.is_none());
    generation.all().values().any(unchecked)
}

fn whole(member: Option<Member>) -> Option<Arc<Kept>> {
    match member?.what {
        What::Whole(kept) => Some(kept),
        What::Coming(_) => None,
    }
}

impl Kept {
    /// Is it a file, and the only variant? (What has others is in memory.)
    pub(super) fn is_file(&self) -> bool {
        matches!(self.body, Body::File(_))
    }

    /// What a fill that is whole has brought.
    pub(super) async fn of_fill(fill: &Fill, waiter: &Waiter) -> Option<Self> {
        if !fill.is_whole() {
            return None;
        }
        let answer = fill.answer(waiter).await.ok()?;
        let kept = answer.kept.as_ref()?;
        // Not by its name: another may have it by now.
        let file = answer.file.as_fd().try_clone_to_owned().ok()?;
        let info = file::info(&file).ok()?;
        let body = Body::File(Arc::new(Entry::new(file, info)));
        Some(Self { head: Arc::clone(&kept.head), body, checked: Some(kept.checked) })
    }
}
