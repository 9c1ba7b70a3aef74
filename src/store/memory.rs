//! Answers that no plain file can stand for: of targets with a query, of one of several variants,
//! with another status than 200, coded. Bounded; what was asked for least lately goes first.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::http::caching::stored::StoredHead;
use crate::http::fields::Fields;
use crate::key::Key;
use crate::rt::budget::{Budget, Permit, Share};

/// Of the memory, one answer may take one part of so many.
const PART: usize = 8;
/// Variants of one target.
const VARIANTS: usize = 32;
/// What an answer takes beside the bytes of its body, head and key: half a KiB, and what the allocator loses between
/// it and what its exchange needed for a moment (5.4 KiB with io_uring, hardly any with epoll, measured with glibc).
const OVERHEAD: usize = 6 * 1024;

/// The body of an answer. It takes its room for as long as anybody has it: a client that reads slowly, too.
#[derive(Debug)]
pub struct Bytes {
    bytes: Vec<u8>,
    _room: Option<Permit>,
}

impl Bytes {
    /// These bytes, which take this room.
    pub fn new(bytes: Vec<u8>, room: Permit) -> Self {
        Self { bytes, _room: Some(room) }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A stored answer.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its head.
    pub head: Arc<StoredHead>,
    /// Its body.
    pub body: Arc<Bytes>,
    /// When the origin vouched for it.
    pub checked: Instant,
}

/// The answers of one process.
#[derive(Debug)]
pub struct Memory {
    most: usize,
    /// What is stored, what is being received, and what is being sent.
    budget: Arc<Budget>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Those of one target, the newest last, each with the time of its last use.
    targets: HashMap<Key, Vec<(u64, Held)>>,
    /// By last use.
    order: BTreeMap<u64, Key>,
    bytes: usize,
    /// Counts uses.
    clock: u64,
}

impl Memory {
    /// Holds nothing yet, and at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        let budget = Budget::new(most, &[Share { least: 0, most }]);
        Self { most, budget, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the longest body that is held.
    pub fn longest(&self) -> usize {
        self.most / PART
    }

    /// Bytes that an answer takes beside its body.
    pub fn overhead(key: &Key, head: &StoredHead) -> usize {
        OVERHEAD + 2 * key.as_str().len() + head_bytes(head)
    }

    /// Room for so many bytes, if need be in the place of what nobody reads.
    pub fn room(&self, count: usize) -> Option<Permit> {
        let take = || self.budget.try_take(0, count);
        take().or_else(|| {
            self.make_room(count);
            take()
        })
    }

    /// Makes a room so much larger, in the same way; whether that could be done.
    pub fn enlarge(&self, room: &mut Permit, count: usize) -> bool {
        room.try_grow(count) || {
            self.make_room(count);
            room.try_grow(count)
        }
    }

    /// Drops what nobody reads, until so many bytes are free; what was asked for least lately goes first.
    fn make_room(&self, count: usize) {
        let mut table = self.table();
        let mut missing = count.saturating_sub(self.most.saturating_sub(self.budget.used().iter().sum()));
        let mut gone = Vec::new();
        for (used, key) in &table.order {
            if missing == 0 {
                break;
            }
            let held = table.targets.get(key).and_then(|held| held.iter().find(|(time, _)| time == used));
            if let Some((_, held)) = held.filter(|(_, held)| Arc::strong_count(&held.body) == 1) {
                missing = missing.saturating_sub(cost(key, held));
                gone.push(*used);
            }
        }
        gone.into_iter().for_each(|used| table.remove(used));
    }

    /// The newest answer of this target that is for a request with these fields.
    pub fn find(&self, key: &Key, request: &Fields) -> Option<Held> {
        let mut table = self.table();
        let Table { targets, order, clock, .. } = &mut *table;
        let found =
            targets.get_mut(key)?.iter_mut().rev().find(|(_, held)| held.head.variant.matches(request))?;
        order.remove(&found.0);
        *clock += 1;
        found.0 = *clock;
        order.insert(*clock, key.clone());
        Some(found.1.clone())
    }

    /// Holds an answer in the place of one of the same variant.
    pub fn put(&self, key: &Key, held: Held) {
        if held.body.len() > self.longest() {
            return;
        }
        let mut table = self.table();
        table.take(key, |known| known.head.variant == held.head.variant);
        table.clock += 1;
        let now = table.clock;
        table.bytes += cost(key, &held);
        table.order.insert(now, key.clone());
        let variants = table.targets.entry(key.clone()).or_default();
        variants.push((now, held));
        let oldest = (variants.len() > VARIANTS).then(|| variants[0].0);
        if let Some(oldest) = oldest {
            table.remove(oldest);
        }
        while table.bytes > self.most {
            let Some((&used, _)) = table.order.first_key_value() else { return };
            table.remove(used);
        }
    }

    /// Gives an answer that is held as `old` another head.
    pub fn update(&self, key: &Key, old: &Arc<StoredHead>, head: Arc<StoredHead>, checked: Option<Instant>) {
        let mut table = self.table();
        let Some(variants) = table.targets.get_mut(key) else { return };
        let Some((_, held)) = variants.iter_mut().find(|(_, held)| Arc::ptr_eq(&held.head, old)) else {
            return;
        };
        let (before, after) = (head_bytes(&held.head), head_bytes(&head));
        held.head = head;
        held.checked = checked.unwrap_or(held.checked);
        table.bytes = (table.bytes + after).saturating_sub(before);
    }

    /// Drops what it holds of a target: a file is newer.
    pub fn forget(&self, key: &Key) {
        self.table().take(key, |_| true);
    }

    /// Marks what it holds of a target to be checked.
    pub fn invalidate(&self, key: &Key) {
        for (_, held) in self.table().targets.get_mut(key).into_iter().flatten() {
            held.head = Arc::new(held.head.invalidated());
        }
    }
}

impl Table {
    fn take(&mut self, key: &Key, mut which: impl FnMut(&Held) -> bool) {
        let Some(variants) = self.targets.get(key) else { return };
        let gone: Vec<u64> = variants.iter().filter(|(_, held)| which(held)).map(|(used, _)| *used).collect();
        gone.into_iter().for_each(|used| self.remove(used));
    }

