//! Members of index sets and what their names lead to on the disk.

use std::sync::Arc;

use super::super::exchange::{Exchange, Shared};
use super::super::lent::{self, Shelf};
use super::super::lookup::look_up;
use super::ask::with_head;
use super::member::{Member, Named, What, is_same_file};
use super::stored::{Body, Kept};
use crate::fd_budget::Purpose;
use crate::key::Key;
use crate::rt::Runtime;
use crate::rt::remote_wake::Waiter;
use crate::store::sets::Generation;
use crate::store::{Entry, Found};

impl Member {
    /// Its stored response, open. `None`: it is not there any more, or has not come.
    pub(super) async fn open<R: Runtime>(&self, exchange: &Exchange<'_, R>, key: &Key) -> Option<Arc<Kept>> {
        match &self.what {
            What::Open(kept) => Some(Arc::clone(kept)),
            What::Coming(fill) => Kept::of_fill(fill, &Waiter::new().ok()?).await.map(Arc::new),
            What::Named(named) => match look_up(exchange, key).await {
                Found::File(entry) => {
                    let body = match lent::lent(&exchange.context.shared, key, Shelf::Tree, &entry) {
                        Some(lent) => Body::Lent(Shelf::Tree, Arc::new(lent)),
                        None => Body::File(Arc::new(entry)),
                    };
                    named.open(&body).map(Arc::new)
                }
                Found::Absent | Found::Directory | Found::Unusable(_) => None,
            },
        }
    }
}

/// Opens the member of a generation before the origin is asked about it: its name may lead to another file afterwards.
/// `kept` is what the name leads to now. `None`: it is open already, or cannot be.
pub(super) async fn hold<R: Runtime>(
    shared: &Arc<Shared>,
    generation: &Arc<Generation<Member>>,
    key: &Key,
    kept: Option<&Kept>,
) -> Option<Arc<Kept>> {
    let member = generation.get(key)?;
    let What::Named(named) = &member.what else { return None };
    let kept = kept?;
    kept.body.of_tree()?;
    // Without a descriptor of its own, clients of this generation begin again if it changes.
    let index = || shared.descriptors.try_take(Purpose::Index, 1);
    let held = index().or_else(|| {
        shared.sets.close_idle();
        index()
    });
    let held = Some(held?);
    let own = match &kept.body {
        Body::Lent(_, lent) => Entry { held, ..lent.with::<R, _>(0, Ok).await.ok()? },
        Body::File(entry) => {
            let Entry { info, is_remote, .. } = **entry;
            Entry { file: Arc::clone(&entry.file), info, held, is_remote }
        }
        Body::Document(_) | Body::Memory(_) => return None,
    };
    let open = Arc::new(named.open(&Body::File(Arc::new(own)))?);
    generation.put(key, Member { target: member.target, what: What::Open(Arc::clone(&open)) });
    Some(open)
}

/// Its name leads to it still.
pub(super) fn let_go(generation: &Arc<Generation<Member>>, key: &Key, held: &Kept) {
    let Some(member) = generation.get(key) else { return };
    if let What::Open(open) = &member.what
        && is_same_file(open, held)
        && let Some(what) = Named::of(open)
    {
        generation.put(key, Member { target: member.target, what });
    }
}

/// The same bytes have come under another tag: from now on the origin is asked with both, and either vouches. `None`:
/// there is nothing new in it.
pub(super) async fn learn(shared: &Arc<Shared>, key: &Key, new: &Kept, old: &Kept) -> Option<Kept> {
    let head = new.head.with_tags_of(&old.head)?;
    Some(with_head(shared, key, new.clone(), head, None).await)
}
