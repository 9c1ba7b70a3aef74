//! Faults that were found once, each named after what was seen of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Io, Launch, Origin, on_both};

on_both!(
    an_early_answer_to_an_upload_never_poisons_the_next_request,
    an_origin_that_closes_in_the_tls_handshake_is_502,
);

fn an_early_answer_to_an_upload_never_poisons_the_next_request(io: Io) {
    for early in ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"] {
        let origin = Origin::at_heads(None, move |request, reply| match request.target.as_str() {
            "/upload" => drop(reply.write(early)),
            "/a.tgz" => reply.answer("200 OK", "", b"GOOD"),
            _ => reply.answer("200 OK", "", b"EVIL"),
        });
        let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
        // The origin still waits for a body as long as the start of the next request. Were that
        // sent on this connection, the value of X would be the request that the origin sees.
        let start = format!("GET /a.tgz HTTP/1.1\r\nHost: {}\r\nX: ", origin.authority());
        let length = format!("Content-Length: {}\r\n", start.len());
        let answer = server.ask("POST", "/upload", &length);
        assert!(matches!(answer.status, 200 | 204) && answer.body.is_empty(), "{answer:?}");
        let miss = server.ask("GET", "/a.tgz", "X: GET /evil.tgz HTTP/1.1\r\n");
        miss.expect(200, b"GOOD");
        server.expect_cached("a.tgz", b"GOOD");
        let seen = origin.requests();
        let targets: Vec<_> = seen.iter().map(|request| request.target.as_str()).collect();
        assert_eq!(targets, ["/upload", "/a.tgz"]);
        assert_ne!(seen[0].connection, seen[1].connection, "the body was still due there");
        assert!(seen[1].head.starts_with(&start), "{:?}", seen[1].head);
        assert_eq!(seen[1].all("X"), ["GET /evil.tgz HTTP/1.1"]);
    }
}

/// An origin that reads a ClientHello, or does not, says `words`, and closes. Its port.
fn hangs_up(reads: bool, words: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            if reads {
                drop(stream.read(&mut [0; 4096]));
            }
            // The peer may be gone; that is its business.
            drop(stream.write_all(words));
        }
    });
    port
}

fn an_origin_that_closes_in_the_tls_handshake_is_502(io: Io) {
    let cases: [(bool, &[u8]); 4] = [
        (true, b""),
        (false, b""),
        (true, b"220 mail.test ESMTP\r\n"),
        // The first bytes of a handshake record that never ends.
        (true, b"\x16\x03\x03\x00\x7a\x02\x00"),
    ];
    for (reads, words) in cases {
        let url = format!("https://localhost:{}", hangs_up(reads, words));
        // A limit that lies beyond the patience of the client: the answer must not wait for it.
        let server = Launch::at(io, &url).args(["--workers", "1", "--connect-timeout", "60"]).start();
        server.put("hit.tgz", b"hit");
        for target in ["/x.tgz", "/pass"] {
            let began = Instant::now();
            let mut client = server.client();
            let response = client.get(target);
            assert_eq!(response.status, 502, "{response:?}");
            assert!(began.elapsed() < Duration::from_secs(3), "502 after {:?}", began.elapsed());
            client.get("/hit.tgz").expect(200, b"hit");
        }
        server.get("/hit.tgz").expect(200, b"hit");
        server.expect_tree(&["hit.tgz"]);
    }
}
