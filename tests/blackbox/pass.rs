//! Requests that are proxied with no caching: methods, bodies both ways, fields, and the pool of
//! origin connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::support::util::chunked;
use crate::support::{Client, Framing, Gate, Io, Launch, Origin, Server, bytes, on_both};

on_both!(
    a_path_that_does_not_match_is_proxied_and_not_stored,
    every_method_goes_upstream_with_its_body,
    the_last_of_the_programs_that_may_forward_a_request_answers_it,
    a_body_without_length_goes_upstream_whole,
    a_large_upload_arrives_exactly,
    a_request_body_streams_before_its_end,
    a_response_body_streams_before_its_end,
    expect_100_continue_gets_its_body_through,
    conditions_ranges_and_codings_are_the_origins_business,
    hop_by_hop_fields_of_the_request_stay_here,
    hop_by_hop_fields_of_the_response_stay_here,
    via_is_added_and_appended,
    host_becomes_the_origins,
    the_urls_path_is_a_prefix_of_upstream_paths_only,
    the_target_goes_upstream_as_it_came,
    an_absolute_form_target_is_requested_from_the_origin,
    date_and_server_are_ours,
    repeated_fields_keep_their_order,
    bodiless_statuses_leave_the_connection_in_step,
    head_shows_the_length_without_a_body,
    a_close_delimited_response_arrives_whole,
    a_chunked_response_arrives_whole,
    a_truncated_response_is_visibly_broken,
    a_chunked_response_cut_short_is_visibly_broken,
    an_interim_answer_is_never_passed_on,
    http_1_0_clients_get_chunked_answers_close_delimited,
    the_pool_reuses_origin_connections,
    a_stale_pooled_connection_is_retried_once_for_get_only,
    every_address_of_the_origins_name_is_tried,
    an_unknown_origin_name_is_502,
    a_client_that_leaves_ends_its_upstream_transfer,
    an_early_answer_to_an_upload_reaches_the_client,
);

fn echo() -> Origin {
    Origin::start(|request, reply| {
        reply.answer("200 OK", "Content-Type: text/x\r\n", &request.body);
    })
}

fn a_path_that_does_not_match_is_proxied_and_not_stored(io: Io) {
    let body = bytes(700_000, 1);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for _ in 0..2 {
        let response = client.get("/pkg_summary.gz");
        response.expect(200, &body).expect_keep_alive();
        assert_eq!(response.framing, Framing::Length(700_000));
    }
    assert_eq!(origin.count(), 2);
    server.expect_nothing_cached();
}

fn every_method_goes_upstream_with_its_body(io: Io) {
    let origin = echo();
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let methods = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT"];
    for method in methods {
        // A cacheable path too: the method alone decides.
        for target in ["/api", "/x.tgz"] {
            client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"));
            client.response(method).expect(200, b"hello").expect_keep_alive();
        }
    }
    let seen: Vec<_> = origin.requests().into_iter().map(|r| r.method).collect();
    let want: Vec<_> = methods.iter().flat_map(|m| [*m, *m]).collect();
    assert_eq!(seen, want);
    server.expect_nothing_cached();
}

