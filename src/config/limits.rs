//! Every bound on time and memory, with its default.

use std::time::Duration;

use crate::http::request::HeadLimits;

/// Every limit in one place. None ends a transfer that makes progress, however long it takes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request or response head. Origins with long cookies and policies stay well below it.
    pub head_bytes: usize,
    /// Fields in a head. Browsers send some 20, origins some 40.
    pub head_fields: usize,
    /// Bytes of a request target. Package URLs are short; signed URLs reach a few KiB.
    pub target_bytes: usize,
    /// From the first byte of a request head to its last.
    pub head_time: Duration,
    /// Between two requests of a connection. Longer than the pauses of a package manager between packages.
    pub idle_time: Duration,
    /// Without progress in a body, in either direction. Longer than the pauses of a radio link or of a disk that
    /// spins up.
    pub stall_time: Duration,
    /// To open a connection to the origin, over all its addresses: above three SYN retries.
    pub connect_time: Duration,
    /// From the request to the origin's head. Mirrors that fetch on demand respond late.
    pub response_head_time: Duration,
    /// Bytes beyond a fill from which on a range counts as far ahead of it. Below, waiting is cheaper for all.
    pub far_range: u64,
    /// For open transfers after a stop signal. Below the time-out of service managers.
    pub drain_time: Duration,
    /// Open files and bodies in memory.
    pub files: FileLimits,
    /// Client connections at once, over all workers; `None` derives it from the descriptor limit.
    pub connections: Option<usize>,
    /// Of one client's address; `None` sets no limit.
    pub client_connections: Option<usize>,
    /// Requests at the origin at once, over all workers; `None` derives it from the descriptor limit.
    pub origin_connections: Option<usize>,
    /// Concurrent fills; beyond it misses are passed. `None`: the limit of requests at the origin.
    pub fills: Option<usize>,
    /// The most pipelined requests of a client. Their bytes take at most [`Self::head_bytes`] and one read in any
    /// case, so `None` sets no limit.
    pub pipelined: Option<usize>,
    /// Bytes of all heads that are not complete, of one worker. A thousand clients with the longest
    /// head each.
    pub head_memory: usize,
    /// Minimum transfer rate of a client in bytes per second, measured while the server waits for it, over
    /// [`Self::stall_time`]; 0 sets none.
    pub min_rate: u64,
    /// Idle connections to the origin in the pool of each worker.
    pub idle_origin_connections: usize,
    /// How long they stay in the pool: below the 5 s after which common origins close them.
    pub origin_idle_time: Duration,
    /// Complete files that may wait for their commit, each with an open descriptor; beyond it misses wait. A disk
    /// that takes a tenth of a second for a batch commits some thousands a second.
    pub pending_commits: usize,
}

/// The open files and bodies in memory of each worker.
#[derive(Debug, Clone, Copy)]
pub struct FileLimits {
    /// Bytes of the longest body in memory. Above it, sendfile from the page cache is as cheap.
    pub small_body: u64,
    /// Bytes of all such bodies of a worker.
    pub body_memory: usize,
    /// Open files of a worker; `None` derives it from the descriptor limit.
    pub open_files: Option<usize>,
    /// How long the lookup of a name is valid. Changes of the file itself are seen at once.
    pub look_up_time: Duration,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            small_body: 16 * 1024,
            body_memory: 32 * 1024 * 1024,
            open_files: None,
            look_up_time: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// Those of a head.
    pub fn head(&self) -> HeadLimits {
        HeadLimits { bytes: self.head_bytes, fields: self.head_fields, target: self.target_bytes }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            head_fields: 256,
            target_bytes: 16 * 1024,
            head_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(120),
            stall_time: Duration::from_secs(60),
            connect_time: Duration::from_secs(10),
            response_head_time: Duration::from_secs(60),
            far_range: 8 * 1024 * 1024,
            drain_time: Duration::from_secs(20),
            files: FileLimits::default(),
            connections: None,
            client_connections: None,
            origin_connections: None,
            fills: None,
            pipelined: None,
            head_memory: 64 * 1024 * 1024,
            min_rate: 0,
            idle_origin_connections: 32,
            origin_idle_time: Duration::from_secs(4),
            pending_commits: 1024,
        }
    }
}
