//! Files that are requested more than once: an open file or a body in memory is served only while the cache directory
//! has the same file, and within its limits.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::support::sandbox::Limit;
use crate::support::{Client, Gate, Io, Launch, Mounted, Origin, Server, bytes, on_both, wait_until};

on_both!(
    every_kind_of_request_is_answered_from_a_file_asked_for_before,
    a_small_file_changed_in_place_is_served_with_its_new_bytes,
    a_change_that_restores_size_and_date_is_seen_at_once,
    a_change_within_the_same_tick_of_the_clock_is_seen_at_once,
    a_change_on_a_file_system_that_dates_by_ticks_is_seen_at_once,
    a_file_moved_away_is_fetched_again_at_once,
    a_directory_renamed_above_a_file_is_followed_within_the_look_up_time,
    a_file_asked_for_by_many_queries_is_opened_once,
    no_more_files_are_kept_open_than_allowed,
    unused_open_files_are_closed,
    bodies_beyond_the_memory_allowed_are_served_all_the_same,
    pipelined_hits_arrive_in_order_and_complete,
    a_client_that_reads_late_gets_every_byte_of_many_small_hits,
    a_connection_that_was_quiet_for_seconds_is_served,
    a_head_in_two_parts_seconds_apart_is_served,
    a_quiet_connection_is_closed_when_its_time_is_over,
    no_access_line_of_many_hits_is_lost_with_debug,
    with_few_descriptors_misses_wait_for_each_other_and_all_are_answered,
    with_no_descriptor_left_a_cached_file_is_never_asked_of_the_origin,
);

fn a_server(io: Io, args: &[&str]) -> (Origin, Server) {
    let origin = Origin::start(|_, reply| reply.answer("200 OK", "", b"from the origin"));
    let server = Launch::new(io, &origin).args(["--workers", "1"]).args(args).start();
    (origin, server)
}

fn every_kind_of_request_is_answered_from_a_file_asked_for_before(io: Io) {
    let (origin, server) = a_server(io, &[]);
    for (name, length) in [("small.tgz", 1000), ("limit.tgz", 16_384), ("large.tgz", 16_385)] {
        let body = bytes(length, 1);
        server.put(name, &body);
        let path = format!("/{name}");
        let mut client = server.client();
        let first = client.get(&path);
        first.expect(200, &body).expect_keep_alive();
        let tag = first.field("ETag").unwrap().to_owned();
        for _ in 0..2 {
            let again = client.get(&path);
            again.expect(200, &body).expect_keep_alive();
            let names = |fields: &[(String, String)]| -> Vec<String> {
                fields.iter().map(|(name, _)| name.clone()).collect()
            };
            assert_eq!(names(&again.fields), names(&first.fields));
            client.ask("HEAD", &path, "").head("HEAD");
            client.ask("GET", &path, &format!("If-None-Match: {tag}\r\n")).response("GET").expect(304, b"");
            client.ask("GET", &path, "Range: bytes=10-19\r\n").response("GET").expect(206, &body[10..20]);
            client.ask("GET", &path, "If-Match: \"other\"\r\n").response("GET").expect(412, b"");
        }
        let mut closing = server.client();
        let last = closing.ask("GET", &path, "Connection: close\r\n").response("GET");
        last.expect(200, &body);
        assert_eq!(last.all("Connection"), ["close"]);
    }
    assert_eq!(origin.count(), 0);
}

fn a_small_file_changed_in_place_is_served_with_its_new_bytes(io: Io) {
    let (_origin, server) = a_server(io, &[]);
    let path = server.put("x.tgz", &bytes(1000, 1));
    let mut client = server.client();
    for seed in 2..6 {
        client.get("/x.tgz");
        fs::write(&path, bytes(1000, seed)).unwrap();
        client.get("/x.tgz").expect(200, &bytes(1000, seed));
    }
}

fn a_change_that_restores_size_and_date_is_seen_at_once(io: Io) {
    let (_origin, server) = a_server(io, &[]);
    let path = server.put("x.tgz", &bytes(1000, 1));
    let mut client = server.client();
    client.get("/x.tgz").expect(200, &bytes(1000, 1));
    let date = fs::metadata(&path).unwrap().modified().unwrap();
    let changed = fs::metadata(&path).unwrap().ctime_nsec();
    // The change is told by the inode's own time, whose grain is that of the system's clock.
    while fs::metadata(&path).unwrap().ctime_nsec() == changed {
        fs::write(&path, bytes(1000, 2)).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(date).unwrap();
    }
    client.get("/x.tgz").expect(200, &bytes(1000, 2));
}

/// Rewrites files right after they were asked for, and asks again.
fn hammer(server: &Server) {
    let mut client = server.client();
    for round in 0..60 {
        let path = server.put(&format!("{round}.tgz"), &bytes(1000, 0));
        for seed in 1..4 {
            client.get(&format!("/{round}.tgz"));
            fs::write(&path, bytes(1000, seed)).unwrap();
            client.get(&format!("/{round}.tgz")).expect(200, &bytes(1000, seed));
        }
    }
}

