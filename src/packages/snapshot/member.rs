//! What is held of a member of an index set.
//!
//! A member that has its name on the disk is opened when it is requested, and counts only if it is still the same file.
//! It is kept open only once its name is about to get another file, for the clients of its generation. So a set of any
//! size costs no descriptors while its origin does not change.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use crate::cache::Entry;
use crate::cache::fill::{Fill, NoFile};
use crate::cache::place::Place;
use crate::cache::response::{Body, StoredResponse};
use crate::cache::spare::Spare;
use crate::cache::stored_file::{Location, StoredFile};
use crate::error::{Error, Kind, Side};
use crate::http::caching::stored::StoredHead;
use crate::key::Key;
use crate::packages::index::Version;
use crate::rt::Runtime;
use crate::rt::remote_wake::Waiter;
use crate::sys::file::{self, Info};

/// Bytes compared at a time.
const PIECE: usize = 64 * 1024;

/// A member.
#[derive(Clone, Debug)]
pub struct Member {
    /// How the origin is asked for it.
    pub(crate) target: Arc<[u8]>,
    pub(crate) what: MemberState,
}

/// Where it is.
#[derive(Clone, Debug)]
pub(crate) enum MemberState {
    /// The file of its name.
    StoredMember(Arc<StoredMember>),
    /// Open, whatever its name leads to.
    Open(Arc<StoredResponse>),
    /// Being fetched.
    Filling(Arc<Fill>),
}

/// A file by its name, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct StoredMember {
    pub(crate) head: Arc<StoredHead>,
    pub(crate) checked: Option<Instant>,
    info: Info,
    /// It waits for its name.
    pub(crate) spare: Option<Arc<Spare>>,
    /// A checksum of it, once one has been needed.
    pub(crate) sum: Arc<OnceLock<Version>>,
    /// It was on the disk together with the file that lists its checksum, or is that file.
    is_proven: bool,
}

impl StoredMember {
    /// `None`: it is no file.
    pub(crate) fn of(kept: &StoredResponse) -> Option<MemberState> {
        Self::made(kept, false)
    }

    /// The same for one that fits the others on the disk.
    pub(crate) fn left(kept: &StoredResponse) -> Option<MemberState> {
        Self::made(kept, true)
    }

    fn made(kept: &StoredResponse, is_proven: bool) -> Option<MemberState> {
        let (head, info) = (Arc::clone(&kept.head), *kept.body.of_tree()?);
        let (spare, sum) = (None, Arc::default());
        let named = Self { head, checked: kept.checked, info, spare, sum, is_proven };
        Some(MemberState::StoredMember(Arc::new(named)))
    }

    /// The stored response, if this is still its file.
    pub(crate) fn open(&self, body: &Body) -> Option<StoredResponse> {
        let kept =
            || StoredResponse { head: Arc::clone(&self.head), body: body.clone(), checked: self.checked };
        (is(&self.info) == is(body.of_tree()?)).then(kept)
    }
}

/// What identifies a file. The time of the inode's change does not count: it changes with the stored head.
fn is(info: &Info) -> ((u64, u64), u64, SystemTime) {
    (info.id, info.size, info.modified)
}

impl StoredMember {
    /// The name that it has now.
    pub(crate) fn place<'a>(&'a self, key: &'a Key) -> &'a Key {
        self.spare.as_ref().map_or(key, |spare| &spare.place)
    }
}

impl Member {
    /// The same member with what is stored of it now. `None`: that is no file.
    pub(crate) fn with(&self, kept: &StoredResponse) -> Option<Self> {
        let info = *kept.body.of_tree()?;
        let what = match &self.what {
            MemberState::StoredMember(named) if is(&named.info) == is(&info) => {
                let (head, checked) = (Arc::clone(&kept.head), kept.checked);
                MemberState::StoredMember(Arc::new(StoredMember { head, checked, info, ..(**named).clone() }))
            }
            MemberState::StoredMember(_) | MemberState::Open(_) | MemberState::Filling(_) => {
                StoredMember::of(kept)?
            }
        };
        Some(Self { target: Arc::clone(&self.target), what })
    }

    /// The same, a file that waits for its name there or that has it now.
    pub(crate) fn placed(self, spare: Option<Arc<Spare>>) -> Self {
        let MemberState::StoredMember(named) = &self.what else { return self };
        let named = StoredMember { spare, ..(**named).clone() };
        Self { what: MemberState::StoredMember(Arc::new(named)), ..self }
    }

    /// Whether it was on the disk with others that it fits.
    pub(crate) fn is_proven(&self) -> bool {
        matches!(&self.what, MemberState::StoredMember(named) if named.is_proven)
    }

