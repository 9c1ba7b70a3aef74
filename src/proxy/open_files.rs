//! Files asked for lately, ready to be sent: open, with their head written, and small ones with
//! their body behind it, so that one call sends them. One table a worker, no lock.
//!
//! A file is found by the path as it came; what that path means never changes while the program
//! runs. Each hit looks at the open file, which shows whether it was deleted, replaced or changed;
//! a directory above it that was renamed shows only when the name is looked up again.

use crate::downstream::head;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cache::{Entry, Found, Store};
use crate::config::FileLimits;
use crate::downstream::readahead::{self, FRESH, WINDOW};
use crate::http::etag::{etag, unix_millis};
use crate::http::fields::Fields;
use crate::http::response::HeadWriter;
use crate::http::{date, mime};
use crate::key::Key;
use crate::outcome::Outcome;
use crate::rt::tick::{LastCheck, Ticks};
use crate::sys::{clock, file};

/// Ticks of the housekeeper, one a second, after which a file that nobody asked for is closed.
const UNUSED: u32 = 10;
/// Of so many files the one unused for longest goes when there is no room.
const CANDIDATES: usize = 8;
/// Bytes of a request's path by which a file is remembered. One that came by a longer path is looked up each time.
const LONGEST_PATH: usize = 1024;
/// Files asked for last that stay open although others want their descriptors.
const DEAR: usize = 8;

/// A file ready to be sent.
pub struct Ready {
    /// Its place in the cache.
    pub key: Key,
    /// The open file.
    pub entry: Arc<Entry>,
    /// Its tag.
    pub etag: String,
    /// Its date, seconds since 1970.
    pub modified: u64,
    /// When so many of its first bytes were known to be in memory, on the steady clock.
    warm: Cell<(Duration, u64)>,
    /// When it was last found unchanged.
    checked: LastCheck,
    /// When its name was looked up, on the steady clock.
    looked_up: Cell<Duration>,
    /// Bytes of the head in the message.
    head: usize,
    message: RefCell<Message>,
}

/// The answer to a plain GET, on a connection that stays.
struct Message {
    /// The head, and the body if that is kept.
    bytes: Vec<u8>,
    /// Where in it the date stands, and the second that it tells.
    date_at: usize,
    date: u64,
}

impl Ready {
    /// Describes an open file, and reads it if it is no longer than `small` bytes and takes no disk.
    /// Its head tells that it is a hit if that is to be `told`.
    pub fn new(key: Key, entry: Entry, small: u64, told: bool) -> Self {
        Self::with(key, entry, told, |entry, bytes| {
            if entry.info.size <= small {
                read_body(entry, bytes, |buffer, at| readahead::read_now(&entry.file, buffer, at));
            }
        })
    }

    /// The same with its whole body. May wait for the disk.
    pub fn read(key: Key, entry: Entry, told: bool) -> Self {
        Self::with(key, entry, told, |entry, bytes| {
            read_body(entry, bytes, |buffer, at| file::read_at(&entry.file, buffer, at));
        })
    }

    fn with(key: Key, entry: Entry, told: bool, read: impl FnOnce(&Entry, &mut Vec<u8>)) -> Self {
        let millis = unix_millis(entry.info.modified);
        let etag = etag(entry.info.size, millis);
        let modified = millis / 1000;
        let mut described = HeadWriter::new(200)
            .fields(&described(&key, &etag, modified))
            .field("Content-Length", entry.info.size.to_string())
            .field("Accept-Ranges", "bytes");
        if told {
            described = head::tell(described, Outcome::Hit(None), 0);
        }
        let date_at = described.written() + b"Date: ".len();
        let mut bytes = described.field("Date", date::format(0)).field("Connection", "keep-alive").finish();
        let head_bytes = bytes.len();
        read(&entry, &mut bytes);
        bytes.shrink_to_fit();
        let message = RefCell::new(Message { bytes, date_at, date: 0 });
        Self {
            key,
            entry: Arc::new(entry),
            etag,
            modified,
            warm: Cell::new((Duration::ZERO, 0)),
            checked: LastCheck::default(),
            looked_up: Cell::new(clock::steady()),
            head: head_bytes,
            message,
        }
    }

    /// The fields that tell about the file.
    pub fn fields(&self) -> Fields {
        described(&self.key, &self.etag, self.modified)
    }

    /// Is the body kept in memory?
    pub fn has_body(&self) -> bool {
        self.body_bytes() as u64 == self.entry.info.size
    }

