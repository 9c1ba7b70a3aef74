//! One response, wherever it lies: in a file that still grows, in a file of either class, or in memory. Every client
//! gets the same of it for the same request.

use crate::support::{
    Client, Gate, Io, LAST_MODIFIED, Launch, Origin, Response, Server, bytes, on_both, wait_until,
};

on_both!(
    the_same_request_gets_the_same_wherever_the_response_lies,
    a_304_has_the_fields_that_its_200_has_and_none_about_the_content,
    a_file_that_nobody_knows_has_a_date,
    debug_lines_change_no_answer,
);

/// Paths of one response: followed while it is fetched, a hit, checked as a file, and checked in memory.
const GROWING: &str = "/growing.tgz";
const PLACES: [&str; 4] = [GROWING, "/hit.tgz", "/file.idx", "/memory/"];

const FIELDS: &str = "Content-Type: application/octet-stream\r\nETag: \"a\"\r\nCache-Control: max-age=9999\r\nContent-Location: /there\r\n\
                      Content-Language: en\r\nExpires: Thu, 01 Jan 2037 00:00:00 GMT\r\nVary: Accept-Encoding\r\n\
                      X-Other: 1\r\nSet-Cookie: s=1\r\n";

/// A server that has all of them, and the growing one's gate.
struct House {
    _origin: Origin,
    server: Server,
    gate: Gate,
    follower: Client,
    growing: Response,
    body: Vec<u8>,
}

impl House {
    fn start(io: Io) -> Self {
        let (gate, body) = (Gate::default(), bytes(10_000, 1));
        let (held, sent) = (gate.clone(), body.clone());
        let origin = Origin::start(move |request, reply| {
            reply.head(sent.len(), FIELDS);
            if request.target == GROWING {
                reply.write(&sent[..5_000]);
                held.wait();
                reply.write(&sent[5_000..]);
            } else {
                reply.write(&sent);
            }
        });
        let server = Launch::new(io, &origin).args(["--revalidate", r"\.idx$|/$"]).start();
        for target in &PLACES[1..] {
            server.get(target).expect(200, &body);
        }
        server.expect_cached("hit.tgz", &body);
        server.expect_cached("file.idx", &body);
        let mut follower = server.client();
        let growing = follower.ask("GET", GROWING, "").head("GET");
        Self { _origin: origin, server, gate, follower, growing, body }
    }

    fn end(mut self) {
        self.gate.open();
        self.follower.finish(&mut self.growing);
        self.growing.expect(200, &self.body);
    }
}

/// The body, or what its parts hold: without the boundary, which is another one each time.
fn parts(response: &Response) -> Vec<u8> {
    let Some((_, boundary)) = response.field("Content-Type").and_then(|kind| kind.split_once("boundary="))
    else {
        return response.body.clone();
    };
    let text: String = response.body.iter().map(|&byte| char::from(byte)).collect();
    let kind = response.field("Content-Type").unwrap();
    assert!(kind.starts_with("multipart/byteranges; "), "{kind}");
    text.replace(boundary, "B").bytes().collect()
}

fn the_same_request_gets_the_same_wherever_the_response_lies(io: Io) {
    let house = House::start(io);
    for (method, fields, status, range) in [
        ("GET", "Range: bytes=10-19", 206, Some("bytes 10-19/10000")),
        ("GET", "Range: bytes=10-19,30-39", 206, None),
        ("GET", "Range: bytes=20000-", 416, Some("bytes */10000")),
        ("GET", "If-Match: \"x\"", 412, None),
        ("GET", "If-None-Match: *", 304, None),
        ("GET", &format!("If-Modified-Since: {LAST_MODIFIED}"), 304, None),
        ("GET", &format!("Range: bytes=0-9\r\nIf-Range: {LAST_MODIFIED}"), 206, Some("bytes 0-9/10000")),
        ("HEAD", "Range: bytes=10-19", 200, None),
        ("HEAD", "If-None-Match: *", 304, None),
        ("HEAD", "If-Match: \"x\"", 412, None),
    ] {
        let answers = PLACES.map(|target| house.server.ask(method, target, &format!("{fields}\r\n")));
        for (answer, target) in answers.iter().zip(PLACES) {
            let told = (answer.status, answer.field("Content-Range"), answer.field("Accept-Ranges"));
            let accepts = matches!(status, 200 | 206).then_some("bytes");
            assert_eq!(told, (status, range, accepts), "{method} {target} {fields}");
            assert_eq!(answer.all("Content-Length"), answers[0].all("Content-Length"), "{target} {fields}");
            assert_eq!(answer.all("Date").len(), 1, "{method} {target} {fields}");
            assert_eq!(parts(answer), parts(&answers[0]), "{method} {target} {fields}");
        }
    }
    house.end();
}

fn a_304_has_the_fields_that_its_200_has_and_none_about_the_content(io: Io) {
    let house = House::start(io);
    for target in PLACES {
        let whole = house.server.client().ask("GET", target, "").head("GET");
        for method in ["GET", "HEAD"] {
            let same = house.server.ask(method, target, "If-None-Match: *\r\n");
            same.expect(304, b"").expect_keep_alive();
            // RFC 9110 section 15.4.5, and the date that guides a cache where there is no tag.
            for name in
                ["Cache-Control", "Content-Location", "ETag", "Expires", "Last-Modified", "Vary", "Via"]
            {
                assert_eq!(same.all(name), whole.all(name), "{method} {target} {name}");
            }
            assert_eq!(same.all("Date").len(), 1, "{method} {target}");
            for name in ["Content-Type", "Content-Length", "Content-Language", "Set-Cookie", "X-Other"] {
                assert_eq!(same.field(name), None, "{method} {target} {name}");
            }
        }
    }
    house.end();
}

fn a_file_that_nobody_knows_has_a_date(io: Io) {
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).args(["--revalidate", r"\.idx$", "--offline"]).start();
    server.put("a.idx", b"by hand");
    for (fields, status, body) in [
        ("", 200, &b"by hand"[..]),
        ("Range: bytes=3-\r\n", 206, b"hand"),
        ("If-None-Match: *\r\n", 304, b""),
    ] {
        let answer = server.ask("GET", "/a.idx", fields);
        assert_eq!(answer.expect(status, body).all("Date").len(), 1, "{fields}");
    }
}

fn debug_lines_change_no_answer(io: Io) {
    let heads = [false, true].map(|debug| {
        let origin = Origin::silent();
        let launch = Launch::new(io, &origin);
        let server = if debug { launch.debug() } else { launch }.start();
        server.put("x.tgz", b"a body");
        let mut client = server.client();
        let answers = (0..3).map(|_| {
            let answer = client.get("/x.tgz");
            answer.expect(200, b"a body").expect_keep_alive();
            answer.fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
        });
        let answers: Vec<_> = answers.collect();
        if debug {
            let count = |part: &str| server.err.all().iter().filter(|line| line.contains(part)).count();
            wait_until("three hits", || count("is a file (cached) - streaming to client") == 3);
            assert_eq!(count("INCOMING REQUEST - GET /x.tgz"), 3);
        }
        answers
    });
    assert_eq!(heads[0], heads[1]);
}
