//! What hostile clients send, as tables: each gets a clear refusal or a close, nothing of it is
//! forwarded but what it means to everybody, nothing is written outside, and the server is well
//! after each. What is only ambiguous stands in `connection`, what is only a name in `names`.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::support::util::tree;
use crate::support::{Client, Io, Launch, Origin, Server, bytes, on_both, within};

on_both!(
    smuggled_heads_are_refused,
    smuggled_bodies_end_the_connection,
    odd_but_unambiguous_requests_are_accepted,
    no_encoding_of_a_path_leads_outside,
    no_value_splits_a_head_or_an_answer,
    whatever_is_too_large_is_refused,
    slow_bodies_end_in_time,
    other_protocols_and_random_bytes_are_refused,
    two_thousand_idle_connections_keep_no_client_from_service,
);

/// No answer: the connection is closed.
const CLOSE: u16 = 0;

/// A server, and all that may not change while it is attacked.
struct Site {
    origin: Origin,
    server: Server,
    outside: Vec<String>,
    cached: Vec<String>,
}

impl Site {
    fn start(io: Io, args: &[&str]) -> Self {
        let origin = Origin::start(|request, reply| {
            // A cacheable path is not found, so that nothing may be stored.
            if request.target == "/good" {
                reply.answer("200 OK", "", b"good");
            } else {
                reply.answer("404 Not Found", "", request.target.as_bytes());
            }
        });
        let server = Launch::new(io, &origin).args(args).start();
        server.put("hit.tgz", b"hit");
        fs::write(server.outside().join("secret.tgz"), b"secret").unwrap();
        let mut site = Self { origin, server, outside: Vec::new(), cached: Vec::new() };
        (site.outside, site.cached) = (site.around(), tree(site.server.cache_dir()));
        site
    }

    /// What lies beside the cache directory.
    fn around(&self) -> Vec<String> {
        let mut names = tree(self.server.outside());
        names.retain(|name| !name.starts_with("cache/"));
        names
    }

    /// The server is well, and nothing has been written. `origin` has been asked so often before.
    #[track_caller]
    fn expect_well(&self, what: &str) {
        let mut client = self.server.client();
        client.get("/hit.tgz").expect(200, b"hit").expect_keep_alive();
        client.get("/good").expect(200, b"good").expect_keep_alive();
        assert_eq!(self.around(), self.outside, "written outside: {what}");
        assert_eq!(fs::read(self.server.outside().join("secret.tgz")).unwrap(), b"secret", "{what}");
        let mut files = tree(self.server.cache_dir());
        // A directory may have been made for what was not stored then.
        files.retain(|name| !name.ends_with('/'));
        assert_eq!(files, self.cached, "written inside: {what}");
    }

