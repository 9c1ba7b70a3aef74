//! Ranges (RFC 9110 section 14): several in one request, from growing files with or without a known length, far ahead of
//! a fill, and hostile ones.

use crate::support::client::find;
use crate::support::util::chunked;
use crate::support::{
    Gate, Io, LAST_MODIFIED, Launch, Origin, Response, Server, assert_bytes, bytes, on_both, wait_until,
};

on_both!(
    several_ranges_of_a_hit_are_sent_in_the_order_of_the_request,
    if_range_and_conditions_guard_several_ranges_too,
    boundaries_differ_from_answer_to_answer,
    floods_of_ranges_get_the_whole_file,
    ranges_outside_are_left_out_and_none_left_is_416,
    huge_numbers_in_ranges_are_numbers,
    several_range_lines_get_the_whole_file,
    several_ranges_of_a_growing_file_are_sent_as_its_bytes_arrive,
    several_ranges_on_a_miss_are_parts_and_the_whole_is_stored,
    a_range_with_both_ends_needs_no_length,
    a_range_beyond_the_bytes_received_waits_when_the_length_is_unknown,
    ranges_that_need_an_unknown_length_get_the_whole_file,
    a_range_beyond_a_body_of_unknown_length_is_416_at_its_end,
    a_partial_response_has_no_digest_of_the_whole_content,
    a_range_far_ahead_of_a_slow_fill_comes_from_the_origin,
    a_range_that_starts_the_fill_may_be_far_ahead_of_it,
    a_range_near_the_fill_asks_the_origin_for_nothing,
    a_far_range_of_another_file_waits_for_the_fill,
    a_far_range_of_a_file_without_a_strong_validator_waits_for_the_fill,
    a_fill_that_arrives_first_answers_a_far_range,
    a_far_range_that_breaks_is_a_broken_transfer_and_the_file_is_whole,
    far_ranges_beside_one_fill_are_bounded,
    multipart_parts_begin_with_a_line_end_from_file_and_memory,
    a_length_that_no_file_can_have_is_refused_before_its_parts_are_counted,
    parts_of_the_longest_file_there_can_be_are_counted_right,
);

/// A server with one finished file `x.tgz`.
fn with_file(io: Io, size: usize) -> (Origin, Server, Vec<u8>) {
    let origin = Origin::silent();
    let server = Server::start(io, &origin);
    let body = bytes(size, 1);
    server.put("x.tgz", &body);
    (origin, server, body)
}

fn range(set: &str) -> String {
    format!("Range: bytes={set}\r\n")
}

