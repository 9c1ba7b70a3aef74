//! Misses that become files: the request to the origin, the bytes that each client gets, and their order.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::UNIX_EPOCH;

use crate::support::sandbox::Limit;
use crate::support::util::chunked;
use crate::support::{
    Framing, Gate, Io, LAST_MODIFIED, LAST_MODIFIED_SECS, Launch, Origin, Reply, Server, bytes, on_both,
    wait_until,
};

on_both!(
    a_miss_is_fetched_once_and_then_a_hit,
    a_fill_with_a_length_is_never_sent_chunked,
    a_chunked_answer_is_stored_after_its_last_chunk,
    an_empty_body_is_stored,
    an_http_1_0_origin_with_a_length_is_stored,
    the_files_mtime_is_the_origins_last_modified,
    without_last_modified_the_mtime_is_now,
    a_miss_relays_the_origins_fields_but_not_its_date_and_server,
    the_fills_request_carries_no_conditions_and_no_range,
    a_fill_request_carries_the_clients_user_agent_and_no_other_field,
    new_files_and_directories_have_modes_under_the_umask,
    the_tree_holds_plain_files_at_the_urls_own_path,
    the_file_grows_under_its_in_progress_name,
    the_head_and_first_bytes_reach_the_client_at_once,
    a_late_client_gets_the_bytes_received_from_a_stalled_fill,
    concurrent_clients_cause_one_fetch_across_workers,
    fifty_clients_of_a_paced_origin_get_exact_copies_of_one_fetch,
    a_fill_continues_when_its_client_leaves,
    a_fill_continues_when_all_clients_leave,
    a_follower_that_leaves_does_not_disturb_others,
    a_client_that_does_not_read_does_not_delay_others,
    head_during_a_fill_is_answered_from_the_fills_head,
    head_on_a_miss_is_proxied_and_never_cached,
    different_names_fill_side_by_side,
    a_stalled_fill_does_not_hold_back_the_worker,
    a_body_longer_than_its_length_is_cut_at_the_length,
    a_large_chunked_fill_is_exact,
    an_interim_answer_of_the_origin_is_not_passed_on,
);

/// Head, the first half, then the rest once the gate opens.
fn half_then_wait(reply: &mut Reply<'_>, body: &[u8], gate: &Gate) {
    let half = body.len() / 2;
    reply.head(body.len(), "");
    reply.write(&body[..half]);
    gate.wait();
    reply.write(&body[half..]);
}

/// An origin that stalls in the middle of every GET until the gate opens.
fn stalling(body: &[u8]) -> (Origin, Gate) {
    let gate = Gate::default();
    let (held, body) = (gate.clone(), body.to_vec());
    let origin = Origin::start(move |request, reply| {
        if request.method == "HEAD" {
            reply.head(body.len(), "");
        } else {
            half_then_wait(reply, &body, &held);
        }
    });
    (origin, gate)
}

fn a_miss_is_fetched_once_and_then_a_hit(io: Io) {
    let body = bytes(100_000, 1);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let miss = client.get("/dir/x.tgz");
    miss.expect(200, &body).expect_keep_alive();
    assert_eq!(miss.all("Last-Modified"), [LAST_MODIFIED]);
    server.expect_cached("dir/x.tgz", &body);
    let hit = client.get("/dir/x.tgz");
    hit.expect(200, &body).expect_keep_alive();
    assert_eq!(hit.all("Last-Modified"), [LAST_MODIFIED]);
    assert_eq!(hit.all("ETag"), [format!("\"100000-{LAST_MODIFIED_SECS}000\"")]);
    let seen = origin.only();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/dir/x.tgz"));
    server.expect_tree(&["dir/x.tgz"]);
}

fn a_fill_with_a_length_is_never_sent_chunked(io: Io) {
    let body = bytes(300_000, 2);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    let miss = server.get("/x.tgz");
    miss.expect(200, &body);
    assert_eq!(miss.framing, Framing::Length(300_000));
}

