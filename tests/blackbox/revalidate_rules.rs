//! The revalidated class: variants, users, changes, failures, limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::revalidate::{Index, body, launch};
use crate::support::{Io, Launch, Origin, Server, on_both, run_cli, tree, wait_until};

on_both!(
    variants_are_kept_apart_and_never_as_a_file,
    a_variant_of_the_coding_alone_is_a_file,
    a_query_is_another_resource_and_never_a_file,
    a_path_with_a_slash_at_its_end_is_kept_in_memory,
    other_statuses_are_kept_in_memory_and_never_as_a_file,
    a_coded_answer_is_kept_in_memory_and_never_as_a_file,
    an_answer_that_is_not_to_be_kept_is_not,
    an_answer_to_one_user_is_kept_only_if_it_says_so,
    an_answer_too_long_for_memory_is_passed_whole,
    an_unsafe_request_makes_its_target_and_its_location_stale,
    a_failed_unsafe_request_changes_nothing,
    an_origin_failure_is_an_error_without_stale_if_error,
    stale_if_error_serves_what_is_there,
    a_4xx_response_does_not_replace_the_response_for_stale_if_error,
    a_response_that_the_origin_no_longer_has_is_not_fresh,
    stale_if_error_serves_a_head_too,
    stale_if_error_ends_after_its_time,
    stale_if_error_never_serves_must_revalidate,
    the_answer_itself_may_allow_stale_if_error,
    offline_asks_nobody,
    stale_while_revalidate_answers_first_and_checks_then,
    stale_while_revalidate_works_for_a_file_just_committed,
    a_document_of_a_directory_survives_a_restart,
    a_document_of_one_variant_survives_a_restart,
    a_document_under_the_name_of_another_is_none,
    a_start_does_not_remove_files_that_another_process_writes,
    a_document_that_was_checked_is_as_old_as_its_check,
    a_document_that_is_a_file_now_is_the_file_after_a_restart,
    the_reserved_directory_is_not_served,
    a_broken_new_version_leaves_the_old_one,
);

fn answering(fields: &'static str) -> Origin {
    Origin::start(move |request, reply| {
        let body = format!("{} {} {:?}", request.target, request.index, request.field("User-Agent"));
        reply.answer("200 OK", fields, body.as_bytes());
    })
}

fn text(server: &Server, target: &str, extra: &str) -> String {
    let answer = server.ask("GET", target, extra);
    assert!(answer.whole);
    String::from_utf8(answer.body).unwrap()
}

fn variants_are_kept_apart_and_never_as_a_file(io: Io) {
    let origin = answering("Vary: User-Agent\r\nCache-Control: max-age=9999\r\n");
    let server = launch(io, &origin).start();
    for _ in 0..2 {
        assert_eq!(text(&server, "/a.idx", "User-Agent: 1\r\n"), "/a.idx 0 Some(\"1\")");
        assert_eq!(text(&server, "/a.idx", "User-Agent: 2\r\n"), "/a.idx 1 Some(\"2\")");
        assert_eq!(text(&server, "/a.idx", ""), "/a.idx 2 None");
    }
    assert_eq!(origin.count(), 3);
    server.expect_nothing_cached();
}

fn a_variant_of_the_coding_alone_is_a_file(io: Io) {
    let origin = answering("Vary: Accept-Encoding\r\nCache-Control: max-age=9999\r\n");
    let server = launch(io, &origin).start();
    text(&server, "/a.idx", "Accept-Encoding: gzip\r\n");
    server.expect_cached("a.idx", b"/a.idx 0 None");
    text(&server, "/a.idx", "");
    assert_eq!(origin.only().all("Accept-Encoding"), ["identity"]);
}

fn a_query_is_another_resource_and_never_a_file(io: Io) {
    let origin = answering("Cache-Control: max-age=9999\r\n");
    let server = launch(io, &origin).start();
    for _ in 0..2 {
        assert_eq!(text(&server, "/a.idx?x", ""), "/a.idx?x 0 None");
        assert_eq!(text(&server, "/a.idx?", ""), "/a.idx? 1 None");
        assert_eq!(text(&server, "/a.idx", ""), "/a.idx 2 None");
    }
    assert_eq!(origin.count(), 3);
    server.expect_cached("a.idx", b"/a.idx 2 None");
    server.expect_tree(&["a.idx"]);
}

