//! Stored responses, wherever they lie: in memory, in a sidecar, or as a file of the tree whose head is an attribute of
//! it. The cache finds, updates, invalidates and forgets them; nobody else knows where they lie.

use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use super::fill::Fill;
use super::lookup::Cache;
use super::memory::Held;
use super::metadata::{CachedMetadata, MetadataStore, NewHead};
use super::response::{Body, StoredResponse};
use super::stored_file::{Location, StoredFile};
use super::{Entry, Found};
use crate::fd_budget::Purpose;
use crate::http::caching::stored::StoredHead;
use crate::http::mime;
use crate::http::request::RequestHead;
use crate::key::{Forms, Key};
use crate::outcome::BypassReason;
use crate::rt::Runtime;
use crate::rt::budget::Permit;
use crate::sys::file::Info;

impl Cache {
    /// The stored response to this request, if there is one. What is in memory or in a sidecar is newer than a file.
    pub async fn find<R: Runtime>(
        self: &Arc<Self>,
        request: &RequestHead,
        key: &Key,
    ) -> Result<Option<StoredResponse>, BypassReason> {
        // In another form the origin may have something else where it has none of the file.
        let other_form = key.names_a_file() && Forms::of(request.path()).differ();
        if let Some(Held { head, body, checked }) = self.store.memory.find(key, &request.fields)
            && (head.status == 200 || !other_form)
        {
            return Ok(Some(StoredResponse { head, body: Body::Memory(body), checked: Some(checked) }));
        }
        if self.store.sidecars.has(key)
            && let Some(stored) = self.in_sidecar::<R>(request, key).await
        {
            return Ok(Some(stored));
        }
        if !key.names_a_file() {
            return Ok(None);
        }
        match self.look_up::<R>(key).await {
            Found::File(entry) => self.with_head::<R>(key, entry).await.map(Some),
            // A directory has no response of its own here, but its name may be a response's elsewhere.
            Found::Absent | Found::Directory => Ok(None),
            Found::Unusable(why) => Err(why),
        }
    }

    /// What an earlier process, or this one before memory was full, has left of it, if that is for this request.
    async fn in_sidecar<R: Runtime>(
        self: &Arc<Self>,
        request: &RequestHead,
        key: &Key,
    ) -> Option<StoredResponse> {
        let (sidecars, of) = (Arc::clone(&self.store.sidecars), key.clone());
        let held = self.descriptors.try_take(Purpose::File, 1);
        let read = self.store.beside().read::<R, _>(move || sidecars.read(&of)).await;
        let (entry, CachedMetadata { head, checked }) = read.ok()??;
        let head = head.filter(|head| head.variant.matches(&request.fields))?;
        let file = StoredFile::new(self, key, Location::Sidecars, Entry { held, ..entry });
        Some(StoredResponse { head, body: Body::File(Location::Sidecars, file), checked })
    }

    async fn with_head<R: Runtime>(
        self: &Arc<Self>,
        key: &Key,
        entry: Entry,
    ) -> Result<StoredResponse, BypassReason> {
        let file = StoredFile::new(self, key, Location::Tree, entry);
        let CachedMetadata { head, checked } = self.metadata::<R>(key, &file).await?;
        let head = head.unwrap_or_else(|| Arc::new(unknown(key, file.info())));
        Ok(StoredResponse { head, body: Body::File(Location::Tree, file), checked })
    }

    /// What is known of a file of the tree. It is read by the pool where memory does not have it.
    pub async fn metadata<R: Runtime>(
        &self,
        key: &Key,
        file: &StoredFile,
    ) -> Result<CachedMetadata, BypassReason> {
        if let Some(known) = self.store.metadata.known(key, file.info()) {
            return Ok(known);
        }
        let (metadata, key, theirs) = (Arc::clone(&self.store.metadata), key.clone(), file.clone());
        let read = move || theirs.open().map(|entry| metadata.read(&key, &*entry.file, &entry.info));
        file.place().read::<R, _>(read).await?.map_err(|_| BypassReason::Disk)
    }

