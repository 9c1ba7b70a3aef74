//! The descriptors of the process: the share of each purpose, and what is taken of it.
//!
//! Clients' sockets have a fixed part. All that a request can open beside its client's socket is taken
//! from the rest with a permit, for one of the purposes below; see [`crate::rt::budget`]. What is opened
//! and closed at once, a directory on the way to a file or a resolver's socket, is in `OWN`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Limits, Workers};
use crate::rt::Runtime;
use crate::rt::budget::{Budget, Holder, Permit, Share};
use crate::sys::process;

/// Descriptors where the system does not say how many there may be.
const USUAL: u64 = 1024;
/// Descriptors that are not for sharing: the program's streams, its log, the cache directory, those that its
/// own threads open for a moment; and of each worker the ring, its wake-ups, its listener, and the poller of
/// idle connections (10 with io_uring, 9 with epoll, and some to spare).
const OWN: u64 = 12;
const WORKERS: u64 = 13;
/// Hundredths of the others for clients' sockets, by default and at the operator's wish. A little less than half: each
/// of them may read a file of its own, and requests to the origin need some.
const CLIENTS: u64 = 48;
const MOST_CLIENTS: u64 = 80;
/// A request to the origin whose response may be stored needs a socket, a file, and its directory.
pub const FILL: usize = 3;
/// One that is passed on needs a socket.
pub const PASS: usize = 1;
/// Of these the file and its directory stay open until the file has its name.
pub const NAMING: usize = 2;
/// A pipe has two ends.
pub const PIPE: usize = 2;
/// Shared ones for each worker, at the least: a client, its file, a fill, and a request passed on.
const LEAST: u64 = 2 + (FILL + PASS) as u64;
/// The time after which the system is asked again that had no descriptor left.
const EXHAUSTED: Duration = Duration::from_millis(20);
/// A worker's files kept open: more than are asked for within a few seconds need not be.
const MOST_FILES: usize = 16 * 1024;
/// A quarter of the requests at the origin, where the operator has limited them, is reserved for each use.
const QUARTER: usize = 4;

/// What a descriptor is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A stored file that is read, or kept open for the next request.
    File,
    /// A request to the origin whose response may be stored: fills and revalidations.
    Fill,
    /// A request to the origin whose response is sent to its client only.
    Pass,
    /// A pipe for splicing. Without one, bytes are copied.
    Pipe,
    /// A member of an index set.
    Index,
    /// An idle connection to the origin.
    Idle,
}

impl Purpose {
    const ALL: [Self; 6] = [Self::File, Self::Fill, Self::Pass, Self::Pipe, Self::Index, Self::Idle];

    /// As figures name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "files",
            Self::Fill => "fills",
            Self::Pass => "passes",
            Self::Pipe => "pipes",
            Self::Index => "index files",
            Self::Idle => "idle origin connections",
        }
    }

    /// The hundredths of what clients' sockets leave that this purpose always has, and may have at most; and
    /// what it has at the least, however few there are.
    fn hundredths(self) -> (u64, u64, usize) {
        match self {
            Self::File => (25, 100, 1),
            Self::Fill => (15, 40, FILL),
            Self::Pass => (5, 20, PASS),
            Self::Pipe => (1, 8, 0),
            Self::Index => (4, 40, 0),
            Self::Idle => (0, 15, 0),
        }
    }
}

/// Why the origin is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OriginUse {
    /// For a response that may be stored. It is read as fast as the origin sends it.
    Keep,
    /// For one that is sent to its client only, which may be slow.
    Pass,
}

impl OriginUse {
    fn needs(self) -> (Purpose, usize) {
        match self {
            Self::Keep => (Purpose::Fill, FILL),
            Self::Pass => (Purpose::Pass, PASS),
        }
    }
}

