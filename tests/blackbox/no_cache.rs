//! `no-cache` for a file that never changes under its name: one conditional request, and no more than that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::support::origin::Request;
use crate::support::{Gate, Io, LAST_MODIFIED, Launch, Origin, Reply, Server, on_both, wait_until};

on_both!(
    no_cache_asks_the_origin_once_and_a_304_leaves_the_file,
    pragma_and_head_ask_too,
    no_cache_fetches_a_replaced_package,
    clients_that_ask_at_once_are_one_request,
    an_origin_that_fails_leaves_the_file,
    a_new_file_that_breaks_off_leaves_the_old_one,
    an_origin_that_ignores_conditions_sends_no_file_twice,
    a_304_about_another_date_confirms_nothing,
    no_cache_without_a_validator_fetches_a_package_of_the_same_length,
    no_cache_without_a_preset_or_with_authorization_is_ignored,
);

const PACKAGE: &str = "/pool/a_1_all.deb";
const NO_CACHE: &str = "Cache-Control: max-age=0, no-cache\r\n";
const NEWER: &str = "Sun, 17 May 2015 20:31:39 GMT";

fn launch(io: Io, origin: &Origin) -> Server {
    Launch::new(io, origin).args(["--preset", "apt", "--workers", "2"]).debug().start()
}

fn not_modified(reply: &mut Reply<'_>, date: &str) {
    reply.write(format!("HTTP/1.1 304 Not Modified\r\nLast-Modified: {date}\r\n\r\n"));
}

/// A file of this date, for requests without a condition and for those that know another date.
fn dated(request: &Request, reply: &mut Reply<'_>, date: &str, body: &[u8]) {
    if request.field("If-Modified-Since") == Some(date) {
        return not_modified(reply, date);
    }
    reply.answer("200 OK", &format!("Last-Modified: {date}\r\n"), body);
}

/// What the origin was asked: the condition of each request.
fn conditions(origin: &Origin) -> Vec<Option<String>> {
    origin.requests().iter().map(|request| request.field("If-Modified-Since").map(str::to_owned)).collect()
}

fn no_cache_asks_the_origin_once_and_a_304_leaves_the_file(io: Io) {
    let origin = Origin::start(|request, reply| dated(request, reply, LAST_MODIFIED, b"package"));
    let server = launch(io, &origin);
    server.get(PACKAGE).expect(200, b"package");
    server.expect_cached("pool/a_1_all.deb", b"package");
    let tag = server.get(PACKAGE).field("ETag").map(str::to_owned);
    for _ in 0..3 {
        let response = server.ask("GET", PACKAGE, NO_CACHE);
        response.expect(200, b"package");
        assert_eq!(response.field("ETag"), tag.as_deref());
    }
    assert_eq!(conditions(&origin), [None, Some(LAST_MODIFIED.to_owned())]);
    let request = &origin.requests()[1];
    assert_eq!((request.method.as_str(), request.field("Accept-Encoding")), ("GET", Some("identity")));
}

fn pragma_and_head_ask_too(io: Io) {
    let origin = Origin::start(|request, reply| dated(request, reply, LAST_MODIFIED, b"package"));
    let server = launch(io, &origin);
    for (number, (method, field)) in [
        ("GET", "Pragma: no-cache\r\n"),
        ("HEAD", NO_CACHE),
        ("GET", "Pragma: no-cache\r\nCache-Control: max-age=0\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/pool/{number}.deb");
        server.get(&path).expect(200, b"package");
        server.expect_cached(path.trim_start_matches('/'), b"package");
        let response = server.ask(method, &path, field);
        response.expect(200, if method == "HEAD" { b"" } else { b"package" });
        assert_eq!(response.field("Content-Length"), Some("7"));
    }
    // The last says in Cache-Control what it wants: Pragma does not count then.
    let since = Some(LAST_MODIFIED.to_owned());
    assert_eq!(conditions(&origin), [None, since.clone(), None, since, None]);
}

