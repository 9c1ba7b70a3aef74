//! A model of one fill: its leader and its followers in every order that a seed can think of.
//!
//! Each run is one thread, polled by hand: a task runs only after it was woken, so a wake-up that
//! is lost leaves the run standing still, and the seed says which run it was.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures_lite::future::yield_now;

use crate::cache::fill::{Answer, Fill, Follower, NoFile, Progress};
use crate::cache::growing_file::GrowingFile;
use crate::cache::place::{Place, Placed};
use crate::error::{Error, Kind, Side};
use crate::http::fields::Fields;
use crate::http::request::Version;
use crate::http::response::ResponseHead;
use crate::outcome::BypassReason;
use crate::rt::poll;
use crate::rt::remote_wake::Waiter;
use crate::sys::file::{self, Locked};

const RUNS: u64 = 6_000;

/// Pseudo-random numbers, the same for the same seed; clones share their state.
#[derive(Clone)]
pub(crate) struct Rng(Rc<Cell<u64>>);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)))
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: usize) -> usize {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        usize::try_from((state >> 20) % (bound as u64)).unwrap()
    }

    pub(crate) fn one_in(&self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    /// Lets others run, a few times or not at all.
    pub(crate) async fn pause(&self) {
        for _ in 0..self.below(4) {
            yield_now().await;
        }
    }
}

/// What the leader of this run is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Every byte gets to those who follow.
    Whole,
    /// There is no answer.
    NoAnswer,
    /// The answer is not to be stored.
    Declined,
    /// The origin fails after so many bytes.
    Breaks(usize),
}

/// One run: what is sent, and what of it is in the file.
struct World {
    fill: Arc<Fill>,
    body: Vec<u8>,
    disk: RefCell<Vec<u8>>,
    fate: Fate,
    length_known: bool,
    /// From this byte on the disk takes nothing.
    disk_full_at: Option<usize>,
    /// Followers are still wanted, as far as the leader knows.
    given_up: Cell<bool>,
    file: Arc<Placed<Locked>>,
    rng: Rng,
}

impl World {
    fn new(seed: u64, file: &Arc<Placed<Locked>>) -> Rc<Self> {
        let rng = Rng::new(seed);
        let size = rng.below(300);
        let fate = match rng.below(10) {
            0 => Fate::NoAnswer,
            1 => Fate::Declined,
            2 | 3 => Fate::Breaks(rng.below(size + 1)),
            _ => Fate::Whole,
        };
        Rc::new(Self {
            fill: Arc::default(),
            body: (0..size).map(|_| u8::try_from(rng.below(256)).unwrap()).collect(),
            disk: RefCell::default(),
            fate,
            length_known: rng.one_in(2),
            disk_full_at: rng.one_in(2).then(|| rng.below(size + 1)),
            given_up: Cell::new(false),
            file: Arc::clone(file),
            rng,
        })
    }

    fn answer(&self) -> Answer {
        Answer {
            head: ResponseHead {
                status: 200,
                reason: Box::default(),
                version: Version::Http11,
                fields: Fields::new(),
                source: None,
            },
            length: self.length_known.then_some(self.body.len() as u64),
            modified: None,
            file: GrowingFile::Named(Arc::clone(&self.file)),
            kept: None,
        }
    }

    /// Writes `bytes` to the disk as far as it takes them; those that it does not take.
    fn write<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let mut disk = self.disk.borrow_mut();
        let room = self.disk_full_at.map_or(bytes.len(), |limit| limit.saturating_sub(disk.len()));
        let (taken, left) = bytes.split_at(room.min(bytes.len()));
        disk.extend_from_slice(taken);
        self.fill.advance(disk.len() as u64);
        left
    }
}

pub(crate) fn failure() -> Error {
    Error::new(Side::Origin, Kind::Truncated)
}

