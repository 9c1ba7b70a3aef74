//! An interrupted transfer of the revalidated class: the rest is requested, of the same version.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::resume::{asked_from, give};
use crate::support::{Gate, Io, Launch, Origin, Server, bytes, on_both, wait_until};

on_both!(
    an_index_that_is_cut_anywhere_is_exact_on_the_same_connection,
    an_index_that_is_replaced_and_cut_is_exact_and_asked_for_without_the_old_conditions,
    everybody_waits_for_the_rest_of_an_index,
    the_rest_of_an_index_is_asked_for_in_nobodys_name,
    an_index_that_changes_while_it_is_cut_is_a_broken_transfer,
    an_index_without_proof_is_not_gone_on_with,
    no_attempts_means_no_second_request_for_an_index,
    an_index_without_a_rest_leaves_nothing_for_the_next_request,
    a_member_that_is_cut_while_a_set_is_collected_is_of_the_new_state,
    a_member_that_never_comes_whole_leaves_the_set_for_an_outage,
);

const TAG: &str = "ETag: \"one\"\r\n";

/// Arguments, and a file of the class that is checked: alone, and as members of sets.
const FILES: [(&[&str], &str); 4] = [
    (&["--revalidate", r"\.idx$"], "/a.idx"),
    (&["--preset", "pkgsrc"], "/All/pkg_summary.gz"),
    (&["--preset", "apt"], "/d/dists/x/Contents-amd64.gz"),
    (&["--preset", "rpm"], "/f/repodata/repomd.xml"),
];

fn an_index_that_is_cut_anywhere_is_exact_on_the_same_connection(io: Io) {
    let body = bytes(400_000, 31);
    for (args, target) in FILES {
        for cuts in [vec![0], vec![100_000], vec![399_999], vec![1, 150_000, 300_001]] {
            let (sent, theirs) = (body.clone(), cuts.clone());
            let origin = Origin::start(move |request, reply| {
                give(request, reply, &sent, TAG, theirs.get(request.index).copied().unwrap_or(sent.len()));
            });
            let server = Launch::new(io, &origin).args(args).start();
            server.get(target).expect(200, &body).expect_keep_alive();
            server.expect_cached(&target[1..], &body);
            server.expect_tree(&[&target[1..]]);
            let requests = origin.requests();
            let asked: Vec<_> = requests.iter().map(asked_from).collect();
            let due: Vec<_> = [None].into_iter().chain(cuts.iter().map(|cut| Some(*cut))).collect();
            assert_eq!(asked, due, "{target}");
            for request in &requests[1..] {
                assert_eq!(request.all("If-Range"), ["\"one\""]);
                assert_eq!(request.all("Accept-Encoding"), ["identity"]);
            }
        }
    }
}

/// An origin whose file is of one state after the other, with a tag of each; each but the first breaks off once.
fn of_states(bodies: Vec<Vec<u8>>) -> (Origin, Arc<AtomicUsize>) {
    let state = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&state);
    let origin = Origin::start(move |request, reply| {
        let state = now.load(Ordering::SeqCst);
        let (tag, body) = (format!("\"{state}\""), &bodies[state]);
        if request.field("If-None-Match") == Some(&tag) {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n"));
            return;
        }
        let whole = state == 0 || request.field("Range").is_some();
        let lines = format!("ETag: {tag}\r\nLast-Modified: Sat, 16 May 2015 20:31:39 GMT\r\n");
        give(request, reply, body, &lines, if whole { body.len() } else { 100_000 });
    });
    (origin, state)
}