    /// The file that waits for its name.
    pub(crate) fn spare(&self) -> Option<&Arc<Spare>> {
        match &self.what {
            MemberState::StoredMember(named) => named.spare.as_ref(),
            MemberState::Open(_) | MemberState::Filling(_) => None,
        }
    }

    /// Whether it is the same file.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let id = |member: &Self| match &member.what {
            MemberState::StoredMember(named) => Some(named.info.id),
            MemberState::Open(kept) => kept.id(),
            MemberState::Filling(_) => None,
        };
        id(self).is_some() && id(self) == id(other)
    }

    /// Whether it has the same strong tag.
    pub(crate) fn has_tag_of(&self, kept: &StoredResponse) -> bool {
        let own = self.stored_head().and_then(|(head, _)| strong_tag(head));
        own.is_some() && own == strong_tag(&kept.head)
    }

    /// Its head, and when it was validated, where it is complete.
    pub(crate) fn stored_head(&self) -> Option<(&StoredHead, Option<Instant>)> {
        match &self.what {
            MemberState::StoredMember(named) => Some((&named.head, named.checked)),
            MemberState::Open(kept) => Some((&kept.head, kept.checked)),
            MemberState::Filling(_) => None,
        }
    }

    /// Its bytes, where that is known.
    pub(crate) async fn size(&self) -> Option<u64> {
        match &self.what {
            MemberState::StoredMember(named) => Some(named.info.size),
            MemberState::Open(kept) => Some(kept.size()),
            MemberState::Filling(fill) => fill.answer(&Waiter::new()).await.ok()?.length,
        }
    }
}

/// Why a fill has failed.
pub(crate) async fn failure(fill: &Fill, waiter: &Waiter) -> Error {
    match fill.answer(waiter).await {
        Err(NoFile::Failed(error)) => error,
        Ok(_) | Err(NoFile::Again | NoFile::Declined(_)) => Error::new(Side::Origin, Kind::Abandoned),
    }
}

/// Whether these are the same bytes. Equal strong tags say so; different ones prove nothing, as two machines of one
/// origin may have a tag each for the same bytes.
pub(crate) async fn is_same<R: Runtime>(one: &Arc<StoredResponse>, other: &Arc<StoredResponse>) -> bool {
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
    let place = farther(&one, &other);
    let compare = move || has_same_bytes(&one, &other);
    place.read_whole::<R, _>(compare).await.unwrap_or(false)
}

/// Where both can be read.
fn farther(one: &StoredResponse, other: &StoredResponse) -> Place {
    let (one, other) = (one.body.place(), other.body.place());
    if one.is_remote() { one } else { other }
}

pub(crate) fn is_same_file(one: &StoredResponse, other: &StoredResponse) -> bool {
    one.id().is_some() && one.id() == other.id()
}

fn strong_tag(head: &StoredHead) -> Option<&[u8]> {
    head.etag().filter(|tag| !tag.starts_with(b"W/"))
}

fn has_same_bytes(one: &StoredResponse, other: &StoredResponse) -> bool {
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

impl StoredResponse {
    /// Whether it is a file, and the only variant (others are in memory).
    pub(crate) fn is_file(&self) -> bool {
        self.body.of_tree().is_some()
    }

    fn id(&self) -> Option<(u64, u64)> {
        self.body.of_tree().map(|info| info.id)
    }

    /// Fills the buffer from this offset of the file on, as far as there is enough.
    pub(crate) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.body.in_tree().map_or(Ok(0), |file| file.read_at(buffer, at))
    }

    /// The response of a complete fill.
    pub(crate) async fn of_fill<R: Runtime>(fill: &Fill, waiter: &Waiter) -> Option<Self> {
        if !fill.is_whole() || fill.is_unfit() {
            return None;
        }
        let answer = fill.answer(waiter).await.ok()?;
        let kept = answer.kept.as_ref()?;
        // Not by its name: another may have it by now.
        let file = Arc::clone(answer.file.named()?);
        let place = file.to().clone();
        let open = move || {
            let file = file.as_fd().try_clone_to_owned()?;
            Ok::<_, io::Error>((file::info(&file)?, file))
        };
        let opened = if place.is_remote() { place.read::<R, _>(open).await.ok()? } else { open() };
        let (info, file) = opened.ok()?;
        let body = Body::File(Location::Tree, StoredFile::Open(Arc::new(Entry::new(file, info, place))));
        Some(Self { head: Arc::clone(&kept.head), body, checked: Some(kept.checked) })
    }
}
