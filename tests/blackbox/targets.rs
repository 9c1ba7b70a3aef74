//! The meaning of request targets: paths above the root, several forms of one file, two resources with similar names, and
//! targets in absolute form for other sites.

use std::fs;

use crate::support::origin::Request;
use crate::support::{Gate, Io, Launch, Origin, Reply, Server, on_both, wait_until};

on_both!(
    a_path_above_the_prefix_of_the_url_is_not_requested,
    dot_segments_that_stay_inside_are_resolved_for_the_origin_too,
    every_form_of_a_files_name_is_asked_for_in_one_form,
    an_encoded_slash_of_another_resource_is_passed_unchanged,
    an_encoded_slash_in_the_revalidated_class_is_passed_unchanged,
    a_head_request_in_another_form_says_nothing_about_the_file,
    a_head_request_with_a_reserved_character_encoded_says_nothing_about_the_file,
    an_unsafe_request_with_dot_segments_invalidates_its_target,
    an_encoded_question_mark_is_no_query_of_a_stored_response,
    an_encoded_question_mark_joins_no_fetch_of_a_query,
    an_encoded_question_mark_is_no_query_after_a_restart,
    a_kept_404_of_one_form_is_no_answer_to_the_other,
    a_request_for_another_host_is_421_and_leaves_nothing,
    a_request_for_the_origins_host_or_ours_is_served,
);

/// Every way that some server takes for one out of the root.
const CLIMBERS: &[&str] = &[
    "/../x.tgz",
    "/%2e%2e/x.tgz",
    "/.%2E/x.tgz",
    "/..%2fx.tgz",
    "/%2E%2e%2Fx.tgz",
    "/a/../../x.tgz",
    "/a/%2e%2e/../x.tgz",
    "/a%2f..%2f..%2fx.tgz",
    "//../x.tgz",
    "/a//../../x.tgz",
    "/./../x.tgz",
    "/..",
    "/a/../..",
    "/../",
    "/..;x/x.tgz",
    "/a/..;x/..;y/x.tgz",
    "/..%3bx/x.tgz",
    "/..\\x.tgz",
    "/%2e%2e%5Cx.tgz",
    "/a\\..\\..\\x.tgz",
    "/a/..\\../x.tgz",
    "/../x.tgz?q",
    "http://localhost/../x.tgz",
    "http://localhost/a/%2e%2e/%2e%2e/x.tgz",
];

fn a_path_above_the_prefix_of_the_url_is_not_requested(io: Io) {
    let origin = Origin::fixed(b"beyond the prefix");
    let url = format!("http://user:secret@{}/repo", origin.authority());
    for args in [&["-r", "."][..], &["-r", "^$"], &["-r", "^$", "--revalidate", "."]] {
        let server = Launch::at(io, &url).args(args).debug().start();
        for target in CLIMBERS {
            for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST"] {
                let answer = server.ask(method, target, "");
                assert_eq!((answer.status, answer.body.len()), (400, 0), "{method} {target}");
            }
        }
        server.err.wait_for("failed to parse pathname - sending 400 to client - path climbs above the root");
        server.expect_nothing_cached();
    }
    let asked: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(asked, [""; 0]);
}

/// Answers with the target.
fn echo() -> Origin {
    Origin::start(|request, reply| reply.serve(request, request.target.as_bytes()))
}

fn dot_segments_that_stay_inside_are_resolved_for_the_origin_too(io: Io) {
    for (target, upstream) in [
        ("/a/../b", "/b"),
        ("/a/%2e%2e/b%20c?x=/../y", "/b%20c?x=/../y"),
        ("/a/./%2E/b", "/a/b"),
        ("/a%2f..%2Fb%41", "/b%41"),
        ("/a/..", "/"),
        ("/a/b/../", "/a/"),
        ("/a//.//b", "/a/b"),
        ("http://localhost/a/../b?q", "/b?q"),
        // Without dot segments: as it came.
        ("/a//b%2fc/", "/a//b%2fc/"),
        ("/...//.a/%2e%2e%2e", "/...//.a/%2e%2e%2e"),
    ] {
        for (args, method) in [
            (&["-r", "^$"][..], "GET"),
            (&["-r", "^$"], "POST"),
            (&["-r", "^$", "--revalidate", "/$"], "GET"),
        ] {
            let origin = echo();
            let server = Launch::at(io, &format!("{}/repo", origin.url())).args(args).start();
            let answer = server.ask(method, target, "");
            answer.expect(200, format!("/repo{upstream}").as_bytes());
            assert_eq!(origin.only().target, format!("/repo{upstream}"), "{method} {target}");
        }
    }
}

