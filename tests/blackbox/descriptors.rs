//! Few descriptors, and clients that hold as many of them as they can: everybody else is served as before.

use std::fs::File;

use crate::support::sandbox::Limit;
use crate::support::{Client, Gate, Io, Launch, Origin, Server, bytes, on_both, wait_until};

on_both!(
    unread_passes_do_not_block_misses,
    unread_uncacheable_responses_do_not_block_misses,
    slow_readers_of_many_files_block_no_other_request,
    slow_readers_of_new_files_block_no_other_request,
    index_files_are_served_beside_slow_readers,
    a_long_file_is_served_whole_beside_slow_readers_of_all_that_can_stay_open,
    fills_that_do_not_end_stop_no_pass,
    passes_of_one_address_leave_room_for_others,
    fills_and_checks_of_one_address_leave_room_for_others,
    a_low_origin_limit_is_shared_between_addresses,
    a_pass_whose_client_has_left_frees_its_origin_permit,
    a_far_range_whose_client_has_left_frees_its_origin_permit,
);

/// More than the sockets on the way can hold.
const BIG: usize = 12 << 20;
/// Descriptors of the server.
const FEW: u64 = 256;

/// Answers `/big` and what begins so with what is too long for any socket, `/held` with a head only.
fn origin() -> Origin {
    let big = bytes(BIG, 3);
    Origin::start(move |request, reply| match &*request.target {
        target if target.starts_with("/gone") => reply.answer("404 Not Found", "", &big),
        target if target.starts_with("/dists") => reply.answer("200 OK", "ETag: \"a\"\r\n", b"body"),
        target if target.starts_with("/big") => reply.serve(request, &big),
        target if target.starts_with("/held") => {
            reply.head(1 << 20, "");
            // Until the server closes it.
            while reply.write("") {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
        _ => reply.serve(request, b"body"),
    })
}

fn launch(io: Io, origin: &Origin) -> Launch {
    Launch::new(io, origin)
        .args(["--workers", "1", "--response-timeout", "10"])
        .limit(Limit::Descriptors(FEW, FEW))
}

/// Clients that ask each for one of these, and read nothing; those whose turn comes have an answer on the way.
fn silent(server: &Server, count: usize, target: impl Fn(usize) -> String) -> Vec<Client> {
    (0..count)
        .map(|n| {
            let mut client = Client::connect_with_small_window(server.addr());
            client.ask("GET", &target(n), "");
            client
        })
        .collect()
}

/// Hits, misses and passes go on, over new connections.
fn all_is_well(server: &Server) {
    for n in 0..4 {
        server.get("/hit.tgz").expect(200, b"hit");
        server.get(&format!("/miss-{n}.tgz")).expect(200, b"body");
        server.get("/pass").expect(200, b"body");
    }
    wait_until("the last is stored", || server.path("miss-3.tgz").exists());
    assert!(server.descriptors() < usize::try_from(FEW).unwrap());
}

fn unread_passes_do_not_block_misses(io: Io) {
    let origin = origin();
    let server = launch(io, &origin).start();
    server.put("hit.tgz", b"hit");
    let crowd = silent(&server, 60, |n| format!("/big-{n}"));
    wait_until("as many as may are at the origin", || origin.count() >= 9);
    server.get("/hit.tgz").expect(200, b"hit");
    for n in 0..4 {
        server.get(&format!("/miss-{n}.tgz")).expect(200, b"body");
    }
    drop(crowd);
    all_is_well(&server);
}

fn unread_uncacheable_responses_do_not_block_misses(io: Io) {
    let origin = origin();
    let server = launch(io, &origin).start();
    server.put("hit.tgz", b"hit");
    let crowd = silent(&server, 30, |n| format!("/gone-{n}.tgz"));
    wait_until("each has been asked for", || origin.count() >= 30);
    server.get("/hit.tgz").expect(200, b"hit");
    for n in 0..4 {
        server.get(&format!("/miss-{n}.tgz")).expect(200, b"body");
    }
    drop(crowd);
    all_is_well(&server);
}

fn slow_readers_of_many_files_block_no_other_request(io: Io) {
    let origin = origin();
    let server = launch(io, &origin).start();
    server.put("hit.tgz", b"hit");
    let crowd = slow_readers(&server, 95, "tar");
    all_is_well(&server);
    assert_eq!(server.get("/cold-94.tar").status, 200);
    drop(crowd);
}

fn slow_readers_of_new_files_block_no_other_request(io: Io) {
    let origin = origin();
    let server = launch(io, &origin).start();
    server.put("hit.tgz", b"hit");
    let mut crowd = silent(&server, 60, |n| format!("/big-{n}.tar"));
    for client in &mut crowd {
        assert_eq!(client.head("GET").status, 200);
    }
    wait_until("all are stored", || (0..60).all(|n| server.path(&format!("big-{n}.tar")).exists()));
    all_is_well(&server);
}

/// As many as may connect, but for a few, and each has begun to read a cold file of its own.
fn slow_readers(server: &Server, count: usize, kind: &str) -> Vec<Client> {
    // Of nothing but holes: none of it is in memory.
    for n in 0..count {
        File::create(server.path(&format!("cold-{n}.{kind}"))).unwrap().set_len(64 << 20).unwrap();
    }
    let mut crowd = silent(server, count, |n| format!("/cold-{n}.{kind}"));
    for client in &mut crowd {
        assert_eq!(client.head("GET").status, 200);
    }
    crowd
}

fn index_files_are_served_beside_slow_readers(io: Io) {
    let origin = origin();
    let server = launch(io, &origin).args(["--max-connections", "180", "--preset", "apt"]).start();
    server.put("hit.deb", b"hit");
    let index = |n| format!("/dists/stable/main/binary-a{n}/Packages.gz");
    server.get("/dists/stable/InRelease").expect(200, b"body");
    server.get(&index(0)).expect(200, b"body");
    let crowd = slow_readers(&server, 150, "deb");
    let passes = silent(&server, 10, |n| format!("/big-{n}"));
    for n in 0..60 {
        server.get(&index(n)).expect(200, b"body");
    }
    server.get("/hit.deb").expect(200, b"hit");
    // Those that are kept by now, once more.
    wait_until("the last is stored", || server.path(&index(59)[1..]).exists());
    for n in 0..60 {
        server.get(&index(n)).expect(200, b"body");
    }
    assert!(server.descriptors() < usize::try_from(FEW).unwrap());
    drop((crowd, passes));
}

fn a_long_file_is_served_whole_beside_slow_readers_of_all_that_can_stay_open(io: Io) {
    let origin = origin();
    let server = launch(io, &origin).args(["--max-connections", "180", "--preset", "apt"]).start();
    let long = bytes(3 << 20, 5);
    server.put("long.deb", &long);
    // All clients may be more than the files that can stay open.
    let crowd = slow_readers(&server, 150, "deb");
    server.get("/long.deb").expect(200, &long);
    let part = server.client().ask("GET", "/long.deb", "Range: bytes=1000000-2999999\r\n").response("GET");
    part.expect(206, &long[1_000_000..3_000_000]);
    assert!(server.descriptors() < usize::try_from(FEW).unwrap());
    drop(crowd);
}

fn fills_that_do_not_end_stop_no_pass(io: Io) {
    let origin = origin();
    let server = launch(io, &origin).start();
    server.put("hit.tgz", b"hit");
    let crowd = silent(&server, 60, |n| format!("/held-{n}.tgz"));
    wait_until("as many as may are at the origin", || origin.count() >= 9);
    for _ in 0..4 {
        server.get("/hit.tgz").expect(200, b"hit");
        server.get("/pass").expect(200, b"body");
    }
    drop(crowd);
}

/// Answers what begins with `/hang` when the gate opens, the rest of `/halt` then, and all else at once.
fn hanging() -> (Origin, Gate) {
    let gate = Gate::default();
    let held = gate.clone();
    let big = bytes(BIG, 3);
    let origin = Origin::start(move |request, reply| match &*request.target {
        target if target.starts_with("/hang") => held.wait(),
        target if target.starts_with("/halt") => {
            reply.head(1 << 20, "");
            reply.write(&big[..1000]);
            held.wait();
        }
        target if target.starts_with("/big") => reply.serve(request, &big),
        _ => reply.serve(request, b"body"),
    });
    (origin, gate)
}

fn patient(io: Io, origin: &Origin) -> Launch {
    Launch::new(io, origin).args(["--workers", "1", "--response-timeout", "600", "--stall-timeout", "600"])
}

/// So many clients of one address, each with a request of its own that does not end.
fn hogs(server: &Server, host: u8, count: usize, (method, target, rest): (&str, &str, &str)) -> Vec<Client> {
    let ask = |n| {
        let mut client = server.client_from(host);
        client.ask(method, &target.replace('#', &format!("{host}-{n}")), rest);
        client
    };
    (0..count).map(ask).collect()
}

const ENDLESS: [(&str, &str, &str); 6] = [
    ("GET", "/big-#", ""),
    ("GET", "/hang-#", ""),
    ("GET", "/halt-#", ""),
    ("GET", "/hang-#.tgz", "Authorization: Basic YTpi\r\n"),
    ("HEAD", "/hang-#.tgz", ""),
    ("PUT", "/put-#", "Content-Length: 1000\r\n"),
];

fn passes_of_one_address_leave_room_for_others(io: Io) {
    for endless in ENDLESS {
        let (origin, gate) = hanging();
        let server = patient(io, &origin).limit(Limit::Descriptors(FEW, FEW)).start();
        server.put("hit.tgz", b"hit");
        let one = hogs(&server, 1, 40, endless);
        wait_until("as many as may are at the origin", || origin.connections() >= 17);
        let all_is_well = |host| {
            for n in 0..4 {
                server.client_from(host).get("/hit.tgz").expect(200, b"hit");
                server.client_from(host).get(&format!("/{n}.tgz")).expect(200, b"body");
                server.client_from(host).get("/pass").expect(200, b"body");
            }
        };
        all_is_well(2);
        let two = hogs(&server, 2, 40, endless);
        server.client_from(2).get("/hit.tgz").expect(200, b"hit");
        all_is_well(3);
        gate.open();
        drop((one, two));
        all_is_well(1);
    }
}

fn fills_and_checks_of_one_address_leave_room_for_others(io: Io) {
    for target in ["/hang-#.tgz", "/hang-#.idx"] {
        let (origin, gate) = hanging();
        let server = patient(io, &origin)
            .args(["--revalidate", r"\.idx$"])
            .limit(Limit::Descriptors(FEW, FEW))
            .start();
        let crowd = hogs(&server, 1, 40, ("GET", target, ""));
        wait_until("as many as may are at the origin", || origin.count() >= 9);
        for n in 0..4 {
            server.client_from(2).get(&format!("/{n}.tgz")).expect(200, b"body");
            server.client_from(2).get(&format!("/{n}.idx")).expect(200, b"body");
            server.client_from(2).get("/pass").expect(200, b"body");
        }
        gate.open();
        drop(crowd);
    }
}

fn a_low_origin_limit_is_shared_between_addresses(io: Io) {
    let (origin, gate) = hanging();
    let server = patient(io, &origin).args(["--max-origin-connections", "8"]).start();
    let crowd = hogs(&server, 1, 20, ("GET", "/hang-#", ""));
    wait_until("as many as may are at the origin", || origin.count() >= 5);
    server.client_from(2).get("/pass").expect(200, b"body");
    gate.open();
    drop(crowd);
}

fn a_pass_whose_client_has_left_frees_its_origin_permit(io: Io) {
    let cases = [
        ("GET", "/hang", ""),
        ("GET", "/halt", ""),
        ("GET", "/hang.tgz", "Authorization: Basic YTpi\r\n"),
        ("HEAD", "/hang.tgz", ""),
        ("HEAD", "/hang.idx", ""),
        ("PUT", "/hang", "Content-Length: 0\r\n"),
        ("PUT", "/hang", "Content-Length: 4\r\n\r\nbody"),
        ("PUT", "/halt", "Content-Length: 4\r\n\r\nbody"),
    ];
    std::thread::scope(|scope| {
        for (method, target, rest) in cases {
            scope.spawn(move || leaves_its_place(io, method, target, rest));
        }
    });
}

fn leaves_its_place(io: Io, method: &str, target: &str, rest: &str) {
    let (origin, gate) = hanging();
    let server =
        patient(io, &origin).args(["--max-origin-connections", "1", "--revalidate", r"\.idx$"]).start();
    let mut client = server.client();
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{rest}"));
    if !rest.ends_with("body") {
        client.send("\r\n");
    }
    wait_until("it is at the origin", || origin.count() == 1);
    if target == "/halt" {
        assert_eq!(client.head(method).status, 200);
    }
    drop(client);
    server.get("/pass").expect(200, b"body");
    gate.open();
}

fn a_far_range_whose_client_has_left_frees_its_origin_permit(io: Io) {
    let gate = Gate::default();
    for halts in [false, true] {
        let held = gate.clone();
        let origin = Origin::start(move |request, reply| match request.field("Range") {
            Some(_) if halts => {
                reply.write("HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Length: 100000\r\n");
                reply.write("Content-Range: bytes 900000-999999/1000000\r\n\r\nbegun");
                held.wait();
            }
            Some(_) => held.wait(),
            None if request.target == "/pass" => reply.serve(request, b"body"),
            None => {
                reply.head(1_000_000, "ETag: \"a\"\r\n");
                reply.write([1; 1000]);
                held.wait();
            }
        });
        let args = ["--max-origin-connections", "2", "--far-range", "1000"];
        let server = patient(io, &origin).args(args).start();
        let mut first = server.client();
        assert_eq!(first.ask("GET", "/x.tgz", "").head("GET").status, 200);
        let mut second = server.client();
        second.ask("GET", "/x.tgz", "Range: bytes=900000-999999\r\n");
        wait_until("the range is asked for", || origin.count() == 2);
        if halts {
            assert_eq!(second.head("GET").status, 206);
        }
        drop(second);
        server.get("/pass").expect(200, b"body");
    }
    gate.open();
}