/// Content-Range and bytes of each part of a multipart/byteranges answer, read strictly.
#[track_caller]
fn parts(response: &Response) -> Vec<(String, Vec<u8>)> {
    assert_eq!(response.status, 206, "{:?}", response.fields);
    assert!(response.whole, "a broken transfer");
    assert_eq!(response.all("Content-Range"), [""; 0], "no range for all of it");
    assert_eq!(response.all("Content-Type").len(), 1, "{:?}", response.fields);
    let boundary =
        response.field("Content-Type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let (opening, next) = (format!("\r\n--{boundary}\r\n"), format!("\r\n--{boundary}"));
    let mut rest = response.body.strip_prefix(opening.as_bytes()).expect("the first boundary");
    let mut parts = Vec::new();
    loop {
        let head_end = find(rest, b"\r\n\r\n").expect("the end of a part's head");
        let head = std::str::from_utf8(&rest[..head_end]).unwrap();
        let field =
            |name: &str| head.split("\r\n").find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        assert_eq!(field("Content-Type: ").as_deref(), Some("application/octet-stream"), "{head}");
        rest = &rest[head_end + 4..];
        let end = find(rest, next.as_bytes()).expect("the boundary after a part");
        parts.push((field("Content-Range: ").expect("a range"), rest[..end].to_vec()));
        rest = &rest[end + next.len()..];
        if rest == b"--\r\n" {
            return parts;
        }
        rest = rest.strip_prefix(b"\r\n").expect("the end of a boundary line");
    }
}

/// The answer has exactly these parts of `body`, each from its first to its last byte.
#[track_caller]
fn expect_parts(response: &Response, body: &[u8], due: &[(usize, usize)]) {
    let found = parts(response);
    let told: Vec<_> =
        due.iter().map(|(first, last)| format!("bytes {first}-{last}/{}", body.len())).collect();
    assert_eq!(found.iter().map(|(range, _)| range.clone()).collect::<Vec<_>>(), told);
    for ((range, part), (first, last)) in found.iter().zip(due) {
        assert_bytes(part, &body[*first..=*last], range);
    }
}

fn several_ranges_of_a_hit_are_sent_in_the_order_of_the_request(io: Io) {
    // Longer than what is kept in memory, and longer than a slice of the loop.
    for size in [10_000, 3_000_000] {
        let (origin, server, body) = with_file(io, size);
        let plain = server.get("/x.tgz");
        let mut client = server.client();
        for (set, due) in [
            ("0-0,9999-9999", &[(0, 0), (9_999, 9_999)][..]),
            ("5000-5999,0-99", &[(5_000, 5_999), (0, 99)]),
            ("-1,0-0,100-199", &[(size - 1, size - 1), (0, 0), (100, 199)]),
            ("0-99,50-149,9000-9009", &[(0, 149), (9_000, 9_009)]),
            ("7000-,1-1", &[(7_000, size - 1), (1, 1)]),
        ] {
            let response = client.ask("GET", "/x.tgz", &range(set)).response("GET");
            expect_parts(&response, &body, due);
            response.expect_keep_alive();
            for name in ["ETag", "Last-Modified", "Accept-Ranges"] {
                assert_eq!(response.all(name), plain.all(name), "{name}");
            }
        }
        // The connection is in step, and HEAD knows no ranges.
        let head = client.ask("HEAD", "/x.tgz", &range("0-0,2-2")).response("HEAD");
        assert_eq!((head.status, head.field("Content-Length")), (200, Some(size.to_string().as_str())));
        client.get("/x.tgz").expect(200, &body);
        server.out.wait_for("\" 206 ");
        assert_eq!(origin.count(), 0);
    }
}

fn if_range_and_conditions_guard_several_ranges_too(io: Io) {
    let (_origin, server, body) = with_file(io, 10_000);
    let plain = server.get("/x.tgz");
    let (tag, date) = (plain.field("ETag").unwrap(), plain.field("Last-Modified").unwrap());
    let ask = |extra: String| server.ask("GET", "/x.tgz", &format!("{}{extra}\r\n", range("0-0,2-2")));
    for validator in [tag, date] {
        expect_parts(&ask(format!("If-Range: {validator}")), &body, &[(0, 0), (2, 2)]);
    }
    for other in ["\"other\"".to_owned(), format!("W/{tag}"), LAST_MODIFIED.to_owned()] {
        ask(format!("If-Range: {other}")).expect(200, &body);
    }
    // A condition is looked at before the range.
    ask(format!("If-None-Match: {tag}")).expect(304, b"");
    ask("If-Match: \"other\"".to_owned()).expect(412, b"");
}

fn boundaries_differ_from_answer_to_answer(io: Io) {
    let (_origin, server, _body) = with_file(io, 100);
    let mut client = server.client();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let response = client.ask("GET", "/x.tgz", &range("0-0,2-2")).response("GET");
        let kind = response.field("Content-Type").unwrap().to_owned();
        let boundary = kind.split_once("boundary=").unwrap().1;
        assert!(boundary.len() >= 32 && boundary.len() <= 70, "{boundary}");
        assert!(boundary.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{boundary}");
        seen.insert(kind);
    }
    assert_eq!(seen.len(), 20);
}

fn floods_of_ranges_get_the_whole_file(io: Io) {
    let (_origin, server, body) = with_file(io, 100_000);
    let mut client = server.client();
    let list =
        |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(",");
    for set in [
        list(1_000, &|at| format!("{at}-")),
        list(1_000, &|at| format!("{}-", 1_000 - at)),
        list(1_000, &|_| "0-99999".to_owned()),
        list(1_000, &|at| format!("{}-{}", at % 7, 50_000 + at % 11)),
        list(1_000, &|at| format!("{}-{}", at * 10, at * 10)),
        list(5_000, &|_| "0-0".to_owned()),
        list(100, &|at| format!("{}-{}", 100 - at, 200 - at)),
        format!("5-0,{}", list(1_300, &|at| format!("5-{at}"))),
    ] {
        let response = client.ask("GET", "/x.tgz", &range(&set)).response("GET");
        response.expect(200, &body).expect_keep_alive();
        assert_eq!(response.field("Content-Range"), None);
    }
    // Dozens of parts are a fair question.
    let response =
        client.ask("GET", "/x.tgz", &range(&list(100, &|at| format!("{0}-{0}", at * 900)))).response("GET");
    expect_parts(&response, &body, &(0..100).map(|at| (at * 900, at * 900)).collect::<Vec<_>>());
    // A head beyond its limit is no range.
    let refused = client.ask("GET", "/x.tgz", &range(&list(20_000, &|_| "0-0".to_owned()))).response("GET");
    assert_eq!(refused.status, 431);
    server.get("/x.tgz").expect(200, &body);
}

fn ranges_outside_are_left_out_and_none_left_is_416(io: Io) {
    let (_origin, server, body) = with_file(io, 10_000);
    let mut client = server.client();
    let one = client.ask("GET", "/x.tgz", &range("20000-,5-9,-0")).response("GET");
    one.expect(206, &body[5..=9]);
    assert_eq!(one.all("Content-Range"), ["bytes 5-9/10000"]);
    let two = client.ask("GET", "/x.tgz", &range("20000-,5-9,10000-10001,0-0")).response("GET");
    expect_parts(&two, &body, &[(5, 9), (0, 0)]);
    let none = client.ask("GET", "/x.tgz", &range("20000-,10000-10001,-0")).response("GET");
    none.expect(416, b"").expect_keep_alive();
    assert_eq!(none.all("Content-Range"), ["bytes */10000"]);
}

fn huge_numbers_in_ranges_are_numbers(io: Io) {
    let (_origin, server, body) = with_file(io, 10_000);
    let mut client = server.client();
    let huge = "9".repeat(300);
    for (set, status, due) in [
        (format!("0-{huge}"), 206, &body[..]),
        (format!("-{huge}"), 206, &body[..]),
        (format!("9999-{huge}"), 206, &body[9_999..]),
        (format!("{huge}-"), 416, b""),
        (format!("{huge}-{huge}"), 416, b""),
        ("18446744073709551615-18446744073709551615".to_owned(), 416, b""),
        ("0-18446744073709551615".to_owned(), 206, &body[..]),
        ("-18446744073709551616".to_owned(), 206, &body[..]),
        (format!("{huge}-,1-1,{huge}-"), 206, &body[1..2]),
    ] {
        client.ask("GET", "/x.tgz", &range(&set)).response("GET").expect(status, due).expect_keep_alive();
    }
}

fn several_range_lines_get_the_whole_file(io: Io) {
    let (_origin, server, body) = with_file(io, 10_000);
    let mut client = server.client();
    for lines in [
        "Range: bytes=0-9\r\nRange: bytes=0-9\r\n",
        "Range: bytes=0-9\r\nrange: bytes=20-29\r\n",
        "Range: bytes=0-9\r\nRange:\r\n",
        "Range: bytes=0-9, bytes=20-29\r\n",
    ] {
        client.ask("GET", "/x.tgz", lines).response("GET").expect(200, &body).expect_keep_alive();
    }
}

fn known(body: &[u8], cut: usize) -> (Origin, Gate) {
    let fields = "Content-Type: application/octet-stream\r\nContent-MD5: x\r\nContent-Digest: y";
    let length = body.len();
    Origin::gated(
        format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {length}\r\n\r\n"),
        body.to_vec(),
        cut,
    )
}

fn unknown(body: &[u8], cut: usize) -> (Origin, Gate) {
    let head = "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nTransfer-Encoding: chunked\r\n\r\n";
    Origin::gated(head, chunked(body, 10_000), cut)
}

fn several_ranges_of_a_growing_file_are_sent_as_its_bytes_arrive(io: Io) {
    let body = bytes(1_000_000, 2);
    let (origin, gate) = known(&body, 100_000);
    let server = Launch::new(io, &origin).args(["--workers", "2"]).start();
    let mut leader = server.client();
    let mut whole = leader.ask("GET", "/x.tgz", "").head("GET");
    whole.body = leader.raw(100_000);
    // What is there is answered at once.
    let there = server.ask("GET", "/x.tgz", &range("99000-99999,0-9"));
    expect_parts(&there, &body, &[(99_000, 99_999), (0, 9)]);
    // Parts before, across and beyond the end of what is there, also backwards.
    let sets = [
        ("0-9,99990-100009,-10", vec![(0, 9), (99_990, 100_009), (999_990, 999_999)]),
        ("900000-,5-9", vec![(900_000, 999_999), (5, 9)]),
    ];
    let mut readers: Vec<_> = sets
        .iter()
        .map(|(set, _)| {
            let mut client = server.client();
            let head = client.ask("GET", "/x.tgz", &range(set)).head("GET");
            (client, head)
        })
        .collect();
    gate.open();
    for ((_, due), (client, response)) in sets.iter().zip(&mut readers) {
        client.finish(response);
        expect_parts(response, &body, due);
        client.get("/x.tgz").expect(200, &body);
    }
    leader.finish(&mut whole);
    whole.expect(200, &body);
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 1);
}

