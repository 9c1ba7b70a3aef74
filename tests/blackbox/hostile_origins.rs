//! What hostile or broken origins send, as tables: on a cacheable path and on a pass, each gives the client a clear answer or a visibly broken transfer, nothing of it is stored
//! but what is proven to be whole, no byte of one answer gets into another, and the server is well
//! after each. What is only unusual stands in `odd_origins`, what stalls in `time_limits`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::util::tree;
use crate::support::{Io, Launch, Origin, Reply, Response, Server, on_both, wait_until};

on_both!(
    heads_that_are_none_are_502,
    bodies_that_lie_break_visibly_and_are_not_stored,
    bytes_behind_a_response_are_discarded,
    heads_without_end_are_504,
    redirects_in_circles_are_passed_each_once,
    a_value_of_the_origin_splits_no_answer,
    an_origin_that_resets_every_connection_prevents_no_hit,
);

type Script = Arc<dyn Fn(&mut Reply<'_>) + Send + Sync>;

/// Writes these bytes, then closes.
fn says(bytes: impl Into<Vec<u8>>) -> Script {
    let bytes = bytes.into();
    Arc::new(move |reply| {
        reply.write(&bytes);
        reply.close();
    })
}

/// A server whose origin is hostile below `/odd` and good elsewhere.
fn site(io: Io, script: &Script, args: &[&str]) -> (Origin, Server) {
    let script = Arc::clone(script);
    let origin = Origin::start(move |request, reply| {
        if request.target.starts_with("/odd") {
            script(reply);
        } else {
            reply.serve(request, b"good");
        }
    });
    let server = Launch::new(io, &origin).args(["--workers", "1"]).args(args).start();
    server.put("hit.tgz", b"hit");
    (origin, server)
}

/// Asks twice on a path that is cached and twice on one that is passed, on connections of their own
/// and on one that stays, and looks after each at what is there.
#[track_caller]
fn attack(io: Io, name: &str, script: &Script, args: &[&str], check: impl Fn(&str, &Option<Response>)) {
    let (origin, server) = site(io, script, args);
    for target in ["/odd.tgz", "/odd.tgz", "/odd", "/odd"] {
        let before = origin.count();
        let mut client = server.client();
        let response = client.ask("GET", target, "").try_response("GET");
        check(&format!("{name}: {target}"), &response);
        assert!(origin.count() > before, "{name}: the origin was not asked");
        // Where the connection has stayed, it is in step.
        if response
            .is_some_and(|response| response.whole && response.field("Connection") == Some("keep-alive"))
        {
            client.get("/hit.tgz").expect(200, b"hit");
            client.get("/good").expect(200, b"good");
        }
        server.get("/hit.tgz").expect(200, b"hit");
        server.get("/good").expect(200, b"good");
        // Once more over a connection to the origin that stays.
        server.get("/good").expect(200, b"good");
        server.expect_tree(&["hit.tgz"]);
    }
    let mut around = tree(server.outside());
    around.retain(|name| !name.starts_with("cache/"));
    assert_eq!(around, [""; 0], "{name}: written outside");
    server.get("/good.tgz").expect(200, b"good");
    server.expect_cached("good.tgz", b"good");
    assert!(server.err.all().is_empty(), "{name}: {:?}", server.err.all());
}

fn heads_that_are_none_are_502(io: Io) {
    let endless = |byte: &'static [u8]| -> Script {
        Arc::new(move |reply| {
            let many = byte.repeat((64 << 10) / byte.len());
            while reply.write(&many) {}
        })
    };
    let head = |lines: &str| says(format!("HTTP/1.1 200 OK\r\n{lines}\r\nbody"));
    for (name, script) in [
        ("nothing", says("")),
        ("half a status line", says("HTTP/1.1 20")),
        ("half a head", says("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n")),
        ("a request", says("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("a TLS alert", says(&b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"[..])),
        ("HTTP/0.9", says("<html>body</html>\r\n\r\n")),
        ("HTTP/2", says("HTTP/2 200\r\nContent-Length: 4\r\n\r\nbody")),
        ("a version without a dot", says("HTTP/11 200 OK\r\nContent-Length: 4\r\n\r\nbody")),
        ("a lower-case version", says("http/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")),
        ("a status of two digits", says("HTTP/1.1 20 OK\r\nContent-Length: 4\r\n\r\nbody")),
        ("a status of four digits", says("HTTP/1.1 2000 OK\r\nContent-Length: 4\r\n\r\nbody")),
        ("a negative status", says("HTTP/1.1 -20 OK\r\nContent-Length: 4\r\n\r\nbody")),
        ("status 0", says("HTTP/1.1 000 OK\r\nContent-Length: 4\r\n\r\nbody")),
        ("bare line feeds", says("HTTP/1.1 200 OK\nContent-Length: 4\n\nbody")),
        ("a NUL in the reason", says("HTTP/1.1 200 O\0K\r\nContent-Length: 4\r\n\r\nbody")),
        ("a NUL in a value", head("X: a\0b\r\nContent-Length: 4\r\n")),
        ("a carriage return in a value", head("X: a\rSet-Cookie: b\r\nContent-Length: 4\r\n")),
        ("a blank before a colon", head("Content-Length : 4\r\n")),
        ("a line without a colon", head("Content-Length: 4\r\nnothing\r\n")),
        ("no name", head(": x\r\nContent-Length: 4\r\n")),
        ("two lengths", head("Content-Length: 4\r\nContent-Length: 3\r\n")),
        ("a list of lengths", head("Content-Length: 4, 3\r\n")),
        ("a negative length", head("Content-Length: -4\r\n")),
        ("a signed length", head("Content-Length: +4\r\n")),
        ("a hexadecimal length", head("Content-Length: 0x4\r\n")),
        ("an empty length", head("Content-Length:\r\n")),
        ("a length beyond 64 bits", head("Content-Length: 18446744073709551620\r\n")),
        ("the longest number of 64 bits", head("Content-Length: 18446744073709551615\r\n")),
        ("a length beyond any file", head("Content-Length: 9223372036854775808\r\n")),
        ("that twice", head("Content-Length: 9223372036854775808, 9223372036854775808\r\n")),
        ("a length with a fraction", head("Content-Length: 4.0\r\n")),
        ("an empty coding", head("Transfer-Encoding:\r\n")),
        ("a coding that is not chunked", head("Transfer-Encoding: xchunked\r\n")),
        ("chunked twice", head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
        ("zero bytes", endless(b"\0")),
        ("empty lines", endless(b"\r\n")),
        ("letters without end", endless(b"HTTP")),
        ("interim heads without end", endless(b"HTTP/1.1 102 Processing\r\n\r\n")),
        (
            "an interim head of one endless field",
            Arc::new(|reply: &mut Reply<'_>| {
                reply.write("HTTP/1.1 103 Early Hints\r\nLink: ");
                while reply.write([b'x'; 4096]) {}
            }),
        ),
        ("random bytes", says(crate::support::bytes(10_000, 3))),
    ] {
        attack(io, name, &script, &[], |what, response| {
            let response = response.as_ref().expect("no answer");
            assert_eq!(response.status, 502, "{what}");
            assert!(response.whole, "{what}");
            assert_eq!(String::from_utf8_lossy(&response.body).lines().count(), 1, "{what}");
        });
    }
}

