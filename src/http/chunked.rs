//! The chunked transfer coding (RFC 9112 section 7.1), read as it arrives and written piece by piece.

use super::BadMessage;
use super::head::is_text_byte;
use super::message::{MOST_BYTES, is_token_byte};

/// Ends the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Ends a chunked body, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Bytes a size line may have after its digits.
const EXTENSION_LIMIT: usize = 4 * 1024;

/// Bytes all trailers of a body may have together.
const TRAILER_LIMIT: usize = 16 * 1024;

/// Hexadecimal digits of a size: 64 bits.
const SIZE_DIGITS: usize = 16;

/// The line that goes before `len` bytes of data: the size in hexadecimal and CRLF.
///
/// `len` must not be zero, which would end the body.
pub fn chunk_head(len: usize) -> impl AsRef<[u8]> {
    format!("{len:x}\r\n").into_bytes()
}

/// What the front of the input is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Payload: bytes `skip .. skip + len` of the input, part of a chunk or all of it. The caller takes
    /// `skip + len` bytes off the input.
    Data {
        /// Framing bytes before the payload.
        skip: usize,
        /// Payload bytes, at least one.
        len: usize,
    },
    /// All of the input was framing; more is needed.
    NeedMore {
        /// The length of the input.
        consumed: usize,
    },
    /// The last chunk and its trailers have been seen.
    End {
        /// Bytes that belong to the body; what follows is the next message.
        consumed: usize,
    },
}

/// Takes the chunked coding off a body, however the input is cut, and holds none of it back.
///
/// Extensions and trailers are checked and dropped.
#[derive(Clone, Default, Debug)]
pub struct ChunkDecoder {
    state: State,
    /// Digits read, or bytes of the current extension, or of all trailers.
    count: usize,
    /// Payload bytes of the current chunk that are still to be received.
    left: u64,
}

/// The byte that is expected next.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum State {
    #[default]
    Size,
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

