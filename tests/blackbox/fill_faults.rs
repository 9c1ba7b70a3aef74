//! Faults during misses: files that must never be committed, responses to clients when the origin or the disk fails, and
//! two processes in one directory.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use nix::fcntl::{Flock, FlockArg};

use crate::support::sandbox::Limit;
use crate::support::util::{chunked, tree};
use crate::support::{Gate, Io, LAST_MODIFIED, Launch, Origin, Server, bytes, on_both, wait_until};

on_both!(
    range_on_a_miss_never_commits_the_fragment,
    a_range_is_answered_from_a_growing_file_before_its_end,
    a_range_past_the_bytes_received_waits_for_them,
    an_unsatisfiable_range_on_a_miss_still_stores_the_file,
    if_range_on_a_miss_is_applied_to_the_answer,
    the_clients_own_conditions_are_applied_to_a_miss,
    an_origin_that_closes_mid_body_breaks_the_transfer_and_commits_nothing,
    an_origin_that_resets_mid_body_breaks_the_transfer_and_commits_nothing,
    a_chunked_body_without_its_last_chunk_is_never_committed,
    a_broken_chunk_size_is_never_committed,
    followers_of_a_fill_that_dies_see_it_and_the_next_request_works,
    a_close_delimited_body_is_passed_and_never_committed,
    a_garbage_answer_is_502,
    an_origin_that_closes_before_its_head_is_502,
    an_origin_with_two_lengths_is_502,
    non_200_answers_pass_whole_and_are_not_stored,
    redirects_are_not_followed,
    a_206_to_a_request_without_range_is_not_stored,
    waiters_of_a_404_get_their_own_404,
    a_coded_answer_is_passed_not_stored,
    a_coding_that_the_extension_explains_is_stored_as_its_bytes,
    an_answer_to_authorization_is_not_stored,
    an_unreachable_origin_is_502_with_one_line,
    a_stale_in_progress_file_is_taken_over,
    an_in_progress_file_locked_by_another_process_is_not_touched,
    an_in_progress_symlink_is_not_written_through,
    a_failed_fill_leaves_no_directory_in_the_way_of_a_file,
    two_servers_on_one_directory_leave_one_exact_file,
    a_killed_servers_partial_never_becomes_the_file,
    a_name_below_a_file_is_passed_whole,
    a_name_too_long_for_the_disk_is_passed_whole,
    a_disk_that_fills_up_loses_no_byte_of_a_client,
    an_unwritable_in_progress_name_loses_no_byte_of_a_client,
    vary_star_is_not_stored,
);

/// Serves the first `cut` bytes of `body` on the first request, all of it afterwards.
fn dies_once(body: &[u8], cut: usize, reset: bool) -> Origin {
    let body = body.to_vec();
    Origin::start(move |request, reply| {
        reply.head(body.len(), "");
        if request.index > 0 {
            reply.write(&body);
            return;
        }
        reply.write(&body[..cut]);
        if reset {
            // The bytes before the reset reach the server first.
            std::thread::sleep(std::time::Duration::from_millis(30));
            reply.reset();
        } else {
            reply.close();
        }
    })
}

fn range_on_a_miss_never_commits_the_fragment(io: Io) {
    let body = bytes(80_000, 1);
    let sent = body.clone();
    // An origin that honours the range, as real ones do, should it ever be asked for one.
    let origin = Origin::start(move |request, reply| match request.field("Range") {
        None => reply.serve(request, &sent),
        Some(_) => reply.answer("206 Partial Content", "Content-Range: bytes 10-19/80000\r\n", &sent[10..20]),
    });
    let server = Server::start(io, &origin);
    let part = server.ask("GET", "/x.tgz", "Range: bytes=10-19\r\n");
    part.expect(206, &body[10..20]).expect_keep_alive();
    assert_eq!(part.all("Content-Range"), ["bytes 10-19/80000"]);
    server.expect_cached("x.tgz", &body);
    server.get("/x.tgz").expect(200, &body);
    assert_eq!(origin.only().field("Range"), None);
}

