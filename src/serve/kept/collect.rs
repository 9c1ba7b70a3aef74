//! New generations of an index set: all members are asked for again until none has changed during a whole round.
//!
//! A member that stayed the same from before the others came until after that was there with all of them at one time.
//! So it is enough to ask at the end about those that tell of every change, the anchors, where a set has such;
//! without them it takes all.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Context, Exchange, LOOKS};
use super::ask::{self, Asked};
use super::set::{Member, What};
use super::{Body, Kept, Wanted, find};
use crate::error::{Error, Kind, Side};
use crate::http::caching::Policy;
use crate::http::caching::directives::RequestDirectives;
use crate::http::request::{Method, RequestHead};
use crate::http::response::is_origin_failure;
use crate::index::release;
use crate::key::Key;
use crate::observe::log::RequestLog;
use crate::preset::Place;
use crate::rt::mailbox::Waiter;
use crate::rt::{Runtime, blocking, spawn_guarded};
use crate::store::inflight;
use crate::store::sets::{Generation, Set, Turn};
use crate::sys::file;

/// Rounds after which an origin that changes all the time is left alone.
const ROUNDS: u32 = 8;
/// Rounds that find what does not fit together.
const PATIENT_ROUNDS: u32 = 2;
/// Between two rounds; longer each time.
const PAUSE: Duration = Duration::from_millis(20);
/// So long the last state that fits is kept where the origin contradicts itself; then it is taken as it is. Mirrors
/// that take one file after the other need minutes.
pub(super) const UNFIT: Duration = Duration::from_secs(600);
/// Bytes compared at a time.
const PIECE: usize = 64 * 1024;

/// What is needed to ask about a set, for a client or after it has gone.
pub(super) struct Errand<R: Runtime> {
    pub(super) context: Rc<Context<R>>,
    pub(super) set: Arc<Set<Member>>,
    /// The request that gave rise to it: the origin hears its fields.
    request: RequestHead,
    log: RequestLog,
    policy: Policy,
    /// The directory that holds the members, with a slash at its end; nothing at the top.
    root: String,
    /// InRelease and Release list the sizes of the others.
    release: bool,
}

impl<R: Runtime> Clone for Errand<R> {
    fn clone(&self) -> Self {
        Self {
            context: Rc::clone(&self.context),
            set: Arc::clone(&self.set),
            request: self.request.clone(),
            log: self.log.clone(),
            policy: self.policy,
            root: self.root.clone(),
            release: self.release,
        }
    }
}

/// A member as the origin has it now.
pub(super) enum Renewed {
    /// This.
    Now(Member),
    /// The origin has none, or none that can be kept.
    Gone,
    /// Nobody knows.
    Failed(Error),
}

/// Are these the same bytes? One that is still on its way is like nothing but itself.
pub(super) async fn is_same(one: &Member, other: &Member) -> bool {
    if let (What::Coming(one), What::Coming(other)) = (&one.what, &other.what)
        && Arc::ptr_eq(one, other)
    {
        return true;
    }
    let (Some(one), Some(other)) = (come(one).await, come(other).await) else { return false };
    let (Body::File(a), Body::File(b)) = (&one.body, &other.body) else { return false };
    if a.info.id == b.info.id || a.info.size != b.info.size {
        return a.info.id == b.info.id;
    }
    if let (Some(a), Some(b)) = (one.head.etag(), other.head.etag()) {
        return a == b;
    }
    // An origin that cannot say whether something has changed sends it anew each time.
    blocking::run(&blocking::READS, move || same_bytes(&one, &other)).await.unwrap_or(false)
}

/// The member, as soon as it is there.
async fn come(member: &Member) -> Option<Arc<Kept>> {
    match &member.what {
        What::Whole(kept) => Some(Arc::clone(kept)),
        What::Coming(fill) => Kept::of_fill(fill, &Waiter::new().ok()?).await.map(Arc::new),
    }
}

fn same_bytes(one: &Kept, other: &Kept) -> bool {
    let (Body::File(one), Body::File(other)) = (&one.body, &other.body) else { return false };
    let (mut a, mut b) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0;
    while at < one.info.size {
        let Ok(count @ 1..) = file::read_at(&one.file, &mut a, at) else { return false };
        let mut read = 0;
        while read < count {
            match file::read_at(&other.file, &mut b[read..count], at + read as u64) {
                Ok(more @ 1..) => read += more,
                Ok(_) | Err(_) => return false,
            }
        }
        if a[..count] != b[..count] {
            return false;
        }
        at += count as u64;
    }
    true
}

