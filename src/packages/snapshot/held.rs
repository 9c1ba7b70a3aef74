//! Members of index sets and their files on the disk.

use std::io::{self, Read};
use std::sync::Arc;

use super::generations::Generation;
use super::member::{Member, MemberState, is_same_file};
use crate::cache::response::{Body, StoredResponse};
use crate::cache::stored_file::{Location, StoredFile};
use crate::cache::{Entry, Found};
use crate::fd_budget::Purpose;
use crate::key::Key;
use crate::packages::index::{Proof, Version, listing};
use crate::proxy::exchange::{Exchange, Shared};
use crate::rt::Runtime;
use crate::rt::remote_wake::Waiter;

impl Member {
    /// Its stored response, open. `None`: the file is gone, or not complete.
    pub(crate) async fn open<R: Runtime>(
        &self,
        exchange: &Exchange<'_, R>,
        key: &Key,
    ) -> Option<Arc<StoredResponse>> {
        match &self.what {
            MemberState::Open(kept) => Some(Arc::clone(kept)),
            MemberState::Filling(fill) => {
                StoredResponse::of_fill::<R>(fill, &Waiter::new()).await.map(Arc::new)
            }
            MemberState::StoredMember(named) => {
                let (cache, place) = (&exchange.context.shared.cache, named.place(key));
                match cache.look_up::<R>(place).await {
                    Found::File(entry) => {
                        let file = StoredFile::new(cache, place, Location::Tree, entry);
                        named.open(&Body::File(Location::Tree, file)).map(Arc::new)
                    }
                    Found::Absent | Found::Directory | Found::Unusable(_) => None,
                }
            }
        }
    }

    /// Its checksum of this kind. `None`: it cannot be read, or none can be made.
    pub(crate) async fn sum<R: Runtime>(
        &self,
        exchange: &Exchange<'_, R>,
        key: &Key,
        kind: Proof,
    ) -> Option<Version> {
        let known = match &self.what {
            MemberState::StoredMember(named) => Some(Arc::clone(&named.sum)),
            MemberState::Open(_) | MemberState::Filling(_) => None,
        };
        if let Some(sum) = known.as_ref().and_then(|known| known.get()).filter(|sum| sum.kind == kind) {
            return Some(sum.clone());
        }
        let kept = self.open(exchange, key).await?;
        let place = kept.body.place();
        let read = move || listing::sum(kind, Bytes { kept: &kept, at: 0 });
        let sum = place.read_whole::<R, _>(read).await.ok()?.ok()??;
        if let Some(known) = known {
            known.set(sum.clone()).unwrap_or_default();
        }
        Some(sum)
    }
}

/// The bytes of a stored response, which must be as many as it says.
struct Bytes<'a> {
    kept: &'a StoredResponse,
    at: u64,
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.kept.read_at(buffer, self.at)?;
        self.at += count as u64;
        let is_short = count == 0 && self.at != self.kept.size();
        if is_short { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }
}

/// Opens the member of a generation, whose name is to lead to another file. `None`: it is open already, or cannot be.
pub(crate) async fn hold<R: Runtime>(
    exchange: &Exchange<'_, R>,
    generation: &Arc<Generation>,
    key: &Key,
) -> Option<()> {
    let (shared, member) = (&exchange.context.shared, generation.get(key)?);
    let MemberState::StoredMember(_) = &member.what else { return None };
    let kept = member.open(exchange, key).await?;
    // Without a descriptor of its own, clients of this generation begin again if it changes.
    let index = || shared.descriptors.try_take(Purpose::Index, 1);
    let held = index().or_else(|| {
        shared.packages.sets.close_idle();
        index()
    });
    let held = Some(held?);
    let own = match &kept.body {
        Body::File(Location::Tree, StoredFile::Open(entry)) => {
            Entry { file: Arc::clone(&entry.file), info: entry.info, held }
        }
        Body::File(_, StoredFile::Lent(lent)) => Entry { held, ..lent.with::<R, _>(0, Ok).await.ok()? },
        Body::File(Location::Sidecars, StoredFile::Open(_)) | Body::Memory(_) => return None,
    };
    let body = Body::File(Location::Tree, StoredFile::Open(Arc::new(own)));
    let open = Arc::new(StoredResponse { body, ..(*kept).clone() });
    generation.put(key, Member { target: member.target, what: MemberState::Open(open) });
    Some(())
}

/// The origin has sent the same bytes again, maybe to another file, which is not needed. From now on it is asked with
/// all their tags. `None`: the response has nothing new.
pub(crate) async fn learn<R: Runtime>(
    shared: &Arc<Shared>,
    key: &Key,
    new: &StoredResponse,
    old: &StoredResponse,
) -> Option<StoredResponse> {
    let head = new.head.with_tags_of(&old.head);
    let (kept, head) = if is_same_file(new, old) {
        (new.clone(), head?)
    } else {
        (old.clone(), head.unwrap_or_else(|| (*new.head).clone()))
    };
    Some(shared.cache.update::<R>(key, kept, head, new.checked).await)
}