fn every_form_of_a_files_name_is_asked_for_in_one_form(io: Io) {
    let forms = [
        "/a/b.tgz",
        "//a/b.tgz",
        "/a//b.tgz",
        "/a%2fb.tgz",
        "/a/./b.tgz",
        "/x/../a%2F/b.tgz",
        "/a/%2e//b.tgz",
    ];
    for class in ["-r", "--revalidate"] {
        for first in forms {
            let origin = Origin::start(|request, reply| {
                reply.answer("200 OK", "Cache-Control: max-age=600\r\n", request.target.as_bytes());
            });
            let server = Launch::new(io, &origin).args([class, r"\.tgz$"]).start();
            for target in [first].iter().chain(&forms) {
                server.get(target).expect(200, b"/a/b.tgz");
                server.expect_cached("a/b.tgz", b"/a/b.tgz");
            }
            assert_eq!(origin.only().target, "/a/b.tgz", "{class} {first}");
        }
    }
}

/// Knows one resource, by a name with an encoded slash or two slashes in it, that is none in any other form.
fn picky(request: &Request, reply: &mut Reply<'_>) {
    match &*request.target {
        "/group%2Fproject/x.tgz" | "/group//project/x.tgz" => reply.serve(request, request.target.as_bytes()),
        _ => reply.answer("404 Not Found", "Cache-Control: max-age=600\r\n", b"no such project"),
    }
}

fn an_encoded_slash_of_another_resource_is_passed_unchanged(io: Io) {
    for own in ["/group%2Fproject/x.tgz", "/group//project/x.tgz"] {
        let origin = Origin::start(picky);
        let server = Launch::new(io, &origin).args(["--cache-status"]).debug().start();
        for _ in 0..2 {
            let answer = server.get(own);
            answer.expect(200, own.as_bytes());
            let told = answer.field("Cache-Status").unwrap();
            assert!(told.contains("no file in the plain form of the path"), "{told}");
        }
        server.get("/group/project/x.tgz").expect(404, b"no such project");
        server.err.wait_for("not cached - no file in the plain form of the path");
        server.expect_nothing_cached();
        let asked: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
        let plain = "/group/project/x.tgz";
        assert_eq!(asked, [plain, own, plain, own, plain]);
    }
}

fn an_encoded_slash_in_the_revalidated_class_is_passed_unchanged(io: Io) {
    let origin = Origin::start(picky);
    let server = Launch::new(io, &origin).args(["--revalidate", r"\.tgz$"]).start();
    for _ in 0..2 {
        server.get("/group/project/x.tgz").expect(404, b"no such project");
        for own in ["/group%2Fproject/x.tgz", "/group//project/x.tgz"] {
            server.get(own).expect(200, own.as_bytes());
        }
    }
    server.expect_nothing_cached();
}

fn a_head_request_in_another_form_says_nothing_about_the_file(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.target == "/a/b.idx" {
            reply.answer("200 OK", "ETag: \"file\"\r\nCache-Control: max-age=600\r\n", b"body");
        } else {
            reply.write("HTTP/1.1 200 OK\r\nETag: \"file\"\r\nContent-Length: 4\r\nX-Other: 1\r\n\r\n");
        }
    });
    let server = Launch::new(io, &origin).args(["--revalidate", r"\.idx$"]).start();
    server.get("/a/b.idx").expect(200, b"body");
    server.expect_cached("a/b.idx", b"body");
    let no_cache = "Cache-Control: no-cache\r\n";
    assert_eq!(server.ask("HEAD", "/a%2fb.idx", no_cache).field("X-Other"), Some("1"));
    let kept = server.get("/a/b.idx");
    kept.expect(200, b"body");
    assert_eq!((kept.field("ETag"), kept.field("X-Other")), (Some("\"file\""), None));
}

