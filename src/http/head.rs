//! What request heads and response heads have in common: where they end, their field lines, their framing.

use super::BadMessage;
use super::fields::Fields;
use super::message::{MOST_BYTES, Version};
use memchr::{memchr, memchr_iter, memchr3};

/// Where the head that begins at `start` ends, its empty line included; `None` when it is not all there.
///
/// `scanned` remembers across calls how far `buf` has been looked at, so each byte is searched once;
/// it is zero again when a head has been found.
pub(super) fn find_end(
    buf: &[u8],
    start: usize,
    most: usize,
    scanned: &mut usize,
) -> Result<Option<usize>, BadMessage> {
    let from = (*scanned).max(start).min(buf.len());
    for at in memchr_iter(b'\n', &buf[from..]) {
        let end = from + at + 1;
        let head = &buf[start..end];
        if !head.ends_with(b"\r\n") {
            return Err(BadMessage::BareLineFeed);
        }
        if head.len() > most {
            return Err(BadMessage::HeadTooLarge);
        }
        if head.ends_with(b"\r\n\r\n") {
            *scanned = 0;
            return Ok(Some(end));
        }
    }
    *scanned = buf.len();
    if buf.len() - start > most { Err(BadMessage::HeadTooLarge) } else { Ok(None) }
}

/// A complete head's first line without its CRLF, and the field lines after it.
pub(super) fn split_first_line(head: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    let (line, rest) = head.split_at(end);
    (line.strip_suffix(b"\r\n").unwrap_or(line), rest)
}

/// Reads the field lines `block`, at most `most` of them, up to and with the empty line that ends them.
pub(super) fn parse_fields(block: &[u8], most: usize) -> Result<Fields, BadMessage> {
    // Nearly every head fits the small array; only a larger one pays for the allocation.
    let mut few = [httparse::EMPTY_HEADER; 32];
    let room = few.len().min(most);
    match httparse::parse_headers(block, &mut few[..room]) {
        Err(httparse::Error::TooManyHeaders) if most > room => {
            let mut many = vec![httparse::EMPTY_HEADER; most];
            collect(block, httparse::parse_headers(block, &mut many))
        }
        read => collect(block, read),
    }
}

type Read<'h, 'b> = httparse::Result<(usize, &'h [httparse::Header<'b>])>;

fn collect(block: &[u8], read: Read<'_, '_>) -> Result<Fields, BadMessage> {
    match read {
        Ok(httparse::Status::Complete((_, headers))) => {
            let mut fields = Fields::with_capacity(headers.len(), block.len());
            headers.iter().for_each(|header| fields.push(header.name.as_bytes(), header.value));
            Ok(fields)
        }
        Err(httparse::Error::TooManyHeaders) => Err(BadMessage::TooManyFields),
        _ if is_folded(block) => Err(BadMessage::FoldedField),
        Err(httparse::Error::HeaderName) => Err(BadMessage::BadFieldName),
        Err(_) | Ok(httparse::Status::Partial) => Err(BadMessage::BadFieldValue),
    }
}

fn is_folded(block: &[u8]) -> bool {
    block.split(|&byte| byte == b'\n').any(|line| line.starts_with(b" ") || line.starts_with(b"\t"))
}

/// What the Transfer-Encoding fields of a message ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coding {
    Absent,
    /// Exactly one line that says `chunked` and nothing else.
    Chunked,
    /// A list that ends in its only `chunked`, with codings before it that are not known here.
    Unknown,
    /// Anything else: where such a body ends is unknown.
    Malformed,
}

/// Reads Transfer-Encoding (RFC 9112 section 6.1).
pub(super) fn transfer_coding(fields: &Fields) -> Coding {
    let is_chunked = |token: &[u8]| token.eq_ignore_ascii_case(b"chunked");
    if !fields.contains("transfer-encoding") {
        return Coding::Absent;
    }
    if fields.only("transfer-encoding").is_some_and(is_chunked) {
        return Coding::Chunked;
    }
    if fields.all("transfer-encoding").nth(1).is_some() {
        return Coding::Malformed;
    }
    let codings: Vec<&[u8]> = fields.tokens("transfer-encoding").collect();
    match codings.split_last() {
        Some((last, before)) if is_chunked(last) && !before.is_empty() => {
            if before.iter().any(|coding| is_chunked(coding)) { Coding::Malformed } else { Coding::Unknown }
        }
        _ => Coding::Malformed,
    }
}

/// The length, repeated or not, as long as it is always the same (RFC 9112 section 6.3).
pub(super) fn content_length(fields: &Fields) -> Result<Option<u64>, BadMessage> {
    let mut found = None;
    for value in fields.all("content-length").flat_map(|line| line.split(|&byte| byte == b',')) {
        let number = length(value.trim_ascii()).ok_or(BadMessage::BadLength)?;
        if *found.get_or_insert(number) != number {
            return Err(BadMessage::AmbiguousLength);
        }
    }
    Ok(found)
}

