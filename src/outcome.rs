//! How a request ends, in words shared by the log, the counters and the tests.

/// Why a request was not answered from the cache or into it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Why {
    /// Neither GET nor HEAD.
    Method,
    /// The path does not match the regex.
    NoMatch,
    /// The path names no file: a trailing slash, or a component too long for one.
    NoName,
    /// A name that ends in `.in-progress` is ours while it lives.
    InProgressName,
    /// HEAD fetches nothing into the cache.
    HeadOnMiss,
    /// A GET with a body is not the same request for everyone.
    RequestBody,
    /// The answer may be for this user only.
    Authorization,
    /// A link leads out of the cache directory.
    LeadsOutside,
    /// A FIFO, a device or a socket has the name.
    NotRegular,
    /// Another process is filling this file.
    HeldElsewhere,
    /// Not a 200.
    Status,
    /// A content coding that the name does not explain.
    Coding,
    /// `Vary: *`: the next answer may be another.
    Vary,
    /// The body ends with the connection, so nothing proves it whole.
    NoEnd,
    /// The cache directory refused.
    Disk,
    /// No descriptor is left to look into the cache directory.
    Descriptors,
    /// Too many whole files wait for the disk to take them.
    DiskBehind,
    /// The directory that is no part of the served tree.
    Reserved,
    /// The request or the answer says `no-store`.
    NoStore,
    /// The answer says `private`.
    Private,
    /// The request wants to hear from the origin itself, later than others.
    NoCache,
    /// Nothing says that the answer may be used again.
    NoUse,
    /// More bytes than are kept in memory.
    TooLong,
}

/// How a request to the class that is checked with the origin was answered from what is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kept {
    /// Fresh: the origin was not asked.
    Hit,
    /// The origin was asked and vouched for it.
    Revalidated,
    /// It was not kept before: the origin has just sent it.
    Fetched,
    /// It is stale, for this reason.
    Stale(Stale),
}

/// Why a stale answer was given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stale {
    /// The client takes it (`max-stale`).
    Accepted,
    /// The origin is asked meanwhile (`stale-while-revalidate`).
    WhileRevalidate,
    /// The origin is down or could not be reached.
    Unreachable,
    /// The origin answered with a 5xx.
    ServerError,
    /// We were told not to ask.
    Offline,
}

impl Kept {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "fresh",
            Self::Revalidated => "unchanged",
            Self::Fetched => "new",
            Self::Stale(Stale::Accepted) => "stale: the client takes that",
            Self::Stale(Stale::WhileRevalidate) => "stale: the upstream is asked meanwhile",
            Self::Stale(Stale::Unreachable) => "stale: the upstream cannot be reached",
            Self::Stale(Stale::ServerError) => "stale: the upstream fails",
            Self::Stale(Stale::Offline) => "stale: offline",
        }
    }
}

impl Why {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::NoMatch => "no match",
            Self::NoName => "names no file",
            Self::InProgressName => "in-progress name",
            Self::HeadOnMiss => "HEAD on a miss",
            Self::RequestBody => "request has a body",
            Self::Authorization => "request has Authorization",
            Self::LeadsOutside => "link leads out of the cache directory",
            Self::NotRegular => "not a regular file",
            Self::HeldElsewhere => "being filled by another process",
            Self::Status => "status",
            Self::Coding => "content coding",
            Self::Vary => "Vary: *",
            Self::NoEnd => "body without a length",
            Self::Disk => "disk error",
            Self::Descriptors => "out of descriptors",
            Self::DiskBehind => "disk is behind",
            Self::Reserved => "reserved directory",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::NoCache => "request says no-cache",
            Self::NoUse => "no use later",
            Self::TooLong => "too long for memory",
        }
    }
}
