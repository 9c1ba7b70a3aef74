//! What may change a stored response, and what a 304 proves: an exchange with one user changes nothing for the others,
//! and a 304 about other bytes confirms nothing.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use crate::support::{
    Gate, Io, LAST_MODIFIED, LAST_MODIFIED_SECS, Launch, Origin, Response, Server, bytes, on_both, run_cli,
    wait_until,
};

on_both!(
    a_304_to_one_user_changes_nothing_for_the_others,
    a_304_to_one_user_that_is_public_renews_for_all,
    a_304_that_is_not_to_be_stored_is_for_one_client,
    a_304_that_is_not_to_be_stored_changes_nothing_of_a_document,
    a_304_that_is_not_to_be_stored_changes_nothing_of_a_set,
    a_304_for_other_requests_than_before_is_not_believed,
    a_head_request_of_one_user_changes_nothing_for_the_others,
    a_head_answer_that_is_not_to_be_stored_changes_nothing,
    what_is_one_users_is_never_stored,
    what_is_one_users_is_stored_if_the_operator_wants_it,
    followers_of_a_fill_do_not_get_what_is_one_users,
    a_trailing_field_is_not_stored,
    a_type_that_contradicts_the_name_is_not_taken_from_a_304,
    a_fill_that_an_unsafe_request_has_overtaken_is_followed_by_nobody,
    an_unsafe_request_is_heard_while_the_file_gets_its_name,
    a_304_with_another_date_confirms_nothing_of_a_file_without_a_head,
    a_304_without_a_validator_confirms_nothing_of_a_file_without_a_head,
    a_file_without_a_head_is_served_while_the_origin_is_down,
    a_304_with_another_date_confirms_nothing,
    a_304_with_a_tag_where_none_is_stored_confirms_nothing,
    a_304_with_a_strong_form_of_a_weak_tag_does_not_make_it_strong,
    a_304_with_the_same_strong_tag_brings_a_new_date,
);

const PERSONAL: &str = "Set-Cookie: session=alice\r\nSet-Cookie2: a=b\r\nClear-Site-Data: \"*\"\r\n\
                        Authentication-Info: nextnonce=\"1\"\r\n";
const PERSONAL_NAMES: [&str; 4] = ["Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Authentication-Info"];

fn checking(io: Io, origin: &Origin) -> Launch {
    Launch::new(io, origin).args(["--revalidate", r"\.idx$|/$"])
}

#[track_caller]
fn expect_nothing_personal(answer: &Response) {
    for name in PERSONAL_NAMES.iter().chain(&["X-User"]) {
        assert_eq!(answer.all(name), [""; 0], "{name}");
    }
}

/// An origin whose 304s, and answers to HEAD, have these fields; a 200 is stored and to be checked.
fn telling(fields: impl Fn(bool) -> String + Send + Sync + 'static) -> Origin {
    Origin::start(move |request, reply| {
        let fields = fields(request.field("Authorization").is_some());
        if request.field("If-None-Match").is_some() {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n{fields}\r\n"));
        } else if request.method == "HEAD" {
            reply.write(format!("HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 5\r\n{fields}\r\n"));
        } else {
            reply.answer("200 OK", "ETag: \"1\"\r\nCache-Control: max-age=0\r\n", b"index");
        }
    })
}

fn alices(is_alice: bool) -> String {
    let fields = format!("{PERSONAL}X-User: alice\r\nCache-Control: max-age=600\r\n");
    if is_alice { fields } else { String::new() }
}

fn a_304_to_one_user_changes_nothing_for_the_others(io: Io) {
    let origin = telling(|is_alice| alices(is_alice).replace("max-age", "private, max-age"));
    expect_alice_changes_nothing(io, &origin);
    // Without a word that others may have it.
    expect_alice_changes_nothing(io, &telling(alices));
}

fn expect_alice_changes_nothing(io: Io, origin: &Origin) {
    let server = checking(io, origin).start();
    server.get("/a.idx").expect(200, b"index");
    server.expect_cached("a.idx", b"index");
    for round in 0..2 {
        server.ask("GET", "/a.idx", "Authorization: Basic YTpi\r\n").expect(200, b"index");
        let answer = server.get("/a.idx");
        answer.expect(200, b"index");
        expect_nothing_personal(&answer);
        assert_eq!(answer.all("Cache-Control"), ["max-age=0"]);
        assert_eq!(origin.count(), 3 + 2 * round, "the others check again");
    }
}

