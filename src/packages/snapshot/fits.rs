//! Do the members of an index set fit together? Where one lists the checksums of the others, that decides.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::generations::Generation;
use super::member::{Member, MemberState};
use super::refresh::Refresh;
use crate::cache::response::StoredResponse;
use crate::key::Key;
use crate::packages::index::{Package, Version, listing};
use crate::rt::Runtime;

/// Members of a set without anchors that are validated when another joins: all members of most sets. A bound, so that
/// n members cost a number of requests that grows with n, not with its square.
const SAMPLE: usize = 8;

/// A file that is listed, its size, and the checksum that proves it.
pub(crate) type Proven = (Key, Option<u64>, Version);

/// What one member lists of others, by their names below `base`.
pub(crate) struct List {
    base: String,
    files: HashMap<String, Package>,
}

impl List {
    fn of(&self, key: &Key) -> Option<&Package> {
        self.files.get(key.as_str().strip_prefix(&self.base)?)
    }

    /// Those that it lists with a checksum.
    pub(crate) fn proofs(&self) -> Vec<Proven> {
        let proof = |(name, listed): (&String, &Package)| {
            let version = listed.version.clone().filter(|_| is_proof(listed))?;
            Some((Key::beneath(&self.base, name)?, listed.size, version))
        };
        self.files.iter().filter_map(proof).collect()
    }
}

impl<R: Runtime> Refresh<R> {
    /// The members that are validated when another joins: the anchors, or else the `SAMPLE` that were validated longest
    /// ago; and those that have not been validated yet.
    pub(crate) fn checked_for_another(&self, members: &BTreeMap<Key, Member>) -> Vec<Key> {
        let (mut asked, rest): (Vec<_>, Vec<_>) = members.iter().partition(|(_, member)| is_unproven(member));
        let (mut sample, mut others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|(key, _)| self.is_anchor(key));
        if sample.is_empty() {
            // A member that is being fetched was requested last.
            others.sort_by_key(|(_, member)| {
                member.stored_head().map_or((true, None), |(_, checked)| (false, checked))
            });
            others.truncate(SAMPLE);
            sample = others;
        }
        asked.extend(sample);
        asked.into_iter().map(|(key, _)| key.clone()).collect()
    }

    fn lists_others(&self, key: &Key) -> bool {
        self.role(key).1.is_some()
    }

    /// What the lists among the members list.
    pub(crate) async fn lists(&self, members: &BTreeMap<Key, Member>) -> Vec<List> {
        let (mut lists, exchange) = (Vec::new(), self.exchange());
        for (key, member) in members {
            let Some(form) = self.role(key).1 else { continue };
            let Some(kept) = member.open(&exchange, key).await else { continue };
            let place = kept.body.place();
            let read = move || listing::read(form, &text(&kept));
            let files = place.read_whole::<R, _>(read).await.unwrap_or_default();
            lists.push(List { base: form.base(&self.root), files });
        }
        lists
    }

    /// What a generation's own list says of a member, where that is a checksum.
    pub(crate) async fn proof(&self, generation: &Arc<Generation>, key: &Key) -> Option<Arc<Package>> {
        let lists = self.lists(&generation.all()).await;
        let listed = lists.iter().find_map(|list| list.of(key)).filter(|listed| is_proof(listed));
        listed.cloned().map(Arc::new)
    }

    /// Has a generation a member that lists others?
    pub(crate) fn is_listed(&self, generation: &Arc<Generation>) -> bool {
        generation.all().keys().any(|key| self.lists_others(key))
    }

    /// Whether all members are listed by the generation itself, with checksums: then they are of one state.
    pub(crate) async fn is_proven(&self, generation: &Arc<Generation>) -> bool {
        let members = generation.all();
        let lists = self.lists(&members).await;
        let is_listed = |key: &Key| lists.iter().any(|list| list.of(key).is_some_and(is_proof));
        lists.len() == 1 && members.keys().all(|key| self.lists_others(key) || is_listed(key))
    }

    /// The members that are not what another of them lists.
    pub(crate) async fn misfits(&self, members: &BTreeMap<Key, Member>) -> Vec<Key> {
        let mut misfits = Vec::new();
        let lists = self.lists(members).await;
        for (key, member) in members {
            for listed in lists.iter().filter_map(|list| list.of(key)) {
                if !self.is_as_listed(key, member, listed).await {
                    misfits.push(key.clone());
                    break;
                }
            }
        }
        misfits
    }

    /// Whether it is what is listed. A member that is being fetched may be; its clients get its end only if it is.
    pub(crate) async fn is_as_listed(&self, key: &Key, member: &Member, listed: &Package) -> bool {
        if let (Some(size), Some(listed)) = (member.size().await, listed.size)
            && size != listed
        {
            return false;
        }
        let (Some(version), false) = (&listed.version, is_filling(member)) else { return true };
        let exchange = self.exchange();
        member.sum(&exchange, key, version.kind).await.is_none_or(|sum| sum.is_same(version))
    }
}

/// Whether no member has been validated since the start.
pub(crate) fn is_as_left(generation: &Arc<Generation>) -> bool {
    let members = generation.all();
    !members.is_empty() && members.values().all(is_left)
}

/// Whether some members are unproven.
pub(crate) fn has_unproven(generation: &Arc<Generation>) -> bool {
    generation.all().values().any(is_unproven)
}

/// Whether it has not been validated since the start, and no list names it.
pub(crate) fn is_unproven(member: &Member) -> bool {
    is_left(member) && !member.is_proven()
}

fn is_left(member: &Member) -> bool {
    member.stored_head().is_some_and(|(_, checked)| checked.is_none())
}

/// Whether it has a checksum that can be made.
fn is_proof(listed: &Package) -> bool {
    listed.version.as_ref().is_some_and(|version| listing::can_be_made(version.kind))
}

fn is_filling(member: &Member) -> bool {
    matches!(&member.what, MemberState::Filling(fill) if !fill.is_whole())
}

/// The text of a list; empty if it cannot be read or is none.
fn text(kept: &StoredResponse) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(kept.size()).unwrap_or(usize::MAX).min(listing::MOST)];
    match kept.read_at(&mut bytes, 0) {
        Ok(count) if count == bytes.len() => bytes,
        Ok(_) | Err(_) => Vec::new(),
    }
}