    /// Hands the head of the plain answer, and the body if that is kept, to `send`.
    pub fn with_message<T>(&self, send: impl FnOnce(&[u8]) -> T) -> T {
        let mut message = self.message.borrow_mut();
        message.tell_date();
        send(&message.bytes)
    }

    /// Are its first `bytes` in memory, as far as is known?
    pub fn is_warm(&self, bytes: u64) -> bool {
        let (now, bytes) = (clock::steady(), self.entry.info.size.min(bytes));
        let (known, upto) = self.warm.get();
        if bytes <= upto && now.saturating_sub(known) < FRESH {
            return true;
        }
        // A look at more than a turn would cost more than it saves.
        let warm = bytes <= WINDOW && readahead::is_warm(&self.entry.file, 0, bytes);
        if warm {
            self.warm.set((now, bytes));
        }
        warm
    }

    /// Notes that all of it was sent just now. Where nobody can tell what is in memory, this does.
    pub fn note_sent(&self) {
        self.warm.set((clock::steady(), self.entry.info.size));
    }

    /// Bytes of the head in that message.
    pub fn head(&self) -> usize {
        self.head
    }

    fn body_bytes(&self) -> usize {
        self.message.borrow().bytes.len() - self.head
    }
}

fn described(key: &Key, etag: &str, modified: u64) -> Fields {
    let mut fields = Fields::new();
    fields.push(b"Last-Modified", &date::format(modified));
    fields.push(b"Content-Type", mime::by_name(key.file_name().as_bytes()).as_bytes());
    fields.push(b"ETag", etag.as_bytes());
    fields
}

/// Adds the body to `bytes`. One that cannot be read, or is not as long as it should be, is left
/// to sendfile.
fn read_body(entry: &Entry, bytes: &mut Vec<u8>, read: impl Fn(&mut [u8], u64) -> io::Result<usize>) {
    let (head, size) = (bytes.len(), usize::try_from(entry.info.size).unwrap_or(0));
    bytes.resize(head + size, 0);
    let mut at = 0;
    while at < size {
        match read(&mut bytes[head + at..], at as u64) {
            Ok(read @ 1..) => at += read,
            Ok(_) | Err(_) => return bytes.truncate(head),
        }
    }
}

impl Message {
    fn tell_date(&mut self) {
        let now = clock::unix_secs();
        if self.date != now {
            self.date = now;
            let text = date::format(now);
            self.bytes[self.date_at..self.date_at + text.len()].copy_from_slice(&text);
        }
    }
}

/// How new a look at a file must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// One of this tick is enough: the request is what [`receive`](crate::rt::Socket::receive) has given.
    CurrentTick,
    /// Taken now: the request may have come later.
    MustStat,
}

/// The files of one worker.
pub struct ReadyFiles {
    limits: FileLimits,
    /// Files open at a time.
    most: usize,
    /// Whether answers tell that they are hits.
    told: bool,
    table: RefCell<Table>,
    /// Counts the housekeeper's visits.
    now: Cell<u32>,
    ticks: Ticks,
}

#[derive(Default)]
struct Table {
    places: HashMap<Rc<[u8]>, usize>,
    slots: Vec<Slot>,
    /// Where to look for the next file to go.
    hand: usize,
    /// Bytes of all bodies and paths kept.
    bytes: usize,
}

struct Slot {
    path: Rc<[u8]>,
    file: Rc<Ready>,
    used: u32,
}

impl ReadyFiles {
    /// None yet; at most `most` at a time. Answers tell that they are hits if that is to be `told`.
    pub fn new(limits: FileLimits, most: usize, told: bool, ticks: Ticks) -> Self {
        Self { limits, most, told, table: RefCell::default(), now: Cell::new(0), ticks }
    }

    /// The file of this path, if it is here and still what it was.
    pub fn find(&self, path: &[u8], store: &Store, freshness: Freshness) -> Option<Rc<Ready>> {
        let mut table = self.table.borrow_mut();
        let place = *table.places.get(path)?;
        let slot = table.slots.get_mut(place)?;
        if self.is_current(&slot.file, store, freshness) {
            slot.used = self.now.get();
            return Some(Rc::clone(&slot.file));
        }
        table.remove(place);
        None
    }