/// The leader, as `proxy::fetch::fill` does it.
async fn lead(world: Rc<World>) {
    let (rng, fill) = (&world.rng, &world.fill);
    rng.pause().await;
    match world.fate {
        Fate::NoAnswer => return fill.end(NoFile::Failed(failure())),
        Fate::Declined => return fill.end(NoFile::Declined(BypassReason::Status)),
        Fate::Whole | Fate::Breaks(_) => fill.announce(world.answer()),
    }
    let waiter = Waiter::new();
    let (mut sent, mut in_memory) = (0, false);
    let stop = if let Fate::Breaks(at) = world.fate { at } else { world.body.len() };
    while sent < stop {
        rng.pause().await;
        let piece = &world.body[sent..stop.min(sent + 1 + rng.below(60))];
        sent += piece.len();
        let left = if in_memory { piece } else { world.write(piece) };
        in_memory |= !left.is_empty();
        if in_memory && !fill.hand_over(left.to_vec(), &waiter).await {
            world.given_up.set(true);
            return fill.end(NoFile::Failed(Error::new(Side::Proxy, Kind::Abandoned)));
        }
    }
    rng.pause().await;
    if world.fate == Fate::Whole {
        fill.complete();
        rng.pause().await;
    }
    // After a complete fill this is what a dropped permit does, and must change nothing.
    fill.end(NoFile::Failed(failure()));
}

/// How a follower ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Exact,
    Broken,
    NoAnswer,
    Declined,
    /// Joined too late for bytes that are in no file.
    Refused,
    Left,
}

/// One reader, as `deliver::follow` does it: the whole body or a part of it.
async fn follow(world: Rc<World>) -> Outcome {
    let rng = &world.rng;
    for _ in 0..rng.below(40) {
        yield_now().await;
    }
    let first = rng.below(world.body.len() + 1);
    let end = first + rng.below(world.body.len() + 1 - first);
    let (first, end) = if rng.one_in(2) { (0, world.body.len()) } else { (first, end) };
    let from = if rng.one_in(2) { 0 } else { first };
    let follower = match world.fill.follow(from as u64) {
        Ok(follower) => follower,
        Err(NoFile::Again) => panic!("nobody withdraws here"),
        Err(NoFile::Declined(BypassReason::Disk)) if world.disk_full_at.is_some() => return Outcome::Refused,
        Err(other) => panic!("no way to follow: {other:?}"),
    };
    rng.pause().await;
    let waiter = Waiter::new();
    match world.fill.answer(&waiter).await {
        Ok(answer) => assert_eq!(answer.length.is_some(), world.length_known),
        Err(NoFile::Again) => panic!("nobody withdraws here"),
        Err(NoFile::Declined(_)) => return Outcome::Declined,
        Err(NoFile::Failed(_)) => return Outcome::NoAnswer,
    }
    let to = (world.length_known || end < world.body.len()).then_some(end);
    read(&world, &follower, &waiter, first, to).await
}

/// Reads from `first` to `end`, or to the end that the fill tells.
async fn read(
    world: &World,
    follower: &Follower,
    waiter: &Waiter,
    first: usize,
    end: Option<usize>,
) -> Outcome {
    let rng = &world.rng;
    let mut got = Vec::new();
    let leaves_at = rng.one_in(6).then(|| rng.below(world.body.len() + 1));
    let outcome = loop {
        let at = first + got.len();
        if leaves_at.is_some_and(|limit| got.len() >= limit) {
            break Outcome::Left;
        }
        if end == Some(at) {
            break Outcome::Exact;
        }
        let most = end.map_or(usize::MAX, |end| end - at);
        match follower.next(at as u64, waiter).await {
            Progress::Upto(stored) => {
                let stored = usize::try_from(stored).unwrap();
                let disk = world.disk.borrow();
                assert!(at < stored && stored <= disk.len(), "{at}, {stored} of {}", disk.len());
                let count = (stored - at).min(most);
                // A client may take less than is there.
                let count = if rng.one_in(2) { count } else { 1 + rng.below(count) };
                got.extend_from_slice(&disk[at..at + count]);
            }
            Progress::Piece(bytes, skip) => {
                let count = (bytes.len() - skip).min(most);
                assert!(count > 0, "an empty piece");
                let count = if rng.one_in(2) { count } else { 1 + rng.below(count) };
                got.extend_from_slice(&bytes[skip..skip + count]);
            }
            Progress::End(total) => {
                assert_eq!(total, world.body.len() as u64, "the end is told wrongly");
                assert!(at >= world.body.len(), "an end at {at}, before the last byte");
                break Outcome::Exact;
            }
            Progress::Broken(_) => break Outcome::Broken,
        }
        rng.pause().await;
    };
    let due = &world.body[first..];
    assert_eq!(got, due[..got.len()], "wrong bytes from {first} on");
    if outcome == Outcome::Exact {
        assert_eq!(first + got.len(), end.unwrap_or(world.body.len()), "a short body passed for whole");
    }
    outcome
}