fn several_ranges_on_a_miss_are_parts_and_the_whole_is_stored(io: Io) {
    // At hand with its head, and not.
    for (target, size) in [("/small.tgz", 10_000), ("/large.tgz", 2_000_000)] {
        let body = bytes(size, 3);
        let (origin, gate) = known(&body, 0);
        gate.open();
        let server = Server::start(io, &origin);
        let response = server.ask("GET", target, &range("1000-1999,0-9"));
        expect_parts(&response, &body, &[(1_000, 1_999), (0, 9)]);
        server.expect_cached(&target[1..], &body);
        let asked = origin.only();
        assert_eq!((asked.field("Range"), asked.field("If-Range")), (None, None));
    }
}

fn a_partial_response_has_no_digest_of_the_whole_content(io: Io) {
    let body = bytes(10_000, 4);
    let (origin, gate) = known(&body, 5_000);
    let server = Server::start(io, &origin);
    let mut leader = server.client();
    let mut whole = leader.ask("GET", "/x.tgz", "").head("GET");
    for set in ["0-9", "0-9,20-29"] {
        let response = server.ask("GET", "/x.tgz", &range(set));
        assert_eq!(response.status, 206);
        assert_eq!((response.field("Content-MD5"), response.field("Content-Digest")), (None, None));
    }
    gate.open();
    assert_eq!((whole.field("Content-MD5"), whole.field("Content-Digest")), (Some("x"), Some("y")));
    leader.finish(&mut whole);
    whole.expect(200, &body);
}

