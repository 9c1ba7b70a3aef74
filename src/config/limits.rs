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
    /// From the first byte of a request head to its last: what a trickling client may take.
    pub head_time: Duration,
    /// Between two requests of a connection. Longer than the pauses of a package manager between packages.
    pub idle_time: Duration,
    /// Without a single byte of progress in a body, either way. Longer than a radio link's or a sleepy disk's pause.
    pub stall_time: Duration,
    /// To open a connection to the origin, over all its addresses: above three SYN retries.
    pub connect_time: Duration,
    /// From the request to the origin's head. Mirrors that fetch on demand answer late.
    pub response_head_time: Duration,
    /// Bytes beyond a fill from which on a range counts as far ahead of it. Below, waiting is cheaper for all.
    pub far_range: u64,
    /// For open transfers once a stop was asked. Below the patience of service managers.
    pub drain_time: Duration,
    /// Open files and bodies in memory.
    pub files: FileLimits,
    /// Client connections at once, over all workers; `None` derives it from the descriptor limit.
    pub connections: Option<usize>,
    /// Of one client's address; `None` does not count.
    pub client_connections: Option<usize>,
    /// Requests at the origin at once, over all workers; `None` derives it from the descriptor limit.
    pub origin_connections: Option<usize>,
    /// Files being fetched at once; beyond it misses are passed on. `None`: as many as have a place at
    /// the origin.
    pub fills: Option<usize>,
    /// Requests in a row that a client sends without having its answers. What has come of them takes
    /// [`Self::head_bytes`] and one read in any case, so `None` does not count.
    pub pipelined: Option<usize>,
    /// Bytes of all heads that are not complete, of one worker. A thousand clients with the longest
    /// head each.
    pub head_memory: usize,
    /// Bytes a second that a client must take or give of a body, measured while we wait for it, over
    /// [`Self::stall_time`]; 0 asks for nothing.
    pub min_rate: u64,
    /// Idle connections to the origin that each worker keeps.
    pub idle_origin_connections: usize,
    /// How long they are kept: below the 5 s after which common origins close, so that few are found dead.
    pub origin_idle_time: Duration,
    /// Whole files that may wait for their names, each with a descriptor open; with so many the next misses wait. A
    /// disk that takes a tenth of a second for a batch has room for some thousands a second.
    pub pending_commits: usize,
}

/// What each worker keeps ready of the files that are asked for.
#[derive(Debug, Clone, Copy)]
pub struct FileLimits {
    /// Bytes of the longest body that is kept in memory. Above it, sendfile from the page cache is as cheap.
    pub small_body: u64,
    /// Bytes of all such bodies of a worker.
    pub body_memory: usize,
    /// Open files of a worker; `None` derives it from the descriptor limit.
    pub open_files: Option<usize>,
    /// How long the look-up of a name holds. What happens to the file itself shows at once.
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
