//! https origins: trusted certificates, and TLS streams that end early.

use std::io::{Read, Write};

use crate::support::tls::Identity;
use crate::support::{Io, LAST_MODIFIED, Launch, Origin, Server, bytes, on_both, wait_until};

on_both!(
    a_private_authority_is_trusted_by_file,
    node_extra_ca_certs_is_honoured,
    an_unknown_authority_is_502,
    a_certificate_for_another_name_is_502,
    a_pinned_self_signed_certificate_is_accepted,
    a_pinned_certificate_for_another_name_is_502,
    a_plain_http_origin_behind_https_is_502,
    a_truncated_body_is_never_cached,
    a_chunked_body_without_its_last_chunk_is_never_cached,
    a_close_delimited_body_is_never_cached,
    an_exact_length_needs_no_close_notify,
    a_large_file_is_exact,
    uploads_work,
    a_tls_connection_is_reused,
    a_hangup_reads_the_authorities_again,
);

/// A server that trusts what `identity` says.
fn trusting(io: Io, origin: &Origin, identity: &Identity) -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(io, origin)
        .env("SSL_CERT_FILE", identity.save(dir.path()))
        .args(["--workers", "1"])
        .start();
    (server, dir)
}

fn fixed(identity: &Identity, body: &[u8]) -> Origin {
    let body = body.to_vec();
    Origin::start_tls(identity.config.clone(), move |request, reply| {
        reply.serve(request, &body);
    })
}

fn a_private_authority_is_trusted_by_file(io: Io) {
    let body = bytes(200_000, 1);
    let identity = Identity::signed("localhost");
    let origin = fixed(&identity, &body);
    let (server, _dir) = trusting(io, &origin, &identity);
    let mut client = server.client();
    client.get("/x.tgz").expect(200, &body).expect_keep_alive();
    server.expect_cached("x.tgz", &body);
    let hit = client.get("/x.tgz");
    hit.expect(200, &body);
    assert_eq!(hit.all("Last-Modified"), [LAST_MODIFIED]);
    assert_eq!(origin.count(), 1);
    client.get("/pass").expect(200, &body);
    let host = format!("localhost:{}", origin.port());
    assert_eq!(origin.requests()[0].all("Host"), [host]);
}

fn node_extra_ca_certs_is_honoured(io: Io) {
    let identity = Identity::signed("localhost");
    let origin = fixed(&identity, b"body");
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(io, &origin).env("NODE_EXTRA_CA_CERTS", identity.save(dir.path())).start();
    server.get("/x.tgz").expect(200, b"body");
}

/// Both a fill and a pass end in a 502 with a text, and no request reaches the origin.
#[track_caller]
fn expect_distrust(server: &Server, origin: &Origin) {
    for target in ["/x.tgz", "/pass"] {
        let response = server.get(target);
        assert_eq!(response.status, 502);
        assert!(response.whole && !response.body.is_empty());
    }
    assert_eq!(origin.count(), 0, "a request went to an untrusted origin");
    server.expect_nothing_cached();
}

fn an_unknown_authority_is_502(io: Io) {
    let origin = fixed(&Identity::signed("localhost"), b"body");
    let (server, _dir) = trusting(io, &origin, &Identity::signed("localhost"));
    expect_distrust(&server, &origin);
}

fn a_certificate_for_another_name_is_502(io: Io) {
    let identity = Identity::signed("elsewhere.test");
    let origin = fixed(&identity, b"body");
    let (server, _dir) = trusting(io, &origin, &identity);
    expect_distrust(&server, &origin);
}

fn a_pinned_self_signed_certificate_is_accepted(io: Io) {
    let identity = Identity::self_signed("localhost");
    let origin = fixed(&identity, b"body");
    let (server, _dir) = trusting(io, &origin, &identity);
    server.get("/x.tgz").expect(200, b"body");
    server.expect_cached("x.tgz", b"body");
    // Another self-signed certificate for the same name is not the pinned one.
    let other = fixed(&Identity::self_signed("localhost"), b"body");
    let (server, _dir) = trusting(io, &other, &identity);
    expect_distrust(&server, &other);
}

fn a_pinned_certificate_for_another_name_is_502(io: Io) {
    let identity = Identity::self_signed("elsewhere.test");
    let origin = fixed(&identity, b"body");
    let (server, _dir) = trusting(io, &origin, &identity);
    expect_distrust(&server, &origin);
}