/// RFC 9110 section 7.6.2.
fn the_last_of_the_programs_that_may_forward_a_request_answers_it(io: Io) {
    let origin = Origin::start(|request, reply| {
        let left = request.all("Max-Forwards").join(",");
        reply.answer("200 OK", "", format!("{} {left}", request.target).as_bytes());
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for (method, target, fields, status, body) in [
        ("OPTIONS", "/x", "Max-Forwards: 1\r\n", 200, "/x 0"),
        ("OPTIONS", "*", "max-forwards: 0010\r\n", 200, "* 9"),
        ("OPTIONS", "http://localhost", "", 200, "* "),
        ("OPTIONS", "http://localhost?", "", 200, "/? "),
        ("TRACE", "/x", "Max-Forwards: 18446744073709551617\r\n", 200, "/x 18446744073709551614"),
        ("OPTIONS", "/x", "Max-Forwards: 0\r\n", 200, ""),
        ("OPTIONS", "*", "Max-Forwards: 0\r\n", 200, ""),
        ("TRACE", "/x", "Max-Forwards: 0\r\n", 501, ""),
        // Not of theirs, or no number: as it came.
        ("PROPFIND", "/x", "Max-Forwards: 0\r\n", 200, "/x 0"),
        ("GET", "/x", "Max-Forwards: 0\r\n", 200, "/x 0"),
        ("OPTIONS", "/x", "Max-Forwards: many\r\n", 200, "/x many"),
        ("OPTIONS", "/x", "Max-Forwards: 2\r\nMax-Forwards: 3\r\n", 200, "/x 2,3"),
    ] {
        let answer = client.ask(method, target, fields).response(method);
        answer.expect(status, body.as_bytes()).expect_keep_alive();
    }
    assert_eq!(origin.count(), 9);
    client.ask("OPTIONS", "/x", "Max-Forwards: 0\r\nContent-Length: 3\r\n").send("abc");
    client.response("OPTIONS").expect(200, b"");
    client.expect_closed();
}

fn a_body_without_length_goes_upstream_whole(io: Io) {
    let origin = echo();
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let body = bytes(200_000, 2);
    for piece in [999, 70_000] {
        client.send("POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunked(&body, piece));
        client.response("POST").expect(200, &body).expect_keep_alive();
    }
    // Extensions and trailers are legal, if rare.
    client.send("POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n");
    client.send("5;ext=\"v\"\r\nhello\r\n00;last\r\nX-Trailer: t\r\nX-Other: u\r\n\r\n");
    client.response("POST").expect(200, b"hello").expect_keep_alive();
    assert_eq!(origin.count(), 3);
    for request in origin.requests() {
        assert_eq!(request.all("Content-Length").len() + request.all("Transfer-Encoding").len(), 1);
    }
}

fn a_large_upload_arrives_exactly(io: Io) {
    let origin = echo();
    let server = Server::start(io, &origin);
    let body = bytes(5 << 20, 3);
    let mut client = server.client();
    client.send(format!("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body);
    client.response("PUT").expect(200, &body);
    assert_eq!(origin.only().all("Content-Length"), ["5242880"]);
}

fn a_request_body_streams_before_its_end(io: Io) {
    // A listener of its own: the scripted origin reads whole bodies before it answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Launch::at(io, &url).start();
    let mut client = server.client();
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst");
    let mut upstream = Accepted::new(&listener);
    upstream.until(b"first");
    client.send("-last");
    upstream.until(b"first-last");
    upstream.write(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok");
    client.response("PUT").expect(201, b"ok");
}

/// One connection taken by hand.
struct Accepted {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Accepted {
    #[track_caller]
    fn new(listener: &TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let stream = crate::support::within("a connection to the origin", || {
            listener.accept().ok().map(|(stream, _)| stream)
        });
        stream.set_nonblocking(false).unwrap();
        let limit = Some(crate::support::util::PATIENCE);
        stream.set_read_timeout(limit).unwrap();
        Self { stream, seen: Vec::new() }
    }

    /// Reads until what came ends with `tail`, chunked or not.
    #[track_caller]
    fn until(&mut self, tail: &[u8]) {
        while !self.seen.ends_with(tail) {
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "{}", String::from_utf8_lossy(&self.seen));
            self.seen.extend_from_slice(&buffer[..count]);
        }
    }

    fn write(&mut self, data: &[u8]) {
        self.stream.write_all(data).unwrap();
    }

    /// The proxy closes or resets this connection.
    #[track_caller]
    fn expect_gone(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::WouldBlock, "still connected");
                    return;
                }
            }
        }
    }
}

fn a_response_body_streams_before_its_end(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        match request.target.as_str() {
            "/length" => reply.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"),
            "/chunked" => reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"),
            _ => reply.write("HTTP/1.1 200 OK\r\n\r\nfirst"),
        };
        held.wait();
        match request.target.as_str() {
            "/length" => reply.write("-last"),
            "/chunked" => reply.write("5\r\n-last\r\n0\r\n\r\n"),
            _ => reply.write("-last"),
        };
        reply.close();
    });
    let server = Server::start(io, &origin);
    let mut clients: Vec<Client> = Vec::new();
    for target in ["/length", "/chunked", "/close"] {
        let mut client = server.client();
        client.ask("GET", target, "");
        clients.push(client);
    }
    let mut heads: Vec<_> = clients.iter_mut().map(|client| client.head("GET")).collect();
    // The first five bytes of each body, possibly behind a chunk size line.
    assert_eq!(clients[0].raw(5), b"first");
    for (client, head) in clients.iter_mut().zip(&heads).skip(1) {
        if head.framing == Framing::Chunked {
            assert_eq!(client.raw(3), b"5\r\n");
            assert_eq!(client.raw(7), b"first\r\n");
        } else {
            assert_eq!(client.raw(5), b"first");
        }
    }
    gate.open();
    heads[0].body = b"first".to_vec();
    for (client, head) in clients.iter_mut().zip(&mut heads) {
        client.finish(head);
        assert!(head.whole && head.body.ends_with(b"-last"), "{head:?}");
    }
}

