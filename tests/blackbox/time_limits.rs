//! The time limits: a transfer without progress is cut, on either side; a slow one is not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::util::chunked;
use crate::support::{Client, Io, Launch, Origin, Response, Server, bytes, on_both, wait_until};

on_both!(
    a_silent_origin_is_504_for_all_waiting_clients,
    a_silent_origin_is_504_on_a_pass,
    a_head_that_trickles_for_ever_is_504,
    an_origin_that_stalls_mid_body_breaks_a_fill_and_commits_nothing,
    an_origin_that_stalls_mid_body_breaks_a_pass,
    a_client_that_stops_reading_is_cut,
    a_client_that_stops_reading_its_miss_does_not_stop_the_fill,
    an_idle_connection_is_closed,
    a_connection_that_never_asks_is_closed,
    an_origin_that_does_not_accept_is_504,
    slow_but_progressing_transfers_are_not_cut,
    a_client_that_takes_a_little_at_a_time_is_not_cut,
    a_client_that_stops_after_taking_a_little_at_a_time_is_cut,
    an_origin_that_takes_an_upload_a_little_at_a_time_is_not_cut,
    an_origin_that_stops_taking_an_upload_is_cut,
);

/// The error answers of the program itself: one line of text.
#[track_caller]
fn expect_504(response: &Response) {
    assert_eq!(response.status, 504, "{response:?}");
    assert!(response.whole);
    let text = String::from_utf8(response.body.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "one line: {text:?}");
    assert!(response.field("Content-Type").is_some_and(|kind| kind.starts_with("text/plain")));
}

/// An origin that reads requests and says nothing while the flag is set, and serves afterwards.
fn sullen(body: &[u8]) -> (Origin, Arc<AtomicBool>) {
    let quiet = Arc::new(AtomicBool::new(true));
    let (says_nothing, body) = (Arc::clone(&quiet), body.to_vec());
    let origin = Origin::start(move |request, reply| {
        if !says_nothing.load(Ordering::Acquire) {
            reply.serve(request, &body);
        }
    });
    (origin, quiet)
}

fn a_silent_origin_is_504_for_all_waiting_clients(io: Io) {
    let (origin, quiet) = sullen(b"body");
    let server = Launch::new(io, &origin).args(["--response-timeout", "0.3"]).start();
    let mut clients: Vec<_> = (0..4).map(|_| server.client()).collect();
    clients[0].ask("GET", "/x.tgz", "");
    wait_until("the origin is asked", || origin.count() == 1);
    for client in &mut clients[1..] {
        client.ask("GET", "/x.tgz", "");
    }
    for client in &mut clients {
        let response = client.response("GET");
        expect_504(&response);
        response.expect_keep_alive();
    }
    server.expect_nothing_cached();
    quiet.store(false, Ordering::Release);
    for client in &mut clients {
        client.get("/x.tgz").expect(200, b"body");
    }
    server.expect_cached("x.tgz", b"body");
}