fn a_change_within_the_same_tick_of_the_clock_is_seen_at_once(io: Io) {
    let (_origin, server) = a_server(io, &[]);
    hammer(&server);
}

/// As all do before Linux 6.13, and those of other systems.
fn a_change_on_a_file_system_that_dates_by_ticks_is_seen_at_once(io: Io) {
    let Some(ramfs) = Mounted::new("ramfs", "mode=755") else { return };
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).args(["--workers", "1"]).cache(ramfs.path()).start();
    hammer(&server);
}

fn a_file_moved_away_is_fetched_again_at_once(io: Io) {
    let (origin, server) = a_server(io, &[]);
    let path = server.put("x.tgz", &bytes(1000, 1));
    let mut client = server.client();
    client.get("/x.tgz").expect(200, &bytes(1000, 1));
    fs::rename(&path, server.path("elsewhere.tgz")).unwrap();
    client.get("/x.tgz").expect(200, b"from the origin");
    assert_eq!(origin.count(), 1);
}

fn a_directory_renamed_above_a_file_is_followed_within_the_look_up_time(io: Io) {
    let (_origin, server) = a_server(io, &["--look-up-time", "0.2"]);
    server.put("dir/x.tgz", &bytes(1000, 1));
    server.put("next/x.tgz", &bytes(1000, 2));
    let mut client = server.client();
    client.get("/dir/x.tgz").expect(200, &bytes(1000, 1));
    fs::rename(server.path("dir"), server.path("old")).unwrap();
    fs::rename(server.path("next"), server.path("dir")).unwrap();
    wait_until("the new directory's file", || client.get("/dir/x.tgz").body == bytes(1000, 2));
    client.get("/dir/x.tgz").expect(200, &bytes(1000, 2));
}

fn a_file_asked_for_by_many_queries_is_opened_once(io: Io) {
    let (_origin, server) = a_server(io, &[]);
    server.put("x.tgz", &bytes(1000, 1));
    let mut client = server.client();
    client.get("/x.tgz");
    let before = server.descriptors();
    for number in 0..100 {
        client.get(&format!("/x.tgz?{number}")).expect(200, &bytes(1000, 1));
    }
    assert_eq!(server.descriptors(), before);
}

fn no_more_files_are_kept_open_than_allowed(io: Io) {
    let (_origin, server) = a_server(io, &["--open-files", "4"]);
    let mut client = server.client();
    client.get("/first");
    let before = server.descriptors();
    for number in 0_u8..40 {
        let name = format!("f{number}.tgz");
        server.put(&name, &bytes(100, number.into()));
        client.get(&format!("/{name}")).expect(200, &bytes(100, number.into()));
    }
    assert!(server.descriptors() <= before + 4);
    for number in (0_u8..40).rev() {
        client.get(&format!("/f{number}.tgz")).expect(200, &bytes(100, number.into()));
    }
}

fn unused_open_files_are_closed(io: Io) {
    let (_origin, server) = a_server(io, &[]);
    let mut client = server.client();
    client.get("/first");
    let before = server.descriptors();
    for number in 0..20 {
        let name = format!("f{number}.tgz");
        server.put(&name, b"x");
        client.get(&format!("/{name}"));
    }
    assert!(server.descriptors() >= before + 20);
    // They are kept for ten seconds.
    thread::sleep(Duration::from_secs(9));
    wait_until("the files to be closed", || server.descriptors() <= before);
}

fn bodies_beyond_the_memory_allowed_are_served_all_the_same(io: Io) {
    let (_origin, server) = a_server(io, &["--small-body-memory", "2500", "--small-body", "1000"]);
    let mut client = server.client();
    for round in 0..3 {
        for number in 0_u8..10 {
            let name = format!("f{number}.tgz");
            if round == 0 {
                server.put(&name, &bytes(1000, number.into()));
            }
            client.get(&format!("/{name}")).expect(200, &bytes(1000, number.into()));
        }
    }
}

fn pipelined_hits_arrive_in_order_and_complete(io: Io) {
    let (_origin, server) = a_server(io, &[]);
    for number in 0_u8..8 {
        server.put(&format!("f{number}.tgz"), &bytes(3000 + usize::from(number), number.into()));
    }
    let mut client = server.client();
    for _ in 0..3 {
        let request = |number| format!("GET /f{}.tgz HTTP/1.1\r\nHost: h\r\n\r\n", number % 8);
        client.send((0..100).map(request).collect::<String>());
        for number in 0_u8..100 {
            let number = number % 8;
            client.response("GET").expect(200, &bytes(3000 + usize::from(number), number.into()));
        }
    }
}

