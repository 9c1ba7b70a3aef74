//! What happens to header fields on their way, both ways (RFC 9110 section 7.6), how a loop ends,
//! and which fields HEAD and 304 share with GET.

use std::thread;
use std::time::Duration;

use crate::support::server::free_port;
use crate::support::{Gate, Io, Launch, Origin, Reply, Response, Server, bytes, on_both, wait_until};

on_both!(
    framing_and_routing_fields_cannot_be_removed_by_connection,
    a_hundred_fields_and_long_values_pass_both_ways,
    repeated_fields_of_a_stored_answer_are_kept_while_it_grows,
    trailers_stay_behind_and_change_nothing,
    an_expectation_that_is_not_known_is_417,
    content_codings_pass_untouched,
    interim_answers_before_a_fill_are_swallowed,
    head_of_a_growing_file_is_gets_head,
    head_of_what_is_passed_is_gets_head,
    a_304_of_a_growing_file_has_the_fields_of_its_200,
    an_age_grows_with_the_fill,
    via_names_the_version_and_the_process_in_requests_only,
    a_server_that_is_its_own_origin_answers_508,
    two_servers_in_a_circle_answer_508,
    a_chain_of_servers_works,
    a_hit_is_served_whatever_its_via,
);

fn echo() -> Origin {
    Origin::start(|_, reply| reply.answer("200 OK", "", b"body"))
}

fn framing_and_routing_fields_cannot_be_removed_by_connection(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.answer(
            "200 OK",
            "Connection: content-type, ETag, X-Hop, Content-Length, Vary, Location, date\r\n\
             Content-Type: text/plain\r\nETag: \"a\"\r\nVary: Accept\r\nX-Hop: gone\r\n",
            b"body",
        );
    });
    let server = Server::start(io, &origin);
    let fields = "Connection: host, Via, x-hop, content-length, Authorization, If-None-Match, Cookie\r\n\
                  Connection: Content-Type, Range\r\n\
                  Via: 1.0 first\r\nX-Hop: gone\r\nAuthorization: Basic dTpw\r\nIf-None-Match: \"b\"\r\n\
                  Cookie: c=d\r\nContent-Type: a/b\r\nRange: bytes=0-\r\nContent-Length: 3\r\n";
    let mut client = server.client();
    client.ask("POST", "/x", fields).send("abc");
    let response = client.response("POST");
    response.expect(200, b"body").expect_keep_alive();
    assert_eq!(response.field("X-Hop"), None);
    for (name, value) in [("Content-Type", "text/plain"), ("ETag", "\"a\""), ("Vary", "Accept")] {
        assert_eq!(response.all(name), [value]);
    }
    let seen = origin.only();
    assert_eq!(seen.all("Host"), [origin.authority()]);
    assert_eq!(seen.body, b"abc");
    assert_eq!((seen.field("X-Hop"), seen.field("Connection")), (None, None));
    for (name, value) in [
        ("Authorization", "Basic dTpw"),
        ("If-None-Match", "\"b\""),
        ("Cookie", "c=d"),
        ("Content-Type", "a/b"),
        ("Range", "bytes=0-"),
    ] {
        assert_eq!(seen.all(name), [value]);
    }
    assert!(seen.all("Via").join(", ").starts_with("1.0 first, 1.1 fs-caching-server"), "{}", seen.head);
}

