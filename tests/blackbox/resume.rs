//! An origin that breaks off in mid-body: the rest is asked for, on the same client connections, and
//! parts of two files are never put together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::origin::Request;
use crate::support::tls::Identity;
use crate::support::util::chunked;
use crate::support::{Gate, Io, LAST_MODIFIED, Launch, Origin, Reply, Server, bytes, on_both, wait_until};

on_both!(
    a_fill_cut_at_any_offset_is_exact_on_the_same_connection,
    a_fill_cut_by_resets_is_exact,
    a_fill_with_a_date_and_a_length_resumes,
    a_chunked_fill_cut_at_any_offset_is_exact,
    a_fill_cut_behind_tls_is_exact,
    an_origin_that_falls_silent_is_asked_for_the_rest,
    followers_wait_while_the_rest_is_asked_for,
    an_origin_that_ignores_ranges_is_read_again_from_the_start,
    an_origin_that_is_down_for_a_moment_is_asked_again,
    a_changed_tag_breaks_the_transfer_and_stores_nothing,
    another_tag_beside_the_same_date_mixes_no_two_files,
    an_answer_that_does_not_fit_breaks_the_transfer_and_stores_nothing,
    a_chunked_rest_that_is_too_long_or_too_short_stores_nothing,
    an_origin_that_never_gives_the_rest_is_asked_a_few_times_only,
    an_origin_that_gives_a_byte_at_a_time_is_asked_a_few_times_only,
    no_attempts_means_no_second_request,
    a_broken_chunk_is_not_gone_on_with,
    a_weak_tag_or_a_young_date_is_not_gone_on_with,
);

const TAG: &str = "ETag: \"one\"\r\n";

/// The offset that a request for the rest asks from.
pub(crate) fn asked_from(request: &Request) -> Option<usize> {
    request.field("Range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// Answers with what was asked for, up to the offset `cut` of the whole; `tag` are the validator's lines.
pub(crate) fn give(request: &Request, reply: &mut Reply<'_>, body: &[u8], tag: &str, cut: usize) {
    let total = body.len();
    let from = asked_from(request).unwrap_or(0);
    if request.field("Range").is_some() {
        assert!(request.field("If-Range").is_some(), "a range without its condition");
        reply.write(format!(
            "HTTP/1.1 206 Partial Content\r\n{tag}Content-Range: bytes {from}-{}/{total}\r\n\
             Content-Length: {}\r\n\r\n",
            total - 1,
            total - from
        ));
    } else {
        reply.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\n{tag}Content-Length: {total}\r\n\r\n"
        ));
    }
    reply.write(&body[from..cut.max(from)]);
    if cut < total {
        reply.close();
    }
}

/// Breaks off at each of these offsets in turn, then gives all of it.
fn breaks_at(body: &[u8], tag: &'static str, cuts: Vec<usize>) -> Origin {
    let body = body.to_vec();
    Origin::start(move |request, reply| {
        give(request, reply, &body, tag, cuts.get(request.index).copied().unwrap_or(body.len()));
    })
}

/// Two requests on one connection get the exact body, which is stored; the origin's requests.
#[track_caller]
fn expect_exact(server: &Server, origin: &Origin, body: &[u8]) -> Vec<Request> {
    let mut client = server.client();
    client.get("/x.tgz").expect(200, body).expect_keep_alive();
    client.get("/x.tgz").expect(200, body);
    server.expect_cached("x.tgz", body);
    server.expect_tree(&["x.tgz"]);
    origin.requests()
}

fn a_fill_cut_at_any_offset_is_exact_on_the_same_connection(io: Io) {
    let body = bytes(1_500_000, 1);
    let random = |seed: u64| {
        let picked = bytes(4 * 8, seed);
        let offsets = picked.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()) % 1_500_000);
        let mut offsets: Vec<_> = offsets.map(|offset| usize::try_from(offset).unwrap()).collect();
        offsets.sort_unstable();
        offsets
    };
    let fixed = [vec![0], vec![1], vec![1_499_999], vec![400_000, 700_001, 700_001, 1_400_000]];
    for cuts in fixed.into_iter().chain((100..106).map(random)) {
        let origin = breaks_at(&body, TAG, cuts.clone());
        let server = Server::start(io, &origin);
        let requests = expect_exact(&server, &origin, &body);
        assert_eq!(requests.len(), 1 + cuts.len());
        for (request, cut) in requests[1..].iter().zip(&cuts) {
            assert_eq!(asked_from(request), Some(*cut));
            assert_eq!(request.all("If-Range"), ["\"one\""]);
            assert_eq!(request.all("Accept-Encoding"), ["identity"]);
        }
        assert_eq!(requests[0].field("Range"), None);
    }
}