fn bodies_that_lie_break_visibly_and_are_not_stored(io: Io) {
    let chunks = |body: &str| says(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
    let reset: Script = Arc::new(|reply: &mut Reply<'_>| {
        reply.head(1_000_000, "");
        reply.write([b'x'; 500_000]);
        thread::sleep(Duration::from_millis(20));
        reply.reset();
    });
    for (name, script) in [
        ("a short body", says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody")),
        ("no body at all", says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")),
        ("the longest length", says("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nbody")),
        (
            "the longest that a disk knows",
            says("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nbody"),
        ),
        ("a reset in the middle", reset),
        ("no chunk", chunks("")),
        ("no last chunk", chunks("4\r\nbody\r\n")),
        ("half a last chunk", chunks("4\r\nbody\r\n0\r\n")),
        ("half a chunk", chunks("ff\r\nbody")),
        ("an empty size", chunks("\r\nbody\r\n0\r\n\r\n")),
        ("a negative size", chunks("-4\r\nbody\r\n0\r\n\r\n")),
        ("a size with a prefix", chunks("0x4\r\nbody\r\n0\r\n\r\n")),
        ("a size that is too small", chunks("3\r\nbody\r\n0\r\n\r\n")),
        ("a size beyond 64 bits", chunks("10000000000000004\r\nbody\r\n0\r\n\r\n")),
        ("the largest size", chunks("ffffffffffffffff\r\nbody\r\n0\r\n\r\n")),
        ("bare line feeds", chunks("4\nbody\n0\n\n")),
        ("a size line without end", chunks(&"0".repeat(1 << 20))),
        ("an extension without end", chunks(&format!("4;{}", "x".repeat(1 << 20)))),
        ("trailers without end", chunks(&format!("4\r\nbody\r\n0\r\n{}", "X: y\r\n".repeat(100_000)))),
        ("a trailer that is none", chunks("4\r\nbody\r\n0\r\nnothing\r\n\r\n")),
    ] {
        attack(io, name, &script, &["--stall-timeout", "2"], |what, response| {
            // Refused before the head was out, or cut behind it: never whole.
            if let Some(response) = response {
                let refused = response.status == 502 && response.whole;
                assert!(refused || !response.whole, "{what}: {response:?}");
            }
        });
    }
}

fn bytes_behind_a_response_are_discarded(io: Io) {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (name, answer, status) in [
        ("behind a length", "HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nbody", 404),
        ("behind a 204", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("behind a 204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", 204),
        ("behind a 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", 304),
        (
            "behind the last chunk",
            "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            404,
        ),
    ] {
        // The connection stays open: who takes it for idle takes what is on it for an answer.
        let message = format!("{answer}{evil}");
        let script: Script = Arc::new(move |reply| {
            reply.write(&message);
        });
        attack(io, name, &script, &[], |what, response| {
            let response = response.as_ref().expect("no answer");
            assert_eq!(response.status, status, "{what}");
            assert!(response.body.is_empty() || response.body == b"body", "{what}");
        });
        // Later, when the connection is idle.
        let come = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&come);
        let script: Script = Arc::new(move |reply| {
            reply.write(answer);
            thread::sleep(Duration::from_millis(50));
            reply.write(evil);
            told.fetch_add(1, Ordering::SeqCst);
        });
        let (_origin, server) = site(io, &script, &[]);
        for round in 1..4 {
            assert_eq!(server.get("/odd").status, status, "{name}");
            wait_until("the rest has come", || come.load(Ordering::SeqCst) == round);
            server.get("/good").expect(200, b"good");
        }
    }
}

fn heads_without_end_are_504(io: Io) {
    // Each byte in time, and all of it within the limits of size.
    let trickle = |begin: &'static str, piece: &'static str| -> Script {
        Arc::new(move |reply| {
            reply.write(begin);
            while reply.write(piece) {
                thread::sleep(Duration::from_millis(20));
            }
        })
    };
    for (name, script) in [
        ("a status line", trickle("HTTP/1.1 200 ", "x")),
        ("fields", trickle("HTTP/1.1 200 OK\r\n", "X: y\r\n")),
        ("interim heads", trickle("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 10", "0")),
        (
            "silence",
            Arc::new(|reply: &mut Reply<'_>| {
                thread::sleep(Duration::from_secs(2));
                reply.close();
            }),
        ),
    ] {
        attack(io, name, &script, &["--response-timeout", "0.5"], |what, response| {
            let status = response.as_ref().expect("no answer").status;
            // A status line may have become no status line before the time was over.
            assert!(matches!(status, 504 | 502), "{what}: {status}");
        });
    }
}

fn redirects_in_circles_are_passed_each_once(io: Io) {
    for location in ["/odd.tgz", "/odd", "", "//", "http://[::1", "/odd.tgz#\u{e9}", "file:///etc/passwd"] {
        for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
            let message = format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            let script: Script = Arc::new(move |reply| {
                reply.write(&message);
            });
            let (origin, server) = site(io, &script, &[]);
            for target in ["/odd.tgz", "/odd"] {
                let before = origin.count();
                let response = server.get(target);
                assert_eq!(response.status.to_string(), status[..3]);
                assert_eq!(response.field("Location"), Some(location));
                assert_eq!(origin.count(), before + 1, "{location:?} was followed");
            }
            server.expect_tree(&["hit.tgz"]);
        }
    }
}

