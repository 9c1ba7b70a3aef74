//! Stored responses that no plain file can represent: to targets with a query, one of several variants, with another
//! status than 200, with a content coding. Bounded; the least recently used goes first.

use std::future::pending;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Instant;

use futures_lite::future::or;

use super::aside::{Aside, Shelf};
use super::recency::{MEMORY, Recency, Weighed, Weight};
use crate::http::caching::stored::StoredHead;
use crate::http::fields::Fields;
use crate::key::Key;
use crate::rt::budget::{Budget, Permit, Share};
use crate::rt::lock::Lock;

#[cfg(test)]
mod tests;

/// One response may take this part of the memory.
const PART: usize = 8;
/// Long bodies leave this part of the memory free.
const SPARE_PART: usize = 4;
/// Bytes on the disk, of all responses together.
const MOST_ASIDE: u64 = 256 * 1024 * 1024;
/// Variants of one target.
const VARIANTS: usize = 32;
/// All of it is one share.
const SHARE: usize = 0;
/// Bytes that a response takes beside those of its body, head and key, with what the allocator loses: 1.2 KiB, measured
/// with glibc for small responses one after the other, and a reserve for less regular use.
const OVERHEAD: usize = 2 * 1024;

/// A body. It takes its room for as long as it is stored or sent, to a slow client too.
#[derive(Debug)]
struct Bytes {
    bytes: Vec<u8>,
    _room: Option<Permit>,
    /// Its copy on the disk, while a slow client is sent that.
    aside: Lock<Weak<Aside>>,
}

/// A body that is being sent. Its drop makes room for a request that waits for memory.
#[derive(Clone, Debug)]
pub struct MemoryBody {
    /// Taken on drop.
    bytes: Option<Arc<Bytes>>,
    memory: Arc<Memory>,
}

impl MemoryBody {
    /// Whether more than half of the memory is taken: slow clients are to hold none of it then.
    pub fn is_scarce(&self) -> bool {
        self.memory.used() > self.memory.most / 2
    }

    /// Copies the body to the disk, unless that is done already. Blocks: for a thread of the pool.
    pub fn put_aside(self, shelf: &Arc<Shelf>) -> io::Result<Arc<Aside>> {
        let Some(bytes) = &self.bytes else { return Err(io::ErrorKind::NotFound.into()) };
        let mut known = bytes.aside.lock();
        if let Some(aside) = known.upgrade() {
            return Ok(aside);
        }
        let aside = Arc::new(shelf.put(&bytes.bytes)?);
        *known = Arc::downgrade(&aside);
        Ok(aside)
    }
}

impl Deref for MemoryBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.as_ref().map_or(&[], |bytes| &bytes.bytes)
    }
}

impl Drop for MemoryBody {
    fn drop(&mut self) {
        self.bytes = None;
        self.memory.relieve();
    }
}

/// The body of a stored response, to be sent.
#[derive(Clone, Debug)]
pub enum StoredBody {
    /// In memory.
    Memory(MemoryBody),
    /// On the disk.
    Aside(Arc<Aside>),
}

impl StoredBody {
    /// Its length in bytes.
    pub fn count(&self) -> u64 {
        match self {
            Self::Memory(loan) => loan.len() as u64,
            Self::Aside(aside) => aside.count(),
        }
    }
}

/// A stored response, as it is put here and found.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its head.
    pub head: Arc<StoredHead>,
    /// Its body.
    pub body: StoredBody,
    /// When the origin validated it.
    pub checked: Instant,
}

/// The same inside the table.
#[derive(Debug)]
struct MemoryResponse {
    head: Arc<StoredHead>,
    body: Body,
    checked: Instant,
}

#[derive(Debug)]
enum Body {
    Memory(Arc<Bytes>),
    /// The room is for what the response takes in memory.
    Aside {
        bytes: Arc<Aside>,
        _room: Option<Permit>,
    },
}

/// The stored responses of one process.
#[derive(Debug)]
pub struct Memory {
    most: usize,
    /// For responses that are stored, being received, and being sent.
    budget: Arc<Budget>,
    /// The responses of one target are its variants, the newest last.
    table: Lock<Recency<Key, MemoryResponse>>,
}

impl Memory {
    /// Holds nothing yet, and at most `most` bytes.
    pub(crate) fn new(most: usize) -> Self {
        let budget = Budget::new(most, &[Share { least: 0, most }]);
        let table = Lock::new(Recency::new([u64::MAX, most as u64, MOST_ASIDE]));
        Self { most, budget, table }
    }

    /// The most bytes that it may hold.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Length of the longest body that is stored.
    pub fn longest(&self) -> usize {
        self.most / PART
    }

    /// Bytes that a response takes beside its body.
    pub fn overhead(key: &Key, head: &StoredHead) -> usize {
        OVERHEAD + 2 * key.as_str().len() + head_bytes(head)
    }

    /// A body that takes this room, to be sent.
    pub fn lend(self: &Arc<Self>, bytes: Vec<u8>, room: Permit) -> MemoryBody {
        let bytes = Bytes { bytes, _room: Some(room), aside: Lock::default() };
        self.lent(Arc::new(bytes))
    }

    fn lent(self: &Arc<Self>, bytes: Arc<Bytes>) -> MemoryBody {
        MemoryBody { bytes: Some(bytes), memory: Arc::clone(self) }
    }

    /// Room for `count` bytes: at once, if need be by eviction of responses that are not being sent, or when others give
    /// theirs back. The caller bounds the wait.
    pub async fn room(&self, count: usize) -> Permit {
        if let Some(room) = self.budget.try_take(SHARE, count) {
            return room;
        }
        let room = or(self.budget.take(SHARE, count, None), self.relieved()).await;
        // There may be enough for the next request, too.
        self.relieve();
        room
    }

