//! The limits that are flags: a client over a limit gets an error or a close, and all others are served as before.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::sandbox::Limit;
use crate::support::{Client, Gate, Io, Launch, Origin, Server, bytes, on_both, wait_until};

on_both!(
    a_burst_of_misses_is_stored_whole_and_requested_once,
    a_burst_of_misses_in_the_revalidated_class_is_stored_whole_and_requested_once,
    heads_have_the_limits_that_flags_and_variables_set,
    an_origins_head_has_the_same_limits,
    a_head_that_trickles_is_408_after_the_head_timeout,
    the_connection_limit_of_one_client_leaves_room_for_others,
    idle_connections_are_closed_for_clients_that_wait,
    at_the_connection_limit_a_new_client_waits,
    requests_over_the_origin_limit_wait_and_then_are_503,
    a_client_that_leaves_the_origin_queue_delays_no_other,
    beyond_the_limit_of_fills_a_miss_is_passed,
    too_many_requests_without_answers_are_429,
    heads_without_end_share_so_much_memory,
    a_client_below_the_least_rate_is_cut,
    a_flood_beyond_the_descriptors_costs_no_cpu_and_service_goes_on,
    incomplete_heads_are_evicted_for_clients_that_wait,
    busy_clients_give_way_to_clients_that_wait,
    clients_that_hang_up_before_the_head_hold_no_place_for_long,
);

fn head(fields: usize, length: usize) -> String {
    let fields: String = (1..fields).map(|n| format!("X-{n}: 1\r\n")).collect();
    let mut head = format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}X-Last: ");
    head.push_str(&"b".repeat(length - head.len() - 4));
    head + "\r\n\r\n"
}

fn heads_have_the_limits_that_flags_and_variables_set(io: Io) {
    let origin = Origin::fixed(b"body");
    let flags = Launch::new(io, &origin).args(["--max-head=2000", "--max-fields=12", "--max-target", "1500"]);
    let variables = Launch::new(io, &origin)
        .env("FS_CACHE_MAX_HEAD", "2000")
        .env("FS_CACHE_MAX_FIELDS", "12")
        .env("FS_CACHE_MAX_TARGET", "1500");
    for server in [flags.start(), variables.start()] {
        let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(length - 1));
        for (request, status) in [
            (head(2, 2_000), 200),
            (head(2, 2_001), 431),
            // With Host and the last.
            (head(11, 1_000), 200),
            (head(12, 1_000), 431),
            (target(1_500), 200),
            (target(1_501), 414),
        ] {
            let before = origin.count();
            let mut client = server.client();
            client.send(&request);
            let response = client.response("GET");
            assert_eq!(response.status, status, "{request:?}");
            if status == 200 {
                response.expect_keep_alive();
            } else {
                client.expect_closed();
                assert_eq!(origin.count(), before);
            }
        }
    }
}

fn an_origins_head_has_the_same_limits(io: Io) {
    let origin = Origin::start(|request, reply| {
        let long = "l".repeat(3_000);
        let many = "X-A: b\r\n".repeat(20);
        match &*request.target {
            "/long" => reply.answer("200 OK", &format!("X-Long: {long}\r\n"), b"body"),
            "/many" => reply.answer("200 OK", &many, b"body"),
            _ => reply.answer("200 OK", "", b"body"),
        }
    });
    let server = Launch::new(io, &origin).args(["--max-head", "3000", "--max-fields", "12"]).start();
    for (target, status) in [("/long", 502), ("/many", 502), ("/short", 200)] {
        assert_eq!(server.get(target).status, status, "{target}");
    }
}

fn a_head_that_trickles_is_408_after_the_head_timeout(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Launch::new(io, &origin).args(["--head-timeout", "0.5"]).start();
    let mut client = server.client();
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n");
    // Each byte comes soon, the end never.
    for _ in 0..100 {
        client.send_lossy("X");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(client.response("GET").status, 408);
    client.expect_closed();
    assert_eq!(origin.count(), 0);
    server.get("/x").expect(200, b"body");
}

/// A connection from another address of the loopback network.
fn from(server: &Server, address: [u8; 4]) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::from(address), 0)).into()).unwrap();
    socket.connect(&server.addr().into()).unwrap();
    socket.into()
}