fn a_chunked_answer_is_stored_after_its_last_chunk(io: Io) {
    let body = bytes(200_000, 3);
    let gate = Gate::default();
    let (held, message) = (gate.clone(), chunked(&body, 7_001));
    let origin = Origin::start(move |_, reply| {
        reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let (most, last) = message.split_at(message.len() - 5);
        reply.write(most);
        held.wait();
        reply.write(last);
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let mut response = client.ask("GET", "/x.js", "").head("GET");
    assert_eq!(response.framing, Framing::Chunked);
    assert!(!server.path("x.js").exists(), "committed before the last chunk");
    gate.open();
    client.finish(&mut response);
    response.expect(200, &body).expect_keep_alive();
    server.expect_cached("x.js", &body);
    let hit = client.get("/x.js");
    hit.expect(200, &body);
    assert_eq!(hit.framing, Framing::Length(200_000));
    assert_eq!(origin.count(), 1);
}

fn an_empty_body_is_stored(io: Io) {
    let origin = Origin::fixed(b"");
    let server = Server::start(io, &origin);
    let mut client = server.client();
    client.get("/x.tgz").expect(200, b"");
    server.expect_cached("x.tgz", b"");
    client.get("/x.tgz").expect(200, b"");
    assert_eq!(origin.count(), 1);
}

fn an_http_1_0_origin_with_a_length_is_stored(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.write("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nfour");
        reply.close();
    });
    let server = Server::start(io, &origin);
    let response = server.get("/x.tgz");
    response.expect(200, b"four");
    assert_eq!(response.version, "HTTP/1.1");
    server.expect_cached("x.tgz", b"four");
}

fn mtime_secs(path: &std::path::Path) -> u64 {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    modified.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn the_files_mtime_is_the_origins_last_modified(io: Io) {
    let origin = Origin::fixed(b"dated");
    let server = Server::start(io, &origin);
    server.get("/x.tgz").expect(200, b"dated");
    server.expect_cached("x.tgz", b"dated");
    assert_eq!(mtime_secs(&server.path("x.tgz")), LAST_MODIFIED_SECS);
}

fn without_last_modified_the_mtime_is_now(io: Io) {
    let origin = Origin::start(|_, reply| reply.answer("200 OK", "", b"undated"));
    let server = Server::start(io, &origin);
    let before = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let miss = server.get("/x.tgz");
    miss.expect(200, b"undated");
    server.expect_cached("x.tgz", b"undated");
    let after = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mtime = mtime_secs(&server.path("x.tgz"));
    assert!((before - 1..=after + 1).contains(&mtime), "{mtime}");
}

fn a_miss_relays_the_origins_fields_but_not_its_date_and_server(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.head(
            4,
            "ETag: \"v1\"\r\nContent-Type: application/x-special\r\nX-Custom: one\r\n\
             X-Custom: two\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nCache-Control: no-store, private\r\n\
             Date: Sat, 16 May 2015 20:31:39 GMT\r\nServer: origin/1\r\nKeep-Alive: timeout=5\r\n\
             Connection: keep-alive, X-Hop\r\nX-Hop: gone\r\n",
        );
        reply.write("body");
    });
    let server = Server::start(io, &origin);
    let miss = server.get("/x.tgz");
    miss.expect(200, b"body").expect_keep_alive();
    assert_eq!(miss.all("ETag"), ["\"v1\""]);
    assert_eq!(miss.all("Content-Type"), ["application/x-special"]);
    assert_eq!(miss.all("Set-Cookie"), ["a=b", "c=d"]);
    assert_eq!(miss.all("X-Custom").join(", "), "one, two");
    assert_eq!(miss.all("Cache-Control"), ["no-store, private"]);
    assert_eq!(miss.all("X-Hop"), [""; 0]);
    assert_ne!(miss.all("Server"), ["origin/1"]);
    assert_eq!(miss.all("Date").len(), 1);
    assert_ne!(miss.field("Date"), Some("Sat, 16 May 2015 20:31:39 GMT"));
    // The operator's pattern alone decides what is kept; a hit replays none of these fields.
    server.expect_cached("x.tgz", b"body");
    let hit = server.get("/x.tgz");
    hit.expect(200, b"body");
    assert_eq!(hit.field("Set-Cookie"), None);
    assert_eq!(hit.field("X-Custom"), None);
    assert_eq!(origin.count(), 1);
}

