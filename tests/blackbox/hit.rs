//! Files that are in the cache: their heads, and ranges of them.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use crate::support::{
    Framing, Io, LAST_MODIFIED, LAST_MODIFIED_SECS, Launch, Origin, Server, bytes, on_both,
};

on_both!(
    a_hit_has_the_head_of_the_node_program_and_no_origin_request,
    the_etag_is_size_and_mtime_in_milliseconds,
    content_types_are_the_originals,
    if_none_match_equal_to_the_etag_is_304,
    if_modified_since_answers_304_only_when_not_newer,
    if_none_match_beats_if_modified_since,
    head_is_the_same_head_without_a_body,
    a_range_on_a_hit_is_a_206_with_these_bytes,
    an_unsatisfiable_range_is_416_with_the_length,
    a_range_that_is_not_understood_is_ignored,
    a_range_on_head_is_ignored,
    if_range_guards_the_range,
    an_empty_file_is_served,
    a_large_file_reaches_a_slow_reader_whole,
    a_file_replaced_by_rename_is_served_at_once,
    a_file_grown_in_place_is_served_with_its_new_length,
    a_file_removed_by_the_operator_is_fetched_again,
    a_hit_needs_no_origin,
    the_query_is_not_part_of_the_name,
    authorization_does_not_keep_a_hit_from_being_served,
    other_methods_on_a_cached_name_go_to_the_origin,
    another_host_name_gets_the_same_file,
    the_servers_own_date_is_sent,
);

/// A server with one cached file `x.tgz` of 10,000 bytes dated [`LAST_MODIFIED`].
fn with_file(io: Io) -> (Origin, Server, Vec<u8>) {
    let origin = Origin::silent();
    let server = Server::start(io, &origin);
    let body = bytes(10_000, 1);
    put_dated(&server, "x.tgz", &body);
    (origin, server, body)
}

fn put_dated(server: &Server, name: &str, body: &[u8]) {
    let path = server.put(name, body);
    set_mtime(&path, Duration::from_secs(LAST_MODIFIED_SECS));
}

fn set_mtime(path: &std::path::Path, since_epoch: Duration) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + since_epoch).unwrap();
}

fn etag() -> String {
    format!("\"10000-{LAST_MODIFIED_SECS}000\"")
}

fn a_hit_has_the_head_of_the_node_program_and_no_origin_request(io: Io) {
    let (origin, server, body) = with_file(io);
    let response = server.get("/x.tgz");
    response.expect(200, &body).expect_keep_alive();
    assert_eq!(response.version, "HTTP/1.1");
    assert_eq!(response.framing, Framing::Length(10_000));
    assert_eq!(response.all("Content-Type"), ["application/octet-stream"]);
    assert_eq!(response.all("ETag"), [etag()]);
    assert_eq!(response.all("Last-Modified"), [LAST_MODIFIED]);
    assert_eq!(response.all("Accept-Ranges"), ["bytes"]);
    assert_eq!(response.field("Transfer-Encoding"), None);
    assert_eq!(response.field("Content-Encoding"), None);
    assert_eq!(origin.count(), 0);
    server.expect_tree(&["x.tgz"]);
}

fn the_etag_is_size_and_mtime_in_milliseconds(io: Io) {
    let (_origin, server, body) = with_file(io);
    let mut client = server.client();
    // The original rounds to the nearest millisecond; clients hold such tags from before.
    for (nanos, millis) in
        [(123_000_000, "123"), (123_400_000, "123"), (123_987_654, "124"), (7_000_000, "007")]
    {
        let exact = Duration::from_secs(LAST_MODIFIED_SECS) + Duration::from_nanos(nanos);
        set_mtime(&server.path("x.tgz"), exact);
        let response = client.get("/x.tgz");
        response.expect(200, &body);
        let want = format!("\"10000-{LAST_MODIFIED_SECS}{millis}\"");
        assert_eq!(response.all("ETag"), [want]);
        assert_eq!(response.all("Last-Modified"), [LAST_MODIFIED]);
    }
}