/// Whether a task has been woken since it last ran.
pub(crate) struct Woken(pub(crate) AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = Option<Outcome>>>>,
    woken: Arc<Woken>,
}

impl Task {
    fn new(future: impl Future<Output = Option<Outcome>> + 'static) -> Self {
        Self { future: Box::pin(future), woken: Arc::new(Woken(AtomicBool::new(true))) }
    }
}

/// Runs whoever is awake, in a random order, until all have ended; how the followers did.
fn run(mut tasks: Vec<Task>, rng: &Rng, seed: u64) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while !tasks.is_empty() {
        let awake: Vec<usize> =
            (0..tasks.len()).filter(|&at| tasks[at].woken.0.load(Ordering::Relaxed)).collect();
        assert!(!awake.is_empty(), "seed {seed}: {} tasks sleep for ever", tasks.len());
        let at = awake[rng.below(awake.len())];
        tasks[at].woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&tasks[at].woken));
        if let std::task::Poll::Ready(outcome) =
            tasks[at].future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            outcomes.extend(outcome);
            drop(tasks.swap_remove(at));
        }
    }
    outcomes
}

/// One run; the outcomes of its followers, which must fit the leader's fate.
fn one(seed: u64, file: &Arc<Placed<Locked>>) -> Vec<Outcome> {
    let world = World::new(seed, file);
    let leader = Rc::clone(&world);
    let mut tasks = vec![Task::new(async move {
        lead(leader).await;
        None
    })];
    for _ in 0..world.rng.below(6) {
        let world = Rc::clone(&world);
        tasks.push(Task::new(async move { Some(follow(world).await) }));
    }
    let outcomes = run(tasks, &world.rng, seed);
    for outcome in &outcomes {
        let fits = match outcome {
            Outcome::Exact => matches!(world.fate, Fate::Whole | Fate::Breaks(_)),
            Outcome::Broken => matches!(world.fate, Fate::Breaks(_)) || world.given_up.get(),
            Outcome::NoAnswer => {
                matches!(world.fate, Fate::NoAnswer | Fate::Breaks(_)) || world.given_up.get()
            }
            Outcome::Declined => world.fate == Fate::Declined,
            Outcome::Refused => world.disk_full_at.is_some(),
            Outcome::Left => true,
        };
        assert!(fits, "seed {seed}: {outcome:?} where the leader's fate was {:?}", world.fate);
    }
    outcomes
}

/// The seed of the run that failed, on stderr.
pub(crate) struct Named(pub(crate) u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the run with seed {} failed", self.0);
        }
    }
}

#[test]
fn every_follower_gets_exactly_the_bytes_or_a_broken_transfer() {
    let file = tempfile::tempfile().unwrap();
    let file = Arc::new(Placed::new(file::lock(file.into()).unwrap(), Place::Local));
    let mut all = Vec::new();
    let runs = async {
        for seed in 0..RUNS {
            let named = Named(seed);
            all.extend(one(seed, &file));
            drop(named);
        }
    };
    poll::run(|| runs).unwrap();
    // Every way to end has been seen, and often: else the model tests less than it says.
    for wanted in [
        Outcome::Exact,
        Outcome::Broken,
        Outcome::NoAnswer,
        Outcome::Declined,
        Outcome::Refused,
        Outcome::Left,
    ] {
        let count = all.iter().filter(|outcome| **outcome == wanted).count();
        assert!(count > 100, "only {count} times {wanted:?}");
    }
}

#[test]
fn a_run_is_the_same_for_the_same_seed() {
    let file = tempfile::tempfile().unwrap();
    let file = Arc::new(Placed::new(file::lock(file.into()).unwrap(), Place::Local));
    let runs = async {
        for seed in 0..200 {
            assert_eq!(one(seed, &file), one(seed, &file), "seed {seed}");
        }
    };
    poll::run(|| runs).unwrap();
}