fn a_value_of_the_origin_splits_no_answer(io: Io) {
    for (fields, reason) in [
        ("X-A: one\r\n two: three\r\n", "OK"),
        ("X-A: one\r\n\tX-Evil: yes\r\n", "OK"),
        ("X-A: %0d%0aX-Evil: yes\r\n", "OK"),
        ("X-A: \u{560a}\u{560d}X-Evil: yes\r\n", "OK"),
        ("", "OK%0d%0aX-Evil: yes"),
        ("", "\u{560a}\u{560d}X-Evil: yes"),
        ("Connection: Content-Length, Content-Type, X-A\r\nX-A: b\r\n", "OK"),
    ] {
        let script: Script = Arc::new(move |reply| {
            reply.write(format!("HTTP/1.1 404 {reason}\r\n{fields}Content-Length: 4\r\n\r\nbody"));
        });
        attack(io, fields, &script, &[], |what, response| {
            // The client's own reader refuses whatever is not well-formed.
            let response = response.as_ref().expect("no answer");
            assert_eq!(response.all("X-Evil"), [""; 0], "{what}");
            match response.status {
                404 => drop(response.expect(404, b"body")),
                status => assert_eq!(status, 502, "{what}"),
            }
        });
    }
}

fn an_origin_that_resets_every_connection_prevents_no_hit(io: Io) {
    let script: Script = Arc::new(|reply: &mut Reply<'_>| reply.reset());
    attack(io, "resets", &script, &[], |what, response| {
        assert_eq!(response.as_ref().expect("no answer").status, 502, "{what}");
    });
}
