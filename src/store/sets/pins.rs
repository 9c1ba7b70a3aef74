//! Which client is pinned to which generation.
//!
//! A pin lives as long as its client may still go on. Where there is no room, what one client address holds beyond its
//! share goes first; nobody loses a live pin by what another does.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Generation, SetId};
use crate::key::Key;
use crate::rt::budget::Holder;

/// Pins at a time, over all sets.
pub(super) const PINS: usize = 16_384;
/// Where there is no room, one client address may hold one part of so many: of the pins, and of the sets.
pub(super) const SHARE: usize = 4;
/// How long a new connection of the same address counts as the same client, from its last request on. Package
/// managers open several connections, or one for each file, within seconds.
pub(super) const SAME_ADDRESS: Duration = Duration::from_secs(30);
/// How long the silence of a connection may last before it is another's. Longer than connections may idle.
pub(super) const SAME_CONNECTION: Duration = Duration::from_secs(600);
/// Pins that are over are looked for so often at the most.
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
    /// What this client may be known by, the surest first.
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

    /// Whom it counts for.
    fn holder(self) -> Holder {
        match self {
            Self::Connection(socket) => socket.ip().into(),
            Self::Address(address) => address.into(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Pin<M> {
    pub(super) generation: Arc<Generation<M>>,
    /// Members that the client has had of it.
    pub(super) seen: HashSet<Key>,
    used: Instant,
}

/// All pins.
#[derive(Debug)]
pub(super) struct Pins<M> {
    all: HashMap<(Name, SetId), Pin<M>>,
    purged: Option<Instant>,
}

impl<M> Default for Pins<M> {
    fn default() -> Self {
        Self { all: HashMap::new(), purged: None }
    }
}

impl<M> Pins<M> {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The live pin of this client.
    pub(super) fn get(&self, who: Who, id: &SetId, now: Instant) -> Option<&Pin<M>> {
        who.names().into_iter().find_map(|name| {
            let pin = self.all.get(&(name, id.clone()))?;
            is_live(name, pin, now).then_some(pin)
        })
    }

    /// Pins this client, unless there is no room.
    pub(super) fn put(
        &mut self,
        who: Who,
        id: &SetId,
        generation: &Arc<Generation<M>>,
        seen: &HashSet<Key>,
        now: Instant,
    ) {
        if !self.has_room(now) {
            return;
        }
        for name in who.names() {
            let pin = Pin { generation: Arc::clone(generation), seen: seen.clone(), used: now };
            self.all.insert((name, id.clone()), pin);
        }
    }

    /// The client goes on with another generation.
    pub(super) fn carry(&mut self, who: Who, id: &SetId, from: &Arc<Generation<M>>, to: &Arc<Generation<M>>) {
        for name in who.names() {
            if let Some(pin) = self.all.get_mut(&(name, id.clone()))
                && Arc::ptr_eq(&pin.generation, from)
            {
                pin.generation = Arc::clone(to);
            }
        }
    }

    /// Drops the pins of a set.
    pub(super) fn forget(&mut self, set: &SetId) {
        self.all.retain(|(_, id), _| id != set);
    }

    /// Drops pins that are over, and so what only they held.
    pub(super) fn purge(&mut self, now: Instant) {
        self.purged = Some(now);
        self.all.retain(|(name, _), pin| is_live(*name, pin, now));
    }

    /// The same, but not all the time.
    pub(super) fn purge_at_times(&mut self, now: Instant) {
        if self.purged.is_none_or(|last| now.saturating_duration_since(last) >= PURGE) {
            self.purge(now);
        }
    }

    /// Whether there is room for the two pins of a client. What the address with the most has had longest goes, if
    /// that holds more than its share.
    fn has_room(&mut self, now: Instant) -> bool {
        self.purge_at_times(now);
        if self.all.len() + 2 <= PINS {
            return true;
        }
        let mut counts: HashMap<Holder, usize> = HashMap::new();
        for (name, _) in self.all.keys() {
            *counts.entry(name.holder()).or_default() += 1;
        }
        let Some((greediest, count)) = counts.into_iter().max_by_key(|(_, count)| *count) else {
            return false;
        };
        if count <= PINS / SHARE {
            return false;
        }
        let theirs = self.all.iter().filter(|((name, _), _)| name.holder() == greediest);
        let mut times: Vec<Instant> = theirs.map(|(_, pin)| pin.used).collect();
        // A part of them at a time, so that this is seldom.
        let (_, &mut until, _) = times.select_nth_unstable(count / SHARE);
        self.all.retain(|(name, _), pin| name.holder() != greediest || pin.used > until);
        self.all.len() + 2 <= PINS
    }

    /// The sets with live pins: each with the address that alone has them, or `None` for several.
    pub(super) fn holders(&self, now: Instant) -> HashMap<&SetId, Option<Holder>> {
        let mut holders = HashMap::new();
        for ((name, id), pin) in &self.all {
            if !is_live(*name, pin, now) {
                continue;
            }
            match holders.entry(id) {
                Entry::Vacant(entry) => drop(entry.insert(Some(name.holder()))),
                Entry::Occupied(mut entry) => {
                    if *entry.get() != Some(name.holder()) {
                        entry.insert(None);
                    }
                }
            }
        }
        holders
    }
}

fn is_live<M>(name: Name, pin: &Pin<M>, now: Instant) -> bool {
    now.saturating_duration_since(pin.used) < name.life()
}
