//! Partial files of interrupted fills, and the fills that resume them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::resume::{asked_from, give};
use crate::support::sandbox::{record, set_record};
use crate::support::{Client, Gate, Io, Launch, Origin, Server, bytes, on_both, tree, wait_until, within};

on_both!(
    a_fill_of_a_killed_server_resumes_where_it_stopped,
    a_fill_of_a_stopped_server_resumes_where_it_stopped,
    a_resumed_fill_is_not_stored_if_another_program_truncated_its_file,
    a_whole_partial_is_asked_for_its_last_byte,
    a_partial_of_a_changed_file_is_fetched_from_the_start,
    a_partial_is_fetched_from_the_start_when_the_origin_ignores_ranges,
    a_partial_stays_while_the_origin_is_down,
    a_partial_of_another_query_is_fetched_from_the_start,
    a_partial_is_gone_on_with_in_whatever_form_its_file_is_asked_for,
    a_rest_of_a_length_that_no_file_can_have_is_not_gone_on_with,
    a_partial_overwritten_by_another_program_is_fetched_from_the_start,
    after_a_power_cut_only_what_was_synced_is_used,
    a_partial_with_a_second_name_is_not_written_to,
    a_partial_without_a_validator_is_removed,
    partial_resumes_after_origin_timeout,
    a_partial_is_resumed_while_a_slow_client_still_reads_it,
    an_origin_that_never_answers_for_the_rest_is_asked_for_the_whole,
    an_origin_that_wants_to_be_asked_later_is_not_asked_for_the_whole_at_once,
    a_partial_whose_resume_brings_no_bytes_is_fetched_from_the_start,
    a_partial_of_a_file_that_is_gone_takes_its_directories_along,
    an_invalid_resume_response_removes_the_partial,
    a_fill_that_cannot_resume_leaves_no_file,
    a_fill_without_clients_continues_by_default,
    a_fill_without_clients_is_abandoned_if_so_wished,
    an_abandoned_fills_file_that_others_extend_is_not_gone_on_with,
    a_fill_without_clients_continues_above_the_percentage,
    without_sync_files_are_stored_as_well,
    left_overs_are_removed_only_if_so_wished,
);

const TAG: &str = "ETag: \"one\"\r\n";
const LENGTH: usize = 4_000_000;
const HALF: usize = 2_500_000;

/// Whether this file system takes the record; the tests that need it say so if not.
fn takes_records(dir: &Path) -> bool {
    let probe = dir.join("probe");
    fs::write(&probe, b"x").unwrap();
    let takes = set_record(&probe, "probe");
    fs::remove_file(&probe).unwrap();
    if !takes {
        eprintln!("SKIPPED: no extended attributes in {}", dir.display());
    }
    takes
}

/// An origin whose first answer stops in the middle until the gate opens.
fn stops_half_way(body: &[u8], tag: &'static str) -> (Origin, Gate) {
    let (gate, body) = (Gate::default(), body.to_vec());
    let held = gate.clone();
    let origin = Origin::start(move |request, reply| {
        if request.index > 0 {
            return give(request, reply, &body, tag, body.len());
        }
        reply.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\n{tag}Content-Length: {}\r\n\r\n",
            body.len()
        ));
        reply.write(&body[..HALF]);
        held.wait();
        reply.write(&body[HALF..]);
    });
    (origin, gate)
}

/// A fill of `/x.tgz` whose file has half of it, and its record if it is to get one.
fn half_filled(server: &Server, recorded: bool) -> Client {
    let mut client = server.client();
    client.ask("GET", "/x.tgz", "").head("GET");
    client.raw(HALF);
    if recorded {
        within("the record", || record(&server.path("x.tgz.in-progress")));
    }
    client
}

/// A killed server's cache directory with half a file in it.
fn killed(io: Io, origin: &Origin) -> Option<Server> {
    let mut server = Server::start(io, origin);
    if !takes_records(server.outside()) {
        return None;
    }
    drop(half_filled(&server, true));
    server.kill();
    assert_eq!(fs::metadata(server.path("x.tgz.in-progress")).unwrap().len(), HALF as u64);
    Some(server)
}