/// The descriptors of this process.
#[derive(Clone, Debug)]
pub struct Descriptors {
    budget: Arc<Budget>,
    /// Requests at the origin at a time, where the operator has limited them.
    places: Option<Arc<Budget>>,
    /// Clients' connections, over all workers.
    pub clients: usize,
    /// Files that one worker keeps open.
    pub files: usize,
    /// Whole files that wait for their names.
    pub commits: usize,
    /// All that are shared.
    shared: u64,
}

/// A place at the origin.
#[derive(Debug)]
pub struct Place {
    origin_use: OriginUse,
    at_origin: Option<Permit>,
    descriptors: Permit,
}

/// How many workers there will be: as many as are wanted, or one for each of the `cores` as far as there
/// are `descriptors` for them. An error where these are too few.
fn workers(wanted: Workers, cores: usize, descriptors: u64) -> Result<usize, String> {
    let each = WORKERS + LEAST;
    let most = usize::try_from(descriptors.saturating_sub(OWN) / each).unwrap_or(usize::MAX);
    let count = match wanted {
        Workers::Auto => cores.min(most).max(1),
        Workers::Count(count) => count.get(),
    };
    if count <= most {
        return Ok(count);
    }
    let needed = OWN + count as u64 * each;
    Err(format!("the limit of open files is {descriptors}: {count} workers (--workers) need {needed}"))
}

impl Descriptors {
    /// Those that the system lets this process have, and how many workers there are to be.
    pub fn of_process(wanted: Workers, limits: &Limits) -> Result<(Self, usize), String> {
        let descriptors = process::raise_descriptor_limit().unwrap_or(USUAL);
        let count = workers(wanted, process::allowed_cpus().len(), descriptors)?;
        Ok((Self::of(descriptors, count, limits), count))
    }

    /// So many `descriptors`, with what the operator wants as far as there is room for it.
    pub fn of(descriptors: u64, workers: usize, limits: &Limits) -> Self {
        let shared = descriptors.saturating_sub(OWN + WORKERS * workers as u64);
        let usual = hundredths(shared, CLIENTS).max(1);
        let most = hundredths(shared, MOST_CLIENTS).max(usual);
        let clients = limits.connections.map_or(usual, |wanted| wanted.min(most));
        let left = shared.saturating_sub(clients.max(usual) as u64);
        let shares = Purpose::ALL.map(|purpose| {
            let (least, most, needed) = purpose.hundredths();
            let least = hundredths(left, least).max(needed);
            Share { least, most: hundredths(left, most).max(least) }
        });
        let files = (shares[Purpose::File as usize].most / workers.max(1)).min(MOST_FILES);
        let places = limits.origin_connections.map(|most| {
            let share = Share { least: most / QUARTER, most };
            Budget::new(most, &[share; 2])
        });
        Self {
            budget: Budget::new(usize::try_from(left).unwrap_or(usize::MAX), &shares),
            places,
            clients,
            files: limits.files.open_files.map_or(files, |wanted| wanted.min(files)),
            commits: limits.pending_commits.min(shares[Purpose::Fill as usize].most / NAMING),
            shared,
        }
    }

    /// Takes `count` now, or none.
    pub fn try_take(&self, purpose: Purpose, count: usize) -> Option<Permit> {
        self.budget.try_take(purpose as usize, count)
    }

    /// Takes `count`, in the order of asking. The caller bounds the wait.
    pub async fn take(&self, purpose: Purpose, count: usize) -> Permit {
        self.budget.take(purpose as usize, count, None).await
    }

    /// Takes a place at the origin for this client, or for none. The caller bounds the wait.
    pub async fn place(&self, origin_use: OriginUse, client: Option<Holder>) -> Place {
        let at_origin = match &self.places {
            Some(places) => Some(places.take(origin_use as usize, 1, client).await),
            None => None,
        };
        let (purpose, count) = origin_use.needs();
        let descriptors = self.budget.take(purpose as usize, count, client).await;
        Place { origin_use, at_origin, descriptors }
    }

