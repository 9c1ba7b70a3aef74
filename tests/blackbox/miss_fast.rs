//! Many misses: small bodies that arrive with their head, and complete files that wait for their final names.

use std::fs;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use crate::support::sandbox::Limit;
use crate::support::{
    Client, Io, LAST_MODIFIED, LAST_MODIFIED_SECS, Launch, Origin, Server, assert_bytes, bytes, on_both, tree,
};

on_both!(
    many_small_misses_all_get_their_names,
    a_stop_while_files_wait_for_their_names_leaves_nothing_behind,
    a_kill_while_files_wait_for_their_names_leaves_whole_files_only,
    a_client_that_takes_a_small_body_late_gets_all_of_it,
    a_disk_that_refuses_a_small_body_loses_no_byte_of_a_client,
    a_disk_that_fills_up_under_a_large_body_loses_no_byte_of_a_client,
    files_go_to_a_directory_that_was_removed_in_between,
    bytes_behind_a_small_body_are_discarded,
);

const SMALL: usize = 20_000;

/// The body of a file, which its name tells: no two are alike.
fn body_of(name: &str) -> Vec<u8> {
    let number: String = name.chars().filter(char::is_ascii_digit).collect();
    bytes(SMALL, number.parse().unwrap())
}

fn origin_of_small_files() -> Origin {
    origin_of_one_piece(body_of)
}

/// A whole answer in one piece, so that the body comes with its head.
fn origin_of_one_piece(body: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Origin {
    Origin::start(move |request, reply| {
        let date = format!("Last-Modified: {LAST_MODIFIED}\r\n");
        reply.answer("200 OK", &date, &body(&request.target));
    })
}

/// Asks for files from `first` on, one after the other; false once the server does not answer.
fn fetch(client: &mut Client, first: usize, count: usize) -> bool {
    (first..first + count).all(|number| {
        let name = format!("/many/{number}.tgz");
        client.send_lossy(format!("GET {name} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.try_response("GET").is_some_and(|response| {
            assert!(!response.whole || response.body == body_of(&name), "wrong bytes of {name}");
            response.whole
        })
    })
}

/// Every file in the directory is exact; the names of those in progress.
fn check_files(server: &Server) -> Vec<String> {
    let (unfinished, finished): (Vec<_>, Vec<_>) = tree(server.cache_dir())
        .into_iter()
        .filter(|name| !name.ends_with('/'))
        .partition(|name| name.ends_with(".in-progress"));
    for name in finished {
        assert_bytes(&fs::read(server.path(&name)).unwrap(), &body_of(&name), &name);
    }
    unfinished
}

fn many_small_misses_all_get_their_names(io: Io) {
    let origin = origin_of_small_files();
    let server = Server::start(io, &origin);
    thread::scope(|scope| {
        for first in 0..6 {
            let mut client = server.client();
            scope.spawn(move || assert!(fetch(&mut client, first * 50, 50)));
        }
    });
    for number in 0..300 {
        let name = format!("many/{number}.tgz");
        server.expect_cached(&name, &body_of(&name));
        let date = fs::metadata(server.path(&name)).unwrap().modified().unwrap();
        assert_eq!(date, UNIX_EPOCH + Duration::from_secs(LAST_MODIFIED_SECS), "{name}");
    }
    assert_eq!(check_files(&server), [""; 0]);
    assert_eq!(origin.count(), 300);
    // As hits, by now.
    assert!(fetch(&mut server.client(), 0, 300));
    assert_eq!(origin.count(), 300);
}

/// Clients that ask for new files until the server is gone.
fn end_under_load(io: Io, end: impl FnOnce(&mut Server)) -> Vec<String> {
    let origin = origin_of_small_files();
    let mut server = Server::start(io, &origin);
    thread::scope(|scope| {
        for first in 0..4 {
            let mut client = server.client();
            scope.spawn(move || fetch(&mut client, first * 10_000, 10_000));
        }
        thread::sleep(Duration::from_millis(150));
        end(&mut server);
    });
    check_files(&server)
}

fn a_stop_while_files_wait_for_their_names_leaves_nothing_behind(io: Io) {
    let unfinished = end_under_load(io, |server| {
        server.signal(libc::SIGTERM);
        assert!(server.wait().success());
    });
    assert_eq!(unfinished, [""; 0]);
}

fn a_kill_while_files_wait_for_their_names_leaves_whole_files_only(io: Io) {
    // What has no name yet may be left; what has one is exact.
    end_under_load(io, Server::kill);
}

fn a_client_that_takes_a_small_body_late_gets_all_of_it(io: Io) {
    // More than the two sockets hold, and little enough to come in one piece.
    let body = bytes(250_000, 1);
    let sent = body.clone();
    let origin = origin_of_one_piece(move |_| sent.clone());
    let server = Server::start(io, &origin);
    let mut late = Client::connect_with_small_window(server.addr());
    late.ask("GET", "/x.tgz", "");
    server.expect_cached("x.tgz", &body);
    server.get("/x.tgz").expect(200, &body);
    late.response("GET").expect(200, &body);
    assert_eq!(origin.count(), 1);
}

fn a_disk_that_refuses_a_small_body_loses_no_byte_of_a_client(io: Io) {
    let origin = origin_of_small_files();
    let server = Launch::new(io, &origin).limit(Limit::FileSize(1_000)).start();
    for number in 0..3 {
        let name = format!("/{number}.tgz");
        server.get(&name).expect(200, &body_of(&name)).expect_keep_alive();
    }
    server.expect_nothing_cached();
}

fn a_disk_that_fills_up_under_a_large_body_loses_no_byte_of_a_client(io: Io) {
    // Far into the body, where whole pipes of it are written elsewhere than on the loop.
    let body = bytes(8 << 20, 2);
    let origin = Origin::fixed(&body);
    let server = Launch::new(io, &origin).limit(Limit::FileSize((5 << 20) + 77)).start();
    let mut clients: Vec<_> = (0..3).map(|_| server.client()).collect();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| client.ask("GET", "/x.tgz", "").response("GET").expect(200, &body).status);
        }
    });
    server.expect_nothing_cached();
}

fn files_go_to_a_directory_that_was_removed_in_between(io: Io) {
    let origin = origin_of_small_files();
    let server = Server::start(io, &origin);
    for number in 0..5 {
        let name = format!("a/b/{number}.tgz");
        server.get(&format!("/{name}")).expect(200, &body_of(&name));
        server.expect_cached(&name, &body_of(&name));
        fs::remove_dir_all(server.path("a")).unwrap();
    }
    assert_eq!(origin.count(), 5);
}

fn bytes_behind_a_small_body_are_discarded(io: Io) {
    let origin = Origin::start(|request, reply| {
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n".to_vec();
        answer.extend_from_slice(&body_of(&request.target));
        answer.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
        reply.write(&answer);
    });
    let server = Server::start(io, &origin);
    for number in 0..3 {
        let name = format!("{number}.tgz");
        server.get(&format!("/{name}")).expect(200, &body_of(&name));
        server.expect_cached(&name, &body_of(&name));
    }
    assert_eq!(origin.connections(), 3);
}