fn no_cache_fetches_a_replaced_package(io: Io) {
    for method in ["GET", "HEAD"] {
        let state = Arc::new(AtomicUsize::new(0));
        let now = Arc::clone(&state);
        let origin = Origin::start(move |request, reply| {
            let state = now.load(Ordering::SeqCst);
            dated(request, reply, [LAST_MODIFIED, NEWER][state], [b"build one", b"build two"][state]);
        });
        let server = launch(io, &origin);
        server.get(PACKAGE).expect(200, b"build one");
        server.expect_cached("pool/a_1_all.deb", b"build one");
        state.store(1, Ordering::SeqCst);
        server.get(PACKAGE).expect(200, b"build one");
        let response = server.ask(method, PACKAGE, NO_CACHE);
        response.expect(200, if method == "HEAD" { b"" } else { b"build two" });
        assert_eq!(response.field("Last-Modified"), Some(NEWER));
        wait_until("the new one has the name", || server.get(PACKAGE).body == b"build two");
        server.expect_cached("pool/a_1_all.deb", b"build two");
        server.ask("GET", PACKAGE, NO_CACHE).expect(200, b"build two");
        assert_eq!(origin.count(), 2);
    }
}

fn clients_that_ask_at_once_are_one_request(io: Io) {
    const CLIENTS: usize = 8;
    for is_new in [false, true] {
        let gate = Gate::default();
        let opened = gate.clone();
        let origin = Origin::start(move |request, reply| {
            if request.field("If-Modified-Since").is_none() {
                return reply.serve(request, b"package");
            }
            opened.wait();
            if is_new {
                reply.answer("200 OK", &format!("Last-Modified: {NEWER}\r\n"), b"another");
            } else {
                not_modified(reply, LAST_MODIFIED);
            }
        });
        let server = launch(io, &origin);
        server.get(PACKAGE).expect(200, b"package");
        server.expect_cached("pool/a_1_all.deb", b"package");
        let body: &[u8] = if is_new { b"another" } else { b"package" };
        let barrier = Barrier::new(CLIENTS + 1);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = server.client();
                    client.ask("GET", PACKAGE, NO_CACHE);
                    barrier.wait();
                    client.response("GET").expect(200, body);
                });
            }
            barrier.wait();
            wait_until("the origin is asked", || origin.count() == 2);
            // Who has not said so gets what there is, without a word of the origin.
            server.get(PACKAGE).expect(200, b"package");
            let come = || server.err.all().iter().filter(|line| line.contains("INCOMING REQUEST")).count();
            wait_until("all have asked", || come() == CLIENTS + 2);
            gate.open();
        });
        assert_eq!(origin.count(), 2);
    }
}

fn an_origin_that_fails_leaves_the_file(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.field("If-Modified-Since").is_none() {
            return reply.serve(request, request.target.as_bytes());
        }
        match request.target.as_str() {
            "/500.deb" => reply.answer("500 Broken", "", b"page"),
            "/404.deb" => reply.answer("404 Not Found", "", b"page"),
            "/403.deb" => reply.answer("403 Forbidden", "", b"page"),
            "/302.deb" => reply.answer("302 Found", "Location: /login\r\n", b"page"),
            "/206.deb" => reply.answer("206 Partial Content", "Content-Range: bytes 0-3/9\r\n", b"page"),
            "/endless.deb" => {
                reply.write("HTTP/1.1 200 OK\r\n\r\npage");
                reply.close();
            }
            "/coded.deb" => reply.answer("200 OK", "Content-Encoding: br\r\n", b"page, longer"),
            _ => reply.reset(),
        }
    });
    let server = launch(io, &origin);
    let paths = [
        "/500.deb",
        "/404.deb",
        "/403.deb",
        "/302.deb",
        "/206.deb",
        "/endless.deb",
        "/coded.deb",
        "/reset.deb",
    ];
    for path in paths {
        server.get(path).expect(200, path.as_bytes());
        server.expect_cached(path.trim_start_matches('/'), path.as_bytes());
        server.ask("GET", path, NO_CACHE).expect(200, path.as_bytes());
        server.get(path).expect(200, path.as_bytes());
        let asked = origin.requests().iter().filter(|request| request.target == path).count();
        assert!(asked >= 2, "{path} was not asked about");
    }
}

