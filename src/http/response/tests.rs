//! Which heads are answers, and how their bodies end (RFC 9112 sections 4 to 7).

use super::*;
use proptest::prelude::*;

fn read(text: &[u8]) -> Result<Option<(ResponseHead, usize)>, BadMessage> {
    parse(text, &HeadLimits::default(), &mut 0)
}

/// How the body ends of a response with this status line and these fields.
fn body(method: &str, line: &str, lines: &str) -> Result<ResponseBody, BadMessage> {
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        other => Method::Other(other.into()),
    };
    let text = format!("{line}\r\n{lines}\r\n");
    read(text.as_bytes())?.unwrap().0.body(&method)
}

#[test]
fn a_response_is_read_as_it_came() {
    let text = b"HTTP/1.0 404 Nicht da\xe9\r\nServer: x\r\nA: \xe9\r\n\r\nbody";
    let (head, used) = read(text).unwrap().unwrap();
    assert_eq!((head.status, &head.reason[..], head.version), (404, &b"Nicht da\xe9"[..], Version::Http10));
    assert_eq!((head.fields.get("a"), &text[used..]), (Some(&b"\xe9"[..]), &b"body"[..]));
    assert!(!head.is_interim());
    assert!(read(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap().unwrap().0.is_interim());
}

#[test]
fn rfc9112_4_status_lines() {
    for (line, status, phrase) in [
        ("HTTP/1.1 200 OK", 200, "OK"),
        ("HTTP/1.1 200 ", 200, ""),
        ("HTTP/1.1 200", 200, ""),
        ("HTTP/1.1 200  a  b ", 200, " a  b "),
        ("HTTP/1.0 999 odd", 999, "odd"),
    ] {
        let (head, _) = read(format!("{line}\r\n\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!((head.status, &head.reason[..]), (status, phrase.as_bytes()), "{line}");
    }
    for (line, fault) in [
        ("HTTP/1.1", BadMessage::BadStatusLine),
        ("HTTP/1.1 ", BadMessage::BadStatusLine),
        ("HTTP/1.1 20", BadMessage::BadStatusLine),
        ("HTTP/1.1 2000 OK", BadMessage::BadStatusLine),
        ("HTTP/1.1 200OK", BadMessage::BadStatusLine),
        ("HTTP/1.1  200 OK", BadMessage::BadStatusLine),
        ("HTTP/1.1 099 x", BadMessage::BadStatusLine),
        ("HTTP/1.1 +20 x", BadMessage::BadStatusLine),
        ("HTTP/1.1 200 O\0K", BadMessage::BadStatusLine),
        ("HTTP/1.1 200 O\rK", BadMessage::BadStatusLine),
        ("HTTP/1.1x200 OK", BadMessage::BadStatusLine),
        ("http/1.1 200 OK", BadMessage::BadStatusLine),
        ("ICY 200 OK", BadMessage::BadStatusLine),
        ("", BadMessage::BadStatusLine),
        ("HTTP/2.0 200 OK", BadMessage::UnsupportedVersion),
        ("HTTP/2 200 OK", BadMessage::BadStatusLine),
        ("HTTP/1.1 101 Switching Protocols", BadMessage::SwitchingProtocols),
    ] {
        assert_eq!(read(format!("{line}\r\n\r\n").as_bytes()).unwrap_err(), fault, "{line:?}");
    }
}

#[test]
fn rfc9112_6_3_where_the_body_ends() {
    let ok = "HTTP/1.1 200 OK";
    for (method, line, lines, end) in [
        ("GET", ok, "Content-Length: 3\r\n", ResponseBody::Length(3)),
        ("GET", ok, "Content-Length: 3\r\nContent-Length: 3\r\n", ResponseBody::Length(3)),
        ("GET", ok, "Content-Length: 3, 3\r\n", ResponseBody::Length(3)),
        ("GET", ok, "Transfer-Encoding: Chunked\r\n", ResponseBody::Chunked),
        ("GET", ok, "", ResponseBody::UntilClose),
        ("GET", "HTTP/1.0 200 OK", "", ResponseBody::UntilClose),
        ("HEAD", ok, "Content-Length: 3\r\n", ResponseBody::None),
        ("HEAD", ok, "Transfer-Encoding: chunked\r\n", ResponseBody::None),
        ("HEAD", ok, "", ResponseBody::None),
        ("GET", "HTTP/1.1 304 Not Modified", "Content-Length: 3\r\n", ResponseBody::None),
        ("GET", "HTTP/1.1 204 No Content", "", ResponseBody::None),
        ("GET", "HTTP/1.1 103 Early Hints", "", ResponseBody::None),
        ("POST", "HTTP/1.1 205 Reset Content", "Content-Length: 0\r\n", ResponseBody::Length(0)),
    ] {
        assert_eq!(body(method, line, lines), Ok(end), "{method} {line} {lines}");
    }
}

#[test]
fn rfc9112_6_3_what_could_end_in_two_places_is_refused() {
    for (line, lines, fault) in [
        (
            "HTTP/1.1 200 OK",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            BadMessage::LengthAndCoding,
        ),
        (
            "HTTP/1.1 304 OK",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            BadMessage::LengthAndCoding,
        ),
        ("HTTP/1.1 200 OK", "Content-Length: 3\r\nContent-Length: 5\r\n", BadMessage::AmbiguousLength),
        ("HTTP/1.1 200 OK", "Content-Length: 3, 5\r\n", BadMessage::AmbiguousLength),
        ("HTTP/1.1 200 OK", "Content-Length: 3,\r\n", BadMessage::BadLength),
        ("HTTP/1.1 200 OK", "Content-Length: x\r\n", BadMessage::BadLength),
        ("HTTP/1.1 200 OK", "Content-Length:\r\n", BadMessage::BadLength),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked\r\n", BadMessage::TransferCoding),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: identity\r\n", BadMessage::TransferCoding),
        ("HTTP/1.0 200 OK", "Transfer-Encoding: chunked\r\n", BadMessage::TransferCoding),
    ] {
        assert_eq!(body("GET", line, lines), Err(fault), "{line} {lines}");
    }
}

#[test]
fn field_lines_that_could_split_a_response_are_refused() {
    for (lines, fault) in [
        ("A: b\nEvil: c\r\n", BadMessage::BareLineFeed),
        ("A: b\rEvil: c\r\n", BadMessage::BadFieldValue),
        ("A: b\0\r\n", BadMessage::BadFieldValue),
        ("A : b\r\n", BadMessage::BadFieldName),
        ("A: b\r\n c\r\n", BadMessage::FoldedField),
    ] {
        assert_eq!(body("GET", "HTTP/1.1 200 OK", lines), Err(fault), "{lines:?}");
    }
    assert_eq!(body("GET", "HTTP/1.1 200 OK", &"A: b\r\n".repeat(257)), Err(BadMessage::TooManyFields));
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(64 * 1024));
    assert_eq!(read(endless.as_bytes()).unwrap_err(), BadMessage::HeadTooLarge);
}

#[test]
fn equal_lengths_become_one() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nA: b\r\nContent-Length: 3\r\n\r\n";
    let (head, _) = read(text).unwrap().unwrap();
    assert_eq!((head.fields.len(), head.fields.only("content-length")), (2, Some(&b"3"[..])));
}