    fn remove(&mut self, used: u64) {
        let Some(key) = self.order.remove(&used) else { return };
        let Some(variants) = self.targets.get_mut(&key) else { return };
        if let Some(at) = variants.iter().position(|(time, _)| *time == used) {
            let (_, held) = variants.remove(at);
            self.bytes = self.bytes.saturating_sub(cost(&key, &held));
        }
        if variants.is_empty() {
            self.targets.remove(&key);
        }
    }
}

fn cost(key: &Key, held: &Held) -> usize {
    Memory::overhead(key, &held.head) + held.body.len()
}

/// Bytes that a head takes.
pub(super) fn head_bytes(head: &StoredHead) -> usize {
    let fields = head.fields.iter().map(|(name, value)| name.len() + value.len() + size_of::<[usize; 3]>());
    let variant =
        head.variant.0.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len) + 48);
    fields.sum::<usize>() + variant.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::caching::vary::Variant;
    use proptest::prelude::*;

    fn key(number: usize) -> Key {
        Key::resource(b"/a", Some(number.to_string().as_bytes()))
    }

    fn held(size: usize, variant: &str) -> Held {
        let mut head = StoredHead::unknown(0, "x");
        head.variant = Variant(vec![("v".to_owned(), Some(variant.into()))]);
        Held {
            head: Arc::new(head),
            body: Arc::new(Bytes { bytes: vec![0; size], _room: None }),
            checked: Instant::now(),
        }
    }

    fn asks(variant: &str) -> Fields {
        Fields::from_iter([("V", variant)])
    }

    #[test]
    fn variants_stand_side_by_side_and_one_of_the_same_is_replaced() {
        let memory = Memory::new(100_000);
        memory.put(&key(1), held(1, "a"));
        memory.put(&key(1), held(2, "b"));
        memory.put(&key(1), held(3, "a"));
        let size = |variant: &str| memory.find(&key(1), &asks(variant)).map(|held| held.body.len());
        assert_eq!((size("a"), size("b"), size("c")), (Some(3), Some(2), None));
        memory.forget(&key(1));
        assert_eq!(size("a"), None);
        let table = memory.table();
        assert_eq!((table.bytes, table.order.len()), (0, 0));
    }

    #[test]
    fn what_was_asked_for_least_lately_goes_first() {
        let memory = Memory::new(9 * (4000 + OVERHEAD));
        for number in 0..8 {
            memory.put(&key(number), held(4000, "a"));
        }
        assert!(memory.find(&key(0), &asks("a")).is_some());
        memory.put(&key(8), held(4000, "a"));
        memory.put(&key(9), held(4000, "a"));
        assert!(memory.find(&key(0), &asks("a")).is_some());
        assert!(memory.find(&key(1), &asks("a")).is_none());
    }

    #[test]
    fn what_is_too_long_is_not_held() {
        let memory = Memory::new(8000);
        memory.put(&key(1), held(1001, "a"));
        assert!(memory.find(&key(1), &asks("a")).is_none());
    }

    #[test]
    fn a_target_has_a_bounded_number_of_variants() {
        let memory = Memory::new(10_000_000);
        for number in 0..=VARIANTS {
            memory.put(&key(1), held(1, &number.to_string()));
        }
        assert!(memory.find(&key(1), &asks("0")).is_none());
        assert!(memory.find(&key(1), &asks("1")).is_some());
    }

    #[test]
    fn an_updated_head_is_found_and_one_that_was_replaced_meanwhile_is_not_updated() {
        let memory = Memory::new(100_000);
        memory.put(&key(1), held(1, "a"));
        let old = memory.find(&key(1), &asks("a")).unwrap().head;
        let mut new = StoredHead::clone(&old);
        new.fields.push(b"A", b"1");
        let new = Arc::new(new);
        memory.update(&key(1), &old, Arc::clone(&new), None);
        assert!(memory.find(&key(1), &asks("a")).unwrap().head.fields.contains("a"));
        memory.update(&key(1), &old, old.clone(), None);
        assert!(Arc::ptr_eq(&memory.find(&key(1), &asks("a")).unwrap().head, &new));
        memory.invalidate(&key(1));
        assert!(memory.find(&key(1), &asks("a")).unwrap().head.invalid);
    }

    proptest! {
        #[test]
        fn never_more_than_it_may(puts in prop::collection::vec((0..12_usize, 0..3000_usize, "[abc]"), 0..60)) {
            let memory = Memory::new(20_000);
            for (number, size, variant) in puts {
                memory.put(&key(number), held(size, &variant));
                let table = memory.table();
                let counted: usize = table.targets.iter()
                    .flat_map(|(key, held)| held.iter().map(move |(_, held)| cost(key, held))).sum();
                let entries: usize = table.targets.values().map(Vec::len).sum();
                prop_assert_eq!(table.bytes, counted);
                prop_assert_eq!(table.order.len(), entries);
                prop_assert!(table.bytes <= 20_000);
            }
        }
    }
}
