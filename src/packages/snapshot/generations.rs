//! Index sets: files that belong together, of which no client may see two states of the origin.
//!
//! A *generation* holds the members of a set as they were together at the origin. A set has a current generation; a
//! client is pinned to the one it began with, and begins again when it asks for a member a second time. A client is
//! known by its connection, and for a short time by its address, for new connections.
//!
//! A set is there as long as a client is pinned to it, and beyond that while it is one of those that were asked for
//! last. No request takes a pin from another client, or from its own: where there is no room for a pin the client
//! gets none, and has the newest generation each time.

mod pins;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::member::Member;
use crate::error::Error;
use crate::key::Key;
use crate::rt::lock::Lock;
use crate::rt::remote_wake::{Waiter, Waiters};
pub(crate) use pins::{Access, Who};
use pins::{Pin, Pins};

/// Sets that are kept without a pin.
const SETS: usize = 256;
/// Members of a generation. A distribution with all its languages and architectures has some hundred.
const MEMBERS: usize = 256;
/// Generations of a set that clients may still be pinned to. Where the origin has changed more often than that while
/// they were, the one whose clients have been silent for longest loses its members.
const GENERATIONS: usize = 64;
/// New sets after which those that are not used any more are removed.
const FORGOTTEN: usize = 64;
/// After the second contradiction of an origin in a row, no new generation is collected for this time; twice as long
/// each time after that, up to the other.
const REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(16);

/// How long after a generation was collected, or got another member, all members are validated once more: an origin that
/// changes one file after the other may have been in the middle of an update.
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

/// All sets, and the clients that are pinned to their generations.
#[derive(Debug, Default)]
pub struct Sets {
    table: Lock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Those that clients have lately had something of, and when they were last asked about.
    lately: HashMap<SetId, (Arc<Set>, Instant)>,
    /// All that a request uses, or a client is pinned to.
    all: HashMap<SetId, Weak<Set>>,
    pins: Pins,
}

/// Members as they were together at the origin.
#[derive(Debug)]
pub struct Generation {
    members: Lock<BTreeMap<Key, Member>>,
    /// When a client last had one of them.
    used: Lock<Instant>,
    looks: Lock<Looks>,
}

/// When it last got a member, and how often all members have been validated since.
#[derive(Debug)]
struct Looks {
    since: Instant,
    done: usize,
}

/// One set.
#[derive(Debug, Default)]
pub struct Set {
    state: Lock<State>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Arc<Generation>>,
    /// Those before it, the newest last.
    earlier: Vec<Weak<Generation>>,
    /// Since when a request has been asking the origin about it.
    busy: Option<Instant>,
    waiters: Waiters,
    /// When the origin last failed, how, and for which member, if not for all.
    failed: Option<(Instant, Option<Key>, Error)>,
    /// Since when the origin has not all of a new generation.
    unfit: Option<Instant>,
    /// How often in a row the origin has contradicted itself, and when the last time was.
    unsettled: Option<(u32, Instant)>,
    /// The files of an earlier process have been looked up.
    is_looked_for: bool,
}

/// The right to ask the origin about a set, for one at a time. Given back when the last of it is dropped.
#[derive(Debug, Clone)]
pub struct RefreshTurn(Arc<Held>);

#[derive(Debug)]
struct Held(Arc<Set>);

impl Sets {
    /// The set of this name.
    pub fn get(&self, id: &SetId) -> Arc<Set> {
        let mut table = self.table.lock();
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

    /// The generation that this client continues with. `None`: it begins, as it is not known or has had this member.
    pub fn pinned(&self, who: Who, id: &SetId, key: &Key) -> Option<Arc<Generation>> {
        let table = self.table.lock();
        let pin = table.pins.get(who, id, Instant::now())?;
        (!pin.seen.contains(key)).then(|| Arc::clone(&pin.generation))
    }

    /// The members that this client has had of the generation that it is pinned to.
    pub fn seen(&self, who: Who, id: &SetId) -> HashSet<Key> {
        let table = self.table.lock();
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
        (set, generation): (&Arc<Set>, &Arc<Generation>),
        (begins, access): (bool, Access),
    ) {
        let (mut table, now) = (self.table.lock(), Instant::now());
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

    /// The client continues with another generation, in which all that it has had is the same.
    pub fn carry(&self, who: Who, id: &SetId, from: &Arc<Generation>, to: &Arc<Generation>) {
        self.table.lock().pins.carry(who, id, from, to);
    }

    /// Closes files of expired pins: descriptors have run out.
    pub fn close_idle(&self) {
        self.table.lock().pins.purge(Instant::now());
    }
}

impl Table {
    /// A client gets something of it. The one that was asked for longest ago makes room.
    fn note_use(&mut self, id: &SetId, set: &Arc<Set>, now: Instant) {
        if self.lately.len() >= SETS && !self.lately.contains_key(id) {
            let oldest = self.lately.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| self.lately.remove(&oldest));
        }
        self.lately.insert(id.clone(), (Arc::clone(set), now));
    }
}

impl Set {
    /// The generation that clients begin with.
    pub fn current(&self) -> Option<Arc<Generation>> {
        self.state.lock().current.clone()
    }

    /// Whether clients begin with this one.
    pub fn is_current(&self, generation: &Arc<Generation>) -> bool {
        self.state.lock().current.as_ref().is_some_and(|current| Arc::ptr_eq(current, generation))
    }

