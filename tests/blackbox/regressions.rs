//! Faults of the past, each named after its symptom.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::tls::Identity;
use crate::support::util::PATIENCE;
use crate::support::{Gate, Io, Launch, Origin, Server, bytes, on_both, wait_until};

on_both!(
    an_early_answer_to_an_upload_never_poisons_the_next_request,
    an_origin_that_closes_in_the_tls_handshake_is_502,
    an_answer_that_has_begun_is_not_followed_by_another,
    an_upload_the_origin_stops_reading_ends_in_time,
    a_pipelining_client_does_not_stop_its_worker,
    an_upload_longer_than_the_response_limit_is_not_cut,
    a_large_https_fill_ends_although_its_tail_is_buffered,
    a_followers_head_has_no_cookie_of_the_leaders,
    body_bytes_in_the_packet_of_the_head_are_stored_in_order,
    clients_that_find_a_file_just_stored_are_hits,
    a_cache_directory_that_was_replaced_is_followed,
    a_malformed_upload_is_an_empty_400,
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
        // sent on this connection, the value of User-Agent would be the request that the origin sees.
        let start = format!("GET /a.tgz HTTP/1.1\r\nHost: {}\r\nUser-Agent: ", origin.authority());
        let length = format!("Content-Length: {}\r\n", start.len());
        let answer = server.ask("POST", "/upload", &length);
        assert!(matches!(answer.status, 200 | 204) && answer.body.is_empty(), "{answer:?}");
        let miss = server.ask("GET", "/a.tgz", "User-Agent: GET /evil.tgz HTTP/1.1\r\n");
        miss.expect(200, b"GOOD");
        server.expect_cached("a.tgz", b"GOOD");
        let seen = origin.requests();
        let targets: Vec<_> = seen.iter().map(|request| request.target.as_str()).collect();
        assert_eq!(targets, ["/upload", "/a.tgz"]);
        assert_ne!(seen[0].connection, seen[1].connection, "the body was still due there");
        assert!(seen[1].head.starts_with(&start), "{:?}", seen[1].head);
        assert_eq!(seen[1].all("User-Agent"), ["GET /evil.tgz HTTP/1.1"]);
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

fn an_answer_that_has_begun_is_not_followed_by_another(io: Io) {
    for (fault, framing) in [
        ("half-close", "Content-Length: 1000"),
        ("half-close", "Transfer-Encoding: chunked"),
        ("bad chunk", "Transfer-Encoding: chunked"),
        ("silence", "Content-Length: 1000"),
    ] {
        let (body, gate) = (bytes(400, 3), Gate::default());
        let (sent, held) = (body.clone(), gate.clone());
        let origin = Origin::at_heads(None, move |_, reply| {
            reply.head(sent.len(), "");
            reply.write(&sent[..100]);
            held.wait();
            reply.write(&sent[100..]);
            reply.close();
        });
        let server = Launch::new(io, &origin).args(["--stall-timeout", "0.5"]).start();
        let mut client = server.client();
        client.ask("POST", "/upload", &format!("{framing}\r\n")).send("3\r\nabc\r\n");
        let head = client.head("POST");
        assert_eq!(head.status, 200, "{fault}");
        assert_eq!(client.raw(100), body[..100]);
        match fault {
            "half-close" => drop(client.half_close()),
            "bad chunk" => drop(client.send("zz\r\n")),
            _ => {}
        }
        // Silence is a fault once the stall timeout is over; that of the other faults is past too,
        // so that whatever the server has to say is said before the answer goes on.
        thread::sleep(Duration::from_millis(800));
        gate.open();
        let rest = client.rest();
        // Cut or whole, both are right; bytes of another message are not.
        assert!(body[100..].starts_with(&rest), "{fault}: {:?}", String::from_utf8_lossy(&rest));
    }
}

/// What comes until the end of the stream, an unclean one too; None when none comes in time.
fn until_end(mut stream: TcpStream) -> Option<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        // Zero would mean no limit.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        match stream.read(&mut buffer) {
            Ok(0) => return Some(got),
            Ok(count) => got.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return Some(got),
        }
    }
    None
}

fn an_upload_the_origin_stops_reading_ends_in_time(io: Io) {
    let limits = ["--stall-timeout", "1", "--response-timeout", "1"];
    for framing in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::at_heads(None, move |_, reply| {
            held.wait();
            reply.close();
        });
        let server = Launch::new(io, &origin).args(limits).start();
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        stream.set_write_timeout(Some(PATIENCE * 2)).unwrap();
        write!(stream, "POST /upload HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").unwrap();
        let mut feeder = stream.try_clone().unwrap();
        let feeding = thread::spawn(move || {
            let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
            // Ends when the server closes, or the test does.
            while feeder.write_all(&chunk).is_ok() {}
        });
        let answer = until_end(stream.try_clone().unwrap());
        // The feeder may still be stuck in a write; an error means that the server was quicker.
        drop(stream.shutdown(Shutdown::Both));
        feeding.join().unwrap();
        gate.open();
        let answer = String::from_utf8(answer.expect("neither an answer nor an end")).unwrap();
        let status = answer.split(' ').nth(1).unwrap_or("none");
        // A reset, for the bytes that nobody read, may overtake the answer.
        assert!(matches!(status, "502" | "504" | "none"), "{answer:?}");
    }
}