fn a_path_with_a_slash_at_its_end_is_kept_in_memory(io: Io) {
    let origin = answering("Cache-Control: max-age=9999\r\n");
    let server = launch(io, &origin).start();
    server.put("simple/x.tgz", b"a file below it");
    for _ in 0..2 {
        assert_eq!(text(&server, "/simple/", ""), "/simple/ 0 None");
    }
    origin.only();
    server.expect_tree(&["simple/x.tgz"]);
}

fn other_statuses_are_kept_in_memory_and_never_as_a_file(io: Io) {
    let origin = Origin::start(|request, reply| {
        let status = if request.target == "/gone.idx" { "410 Gone" } else { "302 Found" };
        reply.answer(status, "Cache-Control: max-age=9999\r\nLocation: /x\r\n", b"no");
    });
    let server = launch(io, &origin).start();
    for (target, status) in [("/gone.idx", 410), ("/found.idx", 302), ("/gone.idx", 410), ("/found.idx", 302)]
    {
        let answer = server.get(target);
        answer.expect(status, b"no");
        assert_eq!(answer.all("Location"), ["/x"]);
    }
    assert_eq!(origin.count(), 2);
    server.expect_nothing_cached();
}

fn a_coded_answer_is_kept_in_memory_and_never_as_a_file(io: Io) {
    let origin = answering("Content-Encoding: br\r\nCache-Control: max-age=9999\r\n");
    let server = launch(io, &origin).start();
    for _ in 0..2 {
        let answer = server.get("/a.idx");
        answer.expect(200, b"/a.idx 0 None");
        assert_eq!(answer.all("Content-Encoding"), ["br"]);
    }
    origin.only();
    server.expect_nothing_cached();
}

fn an_answer_that_is_not_to_be_kept_is_not(io: Io) {
    for fields in [
        "Cache-Control: no-store, max-age=99\r\n",
        "Cache-Control: private, max-age=99\r\n",
        "Vary: *\r\nCache-Control: max-age=99\r\n",
    ] {
        let origin = answering(fields);
        let server = launch(io, &origin).start();
        assert_eq!(text(&server, "/a.idx", ""), "/a.idx 0 None");
        assert_eq!(text(&server, "/a.idx", ""), "/a.idx 1 None", "{fields}");
        server.expect_nothing_cached();
    }
}

fn an_answer_to_one_user_is_kept_only_if_it_says_so(io: Io) {
    for (fields, kept) in [
        ("Cache-Control: max-age=99\r\n", false),
        ("Cache-Control: max-age=99, public\r\n", true),
        ("Cache-Control: s-maxage=99\r\n", true),
    ] {
        let origin = answering(fields);
        let server = launch(io, &origin).start();
        assert_eq!(text(&server, "/a.idx", "Authorization: Basic YTpi\r\n"), "/a.idx 0 None");
        assert_eq!(origin.only().all("Authorization"), ["Basic YTpi"]);
        if kept {
            server.expect_cached("a.idx", b"/a.idx 0 None");
        } else {
            server.expect_nothing_cached();
        }
        let next = text(&server, "/a.idx", "");
        assert_eq!(next, if kept { "/a.idx 0 None" } else { "/a.idx 1 None" }, "{fields}");
    }
}

