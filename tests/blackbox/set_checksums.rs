//! Files of an index set fit together by the checksums that one of them lists, not only by their lengths.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::support::origin::Request;
use crate::support::{Gate, Io, Launch, Origin, Reply, Response, Server, on_both, wait_until};

on_both!(
    a_file_of_the_same_length_that_the_release_file_does_not_list_is_not_mixed_with_it,
    a_client_that_begins_in_an_update_is_right_as_soon_as_the_origin_is,
    machines_in_different_states_with_files_of_one_length_are_never_mixed,
    the_last_byte_of_a_large_file_with_another_checksum_does_not_come,
    nothing_of_a_large_file_with_another_checksum_comes_as_a_whole_answer,
    a_slow_file_that_does_not_fit_comes_as_the_origin_has_it_where_nothing_else_is_there,
    a_client_does_not_wait_for_each_attempt_at_a_file_that_does_not_fit,
    a_range_of_a_large_file_comes_once_its_checksum_is_right,
    any_checksum_of_the_release_file_is_compared,
    a_file_that_the_release_file_contradicts_for_good_costs_only_itself,
    a_restart_after_a_collection_that_failed_serves_no_mix,
    files_of_two_states_on_the_disk_are_not_served_together_in_an_outage,
    one_file_that_fails_does_not_stop_the_others,
    one_file_that_fails_does_not_stop_the_others_of_a_set_without_checksums,
    one_file_that_breaks_off_does_not_stop_the_others,
    clients_do_not_wait_one_after_the_other_for_a_file_that_does_not_come,
    a_restart_while_the_origin_is_half_way_keeps_the_state_on_the_disk,
    an_update_that_begins_after_the_first_answer_of_a_restart_keeps_the_state_on_the_disk,
    a_file_that_does_not_fit_does_not_cost_a_restart_the_others,
    a_restart_with_files_that_fit_asks_only_for_what_is_wanted,
    a_file_that_was_left_out_of_an_update_is_not_served_offline_with_the_others,
    files_that_are_copied_in_are_served_offline_as_soon_as_they_fit,
    files_that_are_copied_in_while_the_origin_is_down_are_served_as_soon_as_they_fit,
    a_public_response_to_one_user_takes_the_place_of_no_file_of_a_set,
    a_file_that_varies_with_what_clients_send_stays_in_its_set,
);

/// A set: the file that lists the others, then these.
struct Layout {
    preset: &'static str,
    members: [&'static str; 3],
}

const APT: Layout = Layout {
    preset: "apt",
    members: ["/d/dists/x/InRelease", "/d/dists/x/main/binary-amd64/Packages", "/d/dists/x/Contents-amd64"],
};
/// Without a signature in the list.
const DETACHED: Layout = Layout {
    preset: "apt",
    members: ["/d/dists/x/Release", "/d/dists/x/main/binary-amd64/Packages", "/d/dists/x/Contents-amd64"],
};
/// In a directory whose name a client may send in two forms.
const PLUS: Layout = Layout {
    preset: "apt",
    members: [
        "/d+e/dists/x/InRelease",
        "/d+e/dists/x/main/binary-amd64/Packages",
        "/d+e/dists/x/Contents-amd64",
    ],
};
const RPM: Layout = Layout {
    preset: "rpm",
    members: ["/f/repodata/repomd.xml", "/f/repodata/primary.xml", "/f/repodata/filelists.xml"],
};
const PLAIN: Layout = Layout {
    preset: "pkgsrc",
    members: ["/All/pkg_summary.gz", "/All/pkg_summary.bz2", "/All/pkg_summary.xz"],
};

/// The checksum that the first file lists of the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sum {
    Sha256,
    Sha1,
    Md5,
}

/// What it is of the body of a member in a state.
fn sum(kind: Sum, body: &[u8]) -> String {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    match kind {
        Sum::Sha256 => hex(&Sha256::digest(body)),
        Sum::Sha1 => hex(&sha1::Sha1::digest(body)),
        Sum::Md5 => hex(&md5::Md5::digest(body)),
    }
}

