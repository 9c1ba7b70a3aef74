//! Extended attributes of files (xattr(7)): a few hundred bytes that travel with the file itself.

use std::io;
use std::os::fd::AsFd;

#[cfg(target_os = "linux")]
pub use linux::{attribute, remove_attribute, set_attribute};

/// The value of an attribute of at most `most` bytes; `None` where it is not there. An error of the
/// kind `Unsupported` where files have none. May wait for the disk.
#[cfg(not(target_os = "linux"))]
pub fn attribute(_file: &impl AsFd, _name: &std::ffi::CStr, _most: usize) -> io::Result<Option<Vec<u8>>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sets an attribute. Errors where files have none, or none so long. May wait for the disk.
#[cfg(not(target_os = "linux"))]
pub fn set_attribute(_file: &impl AsFd, _name: &std::ffi::CStr, _value: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Removes an attribute. May wait for the disk.
#[cfg(not(target_os = "linux"))]
pub fn remove_attribute(_file: &impl AsFd, _name: &std::ffi::CStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CStr;
    use std::os::fd::AsRawFd;

    use nix::errno::Errno;

    use super::super::super::retry;
    use super::{AsFd, io};

    /// The value of an attribute of at most `most` bytes; `None` where it is not there. An error of
    /// the kind `Unsupported` where files have none (fgetxattr(2)). May wait for the disk.
    pub fn attribute(file: &impl AsFd, name: &CStr, most: usize) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0_u8; most];
        let (fd, room) = (file.as_fd().as_raw_fd(), value.len());
        // SAFETY: `name` ends in NUL, and the call writes at most `room` bytes to `value`.
        let mut call = || unsafe { libc::fgetxattr(fd, name.as_ptr(), value.as_mut_ptr().cast(), room) };
        match retry(|| Errno::result(call())) {
            Ok(length) => {
                value.truncate(usize::try_from(length).unwrap_or(0));
                Ok(Some(value))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets an attribute (fsetxattr(2)). Errors where files have none, or none so long. May wait for
    /// the disk.
    pub fn set_attribute(file: &impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: `name` ends in NUL, and the call reads `value.len()` bytes of `value`.
        let call = || unsafe { libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        retry(|| Errno::result(call()).map(drop))
    }

    /// Removes an attribute (fremovexattr(2)). May wait for the disk.
    pub fn remove_attribute(file: &impl AsFd, name: &CStr) -> io::Result<()> {
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: `name` ends in NUL, and `file` is open for as long as the call takes.
        let call = || unsafe { libc::fremovexattr(fd, name.as_ptr()) };
        retry(|| Errno::result(call()).map(drop))
    }
}