    /// Gives a stored response another head.
    pub async fn update<R: Runtime>(
        &self,
        key: &Key,
        stored: StoredResponse,
        head: StoredHead,
        checked: Option<Instant>,
    ) -> StoredResponse {
        let head = Arc::new(head);
        let checked = checked.or(stored.checked);
        match &stored.body {
            Body::Memory(_) => {
                self.store.memory.update(key, &stored.head, Arc::clone(&head), checked);
                self.store.sidecars.update(key, &head);
            }
            Body::File(_, file) => {
                let (metadata, key, new) = (Arc::clone(&self.store.metadata), key.clone(), Arc::clone(&head));
                let theirs = file.clone();
                let write = move || theirs.open().map(|entry| replace(&metadata, &key, &entry, new, checked));
                // A job that failed has written nothing: the next request checks again.
                drop(file.place().work::<R, _>(write).await);
            }
        }
        StoredResponse { head, checked, ..stored }
    }

    /// Stores a response that no file of the tree can stand for, which a fill has brought. The `room` is for what it
    /// takes beside its body, where that is on the disk.
    pub fn put(&self, key: &Key, held: &Held, room: Option<Permit>, fill: &Fill) {
        self.store.memory.put(key, held, room);
        self.store.sidecars.put(key, &held.head, &held.body);
        if fill.is_invalid() {
            self.store.memory.invalidate(key);
            self.store.sidecars.invalidate(key);
        }
    }

    /// Forgets what a file of the tree will replace: that is newer. The head for that file.
    pub fn replace_by(&self, key: &Key, head: StoredHead, checked: Instant) -> NewHead {
        self.store.memory.forget(key);
        self.store.sidecars.forget(key);
        self.new_head(head, checked)
    }

    /// The head of a response that is to be stored.
    pub fn new_head(&self, head: StoredHead, checked: Instant) -> NewHead {
        NewHead { head: Arc::new(head), checked, metadata: Arc::clone(&self.store.metadata) }
    }

    /// Has a stored response validated before it is used again.
    pub async fn invalidate<R: Runtime>(self: &Arc<Self>, key: &Key) {
        // A fill first: when it has ended, what it has brought is what is found next.
        if let Some(fill) = self.store.inflight.get(key) {
            fill.invalidate();
        }
        self.store.memory.invalidate(key);
        self.store.sidecars.invalidate(key);
        if !key.names_a_file() {
            return;
        }
        let Found::File(entry) = self.look_up_path::<R>(key.as_str()).await else { return };
        let (metadata, key, place) = (Arc::clone(&self.store.metadata), key.clone(), entry.place().clone());
        let mark = move || {
            let known = metadata.known(&key, &entry.info);
            let known = known.unwrap_or_else(|| metadata.read(&key, &*entry.file, &entry.info));
            let head = known.head.map(|head| Arc::new(head.invalidated()));
            head.into_iter().for_each(|head| replace(&metadata, &key, &entry, head, None));
        };
        // A job that fails has left the file as it was, as a full disk would.
        place.work::<R, _>(mark).await.unwrap_or_default();
    }
}

/// Gives a file another head. One that cannot be written holds as long as this process remembers it.
fn replace(
    metadata: &MetadataStore,
    key: &Key,
    entry: &Entry,
    head: Arc<StoredHead>,
    checked: Option<Instant>,
) {
    drop(metadata.write(key, &*entry.file, &entry.info, &head));
    metadata.remember_if_unchanged(
        key,
        &*entry.file,
        &entry.info,
        CachedMetadata { head: Some(head), checked },
    );
}

/// The head of a file that has none: whoever wrote it, its date is what the origin can be asked about.
fn unknown(key: &Key, info: &Info) -> StoredHead {
    let since = info.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    StoredHead::unknown(since.as_secs(), mime::by_name(key.file_name().as_bytes()))
}