    /// Makes room larger by `count` bytes for a long body, if need be by eviction; whether that could be done at once. A
    /// part is left for short bodies, however many long ones are being sent.
    pub fn enlarge(&self, room: &mut Permit, count: usize) -> bool {
        let with_spare = count.saturating_add(self.most / SPARE_PART);
        self.make_room(with_spare);
        self.most.saturating_sub(self.used()) >= with_spare && room.try_grow(count)
    }

    fn used(&self) -> usize {
        self.budget.used().iter().sum()
    }

    /// A number that changes whenever some memory is given back.
    pub fn freed(&self) -> u64 {
        self.budget.freed()
    }

    /// To be polled after the request is in the queue: evicts, and never ends.
    async fn relieved<T>(&self) -> T {
        self.relieve();
        pending().await
    }

    /// Makes room for the first request in the queue.
    fn relieve(&self) {
        if let Some(count) = self.budget.next(SHARE) {
            self.make_room(count);
        }
    }

    /// Evicts responses that are not being sent, the least recently used first, if `count` bytes are free after that.
    fn make_room(&self, count: usize) {
        let mut table = self.table.lock();
        let mut missing = count.saturating_sub(self.most.saturating_sub(self.used())) as u64;
        let mut idle = Vec::new();
        for (number, key, held) in table.iter() {
            if missing == 0 {
                break;
            }
            if held.is_idle() {
                missing = missing.saturating_sub(held.weight(key)[MEMORY]);
                idle.push(number);
            }
        }
        idle.retain(|_| missing == 0);
        let dropped: Vec<_> = idle.into_iter().map(|number| table.remove(number)).collect();
        // After the table is unlocked: their room wakes waiting requests.
        drop(table);
        drop(dropped);
    }

    /// The newest response of this target whose variant a request with these fields selects.
    pub fn find(self: &Arc<Self>, key: &Key, request: &Fields) -> Option<Held> {
        let mut table = self.table.lock();
        let (number, MemoryResponse { head, body, checked }) =
            table.of(key).rev().find(|(_, held)| held.head.variant.matches(request))?;
        let body = match body {
            Body::Memory(bytes) => StoredBody::Memory(self.lent(Arc::clone(bytes))),
            Body::Aside { bytes, .. } => StoredBody::Aside(Arc::clone(bytes)),
        };
        let held = Held { head: Arc::clone(head), body, checked: *checked };
        table.touch(number);
        Some(held)
    }

    /// Stores a response in the place of one of the same variant. The `room` is for what it takes beside its body, where
    /// that is on the disk.
    pub fn put(&self, key: &Key, held: &Held, room: Option<Permit>) {
        let body = match &held.body {
            _ if held.body.count() > self.longest() as u64 => return,
            StoredBody::Memory(MemoryBody { bytes: Some(bytes), .. }) => Body::Memory(Arc::clone(bytes)),
            StoredBody::Memory(_) => return,
            StoredBody::Aside(aside) => Body::Aside { bytes: Arc::clone(aside), _room: room },
        };
        let held = MemoryResponse { head: Arc::clone(&held.head), body, checked: held.checked };
        let mut table = self.table.lock();
        table.take(key, |known| known.head.variant == held.head.variant);
        let oldest = table.of(key).nth_back(VARIANTS - 1).map(|(number, _)| number);
        oldest.map(|number| table.remove(number));
        table.add(key.clone(), held);
    }

    /// Replaces the head `old` of a stored response.
    pub fn update(&self, key: &Key, old: &Arc<StoredHead>, head: Arc<StoredHead>, checked: Option<Instant>) {
        let mut table = self.table.lock();
        let found = table.of(key).find(|(_, held)| Arc::ptr_eq(&held.head, old)).map(|(number, _)| number);
        let Some(number) = found else { return };
        table.change(number, |held| {
            held.head = head;
            held.checked = checked.unwrap_or(held.checked);
        });
    }

    /// Removes the responses of a target: a file is newer.
    pub fn forget(&self, key: &Key) {
        self.table.lock().take(key, |_| true);
    }

    /// Has the responses of a target validated before they are used again.
    pub fn invalidate(&self, key: &Key) {
        let mut table = self.table.lock();
        let numbers: Vec<u64> = table.of(key).map(|(number, _)| number).collect();
        for number in numbers {
            table.change(number, |held| held.head = Arc::new(held.head.invalidated()));
        }
    }
}

impl MemoryResponse {
    /// Whether its eviction frees memory: it is not being sent.
    fn is_idle(&self) -> bool {
        match &self.body {
            Body::Memory(bytes) => Arc::strong_count(bytes) == 1,
            Body::Aside { .. } => true,
        }
    }
}

impl Weighed<Key> for MemoryResponse {
    fn weight(&self, key: &Key) -> Weight {
        let (bytes, aside) = match &self.body {
            Body::Memory(bytes) => (bytes.bytes.len(), 0),
            Body::Aside { bytes, .. } => (0, bytes.count()),
        };
        [1, (Memory::overhead(key, &self.head) + bytes) as u64, aside]
    }
}

/// Bytes that a head takes.
pub(crate) fn head_bytes(head: &StoredHead) -> usize {
    let fields = head.fields.iter().map(|(name, value)| name.len() + value.len() + size_of::<[usize; 3]>());
    let variant =
        head.variant.0.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len) + 48);
    fields.sum::<usize>() + variant.sum::<usize>()
}