fn the_connection_limit_of_one_client_leaves_room_for_others(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Launch::new(io, &origin).args(["--max-client-connections", "2", "--workers", "2"]).start();
    server.put("x.tgz", b"body");
    // The look whether it listens was a connection too.
    let mut clients = Vec::new();
    wait_until("two connections are had", || {
        clients.clear();
        clients.extend((0..2).map(|_| server.client()));
        clients.iter_mut().all(|client| {
            client.send_lossy("GET /x.tgz HTTP/1.1\r\nHost: a\r\n\r\n");
            client.try_response("GET").is_some_and(|response| response.status == 200)
        })
    });
    for _ in 0..3 {
        let mut third = server.client();
        // Before it has asked for anything.
        let refused = third.response("GET");
        refused.expect(429, b"");
        assert_eq!(refused.all("Connection"), ["close"]);
        third.expect_closed();
    }
    let mut other = Client::over(from(&server, [127, 0, 0, 2]));
    other.get("/x.tgz").expect(200, b"body");
    for client in &mut clients {
        client.get("/x.tgz").expect(200, b"body");
    }
    clients.pop();
    wait_until("the place is free again", || {
        let mut client = server.client();
        client.send_lossy("GET /x.tgz HTTP/1.1\r\nHost: a\r\n\r\n");
        client.try_response("GET").is_some_and(|response| response.status == 200)
    });
    assert_eq!(server.err.all(), [""; 0]);
}

fn idle_connections_are_closed_for_clients_that_wait(io: Io) {
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).args(["--max-connections", "8", "--workers", "1"]).start();
    server.put("x.tgz", b"body");
    let mut idle: Vec<_> = (0..8).map(|_| server.client()).collect();
    for client in &mut idle {
        client.get("/x.tgz").expect(200, b"body");
    }
    // All places are taken for the two minutes of the idle limit.
    let mut late: Vec<_> = (0..4).map(|_| server.client()).collect();
    for client in &mut late {
        client.get("/x.tgz").expect(200, b"body");
    }
}

fn at_the_connection_limit_a_new_client_waits(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        if request.target != "/last" {
            held.wait();
        }
        reply.serve(request, b"body");
    });
    let server = Launch::new(io, &origin).args(["--max-connections", "2", "--workers", "1"]).start();
    let mut busy: Vec<_> = (0..2).map(|_| server.client()).collect();
    for client in &mut busy {
        client.ask("GET", "/held", "");
    }
    wait_until("both are at the origin", || origin.count() == 2);
    let mut last = server.client();
    last.ask("GET", "/last", "");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(origin.count(), 2, "it did not wait");
    gate.open();
    for client in &mut busy {
        client.response("GET").expect(200, b"body");
    }
    drop(busy);
    last.response("GET").expect(200, b"body");
}

fn requests_over_the_origin_limit_wait_and_then_are_503(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        if request.index == 0 {
            reply.head(4, "");
            held.wait();
            reply.write("body");
        } else {
            reply.serve(request, b"body");
        }
    });
    let server = Launch::new(io, &origin)
        .args(["--max-origin-connections", "1", "--workers", "1", "--response-timeout", "1"])
        .start();
    let mut first = server.client();
    let mut begun = first.ask("GET", "/first", "").head("GET");
    let late = server.get("/late");
    assert_eq!(late.status, 503);
    assert_eq!(String::from_utf8(late.body).unwrap().lines().count(), 1);
    let mut patient = server.client();
    patient.ask("GET", "/patient", "");
    gate.open();
    first.finish(&mut begun);
    begun.expect(200, b"body");
    patient.response("GET").expect(200, b"body");
    assert_eq!(origin.count(), 2);
}

fn a_client_that_leaves_the_origin_queue_delays_no_other(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        if request.index == 0 {
            held.wait();
        }
        reply.serve(request, b"body");
    });
    let server = Launch::new(io, &origin).args(["--max-origin-connections", "1", "--workers", "1"]).start();
    let mut first = server.client();
    first.ask("GET", "/first", "");
    wait_until("the place is taken", || origin.count() == 1);
    // All of these wait, and so does one behind the first of them; then they go.
    let mut crowd: Vec<_> = (0..20).map(|_| server.client()).collect();
    for (n, client) in crowd.iter_mut().enumerate() {
        client.ask("GET", &format!("/{n}.tgz"), "");
    }
    thread::sleep(Duration::from_millis(200));
    let mut follower = server.client();
    follower.ask("GET", "/0.tgz", "");
    thread::sleep(Duration::from_millis(200));
    drop(crowd);
    wait_until("they are told, to nobody", || {
        server.out.all().iter().filter(|line| line.contains(" 503 ")).count() == 20
    });
    gate.open();
    first.response("GET").expect(200, b"body");
    follower.response("GET").expect(200, b"body");
    let asked: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(asked, ["/first", "/0.tgz"]);
    server.expect_tree(&["0.tgz"]);
}

