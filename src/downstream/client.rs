//! The client's side of a connection: bytes in, heads and bodies out, every wait bounded.

use crate::downstream::head;
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::or;

use super::rate::Rate;
use super::readahead::{self, FRESH, Heat, PIECE, Windows};
use super::reply::Reply;
use crate::cache::place::Placed;
use crate::error::{Error, Kind, Side};
use crate::rt::{Runtime, Socket, blocking, fairness};
use crate::sys::{is_io_error, socket, transfer, would_block};

/// A client that has closed its side waits no longer for the next byte of its response.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// A client's connection.
pub struct Client<R: Runtime> {
    /// Its socket.
    pub socket: R::Socket,
    /// Its address.
    pub address: IpAddr,
    /// The same, as logs show it.
    pub peer: Box<str>,
    /// Bytes received and not consumed yet.
    pub input: Vec<u8>,
    /// Its transfer rate, and the limits for it.
    pub rate: Rate,
}

impl<R: Runtime> Client<R> {
    /// The sending half.
    pub fn out(&self) -> Out<'_, R> {
        Out::new(&self.socket, &self.rate)
    }

    /// See [`Out::gone`].
    pub async fn gone(&self) {
        self.out().gone().await;
    }

    /// Sends a response without a body.
    pub async fn send_empty(&self, status: u16, keep: bool) -> Reply {
        let bytes = head::finish(head::local(status, 0), keep);
        Reply::ended(status, Some(0), keep, self.out().send(&bytes).await)
    }

    /// Sends an error as one line of text.
    pub async fn send_error(&self, error: &Error, keep: bool, with_body: bool) -> Reply {
        let status = error.status();
        let text = head::error_text(status, error);
        let mut bytes =
            head::finish(head::local(status, text.len()).field("Content-Type", "text/plain"), keep);
        if with_body {
            bytes.extend_from_slice(text.as_bytes());
        }
        Reply::ended(status, Some(text.len() as u64), keep, self.out().send(&bytes).await)
    }
}

/// Runs `done`, unless the client has `gone` before.
pub async fn unless<T>(
    gone: impl Future<Output = ()>,
    done: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let gone = async {
        gone.await;
        Err(Error::new(Side::Client, Kind::Closed))
    };
    or(done, gone).await
}

/// How far [`Out::send_window`] has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    /// To the end.
    Whole,
    /// Stopped early, maybe: whether the rest is in memory must be asked again.
    Late,
}

/// The sending half of a client's connection.
pub struct Out<'a, R: Runtime> {
    socket: &'a R::Socket,
    rate: &'a Rate,
}

impl<'a, R: Runtime> Out<'a, R> {
    /// Sends to `socket`, until the client is too slow for `rate`.
    pub fn new(socket: &'a R::Socket, rate: &'a Rate) -> Self {
        Self { socket, rate }
    }

    /// The socket.
    pub fn socket(&self) -> &R::Socket {
        self.socket
    }

    /// Waits until the client has gone. One that sends more meanwhile is not waited for.
    ///
    /// An end of its side may be a half-close (RFC 9112, 9.6): it has gone if nothing can be sent to it for a while, or
    /// at once if other clients wait for a place.
    pub async fn gone(&self) {
        while self.socket.readable().await.is_ok() {
            match socket::peek(self.socket) {
                Err(error) if would_block(&error) => {}
                Ok(0) => return or(self.silence(), self.rate.evicted()).await,
                Ok(1..) => break,
                Err(_) => return,
            }
        }
        pending().await
    }

    async fn silence(&self) {
        loop {
            let before = self.rate.total();
            R::sleep(HALF_CLOSED).await;
            if self.rate.total() == before {
                return;
            }
        }
    }

