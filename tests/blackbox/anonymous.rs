//! Requests to the origin for files that are stored for all clients: which fields of a client's request they carry, and
//! responses that are for one client only.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::origin::Request;
use crate::support::{Gate, Io, Launch, Origin, Server, bytes, on_both, run_cli, wait_until};

on_both!(
    a_fill_carries_nothing_that_one_client_says,
    a_fill_request_has_via_and_the_credentials_of_the_url,
    a_response_to_one_clients_cookie_is_not_stored_for_all,
    zyppers_metalink_is_not_kept_as_the_package,
    a_callback_in_the_query_does_not_become_the_file_under_a_preset,
    without_a_preset_a_fill_keeps_its_query,
    the_query_policy_is_the_operators,
    a_refused_fill_is_passed_with_the_clients_own_fields_and_not_stored,
    a_refusal_of_a_request_that_says_no_more_is_the_answer,
    a_query_that_was_left_out_is_in_the_pass_after_a_refusal,
    followers_of_a_refused_fill_each_get_their_own_answer,
    a_range_of_a_refused_fill_is_the_clients_own,
    the_rest_of_a_file_is_asked_for_in_nobodys_name,
    a_part_far_ahead_is_asked_for_in_nobodys_name,
    an_answer_that_varies_with_everything_is_the_clients_own,
    a_check_carries_nothing_that_one_client_says,
    a_refused_check_is_passed_with_the_clients_own_fields,
    a_private_answer_is_the_clients_own,
    a_variant_by_a_field_that_was_left_out_is_the_clients_own,
    a_document_is_stored_once_for_each_value_of_the_accept_fields,
    a_head_request_selects_the_variant_that_a_get_would,
    members_of_a_set_are_asked_for_in_nobodys_name,
    a_check_behind_a_stale_answer_carries_nothing_that_one_client_says,
    fields_that_the_operator_names_go_along_with_checks,
    tokens_do_not_follow_a_redirect_to_another_server,
);

/// All that a client could say to get something else than others.
const OWN: &str = "Cookie: session=1\r\nPrivate-Token: t\r\nX-JFrog-Art-Api: k\r\nX-Original-URL: /admin\r\n\
                   X-Forwarded-Host: evil.test\r\nX-Forwarded-For: 10.0.0.1\r\nX-HTTP-Method-Override: DELETE\r\n\
                   Referer: http://from.test/\r\nAccept: application/metalink+xml\r\nAccept-Language: de\r\n\
                   Origin: http://evil.test\r\nPragma: no-cache\r\nUser-Agent: agent/1\r\n";

/// The names of the fields that came, in small letters and in order of the alphabet.
fn names(request: &Request) -> Vec<String> {
    let lines = request.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    let mut names: Vec<_> = lines.map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    names
}

const CANONICAL: [&str; 5] = ["accept", "accept-encoding", "host", "user-agent", "via"];

#[track_caller]
fn expect_canonical(request: &Request, further: &[&str]) {
    let mut due = [&CANONICAL, further].concat();
    due.sort_unstable();
    assert_eq!(names(request), due, "{}", request.head);
    assert_eq!((request.all("Accept"), request.all("Accept-Encoding")), (vec!["*/*"], vec!["identity"]));
}

/// An origin that gives the secret to who has the cookie, and 403 (or another status) to the rest.
fn guarded(status: &'static str) -> Origin {
    Origin::start(move |request, reply| match request.field("Cookie") {
        Some(cookie) => reply.answer("200 OK", "", format!("for {cookie}").as_bytes()),
        None => reply.answer(status, "", b"who are you"),
    })
}

fn checking(io: Io, origin: &Origin) -> Launch {
    Launch::new(io, origin).args(["--revalidate", r"\.idx$|/$|\?"])
}

fn a_fill_carries_nothing_that_one_client_says(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Server::start(io, &origin);
    server.ask("GET", "/x.tgz", OWN).expect(200, b"body");
    let seen = origin.only();
    expect_canonical(&seen, &[]);
    assert_eq!((seen.method.as_str(), seen.all("User-Agent")), ("GET", vec!["agent/1"]));
    server.expect_cached("x.tgz", b"body");
}

