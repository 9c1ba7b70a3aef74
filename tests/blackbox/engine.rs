//! Which engine runs and what the program says about it, workers, and the listening port.

use std::fs;
use std::net::TcpStream;
use std::thread;

use crate::support::sandbox::Limit;
use crate::support::server::uring_works;
use crate::support::{Io, Launch, Origin, Server, on_both, run_cli, wait_until};

on_both!(
    the_engine_line_names_the_engine,
    every_worker_count_serves,
    pinning_is_accepted,
    a_second_instance_on_the_port_is_refused,
    a_restart_on_the_same_port_need_not_wait,
    the_descriptor_limit_is_raised_to_the_hard_one,
    few_descriptors_do_not_stop_the_server,
    workers_that_there_are_no_descriptors_for_are_refused,
);

fn the_engine_line_names_the_engine(io: Io) {
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).debug().start();
    let line = server.err.wait_for("engine: ");
    match io {
        Io::Uring => assert!(line.starts_with("engine: io_uring ("), "{line}"),
        Io::Poll => {
            // Another program than the default build may be under test.
            let readiness = std::env::var("FS_CACHE_TEST_READINESS").unwrap_or_else(|_| "epoll".to_owned());
            assert_eq!(line, format!("engine: {readiness} (asked for)"));
        }
    }
}

#[test]
fn auto_is_the_default_and_takes_io_uring_where_it_works() {
    if !uring_works() {
        return;
    }
    let origin = Origin::fixed(b"body");
    for extra in [&[][..], &["--io", "auto"]] {
        let port = crate::support::server::free_port();
        let dir = tempfile::tempdir().unwrap();
        let server = Launch::bare()
            .port(port)
            .cache(dir.path())
            .args(["-d", "-H", "127.0.0.1", "-U", &origin.url()])
            .args(["-p", &port.to_string(), "-c"])
            .args([dir.path()])
            .args(extra)
            .start();
        server.get("/x.tgz").expect(200, b"body");
        server.err.wait_for("engine: io_uring (");
    }
}

#[test]
fn auto_serves_by_epoll_where_io_uring_is_refused_and_says_so() {
    let origin = Origin::fixed(b"body");
    let server = Launch::new(Io::Poll, &origin)
        .args(["--io", "auto", "-d"])
        .limit(Limit::Refuse(libc::SYS_io_uring_setup))
        .start();
    server.get("/x.tgz").expect(200, b"body");
    server.expect_cached("x.tgz", b"body");
    server.get("/x.tgz").expect(200, b"body");
    server.get("/pass").expect(200, b"body");
    let engines: Vec<_> = server.err.all();
    let engines: Vec<_> = engines.iter().filter(|line| line.starts_with("engine: ")).collect();
    assert_eq!(engines, ["engine: epoll (io_uring refused: EPERM)"]);
}

#[test]
fn auto_without_debug_falls_back_silently() {
    let origin = Origin::fixed(b"body");
    let server = Launch::new(Io::Poll, &origin)
        .args(["--io", "auto"])
        .limit(Limit::Refuse(libc::SYS_io_uring_setup))
        .start();
    server.get("/x.tgz").expect(200, b"body");
    assert_eq!(server.err.all(), [""; 0]);
}

#[test]
fn io_uring_that_is_demanded_and_refused_is_one_line_and_exit_1() {
    let origin = Origin::silent();
    let (status, text) =
        Launch::new(Io::Uring, &origin).limit(Limit::Refuse(libc::SYS_io_uring_setup)).fail();
    assert_eq!(status.code(), Some(1));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("io_uring") && text.contains("EPERM"), "{text}");
    assert!(text.contains("--io"), "{text}");
}