fn a_range_with_both_ends_needs_no_length(io: Io) {
    let body = bytes(100_000, 5);
    let (origin, gate) = unknown(&body, 60_000);
    let server = Launch::new(io, &origin).args(["--workers", "2"]).start();
    let mut leader = server.client();
    let mut whole = leader.ask("GET", "/x.js", "").head("GET");
    let part = server.ask("GET", "/x.js", "Range: bytes=100-199\r\nIf-Range: \"a\"\r\n");
    part.expect(206, &body[100..=199]).expect_keep_alive();
    assert_eq!(part.all("Content-Range"), ["bytes 100-199/*"]);
    assert_eq!(part.all("Content-Length"), ["100"]);
    gate.open();
    leader.finish(&mut whole);
    whole.expect(200, &body);
    server.expect_cached("x.js", &body);
    assert_eq!(origin.count(), 1);
}

fn a_range_beyond_the_bytes_received_waits_when_the_length_is_unknown(io: Io) {
    let body = bytes(100_000, 6);
    let (origin, gate) = unknown(&body, 30_000);
    let server = Server::start(io, &origin);
    let mut leader = server.client();
    let mut whole = leader.ask("GET", "/x.js", "").head("GET");
    let mut client = server.client();
    client.ask("GET", "/x.js", &range("90000-90009"));
    gate.open();
    let part = client.response("GET");
    part.expect(206, &body[90_000..=90_009]).expect_keep_alive();
    // By then the length may be known.
    let told = part.field("Content-Range").unwrap();
    assert!(["bytes 90000-90009/*", "bytes 90000-90009/100000"].contains(&told), "{told}");
    leader.finish(&mut whole);
    whole.expect(200, &body);
    assert_eq!(origin.count(), 1);
}