fn a_hundred_fields_and_long_values_pass_both_ways(io: Io) {
    let many: String = (0..100).map(|at| format!("X-{at}: {at}\r\n")).collect();
    let long = "v".repeat(7 * 1024);
    let fields = format!("{many}X-Long: {long}\r\nX-Long: {long}2\r\n");
    let sent = fields.clone();
    let origin = Origin::start(move |_, reply| reply.answer("200 OK", &sent, b"body"));
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for (method, target) in [("GET", "/x"), ("POST", "/x"), ("GET", "/x.tgz")] {
        let extra = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        let response = client.ask(method, target, &format!("{fields}{extra}")).response(method);
        response.expect(200, b"body");
        let seen = origin.requests().pop().unwrap();
        for at in 0..100 {
            let (name, value) = (format!("X-{at}"), at.to_string());
            assert_eq!(response.all(&name), [value.as_str()]);
            // A fill says nothing that one client says.
            let passed = if target == "/x.tgz" { &[][..] } else { &[value.as_str()] };
            assert_eq!(seen.all(&name), passed);
        }
        let longer = format!("{long}2");
        assert_eq!(response.all("X-Long"), [long.as_str(), &longer]);
        let passed = if target == "/x.tgz" { &[][..] } else { &[long.as_str(), &longer] };
        assert_eq!(seen.all("X-Long"), passed);
    }
    server.expect_cached("x.tgz", b"body");
}

/// An origin that sends the head and the first half of 10,000 bytes, and the rest when the gate opens.
fn halves(extra: &'static str) -> (Origin, Gate, Vec<u8>) {
    let body = bytes(10_000, 1);
    let gate = Gate::default();
    let (held, sent) = (gate.clone(), body.clone());
    let origin = Origin::start(move |_, reply| {
        reply.head(sent.len(), extra);
        reply.write(&sent[..5_000]);
        held.wait();
        reply.write(&sent[5_000..]);
    });
    (origin, gate, body)
}

fn repeated_fields_of_a_stored_answer_are_kept_while_it_grows(io: Io) {
    let (origin, gate, body) = halves("X-A: 1\r\nLink: </a>\r\nX-A: 2\r\nLink: </b>\r\nSet-Cookie: s=1\r\n");
    let server = Server::start(io, &origin);
    let mut clients: Vec<_> = (0..2)
        .map(|_| {
            let mut client = server.client();
            let head = client.ask("GET", "/x.tgz", "").head("GET");
            assert_eq!((head.all("X-A"), head.all("Link")), (vec!["1", "2"], vec!["</a>", "</b>"]));
            (client, head)
        })
        .collect();
    // A cookie is for the one who asked.
    assert_eq!((clients[0].1.all("Set-Cookie").len(), clients[1].1.all("Set-Cookie").len()), (1, 0));
    gate.open();
    for (client, response) in &mut clients {
        client.finish(response);
        response.expect(200, &body);
    }
}