    /// Sends all of it.
    pub async fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        self.send_with(bytes, false).await
    }

    /// Sends all of it, with more to follow at once.
    pub async fn send_more(&self, bytes: &[u8]) -> Result<(), Error> {
        self.send_with(bytes, true).await
    }

    async fn send_with(&self, mut bytes: &[u8], more: bool) -> Result<(), Error> {
        while !bytes.is_empty() {
            match socket::send(self.socket, bytes, more) {
                Ok(sent) => {
                    self.moved(sent);
                    bytes = &bytes[sent..];
                }
                Err(error) if would_block(&error) => self.writable().await?,
                Err(error) => return Err(Error::io(Side::Client, &error)),
            }
        }
        Ok(())
    }

    /// Sends what the socket takes of `bytes` now, and returns its number. `more` follows at once.
    pub fn send_now(&self, bytes: &[u8], more: bool) -> Result<usize, Error> {
        self.sent_now(socket::send(self.socket, bytes, more))
    }

    /// The same of a head and the body behind it.
    pub fn send_both_now(&self, head: &[u8], body: &[u8]) -> Result<usize, Error> {
        self.sent_now(socket::send_both(self.socket, head, body))
    }

    fn sent_now(&self, sent: io::Result<usize>) -> Result<usize, Error> {
        match sent {
            Err(error) if would_block(&error) => Ok(0),
            Ok(sent) => {
                self.moved(sent);
                Ok(sent)
            }
            sent => sent.map_err(|error| Error::io(Side::Client, &error)),
        }
    }

    /// Sends what the socket takes now of a file's bytes from `offset`, which it moves, to `end`;
    /// false if the socket is full.
    pub fn send_file_now(&self, file: &impl AsFd, offset: &mut u64, end: u64) -> Result<bool, Error> {
        let count = usize::try_from(end - *offset).unwrap_or(usize::MAX);
        match transfer::send_file(self.socket, file, offset, count) {
            Ok(0) => Err(Error::with(Side::Disk, Kind::Truncated, "the file became shorter")),
            Ok(sent) => {
                self.moved(sent);
                Ok(true)
            }
            Err(error) if would_block(&error) => Ok(false),
            Err(error) if is_io_error(&error) => Err(Error::io(Side::Disk, &error)),
            Err(error) => Err(Error::io(Side::Client, &error)),
        }
    }

    /// Sends the bytes from `first` to `end` of a file, off the disk if need be. A file that ends
    /// before is an error of the disk's side: the client must see a broken transfer.
    pub async fn send_file<F: AsFd + Send + Sync + 'static>(
        &self,
        file: &Arc<Placed<F>>,
        first: u64,
        end: u64,
        heat: Heat,
    ) -> Result<(), Error> {
        if file.to().is_remote() {
            return self.send_elsewhere(file, first, end).await;
        }
        let mut offset = first;
        if heat == Heat::Warm {
            self.send_window(&**file, &mut offset, end).await?;
        }
        while offset < end {
            let mut windows = Windows::new(file, offset, end);
            loop {
                let window = windows.ready::<R>(offset, self.rate.stall_time).await?;
                if self.send_window(&**file, &mut offset, window).await? == Sent::Late || offset >= end {
                    break;
                }
                self.writable().await?;
            }
        }
        Ok(())
    }

    /// The same of a file on another machine: read by threads that may wait for it.
    async fn send_elsewhere<F: AsFd + Send + Sync + 'static>(
        &self,
        file: &Arc<Placed<F>>,
        first: u64,
        end: u64,
    ) -> Result<(), Error> {
        let mut at = first;
        while at < end {
            let theirs = Arc::clone(file);
            let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let read = move || readahead::piece(&*theirs, at, most);
            let piece = file.to().read_body::<R, _>(&blocking::READS, self.rate.stall_time, read).await;
            let piece = piece.map_err(|why| Error::with(Side::Disk, Kind::Io, why.as_str()))?;
            let piece = piece.map_err(|error| Error::with(Side::Disk, Kind::Io, error))?;
            self.send(&piece).await?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Sends bytes that are in memory, until the client has taken so long that they may have left it.
    async fn send_window(&self, file: &impl AsFd, offset: &mut u64, end: u64) -> Result<Sent, Error> {
        let mut turn_end = *offset + fairness::quantum();
        let mut since = None;
        while *offset < end {
            if *offset >= turn_end || !self.send_file_now(file, offset, end.min(turn_end))? {
                let since = *since.get_or_insert_with(Instant::now);
                self.writable().await?;
                fairness::yielded();
                turn_end = *offset + fairness::quantum();
                if since.elapsed() > FRESH {
                    return Ok(Sent::Late);
                }
            }
        }
        Ok(Sent::Whole)
    }

    /// Sends a body that ends with the connection, if it is framed `by_close`: until it is whole, a close must look
    /// different.
    pub async fn until_close(
        &self,
        by_close: bool,
        sending: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        if by_close {
            socket::reset_on_close(self.socket);
        }
        let sent = sending.await;
        if by_close && sent.is_ok() {
            socket::close_normally(self.socket);
        }
        sent
    }

    /// Waits until the client takes more.
    pub async fn writable(&self) -> Result<(), Error> {
        self.rate.wait::<R>(self.socket.writable(), || socket::untaken(self.socket)).await
    }

    /// Counts bytes sent.
    pub fn moved(&self, count: usize) {
        self.rate.moved(count);
    }
}