#[track_caller]
fn expect_gone_on(io: Io, origin: &Origin, first: &Server, body: &[u8]) {
    let second = Launch::new(io, origin).cache(first.cache_dir()).debug().start();
    let asked = origin.count();
    let answer = second.get("/x.tgz");
    answer.expect(200, body).expect_keep_alive();
    assert_eq!(answer.all("Content-Type"), ["text/x"], "what the rest did not repeat");
    assert_eq!(answer.all("ETag"), ["\"one\""]);
    assert_eq!(answer.all("Content-Range"), [""; 0]);
    second.expect_cached("x.tgz", body);
    second.expect_tree(&["x.tgz"]);
    assert_eq!(record(&second.path("x.tgz")), None, "a finished file says nothing of itself");
    let requests = origin.requests();
    assert_eq!(requests.len(), asked + 1);
    assert_eq!(asked_from(&requests[asked]), Some(HALF));
    assert_eq!(requests[asked].all("If-Range"), ["\"one\""]);
    second.err.wait_for(&format!("{HALF} bytes are left of an earlier fill - asking for the rest"));
    second.get("/x.tgz").expect(200, body);
}

fn a_fill_of_a_killed_server_resumes_where_it_stopped(io: Io) {
    let body = bytes(LENGTH, 1);
    let (origin, _gate) = stops_half_way(&body, TAG);
    let Some(first) = killed(io, &origin) else { return };
    expect_gone_on(io, &origin, &first, &body);
}

fn a_fill_of_a_stopped_server_resumes_where_it_stopped(io: Io) {
    let body = bytes(LENGTH, 2);
    let (origin, _gate) = stops_half_way(&body, TAG);
    let mut first = Launch::new(io, &origin).args(["--drain-timeout", "0.2"]).start();
    if !takes_records(first.outside()) {
        return;
    }
    let _client = half_filled(&first, true);
    first.signal(libc::SIGTERM);
    assert_eq!(first.wait().code(), Some(0));
    first.expect_tree(&["x.tgz.in-progress"]);
    expect_gone_on(io, &origin, &first, &body);
}

fn a_resumed_fill_is_not_stored_if_another_program_truncated_its_file(io: Io) {
    let body = bytes(LENGTH, 14);
    let gate = Gate::default();
    let (held, sent) = (gate.clone(), body.clone());
    let origin = Origin::start(move |request, reply| match asked_from(request) {
        None if request.index == 0 => give(request, reply, &sent, TAG, HALF),
        None => give(request, reply, &sent, TAG, sent.len()),
        Some(first) => {
            let (last, length) = (sent.len() - 1, sent.len());
            reply.write(format!(
                "HTTP/1.1 206 Partial Content\r\n{TAG}Content-Range: bytes {first}-{last}/{length}\r\n\
                 Content-Length: {}\r\n\r\n",
                length - first
            ));
            held.wait();
            reply.write(&sent[first..]);
        }
    });
    let Some(first) = killed(io, &origin) else { return };
    let second = Launch::new(io, &origin).cache(first.cache_dir()).debug().start();
    let mut client = second.client();
    let mut response = client.ask("GET", "/x.tgz", "").head("GET");
    response.body = client.raw(HALF);
    let file = fs::File::options().write(true).open(second.path("x.tgz.in-progress")).unwrap();
    file.set_len(0).unwrap();
    gate.open();
    client.finish(&mut response);
    response.expect(200, &body);
    second.err.wait_for("failed to save");
    second.expect_nothing_cached();
    second.get("/x.tgz").expect(200, &body);
    second.expect_cached("x.tgz", &body);
}

