//! The entries of a directory.

use std::io;
use std::os::fd::OwnedFd;

use nix::dir::{Dir, Type};

use super::{Kind, info_at};

/// Calls `each` with the name and the kind of every entry but `.` and `..`, until it says false. Links
/// are of another kind than what they lead to, and names that are no UTF-8 are left out. Waits for the
/// disk.
pub fn entries(directory: &OwnedFd, mut each: impl FnMut(&str, Kind) -> bool) -> io::Result<()> {
    for entry in Dir::from_fd(directory.try_clone()?)?.iter() {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        let kind = match entry.file_type() {
            Some(Type::File) => Kind::File,
            Some(Type::Directory) => Kind::Directory,
            Some(_) => Kind::Other,
            // A file system, or a system, that does not say it here.
            None => info_at(directory, name).map_or(Kind::Other, |info| info.kind),
        };
        if !each(name, kind) {
            break;
        }
    }
    Ok(())
}
