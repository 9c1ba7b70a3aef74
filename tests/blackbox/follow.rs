//! Joining a fill at awkward moments, from every worker, in every version of HTTP.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;

use crate::support::util::{PATIENCE, chunked};
use crate::support::{Client, Gate, Io, Launch, Origin, Response, Server, assert_bytes, bytes, on_both};

on_both!(
    clients_that_join_as_the_fill_completes_get_exact_copies,
    an_http_1_0_follower_of_a_broken_fill_sees_a_reset,
    an_http_1_0_follower_of_a_whole_fill_sees_a_clean_close,
    ranges_beyond_the_bytes_received_get_their_head_at_once,
    an_unsatisfiable_range_joins_a_fill_and_is_416_at_once,
    followers_on_every_worker_get_exact_copies_of_one_fetch,
    a_head_that_waits_for_the_fills_head_gets_it,
    a_head_that_waits_for_a_declined_fill_asks_itself,
    a_head_that_waits_for_a_failed_fill_is_502_without_a_body,
);

fn with_length(body: &[u8], cut: usize) -> (Origin, Gate) {
    let date = crate::support::LAST_MODIFIED;
    let head = format!("HTTP/1.1 200 OK\r\nLast-Modified: {date}\r\nContent-Length: {}\r\n\r\n", body.len());
    Origin::gated(head, body.to_vec(), cut)
}

fn clients_that_join_as_the_fill_completes_get_exact_copies(io: Io) {
    let body = bytes(200_000, 1);
    let in_chunks = chunked(&body, 50_000);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| {
        if request.index % 2 == 0 {
            reply.serve(request, &sent);
        } else {
            reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            reply.write(&in_chunks);
        }
    });
    let server = Launch::new(io, &origin).args(["--workers", "2"]).start();
    let rounds = 60;
    for round in 0..rounds {
        let target = format!("/{round}.tgz");
        let name = format!("{round}.tgz");
        thread::scope(|scope| {
            let leader = scope.spawn(|| server.get(&target));
            for joiner in 0..3 {
                let (server, target, body, name) = (&server, &target, &body, &name);
                scope.spawn(move || {
                    let mut client = server.client();
                    let begun = server.path(&format!("{name}.in-progress"));
                    // Some join while it grows, some as soon as it has its name.
                    while !server.path(name).exists() && (joiner > 0 || !begun.exists()) {
                        thread::yield_now();
                    }
                    for _ in 0..3 {
                        client.get(target).expect(200, body).expect_keep_alive();
                    }
                });
            }
            leader.join().unwrap().expect(200, &body);
        });
        server.expect_cached(&name, &body);
    }
    assert_eq!(origin.count(), rounds);
}

/// A GET by HTTP/1.0; the bytes of the body that came, and how they ended.
fn old_get(server: &Server, target: &str, first: usize, then: &Gate) -> (Vec<u8>, Option<ErrorKind>) {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {target} HTTP/1.0\r\n\r\n").unwrap();
    let mut got = Vec::new();
    let (mut body_at, mut buffer) = (None, [0; 64 * 1024]);
    let ending = loop {
        if body_at.is_none() {
            body_at = got.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        }
        if body_at.is_some_and(|at| got.len() >= at + first) {
            then.open();
        }
        match stream.read(&mut buffer) {
            Ok(0) => break None,
            Ok(count) => got.extend_from_slice(&buffer[..count]),
            Err(error) => break Some(error.kind()),
        }
    };
    let head = String::from_utf8(got[..body_at.unwrap()].to_vec()).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.0 200 "), "{head}");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("keep-alive"), "{head}");
    (got.split_off(body_at.unwrap()), ending)
}