fn a_whole_partial_is_asked_for_its_last_byte(io: Io) {
    let body = bytes(LENGTH, 3);
    let (origin, _gate) = stops_half_way(&body, TAG);
    let Some(first) = killed(io, &origin) else { return };
    let partial = first.path("x.tgz.in-progress");
    // As if it had been killed just before the file got its name.
    let file = fs::File::options().write(true).open(&partial).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &body[HALF..], HALF as u64).unwrap();
    drop(file);
    let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
    second.get("/x.tgz").expect(200, &body);
    second.expect_cached("x.tgz", &body);
    assert_eq!(asked_from(&origin.requests()[1]), Some(LENGTH - 1));
    assert_eq!(origin.count(), 2);
}

fn a_partial_of_a_changed_file_is_fetched_from_the_start(io: Io) {
    let (old, new) = (bytes(LENGTH, 4), bytes(LENGTH, 5));
    for honours in [true, false] {
        let gate = Gate::default();
        let (held, first_body, second_body) = (gate.clone(), old.clone(), new.clone());
        let origin = Origin::start(move |request, reply| {
            if request.index == 0 {
                give(request, reply, &first_body, TAG, HALF);
                return held.wait();
            }
            if honours && request.field("If-Range") == Some("\"one\"") {
                reply.head(second_body.len(), "ETag: \"two\"\r\n");
                reply.write(&second_body);
            } else {
                give(request, reply, &second_body, "ETag: \"two\"\r\n", second_body.len());
            }
        });
        let Some(first) = killed(io, &origin) else { return };
        let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
        second.get("/x.tgz").expect(200, &new);
        second.expect_cached("x.tgz", &new);
        second.expect_tree(&["x.tgz"]);
        // One that keeps to the condition has sent the whole at once.
        assert_eq!(origin.count(), if honours { 2 } else { 3 });
        gate.open();
    }
}

fn a_partial_is_fetched_from_the_start_when_the_origin_ignores_ranges(io: Io) {
    let body = bytes(LENGTH, 6);
    let gate = Gate::default();
    let (held, sent) = (gate.clone(), body.clone());
    let origin = Origin::start(move |request, reply| {
        if request.index == 0 {
            give(request, reply, &sent, TAG, HALF);
            return held.wait();
        }
        reply.head(sent.len(), TAG);
        reply.write(&sent);
    });
    let Some(first) = killed(io, &origin) else { return };
    let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
    second.get("/x.tgz").expect(200, &body);
    second.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 2);
    gate.open();
}

fn a_partial_stays_while_the_origin_is_down(io: Io) {
    let body = bytes(LENGTH, 7);
    let gate = Gate::default();
    let (held, sent) = (gate.clone(), body.clone());
    let origin = Origin::start(move |request, reply| match request.index {
        0 => {
            give(request, reply, &sent, TAG, HALF);
            held.wait();
        }
        // The rest, and then the whole.
        1 | 2 => {
            reply.answer("503 Service Unavailable", "Connection: close\r\n", b"later");
            reply.close();
        }
        3 | 4 => reply.close(),
        _ => give(request, reply, &sent, TAG, sent.len()),
    });
    let Some(first) = killed(io, &origin) else { return };
    let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
    second.get("/x.tgz").expect(503, b"later");
    assert_eq!(second.get("/x.tgz").status, 502);
    second.expect_tree(&["x.tgz.in-progress"]);
    second.get("/x.tgz").expect(200, &body);
    second.expect_cached("x.tgz", &body);
    let asked: Vec<_> = origin.requests().iter().map(asked_from).collect();
    assert_eq!(asked, [None, Some(HALF), None, Some(HALF), None, Some(HALF)]);
    gate.open();
}

fn a_partial_of_another_query_is_fetched_from_the_start(io: Io) {
    let body = bytes(LENGTH, 8);
    let (origin, _gate) = stops_half_way(&body, TAG);
    let Some(first) = killed(io, &origin) else { return };
    let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
    second.get("/x.tgz?other").expect(200, &body);
    second.expect_cached("x.tgz", &body);
    assert_eq!(origin.requests()[1].field("Range"), None);
    assert_eq!(origin.count(), 2);
}

