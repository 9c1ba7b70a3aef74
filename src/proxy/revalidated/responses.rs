//! Stored responses, wherever they lie: in memory, in a file beside the tree, or as a file of the tree whose head is an
//! attribute of it. They are found, updated, invalidated and forgotten here; nobody else knows where they lie.

use std::sync::Arc;
use std::time::Instant;

use super::stored::{Body, StoredResponse};
use crate::cache::fill::Fill;
use crate::cache::memory::Held;
use crate::cache::metadata::CachedMetadata;
use crate::cache::{Entry, Found, Store};
use crate::fd_budget::Purpose;
use crate::http::caching::stored::StoredHead;
use crate::http::mime;
use crate::key::Key;
use crate::outcome::BypassReason;
use crate::proxy::exchange::{Exchange, Shared};
use crate::proxy::fetch::form;
use crate::proxy::lent::{self, LentFile, Shelf};
use crate::proxy::lookup::{self, look_up};
use crate::rt::Runtime;
use crate::rt::budget::Permit;
use crate::sys::file::Info;

/// The stored answer for this request, if there is one. What is in memory or beside the
/// tree is newer than a file.
pub(crate) async fn find<R: Runtime>(
    exchange: &Exchange<'_, R>,
    key: &Key,
) -> Result<Option<StoredResponse>, BypassReason> {
    let store = &exchange.context.shared.store;
    // In another form the origin may have something else where it has none of the file.
    let other_form = key.names_a_file() && form::differs(exchange.request);
    let fits = |head: &StoredHead| head.status == 200 || !other_form;
    if let Some(Held { head, body, checked }) = store.memory.find(key, &exchange.request.fields)
        && fits(&head)
    {
        return Ok(Some(StoredResponse { head, body: Body::StoredBody(body), checked: Some(checked) }));
    }
    if store.sidecars.has(key)
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
async fn in_document<R: Runtime>(exchange: &Exchange<'_, R>, key: &Key) -> Option<StoredResponse> {
    let (shared, of) = (Arc::clone(&exchange.context.shared), key.clone());
    let read = move || shared.store.sidecars.read(&of);
    let held = exchange.context.shared.descriptors.try_take(Purpose::File, 1);
    let (entry, CachedMetadata { head, checked }) =
        exchange.context.shared.store.beside().read::<R, _>(read).await.ok()??;
    let head = head.filter(|head| head.variant.matches(&exchange.request.fields))?;
    let body = match held {
        Some(held) => Body::Document(Arc::new(Entry { held: Some(held), ..entry })),
        None => {
            let lent = LentFile::new(&exchange.context.shared, key, Shelf::Sidecars, &entry);
            Body::LentFile(Shelf::Sidecars, Arc::new(lent))
        }
    };
    Some(StoredResponse { head, body, checked })
}

/// The file with its head, which is read by the pool where memory does not have it.
async fn with_head<R: Runtime>(
    exchange: &Exchange<'_, R>,
    key: &Key,
    entry: Entry,
) -> Result<StoredResponse, BypassReason> {
    let shared = &exchange.context.shared;
    let lent = lent::lent(shared, key, Shelf::Tree, &entry);
    let info = entry.info;
    let (known, body) = match (shared.store.metadata.known(key, &info), lent) {
        (Some(known), None) => (known, Body::File(Arc::new(entry))),
        (Some(known), Some(lent)) => (known, Body::LentFile(Shelf::Tree, Arc::new(lent))),
        (None, None) => {
            let (theirs, of) = (Arc::clone(shared), key.clone());
            let place = entry.place().clone();
            let read = move || (theirs.store.metadata.read(&of, &*entry.file, &entry.info), entry);
            let (known, entry) = place.read::<R, _>(read).await?;
            (known, Body::File(Arc::new(entry)))
        }
        (None, Some(lent)) => {
            drop(entry);
            let (theirs, of) = (Arc::clone(shared), key.clone());
            let read = move |entry: Entry| Ok(theirs.store.metadata.read(&of, &*entry.file, &entry.info));
            let known = lent.with::<R, _>(0, read).await.map_err(|_| BypassReason::Disk)?;
            (known, Body::LentFile(Shelf::Tree, Arc::new(lent)))
        }
    };
    let CachedMetadata { head, checked } = known;
    let head = head.unwrap_or_else(|| Arc::new(unknown(key, &info)));
    Ok(StoredResponse { head, body, checked })
}

/// The head of a file that has none: whoever wrote it, its date is what the origin can be asked about.
fn unknown(key: &Key, info: &Info) -> StoredHead {
    let since = info.modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    StoredHead::unknown(since.as_secs(), mime::by_name(key.file_name().as_bytes()))
}

/// Gives what is kept another head.
pub(crate) async fn update<R: Runtime>(
    shared: &Arc<Shared>,
    key: &Key,
    kept: StoredResponse,
    head: StoredHead,
    checked: Option<Instant>,
) -> StoredResponse {
    let head = Arc::new(head);
    let checked = checked.or(kept.checked);
    match kept.body {
        Body::StoredBody(_) => {
            shared.store.memory.update(key, &kept.head, Arc::clone(&head), checked);
            shared.store.sidecars.update(key, &head);
        }
        Body::File(_) | Body::Document(_) | Body::LentFile(..) => {
            let (theirs, key, new) = (Arc::clone(shared), key.clone(), Arc::clone(&head));
            let body = kept.body.clone();
            let write = move || {
                let Some(of) = body.open() else { return };
                let metadata = &theirs.store.metadata;
                // One that cannot be written holds as long as this process remembers it.
                drop(metadata.write(&key, &*of.file, &of.info, &new));
                metadata.remember_still(
                    &key,
                    &*of.file,
                    &of.info,
                    CachedMetadata { head: Some(new), checked },
                );
            };
            // A job that failed has written nothing: the next request checks again.
            kept.body.place().work::<R, _>(write).await.unwrap_or_default();
        }
    }
    StoredResponse { head, checked, ..kept }
}

/// Stores a response that no file of the tree can stand for, which a fill has brought. The `room` is for what it takes
/// beside its body, where that is on the disk.
pub(crate) fn put(store: &Store, key: &Key, held: &Held, room: Option<Permit>, fill: &Fill) {
    store.memory.put(key, held, room);
    store.sidecars.put(key, &held.head, &held.body);
    if fill.is_invalid() {
        store.memory.invalidate(key);
        store.sidecars.invalidate(key);
    }
}

/// Forgets what a file of the tree will replace: that is newer.
pub(crate) fn forget(store: &Store, key: &Key) {
    store.memory.forget(key);
    store.sidecars.forget(key);
}

/// Has what is kept checked before it is used again.
pub(crate) async fn invalidate<R: Runtime>(shared: &Arc<Shared>, key: &Key) {
    // What is on its way first: when it has ended it is what is looked at next.
    if let Some(fill) = shared.store.inflight.get(key) {
        fill.invalidate();
    }
    shared.store.memory.invalidate(key);
    shared.store.sidecars.invalidate(key);
    if !key.names_a_file() {
        return;
    }
    let Found::File(entry) = lookup::find::<R>(shared, key.as_str()).await else { return };
    let (theirs, of, place) = (Arc::clone(shared), key.clone(), entry.place().clone());
    // A job that fails has left the file as it was, as a full disk would.
    place.work::<R, _>(move || mark(&theirs.store, &of, &entry)).await.unwrap_or_default();
}

fn mark(store: &Store, key: &Key, entry: &Entry) {
    let known = store.metadata.known(key, &entry.info);
    let known = known.unwrap_or_else(|| store.metadata.read(key, &*entry.file, &entry.info));
    let Some(head) = known.head else { return };
    let head = Arc::new(head.invalidated());
    drop(store.metadata.write(key, &*entry.file, &entry.info, &head));
    store.metadata.remember_still(
        key,
        &*entry.file,
        &entry.info,
        CachedMetadata { head: Some(head), checked: None },
    );
}

/// The head of a file of the tree, where it has one, read by the pool where memory does not have it.
pub async fn head<R: Runtime>(shared: &Arc<Shared>, key: &Key, entry: Entry) -> Option<Arc<StoredHead>> {
    if let Some(known) = shared.store.metadata.known(key, &entry.info) {
        return known.head;
    }
    let (theirs, of, place) = (Arc::clone(shared), key.clone(), entry.place().clone());
    let read = move || theirs.store.metadata.read(&of, &*entry.file, &entry.info).head;
    // A disk that hangs has none.
    place.read::<R, _>(read).await.ok().flatten()
}
