//! What has come for a member of an index set: it joins the current generation, or makes a new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::collect::{self, Renewed};
use super::member::{Member, What};
use super::set::{PATIENCE, Step, Visit, is_as_left};
use super::stored::Kept;
use crate::error::{Error, Kind, Side};
use crate::key::Key;
use crate::outcome;
use crate::rt::{Runtime, timeout};
use crate::store::sets::{Generation, Turn};

impl<R: Runtime> Visit<'_, '_, '_, R> {
    pub(super) fn member(&self, what: What) -> Member {
        Member { target: self.errand.target(), what }
    }

    /// A member that the current generation has not got.
    pub(super) async fn first(
        &self,
        turn: Turn<Member>,
        current: Option<Arc<Generation<Member>>>,
        member: Member,
        begins: bool,
        how: outcome::Kept,
    ) -> Step<R> {
        if let Some(generation) = current {
            return self.admit(turn, generation, member, begins, how).await;
        }
        let generation = Generation::new(BTreeMap::from([(self.key().clone(), member.clone())]));
        turn.switch(Arc::clone(&generation));
        self.errand.settle(&generation, self.key(), &member);
        Step::Member { generation, member, begins, how }
    }

    /// A member that the current generation has, as the origin has it now. Another one makes a new generation.
    pub(super) async fn compared(
        &self,
        turn: Turn<Member>,
        current: Option<Arc<Generation<Member>>>,
        had: Option<Member>,
        before: Option<Arc<Kept>>,
        kept: Kept,
        how: outcome::Kept,
    ) -> Step<R> {
        let (Some(generation), Some(had)) = (current, had) else { return Step::Apart };
        match self.errand.renewed(self.key(), &had, before, kept).await {
            Renewed::Same(member) if is_as_left(&generation) => {
                self.admit(turn, generation, member, true, how).await
            }
            Renewed::Same(member) => {
                generation.put(self.key(), member.clone());
                if !self.errand.set.rests()
                    && generation.take_look()
                    && let Some(members) = self.changed_since(&generation).await
                {
                    self.errand.collect(turn, members);
                    return Step::Again;
                }
                Step::Member { generation, member, begins: true, how }
            }
            Renewed::Other { now, .. } => {
                let mut members = generation.all();
                members.insert(self.key().clone(), now);
                self.errand.collect(turn, members);
                Step::Again
            }
            Renewed::Gone | Renewed::Failed(_) => Step::Apart,
        }
    }

    /// The members, if one has changed beside the one that is asked for. One that cannot be had says nothing.
    async fn changed_since(&self, generation: &Arc<Generation<Member>>) -> Option<BTreeMap<Key, Member>> {
        let mut members = generation.all();
        let others: Vec<Key> = members.keys().filter(|key| *key != self.key()).cloned().collect();
        let mut changed = false;
        let renewed = timeout::<R, _>(PATIENCE, self.errand.renew_all(&members, others)).await;
        for (key, renewed) in renewed.unwrap_or_default() {
            match renewed {
                Renewed::Same(now) => generation.put(&key, now),
                Renewed::Other { now, .. } => {
                    members.insert(key, now);
                    changed = true;
                }
                Renewed::Gone | Renewed::Failed(_) => {}
            }
        }
        changed.then_some(members)
    }

    /// Adds a member that has just come to the current generation, if that is still what the origin has.
    async fn admit(
        &self,
        turn: Turn<Member>,
        generation: Arc<Generation<Member>>,
        member: Member,
        begins: bool,
        how: outcome::Kept,
    ) -> Step<R> {
        let mut members = generation.all();
        let all = is_as_left(&generation).then(|| members.keys().cloned().collect());
        let all = all.unwrap_or_else(|| self.errand.telling(&members));
        // One is asked about again: of two machines that answer in turn, the other one's word counts too.
        let again = all.first().cloned().into_iter().collect();
        let (mut error, mut changed) = (None, false);
        for keys in [all, again] {
            for (key, renewed) in self.errand.renew_all(&members, keys).await {
                match renewed {
                    Renewed::Same(now) => generation.put(&key, now),
                    Renewed::Other { now, .. } => {
                        members.insert(key, now);
                        changed = true;
                    }
                    Renewed::Gone => changed = true,
                    Renewed::Failed(failed) => error = Some(failed),
                }
            }
            if changed || error.is_some() {
                break;
            }
        }
        if let Some(error) = error {
            turn.fail(error.clone());
            return Step::Failed(error, None);
        }
        if changed && self.errand.set.rests() {
            return Step::Failed(Error::new(Side::Us, Kind::Superseded), None);
        }
        if changed {
            members.insert(self.key().clone(), member);
            self.errand.collect(turn, members);
            return Step::Again;
        }
        members.insert(self.key().clone(), member.clone());
        if !self.errand.fits(&members).await && !self.errand.set.is_unfit_for(collect::UNFIT) {
            self.errand.collect(turn, members);
            return Step::Again;
        }
        generation.put(self.key(), member.clone());
        self.errand.settle(&generation, self.key(), &member);
        Step::Member { generation, member, begins, how }
    }
}
