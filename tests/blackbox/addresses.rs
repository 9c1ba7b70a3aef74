//! An origin whose name has several addresses, some of which do not answer.

use std::ffi::CString;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::sandbox::{Limit, apply};
use crate::support::{Io, Launch, Origin, Reply, Server, on_both, wait_until, within};

on_both!(
    an_address_that_swallows_connections_does_not_hold_up_the_next_one,
    an_address_that_swallowed_connections_is_tried_last_from_then_on,
    an_address_that_refused_is_tried_last_from_then_on,
    an_address_that_answers_again_is_used_when_the_others_fail,
    addresses_that_all_swallow_connections_are_504_in_time,
    every_address_is_tried_before_another_is_given_up,
    attempts_are_closed_when_one_has_won,
);

const NAME: &str = "several.example.org";

/// A launch with a hosts file in which the name has these addresses, in this order. `None`, and words, where the
/// system does not let us.
fn launch(io: Io, dir: &tempfile::TempDir, hosts: &[&str], port: u16) -> Option<Launch> {
    let path = dir.path().join("hosts");
    let lines: String = hosts.iter().map(|address| format!("{address} {NAME}\n")).collect();
    fs::write(&path, format!("127.0.0.1 localhost\n{lines}")).unwrap();
    // The child needs it between fork and exec: kept for as long as the test process lives.
    let file = Box::leak(CString::new(path.to_str().unwrap()).unwrap().into_boxed_c_str());
    let mut probe = Command::new("true");
    apply(&mut probe, vec![Limit::Hosts(file)]);
    if probe.status().is_err() {
        eprintln!("SKIPPED: no mounts of our own on this host");
        return None;
    }
    Some(Launch::at(io, &format!("http://{NAME}:{port}")).limit(Limit::Hosts(file)))
}

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

/// Responds, and closes each connection: the next request has to connect again.
fn answers(word: &'static str) -> impl Fn(&crate::support::origin::Request, &mut Reply<'_>) + Send + Sync {
    move |_, reply| {
        reply.answer("200 OK", "Connection: close\r\n", word.as_bytes());
        reply.close();
    }
}

/// Takes the first packet of each connection, and is silent: its queue is full.
struct Swallower {
    socket: socket2::Socket,
    _filler: TcpStream,
}

impl Swallower {
    fn at(address: SocketAddr) -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let filler = TcpStream::connect(address).unwrap();
        assert!(TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err(), "it answers");
        Self { socket, _filler: filler }
    }
}

fn an_address_that_swallows_connections_does_not_hold_up_the_next_one(io: Io) {
    for dead in [&[2][..], &[2, 3], &[2, 3, 4]] {
        let dir = tempfile::tempdir().unwrap();
        let origin = Origin::start_at(at(9, 0), answers("good"));
        let port = origin.port();
        let _swallowers: Vec<_> = dead.iter().map(|last| Swallower::at(at(*last, port))).collect();
        let hosts: Vec<_> = dead.iter().chain(&[9]).map(|last| format!("127.0.0.{last}")).collect();
        let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
        let Some(launch) = launch(io, &dir, &hosts, port) else { return };
        let server = launch.start();
        let began = Instant::now();
        server.get("/x.tgz").expect(200, b"good");
        // A tenth of that where nothing else runs.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?} with {dead:?}", began.elapsed());
        server.expect_cached("x.tgz", b"good");
    }
}

/// Each of several workers connects to the living one, though the first address of the name answers by now.
#[track_caller]
fn expect_good(server: &Server) {
    for _ in 0..16 {
        assert_eq!(String::from_utf8_lossy(&server.get("/x").body), "good");
    }
}

fn an_address_that_swallowed_connections_is_tried_last_from_then_on(io: Io) {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start_at(at(9, 0), answers("good"));
    let swallower = Swallower::at(at(2, origin.port()));
    let Some(launch) = launch(io, &dir, &["127.0.0.2", "127.0.0.9"], origin.port()) else { return };
    let server = launch.args(["--workers", "2"]).start();
    server.get("/x").expect(200, b"good");
    let port = origin.port();
    drop(swallower);
    let back = within("the address answers", || {
        std::net::TcpListener::bind(at(2, port))
            .ok()
            .map(drop)
            .map(|()| Origin::start_at(at(2, port), answers("back")))
    });
    expect_good(&server);
    assert_eq!(back.count(), 0);
}

