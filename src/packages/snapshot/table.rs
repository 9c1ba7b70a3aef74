//! Index sets: files that belong together, of which no client may see two states of the origin.
//!
//! A *generation* holds the members of a set as they were together at the origin. A set has a current generation; a
//! client is pinned to the one it began with, and begins anew when it asks for a member a second time. Who is who is
//! told by the connection, and, where that is new, by the address for a short time.
//!
//! A set is there as long as a client is pinned to it, and beyond that while it is one of those that were asked for
//! last. What a client asks for never takes away what another is pinned to, or itself: where there is no room for its
//! pin it gets none, and has the newest generation each time.

mod pins;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::key::Key;
use crate::rt::remote_wake::{Waiter, Waiters};
pub use pins::{Access, Who};
use pins::{Pin, Pins};

/// Sets that nobody is pinned to, at a time.
const SETS: usize = 256;
/// Members of a generation. A distribution with all its languages and architectures has some hundred.
const MEMBERS: usize = 256;
/// Generations of a set that clients may still be pinned to. Where the origin has changed more often than that while
/// they were, the one whose clients have been silent for longest loses its members.
const GENERATIONS: usize = 64;
/// Sets that nobody has any more are looked for after so many new ones.
const FORGOTTEN: usize = 64;
/// After the second time in a row that an origin has contradicted itself, so long nobody looks for a new generation;
/// twice as long each time after that, up to the other.
const REST: Duration = Duration::from_secs(1);
const MOST_REST: Duration = Duration::from_secs(16);

/// How long after a generation came together, or got another member, all of it is looked at once more: an origin that
/// changes one file after the other may have been half-way.
const SETTLING: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];

/// Which set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetId {
    /// The rule that its members match.
    pub rule: usize,
    /// The directory that holds them.
    pub root: String,
}

/// All sets, and who is pinned to what. `M` is what is held of a member.
#[derive(Debug)]
pub struct Sets<M> {
    table: Mutex<Table<M>>,
}

#[derive(Debug)]
struct Table<M> {
    /// Those that clients have lately had something of, and when they were last asked about.
    lately: HashMap<SetId, (Arc<Set<M>>, Instant)>,
    /// All that somebody asks about, or is pinned to.
    all: HashMap<SetId, Weak<Set<M>>>,
    pins: Pins<M>,
}

/// Members as they were together at the origin.
#[derive(Debug)]
pub struct Generation<M> {
    members: Mutex<BTreeMap<Key, M>>,
    /// When a client last had one of them.
    used: Mutex<Instant>,
    looks: Mutex<Looks>,
}

/// When it last got a member, and how often all of it has been looked at since.
#[derive(Debug)]
struct Looks {
    since: Instant,
    done: usize,
}

/// One set.
#[derive(Debug)]
pub struct Set<M> {
    state: Mutex<State<M>>,
}

#[derive(Debug)]
struct State<M> {
    current: Option<Arc<Generation<M>>>,
    /// Those before it, the newest last.
    earlier: Vec<Weak<Generation<M>>>,
    /// Since when somebody asks the origin about it.
    busy: Option<Instant>,
    waiters: Waiters,
    /// When the origin last failed, how, and for which member, if not for all.
    failed: Option<(Instant, Option<Key>, Error)>,
    /// Since when the origin has not all of a new generation.
    unfit: Option<Instant>,
    /// How often in a row the origin has contradicted itself, and when the last time was.
    unsettled: Option<(u32, Instant)>,
    /// Somebody has looked for what an earlier process has left of it.
    is_looked_for: bool,
}

/// The right to ask the origin about a set, for one at a time. Given back on drop.
#[derive(Debug)]
pub struct RefreshTurn<M>(Arc<Set<M>>);

impl<M> Default for Sets<M> {
    fn default() -> Self {
        let table = Table { lately: HashMap::new(), all: HashMap::new(), pins: Pins::default() };
        Self { table: Mutex::new(table) }
    }
}

impl<M: Clone> Sets<M> {
    fn table(&self) -> MutexGuard<'_, Table<M>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The set of this name.
    pub fn get(&self, id: &SetId) -> Arc<Set<M>> {
        let mut table = self.table();
        if let Some(set) = table.all.get(id).and_then(Weak::upgrade) {
            return set;
        }
        if table.all.len() % FORGOTTEN == FORGOTTEN - 1 {
            table.all.retain(|_, set| set.strong_count() > 0);
        }
        let set = Arc::new(Set::default());
        table.all.insert(id.clone(), Arc::downgrade(&set));
        set
    }

