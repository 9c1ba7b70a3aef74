//! Identifies the bytes that a response transfers, and whether a later response continues the same ones (RFC 9110
//! sections 8.8, 13.1.5 and 14.4).
//!
//! Two parts may be put together only if a strong validator says that they are of one representation. A strong
//! entity tag is one. Last-Modified is one only where there is no tag at all, together with the length, and only
//! where the response is so much younger than it that the file cannot have changed twice within that second.

use super::date;
use super::fields::Fields;
use super::multipart;
use super::range::Span;
use super::request::Method;
use super::response::{ResponseBody, ResponseHead, is_origin_failure};

/// A response must be this many seconds younger than its Last-Modified: more than two clocks usually differ by (RFC
/// 9110 section 8.8.2.2 requires one second).
const SETTLED: u64 = 60;

/// What proves that another response transfers the same bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The entity tag as it stands in its field. A weak one proves nothing, nor does a date beside it (RFC
    /// 9110 section 13.1.5).
    pub etag: Option<Vec<u8>>,
    /// Last-Modified as received. The validator where there is no tag; else only sent to clients.
    pub modified: Option<Vec<u8>>,
    /// Length of the whole representation, where it is known.
    pub length: Option<u64>,
    /// Content-Encoding as received, empty for none.
    pub coding: Vec<u8>,
    /// The target of redirects: a validator belongs to one resource. `None` for the requested resource itself.
    pub source: Option<Vec<u8>>,
}

/// What the response to a request for the rest is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Continuation {
    /// The same bytes: its body begins at `first`, and the whole has `total` bytes, where that is known.
    From {
        /// Offset of the body's first byte.
        first: u64,
        /// Bytes of the whole.
        total: Option<u64>,
    },
    /// The origin fails for now.
    Later,
    /// Other bytes, or none, or no proof of either.
    Other,
}

impl Identity {
    /// That of a 200. `now` (seconds since 1970) counts as its Date where it has none. `None` if nothing
    /// in it would prove another response to be about the same bytes.
    pub fn of(answer: &ResponseHead, now: u64) -> Option<Self> {
        let fields = &answer.fields;
        if fields.all("etag").count() > 1 {
            return None;
        }
        let modified = fields.only("last-modified").filter(|date| !date.is_empty());
        let date = fields.get("date").and_then(date::parse).unwrap_or(now);
        let settled =
            modified.and_then(date::parse).is_some_and(|changed| changed.saturating_add(SETTLED) <= date);
        let found = Self {
            etag: fields.get("etag").map(<[u8]>::to_vec),
            modified: modified.map(<[u8]>::to_vec),
            length: framed_length(answer)?,
            coding: coding(fields),
            source: source(answer).map(<[u8]>::to_vec),
        };
        (found.strong_tag().is_some() || (settled && found.is_proof())).then_some(found)
    }

    /// Does it have what [`Self::of`] requires, as far as it can still be seen?
    pub fn is_proof(&self) -> bool {
        let dated = self.modified.as_deref().and_then(date::parse).is_some();
        self.strong_tag().is_some() || (self.etag.is_none() && dated && self.length.is_some())
    }

    fn strong_tag(&self) -> Option<&[u8]> {
        self.etag.as_deref().filter(|tag| is_strong(tag))
    }

    /// The value of If-Range.
    pub fn condition(&self) -> &[u8] {
        self.strong_tag().or(self.modified.as_deref()).unwrap_or_default()
    }

    /// The first byte to request when `stored` bytes are stored. When these are all, or may be, it is the last one:
    /// no range begins behind the end.
    pub fn ask_from(&self, stored: u64) -> u64 {
        match self.length {
            Some(length) if stored < length => stored,
            Some(_) | None => stored.saturating_sub(1),
        }
    }

    /// What the response to a request for the bytes from `asked` on is.
    ///
    /// A 206 must give exactly these, to the end of a whole of the same length. A 200 is of an origin that
    /// knows no ranges; its body is the same from the beginning if its validator is.
    pub fn continues(&self, answer: &ResponseHead, asked: u64) -> Continuation {
        let (Some(length), 200 | 206) = (framed_length(answer), answer.status) else {
            let fails = is_origin_failure(answer.status);
            return if fails { Continuation::Later } else { Continuation::Other };
        };
        let begins = if answer.status == 206 {
            rest_of(&answer.fields)
                .filter(|(span, _)| span.first == asked && length.is_none_or(|length| length == span.count()))
                .map(|(span, total)| (span.first, Some(total)))
        } else {
            (self.strong_tag().is_some() || length.is_some()).then_some((0, length.or(self.length)))
        };
        match begins {
            Some((first, total))
                if (self.length.is_none() || total == self.length)
                    && self.source.as_deref() == source(answer)
                    && self.is_same(&answer.fields) =>
            {
                Continuation::From { first, total }
            }
            _ => Continuation::Other,
        }
    }

