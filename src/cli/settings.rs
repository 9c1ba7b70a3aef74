//! Turns flags and variables into the configuration.

use std::path::{Path, PathBuf};

use super::argv::Given;
use super::draft::Draft;
use super::setting::{Env, Setting};
use super::table::flags;
use super::value;
use crate::config::{Account, FillQuery, Origin, check_host};
use crate::http::caching::IfError;
use crate::pattern::Pattern;
use crate::preset::{self, Preset, Rules};
use crate::sys::process;

/// Reads all settings. With `print_only`, no origin is needed, and no directory is made.
pub(super) fn read(given: &Given, env: Env<'_>, print_only: bool) -> Result<Draft, String> {
    let mut draft = Draft::new()?;
    for flag in flags() {
        if let Some(setting) = flag.pick(given, env) {
            flag.put(&mut draft, setting)?;
        }
    }
    draft.finish_limits()?;
    draft.finish_classes()?;
    draft.config.account = draft.account()?;
    draft.config.origin = draft.origin(print_only)?;
    if let Some(host) = &draft.late.host {
        draft.config.host = host.read(|host| check_host(host).map(|()| host.to_owned()))?;
    }
    if let Some(port) = &draft.late.port {
        draft.config.port = port.read(value::port)?;
    }
    // The last, because it may make the directory.
    draft.config.cache_dir = draft.directory(print_only)?;
    Ok(draft)
}

impl Draft {
    fn finish_limits(&mut self) -> Result<(), String> {
        let (limits, fills) = (&mut self.config.limits, &mut self.config.fills);
        if let Some(memory) = &self.late.head_memory {
            let range = limits.head_bytes as u64..=u64::MAX;
            let bytes = memory.read(|text| value::number(text, &range, true))?;
            limits.head_memory = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        // The files of package sites need no query.
        let usual = if self.config.presets.is_empty() { fills.query } else { FillQuery::Strip };
        fills.query = *self.query.get_or_insert(usual);
        fills.sync = !self.no_sync;
        Ok(())
    }

    /// The paths that are cached: those given, together with those of the presets.
    fn finish_classes(&mut self) -> Result<(), String> {
        let presets = &self.config.presets;
        let policy = &self.class.policy;
        if policy.if_error_always && policy.if_error == IfError::AsSaid {
            return Err("--stale-if-error-always needs --stale-if-error <s>".to_owned());
        }
        let immutable = pattern(self.late.regex.as_ref(), presets, |preset| preset.immutable)?;
        let revalidate = pattern(self.late.revalidate.as_ref(), presets, |preset| preset.revalidate)?;
        self.config.rules = Rules::new(presets).map_err(|error| error.to_string())?;
        if let Some(immutable) = immutable {
            self.config.pattern = immutable;
        }
        if let Some(pattern) = revalidate {
            self.class.pattern = pattern;
            self.config.revalidate = Some(self.class.clone());
        } else {
            // The settings of a class without paths are not in force.
            self.class = Draft::new()?.class;
        }
        Ok(())
    }

    fn origin(&self, print_only: bool) -> Result<Origin, String> {
        let credential_use = self.config.origin.credential_use;
        match self.late.url.as_ref().filter(|url| !url.value.is_empty()) {
            Some(url) => Ok(Origin { credential_use, ..url.read(Origin::parse)? }),
            None if print_only => Ok(self.config.origin.clone()),
            None => Err("url must be specified with `-U <url>` or as FS_CACHE_URL".to_owned()),
        }
    }

    fn directory(&self, print_only: bool) -> Result<PathBuf, String> {
        match &self.late.cache_dir {
            Some(dir) if print_only => Ok(PathBuf::from(&dir.value)),
            Some(dir) => dir.read(|text| directory(text, self.config.account.as_ref())),
            None => std::env::current_dir().map_err(|error| {
                format!("cannot use the current directory: {}", process::error_text(&error))
            }),
        }
    }

    /// The user and group that the process runs as.
    fn account(&self) -> Result<Option<Account>, String> {
        let alone = self.late.user.is_none() && process::is_root();
        let read = |text: &str| {
            let found = process::group(text)?;
            // Root in another group can still do everything, but would look as if it could not.
            if alone { Err("root stays root in any group: add --user USER".to_owned()) } else { Ok(found) }
        };
        let group = self.late.group.as_ref().map(|group| group.read(read)).transpose()?;
        let Some(user) = &self.late.user else {
            let account = |(group, name)| {
                let name = format!("group {name}");
                Account { name, user: None, login: None, group }
            };
            return Ok(group.map(account));
        };
        let account = user.read(|text| {
            let found = process::user(text)?;
            if found.id == 0 {
                return Err("root gives up nothing: name another user".to_owned());
            }
            let own = found.group.map(|id| (id, String::new()));
            let (group, _) = group.or(own).ok_or("a user without an entry needs a group (--group)")?;
            Ok(Account { name: text.to_owned(), user: Some(found.id), login: found.login, group })
        })?;
        Ok(Some(account))
    }
}

/// The pattern given, together with those of presets; `None` if there is neither. An empty one counts as none, even
/// if the variable is set.
fn pattern(
    given: Option<&Setting>,
    presets: &[&'static Preset],
    theirs: fn(&Preset) -> &'static [&'static str],
) -> Result<Option<Pattern>, String> {
    let theirs: Vec<String> = presets.iter().map(|preset| theirs(preset).join("|")).collect();
    let joined = |source: &str| {
        // Alone first: the text around a pattern must not make it valid, or change its meaning.
        Pattern::new(source).map_err(|error| error.to_string())?;
        let all = preset::any_of([source].into_iter().chain(theirs.iter().map(String::as_str)));
        Pattern::new(&all).map_err(|error| error.to_string())
    };
    match given.filter(|regex| !regex.value.is_empty()) {
        Some(regex) => regex.read(joined).map(Some),
        None if presets.is_empty() => Ok(None),
        None => joined("").map(Some),
    }
}

/// The cache directory. One that does not exist yet is made, as the original did when it stored its first file, and
/// belongs to the account that the process will run as.
fn directory(text: &str, account: Option<&Account>) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the name is empty".to_owned());
    }
    // Through the trailing dot the directory must also be one that the process may enter.
    let path = PathBuf::from(text);
    let entered = std::fs::metadata(path.join(".")).map(drop);
    let ready = entered.or_else(|error| {
        let absent = error.kind() == std::io::ErrorKind::NotFound;
        if absent { make(&path, account) } else { Err(error) }
    });
    ready.map(|()| path).map_err(|error| process::error_text(&error))
}

fn make(path: &Path, account: Option<&Account>) -> std::io::Result<()> {
    std::fs::create_dir_all(path)?;
    account.map_or(Ok(()), |account| process::give(path, account.user, account.group))
}