    /// Sends `message` and more behind it: refused with one of `statuses`, closed, and not forwarded.
    #[track_caller]
    fn expect_refused(&self, message: &[u8], statuses: &[u16]) {
        let what = String::from_utf8_lossy(&message[..message.len().min(160)]).into_owned();
        let before = self.origin.count();
        let mut client = self.server.client();
        client.send_lossy([message, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        let status = client.try_response("GET").map_or(CLOSE, |response| response.status);
        assert!(statuses.contains(&status), "{status} for {what:?}");
        client.expect_closed();
        assert_eq!(self.origin.count(), before, "forwarded: {what:?}");
        self.expect_well(&what);
    }
}

/// Heads that hide a request or a framing.
const HEADS: &[&str] = &[
    // A coding that is `chunked` to some only.
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chun\u{212a}ed\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked chunked\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: 'chunked'\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{85}chunked\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\n\x0bTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\n\u{feff}Content-Length: 4\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\0: chunked\r\n\r\n0\r\n\r\n",
    "GET /x HTTP/1.0\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    // A length that is another number to some.
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5,\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: ,5\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\x0b\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: \u{ff15}\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5_0\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: \"5\"\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\nabcde",
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5 \0\r\n\r\nabcde",
    // A host that is another to some, or a path.
    "GET /x HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a/../b\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\\b\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a:80:80\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
    // Request lines.
    "GET /x\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x\u{a0}HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x\x0bHTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x\rHTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET /x HTTP/1.1\x0c\r\nHost: a\r\n\r\n",
    "GET /x HTTP/01.1\r\nHost: a\r\n\r\n",
    "GET /x HTTP/1.10\r\nHost: a\r\n\r\n",
    "GET /x HTTP/+1.1\r\nHost: a\r\n\r\n",
    "GET /x HTTP/1,1\r\nHost: a\r\n\r\n",
    "GET /x\r\n\r\n",
    "GET file:///etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET \\\\host\\share HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET ?x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET # HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http:// HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a b/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET: /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "\u{feff}GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x HTTP/1.1\r\nHost: a\r\n\r \nX: y\r\n\r\n",
];

fn smuggled_heads_are_refused(io: Io) {
    let site = Site::start(io, &[]);
    for head in HEADS {
        site.expect_refused(head.as_bytes(), &[400, 501, 505]);
    }
}

/// Bodies of chunks whose end is another to some.
const CHUNKS: &[&str] = &[
    "3 \r\nabc\r\n0\r\n\r\n",
    "3\r\nabc\r\n00x0\r\n\r\n",
    "0_3\r\nabc\r\n0\r\n\r\n",
    "3,\r\nabc\r\n0\r\n\r\n",
    "\u{ff13}\r\nabc\r\n0\r\n\r\n",
    "3\0\r\nabc\r\n0\r\n\r\n",
    "3\rabc\r\n0\r\n\r\n",
    "3\r\nabc\r0\r\n\r\n",
    "3\r\nabc\r\n\r\n0\r\n\r\n",
    "10000000000000003\r\nabc\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "8000000000000000\r\nabc\r\n0\r\n\r\n",
    "-0\r\n\r\n",
    ";x\r\nabc\r\n0\r\n\r\n",
    "3;x=\"\r\nabc\"\r\n0\r\n\r\n\0",
    "3;x\r\r\nabc\r\n0\r\n\r\n",
    "3;x=\0\r\nabc\r\n0\r\n\r\n",
    "3\r\nabc\r\n0\r\nX: y\n\r\n",
    "3\r\nabc\r\n0\r\nX : y\r\n\r\n",
    "3\r\nabc\r\n0\r\n X: y\r\n\r\n",
    "3\r\nabc\r\n0\r\nno colon\r\n\r\n",
    "3\r\nabc\r\n0\rX\r\n\r\n",
    "1\r\nZ\r\nQ\r\n\r\n",
];

fn smuggled_bodies_end_the_connection(io: Io) {
    let site = Site::start(io, &["--stall-timeout", "2"]);
    for body in CHUNKS {
        let head = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        site.expect_refused(format!("{head}{body}").as_bytes(), &[400, CLOSE]);
    }
}

/// Requests that a sloppy program might read otherwise: the message, and the target and body that
/// it has.
const SINGLE: &[(&str, &str, &str)] = &[
    // A field that only looks like one of framing.
    (
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer_Encoding: chunked\r\n\r\nabcde",
        "/x",
        "abcde",
    ),
    ("POST /x HTTP/1.1\r\nHost: a\r\nContent_Length: 9\r\nContent-Length: 5\r\n\r\nabcde", "/x", "abcde"),
    (
        "POST /x HTTP/1.1\r\nHost: a\r\nX: Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "/x",
        "0\r\n\r\n",
    ),
    ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTE: chunked\r\n\r\n0\r\n\r\n", "/x", "0\r\n\r\n"),
    // Fields of one connection that want to take the framing, or the host, with them.
    (
        "POST /x HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nabcde",
        "/x",
        "abcde",
    ),
    ("POST /x HTTP/1.1\r\nHost: a\r\nConnection: Host, Via\r\nContent-Length: 5\r\n\r\nabcde", "/x", "abcde"),
    (
        "POST /x HTTP/1.1\r\nHost: a\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        "/x",
        "abcde",
    ),
    (
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "/x",
        "",
    ),
    // Bodies where nobody expects one, and requests in them.
    (
        "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET /y HTTP/1.1\r\n\r",
        "/x",
        "GET /y HTTP/1.1\r\n\r",
    ),
    ("DELETE /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "/x", "abc"),
    ("OPTIONS /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "/x", "abc"),
    ("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "/x", "abc"),
    // Chunks with all that may be between them.
    (
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0003\t;a=\"b;\\\"c\"\r\nabc\r\n000\r\n\r\n",
        "/x",
        "abc",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: x\r\nHost: b\r\n\r\n",
        "/x",
        "abc",
    ),
    // Somebody else's host, in Host or in the path.
    ("GET http://localhost/x HTTP/1.1\r\nHost: a\r\n\r\n", "/x", ""),
    ("GET http://localhost:99/x HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n", "/x", ""),
    ("GET /http://elsewhere.test/x HTTP/1.1\r\nHost: a\r\n\r\n", "/http://elsewhere.test/x", ""),
    ("GET //elsewhere.test/x HTTP/1.1\r\nHost: a\r\n\r\n", "//elsewhere.test/x", ""),
    // Who is asking is for the origin to believe or not.
    ("GET /x HTTP/1.1\r\nHost: 169.254.169.254\r\nX-Forwarded-Host: b\r\n\r\n", "/x", ""),
];

fn odd_but_unambiguous_requests_are_accepted(io: Io) {
    let site = Site::start(io, &[]);
    for (message, target, body) in SINGLE {
        let before = site.origin.count();
        let mut client = site.server.client();
        client.send(message).send_lossy("GET /good HTTP/1.1\r\nHost: a\r\n\r\n");
        client.response("GET").expect(404, target.as_bytes());
        // On the same connection, if it stays, nothing is left of it.
        if let Some(next) = client.try_response("GET") {
            next.expect(200, b"good");
        }
        let seen = site.origin.requests()[before].clone();
        assert_eq!((seen.target.as_str(), String::from_utf8_lossy(&seen.body).as_ref()), (*target, *body));
        assert_eq!(seen.all("Host"), [site.origin.authority()], "{message:?}");
        let framings = seen.all("Content-Length").len() + seen.all("Transfer-Encoding").len();
        assert_eq!(framings, usize::from(!body.is_empty()), "{message:?}: {}", seen.head);
        for field in ["Upgrade", "HTTP2-Settings", "TE"] {
            assert_eq!(seen.all(field), [""; 0], "{message:?}");
        }
        let others: Vec<_> = site.origin.requests()[before + 1..].iter().map(|r| r.target.clone()).collect();
        assert!(others.iter().all(|target| target == "/good"), "{message:?}: {others:?}");
        site.expect_well(message);
    }
}

/// Ways to write `..` and `/`.
const PATHS: &[&str] = &[
    "/%2e%2e%2fsecret.tgz",
    "/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/..%2f..%2f..%2fetc/passwd",
    "/..%252fsecret.tgz",
    "/%25%32%65%25%32%65%2fsecret.tgz",
    "/..%c0%afsecret.tgz",
    "/%c0%ae%c0%ae%c0%afsecret.tgz",
    "/..%c1%9csecret.tgz",
    "/..%e0%80%afsecret.tgz",
    "/%f0%80%80%ae%f0%80%80%ae/secret.tgz",
    "/%uff0e%uff0e/secret.tgz",
    "/%u002e%u002e/secret.tgz",
    "/%ef%bc%8e%ef%bc%8e%ef%bc%8fsecret.tgz",
    "/..%00/secret.tgz",
    "/..%00secret.tgz",
    "/secret.tgz%00",
    "/..;/secret.tgz",
    "/..%3b/secret.tgz",
    "/...//secret.tgz",
    "/..././secret.tgz",
    "/..%0a/secret.tgz",
    "/..%0d/secret.tgz",
    "/..%20/secret.tgz",
    "/.%00./secret.tgz",
    "/%2e/%2e%2e/secret.tgz",
    "/hit.tgz/../../secret.tgz",
    "/hit.tgz%2f..%2f..%2fsecret.tgz",
    "/nowhere/../../secret.tgz",
    "/cache/../../secret.tgz",
    "/%5c..%5c..%5csecret.tgz",
    "/..%5c..%2fsecret.tgz",
    "/~/secret.tgz",
    "/~root/secret.tgz",
    "/$HOME/secret.tgz",
    "/`id`.tgz",
    "/|id.tgz",
    "//../secret.tgz",
    "///etc/passwd",
    "/proc/self/cwd/etc/passwd",
    "/dev/stdin",
    "/?/../secret.tgz",
    "/secret.tgz?/../../secret.tgz",
    "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "http://a/..%2fsecret.tgz",
    "http://a%2f..%2f/secret.tgz",
    "http://../secret.tgz",
];

fn no_encoding_of_a_path_leads_outside(io: Io) {
    // Every path but one is for the cache.
    let site = Site::start(io, &["-r", "^/(?!good$)"]);
    let deep = format!("/{}secret.tgz", "../".repeat(1_000));
    let long = format!("/{}secret.tgz", "%2e%2e%2f".repeat(1_000));
    for path in PATHS.iter().copied().chain([deep.as_str(), long.as_str()]) {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let mut client = site.server.client();
            let body = if method == "PUT" { "Content-Length: 4\r\n\r\nevil" } else { "\r\n" };
            client.send_lossy(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{body}"));
            let response = client.response(method);
            // Refused; or, with a name of its own or passed on, the origin's answer to that very target.
            assert!(matches!(response.status, 400 | 404 | 414 | 421), "{method} {path}: {}", response.status);
            if response.status == 404 && method != "HEAD" {
                let asked = String::from_utf8(response.body).unwrap();
                let resolved = path.replace("/./", "/");
                assert!(resolved.ends_with(&asked), "{method} {path}: {asked}");
            }
        }
        site.expect_well(path);
    }
}

fn no_value_splits_a_head_or_an_answer(io: Io) {
    let site = Site::start(io, &[]);
    let mut lines = 0;
    for path in [
        "/x%0d%0aX-Evil:%20yes",
        "/x%0d%0a%0d%0aHTTP/1.1%20200%20OK%0d%0aContent-Length:%204%0d%0a%0d%0aevil",
        "/x%0aX-Evil:%20yes",
        "/x%0dX-Evil:%20yes",
        "/x%E5%98%8A%E5%98%8DX-Evil:%20yes",
        "/x%c4%8d%c4%8aX-Evil:%20yes",
        "/x%u000aX-Evil:%20yes",
        "/x%0d%0aX-Evil:%20yes.tgz",
        "/hit.tgz?%0d%0aX-Evil:%20yes",
        "/hit.tgz%0d%0aX-Evil:%20yes",
    ] {
        for method in ["GET", "HEAD"] {
            let response = site.server.ask(method, path, "Range: bytes=0-%0d%0aX-Evil:%20yes\r\n");
            assert!(matches!(response.status, 200 | 400 | 404), "{path}: {}", response.status);
            assert_eq!(response.all("X-Evil"), [""; 0], "{path}");
            lines += 1;
        }
        site.expect_well(path);
        lines += 2;
    }
    for request in site.origin.requests() {
        assert_eq!(request.all("X-Evil"), [""; 0]);
    }
    // One line each in the log, too.
    within("all lines", || (site.server.out.all().len() >= lines).then_some(()));
    let odd = |line: &&String| !line.starts_with("127.0.0.1 - - [") || line.contains('\r');
    assert_eq!(site.server.out.all().iter().find(odd), None);
    assert_eq!(site.server.out.all().len(), lines);
}

fn whatever_is_too_large_is_refused(io: Io) {
    let site = Site::start(io, &[]);
    let huge = "x".repeat(1 << 20);
    let post = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let before = site.server.resident_kib();
    for (message, statuses) in [
        (format!("{huge} /x HTTP/1.1\r\nHost: a\r\n\r\n"), &[400, 431][..]),
        (format!("GET /{huge} HTTP/1.1\r\nHost: a\r\n\r\n"), &[414]),
        (format!("GET http://{huge}/ HTTP/1.1\r\nHost: a\r\n\r\n"), &[414]),
        (format!("GET /x {huge}\r\nHost: a\r\n\r\n"), &[400, 414, 431]),
        (format!("GET /x HTTP/1.1\r\nHost: {huge}\r\n\r\n"), &[431]),
        (format!("GET /x HTTP/1.1\r\nHost: a\r\n{huge}: y\r\n\r\n"), &[431]),
        (format!("GET /x HTTP/1.1\r\nHost: a\r\nX: {}{huge}\r\n\r\n", " ".repeat(1 << 16)), &[431]),
        (format!("GET /x HTTP/1.1\r\nHost: a\r\n{}\r\n", "X:\r\n".repeat(60_000)), &[431]),
        (format!("GET /x HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n\r\n", "a,".repeat(500_000)), &[431]),
        ("\r\n".repeat(500_000), &[400]),
        (format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", "0".repeat(100_000)), &[431]),
        (format!("{post}{}3\r\nabc\r\n0\r\n\r\n", "0".repeat(1 << 20)), &[400, CLOSE]),
        (format!("{post}3;{huge}\r\nabc\r\n0\r\n\r\n"), &[400, CLOSE]),
        (format!("{post}3\r\nabc\r\n0\r\nX: {huge}\r\n\r\n"), &[400, CLOSE]),
        (format!("{post}3\r\nabc\r\n0\r\n{}\r\n", "X: y\r\n".repeat(100_000)), &[400, CLOSE]),
    ] {
        site.expect_refused(message.as_bytes(), statuses);
    }
    let grown = site.server.resident_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
}

fn slow_bodies_end_in_time(io: Io) {
    let site = Site::start(io, &["--stall-timeout", "0.5"]);
    for begun in [
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\nabc",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nabc",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n",
        "GET /hit.tgz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n",
    ] {
        let before = site.origin.count();
        let mut client = site.server.client();
        client.send(begun);
        let response = client.response("POST");
        let hit = begun.contains("/hit.tgz");
        assert_eq!(response.status, if hit { 200 } else { 408 }, "{begun:?}");
        client.expect_closed();
        assert_eq!(site.origin.count(), before, "taken for whole: {begun:?}");
        site.expect_well(begun);
    }
}

fn other_protocols_and_random_bytes_are_refused(io: Io) {
    let site = Site::start(io, &["--head-timeout", "1"]);
    let hello = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03random bytes of a TLS client\r\n\r\n";
    for words in [
        &hello[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"EHLO mail.test\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x05\x01\x00",
        b"\0\x0e\x38\xf9\0\0\0\0\0\0",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\n\0",
        b"GET",
        b"{\"json\": true}\r\n\r\n",
    ] {
        // Some wait for more, until they have waited long enough.
        let mut client = site.server.client();
        client.send_lossy(words).half_close();
        let status = client.try_response("GET").map_or(CLOSE, |response| response.status);
        assert!(matches!(status, 400 | 408 | 505 | CLOSE), "{status} for {:?}", words.escape_ascii());
        client.expect_closed();
        site.expect_well("another protocol");
    }
    let asked = site.origin.count();
    for seed in 0..200_u64 {
        let noise = bytes(usize::try_from(1 + seed * seed % 4_000).unwrap(), seed + 1);
        let mut client = site.server.client();
        client.send_lossy(&noise);
        client.end();
        let status = client.try_response("GET").map_or(CLOSE, |response| response.status);
        assert!(matches!(status, 400 | 408 | 414 | 431 | 501 | 505 | CLOSE), "{status} for seed {seed}");
    }
    assert_eq!(site.origin.count(), asked, "noise was forwarded");
    site.expect_well("random bytes");
}

fn two_thousand_idle_connections_keep_no_client_from_service(io: Io) {
    let site = Site::start(io, &[]);
    let mut idle: Vec<Client> = (0..2_000).map(|_| site.server.client()).collect();
    // Every other one has had a request.
    for client in idle.iter_mut().step_by(2) {
        client.get("/hit.tgz").expect(200, b"hit");
    }
    thread::sleep(Duration::from_millis(1_500));
    site.expect_well("two thousand idle connections");
    for client in idle.iter_mut().skip(1).step_by(40) {
        client.get("/hit.tgz").expect(200, b"hit").expect_keep_alive();
    }
    drop(idle);
    site.expect_well("afterwards");
}