fn a_range_is_answered_from_a_growing_file_before_its_end(io: Io) {
    let body = bytes(200_000, 2);
    let gate = Gate::default();
    let (held, sent) = (gate.clone(), body.clone());
    let origin = Origin::start(move |_, reply| {
        reply.head(sent.len(), "");
        reply.write(&sent[..100_000]);
        held.wait();
        reply.write(&sent[100_000..]);
    });
    let server = Server::start(io, &origin);
    // Both the first client of a fill and one that joins it.
    for _ in 0..2 {
        let part = server.ask("GET", "/x.tgz", "Range: bytes=500-50499\r\n");
        part.expect(206, &body[500..50_500]);
        assert_eq!(part.all("Content-Range"), ["bytes 500-50499/200000"]);
    }
    gate.open();
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 1);
}

fn a_range_past_the_bytes_received_waits_for_them(io: Io) {
    let body = bytes(200_000, 3);
    let gate = Gate::default();
    let (held, sent) = (gate.clone(), body.clone());
    let origin = Origin::start(move |_, reply| {
        reply.head(sent.len(), "");
        reply.write(&sent[..1_000]);
        held.wait();
        reply.write(&sent[1_000..]);
    });
    let server = Server::start(io, &origin);
    let mut suffix = server.client();
    let mut middle = server.client();
    suffix.ask("GET", "/x.tgz", "Range: bytes=-100\r\n");
    middle.ask("GET", "/x.tgz", "Range: bytes=150000-150999\r\n");
    wait_until("the fill has begun", || origin.count() == 1);
    gate.open();
    suffix.response("GET").expect(206, &body[199_900..]);
    middle.response("GET").expect(206, &body[150_000..151_000]);
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 1);
}

fn an_unsatisfiable_range_on_a_miss_still_stores_the_file(io: Io) {
    let body = bytes(5_000, 4);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    let refused = server.ask("GET", "/x.tgz", "Range: bytes=5000-\r\n");
    assert_eq!(refused.status, 416);
    assert_eq!(refused.all("Content-Range"), ["bytes */5000"]);
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 1);
}

fn if_range_on_a_miss_is_applied_to_the_answer(io: Io) {
    let body = bytes(5_000, 5);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    let same = format!("Range: bytes=0-9\r\nIf-Range: {LAST_MODIFIED}\r\n");
    server.ask("GET", "/x.tgz", &same).expect(206, &body[..10]);
    let other = "Range: bytes=0-9\r\nIf-Range: \"other\"\r\n";
    server.ask("GET", "/y.tgz", other).expect(200, &body);
    server.expect_cached("x.tgz", &body);
    server.expect_cached("y.tgz", &body);
}

fn the_clients_own_conditions_are_applied_to_a_miss(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.head(4, "ETag: \"origins\"\r\n");
        reply.write("body");
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for (name, condition, status) in [
        ("a.tgz", format!("If-Modified-Since: {LAST_MODIFIED}"), 304),
        ("b.tgz", "If-None-Match: \"origins\"".to_owned(), 304),
        ("c.tgz", "If-None-Match: \"other\"".to_owned(), 200),
        ("d.tgz", "If-Modified-Since: Sat, 16 May 2015 20:31:38 GMT".to_owned(), 200),
    ] {
        let response = client.ask("GET", &format!("/{name}"), &format!("{condition}\r\n")).response("GET");
        response.expect(status, if status == 200 { b"body" } else { b"" });
        response.expect_keep_alive();
        server.expect_cached(name, b"body");
    }
    assert_eq!(origin.count(), 4);
}

/// The client sees a broken transfer of a prefix, nothing is committed or left, and the next
/// request is served whole and stored.
#[track_caller]
fn expect_broken_then_well(server: &Server, name: &str, body: &[u8]) {
    let mut client = server.client();
    let broken = client.ask("GET", &format!("/{name}"), "").response("GET");
    assert_eq!(broken.status, 200);
    assert!(!broken.whole, "a short body passed for a whole one");
    assert!(body.starts_with(&broken.body), "wrong bytes before the end");
    client.expect_closed();
    server.expect_nothing_cached();
    server.get(&format!("/{name}")).expect(200, body);
    server.expect_cached(name, body);
}

