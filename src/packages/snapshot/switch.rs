//! A new generation of an index set becomes the current one: on the disk first, then for clients.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::generations::{Generation, RefreshTurn};
use super::held;
use super::member::Member;
use super::refresh::Refresh;
use crate::cache::Found;
use crate::cache::metadata::CachedMetadata;
use crate::cache::place::Place;
use crate::error::{Error, Kind, Side};
use crate::key::Key;
use crate::rt::Runtime;

impl<R: Runtime> Refresh<R> {
    /// All members get their names, the anchors last; then clients that begin get them.
    pub(crate) async fn switch(
        &self,
        turn: &RefreshTurn,
        members: BTreeMap<Key, Member>,
    ) -> Result<(), Error> {
        let exchange = self.exchange();
        if let Some(current) = self.set.current() {
            for (key, known) in current.all() {
                if members.get(&key).is_none_or(|now| !now.is_as(&known)) {
                    held::hold(&exchange, &current, &key).await;
                }
            }
        }
        let each = || members.iter().map(|(key, member)| (key.clone(), member.clone()));
        let (last, mut order): (Vec<_>, Vec<_>) = each().partition(|(key, _)| self.is_anchor(key));
        order.extend(last);
        self.name(order).await?;
        turn.switch(Generation::new(each().map(|(key, member)| (key, member.placed(None))).collect()));
        Ok(())
    }

    /// Gives members their names, in this order, those that wait for them.
    pub(crate) async fn name(&self, members: Vec<(Key, Member)>) -> Result<(), Error> {
        let mut waiting = Vec::new();
        for (key, member) in members {
            if let (Some(spare), Some((head, checked))) = (member.spare(), member.stored_head()) {
                let known = CachedMetadata { head: Some(Arc::new(head.clone())), checked };
                waiting.push((Arc::clone(spare), key, known));
            }
        }
        let Some((first, ..)) = waiting.first() else { return Ok(()) };
        let shared = Arc::clone(&self.context.shared);
        // All of a set lie in one place.
        let place = match shared.cache.look_up_path::<R>(first.place.as_str()).await {
            Found::File(entry) => entry.place().clone(),
            Found::Absent | Found::Directory => Place::Local,
            Found::Unusable(why) => return Err(Error::with(Side::Disk, Kind::Io, why.as_str())),
        };
        let name = move || {
            let spares: Vec<_> = waiting.iter().map(|(spare, ..)| Arc::clone(spare)).collect();
            let named = shared.store.name(&spares);
            for (_, key, known) in waiting {
                if let Found::File(entry) = shared.store.look_up(key.as_str()) {
                    shared.store.metadata.remember_if_unchanged(&key, &*entry.file, &entry.info, known);
                }
            }
            named
        };
        let named = place.work::<R, _>(name).await.map_err(|why| io::Error::other(why.as_str()));
        named.and_then(|named| named).map_err(|error| Error::io(Side::Disk, &error))
    }
}
