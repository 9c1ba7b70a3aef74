//! The chunked coding: one payload and one end however the bytes are cut, as a plain reading of the grammar has it.

use fs_caching_server::http::BadMessage;
use fs_caching_server::http::body::Incoming;
use fs_caching_server::http::chunked::{CHUNK_END, ChunkDecoder, LAST_CHUNK, Step, chunk_head};
use fs_caching_server::http::request::RequestBody;

use super::dice::Dice;
use super::{cuttings, words};

const WORDS: &[&str] = &[
    "0\r\n\r\n",
    "0\r\n",
    "\r\n",
    "3\r\nabc\r\n",
    "A\r\n0123456789\r\n",
    "0000000000000002\r\nab\r\n",
    "00000000000000002\r\n",
    "1;a=\"b;c\"\r\nx\r\n",
    "1 \t;\r\nx\r\n",
    "1 \r\n",
    "ffffffffffffffff\r\n",
    "X-Sum: 1\r\n",
    "B:\r\n",
    " folded\r\n",
    "\n",
    "\r",
    "\0",
    "GET / HTTP/1.1\r\n",
];

pub(crate) fn generate(dice: &mut Dice) -> Vec<u8> {
    if dice.one_in(3) {
        return words(dice, WORDS, 10);
    }
    let mut out = Vec::new();
    for _ in 0..dice.below(6) {
        let payload: Vec<u8> = (0..1 + dice.below(40)).map(|_| dice.byte()).collect();
        let extension = dice.pick(&["", "", ";x", " ;a=b", ";a=\"b\tc\""]);
        out.extend_from_slice(format!("{:x}{extension}\r\n", payload.len()).as_bytes());
        out.extend_from_slice(&payload);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(
        dice.pick(&["0\r\n\r\n", "0\r\nA: b\r\n\r\n", "000;x\r\nA:\r\nB: \tc\r\n\r\n"]).as_bytes(),
    );
    if dice.one_in(3) {
        dice.spoil(&mut out);
    }
    out.extend_from_slice(dice.pick(&["", "", "3\r\n", "GET /"]).as_bytes());
    out
}

pub(crate) fn check(data: &[u8]) -> bool {
    let whole = decoded(data, &[data.len().max(1)]);
    let ended = whole.as_ref().ok().filter(|(_, end)| end.is_some());
    assert_eq!(ended.map(|(payload, end)| (payload.clone(), end.unwrap())), plainly_read(data));
    for steps in cuttings(data) {
        assert_eq!(decoded(data, &steps), whole, "in steps of {steps:?}");
        taken_off(data, &steps, &whole);
    }
    encoded_and_decoded(data);
    ended.is_some()
}

/// The payload, and where the body ended if it did; or why it is none.
type Decoded = Result<(Vec<u8>, Option<usize>), BadMessage>;

fn decoded(data: &[u8], steps: &[usize]) -> Decoded {
    let mut decoder = ChunkDecoder::new();
    let (mut payload, mut from, mut to) = (Vec::new(), 0, 0);
    let mut steps = steps.iter().cycle();
    loop {
        match decoder.step(&data[from..to])? {
            Step::Data { skip, len } => {
                assert!(len > 0 && from + skip + len <= to, "a step beyond what is there");
                payload.extend_from_slice(&data[from + skip..][..len]);
                from += skip + len;
            }
            Step::End { consumed } => {
                assert!(from + consumed <= to, "an end beyond what is there");
                return Ok((payload, Some(from + consumed)));
            }
            Step::NeedMore { consumed } => {
                from += consumed;
                assert_eq!(from, to, "something is held back");
                if to == data.len() {
                    return Ok((payload, None));
                }
                to = data.len().min(to + steps.next().unwrap());
            }
        }
    }
}

/// The same by way of the buffers that bodies pass through.
fn taken_off(data: &[u8], steps: &[usize], whole: &Decoded) {
    let mut incoming = Incoming::from(RequestBody::Chunked);
    let (mut input, mut payload, mut fed) = (Vec::new(), Vec::new(), 0);
    for step in steps.iter().cycle() {
        let to = data.len().min(fed + step);
        input.extend_from_slice(&data[fed..to]);
        fed = to;
        if let Err(bad) = incoming.take(&mut input, &mut payload) {
            return assert_eq!(whole.as_ref(), Err(&bad));
        }
        if incoming.is_done() || fed == data.len() {
            break;
        }
        assert!(input.is_empty(), "something is held back");
    }
    let end = incoming.is_done().then(|| fed - input.len());
    assert_eq!(whole.as_ref(), Ok(&(payload, end)));
    assert_eq!(input, data[fed - input.len()..fed], "what follows the body has changed");
}

/// RFC 9112 section 7.1 with the whole text at hand: payload and length of a complete, valid body.
fn plainly_read(data: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut payload = Vec::new();
    let mut at = 0;
    loop {
        let size_line = line(&data[at..])?;
        at += size_line.len() + 2;
        let size = size_of(size_line)?;
        if size == 0 {
            break;
        }
        let end = at.checked_add(usize::try_from(size).ok()?)?;
        payload.extend_from_slice(data.get(at..end)?);
        at = data[end..].starts_with(b"\r\n").then_some(end + 2)?;
    }
    let mut trailers = 0;
    loop {
        let trailer = line(&data[at..])?;
        at += trailer.len() + 2;
        if trailer.is_empty() {
            return Some((payload, at));
        }
        trailers += trailer.len();
        let colon = trailer.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&trailer[..colon], &trailer[colon + 1..]);
        if name.is_empty()
            || !name.iter().all(|&byte| is_token(byte))
            || !is_text(value)
            || trailers > 16 * 1024
        {
            return None;
        }
    }
}

fn line(rest: &[u8]) -> Option<&[u8]> {
    let line = &rest[..rest.windows(2).position(|pair| pair == b"\r\n")?];
    (!line.contains(&b'\n')).then_some(line)
}

fn size_of(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, rest) = line.split_at(digits);
    let blanks = rest.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    let after = &rest[blanks..];
    let fits = match after.split_first() {
        None => blanks == 0,
        Some((b';', extension)) => is_text(extension) && blanks + extension.len() <= 4 * 1024,
        Some(_) => false,
    };
    let number = std::str::from_utf8(number).ok().filter(|number| fits && number.len() <= 16)?;
    u64::from_str_radix(number, 16).ok()
}

fn is_text(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte)
}

/// Any payload, in chunks of any size, comes back.
fn encoded_and_decoded(payload: &[u8]) {
    let steps = &cuttings(payload)[2];
    let (mut wire, mut rest) = (Vec::new(), payload);
    for step in steps.iter().cycle() {
        let (chunk, after) = rest.split_at(rest.len().min(*step));
        if chunk.is_empty() {
            break;
        }
        wire.extend_from_slice(chunk_head(chunk.len()).as_ref());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(CHUNK_END);
        rest = after;
    }
    wire.extend_from_slice(LAST_CHUNK);
    assert_eq!(decoded(&wire, &[wire.len()]), Ok((payload.to_vec(), Some(wire.len()))));
}
