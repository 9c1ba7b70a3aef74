//! Memory for responses that cannot be plain files: clients that read nothing hold no more of it than the limit.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::support::{Client, Io, Launch, Origin, Server, bytes, on_both, wait_until};

on_both!(
    silent_clients_of_many_queries_hold_no_more_memory_than_there_is,
    a_body_of_unknown_length_that_is_too_long_is_not_held_for_a_silent_client,
    a_response_without_room_in_memory_is_whole_and_stored_later,
    long_heads_of_many_files_are_not_all_remembered,
    silent_clients_do_not_keep_others_from_stored_responses,
    a_silent_client_gets_the_whole_body_when_it_reads_on,
    a_disk_that_refuses_all_writes_loses_no_byte_of_a_client,
    silent_passes_hold_little_memory,
    small_answers_are_stored_by_the_thousand,
    many_small_answers_take_no_more_memory_than_there_is,
    one_file_by_many_long_paths_is_not_remembered_by_each,
);

/// Memory for answers, and the longest of them.
const MEMORY: usize = 8 << 20;
const BODY: usize = 1_000_000;
/// Of a client that reads nothing, beside that.
const EACH: usize = 256 << 10;
/// What the process may grow by for other reasons.
const SPARE: usize = 16 << 20;

fn launch(io: Io, origin: &Origin) -> Launch {
    let memory = MEMORY.to_string();
    Launch::new(io, origin).args([
        "--workers",
        "1",
        "--revalidate",
        r"\.idx$",
        "--revalidate-memory",
        &memory,
    ])
}

/// So many clients with a query of their own each, which have their heads and read no further.
fn crowd(server: &Server, count: usize) -> Vec<Client> {
    let mut crowd: Vec<_> = (0..count)
        .map(|n| {
            let mut client = Client::connect_with_small_window(server.addr());
            client.ask("GET", &format!("/x.idx?{n}"), "");
            client
        })
        .collect();
    for client in &mut crowd {
        assert_eq!(client.head("GET").status, 200);
    }
    crowd
}

fn has_grown_by_less_than(server: &Server, before: u64, bytes: usize) {
    let grown = server.resident_kib().saturating_sub(before) * 1024;
    assert!(grown < bytes as u64, "{grown} bytes more, not {bytes}");
}

fn silent_clients_of_many_queries_hold_no_more_memory_than_there_is(io: Io) {
    let body = bytes(BODY, 5);
    let origin =
        Origin::start(move |_, reply| reply.answer("200 OK", "Cache-Control: max-age=60\r\n", &body));
    let server = launch(io, &origin).start();
    server.get("/x.idx?warm");
    let before = server.resident_kib();
    let held = crowd(&server, 100);
    has_grown_by_less_than(&server, before, MEMORY + 100 * EACH + SPARE);
    drop(held);
}

fn a_body_of_unknown_length_that_is_too_long_is_not_held_for_a_silent_client(io: Io) {
    let body = bytes(BODY, 5);
    let origin = Origin::start(move |_, reply| {
        reply.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..8 {
            reply.write(format!("{BODY:x}\r\n"));
            reply.write(&body);
            reply.write("\r\n");
        }
        reply.write("0\r\n\r\n");
    });
    let server = launch(io, &origin).start();
    server.get("/x.idx?warm");
    let before = server.resident_kib();
    let held = crowd(&server, 100);
    has_grown_by_less_than(&server, before, MEMORY + 100 * EACH + SPARE);
    drop(held);
}

fn a_response_without_room_in_memory_is_whole_and_stored_later(io: Io) {
    let body = bytes(BODY, 5);
    let whole = body.clone();
    let origin =
        Origin::start(move |_, reply| reply.answer("200 OK", "Cache-Control: max-age=60\r\n", &body));
    let server = launch(io, &origin).start();
    let held = crowd(&server, 20);
    server.get("/x.idx?new").expect(200, &whole);
    drop(held);
    wait_until("there is room again", || {
        let before = origin.count();
        server.get("/x.idx?new").expect(200, &whole);
        origin.count() == before
    });
}

fn long_heads_of_many_files_are_not_all_remembered(io: Io) {
    let long = "l".repeat(48_000);
    let origin = Origin::start(move |_, reply| {
        reply.answer("200 OK", &format!("Cache-Control: max-age=60\r\nX-Long: {long}\r\n"), b"body");
    });
    let server = launch(io, &origin).start();
    server.get("/warm.idx");
    let before = server.resident_kib();
    let mut client = server.client();
    for n in 0..1500 {
        client.get(&format!("/{n}.idx")).expect(200, b"body");
        if n % 10 == 9 {
            // Those that have no name yet have their heads for other reasons.
            wait_until("it has its name", || server.path(&format!("{n}.idx")).exists());
        }
    }
    // All of them would be 72 MB.
    has_grown_by_less_than(&server, before, 48 << 20);
}

fn many_small_answers_take_no_more_memory_than_there_is(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.answer("200 OK", "ETag: \"a\"\r\nCache-Control: max-age=1000\r\n", b"small");
    });
    let server = launch(io, &origin).start();
    let mut client = server.client();
    client.get("/x.idx?warm");
    let before = server.resident_kib();
    for n in 0..8000 {
        client.get(&format!("/x.idx?{n}")).expect(200, b"small");
    }
    has_grown_by_less_than(&server, before, MEMORY + SPARE);
}

