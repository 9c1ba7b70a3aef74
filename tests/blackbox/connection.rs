//! One client connection: keep-alive, pipelining, old versions, half-close, and heads that are
//! too big or mean two things at once.

use std::thread;
use std::time::Duration;

use crate::support::{Client, Framing, Io, Launch, Origin, Server, bytes, on_both};

on_both!(
    a_client_that_still_sends_reads_why_it_was_refused,
    every_response_that_keeps_the_connection_says_keep_alive,
    connection_close_is_honoured_and_answered,
    http_1_0_closes_unless_asked_to_stay,
    pipelined_requests_are_answered_in_order,
    a_pipelined_mix_of_hit_miss_and_pass_is_answered_in_order,
    a_pipelined_request_behind_a_body_is_served,
    a_half_closed_client_gets_its_response,
    a_half_closed_client_of_a_slow_origin_gets_its_response,
    a_half_closed_pipeline_gets_all_its_responses,
    a_head_that_arrives_byte_by_byte_is_served,
    empty_lines_before_a_request_are_skipped,
    a_connection_that_closes_between_requests_is_quiet,
    big_but_legal_heads_pass,
    too_big_a_head_is_431_and_closes,
    too_many_fields_are_431_and_close,
    too_long_a_target_is_414_and_closes,
    a_head_without_end_is_refused_before_it_ends,
    ambiguous_heads_are_400_and_nothing_is_forwarded,
    ambiguous_bodies_end_the_connection_and_smuggle_nothing,
    unusual_but_legal_requests_are_served,
    connect_is_refused,
    bytes_after_a_refused_head_are_never_a_request,
    an_incomplete_upload_is_not_taken_for_a_whole_one,
    many_connections_are_served_at_once,
    an_early_close_after_the_head_is_no_error,
);

fn echo_target() -> Origin {
    Origin::start(|request, reply| {
        reply.answer("200 OK", "", request.target.as_bytes());
    })
}

fn every_response_that_keeps_the_connection_says_keep_alive(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    server.put("hit.tgz", b"hit");
    let mut client = server.client();
    // Hit, miss, pass, HEAD, and an upload: all on one connection.
    for target in ["/hit.tgz", "/miss.tgz", "/miss.tgz", "/pass"] {
        for extra in ["", "Connection: keep-alive\r\n", "Connection: Keep-Alive\r\n"] {
            client.ask("GET", target, extra).response("GET").expect_keep_alive();
        }
        client.ask("HEAD", target, "").response("HEAD").expect_keep_alive();
    }
    client.ask("POST", "/pass", "Content-Length: 0\r\n").response("POST").expect_keep_alive();
}

fn connection_close_is_honoured_and_answered(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    server.put("hit.tgz", b"hit");
    for target in ["/hit.tgz", "/miss.tgz", "/pass"] {
        for words in ["close", "Close", "keep-alive, close", "x-foo , close"] {
            let mut client = server.client();
            let response = client.ask("GET", target, &format!("Connection: {words}\r\n")).response("GET");
            assert_eq!(response.status, 200);
            assert!(response.whole);
            assert_eq!(response.all("Connection"), ["close"], "{target} {words}");
            client.expect_closed();
        }
    }
}

