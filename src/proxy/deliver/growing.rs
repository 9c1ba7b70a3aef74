//! The body of a file that still grows, as far as a client wants it.

use std::cell::Cell;

use super::silent;
use crate::cache::fill::{Answer, Follower, Progress};
use crate::cache::growing_file::{GrowingBytes, GrowingFile};
use crate::downstream::client::Out;
use crate::downstream::readahead::{Heat, WINDOW};
use crate::error::{Error, Kind, Side};
use crate::http::chunked::{CHUNK_END, LAST_CHUNK, chunk_head};
use crate::http::conditional::Validators;
use crate::http::fields::Fields;
use crate::http::range::{self, Selection, Span};
use crate::http::request::Method;
use crate::proxy::exchange::Exchange;
use crate::proxy::fetch::range_bypass::{self, Direct};
use crate::rt::Runtime;
use crate::rt::remote_wake::Waiter;

/// Bytes that are copied at a time of a body in memory.
const COPY: u64 = 64 * 1024;

/// A client's place in it.
pub struct Growing<'a> {
    /// What is being stored.
    pub answer: &'a Answer,
    /// The place.
    pub follower: &'a Follower,
    /// Who waits there.
    pub waiter: &'a Waiter,
    /// The whole body, where that is in memory anyway; until the client has taken what it takes of it at once.
    pub at_hand: Cell<Vec<u8>>,
    /// Whether it is.
    pub is_at_hand: bool,
}

impl Growing<'_> {
    /// Its bytes, where the origin has said so.
    pub fn length(&self) -> Option<u64> {
        self.answer.length
    }

    /// What a range selects of a body whose length nobody has told, and that length if it is known by now.
    /// A range whose end is there, or `near`, needs no length; any other gets the whole.
    pub async fn select(
        &self,
        method: &Method,
        fields: &Fields,
        validators: &Validators<'_>,
        near: u64,
    ) -> (Selection, Option<u64>) {
        // A body sent whole keeps the framing that everybody else gets.
        let of_known = |size| {
            let selection = range::select(method, fields, size, validators);
            let needed = (selection != Selection::Whole).then_some(size);
            (selection, needed)
        };
        if let Some(size) = self.follower.size() {
            return of_known(size);
        }
        let Some((first, last)) = range::closed(method, fields, validators) else {
            return (Selection::Whole, None);
        };
        let mut seen = 0;
        loop {
            match self.follower.next(seen, self.waiter).await {
                Progress::Upto(stored) if stored > last => return (Selection::Part { first, last }, None),
                Progress::Upto(stored) if last - stored <= near => seen = stored,
                Progress::End(size) if self.follower.size() == Some(size) => return of_known(size),
                // What follows is kept for all who have not got it: the whole goes on from its beginning.
                Progress::Upto(_) | Progress::Piece(..) | Progress::End(_) | Progress::Broken(_) => {
                    return (Selection::Whole, None);
                }
            }
        }
    }

    /// A part that is far ahead, from the origin.
    pub async fn fetch_far<R: Runtime>(
        &self,
        exchange: &Exchange<'_, R>,
        out: &Out<'_, R>,
        span: Span,
    ) -> Option<Direct<R>> {
        // A range of a document is never far.
        if self.is_at_hand || self.answer.file.named().is_none() {
            return None;
        }
        range_bypass::fetch(exchange, out, self.answer, self.follower, self.waiter, span).await
    }

    /// Sends a head at once, and these bytes as they come.
    pub async fn send<R: Runtime>(&self, out: &Out<'_, R>, head: &[u8], span: Span) -> Result<(), Error> {
        let at_hand = self.at_hand.take();
        let sent = out.send_both_now(head, span.of(&at_hand))?;
        // What the client does not take at once it has from the file.
        drop(at_hand);
        out.send(&head[sent.min(head.len())..]).await?;
        let mut position = span.first + sent.saturating_sub(head.len()) as u64;
        while position < span.end {
            match self.follower.next(position, self.waiter).await {
                Progress::Upto(stored) => {
                    let to = stored.min(span.end);
                    self.send_file(out, position, to, stored).await?;
                    position = to;
                }
                Progress::Piece(bytes, skip) => {
                    let want = usize::try_from(span.end - position).unwrap_or(usize::MAX);
                    let bytes = &bytes[skip..][..want.min(bytes.len() - skip)];
                    out.send(bytes).await?;
                    position += bytes.len() as u64;
                }
                Progress::End(_) => return Err(Error::new(Side::Origin, Kind::Truncated)),
                Progress::Broken(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends the bytes from `first` to `end` of the file, which has `stored` bytes by now.
    async fn send_file<R: Runtime>(
        &self,
        out: &Out<'_, R>,
        first: u64,
        end: u64,
        stored: u64,
    ) -> Result<(), Error> {
        match &self.answer.file {
            GrowingFile::Named(file) => out.send_file(file, first, end, heat(first, stored)).await,
            GrowingFile::Nameless(aside) => silent::send_aside(out, aside, first, end).await,
            GrowingFile::Memory(bytes) => send_copies(out, bytes, first, end).await,
        }
    }

    /// Sends all of it, in chunks or as it is.
    pub async fn send_all<R: Runtime>(&self, out: &Out<'_, R>, chunked: bool) -> Result<(), Error> {
        let mut position = 0;
        loop {
            let progress = self.follower.next(position, self.waiter).await;
            let length = match &progress {
                Progress::Upto(stored) => stored - position,
                Progress::Piece(bytes, skip) => (bytes.len() - skip) as u64,
                Progress::End(_) if chunked => return out.send(LAST_CHUNK).await,
                Progress::End(_) => return Ok(()),
                Progress::Broken(error) => return Err(error.clone()),
            };
            if chunked {
                out.send_more(chunk_head(usize::try_from(length).unwrap_or(usize::MAX)).as_ref()).await?;
            }
            match progress {
                Progress::Upto(stored) => {
                    self.send_file(out, position, stored, stored).await?;
                }
                Progress::Piece(bytes, skip) => out.send(&bytes[skip..]).await?,
                Progress::End(_) | Progress::Broken(_) => {}
            }
            if chunked {
                out.send(CHUNK_END).await?;
            }
            position += length;
        }
    }
}

/// Sends the bytes from `first` to `end`, a piece at a time.
async fn send_copies<R: Runtime>(
    out: &Out<'_, R>,
    bytes: &GrowingBytes,
    first: u64,
    end: u64,
) -> Result<(), Error> {
    let mut at = first;
    while at < end {
        let piece = bytes.copy(at, (end - at).min(COPY));
        if piece.is_empty() {
            return Err(Error::new(Side::Proxy, Kind::Truncated));
        }
        out.send(&piece).await?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// What was just written is in memory; what a follower who is far behind asks for may be no more.
fn heat(position: u64, stored: u64) -> Heat {
    if stored - position <= WINDOW { Heat::Warm } else { Heat::Unknown }
}