/// A client that pipelines requests for `target` without end, and reads the responses.
struct Flood {
    stream: TcpStream,
    threads: Vec<thread::JoinHandle<()>>,
    taken: Arc<AtomicUsize>,
}

impl Flood {
    fn start(server: &Server, target: &str) -> Self {
        let stream = TcpStream::connect(server.addr()).unwrap();
        stream.set_write_timeout(Some(PATIENCE * 2)).unwrap();
        stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        let (mut sender, mut receiver) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
        let requests = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(2_000);
        let sending = thread::spawn(move || while sender.write_all(requests.as_bytes()).is_ok() {});
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let receiving = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while let Ok(count @ 1..) = receiver.read(&mut buffer) {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        });
        Self { stream, threads: vec![sending, receiving], taken }
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // Both threads end with the connection.
        drop(self.stream.shutdown(Shutdown::Both));
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn a_pipelining_client_does_not_stop_its_worker(io: Io) {
    // A hit, a name that is a directory, and a bad path: none of them ever has to wait.
    for (target, status) in [("/a.tgz", 200), ("/dir.tgz", 400), ("/bad%", 400)] {
        let server = Launch::new(io, &Origin::silent()).args(["--workers", "1"]).start();
        server.put("a.tgz", b"abc");
        server.put("dir.tgz/b", b"");
        assert_eq!(server.get(target).status, status);
        let flood = Flood::start(&server, target);
        wait_until("the flood is under way", || flood.taken() > 100_000);
        for _ in 0..10 {
            let began = Instant::now();
            server.get("/a.tgz").expect(200, b"abc");
            assert!(began.elapsed() < Duration::from_secs(2), "{target}: {:?}", began.elapsed());
        }
        let before = flood.taken();
        wait_until("the flood goes on", || flood.taken() > before);
    }
}

fn an_upload_longer_than_the_response_limit_is_not_cut(io: Io) {
    let identity = Identity::signed("localhost");
    let dir = tempfile::tempdir().unwrap();
    let trusted = identity.save(dir.path());
    // Behind TLS 1.3 the first thing that comes is session tickets, which is no answer; nor is
    // a 100, with or without TLS.
    for (tls, interim) in [(false, false), (true, false), (false, true), (true, true)] {
        let origin = Origin::at_heads(tls.then(|| Arc::clone(&identity.config)), move |request, reply| {
            if interim {
                reply.write("HTTP/1.1 100 Continue\r\n\r\n");
            }
            if let Some(body) = reply.upload(request) {
                reply.answer("200 OK", "", &body);
            }
        });
        let server = Launch::new(io, &origin)
            .env("SSL_CERT_FILE", &trusted)
            .args(["--workers", "1", "--response-timeout", "0.5"])
            .start();
        let body = bytes(30, 6);
        let mut client = server.client();
        client.ask("POST", "/upload", "Content-Length: 30\r\n");
        for byte in body.chunks(1) {
            // A server that gives up closes; its answer tells.
            client.send_lossy(byte);
            thread::sleep(Duration::from_millis(50));
        }
        let answer = client.response("POST");
        assert_eq!(answer.status, 200, "TLS: {tls}, 100 Continue: {interim}: {answer:?}");
        answer.expect(200, &body);
    }
}

fn a_large_https_fill_ends_although_its_tail_is_buffered(io: Io) {
    let identity = Identity::signed("localhost");
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start_tls(Arc::clone(&identity.config), |request, reply| {
        let size: usize = request.target.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        // One write, so that the last records come together.
        reply.write([head.into_bytes(), bytes(size, 7)].concat());
    });
    let server = Launch::new(io, &origin)
        .env("SSL_CERT_FILE", identity.save(dir.path()))
        .args(["--workers", "1", "--stall-timeout", "3"])
        .start();
    // A turn of the relay ends after 4 MiB. What follows may all be in the TLS session by then:
    // the socket never becomes readable again, and whoever waits for that waits too long.
    for tail in [20_000, 30_000, 50_000] {
        let size = (4 << 20) + tail;
        let body = bytes(size, 7);
        server.get(&format!("/{size}.tgz")).expect(200, &body).expect_keep_alive();
        server.expect_cached(&format!("{size}.tgz"), &body);
    }
    assert_eq!(origin.count(), 3);
}

fn a_followers_head_has_no_cookie_of_the_leaders(io: Io) {
    let (before_head, in_body) = (Gate::default(), Gate::default());
    let (head_held, body_held) = (before_head.clone(), in_body.clone());
    let origin = Origin::start(move |_, reply| {
        head_held.wait();
        reply.head(10, "X-Same: yes\r\nSet-Cookie: session=leader\r\nset-cookie: other=1\r\n");
        reply.write("01234");
        body_held.wait();
        reply.write("56789");
    });
    let server = Launch::new(io, &origin).args(["--workers", "2"]).start();
    let mut leader = server.client();
    leader.ask("GET", "/x.tgz", "");
    wait_until("the origin is asked", || origin.count() == 1);
    // Some wait for the head, others join when it is there.
    let mut followers: Vec<_> = (0..8).map(|_| server.client()).collect();
    let (early, late) = followers.split_at_mut(4);
    for client in early {
        client.ask("GET", "/x.tgz", "");
    }
    thread::sleep(Duration::from_millis(100));
    before_head.open();
    let mut first = leader.head("GET");
    assert_eq!(first.all("Set-Cookie"), ["session=leader", "other=1"]);
    for client in late {
        client.ask("GET", "/x.tgz", "");
    }
    let mut heads: Vec<_> = followers.iter_mut().map(|client| client.head("GET")).collect();
    let asked = server.ask("HEAD", "/x.tgz", "");
    in_body.open();
    for (client, response) in followers.iter_mut().zip(&mut heads) {
        client.finish(response);
        response.expect(200, b"0123456789");
    }
    leader.finish(&mut first);
    first.expect(200, b"0123456789");
    server.expect_cached("x.tgz", b"0123456789");
    heads.extend([asked, server.get("/x.tgz")]);
    for response in heads {
        assert_eq!(response.status, 200);
        assert_eq!(response.all("Set-Cookie"), [""; 0], "somebody else's session");
    }
    assert_eq!(origin.count(), 1);
}

fn body_bytes_in_the_packet_of_the_head_are_stored_in_order(io: Io) {
    const SIZE: usize = 2 << 20;
    // From a single byte to more than one read takes, and all of it.
    for first in [1, 1_000, 16_000, 16_384, 20_000, 300_000, SIZE] {
        let body = bytes(SIZE, 9);
        let whole = body.clone();
        let origin = Origin::start(move |_, reply| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            reply.write([head.as_bytes(), &whole[..first]].concat());
            let mut rest = &whole[first..];
            for size in [1, 7, 4_097, 65_537, 131, 300_001, 1_000_003].into_iter().cycle() {
                let (piece, left) = rest.split_at(size.min(rest.len()));
                if piece.is_empty() || !reply.write(piece) {
                    return;
                }
                // Each piece is to come as one.
                thread::sleep(Duration::from_millis(2));
                rest = left;
            }
        });
        let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
        let mut client = server.client();
        client.get("/x.tgz").expect(200, &body).expect_keep_alive();
        server.expect_cached("x.tgz", &body);
        client.get("/pass").expect(200, &body).expect_keep_alive();
        client.get("/x.tgz").expect(200, &body).expect_keep_alive();
        assert_eq!(origin.count(), 2);
    }
}

