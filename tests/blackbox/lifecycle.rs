//! Signals, draining, and the files that a stop leaves behind.

use std::net::TcpStream;

use crate::support::{Gate, Io, Launch, Origin, Server, bytes, on_both, wait_until};

on_both!(
    an_idle_server_ends_on_a_signal_to_stop,
    signals_of_no_meaning_stop_nothing,
    idle_keep_alive_connections_close_on_term,
    what_is_in_flight_is_finished,
    a_stop_accepts_no_new_connections,
    the_drain_deadline_ends_it,
    a_head_that_never_ends_does_not_hold_up_a_stop,
    a_second_signal_ends_it_at_once,
    a_connection_accepted_but_unread_is_served,
    log_lines_are_out_before_the_exit,
    a_fill_without_clients_is_finished_or_leaves_nothing_final,
);

fn an_idle_server_ends_on_a_signal_to_stop(io: Io) {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let origin = Origin::fixed(b"body");
        let mut server = Server::start(io, &origin);
        server.get("/x.tgz").expect(200, b"body");
        server.expect_cached("x.tgz", b"body");
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(server.err.all(), [""; 0]);
        server.expect_tree(&["x.tgz"]);
    }
}

fn signals_of_no_meaning_stop_nothing(io: Io) {
    let (origin, gate) = half_way(b"some body");
    let mut server = Server::start(io, &origin);
    let mut client = server.client();
    client.ask("GET", "/x.tgz", "").head("GET");
    for signal in [
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGPIPE,
        libc::SIGCHLD,
        libc::SIGURG,
        libc::SIGWINCH,
        libc::SIGXCPU,
        libc::SIGXFSZ,
    ] {
        server.signal(signal);
    }
    #[cfg(target_os = "linux")]
    for signal in [libc::SIGPWR, libc::SIGSTKFLT, libc::SIGRTMIN(), libc::SIGRTMAX()] {
        server.signal(signal);
    }
    gate.open();
    client.raw(b"some body".len());
    server.expect_cached("x.tgz", b"some body");
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
}

