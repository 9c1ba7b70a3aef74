//! System calls. The only module that names `nix`, `rustix` and `libc`, and the only one that may hold
//! `unsafe`; everything here is non-blocking or bounded unless its doc says otherwise.
#![allow(unsafe_code, reason = "the one module where system calls are wrapped")]

pub mod cache;
pub mod clock;
pub mod file;
pub mod handover;
pub mod poller;
pub mod process;
pub mod sandbox;
pub mod socket;
pub mod transfer;

use std::io;

/// Repeats a call that a signal interrupted, and turns its errno into an [`io::Error`].
fn retry<T, E: Into<io::Error>>(mut call: impl FnMut() -> Result<T, E>) -> io::Result<T> {
    loop {
        match call().map_err(Into::into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// True for the error of a call that found no descriptor left, in the process or in the system.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// True for the error of a disk that cannot be read or written (EIO).
pub fn is_io_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// True for the error of an operation that was taken back (ECANCELED).
#[cfg(target_os = "linux")]
pub fn is_canceled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECANCELED)
}

/// True for the error of a non-blocking call that has to wait.
pub fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