fn a_head_request_with_a_reserved_character_encoded_says_nothing_about_the_file(io: Io) {
    // One file here, and two resources at some origins (RFC 3986 section 2.2).
    for (raw, encoded) in [
        ("/s;v=1/x.idx", "/s%3Bv=1/x.idx"),
        ("/a+b.idx", "/a%2bb.idx"),
        ("/@s/x.idx", "/%40s/x.idx"),
        ("/e=1.idx", "/e%3d1.idx"),
        ("/a!b.idx", "/a%21b.idx"),
        ("/p\\x.idx", "/p%5Cx.idx"),
        ("/a:b,c.idx", "/a%3ab%2Cc.idx"),
    ] {
        let name = &raw[1..];
        for (file, other) in [(raw, encoded), (encoded, raw)] {
            let origin = Origin::start(|request, reply| {
                let life = if request.method == "GET" { 0 } else { 600 };
                let fields = format!("X-From: {}\r\nCache-Control: max-age={life}\r\n", request.index);
                if request.method == "GET" {
                    reply.answer("200 OK", &format!("{fields}ETag: \"1\"\r\n"), b"body");
                } else {
                    reply.write(format!(
                        "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 4\r\n{fields}\r\n"
                    ));
                }
            });
            let server = Launch::new(io, &origin).args(["--revalidate", r"\.idx$"]).start();
            server.get(file).expect(200, b"body");
            server.expect_cached(name, b"body");
            assert_eq!(server.ask("HEAD", other, "").field("X-From"), Some("1"), "{other}");
            let kept = server.get(file);
            kept.expect(200, b"body");
            assert_eq!((kept.field("X-From"), origin.count()), (Some("2"), 3), "{file} after HEAD {other}");
            let asked: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
            assert_eq!(asked, [file, other, file], "each goes as it came");
        }
    }
}

fn an_unsafe_request_with_dot_segments_invalidates_its_target(io: Io) {
    let origin = Origin::start(|request, reply| {
        let body = format!("{} {}", request.target, request.index);
        reply.answer("200 OK", "Cache-Control: max-age=600\r\n", body.as_bytes());
    });
    let server = Launch::new(io, &origin).args(["--revalidate", r"\.idx$|/$"]).start();
    for (kept, unsafe_form, asked) in
        [("/a/b.idx", "/a/x/../b.idx", "/a/b.idx"), ("/d/", "/d/x/%2e%2e/", "/d/")]
    {
        let first = server.get(kept).body;
        server.get(kept).expect(200, &first);
        server.ask("PUT", unsafe_form, "Content-Length: 0\r\n");
        assert_eq!(origin.requests().pop().unwrap().target, asked);
        assert_ne!(server.get(kept).body, first, "{kept} was not checked after {unsafe_form}");
    }
}

/// Two resources that one joined string would hold for one.
const TWINS: [&str; 2] = ["/x%3Fq=1/", "/x?q=1/"];

fn keeping(io: Io, origin: &Origin) -> Launch {
    Launch::new(io, origin).args(["--revalidate", "^/x"])
}

fn kept_echo() -> Origin {
    Origin::start(|request, reply| {
        reply.answer("200 OK", "Cache-Control: max-age=600\r\n", request.target.as_bytes());
    })
}

fn an_encoded_question_mark_is_no_query_of_a_stored_response(io: Io) {
    for order in [[0, 1], [1, 0]] {
        let origin = kept_echo();
        let server = keeping(io, &origin).start();
        for _ in 0..2 {
            for at in order {
                server.get(TWINS[at]).expect(200, TWINS[at].as_bytes());
            }
        }
        assert_eq!(origin.count(), 2);
    }
}

fn an_encoded_question_mark_joins_no_fetch_of_a_query(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        held.wait();
        reply.answer("200 OK", "Cache-Control: max-age=600\r\n", request.target.as_bytes());
    });
    let server = keeping(io, &origin).start();
    let mut clients = TWINS.map(|_| server.client());
    for (client, target) in clients.iter_mut().zip(TWINS) {
        client.ask("GET", target, "");
    }
    wait_until("both are asked for", || origin.count() == 2);
    gate.open();
    for (client, target) in clients.iter_mut().zip(TWINS) {
        client.response("GET").expect(200, target.as_bytes());
    }
}

fn an_encoded_question_mark_is_no_query_after_a_restart(io: Io) {
    let origin = kept_echo();
    let cache = tempfile::tempdir().unwrap();
    let targets = ["/x%3Fq=1/", "/x/@s/name/", "/x/@s%2fname/", "/x/a%252fb/", "/x/a%2fb/"];
    let mut server = keeping(io, &origin).cache(cache.path()).start();
    for target in targets {
        server.get(target).expect(200, target.as_bytes());
    }
    let documents = cache.path().join(".fs-caching-server/documents");
    wait_until("all are written", || {
        fs::read_dir(&documents).is_ok_and(|found| {
            let names = found.map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.as_encoded_bytes().starts_with(b"=")).count() == targets.len()
        })
    });
    server.signal(libc::SIGTERM);
    server.wait();
    let server = keeping(io, &origin).cache(cache.path()).start();
    for target in ["/x?q=1/"].iter().chain(&targets) {
        server.get(target).expect(200, target.as_bytes());
    }
    assert_eq!(origin.count(), targets.len() + 1);
}