/// Every state has the same length.
fn body(layout: &Layout, which: usize, state: usize, kind: Sum) -> Vec<u8> {
    if which > 0 || layout.preset == "pkgsrc" {
        return format!("state {state} of {which}\n").into_bytes();
    }
    let listed = |number: usize| {
        let body = body(layout, number, state, kind);
        (layout.members[number], body.len(), sum(kind, &body))
    };
    let mut text = format!("state {state} of {which}\n");
    if layout.preset == "rpm" {
        text.push_str("<repomd xmlns=\"http://linux.duke.edu/metadata/repo\">\n");
        for (path, size, sum) in [1, 2].map(listed) {
            let path = path.strip_prefix("/f/").unwrap();
            writeln!(
                text,
                "<data type=\"x\"><checksum type=\"sha256\">{sum}</checksum><open-checksum type=\"sha256\">00</open-checksum><location href=\"{path}\"/><size>{size}</size></data>"
            )
            .unwrap();
        }
        text.push_str("</repomd>\n");
    } else {
        let name = match kind {
            Sum::Sha256 => "SHA256",
            Sum::Sha1 => "SHA1",
            Sum::Md5 => "MD5Sum",
        };
        writeln!(text, "{name}:").unwrap();
        for (path, size, sum) in [1, 2].map(listed) {
            writeln!(text, " {sum} {size} {}", path.split_once("/dists/x/").unwrap().1).unwrap();
        }
    }
    text.into_bytes()
}

/// How a member fails.
const FAILS: usize = 100;
const RESETS: usize = 101;
const BREAKS_OFF: usize = 102;
const IS_A_PAGE: usize = 103;
const ASKS_FOR_PATIENCE: usize = 104;

/// The state of each member.
type States = Arc<[AtomicUsize; 3]>;

fn say(states: &States, now: [usize; 3]) {
    states.iter().zip(now).for_each(|(state, now)| state.store(now, Ordering::SeqCst));
}

fn serve(layout: &Layout, kind: Sum, state: [usize; 3], request: &Request, reply: &mut Reply<'_>) {
    let Some(which) = layout.members.iter().position(|member| *member == request.target) else {
        return reply.answer("404 Not Found", "", b"");
    };
    let tag = format!("\"{}\"", state[which]);
    match state[which] {
        FAILS => reply.answer("500 Oh", "", b""),
        RESETS => reply.reset(),
        IS_A_PAGE => reply.answer("200 OK", "Content-Type: text/html\r\n", b"<html>log in"),
        ASKS_FOR_PATIENCE => reply.answer("429 Slowly", "", b""),
        BREAKS_OFF => {
            reply.head(5000, "ETag: \"new\"\r\n");
            reply.write(b"st");
            reply.reset();
        }
        _ if request.field("If-None-Match").is_some_and(|tags| tags.contains(&tag)) => {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n"));
        }
        state => {
            reply.answer("200 OK", &format!("ETag: {tag}\r\n"), &body(layout, which, state, kind));
        }
    }
}

fn origin(layout: &'static Layout, kind: Sum) -> (Origin, States) {
    let states = States::default();
    let theirs = Arc::clone(&states);
    let origin = Origin::start(move |request, reply| {
        let now = [0, 1, 2].map(|which| theirs[which].load(Ordering::SeqCst));
        serve(layout, kind, now, request, reply);
    });
    (origin, states)
}

fn launch(io: Io, origin: &Origin, layout: &Layout) -> Server {
    Launch::new(io, origin).args(["--preset", layout.preset]).start()
}

/// What a client gets that asks for these, one after the other.
fn update(server: &Server, layout: &Layout, which: &[usize]) -> Vec<String> {
    let mut client = server.client();
    which.iter().map(|which| state(&client.get(layout.members[*which]))).collect()
}