fn an_origin_that_closes_mid_body_breaks_the_transfer_and_commits_nothing(io: Io) {
    // Without a validator nothing can be resumed: an origin with one is for the tests of resuming.
    for cut in [0, 1, 99_999] {
        let body = bytes(100_000, 6);
        let sent = body.clone();
        let origin = Origin::start(move |request, reply| {
            reply.write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
            if request.index == 0 {
                reply.write(&sent[..cut]);
                reply.close();
            } else {
                reply.write(&sent);
            }
        });
        let server = Server::start(io, &origin);
        expect_broken_then_well(&server, "x.tgz", &body);
        assert_eq!(origin.count(), 2);
    }
}

fn an_origin_that_resets_mid_body_breaks_the_transfer_and_commits_nothing(io: Io) {
    let body = bytes(100_000, 7);
    let origin = dies_once(&body, 40_000, true);
    let server = Server::start(io, &origin);
    // This origin has a validator, so the fill may also be resumed: then the client sees nothing.
    let first = server.get("/x.tgz");
    assert!(body.starts_with(&first.body));
    assert!(!first.whole || first.body.len() == body.len());
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
    server.expect_tree(&["x.tgz"]);
}

fn a_chunked_body_without_its_last_chunk_is_never_committed(io: Io) {
    let body = bytes(60_000, 8);
    let message = chunked(&body, 6_000);
    let origin = Origin::start(move |request, reply| {
        reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        if request.index == 0 {
            // All the data, but not the chunk that says so.
            reply.write(&message[..message.len() - 5]);
            reply.close();
        } else {
            reply.write(&message);
        }
    });
    let server = Server::start(io, &origin);
    expect_broken_then_well(&server, "x.js", &body);
    assert_eq!(origin.count(), 2);
}

fn a_broken_chunk_size_is_never_committed(io: Io) {
    for broken in ["zz\r\n", "\r\n", "-5\r\nhello\r\n", "fffffffffffffffff\r\n"] {
        let origin = Origin::start(move |request, reply| {
            reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n");
            if request.index == 0 {
                reply.write(broken);
                reply.write("0\r\n\r\n");
                reply.close();
            } else {
                reply.write("0\r\n\r\n");
            }
        });
        let server = Server::start(io, &origin);
        expect_broken_then_well(&server, "x.js", b"body");
    }
}

fn followers_of_a_fill_that_dies_see_it_and_the_next_request_works(io: Io) {
    let body = bytes(100_000, 9);
    let gate = Gate::default();
    let (held, sent) = (gate.clone(), body.clone());
    let origin = Origin::start(move |request, reply| {
        reply.write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        if request.index == 0 {
            reply.write(&sent[..50_000]);
            held.wait();
            reply.close();
        } else {
            reply.write(&sent);
        }
    });
    let server = Server::start(io, &origin);
    let mut clients: Vec<_> = (0..6).map(|_| server.client()).collect();
    let mut responses = Vec::new();
    for client in &mut clients {
        let mut response = client.ask("GET", "/x.tgz", "").head("GET");
        response.body = client.raw(50_000);
        responses.push(response);
    }
    gate.open();
    for (client, response) in clients.iter_mut().zip(&mut responses) {
        client.finish(response);
        assert!(!response.whole, "a short body passed for a whole one");
        assert_eq!(response.body.len(), 50_000);
    }
    server.expect_nothing_cached();
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 2);
}

fn a_close_delimited_body_is_passed_and_never_committed(io: Io) {
    let body = bytes(50_000, 10);
    let sent = body.clone();
    let origin = Origin::start(move |_, reply| {
        reply.write(format!("HTTP/1.1 200 OK\r\nLast-Modified: {LAST_MODIFIED}\r\n\r\n"));
        reply.write(&sent);
        reply.close();
    });
    let server = Server::start(io, &origin);
    for _ in 0..2 {
        server.get("/x.tgz").expect(200, &body);
        server.expect_nothing_cached();
    }
    assert_eq!(origin.count(), 2);
}

