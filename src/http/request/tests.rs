//! Which heads are requests, which are refused, and why (RFC 9112 sections 2 to 7).

use super::*;
use proptest::prelude::*;

fn read(text: &[u8]) -> Result<Option<(RequestHead, usize)>, BadMessage> {
    parse(text, &HeadLimits::default(), &mut 0)
}

fn head(text: &str) -> RequestHead {
    read(text.as_bytes()).unwrap().unwrap().0
}

/// A request with `lines` after its Host.
fn with(lines: &str) -> Result<Option<(RequestHead, usize)>, BadMessage> {
    read(format!("POST /x HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n").as_bytes())
}

#[test]
fn a_request_is_read_as_it_came() {
    let text = b"GET /a|b?c HTTP/1.1\r\nHost: h\r\nX-A:1\r\nx-a: 2 \r\n\r\nGET /next";
    let (head, used) = read(text).unwrap().unwrap();
    assert_eq!((head.method.clone(), &head.target[..]), (Method::Get, &b"/a|b?c"[..]));
    assert_eq!((head.version.as_str(), head.body), ("HTTP/1.1", RequestBody::None));
    assert_eq!(head.fields.all("X-A").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(&text[used..], b"GET /next");
}

#[test]
fn rfc9112_6_3_where_the_body_ends() {
    for (lines, body) in [
        ("X: y", RequestBody::None),
        ("Content-Length: 0", RequestBody::Length(0)),
        ("content-length: 3", RequestBody::Length(3)),
        ("Content-Length: 0003", RequestBody::Length(3)),
        ("Content-Length: 9223372036854775807", RequestBody::Length(i64::MAX.unsigned_abs())),
        ("Transfer-Encoding: chunked", RequestBody::Chunked),
        ("TRANSFER-ENCODING: \tChunked ", RequestBody::Chunked),
    ] {
        assert_eq!(with(lines).unwrap().unwrap().0.body, body, "{lines}");
    }
}

#[test]
fn rfc9112_6_3_what_could_end_in_two_places_is_refused() {
    for (lines, refusal) in [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", BadMessage::LengthAndCoding),
        ("Transfer-Encoding: gzip\r\nContent-Length: 3", BadMessage::LengthAndCoding),
        ("Content-Length: 3\r\nContent-Length: 5", BadMessage::AmbiguousLength),
        ("Content-Length: 3\r\nContent-Length: 3", BadMessage::AmbiguousLength),
        ("Content-Length: 3, 3", BadMessage::AmbiguousLength),
        ("Content-Length: 3,", BadMessage::AmbiguousLength),
        ("Content-Length:", BadMessage::BadLength),
        ("Content-Length: +3", BadMessage::BadLength),
        ("Content-Length: -3", BadMessage::BadLength),
        ("Content-Length: 0x3", BadMessage::BadLength),
        ("Content-Length: 3 3", BadMessage::BadLength),
        ("Content-Length: 9223372036854775808", BadMessage::BadLength),
        ("Content-Length: 18446744073709551615", BadMessage::BadLength),
        ("Content-Length: 18446744073709551616", BadMessage::BadLength),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", BadMessage::TransferCoding),
        ("Transfer-Encoding: gzip, chunked", BadMessage::UnknownCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", BadMessage::TransferCoding),
        ("Transfer-Encoding: gzip, chunked, chunked", BadMessage::TransferCoding),
        ("Transfer-Encoding: chunked, gzip", BadMessage::TransferCoding),
        ("Transfer-Encoding: chunked,", BadMessage::TransferCoding),
        ("Transfer-Encoding: chunked;q=1", BadMessage::TransferCoding),
        ("Transfer-Encoding: \"chunked\"", BadMessage::TransferCoding),
        ("Transfer-Encoding: xchunked", BadMessage::TransferCoding),
        ("Transfer-Encoding: identity", BadMessage::TransferCoding),
        ("Transfer-Encoding:", BadMessage::TransferCoding),
        ("Transfer-Encoding: \x0bchunked", BadMessage::BadFieldValue),
        ("Transfer-Encoding : chunked", BadMessage::BadFieldName),
    ] {
        assert_eq!(with(lines).unwrap_err(), refusal, "{lines:?}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(read(old).unwrap_err(), BadMessage::TransferCoding);
}

#[test]
fn rfc9112_2_2_line_ends_are_crlf() {
    for text in [
        "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\nHost: h\n\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
    ] {
        assert_eq!(read(text.as_bytes()).unwrap_err(), BadMessage::BareLineFeed, "{text:?}");
    }
    for text in ["GET / HTTP/1.1\rHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n"] {
        assert_eq!(read(text.as_bytes()).unwrap_err().status(), 400, "{text:?}");
    }
}

#[test]
fn rfc9112_2_2_empty_lines_before_a_request_are_skipped() {
    let text = b"\r\n\r\nGET / HTTP/1.0\r\n\r\n";
    assert_eq!(read(text).unwrap().unwrap().1, text.len());
    assert_eq!(read(b"\r\n\r").map(|none| none.is_none()), Ok(true));
    assert_eq!(read(&b"\r\n".repeat(9)).unwrap_err(), BadMessage::BadSyntax);
}

#[test]
fn rfc9112_3_request_lines() {
    for (line, refusal) in [
        ("GET /", BadMessage::BadSyntax),
        ("GET", BadMessage::BadSyntax),
        (" GET / HTTP/1.1", BadMessage::BadSyntax),
        ("G(T / HTTP/1.1", BadMessage::BadSyntax),
        ("GET\t/ HTTP/1.1", BadMessage::BadSyntax),
        ("GET / HTTP/1.1 ", BadMessage::BadSyntax),
        ("GET / http/1.1", BadMessage::BadSyntax),
        ("GET / HTTP/1.1x", BadMessage::BadSyntax),
        ("GET / HTTP/", BadMessage::BadSyntax),
        ("GET  / HTTP/1.1", BadMessage::BadTarget),
        ("GET /  HTTP/1.1", BadMessage::BadTarget),
        ("GET /a b HTTP/1.1", BadMessage::BadTarget),
        ("GET * HTTP/1.1", BadMessage::BadTarget),
        ("GET /#x HTTP/1.1", BadMessage::BadTarget),
        ("GET / HTTP/0.9", BadMessage::UnsupportedVersion),
        ("GET / HTTP/1.2", BadMessage::UnsupportedVersion),
        ("GET / HTTP/11.1", BadMessage::UnsupportedVersion),
        ("PRI * HTTP/2.0", BadMessage::UnsupportedVersion),
        ("CONNECT h:443 HTTP/1.1", BadMessage::Connect),
        ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1", BadMessage::BadSyntax),
    ] {
        let text = format!("{line}\r\nHost: h\r\n\r\n");
        assert_eq!(read(text.as_bytes()).unwrap_err(), refusal, "{line}");
    }
    assert_eq!(read(b"\x16\x03\x01\x02").unwrap_err(), BadMessage::BadSyntax);
}

#[test]
fn rfc9112_3_2_one_host_that_makes_sense() {
    for (version, hosts, refusal) in [
        ("1.1", "", Some(BadMessage::MissingHost)),
        ("1.1", "Host: a\r\nHost: a\r\n", Some(BadMessage::BadHost)),
        ("1.0", "Host: a\r\nHost: b\r\n", Some(BadMessage::BadHost)),
        ("1.1", "Host: a b\r\n", Some(BadMessage::BadHost)),
        ("1.1", "Host: a/b\r\n", Some(BadMessage::BadHost)),
        ("1.1", "Host: user@a\r\n", Some(BadMessage::BadHost)),
        ("1.0", "Host: a:b\r\n", Some(BadMessage::BadHost)),
        ("1.1", "Host: a:80\r\n", None),
        ("1.1", "Host:\r\n", None),
        ("1.0", "", None),
    ] {
        let text = format!("GET / HTTP/{version}\r\n{hosts}\r\n");
        assert_eq!(read(text.as_bytes()).err(), refusal, "{version} {hosts}");
    }
}

#[test]
fn rfc9112_5_field_lines() {
    for (lines, refusal) in [
        ("A : b", BadMessage::BadFieldName),
        (": b", BadMessage::BadFieldName),
        ("A", BadMessage::BadFieldName),
        ("A: b\r\n c", BadMessage::FoldedField),
        ("A: b\0c", BadMessage::BadFieldValue),
        ("A: b\x08", BadMessage::BadFieldValue),
    ] {
        assert_eq!(with(lines).unwrap_err(), refusal, "{lines:?}");
    }
}

#[test]
fn limits_hold_before_the_head_is_complete() {
    let long = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(bytes - 1));
    assert!(read(long(16 * 1024).as_bytes()).unwrap().is_some());
    assert_eq!(read(long(16 * 1024 + 1).as_bytes()).unwrap_err(), BadMessage::TargetTooLong);
    assert_eq!(read(&long(99_999).as_bytes()[..17_000]).unwrap_err(), BadMessage::TargetTooLong);

    let field = format!("X: {}", "a".repeat(32 * 1024));
    assert!(with(&field).unwrap().is_some());
    let text = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "a".repeat(64 * 1024));
    assert_eq!(read(text.as_bytes()).unwrap_err(), BadMessage::HeadTooLarge);

    let lines = |count: usize| vec!["A: b"; count].join("\r\n");
    assert_eq!(with(&lines(255)).unwrap().unwrap().0.fields.len(), 256);
    assert_eq!(with(&lines(256)).unwrap_err(), BadMessage::TooManyFields);
}

#[test]
fn rfc9110_10_1_1_expectations() {
    let expects = |lines| with(lines).unwrap().unwrap().0.expects_continue();
    assert!(expects("Content-Length: 3\r\nExpect: 100-Continue"));
    assert!(!expects("Expect: 100-continue"));
    assert!(!expects("Content-Length: 3"));
    assert!(!expects("Content-Length: 3\r\nExpect:"));
    assert_eq!(with("Expect: 200-ok").unwrap_err(), BadMessage::UnknownExpectation);
    assert_eq!(with("Expect: 100-continue, x").unwrap_err(), BadMessage::UnknownExpectation);
    assert!(!head("PUT / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").expects_continue());
}

#[test]
fn rfc9112_9_3_who_stays() {
    for (version, connection, stays) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: h\r\n{connection}\r\n");
        assert_eq!(head(&text).keep_alive(), stays, "{version} {connection}");
    }
}

#[test]
fn rfc9112_3_2_forms_of_a_target() {
    for (target, form, path) in [
        ("/a%2F?b?c", "/a%2F?b?c", "/a%2F"),
        ("//a", "//a", "//a"),
        ("http://h", "/", "/"),
        ("http://h:80/a?b", "/a?b", "/a"),
        ("HTTPS://h//a", "//a", "//a"),
    ] {
        let head = head(&format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n"));
        assert_eq!((&*head.origin_form(), head.path()), (form.as_bytes(), path.as_bytes()));
        assert_eq!(&head.target[..], target.as_bytes());
    }
    assert_eq!(head("OPTIONS * HTTP/1.0\r\n\r\n").origin_form().as_ref(), b"*");
}

#[test]
fn rfc9110_9_2_methods() {
    for (name, safe, idempotent) in [
        ("GET", true, true),
        ("HEAD", true, true),
        ("OPTIONS", true, true),
        ("TRACE", true, true),
        ("PUT", false, true),
        ("DELETE", false, true),
        ("POST", false, false),
        ("get", false, false),
    ] {
        let method = Method::read(name.as_bytes()).unwrap();
        assert_eq!((method.as_str(), method.is_safe(), method.is_idempotent()), (name, safe, idempotent));
    }
}

#[test]
fn sketches_tell_what_they_can() {
    for (text, parts) in [
        ("GET /a b HTTP/1.1\r\nHost", ("GET", "/a b", "HTTP/1.1")),
        ("\r\nGET / HTTP/2.0", ("GET", "/", "HTTP/2.0")),
        ("GET /a b", ("GET", "/a b", "")),
        ("GET\n", ("GET", "", "")),
        ("", ("", "", "")),
    ] {
        let (method, target, version) = parts;
        let expected = (method.as_bytes(), target.as_bytes(), version.as_bytes());
        assert_eq!(sketch(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn heads_for_the_origin_cannot_be_split() {
    let mut fields = Fields::new();
    fields.push(b"Host", b"h");
    fields.push(b"X", b"a\r\nEvil: b");
    let head = request_head("GET", b"/a|b", &fields);
    assert_eq!(head, b"GET /a|b HTTP/1.1\r\nHost: h\r\nX: a  Evil: b\r\n\r\n");
}

/// Reads `text` as it grows by the given steps.
fn read_growing(text: &[u8], steps: &[usize]) -> Result<Option<(RequestHead, usize)>, BadMessage> {
    let limits = HeadLimits { bytes: 120, fields: 4, target: 20 };
    let mut scanned = 0;
    let mut len = 0;
    for step in steps.iter().cycle() {
        len = text.len().min(len + step);
        match parse(&text[..len], &limits, &mut scanned)? {
            None if len < text.len() => {}
            end => return Ok(end),
        }
    }
    Ok(None)
}

fn same(text: &[u8], steps: &[usize]) {
    let whole = read_growing(text, &[text.len().max(1)]);
    let grown = read_growing(text, steps);
    match (whole, grown) {
        (Ok(Some((one, used))), Ok(Some((other, also_used)))) => {
            assert_eq!((one.target, one.method, used), (other.target, other.method, also_used));
        }
        (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
        (whole, grown) => panic!("{}: {whole:?} but {grown:?}", text.escape_ascii()),
    }
}

proptest! {
    #[test]
    fn growing_and_whole_are_one(
        pieces in proptest::collection::vec(proptest::sample::select(&[
            "GET ", "/", "a", " ", "HTTP/1.1", "HTTP/1.0", "\r\n", "\r", "\n", "Host: h\r\n", "\r\n\r\n", "A:b\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n", "Content-Length: 3\r\n", "/aaaaaaaaaaaaaaaaaaaaaaa", ":", "\0",
        ][..]), 0..12),
        steps in proptest::collection::vec(1..9usize, 1..5),
    ) {
        same(pieces.concat().as_bytes(), &steps);
    }

    #[test]
    fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        same(&text, &[1]);
        sketch(&text);
    }
}
