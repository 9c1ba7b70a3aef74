//! A bounded table that evicts the least recently used entries (LRU).

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Entries, bytes in memory, bytes on the disk.
pub(crate) type Weight = [u64; 3];

/// Where in a [`Weight`] the bytes in memory are.
pub(crate) const MEMORY: usize = 1;

/// What can be held in a [`Recency`].
pub(crate) trait Weighed<K> {
    /// What it takes in the table under this key.
    fn weight(&self, key: &K) -> Weight;
}

/// One value or several for each key. Each value has a number: the later it was used, the higher.
#[derive(Debug)]
pub(crate) struct Recency<K, V> {
    most: Weight,
    held: Weight,
    /// The numbers of a key's values, in the order in which they were added.
    numbers: HashMap<K, Vec<u64>>,
    entries: BTreeMap<u64, (K, V)>,
    /// The last number that was given.
    clock: u64,
}

impl<K: Clone + Eq + Hash, V: Weighed<K>> Recency<K, V> {
    /// An empty table that holds at most `most`.
    pub(crate) fn new(most: Weight) -> Self {
        Self { most, held: [0; 3], numbers: HashMap::new(), entries: BTreeMap::new(), clock: 0 }
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What it holds.
    #[cfg(test)]
    pub(crate) fn held(&self) -> Weight {
        self.held
    }

    /// The values of a key with their numbers, in the order in which they were added.
    pub(crate) fn of(&self, key: &K) -> impl DoubleEndedIterator<Item = (u64, &V)> {
        let numbers = self.numbers.get(key).into_iter().flatten();
        numbers.filter_map(|number| Some((*number, &self.entries.get(number)?.1)))
    }

    /// All values with their numbers, the least recently used first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &K, &V)> {
        self.entries.iter().map(|(number, (key, value))| (*number, key, value))
    }

    /// Adds a value: those that were evicted for it.
    pub(crate) fn add(&mut self, key: K, value: V) -> Vec<(K, V)> {
        self.clock += 1;
        self.weigh([0; 3], value.weight(&key));
        self.numbers.entry(key.clone()).or_default().push(self.clock);
        self.entries.insert(self.clock, (key, value));
        let mut gone = Vec::new();
        while let Some(oldest) = self.too_many() {
            gone.extend(self.remove(oldest));
        }
        gone
    }

    /// The value to be evicted, if the table is over a limit: the least recently used that weighs on that limit.
    fn too_many(&self) -> Option<u64> {
        let short = (0..self.most.len()).find(|&at| self.held[at] > self.most[at])?;
        self.iter().find(|(_, key, value)| value.weight(key)[short] > 0).map(|(oldest, ..)| oldest)
    }

    /// The same in the place of all values of the key.
    pub(crate) fn put(&mut self, key: K, value: V) -> Vec<(K, V)> {
        self.take(&key, |_| true);
        self.add(key, value)
    }

    /// Marks a value as used now: it gets a new number.
    pub(crate) fn touch(&mut self, number: u64) {
        let Some((key, value)) = self.entries.remove(&number) else { return };
        self.clock += 1;
        let numbers = self.numbers.get_mut(&key).into_iter().flatten();
        numbers.filter(|known| **known == number).for_each(|known| *known = self.clock);
        self.entries.insert(self.clock, (key, value));
    }

    /// Changes a value in place.
    pub(crate) fn change(&mut self, number: u64, change: impl FnOnce(&mut V)) {
        let Some((key, value)) = self.entries.get_mut(&number) else { return };
        let before = value.weight(key);
        change(value);
        let after = value.weight(key);
        self.weigh(before, after);
    }

    /// Removes the values of a key that match.
    pub(crate) fn take(&mut self, key: &K, mut which: impl FnMut(&V) -> bool) {
        let gone: Vec<u64> =
            self.of(key).filter(|(_, value)| which(value)).map(|(number, _)| number).collect();
        gone.into_iter().for_each(|number| drop(self.remove(number)));
    }

    /// Removes a value.
    pub(crate) fn remove(&mut self, number: u64) -> Option<(K, V)> {
        let (key, value) = self.entries.remove(&number)?;
        if let Some(numbers) = self.numbers.get_mut(&key) {
            numbers.retain(|known| *known != number);
            if numbers.is_empty() {
                self.numbers.remove(&key);
            }
        }
        self.weigh(value.weight(&key), [0; 3]);
        Some((key, value))
    }

    fn weigh(&mut self, before: Weight, after: Weight) {
        for (held, (before, after)) in self.held.iter_mut().zip(before.into_iter().zip(after)) {
            *held = held.saturating_add(after).saturating_sub(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weighed<u8> for Weight {
        fn weight(&self, _: &u8) -> Weight {
            *self
        }
    }

    #[test]
    fn what_was_used_least_lately_and_takes_what_is_short_goes_first() {
        let mut table = Recency::new([3, 10, 10]);
        for key in 0..3 {
            assert!(table.add(key, [1, 1, u64::from(key)]).is_empty());
        }
        table.touch(1);
        assert_eq!(table.add(3, [1, 1, 0]), [(1, [1, 1, 1])]);
        assert_eq!(table.add(4, [0, 0, 9]), [(2, [1, 1, 2])], "key 0 takes no disk");
        assert_eq!(table.held(), [2, 2, 9]);
        table.change(4, |weight| weight[1] = 7);
        assert_eq!(table.held(), [2, 8, 9]);
        assert_eq!(table.put(4, [1, 99, 0]).len(), 3, "longer than all that may be held");
        assert_eq!((table.held(), table.of(&4).count()), ([0; 3], 0));
    }
}
