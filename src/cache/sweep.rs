//! Removes old in-progress files: of processes that were killed, and of fills that were abandoned.
//!
//! Only on request (a flag), since a walk reads every directory of the cache and deletes files, which the original never
//! did. It is slow, on a thread of low priority that starts after the listeners, and removes only a regular file with the
//! in-progress name of a cached path that is old and that no process holds.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::temporary::remove_old;
use crate::key::{IN_PROGRESS, Key};
use crate::sys::file::{self, Kind, Root};
use crate::sys::process::step_back;

/// After this many entries the sweeper rests: about twenty thousand entries a second on a fast disk.
const BATCH: usize = 256;
const REST: Duration = Duration::from_millis(10);
/// Time between two walks.
const BETWEEN: Duration = Duration::from_secs(3600);

/// Starts the thread, which ends with the process.
pub(crate) fn start(
    root: Arc<Root>,
    age: Duration,
    is_cached: impl Fn(&str) -> bool + Send + 'static,
    removed: impl Fn(&str) + Send + 'static,
) -> std::io::Result<()> {
    let walk = move || {
        step_back();
        loop {
            sweep(&root, age, &is_cached, &removed);
            thread::sleep(BETWEEN);
        }
    };
    thread::Builder::new().name("sweeper".to_owned()).spawn(walk).map(drop)
}

/// One walk. Directories that cannot be read are left out.
fn sweep(root: &Root, age: Duration, is_cached: &dyn Fn(&str) -> bool, removed: &dyn Fn(&str)) {
    let mut waiting = vec![String::new()];
    let mut seen = 0;
    while let Some(path) = waiting.pop() {
        let Ok(directory) = root.open_directory(&path) else { continue };
        let within = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        // What an error leaves is listed again by the next walk.
        drop(file::entries(&directory, |name, kind| {
            seen += 1;
            if seen % BATCH == 0 {
                thread::sleep(REST);
            }
            match kind {
                Kind::Directory => waiting.push(within(name)),
                Kind::File if name.ends_with(IN_PROGRESS) => {
                    let path = within(name);
                    if is_leftover(&path, is_cached) && remove(root, &path, age).is_some() {
                        removed(&path);
                    }
                }
                Kind::File | Kind::Other => {}
            }
            true
        }));
    }
}

/// Whether a fill can have made a file of this name.
fn is_leftover(path: &str, is_cached: &dyn Fn(&str) -> bool) -> bool {
    Key::of_unfinished(path)
        .is_some_and(|key| !key.is_in_progress_name() && is_cached(&format!("/{}", key.as_str())))
}

/// Removes the file if it is old and no process holds it.
fn remove(root: &Root, path: &str, age: Duration) -> Option<()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let directory = root.open_directory(parent).ok()?;
    remove_old(&directory, name, age).ok()?;
    // An empty directory was made for it, and would stand in the way of a file of that name.
    root.remove_empty(parent, 0, file::info(&directory).ok()?.id);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::time::SystemTime;

    const AGE: Duration = Duration::from_secs(3600);

    #[test]
    fn only_old_files_that_nobody_holds_of_paths_that_are_cached_are_removed() {
        let top = tempfile::tempdir().unwrap();
        let (root, outside) = (Root::open(top.path()).unwrap(), tempfile::tempdir().unwrap());
        let old = SystemTime::now() - AGE * 2;
        let put = |path: &str, age: SystemTime| {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"x").unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(age).unwrap();
        };
        for path in [
            "a.tgz.in-progress",
            "d/e/b.tgz.in-progress",
            "d/e/c.tgz.0123456789abcdef0123456789ABCDEF.in-progress",
            "d/held.tgz.in-progress",
            "finished.tgz",
            "other.txt.in-progress",
            "x.tgz.in-progress.in-progress",
            "odd.in-progress/c.tgz.in-progress",
            ".in-progress",
        ] {
            put(path, old);
        }
        put("young.tgz.in-progress", SystemTime::now());
        put("ahead.tgz.in-progress", SystemTime::now() + AGE * 2);
        fs::create_dir(top.path().join("directory.tgz.in-progress")).unwrap();
        fs::write(outside.path().join("far.tgz.in-progress"), b"x").unwrap();
        symlink(outside.path(), top.path().join("link")).unwrap();
        symlink(outside.path().join("far.tgz.in-progress"), top.path().join("l.tgz.in-progress")).unwrap();
        let held = File::open(top.path().join("d/held.tgz.in-progress")).unwrap();
        let _held = file::lock(held.into()).unwrap();

        let removed = RefCell::default();
        let note = |path: &str| RefCell::<Vec<String>>::borrow_mut(&removed).push(path.to_owned());
        sweep(&root, AGE, &|path| path.ends_with(".tgz"), &note);
        let mut removed = removed.into_inner();
        removed.sort();
        let spare = "d/e/c.tgz.0123456789abcdef0123456789ABCDEF.in-progress";
        assert_eq!(removed, ["a.tgz.in-progress", "d/e/b.tgz.in-progress", spare]);
        assert!(!top.path().join("a.tgz.in-progress").exists());
        assert!(top.path().join("d/held.tgz.in-progress").exists());
        assert!(outside.path().join("far.tgz.in-progress").exists());
    }
}