    fn is_same(&self, fields: &Fields) -> bool {
        let same_date = || {
            let changed = fields.only("last-modified").and_then(date::parse);
            changed.is_some() && changed == self.modified.as_deref().and_then(date::parse)
        };
        let same_tag = fields.all("etag").eq(self.etag.as_deref());
        same_tag
            && (self.strong_tag().is_some() || same_date())
            && coding(fields).eq_ignore_ascii_case(&self.coding)
    }
}

/// The length of a body whose end is certain; `Some(None)` for one in chunks.
fn framed_length(answer: &ResponseHead) -> Option<Option<u64>> {
    match answer.body(&Method::Get) {
        Ok(ResponseBody::Length(length)) => Some(Some(length)),
        Ok(ResponseBody::Chunked) => Some(None),
        Ok(ResponseBody::None | ResponseBody::UntilClose) | Err(_) => None,
    }
}

fn source(answer: &ResponseHead) -> Option<&[u8]> {
    answer.source.as_ref().map(|source| source.as_bytes())
}

/// The bytes of a 206 that has one part, to the end of the whole, and the length of the whole.
fn rest_of(fields: &Fields) -> Option<(Span, u64)> {
    let range = fields.only("content-range").filter(|_| !multipart::is_one(fields))?;
    multipart::read_content_range(range).filter(|(span, size)| span.end == *size)
}

/// A quoted tag without the mark of a weak one (RFC 9110 section 8.8.3).
fn is_strong(tag: &[u8]) -> bool {
    let quoted = tag.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    quoted.is_some_and(|opaque| !opaque.contains(&b'"'))
}

/// Words that stand in Content-Encoding and name no coding of the body: MIME's transfer encodings, a charset, and
/// the framing of an upload to S3, which some stores send although they have removed it.
const NO_CODINGS: [&[u8]; 7] = [b"identity", b"none", b"binary", b"8bit", b"7bit", b"utf-8", b"aws-chunked"];

/// The codings of a body, in the order in which they were applied (RFC 9110 section 8.4).
pub fn codings(fields: &Fields) -> impl Iterator<Item = &[u8]> {
    let is_one = |word: &&[u8]| !NO_CODINGS.iter().any(|none| word.eq_ignore_ascii_case(none));
    fields.tokens("content-encoding").filter(is_one)
}

/// The same as one value, empty for none.
pub fn coding(fields: &Fields) -> Vec<u8> {
    codings(fields).collect::<Vec<_>>().join(&b',').to_vec()
}

/// Leaves in Content-Encoding only what is a coding: a client that knows no `aws-chunked` cannot read a body
/// that is said to be coded so.
pub fn drop_no_codings(fields: &mut Fields) {
    if !fields.contains("content-encoding") {
        return;
    }
    let coding = codings(fields).collect::<Vec<_>>().join(&b", "[..]);
    fields.remove("content-encoding");
    if !coding.is_empty() {
        fields.push(b"Content-Encoding", &coding);
    }
}

#[cfg(test)]
mod tests {
    use super::Continuation::{From, Later, Other};
    use super::*;
    use crate::http::request::HeadLimits;
    use crate::http::response;

    const CHANGED: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    const NOW: u64 = 1_431_808_299;

    fn head(status: u16, lines: &str) -> ResponseHead {
        let text = format!("HTTP/1.1 {status} x\r\n{lines}\r\n");
        response::parse(text.as_bytes(), &HeadLimits::default(), &mut 0).unwrap().unwrap().0
    }