fn http_1_0_closes_unless_asked_to_stay(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    server.put("hit.tgz", b"hit");
    for (target, body) in [("/hit.tgz", "hit"), ("/miss.tgz", "/miss.tgz"), ("/p", "/p")] {
        let mut client = server.client();
        client.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
        let response = client.response("GET");
        response.expect(200, body.as_bytes());
        assert_ne!(response.framing, Framing::Chunked);
        assert_ne!(response.field("Connection"), Some("keep-alive"));
        client.expect_closed();

        let mut client = server.client();
        for _ in 0..2 {
            client.send(format!("GET {target} HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
            let response = client.response("GET");
            response.expect(200, body.as_bytes()).expect_keep_alive();
        }
    }
}

fn pipelined_requests_are_answered_in_order(io: Io) {
    let origin = Origin::silent();
    let server = Server::start(io, &origin);
    let bodies: Vec<_> = (0..40).map(|n| bytes(1_000 + 97 * n, 1)).collect();
    let mut requests = String::new();
    for (n, body) in bodies.iter().enumerate() {
        server.put(&format!("{n}.tgz"), body);
        requests.push_str(&format!("GET /{n}.tgz HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    let mut client = server.client();
    client.send(requests);
    for body in &bodies {
        client.response("GET").expect(200, body).expect_keep_alive();
    }
    assert_eq!(origin.count(), 0);
}

fn a_pipelined_mix_of_hit_miss_and_pass_is_answered_in_order(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    server.put("hit.tgz", b"a hit");
    let mut client = server.client();
    client.send(concat!(
        "GET /hit.tgz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /miss.tgz HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /pass HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "HEAD /hit.tgz HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "GET /miss.tgz HTTP/1.1\r\nHost: a\r\nRange: bytes=1-4\r\n\r\n",
        "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /never HTTP/1.1\r\nHost: a\r\n\r\n",
    ));
    client.response("GET").expect(200, b"a hit");
    client.response("GET").expect(200, b"/miss.tgz");
    client.response("POST").expect(200, b"/pass");
    client.response("HEAD").expect(200, b"");
    client.response("POST").expect(200, b"/chunks");
    client.response("GET").expect(206, b"miss");
    client.response("GET").expect(200, b"/last");
    client.expect_closed();
    let asked: Vec<_> = origin.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(asked, ["/miss.tgz", "/pass", "/chunks", "/last"]);
    assert_eq!(origin.requests()[1].body, b"hello");
    assert_eq!(origin.requests()[2].body, b"abc");
}

fn a_pipelined_request_behind_a_body_is_served(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    server.put("hit.tgz", b"a hit");
    let mut client = server.client();
    // A GET may have a body; it must not be read as the next request.
    client.send(concat!(
        "GET /hit.tgz HTTP/1.1\r\nHost: a\r\nContent-Length: 25\r\n\r\n",
        "GET /evil HTTP/1.1\r\n\r\n...",
        "GET /after HTTP/1.1\r\nHost: a\r\n\r\n",
    ));
    client.response("GET").expect(200, b"a hit");
    if let Some(after) = client.try_response("GET") {
        after.expect(200, b"/after");
    }
    let asked: Vec<_> = origin.requests().into_iter().map(|r| r.target).collect();
    assert!(!asked.contains(&"/evil".to_owned()), "{asked:?}");
}

fn a_half_closed_client_gets_its_response(io: Io) {
    let body = bytes(500_000, 1);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    server.put("hit.tgz", &body);
    for target in ["/hit.tgz", "/miss.tgz", "/pass"] {
        let mut client = server.client();
        client.ask("GET", target, "").half_close();
        client.response("GET").expect(200, &body);
        client.expect_closed();
    }
    let mut upload = server.client();
    upload.ask("POST", "/pass", "Content-Length: 5\r\n").send("hello").half_close();
    upload.response("POST").expect(200, &body);
}

/// The origin takes its time, for the head and between the parts of the body.
fn a_half_closed_client_of_a_slow_origin_gets_its_response(io: Io) {
    let origin = Origin::start(|_, reply| {
        thread::sleep(Duration::from_secs(1));
        reply.head(6, "");
        for part in ["ab", "cd", "ef"] {
            thread::sleep(Duration::from_secs(1));
            reply.write(part);
        }
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    client.ask("GET", "/pass", "").half_close();
    client.response("GET").expect(200, b"abcdef");
}

fn a_half_closed_pipeline_gets_all_its_responses(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    server.put("hit.tgz", b"a hit");
    let mut client = server.client();
    client.ask("GET", "/hit.tgz", "").ask("GET", "/pass", "").ask("GET", "/miss.tgz", "").half_close();
    client.response("GET").expect(200, b"a hit");
    client.response("GET").expect(200, b"/pass");
    client.response("GET").expect(200, b"/miss.tgz");
    client.expect_closed();
}

fn a_head_that_arrives_byte_by_byte_is_served(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    server.put("hit.tgz", b"a hit");
    let mut client = server.client();
    let request = b"POST /pass HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3\r\nabc\r\n0\r\n\r\nGET /hit.tgz HTTP/1.1\r\nHost: a\r\n\r\n";
    for byte in request {
        client.send([*byte]);
        thread::sleep(Duration::from_micros(300));
    }
    client.response("POST").expect(200, b"/pass");
    client.response("GET").expect(200, b"a hit");
    assert_eq!(origin.only().body, b"abc");
}

fn empty_lines_before_a_request_are_skipped(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    let mut client = server.client();
    client.send("\r\nGET /one HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response("GET").expect(200, b"/one");
    client.send("\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response("GET").expect(200, b"/two");
}

fn a_connection_that_closes_between_requests_is_quiet(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    let mut client = server.client();
    client.get("/one").expect(200, b"/one");
    client.half_close().expect_closed();
    drop(server.client());
    server.client().abort();
    server.get("/two").expect(200, b"/two");
    server.out.wait_for("/two");
    assert_eq!(server.out.all().len(), 2, "{:?}", server.out.all());
    assert_eq!(server.err.all(), [""; 0]);
}

fn big_but_legal_heads_pass(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    server.put("hit.tgz", b"a hit");
    let mut client = server.client();
    let one_big = format!("X-Big: {}\r\n", "b".repeat(33 * 1024));
    // With Host, 128 fields.
    let many: String = (0..127).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let long = format!("/{}", "t".repeat(8 * 1024 - 1));
    for extra in [one_big.as_str(), many.as_str()] {
        client.ask("GET", "/hit.tgz", extra).response("GET").expect(200, b"a hit");
        client.ask("GET", "/pass", extra).response("GET").expect(200, b"/pass");
    }
    client.get(&long).expect(200, long.as_bytes());
    let query = format!("/hit.tgz?{}", "q".repeat(8 * 1024 - 9));
    client.get(&query).expect(200, b"a hit");
    let seen = origin.requests();
    assert_eq!(seen[0].field("X-Big").map(str::len), Some(33 * 1024));
    assert_eq!(seen[1].field("X-126"), Some("126"));
}

/// The server answers one of these statuses, closes, and stays well.
#[track_caller]
fn expect_refused(server: &Server, request: impl AsRef<[u8]>, statuses: &[u16]) {
    let request = request.as_ref();
    let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
    let mut client = server.client();
    client.send_lossy(request);
    let response = client.response("GET");
    assert!(statuses.contains(&response.status), "{} for {shown:?}", response.status);
    assert_ne!(response.field("Connection"), Some("keep-alive"));
    client.expect_closed();
}

fn too_big_a_head_is_431_and_closes(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    let one = format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Big: {}\r\n\r\n", "b".repeat(1 << 20));
    expect_refused(&server, one, &[431]);
    let several: String = (0..60).map(|n| format!("X-{n}: {}\r\n", "b".repeat(8_000))).collect();
    let several = format!("GET /x HTTP/1.1\r\nHost: a\r\n{several}\r\n");
    expect_refused(&server, several, &[431]);
    assert_eq!(origin.count(), 0);
    server.get("/x").expect(200, b"/x");
}

fn too_many_fields_are_431_and_close(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    let many: String = (0..4_000).map(|n| format!("X-{n}: 1\r\n")).collect();
    expect_refused(&server, format!("GET /x HTTP/1.1\r\nHost: a\r\n{many}\r\n"), &[431]);
    assert_eq!(origin.count(), 0);
}

fn too_long_a_target_is_414_and_closes(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    let long = "t".repeat(1 << 20);
    expect_refused(&server, format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), &[414]);
    assert_eq!(origin.count(), 0);
}

fn a_head_without_end_is_refused_before_it_ends(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    let before = server.resident_kib();
    let mut client = server.client();
    client.send_lossy("GET /x HTTP/1.1\r\nHost: a\r\n");
    for _ in 0..512 {
        client.send_lossy(format!("X-More: {}\r\n", "b".repeat(32 * 1024)));
    }
    // A reset may overtake the answer: what counts is that the connection is gone.
    if let Some(response) = client.try_response("GET") {
        assert_eq!(response.status, 431);
    }
    client.expect_closed();
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more after 16 MiB of head");
    assert_eq!(origin.count(), 0);
}

/// Heads that some parser somewhere reads in two ways, or that no grammar allows.
const AMBIGUOUS: &[&str] = &[
    // Two framings at once, or one framing twice.
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 5\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    // Lengths that are no lengths.
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5;\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    // Line ends and white space.
    "GET /x HTTP/1.1\nHost: a\n\n",
    "GET /x HTTP/1.1\r\nHost: a\n\r\n",
    "GET /x HTTP/1.1\nHost: a\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nX-A: b\r\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nabcde",
    "GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nX-A: b\r\n folded\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\tfolded\r\n\r\n",
    "GET /x HTTP/1.1\r\n Host: a\r\n\r\n",
    // Fields that are no fields.
    "GET /x HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nX(A): b\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nX-A: nul\0\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nX-A: bell\x07\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nX-A: del\x7f\r\n\r\n",
    // Whom for?
    "GET /x HTTP/1.1\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    // Request lines.
    "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x  HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x y HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n",
    " GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x\r\nHost: a\r\n\r\n",
    "GET x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET ../x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x http/1.1\r\nHost: a\r\n\r\n",
    "GET /x HTTP/1.1x\r\nHost: a\r\n\r\n",
    "GET /x HTTPS/1.1\r\nHost: a\r\n\r\n",
    "G(T /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "\0\0\0\0\r\n\r\n",
    "\x16\x03\x01\x02\0\x01\0\r\n\r\n",
];

/// Transfer codings other than `chunked` alone: not understood, which may also be said as 501.
const UNKNOWN_CODINGS: &[&str] = &[
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
];

fn ambiguous_heads_are_400_and_nothing_is_forwarded(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    for head in AMBIGUOUS {
        // Whatever is behind it must not be taken for a request.
        let request = format!("{head}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        expect_refused(&server, request, &[400]);
        assert_eq!(origin.count(), 0, "forwarded: {head:?}");
    }
    for head in UNKNOWN_CODINGS {
        let request = format!("{head}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        expect_refused(&server, request, &[400, 501]);
        assert_eq!(origin.count(), 0, "forwarded: {head:?}");
    }
    for version in ["2.0", "0.9", "3.1", "1"] {
        let request = format!("GET /x HTTP/{version}\r\nHost: a\r\n\r\n");
        expect_refused(&server, request, &[400, 505]);
    }
    assert_eq!(origin.count(), 0);
    server.get("/well").expect(200, b"/well");
}

fn ambiguous_bodies_end_the_connection_and_smuggle_nothing(io: Io) {
    for body in [
        "\r\nabc\r\n0\r\n\r\n",
        "zz\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\n\n",
    ] {
        let origin = echo_target();
        let server = Server::start(io, &origin);
        let mut client = server.client();
        client.send_lossy(format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}\
             GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        if let Some(response) = client.try_response("POST") {
            assert!(response.status >= 400, "{} for {body:?}", response.status);
        }
        client.expect_closed();
        let asked: Vec<_> = origin.requests().into_iter().map(|r| r.target).collect();
        // The origin's record holds complete requests only, so not even /x may be in it.
        assert_eq!(asked, [""; 0], "for {body:?}");
        server.get("/well").expect(200, b"/well");
    }
}

fn unusual_but_legal_requests_are_served(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for head in [
        "GET /pipe|q\"uote<>^`{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /pipe|q\"uote<>^`{} HTTP/1.1\r\nhOST:a\r\n\r\n",
        "GET /pipe|q\"uote<>^`{} HTTP/1.1\r\nHost: \t a \t\r\nX-Empty:\r\n\r\n",
        "GET /pipe|q\"uote<>^`{} HTTP/1.1\r\nHost: a\r\nX-Latin: \u{e9}\r\n\r\n",
        "GET /pipe|q\"uote<>^`{} HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /pipe|q\"uote<>^`{} HTTP/1.1\r\nHost: [::1]:80\r\nX!#$%&'*+-.^_`|~: b\r\n\r\n",
    ] {
        client.send(head);
        let response = client.response("GET");
        response.expect(200, b"/pipe|q\"uote<>^`{}");
        response.expect_keep_alive();
    }
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0005\r\n\r\nhello");
    client.response("POST").expect(200, b"/x");
}

fn connect_is_refused(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    for target in ["elsewhere.test:443", "/x", "127.0.0.1:80"] {
        let mut client = server.client();
        client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        if let Some(response) = client.try_response("CONNECT") {
            assert!((400..600).contains(&response.status), "{}", response.status);
        }
    }
    assert_eq!(origin.count(), 0);
    server.get("/well").expect(200, b"/well");
}

fn bytes_after_a_refused_head_are_never_a_request(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    let mut client = server.client();
    client.send_lossy("GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(client.response("GET").status, 400);
    client.send_lossy("GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    client.expect_closed();
    assert_eq!(origin.count(), 0);
}

fn an_incomplete_upload_is_not_taken_for_a_whole_one(io: Io) {
    let origin = echo_target();
    let server = Server::start(io, &origin);
    for framing in [
        "Content-Length: 100\r\n\r\npart",
        "Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "Transfer-Encoding: chunked\r\n\r\n64\r\npart",
    ] {
        for rude in [false, true] {
            let mut client = server.client();
            client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{framing}"));
            if rude {
                client.abort();
            } else {
                client.half_close();
                if let Some(response) = client.try_response("POST") {
                    assert!(response.status >= 400, "{}", response.status);
                }
            }
        }
    }
    server.get("/well").expect(200, b"/well");
    assert_eq!(origin.only().target, "/well");
}

fn many_connections_are_served_at_once(io: Io) {
    let origin = echo_target();
    let server = Launch::new(io, &origin).args(["--workers", "2"]).start();
    server.put("hit.tgz", b"a hit");
    let mut clients: Vec<Client> = (0..200).map(|_| server.client()).collect();
    for client in &mut clients {
        client.ask("GET", "/hit.tgz", "");
    }
    // Answers are taken in the opposite order: nobody waits for anybody else's.
    for client in clients.iter_mut().rev() {
        client.response("GET").expect(200, b"a hit");
    }
    for client in &mut clients {
        client.get("/pass").expect(200, b"/pass");
    }
}

fn an_early_close_after_the_head_is_no_error(io: Io) {
    let body = bytes(4 << 20, 2);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    server.put("hit.tar", &body);
    for target in ["/hit.tar", "/miss.tar", "/pkg_summary.gz"] {
        let mut client = server.client();
        let head = client.ask("GET", target, "").head("GET");
        assert_eq!(head.status, 200);
        drop(client);
        server.out.wait_for(&format!("\"GET {target} HTTP/1.1\" 200"));
    }
    server.expect_cached("miss.tar", &body);
    assert_eq!(server.err.all(), [""; 0]);
}

/// On a worker that has never read a head in pieces: the room to read into comes with that.
fn a_client_that_still_sends_reads_why_it_was_refused(io: Io) {
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    let mut client = server.client();
    client.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 4\r\n\r\n");
    server.out.wait_for("\" 400 ");
    for _ in 0..20 {
        client.send("more of the same\r\n");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.response("POST").status, 400);
}