fn idle_keep_alive_connections_close_on_term(io: Io) {
    let origin = Origin::fixed(b"body");
    let mut server = Server::start(io, &origin);
    let mut clients: Vec<_> = (0..20).map(|_| server.client()).collect();
    for client in &mut clients {
        client.get("/x.tgz").expect(200, b"body").expect_keep_alive();
    }
    server.signal(libc::SIGTERM);
    for client in &mut clients {
        client.expect_closed();
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// An origin that sends half of `body` and the rest when the gate opens.
fn half_way(body: &[u8]) -> (Origin, Gate) {
    let gate = Gate::default();
    let (held, body) = (gate.clone(), body.to_vec());
    let origin = Origin::start(move |_, reply| {
        reply.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
        reply.write(&body[..body.len() / 2]);
        held.wait();
        reply.write(&body[body.len() / 2..]);
    });
    (origin, gate)
}

fn what_is_in_flight_is_finished(io: Io) {
    let body = bytes(400_000, 1);
    let (origin, gate) = half_way(&body);
    let mut server = Server::start(io, &origin);
    let mut clients = Vec::new();
    for target in ["/fill.tgz", "/fill.tgz", "/pass"] {
        let mut client = server.client();
        let mut response = client.ask("GET", target, "").head("GET");
        response.body = client.raw(200_000);
        clients.push((client, response));
    }
    server.signal(libc::SIGTERM);
    wait_until("it stops listening", || TcpStream::connect(server.addr()).is_err());
    assert!(!server.gone(), "it left with work in flight");
    gate.open();
    for (client, response) in &mut clients {
        client.finish(response);
        response.expect(200, &body);
        client.expect_closed();
    }
    assert_eq!(server.wait().code(), Some(0));
    server.expect_cached("fill.tgz", &body);
    server.expect_tree(&["fill.tgz"]);
}

fn a_stop_accepts_no_new_connections(io: Io) {
    let body = bytes(100_000, 2);
    let (origin, gate) = half_way(&body);
    let mut server = Server::start(io, &origin);
    let mut client = server.client();
    let mut response = client.ask("GET", "/pass", "").head("GET");
    server.signal(libc::SIGTERM);
    wait_until("new connections are refused", || TcpStream::connect(server.addr()).is_err());
    gate.open();
    client.finish(&mut response);
    response.expect(200, &body);
    assert_eq!(server.wait().code(), Some(0));
}

fn the_drain_deadline_ends_it(io: Io) {
    let body = bytes(100_000, 3);
    let (origin, gate) = half_way(&body);
    let mut server = Launch::new(io, &origin).args(["--drain-timeout", "1"]).start();
    let mut client = server.client();
    let mut response = client.ask("GET", "/x.tgz", "").head("GET");
    server.signal(libc::SIGTERM);
    server.wait();
    client.finish(&mut response);
    assert!(!response.whole, "a short body passed for a whole one");
    gate.open();
    // No validator, so there is nothing that could be resumed: nothing is left at all.
    server.expect_nothing_cached();
}

fn a_head_that_never_ends_does_not_hold_up_a_stop(io: Io) {
    let origin = Origin::silent();
    // Longer than any test waits.
    let mut server = Launch::new(io, &origin).args(["--drain-timeout", "600"]).start();
    let mut client = server.client();
    client.send("GET /x.tgz HTTP/1.1\r\nX-Long: ");
    std::thread::sleep(std::time::Duration::from_millis(100));
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    client.expect_closed();
}

fn a_second_signal_ends_it_at_once(io: Io) {
    let body = bytes(100_000, 4);
    let (origin, gate) = half_way(&body);
    let mut server = Launch::new(io, &origin).args(["--drain-timeout", "3600"]).start();
    let mut client = server.client();
    client.ask("GET", "/x.tgz", "").head("GET");
    server.signal(libc::SIGTERM);
    wait_until("the first signal is heeded", || TcpStream::connect(server.addr()).is_err());
    assert!(!server.gone());
    server.signal(libc::SIGTERM);
    server.wait();
    gate.open();
    assert!(!server.path("x.tgz").exists());
}

fn a_connection_accepted_but_unread_is_served(io: Io) {
    let origin = Origin::fixed(b"body");
    let mut server = Server::start(io, &origin);
    server.put("hit.tgz", b"hit");
    let mut served = 0;
    let mut clients: Vec<_> = (0..20).map(|_| server.client()).collect();
    for client in &mut clients {
        client.ask("GET", "/hit.tgz", "");
    }
    server.signal(libc::SIGTERM);
    for client in &mut clients {
        if let Some(response) = client.try_response("GET") {
            response.expect(200, b"hit");
            served += 1;
        }
    }
    // All of them had sent their request before the signal.
    assert_eq!(served, 20);
    assert_eq!(server.wait().code(), Some(0));
}

fn log_lines_are_out_before_the_exit(io: Io) {
    let origin = Origin::silent();
    let mut server = Server::start(io, &origin);
    server.put("x.tgz", b"body");
    let mut client = server.client();
    for n in 0..100 {
        client.get(&format!("/x.tgz?{n}.")).expect(200, b"body");
    }
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    wait_until("a hundred lines", || server.out.all().len() == 100);
}

fn a_fill_without_clients_is_finished_or_leaves_nothing_final(io: Io) {
    let body = bytes(100_000, 5);
    let (origin, gate) = half_way(&body);
    let mut server = Server::start(io, &origin);
    let mut client = server.client();
    client.ask("GET", "/x.tgz", "").head("GET");
    client.abort();
    server.signal(libc::SIGTERM);
    gate.open();
    assert_eq!(server.wait().code(), Some(0));
    if server.path("x.tgz").exists() {
        server.expect_cached("x.tgz", &body);
    }
}
