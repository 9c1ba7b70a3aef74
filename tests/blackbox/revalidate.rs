//! The revalidated class: requests to the origin, stored responses, responses to clients.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::origin::Request;
use crate::support::{
    Client, Gate, Io, LAST_MODIFIED, Launch, Origin, Reply, Server, bytes, on_both, tree, wait_until,
};

on_both!(
    an_unchanged_index_is_one_small_exchange,
    a_changed_index_is_swapped_in_while_readers_of_the_old_one_finish,
    fifty_clients_of_a_stale_index_cause_one_check,
    fifty_clients_of_a_changed_index_cause_one_fetch,
    the_origins_fields_are_kept_and_replayed_with_an_age,
    the_stored_head_survives_a_restart,
    the_stored_head_survives_a_restart_without_sync_too,
    a_file_without_a_head_is_checked_by_its_date,
    a_file_that_was_replaced_by_hand_is_fetched_whole,
    what_is_fresh_is_not_checked,
    revalidate_after_counts_from_the_check,
    conditions_of_clients_are_evaluated_against_the_stored_response,
    a_range_is_served_from_the_stored_response,
    several_ranges_on_a_miss_have_the_origins_date_once,
    a_request_that_wants_a_check_gets_one,
    only_if_cached_asks_nobody,
    the_class_goes_before_the_other_one,
    the_other_class_is_not_checked,
    a_304_about_another_answer_is_not_believed,
    a_304_to_an_unconditional_request_is_an_error,
    head_is_answered_from_what_is_kept,
    a_head_response_of_another_version_makes_the_stored_response_stale,
);

/// An index with a tag that changes when the number does.
pub(super) struct Index {
    pub(super) version: Arc<AtomicUsize>,
    pub(super) origin: Origin,
}

impl Index {
    /// Every answer has `extra` field lines.
    pub(super) fn start(extra: &'static str) -> Self {
        let version = Arc::new(AtomicUsize::new(1));
        let of = Arc::clone(&version);
        let origin =
            Origin::start(move |request, reply| answer(request, reply, of.load(Ordering::SeqCst), extra));
        Self { version, origin }
    }