fn a_partial_is_gone_on_with_in_whatever_form_its_file_is_asked_for(io: Io) {
    let body = bytes(LENGTH, 8);
    for target in ["//x.tgz", "/a/../x.tgz", "/%2fx.tgz"] {
        let (origin, _gate) = stops_half_way(&body, TAG);
        let Some(first) = killed(io, &origin) else { return };
        let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
        second.get(target).expect(200, &body);
        second.expect_cached("x.tgz", &body);
        let rest = &origin.requests()[1];
        assert_eq!((rest.target.as_str(), asked_from(rest)), ("/x.tgz", Some(HALF)), "{target}");
    }
}

fn a_rest_of_a_length_that_no_file_can_have_is_not_gone_on_with(io: Io) {
    let body = bytes(LENGTH, 8);
    for total in [1_u64 << 63, u64::MAX] {
        let (of, gate) = (body.clone(), Gate::default());
        let held = gate.clone();
        let origin = Origin::start(move |request, reply| match request.field("Range") {
            _ if request.index == 0 => {
                reply.write("HTTP/1.1 200 OK\r\nETag: \"one\"\r\nTransfer-Encoding: chunked\r\n\r\n");
                reply.write(format!("{HALF:x}\r\n"));
                reply.write(&of[..HALF]);
                reply.write("\r\n");
                held.wait();
            }
            Some(range) => {
                let from: u64 =
                    range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
                let told = format!("ETag: \"one\"\r\nContent-Range: bytes {from}-{}/{total}\r\n", total - 1);
                reply.write(format!(
                    "HTTP/1.1 206 Partial Content\r\n{told}Transfer-Encoding: chunked\r\n\r\n4\r\nrest\r\n"
                ));
                reply.close();
            }
            None => reply.answer("200 OK", "ETag: \"one\"\r\n", &of),
        });
        let mut first = Server::start(io, &origin);
        if !takes_records(first.outside()) {
            return;
        }
        let mut client = first.client();
        client.ask("GET", "/x.tgz", "").head("GET");
        client.raw(HALF);
        within("the record", || record(&first.path("x.tgz.in-progress")));
        first.kill();
        let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
        second.get("/x.tgz").expect(200, &body);
        second.expect_cached("x.tgz", &body);
        assert!(origin.requests()[1].field("Range").is_some(), "the rest was not asked for");
        gate.open();
    }
}

fn a_partial_overwritten_by_another_program_is_fetched_from_the_start(io: Io) {
    let body = bytes(LENGTH, 21);
    // Its first bytes may be the same ones; what we have said of the file stays with it.
    let changed = [body[..8_000].to_vec(), bytes(HALF + 100_000, 22)].concat();
    let shifted = body[1..HALF].to_vec();
    let short = body[..10_000].to_vec();
    for other in [changed, shifted, short] {
        let (origin, _gate) = stops_half_way(&body, TAG);
        let Some(first) = killed(io, &origin) else { return };
        let partial = first.path("x.tgz.in-progress");
        fs::write(&partial, &other).unwrap();
        assert!(record(&partial).is_some());
        let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
        second.get("/x.tgz").expect(200, &body);
        second.expect_cached("x.tgz", &body);
        assert_eq!(asked_from(&origin.requests()[1]), None);
    }
}

fn after_a_power_cut_only_what_was_synced_is_used(io: Io) {
    let body = bytes(LENGTH, 9);
    for (synced, from) in [(0, None), (1_500_000, Some(1_500_000))] {
        let (origin, _gate) = stops_half_way(&body, TAG);
        let Some(first) = killed(io, &origin) else { return };
        let partial = first.path("x.tgz.in-progress");
        let mut lines: Vec<String> = record(&partial).unwrap().split('\n').map(str::to_owned).collect();
        lines[1] = "11111111-2222-3333-4444-555555555555".to_owned();
        lines[2] = synced.to_string();
        // Of the samples that were taken when that much was synced.
        (lines[3], lines[4]) = ("0".to_owned(), "0".to_owned());
        // What was not synced may be anything.
        let file = fs::File::options().write(true).open(&partial).unwrap();
        let lost = vec![0; HALF - synced];
        std::os::unix::fs::FileExt::write_all_at(&file, &lost, synced as u64).unwrap();
        drop(file);
        assert!(set_record(&partial, &lines.join("\n")));
        let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
        second.get("/x.tgz").expect(200, &body);
        second.expect_cached("x.tgz", &body);
        assert_eq!(asked_from(&origin.requests()[1]), from);
    }
}

