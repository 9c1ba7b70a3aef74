//! The heads of plain requests with no option given, byte for byte: what users' scripts and
//! package managers have come to rely on. Only the date is masked. A change here is a change of
//! the interface.

use std::fs::File;
use std::time::{Duration, SystemTime};

use crate::support::util::chunked;
use crate::support::{Client, Io, LAST_MODIFIED, LAST_MODIFIED_SECS, Origin, Server, assert_bytes, on_both};

on_both!(
    a_get_and_a_head_that_hit,
    conditions_that_match_a_hit,
    a_get_that_misses,
    a_get_that_misses_without_a_length,
    a_head_that_misses,
    conditions_that_match_a_miss,
    what_goes_upstream_for_a_miss,
);

const BODY: &[u8] = b"exactly these 28 bytes, fine";

/// The next head as it came, the value of its Date masked.
#[track_caller]
fn head(client: &mut Client) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.raw(1));
    }
    let text = String::from_utf8(head).unwrap();
    let at = text.find("\r\nDate: ").expect("a Date") + "\r\nDate: ".len();
    let end = at + text[at..].find('\r').unwrap();
    assert!(httpdate::parse_http_date(&text[at..end]).is_ok(), "{text}");
    format!("{}DATE{}", &text[..at], &text[end..])
}

/// Asks, and compares the head and the body with what they have always been.
#[track_caller]
fn expect(client: &mut Client, method: &str, target: &str, extra: &str, due: &str, body: &[u8]) {
    client.ask(method, target, extra);
    assert_eq!(head(client), due.replace('\n', "\r\n"), "{method} {target} {extra:?}");
    assert_bytes(&client.raw(body.len()), body, "the body");
}

/// An origin with the fields of a package site.
fn site() -> Origin {
    Origin::start(|request, reply| {
        reply.head(
            BODY.len(),
            "Content-Type: application/x-gzip\r\nETag: \"55577e2b-1c\"\r\nServer: nginx\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nAccept-Ranges: bytes\r\nConnection: keep-alive\r\n\
             X-Kept: 1\r\nX-Kept: 2\r\n",
        );
        if request.method != "HEAD" {
            reply.write(BODY);
        }
    })
}

fn with_file(io: Io) -> (Origin, Server) {
    let origin = Origin::silent();
    let server = Server::start(io, &origin);
    let file = File::options().write(true).open(server.put("x.tgz", BODY)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_MODIFIED_SECS)).unwrap();
    (origin, server)
}

const HIT: &str = "HTTP/1.1 200 OK
Last-Modified: Sat, 16 May 2015 20:31:39 GMT
Content-Type: application/octet-stream
ETag: \"28-1431808299000\"
Content-Length: 28
Accept-Ranges: bytes
Date: DATE
Connection: keep-alive

";

const HIT_304: &str = "HTTP/1.1 304 Not Modified
Last-Modified: Sat, 16 May 2015 20:31:39 GMT
ETag: \"28-1431808299000\"
Date: DATE
Connection: keep-alive

";

const MISS: &str = "HTTP/1.1 200 OK
Last-Modified: Sat, 16 May 2015 20:31:39 GMT
Content-Type: application/x-gzip
ETag: \"55577e2b-1c\"
X-Kept: 1
X-Kept: 2
Via: 1.1 fs-caching-server
Content-Length: 28
Accept-Ranges: bytes
Date: DATE
Connection: keep-alive

";

const HEAD_MISS: &str = "HTTP/1.1 200 OK
Last-Modified: Sat, 16 May 2015 20:31:39 GMT
Content-Type: application/x-gzip
ETag: \"55577e2b-1c\"
Accept-Ranges: bytes
X-Kept: 1
X-Kept: 2
Via: 1.1 fs-caching-server
Content-Length: 28
Date: DATE
Connection: keep-alive

";

const MISS_304: &str = "HTTP/1.1 304 Not Modified
Last-Modified: Sat, 16 May 2015 20:31:39 GMT
ETag: \"55577e2b-1c\"
Via: 1.1 fs-caching-server
Date: DATE
Connection: keep-alive

";

const CHUNKED: &str = "HTTP/1.1 200 OK
Last-Modified: Sat, 16 May 2015 20:31:39 GMT
Via: 1.1 fs-caching-server
Transfer-Encoding: chunked
Date: DATE
Connection: keep-alive

";

fn a_get_and_a_head_that_hit(io: Io) {
    let (_origin, server) = with_file(io);
    let mut client = server.client();
    // The first one opens the file, the second finds it open.
    for _ in 0..2 {
        expect(&mut client, "GET", "/x.tgz", "", HIT, BODY);
        expect(&mut client, "HEAD", "/x.tgz", "", HIT, b"");
    }
}

fn conditions_that_match_a_hit(io: Io) {
    let (_origin, server) = with_file(io);
    let mut client = server.client();
    for method in ["GET", "HEAD"] {
        for condition in [
            "If-None-Match: \"28-1431808299000\"\r\n".to_owned(),
            format!("If-Modified-Since: {LAST_MODIFIED}\r\n"),
        ] {
            expect(&mut client, method, "/x.tgz", &condition, HIT_304, b"");
        }
    }
}

fn a_get_that_misses(io: Io) {
    let origin = site();
    let server = Server::start(io, &origin);
    expect(&mut server.client(), "GET", "/x.tgz", "", MISS, BODY);
    server.expect_cached("x.tgz", BODY);
}

fn a_get_that_misses_without_a_length(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.write(format!(
            "HTTP/1.1 200 OK\r\nLast-Modified: {LAST_MODIFIED}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        reply.write(chunked(BODY, 100));
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    expect(&mut client, "GET", "/x.tgz", "", CHUNKED, &chunked(BODY, 100));
}

fn a_head_that_misses(io: Io) {
    let origin = site();
    let server = Server::start(io, &origin);
    expect(&mut server.client(), "HEAD", "/x.tgz", "", HEAD_MISS, b"");
    server.expect_nothing_cached();
}

fn conditions_that_match_a_miss(io: Io) {
    let origin = site();
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for (target, condition) in [
        ("/a.tgz", "If-None-Match: \"55577e2b-1c\"\r\n".to_owned()),
        ("/b.tgz", format!("If-Modified-Since: {LAST_MODIFIED}\r\n")),
    ] {
        expect(&mut client, "GET", target, &condition, MISS_304, b"");
        server.expect_cached(&target[1..], BODY);
    }
}

fn what_goes_upstream_for_a_miss(io: Io) {
    let origin = site();
    let server = Server::start(io, &origin);
    server.ask("GET", "/x.tgz", "User-Agent: libfetch/2.0\r\n").expect(200, BODY);
    let head = origin.only().head;
    let due = format!(
        "GET /x.tgz HTTP/1.1\r\nHost: {}\r\nUser-Agent: libfetch/2.0\r\nVia: 1.1 fs-caching-server",
        origin.authority()
    );
    assert!(head.starts_with(&due), "{head}");
    assert!(head.ends_with("\r\nAccept-Encoding: identity\r\n\r\n"), "{head}");
}
