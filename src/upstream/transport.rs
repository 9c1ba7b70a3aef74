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

/// A connection's bytes. Reading and writing may go on at once, from one task.
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

    /// Reads up to `most` bytes of what is there, behind those in `buffer`.
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

    /// Reads what is there, or waits for it up to `limit`; 0 is a proper end of the stream.
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

    /// Waits for what cannot have come yet. Where bytes may have been read ahead it does not wait.
    pub async fn expect(&self) -> Result<(), Error> {
        match self {
            Self::Plain(socket) => socket.readable().await.map_err(|e| origin_error(&e)),
            #[cfg(feature = "tls")]
            Self::Tls(_) => Ok(()),
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

    /// Bytes worth asking for at a time: what a socket may hold, or a few TLS records.
    pub fn read_size(&self) -> usize {
        match self {
            Self::Plain(_) => 256 * 1024,
            #[cfg(feature = "tls")]
            Self::Tls(_) => 64 * 1024,
        }
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
            match timeout::<R, _>(stall.interval(), ready.as_mut()).await {
                Ok(ready) => return ready.map_err(|e| origin_error(&e)),
                Err(late) if stall.is_stalled(socket::untaken(self.socket())) => {
                    return Err(Error::timeout(Side::Origin)(late));
                }
                Err(_) => {}
            }
        }
    }

    /// Writes all of it; `limit` bounds the time without progress.
    pub async fn write_all(&self, mut bytes: &[u8], limit: Duration) -> Result<(), Error> {
        loop {
            let wrote = match self {
                Self::Plain(_) if bytes.is_empty() => return Ok(()),
                Self::Plain(plain) => socket::send(plain, bytes, false),
                #[cfg(feature = "tls")]
                Self::Tls(stream) if bytes.is_empty() && stream.is_flushed() => return Ok(()),
                #[cfg(feature = "tls")]
                Self::Tls(stream) => stream.try_write(bytes),
            };
            match wrote {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if would_block(&error) => self.writable(limit).await?,
                Err(error) => return Err(origin_error(&error)),
            }
        }
    }

    /// Has something come that nobody has read? With TLS it may be no payload.
    pub fn has_input(&self) -> bool {
        socket::peek(self.socket()).is_ok()
    }

    /// An idle connection is usable while nothing at all has come on it, not even its end.
    pub fn is_quiet(&self) -> bool {
        let read = match self {
            Self::Plain(plain) => socket::recv(plain, &mut [0; 1]),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.try_read(&mut [0; 1]),
        };
        matches!(read, Err(error) if would_block(&error))
    }
}

fn origin_error(error: &io::Error) -> Error {
    // rustls says so of records it cannot read.
    if error.kind() == io::ErrorKind::InvalidData {
        return Error::with(Side::Origin, Kind::Tls, error);
    }
    Error::io(Side::Origin, error)
}