fn a_304_to_one_user_that_is_public_renews_for_all(io: Io) {
    let origin = telling(|_| "Cache-Control: public, max-age=600\r\nX-A: 1\r\n".to_owned());
    let server = checking(io, &origin).start();
    server.get("/a.idx").expect(200, b"index");
    server.expect_cached("a.idx", b"index");
    server.ask("GET", "/a.idx", "Authorization: Basic YTpi\r\n").expect(200, b"index");
    assert_eq!(server.get("/a.idx").all("X-A"), ["1"]);
    assert_eq!(origin.count(), 2);
}

fn a_304_that_is_not_to_be_stored_is_for_one_client(io: Io) {
    for said in ["private, max-age=600", "no-store, max-age=600"] {
        let origin = telling(move |_| format!("Cache-Control: {said}\r\nX-User: alice\r\n"));
        let server = checking(io, &origin).start();
        server.get("/a.idx").expect(200, b"index");
        server.expect_cached("a.idx", b"index");
        for asked in 2..5 {
            server.get("/a.idx").expect(200, b"index");
            assert_eq!(origin.count(), asked, "{said}: it was taken as fresh");
        }
    }
}

fn a_304_that_is_not_to_be_stored_changes_nothing_of_a_document(io: Io) {
    let private = Arc::new(AtomicBool::new(true));
    let is_private = Arc::clone(&private);
    let origin = telling(move |_| {
        let said = "Cache-Control: private, max-age=600\r\nX-User: alice\r\n";
        if is_private.load(Ordering::SeqCst) { said.to_owned() } else { String::new() }
    });
    let server = checking(io, &origin).start();
    server.get("/a/").expect(200, b"index");
    server.get("/a/").expect(200, b"index");
    private.store(false, Ordering::SeqCst);
    let answer = server.get("/a/");
    answer.expect(200, b"index");
    expect_nothing_personal(&answer);
    assert_eq!((answer.all("Cache-Control"), origin.count()), (vec!["max-age=0"], 3));
}

fn a_304_that_is_not_to_be_stored_changes_nothing_of_a_set(io: Io) {
    let private = Arc::new(AtomicBool::new(true));
    let is_private = Arc::clone(&private);
    let origin = telling(move |_| {
        let said = "Cache-Control: private, max-age=600\r\nX-User: alice\r\n";
        if is_private.load(Ordering::SeqCst) { said.to_owned() } else { String::new() }
    });
    let server = Launch::new(io, &origin).args(["--preset", "rpm"]).start();
    let target = "/r/repodata/repomd.xml";
    server.get(target).expect(200, b"index");
    server.expect_cached("r/repodata/repomd.xml", b"index");
    // Until the member is settled it is taken as it has come.
    wait_until("a check", || {
        server.get(target).expect(200, b"index");
        origin.count() == 2
    });
    private.store(false, Ordering::SeqCst);
    let answer = server.get(target);
    answer.expect(200, b"index");
    expect_nothing_personal(&answer);
    assert_eq!((answer.all("Cache-Control"), origin.count()), (vec!["max-age=0"], 3));
}

fn a_304_for_other_requests_than_before_is_not_believed(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.field("If-None-Match").is_some() {
            reply.write("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nVary: User-Agent\r\n\r\n");
        } else {
            let vary = if request.index == 0 { "" } else { "Vary: User-Agent\r\n" };
            let body = format!("for {:?}", request.field("User-Agent"));
            reply.answer("200 OK", &format!("ETag: \"1\"\r\n{vary}"), body.as_bytes());
        }
    });
    let server = checking(io, &origin).start();
    server.ask("GET", "/a.idx", "User-Agent: a\r\n").expect(200, b"for Some(\"a\")");
    server.expect_cached("a.idx", b"for Some(\"a\")");
    server.ask("GET", "/a.idx", "User-Agent: b\r\n").expect(200, b"for Some(\"b\")");
    assert_eq!(origin.count(), 3);
}

fn a_head_request_of_one_user_changes_nothing_for_the_others(io: Io) {
    let origin = telling(alices);
    let server = checking(io, &origin).start();
    server.get("/a.idx").expect(200, b"index");
    server.expect_cached("a.idx", b"index");
    let head = server.ask("HEAD", "/a.idx", "Authorization: Basic YTpi\r\n");
    assert_eq!((head.status, head.all("X-User")), (200, vec!["alice"]));
    let answer = server.get("/a.idx");
    answer.expect(200, b"index");
    expect_nothing_personal(&answer);
    assert_eq!(origin.count(), 3, "the others check again");
}