fn clients_that_find_a_file_just_stored_are_hits(io: Io) {
    const NAMES: usize = 50;
    const CLIENTS: usize = 16;
    let origin = Origin::start(|request, reply| reply.serve(request, request.target.as_bytes()));
    let server = Launch::new(io, &origin).args(["--workers", "2"]).start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
    // All ask for the same name at once: some lead, some follow, and some look before the file
    // is there and take their turn when it is.
    for target in (0..NAMES).map(|n| format!("/{n}.tgz")) {
        let (together, target) = (Barrier::new(CLIENTS), target.as_str());
        thread::scope(|scope| {
            for client in &mut clients {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    client.get(target).expect(200, target.as_bytes()).expect_keep_alive();
                });
            }
        });
        server.expect_cached(&target[1..], target.as_bytes());
    }
    let mut targets: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    targets.sort();
    let mut want: Vec<_> = (0..NAMES).map(|n| format!("/{n}.tgz")).collect();
    want.sort();
    assert_eq!(targets, want, "each is fetched once");
}

fn a_cache_directory_that_was_replaced_is_followed(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Server::start(io, &origin);
    server.get("/first.tgz").expect(200, b"body");
    server.expect_cached("first.tgz", b"body");
    // Removed and made again by the operator; removed; and moved away.
    for (round, replace) in [true, false, false].into_iter().enumerate() {
        if round == 2 {
            std::fs::rename(server.cache_dir(), server.outside().join("moved")).unwrap();
        } else {
            std::fs::remove_dir_all(server.cache_dir()).unwrap();
        }
        if replace {
            std::fs::create_dir(server.cache_dir()).unwrap();
        }
        let mut tries = 0;
        wait_until("files are cached again", || {
            tries += 1;
            let name = |number| format!("{round}-{number}.tgz");
            server.get(&format!("/{}", name(tries))).expect(200, b"body");
            // A file gets its name some time after its answer.
            (1..=tries).any(|number| server.path(&name(number)).exists())
        });
    }
    // What was moved away is not served any more.
    let before = origin.count();
    server.get("/first.tgz").expect(200, b"body");
    assert_eq!(origin.count(), before + 1);
}

fn a_malformed_upload_is_an_empty_400(io: Io) {
    let origin = Origin::at_heads(None, |request, reply| drop(reply.upload(request)));
    let server = Server::start(io, &origin);
    let mut client = server.client();
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    let response = client.response("POST");
    response.expect(400, b"");
    assert_eq!(response.field("Content-Type"), None);
    client.expect_closed();
}