fn a_kept_404_of_one_form_is_no_answer_to_the_other(io: Io) {
    let kept = "Cache-Control: max-age=600\r\n";
    let origin = Origin::start(move |request, reply| match &*request.target {
        "/@s%2fname" => reply.answer("200 OK", kept, b"the package"),
        _ => reply.answer("404 Not Found", kept, b"none"),
    });
    for order in [["/@s/name", "/@s%2fname"], ["/@s%2fname", "/@s/name"]] {
        let server = Launch::new(io, &origin).args(["--preset", "npm"]).start();
        for _ in 0..2 {
            for target in order {
                let (status, body) =
                    if target.contains('%') { (200, &b"the package"[..]) } else { (404, &b"none"[..]) };
                server.get(target).expect(status, body);
            }
        }
    }
}

fn a_request_for_another_host_is_421_and_leaves_nothing(io: Io) {
    let origin = echo();
    let url = format!("http://user:secret@{}/repo", origin.authority());
    for args in [&["-r", "."][..], &["-r", "\\.tgz$", "--revalidate", "^/x"]] {
        let server = Launch::at(io, &url).args(args).debug().start();
        server.put("hit.tgz", b"hit");
        for authority in [
            "elsewhere.test",
            "elsewhere.test:81",
            "127.0.0.1.elsewhere.test",
            "localhost.elsewhere.test",
            "elsewhere.test.",
            "192.0.2.1",
            "[2001:db8::1]:80",
        ] {
            for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
                for path in ["/x.tgz", "/hit.tgz", "?q", ""] {
                    let answer = server.ask(method, &format!("http://{authority}{path}"), "");
                    assert_eq!(answer.status, 421, "{method} {authority}{path}");
                    let lines = answer.body.iter().filter(|&&byte| byte == b'\n').count();
                    assert_eq!(lines, usize::from(method != "HEAD"), "one line of text");
                }
            }
        }
        server.err.wait_for("request for another host");
        // The connection stays, and in step.
        let mut client = server.client();
        client.get("HTTP://Elsewhere.test/hit.tgz").expect_keep_alive();
        client.get("/hit.tgz").expect(200, b"hit");
        let mut posting = server.client();
        posting.send(
            "POST http://elsewhere.test/x HTTP/1.1\r\nHost: elsewhere.test\r\nContent-Length: 4\r\n\r\nbody",
        );
        assert_eq!(posting.response("POST").status, 421);
        posting.expect_closed();
        server.expect_tree(&["hit.tgz"]);
    }
    assert_eq!(origin.requests().iter().filter(|request| request.target != "/repo/hit.tgz").count(), 0);
}

fn a_request_for_the_origins_host_or_ours_is_served(io: Io) {
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let machine = machine.trim();
    let origin = echo();
    let url = format!("http://localhost:{}", origin.port());
    let server = Launch::at(io, &url).start();
    server.put("hit.tgz", b"hit");
    let mut client = server.client();
    for authority in [
        "localhost",
        "LOCALHOST:81",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:9",
        "127.9.9.9",
        "[::1]",
        "[::ffff:127.0.0.1]:8080",
        machine,
        &machine.to_uppercase(),
        &format!("{machine}.:8080"),
    ] {
        client.get(&format!("http://{authority}/hit.tgz")).expect(200, b"hit").expect_keep_alive();
        client.get(&format!("https://{authority}/x?q")).expect(200, b"/x?q").expect_keep_alive();
    }
    // A name that only the operator has told.
    let by_name = Launch::new(io, &origin).args(["-U", "http://No-Such-Host.invalid.:9"]).start();
    by_name.put("hit.tgz", b"hit");
    for authority in ["no-such-host.invalid", "NO-SUCH-HOST.INVALID.:80"] {
        by_name.get(&format!("http://{authority}/hit.tgz")).expect(200, b"hit");
    }
    let listening = Server::start(io, &origin);
    assert_eq!(listening.get("http://no-such-host.invalid/hit.tgz").status, 421);
}