fn beyond_the_limit_of_fills_a_miss_is_passed(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        reply.head(4, "");
        if request.target == "/first.tgz" {
            held.wait();
        }
        reply.write("body");
    });
    let server = Launch::new(io, &origin).args(["--max-fills", "1"]).debug().start();
    let mut first = server.client();
    let mut begun = first.ask("GET", "/first.tgz", "").head("GET");
    server.get("/second.tgz").expect(200, b"body");
    server.err.wait_for("not cached - too many fills");
    // Whoever asks for the same file follows as ever.
    let mut follower = server.client();
    let mut followed = follower.ask("GET", "/first.tgz", "").head("GET");
    gate.open();
    for (client, response) in [(&mut first, &mut begun), (&mut follower, &mut followed)] {
        client.finish(response);
        response.expect(200, b"body");
    }
    server.expect_tree(&["first.tgz"]);
    // The place is free once the directory is on the disk, too, which is after the name is there.
    wait_until("there is room for it", || {
        server.get("/second.tgz").expect(200, b"body");
        server.path("second.tgz").exists()
    });
}

fn too_many_requests_without_answers_are_429(io: Io) {
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).args(["--max-pipelined", "3"]).start();
    server.put("x.tgz", b"body");
    let mut client = server.client();
    client.send("GET /x.tgz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(9));
    for _ in 0..3 {
        client.response("GET").expect(200, b"body").expect_keep_alive();
    }
    client.response("GET").expect(429, b"");
    client.expect_closed();
    // A client that waits for each response is never refused.
    let mut client = server.client();
    for _ in 0..50 {
        client.get("/x.tgz").expect(200, b"body");
    }
    assert_eq!(origin.count(), 0);
}

fn heads_without_end_share_so_much_memory(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Launch::new(io, &origin)
        .args(["--workers", "1", "--max-head", "16000", "--head-memory", "20000"])
        .start();
    let part = format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Long: {}", "l".repeat(12_000));
    let mut first = server.client();
    first.send(&part);
    thread::sleep(Duration::from_millis(300));
    let mut second = server.client();
    second.send(&part);
    let refused = second.response("GET");
    assert_eq!(refused.status, 503);
    second.expect_closed();
    // A whole head needs no such memory.
    server.get("/x").expect(200, b"body");
    first.send("\r\n\r\n");
    first.response("GET").expect(200, b"body");
    // And it is free again.
    let mut third = server.client();
    third.send(&part);
    thread::sleep(Duration::from_millis(50));
    third.send("\r\n\r\n");
    third.response("GET").expect(200, b"body");
}

fn a_client_below_the_least_rate_is_cut(io: Io) {
    let body = bytes(32 << 20, 7);
    let origin = Origin::fixed(&body);
    let limits = ["--stall-timeout", "1", "--min-rate", "100000000", "--workers", "1"];
    let server = Launch::new(io, &origin).args(limits).start();
    server.put("hit.tar", &body);
    for target in ["/hit.tar", "/miss.tar", "/pass"] {
        let mut client = Client::connect_with_small_window(server.addr());
        let mut response = client.ask("GET", target, "").head("GET");
        // Never does it stand still.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) && client.try_raw(4_096, &mut response.body) {
            thread::sleep(Duration::from_millis(20));
        }
        assert!(response.body.len() < body.len(), "{target} was not cut");
        assert!(body.starts_with(&response.body));
    }
    let mut upload = server.client();
    upload.send("PUT /pass HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    let began = Instant::now();
    while !upload.has_answer() {
        upload.send_lossy("slow");
        assert!(began.elapsed() < Duration::from_secs(20), "the upload was not cut");
    }
    assert_eq!(upload.response("PUT").status, 408);
    upload.expect_closed();
}

/// Clock ticks of the processor that the server has used.
fn ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // User and system time (proc_pid_stat(5), fields 14 and 15).
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

