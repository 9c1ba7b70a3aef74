//! Receives the body of a response that no plain file can stand for: into memory, or onto the disk where that is full.
//!
//! A body that takes its time goes to the clients while it arrives. From then on it lies on the disk as well, in a file
//! without a name, which they follow like that of any other fill: so a client that takes nothing holds no memory.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;

use super::backpressure;
use crate::cache::aside::Aside;
use crate::cache::fill::{Answer, Fill};
use crate::cache::growing_file::{GrowingBytes, GrowingFile};
use crate::cache::memory::StoredBody;
use crate::cache::metadata::NewHead;
use crate::cache::place::{PATIENCE, waited};
use crate::downstream::head;
use crate::error::{Error, Kind, Side};
use crate::http::caching::stored::StoredHead;
use crate::http::request::Version;
use crate::http::response::ResponseHead;
use crate::outcome::BypassReason;
use crate::proxy::exchange::Shared;
use crate::proxy::passing::Passing;
use crate::rt::budget::Permit;
use crate::rt::{Runtime, blocking};
use crate::upstream::body::{OriginBody, PACED};

/// Bytes that a body takes while it is received onto the disk: those that came with its head, and a piece.
const PIECE: usize = 2 * PACED;

/// A body that is not complete so long after its head goes to the clients while it arrives.
const SLOW: Duration = Duration::from_millis(500);

/// What clients that follow get before the body is complete.
pub(crate) struct Announcement {
    pub(crate) fill: Arc<Fill>,
    /// Its head for the client whose request it answers.
    pub(crate) full: Arc<StoredHead>,
    /// Bytes of the body, where the origin has said so.
    pub(crate) length: Option<u64>,
    /// Its head as it is stored.
    pub(crate) kept: NewHead,
}

/// Why a body was not received.
pub(crate) enum Stop {
    /// The origin failed, or we did.
    Origin(Error),
    /// It is not stored, and why; the bytes received last, which lie nowhere yet.
    NotStored(BypassReason, Arc<Vec<u8>>),
}

/// A body on its way into memory, or onto the disk.
pub(crate) struct Receiving<R: Runtime> {
    pub(crate) body: OriginBody<R>,
    kept: Kept,
}

/// What of it has been received.
struct Kept {
    shared: Arc<Shared>,
    /// Bytes of the longest body that is stored.
    longest: usize,
    /// Its bytes, where the origin has said so.
    known: usize,
    /// For what its response takes beside it, and `counted` bytes of it.
    room: Permit,
    counted: usize,
    /// Bytes received.
    count: usize,
    /// All of them, as long as memory has room.
    bytes: Option<Arc<GrowingBytes>>,
    /// All of them on the disk, where memory has no room or clients follow.
    aside: Option<Aside>,
    /// Until clients follow.
    announcement: Option<Announcement>,
    /// Since then.
    fill: Option<Arc<Fill>>,
}

/// Finds room for a body whose response takes so many bytes beside it.
pub(crate) async fn begin<R: Runtime>(
    shared: &Arc<Shared>,
    mut body: OriginBody<R>,
    overhead: usize,
    announcement: Announcement,
) -> Result<Receiving<R>, (BypassReason, OriginBody<R>)> {
    let memory = &shared.store.memory;
    let (longest, known) = (memory.longest(), body.left());
    if known > longest as u64 {
        return Err((BypassReason::TooLong, body));
    }
    let known = usize::try_from(known).unwrap_or(longest);
    let first = if known > 0 { known.min(PIECE) } else { PIECE.min(longest) };
    let Some(room) = backpressure::memory_room::<R>(memory, overhead + first).await else {
        return Err((BypassReason::MemoryFull, body));
    };
    body.pace();
    let mut kept = Kept {
        shared: Arc::clone(shared),
        longest,
        known,
        room,
        counted: first,
        count: 0,
        bytes: None,
        aside: None,
        announcement: Some(announcement),
        fill: None,
    };
    let bytes = GrowingBytes::default();
    if known > 0 && kept.has_room(known) {
        bytes.reserve(known);
    }
    kept.bytes = Some(Arc::new(bytes));
    Ok(Receiving { body, kept })
}

impl<R: Runtime> Receiving<R> {
    /// Receives all of it.
    pub(crate) async fn run(&mut self) -> Result<(), Stop> {
        let mut piece = Vec::new();
        while self.next(&mut piece).await.map_err(Stop::Origin)? {
            let of = Arc::new(std::mem::take(&mut piece));
            let stored = self.kept.take::<R>(&of).await;
            // Its memory is for the next one.
            piece = Arc::try_unwrap(of).unwrap_or_default();
            stored?;
        }
        Ok(())
    }

    /// The next piece. Clients that wait for a slow one get what is there meanwhile.
    async fn next(&mut self, piece: &mut Vec<u8>) -> Result<bool, Error> {
        let Self { body, kept } = self;
        let mut next = pin!(body.next(piece));
        if let Some(announcement) = &kept.announcement {
            let wait = SLOW.saturating_sub(announcement.kept.checked.elapsed());
            let slow = async {
                R::sleep(wait).await;
                None
            };
            match or(async { Some(next.as_mut().await) }, slow).await {
                Some(next) => return next,
                None => kept.announce::<R>().await,
            }
        }
        next.await
    }

