//! Connections to the origin serve another request only where nothing can still come on them: a body that is
//! late, behind a response that has none, would be the next file.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{Gate, Io, Launch, Origin, Server, on_both, wait_until};

on_both!(
    a_late_body_behind_a_head_response_is_not_the_next_file,
    a_late_body_behind_a_response_that_has_none_is_not_the_next_file,
    a_late_body_behind_an_interim_response_is_not_the_next_file,
    a_late_body_behind_a_check_is_not_the_next_file,
    a_connection_with_a_response_before_its_request_is_not_reused,
    ordinary_checks_and_empty_responses_stay_on_one_connection,
);

const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

/// Below `/odd` it answers with `odd` alone; what belongs to that comes when the connection is used again, before
/// the response to that request.
fn late(odd: &'static str) -> Origin {
    let owing = Mutex::new(HashSet::new());
    Origin::start(move |request, reply| {
        if owing.lock().unwrap().remove(&request.connection) {
            reply.write(EVIL);
        }
        if request.target.starts_with("/odd") {
            reply.write(format!("HTTP/1.1 {odd}\r\n\r\n"));
            owing.lock().unwrap().insert(request.connection);
        } else {
            reply.serve(request, b"good");
        }
    })
}

/// The next file after `method` for `/odd` and its like is the right one, whatever came late.
#[track_caller]
fn expect_good_behind(io: Io, method: &str, odd: &'static str, status: u16) {
    let origin = late(odd);
    let server = Launch::new(io, &origin).args(["--workers", "1", "--revalidate", r"\.idx$"]).start();
    for (number, target) in ["/odd", "/odd.tgz", "/odd.idx"].into_iter().enumerate() {
        let response = server.ask(method, target, "");
        assert_eq!(response.status, status, "{method} {target}: {odd}");
        let name = format!("{number}.tgz");
        let next = server.get(&format!("/{name}"));
        assert_eq!(String::from_utf8_lossy(&next.body), "good", "behind {method} {target}: {odd}");
        server.expect_cached(&name, b"good");
    }
}

fn a_late_body_behind_a_head_response_is_not_the_next_file(io: Io) {
    for (odd, status) in [
        ("200 OK\r\nContent-Length: 42", 200),
        ("200 OK\r\nTransfer-Encoding: chunked", 200),
        ("200 OK", 200),
        ("404 Not Found\r\nContent-Length: 42", 404),
        ("204 No Content\r\nTransfer-Encoding: chunked", 204),
        ("304 Not Modified\r\nContent-Length: 42", 304),
        ("204 No Content", 204),
        ("304 Not Modified", 304),
    ] {
        expect_good_behind(io, "HEAD", odd, status);
    }
}

fn a_late_body_behind_a_response_that_has_none_is_not_the_next_file(io: Io) {
    for (odd, status) in [
        ("204 No Content\r\nContent-Length: 42", 204),
        ("204 No Content\r\nTransfer-Encoding: chunked", 204),
        ("204 No Content\r\nConnection: close", 204),
        ("404 Not Found\r\nConnection: close\r\nContent-Length: 0", 404),
    ] {
        expect_good_behind(io, "GET", odd, status);
    }
    // A 304 that nobody asked for is passed on where nothing is checked.
    for odd in ["304 x\r\nContent-Length: 42", "304 x\r\nTransfer-Encoding: chunked"] {
        let origin = late(odd);
        let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
        for (target, next) in [("/odd", "/1.tgz"), ("/odd.tgz", "/2.tgz")] {
            assert_eq!(server.get(target).status, 304);
            server.get(next).expect(200, b"good");
        }
    }
}

fn a_late_body_behind_an_interim_response_is_not_the_next_file(io: Io) {
    for odd in [
        "103 Early Hints\r\nContent-Length: 42\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0",
        "100 Continue\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0",
    ] {
        expect_good_behind(io, "GET", odd, 404);
    }
}