fn a_client_that_reads_late_gets_every_byte_of_many_small_hits(io: Io) {
    let (_origin, server) = a_server(io, &[]);
    server.put("x.tgz", &bytes(16_000, 1));
    let mut late = Client::connect_with_small_window(server.addr());
    late.send("GET /x.tgz HTTP/1.1\r\nHost: h\r\n\r\n".repeat(400));
    let mut other = server.client();
    for _ in 0..50 {
        other.get("/x.tgz").expect(200, &bytes(16_000, 1));
    }
    for _ in 0..400 {
        late.response("GET").expect(200, &bytes(16_000, 1));
    }
}

fn a_connection_that_was_quiet_for_seconds_is_served(io: Io) {
    let (_origin, server) = a_server(io, &[]);
    server.put("x.tgz", &bytes(1000, 1));
    let mut client = server.client();
    let mut unused = server.client();
    for _ in 0..2 {
        client.get("/x.tgz").expect(200, &bytes(1000, 1));
        thread::sleep(Duration::from_millis(1500));
    }
    client.get("/x.tgz").expect(200, &bytes(1000, 1));
    unused.get("/x.tgz").expect(200, &bytes(1000, 1));
}

fn a_head_in_two_parts_seconds_apart_is_served(io: Io) {
    let (_origin, server) = a_server(io, &[]);
    server.put("x.tgz", &bytes(1000, 1));
    let mut client = server.client();
    client.get("/x.tgz").expect(200, &bytes(1000, 1));
    client.send("GET /x.tgz HT");
    thread::sleep(Duration::from_millis(1300));
    client.send("TP/1.1\r\nHost: h\r\n\r\n").response("GET").expect(200, &bytes(1000, 1));
    // Longer than the buffer that a request is received into.
    let long = format!("X-Long: {}\r\n", "x".repeat(7000));
    client.ask("GET", "/x.tgz", &long).response("GET").expect(200, &bytes(1000, 1));
}

fn a_quiet_connection_is_closed_when_its_time_is_over(io: Io) {
    let (_origin, server) = a_server(io, &["--idle-timeout", "1.5"]);
    server.put("x.tgz", &bytes(1000, 1));
    let mut client = server.client();
    client.get("/x.tgz").expect(200, &bytes(1000, 1));
    let start = SystemTime::now();
    client.expect_closed();
    assert!(start.elapsed().unwrap() >= Duration::from_millis(1300));
}

fn no_access_line_of_many_hits_is_lost_with_debug(io: Io) {
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).args(["--workers", "2"]).debug().start();
    server.put("x.tgz", &bytes(1000, 1));
    let clients = 8;
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = server.client();
                (0..200).for_each(|_| drop(client.get("/x.tgz")));
            });
        }
    });
    wait_until("every access line", || server.out.all().len() == clients * 200);
    let tagged = || server.err.all().iter().filter(|line| line.contains("\"GET /x.tgz")).count();
    wait_until("every line among the debug lines", || tagged() == clients * 200);
}

fn with_few_descriptors_misses_wait_for_each_other_and_all_are_answered(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        held.wait();
        reply.answer("200 OK", "", request.target.as_bytes());
    });
    let limited = Launch::new(io, &origin).args(["--workers", "1"]).limit(Limit::Descriptors(256, 256));
    let server = limited.start();
    server.put("x.tgz", b"hit");
    let paths: Vec<String> = (0..60).map(|number| format!("/f{number}.tgz")).collect();
    let mut clients: Vec<Client> = paths.iter().map(|_| server.client()).collect();
    for (client, path) in clients.iter_mut().zip(&paths) {
        client.ask("GET", path, "");
    }
    wait_until("the first requests", || origin.count() >= 8);
    server.get("/x.tgz").expect(200, b"hit");
    assert!(origin.count() < paths.len(), "{} requests at a time", origin.count());
    gate.open();
    for (client, path) in clients.iter_mut().zip(&paths) {
        client.response("GET").expect(200, path.as_bytes());
    }
}

/// Clients that idle take every descriptor they can get; what is in the cache is served all the same,
/// or the client gets an error; the origin is not asked for it.
fn with_no_descriptor_left_a_cached_file_is_never_asked_of_the_origin(io: Io) {
    for limit in [48, 64, 128] {
        let origin = Origin::start(|_, reply| reply.answer("404 Not Found", "", b"no"));
        let limited =
            Launch::new(io, &origin).args(["--workers", "1"]).limit(Limit::Descriptors(limit, limit));
        let server = limited.start();
        for number in 0..40 {
            server.put(&format!("m{number}.tgz"), b"cached");
        }
        let mut client = server.client();
        client.get("/warm").expect(404, b"no");
        let idle: Vec<Client> = (0..limit).map(|_| server.client()).collect();
        let mut hits = 0;
        for number in 0..40 {
            let answer = client.get(&format!("/m{number}.tgz"));
            assert!(matches!(answer.status, 200 | 500), "{} at limit {limit}", answer.status);
            hits += usize::from(answer.status == 200);
        }
        assert_eq!(origin.count(), 1, "at limit {limit}");
        assert!(hits > 30, "{hits} hits at limit {limit}");
        drop(idle);
    }
}