/// The state that a body tells, or the status.
fn state(response: &Response) -> String {
    if response.status != 200 {
        return response.status.to_string();
    }
    let text = String::from_utf8_lossy(&response.body).into_owned();
    text.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn all(state: usize, count: usize) -> Vec<String> {
    vec![state.to_string(); count]
}

fn a_file_of_the_same_length_that_the_release_file_does_not_list_is_not_mixed_with_it(io: Io) {
    for layout in [&APT, &RPM] {
        let (origin, states) = origin(layout, Sum::Sha256);
        let server = launch(io, &origin, layout);
        assert_eq!(update(&server, layout, &[0, 1]), all(0, 2));
        // Half of an update: the first file, or only the others.
        for half in [[1, 0, 0], [0, 1, 1]] {
            say(&states, half);
            for which in [&[0, 1][..], &[1, 0], &[0, 1]] {
                assert_eq!(update(&server, layout, which), all(0, 2), "{half:?} {which:?}");
            }
        }
        say(&states, [1, 1, 1]);
        wait_until("the new state is there", || update(&server, layout, &[0, 1]) == all(1, 2));
    }
}

fn a_client_that_begins_in_an_update_is_right_as_soon_as_the_origin_is(io: Io) {
    for layout in [&APT, &RPM] {
        for which in [&[0, 1][..], &[1, 0]] {
            let (origin, states) = origin(layout, Sum::Sha256);
            say(&states, [1, 0, 0]);
            let server = launch(io, &origin, layout);
            // What the origin has is all there is, as without a cache; or the client begins again.
            for got in update(&server, layout, which) {
                assert!(["0", "1", "503"].contains(&got.as_str()), "{got}");
            }
            say(&states, [1, 1, 1]);
            assert_eq!(update(&server, layout, which), all(1, 2), "{} {which:?}", layout.preset);
        }
    }
}

fn machines_in_different_states_with_files_of_one_length_are_never_mixed(io: Io) {
    for layout in [&APT, &RPM] {
        let turns = AtomicUsize::new(0);
        let lag = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&lag);
        let origin = Origin::start(move |request, reply| {
            let behind = turns.fetch_add(1, Ordering::SeqCst) % 2 * theirs.load(Ordering::SeqCst);
            serve(layout, Sum::Sha256, [behind; 3], request, reply);
        });
        let server = launch(io, &origin, layout);
        assert_eq!(update(&server, layout, &[0, 1, 2]), all(0, 3));
        lag.store(1, Ordering::SeqCst);
        for _ in 0..12 {
            let got = update(&server, layout, &[0, 1, 2]);
            assert!(got == all(0, 3) || got == all(1, 3), "{got:?}");
        }
    }
}

fn the_last_byte_of_a_large_file_with_another_checksum_does_not_come(io: Io) {
    let (origin, gate) = slow(0, 2);
    let server = launch(io, &origin, &APT);
    let mut client = server.client();
    assert_eq!(state(&client.get(APT.members[0])), "1");
    client.ask("GET", APT.members[1], "");
    let mut response = client.head("GET");
    assert_eq!(client.raw(5), b"state");
    gate.open();
    client.finish(&mut response);
    assert!(!response.whole);
    assert!(!server.path(APT.members[1].trim_start_matches('/')).exists());
}

/// The list is of state 1 when it is asked for first, and of the `later` state after that; the second file is of this
/// state, and has its end only when the gate is open.
fn slow(state: usize, later: usize) -> (Origin, Gate) {
    let (gate, is_read) = (Gate::default(), AtomicBool::new(false));
    let opened = gate.clone();
    let origin = Origin::start(move |request, reply| {
        if request.target != APT.members[1] {
            let now = if is_read.swap(true, Ordering::SeqCst) { later } else { 1 };
            return serve(&APT, Sum::Sha256, [now; 3], request, reply);
        }
        let body = body(&APT, 1, state, Sum::Sha256);
        reply.head(body.len(), &format!("ETag: \"{state}\"\r\n"));
        if request.method == "HEAD" {
            return;
        }
        reply.write(&body[..8]);
        opened.wait();
        reply.write(&body[8..]);
    });
    (origin, gate)
}

/// So long that the client would have the beginning of the whole.
const SLOW: Duration = Duration::from_millis(1500);