fn an_answer_too_long_for_memory_is_passed_whole(io: Io) {
    let long = crate::support::bytes(300_000, 1);
    let (of, chunked) = (long.clone(), crate::support::util::chunked(&long, 7000));
    let origin = Origin::start(move |request, reply| {
        let fields = "Cache-Control: max-age=99\r\n";
        if request.target.ends_with('c') {
            reply.write(format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n"));
            reply.write(&chunked);
        } else {
            reply.answer("200 OK", fields, &of);
        }
    });
    let server = launch(io, &origin).args(["--revalidate-memory", "800000"]).start();
    for target in ["/a.idx?l", "/a.idx?c", "/a.idx?l", "/a.idx?c"] {
        server.get(target).expect(200, &long);
    }
    assert_eq!(origin.count(), 4);
}

fn an_unsafe_request_makes_its_target_and_its_location_stale(io: Io) {
    let origin =
        answering("Cache-Control: max-age=9999\r\nLocation: b.idx\r\nContent-Location: /c.idx?q\r\n");
    let server = launch(io, &origin).start();
    let targets = ["/x/a.idx", "/x/b.idx", "/c.idx?q", "/x/d.idx"];
    for target in targets {
        text(&server, target, "");
    }
    for file in ["x/a.idx", "x/b.idx", "x/d.idx"] {
        wait_until("it is cached", || server.path(file).exists());
    }
    assert_eq!(origin.count(), 4);
    server.ask("DELETE", "/x/a.idx", "").expect(200, b"/x/a.idx 4 None");
    for (asked, target) in [(6, targets[0]), (7, targets[1]), (8, targets[2]), (8, targets[3])] {
        text(&server, target, "");
        assert_eq!(origin.count(), asked, "{target}");
    }
}

fn a_failed_unsafe_request_changes_nothing(io: Io) {
    let origin = Origin::start(|request, reply| {
        let status = if request.method == "GET" { "200 OK" } else { "403 Forbidden" };
        reply.answer(status, "Cache-Control: max-age=9999\r\n", b"x");
    });
    let server = launch(io, &origin).start();
    server.get("/a.idx").expect(200, b"x");
    server.expect_cached("a.idx", b"x");
    assert_eq!(server.ask("POST", "/a.idx", "Content-Length: 0\r\n").status, 403);
    server.get("/a.idx").expect(200, b"x");
    assert_eq!(origin.count(), 2);
}

/// How an origin can fail.
const FAILURES: [&str; 4] = ["500", "503", "reset", "429"];

/// A server with one kept answer, and an origin that fails from then on.
fn failing(io: Io, fields: &'static str, failure: &'static str, args: &[&str]) -> (Origin, Server) {
    let origin = Origin::start(move |request, reply| match (request.index, failure) {
        (0, _) => reply.answer("200 OK", fields, b"kept"),
        (_, "reset") => reply.reset(),
        (_, status) => reply.answer(&format!("{status} Failed"), "", b"failed"),
    });
    let server = launch(io, &origin).args(args).start();
    server.get("/a.idx").expect(200, b"kept");
    server.expect_cached("a.idx", b"kept");
    (origin, server)
}

fn an_origin_failure_is_an_error_without_stale_if_error(io: Io) {
    for (failure, status) in FAILURES.into_iter().zip([500, 503, 502, 429]) {
        let (_origin, server) = failing(io, "ETag: \"a\"\r\n", failure, &[]);
        assert_eq!(server.get("/a.idx").status, status);
        server.expect_cached("a.idx", b"kept");
    }
}

fn stale_if_error_serves_what_is_there(io: Io) {
    for failure in FAILURES {
        for time in ["3600", "forever"] {
            let (_origin, server) = failing(io, "ETag: \"a\"\r\n", failure, &["--stale-if-error", time]);
            let stale = server.get("/a.idx");
            stale.expect(200, b"kept").expect_keep_alive();
            assert_eq!(stale.all("ETag"), ["\"a\""]);
            server.err.wait_for("is stored, stale: the origin ");
            server.ask("GET", "/a.idx", "If-None-Match: \"a\"\r\n").expect(304, b"");
            // What is not kept is an error all the same.
            assert!(server.get("/b.idx").status >= 429);
        }
    }
}

/// What is kept is stale, the origin refuses it once, and then cannot be reached.
fn a_4xx_response_does_not_replace_the_response_for_stale_if_error(io: Io) {
    for (status, fields) in [
        ("404", ""),
        ("410", ""),
        ("403", ""),
        ("401", ""),
        ("404", "Cache-Control: max-age=3600\r\n"),
        ("404", "ETag: \"refused\"\r\n"),
        ("410", "Last-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n"),
    ] {
        // A file, and an answer in memory.
        for target in ["/a.idx", "/a.idx?b"] {
            let asked = AtomicUsize::new(0);
            let origin = Origin::start(move |_, reply| match asked.fetch_add(1, Ordering::SeqCst) {
                0 => reply.answer("200 OK", "ETag: \"a\"\r\n", b"kept"),
                1 => reply.answer(&format!("{status} Refused"), fields, b"refused"),
                _ => reply.reset(),
            });
            let server = launch(io, &origin).args(["--stale-if-error", "forever"]).start();
            server.get(target).expect(200, b"kept");
            if !target.contains('?') {
                server.expect_cached("a.idx", b"kept");
            }
            assert_eq!(server.get(target).status.to_string(), status, "{target}");
            for _ in 0..2 {
                server.get(target).expect(200, b"kept");
            }
        }
    }
}

fn a_response_that_the_origin_no_longer_has_is_not_fresh(io: Io) {
    for status in ["404", "410"] {
        let origin = Origin::start(move |request, reply| match request.index {
            0 => reply.answer("200 OK", "Cache-Control: max-age=3600\r\nETag: \"a\"\r\n", b"kept"),
            _ => reply.answer(&format!("{status} Gone"), "", b"gone"),
        });
        let server = launch(io, &origin).start();
        server.get("/a.idx").expect(200, b"kept");
        server.expect_cached("a.idx", b"kept");
        server.get("/a.idx").expect(200, b"kept");
        let asked = server.ask("GET", "/a.idx", "Cache-Control: no-cache\r\n");
        assert_eq!(asked.status.to_string(), status);
        assert_eq!(server.get("/a.idx").status.to_string(), status);
        server.expect_cached("a.idx", b"kept");
    }
}

fn stale_if_error_serves_a_head_too(io: Io) {
    for failure in ["503", "429", "closed"] {
        let (_origin, server) = failing(io, "ETag: \"a\"\r\n", failure, &["--stale-if-error", "forever"]);
        assert_eq!(server.ask("HEAD", "/a.idx", "").status, 200, "{failure}");
    }
}

fn stale_if_error_ends_after_its_time(io: Io) {
    // Received with an age, it has been stale for far longer than that.
    let fields = "ETag: \"a\"\r\nAge: 10000\r\nCache-Control: max-age=60\r\n";
    let (_origin, server) = failing(io, fields, "503", &["--stale-if-error", "3600"]);
    assert_eq!(server.get("/a.idx").status, 503);
    let (_origin, server) = failing(io, fields, "503", &["--stale-if-error", "20000"]);
    server.get("/a.idx").expect(200, b"kept");
}

fn stale_if_error_never_serves_must_revalidate(io: Io) {
    let fields = "ETag: \"a\"\r\nCache-Control: max-age=0, must-revalidate\r\n";
    let (_origin, server) = failing(io, fields, "503", &["--stale-if-error", "forever"]);
    assert_eq!(server.get("/a.idx").status, 503);
}

fn the_answer_itself_may_allow_stale_if_error(io: Io) {
    let fields = "ETag: \"a\"\r\nCache-Control: max-age=0, stale-if-error=3600\r\n";
    let (_origin, server) = failing(io, fields, "503", &[]);
    server.get("/a.idx").expect(200, b"kept");
}

fn offline_asks_nobody(io: Io) {
    let index = Index::start("Cache-Control: must-revalidate\r\n");
    let cache = tempfile::tempdir().unwrap();
    let server = launch(io, &index.origin).cache(cache.path()).start();
    for target in ["/a.idx", "/a.tgz"] {
        server.get(target).expect(200, &body(1));
        server.expect_cached(&target[1..], &body(1));
    }
    let asked = index.origin.count();
    drop(server);
    let server = launch(io, &index.origin).cache(cache.path()).args(["--offline"]).start();
    server.get("/a.idx").expect(200, &body(1));
    server.err.wait_for("is stored, stale: offline");
    server.get("/a.tgz").expect(200, &body(1));
    for target in ["/b.idx", "/b.tgz", "/c"] {
        assert_eq!(server.get(target).status, 504, "{target}");
    }
    assert_eq!(server.ask("POST", "/a.idx", "Content-Length: 1\r\n\r\nx").status, 504);
    assert_eq!(index.origin.count(), asked);
}

fn stale_while_revalidate_answers_first_and_checks_then(io: Io) {
    let index = Index::start("Cache-Control: max-age=0, stale-while-revalidate=3600\r\n");
    let server = launch(io, &index.origin).start();
    server.get("/a.idx").expect(200, &body(1));
    server.expect_cached("a.idx", &body(1));
    index.change();
    server.get("/a.idx").expect(200, &body(1));
    // Nobody has to ask for it.
    wait_until("the new one is there", || {
        std::fs::read(server.path("a.idx")).is_ok_and(|found| found == body(2))
    });
}

fn stale_while_revalidate_works_for_a_file_just_committed(io: Io) {
    let origin = answering("Cache-Control: max-age=0, stale-while-revalidate=3600\r\n");
    let server = launch(io, &origin).start();
    for number in 0..40 {
        let (target, file) = (format!("/{number}.idx"), server.path(&format!("{number}.idx")));
        server.get(&target);
        // The fill has its name before it has ended: no pause between the two.
        while !file.exists() {
            std::hint::spin_loop();
        }
        server.get(&target);
        wait_until("it is checked", || {
            origin.requests().iter().filter(|request| request.target == target).count() == 2
        });
    }
}

/// Requests `targets`, restarts the server, and stops the origin.
fn restarted(io: Io, fields: &'static str, targets: &[&str]) -> (Server, tempfile::TempDir) {
    let origin = answering(fields);
    let cache = tempfile::tempdir().unwrap();
    let start = || launch(io, &origin).args(["--stale-if-error", "forever"]).cache(cache.path()).start();
    let server = start();
    for target in targets {
        assert!(text(&server, target, "User-Agent: 1\r\n").starts_with(target));
    }
    let documents = cache.path().join(".fs-caching-server/documents");
    wait_until("they are on the disk", || {
        std::fs::read_dir(&documents).is_ok_and(|found| {
            let names = found.map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.as_encoded_bytes().starts_with(b"=")).count() == targets.len()
        })
    });
    drop(server);
    let server = start();
    drop(origin);
    (server, cache)
}

