//! Extended attributes of files (xattr(7)): a few hundred bytes that are stored with the file itself.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;

#[cfg(target_os = "linux")]
use super::super::retry;

/// The value of an attribute of at most `most` bytes; `None` where it is not there. An error of the
/// kind `Unsupported` where files have none (fgetxattr(2)). May wait for the disk.
#[cfg(target_os = "linux")]
pub fn attribute(file: &impl AsFd, name: &CStr, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; most];
    match retry(|| rustix::fs::fgetxattr(file, name, &mut value[..])) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets an attribute (fsetxattr(2)). Errors where files have none, or none so long. May wait for the disk.
#[cfg(target_os = "linux")]
pub fn set_attribute(file: &impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    retry(|| rustix::fs::fsetxattr(file, name, value, rustix::fs::XattrFlags::empty()))
}

/// Removes an attribute (fremovexattr(2)). May wait for the disk.
#[cfg(target_os = "linux")]
pub fn remove_attribute(file: &impl AsFd, name: &CStr) -> io::Result<()> {
    retry(|| rustix::fs::fremovexattr(file, name))
}

/// The files of this system have none: always `Unsupported`.
#[cfg(not(target_os = "linux"))]
pub fn attribute(_: &impl AsFd, _: &CStr, _: usize) -> io::Result<Option<Vec<u8>>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// As above.
#[cfg(not(target_os = "linux"))]
pub fn set_attribute(_: &impl AsFd, _: &CStr, _: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// As above.
#[cfg(not(target_os = "linux"))]
pub fn remove_attribute(_: &impl AsFd, _: &CStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
