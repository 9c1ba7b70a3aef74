//! A file that is written under a temporary name, and then takes the place of another.
//!
//! The name is random and created exclusively, so no other process has it, not even one with the same pid in another
//! container. The file is locked while it is written, so that a left-over can be told from a file in use.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::key::RESERVED;
use crate::sys::file::{self, Reach, Root};

/// Prefix of temporary names.
pub(crate) const NEW: &str = "new-";
/// A file that was not written to for this long, and that no process holds, is a left-over. Earlier versions held none.
const AGE: Duration = Duration::from_secs(3600);

/// The directory of the sidecars.
pub(crate) fn directory() -> String {
    format!("{RESERVED}/documents")
}

/// A file under a temporary name. Removed on drop.
#[derive(Debug)]
pub(crate) struct Temporary<'a> {
    directory: &'a OwnedFd,
    name: String,
    file: OwnedFd,
    is_named: bool,
}

impl<'a> Temporary<'a> {
    /// Creates one in the directory in which it is to be renamed.
    pub(crate) fn create(directory: &'a OwnedFd) -> io::Result<Self> {
        let name = format!("{NEW}{}", Uuid::new_v4().simple());
        let file = file::create_new(directory, &name)?;
        // Where there are no locks, its age protects it.
        drop(file::hold(&file));
        Ok(Self { directory, name, file, is_named: false })
    }

    /// Has a file written that takes the place of `name` in the directory at `path`, which is made where it is missing;
    /// returns the directory.
    pub(crate) fn write(
        root: &Root,
        path: &str,
        name: &str,
        write: impl FnOnce(&OwnedFd) -> io::Result<()>,
    ) -> io::Result<OwnedFd> {
        let (directory, _) = root.make_directory(path, None, Reach::Anywhere)?;
        let new = Temporary::create(&directory)?;
        write(&new.file)?;
        new.rename(name)?;
        Ok(directory)
    }

    /// The file.
    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Gives it its final name.
    pub(crate) fn rename(mut self, to: &str) -> io::Result<()> {
        file::rename(self.directory, &self.name, to)?;
        self.is_named = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.is_named {
            drop(file::unlink(self.directory, &self.name));
        }
    }
}

/// Removes the files that ended processes have left in the directory at `path`. Blocks; for start-up only.
pub(crate) fn remove_left_overs(root: &Root, path: &str) {
    let Ok(directory) = root.open_directory(path) else { return };
    drop(file::entries(&directory, |name, _| {
        if name.starts_with(NEW) {
            drop(remove_old(&directory, name, AGE));
        }
        true
    }));
}

/// Removes a file that was not written to for `age`, unless a process holds it.
pub(crate) fn remove_old(directory: &OwnedFd, name: &str, age: Duration) -> io::Result<()> {
    let (_locked, info) = file::lock_named(directory, name)?;
    if SystemTime::now().duration_since(info.modified).is_ok_and(|since| since >= age) {
        return file::unlink(directory, name);
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn only_what_is_old_and_nobodys_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let root = Root::open(place.path()).unwrap();
        let old = SystemTime::now() - AGE * 2;
        let put = |name: &str, age: SystemTime| {
            fs::write(place.path().join(name), b"x").unwrap();
            let file = File::options().write(true).open(place.path().join(name)).unwrap();
            file.set_modified(age).unwrap();
            file
        };
        drop(put("new-old", old));
        drop(put("new-young", SystemTime::now()));
        drop(put("other", old));
        let held = put("new-held", old);
        file::hold(&held).unwrap();
        remove_left_overs(&root, "");
        let exists = |name: &str| place.path().join(name).exists();
        assert!(!exists("new-old") && exists("new-young") && exists("new-held") && exists("other"));
    }

    #[test]
    fn no_two_have_one_name_and_none_stays() {
        let place = tempfile::tempdir().unwrap();
        let directory = Root::open(place.path()).unwrap().open_directory("").unwrap();
        let (one, other) = (Temporary::create(&directory).unwrap(), Temporary::create(&directory).unwrap());
        file::write_at(one.file(), b"one", 0).unwrap();
        one.rename("named").unwrap();
        drop(other);
        let names: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["named"]);
        assert_eq!(fs::read(place.path().join("named")).unwrap(), b"one");
    }
}
