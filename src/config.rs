//! The checked configuration: nothing here is a raw string that could still be wrong.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::http::caching::Policy;
use crate::pattern::Pattern;
use crate::preset::{Preset, Rules};

mod choice;
mod fills;
mod limits;
mod origin;
mod rights;

pub use crate::rt::engine::IoChoice;
pub use choice::Choice;
pub use fills::{Abandon, FillQuery, Fills};
pub use limits::{FileLimits, Limits};
pub use origin::{CredentialUse, Origin};
pub(crate) use origin::{check_host, mask};
pub use rights::{Account, Sandbox};

/// Everything the server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where files are cached, as the operator wrote it.
    pub cache_dir: PathBuf,
    /// Whether debug lines go to stderr.
    pub debug: bool,
    /// Name or address to listen on.
    pub host: String,
    /// Port to listen on; 0 lets the system choose.
    pub port: u16,
    /// Which paths are cached.
    pub pattern: Pattern,
    /// The presets chosen.
    pub presets: Vec<&'static Preset>,
    /// Their rules: index sets, and indexes that list packages.
    pub rules: Rules,
    /// The origin that misses are fetched from.
    pub origin: Origin,
    /// How many threads serve.
    pub workers: Workers,
    /// Which processors they run on.
    pub pin: Pinning,
    /// The event loop.
    pub io: IoChoice,
    /// Every bound on time and memory.
    pub limits: Limits,
    /// Whether redirects on cacheable paths are followed.
    pub follow_redirects: bool,
    /// Whether a Location on the origin is rewritten to this server.
    pub rewrite_location: bool,
    /// Whether responses have Cache-Status (RFC 9211).
    pub cache_status: bool,
    /// How interrupted fills are treated.
    pub fills: Fills,
    /// The revalidated class, if there is one.
    pub revalidate: Option<Revalidate>,
    /// The origin is never asked.
    pub offline: bool,
    /// What the process may write to.
    pub sandbox: Sandbox,
    /// The user and group to change to, once it listens.
    pub account: Option<Account>,
}

/// Paths whose responses are stored and revalidated with the origin (RFC 9111).
#[derive(Debug, Clone)]
pub struct Revalidate {
    /// Their pattern.
    pub pattern: Pattern,
    /// Freshness, and what may be served stale.
    pub policy: Policy,
    /// Bytes of responses that are stored in memory because they cannot be plain files. A single one may take an
    /// eighth.
    pub memory: usize,
    /// Names of further client fields that are sent to the origin.
    pub fields: Vec<String>,
}

impl Revalidate {
    /// Some thousands of small responses.
    pub const MEMORY: usize = 64 * 1024 * 1024;
}

/// How many workers serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One for each processor the process may use.
    Auto,
    /// This many.
    Count(NonZeroUsize),
}

impl Workers {
    /// More threads bring nothing, and each costs a ring, a pool and caches.
    pub const MAX: usize = 1024;

    /// Reads `auto` or a number.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => number(text)
                .filter(|&count| count <= Self::MAX)
                .and_then(NonZeroUsize::new)
                .map(Self::Count)
                .ok_or_else(|| format!("expected auto or a number from 1 to {}", Self::MAX)),
        }
    }
}

/// Which processors the workers are bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinning {
    /// None: the scheduler moves them.
    Off,
    /// Worker i runs on the i-th processor the process may use.
    Auto,
    /// Worker i runs on the i-th processor of this list.
    List(Vec<usize>),
}

impl Pinning {
    /// The number of processors a standard affinity mask can name.
    const CPUS: usize = 1024;

    /// Reads `auto` or a list such as `0,2-5`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last && last < Self::CPUS => cpus.extend(first..=last),
                _ => {
                    return Err(format!(
                        "expected auto or processors from 0 to {} such as 0,2-5",
                        Self::CPUS - 1
                    ));
                }
            }
        }
        Ok(Self::List(cpus))
    }
}

impl Choice for IoChoice {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Auto, "auto"), (Self::Uring, "uring"), (Self::Poll, "poll")];
}

/// A number in plain digits: `parse` alone would also take a sign.
fn number(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        let count = |n| NonZeroUsize::new(n).map(Workers::Count).ok_or(String::new());
        assert_eq!(Workers::parse("auto"), Ok(Workers::Auto));
        assert_eq!((Workers::parse("1"), Workers::parse("1024")), (count(1), count(1024)));
        for bad in ["0", "1025", "-1", "+1", "x", "", " 1", "99999999999999999999"] {
            assert!(Workers::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Pinning::parse("auto"), Ok(Pinning::Auto));
        assert_eq!(Pinning::parse("0,2-5,1"), Ok(Pinning::List(vec![0, 2, 3, 4, 5, 1])));
        for bad in ["", ",", "1,", "5-2", "-", "1-", "a", "1024", "0-99999999999", "1-2-3", "+1"] {
            assert!(Pinning::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(IoChoice::choose("uring"), Ok(IoChoice::Uring));
        assert_eq!(IoChoice::choose("Poll"), Err("expected auto, uring or poll".to_owned()));
        assert_eq!(IoChoice::Poll.word(), "poll");
    }
}
