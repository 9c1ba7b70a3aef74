//! The body of an origin's response, without its framing: with a proven end, or not.

use std::rc::Rc;

use super::{Connection, Upstream, bad_http};
use crate::error::{Error, Kind, Side};
use crate::fd_budget::Place;
use crate::http::body::Incoming;
use crate::http::request::Method;
use crate::http::response::{ResponseBody, ResponseHead};
use crate::rt::Runtime;
use crate::rt::budget::Permit;

/// Bytes read at a time of a body that is sent to its client only: they stay in memory while the client takes none.
pub const PACED: usize = 64 * 1024;

/// A body being read. Dropped before its end, it closes the connection.
pub struct OriginBody<R: Runtime> {
    upstream: Rc<Upstream<R>>,
    connection: Option<Connection<R>>,
    rest: Incoming,
    keep: bool,
    /// It is read in small pieces.
    paced: bool,
    /// The descriptors of the file that it may be stored in.
    naming: Option<Permit>,
}

impl<R: Runtime> OriginBody<R> {
    /// The body that follows `head` on `connection`. The connection serves another request after it if it is `reusable`,
    /// the origin having read all of this one before its response, and if no bytes can follow the body.
    pub fn new(
        upstream: &Rc<Upstream<R>>,
        mut connection: Connection<R>,
        head: &ResponseHead,
        method: &Method,
        reusable: bool,
    ) -> Result<Self, Error> {
        let framing = head.body(method).map_err(|bad| bad_http(bad.as_str()))?;
        let ends_surely = match framing {
            ResponseBody::None => head.is_surely_empty(method),
            ResponseBody::Length(_) | ResponseBody::Chunked => true,
            ResponseBody::UntilClose => false,
        };
        let keep = reusable && head.keep_alive() && ends_surely && !connection.doubtful;
        let rest = Incoming::from(framing);
        let naming = connection.place.as_mut().map(Place::naming);
        let mut body = Self {
            upstream: Rc::clone(upstream),
            connection: Some(connection),
            rest,
            keep,
            paced: false,
            naming,
        };
        body.release_at_end();
        Ok(body)
    }

    /// Reads the next piece into `piece`, replacing what it held; false at the proven end (or, for a
    /// body that ends with its connection, at that).
    pub async fn next(&mut self, piece: &mut Vec<u8>) -> Result<bool, Error> {
        piece.clear();
        while piece.is_empty()
            && !self.rest.is_done()
            && let Some(connection) = &mut self.connection
        {
            if connection.input.is_empty() {
                read_more(connection, &mut self.rest, piece, &self.upstream, self.paced).await?;
            }
            self.rest.take(&mut connection.input, piece).map_err(|_| bad_http("bad chunk"))?;
        }
        if self.paced {
            self.free_input();
        }
        self.release_at_end();
        if piece.is_empty() && !self.rest.is_done() {
            return Err(cut_short());
        }
        Ok(!piece.is_empty())
    }

    /// Closes the connection, and frees its place for another request. The rest of the body is lost.
    pub fn close(&mut self) {
        drop(self.connection.take());
    }

    /// The descriptors that were taken for the file that it is stored in.
    pub fn take_naming(&mut self) -> Option<Permit> {
        self.naming.take()
    }

    /// Marks it as sent to its client only, which may be slow. False if there are too many of these: then the request
    /// has to wait for its turn, and is sent again.
    pub fn try_pass(&mut self) -> bool {
        self.naming = None;
        let place = self.connection.as_mut().and_then(|connection| connection.place.as_mut());
        place.is_none_or(Place::try_pass)
    }

    /// The whole body, if it is known to have at most `most` bytes and they are all here. Waits for
    /// nothing, and takes nothing else.
    pub fn at_hand(&mut self, most: usize) -> Option<Vec<u8>> {
        if self.rest.is_done() {
            return Some(Vec::new());
        }
        let (Incoming::Length(left), Some(connection)) = (&self.rest, &mut self.connection) else {
            return None;
        };
        let left = usize::try_from(*left).ok().filter(|left| *left <= most)?;
        while connection.input.len() < left {
            let missing = left - connection.input.len();
            // An error shows again at the next read.
            if !matches!(connection.transport.try_read(&mut connection.input, missing), Ok(1..)) {
                return None;
            }
        }
        let after = connection.input.split_off(left);
        let body = std::mem::replace(&mut connection.input, after);
        self.rest.moved(left);
        self.release_at_end();
        Some(body)
    }

    /// Bytes of a body with a length that have not been taken yet; none of any other.
    pub fn left(&self) -> u64 {
        match self.rest {
            Incoming::Length(left) => left,
            Incoming::Done | Incoming::Chunked(_) | Incoming::UntilClose => 0,
        }
    }

    /// From now on it is read in small pieces, and holds no more than what is under way.
    pub fn pace(&mut self) {
        self.paced = true;
        self.free_input();
    }

    fn free_input(&mut self) {
        if let Some(connection) = self.connection.as_mut().filter(|connection| connection.input.is_empty()) {
            connection.input = Vec::new();
        }
    }

    /// Whether some of it has been received with its head.
    pub fn is_buffered(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.input.is_empty())
    }

    /// The socket and the bytes left, when they may be moved inside the kernel: plain TCP, a known
    /// length, nothing buffered.
    pub fn raw(&self) -> Option<(&R::Socket, u64)> {
        match (&self.rest, &self.connection) {
            (Incoming::Length(left), Some(connection)) if connection.input.is_empty() => {
                connection.transport.plain().map(|socket| (socket, *left))
            }
            _ => None,
        }
    }

    /// `count` bytes have been moved off the socket that [`Self::raw`] gave; none is the end of
    /// the stream, before that of the body.
    pub fn moved_raw(&mut self, count: usize) -> Result<(), Error> {
        if count == 0 {
            return Err(cut_short());
        }
        self.rest.moved(count);
        self.release_at_end();
        Ok(())
    }

    /// Waits for more to move.
    pub async fn readable(&self) -> Result<(), Error> {
        match &self.connection {
            Some(connection) => connection.transport.readable(self.upstream.limits().stall_time).await,
            None => Ok(()),
        }
    }

    /// At the end the connection becomes idle again, or is closed.
    fn release_at_end(&mut self) {
        if self.rest.is_done()
            && let Some(connection) = self.connection.take()
            && self.keep
        {
            self.upstream.give_back(connection);
        }
    }
}

/// Reads from the origin: unframed payload straight into `piece`, chunks into the connection's input.
async fn read_more<R: Runtime>(
    connection: &mut Connection<R>,
    rest: &mut Incoming,
    piece: &mut Vec<u8>,
    upstream: &Upstream<R>,
    paced: bool,
) -> Result<(), Error> {
    let unframed = rest.unframed();
    let read = connection.transport.read_size();
    let read = if paced { read.min(PACED) } else { read };
    let most = unframed.and_then(|left| usize::try_from(left).ok()).map_or(read, |left| left.min(read));
    let buffer = if unframed.is_some() { piece } else { &mut connection.input };
    match connection.transport.read(buffer, most, upstream.limits().stall_time).await {
        Ok(0) if matches!(rest, Incoming::UntilClose) => *rest = Incoming::Done,
        Ok(0) => return Err(cut_short()),
        Ok(read) => rest.moved(read),
        Err(error) if error.kind == Kind::Closed => return Err(cut_short()),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn cut_short() -> Error {
    Error::new(Side::Origin, Kind::Truncated)
}