fn the_fills_request_carries_no_conditions_and_no_range(io: Io) {
    let body = bytes(1_000, 4);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    let fields = "Range: bytes=0-9\r\nIf-Range: \"a\"\r\nIf-None-Match: \"a\"\r\n\
                  If-Modified-Since: Sat, 16 May 2015 20:31:38 GMT\r\n\
                  If-Match: *\r\nIf-Unmodified-Since: Sun, 17 May 2015 00:00:00 GMT\r\n\
                  Accept-Encoding: gzip, br\r\n";
    let response = server.ask("GET", "/x.tgz", fields);
    assert!(matches!(response.status, 200 | 206), "{}", response.status);
    let seen = origin.only();
    for name in ["Range", "If-Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"]
    {
        assert_eq!(seen.field(name), None, "{name} went upstream");
    }
    assert_eq!(seen.all("Accept-Encoding"), ["identity"]);
    server.expect_cached("x.tgz", &body);
}

fn a_fill_request_carries_the_clients_user_agent_and_no_other_field(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Server::start(io, &origin);
    let fields = "User-Agent: libfetch/2.0\r\nReferer: http://from.test/\r\nX-End: to end\r\n\
                  Date: Sat, 16 May 2015 20:31:39 GMT\r\nServer: odd\r\n\
                  Connection: X-Hop, keep-alive\r\nX-Hop: gone\r\nKeep-Alive: 5\r\n\
                  Proxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\n";
    server.ask("GET", "/x.tgz?q=1&r=%20", fields).expect(200, b"body");
    let seen = origin.only();
    assert_eq!(seen.target, "/x.tgz?q=1&r=%20");
    assert_eq!(seen.version, "HTTP/1.1");
    assert_eq!(seen.all("Host"), [origin.authority()]);
    assert_eq!(seen.all("User-Agent"), ["libfetch/2.0"]);
    for name in
        ["Referer", "X-End", "Date", "Server", "X-Hop", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade"]
    {
        assert_eq!(seen.field(name), None, "{name} went upstream");
    }
    assert_eq!(seen.all("Via").len(), 1, "{}", seen.head);
    server.expect_tree(&["x.tgz"]);
}

fn new_files_and_directories_have_modes_under_the_umask(io: Io) {
    for (mask, file, dir) in [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0, 0o666, 0o777)] {
        let origin = Origin::fixed(b"body");
        let server = Launch::new(io, &origin).limit(Limit::Umask(mask)).start();
        server.get("/new/dir/x.tgz").expect(200, b"body");
        server.expect_cached("new/dir/x.tgz", b"body");
        let mode = |name: &str| fs::metadata(server.path(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("new/dir/x.tgz"), file, "file under umask {mask:o}");
        assert_eq!(mode("new"), dir, "directory under umask {mask:o}");
        assert_eq!(mode("new/dir"), dir, "directory under umask {mask:o}");
    }
}

fn the_tree_holds_plain_files_at_the_urls_own_path(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for target in ["/a.tgz", "/deep/er/and/deep/er/b.tgz", "/deep/c.css"] {
        client.get(target).expect(200, b"body");
    }
    client.get("/not-cached.txt").expect(200, b"body");
    server.expect_tree(&["a.tgz", "deep/c.css", "deep/er/and/deep/er/b.tgz"]);
}

fn the_file_grows_under_its_in_progress_name(io: Io) {
    let body = bytes(100_000, 5);
    let (origin, gate) = stalling(&body);
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let mut response = client.ask("GET", "/dir/x.tgz", "").head("GET");
    wait_until("half of it is in the file", || {
        fs::read(server.path("dir/x.tgz.in-progress"))
            .is_ok_and(|got| got.len() >= 50_000 && got[..50_000] == body[..50_000])
    });
    assert!(!server.path("dir/x.tgz").exists());
    gate.open();
    client.finish(&mut response);
    response.expect(200, &body);
    server.expect_cached("dir/x.tgz", &body);
    server.expect_tree(&["dir/x.tgz"]);
}

fn the_head_and_first_bytes_reach_the_client_at_once(io: Io) {
    let (headed, started) = (Gate::default(), Gate::default());
    let script = (headed.clone(), started.clone());
    let origin = Origin::start(move |_, reply| {
        reply.head(3, "");
        script.0.wait();
        reply.write("a");
        script.1.wait();
        reply.write("bc");
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let head = client.ask("GET", "/x.tgz", "").head("GET");
    assert_eq!(head.framing, Framing::Length(3));
    headed.open();
    assert_eq!(client.raw(1), b"a");
    started.open();
    assert_eq!(client.raw(2), b"bc");
    server.expect_cached("x.tgz", b"abc");
}

fn a_late_client_gets_the_bytes_received_from_a_stalled_fill(io: Io) {
    let body = bytes(400_000, 6);
    let (origin, gate) = stalling(&body);
    let server = Server::start(io, &origin);
    let mut first = server.client();
    let mut early = first.ask("GET", "/x.tgz", "").head("GET");
    early.body = first.raw(200_000);
    // The origin stands still now; a client that had to wait for it would time out here.
    let mut second = server.client();
    let mut late = second.ask("GET", "/x.tgz", "").head("GET");
    assert_eq!(late.framing, Framing::Length(400_000));
    assert_eq!(late.all("Last-Modified"), [LAST_MODIFIED]);
    late.body = second.raw(200_000);
    gate.open();
    first.finish(&mut early);
    second.finish(&mut late);
    early.expect(200, &body);
    late.expect(200, &body).expect_keep_alive();
    assert_eq!(origin.count(), 1);
}

fn concurrent_clients_cause_one_fetch_across_workers(io: Io) {
    let body = bytes(500_000, 7);
    let (origin, gate) = stalling(&body);
    let server = Launch::new(io, &origin).args(["--workers", "2"]).start();
    // Enough connections that both listeners of the kernel's choice get some of them.
    let mut clients: Vec<_> = (0..24).map(|_| server.client()).collect();
    for client in &mut clients {
        client.ask("GET", "/x.tgz", "");
    }
    let mut responses: Vec<_> = clients.iter_mut().map(|client| client.head("GET")).collect();
    gate.open();
    for (client, response) in clients.iter_mut().zip(&mut responses) {
        client.finish(response);
        response.expect(200, &body).expect_keep_alive();
    }
    assert_eq!(origin.count(), 1);
    server.expect_cached("x.tgz", &body);
    server.expect_tree(&["x.tgz"]);
}

fn fifty_clients_of_a_paced_origin_get_exact_copies_of_one_fetch(io: Io) {
    let body = bytes(8 << 20, 8);
    let sent = body.clone();
    let origin = Origin::start(move |_, reply| {
        reply.head(sent.len(), "");
        reply.paced(&sent, 32 << 20);
    });
    let server = Launch::new(io, &origin).args(["--workers", "2"]).start();
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| server.get("/big.tar").expect(200, &body).expect_keep_alive().status);
        }
    });
    assert_eq!(origin.count(), 1);
    server.expect_cached("big.tar", &body);
}