fn a_silent_origin_is_504_on_a_pass(io: Io) {
    let (origin, quiet) = sullen(b"body");
    let server = Launch::new(io, &origin).args(["--response-timeout", "0.3"]).start();
    let mut client = server.client();
    expect_504(client.get("/pass").expect_keep_alive());
    let head = client.ask("HEAD", "/pass", "").response("HEAD");
    assert_eq!((head.status, head.body.len()), (504, 0));
    // With a body, too: the limit counts from the body's end.
    let upload = server.ask("POST", "/pass", "Content-Length: 0\r\n");
    expect_504(&upload);
    let mut uploader = server.client();
    uploader.send("PUT /pass HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    expect_504(&uploader.response("PUT"));
    quiet.store(false, Ordering::Release);
    client.get("/pass").expect(200, b"body");
    server.get("/pass").expect(200, b"body");
}

fn a_head_that_trickles_for_ever_is_504(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.index > 1 {
            return reply.serve(request, b"body");
        }
        reply.write("HTTP/1.1 200 OK\r\nX-Long: ");
        // Each byte comes in time, the head as a whole does not.
        while reply.write("x") {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let server = Launch::new(io, &origin).args(["--response-timeout", "0.3"]).start();
    expect_504(&server.get("/x.tgz"));
    expect_504(&server.get("/pass"));
    server.get("/x.tgz").expect(200, b"body");
}

/// Sends the head, a length and half of the body to the first request, then nothing.
fn stalls_once(body: &[u8], in_chunks: bool) -> Origin {
    let body = body.to_vec();
    Origin::start(move |request, reply| {
        let (head, message) = if in_chunks {
            ("Transfer-Encoding: chunked".to_owned(), chunked(&body, 1_000))
        } else {
            (format!("Content-Length: {}", body.len()), body.clone())
        };
        reply.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
        if request.index == 0 {
            reply.write(&message[..message.len() / 2]);
        } else {
            reply.write(&message);
        }
    })
}

fn an_origin_that_stalls_mid_body_breaks_a_fill_and_commits_nothing(io: Io) {
    for (size, in_chunks) in [(100_000, false), (4_000_000, false), (100_000, true)] {
        let body = bytes(size, 1);
        let origin = stalls_once(&body, in_chunks);
        let server = Launch::new(io, &origin).args(["--stall-timeout", "0.3"]).start();
        let mut clients = [server.client(), server.client()];
        let mut heads = Vec::new();
        for client in &mut clients {
            heads.push(client.ask("GET", "/x.tgz", "").head("GET"));
        }
        for (client, response) in clients.iter_mut().zip(&mut heads) {
            client.finish(response);
            assert!(!response.whole, "a short body passed for a whole one");
            assert!(body.starts_with(&response.body) && response.body.len() > size / 4);
            client.expect_closed();
        }
        server.expect_nothing_cached();
        server.get("/x.tgz").expect(200, &body);
        server.expect_cached("x.tgz", &body);
        assert_eq!(origin.count(), 2);
    }
}

fn an_origin_that_stalls_mid_body_breaks_a_pass(io: Io) {
    for (size, in_chunks) in [(100_000, false), (4_000_000, false), (100_000, true)] {
        let body = bytes(size, 2);
        let origin = stalls_once(&body, in_chunks);
        let server = Launch::new(io, &origin).args(["--stall-timeout", "0.3"]).start();
        let mut client = server.client();
        let broken = client.get("/pass");
        assert!(!broken.whole, "a short body passed for a whole one");
        assert!(body.starts_with(&broken.body) && broken.body.len() > size / 4);
        client.expect_closed();
        server.get("/pass").expect(200, &body);
    }
}

/// Asks and reads the head, then nothing more.
fn lazy(server: &Server, target: &str) -> (Client, Response) {
    let mut client = Client::connect_with_small_window(server.addr());
    let head = client.ask("GET", target, "").head("GET");
    assert_eq!(head.status, 200);
    (client, head)
}

fn a_client_that_stops_reading_is_cut(io: Io) {
    let body = bytes(32 << 20, 3);
    let origin = Origin::fixed(&body);
    let server = Launch::new(io, &origin).args(["--stall-timeout", "0.3", "--workers", "1"]).start();
    server.put("hit.tar", &body);
    server.get("/hit.tar").expect(200, &body);
    wait_until("that client's descriptors are gone", || {
        let before = server.descriptors();
        thread::sleep(Duration::from_millis(20));
        server.descriptors() == before
    });
    let before = server.descriptors();
    for target in ["/hit.tar", "/pass"] {
        let mut clients: Vec<_> = (0..10).map(|_| lazy(&server, target)).collect();
        // A line is written when its response has ended, in whatever way.
        let ended = || server.out.all().iter().filter(|line| line.contains(target)).count();
        wait_until("all are cut", || ended() == if target == "/pass" { 10 } else { 11 });
        // Ten sockets, and ten files or ten origin connections.
        wait_until("the descriptors are back", || server.descriptors() <= before + 2);
        for (client, response) in &mut clients {
            client.finish(response);
            assert!(!response.whole, "it was not cut");
            assert!(body.starts_with(&response.body));
        }
    }
    server.get("/hit.tar").expect(200, &body);
}

fn a_client_that_stops_reading_its_miss_does_not_stop_the_fill(io: Io) {
    let body = bytes(32 << 20, 4);
    let origin = Origin::fixed(&body);
    let server = Launch::new(io, &origin).args(["--stall-timeout", "0.3"]).start();
    let (mut client, mut response) = lazy(&server, "/x.tar");
    server.expect_cached("x.tar", &body);
    server.get("/x.tar").expect(200, &body);
    // A line is written when its response has ended, in whatever way.
    wait_until("the slow client is cut", || {
        server.out.all().iter().filter(|line| line.contains("/x.tar")).count() == 2
    });
    client.finish(&mut response);
    assert!(!response.whole, "it was not cut");
    assert_eq!(origin.count(), 1);
}

fn an_idle_connection_is_closed(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Launch::new(io, &origin).args(["--idle-timeout", "0.3"]).start();
    for target in ["/x.tgz", "/x.tgz", "/pass"] {
        let mut client = server.client();
        client.get(target).expect(200, b"body").expect_keep_alive();
        client.expect_closed();
    }
}

fn a_connection_that_never_asks_is_closed(io: Io) {
    let origin = Origin::silent();
    // One worker, so that all of it has started when it has served somebody.
    let server = Launch::new(io, &origin).args(["--idle-timeout", "0.3", "--workers", "1"]).start();
    server.put("x.tgz", b"body");
    server.get("/x.tgz").expect(200, b"body");
    let before = server.descriptors();
    let mut clients: Vec<_> = (0..20).map(|_| server.client()).collect();
    for client in &mut clients {
        client.expect_closed();
    }
    wait_until("the descriptors are back", || server.descriptors() <= before);
    // Nobody asked for anything, so there is nothing to log.
    server.get("/x.tgz?last").expect(200, b"body");
    server.out.wait_for("/x.tgz?last");
    assert_eq!(server.out.all().len(), 2);
}

/// A listener whose queue is full: the kernel drops what asks to connect. None where it does not.
fn crowded() -> Option<(TcpListener, Vec<TcpStream>)> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut crowd = Vec::new();
    while crowd.len() < 64 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(stream) => crowd.push(stream),
            Err(_) => return Some((listener, crowd)),
        }
    }
    None
}