    pub(super) fn change(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Requests that had to be answered with a body.
    pub(super) fn whole(&self) -> usize {
        self.origin.requests().iter().filter(|request| request.field("If-None-Match").is_none()).count()
    }
}

pub(super) fn body(version: usize) -> Vec<u8> {
    bytes(10_000 + version, u64::try_from(version).unwrap())
}

fn answer(request: &Request, reply: &mut Reply<'_>, version: usize, extra: &str) {
    let fields = format!("ETag: \"v{version}\"\r\nLast-Modified: {LAST_MODIFIED}\r\n{extra}");
    if request.field("If-None-Match") == Some(&format!("\"v{version}\"")) {
        reply.write(format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"));
    } else if request.method == "HEAD" {
        reply.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n", body(version).len()));
    } else {
        reply.answer("200 OK", &fields, &body(version));
    }
}

/// A server whose `.idx` files are checked.
pub(super) fn launch(io: Io, origin: &Origin) -> Launch {
    Launch::new(io, origin).debug().args(["--revalidate", r"\.idx$|/$"])
}

/// The file of this name gets this content at some time soon.
fn expect_becomes(server: &Server, name: &str, content: &[u8]) {
    wait_until("the new content", || fs::read(server.path(name)).is_ok_and(|found| found == content));
}

/// A server that has the first version, and the index.
fn with_index(io: Io, extra: &'static str) -> (Index, Server) {
    let index = Index::start(extra);
    let server = launch(io, &index.origin).start();
    server.get("/a.idx").expect(200, &body(1));
    server.expect_cached("a.idx", &body(1));
    (index, server)
}

fn an_unchanged_index_is_one_small_exchange(io: Io) {
    let (index, server) = with_index(io, "");
    for asked in 2..5 {
        let hit = server.get("/a.idx");
        hit.expect(200, &body(1)).expect_keep_alive();
        assert_eq!(hit.all("ETag"), ["\"v1\""]);
        let requests = index.origin.requests();
        assert_eq!(requests.len(), asked);
        let check = requests.last().unwrap();
        assert_eq!(check.all("If-None-Match"), ["\"v1\""]);
        assert_eq!(check.all("If-Modified-Since"), [LAST_MODIFIED]);
    }
    assert_eq!(index.whole(), 1);
    server.expect_tree(&["a.idx"]);
}

fn a_changed_index_is_swapped_in_while_readers_of_the_old_one_finish(io: Io) {
    let large = |version| bytes(8_000_000, version);
    let changed = Arc::new(AtomicUsize::new(1));
    let of = Arc::clone(&changed);
    let origin = Origin::start(move |request, reply| {
        let version = u64::try_from(of.load(Ordering::SeqCst)).unwrap();
        let tag = format!("\"v{version}\"");
        if request.field("If-None-Match") == Some(&tag) {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n"));
        } else {
            reply.answer("200 OK", &format!("ETag: {tag}\r\n"), &large(version));
        }
    });
    let server = launch(io, &origin).start();
    server.get("/a.idx").expect(200, &large(1));
    expect_becomes(&server, "a.idx", &large(1));
    // This reader has the head and takes no more for now.
    let mut reader = Client::connect_with_small_window(server.addr());
    let mut old = reader.ask("GET", "/a.idx", "").head("GET");
    assert_eq!(old.all("ETag"), ["\"v1\""]);
    changed.store(2, Ordering::SeqCst);
    server.get("/a.idx").expect(200, &large(2));
    expect_becomes(&server, "a.idx", &large(2));
    reader.finish(&mut old);
    old.expect(200, &large(1));
    server.get("/a.idx").expect(200, &large(2));
    server.expect_tree(&["a.idx"]);
}

/// The check is held until this many clients are waiting for it.
fn held_check(io: Io, changed: bool) {
    let (gate, version) = (Gate::default(), Arc::new(AtomicUsize::new(1)));
    let (held, of) = (gate.clone(), Arc::clone(&version));
    let origin = Origin::start(move |request, reply| {
        if request.index > 0 {
            held.wait();
        }
        answer(request, reply, of.load(Ordering::SeqCst), "");
    });
    let server = launch(io, &origin).args(["--workers", "4"]).start();
    server.get("/a.idx").expect(200, &body(1));
    server.expect_cached("a.idx", &body(1));
    let now = if changed { 2 } else { 1 };
    version.store(now, Ordering::SeqCst);
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let mut client = server.client();
            client.ask("GET", "/a.idx", "Cache-Control: max-age=0\r\n");
            client
        })
        .collect();
    // Every request has been read: each has said so.
    wait_until("all have come", || {
        server.err.all().iter().filter(|line| line.contains("INCOMING REQUEST - GET /a.idx")).count() == 51
    });
    gate.open();
    for mut client in clients {
        client.response("GET").expect(200, &body(now));
    }
    assert_eq!(origin.count(), 2, "{:#?}", origin.requests());
    expect_becomes(&server, "a.idx", &body(now));
}

fn fifty_clients_of_a_stale_index_cause_one_check(io: Io) {
    held_check(io, false);
}

fn fifty_clients_of_a_changed_index_cause_one_fetch(io: Io) {
    held_check(io, true);
}

