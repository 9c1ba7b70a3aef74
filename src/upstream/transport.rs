//! What the bytes to and from the origin go over: TCP, or TLS over TCP.

use std::io;
use std::pin::pin;
use std::time::Duration;

use crate::error::{Error, Kind, Side};
use crate::rt::stall::StallDetector;
use crate::rt::{Runtime, Socket, timeout};
use crate::sys::{socket, would_block};

#[cfg(feature = "tls")]
use super::tls::TlsStream;

/// Bytes asked for at a time of plain TCP: what a socket may hold.
const PLAIN_READ: usize = 256 * 1024;
/// The same of TLS: a few records.
const TLS_READ: usize = 64 * 1024;

/// A connection's bytes. One task may read and write at the same time.
pub enum Transport<R: Runtime> {
    /// Plain TCP.
    Plain(R::Socket),
    /// TLS.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<R>>),
}

impl<R: Runtime> Transport<R> {
    /// The socket under it.
    pub fn socket(&self) -> &R::Socket {
        match self {
            Self::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.socket(),
        }
    }

    /// The socket, where its bytes are the message's own and may move inside the kernel.
    pub fn plain(&self) -> Option<&R::Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            #[cfg(feature = "tls")]
            Self::Tls(_) => None,
        }
    }

    /// Appends up to `most` received bytes to `buffer`.
    pub fn try_read(&self, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => socket::recv_more(plain, buffer, most),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                let had = buffer.len();
                buffer.resize(had + most, 0);
                let read = stream.try_read(&mut buffer[had..]);
                buffer.truncate(had + *read.as_ref().unwrap_or(&0));
                read
            }
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => socket::send(plain, bytes, false),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.try_write(bytes),
        }
    }

    /// Whether nothing written waits for the socket.
    fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.is_flushed(),
        }
    }

    /// Reads received bytes, or waits for some up to `limit`; 0 is a proper end of the stream.
    pub async fn read(&self, buffer: &mut Vec<u8>, most: usize, limit: Duration) -> Result<usize, Error> {
        // The timer is set only when there is something to wait for.
        match self.try_read(buffer, most) {
            Err(error) if would_block(&error) => {
                let reading = timeout::<R, _>(limit, self.read_unbounded(buffer, most));
                reading.await.map_err(Error::timeout(Side::Origin))?
            }
            result => result.map_err(|e| origin_error(&e)),
        }
    }

    /// Waits for bytes that cannot have been received yet. TLS may have read ahead, and does not wait.
    pub async fn expect(&self) -> Result<(), Error> {
        match self.plain() {
            Some(socket) => socket.readable().await.map_err(|e| origin_error(&e)),
            None => Ok(()),
        }
    }

    /// [`Self::read`] without a limit; the caller bounds its time.
    pub async fn read_unbounded(&self, buffer: &mut Vec<u8>, most: usize) -> Result<usize, Error> {
        loop {
            match self.try_read(buffer, most) {
                Err(error) if would_block(&error) => {
                    self.socket().readable().await.map_err(|e| origin_error(&e))?;
                }
                result => return result.map_err(|e| origin_error(&e)),
            }
        }
    }

    /// Bytes worth asking for at a time.
    pub fn read_size(&self) -> usize {
        self.plain().map_or(TLS_READ, |_| PLAIN_READ)
    }

    /// Waits until a read may succeed.
    pub async fn readable(&self, limit: Duration) -> Result<(), Error> {
        let ready = timeout::<R, _>(limit, self.socket().readable()).await;
        ready.map_err(Error::timeout(Side::Origin))?.map_err(|e| origin_error(&e))
    }

    async fn writable(&self, limit: Duration) -> Result<(), Error> {
        let mut ready = pin!(self.socket().writable());
        let mut stall = StallDetector::new(limit);
        loop {
            let waited = stall.wait::<R, _>(ready.as_mut(), || socket::untaken(self.socket())).await;
            if let Some(ready) = waited.map_err(Error::timeout(Side::Origin))? {
                return ready.map_err(|e| origin_error(&e));
            }
        }
    }

    /// Writes all of it; `limit` bounds the time without progress.
    pub async fn write_all(&self, mut bytes: &[u8], limit: Duration) -> Result<(), Error> {
        while !bytes.is_empty() || !self.is_flushed() {
            match self.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if would_block(&error) => self.writable(limit).await?,
                Err(error) => return Err(origin_error(&error)),
            }
        }
        Ok(())
    }

    /// Whether received bytes have not been read. With TLS they may be no payload.
    pub fn has_input(&self) -> bool {
        socket::peek(self.socket()).is_ok()
    }

    /// An idle connection is usable while nothing at all has been received on it, not even its end.
    pub fn is_quiet(&self) -> bool {
        matches!(self.try_read(&mut Vec::new(), 1), Err(error) if would_block(&error))
    }
}

fn origin_error(error: &io::Error) -> Error {
    // rustls says so of records it cannot read.
    if error.kind() == io::ErrorKind::InvalidData {
        return Error::with(Side::Origin, Kind::Tls, error);
    }
    Error::io(Side::Origin, error)
}