fn expect_100_continue_gets_its_body_through(io: Io) {
    let origin = echo();
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for _ in 0..2 {
        client.send("POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        let interim = String::from_utf8(client.raw(25)).unwrap();
        assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
        let response = client.send("hello").response("POST");
        response.expect(200, b"hello").expect_keep_alive();
        assert_eq!(response.interim, [0; 0], "a second interim answer");
    }
    assert_eq!(origin.count(), 2);
}

fn conditions_ranges_and_codings_are_the_origins_business(io: Io) {
    let origin = Origin::start(|request, reply| match request.field("Range") {
        Some(_) => reply.answer(
            "206 Partial Content",
            "Content-Range: bytes 0-3/9\r\nContent-Encoding: gzip\r\n",
            b"part",
        ),
        None => {
            reply.write("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n");
        }
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let part = client.ask("GET", "/x", "Range: bytes=0-3\r\nAccept-Encoding: gzip\r\n").response("GET");
    part.expect(206, b"part");
    assert_eq!(part.all("Content-Range"), ["bytes 0-3/9"]);
    assert_eq!(part.all("Content-Encoding"), ["gzip"]);
    let same = client.ask("GET", "/x", "If-None-Match: \"a\"\r\n").response("GET");
    same.expect(304, b"").expect_keep_alive();
    let seen = origin.requests();
    assert_eq!(seen[0].all("Range"), ["bytes=0-3"]);
    assert_eq!(seen[0].all("Accept-Encoding"), ["gzip"]);
    assert_eq!(seen[1].all("If-None-Match"), ["\"a\""]);
}

fn hop_by_hop_fields_of_the_request_stay_here(io: Io) {
    let origin = echo();
    let server = Server::start(io, &origin);
    let fields = "Connection: X-Hop, Keep-Alive\r\nX-Hop: gone\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X-T\r\nUpgrade: h2c\r\n\
                  connection: x-hop2\r\nx-hop2: gone\r\nX-End: stays\r\nCookie: c=d\r\n\
                  Authorization: Basic dTpw\r\nDate: now\r\nServer: odd\r\n";
    server.ask("GET", "/x", fields).expect(200, b"");
    let seen = origin.only();
    for name in
        ["X-Hop", "X-Hop2", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Upgrade", "Date", "Server"]
    {
        assert_eq!(seen.field(name), None, "{name} went upstream");
    }
    assert_eq!(seen.all("X-End"), ["stays"]);
    assert_eq!(seen.all("Cookie"), ["c=d"]);
    assert_eq!(seen.all("Authorization"), ["Basic dTpw"]);
}

fn hop_by_hop_fields_of_the_response_stay_here(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.answer(
            "200 OK",
            "Connection: X-Hop, close\r\nX-Hop: gone\r\nKeep-Alive: timeout=77\r\n\
             Proxy-Connection: close\r\nUpgrade: h2c\r\nX-End: stays\r\n",
            b"body",
        );
        reply.close();
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for _ in 0..2 {
        // The origin closes its connection; the client's stays.
        let response = client.get("/x");
        response.expect(200, b"body").expect_keep_alive();
        for name in ["X-Hop", "Proxy-Connection", "Upgrade"] {
            assert_eq!(response.field(name), None, "{name} was passed on");
        }
        assert_ne!(response.field("Keep-Alive"), Some("timeout=77"));
        assert_eq!(response.all("X-End"), ["stays"]);
    }
}

fn via_is_added_and_appended(io: Io) {
    let origin = echo();
    let server = Server::start(io, &origin);
    server.ask("GET", "/x", "").expect(200, b"");
    server.ask("GET", "/x", "Via: 1.0 first\r\n").expect(200, b"");
    let seen = origin.requests();
    let alone = seen[0].all("Via").join(", ");
    assert!(alone.starts_with("1.1 ") && !alone.contains(','), "{alone:?}");
    let chain = seen[1].all("Via").join(", ");
    assert!(chain.starts_with("1.0 first, 1.1 "), "{chain:?}");
}

fn host_becomes_the_origins(io: Io) {
    let origin = echo();
    let server = Server::start(io, &origin);
    server.get("/x").expect(200, b"");
    assert_eq!(origin.only().all("Host"), [origin.authority()]);
}

fn the_urls_path_is_a_prefix_of_upstream_paths_only(io: Io) {
    let origin = echo();
    let server = Launch::at(io, &format!("{}/pre/fix///", origin.url())).start();
    for target in ["/x.tgz?q", "/y", "/"] {
        server.get(target).expect(200, b"");
    }
    let seen: Vec<_> = origin.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(seen, ["/pre/fix/x.tgz?q", "/pre/fix/y", "/pre/fix/"]);
    server.expect_tree(&["x.tgz"]);
}

fn the_target_goes_upstream_as_it_came(io: Io) {
    let origin = echo();
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let targets = [
        "/a%20b%2fc?x=%41&y=a/../b",
        "//double//slash",
        "/~tilde/%7e",
        "/pipe|quote\"less<more>{brace}^`",
        "/?only=query",
        "/%E4%B8%AD.tgz",
        "/a+b.tgz?",
    ];
    for target in targets {
        client.get(target).expect(200, b"");
    }
    let seen: Vec<_> = origin.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(seen, targets);
}

fn an_absolute_form_target_is_requested_from_the_origin(io: Io) {
    let origin = echo();
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for (target, upstream) in [
        ("http://localhost/x?q", "/x?q"),
        ("http://localhost:81/y.tgz", "/y.tgz"),
        ("HTTPS://localhost/z", "/z"),
        ("http://localhost", "/"),
        ("http://localhost?q", "/?q"),
    ] {
        client.get(target).expect(200, b"");
        let last = origin.requests().pop().unwrap();
        assert_eq!(last.target, upstream, "for {target}");
        assert_eq!(last.all("Host"), [origin.authority()]);
    }
    server.expect_tree(&["y.tgz"]);
}

fn date_and_server_are_ours(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.answer("200 OK", "Date: Sat, 16 May 2015 20:31:39 GMT\r\nServer: origin/1\r\n", b"");
    });
    let server = Server::start(io, &origin);
    let response = server.get("/x");
    response.expect(200, b"");
    assert_eq!(response.all("Date").len(), 1);
    assert_ne!(response.field("Date"), Some("Sat, 16 May 2015 20:31:39 GMT"));
    assert_ne!(response.field("Server"), Some("origin/1"));
}

fn repeated_fields_keep_their_order(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.answer(
            "200 OK",
            "Set-Cookie: a=1\r\nX-One: 1\r\nSet-Cookie: b=2; Path=/\r\nset-cookie: c=3\r\n",
            b"",
        );
    });
    let server = Server::start(io, &origin);
    let response = server.ask("GET", "/x", "Accept: a/b\r\nX-Two: 1\r\nAccept: c/d\r\n");
    response.expect(200, b"");
    assert_eq!(response.all("Set-Cookie"), ["a=1", "b=2; Path=/", "c=3"]);
    assert_eq!(origin.only().all("Accept").join(", "), "a/b, c/d");
}