impl ChunkDecoder {
    /// A decoder at the start of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes the front of `input`: the bytes received after those of the last step.
    ///
    /// # Errors
    /// What RFC 9112 section 7.1 does not allow, and extensions or trailers beyond their limits. There is no
    /// going on after an error.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, BadMessage> {
        for (at, &byte) in input.iter().enumerate() {
            if self.state == State::Data {
                return Ok(self.data(at, input.len() - at));
            }
            if self.state == State::Done {
                return Ok(Step::End { consumed: at });
            }
            self.state = self.framing(byte)?;
        }
        let consumed = input.len();
        Ok(if self.state == State::Done { Step::End { consumed } } else { Step::NeedMore { consumed } })
    }

    fn data(&mut self, skip: usize, there: usize) -> Step {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(there);
        self.left -= len as u64;
        if self.left == 0 {
            self.state = State::DataCr;
        }
        Step::Data { skip, len }
    }

    /// The state after the framing byte `byte`.
    fn framing(&mut self, byte: u8) -> Result<State, BadMessage> {
        let next = match (self.state, byte) {
            (State::Size, _) => self.size(byte)?,
            (State::Blank, b' ' | b'\t') => State::Blank,
            (State::Blank, b';') => State::Extension,
            (State::Blank, _) => return Err(BadMessage::ChunkSize),
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) if is_text_byte(byte) => State::Extension,
            (State::Extension, _) => return Err(BadMessage::ChunkExtension),
            (State::SizeLf, b'\n') => self.after_size(),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::LastLf, b'\n') => State::Done,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => State::TrailerName,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_text_byte(byte) => State::TrailerValue,
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => {
                return Err(BadMessage::Trailer);
            }
            _ => return Err(BadMessage::ChunkEnd),
        };
        self.count(next)?;
        Ok(next)
    }

    /// Counts a byte of a size, of an extension or of a trailer against its limit.
    fn count(&mut self, next: State) -> Result<(), BadMessage> {
        let (most, fault) = match next {
            State::Size => (SIZE_DIGITS, BadMessage::ChunkSize),
            State::Blank | State::Extension => (EXTENSION_LIMIT, BadMessage::ChunkExtension),
            State::TrailerName | State::TrailerValue => (TRAILER_LIMIT, BadMessage::Trailer),
            State::SizeLf | State::Data | State::DataCr | State::DataLf => return Ok(()),
            State::TrailerStart | State::TrailerLf | State::LastLf | State::Done => return Ok(()),
        };
        // The byte that begins a size or an extension is none of it.
        self.count += usize::from(next == self.state || fault == BadMessage::Trailer);
        if self.count > most { Err(fault) } else { Ok(()) }
    }

    fn size(&mut self, byte: u8) -> Result<State, BadMessage> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            self.left = (self.left << 4) | u64::from(digit);
            return Ok(State::Size);
        }
        if self.count == 0 || self.left > MOST_BYTES {
            return Err(BadMessage::ChunkSize);
        }
        self.count = 0;
        match byte {
            b'\r' => Ok(State::SizeLf),
            b';' => Ok(State::Extension),
            b' ' | b'\t' => Ok(State::Blank),
            _ => Err(BadMessage::ChunkSize),
        }
    }

    /// What follows a complete size line.
    fn after_size(&mut self) -> State {
        self.count = 0;
        if self.left == 0 { State::TrailerStart } else { State::Data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes `wire` handed over in pieces of the given sizes; the payload and the bytes used, once it ends.
    fn decode(wire: &[u8], pieces: &[usize]) -> Result<Option<(Vec<u8>, usize)>, BadMessage> {
        let mut decoder = ChunkDecoder::new();
        let mut payload = Vec::new();
        let (mut from, mut to) = (0, 0);
        let mut sizes = pieces.iter().copied().cycle();
        loop {
            match decoder.step(&wire[from..to])? {
                Step::Data { skip, len } => {
                    assert!(len > 0);
                    payload.extend_from_slice(&wire[from + skip..from + skip + len]);
                    from += skip + len;
                }
                Step::End { consumed } => return Ok(Some((payload, from + consumed))),
                Step::NeedMore { consumed } => {
                    from += consumed;
                    assert_eq!(from, to);
                    if to == wire.len() {
                        return Ok(None);
                    }
                    to = wire.len().min(to + sizes.next().unwrap_or(1).max(1));
                }
            }
        }
    }

    #[test]
    fn rfc9112_7_1_legal_bodies() {
        for (wire, payload) in [
            (&b"0\r\n\r\n"[..], &b""[..]),
            (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
            (b"A\r\n0123456789\r\n1\r\n!\r\n000\r\n\r\n", b"0123456789!"),
            (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
            (b"0000000000000003\r\nabc\r\n0\r\n\r\n", b"abc"),
            (b"3;name=value\r\nabc\r\n0;x=\"y;z\"\r\n\r\n", b"abc"),
            (b"3 \t;name\r\nabc\r\n0\r\n\r\n", b"abc"),
            (b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nB:\r\n\r\n", b"abc"),
        ] {
            let glued = [wire, b"GET /"].concat();
            for piece in [1, 2, 3, 100] {
                let (found, used) = decode(&glued, &[piece]).unwrap().unwrap();
                assert_eq!((&found[..], used), (payload, wire.len()), "{}", wire.escape_ascii());
            }
            assert_eq!(decode(&wire[..wire.len() - 1], &[7]), Ok(None));
        }
    }

    #[test]
    fn rfc9112_7_1_what_is_refused() {
        for (wire, fault) in [
            (&b"\r\n"[..], BadMessage::ChunkSize),
            (b"3\r\nabc\r\n\r\n\r\n", BadMessage::ChunkSize),
            (b"-3\r\nabc\r\n", BadMessage::ChunkSize),
            (b"+3\r\nabc\r\n", BadMessage::ChunkSize),
            (b"0x3\r\nabc\r\n", BadMessage::ChunkSize),
            (b" 3\r\nabc\r\n", BadMessage::ChunkSize),
            (b"3 \r\nabc\r\n", BadMessage::ChunkSize),
            (b"3 3\r\nabc\r\n", BadMessage::ChunkSize),
            (b";x\r\n", BadMessage::ChunkSize),
            (b"g\r\n", BadMessage::ChunkSize),
            (b"00000000000000003\r\nabc\r\n", BadMessage::ChunkSize),
            (b"10000000000000000\r\n", BadMessage::ChunkSize),
            (b"3\nabc\r\n", BadMessage::ChunkSize),
            (b"3;x\nabc\r\n", BadMessage::ChunkExtension),
            (b"3;\0\r\nabc\r\n", BadMessage::ChunkExtension),
            (b"3\rabc\r\n", BadMessage::ChunkEnd),
            (b"3\r\nabcd\r\n", BadMessage::ChunkEnd),
            (b"3\r\nabc0\r\n", BadMessage::ChunkEnd),
            (b"3\r\nabc\n0\r\n\r\n", BadMessage::ChunkEnd),
            (b"0\r\n\n", BadMessage::Trailer),
            (b"0\r\nGET / HTTP/1.1\r\n\r\n", BadMessage::Trailer),
            (b"0\r\nA: b\n\r\n", BadMessage::Trailer),
            (b"0\r\n: b\r\n\r\n", BadMessage::Trailer),
            (b"0\r\nA: b\r\n c\r\n\r\n", BadMessage::Trailer),
            (b"0\r\n\rX", BadMessage::ChunkEnd),
        ] {
            for piece in [1, 100] {
                assert_eq!(decode(wire, &[piece]), Err(fault), "{}", wire.escape_ascii());
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extension = |len: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(len)).into_bytes();
        assert!(decode(&extension(4096), &[999]).unwrap().is_some());
        assert_eq!(decode(&extension(4097), &[999]), Err(BadMessage::ChunkExtension));
        let trailers = |count: usize| format!("0\r\n{}\r\n", "A:234567\r\n".repeat(count)).into_bytes();
        assert!(decode(&trailers(2048), &[999]).unwrap().is_some());
        assert_eq!(decode(&trailers(2049), &[999]), Err(BadMessage::Trailer));
    }

    #[test]
    fn a_huge_chunk_is_handed_over_as_it_comes() {
        let mut decoder = ChunkDecoder::new();
        assert_eq!(decoder.step(b"7fffffffffffffff\r\nab"), Ok(Step::Data { skip: 18, len: 2 }));
        assert_eq!(decoder.step(b""), Ok(Step::NeedMore { consumed: 0 }));
        assert_eq!(decoder.step(b"cde"), Ok(Step::Data { skip: 0, len: 3 }));
        assert_eq!(ChunkDecoder::new().step(b"8000000000000000\r\nab"), Err(BadMessage::ChunkSize));
    }

    #[test]
    fn the_end_stays_the_end() {
        let mut decoder = ChunkDecoder::new();
        assert_eq!(decoder.step(b"0\r\n\r\n"), Ok(Step::End { consumed: 5 }));
        assert_eq!(decoder.step(b"GET"), Ok(Step::End { consumed: 0 }));
    }

    #[test]
    fn heads_of_chunks() {
        for (len, head) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65_536, "10000\r\n")] {
            assert_eq!(chunk_head(len).as_ref(), head.as_bytes());
        }
        assert_eq!(chunk_head(usize::MAX).as_ref().len(), usize::MAX.to_string().len().min(16) + 2);
    }

    fn encode(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut wire = Vec::new();
        for chunk in chunks {
            wire.extend_from_slice(chunk_head(chunk.len()).as_ref());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(CHUNK_END);
        }
        wire.extend_from_slice(LAST_CHUNK);
        wire
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_however_it_is_cut(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            pieces in proptest::collection::vec(1..20usize, 1..10),
        ) {
            let wire = encode(&chunks);
            prop_assert_eq!(decode(&wire, &pieces), Ok(Some((chunks.concat(), wire.len()))));
        }

        #[test]
        fn any_bytes_mean_the_same_however_they_are_cut(
            wire in proptest::collection::vec(proptest::sample::select(&b"0123afG;: \t\r\n\r\n\r\n"[..]), 0..60),
            pieces in proptest::collection::vec(1..9usize, 1..5),
        ) {
            prop_assert_eq!(decode(&wire, &pieces), decode(&wire, &[wire.len()]));
        }
    }
}
