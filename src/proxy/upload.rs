//! A request's body on its way to the origin.

use crate::downstream::rate::Rate;
use crate::error::{Error, Kind, Side};
use crate::http::body::Incoming;
use crate::http::chunked::{CHUNK_END, LAST_CHUNK, chunk_head};
use crate::http::request::RequestBody;
use crate::rt::{Runtime, Socket, fairness};
use crate::sys::{socket, would_block};
use crate::upstream::transport::Transport;

/// Bytes taken from the client at a time.
const READ: usize = 64 * 1024;

/// How a request got to the origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// Before anything came back.
    First,
    /// Something came back before its last piece was sent.
    Overtaken,
}

/// Sends the body from the client's input and socket to the origin, in the framing it came in.
pub async fn run<R: Runtime>(
    body: RequestBody,
    input: &mut Vec<u8>,
    from: &R::Socket,
    to: &Transport<R>,
    rate: &Rate,
) -> Result<Sent, Error> {
    let stall_time = rate.stall_time;
    let mut sent = Sent::First;
    let mut rest = Incoming::from(body);
    let chunked = matches!(rest, Incoming::Chunked(_));
    let (mut piece, mut turn) = (Vec::new(), 0);
    while !rest.is_done() {
        if input.is_empty() {
            receive::<R>(from, input, &rest, rate).await?;
        }
        piece.clear();
        if chunked {
            // Room for the size line, written once the size is known.
            rest.take(input, &mut piece)
                .map_err(|bad| Error::with(Side::Client, Kind::Protocol, bad.as_str()))?;
            if !piece.is_empty() {
                to.write_all(chunk_head(piece.len()).as_ref(), stall_time).await?;
                piece.extend_from_slice(CHUNK_END);
            }
            if rest.is_done() {
                piece.extend_from_slice(LAST_CHUNK);
            }
        } else {
            rest.take(input, &mut piece)
                .map_err(|bad| Error::with(Side::Client, Kind::Protocol, bad.as_str()))?;
        }
        if rest.is_done() && to.has_input() {
            sent = Sent::Overtaken;
        }
        to.write_all(&piece, stall_time).await?;
        turn += piece.len() as u64;
        // Not behind the last piece: an answer that overtakes us there would find the request unsent.
        if turn >= fairness::quantum() && !rest.is_done() {
            turn = 0;
            R::yield_now().await;
            fairness::yielded();
        }
    }
    Ok(sent)
}

async fn receive<R: Runtime>(
    from: &R::Socket,
    input: &mut Vec<u8>,
    rest: &Incoming,
    rate: &Rate,
) -> Result<(), Error> {
    // Not a byte more than the body: what follows is the next request.
    let most =
        rest.unframed().and_then(|left| usize::try_from(left).ok()).map_or(READ, |left| left.min(READ));
    input.resize(most, 0);
    let read = loop {
        match socket::recv(from, input) {
            Err(error) if would_block(&error) => {
                // A byte that has come is one that can be read.
                rate.wait::<R>(from.readable(), || None).await?;
            }
            result => break result,
        }
    };
    input.truncate(*read.as_ref().unwrap_or(&0));
    match read {
        Ok(0) => Err(Error::new(Side::Client, Kind::Truncated)),
        Ok(count) => {
            rate.moved(count);
            Ok(())
        }
        Err(error) => Err(Error::io(Side::Client, &error)),
    }
}