fn a_partial_with_a_second_name_is_not_written_to(io: Io) {
    let body = bytes(LENGTH, 10);
    let (origin, _gate) = stops_half_way(&body, TAG);
    let Some(first) = killed(io, &origin) else { return };
    let copy = first.outside().join("copy");
    fs::hard_link(first.path("x.tgz.in-progress"), &copy).unwrap();
    let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
    second.get("/x.tgz").expect(200, &body);
    second.expect_cached("x.tgz", &body);
    assert_eq!(fs::read(&copy).unwrap(), &body[..HALF]);
    assert_eq!(origin.requests()[1].field("Range"), None);
}

fn a_partial_without_a_validator_is_removed(io: Io) {
    let body = bytes(LENGTH, 11);
    let (origin, gate) = stops_half_way(&body, "");
    let mut first = Launch::new(io, &origin).args(["--drain-timeout", "0.2"]).start();
    let client = half_filled(&first, false);
    first.signal(libc::SIGTERM);
    first.wait();
    drop(client);
    first.expect_nothing_cached();
    gate.open();
}

/// What becomes of the rest, which is asked for twice.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Outage {
    Reset,
    Dropped,
    Silent,
    Status,
}

/// An origin that gives half of it, and is out for the next two requests.
fn out_for_two(body: &[u8], outage: Outage, gate: &Gate) -> Origin {
    let (body, held) = (body.to_vec(), gate.clone());
    Origin::start(move |request, reply| match (request.index, outage) {
        (0, _) => give(request, reply, &body, TAG, HALF),
        (1 | 2, Outage::Reset) => reply.reset(),
        (1 | 2, Outage::Dropped) => give(request, reply, &body, TAG, asked_from(request).unwrap() + 1_000),
        (1 | 2, Outage::Silent) => {
            held.wait();
            reply.close();
        }
        (1 | 2, Outage::Status) => reply.answer("503 Service Unavailable", "", b"later"),
        _ => give(request, reply, &body, TAG, body.len()),
    })
}

fn partial_resumes_after_origin_timeout(io: Io) {
    let body = bytes(LENGTH, 17);
    for outage in [Outage::Reset, Outage::Dropped, Outage::Silent, Outage::Status] {
        let gate = Gate::default();
        let origin = out_for_two(&body, outage, &gate);
        let server = Launch::new(io, &origin)
            .args(["--resume-attempts", "2", "--response-timeout", "1"])
            .debug()
            .start();
        if !takes_records(server.outside()) {
            return;
        }
        let broken = server.get("/x.tgz");
        assert!(!broken.whole && body.starts_with(&broken.body), "{outage:?}");
        server.err.wait_for("download of x.tgz failed");
        server.expect_tree(&["x.tgz.in-progress"]);
        server.get("/x.tgz").expect(200, &body);
        server.expect_cached("x.tgz", &body);
        server.expect_tree(&["x.tgz"]);
        let requests = origin.requests();
        assert_eq!(requests.len(), 4, "{outage:?}");
        let from = if outage == Outage::Dropped { HALF + 2_000 } else { HALF };
        assert_eq!(asked_from(&requests[3]), Some(from), "{outage:?}: sent again");
        gate.open();
    }
}