    /// All of it, as it is stored. The room is for what its response takes beside it, where it is on the disk.
    pub(crate) fn stored(self) -> Option<(StoredBody, Option<Permit>)> {
        let Kept { shared, mut room, counted, bytes, aside, .. } = self.kept;
        let Some(bytes) = bytes else {
            room.give_back(counted);
            return aside.map(|aside| (StoredBody::Aside(Arc::new(aside)), Some(room)));
        };
        let body = bytes.complete(|mut bytes| {
            bytes.shrink_to_fit();
            room.give_back(counted.saturating_sub(bytes.len()));
            shared.store.memory.lend(bytes, room)
        });
        Some((StoredBody::Memory(body), None))
    }

    /// What has been received of it, for the one client that gets it, and what follows.
    pub(crate) fn begun(self, piece: &[u8]) -> Passing<R> {
        let Kept { shared, room, bytes, aside, .. } = self.kept;
        let on_disk = aside.filter(|aside| aside.count() > 0).map(|aside| StoredBody::Aside(Arc::new(aside)));
        let mut begun: Vec<_> = on_disk.into_iter().collect();
        let mut rest = bytes.map(|bytes| bytes.take()).unwrap_or_default();
        rest.extend_from_slice(piece);
        if !rest.is_empty() {
            begun.push(StoredBody::Memory(shared.store.memory.lend(rest, room)));
        }
        Passing { begun, rest: self.body }
    }
}

impl Kept {
    /// Has memory room for so many bytes? Then it is taken.
    fn has_room(&mut self, count: usize) -> bool {
        let more = count.saturating_sub(self.counted);
        let has = more == 0 || self.shared.store.memory.enlarge(&mut self.room, more);
        self.counted += if has { more } else { 0 };
        has
    }

    /// Clients follow it from now on.
    async fn announce<R: Runtime>(&mut self) {
        let Some(Announcement { fill, full, length, kept }) = self.announcement.take() else { return };
        if self.aside.is_none() {
            self.aside = self.put_aside::<R>().await;
        }
        let file = match (&self.aside, &self.bytes) {
            (Some(aside), _) => GrowingFile::Nameless(aside.reader()),
            (None, Some(bytes)) => GrowingFile::Memory(Arc::clone(bytes)),
            (None, None) => return,
        };
        let head = ResponseHead {
            status: full.status,
            reason: full.reason.clone(),
            version: Version::Http11,
            fields: head::kept_fields(&full, None),
            source: None,
        };
        fill.announce(Answer { head, length, modified: full.modified(), file, kept: Some(kept) });
        fill.advance(self.count as u64);
        self.fill = Some(fill);
    }

    /// Puts what is in memory on the disk as well. `None` where the disk takes nothing.
    async fn put_aside<R: Runtime>(&self) -> Option<Aside> {
        let (shelf, bytes) = (Arc::clone(&self.shared.store.aside), self.bytes.clone()?);
        let (count, most) = (self.count as u64, if self.known > 0 { self.known } else { self.longest });
        let begin = move || {
            let mut aside = shelf.begin(most as u64)?;
            let mut at = 0;
            while at < count {
                let piece = bytes.copy(at, PIECE as u64);
                aside.append(&piece)?;
                at += piece.len() as u64;
            }
            Ok::<_, std::io::Error>(aside)
        };
        waited::<R, _>(&blocking::ASIDE, PATIENCE, begin).await.ok()?.ok()
    }

    /// Stores the bytes received next.
    async fn take<R: Runtime>(&mut self, piece: &Arc<Vec<u8>>) -> Result<(), Stop> {
        let count = self.count + piece.len();
        let not_stored = |why| Err(Stop::NotStored(why, Arc::clone(piece)));
        if count > self.longest {
            return not_stored(BypassReason::TooLong);
        }
        // As much again where the length is not known, since the memory behind it grows by doubling.
        let needed = if self.known > 0 { self.known } else { 2 * count };
        if self.bytes.is_some() && !self.has_room(needed) {
            if self.aside.is_none() {
                let aside = if self.fill.is_none() { self.put_aside::<R>().await } else { None };
                let Some(aside) = aside else { return not_stored(BypassReason::Disk) };
                self.aside = Some(aside);
            }
            self.bytes = None;
            // From now on it takes a piece at a time.
            self.room.give_back(self.counted.saturating_sub(PIECE));
            self.counted = self.counted.min(PIECE);
        }
        if let Some(aside) = self.aside.take() {
            let appended = append::<R>(aside, Arc::clone(piece)).await;
            let is_lost = appended.is_none() && self.bytes.is_none() && self.fill.is_none();
            let is_written = appended.as_ref().is_some_and(|(_, is_written)| *is_written);
            self.aside = appended.map(|(aside, _)| aside);
            if is_lost {
                return Err(Stop::Origin(Error::new(Side::Proxy, Kind::Io)));
            }
            if !is_written {
                return not_stored(BypassReason::Disk);
            }
        }
        self.bytes.iter().for_each(|bytes| bytes.append(piece));
        self.count = count;
        self.fill.iter().for_each(|fill| fill.advance(count as u64));
        Ok(())
    }
}

/// Puts more of it on the disk, and says whether that has taken it; `None` where it does not answer.
async fn append<R: Runtime>(mut aside: Aside, piece: Arc<Vec<u8>>) -> Option<(Aside, bool)> {
    let append = move || {
        let is_written = aside.append(&piece).is_ok();
        (aside, is_written)
    };
    waited::<R, _>(&blocking::ASIDE, PATIENCE, append).await.ok()
}
