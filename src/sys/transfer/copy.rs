//! Every system: read and send.

use std::io;
use std::os::fd::AsFd;

use super::super::{file, socket};

/// Bytes read at a time.
const PIECE: usize = 64 * 1024;

/// Sends up to `count` bytes of `file` from `offset` and moves `offset` on. `Ok(0)` means that the
/// file ends here.
pub fn send_file(socket: &impl AsFd, file: &impl AsFd, offset: &mut u64, count: usize) -> io::Result<usize> {
    let mut piece = vec![0; count.min(PIECE)];
    let read = file::read_at(file, &mut piece, *offset)?;
    if read == 0 {
        return Ok(0);
    }
    let sent = socket::send(socket, &piece[..read], false)?;
    *offset += sent as u64;
    Ok(sent)
}