fn a_head_answer_that_is_not_to_be_stored_changes_nothing(io: Io) {
    let origin = telling(|_| "Cache-Control: private, max-age=600\r\nX-User: alice\r\n".to_owned());
    let server = checking(io, &origin).start();
    server.get("/a.idx").expect(200, b"index");
    server.expect_cached("a.idx", b"index");
    server.ask("HEAD", "/a.idx", "").expect(200, b"");
    server.get("/a.idx").expect(200, b"index");
    assert_eq!(origin.count(), 3);
}

/// An origin whose every answer has what is one user's.
fn personal() -> Origin {
    Origin::start(|request, reply| {
        let fields = format!("{PERSONAL}ETag: \"1\"\r\nCache-Control: max-age=9999\r\nX-A: 1\r\n");
        if request.field("If-None-Match").is_some() {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"));
        } else {
            reply.answer("200 OK", &fields, b"index");
        }
    })
}

fn what_is_one_users_is_never_stored(io: Io) {
    let origin = personal();
    let server = checking(io, &origin).start();
    for target in ["/a.idx", "/a/"] {
        let first = server.get(target);
        first.expect(200, b"index");
        assert_eq!(first.all("Set-Cookie"), ["session=alice"], "who caused the fill gets it");
        if target == "/a.idx" {
            server.expect_cached("a.idx", b"index");
        }
        for fields in ["", "Cache-Control: no-cache\r\n", ""] {
            let answer = server.ask("GET", target, fields);
            answer.expect(200, b"index");
            expect_nothing_personal(&answer);
            assert_eq!(answer.all("X-A"), ["1"]);
        }
    }
}

fn what_is_one_users_is_stored_if_the_operator_wants_it(io: Io) {
    let origin = personal();
    let server = checking(io, &origin).args(["--keep-fields", "set-cookie, Clear-Site-Data"]).start();
    server.get("/a/").expect(200, b"index");
    let answer = server.get("/a/");
    let found = PERSONAL_NAMES.map(|name| answer.all(name).len());
    assert_eq!((found, origin.count()), ([1, 0, 1, 0], 1));
    let refused = run_cli(&["-U", "http://example.org", "--keep-fields", "X"], &[], &[]);
    assert!(!refused.status.success());
}

fn followers_of_a_fill_do_not_get_what_is_one_users(io: Io) {
    for target in ["/x.tgz", "/a.idx"] {
        let gate = Gate::default();
        let held = gate.clone();
        let body = bytes(50_000, 1);
        let whole = body.clone();
        let origin = Origin::start(move |_, reply| {
            reply.head(whole.len(), PERSONAL);
            reply.write(&whole[..10]);
            held.wait();
            reply.write(&whole[10..]);
        });
        let server = checking(io, &origin).start();
        let (mut first, mut second) = (server.client(), server.client());
        let mut leader = first.ask("GET", target, "").head("GET");
        assert_eq!(leader.all("Clear-Site-Data"), ["\"*\""]);
        let mut follower = second.ask("GET", target, "").head("GET");
        expect_nothing_personal(&follower);
        gate.open();
        first.finish(&mut leader);
        second.finish(&mut follower);
        leader.expect(200, &body);
        follower.expect(200, &body);
    }
}

fn a_trailing_field_is_not_stored(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.write(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie\r\n\
             Cache-Control: max-age=999\r\n\r\n5\r\nindex\r\n0\r\nSet-Cookie: a=b\r\nX-User: a\r\n\r\n",
        );
    });
    let server = checking(io, &origin).start();
    for target in ["/a.idx", "/a/"] {
        server.get(target).expect(200, b"index");
        if target == "/a.idx" {
            server.expect_cached("a.idx", b"index");
        }
        let hit = server.get(target);
        hit.expect(200, b"index");
        expect_nothing_personal(&hit);
    }
    assert_eq!(origin.count(), 2);
}