#[test]
fn rfc9112_9_3_who_stays() {
    for (text, stays) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", true),
    ] {
        assert_eq!(read(text.as_bytes()).unwrap().unwrap().0.keep_alive(), stays, "{text}");
    }
}

#[test]
fn heads_are_written() {
    let mut more = Fields::new();
    more.push(b"B", b"2");
    let head = HeadWriter::new(206).field("A", "1").fields(&more).field("C", b"x\r\ny\0z").finish();
    assert_eq!(head, b"HTTP/1.1 206 Partial Content\r\nA: 1\r\nB: 2\r\nC: x  y z\r\n\r\n");
    assert_eq!(HeadWriter::with_reason(404, b"a\nb").finish(), b"HTTP/1.1 404 a b\r\n\r\n");
    assert_eq!(HeadWriter::new(599).finish(), b"HTTP/1.1 599 Unknown\r\n\r\n");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..100)) {
        let text = [b"HTTP/1.1 200", &text[..]].concat();
        if let Ok(Some((head, used))) = read(&text) {
            prop_assert!(used <= text.len());
            prop_assert!(head.body(&Method::Get).is_ok() || !head.fields.is_empty());
        }
    }

    #[test]
    fn what_is_written_reads_back(status in 305..1000u16, value in "[ -~\r\n\t]{0,30}") {
        let text = HeadWriter::new(status).field("A", &value).field("Content-Length", "3").finish();
        for end in 0..text.len() {
            prop_assert!(read(&text[..end]).unwrap().is_none());
        }
        let (head, used) = read(&text).unwrap().unwrap();
        prop_assert_eq!((head.status, used, head.fields.len()), (status, text.len(), 2));
        prop_assert_eq!(head.body(&Method::Get), Ok(ResponseBody::Length(3)));
    }
}