fn bodiless_statuses_leave_the_connection_in_step(io: Io) {
    let origin = Origin::start(|request, reply| {
        match request.target.as_str() {
            "/204" => reply.write("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"),
            // A 304 may show the length that the 200 would have.
            "/304" => reply.write("HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n"),
            _ => reply.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"),
        };
    });
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    let mut client = server.client();
    for _ in 0..2 {
        let empty = client.get("/204");
        empty.expect(204, b"").expect_keep_alive();
        assert_eq!(empty.field("Transfer-Encoding"), None);
        client.get("/304").expect(304, b"").expect_keep_alive();
        client.get("/200").expect(200, b"body");
    }
    assert_eq!(origin.count(), 6);
}

fn head_shows_the_length_without_a_body(io: Io) {
    let origin = Origin::start(|request, reply| {
        reply.head(123_456, "X-A: b\r\n");
        assert_eq!(request.method, "HEAD");
    });
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    let mut client = server.client();
    for target in ["/x", "/x.tgz", "/y"] {
        let head = client.ask("HEAD", target, "").response("HEAD");
        head.expect(200, b"").expect_keep_alive();
        assert_eq!(head.all("Content-Length"), ["123456"]);
    }
    let methods: Vec<_> = origin.requests().into_iter().map(|r| r.method).collect();
    assert_eq!(methods, ["HEAD"; 3]);
}

