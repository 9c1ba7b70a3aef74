//! What can go wrong in a request, and on which side.

use std::fmt;
use std::io;

labelled! {
    /// The side that an error is on.
    pub enum Side {
        /// The client left, stalled or broke the protocol.
        Client => "client",
        /// The origin is unreachable, stalled or broke the protocol.
        Origin => "origin",
        /// The cache directory.
        Disk => "disk",
        /// This program or its host.
        Proxy => "server",
    }
}

labelled! {
    /// What happened.
    pub enum Kind {
        /// The peer closed the connection or reset it.
        Closed => "connection closed",
        /// No progress within the limit.
        Timeout => "timed out",
        /// The origin's name has no address.
        Resolve => "name not resolved",
        /// No connection could be made.
        Connect => "connection failed",
        /// The TLS handshake or a TLS record failed.
        Tls => "TLS failed",
        /// The peer's bytes are not HTTP as RFC 9112 wants it.
        Protocol => "bad HTTP",
        /// A body ended before its length or its last chunk.
        Truncated => "body cut short",
        /// Redirects that lead nowhere.
        Redirects => "too many redirects",
        /// A system call failed.
        Io => "input/output error",
        /// A limit is reached.
        Busy => "too busy",
        /// The task that had to do it ended early.
        Abandoned => "abandoned",
        /// The request has been here before.
        Loop => "request loop",
        /// The origin responded that it is unavailable.
        Unavailable => "unavailable",
        /// The origin is never asked (`--offline`).
        Offline => "not asked (--offline)",
        /// The index set has changed since the client began to read it.
        Superseded => "index files changed during this update: begin again",
        /// It does not fit the other files of its index set.
        Mismatch => "does not fit the other index files",
        /// The request has `only-if-cached`, and no response is stored.
        NotCached => "not in the cache",
        /// The request names another host than the origin's and this server's.
        Misdirected => "request for another host",
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

    /// Was the peer unreachable, or did it stop sending? That does not invalidate the bytes received before. Where
    /// it is false, the peer sent something invalid.
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
        write!(f, "{}: {}", self.side, self.kind)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

impl std::error::Error for Error {}