    /// The generation that this client is to see, unless it begins anew: it is not known, or has had this member.
    pub fn pinned(&self, who: Who, id: &SetId, key: &Key) -> Option<Arc<Generation<M>>> {
        let table = self.table();
        let pin = table.pins.get(who, id, Instant::now())?;
        (!pin.seen.contains(key)).then(|| Arc::clone(&pin.generation))
    }

    /// The members that this client has had of the generation that it is pinned to.
    pub fn seen(&self, who: Who, id: &SetId) -> HashSet<Key> {
        let table = self.table();
        table.pins.get(who, id, Instant::now()).map(|pin| pin.seen.clone()).unwrap_or_default()
    }

    /// The client gets `key` from this generation of the set. If it `begins`, what it has had before does not count any
    /// more; but a head never takes a client from the generation of which it has read a file. Where there is no room,
    /// nothing is remembered.
    pub fn pin(
        &self,
        who: Who,
        id: &SetId,
        key: &Key,
        (set, generation): (&Arc<Set<M>>, &Arc<Generation<M>>),
        (begins, access): (bool, Access),
    ) {
        let (mut table, now) = (self.table(), Instant::now());
        generation.note_use(now);
        table.note_use(id, set, now);
        let new = Pin::new((set, generation), key, access, now);
        let pin = match table.pins.get(who, id, now) {
            Some(known) if Arc::ptr_eq(&known.generation, generation) && begins => {
                Pin { has_read: known.has_read || new.has_read, ..new }
            }
            Some(known) if Arc::ptr_eq(&known.generation, generation) => known.and(key, access, now),
            Some(known) if known.has_read && access == Access::Head => Pin { used: now, ..known.clone() },
            Some(_) | None => new,
        };
        table.pins.put(who, id, &pin, now);
    }

    /// The client, pinned to one generation, goes on with another in which all that it has had is the same.
    pub fn carry(&self, who: Who, id: &SetId, from: &Arc<Generation<M>>, to: &Arc<Generation<M>>) {
        self.table().pins.carry(who, id, from, to);
    }

    /// Closes what is kept open for clients that do not go on: descriptors have run out.
    pub fn close_idle(&self) {
        self.table().pins.purge(Instant::now());
    }
}

impl<M> Table<M> {
    /// A client gets something of it. The one that was asked for longest ago makes room.
    fn note_use(&mut self, id: &SetId, set: &Arc<Set<M>>, now: Instant) {
        if self.lately.len() >= SETS && !self.lately.contains_key(id) {
            let oldest = self.lately.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| self.lately.remove(&oldest));
        }
        self.lately.insert(id.clone(), (Arc::clone(set), now));
    }
}

impl<M> Default for Set<M> {
    fn default() -> Self {
        let state = State {
            current: None,
            earlier: Vec::new(),
            busy: None,
            waiters: Waiters::default(),
            failed: None,
            unfit: None,
            unsettled: None,
            is_looked_for: false,
        };
        Self { state: Mutex::new(state) }
    }
}

impl<M: Clone> Set<M> {
    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What clients that begin get.
    pub fn current(&self) -> Option<Arc<Generation<M>>> {
        self.state().current.clone()
    }

    /// Is this what clients that begin get?
    pub fn is_current(&self, generation: &Arc<Generation<M>>) -> bool {
        self.state().current.as_ref().is_some_and(|current| Arc::ptr_eq(current, generation))
    }

    /// Waits for the right to ask the origin.
    pub async fn enter(self: &Arc<Self>, waiter: &Waiter) -> RefreshTurn<M> {
        poll_fn(|context| {
            let mut state = self.state();
            if state.busy.is_some() {
                state.waiters.add(waiter, context);
                return Poll::Pending;
            }
            state.busy = Some(Instant::now());
            Poll::Ready(RefreshTurn(Arc::clone(self)))
        })
        .await
    }