fn an_http_1_0_follower_of_a_broken_fill_sees_a_reset(io: Io) {
    let body = bytes(100_000, 2);
    let message = chunked(&body, 10_000);
    // All of it but the last chunk, then the end of the connection.
    let gate = Gate::default();
    let (held, cut) = (gate.clone(), message.len() - 5);
    let origin = Origin::start(move |_, reply| {
        reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        reply.write(&message[..cut]);
        held.wait();
        reply.close();
    });
    let server = Server::start(io, &origin);
    let mut leader = server.client();
    let mut response = leader.ask("GET", "/x.js", "").head("GET");
    let (got, ending) = old_get(&server, "/x.js", body.len(), &gate);
    assert_bytes(&got, &body, "what came before the break");
    assert_eq!(ending, Some(ErrorKind::ConnectionReset), "a broken fill looks like a whole one");
    leader.finish(&mut response);
    assert!(!response.whole);
    // And the one whose request starts the fill.
    let (_, ending) = old_get(&server, "/x.js", 0, &gate);
    assert_eq!(ending, Some(ErrorKind::ConnectionReset));
    server.expect_nothing_cached();
}

fn an_http_1_0_follower_of_a_whole_fill_sees_a_clean_close(io: Io) {
    let body = bytes(100_000, 3);
    let message = chunked(&body, 10_000);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    let (origin, gate) = Origin::gated(head, message, 50_000);
    let server = Server::start(io, &origin);
    let mut leader = server.client();
    let mut response = leader.ask("GET", "/x.js", "").head("GET");
    let (got, ending) = old_get(&server, "/x.js", 30_000, &gate);
    assert_bytes(&got, &body, "an old client's body");
    assert_eq!(ending, None);
    leader.finish(&mut response);
    response.expect(200, &body);
    server.expect_cached("x.js", &body);
}

/// A client that has asked for `range` and read the head of a 206.
fn ranged(server: &Server, range: &str) -> (Client, Response) {
    let mut client = server.client();
    let head = client.ask("GET", "/x.tgz", &format!("Range: bytes={range}\r\n")).head("GET");
    assert_eq!(head.status, 206, "{range}");
    (client, head)
}

fn ranges_beyond_the_bytes_received_get_their_head_at_once(io: Io) {
    let body = bytes(3_000_000, 4);
    let (origin, gate) = with_length(&body, 1_000);
    let server = Launch::new(io, &origin).args(["--workers", "2"]).start();
    let mut leader = server.client();
    let mut response = leader.ask("GET", "/x.tgz", "").head("GET");
    response.body = leader.raw(1_000);
    // The file has a thousand bytes now; each range begins or ends beyond them.
    let ranges = [
        ("1000-1000", 1_000..1_001),
        ("999-1000", 999..1_001),
        ("2999999-", 2_999_999..3_000_000),
        ("-1", 2_999_999..3_000_000),
        ("1500000-1999999", 1_500_000..2_000_000),
        ("500-2500000", 500..2_500_001),
        ("-2999500", 500..3_000_000),
        ("1000000-9999999", 1_000_000..3_000_000),
    ];
    let mut readers: Vec<_> = ranges.iter().map(|(range, _)| ranged(&server, range)).collect();
    gate.open();
    for ((range, due), (client, part)) in ranges.iter().zip(&mut readers) {
        client.finish(part);
        part.expect(206, &body[due.clone()]).expect_keep_alive();
        let told = format!("bytes {}-{}/3000000", due.start, due.end - 1);
        assert_eq!(part.all("Content-Range"), [told.as_str()], "{range}");
        // The connection is in step afterwards.
        client.get("/x.tgz").expect(200, &body);
    }
    leader.finish(&mut response);
    response.expect(200, &body);
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 1);
}

fn an_unsatisfiable_range_joins_a_fill_and_is_416_at_once(io: Io) {
    let body = bytes(100_000, 5);
    let (origin, gate) = with_length(&body, 1_000);
    let server = Server::start(io, &origin);
    let mut leader = server.client();
    let mut response = leader.ask("GET", "/x.tgz", "").head("GET");
    let refused = server.ask("GET", "/x.tgz", "Range: bytes=100000-\r\n");
    assert_eq!(refused.status, 416);
    assert_eq!(refused.all("Content-Range"), ["bytes */100000"]);
    gate.open();
    leader.finish(&mut response);
    response.expect(200, &body);
}