fn ranges_that_need_an_unknown_length_get_the_whole_file(io: Io) {
    let body = bytes(100_000, 7);
    let (origin, gate) = unknown(&body, 30_000);
    let server = Launch::new(io, &origin).args(["--far-range", "20000"]).start();
    let mut leader = server.client();
    let mut whole = leader.ask("GET", "/x.js", "").head("GET");
    whole.body = Vec::new();
    let mut readers = Vec::new();
    // The last ends too far ahead to be waited for.
    for set in ["-10", "5-", "0-0,2-2", "0-90000"] {
        let mut client = server.client();
        let response = client.ask("GET", "/x.js", &range(set)).head("GET");
        assert_eq!(response.status, 200, "{set}");
        readers.push((client, response));
    }
    gate.open();
    for (mut client, mut response) in readers {
        client.finish(&mut response);
        response.expect(200, &body);
    }
    leader.finish(&mut whole);
    whole.expect(200, &body);
}

fn a_range_beyond_a_body_of_unknown_length_is_416_at_its_end(io: Io) {
    let body = bytes(100_000, 8);
    let (origin, gate) = unknown(&body, 30_000);
    let server = Server::start(io, &origin);
    let mut client = server.client();
    // This one starts the fill.
    client.ask("GET", "/x.js", &range("100000-100001"));
    wait_until("the fill has begun", || server.path("x.js.in-progress").exists());
    gate.open();
    let response = client.response("GET");
    response.expect(416, b"").expect_keep_alive();
    assert_eq!(response.all("Content-Range"), ["bytes */100000"]);
    server.expect_cached("x.js", &body);
}

/// What an origin says of its file.
#[derive(Clone, Copy)]
struct Facts {
    /// Fields of the whole answer.
    whole: &'static str,
    /// Fields of a part.
    part: &'static str,
    /// The complete length in a part is wrong by this much.
    off: usize,
}

const TAGGED: Facts = Facts {
    whole: "ETag: \"a\"\r\nLast-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n",
    part: "ETag: \"a\"\r\n",
    off: 0,
};
const DATED: Facts = Facts {
    whole: "Last-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n",
    part: "Last-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n",
    off: 0,
};

/// An origin that gives the first 10,000 bytes of the whole and the rest when `whole` opens, and parts
/// at once, up to their middle if `part` is given, and then when that opens.
fn slow(body: &[u8], facts: Facts, whole: &Gate, part: Option<&Gate>) -> Origin {
    let (body, whole, part) = (body.to_vec(), whole.clone(), part.cloned());
    Origin::start(move |request, reply| {
        let size = body.len();
        let Some(range) = request.field("Range") else {
            reply.write(format!("HTTP/1.1 200 OK\r\n{}Content-Length: {size}\r\n\r\n", facts.whole));
            reply.write(&body[..10_000]);
            whole.wait();
            reply.write(&body[10_000..]);
            return;
        };
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        reply.write(format!(
            "HTTP/1.1 206 Partial Content\r\n{}Content-Range: bytes {first}-{last}/{}\r\nContent-Length: {}\r\n\r\n",
            facts.part,
            size + facts.off,
            last - first + 1
        ));
        let middle = usize::midpoint(first, last);
        reply.write(&body[first..middle]);
        if let Some(part) = &part {
            part.wait();
        }
        reply.write(&body[middle..=last]);
    })
}