fn a_fill_cut_by_resets_is_exact(io: Io) {
    let body = bytes(900_000, 2);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| {
        let cut = if request.index < 3 { 200_000 * (request.index + 1) } else { sent.len() };
        give(request, reply, &sent, TAG, cut);
        if request.index < 3 {
            // The bytes before the reset reach the server first, or are lost: both are to be seen.
            std::thread::sleep(std::time::Duration::from_millis(20 * request.index as u64));
            reply.reset();
        }
    });
    let server = Server::start(io, &origin);
    assert_eq!(expect_exact(&server, &origin, &body).len(), 4);
}

fn a_fill_with_a_date_and_a_length_resumes(io: Io) {
    let body = bytes(300_000, 3);
    let tag = "Last-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n";
    let origin = breaks_at(&body, tag, vec![100_000]);
    let server = Launch::new(io, &origin).debug().start();
    let requests = expect_exact(&server, &origin, &body);
    assert_eq!(requests[1].all("If-Range"), [LAST_MODIFIED]);
    server.err.wait_for("body ended at 100000 - origin: body cut short - asking for the rest, attempt 1");
    server.err.wait_for("resuming at 100000, 100000 bytes saved");
    server.err.wait_for("renamed ");
}

fn a_chunked_fill_cut_at_any_offset_is_exact(io: Io) {
    let body = bytes(300_000, 4);
    let message = chunked(&body, 7_000);
    // Within a chunk, within a size line, after a chunk, and before the last one: all bytes are there.
    for cut in [20_000, 7_007, 7_003, message.len() - 5] {
        let (sent, message) = (body.clone(), message.clone());
        let origin = Origin::start(move |request, reply| {
            if request.index == 0 {
                reply.write(format!("HTTP/1.1 200 OK\r\n{TAG}Transfer-Encoding: chunked\r\n\r\n"));
                reply.write(&message[..cut]);
                reply.close();
            } else if request.index == 1 {
                // The rest in chunks too.
                let from = asked_from(request).unwrap();
                let last = sent.len() - 1;
                reply.write(format!(
                    "HTTP/1.1 206 Partial Content\r\n{TAG}Content-Range: bytes {from}-{last}/{}\r\n\
                     Transfer-Encoding: chunked\r\n\r\n",
                    sent.len()
                ));
                reply.write(chunked(&sent[from..], 5_000));
            } else {
                give(request, reply, &sent, TAG, sent.len());
            }
        });
        let server = Server::start(io, &origin);
        assert_eq!(expect_exact(&server, &origin, &body).len(), 2, "cut at {cut}");
    }
}

fn a_fill_cut_behind_tls_is_exact(io: Io) {
    let identity = Identity::signed("localhost");
    let body = bytes(700_000, 5);
    for chunks in [false, true] {
        let sent = body.clone();
        let origin = Origin::start_tls(identity.config.clone(), move |request, reply| {
            if chunks && request.index == 0 {
                reply.write(format!("HTTP/1.1 200 OK\r\n{TAG}Transfer-Encoding: chunked\r\n\r\n"));
                reply.write(&chunked(&sent, 10_000)[..333_333]);
                return reply.close();
            }
            let cut = if request.index < 2 { 250_001 * (request.index + 1) } else { sent.len() };
            give(request, reply, &sent, TAG, cut);
        });
        let dir = tempfile::tempdir().unwrap();
        let server = Launch::new(io, &origin).env("SSL_CERT_FILE", identity.save(dir.path())).start();
        assert_eq!(expect_exact(&server, &origin, &body).len(), 3);
    }
}