fn every_worker_count_serves(io: Io) {
    let origin = Origin::fixed(b"body");
    for workers in ["1", "2", "3", "auto"] {
        let server = Launch::new(io, &origin).args(["--workers", workers]).start();
        thread::scope(|scope| {
            for n in 0..8 {
                let server = &server;
                scope.spawn(move || {
                    for _ in 0..5 {
                        server.get(&format!("/{n}.tgz")).expect(200, b"body");
                    }
                });
            }
        });
        let names: Vec<_> = (0..8).map(|n| format!("{n}.tgz")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        server.expect_tree(&names);
    }
    assert_eq!(origin.count(), 4 * 8);
}

fn pinning_is_accepted(io: Io) {
    let origin = Origin::fixed(b"body");
    for list in ["auto", "0", "0,0"] {
        let workers = if list == "0,0" { "2" } else { "1" };
        let server = Launch::new(io, &origin).args(["--workers", workers, "--pin-cpus", list]).start();
        server.get("/x.tgz").expect(200, b"body");
        let pinned = fs::read_dir(format!("/proc/{}/task", server.pid()))
            .unwrap()
            .map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap())
            .filter(|status| status.contains("Cpus_allowed_list:\t0\n"))
            .count();
        assert!(pinned >= 1, "no thread runs on CPU 0 alone for {list}");
    }
}

fn a_second_instance_on_the_port_is_refused(io: Io) {
    let origin = Origin::fixed(b"body");
    let first = Server::start(io, &origin);
    let (status, text) = Launch::new(io, &origin).port(first.addr().port()).fail();
    assert_eq!(status.code(), Some(1));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(&first.addr().port().to_string()), "{text}");
    assert!(text.contains("already"), "{text}");
    first.get("/x.tgz").expect(200, b"body");
}

fn a_restart_on_the_same_port_need_not_wait(io: Io) {
    let origin = Origin::fixed(b"body");
    let mut first = Server::start(io, &origin);
    let port = first.addr().port();
    let mut open: Vec<_> = (0..10).map(|_| first.client()).collect();
    for client in &mut open {
        client.get("/x.tgz").expect(200, b"body");
    }
    // The server's side closes first, so its addresses linger in TIME_WAIT.
    let addr = first.addr();
    first.kill();
    // The system closes a killed process's listener a moment later.
    wait_until("the first is gone", || TcpStream::connect(addr).is_err());
    let second = Launch::new(io, &origin).port(port).start();
    second.get("/y.tgz").expect(200, b"body");
}

fn the_descriptor_limit_is_raised_to_the_hard_one(io: Io) {
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).limit(Limit::Descriptors(256, 2_048)).start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3..5], ["2048", "2048"], "{line}");
}

fn few_descriptors_do_not_stop_the_server(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Launch::new(io, &origin).args(["--workers", "1"]).limit(Limit::Descriptors(64, 64)).start();
    server.put("x.tgz", b"hit");
    let crowd: Vec<_> = (0..100).map(|_| server.client()).collect();
    drop(crowd);
    for _ in 0..10 {
        server.get("/x.tgz").expect(200, b"hit");
    }
    server.get("/new.tgz").expect(200, b"body");
    server.get("/pass").expect(200, b"body");
}

fn workers_that_there_are_no_descriptors_for_are_refused(io: Io) {
    let origin = Origin::fixed(b"body");
    let launch = |workers| Launch::new(io, &origin).debug().args(["--workers", workers]);
    // More than half of these are the workers' own.
    let server = launch("12").limit(Limit::Descriptors(256, 256)).start();
    let flood: Vec<_> = (0..500).filter_map(|_| TcpStream::connect(server.addr()).ok()).collect();
    drop(flood);
    server.get("/x.tgz").expect(200, b"body");
    for workers in ["13", "22", "60"] {
        let (status, said) = launch(workers).limit(Limit::Descriptors(256, 256)).fail();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("{workers} workers (--workers) need ")), "{said}");
        assert!(!said.contains("listening on"), "{said}");
    }
}

#[test]
fn help_and_version_need_no_engine() {
    let refuse = [Limit::Refuse(libc::SYS_io_uring_setup)];
    let output = run_cli(&["--io", "uring", "-v"], &[], &refuse);
    assert_eq!(output.status.code(), Some(0));
}