fn a_fill_request_has_via_and_the_credentials_of_the_url(io: Io) {
    let origin = Origin::fixed(b"body");
    let url = format!("http://user:secret@{}", origin.authority());
    let server = Launch::at(io, &url).start();
    let fields = format!("{OWN}Via: 1.0 first\r\nCDN-Loop: somebody\r\n");
    server.ask("GET", "/x.tgz", &fields).expect(200, b"body");
    let seen = origin.only();
    assert_eq!((seen.all("CDN-Loop"), seen.all("Authorization").len()), (vec!["somebody"], 1));
    assert!(seen.all("Via").join(", ").starts_with("1.0 first, 1.1 fs-caching-server"), "{}", seen.head);
    assert_eq!(seen.field("Cookie"), None);
}

fn a_response_to_one_clients_cookie_is_not_stored_for_all(io: Io) {
    let origin = Origin::start(|request, reply| {
        let body = request.field("Cookie").map_or("for all", |_| "for one");
        reply.answer("200 OK", "", body.as_bytes());
    });
    let server = Server::start(io, &origin);
    server.ask("GET", "/x.tgz", "Cookie: a=b\r\n").expect(200, b"for all");
    server.expect_cached("x.tgz", b"for all");
}

fn zyppers_metalink_is_not_kept_as_the_package(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.all("Accept").join(",").contains("metalink") {
            reply.answer("200 OK", "Content-Type: application/metalink4+xml\r\n", b"<metalink/>");
        } else {
            reply.answer("200 OK", "Content-Type: application/x-rpm\r\n", b"the package");
        }
    });
    let server = Launch::new(io, &origin).cache_everything().start();
    let accept = "Accept: */*, application/metalink+xml, application/metalink4+xml\r\n";
    server.ask("GET", "/x.rpm", accept).expect(200, b"the package");
    server.expect_cached("x.rpm", b"the package");
}

fn a_callback_in_the_query_does_not_become_the_file_under_a_preset(io: Io) {
    let origin = Origin::start(|request, reply| reply.answer("200 OK", "", request.target.as_bytes()));
    let server = Launch::new(io, &origin).args(["--preset", "apt"]).start();
    server.get("/pool/a.deb?callback=evil()").expect(200, b"/pool/a.deb");
    assert_eq!(origin.only().target, "/pool/a.deb");
    server.expect_cached("pool/a.deb", b"/pool/a.deb");
    server.get("/pool/a.deb").expect(200, b"/pool/a.deb");
    origin.only();
}

fn without_a_preset_a_fill_keeps_its_query(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Server::start(io, &origin);
    server.get("/x.tgz?a=%20&b").expect(200, b"body");
    assert_eq!(origin.only().target, "/x.tgz?a=%20&b");
    server.expect_cached("x.tgz", b"body");
}

fn the_query_policy_is_the_operators(io: Io) {
    let start = |args: &[&str], variable: &str| {
        let origin = Origin::start(|request, reply| reply.answer("200 OK", "", request.target.as_bytes()));
        let server = Launch::new(io, &origin).args(args).env("FS_CACHE_FILL_QUERY", variable).start();
        (origin, server)
    };
    let (_origin, server) = start(&["--preset", "apt", "--fill-query", "forward"], "");
    server.get("/a.deb?b").expect(200, b"/a.deb?b");
    server.expect_cached("a.deb", b"/a.deb?b");
    let (_origin, server) = start(&[], "strip");
    server.get("/x.tgz?b").expect(200, b"/x.tgz");
    server.expect_cached("x.tgz", b"/x.tgz");
    let (origin, server) = start(&["--fill-query=pass"], "strip");
    server.ask("GET", "/x.tgz?b", "Cookie: c\r\n").expect(200, b"/x.tgz?b");
    assert_eq!(origin.only().all("Cookie"), ["c"]);
    server.expect_nothing_cached();
    server.get("/x.tgz").expect(200, b"/x.tgz");
    server.expect_cached("x.tgz", b"/x.tgz");
    server.get("/x.tgz?b").expect(200, b"/x.tgz");
    assert_eq!(origin.count(), 2);
    let refused = run_cli(&["-U", "http://example.org", "--fill-query", "x"], &[], &[]);
    assert!(!refused.status.success());
}