    /// Waits for the right to ask the origin.
    pub async fn enter(self: &Arc<Self>, waiter: &Waiter) -> RefreshTurn {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if state.busy.is_some() {
                state.waiters.add(waiter, context);
                return Poll::Pending;
            }
            state.busy = Some(Instant::now());
            Poll::Ready(RefreshTurn(Arc::new(Held(Arc::clone(self)))))
        })
        .await
    }

    /// For how long a request has been asking the origin.
    pub fn busy_for(&self) -> Duration {
        self.state.lock().busy.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The origin has not all of a new generation.
    pub fn note_unfit(&self) {
        self.state.lock().unfit.get_or_insert_with(Instant::now);
    }

    /// Whether that has been so for this time.
    pub fn is_unfit_for(&self, time: Duration) -> bool {
        self.state.lock().unfit.is_some_and(|since| since.elapsed() >= time)
    }

    /// The origin contradicts itself: no generation can be collected.
    pub fn note_unsettled(&self) {
        let mut state = self.state.lock();
        let times = state.unsettled.map_or(0, |(times, _)| times);
        state.unsettled = Some((times.saturating_add(1), Instant::now()));
    }

    /// Whether collecting pauses, because it has failed lately.
    pub fn rests(&self) -> bool {
        let state = self.state.lock();
        state.unsettled.is_some_and(|(times, at)| {
            let rest = REST.saturating_mul(1 << times.saturating_sub(2).min(16)).min(LONGEST_REST);
            times > 1 && at.elapsed() < rest
        })
    }

    /// How the origin failed for this member, if it did since.
    pub fn failed_since(&self, time: Instant, key: &Key) -> Option<Error> {
        let state = self.state.lock();
        let (at, of, error) = state.failed.as_ref()?;
        (*at > time && of.as_ref().is_none_or(|of| of == key)).then(|| error.clone())
    }
}

impl RefreshTurn {
    /// This generation, or one without members that clients that begin get from now on.
    pub fn generation_or_new(&self, current: Option<&Arc<Generation>>) -> Arc<Generation> {
        current.map(Arc::clone).unwrap_or_else(|| {
            let generation = Generation::new(BTreeMap::new());
            self.switch(Arc::clone(&generation));
            generation
        })
    }

    /// From now on clients begin with this.
    pub fn switch(&self, generation: Arc<Generation>) {
        let mut state = self.0.0.state.lock();
        state.unsettled = None;
        state.unfit = None;
        if let Some(earlier) = state.current.replace(generation) {
            state.earlier.push(Arc::downgrade(&earlier));
        }
        state.earlier.retain(|earlier| earlier.strong_count() > 0);
        while state.earlier.len() > GENERATIONS {
            let used = |earlier: &Weak<Generation>| earlier.upgrade().map(|earlier| earlier.last_use());
            let silent = state.earlier.iter().enumerate().min_by_key(|(_, earlier)| used(earlier));
            let Some((at, _)) = silent else { return };
            if let Some(silent) = state.earlier.remove(at).upgrade() {
                silent.members.lock().clear();
            }
        }
    }

    /// Whether the files of an earlier process have been looked up.
    pub fn is_looked_for(&self) -> bool {
        self.0.0.state.lock().is_looked_for
    }

    /// They have.
    pub fn note_look(&self) {
        self.0.0.state.lock().is_looked_for = true;
    }

    /// The origin could not be asked, or failed, for one member or for all.
    pub fn fail(&self, key: Option<&Key>, error: Error) {
        self.0.0.state.lock().failed = Some((Instant::now(), key.cloned(), error));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.busy = None;
        state.waiters.wake_all();
    }
}

impl Generation {
    fn note_use(&self, now: Instant) {
        *self.used.lock() = now;
    }

    /// One with these members.
    pub fn new(members: BTreeMap<Key, Member>) -> Arc<Self> {
        let now = Instant::now();
        let looks = Lock::new(Looks { since: now, done: 0 });
        Arc::new(Self { members: Lock::new(members), used: Lock::new(now), looks })
    }

    /// Whether all members are to be validated now; the caller does it.
    pub fn take_look(&self) -> bool {
        let mut looks = self.looks.lock();
        let passed = SETTLING.iter().filter(|after| looks.since.elapsed() >= **after).count();
        let is_due = passed > looks.done;
        looks.done = passed.max(looks.done);
        is_due
    }

    fn last_use(&self) -> Instant {
        *self.used.lock()
    }

    /// Its member of this name.
    pub fn get(&self, key: &Key) -> Option<Member> {
        self.members.lock().get(key).cloned()
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<Key, Member> {
        self.members.lock().clone()
    }

    /// Is there room for another?
    pub fn has_room(&self) -> bool {
        self.members.lock().len() < MEMBERS
    }

    /// Adds a member, or replaces the description of one.
    pub fn put(&self, key: &Key, member: Member) {
        if self.members.lock().insert(key.clone(), member).is_none() {
            *self.looks.lock() = Looks { since: Instant::now(), done: 0 };
        }
    }

    /// Removes a member, if it is still the one that `which` accepts.
    pub fn remove_if(&self, key: &Key, which: impl Fn(&Member) -> bool) {
        let mut members = self.members.lock();
        if members.get(key).is_some_and(which) {
            members.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
