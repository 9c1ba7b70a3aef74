//! `--cache-status`: the fields Cache-Status (RFC 9211) and X-Cache in each kind of response.

use std::io::Read;
use std::net::TcpStream;
use std::thread;

use crate::support::util::PATIENCE;
use crate::support::{Gate, Io, Launch, Origin, Response, Server, bytes, on_both, wait_until, within};

on_both!(
    without_the_option_there_is_no_cache_status_field,
    hits_of_every_kind_say_so,
    a_miss_is_stored_and_its_followers_are_collapsed,
    what_is_passed_says_why,
    a_miss_that_is_not_stored_says_why,
    cache_status_of_earlier_caches_stays_first,
    redirects_are_counted,
    answers_of_our_own_have_none,
    a_revalidated_response_says_so_in_cache_status,
);

fn telling(io: Io, origin: &Origin) -> Server {
    Launch::new(io, origin).args(["--cache-status"]).start()
}

#[track_caller]
fn expect_status(answer: &Response, status: &str, word: &str) {
    assert_eq!(answer.all("Cache-Status"), [format!("fs-caching-server; {status}")], "{:?}", answer.fields);
    assert_eq!(answer.all("X-Cache"), [word]);
}

#[track_caller]
fn expect_none(answer: &Response) {
    assert_eq!(
        (answer.all("Cache-Status").len(), answer.all("X-Cache").len()),
        (0, 0),
        "{:?}",
        answer.fields
    );
}

fn without_the_option_there_is_no_cache_status_field(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Server::start(io, &origin);
    for target in ["/x.tgz", "/pass"] {
        expect_none(&server.get(target));
    }
    server.expect_cached("x.tgz", b"body");
    for _ in 0..2 {
        expect_none(&server.get("/x.tgz"));
    }
}

fn hits_of_every_kind_say_so(io: Io) {
    let origin = Origin::silent();
    let server = telling(io, &origin);
    let large = bytes(100_000, 1);
    server.put("small.tgz", b"small");
    server.put("large.tgz", &large);
    let mut client = server.client();
    for (target, body) in [("/small.tgz", &b"small"[..]), ("/large.tgz", &large)] {
        for _ in 0..3 {
            let answer = client.get(target);
            answer.expect(200, body).expect_keep_alive();
            expect_status(&answer, "hit", "HIT");
        }
        let tag = client.get(target).field("ETag").unwrap().to_owned();
        for (method, extra, status) in [
            ("HEAD", String::new(), 200),
            ("GET", format!("If-None-Match: {tag}\r\n"), 304),
            ("GET", "Range: bytes=1-2\r\n".to_owned(), 206),
            ("GET", "Range: bytes=9999999-\r\n".to_owned(), 416),
        ] {
            let answer = client.ask(method, target, &extra).response(method);
            assert_eq!(answer.status, status);
            expect_status(&answer, "hit", "HIT");
        }
        let answer = server.ask("GET", target, "Connection: close\r\n");
        answer.expect(200, body);
        expect_status(&answer, "hit", "HIT");
    }
    assert_eq!(origin.count(), 0);
}

fn a_miss_is_stored_and_its_followers_are_collapsed(io: Io) {
    let body = bytes(200_000, 2);
    let gate = Gate::default();
    let (sent, held) = (body.clone(), gate.clone());
    let origin = Origin::start(move |_, reply| {
        reply.head(sent.len(), "");
        reply.write(&sent[..1000]);
        held.wait();
        reply.write(&sent[1000..]);
    });
    let server = telling(io, &origin);
    thread::scope(|scope| {
        let leader = scope.spawn(|| server.get("/x.tgz"));
        wait_until("the fill has begun", || server.path("x.tgz.in-progress").exists());
        let mut followers = server.client();
        let head = followers.ask("HEAD", "/x.tgz", "").response("HEAD");
        expect_status(&head, "fwd=uri-miss; fwd-status=200; collapsed", "COLLAPSED");
        let mut part = followers.ask("GET", "/x.tgz", "Range: bytes=10-19\r\n").head("GET");
        expect_status(&part, "fwd=uri-miss; fwd-status=200; collapsed", "COLLAPSED");
        gate.open();
        followers.finish(&mut part);
        part.expect(206, &body[10..20]);
        let leader = leader.join().unwrap();
        leader.expect(200, &body);
        expect_status(&leader, "fwd=uri-miss; fwd-status=200; stored", "MISS");
    });
    server.expect_cached("x.tgz", &body);
    expect_status(&server.get("/x.tgz"), "hit", "HIT");
}

