//! What has come for a member of an index set: it joins the current generation, or makes a new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fits::has_unproven;
use super::member::{Member, What, is_same};
use super::refresh::Renewed;
use super::serve::{PATIENCE, Step, Visit};
use super::table::{Generation, Turn};
use crate::error::{Error, Kind, Side};
use crate::key::Key;
use crate::outcome;
use crate::rt::{Runtime, timeout};

impl<R: Runtime> Visit<'_, '_, '_, R> {
    pub(crate) fn member(&self, what: What) -> Member {
        Member { target: self.errand.target(), what }
    }

    /// The client's generation has not got it, and is not current. Where all that the client has had is the same in the
    /// current one, it goes on with that.
    pub(crate) async fn carry_over(&self, from: &Arc<Generation<Member>>) -> Step<R> {
        let superseded = Step::Failed(Error::new(Side::Us, Kind::Superseded), None);
        let (exchange, shared) = (self.wanted.exchange, &self.errand.context.shared);
        let Some(to) = self.errand.set.current() else { return superseded };
        for key in shared.sets.seen(self.who, &self.id) {
            let (Some(one), Some(other)) = (from.get(&key), to.get(&key)) else { return superseded };
            let (Some(one), Some(other)) = (one.open(exchange, &key).await, other.open(exchange, &key).await)
            else {
                return superseded;
            };
            if !is_same::<R>(&one, &other).await {
                return superseded;
            }
        }
        shared.sets.carry(self.who, &self.id, from, &to);
        Step::Again
    }

    /// A member that the current generation has not got.
    pub(crate) async fn first(
        &self,
        turn: Turn<Member>,
        current: Option<Arc<Generation<Member>>>,
        member: Member,
        begins: bool,
        how: outcome::Kept,
    ) -> Step<R> {
        if let Some(generation) = current {
            return self.join(turn, generation, member, begins, how).await;
        }
        let generation = Generation::new(BTreeMap::from([(self.key().clone(), member.clone())]));
        turn.switch(Arc::clone(&generation));
        self.errand.settle(&generation, self.key(), &member);
        Step::Member { generation, member, begins, how }
    }

    /// A member that the current generation has, as the origin has it now. Another one makes a new generation.
    pub(crate) async fn compared(
        &self,
        turn: Turn<Member>,
        current: Option<Arc<Generation<Member>>>,
        renewed: Renewed,
        how: outcome::Kept,
    ) -> Step<R> {
        let Some(generation) = current else { return Step::Apart };
        match renewed {
            Renewed::Same(member) if has_unproven(&generation) => {
                self.admit(turn, generation, member, true, how).await
            }
            Renewed::Same(member) => {
                generation.put(self.key(), member.clone());
                if !self.errand.set.rests()
                    && generation.take_look()
                    && !self.errand.is_proven(&generation).await
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

    /// A member that has just come joins the current generation: at once, if that itself lists just this.
    async fn join(
        &self,
        turn: Turn<Member>,
        generation: Arc<Generation<Member>>,
        member: Member,
        begins: bool,
        how: outcome::Kept,
    ) -> Step<R> {
        let Some(listed) = self.errand.proof(&generation, self.key()).await else {
            return self.admit(turn, generation, member, begins, how).await;
        };
        if self.errand.is_as_listed(self.key(), &member, &listed).await {
            generation.put(self.key(), member.clone());
            self.errand.settle(&generation, self.key(), &member);
            return Step::Member { generation, member, begins, how };
        }
        self.misfit(turn, generation).await
    }

    /// What the origin has for the client is not what the current generation lists: the generation is over, or the
    /// origin is half-way.
    pub(crate) async fn misfit(&self, turn: Turn<Member>, generation: Arc<Generation<Member>>) -> Step<R> {
        let members = generation.all();
        let telling = self.errand.telling(&members);
        match self.renewed_of(&generation, members, vec![telling]).await {
            Ok(None) => Step::Misfit,
            Ok(Some(_)) if self.errand.set.rests() => Step::Misfit,
            Ok(Some(members)) => {
                self.errand.collect(turn, members);
                Step::Again
            }
            Err(error) => Step::Failed(error, None),
        }
    }

    /// Asks about these members, one group after the other until something has changed; all members then, if so. What
    /// fails says nothing, unless nothing else is said.
    async fn renewed_of(
        &self,
        generation: &Arc<Generation<Member>>,
        mut members: BTreeMap<Key, Member>,
        groups: Vec<Vec<Key>>,
    ) -> Result<Option<BTreeMap<Key, Member>>, Error> {
        let (mut answered, mut error, mut changed) = (false, None, false);
        for keys in groups {
            for (key, renewed) in self.errand.renew_all(&members, keys).await {
                answered |= !matches!(renewed, Renewed::Failed(_));
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
            if changed {
                return Ok(Some(members));
            }
        }
        error.filter(|_| !answered).map_or(Ok(None), Err)
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
        let all = has_unproven(&generation).then(|| members.keys().cloned().collect());
        let all: Vec<Key> = all.unwrap_or_else(|| self.errand.telling(&members));
        // One is asked about again: of two machines that answer in turn, the other one's word counts too.
        let again = all.first().cloned().into_iter().collect();
        let changed = match self.renewed_of(&generation, members.clone(), vec![all, again]).await {
            Ok(changed) => changed,
            Err(error) => return Step::Failed(error, None),
        };
        if changed.is_some() && self.errand.set.rests() {
            return Step::Failed(Error::new(Side::Us, Kind::Superseded), None);
        }
        let is_changed = changed.is_some();
        members = changed.unwrap_or_else(|| generation.all());
        members.insert(self.key().clone(), member.clone());
        // One that lists others may not list those that there are.
        if is_changed || !self.errand.misfits(&members).await.is_empty() {
            self.errand.collect(turn, members);
            return Step::Again;
        }
        generation.put(self.key(), member.clone());
        self.errand.settle(&generation, self.key(), &member);
        Step::Member { generation, member, begins, how }
    }
}