fn an_address_that_refused_is_tried_last_from_then_on(io: Io) {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start_at(at(9, 0), answers("good"));
    let Some(launch) = launch(io, &dir, &["127.0.0.2", "127.0.0.9"], origin.port()) else { return };
    let server = launch.args(["--workers", "2"]).start();
    server.get("/x").expect(200, b"good");
    let back = Origin::start_at(at(2, origin.port()), answers("back"));
    expect_good(&server);
    assert_eq!(back.count(), 0);
}

fn an_address_that_answers_again_is_used_when_the_others_fail(io: Io) {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start_at(at(9, 0), answers("good"));
    let port = origin.port();
    let Some(launch) = launch(io, &dir, &["127.0.0.2", "127.0.0.9"], port) else { return };
    let server = launch.start();
    server.get("/x").expect(200, b"good");
    drop(origin);
    wait_until("nobody listens there", || TcpStream::connect(at(9, port)).is_err());
    assert_eq!(server.get("/x").status, 502);
    let _back = Origin::start_at(at(2, port), answers("back"));
    server.get("/x").expect(200, b"back");
}

fn addresses_that_all_swallow_connections_are_504_in_time(io: Io) {
    let dir = tempfile::tempdir().unwrap();
    let lasts = [2, 3, 4, 5, 6];
    let first = Swallower::at(at(lasts[0], 0));
    let port = first.socket.local_addr().unwrap().as_socket().unwrap().port();
    let _others: Vec<_> = lasts[1..].iter().map(|last| Swallower::at(at(*last, port))).collect();
    let hosts = lasts.map(|last| format!("127.0.0.{last}"));
    let hosts = hosts.each_ref().map(String::as_str);
    let Some(launch) = launch(io, &dir, &hosts, port) else { return };
    let server = launch.args(["--connect-timeout", "1"]).start();
    let began = Instant::now();
    assert_eq!(server.get("/x").status, 504);
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
}

/// Connections to this port that nobody has answered yet: their state is SYN_SENT.
fn attempts(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let is_one = |line: &&str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.get(2).is_some_and(|peer| peer.ends_with(&format!(":{port:04X}")))
            && words.get(3) == Some(&"02")
    };
    table.lines().filter(is_one).count()
}

fn every_address_is_tried_before_another_is_given_up(io: Io) {
    let dir = tempfile::tempdir().unwrap();
    let lasts = [2, 3, 4, 5, 6, 7, 8, 9, 10];
    let first = Swallower::at(at(lasts[0], 0));
    let port = first.socket.local_addr().unwrap().as_socket().unwrap().port();
    let _others: Vec<_> = lasts[1..].iter().map(|last| Swallower::at(at(*last, port))).collect();
    let hosts = lasts.map(|last| format!("127.0.0.{last}"));
    let hosts = hosts.each_ref().map(String::as_str);
    let Some(launch) = launch(io, &dir, &hosts, port) else { return };
    let server = launch.args(["--workers", "1", "--connect-timeout", "6"]).start();
    let mut client = server.client();
    client.ask("GET", "/x", "");
    // Eight of a name's addresses are tried.
    wait_until("eight are under way", || attempts(port) == 8);
    assert_eq!(client.response("GET").status, 504);
    wait_until("all are closed", || attempts(port) == 0);
}

fn attempts_are_closed_when_one_has_won(io: Io) {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start_at(at(9, 0), answers("good"));
    let lasts = [2, 3, 4, 5, 6, 7];
    let _swallowers = lasts.map(|last| Swallower::at(at(last, origin.port())));
    let hosts = [2, 3, 4, 5, 6, 7, 9].map(|last| format!("127.0.0.{last}"));
    let hosts = hosts.each_ref().map(String::as_str);
    let Some(launch) = launch(io, &dir, &hosts, origin.port()) else { return };
    let server = launch.args(["--workers", "1"]).start();
    let port = origin.port();
    let mut client = server.client();
    client.ask("GET", "/x", "");
    wait_until("several are under way", || attempts(port) > 1);
    client.response("GET").expect(200, b"good");
    wait_until("all are closed", || attempts(port) == 0);
    // What is known now costs no wait any more: one and a half seconds each without that.
    let began = Instant::now();
    for _ in 0..4 {
        server.get("/x").expect(200, b"good");
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
