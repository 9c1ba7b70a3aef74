//! Attributes that a file carries with it, by name (xattr(7)): on Linux those of the user's own name
//! space. Elsewhere, and on file systems that have none, a file has no attributes.

use std::io;
use std::os::fd::AsFd;

/// Bytes of the longest value: with more than that ext4 has no room for it.
pub const MAX_ATTRIBUTE: usize = 3 * 1024;

#[cfg(target_os = "linux")]
pub use linux::{attribute, remove_attribute, set_attribute};

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CStr;
    use std::os::fd::AsRawFd;

    use nix::errno::Errno;

    use super::super::super::retry;
    use super::{AsFd, MAX_ATTRIBUTE, io};

    /// The value, `None` where there is none (fgetxattr(2)). A longer one than we write is an error.
    pub fn attribute(file: &impl AsFd, name: &CStr) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0_u8; MAX_ATTRIBUTE];
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: the name ends with a NUL, the buffer has the length that is passed, and both and the
        // descriptor live for as long as the call takes.
        let mut call =
            || unsafe { libc::fgetxattr(fd, name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        let length = match retry(|| Errno::result(call())) {
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => return Ok(None),
            length => usize::try_from(length?).unwrap_or(0),
        };
        value.truncate(length);
        Ok(Some(value))
    }

    /// Sets the value, in one step (fsetxattr(2)). May wait for the disk.
    pub fn set_attribute(file: &impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: the name ends with a NUL, the value has the length that is passed, and both and the
        // descriptor live for as long as the call takes.
        let call = || unsafe { libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        retry(|| Errno::result(call()).map(drop))
    }

    /// Removes it (fremovexattr(2)). May wait for the disk.
    pub fn remove_attribute(file: &impl AsFd, name: &CStr) -> io::Result<()> {
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: the name ends with a NUL, and it and the descriptor live for as long as the call takes.
        let call = || unsafe { libc::fremovexattr(fd, name.as_ptr()) };
        retry(|| Errno::result(call()).map(drop))
    }
}

#[cfg(not(target_os = "linux"))]
mod none {
    use std::ffi::CStr;

    use super::{AsFd, io};

    /// There is none.
    pub fn attribute(_file: &impl AsFd, _name: &CStr) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Always `Unsupported`.
    pub fn set_attribute(_file: &impl AsFd, _name: &CStr, _value: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Always `Unsupported`.
    pub fn remove_attribute(_file: &impl AsFd, _name: &CStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
#[cfg(not(target_os = "linux"))]
pub use none::{attribute, remove_attribute, set_attribute};
