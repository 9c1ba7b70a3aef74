//! A file system that is mounted for a test, where that is allowed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
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

/// A file system whose program never answers, as that of a server that is gone; until this is dropped.
pub(crate) struct Dead(Option<File>, PathBuf);

impl Dead {
    /// Mounts it; `None`, in words, where that cannot be had.
    pub(crate) fn mount(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let channel = File::options().read(true).write(true).open("/dev/fuse").ok();
        let channel = channel.filter(|channel| {
            let options = "fd=0,rootmode=40000,user_id=0,group_id=0";
            mount(&["-t", "fuse", "-o", options, "dead"], path, channel.try_clone().unwrap().into())
        });
        if channel.is_none() {
            eprintln!("SKIPPED: no FUSE here (that takes root and /dev/fuse)");
        }
        Some(Self(Some(channel?), path.to_owned()))
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        // Whoever waits for it gets an error.
        self.0 = None;
        unmount(&self.1);
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