fn a_fill_continues_when_its_client_leaves(io: Io) {
    for reset in [false, true] {
        let body = bytes(600_000, 9);
        let (origin, gate) = stalling(&body);
        let server = Server::start(io, &origin);
        let mut client = server.client();
        client.ask("GET", "/x.tgz", "").head("GET");
        client.raw(1_000);
        if reset {
            client.abort();
        } else {
            drop(client);
        }
        gate.open();
        server.expect_cached("x.tgz", &body);
        server.get("/x.tgz").expect(200, &body);
        assert_eq!(origin.count(), 1);
    }
}

fn a_fill_continues_when_all_clients_leave(io: Io) {
    let body = bytes(600_000, 10);
    let (origin, gate) = stalling(&body);
    let server = Server::start(io, &origin);
    for _ in 0..5 {
        let mut client = server.client();
        client.ask("GET", "/x.tgz", "").head("GET");
        client.abort();
    }
    gate.open();
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 1);
}

fn a_follower_that_leaves_does_not_disturb_others(io: Io) {
    let body = bytes(600_000, 11);
    let (origin, gate) = stalling(&body);
    let server = Server::start(io, &origin);
    let mut leader = server.client();
    let mut response = leader.ask("GET", "/x.tgz", "").head("GET");
    for _ in 0..5 {
        let mut follower = server.client();
        follower.ask("GET", "/x.tgz", "").head("GET");
        follower.abort();
    }
    gate.open();
    leader.finish(&mut response);
    response.expect(200, &body);
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 1);
}

fn a_client_that_does_not_read_does_not_delay_others(io: Io) {
    let body = bytes(16 << 20, 12);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    let mut lazy = crate::support::Client::connect_with_small_window(server.addr());
    let mut response = lazy.ask("GET", "/x.tar", "").head("GET");
    // Far more than socket buffers hold: the file is complete while its first client sleeps.
    server.expect_cached("x.tar", &body);
    server.get("/x.tar").expect(200, &body);
    lazy.finish(&mut response);
    response.expect(200, &body);
    assert_eq!(origin.count(), 1);
}

