//! Removes the framing of a message body and finds its end (RFC 9112 section 6).

use super::BadMessage;
use super::chunked::{ChunkDecoder, Step};
use super::request::RequestBody;
use super::response::ResponseBody;

/// A body that is being received.
#[derive(Debug)]
pub enum Incoming {
    /// This many bytes are still to be received; never 0.
    Length(u64),
    /// Chunks.
    Chunked(ChunkDecoder),
    /// Everything until the connection closes.
    UntilClose,
    /// All of it has been received.
    Done,
}

impl From<ResponseBody> for Incoming {
    fn from(body: ResponseBody) -> Self {
        match body {
            ResponseBody::None | ResponseBody::Length(0) => Self::Done,
            ResponseBody::Length(length) => Self::Length(length),
            ResponseBody::Chunked => Self::Chunked(ChunkDecoder::new()),
            ResponseBody::UntilClose => Self::UntilClose,
        }
    }
}

impl From<RequestBody> for Incoming {
    fn from(body: RequestBody) -> Self {
        match body {
            RequestBody::None | RequestBody::Length(0) => Self::Done,
            RequestBody::Length(length) => Self::Length(length),
            RequestBody::Chunked => Self::Chunked(ChunkDecoder::new()),
        }
    }
}

impl Incoming {
    /// Has all of it been received?
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// The most bytes left of a body whose bytes are all payload, so that they need no decoding.
    pub fn unframed(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::UntilClose => Some(u64::MAX),
            Self::Chunked(_) | Self::Done => None,
        }
    }

    /// `count` bytes of an unframed body have been taken.
    pub fn moved(&mut self, count: usize) {
        if let Self::Length(left) = self {
            *left = left.saturating_sub(count as u64);
            if *left == 0 {
                *self = Self::Done;
            }
        }
    }

    /// Moves the payload received so far from the front of `input` to the end of `piece`.
    pub fn take(&mut self, input: &mut Vec<u8>, piece: &mut Vec<u8>) -> Result<(), BadMessage> {
        match self {
            Self::Length(left) => {
                let count = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                piece.extend(input.drain(..count));
                self.moved(count);
            }
            Self::Chunked(decoder) => {
                let (used, ended) = take_chunks(decoder, input, piece)?;
                input.drain(..used);
                if ended {
                    *self = Self::Done;
                }
            }
            Self::UntilClose => piece.append(input),
            Self::Done => {}
        }
        Ok(())
    }
}

/// Bytes of `input` used, and whether the last chunk was among them.
fn take_chunks(
    decoder: &mut ChunkDecoder,
    input: &[u8],
    piece: &mut Vec<u8>,
) -> Result<(usize, bool), BadMessage> {
    let mut used = 0;
    loop {
        match decoder.step(&input[used..])? {
            Step::Data { skip, len } => {
                piece.extend_from_slice(&input[used + skip..used + skip + len]);
                used += skip + len;
            }
            Step::NeedMore { consumed } => return Ok((used + consumed, false)),
            Step::End { consumed } => return Ok((used + consumed, true)),
        }
    }
}