fn expect_502(server: &Server, target: &str) {
    let response = server.get(target);
    assert_eq!(response.status, 502);
    assert!(response.whole);
    let text = String::from_utf8(response.body.clone()).unwrap();
    assert_eq!(text.trim_end().lines().count(), 1, "one line: {text:?}");
    assert!(
        response.field("Content-Type").is_some_and(|kind| kind.starts_with("text/plain")),
        "{:?}",
        response.fields
    );
}

fn a_garbage_answer_is_502(io: Io) {
    for garbage in [
        "garbage\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/3.7 200 OK\r\nContent-Length: 4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nbody",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let origin = Origin::start(move |_, reply| {
            reply.write(garbage);
            reply.close();
        });
        let server = Server::start(io, &origin);
        expect_502(&server, "/x.tgz");
        expect_502(&server, "/x.txt");
        server.expect_nothing_cached();
    }
}

fn an_origin_that_closes_before_its_head_is_502(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.target == "/half.tgz" {
            reply.write("HTTP/1.1 200 OK\r\nContent-Le");
        }
        reply.close();
    });
    let server = Server::start(io, &origin);
    for target in ["/x.tgz", "/half.tgz", "/x.txt"] {
        expect_502(&server, target);
    }
    // Nobody retries on a connection that was not reused.
    assert_eq!(origin.count(), 3);
    server.expect_nothing_cached();
}

fn an_origin_with_two_lengths_is_502(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody5");
        reply.close();
    });
    let server = Server::start(io, &origin);
    expect_502(&server, "/x.tgz");
    expect_502(&server, "/x.txt");
    server.expect_nothing_cached();
}

fn non_200_answers_pass_whole_and_are_not_stored(io: Io) {
    for status in [
        "201 Created",
        "203 Non-Authoritative Information",
        "400 Bad Request",
        "403 Forbidden",
        "404 Not Found",
        "410 Gone",
        "500 Internal Server Error",
        "503 Service Unavailable",
    ] {
        let origin = Origin::start(move |_, reply| {
            reply.answer(status, "X-Why: because\r\nContent-Type: text/x\r\n", b"the reason, whole");
        });
        let server = Server::start(io, &origin);
        let mut client = server.client();
        for _ in 0..2 {
            let response = client.get("/x.tgz");
            response.expect(status[..3].parse().unwrap(), b"the reason, whole");
            response.expect_keep_alive();
            assert_eq!(response.all("X-Why"), ["because"]);
            assert_eq!(response.all("Content-Type"), ["text/x"]);
            assert_eq!(response.all("Content-Length"), ["17"]);
        }
        assert_eq!(origin.count(), 2, "{status} was cached");
        server.expect_nothing_cached();
    }
}

fn redirects_are_not_followed(io: Io) {
    for status in [301, 302, 307, 308] {
        let origin = Origin::start(move |_, reply| {
            reply.answer(&format!("{status} Elsewhere"), "Location: /y.tgz\r\n", b"go there");
        });
        let server = Server::start(io, &origin);
        let response = server.get("/x.tgz");
        response.expect(status, b"go there");
        assert_eq!(response.all("Location"), ["/y.tgz"]);
        assert_eq!(origin.only().target, "/x.tgz");
        server.expect_nothing_cached();
    }
}

fn a_206_to_a_request_without_range_is_not_stored(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.answer("206 Partial Content", "Content-Range: bytes 0-3/100\r\n", b"part");
    });
    let server = Server::start(io, &origin);
    server.get("/x.tgz");
    server.get("/x.tgz");
    assert_eq!(origin.count(), 2);
    server.expect_nothing_cached();
}

