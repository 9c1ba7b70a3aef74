//! A file system that is mounted for a test, where that is allowed.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::util::wait_until;

/// Where it is mounted; unmounted on drop.
pub(crate) struct Mounted(TempDir);

impl Mounted {
    /// One of this kind with these options; `None`, in words, for who may not mount.
    pub(crate) fn new(kind: &str, options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        if !mount(&["-t", kind, "-o", options, kind], dir.path(), Stdio::null()) {
            eprintln!("SKIPPED: a file system ({kind}) cannot be mounted here (that takes root)");
            return None;
        }
        Some(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn remount(&self, how: &str) {
        // A file that has just got its name is open for writing for a moment yet.
        let options = format!("remount,{how}");
        wait_until("the file system is mounted anew", || {
            mount(&["-o", &options], self.0.path(), Stdio::null())
        });
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.0.path());
    }
}

/// Mounts what the arguments say, without the help of a program of that file system's own.
pub(crate) fn mount(args: &[&str], path: &Path, stdin: Stdio) -> bool {
    let run = Command::new("mount").arg("-i").args(args).arg(path).stdin(stdin).output();
    run.is_ok_and(|output| output.status.success())
}

/// Lazily: a file may still be open.
pub(crate) fn unmount(path: &Path) {
    drop(Command::new("umount").args(["-i", "-l"]).arg(path).status());
}