fn busy_clients_give_way_to_clients_that_wait(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Launch::new(io, &origin).args(["--workers", "1", "--max-connections", "8"]).start();
    server.put("x.tgz", b"hit");
    // Longer than anybody may wait; the end of the test ends it before.
    let (over, end) = (AtomicBool::new(false), Instant::now() + Duration::from_secs(15));
    thread::scope(|scope| {
        for _ in 0..8 {
            let mut client = server.client();
            client.get("/x.tgz").expect(200, b"hit");
            let over = &over;
            scope.spawn(move || {
                // Never idle for long, and never gone by itself.
                while !over.load(Ordering::Relaxed) && Instant::now() < end {
                    client.send_lossy("GET /x.tgz HTTP/1.1\r\nHost: a\r\n\r\n");
                    if client.try_response("GET").is_none() {
                        return;
                    }
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
        let mut late = [(); 3].map(|()| server.client());
        for client in &mut late {
            client.get("/x.tgz").expect(200, b"hit");
        }
        over.store(true, Ordering::Relaxed);
    });
}

fn incomplete_heads_are_evicted_for_clients_that_wait(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Launch::new(io, &origin).args(["--workers", "1", "--max-connections", "20"]).start();
    server.put("x.tgz", b"hit");
    let flood: Vec<_> = (0..60)
        .map(|_| {
            let mut client = server.client();
            client.send("GET /x.tgz HTTP/1.1\r\nX-Long: ");
            client
        })
        .collect();
    for n in 0..5 {
        server.get("/x.tgz").expect(200, b"hit");
        server.get(&format!("/{n}.tgz")).expect(200, b"body");
    }
    drop(flood);
}

fn a_flood_beyond_the_descriptors_costs_no_cpu_and_service_goes_on(io: Io) {
    let origin = Origin::fixed(b"body");
    let server =
        Launch::new(io, &origin).args(["--workers", "1"]).limit(Limit::Descriptors(256, 256)).start();
    server.put("x.tgz", b"hit");
    server.get("/x.tgz").expect(200, b"hit");
    let flood: Vec<_> = (0..600).map(|_| server.client()).collect();
    thread::sleep(Duration::from_millis(500));
    let before = ticks(&server);
    thread::sleep(Duration::from_secs(2));
    let used = ticks(&server) - before;
    // A loop that spins takes all it can get, 200 ticks on an idle machine.
    assert!(used < 40, "{used} ticks of processor time in two seconds");
    // Those of the flood that idle make room.
    for n in 0..5 {
        server.get("/x.tgz").expect(200, b"hit");
        server.get(&format!("/{n}.tgz")).expect(200, b"body");
    }
    drop(flood);
    server.get("/pass").expect(200, b"body");
    server.expect_cached("4.tgz", b"body");
    assert!(server.descriptors() < 256);
    assert_eq!(server.err.all(), [""; 0]);
}

/// Far more misses than may wait for their names at a time, each from a client that asks as fast as it is
/// answered. A disk that is behind slows them down, and no more.
fn burst(io: Io, ending: &str, args: &[&str]) {
    const CLIENTS: usize = 32;
    const EACH: usize = 20;
    let body = bytes(16 << 10, 1);
    let origin = Origin::fixed(&body);
    let server = Launch::new(io, &origin)
        .args(args)
        .limit(Limit::Descriptors(256, 256))
        .args(["--workers", "1"])
        .start();
    let path = |client: usize, number: usize| format!("{client}-{number}.{ending}");
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, body) = (&server, &body);
            scope.spawn(move || {
                let mut connection = server.client();
                for number in 0..EACH {
                    connection.get(&format!("/{}", path(client, number))).expect(200, body);
                }
            });
        }
    });
    for client in 0..CLIENTS {
        for number in 0..EACH {
            server.expect_cached(&path(client, number), &body);
        }
    }
    assert_eq!(origin.count(), CLIENTS * EACH);
}

fn a_burst_of_misses_is_stored_whole_and_requested_once(io: Io) {
    burst(io, "tgz", &[]);
}

fn a_burst_of_misses_in_the_revalidated_class_is_stored_whole_and_requested_once(io: Io) {
    burst(io, "idx", &["--revalidate", r"\.idx$"]);
}

/// They are many more than there are places, at the origin too, and each might read on.
fn clients_that_hang_up_before_the_head_hold_no_place_for_long(io: Io) {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::start(move |_, reply| {
        opened.wait();
        reply.answer("200 OK", "", b"");
    });
    let server = Launch::new(io, &origin)
        .args(["--max-connections", "16", "--max-origin-connections", "4", "--workers", "1"])
        .start();
    server.put("hit.tgz", b"a hit");
    let crowd: Vec<_> = (0..80)
        .map(|n| {
            let mut client = server.client();
            client.ask("GET", &format!("/{n}.tgz"), "");
            client
        })
        .collect();
    drop(crowd);
    server.get("/hit.tgz").expect(200, b"a hit");
    gate.open();
}
