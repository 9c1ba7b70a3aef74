//! Privileges dropped once the program listens and before its first thread: those of the user that it was started
//! as, and writes outside the cache directory (Landlock).

use std::path::{Path, PathBuf};

use crate::config::{Config, Sandbox};
use crate::sys::sandbox::{self, Fenced};
use crate::sys::{cache, process};

/// Drops them. Returns lines for the log; an error is one line too.
pub fn drop_privileges(config: &Config) -> Result<Vec<String>, String> {
    let mut notices = Vec::new();
    if let Some(account) = &config.account {
        let name = &account.name;
        process::become_user(account.user, account.login.as_deref(), account.group)
            .map_err(|error| format!("cannot run as {name} (--user, --group): {error}"))?;
        let refused = process::may_write(&config.cache_dir).err();
        if let Some(error) = refused.filter(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
            let (dir, error) = (config.cache_dir.display(), process::error_text(&error));
            return Err(format!("cannot use cache directory \"{dir}\" as {name} (--user, --group): {error}"));
        }
        notices.push(format!("running as {name}"));
    }
    notices.extend(restrict_writes(config)?);
    Ok(notices)
}

fn restrict_writes(config: &Config) -> Result<Option<String>, String> {
    cache::prepare();
    let refused = |what: &str| format!("cannot fence off the cache directory (--sandbox on): {what}");
    match config.sandbox {
        Sandbox::Off => Ok(None),
        Sandbox::Auto => {
            // Where that is impossible, nothing changes.
            holder(&config.cache_dir).map(|holder| sandbox::fence(&holder));
            Ok(None)
        }
        Sandbox::On => match sandbox::fence(&config.cache_dir) {
            Ok(Fenced::Fully) => Ok(Some("sandbox: writes to the cache directory only".to_owned())),
            Ok(Fenced::Partly) => {
                Ok(Some("sandbox: writes to the cache directory only, as far as this kernel can".to_owned()))
            }
            Ok(Fenced::Not) => Err(refused("this system has no Landlock")),
            Err(error) => Err(refused(&error.to_string())),
        },
    }
}

/// The directory that holds the cache directory, if a new cache directory of the same name would be in it too: no
/// link is on the path, because it may lead elsewhere tomorrow. `None` also if it is the root.
fn holder(cache_dir: &Path) -> Option<PathBuf> {
    let named = std::path::absolute(cache_dir).ok()?;
    let real = cache_dir.canonicalize().ok()?;
    let holder = real.parent().filter(|holder| holder.parent().is_some())?;
    (named.components().eq(real.components())).then(|| holder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_directory_that_keeps_its_place_has_a_holder() {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("a/cache")).unwrap();
        symlink("a", top.join("link")).unwrap();
        symlink("a/cache", top.join("to-cache")).unwrap();
        assert_eq!(holder(&top.join("a/cache")), Some(top.join("a")));
        assert_eq!(holder(&top.join("a/cache/")), Some(top.join("a")));
        for elsewhere in ["link/cache", "to-cache", "a/../a/cache", "missing"] {
            assert_eq!(holder(&top.join(elsewhere)), None, "{elsewhere}");
        }
        for whole in ["/", "/tmp"] {
            assert_eq!(holder(Path::new(whole)), None, "{whole}");
        }
    }
}