fn a_refused_fill_is_passed_with_the_clients_own_fields_and_not_stored(io: Io) {
    for status in ["401 Unauthorized", "403 Forbidden", "407 Proxy Authentication Required"] {
        let origin = guarded(status);
        let server = Launch::new(io, &origin).args(["--cache-status"]).start();
        let mut client = server.client();
        for _ in 0..2 {
            let answer = client.ask("GET", "/x.tgz", "Cookie: a\r\n").response("GET");
            answer.expect(200, b"for a").expect_keep_alive();
            let told = answer.field("Cache-Status").unwrap();
            assert!(told.contains("refused without the client's own fields"), "{told}");
        }
        let seen: Vec<_> =
            origin.requests().iter().map(|request| request.field("Cookie").is_some()).collect();
        assert_eq!(seen, [false, true, false, true]);
        server.expect_nothing_cached();
    }
}

fn a_refusal_of_a_request_that_says_no_more_is_the_answer(io: Io) {
    let origin = guarded("403 Forbidden");
    let server = Server::start(io, &origin);
    let plain = "User-Agent: a/1\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nRange: bytes=0-3\r\n\
                 Cache-Control: no-cache\r\nConnection: keep-alive\r\n";
    server.ask("GET", "/x.tgz", plain).expect(403, b"who are you");
    origin.only();
    server.expect_nothing_cached();
}

fn a_query_that_was_left_out_is_in_the_pass_after_a_refusal(io: Io) {
    let origin = Origin::start(|request, reply| match request.target.as_str() {
        "/a.deb?sig=1" => reply.answer("200 OK", "", b"signed"),
        _ => reply.answer("403 Forbidden", "", b"unsigned"),
    });
    let server = Launch::new(io, &origin).args(["--preset", "apt"]).start();
    server.get("/a.deb?sig=1").expect(200, b"signed");
    assert_eq!(origin.count(), 2);
    server.expect_nothing_cached();
}

fn followers_of_a_refused_fill_each_get_their_own_answer(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| match request.field("Cookie") {
        Some(cookie) => reply.answer("200 OK", "", format!("for {cookie}").as_bytes()),
        None => {
            held.wait();
            reply.answer("403 Forbidden", "", b"who are you");
        }
    });
    let server = Launch::new(io, &origin).debug().start();
    let mut clients = [server.client(), server.client(), server.client()];
    for (number, client) in clients.iter_mut().enumerate() {
        let fields = if number == 2 { String::new() } else { format!("Cookie: {number}\r\n") };
        client.ask("GET", "/x.tgz", &fields);
        wait_until("the request has come", || {
            server.err.all().iter().filter(|line| line.contains("INCOMING REQUEST")).count() > number
        });
    }
    wait_until("the fill is asked for", || origin.count() == 1);
    gate.open();
    clients[0].response("GET").expect(200, b"for 0");
    clients[1].response("GET").expect(200, b"for 1");
    clients[2].response("GET").expect(403, b"who are you");
    server.expect_nothing_cached();
}

fn a_range_of_a_refused_fill_is_the_clients_own(io: Io) {
    let origin = Origin::start(|request, reply| match request.field("Cookie") {
        None => reply.answer("403 Forbidden", "", b"no"),
        Some(_) => {
            assert_eq!(request.all("Range"), ["bytes=1-2"]);
            reply.answer("206 Partial Content", "Content-Range: bytes 1-2/4\r\n", b"od");
        }
    });
    let server = Server::start(io, &origin);
    server.ask("GET", "/x.tgz", "Cookie: a\r\nRange: bytes=1-2\r\n").expect(206, b"od");
    assert_eq!(origin.requests()[0].field("Range"), None);
    server.expect_nothing_cached();
}

