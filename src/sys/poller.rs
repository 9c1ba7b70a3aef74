//! Descriptors registered with a `polling::Poller`, kept registered no longer than they are open.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use polling::{Event, PollMode, Poller};

/// An open descriptor that a poller knows under a key.
#[derive(Debug)]
pub struct Registered {
    fd: OwnedFd,
    poller: Arc<Poller>,
}

impl Registered {
    /// Registers `fd` with no interest yet.
    pub fn new(poller: &Arc<Poller>, fd: OwnedFd, key: usize) -> io::Result<Self> {
        // SAFETY: the descriptor stays open until `drop` has deleted it from this poller, which
        // `Registered` keeps alive.
        unsafe { poller.add(&fd, Event::none(key)) }?;
        Ok(Self { fd, poller: Arc::clone(poller) })
    }

    /// Waits for what `interest` names, in the place of what was waited for before.
    pub fn arm(&self, interest: Event, mode: PollMode) -> io::Result<()> {
        self.poller.modify_with_mode(&self.fd, interest, mode)
    }

    /// Can interest stay armed when it has fired?
    pub fn can_stay_armed(&self) -> bool {
        self.poller.supports_level()
    }
}

/// A poller, and a descriptor that is readable while one of its own is ready. `None` where there is
/// no such thing: event ports cannot be waited for by event ports.
#[cfg(all(target_os = "linux", not(polling_test_poll_backend)))]
pub fn waitable() -> Option<(Poller, OwnedFd)> {
    let poller = Poller::new().ok()?;
    let fd = poller.as_fd().try_clone_to_owned().ok()?;
    Some((poller, fd))
}

/// See above.
#[cfg(not(all(target_os = "linux", not(polling_test_poll_backend))))]
pub fn waitable() -> Option<(Poller, OwnedFd)> {
    None
}

impl AsFd for Registered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Closing the descriptor removes it as well; an error here leaves nothing behind.
        drop(self.poller.delete(&self.fd));
    }
}