    #[test]
    fn rfc9110_8_8_what_makes_a_strong_validator() {
        let usable = |lines: &str| {
            let found = Identity::of(&head(200, lines), NOW)?;
            Some((String::from_utf8(found.condition().to_vec()).unwrap(), found.length))
        };
        let tag = |length| Some(("\"a\"".to_owned(), length));
        let date = || Some((CHANGED["Last-Modified: ".len()..].trim_end().to_owned(), Some(9)));
        for (lines, found) in [
            ("ETag: \"a\"\r\nContent-Length: 9\r\n".to_owned(), tag(Some(9))),
            ("ETag: \"a\"\r\nTransfer-Encoding: chunked\r\n".to_owned(), tag(None)),
            (format!("ETag: \"a\"\r\n{CHANGED}Content-Length: 9\r\n"), tag(Some(9))),
            ("ETag: W/\"a\"\r\nContent-Length: 9\r\n".to_owned(), None),
            ("ETag: a\r\nContent-Length: 9\r\n".to_owned(), None),
            ("ETag: \"\r\nContent-Length: 9\r\n".to_owned(), None),
            ("ETag: \"a\", \"b\"\r\nContent-Length: 9\r\n".to_owned(), None),
            ("ETag: \"a\"\r\nETag: \"a\"\r\nContent-Length: 9\r\n".to_owned(), None),
            ("ETag: \"a\"\r\n".to_owned(), None),
            (format!("{CHANGED}Content-Length: 9\r\n"), date()),
            (format!("ETag: W/\"a\"\r\n{CHANGED}Content-Length: 9\r\n"), None),
            (format!("{CHANGED}Transfer-Encoding: chunked\r\n"), None),
            // A second later is not enough, a minute is.
            (format!("{CHANGED}Date: Sun, 06 Nov 1994 08:49:38 GMT\r\nContent-Length: 9\r\n"), None),
            (format!("{CHANGED}Date: Sun, 06 Nov 1994 08:50:36 GMT\r\nContent-Length: 9\r\n"), None),
            (format!("{CHANGED}Date: Sun, 06 Nov 1994 08:50:37 GMT\r\nContent-Length: 9\r\n"), date()),
            ("Last-Modified: soon\r\nContent-Length: 9\r\n".to_owned(), None),
            ("Content-Length: 9\r\n".to_owned(), None),
        ] {
            assert_eq!(usable(&lines), found, "{lines:?}");
        }
        // Without a Date our own clock counts.
        let young = date::parse(b"Sun, 06 Nov 1994 08:49:37 GMT").unwrap() + SETTLED - 1;
        assert_eq!(Identity::of(&head(200, &format!("{CHANGED}Content-Length: 9\r\n")), young), None);
    }

    #[test]
    fn rfc9110_8_4_words_that_name_no_coding_do_not_count() {
        for (value, coding) in [
            ("", ""),
            ("identity", ""),
            ("AWS-Chunked", ""),
            ("none, binary,8bit,7bit , UTF-8", ""),
            ("gzip", "gzip"),
            ("aws-chunked, gzip", "gzip"),
            ("br,aws-chunked,\tgzip", "br, gzip"),
            ("identityx", "identityx"),
        ] {
            let mut fields = Fields::from_iter([("X-A", "1"), ("Content-Encoding", value)]);
            assert_eq!(super::coding(&fields), coding.replace(", ", ",").as_bytes(), "{value:?}");
            drop_no_codings(&mut fields);
            assert_eq!(fields.get("content-encoding").unwrap_or_default(), coding.as_bytes(), "{value:?}");
            assert_eq!(fields.contains("content-encoding"), !coding.is_empty());
            assert_eq!(fields.get("x-a"), Some(&b"1"[..]));
        }
    }

