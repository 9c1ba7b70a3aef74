//! The configuration while it is put together, with every default.

use std::path::PathBuf;

use super::{UsageError, printable};
use crate::config::{
    Config, FillQuery, Fills, IoChoice, Limits, Origin, Pinning, Revalidate, Sandbox, Workers, mask,
};
use crate::http::caching::Policy;
use crate::pattern::{self, Pattern};
use crate::preset::Rules;

/// The configuration while it is put together: first the defaults, then what was given, then what follows from that.
pub(super) struct Draft {
    pub(super) config: Config,
    /// The class that is revalidated, if there will be one.
    pub(super) class: Revalidate,
    pub(super) query: Option<FillQuery>,
    pub(super) no_sync: bool,
    pub(super) late: Late,
}

/// What can be read only once other flags are known.
#[derive(Default)]
pub(super) struct Late {
    pub(super) cache_dir: Option<Setting>,
    pub(super) host: Option<Setting>,
    pub(super) port: Option<Setting>,
    pub(super) regex: Option<Setting>,
    pub(super) url: Option<Setting>,
    pub(super) revalidate: Option<Setting>,
    pub(super) head_memory: Option<Setting>,
    pub(super) user: Option<Setting>,
    pub(super) group: Option<Setting>,
}

/// A value and where it came from.
pub(super) struct Setting {
    pub(super) value: String,
    /// Names it in an error line.
    pub(super) what: &'static str,
    /// The flag or the variable.
    pub(super) source: String,
}

impl Setting {
    pub(super) fn read<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, UsageError> {
        read(&self.value).map_err(|why| {
            let shown = printable(&mask(&self.value));
            UsageError(format!("cannot use {} \"{shown}\" ({}): {why}", self.what, self.source))
        })
    }
}

impl Draft {
    /// The defaults. The places of what has none, the origin and the directory, are empty.
    pub(super) fn new() -> Result<Self, UsageError> {
        let pattern = Pattern::new(pattern::DEFAULT).map_err(|error| UsageError(error.to_string()))?;
        let nowhere = Origin::parse("http://localhost").map_err(UsageError)?;
        let class = Revalidate {
            pattern: pattern.clone(),
            policy: Policy::default(),
            memory: Revalidate::MEMORY,
            fields: Vec::new(),
        };
        let config = Config {
            cache_dir: PathBuf::new(),
            debug: false,
            host: "0.0.0.0".to_owned(),
            port: 8080,
            pattern,
            presets: Vec::new(),
            rules: Rules::default(),
            origin: Origin { url: String::new(), ..nowhere },
            workers: Workers::Auto,
            pin: Pinning::Off,
            io: IoChoice::Auto,
            limits: Limits::default(),
            follow_redirects: false,
            rewrite_location: false,
            cache_status: false,
            fills: Fills::default(),
            revalidate: None,
            offline: false,
            sandbox: Sandbox::Auto,
            account: None,
        };
        Ok(Self { config, class, query: None, no_sync: false, late: Late::default() })
    }
}