fn one_file_by_many_long_paths_is_not_remembered_by_each(io: Io) {
    let origin = Origin::start(|_, reply| reply.answer("404 Not Found", "", b""));
    let server = launch(io, &origin).start();
    server.put("h.tgz", b"hit");
    let mut client = server.client();
    client.get("/h.tgz").expect(200, b"hit");
    let (before, long) = (server.resident_kib(), "a".repeat(15_000));
    for n in 0..4000 {
        client.get(&format!("/{long}{n}/../h.tgz")).expect(200, b"hit");
    }
    // All of the paths would be 60 MB.
    has_grown_by_less_than(&server, before, 2 * SPARE);
}

/// An answer to a query: long ones for all but those that ask for a short one.
fn queries() -> (Origin, Vec<u8>) {
    let body = bytes(BODY, 5);
    let whole = body.clone();
    let origin = Origin::start(move |request, reply| {
        let body: &[u8] = if request.target.contains("short") { b"short" } else { &body };
        if request.target.contains("chunked") {
            reply
                .write("HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nTransfer-Encoding: chunked\r\n\r\n");
            reply.write(format!("{:x}\r\n", body.len()));
            reply.write(body);
            reply.write("\r\n0\r\n\r\n");
        } else {
            reply.answer("200 OK", "Cache-Control: max-age=600\r\n", body);
        }
    });
    (origin, whole)
}

fn silent_clients_do_not_keep_others_from_stored_responses(io: Io) {
    let (origin, whole) = queries();
    let server = launch(io, &origin).start();
    let held = crowd(&server, 30);
    for target in ["/x.idx?new", "/x.idx?new-chunked"] {
        server.get(target).expect(200, &whole);
        let before = origin.count();
        for _ in 0..3 {
            server.get(target).expect(200, &whole);
        }
        assert_eq!(origin.count(), before, "{target} was stored");
    }
    for n in 0..100 {
        server.get(&format!("/x.idx?short{n}")).expect(200, b"short");
    }
    let before = origin.count();
    for n in 0..100 {
        server.get(&format!("/x.idx?short{n}")).expect(200, b"short");
    }
    assert_eq!(origin.count(), before, "short ones were stored");
    drop(held);
}

fn a_silent_client_gets_the_whole_body_when_it_reads_on(io: Io) {
    let (origin, whole) = queries();
    let server = launch(io, &origin).start();
    let mut held: Vec<_> = (0..30)
        .map(|n| {
            let mut client = Client::connect_with_small_window(server.addr());
            client.ask("GET", &format!("/x.idx?{n}"), "");
            client
        })
        .collect();
    let mut ranges: Vec<_> = (0..10)
        .map(|n| {
            let mut client = Client::connect_with_small_window(server.addr());
            client.ask("GET", &format!("/x.idx?{n}"), "Range: bytes=100-599999,700000-999999\r\n");
            client
        })
        .collect();
    server.get("/x.idx?new").expect(200, &whole);
    // Long enough to be silent.
    sleep(Duration::from_secs(3));
    server.get("/x.idx?newer").expect(200, &whole);
    for client in &mut held {
        client.response("GET").expect(200, &whole);
    }
    for client in &mut ranges {
        let answer = client.response("GET");
        assert_eq!(answer.status, 206);
        assert!(answer.body.windows(300_000).any(|part| part == &whole[700_000..]));
    }
}

fn a_disk_that_refuses_all_writes_loses_no_byte_of_a_client(io: Io) {
    let (origin, whole) = queries();
    let server = launch(io, &origin).start();
    // Where a directory should be.
    fs::write(server.path(".fs-caching-server"), "").unwrap();
    let mut held: Vec<_> = (0..30)
        .map(|n| {
            let mut client = Client::connect_with_small_window(server.addr());
            client.ask("GET", &format!("/x.idx?{}{n}", if n % 2 == 0 { "chunked" } else { "" }), "");
            client
        })
        .collect();
    sleep(Duration::from_secs(3));
    for target in ["/x.idx?new", "/x.idx?new-chunked"] {
        server.get(target).expect(200, &whole);
    }
    for client in &mut held {
        client.response("GET").expect(200, &whole);
    }
}

fn silent_passes_hold_little_memory(io: Io) {
    let (origin, whole) = queries();
    let server = launch(io, &origin).start();
    server.get("/warm").expect(200, &whole);
    let before = server.resident_kib();
    let mut held: Vec<_> = (0..300)
        .map(|n| {
            let mut client = Client::connect_with_small_window(server.addr());
            client.ask("GET", if n % 2 == 0 { "/other/chunked" } else { "/other/plain" }, "");
            client
        })
        .collect();
    for client in &mut held {
        assert_eq!(client.head("GET").status, 200);
    }
    wait_until("they hold little", || {
        let grown = server.resident_kib().saturating_sub(before);
        // About 30 KiB each are in use; the rest is what the allocator keeps.
        grown < 300 * 90
    });
    drop(held);
}

fn small_answers_are_stored_by_the_thousand(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.answer("200 OK", "ETag: \"a\"\r\nCache-Control: max-age=1000\r\n", b"small");
    });
    let server = launch(io, &origin).start();
    let mut client = server.client();
    for n in 0..3000 {
        client.get(&format!("/x.idx?{n}")).expect(200, b"small");
    }
    let before = origin.count();
    for n in 0..3000 {
        client.get(&format!("/x.idx?{n}")).expect(200, b"small");
    }
    assert_eq!(origin.count(), before);
}