fn the_rest_of_a_file_is_asked_for_in_nobodys_name(io: Io) {
    let body = bytes(400_000, 4);
    let whole = body.clone();
    let origin = Origin::start(move |request, reply| {
        let (head, from) = match request.field("Range") {
            None => ("200 OK\r\n".to_owned(), 0),
            Some(_) => {
                let at = request.field("Range").unwrap().strip_prefix("bytes=").unwrap();
                let from: usize = at.strip_suffix('-').unwrap().parse().unwrap();
                (format!("206 Partial Content\r\nContent-Range: bytes {from}-399999/400000\r\n"), from)
            }
        };
        reply.write(format!("HTTP/1.1 {head}ETag: \"1\"\r\nContent-Length: {}\r\n\r\n", whole.len() - from));
        if from == 0 {
            reply.write(&whole[..100_000]);
            reply.close();
        } else {
            reply.write(&whole[from..]);
        }
    });
    let server = Server::start(io, &origin);
    server.ask("GET", "/x.tgz", OWN).expect(200, &body);
    let seen = origin.requests();
    assert_eq!(seen.len(), 2);
    expect_canonical(&seen[1], &["if-range", "range"]);
    server.expect_cached("x.tgz", &body);
}

fn a_part_far_ahead_is_asked_for_in_nobodys_name(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let body = bytes(3_000_000, 5);
    let whole = body.clone();
    let origin = Origin::start(move |request, reply| {
        if request.field("Range").is_some() {
            let head = format!("Content-Range: bytes 2999990-2999999/{}\r\nETag: \"1\"\r\n", whole.len());
            reply.answer("206 Partial Content", &head, &whole[2_999_990..]);
            return;
        }
        reply.head(whole.len(), "ETag: \"1\"\r\n");
        reply.write(&whole[..10_000]);
        held.wait();
        reply.write(&whole[10_000..]);
    });
    let server = Launch::new(io, &origin).args(["--far-range", "1000000"]).start();
    let mut leader = server.client();
    leader.ask("GET", "/x.tgz", "User-Agent: first\r\n").head("GET");
    let fields = format!("{OWN}Range: bytes=2999990-2999999\r\n");
    server.ask("GET", "/x.tgz", &fields).expect(206, &body[2_999_990..]);
    expect_canonical(&origin.requests()[1], &["if-range", "range"]);
    gate.open();
}

fn an_answer_that_varies_with_everything_is_the_clients_own(io: Io) {
    let origin = Origin::start(|request, reply| {
        let body = format!("for {:?}", request.field("Cookie"));
        reply.answer("200 OK", "Vary: *\r\n", body.as_bytes());
    });
    let server = Server::start(io, &origin);
    server.ask("GET", "/x.tgz", "Cookie: a\r\n").expect(200, b"for Some(\"a\")");
    server.ask("GET", "/x.tgz", "").expect(200, b"for None");
    assert_eq!(origin.count(), 3);
    server.expect_nothing_cached();
}

fn a_check_carries_nothing_that_one_client_says(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.field("If-None-Match").is_some() {
            reply.write("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n");
        } else {
            reply.answer("200 OK", "ETag: \"1\"\r\n", b"index");
        }
    });
    let server = checking(io, &origin).start();
    for _ in 0..2 {
        server.ask("GET", "/a.idx", OWN).expect(200, b"index");
        server.expect_cached("a.idx", b"index");
    }
    let seen = origin.requests();
    expect_canonical(&seen[0], &[]);
    expect_canonical(&seen[1], &["if-none-match"]);
}

fn a_refused_check_is_passed_with_the_clients_own_fields(io: Io) {
    for target in ["/a.idx", "/a/", "/a.idx?q"] {
        let origin = guarded("403 Forbidden");
        let server = checking(io, &origin).start();
        server.ask("GET", target, "Cookie: a\r\n").expect(200, b"for a");
        server.ask("GET", target, "").expect(403, b"who are you");
        let head = server.ask("HEAD", target, "Cookie: b\r\n");
        assert_eq!((head.status, head.field("Content-Length")), (200, Some("5")));
        let seen: Vec<_> =
            origin.requests().iter().map(|request| request.field("Cookie").is_some()).collect();
        assert_eq!(seen, [false, true, false, false, true], "{target}");
        server.expect_nothing_cached();
    }
}