fn a_plain_http_origin_behind_https_is_502(io: Io) {
    let identity = Identity::signed("localhost");
    let dir = tempfile::tempdir().unwrap();
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in plain.incoming().map_while(Result::ok) {
            let mut buffer = [0; 64];
            drop(stream.read(&mut buffer));
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let server = Launch::at(io, &format!("https://localhost:{port}"))
        .env("SSL_CERT_FILE", identity.save(dir.path()))
        .start();
    expect_distrust(&server, &Origin::silent());
}

/// The first answer is cut by `first`, later ones are whole; the cut one must not be stored.
#[track_caller]
fn expect_cut_not_cached(io: Io, head: &'static str, first: &'static [u8], rest: &'static [u8]) {
    let identity = Identity::signed("localhost");
    let origin = Origin::start_tls(identity.config.clone(), move |request, reply| {
        reply.write(head);
        reply.write(first);
        if request.index == 0 {
            // The TCP stream ends without a close_notify, as under an attack.
            reply.close();
        } else {
            reply.write(rest);
        }
    });
    let (server, _dir) = trusting(io, &origin, &identity);
    let mut client = server.client();
    let broken = client.ask("GET", "/x.tgz", "").response("GET");
    assert_eq!(broken.status, 200);
    assert!(!broken.whole, "a short body passed for a whole one");
    client.expect_closed();
    server.expect_nothing_cached();
    server.get("/x.tgz").expect(200, b"0123456789");
    server.expect_cached("x.tgz", b"0123456789");
}

fn a_truncated_body_is_never_cached(io: Io) {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    expect_cut_not_cached(io, head, b"01234", b"56789");
}

fn a_chunked_body_without_its_last_chunk_is_never_cached(io: Io) {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    expect_cut_not_cached(io, head, b"a\r\n0123456789\r\n", b"0\r\n\r\n");
}

fn a_close_delimited_body_is_never_cached(io: Io) {
    let identity = Identity::signed("localhost");
    let origin = Origin::start_tls(identity.config.clone(), |_, reply| {
        reply.write("HTTP/1.1 200 OK\r\n\r\nclose-delimited");
        reply.close();
    });
    let (server, _dir) = trusting(io, &origin, &identity);
    for _ in 0..2 {
        // Without a close_notify nobody knows whether this was all: a break is as right as an end.
        let response = server.get("/x.tgz");
        assert_eq!(response.status, 200);
        assert_eq!(response.body, b"close-delimited");
    }
    assert_eq!(origin.count(), 2);
    server.expect_nothing_cached();
}

fn an_exact_length_needs_no_close_notify(io: Io) {
    let identity = Identity::signed("localhost");
    let origin = Origin::start_tls(identity.config.clone(), |_, reply| {
        reply.head(4, "Connection: close\r\n");
        reply.write("body");
        reply.close();
    });
    let (server, _dir) = trusting(io, &origin, &identity);
    server.get("/x.tgz").expect(200, b"body");
    server.expect_cached("x.tgz", b"body");
    server.get("/pass").expect(200, b"body");
}

fn a_large_file_is_exact(io: Io) {
    let body = bytes(6 << 20, 2);
    let identity = Identity::signed("localhost");
    let origin = fixed(&identity, &body);
    let (server, _dir) = trusting(io, &origin, &identity);
    server.get("/x.tar").expect(200, &body);
    server.expect_cached("x.tar", &body);
    server.get("/pass").expect(200, &body);
}

fn uploads_work(io: Io) {
    let identity = Identity::signed("localhost");
    let origin = Origin::start_tls(identity.config.clone(), |request, reply| {
        reply.answer("200 OK", "", &request.body);
    });
    let (server, _dir) = trusting(io, &origin, &identity);
    let body = bytes(1 << 20, 3);
    let mut client = server.client();
    for _ in 0..20 {
        client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n");
        client.send(&body);
        client.response("PUT").expect(200, &body);
    }
}

fn a_tls_connection_is_reused(io: Io) {
    let identity = Identity::signed("localhost");
    let origin = fixed(&identity, b"body");
    let (server, _dir) = trusting(io, &origin, &identity);
    for _ in 0..5 {
        server.get("/pass").expect(200, b"body");
    }
    wait_until("all requests are recorded", || origin.count() == 5);
    assert_eq!(origin.connections(), 1);
}

fn a_hangup_reads_the_authorities_again(io: Io) {
    let (old, new) = (Identity::signed("localhost"), Identity::signed("localhost"));
    let origin = fixed(&new, b"body");
    let (server, dir) = trusting(io, &origin, &old);
    assert_eq!(server.get("/x.tgz").status, 502);
    new.save(dir.path());
    assert_eq!(server.get("/x.tgz").status, 502, "nobody has asked for it yet");
    server.signal(libc::SIGHUP);
    wait_until("the new authority is trusted", || server.get("/x.tgz").status == 200);
    server.expect_cached("x.tgz", b"body");
}