fn what_is_passed_says_why(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = telling(io, &origin);
    expect_status(&server.get("/pass"), "fwd=bypass", "BYPASS");
    expect_status(&server.ask("POST", "/x.tgz", "Content-Length: 0\r\n"), "fwd=method", "BYPASS");
    expect_status(&server.ask("HEAD", "/x.tgz", ""), "fwd=uri-miss", "MISS");
    let answer = server.ask("GET", "/x.tgz", "Authorization: Bearer t\r\n");
    expect_status(&answer, "fwd=bypass; detail=\"request has Authorization\"", "BYPASS");
    let mut client = server.client();
    client.send("PUT /x.tgz HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    expect_status(&client.response("PUT"), "fwd=method", "BYPASS");
}

fn a_miss_that_is_not_stored_says_why(io: Io) {
    let origin = Origin::start(|request, reply| match request.target.as_str() {
        "/404.tgz" => reply.answer("404 Not Found", "", b"none"),
        "/vary.tgz" => reply.answer("200 OK", "Vary: *\r\n", b"body"),
        _ => reply.answer("200 OK", "Content-Encoding: br\r\n", b"body"),
    });
    let server = telling(io, &origin);
    expect_status(&server.get("/404.tgz"), "fwd=uri-miss", "MISS");
    expect_status(&server.get("/vary.tgz"), "fwd=uri-miss; detail=\"Vary: *\"", "MISS");
    expect_status(&server.get("/coded.tgz"), "fwd=uri-miss; detail=\"content coding\"", "MISS");
}

fn cache_status_of_earlier_caches_stays_first(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.head(4, "Cache-Status: Edge; fwd=stale, Shield; hit\r\nX-Cache: HIT, HIT\r\n");
        reply.write("body");
    });
    let server = telling(io, &origin);
    let before = "Edge; fwd=stale, Shield; hit";
    for (target, ours, word) in [
        ("/x.tgz", "fs-caching-server; fwd=uri-miss; fwd-status=200; stored", "MISS"),
        ("/pass", "fs-caching-server; fwd=bypass", "BYPASS"),
    ] {
        let answer = server.get(target);
        answer.expect(200, b"body");
        assert_eq!((answer.all("Cache-Status"), answer.all("X-Cache")), (vec![before, ours], vec![word]));
    }
    server.expect_cached("x.tgz", b"body");
    // That was about another answer.
    expect_status(&server.get("/x.tgz"), "hit", "HIT");
}

fn redirects_are_counted(io: Io) {
    let origin = Origin::start(|request, reply| match request.target.as_str() {
        "/1.tgz" => reply.answer("302 Found", "Location: /2.tgz\r\n", b""),
        "/2.tgz" => reply.answer("302 Found", "Location: /3\r\n", b""),
        _ => reply.serve(request, b"body"),
    });
    let server = Launch::new(io, &origin).args(["--cache-status", "--follow-redirects"]).start();
    let status = "fwd=uri-miss; fwd-status=200; stored; detail=";
    expect_status(&server.get("/2.tgz"), &format!("{status}\"1 redirect\""), "MISS");
    expect_status(&server.get("/1.tgz"), &format!("{status}\"2 redirects\""), "MISS");
    server.expect_cached("1.tgz", b"body");
    expect_status(&server.get("/1.tgz"), "hit", "HIT");
}

/// RFC 9211 section 2: not on what is made here and rests on nothing stored.
fn answers_of_our_own_have_none(io: Io) {
    let origin = Origin::start(|_, reply| reply.reset());
    let server = telling(io, &origin);
    std::fs::create_dir(server.path("dir.tgz")).unwrap();
    for (target, status) in [("/x.tgz", 502), ("/pass", 502), ("/%00.tgz", 400), ("/dir.tgz", 400)] {
        let answer = server.get(target);
        assert_eq!(answer.status, status, "{target}");
        expect_none(&answer);
    }
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Write::write_all(&mut stream, b"no request\r\n\r\n").unwrap();
    let text = within("an answer", || {
        let mut text = String::new();
        stream.read_to_string(&mut text).ok().map(|_| text)
    });
    assert!(text.starts_with("HTTP/1.1 400 ") && !text.contains("Cache"), "{text}");
}

fn a_revalidated_response_says_so_in_cache_status(io: Io) {
    let origin = Origin::start(|request, reply| {
        let version = if request.index < 3 { "one" } else { "two" };
        if request.field("If-None-Match") == Some(&format!("\"{version}\"")) {
            reply.write("HTTP/1.1 304 Not Modified\r\n\r\n");
        } else {
            let length = if request.method == "HEAD" { "" } else { version };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"{version}\"\r\n\r\n{length}");
            reply.write(head);
        }
    });
    let server = Launch::new(io, &origin).args(["--cache-status", "--revalidate", "idx$"]).start();
    expect_status(&server.ask("HEAD", "/i.idx", ""), "fwd=uri-miss", "MISS");
    expect_status(&server.get("/i.idx"), "fwd=uri-miss; fwd-status=200; stored", "MISS");
    server.expect_cached("i.idx", b"one");
    expect_status(&server.get("/i.idx"), "fwd=stale; fwd-status=304", "REVALIDATED");
    expect_status(&server.get("/i.idx"), "fwd=stale; fwd-status=200; stored", "MISS");
}