fn followers_on_every_worker_get_exact_copies_of_one_fetch(io: Io) {
    let body = bytes(2_000_000, 6);
    for in_chunks in [false, true] {
        let (origin, gate) = if in_chunks {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
            Origin::gated(head, chunked(&body, 30_000), 1_000_000)
        } else {
            with_length(&body, 1_000_000)
        };
        let server = Launch::new(io, &origin).args(["--workers", "2"]).start();
        // The kernel spreads connections by a hash of their ports: that all of 64 go to one of
        // two workers does not happen.
        let mut clients: Vec<_> = (0..64).map(|_| server.client()).collect();
        for client in &mut clients {
            client.ask("GET", "/x.tgz", "");
        }
        let mut responses: Vec<_> = clients.iter_mut().map(|client| client.head("GET")).collect();
        gate.open();
        thread::scope(|scope| {
            for (client, response) in clients.iter_mut().zip(&mut responses) {
                let body = &body;
                scope.spawn(move || {
                    client.finish(response);
                    response.expect(200, body).expect_keep_alive();
                });
            }
        });
        assert_eq!(origin.count(), 1);
        server.expect_cached("x.tgz", &body);
        for client in &mut clients {
            client.ask("GET", "/x.tgz", "Range: bytes=0-9\r\n").response("GET").expect(206, &body[..10]);
        }
        assert_eq!(origin.count(), 1);
    }
}

/// An origin that answers each request by `answer` once the gate opens, and a server with a GET
/// at that origin and a HEAD that waits for the same fill.
fn head_that_waits(io: Io, answer: &'static str, last: bool) -> (Origin, Server, [Client; 2], Gate) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        held.wait();
        reply.write(if request.method == "HEAD" { answer.trim_end_matches("body") } else { answer });
        if last {
            reply.close();
        }
    });
    let server = Launch::new(io, &origin).debug().start();
    let (mut leader, mut asker) = (server.client(), server.client());
    leader.ask("GET", "/x.tgz", "");
    server.err.wait_for("proxying GET to ");
    asker.ask("HEAD", "/x.tgz", "");
    server.err.wait_for("download in progress");
    (origin, server, [leader, asker], gate)
}

fn a_head_that_waits_for_the_fills_head_gets_it(io: Io) {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Of: the fill\r\n\r\nbody";
    let (origin, server, [mut leader, mut asker], gate) = head_that_waits(io, answer, false);
    gate.open();
    let head = asker.response("HEAD");
    head.expect(200, b"").expect_keep_alive();
    assert_eq!(head.field("Content-Length"), Some("4"));
    assert_eq!(head.field("X-Of"), Some("the fill"));
    leader.response("GET").expect(200, b"body");
    asker.get("/x.tgz").expect(200, b"body");
    assert_eq!(origin.only().method, "GET");
    server.expect_cached("x.tgz", b"body");
}

fn a_head_that_waits_for_a_declined_fill_asks_itself(io: Io) {
    let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nbody";
    let (origin, server, [mut leader, mut asker], gate) = head_that_waits(io, answer, false);
    gate.open();
    let head = asker.response("HEAD");
    head.expect(404, b"").expect_keep_alive();
    assert_eq!(head.field("Content-Length"), Some("4"));
    leader.response("GET").expect(404, b"body");
    asker.get("/x.tgz").expect(404, b"body");
    let methods: Vec<_> = origin.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["GET", "HEAD", "GET"]);
    server.expect_nothing_cached();
}

fn a_head_that_waits_for_a_failed_fill_is_502_without_a_body(io: Io) {
    let (_origin, server, [mut leader, mut asker], gate) = head_that_waits(io, "", true);
    gate.open();
    let head = asker.response("HEAD");
    head.expect(502, b"").expect_keep_alive();
    assert_eq!(leader.response("GET").status, 502);
    // No byte of a body came along: the next answer begins where this one ended.
    assert_eq!(asker.get("/x.tgz").status, 502);
    server.expect_nothing_cached();
}