fn the_origins_fields_are_kept_and_replayed_with_an_age(io: Io) {
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-A: 1\r\nContent-Type: text/index\r\n\
                Cache-Control: max-age=9999999999\r\nSet-Cookie: a=b\r\nConnection: X-B\r\nX-B: 1\r\n";
    let (index, server) = with_index(io, date);
    let first = index.origin.only();
    assert_eq!(first.all("Accept-Encoding"), ["identity"]);
    let hit = server.get("/a.idx");
    hit.expect(200, &body(1)).expect_keep_alive();
    for (name, value) in [
        ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("X-A", "1"),
        ("Content-Type", "text/index"),
        ("Last-Modified", LAST_MODIFIED),
        ("Accept-Ranges", "bytes"),
        ("Via", "1.1 fs-caching-server"),
    ] {
        assert_eq!(hit.all(name), [value], "{name}");
    }
    let age: u64 = hit.all("Age").first().unwrap().parse().unwrap();
    assert!(age > 900_000_000, "{age}");
    assert!(hit.all("X-B").is_empty() && hit.all("Set-Cookie").is_empty());
    index.origin.only();
}

fn the_stored_head_survives_a_restart(io: Io) {
    expect_head_survives(io, &[]);
}

fn the_stored_head_survives_a_restart_without_sync_too(io: Io) {
    expect_head_survives(io, &["--no-sync"]);
}

fn expect_head_survives(io: Io, args: &[&str]) {
    let index = Index::start("X-A: 1\r\nCache-Control: max-age=9999\r\n");
    let cache = tempfile::tempdir().unwrap();
    let start = || launch(io, &index.origin).args(args).cache(cache.path()).start();
    let server = start();
    server.get("/a.idx").expect(200, &body(1));
    server.expect_cached("a.idx", &body(1));
    drop(server);
    let server = start();
    let hit = server.get("/a.idx");
    hit.expect(200, &body(1));
    assert_eq!((hit.all("X-A"), hit.all("ETag")), (vec!["1"], vec!["\"v1\""]));
    index.origin.only();
    // The file is one that anybody else serves as it is.
    assert_eq!(fs::read(cache.path().join("a.idx")).unwrap(), body(1));
}

fn a_file_without_a_head_is_checked_by_its_date(io: Io) {
    let origin = Origin::start(|request, reply| {
        assert_eq!(request.all("If-None-Match"), [""; 0]);
        assert_eq!(request.all("If-Modified-Since"), [LAST_MODIFIED]);
        reply.write(format!(
            "HTTP/1.1 304 Not Modified\r\nETag: \"new\"\r\nLast-Modified: {LAST_MODIFIED}\r\n\
             Cache-Control: max-age=99\r\n\r\n"
        ));
    });
    let server = launch(io, &origin).start();
    let path = server.put("a.idx", &body(1));
    let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(crate::support::LAST_MODIFIED_SECS);
    fs::File::options().write(true).open(&path).unwrap().set_modified(date).unwrap();
    for _ in 0..2 {
        let hit = server.get("/a.idx");
        hit.expect(200, &body(1));
        assert_eq!(hit.all("ETag"), ["\"new\""]);
        assert_eq!(hit.all("Content-Type"), ["application/octet-stream"]);
    }
    origin.only();
}

fn a_file_that_was_replaced_by_hand_is_fetched_whole(io: Io) {
    let (index, server) = with_index(io, "Cache-Control: max-age=9999\r\n");
    // Until then its fill may still be followed, and this would be a change under its feet.
    server.err.wait_for("renamed ");
    // In place, so that whatever belongs to the file stays with it.
    fs::write(server.path("a.idx"), b"by hand").unwrap();
    server.get("/a.idx").expect(200, &body(1));
    // Its date is that of the write, which no origin has given: only the whole tells.
    let check = index.origin.requests().pop().unwrap();
    assert_eq!((check.all("If-None-Match").len(), check.all("If-Modified-Since").len()), (0, 0));
    expect_becomes(&server, "a.idx", &body(1));
}

fn what_is_fresh_is_not_checked(io: Io) {
    let (index, server) = with_index(io, "Cache-Control: max-age=9999\r\n");
    for _ in 0..3 {
        server.get("/a.idx").expect(200, &body(1));
    }
    index.origin.only();
}