fn a_close_delimited_response_arrives_whole(io: Io) {
    let body = bytes(300_000, 4);
    let sent = body.clone();
    let origin = Origin::start(move |_, reply| {
        reply.write("HTTP/1.0 200 OK\r\nContent-Type: text/x\r\n\r\n");
        reply.write(&sent);
        reply.close();
    });
    let server = Server::start(io, &origin);
    let response = server.get("/x");
    response.expect(200, &body);
    assert_eq!(response.version, "HTTP/1.1");
    if response.framing == Framing::Close {
        assert_eq!(response.all("Connection"), ["close"]);
    } else {
        response.expect_keep_alive();
    }
}

fn a_chunked_response_arrives_whole(io: Io) {
    let body = bytes(300_000, 5);
    let message = chunked(&body, 12_345);
    let origin = Origin::start(move |_, reply| {
        reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        reply.write(&message);
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for _ in 0..2 {
        let response = client.get("/x");
        response.expect(200, &body).expect_keep_alive();
        assert_eq!(response.framing, Framing::Chunked);
    }
}

fn a_truncated_response_is_visibly_broken(io: Io) {
    let body = bytes(100_000, 6);
    let sent = body.clone();
    let origin = Origin::start(move |_, reply| {
        reply.head(100_000, "");
        reply.write(&sent[..60_000]);
        reply.close();
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let response = client.get("/x");
    assert_eq!(response.status, 200);
    assert!(!response.whole, "a short body passed for a whole one");
    assert!(body.starts_with(&response.body));
    client.expect_closed();
}

fn a_chunked_response_cut_short_is_visibly_broken(io: Io) {
    let origin = Origin::start(move |_, reply| {
        reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n");
        reply.close();
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let response = client.get("/x");
    assert_eq!(response.status, 200);
    assert!(!response.whole, "the proxy invented a last chunk");
    client.expect_closed();
}

fn an_interim_answer_is_never_passed_on(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.write("HTTP/1.1 100 Continue\r\n\r\n");
        reply.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        reply.answer("200 OK", "", b"body");
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for method in ["GET", "POST"] {
        let response = client.ask(method, "/x", "Content-Length: 0\r\n").response(method);
        response.expect(200, b"body");
        assert_eq!(response.interim, [0; 0]);
    }
}

fn http_1_0_clients_get_chunked_answers_close_delimited(io: Io) {
    let body = bytes(50_000, 7);
    let message = chunked(&body, 5_000);
    let origin = Origin::start(move |_, reply| {
        reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        reply.write(&message);
    });
    let server = Server::start(io, &origin);
    for (target, extra) in [("/x", ""), ("/x", "Connection: keep-alive\r\n"), ("/miss.js", "")] {
        let mut client = server.client();
        client.send(format!("GET {target} HTTP/1.0\r\n{extra}\r\n"));
        let response = client.response("GET");
        response.expect(200, &body);
        assert_eq!(response.framing, Framing::Close, "for {target}");
    }
    server.expect_cached("miss.js", &body);
}

fn the_pool_reuses_origin_connections(io: Io) {
    let origin = echo();
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    for _ in 0..10 {
        // A new client connection each time: the pool is not tied to one.
        server.get("/x").expect(200, b"");
    }
    assert_eq!(origin.count(), 10);
    assert_eq!(origin.connections(), 1);
}

fn a_stale_pooled_connection_is_retried_once_for_get_only(io: Io) {
    let origin = Origin::start(|request, reply| {
        // The second request of a connection is read and never answered.
        if request.connection == 0 && request.index > 0 {
            reply.close();
        } else {
            reply.answer("200 OK", "", b"body");
        }
    });
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    server.get("/x").expect(200, b"body");
    server.get("/x").expect(200, b"body");
    assert_eq!((origin.count(), origin.connections()), (3, 2));

    let origin = Origin::start(|request, reply| {
        if request.method == "POST" {
            reply.close();
        } else {
            reply.answer("200 OK", "", b"body");
        }
    });
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    server.get("/x").expect(200, b"body");
    let refused = server.ask("POST", "/x", "Content-Length: 0\r\n");
    assert_eq!(refused.status, 502);
    let posts = origin.requests();
    let posts = posts.iter().filter(|r| r.method == "POST").count();
    assert_eq!(posts, 1, "a POST was sent twice");
}

fn every_address_of_the_origins_name_is_tried(io: Io) {
    // The name has an IPv6 address as well on most hosts, and nobody listens there.
    let origin = echo();
    let url = format!("http://localhost:{}", origin.port());
    let server = Launch::at(io, &url).start();
    server.get("/x").expect(200, b"");
    assert_eq!(origin.only().all("Host"), [format!("localhost:{}", origin.port())]);
}

fn an_unknown_origin_name_is_502(io: Io) {
    let server = Launch::at(io, "http://no-such-host.invalid").start();
    for target in ["/x", "/x.tgz"] {
        let response = server.get(target);
        assert_eq!(response.status, 502);
        assert!(response.whole && !response.body.is_empty());
    }
    server.expect_nothing_cached();
}

fn a_client_that_leaves_ends_its_upstream_transfer(io: Io) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Launch::at(io, &url).start();
    let mut client = server.client();
    client.ask("GET", "/endless", "");
    let mut upstream = Accepted::new(&listener);
    upstream.until(b"\r\n\r\n");
    upstream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nfirst");
    client.head("GET");
    assert_eq!(client.raw(5), b"first");
    client.abort();
    // The proxy may notice at its next write only: give it something to write, for a while.
    let mut feeder = upstream.stream.try_clone().unwrap();
    let feeding = thread::spawn(move || {
        for _ in 0..1_000 {
            if feeder.write_all(&[b'x'; 4096]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
    upstream.expect_gone();
    drop(upstream);
    feeding.join().unwrap();
    assert_eq!(server.get("/gone%").status, 400, "the server lives on");
}

fn an_early_answer_to_an_upload_reaches_the_client(io: Io) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Launch::at(io, &url).start();
    let mut client = server.client();
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nfirst");
    let mut upstream = Accepted::new(&listener);
    upstream.until(b"first");
    upstream.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nstop");
    // The client has not sent the rest and does not mean to.
    let response = client.response("PUT");
    response.expect(413, b"stop");
}
