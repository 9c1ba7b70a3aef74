//! Memory for answers that no plain file can stand for: clients that read nothing hold no more of it than there is.

use crate::support::{Client, Io, Launch, Origin, Server, bytes, on_both, wait_until};

on_both!(
    silent_clients_of_many_queries_hold_no_more_memory_than_there_is,
    a_body_of_unknown_length_that_is_too_long_is_not_held_for_a_silent_client,
    what_found_no_room_in_memory_comes_whole_and_is_kept_later,
    long_heads_of_many_files_are_not_all_remembered,
    many_small_answers_take_no_more_memory_than_there_is,
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

fn what_found_no_room_in_memory_comes_whole_and_is_kept_later(io: Io) {
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