fn revalidate_after_counts_from_the_check(io: Io) {
    let index = Index::start("Age: 5000\r\n");
    let server = launch(io, &index.origin).args(["--revalidate-after", "3600"]).start();
    for _ in 0..3 {
        server.get("/a.idx").expect(200, &body(1));
        server.expect_cached("a.idx", &body(1));
    }
    index.origin.only();
    // A client that wants a check gets one all the same.
    server.ask("GET", "/a.idx", "Cache-Control: max-age=0\r\n").expect(200, &body(1));
    assert_eq!((index.origin.count(), index.whole()), (2, 1));
}

fn conditions_of_clients_are_evaluated_against_the_stored_response(io: Io) {
    let (index, server) = with_index(io, "Cache-Control: max-age=9999\r\nContent-Location: /x\r\n");
    for (condition, status) in [
        ("If-None-Match: \"x\", W/\"v1\", \"y\"\r\n".to_owned(), 304),
        ("If-None-Match: *\r\n".to_owned(), 304),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200),
        (format!("If-Modified-Since: {LAST_MODIFIED}\r\n"), 304),
        ("If-Modified-Since: Thu, 01 Jan 2015 00:00:00 GMT\r\n".to_owned(), 200),
        ("If-Match: \"x\"\r\n".to_owned(), 412),
    ] {
        let answer = server.ask("GET", "/a.idx", &condition);
        assert_eq!(answer.status, status, "{condition}");
        if status == 304 {
            assert_eq!(answer.all("ETag"), ["\"v1\""]);
            for name in ["Date", "Cache-Control", "Content-Location", "Age", "Last-Modified"] {
                assert_eq!(answer.all(name).len(), 1, "{name}");
            }
            assert!(answer.all("Content-Length").is_empty());
        }
    }
    index.origin.only();
}

fn a_range_is_served_from_the_stored_response(io: Io) {
    let (index, server) = with_index(io, "Cache-Control: max-age=9999\r\n");
    let part = server.ask("GET", "/a.idx", "Range: bytes=5-9\r\nIf-Range: \"v1\"\r\n");
    part.expect(206, &body(1)[5..10]);
    assert_eq!(part.all("Content-Range"), ["bytes 5-9/10001"]);
    server.ask("GET", "/a.idx", "Range: bytes=5-9\r\nIf-Range: \"v0\"\r\n").expect(200, &body(1));
    assert_eq!(server.ask("GET", "/a.idx", "Range: bytes=99999-\r\n").status, 416);
    index.origin.only();
    // On a miss the whole is fetched, and the range answered from it.
    server.ask("GET", "/b.idx", "Range: bytes=5-9\r\n").expect(206, &body(1)[5..10]);
    server.expect_cached("b.idx", &body(1));
}