    /// Has the file not been touched, and does its name still lead to it?
    fn is_current(&self, file: &Ready, store: &Store, freshness: Freshness) -> bool {
        let now = clock::steady();
        if now.saturating_sub(file.looked_up.get()) < self.limits.look_up_time {
            let seen = freshness == Freshness::CurrentTick && self.ticks.is_current(&file.checked);
            return seen || file.entry.is_unchanged();
        }
        file.looked_up.set(now);
        match store.look_up_cached(file.key.as_str()) {
            // A small body that was not in memory when it was opened gets there now.
            Some(Found::File(entry)) => entry.info == file.entry.info && !self.lacks_body(file),
            Some(Found::Directory | Found::Absent | Found::Unusable(_)) | None => false,
        }
    }

    fn lacks_body(&self, file: &Ready) -> bool {
        file.entry.info.size <= self.limits.small_body && !file.has_body()
    }

    /// Makes a file that has just been opened ready, and keeps it so if there is room.
    pub fn keep(&self, path: &[u8], key: Key, entry: Entry) -> Rc<Ready> {
        let mut table = self.table.borrow_mut();
        let room = self.limits.body_memory.saturating_sub(table.bytes);
        // Of one that was changed just now the next change may not show: its body comes from the file until it does.
        // A look at one on another machine, before each hit, could stop this worker: it is looked up each time.
        let is_local = !entry.place().is_remote();
        let is_held = is_local && entry.info.size <= room as u64 && !entry.info.is_racy(SystemTime::now());
        let small = if is_held { self.limits.small_body } else { 0 };
        let file = Rc::new(Ready::new(key, entry, small, self.told));
        if self.most > 0 && is_local && path.len() <= LONGEST_PATH {
            if let Some(place) = table.places.get(path).copied() {
                table.remove(place);
            }
            while table.slots.len() >= self.most {
                let place = table.unused_for_longest();
                table.remove(place);
            }
            table.add(path.into(), Rc::clone(&file), self.now.get());
        }
        file
    }

    /// Closes all of them.
    pub fn clear(&self) {
        drop(self.table.take());
    }

    /// Closes up to `count` files that nobody is reading, those unused for longest first, but for the few that
    /// were asked for last: what is asked for all the time would only have to be opened again.
    pub fn give_way(&self, count: usize) {
        let mut table = self.table.borrow_mut();
        let mut idle: Vec<(u32, usize)> = Vec::new();
        for (place, slot) in table.slots.iter().enumerate() {
            if Rc::strong_count(&slot.file) == 1 {
                idle.push((self.now.get().wrapping_sub(slot.used), place));
            }
        }
        idle.sort_unstable();
        let mut gone: Vec<usize> = idle.drain(idle.len().min(DEAR)..).map(|(_, place)| place).collect();
        gone.drain(..gone.len().saturating_sub(count));
        // From the last on, since the last one takes the place of each that goes.
        gone.sort_unstable();
        gone.into_iter().rev().for_each(|place| table.remove(place));
    }

    /// Closes what nobody has asked for lately. Called once a second.
    pub fn prune(&self) {
        let now = self.now.get().wrapping_add(1);
        self.now.set(now);
        let mut table = self.table.borrow_mut();
        let mut place = 0;
        while let Some(slot) = table.slots.get(place) {
            // What is read is open in any case: the next who asks for it reads the same.
            if now.wrapping_sub(slot.used) > UNUSED && Rc::strong_count(&slot.file) == 1 {
                table.remove(place);
            } else {
                place += 1;
            }
        }
        if table.slots.is_empty() {
            *table = Table::default();
        }
    }
}

impl Table {
    fn add(&mut self, path: Rc<[u8]>, file: Rc<Ready>, now: u32) {
        self.bytes += path.len() + file.body_bytes();
        self.places.insert(Rc::clone(&path), self.slots.len());
        self.slots.push(Slot { path, file, used: now });
    }

    /// Takes a file out; the last one takes its place.
    fn remove(&mut self, place: usize) {
        if place >= self.slots.len() {
            return;
        }
        let gone = self.slots.swap_remove(place);
        self.bytes -= gone.path.len() + gone.file.body_bytes();
        self.places.remove(&gone.path);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(Rc::clone(&moved.path), place);
        }
    }

    fn unused_for_longest(&mut self) -> usize {
        let count = self.slots.len().max(1);
        let places = (0..CANDIDATES.min(count)).map(|step| (self.hand + step) % count);
        let oldest = places.min_by_key(|&place| {
            self.slots.get(place).map_or((false, 0), |slot| (Rc::strong_count(&slot.file) > 1, slot.used))
        });
        self.hand = (self.hand + CANDIDATES) % count;
        oldest.unwrap_or(0)
    }
}
