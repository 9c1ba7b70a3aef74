//! Members of index sets and what their names lead to on the disk.

use std::io::{self, Read};
use std::sync::Arc;

use super::member::{Member, MemberState, is_same_file};
use super::table::Generation;
use crate::cache::{Entry, Found};
use crate::fd_budget::Purpose;
use crate::key::Key;
use crate::packages::index::{Proof, Version, listing};
use crate::proxy::exchange::{Exchange, Shared};
use crate::proxy::lent::{self, Shelf};
use crate::proxy::lookup::look_up;
use crate::proxy::revalidated::responses;
use crate::proxy::revalidated::stored::{Body, StoredResponse};
use crate::rt::Runtime;
use crate::rt::remote_wake::Waiter;

impl Member {
    /// Its stored response, open. `None`: it is not there any more, or has not come.
    pub(crate) async fn open<R: Runtime>(
        &self,
        exchange: &Exchange<'_, R>,
        key: &Key,
    ) -> Option<Arc<StoredResponse>> {
        match &self.what {
            MemberState::Open(kept) => Some(Arc::clone(kept)),
            MemberState::Coming(fill) => {
                StoredResponse::of_fill::<R>(fill, &Waiter::new().ok()?).await.map(Arc::new)
            }
            MemberState::StoredMember(named) => match look_up(exchange, named.place(key)).await {
                Found::File(entry) => {
                    let body =
                        match lent::lent(&exchange.context.shared, named.place(key), Shelf::Tree, &entry) {
                            Some(lent) => Body::LentFile(Shelf::Tree, Arc::new(lent)),
                            None => Body::File(Arc::new(entry)),
                        };
                    named.open(&body).map(Arc::new)
                }
                Found::Absent | Found::Directory | Found::Unusable(_) => None,
            },
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
            MemberState::Open(_) | MemberState::Coming(_) => None,
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
    generation: &Arc<Generation<Member>>,
    key: &Key,
) -> Option<()> {
    let (shared, member) = (&exchange.context.shared, generation.get(key)?);
    let MemberState::StoredMember(_) = &member.what else { return None };
    let kept = member.open(exchange, key).await?;
    // Without a descriptor of its own, clients of this generation begin again if it changes.
    let index = || shared.descriptors.try_take(Purpose::Index, 1);
    let held = index().or_else(|| {
        shared.sets.close_idle();
        index()
    });
    let held = Some(held?);
    let own = match &kept.body {
        Body::LentFile(_, lent) => Entry { held, ..lent.with::<R, _>(0, Ok).await.ok()? },
        Body::File(entry) => Entry { file: Arc::clone(&entry.file), info: entry.info, held },
        Body::Document(_) | Body::StoredBody(_) => return None,
    };
    let open = Arc::new(StoredResponse { body: Body::File(Arc::new(own)), ..(*kept).clone() });
    generation.put(key, Member { target: member.target, what: MemberState::Open(open) });
    Some(())
}

/// The same bytes have come, maybe in another file, which is not needed. From now on the origin is asked with all their
/// tags, and any of them vouches. `None`: there is nothing new in it.
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
    Some(responses::update::<R>(shared, key, kept, head, new.checked).await)
}
