//! Which backend runs: chosen once, at the start, for all workers.

use std::future::Future;
use std::io;

#[cfg(target_os = "linux")]
use super::uring::{Ring, RingFlags, Uring};
use super::{Runtime, poll};
use crate::sys::is_exhausted;
#[cfg(target_os = "linux")]
use crate::sys::process;

/// Which backend waits for sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring where the kernel allows it, else readiness polling.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// Readiness polling.
    Poll,
}

/// What runs on an event loop, whichever that is.
pub trait Main {
    /// What it gives in the end.
    type Output;

    /// The task itself, on the loop of this thread.
    fn run<R: Runtime>(self) -> impl Future<Output = Self::Output>;
}

/// The backend that runs.
#[derive(Clone, Debug)]
pub enum Engine {
    /// io_uring, with these flags.
    #[cfg(target_os = "linux")]
    Uring {
        /// How each ring is set up.
        flags: RingFlags,
        /// Whether a worker whose ring is refused polls instead.
        replaceable: bool,
    },
    /// Readiness polling, and why not the other.
    Poll(String),
}

/// The mechanism by which the portable event loop learns that a descriptor is ready.
const READINESS: &str = if cfg!(polling_test_poll_backend) {
    "poll"
} else if cfg!(any(target_os = "illumos", target_os = "solaris")) {
    "event ports"
} else {
    "epoll"
};

impl Engine {
    /// Decides what the choice means here. An error is one line for stderr.
    #[cfg(target_os = "linux")]
    pub fn choose(choice: IoChoice) -> Result<Self, String> {
        match (choice, RingFlags::probe()) {
            (IoChoice::Poll, _) => Ok(Self::Poll("asked for".to_owned())),
            (_, Ok(flags)) => Ok(Self::Uring { flags, replaceable: choice == IoChoice::Auto }),
            (IoChoice::Auto, Err(error)) => Ok(Self::Poll(refused(&error))),
            (IoChoice::Uring, Err(error)) => Err(unusable(&error)),
        }
    }

    /// Decides what the choice means here. An error is one line for stderr.
    #[cfg(not(target_os = "linux"))]
    pub fn choose(choice: IoChoice) -> Result<Self, String> {
        match choice {
            IoChoice::Uring => Err("cannot use io_uring (--io uring): this system has none".to_owned()),
            IoChoice::Auto | IoChoice::Poll => Ok(Self::Poll("portable".to_owned())),
        }
    }

    /// For the start-up line.
    pub fn describe(&self) -> String {
        match self {
            #[cfg(target_os = "linux")]
            Self::Uring { flags, .. } => {
                format!("io_uring (kernel {}, {})", process::kernel_release(), flags.as_str())
            }
            Self::Poll(why) => format!("{READINESS} ({why})"),
        }
    }

    /// Runs `main` on this thread until it ends. Where this thread gets another backend than the others, `replaced` is
    /// called with that backend and the reason. An error is one line for stderr.
    #[cfg_attr(not(target_os = "linux"), allow(unused_variables, reason = "nothing else could run"))]
    pub fn run<M: Main>(&self, main: M, replaced: impl FnOnce(&str)) -> Result<M::Output, String> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Uring { flags, replaceable } => match Ring::new(*flags) {
                Ok(mut ring) => return Ok(ring.run(|| main.run::<Uring>())),
                Err(error) if *replaceable => replaced(&format!("{READINESS} ({})", refused(&error))),
                Err(error) => return Err(unusable(&error)),
            },
            Self::Poll(_) => {}
        }
        poll::run(|| main.run::<poll::Portable>()).map_err(|error| format!("the event loop failed: {error}"))
    }
}

#[cfg(target_os = "linux")]
fn unusable(error: &io::Error) -> String {
    format!("cannot use io_uring (--io uring): {}", refused(error))
}

#[cfg(target_os = "linux")]
fn refused(error: &io::Error) -> String {
    format!("io_uring refused: {}{}", process::error_name(error), remedy(error))
}

/// What helps against an error at the start.
pub fn remedy(error: &io::Error) -> &'static str {
    if is_exhausted(error) { " (fewer --workers, or a higher descriptor limit)" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_can_be_had_everywhere() {
        struct Sum(u8);
        impl Main for Sum {
            type Output = u8;
            async fn run<R: Runtime>(self) -> u8 {
                R::yield_now().await;
                self.0 + 1
            }
        }
        let engine = Engine::choose(IoChoice::Poll).unwrap();
        assert!(engine.describe().ends_with(" (asked for)") || engine.describe().ends_with(" (portable)"));
        assert_eq!(engine.run(Sum(1), |why| panic!("replaced by {why}")), Ok(2));
        if let Ok(engine) = Engine::choose(IoChoice::Uring) {
            assert!(engine.describe().starts_with("io_uring (kernel "), "{}", engine.describe());
            assert_eq!(engine.run(Sum(1), |why| panic!("replaced by {why}")), Ok(2));
        }
    }
}