fn a_type_that_contradicts_the_name_is_not_taken_from_a_304(io: Io) {
    // Some frameworks label every 304 so.
    let page = "ETag: \"1\"\r\nCache-Control: max-age=600\r\nX-A: 1\r\nContent-Type: text/html\r\n";
    for (preset, target) in
        [("apt", "/dists/s/main/binary-amd64/Packages.gz"), ("alpine", "/v3/main/x86_64/APKINDEX.tar.gz")]
    {
        for method in ["GET", "HEAD"] {
            let origin = Origin::start(move |request, reply| {
                if request.field("If-None-Match").is_some() {
                    reply.write(format!("HTTP/1.1 304 Not Modified\r\n{page}\r\n"));
                } else if request.method == "HEAD" {
                    reply.write(format!("HTTP/1.1 200 OK\r\n{page}Content-Length: 5\r\n\r\n"));
                } else {
                    let fields =
                        "ETag: \"1\"\r\nCache-Control: max-age=0\r\nContent-Type: application/gzip\r\n";
                    reply.answer("200 OK", fields, b"index");
                }
            });
            let server = Launch::new(io, &origin).args(["--preset", preset]).start();
            server.get(target).expect(200, b"index");
            server.expect_cached(&target[1..], b"index");
            wait_until("a check", || {
                server.ask(method, target, "Cache-Control: no-cache\r\n");
                origin.count() > 1
            });
            let answer = server.get(target);
            answer.expect(200, b"index");
            assert_eq!(answer.all("Content-Type"), ["application/gzip"], "{preset} {method}");
            let hit = server.get(target);
            // A 304 is believed all the same.
            assert_eq!(hit.all("X-A"), ["1"], "{preset} {method}");
        }
    }
}

fn a_fill_that_an_unsafe_request_has_overtaken_is_followed_by_nobody(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| match (&*request.method, request.index) {
        ("PUT", _) => reply.answer("200 OK", "", b"done"),
        (_, 0) => {
            reply.head(6, "Cache-Control: max-age=600\r\n");
            reply.write("old");
            held.wait();
            reply.write("old");
        }
        _ => reply.answer("200 OK", "Cache-Control: max-age=600\r\n", b"new"),
    });
    let server = checking(io, &origin).start();
    let mut first = server.client();
    let mut leader = first.ask("GET", "/a.idx", "").head("GET");
    server.ask("PUT", "/a.idx", "Content-Length: 0\r\n").expect(200, b"done");
    server.get("/a.idx").expect(200, b"new");
    gate.open();
    first.finish(&mut leader);
    leader.expect(200, b"oldold");
    wait_until("what has come is not used unchecked", || server.get("/a.idx").body == b"new");
    server.get("/a.idx").expect(200, b"new");
}

fn an_unsafe_request_is_heard_while_the_file_gets_its_name(io: Io) {
    let origin = Origin::start(|request, reply| {
        let body = request.index.to_string();
        reply.answer("200 OK", "Cache-Control: max-age=600\r\n", body.as_bytes());
    });
    let server = checking(io, &origin).start();
    let (mut reader, mut writer) = (server.client(), server.client());
    for number in 0..200 {
        let target = format!("/{number}.idx");
        let first = reader.get(&target).body;
        // Not always at the same moment.
        for _ in 0..number % 8 {
            writer.ask("PUT", "/other", "Content-Length: 0\r\n").response("PUT");
        }
        writer.ask("PUT", &target, "Content-Length: 0\r\n").response("PUT");
        assert_ne!(reader.get(&target).body, first, "{target} was not checked");
    }
}

const NEWER: &str = "Sun, 17 May 2015 20:31:39 GMT";

/// An index of the origin that is newer than the file, which was dated when it was fetched, or by the origin.
fn expect_fetched_whole(io: Io, in_304: &'static str, fraction: Duration) {
    let origin = Origin::start(move |request, reply| {
        if request.field("If-Modified-Since").is_some() {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\n{in_304}\r\n"));
        } else {
            reply.answer("200 OK", &format!("Last-Modified: {NEWER}\r\n"), b"new");
        }
    });
    let server = checking(io, &origin).start();
    let path = server.put("a.idx", b"old");
    let date = UNIX_EPOCH + Duration::from_secs(LAST_MODIFIED_SECS) + fraction;
    fs::File::options().write(true).open(&path).unwrap().set_modified(date).unwrap();
    let answer = server.get("/a.idx");
    answer.expect(200, b"new");
    assert_eq!(answer.all("Last-Modified"), [NEWER], "{in_304}");
    assert!(origin.count() <= 2, "the whole is asked for once");
    wait_until("the new index", || fs::read(&path).is_ok_and(|found| found == b"new"));
}

