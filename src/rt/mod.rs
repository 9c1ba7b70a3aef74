//! The runtime contract: one loop a core, readiness of sockets, timers, tasks, and a way to wake
//! a task on another core. Two backends keep it, of which [`engine`] chooses one: [`uring`] (Linux, monoio
//! on io_uring) and [`poll`] (everywhere: epoll, event ports). Bodies and heads move by direct non-blocking
//! calls; a backend only says when to try again.

pub mod blocking;
pub mod budget;
mod deadline;
pub mod engine;
pub mod fairness;
pub mod gather;
pub mod lock;
pub mod notify;
pub mod poll;
pub mod remote_wake;
pub mod stall;
#[cfg(test)]
mod tests;
pub mod tick;
#[cfg(target_os = "linux")]
pub mod uring;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use deadline::Deadline;
use futures_lite::FutureExt;

use crate::sys::{socket, would_block};

/// One worker's event loop. Tasks and sockets never leave the thread they were made on.
pub trait Runtime: Copy + 'static {
    /// A non-blocking socket (or pipe end) known to this loop.
    type Socket: Socket;
    /// A listening socket.
    type Listener: Listener<Self::Socket>;
    /// Whether the bytes that [`Socket::receive`] returns were received before the tick of the loop in which it returns
    /// them. For [`tick`] alone.
    const RECEIVES_AHEAD: bool;

    /// Starts a task on this thread.
    fn spawn(task: impl Future<Output = ()> + 'static);
    /// Waits.
    fn sleep(time: Duration) -> impl Future<Output = ()>;
    /// Lets every other task and every ready descriptor run first.
    fn yield_now() -> impl Future<Output = ()>;
    /// Makes a non-blocking descriptor known to this thread's loop.
    fn socket(fd: OwnedFd) -> io::Result<Self::Socket>;
    /// Makes a non-blocking listening socket known to this thread's loop.
    fn listener(fd: OwnedFd) -> io::Result<Self::Listener>;
}

/// Readiness of one descriptor. Both waits may run at once, from one task; a wait may be dropped.
pub trait Socket: AsFd + 'static {
    /// Waits until a read would not block.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;
    /// Waits for bytes, up to `patience`, and receives them into `buffer`, up to its capacity and in the place of its
    /// content. Returns their number, 0 at the end of the stream, or `TimedOut`; and the buffer in either case, with no
    /// byte lost. Where dropping the wait may lose bytes, each later wait to receive or read fails, so that reading never
    /// resumes after a gap.
    fn receive(
        &mut self,
        buffer: Vec<u8>,
        patience: Duration,
    ) -> impl Future<Output = (io::Result<usize>, Vec<u8>)>;
    /// Waits until a write would not block.
    fn writable(&self) -> impl Future<Output = io::Result<()>>;
}

/// A source of connections.
pub trait Listener<S> {
    /// The next connection, non-blocking and with small writes sent at once. The wait may be dropped: what
    /// it has taken is the listener's, for the next one.
    fn accept(&mut self) -> impl Future<Output = io::Result<(S, IpAddr)>>;
}

/// A listening socket accepted from when it is readable.
pub struct ReadyListener<R: Runtime>(R::Socket);

impl<R: Runtime> ReadyListener<R> {
    /// Makes a non-blocking listening socket known to this thread's loop.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        R::socket(fd).map(Self)
    }
}

impl<R: Runtime> Listener<R::Socket> for ReadyListener<R> {
    async fn accept(&mut self) -> io::Result<(R::Socket, IpAddr)> {
        loop {
            match socket::accept(&self.0) {
                Ok((fd, ip)) => return Ok((R::socket(fd)?, ip)),
                Err(error) if would_block(&error) => self.0.readable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Starts a task that holds `held` to its end. A bug that makes it panic is its own end only.
pub fn spawn_guarded<R: Runtime>(held: impl Sized + 'static, task: impl Future<Output = ()> + 'static) {
    R::spawn(async move {
        drop(AssertUnwindSafe(task).catch_unwind().await);
        drop(held);
    });
}

/// The future did not finish in its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOut;

/// Bounds a wait; it may last up to an eighth longer than `limit`.
pub fn timeout<R: Runtime, T>(
    limit: Duration,
    future: impl Future<Output = T>,
) -> impl Future<Output = Result<T, TimedOut>> {
    let done = async { Ok(future.await) };
    let late = async move {
        Deadline::<R>::new(limit).await;
        Err(TimedOut)
    };
    futures_lite::future::or(done, late)
}