fn trailers_stay_behind_and_change_nothing(io: Io) {
    let origin = Origin::start(|_, reply: &mut Reply<'_>| {
        reply
            .write("HTTP/1.1 200 OK\r\nTrailer: X-Sum, Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n");
        reply.write("4\r\nbody\r\n0\r\nX-Sum: 1\r\nContent-Length: 99\r\nSet-Cookie: t=1\r\n\r\n");
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for target in ["/x", "/x.tgz", "/x"] {
        client.ask("GET", target, "");
        let mut response = client.head("GET");
        assert_eq!(response.field("Trailer"), None);
        client.finish(&mut response);
        response.expect(200, b"body").expect_keep_alive();
    }
    server.expect_cached("x.tgz", b"body");
    let body = "4\r\nsent\r\n0\r\nX-Sum: 1\r\nHost: other\r\nContent-Length: 99\r\n\r\n";
    client.ask("POST", "/x", "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n").send(body);
    client.response("POST").expect(200, b"body").expect_keep_alive();
    let seen = origin.requests().pop().unwrap();
    assert_eq!(seen.body, b"sent");
    for name in ["Trailer", "X-Sum", "Content-Length"] {
        assert_eq!(seen.field(name), None, "{name} went upstream");
    }
    // In step: nothing of the trailers is left to be read as a request.
    client.get("/x").expect(200, b"body");
}

fn an_expectation_that_is_not_known_is_417(io: Io) {
    let origin = echo();
    let server = Server::start(io, &origin);
    for expectation in ["200-ok", "100-continue, magic", "100-continue=yes"] {
        let mut client = server.client();
        let fields = format!("Expect: {expectation}\r\nContent-Length: 3\r\n");
        client.ask("POST", "/x", &fields).response("POST").expect(417, b"");
    }
    assert_eq!(origin.count(), 0);
    // Without a body there is nothing to wait for; the expectation does not go on.
    server.ask("GET", "/x", "Expect: 100-Continue\r\n").expect(200, b"body");
    assert_eq!(origin.only().field("Expect"), None);
}

fn content_codings_pass_untouched(io: Io) {
    let coded = bytes(5_000, 2);
    let sent = coded.clone();
    let origin = Origin::start(move |_, reply| {
        reply.answer(
            "200 OK",
            "Content-Encoding: gzip\r\nContent-Encoding: br\r\nVary: Accept-Encoding\r\n",
            &sent,
        );
    });
    let server = Server::start(io, &origin);
    for target in ["/x", "/x.css"] {
        let response = server.ask("GET", target, "Accept-Encoding: gzip;q=0.5, br\r\n");
        response.expect(200, &coded);
        assert_eq!(response.all("Content-Encoding"), ["gzip", "br"]);
        assert_eq!(response.all("Vary"), ["Accept-Encoding"]);
    }
    let seen = origin.requests();
    assert_eq!(seen[0].all("Accept-Encoding"), ["gzip;q=0.5, br"]);
    assert_eq!(seen[1].all("Accept-Encoding"), ["identity"]);
    server.expect_nothing_cached();
}

fn interim_answers_before_a_fill_are_swallowed(io: Io) {
    let origin = Origin::start(|_, reply| {
        reply.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n");
        reply.answer("200 OK", "", b"body");
    });
    let server = Server::start(io, &origin);
    let response = server.get("/x.tgz");
    response.expect(200, b"body");
    assert_eq!((response.interim.len(), response.field("Link")), (0, None));
    server.expect_cached("x.tgz", b"body");
}

/// All fields but the date.
fn fields(response: &Response) -> Vec<(String, String)> {
    response.fields.iter().filter(|(name, _)| name != "Date").cloned().collect()
}

fn head_of_a_growing_file_is_gets_head(io: Io) {
    let (origin, gate, body) = halves("Content-Type: a/b\r\nETag: \"a\"\r\nX-A: 1\r\nX-A: 2\r\n");
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let mut get = client.ask("GET", "/x.tgz", "").head("GET");
    let head = server.ask("HEAD", "/x.tgz", "");
    assert_eq!((head.status, fields(&head)), (get.status, fields(&get)));
    gate.open();
    client.finish(&mut get);
    get.expect(200, &body);
    assert_eq!(origin.count(), 1);
}

fn head_of_what_is_passed_is_gets_head(io: Io) {
    let origin = Origin::start(|request, reply| {
        reply.head(
            4,
            "Content-Type: a/b\r\nETag: W/\"a\"\r\nAge: 7\r\nX-A: 1\r\nX-A: 2\r\nCache-Control: no-cache\r\n",
        );
        if request.method == "GET" {
            reply.write("body");
        }
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let get = client.get("/x");
    get.expect(200, b"body");
    let head = client.ask("HEAD", "/x", "").response("HEAD");
    assert_eq!((head.status, fields(&head)), (get.status, fields(&get)));
    assert_eq!(head.all("Age"), ["7"]);
}

fn a_304_of_a_growing_file_has_the_fields_of_its_200(io: Io) {
    let shared = [
        ("ETag", "\"a\""),
        ("Cache-Control", "max-age=60"),
        ("Content-Location", "/y"),
        ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ];
    let (origin, gate, body) = halves(
        "ETag: \"a\"\r\nCache-Control: max-age=60\r\nContent-Location: /y\r\nX-A: 1\r\n\
         Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\nVary: Accept\r\nVary: Cookie\r\n",
    );
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let mut get = client.ask("GET", "/x.tgz", "").head("GET");
    for method in ["GET", "HEAD"] {
        for condition in ["If-None-Match: \"x\"\r\nIf-None-Match: W/\"a\"\r\n", "If-None-Match: *\r\n"] {
            let same = server.ask(method, "/x.tgz", condition);
            same.expect(304, b"").expect_keep_alive();
            for (name, value) in shared {
                assert_eq!(same.all(name), [value]);
                assert_eq!(get.all(name), [value]);
            }
            assert_eq!(same.all("Vary"), ["Accept", "Cookie"]);
            assert_eq!(same.all("Date").len(), 1);
            assert_eq!((same.field("X-A"), same.field("Content-Length")), (None, None));
        }
        server.ask(method, "/x.tgz", "If-Match: \"x\"\r\n").expect(412, b"");
        let other = "If-None-Match: \"x\"\r\nIf-Modified-Since: Sat, 16 May 2015 20:31:39 GMT\r\n";
        assert_eq!(server.client().ask(method, "/x.tgz", other).head(method).status, 200);
    }
    // Dates in all three forms.
    for date in
        ["Sat, 16 May 2015 20:31:39 GMT", "Saturday, 16-May-15 20:31:39 GMT", "Sat May 16 20:31:39 2015"]
    {
        server.ask("GET", "/x.tgz", &format!("If-Modified-Since: {date}\r\n")).expect(304, b"");
    }
    gate.open();
    client.finish(&mut get);
    get.expect(200, &body);
}

fn an_age_grows_with_the_fill(io: Io) {
    let (origin, gate, _body) = halves("Age: 10\r\n");
    let server = Server::start(io, &origin);
    let mut client = server.client();
    let mut get = client.ask("GET", "/x.tgz", "").head("GET");
    assert_eq!(get.all("Age"), ["10"]);
    thread::sleep(Duration::from_millis(1_100));
    let later = server.ask("HEAD", "/x.tgz", "");
    let age: u64 = later.field("Age").unwrap().parse().unwrap();
    assert!((11..60).contains(&age), "{age}");
    gate.open();
    client.finish(&mut get);
    // A file of our own has no age.
    wait_until("the file is there", || server.path("x.tgz").exists());
    assert_eq!(server.get("/x.tgz").field("Age"), None);
}

fn via_names_the_version_and_the_process_in_requests_only(io: Io) {
    let origin = echo();
    let servers = [Server::start(io, &origin), Server::start(io, &origin)];
    for server in &servers {
        assert_eq!(server.get("/x").all("Via"), ["1.1 fs-caching-server"]);
        let mut old = server.client();
        old.send("GET /x HTTP/1.0\r\n\r\n").response("GET").expect(200, b"body");
        server.get("/x").expect(200, b"body");
    }
    let via: Vec<_> = origin.requests().iter().map(|seen| seen.all("Via").join(", ")).collect();
    let token =
        via[0].strip_prefix("1.1 fs-caching-server (").and_then(|rest| rest.strip_suffix(')')).unwrap();
    assert!(token.len() == 16 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    assert_eq!(via[1], format!("1.0 fs-caching-server ({token})"));
    assert_eq!(via[2], via[0]);
    assert_ne!(via[3], via[0], "another process has another token");
}

/// Paths that are checked with the origin, and an index set.
const CHECKED: [&str; 6] = ["-r", r"\.tgz$", "--revalidate", r"\.idx$|/$", "--preset", "rpm"];

/// Each way to the origin ends with 508, at once and without a descriptor lost.
#[track_caller]
fn expect_loop(server: &Server) {
    let (before, mut client) = (server.descriptors(), server.client());
    for round in 0..20 {
        for (method, target, extra) in [
            ("GET", format!("/{round}.tgz"), ""),
            ("GET", "/same.tgz".to_owned(), "Range: bytes=5-\r\n"),
            ("HEAD", "/same.tgz".to_owned(), ""),
            ("GET", "/x".to_owned(), ""),
            ("HEAD", "/x".to_owned(), ""),
            ("GET", format!("/{round}.idx"), ""),
            ("HEAD", "/same.idx".to_owned(), ""),
            ("GET", "/same.idx?q".to_owned(), ""),
            ("GET", "/repodata/repomd.xml".to_owned(), ""),
            ("HEAD", "/repodata/repomd.xml".to_owned(), ""),
            ("GET", "/d/".to_owned(), ""),
            ("POST", "/x".to_owned(), "Content-Length: 0\r\n"),
            ("OPTIONS", "*".to_owned(), ""),
        ] {
            let response = client.ask(method, &target, extra).response(method);
            assert_eq!(response.status, 508, "{method} {target}: {:?}", response.fields);
            assert!(method == "HEAD" || response.body.starts_with(b"508 Loop Detected: "));
        }
        // The answer may overtake the body; then the connection ends with it.
        let mut other = server.client();
        other.ask("POST", "/x", "Content-Length: 3\r\n").send("abc");
        assert_eq!(other.response("POST").status, 508);
    }
    server.expect_nothing_cached();
    // What is left are idle connections of the pool: one for each request with a body, both its ends.
    let after = server.descriptors();
    assert!(after < before + 80, "{before} descriptors before, {after} after");
}

fn a_server_that_is_its_own_origin_answers_508(io: Io) {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let server = Launch::at(io, &url).port(port).args(CHECKED).args(["--workers", "2"]).debug().start();
    expect_loop(&server);
    server.err.wait_for("error with proxy request server: request loop");
}

fn two_servers_in_a_circle_answer_508(io: Io) {
    let (one, two) = (free_port(), free_port());
    let start = |port: u16, origin: u16| {
        let url = format!("http://127.0.0.1:{origin}");
        Launch::at(io, &url).port(port).args(CHECKED).args(["--workers", "1"]).start()
    };
    let servers = [start(one, two), start(two, one)];
    servers.iter().for_each(expect_loop);
}

fn a_chain_of_servers_works(io: Io) {
    let body = bytes(300_000, 3);
    let origin = Origin::fixed(&body);
    let mut chain = vec![Server::start(io, &origin)];
    for _ in 0..3 {
        let url = format!("http://{}", chain.last().unwrap().addr());
        chain.push(Launch::at(io, &url).args(["--workers", "1"]).start());
    }
    let last = chain.last().unwrap();
    last.get("/x.tgz").expect(200, &body);
    last.get("/x").expect(200, &body);
    for server in &chain {
        server.expect_cached("x.tgz", &body);
    }
    let via = origin.requests().pop().unwrap().all("Via").join(", ");
    assert_eq!(via.matches("1.1 fs-caching-server (").count(), 4, "{via}");
}

fn a_hit_is_served_whatever_its_via(io: Io) {
    let origin = echo();
    let server = Launch::new(io, &origin).args(CHECKED).start();
    server.put("x.tgz", b"kept");
    server.get("/x").expect(200, b"body");
    let ours = format!("Via: {}\r\n", origin.only().field("Via").unwrap());
    server.ask("GET", "/x.tgz", &ours).expect(200, b"kept");
    assert_eq!(server.ask("GET", "/y.tgz", &ours).status, 508);
    // Somebody on the way removes comments: too many are a loop all the same.
    let stripped = |count: usize| format!("Via: {}\r\n", vec!["1.1 fs-caching-server"; count].join(", "));
    server.ask("GET", "/x", &stripped(16)).expect(200, b"body");
    assert_eq!(server.ask("GET", "/x", &stripped(17)).status, 508);
    assert_eq!(origin.count(), 2);
    // In the class that is checked likewise.
    server.ask("GET", "/x.idx", &stripped(16)).expect(200, b"body");
    for target in ["/x.idx", "/y.idx", "/d/", "/repodata/repomd.xml"] {
        for method in ["GET", "HEAD"] {
            assert_eq!(server.ask(method, target, &stripped(17)).status, 508, "{method} {target}");
        }
    }
    assert_eq!(origin.count(), 3);
    let fresh = Origin::start(|_, reply| reply.answer("200 OK", "Cache-Control: max-age=600\r\n", b"kept"));
    let server = Launch::new(io, &fresh).args(CHECKED).start();
    server.get("/x.idx").expect(200, b"kept");
    server.expect_cached("x.idx", b"kept");
    server.ask("GET", "/x.idx", &stripped(17)).expect(200, b"kept");
    assert_eq!(fresh.count(), 1);
}
