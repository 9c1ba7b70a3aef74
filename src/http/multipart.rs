//! Bodies of several ranges: multipart/byteranges (RFC 9110 section 14.6, RFC 2046 section 5.1).

use super::fields::Fields;
use super::head::{length, push_clean, push_field};
use super::range::Span;

/// What stands between the parts of a body, and how long all of it is.
#[derive(Debug)]
pub struct Multipart {
    boundary: String,
    parts: Vec<(Vec<u8>, Span)>,
    end: Vec<u8>,
    length: u64,
}

impl Multipart {
    /// A body with these `spans` of `size` bytes, whose media type is `kind` if that is known.
    /// `boundary` is a token of at most 70 bytes that no content may hold: a random one.
    ///
    /// The line end that belongs to a delimiter (RFC 2046 section 5.1.1) stands before the first one too: there are
    /// clients, zsync for one, that know none without it.
    pub fn new(spans: Vec<Span>, size: u64, kind: Option<&[u8]>, boundary: String) -> Self {
        let end = format!("\r\n--{boundary}--\r\n").into_bytes();
        let mut length = end.len() as u64;
        let mut parts = Vec::with_capacity(spans.len());
        for span in spans {
            let mut head = Vec::with_capacity(160);
            head.extend_from_slice(b"\r\n--");
            push_clean(&mut head, boundary.as_bytes());
            head.extend_from_slice(b"\r\n");
            if let Some(kind) = kind {
                push_field(&mut head, b"Content-Type", kind);
            }
            push_field(&mut head, b"Content-Range", content_range(span, Some(size)).as_bytes());
            head.extend_from_slice(b"\r\n");
            // Parts have no more bytes than the whole together, so this stays far from the end of the numbers.
            length = length.saturating_add(head.len() as u64).saturating_add(span.count());
            parts.push((head, span));
        }
        Self { boundary, parts, end, length }
    }

    /// The media type of the whole body.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// Bytes of the whole body.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What goes before each span's bytes, and the span.
    pub fn parts(&self) -> impl Iterator<Item = (&[u8], Span)> {
        self.parts.iter().map(|(head, span)| (head.as_slice(), *span))
    }

    /// What goes behind the last part.
    pub fn end(&self) -> &[u8] {
        &self.end
    }
}

/// Is the body of a response multipart/byteranges? Its own Content-Range, if it has one, does not describe the
/// parts (RFC 9110 section 15.3.7.2).
pub fn is_one(fields: &Fields) -> bool {
    const KIND: &[u8] = b"multipart/byteranges";
    fields
        .all("content-type")
        .any(|kind| kind.get(..KIND.len()).is_some_and(|it| it.eq_ignore_ascii_case(KIND)))
}

/// The value of Content-Range for `span` of `size` bytes; `*` while that is unknown (RFC 9110 section 14.4).
pub fn content_range(span: Span, size: Option<u64>) -> String {
    let size = size.map_or_else(|| "*".to_owned(), |size| size.to_string());
    format!("bytes {}-{}/{size}", span.first, span.end - 1)
}

/// First and last position and complete length of a valid Content-Range in bytes that has all three (RFC 9110
/// section 14.4). A length that no file can have is invalid.
pub fn read_content_range(value: &[u8]) -> Option<(Span, u64)> {
    let text = std::str::from_utf8(value).ok()?;
    let (unit, rest) = text.split_once(' ')?;
    let (range, size) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| length(text.as_bytes());
    let (first, last, size) = (number(first)?, number(last)?, number(size)?);
    let valid = unit.eq_ignore_ascii_case("bytes") && first <= last && last < size;
    valid.then(|| (Span { first, end: last + 1 }, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::MOST_BYTES;
    use proptest::prelude::*;

    const SPANS: [Span; 2] = [Span { first: 0, end: 3 }, Span { first: 7, end: 9 }];

    fn body(multipart: &Multipart, content: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (head, span) in multipart.parts() {
            body.extend_from_slice(head);
            let at = |offset: u64| usize::try_from(offset).unwrap();
            body.extend_from_slice(&content[at(span.first)..at(span.end)]);
        }
        body.extend_from_slice(multipart.end());
        body
    }

    #[test]
    fn rfc9110_14_6_a_body_of_parts() {
        let multipart = Multipart::new(SPANS.to_vec(), 10, Some(b"text/plain"), "B".to_owned());
        assert_eq!(multipart.content_type(), "multipart/byteranges; boundary=B");
        let body = body(&multipart, b"0123456789");
        let due = "\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-2/10\r\n\r\n012\r\n\
                   --B\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-8/10\r\n\r\n78\r\n--B--\r\n";
        assert_eq!(String::from_utf8(body).unwrap(), due);
        assert_eq!(multipart.length(), due.len() as u64);
    }

    #[test]
    fn a_type_that_is_not_known_is_not_told_and_none_adds_a_line() {
        let multipart = Multipart::new(SPANS.to_vec(), 10, None, "B".to_owned());
        assert!(!String::from_utf8(body(&multipart, &[0; 10])).unwrap().contains("Content-Type"));
        let multipart = Multipart::new(SPANS.to_vec(), 10, Some(b"a\r\nb"), "B".to_owned());
        assert!(String::from_utf8(body(&multipart, &[0; 10])).unwrap().contains("Content-Type: a  b\r\n"));
    }

    #[test]
    fn rfc9110_14_4_content_range() {
        assert_eq!(content_range(SPANS[1], Some(10)), "bytes 7-8/10");
        assert_eq!(content_range(SPANS[1], None), "bytes 7-8/*");
        assert_eq!(read_content_range(b"bytes 7-8/10"), Some((SPANS[1], 10)));
        assert_eq!(read_content_range(b"Bytes 7-8/10"), Some((SPANS[1], 10)));
        for bad in [
            "",
            "bytes",
            "bytes 7-8",
            "bytes */10",
            "bytes 7-8/*",
            "bytes 8-7/10",
            "bytes 7-10/10",
            "bytes=7-8/10",
            "items 7-8/10",
            "bytes +7-8/10",
            "bytes 7-8/10, bytes 1-2/10",
            "bytes  7-8/10",
            "bytes 7-8/99999999999999999999",
            "bytes 7-8/9223372036854775808",
        ] {
            assert_eq!(read_content_range(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_length_is_what_the_parts_add_up_to(
            spans in proptest::collection::vec((0..500u64, 1..500u64), 1..20),
            kind in proptest::option::of("[a-z/]{1,20}"),
        ) {
            let spans = spans.iter().map(|&(first, count)| Span { first, end: first + count }).collect();
            let multipart = Multipart::new(spans, 1_000, kind.as_ref().map(String::as_bytes), "x".repeat(32));
            prop_assert_eq!(body(&multipart, &[7; 1_000]).len() as u64, multipart.length());
        }

        #[test]
        fn what_is_written_reads_back(first in 0..MOST_BYTES - 2, count: u64, more: u64) {
            let end = first.saturating_add(count.max(1)).min(MOST_BYTES - 1);
            let (span, size) = (Span { first, end }, end.saturating_add(more).min(MOST_BYTES));
            prop_assert_eq!(read_content_range(content_range(span, Some(size)).as_bytes()), Some((span, size)));
        }

        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            read_content_range(&text);
        }
    }
}
