//! Index sets: files that belong together, of which no client may see two states of the origin.
//!
//! A *generation* holds the members of a set as they were together at the origin, each open, so that it stays readable
//! whatever happens to the names. A set has a current generation; a client is pinned to the one it began with, and
//! begins anew when it asks for a member a second time. Who is who is told by the connection, and, where that is new,
//! by the address for a short time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::key::Key;
use crate::rt::mailbox::{Waiter, Waiters};

/// Sets at a time. One that nobody has asked about for longest goes when there is another.
const SETS: usize = 256;
/// Members of a generation. A distribution with all its languages and architectures has some hundred.
const MEMBERS: usize = 256;
/// Generations of a set that clients may still be pinned to. The oldest loses its members when there are more.
const GENERATIONS: usize = 64;
/// Pins at a time, over all sets.
const PINS: usize = 16_384;
/// How long a new connection of the same address counts as the same client, from its last request on. Package
/// managers open several connections, or one for each file, within seconds.
const SAME_ADDRESS: Duration = Duration::from_secs(30);
/// How long the silence of a connection may last before it is another's. Longer than connections may idle.
const SAME_CONNECTION: Duration = Duration::from_secs(600);

/// Which set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetId {
    /// The rule that its members match.
    pub rule: usize,
    /// The directory that holds them.
    pub root: String,
}

/// Whose request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who(pub SocketAddr);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    Connection(SocketAddr),
    Address(IpAddr),
}

impl Who {
    /// What this client may be known by, the surest first, and how long.
    fn names(self) -> [(Name, Duration); 2] {
        [(Name::Connection(self.0), SAME_CONNECTION), (Name::Address(self.0.ip()), SAME_ADDRESS)]
    }
}

/// All sets, and who is pinned to what. `M` is what is held of a member.
#[derive(Debug)]
pub struct Sets<M> {
    table: Mutex<Table<M>>,
}

#[derive(Debug)]
struct Table<M> {
    sets: HashMap<SetId, (Arc<Set<M>>, Instant)>,
    pins: HashMap<(Name, SetId), Pin<M>>,
}

#[derive(Debug)]
struct Pin<M> {
    generation: Arc<Generation<M>>,
    /// Members that the client has had of it.
    seen: HashSet<Key>,
    used: Instant,
}

/// Members as they were together at the origin.
#[derive(Debug)]
pub struct Generation<M> {
    members: Mutex<BTreeMap<Key, M>>,
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
    earlier: VecDeque<Weak<Generation<M>>>,
    /// Somebody asks the origin about it.
    busy: bool,
    waiters: Waiters,
    /// When the origin last failed, and how.
    failed: Option<(Instant, Error)>,
    /// Since when what the origin has does not fit together.
    unfit: Option<Instant>,
}

/// The right to ask the origin about a set, for one at a time. Given back on drop.
#[derive(Debug)]
pub struct Turn<M>(Arc<Set<M>>);

impl<M> Default for Sets<M> {
    fn default() -> Self {
        Self { table: Mutex::new(Table { sets: HashMap::new(), pins: HashMap::new() }) }
    }
}

impl<M: Clone> Sets<M> {
    fn table(&self) -> MutexGuard<'_, Table<M>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The set of this name.
    pub fn get(&self, id: &SetId) -> Arc<Set<M>> {
        let (mut table, now) = (self.table(), Instant::now());
        if let Some((set, used)) = table.sets.get_mut(id) {
            *used = now;
            return Arc::clone(set);
        }
        if table.sets.len() >= SETS {
            let oldest = table.sets.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| id.clone());
            table.sets.retain(|id, _| Some(id) != oldest.as_ref());
            table.pins.retain(|(_, id), _| Some(id) != oldest.as_ref());
        }
        let set = Arc::new(Set::default());
        table.sets.insert(id.clone(), (Arc::clone(&set), now));
        set
    }

    /// The generation that this client is to see, unless it begins anew: it is not known, or has had this member.
    pub fn pinned(&self, who: Who, id: &SetId, key: &Key) -> Option<Arc<Generation<M>>> {
        let (table, now) = (self.table(), Instant::now());
        let pin = table.pin(who, id, now)?;
        (!pin.seen.contains(key)).then(|| Arc::clone(&pin.generation))
    }

    /// The client gets `key` from this generation. If it `begins`, what it has had before does not count any more.
    pub fn pin(&self, who: Who, id: &SetId, key: &Key, generation: &Arc<Generation<M>>, begins: bool) {
        let (mut table, now) = (self.table(), Instant::now());
        let known = table.pin(who, id, now).filter(|pin| !begins && Arc::ptr_eq(&pin.generation, generation));
        let mut seen = known.map(|pin| pin.seen.clone()).unwrap_or_default();
        seen.insert(key.clone());
        table.make_room(now);
        for (name, _) in who.names() {
            let pin = Pin { generation: Arc::clone(generation), seen: seen.clone(), used: now };
            table.pins.insert((name, id.clone()), pin);
        }
    }
}

impl<M> Table<M> {
    fn pin(&self, who: Who, id: &SetId, now: Instant) -> Option<&Pin<M>> {
        who.names().into_iter().find_map(|(name, time)| {
            let pin = self.pins.get(&(name, id.clone()))?;
            (now.saturating_duration_since(pin.used) < time).then_some(pin)
        })
    }

    /// Drops pins that are too old, or, where there are too many, those that are older than others.
    fn make_room(&mut self, now: Instant) {
        let mut time = SAME_CONNECTION;
        while self.pins.len() + 2 > PINS {
            self.pins.retain(|(name, _), pin| {
                let most = if matches!(name, Name::Address(_)) { time.min(SAME_ADDRESS) } else { time };
                now.saturating_duration_since(pin.used) < most
            });
            time /= 2;
        }
    }
}