fn content_types_are_the_originals(io: Io) {
    const TYPES: &[(&str, &str)] = &[
        ("a.tgz", "application/octet-stream"),
        ("a.TGZ", "application/octet-stream"),
        ("a.deb", "application/octet-stream"),
        ("a.whl", "application/octet-stream"),
        ("a.tar.gz", "application/gzip"),
        ("a.GZ", "application/gzip"),
        ("a.bz2", "application/x-bzip2"),
        ("a.tar.xz", "application/x-xz"),
        ("a.tar", "application/x-tar"),
        ("a.rpm", "application/x-redhat-package-manager"),
        ("a.js", "application/javascript"),
        ("a.jar", "application/java-archive"),
        ("a.xml", "application/xml"),
        ("a.html", "text/html"),
        ("a.css", "text/css"),
        ("a.txt", "text/plain"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.PNG", "image/png"),
        ("a.jpg", "image/jpeg"),
        ("a.jpeg", "image/jpeg"),
        ("a.gif", "image/gif"),
        ("a.svg", "image/svg+xml"),
        ("a.pdf", "application/pdf"),
        ("a.zip", "application/zip"),
        ("a.no-such-extension", "application/octet-stream"),
        ("no_extension", "application/octet-stream"),
    ];
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).cache_everything().start();
    let mut client = server.client();
    for (name, want) in TYPES {
        server.put(name, b"body");
        let response = client.get(&format!("/{name}"));
        response.expect(200, b"body");
        let got = response.field("Content-Type").unwrap_or_default();
        let bare = got.split(';').next().unwrap().trim();
        assert_eq!(bare.to_lowercase(), *want, "type of {name}");
    }
    assert_eq!(origin.count(), 0);
}

fn if_none_match_equal_to_the_etag_is_304(io: Io) {
    let (_origin, server, body) = with_file(io);
    let mut client = server.client();
    let tag = etag();
    let equal = [tag.clone(), format!("\"other\", {tag}"), format!("W/{tag}"), "*".to_owned()];
    for value in equal {
        let response = client.ask("GET", "/x.tgz", &format!("If-None-Match: {value}\r\n")).response("GET");
        response.expect(304, b"").expect_keep_alive();
        assert_eq!(response.all("ETag"), [etag()], "for {value}");
    }
    for value in ["\"other\"", "\"10000\"", "W/\"other\""] {
        client
            .ask("GET", "/x.tgz", &format!("If-None-Match: {value}\r\n"))
            .response("GET")
            .expect(200, &body);
    }
}

fn if_modified_since_answers_304_only_when_not_newer(io: Io) {
    let (_origin, server, body) = with_file(io);
    let mut client = server.client();
    for (since, not_modified) in [
        (LAST_MODIFIED, true),
        ("Sun, 17 May 2015 00:00:00 GMT", true),
        ("Sat, 16 May 2015 20:31:38 GMT", false),
        ("not a date", false),
    ] {
        let response =
            client.ask("GET", "/x.tgz", &format!("If-Modified-Since: {since}\r\n")).response("GET");
        if not_modified {
            response.expect(304, b"");
        } else {
            response.expect(200, &body);
        }
    }
}

fn if_none_match_beats_if_modified_since(io: Io) {
    let (_origin, server, body) = with_file(io);
    let both = format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {LAST_MODIFIED}\r\n");
    server.ask("GET", "/x.tgz", &both).expect(200, &body);
}

fn head_is_the_same_head_without_a_body(io: Io) {
    let (origin, server, body) = with_file(io);
    let mut client = server.client();
    let get = client.get("/x.tgz");
    let head = client.ask("HEAD", "/x.tgz", "").response("HEAD");
    assert_eq!(head.status, 200);
    let without_date = |fields: &[(String, String)]| {
        let mut kept = fields.to_vec();
        kept.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
        kept
    };
    assert_eq!(without_date(&head.fields), without_date(&get.fields));
    assert_eq!(head.field("Content-Length"), Some("10000"));
    // A body that was sent all the same would be read as the next response.
    client.get("/x.tgz").expect(200, &body);
    let conditional = format!("If-None-Match: {}\r\n", etag());
    let unchanged = client.ask("HEAD", "/x.tgz", &conditional).response("HEAD");
    assert_eq!(unchanged.status, 304);
    assert_eq!(origin.count(), 0);
}