fn a_private_answer_is_the_clients_own(io: Io) {
    for said in ["private", "no-store"] {
        let origin = Origin::start(move |request, reply| {
            let body = format!("for {:?}", request.field("Cookie"));
            let fields = format!("Cache-Control: {said}, max-age=99\r\n");
            reply.answer("200 OK", &fields, if request.method == "HEAD" { b"" } else { body.as_bytes() });
        });
        let server = checking(io, &origin).start();
        server.ask("GET", "/a.idx", "Cookie: a\r\n").expect(200, b"for Some(\"a\")");
        server.ask("GET", "/a.idx", "").expect(200, b"for None");
        server.expect_nothing_cached();
    }
}

fn a_variant_by_a_field_that_was_left_out_is_the_clients_own(io: Io) {
    for name in ["Cookie", "Foo", "Accept-Language"] {
        let origin = Origin::start(move |request, reply| {
            let body = format!("for {:?}", request.field(name));
            let fields = format!("Vary: {name}\r\nCache-Control: max-age=999\r\n");
            reply.answer("200 OK", &fields, if request.method == "HEAD" { b"" } else { body.as_bytes() });
        });
        let server = checking(io, &origin).start();
        for value in ["1", "2", "1"] {
            let due = format!("for Some(\"{value}\")");
            server.ask("GET", "/a.idx", &format!("{name}: {value}\r\n")).expect(200, due.as_bytes());
        }
        let before = origin.count();
        for _ in 0..2 {
            server.get("/a.idx").expect(200, b"for None");
        }
        assert!(origin.count() <= before + 1, "{name}: what is asked without the field is kept");
        server.ask("HEAD", "/a.idx", &format!("{name}: 3\r\n")).expect(200, b"");
        assert_eq!(origin.requests().pop().unwrap().field(name), Some("3"));
        server.expect_nothing_cached();
    }
}

fn a_document_is_stored_once_for_each_value_of_the_accept_fields(io: Io) {
    let origin = Origin::start(|request, reply| {
        let body = format!("{:?} {:?}", request.all("Accept"), request.all("Accept-Language"));
        reply.answer("200 OK", "Cache-Control: max-age=999\r\n", body.as_bytes());
    });
    let server = checking(io, &origin).start();
    let ask = |fields: &str, due: &str| {
        server.ask("GET", "/simple/", fields).expect(200, due.as_bytes());
    };
    for _ in 0..2 {
        ask("Accept: text/html\r\nCookie: a\r\n", "[\"text/html\"] []");
        ask("Accept: application/json\r\nAccept-Language: de\r\n", "[\"application/json\"] [\"de\"]");
        ask("Accept: application/json\r\n", "[\"application/json\"] []");
        ask("", "[\"*/*\"] []");
        ask("Accept: */*\r\n", "[\"*/*\"] []");
    }
    assert_eq!(origin.count(), 4);
    assert!(origin.requests().iter().all(|request| request.field("Cookie").is_none()));
}

fn a_head_request_selects_the_variant_that_a_get_would(io: Io) {
    let origin = Origin::start(|request, reply| {
        let fields = format!("X-Accepts: {}\r\n", request.all("Accept").join(","));
        reply.answer("200 OK", &fields, if request.method == "HEAD" { b"" } else { b"body" });
    });
    let server = checking(io, &origin).start();
    let head = server.ask("HEAD", "/a.idx", OWN);
    assert_eq!((head.status, head.all("X-Accepts")), (200, vec!["*/*"]));
    expect_canonical(&origin.only(), &[]);
    // A path of the other class, and one that is not kept, are passed as ever.
    for target in ["/x.tgz", "/x.none"] {
        let head = server.ask("HEAD", target, OWN);
        assert_eq!((head.status, head.all("X-Accepts")), (200, vec!["application/metalink+xml"]));
        assert_eq!(origin.requests().pop().unwrap().all("Cookie"), ["session=1"]);
    }
}

