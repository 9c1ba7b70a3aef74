//! What is held of a member of an index set.
//!
//! A member that has its name on the disk is opened when it is asked for, and counts only if it is still the file that
//! it was. One is kept open only while its name may come to lead to another file, and afterwards for the clients of its
//! generation. So a set of any size costs no descriptors while its origin does not change.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use super::super::lent::{self, Shelf};
use super::stored::{Body, Kept};
use crate::error::{Error, Kind, Side};
use crate::http::caching::stored::StoredHead;
use crate::rt::blocking;
use crate::rt::remote_wake::Waiter;
use crate::store::Entry;
use crate::store::fill::{Fill, NoFile};
use crate::sys::file::{self, Info};

/// Bytes compared at a time.
const PIECE: usize = 64 * 1024;

/// A member.
#[derive(Clone, Debug)]
pub struct Member {
    /// How the origin is asked for it.
    pub(super) target: Arc<[u8]>,
    pub(super) what: What,
}

/// How far it is, and where.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The file of its name.
    Named(Arc<Named>),
    /// Open, whatever its name leads to.
    Open(Arc<Kept>),
    /// On its way.
    Coming(Arc<Fill>),
}

/// A file by its name, and what is known of it.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) head: Arc<StoredHead>,
    pub(super) checked: Option<Instant>,
    info: Info,
}

impl Named {
    /// `None`: it is no file.
    pub(super) fn of(kept: &Kept) -> Option<What> {
        let info = *kept.body.of_tree()?;
        let named = Self { head: Arc::clone(&kept.head), checked: kept.checked, info };
        Some(What::Named(Arc::new(named)))
    }

    /// The stored response, if this is still its file. The time of the inode's change does not count: it changes with
    /// the stored head.
    pub(super) fn open(&self, body: &Body) -> Option<Kept> {
        let is = |info: &Info| (info.id, info.size, info.modified);
        let kept = || Kept { head: Arc::clone(&self.head), body: body.clone(), checked: self.checked };
        (is(&self.info) == is(body.of_tree()?)).then(kept)
    }
}

impl Member {
    /// Its stored response, open, where `kept` is what its name leads to. `None`: it is not there any more, or has not
    /// come.
    pub(super) async fn as_file(&self, kept: Option<&Kept>) -> Option<Arc<Kept>> {
        match &self.what {
            What::Open(kept) => Some(Arc::clone(kept)),
            What::Coming(fill) => Kept::of_fill(fill, &Waiter::new().ok()?).await.map(Arc::new),
            What::Named(named) => named.open(&kept?.body).map(Arc::new),
        }
    }

    /// Is it the same file, and there?
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let id = |member: &Self| match &member.what {
            What::Named(named) => Some(named.info.id),
            What::Open(kept) => kept.id(),
            What::Coming(_) => None,
        };
        id(self).is_some() && id(self) == id(other)
    }

    /// Has it the same strong tag?
    pub(super) fn has_tag_of(&self, kept: &Kept) -> bool {
        let own = self.told().and_then(|(head, _)| strong_tag(head));
        own.is_some() && own == strong_tag(&kept.head)
    }

    /// Its head, and when the origin vouched for it, where all of it is there.
    pub(super) fn told(&self) -> Option<(&StoredHead, Option<Instant>)> {
        match &self.what {
            What::Named(named) => Some((&named.head, named.checked)),
            What::Open(kept) => Some((&kept.head, kept.checked)),
            What::Coming(_) => None,
        }
    }

    /// Its bytes, where that is known.
    pub(super) async fn size(&self) -> Option<u64> {
        match &self.what {
            What::Named(named) => Some(named.info.size),
            What::Open(kept) => Some(kept.size()),
            What::Coming(fill) => fill.answer(&Waiter::new().ok()?).await.ok()?.length,
        }
    }
}

/// Why a fill has brought nothing, where the origin is to blame for most of what ends one.
pub(super) async fn failure(fill: &Fill, waiter: &Waiter) -> Error {
    match fill.answer(waiter).await {
        Err(NoFile::Failed(error)) => error,
        Ok(_) | Err(NoFile::Again | NoFile::Declined(_)) => Error::new(Side::Origin, Kind::Abandoned),
    }
}

/// Are these the same bytes? Equal strong tags say so; other tags say nothing: two machines of one origin may have a
/// tag each for the same bytes.
pub(super) async fn is_same(one: &Arc<Kept>, other: &Arc<Kept>) -> bool {
    if is_same_file(one, other) {
        return true;
    }
    if one.size() != other.size() {
        return false;
    }
    if strong_tag(&one.head).is_some() && strong_tag(&one.head) == strong_tag(&other.head) {
        return true;
    }
    let (one, other) = (Arc::clone(one), Arc::clone(other));
    blocking::run(&blocking::READS, move || has_same_bytes(&one, &other)).await.unwrap_or(false)
}

pub(super) fn is_same_file(one: &Kept, other: &Kept) -> bool {
    one.id().is_some() && one.id() == other.id()
}

fn strong_tag(head: &StoredHead) -> Option<&[u8]> {
    head.etag().filter(|tag| !tag.starts_with(b"W/"))
}

fn has_same_bytes(one: &Kept, other: &Kept) -> bool {
    let (mut a, mut b) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    while at < one.size() {
        let (Ok(count @ 1..), Ok(read)) = (one.read_at(&mut a, at), other.read_at(&mut b, at)) else {
            return false;
        };
        if a[..count] != b[..read] {
            return false;
        }
        at += count as u64;
    }
    true
}

/// Which bytes a stored response has: enough to know them again while a generation comes together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Print(u64, u64);

impl Print {
    /// `None`: it cannot be read.
    pub(super) async fn of(kept: &Arc<Kept>) -> Option<Self> {
        let kept = Arc::clone(kept);
        let print = move || {
            let mut piece = vec![0; PIECE];
            let (mut sum, mut at) = (Sum::default(), 0);
            while at < kept.size() {
                let count @ 1.. = kept.read_at(&mut piece, at).ok()? else { return None };
                sum.add(&piece[..count]);
                at += count as u64;
            }
            Some(Self(at, sum.0))
        };
        blocking::run(&blocking::READS, print).await.ok().flatten()
    }
}

/// Not against forgers: whoever could forge it is the origin itself.
#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..word.len()].copy_from_slice(word);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}

impl Kept {
    /// Is it a file, and the only variant? (What has others is in memory.)
    pub(super) fn is_file(&self) -> bool {
        self.body.of_tree().is_some()
    }

    fn id(&self) -> Option<(u64, u64)> {
        self.body.of_tree().map(|info| info.id)
    }

    /// Fills the buffer from this offset of the file on, as far as there is enough.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        match &self.body {
            Body::File(entry) => lent::fill(entry, buffer, at),
            Body::Lent(Shelf::Tree, lent) => lent.read_at(buffer, at),
            Body::Lent(Shelf::Documents, _) | Body::Document(_) | Body::Memory(_) => Ok(0),
        }
    }

    /// What a fill that is whole has brought.
    pub(super) async fn of_fill(fill: &Fill, waiter: &Waiter) -> Option<Self> {
        if !fill.is_whole() {
            return None;
        }
        let answer = fill.answer(waiter).await.ok()?;
        let kept = answer.kept.as_ref()?;
        // Not by its name: another may have it by now.
        let file = answer.file.as_fd().try_clone_to_owned().ok()?;
        let info = file::info(&file).ok()?;
        let body = Body::File(Arc::new(Entry::new(file, info)));
        Some(Self { head: Arc::clone(&kept.head), body, checked: Some(kept.checked) })
    }
}
