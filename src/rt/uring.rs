//! Linux: monoio on io_uring. The ring carries accept and readiness.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use monoio::io::{CancelableAsyncReadRent, Canceller};
use monoio::net::{TcpListener, TcpStream};
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, RuntimeBuilder};

use super::deadline::Deadline;
use super::{Listener, Runtime, Socket};
use crate::sys::{is_canceled, socket};

/// Submission entries of a worker's ring; more operations than that are submitted in turns.
const ENTRIES: u32 = 1024;

/// How a ring is set up, from the cheapest per request to the oldest kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingFlags {
    /// SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1).
    DeferTaskrun,
    /// COOP_TASKRUN (Linux 5.19).
    CoopTaskrun,
    /// None.
    Plain,
}

impl RingFlags {
    const ALL: [Self; 3] = [Self::DeferTaskrun, Self::CoopTaskrun, Self::Plain];

    /// The name in the engine line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeferTaskrun => "defer-taskrun",
            Self::CoopTaskrun => "coop-taskrun",
            Self::Plain => "no flags",
        }
    }

    fn builder(self) -> io_uring::Builder {
        let mut builder = io_uring::IoUring::builder();
        match self {
            Self::DeferTaskrun => builder.setup_single_issuer().setup_defer_taskrun(),
            Self::CoopTaskrun => builder.setup_coop_taskrun(),
            Self::Plain => &mut builder,
        };
        builder
    }

    /// The best flags this kernel takes, or why it gives no ring at all.
    pub fn probe() -> io::Result<Self> {
        let mut refused = io::Error::from(io::ErrorKind::Unsupported);
        for flags in Self::ALL {
            match flags.builder().build(ENTRIES) {
                Ok(_) => return Ok(flags),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

thread_local! {
    /// A socket that can always be written to, and its other end.
    static READY: RefCell<Option<Rc<(TcpStream, UnixStream)>>> = const { RefCell::new(None) };
}

/// A ring and its event loop, for the thread that made it.
pub struct Ring(monoio::Runtime<TimeDriver<IoUringDriver>>);

impl Ring {
    /// The error is the kernel's: it gives no ring, or no more of them.
    pub fn new(flags: RingFlags) -> io::Result<Self> {
        let mut builder = RuntimeBuilder::<IoUringDriver>::new();
        builder = builder.with_entries(ENTRIES).uring_builder(flags.builder());
        builder.enable_timer().build().map(Self)
    }

    /// Runs a worker to its end.
    pub fn run<F: Future>(&mut self, worker: impl FnOnce() -> F) -> F::Output {
        self.0.block_on(async { worker().await })
    }
}

/// The io_uring backend.
#[derive(Clone, Copy, Debug)]
pub struct Uring;

impl Runtime for Uring {
    type Socket = UringSocket;
    type Listener = UringListener;
    const RECEIVES_AHEAD: bool = true;

    fn spawn(task: impl Future<Output = ()> + 'static) {
        monoio::spawn(task);
    }

    fn sleep(time: Duration) -> impl Future<Output = ()> {
        monoio::time::sleep(time)
    }

    /// By way of the ring: a task that only wakes itself would keep the ring from being polled.
    async fn yield_now() {
        let ready = READY.with_borrow_mut(|ready| {
            if ready.is_none() {
                *ready = UnixStream::pair()
                    .and_then(|(end, other)| {
                        let end = TcpStream::from_std(OwnedFd::from(end).into())?;
                        Ok(Rc::new((end, other)))
                    })
                    .ok();
            }
            ready.clone()
        });
        match ready {
            Some(ready) => drop(ready.0.writable(false).await),
            None => monoio::time::sleep(Duration::from_millis(1)).await,
        }
    }

    fn socket(fd: OwnedFd) -> io::Result<UringSocket> {
        Ok(UringSocket::new(TcpStream::from_std(fd.into())?))
    }

    fn listener(fd: OwnedFd) -> io::Result<UringListener> {
        Ok(UringListener { listener: Rc::new(TcpListener::from_std(fd.into())?), accepting: None })
    }
}

/// A descriptor polled and received from through the ring.
pub struct UringSocket {
    stream: TcpStream,
    /// Cancels a receive that lasts too long; set from the first receive to the first cancellation.
    canceller: Option<Canceller>,
    /// A receive is in progress, or was dropped: then its bytes are lost, and the stream has a gap.
    receiving: bool,
}

impl UringSocket {
    fn new(stream: TcpStream) -> Self {
        Self { stream, canceller: None, receiving: false }
    }

    /// One operation waits and receives: a system call less than waiting and then receiving. Dropped, it may lose
    /// bytes.
    async fn receive_within(&mut self, buffer: Vec<u8>, patience: Duration) -> (io::Result<usize>, Vec<u8>) {
        let canceller = self.canceller.get_or_insert_with(Canceller::new);
        let mut receiving = pin!(self.stream.cancelable_read(buffer, canceller.handle()));
        let in_time = async { Some(receiving.as_mut().await) };
        let late = async {
            Deadline::<Uring>::new(patience).await;
            None
        };
        match or(in_time, late).await {
            Some(received) => received,
            None => {
                drop(self.canceller.take().map(Canceller::cancel));
                match receiving.await {
                    (Err(error), buffer) if is_canceled(&error) => {
                        (Err(io::ErrorKind::TimedOut.into()), buffer)
                    }
                    // Received just before the cancellation.
                    received => received,
                }
            }
        }
    }
}

impl AsFd for UringSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        socket::borrow(&self.stream, self.stream.as_raw_fd())
    }
}

impl Socket for UringSocket {
    async fn readable(&self) -> io::Result<()> {
        if self.receiving {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.stream.readable(false).await
    }

    async fn receive(&mut self, buffer: Vec<u8>, patience: Duration) -> (io::Result<usize>, Vec<u8>) {
        if std::mem::replace(&mut self.receiving, true) {
            return (Err(io::ErrorKind::ConnectionAborted.into()), buffer);
        }
        let received = self.receive_within(buffer, patience).await;
        self.receiving = false;
        received
    }

    async fn writable(&self) -> io::Result<()> {
        self.stream.writable(false).await
    }
}

type Accepting = Pin<Box<dyn Future<Output = io::Result<(TcpStream, SocketAddr)>>>>;

/// A listener whose accepts go through the ring.
pub struct UringListener {
    listener: Rc<TcpListener>,
    /// The operation in progress. It outlives a dropped wait, which would lose the connection that it takes.
    accepting: Option<Accepting>,
}

impl Listener<UringSocket> for UringListener {
    async fn accept(&mut self) -> io::Result<(UringSocket, IpAddr)> {
        let accepting = self.accepting.get_or_insert_with(|| {
            let listener = Rc::clone(&self.listener);
            Box::pin(async move { listener.accept().await })
        });
        let accepted = accepting.as_mut().await;
        self.accepting = None;
        let (stream, address) = accepted?;
        let stream = UringSocket::new(stream);
        socket::prepare_accepted(&stream)?;
        Ok((stream, address.ip()))
    }
}