fn members_of_a_set_are_asked_for_in_nobodys_name(io: Io) {
    let state = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&state);
    let origin = Origin::start(move |request, reply| {
        let tag = format!("\"{}\"", now.load(Ordering::SeqCst));
        if request.field("If-None-Match") == Some(&tag) {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n"));
        } else {
            reply.answer("200 OK", &format!("ETag: {tag}\r\n"), tag.as_bytes());
        }
    });
    let server = Launch::new(io, &origin).args(["--preset", "rpm"]).start();
    server.ask("GET", "/r/repodata/repomd.xml", OWN).expect(200, b"\"0\"");
    server.ask("GET", "/r/repodata/comps.xml", OWN).expect(200, b"\"0\"");
    state.store(1, Ordering::SeqCst);
    server.ask("GET", "/r/repodata/repomd.xml", OWN).expect(200, b"\"1\"");
    for request in origin.requests() {
        let conditions = request.field("If-None-Match").map_or(&[][..], |_| &["if-none-match"]);
        expect_canonical(&request, conditions);
    }
}

fn a_check_behind_a_stale_answer_carries_nothing_that_one_client_says(io: Io) {
    let origin = Origin::start(|request, reply| {
        let body = format!("{}", request.index);
        reply.answer("200 OK", "Cache-Control: max-age=0, stale-while-revalidate=999\r\n", body.as_bytes());
    });
    let server = checking(io, &origin).start();
    server.ask("GET", "/a.idx", OWN).expect(200, b"0");
    server.expect_cached("a.idx", b"0");
    // With Pragma it would ask for a check itself.
    server.ask("GET", "/a.idx", &OWN.replace("Pragma: no-cache\r\n", "")).expect(200, b"0");
    wait_until("the new index", || fs::read(server.path("a.idx")).is_ok_and(|found| found == b"1"));
    for request in origin.requests() {
        expect_canonical(&request, &[]);
    }
}

fn fields_that_the_operator_names_go_along_with_checks(io: Io) {
    let origin = Origin::start(|request, reply| {
        let body = format!("{:?} {:?}", request.field("X-Region"), request.field("Cookie"));
        reply.answer("200 OK", "Vary: X-Region\r\nCache-Control: max-age=999\r\n", body.as_bytes());
    });
    let server = checking(io, &origin).args(["--fill-fields", "X-Region, X-Other"]).start();
    for _ in 0..2 {
        server.ask("GET", "/a.idx", "X-Region: 1\r\nCookie: c\r\n").expect(200, b"Some(\"1\") None");
        server.ask("GET", "/a.idx", "X-Region: 2\r\n").expect(200, b"Some(\"2\") None");
    }
    assert_eq!(origin.count(), 2);
    server.ask("GET", "/x.tgz", "X-Region: 3\r\n").expect(200, b"None None");
    let refused = run_cli(&["-U", "http://example.org", "--fill-fields", "Range"], &[], &[]);
    assert!(!refused.status.success());
}

fn tokens_do_not_follow_a_redirect_to_another_server(io: Io) {
    let target = Origin::start(|request, reply| {
        if request.field("Range").is_some() {
            reply.answer("206 Partial Content", "Content-Range: bytes 0-0/4\r\n", b"b");
        } else {
            reply.serve(request, b"body");
        }
    });
    let to = format!("http://localhost:{}", target.port());
    let origin = Origin::start(move |request, reply| {
        let location = format!("Location: {to}{}\r\n", request.target);
        reply.answer("302 Found", &location, b"");
    });
    let server = Launch::new(io, &origin).args(["--follow-redirects"]).start();
    server.ask("GET", "/x.tgz", OWN).expect(200, b"body");
    expect_canonical(&target.only(), &["cdn-loop"]);
    // One that is passed: HEAD, and one with Authorization.
    let fields = format!("{OWN}Accept-Encoding: gzip\r\nX-Kept: 1\r\nAuthorization: Bearer t\r\n");
    server.ask("HEAD", "/y.tgz", &fields).expect(200, b"");
    server.ask("GET", "/y.tgz", &format!("{fields}Range: bytes=0-0\r\n")).expect(206, b"b");
    assert_eq!(origin.requests().pop().unwrap().all("Private-Token"), ["t"]);
    let known = ["accept", "accept-encoding", "accept-language", "cdn-loop", "host", "user-agent", "via"];
    let seen = target.requests();
    assert_eq!(names(&seen[1]), known);
    assert_eq!(names(&seen[2]), [&known[..5], &["range"], &known[5..]].concat());
    assert_eq!(seen[2].all("Accept"), ["application/metalink+xml"]);
    server.expect_tree(&["x.tgz"]);
}
