//! What request heads and response heads have in common: where they end, their field lines, their framing.

use super::fields::Fields;
use super::message::Version;
use memchr::{memchr, memchr_iter, memchr3};

/// What is wrong with a head of either kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A line feed without its carriage return.
    BareLineFeed,
    /// A head beyond its limit.
    HeadTooLarge,
    /// More fields than the limit.
    TooManyFields,
    /// A field name that is no token, or a blank between it and its colon.
    BadFieldName,
    /// A field that goes on on the next line.
    FoldedField,
    /// A control character in a field value.
    BadFieldValue,
}

impl Fault {
    /// A word for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareLineFeed => "bare-line-feed",
            Self::HeadTooLarge => "head-too-large",
            Self::TooManyFields => "too-many-fields",
            Self::BadFieldName => "bad-field-name",
            Self::FoldedField => "folded-field",
            Self::BadFieldValue => "bad-field-value",
        }
    }
}

/// Where the head that begins at `start` ends, its empty line included; `None` when it is not all there.
///
/// `scanned` remembers across calls how far `buf` has been looked at, so each byte is searched once;
/// it is zero again when a head has been found.
pub(super) fn find_end(
    buf: &[u8],
    start: usize,
    most: usize,
    scanned: &mut usize,
) -> Result<Option<usize>, Fault> {
    let from = (*scanned).max(start).min(buf.len());
    for at in memchr_iter(b'\n', &buf[from..]) {
        let end = from + at + 1;
        let head = &buf[start..end];
        if !head.ends_with(b"\r\n") {
            return Err(Fault::BareLineFeed);
        }
        if head.len() > most {
            return Err(Fault::HeadTooLarge);
        }
        if head.ends_with(b"\r\n\r\n") {
            *scanned = 0;
            return Ok(Some(end));
        }
    }
    *scanned = buf.len();
    if buf.len() - start > most { Err(Fault::HeadTooLarge) } else { Ok(None) }
}

/// A complete head's first line without its CRLF, and the field lines after it.
pub(super) fn split_first_line(head: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    let (line, rest) = head.split_at(end);
    (line.strip_suffix(b"\r\n").unwrap_or(line), rest)
}

/// Reads the field lines `block`, at most `most` of them, up to and with the empty line that ends them.
pub(super) fn parse_fields(block: &[u8], most: usize) -> Result<Fields, Fault> {
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

fn collect(block: &[u8], read: Read<'_, '_>) -> Result<Fields, Fault> {
    match read {
        Ok(httparse::Status::Complete((_, headers))) => {
            let mut fields = Fields::with_capacity(headers.len(), block.len());
            headers.iter().for_each(|header| fields.push(header.name.as_bytes(), header.value));
            Ok(fields)
        }
        Err(httparse::Error::TooManyHeaders) => Err(Fault::TooManyFields),
        _ if is_folded(block) => Err(Fault::FoldedField),
        Err(httparse::Error::HeaderName) => Err(Fault::BadFieldName),
        Err(_) | Ok(httparse::Status::Partial) => Err(Fault::BadFieldValue),
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
    /// Anything else: no telling where such a body ends.
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

/// May the connection serve another message after this one (RFC 9112 section 9.3)?
pub(super) fn is_persistent(version: Version, fields: &Fields) -> bool {
    let says = |word: &[u8]| fields.tokens("connection").any(|token| token.eq_ignore_ascii_case(word));
    !says(b"close") && (version == Version::Http11 || says(b"keep-alive"))
}

/// `text` as a string if it is one or more decimal digits and nothing else.
pub(super) fn digits(text: &[u8]) -> Option<&str> {
    let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| plain)
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
            assert_eq!(find_end(bare, 0, 100, &mut 0), Err(Fault::BareLineFeed), "{bare:?}");
        }
        assert_eq!(find_end(b"A: b\r\n\r\n", 0, 7, &mut 0), Err(Fault::HeadTooLarge));
        assert_eq!(find_end(b"A: b\r\n\r\n", 0, 8, &mut 0), Ok(Some(8)));
        assert_eq!(find_end(b"AAAA", 0, 3, &mut 0), Err(Fault::HeadTooLarge));
    }

    #[test]
    fn many_fields_are_read_up_to_the_limit() {
        let block = |count: usize| format!("{}\r\n", "A: b\r\n".repeat(count)).into_bytes();
        for count in [0, 1, 32, 33, 128] {
            assert_eq!(parse_fields(&block(count), 128).unwrap().len(), count);
        }
        assert_eq!(parse_fields(&block(129), 128).unwrap_err(), Fault::TooManyFields);
        assert_eq!(parse_fields(&block(5), 4).unwrap_err(), Fault::TooManyFields);
    }

    #[test]
    fn bad_field_lines() {
        for (line, fault) in [
            (&b"A : b"[..], Fault::BadFieldName),
            (b"A\t: b", Fault::BadFieldName),
            (b": b", Fault::BadFieldName),
            (b"A", Fault::BadFieldName),
            (b"A(: b", Fault::BadFieldName),
            (b"\x80: b", Fault::BadFieldName),
            (b" A: b", Fault::FoldedField),
            (b"A: b\r\n c", Fault::FoldedField),
            (b"A: b\r\n\tc", Fault::FoldedField),
            (b"A: b\0", Fault::BadFieldValue),
            (b"A: \x0bb", Fault::BadFieldValue),
            (b"A: b\x7f", Fault::BadFieldValue),
            (b"A: b\rc", Fault::BadFieldValue),
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