fn far(io: Io, origin: &Origin) -> Server {
    Launch::new(io, origin).args(["--far-range", "65536", "--workers", "2"]).debug().start()
}

fn a_range_far_ahead_of_a_slow_fill_comes_from_the_origin(io: Io) {
    let body = bytes(3_000_000, 10);
    for (facts, validator) in [(TAGGED, "\"a\""), (DATED, LAST_MODIFIED)] {
        let whole = Gate::default();
        let origin = slow(&body, facts, &whole, None);
        let server = far(io, &origin);
        let mut leader = server.client();
        let mut first = leader.ask("GET", "/x.tgz?q=1", "").head("GET");
        first.body = leader.raw(10_000);
        let mut client = server.client();
        for (set, begin, end) in
            [("2000000-2000999", 2_000_000, 2_001_000), ("-1000000", 2_000_000, 3_000_000)]
        {
            // The fill stands still: this comes from nowhere else.
            let part = client.ask("GET", "/x.tgz?q=1", &range(set)).response("GET");
            part.expect(206, &body[begin..end]).expect_keep_alive();
            assert_eq!(part.all("Content-Range"), [format!("bytes {begin}-{}/3000000", end - 1)]);
            assert_eq!(part.all("Via").len(), 1);
            assert_eq!(part.all("Last-Modified"), [LAST_MODIFIED]);
        }
        server.err.wait_for("range 2000000-2000999 came from the origin directly - 1000 bytes fetched twice");
        server
            .err
            .wait_for("range 2000000-2999999 came from the origin directly - 1000000 bytes fetched twice");
        let asked = &origin.requests()[1];
        assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/x.tgz?q=1"));
        assert_eq!(asked.all("If-Range"), [validator]);
        assert_eq!(asked.all("Accept-Encoding"), ["identity"]);
        server.expect_tree(&["x.tgz.in-progress"]);
        whole.open();
        leader.finish(&mut first);
        first.expect(200, &body);
        server.expect_cached("x.tgz", &body);
        assert_eq!(origin.count(), 3);
        client.get("/x.tgz").expect(200, &body);
    }
}

fn a_range_that_starts_the_fill_may_be_far_ahead_of_it(io: Io) {
    let body = bytes(3_000_000, 11);
    let whole = Gate::default();
    let origin = slow(&body, TAGGED, &whole, None);
    let server = far(io, &origin);
    server.ask("GET", "/x.tgz", &range("2999000-")).expect(206, &body[2_999_000..]);
    // The client has gone; the fill goes on.
    whole.open();
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 2);
}

fn a_range_near_the_fill_asks_the_origin_for_nothing(io: Io) {
    let body = bytes(3_000_000, 12);
    let whole = Gate::default();
    let origin = slow(&body, TAGGED, &whole, None);
    let server = far(io, &origin);
    let mut readers = Vec::new();
    for (set, first, end) in [("75000-80000", 75_000, 80_001), ("20000-", 20_000, 3_000_000)] {
        let mut client = server.client();
        let head = client.ask("GET", "/x.tgz", &range(set)).head("GET");
        readers.push((client, head, first, end));
    }
    // Several ranges follow the fill, wherever they are.
    let mut several = server.client();
    let mut parts = several.ask("GET", "/x.tgz", &range("0-9,2000000-2000009")).head("GET");
    assert_eq!(parts.status, 206);
    whole.open();
    for (mut client, mut part, first, end) in readers {
        client.finish(&mut part);
        part.expect(206, &body[first..end]);
    }
    several.finish(&mut parts);
    assert!(parts.whole);
    assert_eq!(origin.count(), 1);
}

