//! Receives the body of an answer that no plain file can stand for: into memory, or onto the disk where that is full.

use std::sync::Arc;

use super::backpressure;
use crate::cache::Store;
use crate::cache::aside::Aside;
use crate::cache::memory::{Memory, StoredBody};
use crate::error::{Error, Kind, Side};
use crate::outcome::BypassReason;
use crate::rt::budget::Permit;
use crate::rt::{Runtime, blocking};
use crate::upstream::body::{OriginBody, PACED};

/// Bytes that a body takes while it is received onto the disk: those that came with its head, and a piece.
const PIECE: usize = 2 * PACED;

/// What has come of it.
pub(crate) enum Received {
    /// All of the body. The room is for what its answer takes beside it, where it is on the disk.
    All(StoredBody, Option<Permit>),
    /// It is not kept, and why; what has been read of it.
    Not(BypassReason, Vec<StoredBody>),
}

/// Reads all of a body whose answer takes so many bytes beside it.
pub(crate) async fn whole<R: Runtime>(
    store: &Store,
    body: &mut OriginBody<R>,
    overhead: usize,
) -> Result<Received, Error> {
    let memory = &store.memory;
    let (longest, known) = (memory.longest(), body.left());
    if known > longest as u64 {
        return Ok(Received::Not(BypassReason::TooLong, Vec::new()));
    }
    let known = usize::try_from(known).unwrap_or(longest);
    let first = if known > 0 { known.min(PIECE) } else { PIECE.min(longest) };
    let Some(room) = backpressure::memory_room::<R>(memory, overhead + first).await else {
        return Ok(Received::Not(BypassReason::MemoryFull, Vec::new()));
    };
    body.pace();
    let mut receiving = Receiving { store, body, room, counted: first, bytes: Vec::new() };
    if known > 0 && receiving.has_room(known) {
        receiving.bytes.reserve_exact(known);
    }
    receiving.run(longest, known).await
}

/// A body on its way into memory.
struct Receiving<'a, R: Runtime> {
    store: &'a Store,
    body: &'a mut OriginBody<R>,
    /// For what its answer takes beside it, and `counted` bytes of it.
    room: Permit,
    counted: usize,
    bytes: Vec<u8>,
}

impl<R: Runtime> Receiving<'_, R> {
    /// Has memory room for so many bytes? Then it is taken.
    fn has_room(&mut self, count: usize) -> bool {
        let more = count.saturating_sub(self.counted);
        let has = more == 0 || self.store.memory.enlarge(&mut self.room, more);
        self.counted += if has { more } else { 0 };
        has
    }

    async fn run(mut self, longest: usize, known: usize) -> Result<Received, Error> {
        let mut piece = Vec::new();
        while self.body.next(&mut piece).await? {
            let count = self.bytes.len() + piece.len();
            // As much again where the length is not known, since the memory behind it grows by doubling.
            let needed = if known > 0 { known } else { 2 * count };
            if count > longest {
                self.bytes.append(&mut piece);
                return Ok(self.not(BypassReason::TooLong, None));
            }
            if !self.has_room(needed) {
                self.bytes.append(&mut piece);
                return self.onto_disk(if known > 0 { known } else { longest }).await;
            }
            self.bytes.append(&mut piece);
        }
        self.bytes.shrink_to_fit();
        self.room.give_back(self.counted - self.bytes.len());
        Ok(Received::All(self.in_memory(), None))
    }

    fn in_memory(self) -> StoredBody {
        let memory: &Arc<Memory> = &self.store.memory;
        StoredBody::Memory(memory.lend(self.bytes, self.room))
    }

    /// It is not kept; so much of it lies on the disk.
    fn not(self, why: BypassReason, aside: Option<Aside>) -> Received {
        let on_disk = aside.filter(|aside| aside.count() > 0).map(|aside| StoredBody::Aside(Arc::new(aside)));
        let mut begun: Vec<StoredBody> = on_disk.into_iter().collect();
        if !self.bytes.is_empty() {
            begun.push(self.in_memory());
        }
        Received::Not(why, begun)
    }

    /// Goes on with what has come on the disk, where there may be up to `most` bytes.
    async fn onto_disk(mut self, most: usize) -> Result<Received, Error> {
        let shelf = Arc::clone(&self.store.aside);
        let Some(Ok(mut aside)) = on_the_pool(move || shelf.begin(most as u64)).await else {
            return Ok(self.not(BypassReason::Disk, None));
        };
        loop {
            let bytes = std::mem::take(&mut self.bytes);
            let append = move || {
                let appended = aside.append(&bytes);
                (aside, bytes, appended.is_ok())
            };
            let is_written;
            let Some(appended) = on_the_pool(append).await else {
                return Err(Error::new(Side::Proxy, Kind::Io));
            };
            (aside, self.bytes, is_written) = appended;
            if !is_written {
                return Ok(self.not(BypassReason::Disk, Some(aside)));
            }
            // From now on it takes a piece at a time.
            self.room.give_back(self.counted.saturating_sub(PIECE));
            self.counted = self.counted.min(PIECE);
            if !self.body.next(&mut self.bytes).await? {
                break;
            }
            if aside.count() + self.bytes.len() as u64 > most as u64 {
                return Ok(self.not(BypassReason::TooLong, Some(aside)));
            }
        }
        self.room.give_back(self.counted);
        Ok(Received::All(StoredBody::Aside(Arc::new(aside)), Some(self.room)))
    }
}

/// Runs a job that writes; `None` if it has panicked.
async fn on_the_pool<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    blocking::run(&blocking::ASIDE, job).await.ok()
}