/// What a client that has read the list gets of a slow file, however it asks for it.
fn slow_answer(io: Io, later: usize, method: &str, fields: &str) -> Option<Response> {
    let (origin, gate) = slow(0, later);
    let server = launch(io, &origin, &APT);
    let response = thread::scope(|scope| {
        let mut client = server.client();
        assert_eq!(state(&client.get(APT.members[0])), "1");
        if method == "HEAD" || fields.contains("no-store") {
            // Such a request begins no download: it meets one that has begun.
            let mut first = server.client();
            first.ask("GET", APT.members[1], "");
            first.head("GET");
        }
        client.ask(method, APT.members[1], fields);
        let opened = gate.clone();
        scope.spawn(move || {
            thread::sleep(SLOW);
            opened.open();
        });
        let mut response = client.try_head(method)?;
        client.finish(&mut response);
        Some(response)
    });
    assert!(!server.path(&APT.members[1][1..]).exists());
    response
}

fn nothing_of_a_large_file_with_another_checksum_comes_as_a_whole_answer(io: Io) {
    for (method, fields) in [
        ("GET", "Range: bytes=0-4\r\n"),
        ("GET", "Range: bytes=0-1,3-4\r\n"),
        ("GET", "Range: bytes=-3\r\n"),
        ("GET", "Range: bytes=0-4\r\nCache-Control: no-store\r\n"),
        ("GET", "If-None-Match: \"0\"\r\n"),
        ("HEAD", ""),
    ] {
        let Some(response) = slow_answer(io, 2, method, fields) else { continue };
        let is_none = response.status >= 500 || !response.whole;
        assert!(is_none, "{method} {fields:?} {}", response.status);
    }
}

fn a_slow_file_that_does_not_fit_comes_as_the_origin_has_it_where_nothing_else_is_there(io: Io) {
    let whole = body(&APT, 1, 0, Sum::Sha256);
    for (method, fields, status, due) in [
        ("GET", "", 200, &*whole),
        ("GET", "Range: bytes=0-4\r\n", 206, b"state"),
        ("GET", "Range: bytes=0-4\r\nCache-Control: no-store\r\n", 206, b"state"),
        ("GET", "If-None-Match: \"0\"\r\n", 304, b""),
        ("HEAD", "", 200, b""),
    ] {
        let response = slow_answer(io, 1, method, fields).expect("an answer");
        assert!(response.whole, "{method} {fields:?}");
        assert_eq!((response.status, &*response.body), (status, due), "{method} {fields:?}");
    }
}

fn a_client_does_not_wait_for_each_attempt_at_a_file_that_does_not_fit(io: Io) {
    for (pause, most) in [(0, 7), (800, 6)] {
        let origin = Origin::start(move |request, reply| {
            if request.target == APT.members[1] {
                thread::sleep(Duration::from_millis(pause));
            }
            serve(&APT, Sum::Sha256, [1, 0, 0], request, reply);
        });
        let server = launch(io, &origin, &APT);
        let mut client = server.client();
        assert_eq!(state(&client.get(APT.members[0])), "1");
        assert_eq!(state(&client.get(APT.members[1])), "0");
        let asked = origin.requests().iter().filter(|request| request.target == APT.members[1]).count();
        assert!((1..=most).contains(&asked), "{asked} requests, {pause} ms each");
    }
}

fn a_range_of_a_large_file_comes_once_its_checksum_is_right(io: Io) {
    let (origin, gate) = slow(1, 1);
    let server = launch(io, &origin, &APT);
    let mut client = server.client();
    assert_eq!(state(&client.get(APT.members[0])), "1");
    client.ask("GET", APT.members[1], "Range: bytes=0-4\r\n");
    wait_until("it is asked for", || origin.requests().iter().any(|one| one.target == APT.members[1]));
    gate.open();
    let mut response = client.head("GET");
    client.finish(&mut response);
    assert_eq!((response.status, &*response.body), (206, &b"state"[..]));
    assert_eq!(state(&client.get(APT.members[1])), "1");
}