fn a_late_body_behind_a_check_is_not_the_next_file(io: Io) {
    for fields in ["Content-Length: 42", "Transfer-Encoding: chunked"] {
        let owing = Mutex::new(HashSet::new());
        let origin = Origin::start(move |request, reply| {
            if owing.lock().unwrap().remove(&request.connection) {
                reply.write(EVIL);
            }
            if request.field("If-None-Match").is_some() {
                reply.write(format!("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n{fields}\r\n\r\n"));
                owing.lock().unwrap().insert(request.connection);
            } else {
                reply.answer("200 OK", "ETag: \"1\"\r\n", b"good");
            }
        });
        let server = Launch::new(io, &origin).args(["--workers", "1", "--revalidate", r"\.idx$"]).start();
        server.get("/a.idx").expect(200, b"good");
        server.expect_cached("a.idx", b"good");
        for name in ["1.tgz", "2.tgz"] {
            server.get("/a.idx").expect(200, b"good");
            server.get(&format!("/{name}")).expect(200, b"good");
            server.expect_cached(name, b"good");
        }
    }
}

/// The process does nothing until the signal to go on.
fn stop(server: &Server) {
    server.signal(libc::SIGSTOP);
    wait_until("it has stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    });
}

fn a_connection_with_a_response_before_its_request_is_not_reused(io: Io) {
    for framing in ["Content-Length: 8\r\n", "Transfer-Encoding: chunked\r\n"] {
        let (gate, answered) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let (held, told) = (gate.clone(), Arc::clone(&answered));
        let origin = Origin::at_heads(None, move |request, reply| {
            if request.method == "PUT" {
                held.wait();
                reply.answer("200 OK", "", b"too early");
                told.store(true, Ordering::SeqCst);
            } else {
                reply.serve(request, b"good");
            }
        });
        let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
        let (first, rest) = match framing {
            "Content-Length: 8\r\n" => ("half", "half"),
            _ => ("4\r\nhalf\r\n", "0\r\n\r\n"),
        };
        let mut client = server.client();
        client.ask("PUT", "/up", framing).send(first);
        wait_until("the head is there", || origin.count() == 1);
        // The response and the last of the request come to it at the same moment.
        stop(&server);
        gate.open();
        wait_until("it has answered", || answered.load(Ordering::SeqCst));
        client.send(rest);
        server.signal(libc::SIGCONT);
        client.response("PUT").expect(200, b"too early");
        server.get("/x.tgz").expect(200, b"good");
        let seen: Vec<_> = origin.requests().iter().map(|request| request.connection).collect();
        assert_eq!(seen, [0, 1], "{framing}");
    }
}

fn ordinary_checks_and_empty_responses_stay_on_one_connection(io: Io) {
    // As nginx, Apache and others answer: no length in a 304 or a 204.
    let origin = Origin::start(|request, reply| match (request.method.as_str(), request.target.as_str()) {
        ("HEAD", _) => drop(reply.write("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")),
        (_, "/none") => drop(reply.write("HTTP/1.1 204 No Content\r\n\r\n")),
        (_, "/none0") => drop(reply.write("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")),
        _ if request.field("If-None-Match").is_some() => drop(reply.write(
            "HTTP/1.1 304 Not Modified\r\nServer: nginx\r\nETag: \"1\"\r\nConnection: keep-alive\r\n\r\n",
        )),
        _ => reply.answer("200 OK", "ETag: \"1\"\r\n", b"good"),
    });
    let server = Launch::new(io, &origin).args(["--workers", "1", "--revalidate", r"\.idx$"]).start();
    server.get("/a.idx").expect(200, b"good");
    server.expect_cached("a.idx", b"good");
    for _ in 0..5 {
        server.get("/a.idx").expect(200, b"good");
        assert_eq!(server.get("/none").status, 204);
        assert_eq!(server.get("/none0").status, 204);
        assert_eq!(server.ask("HEAD", "/b.tgz", "").status, 404);
        server.get("/pass").expect(200, b"good");
    }
    assert_eq!((origin.count(), origin.connections()), (26, 1));
}