fn several_ranges_on_a_miss_have_the_origins_date_once(io: Io) {
    let index = Index::start("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    let server = launch(io, &index.origin).start();
    for _ in 0..2 {
        let parts = server.ask("GET", "/a.idx", "Range: bytes=0-1,5-6\r\n");
        assert_eq!((parts.status, parts.all("Date").len()), (206, 1), "{:?}", parts.fields);
        assert_eq!(parts.all("Date"), ["Sun, 06 Nov 1994 08:49:37 GMT"]);
        server.expect_cached("a.idx", &body(1));
    }
}

fn a_request_that_wants_a_check_gets_one(io: Io) {
    let (index, server) = with_index(io, "Cache-Control: max-age=9999\r\n");
    let mut asked = 1;
    for wish in [
        "Cache-Control: no-cache",
        "Cache-Control: max-age=0",
        "Pragma: no-cache",
        "Cache-Control: min-fresh=99999",
    ] {
        server.ask("GET", "/a.idx", &format!("{wish}\r\n")).expect(200, &body(1));
        asked += 1;
        assert_eq!((index.origin.count(), index.whole()), (asked, 1), "{wish}");
    }
    // Nothing of this one is kept, nor is what is kept used.
    index.change();
    server.ask("GET", "/a.idx", "Cache-Control: no-store\r\n").expect(200, &body(2));
    server.get("/a.idx").expect(200, &body(1));
}

fn only_if_cached_asks_nobody(io: Io) {
    let (index, server) = with_index(io, "Cache-Control: max-age=9999\r\n");
    server.ask("GET", "/a.idx", "Cache-Control: only-if-cached\r\n").expect(200, &body(1));
    assert_eq!(server.ask("GET", "/b.idx", "Cache-Control: only-if-cached\r\n").status, 504);
    let check = "Cache-Control: only-if-cached, no-cache\r\n";
    assert_eq!(server.ask("GET", "/a.idx", check).status, 504);
    index.origin.only();
}

fn the_class_goes_before_the_other_one(io: Io) {
    let index = Index::start("");
    let server = launch(io, &index.origin).args(["-r", r"\.idx$"]).start();
    server.get("/a.idx").expect(200, &body(1));
    server.expect_cached("a.idx", &body(1));
    index.change();
    server.get("/a.idx").expect(200, &body(2));
}

fn the_other_class_is_not_checked(io: Io) {
    let index = Index::start("");
    let server = launch(io, &index.origin).start();
    server.get("/a.tgz").expect(200, &body(1));
    server.expect_cached("a.tgz", &body(1));
    index.change();
    server.get("/a.tgz").expect(200, &body(1));
    index.origin.only();
}

fn a_304_about_another_answer_is_not_believed(io: Io) {
    let origin = Origin::start(|request, reply| match request.field("If-None-Match") {
        None if request.index == 0 => reply.answer("200 OK", "ETag: \"v1\"\r\n", &body(1)),
        None => reply.answer("200 OK", "ETag: \"v2\"\r\n", &body(2)),
        Some(_) => drop(reply.write("HTTP/1.1 304 Not Modified\r\nETag: \"v2\"\r\n\r\n")),
    });
    let server = launch(io, &origin).start();
    server.get("/a.idx").expect(200, &body(1));
    server.expect_cached("a.idx", &body(1));
    server.get("/a.idx").expect(200, &body(2));
    assert_eq!(origin.count(), 3);
}

fn a_304_to_an_unconditional_request_is_an_error(io: Io) {
    let origin = Origin::start(|request, reply| match request.index {
        0 => reply.answer("200 OK", "ETag: \"v1\"\r\n", &body(1)),
        _ => drop(reply.write("HTTP/1.1 304 Not Modified\r\nETag: \"v2\"\r\n\r\n")),
    });
    let server = launch(io, &origin).start();
    server.get("/a.idx").expect(200, &body(1));
    server.expect_cached("a.idx", &body(1));
    assert_eq!(server.get("/a.idx").status, 502);
    assert_eq!(server.get("/b.idx").status, 502);
}

fn head_is_answered_from_what_is_kept(io: Io) {
    let (index, server) = with_index(io, "Cache-Control: max-age=9999\r\n");
    let head = server.ask("HEAD", "/a.idx", "");
    assert_eq!((head.status, head.all("Content-Length")), (200, vec!["10001"]));
    index.origin.only();
    // Where nothing is kept it is passed, and nothing is fetched.
    server.ask("HEAD", "/b.idx", "").expect(200, b"");
    assert_eq!(index.origin.requests().pop().unwrap().method, "HEAD");
    assert_eq!(tree(server.cache_dir()), ["a.idx"]);
}

fn a_head_response_of_another_version_makes_the_stored_response_stale(io: Io) {
    let (index, server) = with_index(io, "Cache-Control: max-age=9999\r\n");
    index.change();
    let past = "Cache-Control: no-cache\r\n";
    // The name is there a moment before the fill is over, and until then there is no head to be told of.
    wait_until("it is stale", || {
        assert_eq!(server.ask("HEAD", "/a.idx", past).all("ETag"), ["\"v2\""]);
        server.get("/a.idx").body == body(2)
    });
}