    /// For how long somebody has been asking.
    pub fn busy_for(&self) -> Duration {
        self.state().busy.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The origin has not all of a new generation.
    pub fn note_unfit(&self) {
        self.state().unfit.get_or_insert_with(Instant::now);
    }

    /// Has it not for so long, since the last one?
    pub fn is_unfit_for(&self, time: Duration) -> bool {
        self.state().unfit.is_some_and(|since| since.elapsed() >= time)
    }

    /// The origin contradicts itself: nothing comes together.
    pub fn note_unsettled(&self) {
        let mut state = self.state();
        let times = state.unsettled.map_or(0, |(times, _)| times);
        state.unsettled = Some((times.saturating_add(1), Instant::now()));
    }

    /// Is it of no use to look for a new generation, because none has come together lately?
    pub fn rests(&self) -> bool {
        let state = self.state();
        state.unsettled.is_some_and(|(times, at)| {
            let rest = REST.saturating_mul(1 << times.saturating_sub(2).min(16)).min(MOST_REST);
            times > 1 && at.elapsed() < rest
        })
    }

    /// How the origin failed for this member, if it did since.
    pub fn failed_since(&self, time: Instant, key: &Key) -> Option<Error> {
        let state = self.state();
        let (at, of, error) = state.failed.as_ref()?;
        (*at > time && of.as_ref().is_none_or(|of| of == key)).then(|| error.clone())
    }
}

impl<M: Clone> RefreshTurn<M> {
    /// From now on clients that begin get this.
    pub fn switch(&self, generation: Arc<Generation<M>>) {
        let mut state = self.0.state();
        state.unsettled = None;
        state.unfit = None;
        if let Some(earlier) = state.current.replace(generation) {
            state.earlier.push(Arc::downgrade(&earlier));
        }
        state.earlier.retain(|earlier| earlier.strong_count() > 0);
        while state.earlier.len() > GENERATIONS {
            let used = |earlier: &Weak<Generation<M>>| earlier.upgrade().map(|earlier| earlier.last_use());
            let silent = state.earlier.iter().enumerate().min_by_key(|(_, earlier)| used(earlier));
            let Some((at, _)) = silent else { return };
            if let Some(silent) = state.earlier.remove(at).upgrade() {
                silent.members().clear();
            }
        }
    }

    /// Has somebody looked for what an earlier process has left of it?
    pub fn is_looked_for(&self) -> bool {
        self.0.state().is_looked_for
    }

    /// Somebody has.
    pub fn note_look(&self) {
        self.0.state().is_looked_for = true;
    }

    /// The origin could not be asked, or failed, for one member or for all.
    pub fn fail(&self, key: Option<&Key>, error: Error) {
        self.0.state().failed = Some((Instant::now(), key.cloned(), error));
    }
}

impl<M> Drop for RefreshTurn<M> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.busy = None;
        state.waiters.wake_all();
    }
}

impl<M> Generation<M> {
    fn note_use(&self, now: Instant) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl<M: Clone> Generation<M> {
    /// One with these members.
    pub fn new(members: BTreeMap<Key, M>) -> Arc<Self> {
        let now = Instant::now();
        let looks = Mutex::new(Looks { since: now, done: 0 });
        Arc::new(Self { members: Mutex::new(members), used: Mutex::new(now), looks })
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is all of it to be looked at? Then somebody is about to.
    pub fn take_look(&self) -> bool {
        let mut looks = self.looks();
        let passed = SETTLING.iter().filter(|after| looks.since.elapsed() >= **after).count();
        let is_due = passed > looks.done;
        looks.done = passed.max(looks.done);
        is_due
    }

    fn last_use(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<Key, M>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its member of this name.
    pub fn get(&self, key: &Key) -> Option<M> {
        self.members().get(key).cloned()
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<Key, M> {
        self.members().clone()
    }

    /// Is there room for another?
    pub fn has_room(&self) -> bool {
        self.members().len() < MEMBERS
    }

    /// Adds a member that belongs to it, or describes one anew.
    pub fn put(&self, key: &Key, member: M) {
        if self.members().insert(key.clone(), member).is_none() {
            *self.looks() = Looks { since: Instant::now(), done: 0 };
        }
    }

    /// Does without a member that has not come, if it is still the one that `which` tells.
    pub fn remove_if(&self, key: &Key, which: impl Fn(&M) -> bool) {
        let mut members = self.members();
        if members.get(key).is_some_and(which) {
            members.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