fn any_checksum_of_the_release_file_is_compared(io: Io) {
    for kind in [Sum::Sha256, Sum::Sha1, Sum::Md5] {
        let (origin, states) = origin(&APT, kind);
        let server = launch(io, &origin, &APT);
        assert_eq!(update(&server, &APT, &[0, 1]), all(0, 2));
        say(&states, [1, 0, 0]);
        assert_eq!(update(&server, &APT, &[0, 1]), all(0, 2), "{kind:?}");
        say(&states, [1, 1, 1]);
        wait_until("the new state is there", || update(&server, &APT, &[0, 1]) == all(1, 2));
    }
}

fn a_file_that_the_release_file_contradicts_for_good_costs_only_itself(io: Io) {
    for layout in [&APT, &RPM] {
        let (origin, states) = origin(layout, Sum::Sha256);
        say(&states, [1, 1, 0]);
        let server = launch(io, &origin, layout);
        for _ in 0..2 {
            // As the origin has it, and marked.
            assert_eq!(update(&server, layout, &[0, 2]), ["1", "0"]);
            assert_eq!(update(&server, layout, &[0, 1]), all(1, 2));
        }
    }
}

fn a_restart_after_a_collection_that_failed_serves_no_mix(io: Io) {
    for layout in [&APT, &RPM, &PLAIN] {
        for failing in 1..3 {
            let (origin, states) = origin(layout, Sum::Sha256);
            let cache = tempfile::tempdir().unwrap();
            let start = || {
                Launch::new(io, &origin)
                    .args(["--preset", layout.preset, "--stale-if-error", "forever"])
                    .cache(cache.path())
                    .start()
            };
            let first = start();
            assert_eq!(update(&first, layout, &[0, 1, 2]), all(0, 3));
            for (which, path) in layout.members.iter().enumerate() {
                first.expect_cached(path.trim_start_matches('/'), &body(layout, which, 0, Sum::Sha256));
            }
            let mut now = [1; 3];
            now[failing] = FAILS;
            say(&states, now);
            assert_eq!(update(&first, layout, &[0, 1, 2]), all(0, 3), "{} {failing}", layout.preset);
            say(&states, [RESETS; 3]);
            assert_eq!(update(&first, layout, &[0, 1, 2]), all(0, 3), "{} {failing}", layout.preset);
            drop(first);
            let second = start();
            assert_eq!(update(&second, layout, &[0, 1, 2]), all(0, 3), "{} {failing}", layout.preset);
            // Nothing of what came in vain is left.
            let files = walk(cache.path());
            assert!(!files.iter().any(|name| name.ends_with(".in-progress")), "{files:?}");
        }
    }
}

fn walk(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found
}

fn files_of_two_states_on_the_disk_are_not_served_together_in_an_outage(io: Io) {
    for layout in [&APT, &RPM] {
        for which in [&[0, 1][..], &[1, 0]] {
            let (origin, states) = origin(layout, Sum::Sha256);
            say(&states, [RESETS; 3]);
            let server = Launch::new(io, &origin)
                .args(["--preset", layout.preset, "--stale-if-error", "forever"])
                .start();
            for (member, state) in [(0, 1), (1, 0)] {
                let path = layout.members[member].trim_start_matches('/');
                server.put(path, &body(layout, member, state, Sum::Sha256));
            }
            let got = update(&server, layout, which);
            assert!(["0", "1"].contains(&got[0].as_str()) && got[1] == "502", "{got:?}");
        }
    }
}

fn fails(io: Io, layout: &'static Layout, how: usize) {
    let (origin, states) = origin(layout, Sum::Sha256);
    let server = launch(io, &origin, layout);
    assert_eq!(update(&server, layout, &[0, 1, 2]), all(0, 3));
    say(&states, [1, 1, how]);
    // Those that want the other two have them, and whoever wants that one hears of it.
    wait_until("the others are there", || update(&server, layout, &[0, 1]) == all(1, 2));
    let got = update(&server, layout, &[0, 1, 2]);
    assert_eq!(got[..2], all(1, 2), "{how} {}", layout.preset);
    assert_ne!(got[2], "0", "{how} {}", layout.preset);
    say(&states, [1; 3]);
    wait_until("all are there", || update(&server, layout, &[0, 1, 2]) == all(1, 3));
}

