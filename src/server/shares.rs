//! Who gets how many of the process's descriptors.

use crate::config::{Limits, Workers};

/// Descriptors that are not for sharing: the program's streams, its log, the cache directory; and of each
/// worker the ring, its wake-ups, its listener, and the poller of idle connections (13 with io_uring, 12 with
/// epoll).
const OWN: u64 = 12;
const WORKERS: u64 = 13;
/// Clients' sockets get half of the others, or up to so many tenths if the operator wants that.
const HALF: u64 = 5;
const MOST: u64 = 8;
/// Of what is left, so many tenths are for files kept open, and the rest is for what requests to the
/// origin need and for whole files that wait for their names (at most half of the rest).
const FILES: u64 = 6;
const ORIGIN: u64 = 4;
/// What a request to the origin may need: a socket, a file, its directory, and a pipe's two ends.
const EACH: usize = 5;
/// Shared ones for each worker, at the least: a client, a file, and a request to the origin.
const LEAST: u64 = 2 + EACH as u64;
/// A worker's files kept open: more than are asked for within a few seconds need not be.
const MOST_FILES: usize = 16 * 1024;

/// The shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shares {
    /// Clients' connections, over all workers.
    pub(super) clients: usize,
    /// Files one worker keeps open.
    pub(super) files: usize,
    /// Requests one worker has at the origin at a time; others wait.
    pub(super) origin: usize,
    /// Whole files that wait for their names.
    pub(super) commits: usize,
}

/// How many workers there will be: as many as are wanted, or one for each of the `cores` as far as there
/// are `descriptors` for them. An error where these are too few.
pub(super) fn workers(wanted: Workers, cores: usize, descriptors: u64) -> Result<usize, String> {
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

impl Shares {
    /// Of so many `descriptors`, with what the operator wants as far as there is room for it.
    pub(super) fn of(descriptors: u64, workers: usize, limits: &Limits) -> Self {
        let descriptors = descriptors.saturating_sub(OWN + WORKERS * workers as u64);
        let half = tenths(descriptors, HALF).max(1);
        let most = tenths(descriptors, MOST).max(half);
        let clients = limits.connections.map_or(half, |wanted| wanted.min(most));
        let left = descriptors.saturating_sub(clients.max(half) as u64);
        let (files, origin) = (tenths(left, FILES) / workers, tenths(left, ORIGIN) / EACH);
        let files = files.min(MOST_FILES);
        Self {
            clients,
            files: limits.files.open_files.map_or(files, |wanted| wanted.min(files)),
            origin: (limits.origin_connections.map_or(origin, |wanted| wanted.min(origin)) / workers).max(1),
            commits: limits.pending_commits.min(tenths(left, ORIGIN) / 2),
        }
    }
}

fn tenths(descriptors: u64, tenths: u64) -> usize {
    usize::try_from(descriptors.saturating_mul(tenths) / 10).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_as_many_as_there_are_descriptors_for() {
        let count = |count| Workers::Count(std::num::NonZeroUsize::new(count).unwrap());
        assert_eq!(workers(Workers::Auto, 2, 20_000), Ok(2));
        assert_eq!(workers(Workers::Auto, 64, 1024), Ok(50));
        assert_eq!(workers(Workers::Auto, 64, 32), Ok(1));
        assert!(workers(Workers::Auto, 64, 31).is_err());
        assert_eq!(workers(count(12), 2, 256), Ok(12));
        let refused = "the limit of open files is 256: 13 workers (--workers) need 272";
        assert_eq!(workers(count(13), 2, 256), Err(refused.to_owned()));
    }

    #[test]
    fn more_for_clients_leaves_less_for_files_and_never_nothing() {
        let shares = |wanted| {
            let limits = Limits { connections: wanted, pending_commits: usize::MAX, ..Limits::default() };
            let Shares { clients, files, origin, commits } = Shares::of(20_038, 2, &limits);
            (clients, files, origin, commits)
        };
        assert_eq!(shares(None), (10_000, 3_000, 400, 2_000));
        assert_eq!(shares(Some(500)), (500, 3_000, 400, 2_000));
        assert_eq!(shares(Some(12_000)), (12_000, 2_400, 320, 1_600));
        assert_eq!(shares(Some(1_000_000)), (16_000, 1_200, 160, 800));
        let least = Shares::of(10, 4, &Limits::default());
        assert_eq!(least, Shares { clients: 1, files: 0, origin: 1, commits: 0 });
    }
}