fn an_origin_that_falls_silent_is_asked_for_the_rest(io: Io) {
    let body = bytes(300_000, 6);
    let (sent, gate) = (body.clone(), Gate::default());
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        let cut = if request.index == 0 { 123_456 } else { sent.len() };
        give(request, reply, &sent, TAG, cut);
        if request.index == 0 {
            held.wait();
        }
    });
    let server = Launch::new(io, &origin).args(["--stall-timeout", "1"]).start();
    assert_eq!(expect_exact(&server, &origin, &body).len(), 2);
    gate.open();
}

fn followers_wait_while_the_rest_is_asked_for(io: Io) {
    let body = bytes(400_000, 7);
    let (sent, gate) = (body.clone(), Gate::default());
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        if request.index == 1 {
            held.wait();
        }
        give(request, reply, &sent, TAG, if request.index == 0 { 150_000 } else { sent.len() });
    });
    let server = Server::start(io, &origin);
    let mut clients: Vec<_> = (0..5).map(|_| server.client()).collect();
    let mut responses: Vec<_> =
        clients.iter_mut().map(|client| client.ask("GET", "/x.tgz", "").head("GET")).collect();
    wait_until("the rest is asked for", || origin.count() == 2);
    // One that joins while nothing comes; and one that is content with what is there.
    let mut late = server.client();
    let mut joined = late.ask("GET", "/x.tgz", "").head("GET");
    server.ask("GET", "/x.tgz", "Range: bytes=100-149\r\n").expect(206, &body[100..150]);
    gate.open();
    for (client, response) in clients.iter_mut().zip(&mut responses) {
        client.finish(response);
        response.expect(200, &body);
    }
    late.finish(&mut joined);
    joined.expect(200, &body);
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 2);
}

fn an_origin_that_ignores_ranges_is_read_again_from_the_start(io: Io) {
    let body = bytes(800_000, 8);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| {
        reply.head(sent.len(), "");
        let cut = if request.index < 2 { 300_000 * (request.index + 1) } else { sent.len() };
        reply.write(&sent[..cut]);
        if cut < sent.len() {
            reply.close();
        }
    });
    let server = Server::start(io, &origin);
    let requests = expect_exact(&server, &origin, &body);
    let asked: Vec<_> = requests.iter().map(asked_from).collect();
    assert_eq!(asked, [None, Some(300_000), Some(600_000)]);
}

fn an_origin_that_is_down_for_a_moment_is_asked_again(io: Io) {
    let body = bytes(300_000, 9);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| match request.index {
        0 => give(request, reply, &sent, TAG, 100_000),
        1 => reply.answer("503 Service Unavailable", "", b"in a moment"),
        2 => reply.close(),
        3 => reply.answer("502 Bad Gateway", "Connection: close\r\n", b""),
        _ => give(request, reply, &sent, TAG, sent.len()),
    });
    let server = Server::start(io, &origin);
    assert_eq!(expect_exact(&server, &origin, &body).len(), 5);
}

/// The client sees a broken transfer of good bytes, nothing is stored, and the next request is served
/// whole from what the origin has then.
#[track_caller]
fn expect_broken(server: &Server, old: &[u8], new: &[u8]) {
    let mut client = server.client();
    let broken = client.ask("GET", "/x.tgz", "").response("GET");
    assert_eq!(broken.status, 200);
    assert!(!broken.whole, "a mixed or short body passed for a whole one");
    assert!(old.starts_with(&broken.body), "bytes of something else");
    client.expect_closed();
    server.expect_nothing_cached();
    server.get("/x.tgz").expect(200, new);
    server.expect_cached("x.tgz", new);
}

fn a_changed_tag_breaks_the_transfer_and_stores_nothing(io: Io) {
    let (old, new) = (bytes(300_000, 10), bytes(300_000, 11));
    for honours in [true, false] {
        let (first, second) = (old.clone(), new.clone());
        let origin = Origin::start(move |request, reply| {
            if request.index == 0 {
                return give(request, reply, &first, TAG, 100_000);
            }
            if honours || request.field("Range").is_none() {
                return give(request, reply, &second, "ETag: \"two\"\r\n", second.len());
            }
            // As it should be: the condition does not hold, so the range does not count.
            reply.head(second.len(), "ETag: \"two\"\r\n");
            reply.write(&second);
        });
        let server = Server::start(io, &origin);
        expect_broken(&server, &old, &new);
        assert_eq!(origin.count(), 3);
    }
}

