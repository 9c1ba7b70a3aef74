//! Why requests are refused, and with which status.

use super::head::Fault;
use std::fmt;

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// What is wrong with a head of either kind.
    Head(Fault),
    /// A request line that is none.
    BadSyntax,
    /// Several lengths, equal or not.
    AmbiguousLength,
    /// A length that is no number of 64 bits.
    BadLength,
    /// A transfer coding that leaves the end of the body unknown, or any in HTTP/1.0.
    TransferCoding,
    /// A transfer coding beneath a final `chunked` that is not known here.
    UnknownCoding,
    /// Content-Length and Transfer-Encoding together.
    LengthAndCoding,
    /// A Host that is no host, or more than one.
    BadHost,
    /// HTTP/1.1 without Host.
    MissingHost,
    /// A target in no form that is served, or with bytes that no target has.
    BadTarget,
    /// A target beyond its limit.
    TargetTooLong,
    /// A version other than 1.0 and 1.1.
    UnsupportedVersion,
    /// An Expect other than `100-continue`.
    UnknownExpectation,
    /// CONNECT: this is no tunnel.
    Connect,
}

impl Refusal {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::UnknownExpectation => 417,
            Self::Head(Fault::HeadTooLarge | Fault::TooManyFields) => 431,
            Self::UnknownCoding | Self::Connect => 501,
            Self::UnsupportedVersion => 505,
            Self::Head(_)
            | Self::BadSyntax
            | Self::AmbiguousLength
            | Self::BadLength
            | Self::TransferCoding
            | Self::LengthAndCoding
            | Self::BadHost
            | Self::MissingHost
            | Self::BadTarget => 400,
        }
    }

    /// A word for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head(fault) => fault.as_str(),
            Self::BadSyntax => "bad-syntax",
            Self::AmbiguousLength => "ambiguous-length",
            Self::BadLength => "bad-length",
            Self::TransferCoding => "transfer-coding",
            Self::UnknownCoding => "unknown-coding",
            Self::LengthAndCoding => "length-and-coding",
            Self::BadHost => "bad-host",
            Self::MissingHost => "missing-host",
            Self::BadTarget => "bad-target",
            Self::TargetTooLong => "target-too-long",
            Self::UnsupportedVersion => "unsupported-version",
            Self::UnknownExpectation => "unknown-expectation",
            Self::Connect => "connect",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl std::error::Error for Refusal {}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Head(fault)
    }
}