fn a_document_of_a_directory_survives_a_restart(io: Io) {
    let (server, _cache) = restarted(io, "X-A: 1\r\nETag: \"a\"\r\n", &["/a.idx/", "/a.idx/b.idx/"]);
    for _ in 0..2 {
        let answer = server.get("/a.idx/");
        assert!(answer.expect(200, b"/a.idx/ 0 Some(\"1\")").field("Age").is_some());
        assert_eq!(answer.all("X-A"), ["1"]);
        assert_eq!(text(&server, "/a.idx/b.idx/", ""), "/a.idx/b.idx/ 1 Some(\"1\")");
    }
    let part = server.ask("GET", "/a.idx/", "Range: bytes=1-5\r\n");
    part.expect(206, b"a.idx");
    server.ask("GET", "/a.idx/", "If-None-Match: \"a\"\r\n").expect(304, b"");
    assert_eq!(server.get("/b.idx/").status, 502);
}

fn a_document_of_one_variant_survives_a_restart(io: Io) {
    let (server, _cache) = restarted(io, "Vary: User-Agent\r\nETag: \"a\"\r\n", &["/a.idx"]);
    assert_eq!(text(&server, "/a.idx", "User-Agent: 1\r\n"), "/a.idx 0 Some(\"1\")");
    assert_eq!(server.ask("GET", "/a.idx", "User-Agent: 2\r\n").status, 502);
}