fn a_new_file_that_breaks_off_leaves_the_old_one(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.field("If-Modified-Since").is_none() && request.field("Range").is_none() {
            return reply.serve(request, b"build one");
        }
        reply.write(format!("HTTP/1.1 200 OK\r\nLast-Modified: {NEWER}\r\nContent-Length: 9\r\n\r\nbuild"));
        reply.reset();
    });
    let server = Launch::new(io, &origin).args(["--preset", "apt", "--resume-attempts", "1"]).debug().start();
    server.get(PACKAGE).expect(200, b"build one");
    server.expect_cached("pool/a_1_all.deb", b"build one");
    let mut client = server.client();
    client.ask("GET", PACKAGE, NO_CACHE);
    let cut = client.try_response("GET").is_none_or(|response| !response.whole);
    assert!(cut, "a part counts as the whole");
    server.get(PACKAGE).expect(200, b"build one");
    server.expect_cached("pool/a_1_all.deb", b"build one");
}

fn an_origin_that_ignores_conditions_sends_no_file_twice(io: Io) {
    // The bytes tell that it was asked, not that the file is another one.
    let origin = Origin::start(|request, reply| {
        let asked = request.field("If-Modified-Since").is_some();
        reply.serve(request, if asked { b"asked.." } else { b"package" });
    });
    let server = launch(io, &origin);
    server.get(PACKAGE).expect(200, b"package");
    server.expect_cached("pool/a_1_all.deb", b"package");
    server.ask("GET", PACKAGE, NO_CACHE).expect(200, b"package");
    server.get(PACKAGE).expect(200, b"package");
    assert_eq!(origin.count(), 2);
}

fn a_304_about_another_date_confirms_nothing(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.field("If-Modified-Since").is_some() {
            return not_modified(reply, NEWER);
        }
        reply.answer("200 OK", &format!("Last-Modified: {NEWER}\r\n"), b"build two");
    });
    let server = launch(io, &origin);
    // Copied in, or of another program: its date is not the origin's.
    server.put("pool/a_1_all.deb", b"build one");
    server.get(PACKAGE).expect(200, b"build one");
    server.ask("GET", PACKAGE, NO_CACHE).expect(200, b"build two");
    assert_eq!(origin.count(), 2);
    wait_until("the new one has the name", || server.get(PACKAGE).body == b"build two");
    server.ask("GET", PACKAGE, NO_CACHE).expect(200, b"build two");
    assert_eq!(origin.count(), 2);
}

fn no_cache_without_a_preset_or_with_authorization_is_ignored(io: Io) {
    let origin = Origin::fixed(b"package");
    let plain = Launch::new(io, &origin).args(["-r", r"\.deb$"]).start();
    let preset = launch(io, &origin);
    for (server, extra) in [
        (&plain, ""),
        (&preset, "Authorization: Basic eDp5\r\n"),
        (&preset, "Cache-Control: only-if-cached\r\n"),
    ] {
        server.get(PACKAGE).expect(200, b"package");
        server.expect_cached("pool/a_1_all.deb", b"package");
        let before = origin.count();
        server.ask("GET", PACKAGE, &format!("{NO_CACHE}{extra}")).expect(200, b"package");
        assert_eq!(origin.count(), before);
    }
}

fn no_cache_without_a_validator_fetches_a_package_of_the_same_length(io: Io) {
    let state = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&state);
    let origin = Origin::start(move |_, reply| {
        reply.answer("200 OK", "", [b"build one", b"build two"][now.load(Ordering::SeqCst)]);
    });
    let server = launch(io, &origin);
    server.get(PACKAGE).expect(200, b"build one");
    server.expect_cached("pool/a_1_all.deb", b"build one");
    state.store(1, Ordering::SeqCst);
    server.ask("GET", PACKAGE, NO_CACHE).expect(200, b"build two");
    wait_until("the new one has the name", || server.get(PACKAGE).body == b"build two");
    server.ask("GET", PACKAGE, NO_CACHE).expect(200, b"build two");
    assert_eq!(origin.count(), 2);
}