fn waiters_of_a_404_get_their_own_404(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |_, reply| {
        held.wait();
        reply.answer("404 Not Found", "X-Why: gone\r\n", b"no such package");
    });
    let server = Server::start(io, &origin);
    let mut clients: Vec<_> = (0..8).map(|_| server.client()).collect();
    for client in &mut clients {
        client.ask("GET", "/x.tgz", "");
    }
    wait_until("the origin is asked", || origin.count() >= 1);
    gate.open();
    for client in &mut clients {
        let response = client.response("GET");
        response.expect(404, b"no such package");
        assert_eq!(response.all("X-Why"), ["gone"]);
    }
    server.expect_nothing_cached();
}

fn a_coded_answer_is_passed_not_stored(io: Io) {
    for (name, coding) in
        [("/x.js", "gzip"), ("/x.css", "br"), ("/x.tgz", "br"), ("/x.tar", "gzip"), ("/x.tgz", "gzip, gzip")]
    {
        let origin = Origin::start(move |_, reply| {
            reply.head(5, &format!("Content-Encoding: {coding}\r\n"));
            reply.write("coded");
        });
        let server = Server::start(io, &origin);
        for _ in 0..2 {
            let response = server.ask("GET", name, "Accept-Encoding: gzip, br\r\n");
            response.expect(200, b"coded");
            assert_eq!(response.all("Content-Encoding"), [coding], "{name}");
        }
        assert_eq!(origin.count(), 2, "{name} with {coding} was stored");
        server.expect_nothing_cached();
    }
}

fn a_coding_that_the_extension_explains_is_stored_as_its_bytes(io: Io) {
    for (name, coding) in [
        ("x.tgz", "gzip"),
        ("x.tgz", "x-gzip"),
        ("x.tar.gz", "x-gzip"),
        ("x.tar.gz", "GZip"),
        ("x.tar.bz2", "bzip2"),
        ("x.tar.bz2", "x-bzip2"),
    ] {
        let origin = Origin::start(move |_, reply| {
            reply.head(5, &format!("Content-Encoding: {coding}\r\n"));
            reply.write("coded");
        });
        let server = Launch::new(io, &origin).cache_everything().start();
        let miss = server.get(&format!("/{name}"));
        miss.expect(200, b"coded");
        assert_eq!(miss.field("Content-Encoding"), None, "{name} {coding}");
        server.expect_cached(name, b"coded");
        let hit = server.get(&format!("/{name}"));
        hit.expect(200, b"coded");
        assert_eq!(hit.field("Content-Encoding"), None);
        assert_eq!(origin.count(), 1);
    }
}

fn an_answer_to_authorization_is_not_stored(io: Io) {
    let origin = Origin::start(|request, reply| match request.field("Authorization") {
        Some("Basic dTpw") => reply.serve(request, b"private"),
        _ => reply.answer("401 Unauthorized", "WWW-Authenticate: Basic\r\n", b"who?"),
    });
    let server = Server::start(io, &origin);
    for _ in 0..2 {
        server.ask("GET", "/x.tgz", "Authorization: Basic dTpw\r\n").expect(200, b"private");
        let refused = server.get("/x.tgz");
        refused.expect(401, b"who?");
        assert_eq!(refused.all("WWW-Authenticate"), ["Basic"]);
    }
    assert_eq!(origin.count(), 4);
    server.expect_nothing_cached();
}

fn vary_star_is_not_stored(io: Io) {
    let origin = Origin::start(|request, reply| {
        let vary = if request.target == "/star.js" {
            "Vary: *\r\n"
        } else {
            "Vary: Accept-Encoding, User-Agent\r\n"
        };
        reply.head(4, vary);
        reply.write("body");
    });
    let server = Server::start(io, &origin);
    server.get("/star.js").expect(200, b"body");
    server.get("/star.js").expect(200, b"body");
    assert_eq!(origin.count(), 2);
    server.get("/named.js").expect(200, b"body");
    server.expect_cached("named.js", b"body");
    server.expect_tree(&["named.js"]);
}

