//! What a shared cache may do with a response (RFC 9111), as values: heads and times in, verdicts out. No I/O, no
//! clock.
//!
//! [`directives`] reads Cache-Control, [`may_store`] decides what may be stored, [`stored`] is the stored head and
//! how a 304 or a HEAD updates it, [`freshness`] computes its age and lifetime, [`reuse`] decides whether it may be
//! used, [`vary`] for which requests, and [`invalidate`] what an unsafe request makes stale. [`record`] is the
//! stored form of a head.

pub mod directives;
pub mod freshness;
pub mod invalidate;
pub mod may_store;
pub mod record;
pub mod reuse;
pub mod stored;
pub mod vary;

use std::time::Duration;

use stored::OF_ONE_USER;

/// What the operator wants of the class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What is fresh where the origin sends no explicit lifetime.
    pub after: After,
    /// What may be served beyond its freshness when the origin fails.
    pub if_error: IfError,
    /// Does that hold even where the response forbids to use it stale? Against RFC 9111 section 4.2.4.
    pub if_error_always: bool,
    /// Does CDN-Cache-Control go before Cache-Control (RFC 9213)?
    pub targeted: bool,
    /// Which fields of one user are stored all the same.
    pub stored_anyway: StoredAnyway,
}

/// Fields of [`OF_ONE_USER`] that the operator wants stored with a response, so that all clients get them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StoredAnyway([bool; OF_ONE_USER.len()]);

impl StoredAnyway {
    /// Reads a list of names, separated by commas.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut found = Self::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let at = OF_ONE_USER.iter().position(|known| name.eq_ignore_ascii_case(known));
            let at = at.ok_or_else(|| format!("expected a list of {}", OF_ONE_USER.join(", ")))?;
            found.0[at] = true;
        }
        Ok(found)
    }

    /// The names in the list.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        OF_ONE_USER.into_iter().zip(self.0).filter(|(_, is_stored)| *is_stored).map(|(name, _)| name)
    }

    /// The names that are not.
    pub fn left_out(self) -> impl Iterator<Item = &'static str> {
        OF_ONE_USER.into_iter().zip(self.0).filter(|(_, is_stored)| !*is_stored).map(|(name, _)| name)
    }
}

/// How long a response without explicit freshness is fresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// This long after it was received or validated.
    Time(Duration),
    /// A tenth of its age when it was received (RFC 9111 section 4.2.2).
    Heuristic,
}

/// How long beyond its freshness a stored response may be served when the origin fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IfError {
    /// As long as the response itself says (`stale-if-error`, RFC 5861 section 4), which may be not at all.
    AsSaid,
    /// This long, or as long as the response says if that is longer.
    Time(Duration),
    /// Without limit.
    Forever,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            after: After::Time(Duration::ZERO),
            if_error: IfError::AsSaid,
            if_error_always: false,
            targeted: false,
            stored_anyway: StoredAnyway::default(),
        }
    }
}
