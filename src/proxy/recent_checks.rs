//! Which files of the immutable class the origin was asked about, and when: once in a while for each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::key::Key;

/// A file is not asked about again for so long.
const PAUSE: Duration = Duration::from_secs(10);
/// The same after a new one has come: an origin that sends a whole file each time is asked for few.
const PAUSE_AFTER_NEW: Duration = Duration::from_secs(60);
/// Files remembered. With as many asked about lately, no other is.
const FILES: usize = 4096;

/// When the origin was asked about which files.
#[derive(Debug, Default)]
pub struct Revalidated(Mutex<HashMap<Key, Seen>>);

#[derive(Debug)]
struct Seen {
    /// The next time it may be asked.
    due: Instant,
    /// The entity tag of a file that came so.
    tag: Option<Tag>,
}

#[derive(Debug)]
struct Tag {
    text: Box<[u8]>,
    /// The file: device and inode.
    of: (u64, u64),
}

impl Revalidated {
    fn files(&self) -> MutexGuard<'_, HashMap<Key, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May the origin be asked about it?
    pub fn is_due(&self, key: &Key, now: Instant) -> bool {
        self.files().get(key).is_none_or(|seen| seen.due <= now)
    }

    /// Takes the turn of a file that is due; false if it is not, or too many are remembered.
    pub fn begin(&self, key: &Key, now: Instant) -> bool {
        let mut files = self.files();
        if files.len() >= FILES && !files.contains_key(key) {
            files.retain(|_, seen| seen.due > now);
        }
        let has_room = files.len() < FILES;
        match files.entry(key.clone()) {
            Entry::Occupied(mut seen) if seen.get().due <= now => seen.get_mut().due = now + PAUSE,
            Entry::Vacant(place) if has_room => drop(place.insert(Seen { due: now + PAUSE, tag: None })),
            Entry::Occupied(_) | Entry::Vacant(_) => return false,
        }
        true
    }

    /// A new file comes.
    pub fn note_new(&self, key: &Key, tag: Option<&[u8]>, id: (u64, u64)) {
        if let Some(seen) = self.files().get_mut(key) {
            seen.due = Instant::now() + PAUSE_AFTER_NEW;
            seen.tag = tag.map(|text| Tag { text: text.into(), of: id });
        }
    }

    /// The tag that the file with this device and inode came with, if it came so.
    pub fn tag(&self, key: &Key, id: (u64, u64)) -> Option<Box<[u8]>> {
        let files = self.files();
        let tag = files.get(key)?.tag.as_ref()?;
        (tag.of == id).then(|| tag.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::beneath("", &number.to_string()).unwrap()
    }

    #[test]
    fn a_file_has_its_turn_once_in_a_while_and_there_are_no_more_than_so_many() {
        let (files, now) = (Revalidated::default(), Instant::now());
        assert!(files.is_due(&key(0), now) && files.begin(&key(0), now));
        assert!(!files.is_due(&key(0), now) && !files.begin(&key(0), now));
        files.note_new(&key(0), Some(b"\"x\""), (1, 2));
        assert_eq!(files.tag(&key(0), (1, 2)).as_deref(), Some(&b"\"x\""[..]));
        assert!(files.tag(&key(0), (1, 3)).is_none());
        assert!(!files.begin(&key(0), now + PAUSE));
        for number in 1..FILES {
            assert!(files.begin(&key(number), now));
        }
        assert!(!files.begin(&key(FILES), now) && files.begin(&key(FILES), now + PAUSE));
        assert!(files.files().len() <= FILES);
    }
}