fn an_index_that_is_replaced_and_cut_is_exact_and_asked_for_without_the_old_conditions(io: Io) {
    for (args, target) in FILES {
        let bodies = vec![bytes(400_000, 32), bytes(400_000, 33)];
        let (origin, state) = of_states(bodies.clone());
        let server = Launch::new(io, &origin).args(args).start();
        server.get(target).expect(200, &bodies[0]);
        server.expect_cached(&target[1..], &bodies[0]);
        wait_until("it is checked", || {
            let before = origin.count();
            server.get(target).expect(200, &bodies[0]);
            origin.count() > before
        });
        state.store(1, Ordering::SeqCst);
        let before = origin.count();
        server.get(target).expect(200, &bodies[1]).expect_keep_alive();
        wait_until("it has its name", || std::fs::read(server.path(&target[1..])).unwrap() == bodies[1]);
        let requests = origin.requests().split_off(before);
        assert_eq!(requests[0].all("If-None-Match"), ["\"0\""]);
        assert_eq!(requests[1].all("If-Range"), ["\"1\""]);
        for name in ["If-None-Match", "If-Modified-Since"] {
            assert_eq!(requests[1].field(name), None, "{target}");
        }
    }
}

fn everybody_waits_for_the_rest_of_an_index(io: Io) {
    for (args, target) in FILES {
        let (body, gate) = (bytes(400_000, 34), Gate::default());
        let (sent, open) = (body.clone(), gate.clone());
        let origin = Origin::start(move |request, reply| {
            if request.index > 0 {
                open.wait();
            }
            give(request, reply, &sent, TAG, if request.index == 0 { 100_000 } else { sent.len() });
        });
        let server = Launch::new(io, &origin).args(args).start();
        let mut clients: Vec<_> = (0..4).map(|_| server.client()).collect();
        let mut heads = Vec::new();
        for client in &mut clients {
            heads.push(client.ask("GET", target, "").head("GET"));
        }
        wait_until("the rest is asked for", || origin.count() == 2);
        gate.open();
        for (client, mut response) in clients.iter_mut().zip(heads) {
            client.finish(&mut response);
            response.expect(200, &body);
        }
        assert_eq!(origin.count(), 2, "{target}");
    }
}

fn the_rest_of_an_index_is_asked_for_in_nobodys_name(io: Io) {
    let body = bytes(400_000, 35);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| {
        give(request, reply, &sent, TAG, if request.index == 0 { 100_000 } else { sent.len() });
    });
    let server = Launch::new(io, &origin).args(FILES[1].0).start();
    let fields = "Cookie: a=b\r\nAccept: application/metalink4+xml\r\nX-Forwarded-Host: h\r\n";
    server.ask("GET", FILES[1].1, fields).expect(200, &body);
    for request in origin.requests() {
        for name in ["Cookie", "X-Forwarded-Host"] {
            assert_eq!(request.field(name), None);
        }
        assert_eq!(request.all("Accept"), ["*/*"]);
    }
    assert_eq!(origin.count(), 2);
}

fn an_index_that_changes_while_it_is_cut_is_a_broken_transfer(io: Io) {
    for (args, target) in FILES {
        let (old, new) = (bytes(400_000, 36), bytes(400_000, 37));
        let (before, after) = (old.clone(), new.clone());
        let origin = Origin::start(move |request, reply| match request.index {
            0 => give(request, reply, &before, TAG, 100_000),
            _ if request.field("If-None-Match") == Some("\"two\"") => {
                reply.write("HTTP/1.1 304 Not Modified\r\nETag: \"two\"\r\n\r\n");
            }
            // If-Range names another: this is the whole.
            _ => reply.answer("200 OK", "ETag: \"two\"\r\n", &after),
        });
        let server = Launch::new(io, &origin).args(args).start();
        let broken = server.get(target);
        assert!(!broken.whole, "{target}");
        assert!(old.starts_with(&broken.body), "bytes of two versions");
        wait_until("the new one is served", || {
            let response = server.get(target);
            assert!(response.whole);
            response.body == new
        });
        wait_until("it has its name", || std::fs::read(server.path(&target[1..])).ok() == Some(new.clone()));
    }
}

fn an_index_without_proof_is_not_gone_on_with(io: Io) {
    for lines in ["ETag: W/\"one\"\r\n", ""] {
        let body = bytes(400_000, 38);
        let origin = Origin::start(move |request, reply| give(request, reply, &body, lines, 100_000));
        let server = Launch::new(io, &origin).args(FILES[0].0).start();
        assert!(!server.get(FILES[0].1).whole);
        assert_eq!(origin.count(), 1);
        server.expect_nothing_cached();
    }
}