    /// The budget, for tasks that give back what is held only for speed.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The system has no descriptor left: all that is open only for speed is to be closed, by every worker. Waits for
    /// that.
    pub async fn exhausted<R: Runtime>(&self) {
        self.budget.alarm();
        R::sleep(EXHAUSTED).await;
    }
}

impl Place {
    /// Takes out what the file needs until it has its name.
    pub fn naming(&mut self) -> Permit {
        self.descriptors.split_to(PASS)
    }

    /// Makes it one for a response that is passed on; false where there is no room for another.
    pub fn try_pass(&mut self) -> bool {
        let at_origin = &mut self.at_origin;
        let moved = self.descriptors.try_move(Purpose::Pass as usize)
            && at_origin.as_mut().is_none_or(|place| place.try_move(OriginUse::Pass as usize));
        if moved {
            self.origin_use = OriginUse::Pass;
        }
        moved
    }

    /// Whether it is one for a response that is passed on.
    pub fn is_pass(&self) -> bool {
        self.origin_use == OriginUse::Pass
    }
}

/// Marks a file that is read on although its fill has ended.
pub fn is_only_read(permit: &mut Permit) {
    permit.move_to(Purpose::File as usize);
}

impl fmt::Display for Descriptors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} to share: {} for clients", self.shared, self.clients)?;
        for (purpose, Share { least, most }) in Purpose::ALL.into_iter().zip(self.budget.shares()) {
            write!(out, ", {least} to {most} for {}", purpose.as_str())?;
        }
        Ok(())
    }
}

fn hundredths(descriptors: u64, hundredths: u64) -> usize {
    usize::try_from(descriptors.saturating_mul(hundredths) / 100).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_as_many_as_there_are_descriptors_for() {
        let count = |count| Workers::Count(std::num::NonZeroUsize::new(count).unwrap());
        assert_eq!(workers(Workers::Auto, 2, 20_000), Ok(2));
        assert_eq!(workers(Workers::Auto, 64, 1024), Ok(53));
        assert_eq!(workers(Workers::Auto, 64, 31), Ok(1));
        assert!(workers(Workers::Auto, 64, 30).is_err());
        assert_eq!(workers(count(12), 2, 256), Ok(12));
        let refused = "the limit of open files is 256: 13 workers (--workers) need 259";
        assert_eq!(workers(count(13), 2, 256), Err(refused.to_owned()));
    }

    #[test]
    fn more_for_clients_leaves_less_for_files_and_never_nothing() {
        let shares = |descriptors, wanted| {
            let limits = Limits { connections: wanted, pending_commits: usize::MAX, ..Limits::default() };
            let shares = Descriptors::of(descriptors, 2, &limits);
            let most = |purpose| shares.budget.shares()[purpose as usize].most;
            (shares.clients, most(Purpose::File), most(Purpose::Fill), most(Purpose::Pass))
        };
        assert_eq!(shares(20_038, None), (9_600, 10_400, 4_160, 2_080));
        assert_eq!(shares(20_038, Some(500)), (500, 10_400, 4_160, 2_080));
        assert_eq!(shares(20_038, Some(1_000_000)), (16_000, 4_000, 1_600, 800));
        assert_eq!(shares(10, None), (1, 1, FILL, PASS));
    }

    #[test]
    fn passes_cannot_take_what_fills_need_nor_fills_what_passes_need() {
        let descriptors = Descriptors::of(256, 1, &Limits::default());
        let all = |purpose, count| std::iter::from_fn(move || descriptors.try_take(purpose, count));
        let passes: Vec<_> = all.clone()(Purpose::Pass, PASS).collect();
        let fills: Vec<_> = all.clone()(Purpose::Fill, FILL).collect();
        assert!(passes.len() > 3 && fills.len() > 1);
        drop(passes);
        let files: Vec<_> = all.clone()(Purpose::File, 1).collect();
        assert!(files.len() > 1 && all(Purpose::Pass, PASS).take(2).count() == 2);
    }
}
