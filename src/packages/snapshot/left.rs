//! The files of an index set that an earlier process has stored. Those that fit each other, by the checksums that one of
//! them lists, are a generation: it is kept and served while the origin has no complete new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::fits::{List, Proven};
use super::generations::{Generation, RefreshTurn};
use super::member::{Member, StoredMember};
use super::serve::SnapshotRequest;
use crate::cache::Found;
use crate::cache::place::Place;
use crate::cache::response::StoredResponse;
use crate::key::Key;
use crate::outcome::BypassReason;
use crate::rt::{Runtime, timeout};

/// Members taken from the disk. Below the bound of a generation: others may be requested later.
const MOST: usize = 192;
/// Names of a list that are looked up. A whole distribution has some thousand.
const NAMES: usize = 4096;
/// How long reading them may take; after that the set begins without.
const PATIENCE: Duration = Duration::from_secs(20);

impl<R: Runtime> SnapshotRequest<'_, '_, '_, R> {
    /// Makes a generation of the files on the disk, once for a set; whether there is one now.
    pub(crate) async fn take_up_stored(&self, turn: &RefreshTurn) -> bool {
        if turn.is_looked_for() {
            return false;
        }
        let left = timeout::<R, _>(PATIENCE, self.left()).await;
        // Not before: if the client leaves meanwhile, the next request does it.
        turn.note_look();
        let Some(members) = left.ok().flatten() else { return false };
        self.wanted.debug(&format!("belongs to {} index files that fit each other", members.len()));
        turn.switch(Generation::new(members));
        true
    }

    /// The members of a generation of which nobody has replaced or removed the file; the others leave it.
    pub(crate) async fn still_there(&self, generation: &Arc<Generation>) -> BTreeMap<Key, Member> {
        let mut members = generation.all();
        for (key, member) in generation.all() {
            if member.stored_head().is_some() && member.open(self.wanted.exchange, &key).await.is_none() {
                generation.remove_if(&key, |known| known.is_as(&member));
                members.remove(&key);
            }
        }
        members
    }

    /// A file that lists others, and those that are what it lists.
    async fn left(&self) -> Option<BTreeMap<Key, Member>> {
        let names = self.refresh.context.shared.config.rules.lists(self.id.rule);
        for name in names {
            let Some(key) = Key::beneath(self.id.root.trim_start_matches('/'), name) else { continue };
            if let Ok(Some(members)) = self.left_with(&key).await {
                return Some(members);
            }
        }
        None
    }

    /// The same for this file. An error: what is there cannot be read.
    async fn left_with(&self, list: &Key) -> Result<Option<BTreeMap<Key, Member>>, BypassReason> {
        let Some((first, place)) = self.left_member(list).await? else { return Ok(None) };
        let mut members = BTreeMap::from([(list.clone(), first)]);
        let exchange = self.refresh.exchange();
        let Some(listed) = self.refresh.lists(&members).await.pop() else { return Ok(None) };
        for (key, size, version) in self.there(&listed, &place).await? {
            let Some((member, _)) = self.left_member(&key).await? else { continue };
            if size.is_some() && member.size().await != size {
                continue;
            }
            let sum = member.sum(&exchange, &key, version.kind).await.ok_or(BypassReason::Disk)?;
            if sum.is_same(&version) {
                members.insert(key, member);
            }
        }
        Ok((members.len() > 1).then_some(members))
    }

    /// Those that are listed with their checksums, of this set, and there.
    async fn there(&self, list: &List, place: &Place) -> Result<Vec<Proven>, BypassReason> {
        let (shared, id) = (Arc::clone(&self.refresh.context.shared), self.id.clone());
        let mut named = list.proofs();
        named.retain(|(key, ..)| {
            let path = format!("/{}", key.as_str());
            let place = shared.config.rules.place(&path);
            place
                .is_some_and(|place| (place.rule, place.root, place.is_anchor) == (id.rule, &*id.root, false))
        });
        named.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        named.truncate(NAMES);
        let look = move || {
            let is_there = |(key, ..): &Proven| matches!(shared.store.look_up(key.as_str()), Found::File(_));
            named.into_iter().filter(is_there).take(MOST).collect()
        };
        // All of a set lie in one place.
        place.read_whole::<R, _>(look).await
    }

    /// A member that is a file on the disk, and the place that it lies in.
    async fn left_member(&self, key: &Key) -> Result<Option<(Member, Place)>, BypassReason> {
        let cache = &self.refresh.context.shared.cache;
        let Some(kept) = cache.find::<R>(&self.refresh.request, key).await? else { return Ok(None) };
        let Some(target) = self.target_of(key) else { return Ok(None) };
        let place = kept.body.place();
        let what = StoredMember::left(&StoredResponse { checked: None, ..kept });
        Ok(what.map(|what| (Member { target, what }, place)))
    }

    /// How the origin is asked for it: as this client asks, in the form of the directory that it has chosen. `None`: no
    /// client has said in which form.
    fn target_of(&self, key: &Key) -> Option<Arc<[u8]>> {
        let own = self.refresh.target();
        if key == self.key() {
            return Some(own);
        }
        let (ours, theirs) = (self.below_root(self.key())?, self.below_root(key)?);
        let path = own.split(|byte| *byte == b'?').next()?;
        let root = path.strip_suffix(ours.as_str().as_bytes())?;
        theirs.is_unreserved().then(|| [root, theirs.as_str().as_bytes()].concat().into())
    }

    /// Its name below the directory of the set.
    fn below_root(&self, key: &Key) -> Option<Key> {
        let root = self.id.root.trim_start_matches('/');
        Key::of_file(key.as_str().strip_prefix(root)?.trim_start_matches('/'))
    }
}
