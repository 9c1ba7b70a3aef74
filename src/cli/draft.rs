//! The configuration while it is put together, with every default.

use std::path::PathBuf;

use super::setting::Setting;
use crate::config::{
    Config, FillQuery, Fills, IoChoice, Limits, Origin, Pinning, Revalidate, Sandbox, Workers,
};
use crate::http::caching::Policy;
use crate::pattern::{self, Pattern};
use crate::preset::Rules;

/// First the defaults, then the settings, then what follows from them.
pub(super) struct Draft {
    pub(super) config: Config,
    /// The revalidated class. It is in force if it has a pattern in the end.
    pub(super) class: Revalidate,
    pub(super) query: Option<FillQuery>,
    pub(super) no_sync: bool,
    pub(super) late: Late,
}

/// Settings that can be read only once others are known.
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

impl Draft {
    /// The defaults. Origin and directory, which have none, are empty.
    pub(super) fn new() -> Result<Self, String> {
        let pattern = Pattern::new(pattern::DEFAULT).map_err(|error| error.to_string())?;
        let nowhere = Origin::parse("http://localhost")?;
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