fn head_during_a_fill_is_answered_from_the_fills_head(io: Io) {
    let body = bytes(50_000, 13);
    let (origin, gate) = stalling(&body);
    let server = Server::start(io, &origin);
    let mut leader = server.client();
    let mut response = leader.ask("GET", "/x.tgz", "").head("GET");
    let head = server.ask("HEAD", "/x.tgz", "");
    assert_eq!(head.status, 200);
    assert_eq!(head.field("Content-Length"), Some("50000"));
    assert_eq!(head.field("Last-Modified"), Some(LAST_MODIFIED));
    assert_eq!(origin.count(), 1);
    gate.open();
    leader.finish(&mut response);
    response.expect(200, &body);
}

fn head_on_a_miss_is_proxied_and_never_cached(io: Io) {
    let body = bytes(50_000, 14);
    let origin = Origin::fixed(&body);
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let head = client.ask("HEAD", "/x.tgz", "").response("HEAD");
    assert_eq!(head.status, 200);
    head.expect_keep_alive();
    assert_eq!(head.field("Content-Length"), Some("50000"));
    assert_eq!(origin.only().method, "HEAD");
    server.expect_nothing_cached();
    client.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 2);
}

fn different_names_fill_side_by_side(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        let body = bytes(100_000, u64::try_from(request.target.len()).unwrap());
        half_then_wait(reply, &body, &held);
    });
    let server = Server::start(io, &origin);
    let names = ["/a.tgz", "/ab.tgz", "/abc.tgz", "/dir/abcd.tgz"];
    let mut clients: Vec<_> = names.iter().map(|_| server.client()).collect();
    let mut responses: Vec<_> = names
        .iter()
        .zip(&mut clients)
        .map(|(name, client)| client.ask("GET", name, "").head("GET"))
        .collect();
    gate.open();
    for ((name, client), response) in names.iter().zip(&mut clients).zip(&mut responses) {
        client.finish(response);
        let body = bytes(100_000, u64::try_from(name.len()).unwrap());
        response.expect(200, &body);
        server.expect_cached(&name[1..], &body);
    }
    assert_eq!(origin.count(), 4);
}

fn a_stalled_fill_does_not_hold_back_the_worker(io: Io) {
    let body = bytes(100_000, 15);
    let (origin, gate) = stalling(&body);
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    server.put("hit.tgz", b"hit");
    let mut stalled = server.client();
    let mut response = stalled.ask("GET", "/x.tgz", "").head("GET");
    for _ in 0..20 {
        server.get("/hit.tgz").expect(200, b"hit");
    }
    gate.open();
    stalled.finish(&mut response);
    response.expect(200, &body);
}

fn a_body_longer_than_its_length_is_cut_at_the_length(io: Io) {
    let origin = Origin::start(|request, reply| {
        reply.head(5, "");
        reply.write(if request.index == 0 {
            "12345HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        } else {
            "67890"
        });
    });
    let server = Launch::new(io, &origin).args(["--workers", "1"]).start();
    server.get("/x.tgz").expect(200, b"12345");
    server.expect_cached("x.tgz", b"12345");
    // What came beyond the body must not answer anybody else.
    server.get("/y.tgz").expect(200, b"67890");
    server.expect_cached("y.tgz", b"67890");
}

fn a_large_chunked_fill_is_exact(io: Io) {
    let body = bytes(6 << 20, 16);
    let message = chunked(&body, 100_003);
    let origin = Origin::start(move |_, reply| {
        reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        reply.write(&message);
    });
    let server = Server::start(io, &origin);
    server.get("/x.tar").expect(200, &body);
    server.expect_cached("x.tar", &body);
    assert_eq!(origin.count(), 1);
}

fn an_interim_answer_of_the_origin_is_not_passed_on(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.write("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
        reply.head(4, "");
        reply.write("body");
    });
    let server = Server::start(io, &origin);
    let response = server.get("/x.tgz");
    response.expect(200, b"body");
    assert_eq!(response.interim, [0; 0]);
    server.expect_cached("x.tgz", b"body");
}