/// A far range whose direct answer must not be used: it comes once the fill goes on.
#[track_caller]
fn expect_wait(io: Io, facts: Facts, asks: usize) {
    let body = bytes(1_000_000, 13);
    let whole = Gate::default();
    let origin = slow(&body, facts, &whole, None);
    let server = far(io, &origin);
    let mut client = server.client();
    let mut part = client.ask("GET", "/x.tgz", &range("900000-900999")).head("GET");
    if asks > 1 {
        server.err.wait_for("range 900000-900999 waits for the download - not in the origin's 206");
    }
    whole.open();
    client.finish(&mut part);
    part.expect(206, &body[900_000..=900_999]);
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), asks);
}

fn a_far_range_of_another_file_waits_for_the_fill(io: Io) {
    expect_wait(io, Facts { part: "ETag: \"b\"\r\n", ..TAGGED }, 2);
    expect_wait(io, Facts { part: "", ..TAGGED }, 2);
    expect_wait(io, Facts { off: 1, ..TAGGED }, 2);
    expect_wait(io, Facts { part: "Last-Modified: Sat, 16 May 2015 20:31:40 GMT\r\n", ..DATED }, 2);
}

fn a_far_range_of_a_file_without_a_strong_validator_waits_for_the_fill(io: Io) {
    let none = Facts { whole: "", part: "", off: 0 };
    let weak = "ETag: W/\"a\"\r\nLast-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n";
    expect_wait(io, none, 1);
    expect_wait(io, Facts { whole: weak, part: weak, off: 0 }, 1);
}

fn a_fill_that_arrives_first_answers_a_far_range(io: Io) {
    let body = bytes(1_000_000, 14);
    let (whole, never) = (Gate::default(), Gate::default());
    let (content, held, mute) = (body.clone(), whole.clone(), never.clone());
    let origin = Origin::start(move |request, reply| {
        if request.field("Range").is_some() {
            return mute.wait();
        }
        reply.write(format!("HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: {}\r\n\r\n", content.len()));
        reply.write(&content[..10_000]);
        held.wait();
        reply.write(&content[10_000..]);
    });
    let server = far(io, &origin);
    let mut client = server.client();
    client.ask("GET", "/x.tgz", &range("900000-900999"));
    wait_until("the origin was asked for the part", || origin.count() == 2);
    whole.open();
    client.response("GET").expect(206, &body[900_000..=900_999]).expect_keep_alive();
    never.open();
}

fn a_far_range_that_breaks_is_a_broken_transfer_and_the_file_is_whole(io: Io) {
    let body = bytes(1_000_000, 15);
    let whole = Gate::default();
    let (content, held) = (body.clone(), whole.clone());
    let origin = Origin::start(move |request, reply| {
        if request.field("Range").is_some() {
            reply.write("HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Range: bytes 900000-900999/1000000\r\n");
            reply.write("Content-Length: 1000\r\n\r\nshort");
            return reply.close();
        }
        reply.write(format!("HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: {}\r\n\r\n", content.len()));
        reply.write(&content[..10_000]);
        held.wait();
        reply.write(&content[10_000..]);
    });
    let server = far(io, &origin);
    let part = server.ask("GET", "/x.tgz", &range("900000-900999"));
    assert_eq!((part.status, part.whole), (206, false));
    server.err.wait_for("- 5 bytes fetched twice");
    whole.open();
    server.expect_cached("x.tgz", &body);
    server.ask("GET", "/x.tgz", &range("900000-900999")).expect(206, &body[900_000..=900_999]);
}

fn far_ranges_beside_one_fill_are_bounded(io: Io) {
    let body = bytes(1_000_000, 16);
    let (whole, part) = (Gate::default(), Gate::default());
    let origin = slow(&body, TAGGED, &whole, Some(&part));
    let server = far(io, &origin);
    let mut clients: Vec<_> = (0..12)
        .map(|at| {
            let mut client = server.client();
            let first = 500_000 + at * 1_000;
            let head = client.ask("GET", "/x.tgz", &range(&format!("{first}-{}", first + 999))).head("GET");
            (client, head, first)
        })
        .collect();
    // All have their heads: those that ask have asked. The fill itself is one.
    assert_eq!(origin.count(), 9);
    part.open();
    whole.open();
    for (client, response, first) in &mut clients {
        client.finish(response);
        response.expect(206, &body[*first..*first + 1_000]);
    }
    server.expect_cached("x.tgz", &body);
}