fn a_range_on_a_hit_is_a_206_with_these_bytes(io: Io) {
    let (_origin, server, body) = with_file(io);
    let mut client = server.client();
    for (range, from, to) in [
        ("0-0", 0, 0),
        ("0-99", 0, 99),
        ("100-", 100, 9_999),
        ("5000-5999", 5_000, 5_999),
        ("-1", 9_999, 9_999),
        ("-500", 9_500, 9_999),
        ("9999-20000", 9_999, 9_999),
        ("-20000", 0, 9_999),
        ("0-", 0, 9_999),
    ] {
        let response = client.ask("GET", "/x.tgz", &format!("Range: bytes={range}\r\n")).response("GET");
        response.expect(206, &body[from..=to]).expect_keep_alive();
        assert_eq!(response.framing, Framing::Length(to - from + 1));
        assert_eq!(response.all("Content-Range"), [format!("bytes {from}-{to}/10000")], "for {range}");
        assert_eq!(response.all("ETag"), [etag()]);
        assert_eq!(response.all("Last-Modified"), [LAST_MODIFIED]);
    }
}

fn an_unsatisfiable_range_is_416_with_the_length(io: Io) {
    let (_origin, server, body) = with_file(io);
    let mut client = server.client();
    for range in ["10000-", "10000-10001", "99999999999999999999-", "-0"] {
        let response = client.ask("GET", "/x.tgz", &format!("Range: bytes={range}\r\n")).response("GET");
        assert_eq!(response.status, 416, "for {range}");
        assert!(response.whole);
        assert_eq!(response.all("Content-Range"), ["bytes */10000"]);
    }
    client.get("/x.tgz").expect(200, &body);
}

fn a_range_that_is_not_understood_is_ignored(io: Io) {
    let (_origin, server, body) = with_file(io);
    let mut client = server.client();
    for range in ["lines=0-5", "bytes=5-2", "bytes=", "bytes=a-b", "bytes=1", "0-5", "bytes=--5"] {
        client.ask("GET", "/x.tgz", &format!("Range: {range}\r\n")).response("GET").expect(200, &body);
    }
}

fn a_range_on_head_is_ignored(io: Io) {
    let (_origin, server, _body) = with_file(io);
    let response = server.ask("HEAD", "/x.tgz", "Range: bytes=0-9\r\n");
    assert_eq!(response.status, 200);
    assert_eq!(response.field("Content-Length"), Some("10000"));
}

fn if_range_guards_the_range(io: Io) {
    let (_origin, server, body) = with_file(io);
    let mut client = server.client();
    for (validator, part) in [
        (etag(), true),
        (LAST_MODIFIED.to_owned(), true),
        ("\"other\"".to_owned(), false),
        (format!("W/{}", etag()), false),
        ("Sat, 16 May 2015 20:31:38 GMT".to_owned(), false),
        ("Sun, 17 May 2015 00:00:00 GMT".to_owned(), false),
    ] {
        let fields = format!("Range: bytes=10-19\r\nIf-Range: {validator}\r\n");
        let response = client.ask("GET", "/x.tgz", &fields).response("GET");
        if part {
            response.expect(206, &body[10..20]);
        } else {
            response.expect(200, &body);
        }
    }
}

fn an_empty_file_is_served(io: Io) {
    let (origin, server, _body) = with_file(io);
    put_dated(&server, "empty.tgz", b"");
    let mut client = server.client();
    let response = client.get("/empty.tgz");
    response.expect(200, b"").expect_keep_alive();
    assert_eq!(response.framing, Framing::Length(0));
    assert_eq!(response.all("ETag"), [format!("\"0-{LAST_MODIFIED_SECS}000\"")]);
    client.get("/empty.tgz").expect(200, b"");
    assert_eq!(origin.count(), 0);
}

fn a_large_file_reaches_a_slow_reader_whole(io: Io) {
    let (_origin, server, small) = with_file(io);
    let large = bytes(12 << 20, 2);
    server.put("large.tar", &large);
    let mut slow = crate::support::Client::connect_with_small_window(server.addr());
    let mut response = slow.ask("GET", "/large.tar", "").head("GET");
    // Others are served while this one's body waits for its reader.
    for _ in 0..5 {
        server.get("/x.tgz").expect(200, &small);
    }
    slow.finish(&mut response);
    response.expect(200, &large);
    slow.get("/x.tgz").expect(200, &small);
}

