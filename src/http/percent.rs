//! Percent-encoding (RFC 3986 section 2.1).

use memchr::memchr;

/// Replaces each `%XX` by its byte; `None` where a `%` lacks its two digits.
pub fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr(b'%', rest) {
        let (digits, tail) = rest[at + 1..].split_first_chunk::<2>()?;
        out.extend_from_slice(&rest[..at]);
        out.push(hex(digits[0])? << 4 | hex(digits[1])?);
        rest = tail;
    }
    out.extend_from_slice(rest);
    Some(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