/// zsync looks for the boundary behind a line end and loops without one; nginx and Apache send it.
fn multipart_parts_begin_with_a_line_end_from_file_and_memory(io: Io) {
    let body = bytes(300_000, 8);
    let of = body.clone();
    let origin = Origin::start(move |request, reply| {
        assert_ne!(request.target, "/hit.tgz");
        reply.answer("200 OK", "ETag: \"1\"\r\nCache-Control: max-age=600\r\n", &of);
    });
    let server = Launch::new(io, &origin).args(["--revalidate", r"\.idx$|/$|\?"]).start();
    server.put("hit.tgz", &body);
    // A file, a fill, a file that is checked, an answer in memory.
    for target in ["/hit.tgz", "/fill.tgz", "/fill.tgz", "/a.idx", "/a.idx", "/dir/", "/dir/"] {
        let mut client = server.client();
        let response = client.ask("GET", target, &range("0-0,7-9")).response("GET");
        assert_eq!(response.status, 206, "{target}");
        assert!(response.body.starts_with(b"\r\n--"), "{target}: {}", response.body.escape_ascii());
        assert_eq!(response.field("Content-Length"), Some(response.body.len().to_string().as_str()));
        assert!(response.body.ends_with(b"--\r\n"));
        client.get("/hit.tgz").expect(200, &body);
    }
}

/// A file that is as long as numbers are: the lengths of its parts must not wrap.
fn a_length_that_no_file_can_have_is_refused_before_its_parts_are_counted(io: Io) {
    for length in ["18446744073709551615", "18446744073709551608", "9223372036854775808"] {
        let origin = Origin::start(move |_, reply| {
            reply.write(format!("HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: {length}\r\n\r\nbody"));
            reply.close();
        });
        let server = Server::start(io, &origin);
        for set in ["0-0,2-2", "0-0,100-18446744073709551614", "0-3", "-1", "0-0,-1"] {
            let mut client = server.client();
            let response = client.ask("GET", "/x.tgz", &range(set)).response("GET");
            assert_eq!(response.status, 502, "{length} {set}");
            server.put("hit.tgz", b"hit");
            client.get("/hit.tgz").expect(200, b"hit");
        }
        server.expect_tree(&["hit.tgz"]);
    }
}

/// The longest length that there is: whatever a range of it is, the client is in step or sees a broken transfer.
fn parts_of_the_longest_file_there_can_be_are_counted_right(io: Io) {
    let gate = Gate::default();
    let stalled = gate.clone();
    let origin = Origin::start(move |_, reply| {
        reply
            .write("HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 9223372036854775807\r\n\r\n0123456789");
        stalled.wait();
        reply.close();
    });
    let server = Server::start(io, &origin);
    for (set, length) in [
        ("0-0,2-2", None),
        ("0-0,2-9223372036853727231", None),
        // With the heads of the parts it would be longer than a file can be: the whole.
        ("0-0,2-9223372036854775806", Some("9223372036854775807")),
        ("0-0,3-18446744073709551615", Some("9223372036854775807")),
        ("0-18446744073709551615", Some("9223372036854775807")),
        ("-9223372036854775806", Some("9223372036854775806")),
    ] {
        let mut client = server.client();
        let head = client.ask("GET", "/x.tgz", &range(set)).head("GET");
        let is_whole = set.starts_with("0-0,") && length.is_some();
        assert_eq!(head.status, if is_whole { 200 } else { 206 }, "{set}");
        let told: u64 = head.field("Content-Length").unwrap().parse().unwrap();
        let due = match (length, set) {
            (Some(length), _) => length.parse().unwrap(),
            (None, "0-0,2-2") => 2,
            (None, _) => 1 + 9_223_372_036_853_727_232 - 2,
        };
        assert!((due..=due + 1_000).contains(&told), "{set}: {told}, not {due} and the heads of the parts");
    }
    gate.open();
}
