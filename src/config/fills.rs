//! Interrupted fills: resume, abandon, remove.

use std::time::Duration;

use super::{Choice, number};

/// How interrupted fills, and their files, are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fills {
    /// Consecutive requests for the rest without progress; 0 never resumes.
    pub resume_attempts: u32,
    /// What happens when all clients of a fill have left.
    pub abandon: Abandon,
    /// Files are brought to stable storage before they get their names.
    pub sync: bool,
    /// The query of a request for a file on a miss.
    pub query: FillQuery,
    /// The age after which unused in-progress files are removed; `None` keeps them.
    pub sweep: Option<Duration>,
}

impl Default for Fills {
    fn default() -> Self {
        // With the waits in between: some 20 seconds, which is a restart of the origin.
        Self {
            resume_attempts: 8,
            abandon: Abandon::Never,
            sync: true,
            query: FillQuery::Forward,
            sweep: None,
        }
    }
}

/// The query of a request for a file on a miss. The name of a file has none, so whatever is stored is for all
/// queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FillQuery {
    /// It is sent to the origin: the first request decides what all get.
    Forward,
    /// It is not sent to the origin.
    Strip,
    /// The request is passed, and its response not stored.
    Pass,
}

impl Choice for FillQuery {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Forward, "forward"), (Self::Strip, "strip"), (Self::Pass, "pass")];
}

/// Whether a fill without followers is abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandon {
    /// It goes on.
    Never,
    /// It ends.
    Always,
    /// Abandoned below this percentage of the file. Without a known length, always.
    Below(u8),
}

impl Abandon {
    /// Reads `never`, `always` or a percentage, with or without its sign.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            "always" => Ok(Self::Always),
            _ => number(text.strip_suffix('%').unwrap_or(text))
                .and_then(|percent| u8::try_from(percent).ok())
                .filter(|percent| (1..=100).contains(percent))
                .map(Self::Below)
                .ok_or_else(|| "expected never, always or a percentage from 1 to 100".to_owned()),
        }
    }

    /// Is a fill with `stored` bytes of `length` given up when it is alone?
    pub fn applies(self, stored: u64, length: Option<u64>) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Below(percent) => length
                .is_none_or(|length| u128::from(stored) * 100 < u128::from(length) * u128::from(percent)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_fill_is_abandoned_below_its_percentage() {
        let below = Abandon::parse("60").unwrap();
        for (policy, stored, length, applies) in [
            (Abandon::Never, 0, Some(100), false),
            (Abandon::Always, 99, Some(100), true),
            (below, 59, Some(100), true),
            (below, 60, Some(100), false),
            (below, u64::MAX, None, true),
            (below, u64::MAX / 2, Some(u64::MAX), true),
        ] {
            assert_eq!(policy.applies(stored, length), applies, "{policy:?} {stored} {length:?}");
        }
        assert_eq!(Abandon::parse("60%"), Ok(below));
        for bad in ["", "0", "101", "+5", "some", "%", "60%%"] {
            assert!(Abandon::parse(bad).is_err(), "{bad}");
        }
    }
}