fn one_file_that_fails_does_not_stop_the_others(io: Io) {
    thread::scope(|scope| {
        for layout in [&APT, &RPM] {
            for how in [FAILS, RESETS, IS_A_PAGE, ASKS_FOR_PATIENCE] {
                scope.spawn(move || fails(io, layout, how));
            }
        }
    });
}

fn one_file_that_fails_does_not_stop_the_others_of_a_set_without_checksums(io: Io) {
    for how in [FAILS, RESETS, IS_A_PAGE, ASKS_FOR_PATIENCE] {
        fails(io, &PLAIN, how);
    }
}

fn one_file_that_breaks_off_does_not_stop_the_others(io: Io) {
    for layout in [&APT, &RPM, &PLAIN] {
        let (origin, states) = origin(layout, Sum::Sha256);
        let server =
            Launch::new(io, &origin).args(["--preset", layout.preset, "--resume-attempts", "0"]).start();
        assert_eq!(update(&server, layout, &[0, 1, 2]), all(0, 3));
        say(&states, [1, 1, BREAKS_OFF]);
        wait_until("the others are there", || update(&server, layout, &[0, 1]) == all(1, 2));
        say(&states, [1; 3]);
        wait_until("all are there", || update(&server, layout, &[0, 1, 2]) == all(1, 3));
    }
}

fn clients_do_not_wait_one_after_the_other_for_a_file_that_does_not_come(io: Io) {
    let (now, gate) = (Arc::new(AtomicUsize::new(0)), Gate::default());
    let (theirs, opened) = (Arc::clone(&now), gate.clone());
    let origin = Origin::start(move |request, reply| {
        let state = theirs.load(Ordering::SeqCst);
        if state == 1 && request.target == APT.members[2] {
            opened.wait();
        }
        serve(&APT, Sum::Sha256, [state; 3], request, reply);
    });
    let server = launch(io, &origin, &APT);
    assert_eq!(update(&server, &APT, &[0, 1, 2]), all(0, 3));
    now.store(1, Ordering::SeqCst);
    let begun = Instant::now();
    for _ in 0..4 {
        assert_eq!(update(&server, &APT, &[0, 1]), all(0, 2));
    }
    // One wait is 5 seconds, four are 20.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    gate.open();
    wait_until("the new state is there", || update(&server, &APT, &[0, 1, 2]) == all(1, 3));
}

/// A server that has all of state 0 on the disk, and how it is started again.
fn stopped_with_a_whole_state(io: Io, origin: &Origin, layout: &Layout, cache: &Path) {
    let server = keeping(io, origin, layout, cache);
    assert_eq!(update(&server, layout, &[0, 1, 2]), all(0, 3));
    for (which, path) in layout.members.iter().enumerate() {
        server.expect_cached(path.trim_start_matches('/'), &body(layout, which, 0, Sum::Sha256));
    }
}

fn keeping(io: Io, origin: &Origin, layout: &Layout, cache: &Path) -> Server {
    let args = ["--preset", layout.preset, "--stale-if-error", "forever"];
    Launch::new(io, origin).args(args).cache(cache).start()
}

fn a_restart_while_the_origin_is_half_way_keeps_the_state_on_the_disk(io: Io) {
    // The file that lists the others, only the others, or all of them but one.
    for half in [[1, 0, 0], [0, 1, 1], [1, 1, FAILS]] {
        for (layout, first) in [
            (&APT, [0, 1, 2]),
            (&APT, [1, 0, 2]),
            (&PLUS, [0, 1, 2]),
            (&DETACHED, [0, 1, 2]),
            (&RPM, [0, 1, 2]),
        ] {
            let (origin, states) = origin(layout, Sum::Sha256);
            let cache = tempfile::tempdir().unwrap();
            stopped_with_a_whole_state(io, &origin, layout, cache.path());
            say(&states, half);
            let server = keeping(io, &origin, layout, cache.path());
            for which in [first, [0, 1, 2]] {
                assert_eq!(update(&server, layout, &which), all(0, 3), "{half:?} {}", layout.preset);
            }
            drop(server);
            say(&states, [RESETS; 3]);
            let server = keeping(io, &origin, layout, cache.path());
            assert_eq!(update(&server, layout, &first), all(0, 3), "{half:?} {}", layout.preset);
            say(&states, [1; 3]);
            wait_until("the new state is there", || update(&server, layout, &first) == all(1, 3));
        }
    }
}

