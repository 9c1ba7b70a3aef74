//! Who gets how many of the process's descriptors.

use crate::config::Limits;

/// Descriptors that are not for sharing: the program's streams, its log, the cache directory; and of each
/// worker the ring, its wake-ups, its listener, and the poller of idle connections.
const OWN: u64 = 12;
const WORKERS: u64 = 10;
/// Clients' sockets get half of the others, or up to so many tenths if the operator wants that.
const HALF: u64 = 5;
const MOST: u64 = 8;
/// Of what is left, so many tenths are for files kept open, and the rest is for what requests to the
/// origin need and for whole files that wait for their names (at most half of the rest).
const FILES: u64 = 6;
const ORIGIN: u64 = 4;
/// What a request to the origin may need: a socket, a file, its directory, and a pipe's two ends.
const EACH: usize = 5;
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
    fn more_for_clients_leaves_less_for_files_and_never_nothing() {
        let shares = |wanted| {
            let limits = Limits { connections: wanted, pending_commits: usize::MAX, ..Limits::default() };
            let Shares { clients, files, origin, commits } = Shares::of(20_032, 2, &limits);
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
