//! How a request ended.

use crate::error::Error;

/// How a request ended.
#[derive(Debug)]
pub struct Reply {
    /// The status sent, or that would have been had the client stayed.
    pub status: u16,
    /// The Content-Length sent.
    pub length: Option<u64>,
    /// The connection stays open.
    pub keep: bool,
    /// The body ended as announced, or how not.
    pub end: Result<(), Error>,
}

impl Reply {
    /// The same response with this end.
    #[must_use]
    pub fn failed(self, error: Error) -> Self {
        Self { keep: false, end: Err(error), ..self }
    }

    /// A response sent whole.
    pub fn sent(status: u16, length: Option<u64>, keep: bool) -> Self {
        Self { status, length, keep, end: Ok(()) }
    }

    /// The same, unless its sending failed.
    pub fn ended(status: u16, length: Option<u64>, keep: bool, end: Result<(), Error>) -> Self {
        Self { status, length, keep: keep && end.is_ok(), end }
    }
}