fn a_file_replaced_by_rename_is_served_at_once(io: Io) {
    let (origin, server, body) = with_file(io);
    let mut client = server.client();
    let before = client.get("/x.tgz");
    before.expect(200, &body);
    let fresh = bytes(10_000, 77);
    let staged = server.outside().join("staged");
    fs::write(&staged, &fresh).unwrap();
    fs::rename(&staged, server.path("x.tgz")).unwrap();
    let after = client.get("/x.tgz");
    after.expect(200, &fresh);
    assert_ne!(before.field("ETag"), after.field("ETag"));
    assert_eq!(origin.count(), 0);
}

fn a_file_grown_in_place_is_served_with_its_new_length(io: Io) {
    let (_origin, server, body) = with_file(io);
    let mut client = server.client();
    client.get("/x.tgz").expect(200, &body);
    let longer = bytes(20_000, 3);
    fs::write(server.path("x.tgz"), &longer).unwrap();
    client.get("/x.tgz").expect(200, &longer);
    let shorter = bytes(5_000, 4);
    fs::write(server.path("x.tgz"), &shorter).unwrap();
    client.get("/x.tgz").expect(200, &shorter);
}

fn a_file_removed_by_the_operator_is_fetched_again(io: Io) {
    let fresh = bytes(3_000, 9);
    let origin = Origin::fixed(&fresh);
    let server = Server::start(io, &origin);
    let old = bytes(2_000, 8);
    server.put("x.tgz", &old);
    let mut client = server.client();
    client.get("/x.tgz").expect(200, &old);
    assert_eq!(origin.count(), 0);
    fs::remove_file(server.path("x.tgz")).unwrap();
    client.get("/x.tgz").expect(200, &fresh);
    server.expect_cached("x.tgz", &fresh);
    assert_eq!(origin.count(), 1);
}

fn a_hit_needs_no_origin(io: Io) {
    let port = crate::support::server::free_port();
    let server = Launch::at(io, &format!("http://127.0.0.1:{port}")).start();
    server.put("dir/x.tgz", b"still here");
    server.get("/dir/x.tgz").expect(200, b"still here");
}

fn the_query_is_not_part_of_the_name(io: Io) {
    let (origin, server, body) = with_file(io);
    let mut client = server.client();
    for target in ["/x.tgz?", "/x.tgz?a=b", "/x.tgz?/../y", "/x.tgz?a?b=c.png"] {
        client.get(target).expect(200, &body);
    }
    assert_eq!(origin.count(), 0);
}

fn authorization_does_not_keep_a_hit_from_being_served(io: Io) {
    let (origin, server, body) = with_file(io);
    server.ask("GET", "/x.tgz", "Authorization: Basic dTpw\r\n").expect(200, &body);
    assert_eq!(origin.count(), 0);
}

fn other_methods_on_a_cached_name_go_to_the_origin(io: Io) {
    let origin = Origin::start(|request, reply| {
        reply.answer("200 OK", "", request.method.as_bytes());
    });
    let server = Server::start(io, &origin);
    server.put("x.tgz", b"cached");
    let mut client = server.client();
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        client.ask(method, "/x.tgz", "Content-Length: 0\r\n").response(method).expect(200, method.as_bytes());
    }
    assert_eq!(origin.count(), 4);
    client.get("/x.tgz").expect(200, b"cached");
    server.expect_cached("x.tgz", b"cached");
}

fn another_host_name_gets_the_same_file(io: Io) {
    let (origin, server, body) = with_file(io);
    let mut client = server.client();
    client.send("GET /x.tgz HTTP/1.1\r\nHost: elsewhere.test:81\r\n\r\n");
    client.response("GET").expect(200, &body);
    client.send("GET http://localhost/x.tgz HTTP/1.1\r\nHost: other.test\r\n\r\n");
    client.response("GET").expect(200, &body);
    assert_eq!(origin.count(), 0);
}

fn the_servers_own_date_is_sent(io: Io) {
    let (_origin, server, body) = with_file(io);
    let response = server.get("/x.tgz");
    response.expect(200, &body);
    let dates = response.all("Date");
    assert_eq!(dates.len(), 1);
    let sent = httpdate::parse_http_date(dates[0]).unwrap();
    let off = sent.elapsed().unwrap_or_default();
    assert!(off < Duration::from_secs(30), "{off:?} behind");
}
