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
    /// As many files are being fetched as may be.
    FillsFull,
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
            Self::FillsFull => "too many fills",
        }
    }
}