fn an_origin_that_does_not_accept_is_504(io: Io) {
    let Some((listener, crowd)) = crowded() else {
        eprintln!("SKIPPED: this kernel accepts connections beyond the backlog");
        return;
    };
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Launch::at(io, &url).args(["--connect-timeout", "0.3"]).start();
    let mut client = server.client();
    for target in ["/x.tgz", "/pass"] {
        expect_504(client.get(target).expect_keep_alive());
    }
    server.expect_nothing_cached();
    drop((listener, crowd));
    // Refused at once is another error than no answer. A new server: this one has patience.
    let server = Launch::at(io, &url).args(["--connect-timeout", "5"]).start();
    assert_eq!(server.get("/x.tgz").status, 502);
}

const STEPS: usize = 16;
const STEP: Duration = Duration::from_millis(100);

/// Calls `act` on each of [`STEPS`] parts of `data`, with a pause after each.
fn slowly(data: &[u8], mut act: impl FnMut(&[u8])) {
    for part in data.chunks(data.len().div_ceil(STEPS)) {
        act(part);
        thread::sleep(STEP);
    }
}

fn slow_but_progressing_transfers_are_not_cut(io: Io) {
    let body = bytes(160_000, 5);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| match &*request.target {
        "/chunked.tgz" => {
            reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            slowly(&chunked(&sent, 10_000), |part| assert!(reply.write(part)));
        }
        "/upload" => reply.answer("200 OK", "", &request.body),
        _ => {
            reply.head(sent.len(), "");
            slowly(&sent, |part| assert!(reply.write(part)));
        }
    });
    // Each limit is ten steps long, and the whole takes sixteen.
    let limits = ["--stall-timeout=1", "--response-timeout=1", "--idle-timeout=1", "--connect-timeout=1"];
    let server = Launch::new(io, &origin).args(limits).start();
    let large = bytes(32 << 20, 6);
    server.put("hit.tar", &large);
    thread::scope(|scope| {
        for target in ["/x.tgz", "/chunked.tgz", "/pass"] {
            let (server, body) = (&server, &body);
            scope.spawn(move || server.get(target).expect(200, body).status);
        }
        scope.spawn(|| {
            let mut client = server.client();
            client.send("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 160000\r\n\r\n");
            slowly(&body, |part| {
                client.send(part);
            });
            client.response("PUT").expect(200, &body);
        });
        scope.spawn(|| {
            let (mut client, mut response) = lazy(&server, "/hit.tar");
            slowly(&large, |part| response.body.extend(client.raw(part.len())));
            response.expect(200, &large).expect_keep_alive();
        });
    });
    server.expect_cached("x.tgz", &body);
    server.expect_cached("chunked.tgz", &body);
}