fn no_attempts_means_no_second_request_for_an_index(io: Io) {
    let body = bytes(400_000, 39);
    let origin = Origin::start(move |request, reply| give(request, reply, &body, TAG, 100_000));
    let server = Launch::new(io, &origin).args(FILES[0].0).args(["--resume-attempts", "0"]).start();
    assert!(!server.get(FILES[0].1).whole);
    assert_eq!(origin.count(), 1);
    server.expect_nothing_cached();
}

fn an_index_without_a_rest_leaves_nothing_for_the_next_request(io: Io) {
    let body = bytes(3_000_000, 40);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| match request.index {
        0 => give(request, reply, &sent, TAG, 2_000_000),
        1 => reply.answer("503 Service Unavailable", "", b""),
        _ => give(request, reply, &sent, TAG, sent.len()),
    });
    let server = Launch::new(io, &origin).args(FILES[0].0).args(["--resume-attempts", "1"]).start();
    assert!(!server.get(FILES[0].1).whole);
    server.expect_nothing_cached();
    server.get(FILES[0].1).expect(200, &body);
    assert_eq!(origin.requests().iter().map(asked_from).collect::<Vec<_>>(), [None, Some(2_000_000), None]);
}

const RELEASE: &str = "/d/dists/x/InRelease";
const CONTENTS: &str = "/d/dists/x/Contents-amd64.gz";

/// A set of two, whose CONTENTS breaks off in the second state, once or `for_ever`.
fn set(for_ever: bool) -> (Origin, Arc<AtomicUsize>) {
    let state = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&state);
    let origin = Origin::start(move |request, reply| {
        let state = now.load(Ordering::SeqCst);
        let tag = format!("\"{state}\"");
        if request.field("If-None-Match") == Some(&tag) {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n"));
            return;
        }
        let body = body_of(&request.target, state);
        let cut = state == 1 && request.target == CONTENTS && (for_ever || request.field("Range").is_none());
        let end = if cut { asked_from(request).unwrap_or(100_000) } else { body.len() };
        give(request, reply, &body, &format!("ETag: {tag}\r\n"), end);
    });
    (origin, state)
}

fn body_of(target: &str, state: usize) -> Vec<u8> {
    if target == RELEASE { format!("release {state}").into() } else { bytes(300_000, 50 + state as u64) }
}

/// Both files are there, and checked.
fn seed_set(server: &Server, origin: &Origin) {
    for target in [RELEASE, CONTENTS] {
        wait_until("it is checked", || {
            let before = origin.requests().iter().filter(|request| request.target == target).count();
            for _ in 0..2 {
                server.get(target).expect(200, &body_of(target, 0));
            }
            let after = origin.requests().iter().filter(|request| request.target == target).count();
            before > 0 && after > before
        });
    }
}

fn a_member_that_is_cut_while_a_set_is_collected_is_of_the_new_state(io: Io) {
    let (origin, state) = set(false);
    let server = Launch::new(io, &origin).args(FILES[2].0).start();
    seed_set(&server, &origin);
    state.store(1, Ordering::SeqCst);
    // The first of these is a second time.
    for target in [CONTENTS, RELEASE] {
        server.get(target).expect(200, &body_of(target, 1));
    }
}

fn a_member_that_never_comes_whole_leaves_the_set_for_an_outage(io: Io) {
    let (origin, state) = set(true);
    let args = ["--stale-if-error", "forever", "--resume-attempts", "1"];
    let server = Launch::new(io, &origin).args(FILES[2].0).args(args).start();
    seed_set(&server, &origin);
    state.store(1, Ordering::SeqCst);
    for targets in [[CONTENTS, RELEASE], [RELEASE, CONTENTS]] {
        // The second time of each first one is a new beginning.
        for target in [targets, targets].into_iter().flatten() {
            server.get(target).expect(200, &body_of(target, 0));
        }
    }
    state.store(2, Ordering::SeqCst);
    wait_until("the next state comes together", || {
        [CONTENTS, RELEASE].iter().all(|target| server.get(target).body == body_of(target, 2))
    });
}