/// May the connection serve another message after this one (RFC 9112 section 9.3)?
pub(super) fn is_persistent(version: Version, fields: &Fields) -> bool {
    let says = |word: &[u8]| fields.tokens("connection").any(|token| token.eq_ignore_ascii_case(word));
    !says(b"close") && (version == Version::Http11 || says(b"keep-alive"))
}

/// `text` as a string if it is one or more decimal digits and nothing else: `parse` alone would accept a sign.
pub(super) fn digits(text: &[u8]) -> Option<&str> {
    let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| plain)
}

/// A number in decimal digits; the largest one for those that 64 bits do not hold.
pub(super) fn saturating(text: &[u8]) -> Option<u64> {
    digits(text).map(|number| number.parse().unwrap_or(u64::MAX))
}

/// A length in decimal digits that a file can have.
pub(super) fn length(text: &[u8]) -> Option<u64> {
    saturating(text).filter(|number| *number <= MOST_BYTES)
}

/// May `byte` be part of a field value or a reason phrase (RFC 9110 section 5.5)?
pub(crate) fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Appends `text` to `out` with CR, LF and NUL as spaces: no value can end its line.
pub(super) fn push_clean(out: &mut Vec<u8>, text: &[u8]) {
    if memchr3(b'\r', b'\n', 0, text).is_none() {
        out.extend_from_slice(text);
    } else {
        out.extend(text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { byte }));
    }
}

/// Appends a field line.
pub(super) fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    push_clean(out, name);
    out.extend_from_slice(b": ");
    push_clean(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Appends every field of `fields` as a line of its own.
pub(super) fn push_fields(out: &mut Vec<u8>, fields: &Fields) {
    for (name, value) in fields.iter() {
        push_field(out, name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_without_looking_twice() {
        let mut scanned = 0;
        assert_eq!(find_end(b"A: b\r\n", 0, 100, &mut scanned), Ok(None));
        assert_eq!(scanned, 6);
        assert_eq!(find_end(b"A: b\r\n\r", 0, 100, &mut scanned), Ok(None));
        assert_eq!(find_end(b"A: b\r\n\r\nrest", 0, 100, &mut scanned), Ok(Some(8)));
        assert_eq!(scanned, 0);
    }

    #[test]
    fn a_position_beyond_the_buffer_does_no_harm() {
        assert_eq!(find_end(b"ab", 0, 100, &mut 99), Ok(None));
    }

    #[test]
    fn bare_line_feeds_and_long_heads_are_faults() {
        for bare in [&b"\n"[..], b"A\n", b"A: b\r\n\n", b"A: b\n\n", b"A\r\n\r \n"] {
            assert_eq!(find_end(bare, 0, 100, &mut 0), Err(BadMessage::BareLineFeed), "{bare:?}");
        }
        assert_eq!(find_end(b"A: b\r\n\r\n", 0, 7, &mut 0), Err(BadMessage::HeadTooLarge));
        assert_eq!(find_end(b"A: b\r\n\r\n", 0, 8, &mut 0), Ok(Some(8)));
        assert_eq!(find_end(b"AAAA", 0, 3, &mut 0), Err(BadMessage::HeadTooLarge));
    }

    #[test]
    fn many_fields_are_read_up_to_the_limit() {
        let block = |count: usize| format!("{}\r\n", "A: b\r\n".repeat(count)).into_bytes();
        for count in [0, 1, 32, 33, 128] {
            assert_eq!(parse_fields(&block(count), 128).unwrap().len(), count);
        }
        assert_eq!(parse_fields(&block(129), 128).unwrap_err(), BadMessage::TooManyFields);
        assert_eq!(parse_fields(&block(5), 4).unwrap_err(), BadMessage::TooManyFields);
    }

    #[test]
    fn bad_field_lines() {
        for (line, fault) in [
            (&b"A : b"[..], BadMessage::BadFieldName),
            (b"A\t: b", BadMessage::BadFieldName),
            (b": b", BadMessage::BadFieldName),
            (b"A", BadMessage::BadFieldName),
            (b"A(: b", BadMessage::BadFieldName),
            (b"\x80: b", BadMessage::BadFieldName),
            (b" A: b", BadMessage::FoldedField),
            (b"A: b\r\n c", BadMessage::FoldedField),
            (b"A: b\r\n\tc", BadMessage::FoldedField),
            (b"A: b\0", BadMessage::BadFieldValue),
            (b"A: \x0bb", BadMessage::BadFieldValue),
            (b"A: b\x7f", BadMessage::BadFieldValue),
            (b"A: b\rc", BadMessage::BadFieldValue),
        ] {
            let block = [line, b"\r\n\r\n"].concat();
            assert_eq!(parse_fields(&block, 9).unwrap_err(), fault, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn values_are_trimmed_and_keep_high_bytes() {
        let fields = parse_fields(b"A:\t b \xe9 \t\r\nB:\r\n\r\n", 9).unwrap();
        assert_eq!((fields.get("a"), fields.get("b")), (Some(&b"b \xe9"[..]), Some(&b""[..])));
    }
}
