//! Moving body bytes inside the kernel: file to socket, socket to pipe, pipe to file or socket. One
//! file a system; each has `send_file`, and Linux has pipes too.

pub mod copy;
#[cfg(target_os = "illumos")]
mod illumos;
#[cfg(linux_calls)]
mod linux;

#[cfg(not(any(target_os = "illumos", linux_calls)))]
pub use copy::send_file;
#[cfg(target_os = "illumos")]
pub use illumos::send_file;
#[cfg(linux_calls)]
pub use linux::{Pipe, send_file};

use std::io;

/// True for the error of a descriptor that does not support the call (sendfile(2), splice(2)), or of a filter that
/// forbids it.
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::EPERM))
}

/// The bytes moved, by the offset, where a call may report an error although it has moved some.
#[cfg(any(target_os = "illumos", test))]
fn by_offset(result: io::Result<usize>, before: u64, after: u64) -> io::Result<usize> {
    match usize::try_from(after.saturating_sub(before)) {
        Ok(moved) if moved > 0 => Ok(moved),
        _ => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_although_the_call_failed() {
        let again = || Err(io::Error::from(io::ErrorKind::WouldBlock));
        assert_eq!(by_offset(again(), 10, 15).unwrap(), 5);
        assert_eq!(by_offset(Ok(7), 10, 17).unwrap(), 7);
        assert_eq!(by_offset(Ok(0), 10, 10).unwrap(), 0);
        assert!(by_offset(again(), 10, 10).is_err());
    }
}
