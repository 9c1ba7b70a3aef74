//! Moving body bytes inside the kernel: file to socket, socket to pipe, pipe to file or socket.

use std::io;
use std::os::fd::AsFd;

/// Sends up to `count` bytes of `file` from `offset` and moves `offset` on. `Ok(0)` means that the
/// file ends here. Progress is what `offset` says, also after an error.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub fn send_file(socket: &impl AsFd, file: &impl AsFd, offset: &mut u64, count: usize) -> io::Result<usize> {
    let mut position = i64::try_from(*offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    match super::retry(|| nix::sys::sendfile::sendfile64(socket, file, Some(&mut position), count)) {
        Ok(sent) => {
            *offset += sent as u64;
            Ok(sent)
        }
        // A file system that cannot do this.
        Err(error) if is_unsupported(&error) => copy_file(socket, file, offset, count),
        Err(error) => Err(error),
    }
}

/// See above; through user space.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub use copy_file as send_file;

/// The generic form of `send_file`: read and send.
pub fn copy_file(socket: &impl AsFd, file: &impl AsFd, offset: &mut u64, count: usize) -> io::Result<usize> {
    const PIECE: usize = 64 * 1024;
    let mut piece = vec![0; count.min(PIECE)];
    let read = super::file::read_at(file, &mut piece, *offset)?;
    if read == 0 {
        return Ok(0);
    }
    let sent = super::socket::send(socket, &piece[..read], false)?;
    *offset += sent as u64;
    Ok(sent)
}

/// Does the error say that this kind of descriptor knows no such call (sendfile(2), splice(2))?
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP))
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub use linux::Pipe;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod linux {
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};

    use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};

    use super::super::retry;

    /// A kernel pipe with a known capacity, for splice(2).
    #[derive(Debug)]
    pub struct Pipe {
        read: OwnedFd,
        write: OwnedFd,
        /// Bytes the pipe can hold.
        pub capacity: usize,
        /// Bytes in the pipe now.
        pub held: usize,
    }

    impl Pipe {
        /// A pipe of about `wanted` bytes, or of what the system grants (fcntl(2), F_SETPIPE_SZ).
        pub fn new(wanted: usize) -> io::Result<Self> {
            let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
            let wanted = i32::try_from(wanted).unwrap_or(i32::MAX);
            // Refused when the user's pipe budget is spent: the default size serves as well.
            let granted = match fcntl(&write, FcntlArg::F_SETPIPE_SZ(wanted)) {
                Ok(granted) => granted,
                Err(_) => fcntl(&write, FcntlArg::F_GETPIPE_SZ)?,
            };
            Ok(Self { read, write, capacity: usize::try_from(granted).unwrap_or(0), held: 0 })
        }

        /// Moves up to `most` bytes from a socket into the pipe; 0 is the end of the stream.
        pub fn fill_from(&mut self, socket: &impl AsFd, most: usize) -> io::Result<usize> {
            let moved = retry(|| splice(socket, None, &self.write, None, most, flags()))?;
            self.held += moved;
            Ok(moved)
        }

        /// Moves what the pipe holds into a file at `offset`.
        pub fn drain_to_file(&mut self, file: &impl AsFd, offset: u64) -> io::Result<usize> {
            let mut at = i64::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let moved = retry(|| {
                splice(&self.read, None, file, Some(&mut at), self.held, SpliceFFlags::SPLICE_F_MOVE)
            })?;
            self.held -= moved;
            Ok(moved)
        }

        /// Moves what the pipe holds into a socket.
        pub fn drain_to_socket(&mut self, socket: &impl AsFd) -> io::Result<usize> {
            let moved = retry(|| splice(&self.read, None, socket, None, self.held, flags()))?;
            self.held -= moved;
            Ok(moved)
        }

        /// Copies what the pipe holds out of it, when its way into a file has failed.
        pub fn take(&mut self) -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; self.held];
            let mut filled = 0;
            while filled < bytes.len() {
                match retry(|| nix::unistd::read(&self.read, &mut bytes[filled..]))? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => filled += n,
                }
            }
            self.held = 0;
            Ok(bytes)
        }
    }

    fn flags() -> SpliceFFlags {
        SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
    }
}