fn a_partial_is_resumed_while_a_slow_client_still_reads_it(io: Io) {
    // More than sockets take for a reader that does not read.
    const CUT: usize = 24_000_000;
    let body = bytes(30_000_000, 18);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| match request.index {
        0 => give(request, reply, &sent, TAG, CUT),
        1 => reply.reset(),
        _ => give(request, reply, &sent, TAG, sent.len()),
    });
    let server = Launch::new(io, &origin).args(["--resume-attempts", "1"]).debug().start();
    if !takes_records(server.outside()) {
        return;
    }
    let mut slow = Client::connect_with_small_window(server.addr());
    let mut answer = slow.ask("GET", "/x.tgz", "").head("GET");
    server.err.wait_for("download of x.tgz failed");
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.requests().iter().map(asked_from).collect::<Vec<_>>(), [None, Some(CUT), Some(CUT)]);
    slow.finish(&mut answer);
    assert!(!answer.whole && answer.body == body[..CUT]);
}

fn an_origin_that_never_answers_for_the_rest_is_asked_for_the_whole(io: Io) {
    let body = bytes(LENGTH, 19);
    for fault in ["reset", "error", "silence"] {
        let (sent, silence) = (body.clone(), Gate::default());
        let origin = Origin::start(move |request, reply| match request.field("Range") {
            Some(_) if fault == "reset" => reply.reset(),
            Some(_) if fault == "silence" => silence.wait(),
            Some(_) => reply.answer("500 Internal Server Error", "", b"ranges are beyond me"),
            None => give(request, reply, &sent, TAG, if request.index == 0 { HALF } else { sent.len() }),
        });
        let patience = ["--resume-attempts", "1", "--response-timeout", "0.5"];
        let server = Launch::new(io, &origin).args(patience).start();
        if !takes_records(server.outside()) {
            return;
        }
        assert!(!server.get("/x.tgz").whole);
        server.expect_tree(&["x.tgz.in-progress"]);
        server.get("/x.tgz").expect(200, &body);
        server.expect_cached("x.tgz", &body);
        assert_eq!(
            origin.requests().iter().map(asked_from).collect::<Vec<_>>(),
            [None, Some(HALF), Some(HALF), None]
        );
    }
}

fn a_partial_of_a_file_that_is_gone_takes_its_directories_along(io: Io) {
    let body = bytes(LENGTH, 23);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| match request.index {
        0 => give(request, reply, &sent, TAG, HALF),
        1 => reply.answer("503 Service Unavailable", "", b"later"),
        2 | 3 => reply.answer("404 Not Found", "", b"gone"),
        _ => give(request, reply, &sent, TAG, sent.len()),
    });
    let server = Launch::new(io, &origin).args(["--resume-attempts", "1"]).start();
    if !takes_records(server.outside()) {
        return;
    }
    assert!(!server.get("/a/b.tgz/c.tgz").whole);
    server.expect_tree(&["a/b.tgz/c.tgz.in-progress"]);
    server.get("/a/b.tgz/c.tgz").expect(404, b"gone");
    wait_until("the directories are gone", || !server.path("a").exists());
    server.get("/a/b.tgz").expect(200, &body);
    server.expect_cached("a/b.tgz", &body);
}

fn an_origin_that_wants_to_be_asked_later_is_not_asked_for_the_whole_at_once(io: Io) {
    let body = bytes(LENGTH, 38);
    for refusal in ["503 Later\r\nRetry-After: 1", "429 Later"] {
        let (sent, busy) = (body.clone(), Arc::new(AtomicBool::new(true)));
        let is_busy = Arc::clone(&busy);
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::start(move |request, reply| {
            if request.index == 0 {
                reply.write(format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\n{TAG}Content-Length: {LENGTH}\r\n\r\n"
                ));
                reply.write(&sent[..HALF]);
                held.wait();
                reply.close();
            } else if is_busy.load(Ordering::SeqCst) {
                reply.write(format!("HTTP/1.1 {refusal}\r\nContent-Length: 4\r\n\r\nbusy"));
            } else {
                give(request, reply, &sent, TAG, sent.len());
            }
        });
        let Some(first) = killed(io, &origin) else { return };
        gate.open();
        let second = Launch::new(io, &origin).cache(first.cache_dir()).start();
        let asked = origin.count();
        assert_eq!(second.get("/x.tgz").status.to_string(), refusal[..3]);
        assert_eq!(origin.count(), asked + 1, "asked again at once: {refusal}");
        busy.store(false, Ordering::SeqCst);
        drop(second);
        expect_gone_on(io, &origin, &first, &body);
    }
}

