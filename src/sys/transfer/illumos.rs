//! illumos: sendfile(3EXT).

use std::io;
use std::os::fd::AsFd;

use nix::sys::sendfile::sendfile;

use super::super::retry;
use super::{by_offset, copy, is_unsupported};

/// See [`copy::send_file`]; inside the kernel.
pub fn send_file(socket: &impl AsFd, file: &impl AsFd, offset: &mut u64, count: usize) -> io::Result<usize> {
    let before = *offset;
    let mut position = i64::try_from(before).map_err(|_| io::ErrorKind::InvalidInput)?;
    let result = retry(|| sendfile(socket, file, Some(&mut position), count));
    let after = u64::try_from(position).unwrap_or(before);
    match by_offset(result, before, after) {
        Ok(sent) => {
            *offset = before + sent as u64;
            Ok(sent)
        }
        Err(error) if is_unsupported(&error) => copy::send_file(socket, file, offset, count),
        Err(error) => Err(error),
    }
}
