//! Linux: sendfile(2), and pipes for splice(2).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::sendfile::sendfile64;

use super::super::retry;
use super::{copy, is_unsupported};

/// See [`copy::send_file`]; inside the kernel.
pub fn send_file(socket: &impl AsFd, file: &impl AsFd, offset: &mut u64, count: usize) -> io::Result<usize> {
    let mut position = i64::try_from(*offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    match retry(|| sendfile64(socket, file, Some(&mut position), count)) {
        Ok(sent) => {
            *offset += sent as u64;
            Ok(sent)
        }
        // A file system that cannot do this.
        Err(error) if is_unsupported(&error) => copy::send_file(socket, file, offset, count),
        Err(error) => Err(error),
    }
}

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

    /// Moves all that the pipe holds into a file at `offset`. May wait for the disk. After an error
    /// `held` is the number of bytes that have not been moved.
    pub fn drain_to_file(&mut self, file: &impl AsFd, offset: u64) -> io::Result<()> {
        let mut at = i64::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        while self.held > 0 {
            match retry(|| {
                splice(&self.read, None, file, Some(&mut at), self.held, SpliceFFlags::SPLICE_F_MOVE)
            })? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                moved => self.held -= moved,
            }
        }
        Ok(())
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