fn another_tag_beside_the_same_date_mixes_no_two_files(io: Io) {
    const DATE: &str = "Last-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n";
    let (old, new) = (bytes(300_000, 19), bytes(300_000, 20));
    for (before, after) in [("", "ETag: W/\"two\"\r\n"), ("", "ETag: \"two\"\r\n")] {
        let (first, second) = (old.clone(), new.clone());
        let origin = Origin::start(move |request, reply| {
            let (body, tag, cut) =
                if request.index == 0 { (&first, before, 100_000) } else { (&second, after, second.len()) };
            give(request, reply, body, &format!("{tag}{DATE}"), cut);
        });
        let server = Server::start(io, &origin);
        expect_broken(&server, &old, &new);
        assert_eq!(origin.requests()[1].all("If-Range"), [LAST_MODIFIED], "{before} {after}");
    }
}

fn an_answer_that_does_not_fit_breaks_the_transfer_and_stores_nothing(io: Io) {
    let body = bytes(300_000, 12);
    for answer in [
        "206 x\r\nETag: \"one\"\r\nContent-Range: bytes 99999-299999/300000\r\nContent-Length: 200001",
        "206 x\r\nETag: \"one\"\r\nContent-Range: bytes 100001-299999/300000\r\nContent-Length: 199999",
        "206 x\r\nETag: \"one\"\r\nContent-Range: bytes 100000-299998/300000\r\nContent-Length: 199999",
        "206 x\r\nETag: \"one\"\r\nContent-Range: bytes 100000-300000/300001\r\nContent-Length: 200001",
        "206 x\r\nETag: \"one\"\r\nContent-Range: bytes 100000-299999/*\r\nContent-Length: 200000",
        "206 x\r\nETag: \"one\"\r\nContent-Range: bytes 100000-299999/300000\r\nContent-Length: 199999",
        "206 x\r\nETag: \"one\"\r\nContent-Range: bytes 100000-299999/300000",
        "206 x\r\nETag: \"one\"\r\nContent-Length: 200000",
        "206 x\r\nETag: \"one\"\r\nContent-Type: multipart/byteranges; boundary=b\r\n\
         Content-Range: bytes 100000-299999/300000\r\nContent-Length: 200000",
        "206 x\r\nContent-Range: bytes 100000-299999/300000\r\nContent-Length: 200000",
        "206 x\r\nETag: \"one\"\r\nContent-Encoding: gzip\r\nContent-Range: bytes 100000-299999/300000\r\n\
         Content-Length: 200000",
        "200 x\r\nETag: \"one\"\r\nContent-Length: 300001",
        "200 x\r\nContent-Length: 300000",
        "416 x\r\nContent-Range: bytes */100000\r\nContent-Length: 0",
        "404 x\r\nContent-Length: 0",
        "302 x\r\nLocation: /y.tgz\r\nContent-Length: 0",
    ] {
        let sent = body.clone();
        let origin = Origin::start(move |request, reply| match request.index {
            0 => give(request, reply, &sent, TAG, 100_000),
            1 => {
                reply.write(format!("HTTP/1.1 {answer}\r\n\r\n"));
                if !answer.ends_with("Content-Length: 0") {
                    reply.write(vec![b'!'; 300_001]);
                }
                reply.close();
            }
            _ => give(request, reply, &sent, TAG, sent.len()),
        });
        let server = Server::start(io, &origin);
        expect_broken(&server, &body, &body);
        assert_eq!(origin.count(), 3, "{answer}");
    }
}