fn an_unreachable_origin_is_502_with_one_line(io: Io) {
    let port = crate::support::server::free_port();
    let server = Launch::at(io, &format!("http://127.0.0.1:{port}")).start();
    expect_502(&server, "/x.tgz");
    expect_502(&server, "/x.txt");
    let head = server.ask("HEAD", "/x.tgz", "");
    assert_eq!(head.status, 502);
    server.expect_nothing_cached();
}

fn a_stale_in_progress_file_is_taken_over(io: Io) {
    let body = bytes(30_000, 11);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    // Shorter than the file, longer than the file, and of exactly its length.
    for (name, stale) in [("a.tgz", 10), ("b.tgz", 90_000), ("c.tgz", 30_000)] {
        server.put(&format!("{name}.in-progress"), &bytes(stale, 99));
        server.get(&format!("/{name}")).expect(200, &body);
        server.expect_cached(name, &body);
    }
    server.expect_tree(&["a.tgz", "b.tgz", "c.tgz"]);
    assert_eq!(origin.count(), 3);
}

fn an_in_progress_file_locked_by_another_process_is_not_touched(io: Io) {
    let body = bytes(30_000, 12);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    let path = server.put("x.tgz.in-progress", b"another process writes here");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
    for _ in 0..2 {
        server.get("/x.tgz").expect(200, &body);
    }
    assert_eq!(fs::read(&path).unwrap(), b"another process writes here");
    server.expect_tree(&["x.tgz.in-progress"]);
    assert_eq!(origin.count(), 2);
    drop(lock);
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
    server.expect_tree(&["x.tgz"]);
}

fn an_in_progress_symlink_is_not_written_through(io: Io) {
    let body = bytes(30_000, 13);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    let precious = server.outside().join("precious");
    fs::write(&precious, b"precious").unwrap();
    symlink(&precious, server.path("x.tgz.in-progress")).unwrap();
    server.get("/x.tgz").expect(200, &body);
    server.get("/x.tgz").expect(200, &body);
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    server.expect_cached("x.tgz", &body);
    server.expect_tree(&["x.tgz"]);
    assert_eq!(origin.count(), 1);
}

fn a_failed_fill_leaves_no_directory_in_the_way_of_a_file(io: Io) {
    let body = bytes(300_000, 15);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| {
        if request.target.ends_with("/broken.tgz") {
            reply.write("HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n");
            reply.write(&sent);
            reply.close();
        } else {
            reply.head(sent.len(), "");
            reply.write(&sent);
        }
    });
    let server = Server::start(io, &origin);
    fs::create_dir(server.path("mine")).unwrap();
    for above in ["a", "a/b.tgz", "mine/c.tgz"] {
        let broken = server.client().ask("GET", &format!("/{above}/d.tgz/broken.tgz"), "").response("GET");
        assert!(!broken.whole);
        let path = format!("{above}/d.tgz");
        wait_until("the directory is gone", || !server.path(&path).exists());
        server.get(&format!("/{path}")).expect(200, &body);
        server.expect_cached(&path, &body);
        fs::remove_file(server.path(&path)).unwrap();
    }
    assert!(server.path("mine").exists(), "a directory that was there before");
}

fn two_servers_on_one_directory_leave_one_exact_file(io: Io) {
    let body = bytes(400_000, 14);
    let gate = Gate::default();
    let (held, sent) = (gate.clone(), body.clone());
    let origin = Origin::start(move |_, reply| {
        reply.head(sent.len(), "");
        reply.write(&sent[..1_000]);
        held.wait();
        reply.write(&sent[1_000..]);
    });
    let first = Server::start(io, &origin);
    let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
    let mut one = first.client();
    let mut two = second.client();
    let mut filled = one.ask("GET", "/x.tgz", "").head("GET");
    let mut passed = two.ask("GET", "/x.tgz", "").head("GET");
    assert_eq!(origin.count(), 2);
    gate.open();
    one.finish(&mut filled);
    two.finish(&mut passed);
    filled.expect(200, &body);
    passed.expect(200, &body);
    first.expect_cached("x.tgz", &body);
    first.expect_tree(&["x.tgz"]);
    second.get("/x.tgz").expect(200, &body);
    assert_eq!(origin.count(), 2);
}