fn a_partial_whose_resume_brings_no_bytes_is_fetched_from_the_start(io: Io) {
    let body = bytes(LENGTH, 20);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| match asked_from(request) {
        Some(from) => give(request, reply, &sent, TAG, from),
        None => give(request, reply, &sent, TAG, if request.index == 0 { HALF } else { sent.len() }),
    });
    let server = Launch::new(io, &origin).args(["--resume-attempts", "1"]).start();
    if !takes_records(server.outside()) {
        return;
    }
    assert!(!server.get("/x.tgz").whole);
    server.expect_tree(&["x.tgz.in-progress"]);
    // What is there may be good, but there is no way on from it.
    assert!(!server.get("/x.tgz").whole);
    server.expect_nothing_cached();
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
}

fn an_invalid_resume_response_removes_the_partial(io: Io) {
    let body = bytes(LENGTH, 21);
    for nonsense in [
        "HTTP/1.1 206 x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 206 x\r\nETag: \"two\"\r\nContent-Range: bytes 2500000-3999999/4000000\r\n\r\n",
        "HTTP/1.1 200 x\r\nETag: \"one\"\r\nContent-Length: 4000001\r\n\r\n",
        "no HTTP at all\r\n\r\n",
    ] {
        let sent = body.clone();
        let origin = Origin::start(move |request, reply| match request.index {
            0 => give(request, reply, &sent, TAG, HALF),
            1 => {
                reply.write(nonsense);
                reply.close();
            }
            _ => give(request, reply, &sent, TAG, sent.len()),
        });
        let server = Launch::new(io, &origin).args(["--resume-attempts", "1"]).start();
        assert!(!server.get("/x.tgz").whole, "{nonsense}");
        server.expect_nothing_cached();
        server.get("/x.tgz").expect(200, &body);
        assert_eq!(origin.requests()[2].field("Range"), None, "{nonsense}");
    }
}

fn a_fill_that_cannot_resume_leaves_no_file(io: Io) {
    let body = bytes(LENGTH, 12);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| match request.field("Range") {
        Some(_) => reply.answer("404 Not Found", "", b"gone"),
        None => give(request, reply, &sent, TAG, HALF),
    });
    let server = Server::start(io, &origin);
    assert!(!server.get("/x.tgz").whole);
    server.expect_nothing_cached();
}

fn a_fill_without_clients_continues_by_default(io: Io) {
    let body = bytes(LENGTH, 13);
    let (origin, gate) = stops_half_way(&body, TAG);
    let server = Server::start(io, &origin);
    half_filled(&server, false).abort();
    gate.open();
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 1);
}

/// Sends the body in small steps for as long as anybody takes it; whole to a request for the rest.
fn trickles(body: &[u8], tag: &'static str) -> Origin {
    let body = body.to_vec();
    Origin::start(move |request, reply| {
        if request.index > 0 {
            return give(request, reply, &body, tag, body.len());
        }
        reply.write(format!("HTTP/1.1 200 OK\r\n{tag}Content-Length: {}\r\n\r\n", body.len()));
        reply.write(&body[..HALF]);
        for piece in body[HALF..].chunks(10_000) {
            std::thread::sleep(std::time::Duration::from_millis(10));
            if !reply.write(piece) {
                return;
            }
        }
    })
}