fn a_304_with_another_date_confirms_nothing_of_a_file_without_a_head(io: Io) {
    for in_304 in [
        "Last-Modified: Sun, 17 May 2015 20:31:39 GMT\r\n",
        // Older than the fetch, and yet not the date of these bytes.
        "Last-Modified: Sat, 16 May 2015 10:00:00 GMT\r\n",
        "Last-Modified: Sat, 16 May 2015 10:00:00 GMT\r\nETag: \"1\"\r\n",
    ] {
        expect_fetched_whole(io, in_304, Duration::ZERO);
    }
    // Changed at the origin within the second of the fetch.
    expect_fetched_whole(io, "Last-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n", Duration::from_millis(500));
}

fn a_304_without_a_validator_confirms_nothing_of_a_file_without_a_head(io: Io) {
    expect_fetched_whole(io, "", Duration::ZERO);
    expect_fetched_whole(io, "ETag: \"1\"\r\n", Duration::ZERO);
}

fn a_file_without_a_head_is_served_while_the_origin_is_down(io: Io) {
    let server = Launch::at(io, "http://127.0.0.1:1")
        .args(["--revalidate", r"\.idx$", "--stale-if-error", "forever"])
        .start();
    server.put("a.idx", b"old");
    server.get("/a.idx").expect(200, b"old");
}

/// First `stored`, then a 304 with `told`, or the whole with the same.
fn changing(stored: &'static str, told: &'static str) -> Origin {
    Origin::start(move |request, reply| {
        let asked = request.field("If-None-Match").or(request.field("If-Modified-Since"));
        if asked.is_some() {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\n{told}\r\n"));
        } else if request.index == 0 {
            reply.answer("200 OK", stored, b"old");
        } else {
            reply.answer("200 OK", told, b"new");
        }
    })
}

/// What a client gets after the 304, and how often the origin was asked for it.
fn after_304(io: Io, stored: &'static str, told: &'static str) -> ((Server, Origin), Response, usize) {
    let origin = changing(stored, told);
    let server = checking(io, &origin).start();
    server.get("/a.idx").expect(200, b"old");
    server.expect_cached("a.idx", b"old");
    let answer = server.get("/a.idx");
    let asked = origin.count() - 1;
    ((server, origin), answer, asked)
}

fn a_304_with_another_date_confirms_nothing(io: Io) {
    let old = "Last-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n";
    let new = "Last-Modified: Sun, 17 May 2015 20:31:39 GMT\r\n";
    let weak = "Last-Modified: Sat, 16 May 2015 20:31:39 GMT\r\nETag: W/\"1\"\r\n";
    let new_weak = "Last-Modified: Sun, 17 May 2015 20:31:39 GMT\r\nETag: W/\"1\"\r\n";
    for (stored, told) in [(old, new), (weak, new_weak), (weak, new)] {
        let ((server, _origin), answer, asked) = after_304(io, stored, told);
        answer.expect(200, b"new");
        assert_eq!((answer.all("Last-Modified"), asked), (vec![NEWER], 2), "{stored} {told}");
        wait_until("the new index", || fs::read(server.path("a.idx")).is_ok_and(|found| found == b"new"));
    }
    let (_both, answer, asked) = after_304(io, old, "");
    answer.expect(200, b"old");
    assert_eq!((answer.all("Last-Modified"), asked), (vec![LAST_MODIFIED], 1));
}

fn a_304_with_a_tag_where_none_is_stored_confirms_nothing(io: Io) {
    let stored = "Last-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n";
    let (_both, answer, asked) = after_304(io, stored, "ETag: \"2\"\r\n");
    answer.expect(200, b"new");
    assert_eq!((answer.all("ETag"), asked), (vec!["\"2\""], 2));
}

fn a_304_with_a_strong_form_of_a_weak_tag_does_not_make_it_strong(io: Io) {
    let ((server, _origin), answer, asked) = after_304(io, "ETag: W/\"1\"\r\n", "ETag: \"1\"\r\n");
    answer.expect(200, b"old");
    assert_eq!((answer.all("ETag"), asked), (vec!["W/\"1\""], 1));
    // A part for who holds the strong one would be of other bytes.
    let part = server.ask("GET", "/a.idx", "Range: bytes=0-0\r\nIf-Range: \"1\"\r\n");
    part.expect(200, b"old");
}

fn a_304_with_the_same_strong_tag_brings_a_new_date(io: Io) {
    let stored = "ETag: \"1\"\r\nLast-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n";
    let told = "ETag: \"1\"\r\nLast-Modified: Sun, 17 May 2015 20:31:39 GMT\r\n";
    let (_both, answer, asked) = after_304(io, stored, told);
    answer.expect(200, b"old");
    assert_eq!((answer.all("Last-Modified"), asked), (vec![NEWER], 1));
}
