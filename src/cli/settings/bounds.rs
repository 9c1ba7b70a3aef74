//! Bounds on what clients and the origin may take, and what the process itself may.

use super::{Flags, Setting, count, seconds};
use crate::cli::{Env, UsageError};
use crate::config::{Account, Limits, Sandbox};
use crate::sys::process;

/// A head below this could not even hold a common client's request.
const LEAST_HEAD: u64 = 1024;
/// Above this a head is no head any more, and its memory would count.
const MOST_HEAD: u64 = 16 * 1024 * 1024;
/// Fields beyond this are looked through one by one for too long.
const MOST_FIELDS: u64 = 16 * 1024;

impl Flags {
    /// The limits beside those on time.
    pub(super) fn bounds(&self, env: Env<'_>, default: Limits) -> Result<Limits, UsageError> {
        let pick = |given: &[String], flag, variable| Setting::pick(given.to_vec(), flag, variable, env);
        let bytes = |given: &[String], flag, variable, default: usize| {
            pick(given, flag, variable)
                .map_or(Ok(default), |size| size.read("size", within(LEAST_HEAD, MOST_HEAD)))
        };
        let most = |given: &[String], flag, variable, none: &'static str| {
            pick(given, flag, variable).map_or(Ok(None), |most| most.read("number", at_most(none)))
        };
        let head_time = pick(&self.head_timeout, "--head-timeout", "FS_CACHE_HEAD_TIMEOUT");
        let fields = pick(&self.max_fields, "--max-fields", "FS_CACHE_MAX_FIELDS");
        let memory = pick(&self.head_memory, "--head-memory", "FS_CACHE_HEAD_MEMORY");
        let rate = pick(&self.min_rate, "--min-rate", "FS_CACHE_MIN_RATE");
        let head_bytes = bytes(&self.max_head, "--max-head", "FS_CACHE_MAX_HEAD", default.head_bytes)?;
        let target_bytes =
            bytes(&self.max_target, "--max-target", "FS_CACHE_MAX_TARGET", default.target_bytes)?;
        let least_memory = u64::try_from(head_bytes).unwrap_or(u64::MAX);
        Ok(Limits {
            head_bytes,
            target_bytes,
            head_fields: fields.map_or(Ok(default.head_fields), |most| {
                most.read("number of fields", within(1, MOST_FIELDS))
            })?,
            head_time: head_time.map_or(Ok(default.head_time), |time| time.read("time", seconds))?,
            head_memory: memory
                .map_or(Ok(default.head_memory), |size| size.read("size", within(least_memory, u64::MAX)))?,
            min_rate: rate.map_or(Ok(default.min_rate), |rate| rate.read("rate", count))?,
            connections: most(
                &self.max_connections,
                "--max-connections",
                "FS_CACHE_MAX_CONNECTIONS",
                "auto",
            )?,
            client_connections: most(
                &self.max_client_connections,
                "--max-client-connections",
                "FS_CACHE_MAX_CLIENT_CONNECTIONS",
                "none",
            )?,
            origin_connections: most(
                &self.max_origin_connections,
                "--max-origin-connections",
                "FS_CACHE_MAX_ORIGIN_CONNECTIONS",
                "auto",
            )?,
            fills: most(&self.max_fills, "--max-fills", "FS_CACHE_MAX_FILLS", "none")?,
            pipelined: most(&self.max_pipelined, "--max-pipelined", "FS_CACHE_MAX_PIPELINED", "none")?,
            ..default
        })
    }

    /// What the process may write to.
    pub(super) fn sandbox(&self, env: Env<'_>) -> Result<Sandbox, UsageError> {
        let sandbox = Setting::pick(self.sandbox.clone(), "--sandbox", "FS_CACHE_SANDBOX", env);
        sandbox.map_or(Ok(Sandbox::Auto), |sandbox| sandbox.read("sandbox", Sandbox::parse))
    }

    /// Whom the process runs as.
    pub(super) fn account(&self, env: Env<'_>) -> Result<Option<Account>, UsageError> {
        let user = Setting::pick(self.user.clone(), "--user", "FS_CACHE_USER", env);
        let group = Setting::pick(self.group.clone(), "--group", "FS_CACHE_GROUP", env);
        let alone = user.is_none() && process::is_root();
        let read = |text: &str| {
            let found = process::group(text)?;
            // Root in another group can still do everything, and would look as if it could not.
            if alone { Err("root stays root in any group: add --user USER".to_owned()) } else { Ok(found) }
        };
        let group = group.map(|group| group.read("group", read)).transpose()?;
        let Some(user) = user else {
            let account = |(group, name)| {
                let name = format!("group {name}");
                Account { name, user: None, login: None, group }
            };
            return Ok(group.map(account));
        };
        let account = user.read("user", |text| {
            let found = process::user(text)?;
            if found.id == 0 {
                return Err("root gives up nothing: name another user".to_owned());
            }
            let own = found.group.map(|id| (id, String::new()));
            let (group, _) =
                group.clone().or(own).ok_or("a user without an entry needs a group (--group)")?;
            Ok(Account { name: text.to_owned(), user: Some(found.id), login: found.login, group })
        })?;
        Ok(Some(account))
    }
}

/// Reads a whole number from `least` to `most`.
pub(super) fn within(least: u64, most: u64) -> impl Fn(&str) -> Result<usize, String> {
    move |text| {
        let number = count(text).ok().filter(|number| (least..=most).contains(number));
        number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| match most {
            u64::MAX => format!("expected a whole number from {least}"),
            _ => format!("expected a whole number from {least} to {most}"),
        })
    }
}

/// Reads a number from 1, or the word for no limit of the operator's.
fn at_most(none: &'static str) -> impl Fn(&str) -> Result<Option<usize>, String> {
    move |text| {
        if text == none {
            return Ok(None);
        }
        within(1, u64::MAX)(text).map(Some).map_err(|_| format!("expected {none} or a whole number from 1"))
    }
}