impl Member {
    /// Its bytes, where that is known.
    async fn size(&self) -> Option<u64> {
        match &self.what {
            What::Whole(kept) => Some(kept.size()),
            What::Coming(fill) => fill.answer(&Waiter::new().ok()?).await.ok()?.length,
        }
    }
}

/// The text of a Release file; empty if it cannot be read or is none.
fn read(kept: &Kept) -> String {
    let Body::File(entry) = &kept.body else { return String::new() };
    let mut bytes = vec![0; usize::try_from(entry.info.size).unwrap_or(usize::MAX).min(release::MOST)];
    let mut at = 0;
    while at < bytes.len() {
        match file::read_at(&entry.file, &mut bytes[at..], at as u64) {
            Ok(count @ 1..) => at += count,
            Ok(_) | Err(_) => return String::new(),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl<R: Runtime> Errand<R> {
    pub(super) fn new(wanted: &Wanted<'_, '_, R>, set: Arc<Set<Member>>, place: Place<'_>) -> Self {
        let exchange = wanted.exchange;
        let (context, request) = (Rc::clone(exchange.context), exchange.request.clone());
        let root = place.root.trim_start_matches('/');
        let root = if root.is_empty() { String::new() } else { format!("{root}/") };
        let (log, policy) = (exchange.log.clone(), wanted.policy);
        Self { context, set, request, log, policy, root, release: place.release }
    }

    /// How the origin is asked for the member that the request is about.
    pub(super) fn target(&self) -> Arc<[u8]> {
        Arc::from(&*self.request.target)
    }

    /// The members that tell whether any has changed.
    pub(super) fn telling(&self, members: &BTreeMap<Key, Member>) -> Vec<Key> {
        let anchors: Vec<Key> = members.keys().filter(|key| self.is_anchor(key)).cloned().collect();
        if anchors.is_empty() { members.keys().cloned().collect() } else { anchors }
    }

    fn is_anchor(&self, key: &Key) -> bool {
        let path = format!("/{}", key.as_str());
        self.context.shared.config.rules.place(&path).is_some_and(|place| place.is_anchor)
    }

    /// Asks the origin for a member, whole.
    pub(super) async fn renew(&self, key: &Key, known: &Member) -> Renewed {
        let failed = |kind| Renewed::Failed(Error::new(Side::Us, kind));
        let Ok(waiter) = Waiter::new() else { return failed(Kind::Io) };
        let request =
            RequestHead { method: Method::Get, target: Box::from(&*known.target), ..self.request.clone() };
        let exchange = Exchange::new(&self.context, &request, &self.log);
        let directives = RequestDirectives { no_cache: true, ..RequestDirectives::default() };
        let wanted =
            Wanted { exchange: &exchange, key, directives, policy: self.policy, arrived: Instant::now() };
        let now = |kept| {
            let what = What::Whole(Arc::new(kept));
            Renewed::Now(Member { target: Arc::clone(&known.target), what })
        };
        for _ in 0..LOOKS {
            let permit = match self.context.shared.store.inflight.enter(key) {
                inflight::Turn::Lead(permit) => permit,
                inflight::Turn::Follow(fill) => {
                    fill.left(&waiter).await;
                    continue;
                }
                inflight::Turn::Full => break,
            };
            let Ok(kept) = find::find(&exchange, key).await else { return Renewed::Gone };
            return match ask::ask(&wanted, permit, kept).await {
                Asked::Kept(kept, _) if kept.is_file() => now(kept),
                Asked::Kept(..) => Renewed::Gone,
                Asked::Filling { fill, follower, .. } => {
                    drop(follower);
                    fill.left(&waiter).await;
                    Kept::of_fill(&fill, &waiter).await.map_or(failed(Kind::Abandoned), now)
                }
                Asked::NotKept(answer, _) if is_origin_failure(answer.status) => {
                    Renewed::Failed(Error::with(Side::Origin, Kind::Unavailable, answer.status))
                }
                Asked::NotKept(..) => Renewed::Gone,
                Asked::Failed(error, _) => Renewed::Failed(error),
            };
        }
        failed(Kind::Abandoned)
    }

    /// Puts a member that is on its way into its generation as soon as it is there.
    pub(super) fn settle(&self, generation: &Arc<Generation<Member>>, key: &Key, member: &Member) {
        let What::Coming(fill) = &member.what else { return };
        let (fill, target) = (Arc::clone(fill), Arc::clone(&member.target));
        let (generation, key) = (Arc::clone(generation), key.clone());
        let busy = self.context.shared.stop.busy();
        spawn_guarded::<R>(busy, async move {
            let Ok(waiter) = Waiter::new() else { return };
            fill.left(&waiter).await;
            match Kept::of_fill(&fill, &waiter).await {
                Some(kept) => generation.put(&key, Member { target, what: What::Whole(Arc::new(kept)) }),
                None => generation.remove_if(
                    &key,
                    |member| matches!(&member.what, What::Coming(coming) if Arc::ptr_eq(coming, &fill)),
                ),
            }
        });
    }

    /// Collects a new generation of these members, and switches to it. A task of its own: it goes on when the client
    /// leaves.
    pub(super) fn collect(&self, turn: Turn<Member>, members: BTreeMap<Key, Member>) {
        let errand = self.clone();
        let busy = self.context.shared.stop.busy();
        self.log.debug(format_args!("an index set has changed - collecting {} files", members.len()));
        spawn_guarded::<R>(busy, async move {
            match errand.collected(members).await {
                Ok(members) => turn.switch(Generation::new(members)),
                Err(error) => {
                    errand.log.debug(format_args!("an index set stays as it was - {error}"));
                    turn.fail(error);
                }
            }
        });
    }

    async fn collected(&self, mut members: BTreeMap<Key, Member>) -> Result<BTreeMap<Key, Member>, Error> {
        let mut unfit = 0;
        for round in 1..=ROUNDS {
            let (first, rest): (Vec<Key>, Vec<Key>) =
                members.keys().cloned().partition(|key| self.is_anchor(key));
            for key in first.into_iter().chain(rest) {
                self.update(&mut members, &key).await?;
            }
            let mut calm = true;
            for key in self.telling(&members) {
                calm &= self.update(&mut members, &key).await?;
            }
            if calm {
                // Where the origin refuses all of them, that is no new state.
                if members.is_empty() {
                    break;
                }
                if self.fits(&members).await || self.set.is_unfit_for(UNFIT) {
                    return Ok(members);
                }
                // An origin that changes file by file is not through yet; most need more than a moment.
                unfit += 1;
                if unfit == PATIENT_ROUNDS {
                    break;
                }
            }
            R::sleep(PAUSE * round).await;
        }
        Err(Error::new(Side::Us, Kind::Superseded))
    }

    /// Have the members the sizes that the Release file among them lists, if there is one?
    pub(super) async fn fits(&self, members: &BTreeMap<Key, Member>) -> bool {
        let name = |key: &Key| key.as_str().strip_prefix(&self.root).unwrap_or_default().to_owned();
        let is_release = |(key, _): &(&Key, &Member)| matches!(&*name(key), "InRelease" | "Release");
        let Some((_, release)) = members.iter().find(is_release).filter(|_| self.release) else {
            return true;
        };
        let Some(release) = come(release).await else { return true };
        let mut sizes = Vec::with_capacity(members.len());
        for (key, member) in members {
            sizes.extend(member.size().await.map(|size| (name(key), size)));
        }
        let fits = move || {
            let text = read(&release);
            let listed = release::sizes(&text);
            sizes.iter().all(|(name, size)| listed.get(&**name).is_none_or(|listed| listed == size))
        };
        let fits = blocking::run(&blocking::READS, fits).await.unwrap_or(true);
        self.set.note_fit(fits);
        fits
    }

    /// Brings one member up to date; whether it is what it was.
    async fn update(&self, members: &mut BTreeMap<Key, Member>, key: &Key) -> Result<bool, Error> {
        let Some(known) = members.get(key) else { return Ok(true) };
        match self.renew(key, known).await {
            Renewed::Now(now) => {
                let same = is_same(known, &now).await;
                members.insert(key.clone(), now);
                Ok(same)
            }
            Renewed::Gone => {
                members.remove(key);
                Ok(false)
            }
            Renewed::Failed(error) => Err(error),
        }
    }
}