fn a_fill_without_clients_is_abandoned_if_so_wished(io: Io) {
    let body = bytes(LENGTH, 14);
    // Below 99 percent it is given up; with a validator its file stays.
    for (policy, tag) in [("always", TAG), ("99", TAG), ("always", "")] {
        let origin = trickles(&body, tag);
        let server = Launch::new(io, &origin).args(["--abandon-fill", policy]).debug().start();
        if !takes_records(server.outside()) {
            return;
        }
        half_filled(&server, !tag.is_empty()).abort();
        server.err.wait_for("download of x.tgz abandoned - all clients have left");
        if tag.is_empty() {
            server.expect_nothing_cached();
        } else {
            assert_eq!(tree(server.cache_dir()), ["x.tgz.in-progress"]);
        }
        let second = server.get("/x.tgz");
        second.expect(200, &body);
        server.expect_cached("x.tgz", &body);
        let from = asked_from(&origin.requests()[1]);
        assert_eq!(from.is_some_and(|from| from >= HALF), !tag.is_empty(), "{policy}: {from:?}");
        assert_eq!(origin.count(), 2);
    }
}

fn an_abandoned_fills_file_that_others_extend_is_not_gone_on_with(io: Io) {
    let body = bytes(LENGTH, 17);
    let gate = Gate::default();
    let left = Gate::default();
    let (held, first, sent) = (gate.clone(), left.clone(), body.clone());
    let origin = Origin::start(move |request, reply| {
        if request.index > 0 {
            return give(request, reply, &sent, TAG, sent.len());
        }
        reply.head(sent.len(), TAG);
        reply.write(&sent[..HALF]);
        first.wait();
        // What is sent to a client that has left shows that it has.
        reply.write(&sent[HALF..HALF + 1_000]);
        held.wait();
        reply.close();
    });
    let server = Launch::new(io, &origin).args(["--abandon-fill", "always"]).debug().start();
    if !takes_records(server.outside()) {
        return;
    }
    half_filled(&server, true).abort();
    left.open();
    wait_until("the client is gone", || server.out.all().len() == 1);
    let mut file = fs::File::options().append(true).open(server.path("x.tgz.in-progress")).unwrap();
    file.write_all(b"appended").unwrap();
    gate.open();
    server.err.wait_for("download of x.tgz abandoned - all clients have left");
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
    assert_eq!(asked_from(&origin.requests()[1]), None);
}

fn a_fill_without_clients_continues_above_the_percentage(io: Io) {
    let body = bytes(LENGTH, 15);
    let origin = trickles(&body, TAG);
    let server = Launch::new(io, &origin).args(["--abandon-fill", "50"]).start();
    half_filled(&server, false).abort();
    wait_until("the client is gone", || server.out.all().len() == 1);
    assert!(!server.path("x.tgz").exists(), "it was to be gone in mid-body");
    server.expect_cached("x.tgz", &body);
    assert_eq!(origin.count(), 1);
}

fn without_sync_files_are_stored_as_well(io: Io) {
    let body = bytes(LENGTH, 16);
    let origin = Origin::fixed(&body);
    let server = Launch::new(io, &origin).args(["--no-sync"]).start();
    for name in ["/a/b/x.tgz", "/x.tgz"] {
        server.get(name).expect(200, &body);
        server.expect_cached(&name[1..], &body);
    }
    server.expect_tree(&["a/b/x.tgz", "x.tgz"]);
}

fn left_overs_are_removed_only_if_so_wished(io: Io) {
    let origin = Origin::silent();
    let dir = tempfile::tempdir().unwrap();
    let all = ["d/x.tgz.in-progress", "d/y.txt.in-progress", "e/f/x.tgz.in-progress", "z.tgz"];
    for name in all {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"left").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7_200)).unwrap();
    }
    let server = Launch::new(io, &origin).cache(dir.path()).start();
    server.get("/z.tgz").expect(200, b"left");
    server.expect_tree(&all);
    drop(server);
    let server =
        Launch::new(io, &origin).cache(dir.path()).args(["--sweep-partials", "3600"]).debug().start();
    server.err.wait_for("removed d/x.tgz.in-progress - untouched for long");
    wait_until("what was made for one of them is gone", || !dir.path().join("e").exists());
    server.expect_tree(&[all[1], all[3]]);
    server.get("/z.tgz").expect(200, b"left");
}