fn an_update_that_begins_after_the_first_answer_of_a_restart_keeps_the_state_on_the_disk(io: Io) {
    for layout in [&APT, &RPM] {
        let (origin, states) = origin(layout, Sum::Sha256);
        let cache = tempfile::tempdir().unwrap();
        stopped_with_a_whole_state(io, &origin, layout, cache.path());
        let server = keeping(io, &origin, layout, cache.path());
        assert_eq!(update(&server, layout, &[0]), all(0, 1));
        say(&states, [1, 0, 0]);
        assert_eq!(update(&server, layout, &[0, 1, 2]), all(0, 3));
        say(&states, [RESETS; 3]);
        assert_eq!(update(&server, layout, &[0, 1, 2]), all(0, 3));
    }
}

fn a_file_that_does_not_fit_does_not_cost_a_restart_the_others(io: Io) {
    for layout in [&APT, &RPM] {
        let (origin, states) = origin(layout, Sum::Sha256);
        let cache = tempfile::tempdir().unwrap();
        stopped_with_a_whole_state(io, &origin, layout, cache.path());
        say(&states, [1, 0, 7]);
        let server = keeping(io, &origin, layout, cache.path());
        server.put(&layout.members[2][1..], &body(layout, 2, 7, Sum::Sha256));
        assert_eq!(update(&server, layout, &[0, 1]), all(0, 2), "{}", layout.preset);
        say(&states, [RESETS; 3]);
        assert_eq!(update(&server, layout, &[2, 0, 1]), ["502", "0", "0"], "{}", layout.preset);
        say(&states, [1; 3]);
        wait_until("the new state is there", || update(&server, layout, &[0, 1, 2]) == all(1, 3));
    }
}

fn a_restart_with_files_that_fit_asks_only_for_what_is_wanted(io: Io) {
    for layout in [&APT, &RPM] {
        let (origin, _) = origin(layout, Sum::Sha256);
        let cache = tempfile::tempdir().unwrap();
        stopped_with_a_whole_state(io, &origin, layout, cache.path());
        let asked = origin.requests().len();
        let server = keeping(io, &origin, layout, cache.path());
        assert_eq!(update(&server, layout, &[0, 1]), all(0, 2));
        let since: Vec<_> = origin.requests().split_off(asked);
        assert!(since.iter().all(|request| request.target != layout.members[2]), "{since:?}");
    }
}

fn offline(io: Io, origin: &Origin, layout: &Layout, cache: &Path) -> Server {
    Launch::new(io, origin).args(["--preset", layout.preset, "--offline"]).cache(cache).start()
}

fn a_file_that_was_left_out_of_an_update_is_not_served_offline_with_the_others(io: Io) {
    for layout in [&APT, &RPM] {
        let (origin, states) = origin(layout, Sum::Sha256);
        let cache = tempfile::tempdir().unwrap();
        stopped_with_a_whole_state(io, &origin, layout, cache.path());
        let server = Launch::new(io, &origin).args(["--preset", layout.preset]).cache(cache.path()).start();
        say(&states, [1, 1, FAILS]);
        wait_until("the others are there", || update(&server, layout, &[0, 1]) == all(1, 2));
        drop(server);
        let server = offline(io, &origin, layout, cache.path());
        for which in [[0, 1, 2], [2, 0, 1]] {
            let mut due = all(1, 3);
            due[which.iter().position(|which| *which == 2).unwrap()] = "504".to_owned();
            assert_eq!(update(&server, layout, &which), due, "{}", layout.preset);
        }
    }
}