/// As two processes of one number left it that had one temporary name (two containers on one directory).
fn a_document_under_the_name_of_another_is_none(io: Io) {
    let (server, cache) = restarted(io, "ETag: \"a\"\r\n", &["/a.idx/", "/b.idx/"]);
    let documents = cache.path().join(".fs-caching-server/documents");
    std::fs::rename(documents.join("=%2Fa.idx%2F"), documents.join("=%2Fb.idx%2F")).unwrap();
    for target in ["/a.idx/", "/b.idx/"] {
        assert_eq!(server.get(target).status, 502, "{target}");
    }
}

/// Another process may be at work on the same directory, with the same number.
fn a_start_does_not_remove_files_that_another_process_writes(io: Io) {
    let origin = answering("ETag: \"a\"\r\n");
    let cache = tempfile::tempdir().unwrap();
    let (documents, heads) =
        (cache.path().join(".fs-caching-server/documents"), cache.path().join(".fs-caching-server/heads"));
    let mut others = Vec::new();
    for directory in [&documents, &heads] {
        std::fs::create_dir_all(directory).unwrap();
        others.extend(["new-1", "new-1-0", "new-2"].map(|name| directory.join(name)));
    }
    others.iter().for_each(|path| std::fs::write(path, b"half").unwrap());
    let server = launch(io, &origin).cache(cache.path()).start();
    server.get("/a.idx/");
    wait_until("the document is written", || documents.join("=%2Fa.idx%2F").exists());
    for path in others {
        assert_eq!(std::fs::read(&path).unwrap(), b"half", "{path:?}");
    }
}

fn a_document_that_was_checked_is_as_old_as_its_check(io: Io) {
    let origin = Origin::start(|request, reply| match request.index {
        0 => reply.answer("200 OK", "ETag: \"a\"\r\n", b"document"),
        1 => {
            assert_eq!(request.field("If-None-Match"), Some("\"a\""));
            reply.write("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nCache-Control: max-age=9999\r\n\r\n");
        }
        2 => reply.answer("200 OK", "ETag: \"b\"\r\n", b"another"),
        _ => panic!("it is fresh"),
    });
    let cache = tempfile::tempdir().unwrap();
    let start = || launch(io, &origin).cache(cache.path()).start();
    let server = start();
    for _ in 0..2 {
        server.get("/a.idx/").expect(200, b"document");
    }
    // Written in order: the last one tells that all are there.
    server.get("/b.idx/").expect(200, b"another");
    let last = cache.path().join(".fs-caching-server/documents/=%2Fb.idx%2F");
    wait_until("all is on the disk", || last.exists());
    drop(server);
    start().get("/a.idx/").expect(200, b"document");
}