fn a_killed_servers_partial_never_becomes_the_file(io: Io) {
    let body = bytes(400_000, 15);
    let gate = Gate::default();
    let (held, sent) = (gate.clone(), body.clone());
    let origin = Origin::start(move |request, reply| {
        if request.index == 0 {
            // Another body of the same length: mixing the two would show.
            let other = bytes(sent.len(), 1_015);
            reply.write("HTTP/1.1 200 OK\r\nETag: \"old\"\r\nContent-Length: 400000\r\n\r\n");
            reply.write(&other[..200_000]);
            held.wait();
            reply.close();
        } else {
            reply.write("HTTP/1.1 200 OK\r\nETag: \"new\"\r\nContent-Length: 400000\r\n\r\n");
            reply.write(&sent);
        }
    });
    let mut first = Server::start(io, &origin);
    let mut client = first.client();
    client.ask("GET", "/x.tgz", "").head("GET");
    client.raw(200_000);
    first.kill();
    gate.open();
    assert!(!first.path("x.tgz").exists());
    let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
    second.get("/x.tgz").expect(200, &body);
    second.expect_cached("x.tgz", &body);
    second.expect_tree(&["x.tgz"]);
}

fn a_name_below_a_file_is_passed_whole(io: Io) {
    let body = bytes(300_000, 16);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    server.put("file.tgz", b"a file, not a directory");
    for _ in 0..2 {
        server.get("/file.tgz/x.tgz").expect(200, &body);
    }
    assert_eq!(origin.count(), 2);
    server.expect_tree(&["file.tgz"]);
    server.expect_cached("file.tgz", b"a file, not a directory");
}

fn a_name_too_long_for_the_disk_is_passed_whole(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Server::start(io, &origin);
    // The second fits, but not with `.in-progress` behind it; the third is a path beyond PATH_MAX.
    let path = format!("/{}x.tgz", "d/".repeat(2_500));
    for target in [format!("/{}.tgz", "n".repeat(300)), format!("/{}.tgz", "n".repeat(246)), path] {
        server.get(&target).expect(200, b"body");
    }
    assert_eq!(origin.count(), 3);
    let files = tree(server.cache_dir());
    assert!(files.iter().all(|name| !name.ends_with(".in-progress")), "{files:?}");
}

fn a_disk_that_fills_up_loses_no_byte_of_a_client(io: Io) {
    let body = bytes(2 << 20, 17);
    let (gate, sent) = (Gate::default(), body.clone());
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        if request.target == "/small.tgz" {
            return reply.serve(request, b"small");
        }
        reply.head(sent.len(), "");
        reply.write(&sent[..1_000]);
        held.wait();
        reply.write(&sent[1_000..]);
    });
    let server = Launch::new(io, &origin).limit(Limit::FileSize(256 * 1024)).start();
    let mut clients: Vec<_> = (0..3).map(|_| server.client()).collect();
    let mut responses: Vec<_> =
        clients.iter_mut().map(|client| client.ask("GET", "/x.tar", "").head("GET")).collect();
    gate.open();
    std::thread::scope(|scope| {
        for (client, response) in clients.iter_mut().zip(&mut responses) {
            scope.spawn(|| client.finish(response));
        }
    });
    for response in &responses {
        response.expect(200, &body);
    }
    server.expect_nothing_cached();
    // What fits is still cached afterwards.
    server.get("/small.tgz").expect(200, b"small");
    server.expect_cached("small.tgz", b"small");
}

fn an_unwritable_in_progress_name_loses_no_byte_of_a_client(io: Io) {
    let body = bytes(300_000, 18);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    server.put("x.tgz.in-progress/kept", b"kept");
    for _ in 0..2 {
        server.get("/x.tgz").expect(200, &body);
    }
    server.expect_tree(&["x.tgz.in-progress/kept"]);
}