/// Bytes taken at a time: far fewer than the third of a send buffer that must be free before the
/// kernel lets a sender go on.
const LITTLE: usize = 2_000;
/// Four times the stall timeout of one second.
const LITTLE_STEPS: usize = 40;

fn takes_a_little_at_a_time(server: &Server, target: &str) -> (Client, Response) {
    let (mut client, mut response) = lazy(server, target);
    for _ in 0..LITTLE_STEPS {
        assert!(client.try_raw(LITTLE, &mut response.body), "it was cut");
        thread::sleep(STEP);
    }
    (client, response)
}

fn a_client_that_takes_a_little_at_a_time_is_not_cut(io: Io) {
    let body = bytes(16 << 20, 7);
    let origin = Origin::fixed(&body);
    // Slow, but twenty times as fast as it must be.
    let server = Launch::new(io, &origin).args(["--stall-timeout=1", "--min-rate=1000"]).start();
    server.put("hit.tar", &body);
    thread::scope(|scope| {
        for target in ["/hit.tar", "/x.tar", "/pass"] {
            let (server, body) = (&server, &body);
            scope.spawn(move || {
                let (mut client, mut response) = takes_a_little_at_a_time(server, target);
                client.finish(&mut response);
                response.expect(200, body).expect_keep_alive();
            });
        }
    });
}

fn a_client_that_stops_after_taking_a_little_at_a_time_is_cut(io: Io) {
    let body = bytes(16 << 20, 8);
    let origin = Origin::fixed(&body);
    let server = Launch::new(io, &origin).args(["--stall-timeout=1"]).start();
    server.put("hit.tar", &body);
    let slow = thread::scope(|scope| {
        let slow = ["/hit.tar", "/x.tar", "/pass"]
            .map(|target| scope.spawn(|| takes_a_little_at_a_time(&server, target)));
        slow.map(|slow| slow.join().unwrap())
    });
    // Nor does it help that a kernel with a large window takes in much of what nobody reads.
    let mut wide = server.client();
    let head = wide.ask("GET", "/hit.tar", "").head("GET");
    // A line is written when its response has ended, in whatever way.
    wait_until("all are cut", || server.out.all().len() == 4);
    for (mut client, mut response) in slow.into_iter().chain([(wide, head)]) {
        client.finish(&mut response);
        assert!(!response.whole, "it was not cut");
        assert!(body.starts_with(&response.body));
    }
}

/// An origin that takes the first of an upload of `length` bytes a little at a time, and then all
/// of it and answers with it, or nothing more. Its address, and its thread.
fn takes_little(length: usize, then_all: bool) -> (String, thread::JoinHandle<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serve = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut taken, mut piece) = (Vec::new(), [0; LITTLE]);
        for _ in 0..LITTLE_STEPS {
            match stream.read(&mut piece).unwrap() {
                0 => return stream,
                count => taken.extend_from_slice(&piece[..count]),
            }
            thread::sleep(STEP);
        }
        if !then_all {
            // It stays open.
            return stream;
        }
        let head = taken.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        taken.drain(..head);
        let mut rest = vec![0; length - taken.len()];
        stream.read_exact(&mut rest).unwrap();
        taken.extend(rest);
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").unwrap();
        stream.write_all(&taken).unwrap();
        stream
    });
    (url, serve)
}

fn an_origin_that_takes_an_upload_a_little_at_a_time_is_not_cut(io: Io) {
    let body = bytes(16 << 20, 9);
    let (url, serve) = takes_little(body.len(), true);
    let server = Launch::at(io, &url).args(["--stall-timeout=1"]).start();
    let mut client = server.client();
    client.send(format!("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send_lossy(&body);
    client.response("PUT").expect(200, &body);
    serve.join().unwrap();
}

fn an_origin_that_stops_taking_an_upload_is_cut(io: Io) {
    let body = bytes(16 << 20, 10);
    let (url, serve) = takes_little(body.len(), false);
    let server = Launch::at(io, &url).args(["--stall-timeout=1", "--response-timeout=1"]).start();
    let mut client = server.client();
    client.send(format!("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send_lossy(&body);
    expect_504(&client.response("PUT"));
    serve.join().unwrap();
}
