//! Pipes for splicing, kept for the next body.

/// Bodies shorter than this are copied: a few reads cost less than the way through a pipe.
pub const WORTH_SPLICING: u64 = 256 * 1024;

#[cfg(target_os = "linux")]
pub use linux::Pipes;

#[cfg(target_os = "linux")]
mod linux {
    use std::cell::{Cell, RefCell};
    use std::io;

    use crate::sys::transfer::Pipe;

    /// Bytes a pipe is asked to hold: an unprivileged user may have 64 of them at this size.
    const SIZE: usize = 1024 * 1024;
    /// Idle pipes kept per worker.
    const KEPT: usize = 4;

    /// One worker's idle pipes.
    #[derive(Debug, Default)]
    pub struct Pipes {
        idle: RefCell<Vec<Pipe>>,
        used: Cell<bool>,
    }

    impl Pipes {
        /// An empty pipe.
        pub fn lease(&self) -> io::Result<Pipe> {
            self.used.set(true);
            let idle = self.idle.borrow_mut().pop();
            idle.map_or_else(|| Pipe::new(SIZE), Ok)
        }

        /// Closes the idle ones, if none was wanted since the last call.
        pub fn prune(&self) {
            if !self.used.replace(false) {
                self.idle.borrow_mut().clear();
            }
        }

        /// Keeps a pipe that has run empty; any other is closed with what it holds.
        pub fn give_back(&self, pipe: Pipe) {
            let mut idle = self.idle.borrow_mut();
            if pipe.held == 0 && idle.len() < KEPT {
                idle.push(pipe);
            }
        }
    }
}

/// Nothing to keep where there is no splice.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Default)]
pub struct Pipes;

#[cfg(not(target_os = "linux"))]
impl Pipes {
    /// Nothing to close.
    pub fn prune(&self) {}
}
