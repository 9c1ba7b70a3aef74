//! Unusual responses, or no HTTP at all: the client's response, nothing stored, and the next request on the same
//! connection.

use std::sync::Arc;

use crate::support::{Client, Framing, Io, Launch, Origin, Reply, Response, Server, on_both};

on_both!(
    a_redirect_with_a_body_passes,
    a_204_passes_without_a_body,
    a_304_to_an_unconditional_fill_passes,
    interim_answers_in_any_pieces_are_swallowed,
    sixteen_interim_answers_are_swallowed_and_no_more,
    a_flood_of_interim_answers_is_502,
    an_endless_trickle_of_interim_answers_is_cut,
    a_length_beside_a_coding_is_502,
    too_many_fields_are_502,
    one_endless_field_is_502,
    switching_protocols_is_502,
    a_coding_that_nobody_knows_is_502,
);

/// An origin that is odd below `/odd` and good elsewhere.
fn odd(script: impl Fn(&mut Reply<'_>) + Send + Sync + 'static) -> Origin {
    let script = Arc::new(script);
    Origin::start(move |request, reply| {
        if request.target.starts_with("/odd") {
            script(reply);
        } else {
            reply.serve(request, b"good");
        }
    })
}

/// The answers to `/odd.tgz` and `/odd`, each followed by good ones.
fn probe(server: &Server, mut check: impl FnMut(&Response)) {
    let mut clients = [server.client(), server.client()];
    for (client, target) in clients.iter_mut().zip(["/odd.tgz", "/odd"]) {
        for _ in 0..2 {
            check(&client.get(target));
        }
        server.expect_nothing_cached();
    }
    for (client, name) in clients.iter_mut().zip(["a", "b"]) {
        expect_good(server, client, name);
    }
    server.expect_tree(&["1a.tgz", "1b.tgz", "2a.tgz", "2b.tgz"]);
}

/// The connection is in step, and so are those to the origin.
#[track_caller]
fn expect_good(server: &Server, client: &mut Client, name: &str) {
    client.get("/good").expect(200, b"good").expect_keep_alive();
    for name in [format!("1{name}.tgz"), format!("2{name}.tgz")] {
        client.get(&format!("/{name}")).expect(200, b"good").expect_keep_alive();
        server.expect_cached(&name, b"good");
    }
}

/// What `script` answers is 502 with one line of text.
fn expect_502(io: Io, script: impl Fn(&mut Reply<'_>) + Send + Sync + 'static) {
    let origin = odd(script);
    let server = Server::start(io, &origin);
    probe(&server, |response| {
        assert_eq!(response.status, 502, "{response:?}");
        assert!(response.whole);
        assert_eq!(String::from_utf8_lossy(&response.body).lines().count(), 1);
        response.expect_keep_alive();
    });
    assert!(server.resident_kib() < 64 * 1024, "{} KiB resident", server.resident_kib());
}

fn a_redirect_with_a_body_passes(io: Io) {
    let origin = odd(|reply| {
        reply.answer("301 Moved Permanently", "Location: /good.tgz\r\nETag: \"a\"\r\n", b"over there");
    });
    let server = Server::start(io, &origin);
    probe(&server, |response| {
        response.expect(301, b"over there").expect_keep_alive();
        assert_eq!(response.all("Location"), ["/good.tgz"]);
        assert_eq!(response.framing, Framing::Length(10));
    });
}

fn a_204_passes_without_a_body(io: Io) {
    let origin = odd(|reply| {
        reply.write("HTTP/1.1 204 No Content\r\nX-Why: nothing\r\n\r\n");
    });
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    probe(&server, |response| {
        response.expect(204, b"").expect_keep_alive();
        assert_eq!(response.all("X-Why"), ["nothing"]);
        assert_eq!(response.all("Content-Length"), [""; 0]);
        assert_eq!(response.all("Transfer-Encoding"), [""; 0]);
    });
    assert_eq!(origin.connections(), 1, "a 204 leaves the connection to the origin in step");
}

fn a_304_to_an_unconditional_fill_passes(io: Io) {
    let origin = odd(|reply| {
        reply.write("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n");
    });
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    probe(&server, |response| {
        response.expect(304, b"").expect_keep_alive();
        assert_eq!(response.all("ETag"), ["\"a\""]);
    });
    assert_eq!(origin.connections(), 1);
}

fn sixteen_interim_answers_are_swallowed_and_no_more(io: Io) {
    for (count, status) in [(16, 200), (17, 502)] {
        let origin = Origin::start(move |_, reply| {
            for _ in 0..count {
                reply.write("HTTP/1.1 102 Processing\r\n\r\n");
            }
            reply.answer("200 OK", "", b"body");
        });
        let server = Server::start(io, &origin);
        for target in ["/x.tgz", "/pass"] {
            assert_eq!(server.get(target).status, status, "{count} before {target}");
        }
    }
}

fn interim_answers_in_any_pieces_are_swallowed(io: Io) {
    let message = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                   HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
    for piece in [message.len(), 1, 7] {
        let origin = Origin::start(move |_, reply| {
            for part in message.as_bytes().chunks(piece) {
                reply.write(part);
            }
        });
        let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
        let mut client = server.client();
        for target in ["/x.tgz", "/pass", "/pass"] {
            let response = client.get(target);
            response.expect(200, b"body").expect_keep_alive();
            assert_eq!(response.interim, [0; 0]);
            assert_eq!(response.field("Link"), None);
        }
        server.expect_cached("x.tgz", b"body");
        assert_eq!(origin.connections(), 1);
    }
}

fn a_flood_of_interim_answers_is_502(io: Io) {
    expect_502(io, |reply| {
        reply.write("HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000));
        reply.answer("200 OK", "", b"at last");
        reply.close();
    });
}

fn an_endless_trickle_of_interim_answers_is_cut(io: Io) {
    expect_502(io, |reply| while reply.write("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n") {});
}

fn a_length_beside_a_coding_is_502(io: Io) {
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 14\r\n",
    ] {
        expect_502(io, move |reply| {
            reply.write(format!("HTTP/1.1 200 OK\r\n{fields}\r\n4\r\nbody\r\n0\r\n\r\n"));
        });
    }
}

fn too_many_fields_are_502(io: Io) {
    expect_502(io, |reply| {
        reply.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n");
        for n in 0..100_000 {
            if !reply.write(format!("X-{n}: bomb\r\n")) {
                return;
            }
        }
        reply.write("\r\nbody");
    });
}

fn one_endless_field_is_502(io: Io) {
    expect_502(io, |reply| {
        reply.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Bomb: ");
        let part = [b'x'; 64 * 1024];
        for _ in 0..1_000 {
            if !reply.write(part) {
                return;
            }
        }
        reply.write("\r\n\r\nbody");
    });
}

fn switching_protocols_is_502(io: Io) {
    expect_502(io, |reply| {
        reply.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n");
        reply.close();
    });
}

fn a_coding_that_nobody_knows_is_502(io: Io) {
    for coding in ["gzip, chunked", "gzip", "chunked, chunked", "identity"] {
        expect_502(io, move |reply| {
            reply.write(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
            ));
            reply.close();
        });
    }
}