impl<M> Default for Set<M> {
    fn default() -> Self {
        let state = State {
            current: None,
            earlier: VecDeque::new(),
            busy: false,
            waiters: Waiters::default(),
            failed: None,
            unfit: None,
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
    pub async fn enter(self: &Arc<Self>, waiter: &Waiter) -> Turn<M> {
        poll_fn(|context| {
            let mut state = self.state();
            if state.busy {
                state.waiters.add(waiter, context);
                return Poll::Pending;
            }
            state.busy = true;
            Poll::Ready(Turn(Arc::clone(self)))
        })
        .await
    }

    /// What the origin has fits together, or does not.
    pub fn note_fit(&self, fits: bool) {
        let mut state = self.state();
        state.unfit = if fits { None } else { state.unfit.or_else(|| Some(Instant::now())) };
    }

    /// Has it not for so long?
    pub fn is_unfit_for(&self, time: Duration) -> bool {
        self.state().unfit.is_some_and(|since| since.elapsed() >= time)
    }

    /// How the origin failed, if it did since.
    pub fn failed_since(&self, time: Instant) -> Option<Error> {
        self.state().failed.as_ref().filter(|(at, _)| *at > time).map(|(_, error)| error.clone())
    }
}

impl<M: Clone> Turn<M> {
    /// From now on clients that begin get this.
    pub fn switch(&self, generation: Arc<Generation<M>>) {
        let mut state = self.0.state();
        if let Some(earlier) = state.current.replace(generation) {
            state.earlier.push_back(Arc::downgrade(&earlier));
        }
        state.earlier.retain(|earlier| earlier.strong_count() > 0);
        while state.earlier.len() > GENERATIONS {
            if let Some(oldest) = state.earlier.pop_front().and_then(|oldest| oldest.upgrade()) {
                oldest.members().clear();
            }
        }
    }

    /// The origin could not be asked, or failed.
    pub fn fail(&self, error: Error) {
        self.0.state().failed = Some((Instant::now(), error));
    }
}

impl<M> Drop for Turn<M> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.busy = false;
        state.waiters.wake_all();
    }
}

impl<M: Clone> Generation<M> {
    /// One with these members.
    pub fn new(members: BTreeMap<Key, M>) -> Arc<Self> {
        Arc::new(Self { members: Mutex::new(members) })
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
        self.members().insert(key.clone(), member);
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
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::beneath("", name).unwrap()
    }

    fn id(root: &str) -> SetId {
        SetId { rule: 0, root: root.to_owned() }
    }

    fn who(port: u16) -> Who {
        Who(SocketAddr::from(([10, 0, 0, 1], port)))
    }

    fn generation(members: &[(&str, u8)]) -> Arc<Generation<u8>> {
        Generation::new(members.iter().map(|&(name, value)| (key(name), value)).collect())
    }

    #[test]
    fn a_client_stays_with_its_generation_until_it_asks_for_a_member_again() {
        let sets = Sets::default();
        let old = generation(&[("a", 1), ("b", 1)]);
        assert!(sets.pinned(who(1), &id("x"), &key("a")).is_none());
        sets.pin(who(1), &id("x"), &key("a"), &old, true);
        let pinned = |port, name: &str| sets.pinned(who(port), &id("x"), &key(name));
        assert!(Arc::ptr_eq(&pinned(1, "b").unwrap(), &old));
        assert!(pinned(1, "a").is_none());
        sets.pin(who(1), &id("x"), &key("b"), &old, false);
        assert!(pinned(1, "a").is_none() && pinned(1, "b").is_none() && pinned(1, "c").is_some());
        // Anew: what was had before counts no more.
        sets.pin(who(1), &id("x"), &key("a"), &old, true);
        assert!(pinned(1, "b").is_some());
        assert!(sets.pinned(who(1), &id("y"), &key("b")).is_none());
    }

    #[test]
    fn a_connection_goes_before_its_address_and_a_new_one_is_taken_for_the_same_client() {
        let sets = Sets::default();
        let (old, new) = (generation(&[]), generation(&[]));
        sets.pin(who(1), &id("x"), &key("a"), &old, true);
        sets.pin(who(2), &id("x"), &key("a"), &new, true);
        let pinned = |port, name: &str| sets.pinned(who(port), &id("x"), &key(name));
        assert!(Arc::ptr_eq(&pinned(1, "b").unwrap(), &old));
        assert!(Arc::ptr_eq(&pinned(2, "b").unwrap(), &new));
        assert!(Arc::ptr_eq(&pinned(3, "b").unwrap(), &new));
        assert!(pinned(3, "a").is_none());
        let later = Instant::now() + SAME_ADDRESS;
        assert!(sets.table().pin(who(3), &id("x"), later).is_none());
        assert!(sets.table().pin(who(1), &id("x"), later).is_some());
    }

    #[test]
    fn sets_pins_and_generations_are_bounded() {
        let sets = Sets::default();
        for number in 0..SETS + 10 {
            sets.get(&id(&number.to_string()));
        }
        assert_eq!(sets.table().sets.len(), SETS);
        let old = generation(&[]);
        for port in 0..20_000 {
            sets.pin(who(port), &id("x"), &key("a"), &old, true);
        }
        assert!(sets.table().pins.len() <= PINS);
        let set = Arc::new(Set::default());
        let turn = Turn(Arc::clone(&set));
        let all: Vec<_> = (0..GENERATIONS + 3).map(|_| generation(&[("a", 1)])).collect();
        for generation in &all {
            turn.switch(Arc::clone(generation));
        }
        let full = all.iter().filter(|generation| generation.get(&key("a")).is_some()).count();
        assert_eq!(full, GENERATIONS + 1);
        assert!(set.is_current(all.last().unwrap()));
    }
}