fn files_that_are_copied_in_are_served_offline_as_soon_as_they_fit(io: Io) {
    for layout in [&APT, &RPM, &PLAIN] {
        let (origin, _) = origin(layout, Sum::Sha256);
        let cache = tempfile::tempdir().unwrap();
        stopped_with_a_whole_state(io, &origin, layout, cache.path());
        copied_in(&offline(io, &origin, layout, cache.path()), layout);
    }
}

fn files_that_are_copied_in_while_the_origin_is_down_are_served_as_soon_as_they_fit(io: Io) {
    for layout in [&APT, &RPM, &PLAIN] {
        let (origin, states) = origin(layout, Sum::Sha256);
        let cache = tempfile::tempdir().unwrap();
        stopped_with_a_whole_state(io, &origin, layout, cache.path());
        say(&states, [RESETS; 3]);
        copied_in(&keeping(io, &origin, layout, cache.path()), layout);
    }
}

/// State 1 takes the place of state 0.
fn copied_in(server: &Server, layout: &Layout) {
    assert_eq!(update(server, layout, &[0, 1, 2]), all(0, 3), "{}", layout.preset);
    for (which, path) in layout.members.iter().enumerate() {
        let new = format!("{}.new", &path[1..]);
        server.put(&new, &body(layout, which, 1, Sum::Sha256));
        std::fs::rename(server.path(&new), server.path(&path[1..])).unwrap();
    }
    assert_eq!(update(server, layout, &[0, 1, 2]), all(1, 3), "{}", layout.preset);
}

fn a_public_response_to_one_user_takes_the_place_of_no_file_of_a_set(io: Io) {
    for which in [0, 1] {
        for control in ["public, max-age=600", "s-maxage=600", "max-age=0, must-revalidate"] {
            let states = States::default();
            let theirs = Arc::clone(&states);
            let origin = Origin::start(move |request, reply| {
                let now = [0, 1, 2].map(|which| theirs[which].load(Ordering::SeqCst));
                if request.field("Authorization").is_some() {
                    let fields = format!("Cache-Control: {control}\r\nETag: \"user\"\r\n");
                    return reply.answer("200 OK", &fields, &body(&APT, which, 1, Sum::Sha256));
                }
                serve(&APT, Sum::Sha256, now, request, reply);
            });
            let server = launch(io, &origin, &APT);
            assert_eq!(update(&server, &APT, &[0, 1, 2]), all(0, 3));
            // The origin is half-way.
            let mut half = [0; 3];
            half[which] = 1;
            say(&states, half);
            let user = server.ask("GET", APT.members[which], "Authorization: Basic eDp5\r\n");
            assert_eq!(state(&user), "1");
            assert_eq!(update(&server, &APT, &[0, 1, 2]), all(0, 3), "{which} {control}");
            server.expect_cached(&APT.members[which][1..], &body(&APT, which, 0, Sum::Sha256));
        }
    }
}

fn a_file_that_varies_with_what_clients_send_stays_in_its_set(io: Io) {
    for layout in [&APT, &PLAIN] {
        for vary in ["Origin", "Accept-Encoding, User-Agent", "Accept"] {
            let states = States::default();
            let theirs = Arc::clone(&states);
            let origin = Origin::start(move |request, reply| {
                let Some(which) = layout.members.iter().position(|member| *member == request.target) else {
                    return reply.answer("404 Not Found", "", b"");
                };
                let state = theirs[which].load(Ordering::SeqCst);
                let fields = format!("Vary: {vary}\r\nETag: \"{state}\"\r\n");
                reply.answer("200 OK", &fields, &body(layout, which, state, Sum::Sha256));
            });
            let server = launch(io, &origin, layout);
            assert_eq!(update(&server, layout, &[0, 1, 2]), all(0, 3));
            let mut begun = server.client();
            assert_eq!(state(&begun.get(layout.members[0])), "0");
            say(&states, [1, 1, 1]);
            wait_until("others have the new state", || update(&server, layout, &[0, 1, 2]) == all(1, 3));
            for which in [1, 2] {
                assert_eq!(state(&begun.get(layout.members[which])), "0", "{} {vary}", layout.preset);
            }
            server.expect_cached(&layout.members[0][1..], &body(layout, 0, 1, Sum::Sha256));
        }
    }
}