fn a_document_that_is_a_file_now_is_the_file_after_a_restart(io: Io) {
    let origin = Origin::start(|request, reply| match request.index {
        0 => reply.answer("200 OK", "Vary: User-Agent\r\nETag: \"a\"\r\n", b"document"),
        _ => reply.answer("200 OK", "Cache-Control: max-age=9999\r\n", b"file"),
    });
    let cache = tempfile::tempdir().unwrap();
    let start = || launch(io, &origin).cache(cache.path()).start();
    let server = start();
    server.get("/a.idx").expect(200, b"document");
    let document = cache.path().join(".fs-caching-server/documents/=a.idx");
    wait_until("it is on the disk", || document.exists());
    server.get("/a.idx").expect(200, b"file");
    server.expect_cached("a.idx", b"file");
    wait_until("the document is gone", || !document.exists());
    drop(server);
    start().get("/a.idx").expect(200, b"file");
    assert_eq!(origin.count(), 2);
}

fn the_reserved_directory_is_not_served(io: Io) {
    let origin = answering("Cache-Control: max-age=9999\r\n");
    let server = launch(io, &origin).args(["-r", "."]).start();
    server.put(".fs-caching-server/heads/a.idx", b"not for anybody");
    for target in
        ["/.fs-caching-server/heads/a.idx", "/%2efs-caching-server/b.idx", "/.fs-caching-server/c.tgz"]
    {
        assert!(text(&server, target, "").starts_with(target), "{target}");
    }
    assert_eq!(tree(server.cache_dir()), [".fs-caching-server/heads/a.idx"]);
}

fn a_broken_new_version_leaves_the_old_one(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.index == 1 {
            reply.write("HTTP/1.1 200 OK\r\nETag: \"b\"\r\nContent-Length: 100000\r\n\r\nbroken");
            reply.reset();
        } else {
            reply.answer("200 OK", "ETag: \"a\"\r\n", b"kept");
        }
    });
    let server = launch(io, &origin).start();
    server.get("/a.idx").expect(200, b"kept");
    server.expect_cached("a.idx", b"kept");
    let broken = server.client().ask("GET", "/a.idx", "").try_response("GET");
    assert!(broken.is_none_or(|answer| !answer.whole));
    server.expect_tree(&["a.idx"]);
    server.expect_cached("a.idx", b"kept");
    server.get("/a.idx").expect(200, b"kept");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (flag, value, part) in [
        ("--revalidate", "(", "cannot use regex"),
        ("--revalidate-after", "soon", "cannot use time"),
        ("--stale-if-error", "-1", "cannot use time"),
        ("--revalidate-memory", "1X", "cannot use size"),
    ] {
        let output = run_cli(&["-U", "http://127.0.0.1:1", flag, value], &[], &[]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(part) && error.contains(flag), "{error}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn the_variables_do_what_the_flags_do() {
    let index = Index::start("");
    let failed = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let (of, count) = (Arc::clone(&failed), Arc::clone(&asked));
    let origin = Origin::start(move |_, reply| {
        count.fetch_add(1, Ordering::SeqCst);
        let status = if of.load(Ordering::SeqCst) { "503 Failed" } else { "200 OK" };
        reply.answer(status, "CDN-Cache-Control: max-age=0\r\nCache-Control: max-age=99\r\n", b"x");
    });
    let server = Launch::new(Io::Poll, &origin)
        .env("FS_CACHE_REVALIDATE", "idx")
        .env("FS_CACHE_REVALIDATE_AFTER", "heuristic")
        .env("FS_CACHE_STALE_IF_ERROR", "forever")
        .env("FS_CACHE_CDN_CACHE_CONTROL", "1")
        .start();
    server.get("/idx").expect(200, b"x");
    server.expect_cached("idx", b"x");
    failed.store(true, Ordering::SeqCst);
    server.get("/idx").expect(200, b"x");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let offline = Launch::new(Io::Poll, &index.origin).env("FS_CACHE_OFFLINE", "1").start();
    assert_eq!(offline.get("/x").status, 504);
    assert_eq!(index.origin.count(), 0);
}
