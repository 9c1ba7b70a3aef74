//! What is kept for a request: in memory, beside the tree, or as a file.

use std::sync::Arc;

use super::super::exchange::Exchange;
use super::super::form;
use super::super::lent::{self, Lent, Shelf};
use super::super::lookup::look_up;
use super::stored::{Body, Kept};
use crate::fd_budget::Purpose;
use crate::http::caching::stored::StoredHead;
use crate::http::mime;
use crate::key::Key;
use crate::outcome::Why;
use crate::rt::Runtime;
use crate::store::heads::Known;
use crate::store::memory::Held;
use crate::store::{Entry, Found};
use crate::sys::file::Info;

/// The stored answer for this request, if there is one. What is in memory or beside the
/// tree is newer than a file.
pub(super) async fn find<R: Runtime>(exchange: &Exchange<'_, R>, key: &Key) -> Result<Option<Kept>, Why> {
    let store = &exchange.context.shared.store;
    // In another form the origin may have something else where it has none of the file.
    let other_form = key.names_a_file() && form::differs(exchange.request);
    let fits = |head: &StoredHead| head.status == 200 || !other_form;
    if let Some(Held { head, body, checked }) = store.memory.find(key, &exchange.request.fields)
        && fits(&head)
    {
        return Ok(Some(Kept { head, body: Body::Memory(body), checked: Some(checked) }));
    }
    if store.documents.has(key)
        && let Some(kept) = in_document(exchange, key).await
    {
        return Ok(Some(kept));
    }
    if !key.names_a_file() {
        return Ok(None);
    }
    match look_up(exchange, key).await {
        Found::File(entry) => with_head(exchange, key, entry).await.map(Some),
        // A directory has no answer of its own here, but its name may be an answer's elsewhere.
        Found::Absent | Found::Directory => Ok(None),
        Found::Unusable(why) => Err(why),
    }
}

/// What an earlier process, or this one before memory was full, has left of it, if that is for this request.
async fn in_document<R: Runtime>(exchange: &Exchange<'_, R>, key: &Key) -> Option<Kept> {
    let (shared, of) = (Arc::clone(&exchange.context.shared), key.clone());
    let read = move || shared.store.documents.read(&of);
    let held = exchange.context.shared.descriptors.try_take(Purpose::File, 1);
    let (entry, Known { head, checked }) =
        exchange.context.shared.store.beside().read::<R, _>(read).await.ok()??;
    let head = head.filter(|head| head.variant.matches(&exchange.request.fields))?;
    let body = match held {
        Some(held) => Body::Document(Arc::new(Entry { held: Some(held), ..entry })),
        None => {
            let lent = Lent::new(&exchange.context.shared, key, Shelf::Documents, &entry);
            Body::Lent(Shelf::Documents, Arc::new(lent))
        }
    };
    Some(Kept { head, body, checked })
}

/// The file with its head, which is read by the pool where memory does not have it.
async fn with_head<R: Runtime>(exchange: &Exchange<'_, R>, key: &Key, entry: Entry) -> Result<Kept, Why> {
    let shared = &exchange.context.shared;
    let lent = lent::lent(shared, key, Shelf::Tree, &entry);
    let info = entry.info;
    let (known, body) = match (shared.store.heads.known(key, &info), lent) {
        (Some(known), None) => (known, Body::File(Arc::new(entry))),
        (Some(known), Some(lent)) => (known, Body::Lent(Shelf::Tree, Arc::new(lent))),
        (None, None) => {
            let (theirs, of) = (Arc::clone(shared), key.clone());
            let place = entry.place().clone();
            let read = move || (theirs.store.heads.read(&of, &*entry.file, &entry.info), entry);
            let (known, entry) = place.read::<R, _>(read).await?;
            (known, Body::File(Arc::new(entry)))
        }
        (None, Some(lent)) => {
            drop(entry);
            let (theirs, of) = (Arc::clone(shared), key.clone());
            let read = move |entry: Entry| Ok(theirs.store.heads.read(&of, &*entry.file, &entry.info));
            let known = lent.with::<R, _>(0, read).await.map_err(|_| Why::Disk)?;
            (known, Body::Lent(Shelf::Tree, Arc::new(lent)))
        }
    };
    let Known { head, checked } = known;
    let head = head.unwrap_or_else(|| Arc::new(unknown(key, &info)));
    Ok(Kept { head, body, checked })
}

/// The head of a file that has none: whoever wrote it, its date is what the origin can be asked about.
fn unknown(key: &Key, info: &Info) -> StoredHead {
    let since = info.modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    StoredHead::unknown(since.as_secs(), mime::by_name(key.file_name().as_bytes()))
}