fn a_chunked_rest_that_is_too_long_or_too_short_stores_nothing(io: Io) {
    let body = bytes(300_000, 13);
    for off in [-1_isize, 1] {
        let mut rest = body[100_000..].to_vec();
        rest.resize(200_000_usize.checked_add_signed(off).unwrap(), b'!');
        let sent = body.clone();
        let origin = Origin::start(move |request, reply| match request.index {
            0 => give(request, reply, &sent, TAG, 100_000),
            1 => {
                reply.write(format!(
                    "HTTP/1.1 206 x\r\n{TAG}Content-Range: bytes 100000-299999/300000\r\n\
                     Transfer-Encoding: chunked\r\n\r\n"
                ));
                reply.write(chunked(&rest, 200_001));
                reply.close();
            }
            _ => give(request, reply, &sent, TAG, sent.len()),
        });
        let server = Server::start(io, &origin);
        let first = server.get("/x.tgz");
        assert!(body.starts_with(&first.body));
        // All of the bytes may be out before the origin's error shows; they are the right ones then.
        assert!(!first.whole || first.body.len() == body.len());
        server.expect_nothing_cached();
        server.get("/x.tgz").expect(200, &body);
        server.expect_cached("x.tgz", &body);
    }
}

fn an_origin_that_never_gives_the_rest_is_asked_a_few_times_only(io: Io) {
    let body = bytes(300_000, 14);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| {
        if request.index == 0 || request.field("Range").is_some() {
            give(request, reply, &sent, TAG, 100_000);
        } else {
            give(request, reply, &sent, TAG, sent.len());
        }
    });
    let server = Launch::new(io, &origin).args(["--resume-attempts", "3"]).start();
    expect_broken(&server, &body, &body);
    assert_eq!(origin.count(), 1 + 3 + 1);
}

fn an_origin_that_gives_a_byte_at_a_time_is_asked_a_few_times_only(io: Io) {
    let body = bytes(300_000, 15);
    let sent = body.clone();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let origin = Origin::start(move |request, reply| match asked_from(request) {
        Some(from) => {
            counted.fetch_add(1, Ordering::Relaxed);
            give(request, reply, &sent, TAG, from + 1);
        }
        None => give(request, reply, &sent, TAG, if request.index == 0 { 100_000 } else { sent.len() }),
    });
    let server = Launch::new(io, &origin).env("FS_CACHE_RESUME_ATTEMPTS", "4").start();
    expect_broken(&server, &body, &body);
    assert_eq!(tries.load(Ordering::Relaxed), 4);
}

fn no_attempts_means_no_second_request(io: Io) {
    let body = bytes(300_000, 16);
    let origin = breaks_at(&body, TAG, vec![100_000]);
    let server = Launch::new(io, &origin).args(["--resume-attempts", "0"]).start();
    expect_broken(&server, &body, &body);
    assert!(origin.requests().iter().all(|request| request.field("Range").is_none()));
    assert_eq!(origin.count(), 2);
}

fn a_broken_chunk_is_not_gone_on_with(io: Io) {
    let body = bytes(20_000, 17);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| {
        if request.index > 0 {
            return give(request, reply, &sent, TAG, sent.len());
        }
        reply.write(format!("HTTP/1.1 200 OK\r\n{TAG}Transfer-Encoding: chunked\r\n\r\n"));
        reply.write(b"2710\r\n");
        reply.write(&sent[..10_000]);
        reply.write(b"\r\nzz\r\n");
        reply.close();
    });
    let server = Server::start(io, &origin);
    expect_broken(&server, &body, &body);
    assert!(origin.requests().iter().all(|request| request.field("Range").is_none()));
    assert_eq!(origin.count(), 2);
}

fn a_weak_tag_or_a_young_date_is_not_gone_on_with(io: Io) {
    let body = bytes(300_000, 18);
    for tag in [
        "ETag: W/\"one\"\r\n",
        "ETag: W/\"one\"\r\nLast-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n",
        "Date: Sat, 16 May 2015 20:31:40 GMT\r\nLast-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n",
    ] {
        let origin = breaks_at(&body, tag, vec![100_000]);
        let server = Server::start(io, &origin);
        expect_broken(&server, &body, &body);
        assert!(origin.requests().iter().all(|request| request.field("Range").is_none()), "{tag}");
    }
}