    #[test]
    fn rfc9110_14_4_what_goes_on_at_byte_four_of_nine() {
        let tag = "ETag: \"a\"\r\n";
        let part = "Content-Range: bytes 4-8/9\r\nContent-Length: 5\r\n";
        let rest = From { first: 4, total: Some(9) };
        let whole = From { first: 0, total: Some(9) };
        for (status, lines, continuation) in [
            (206, format!("{tag}{part}"), rest),
            (206, format!("{tag}Content-Range: BYTES 4-8/9\r\nTransfer-Encoding: chunked\r\n"), rest),
            (206, format!("{tag}Content-Encoding: identity\r\n{part}"), rest),
            (206, part.to_owned(), Other),
            (206, format!("ETag: \"b\"\r\n{part}"), Other),
            (206, format!("ETag: W/\"a\"\r\n{part}"), Other),
            (206, format!("{tag}{tag}{part}"), Other),
            (206, format!("{tag}{part}Content-Encoding: gzip\r\n"), Other),
            (206, format!("{tag}Content-Length: 5\r\n"), Other),
            (206, format!("{tag}{part}Content-Type: Multipart/ByteRanges; boundary=x\r\n"), Other),
            (206, format!("{tag}{part}Content-Range: bytes 4-8/9\r\n"), Other),
            (206, format!("{tag}Content-Range: bytes 3-8/9\r\nContent-Length: 6\r\n"), Other),
            (206, format!("{tag}Content-Range: bytes 5-8/9\r\nContent-Length: 4\r\n"), Other),
            (206, format!("{tag}Content-Range: bytes 4-7/9\r\nContent-Length: 4\r\n"), Other),
            (206, format!("{tag}Content-Range: bytes 4-9/10\r\nContent-Length: 6\r\n"), Other),
            (206, format!("{tag}Content-Range: bytes 4-8/*\r\nContent-Length: 5\r\n"), Other),
            (206, format!("{tag}Content-Range: bytes 4-8/9\r\nContent-Length: 4\r\n"), Other),
            (206, format!("{tag}Content-Range: bytes */9\r\nContent-Length: 5\r\n"), Other),
            (206, format!("{tag}Content-Range: 4-8/9\r\nContent-Length: 5\r\n"), Other),
            (206, format!("{tag}Content-Range: items 4-8/9\r\nContent-Length: 5\r\n"), Other),
            (206, format!("{tag}Content-Range: bytes /-\r\nContent-Length: 5\r\n"), Other),
            (206, format!("{tag}Content-Range: bytes 4-8/9\r\n"), Other),
            (
                206,
                format!("{tag}Content-Type: multipart/byteranges; boundary=x\r\nContent-Length: 5\r\n"),
                Other,
            ),
            (200, format!("{tag}Content-Length: 9\r\n"), whole),
            (200, format!("{tag}Transfer-Encoding: chunked\r\n"), whole),
            (200, format!("{tag}Content-Length: 10\r\n"), Other),
            (200, "ETag: \"b\"\r\nContent-Length: 9\r\n".to_owned(), Other),
            (200, "Content-Length: 9\r\n".to_owned(), Other),
            (416, format!("{tag}Content-Range: bytes */4\r\nContent-Length: 0\r\n"), Other),
            (404, "Content-Length: 0\r\n".to_owned(), Other),
            (302, "Location: /x\r\nContent-Length: 0\r\n".to_owned(), Other),
            (503, "Content-Length: 0\r\n".to_owned(), Later),
            (502, String::new(), Later),
            (304, tag.to_owned(), Other),
        ] {
            let identity = Identity::of(&head(200, &format!("{tag}Content-Length: 9\r\n")), NOW).unwrap();
            assert_eq!(identity.continues(&head(status, &lines), 4), continuation, "{status} {lines:?}");
        }
    }

    #[test]
    fn a_date_goes_on_only_with_the_same_date_and_length() {
        let identity = Identity::of(&head(200, &format!("{CHANGED}Content-Length: 9\r\n")), NOW).unwrap();
        let part = "Content-Range: bytes 4-8/9\r\nContent-Length: 5\r\n";
        let other = "Last-Modified: Sun, 06 Nov 1994 08:49:38 GMT\r\n";
        for (status, lines, goes_on) in [
            (206, format!("{CHANGED}{part}"), true),
            (206, format!("{CHANGED}ETag: \"new\"\r\n{part}"), false),
            (206, format!("{CHANGED}{part}Content-Type: multipart/byteranges; boundary=x\r\n"), false),
            (206, part.to_owned(), false),
            (206, format!("{other}{part}"), false),
            (206, format!("{CHANGED}Content-Range: bytes 4-9/10\r\nContent-Length: 6\r\n"), false),
            (200, format!("{CHANGED}Content-Length: 9\r\n"), true),
            (200, format!("{CHANGED}Content-Length: 10\r\n"), false),
            (200, format!("{CHANGED}Transfer-Encoding: chunked\r\n"), false),
            (200, format!("{other}Content-Length: 9\r\n"), false),
        ] {
            let found = identity.continues(&head(status, &lines), 4);
            assert_eq!(matches!(found, From { .. }), goes_on, "{status} {lines:?}");
        }
    }

    #[test]
    fn a_body_of_unknown_length_is_asked_for_its_last_byte_again() {
        let chunked = head(200, "ETag: \"a\"\r\nTransfer-Encoding: chunked\r\n");
        let identity = Identity::of(&chunked, NOW).unwrap();
        assert_eq!((identity.ask_from(0), identity.ask_from(5)), (0, 4));
        let part = head(206, "ETag: \"a\"\r\nContent-Range: bytes 4-4/5\r\nContent-Length: 1\r\n");
        assert_eq!(identity.continues(&part, 4), From { first: 4, total: Some(5) });
        assert_eq!(identity.continues(&chunked, 4), From { first: 0, total: None });
        let known = Identity { length: Some(9), ..identity };
        assert_eq!((known.ask_from(8), known.ask_from(9)), (8, 8));
    }
}
