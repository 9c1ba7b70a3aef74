//! Which client is pinned to which generation.
//!
//! A pin lives as long as its client may continue, and keeps its set. No live pin is dropped: where there is no room, or
//! its address has its share, a client gets none.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Generation, Set, SetId};
use crate::key::Key;
use crate::rt::budget::Holder;

/// Pins at a time, over all sets.
pub(crate) const PINS: usize = 16_384;
/// Of these, the most for one client address.
pub(crate) const SHARE: usize = PINS / 4;
/// How long a new connection of the same address counts as the same client, from its last request on. Package
/// managers open several connections, or one for each file, within seconds.
pub(crate) const SAME_ADDRESS: Duration = Duration::from_secs(30);
/// How long the silence of a connection may last before it is another's. Longer than connections may idle.
pub(crate) const SAME_CONNECTION: Duration = Duration::from_secs(600);
/// The least time between two removals of expired pins.
const PURGE: Duration = Duration::from_secs(2);

/// Whose request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who(pub SocketAddr);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    Connection(SocketAddr),
    Address(IpAddr),
}

impl Who {
    /// The names that this client is known by, the surest first.
    fn names(self) -> [Name; 2] {
        [Name::Connection(self.0), Name::Address(self.0.ip())]
    }
}

impl Name {
    /// How long a pin of this name lives after its last use.
    fn life(self) -> Duration {
        match self {
            Self::Connection(_) => SAME_CONNECTION,
            Self::Address(_) => SAME_ADDRESS,
        }
    }

    /// The address that it counts for.
    fn holder(self) -> Holder {
        match self {
            Self::Connection(socket) => socket.ip().into(),
            Self::Address(address) => address.into(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Pin {
    pub(crate) generation: Arc<Generation>,
    /// Kept as long as a client continues with it.
    pub(crate) _set: Arc<Set>,
    /// Members that the client has had of it, or only the heads of.
    pub(crate) seen: HashSet<Key>,
    /// It has had one of them by GET.
    pub(crate) has_read: bool,
    pub(crate) used: Instant,
}

/// What a request wants of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The file, by GET.
    Read,
    /// Its head.
    Head,
}

impl Pin {
    /// Of a client that has asked for one member of this generation.
    pub(crate) fn new(
        (set, generation): (&Arc<Set>, &Arc<Generation>),
        key: &Key,
        access: Access,
        now: Instant,
    ) -> Self {
        let (generation, set, seen) = (Arc::clone(generation), Arc::clone(set), HashSet::from([key.clone()]));
        Self { generation, _set: set, seen, has_read: access == Access::Read, used: now }
    }

    /// The same of a client that asks for one more of the same generation. Before it reads the first, nothing that it
    /// has asked for counts as read.
    pub(crate) fn and(&self, key: &Key, access: Access, now: Instant) -> Self {
        let mut pin = Self { used: now, ..self.clone() };
        match access {
            Access::Head if self.has_read => {}
            Access::Read if !self.has_read => (pin.seen, pin.has_read) = (HashSet::from([key.clone()]), true),
            Access::Head | Access::Read => drop(pin.seen.insert(key.clone())),
        }
        pin
    }
}

/// All pins.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    all: HashMap<(Name, SetId), Pin>,
    /// How many each address has.
    held: HashMap<Holder, usize>,
    purged: Option<Instant>,
}

impl Pins {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The live pin of this client.
    pub(crate) fn get(&self, who: Who, id: &SetId, now: Instant) -> Option<&Pin> {
        who.names().into_iter().find_map(|name| {
            let pin = self.all.get(&(name, id.clone()))?;
            is_live(name, pin, now).then_some(pin)
        })
    }

    /// Pins this client, unless there is no room.
    pub(crate) fn put(&mut self, who: Who, id: &SetId, new: &Pin, now: Instant) {
        self.purge_at_times(now);
        for name in who.names() {
            let pin = || new.clone();
            let (at, full) = ((name, id.clone()), self.all.len() >= PINS);
            if let Some(known) = self.all.get_mut(&at) {
                *known = pin();
                continue;
            }
            let held = self.held.entry(name.holder()).or_default();
            if !full && *held < SHARE {
                *held += 1;
                self.all.insert(at, pin());
            }
        }
    }

    /// The client continues with another generation.
    pub(crate) fn carry(&mut self, who: Who, id: &SetId, from: &Arc<Generation>, to: &Arc<Generation>) {
        for name in who.names() {
            if let Some(pin) = self.all.get_mut(&(name, id.clone()))
                && Arc::ptr_eq(&pin.generation, from)
            {
                pin.generation = Arc::clone(to);
            }
        }
    }

    /// Drops expired pins, and what only they held.
    pub(crate) fn purge(&mut self, now: Instant) {
        self.purged = Some(now);
        self.all.retain(|(name, _), pin| is_live(*name, pin, now));
        self.held.clear();
        for (name, _) in self.all.keys() {
            *self.held.entry(name.holder()).or_default() += 1;
        }
    }

    /// The same, but not all the time.
    fn purge_at_times(&mut self, now: Instant) {
        if self.purged.is_none_or(|last| now.saturating_duration_since(last) >= PURGE) {
            self.purge(now);
        }
    }
}

fn is_live(name: Name, pin: &Pin, now: Instant) -> bool {
    now.saturating_duration_since(pin.used) < name.life()
}
