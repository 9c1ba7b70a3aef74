//! What can go wrong on the way of a request, and on whose side.

use std::fmt;
use std::io;

/// Who an error is to be blamed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The client left, stalled or broke the protocol.
    Client,
    /// The origin is unreachable, stalled or broke the protocol.
    Origin,
    /// The cache directory.
    Disk,
    /// This program or its host.
    Proxy,
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The peer closed the connection or reset it.
    Closed,
    /// No progress within the limit.
    Timeout,
    /// The origin's name has no address.
    Resolve,
    /// No connection could be made.
    Connect,
    /// The TLS handshake or a TLS record failed.
    Tls,
    /// The peer's bytes are not HTTP as RFC 9112 wants it.
    Protocol,
    /// A body ended before its length or its last chunk.
    Truncated,
    /// Redirects that lead nowhere.
    Redirects,
    /// A system call failed.
    Io,
    /// A limit is reached.
    Busy,
    /// The task that should have done it ended early.
    Abandoned,
    /// The request has been here before.
    Loop,
    /// The origin answered that it cannot.
    Unavailable,
    /// We were told not to ask the origin.
    Offline,
    /// The index set that the client has begun to read is another by now.
    Superseded,
    /// It does not fit the other files of its index set.
    Mismatch,
    /// The client wants nothing from the origin, and the cache has nothing.
    NotCached,
    /// The request names another host than the origin's and ours.
    Misdirected,
}

impl Kind {
    /// The word for logs and the answer's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "connection closed",
            Self::Timeout => "timed out",
            Self::Resolve => "name not resolved",
            Self::Connect => "connection failed",
            Self::Tls => "TLS failed",
            Self::Protocol => "bad HTTP",
            Self::Truncated => "body cut short",
            Self::Redirects => "too many redirects",
            Self::Io => "input/output error",
            Self::Busy => "too busy",
            Self::Abandoned => "abandoned",
            Self::Loop => "request loop",
            Self::Unavailable => "unavailable",
            Self::Offline => "not asked (--offline)",
            Self::Superseded => "index files changed during this update: begin again",
            Self::Mismatch => "does not fit the other index files",
            Self::NotCached => "not in the cache",
            Self::Misdirected => "request for another host",
        }
    }
}

/// An error with its side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// Whose it is.
    pub side: Side,
    /// What it is.
    pub kind: Kind,
    /// What the system or a parser said, if anything.
    pub detail: String,
}

impl Error {
    /// An error with no more to say.
    pub fn new(side: Side, kind: Kind) -> Self {
        Self { side, kind, detail: String::new() }
    }

    /// An error with what was said about it.
    pub fn with(side: Side, kind: Kind, detail: impl fmt::Display) -> Self {
        Self { side, kind, detail: detail.to_string() }
    }

    /// An error of a system call on `side`.
    pub fn io(side: Side, error: &io::Error) -> Self {
        const CLOSED: [io::ErrorKind; 5] = [
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::NotConnected,
            io::ErrorKind::UnexpectedEof,
        ];
        let kind = if error.kind() == io::ErrorKind::TimedOut {
            Kind::Timeout
        } else if CLOSED.contains(&error.kind()) {
            Kind::Closed
        } else {
            Kind::Io
        };
        Self::with(side, kind, error)
    }

    /// Was nobody there to answer, or somebody who broke off or was silent? That says nothing against the
    /// bytes that came before. Where it is false, something has come that is not as it must be.
    pub fn is_outage(&self) -> bool {
        match self.kind {
            Kind::Protocol
            | Kind::Redirects
            | Kind::Superseded
            | Kind::Mismatch
            | Kind::Loop
            | Kind::Abandoned
            | Kind::Misdirected => false,
            Kind::Closed
            | Kind::Timeout
            | Kind::Resolve
            | Kind::Connect
            | Kind::Tls
            | Kind::Truncated
            | Kind::Io
            | Kind::Busy
            | Kind::Unavailable
            | Kind::Offline
            | Kind::NotCached => true,
        }
    }

    /// The peer on `side` made no progress in time.
    pub fn timeout<T>(side: Side) -> impl Fn(T) -> Self {
        move |_| Self::new(side, Kind::Timeout)
    }

    /// The status a client gets that has not seen a head yet (RFC 9110 section 15.6).
    pub fn status(&self) -> u16 {
        match (self.side, self.kind) {
            (Side::Origin, Kind::Timeout | Kind::Offline | Kind::NotCached) => 504,
            (Side::Origin, _) => 502,
            (Side::Client, Kind::Timeout) => 408,
            (Side::Client, Kind::Misdirected) => 421,
            (Side::Client, _) => 400,
            (Side::Proxy, Kind::Timeout | Kind::Busy | Kind::Superseded) => 503,
            (Side::Proxy, Kind::Loop) => 508,
            (Side::Disk | Side::Proxy, _) => 500,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Client => "client",
            Side::Origin => "origin",
            Side::Disk => "disk",
            Side::Proxy => "server",
        };
        write!(f, "{side}: {}", self.kind.as_str())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

impl std::error::Error for Error {}
