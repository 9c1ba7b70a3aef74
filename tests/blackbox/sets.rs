//! Index sets: no client sees two states of the origin.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::support::sandbox::Limit;
use crate::support::{Client, Gate, Io, Launch, Origin, Reply, Response, Server, on_both, wait_until};

on_both!(
    twenty_clients_never_get_a_mixed_set_while_the_origin_changes,
    variants_of_one_index_are_of_one_state_too,
    a_client_that_goes_on_gets_what_it_began_with,
    a_client_that_looks_before_it_reads_goes_on_with_what_it_saw,
    a_client_that_begins_gets_what_the_origin_has,
    a_new_connection_goes_on_where_the_address_was,
    a_member_nobody_has_asked_for_is_refused_once_the_origin_has_changed,
    a_member_that_is_gone_is_missing_from_the_next_state,
    a_set_is_served_while_the_origin_is_down_if_that_is_allowed,
    a_refusal_of_the_only_member_leaves_the_set_for_an_outage,
    a_refusal_of_one_member_leaves_the_others_and_it_for_an_outage,
    a_member_that_is_refused_for_a_moment_does_not_stop_a_collection_for_ever,
    a_set_is_found_again_by_the_next_process,
    a_set_on_the_disk_is_served_after_a_restart_while_the_origin_is_down,
    what_was_on_the_disk_is_not_mixed_with_what_the_origin_has_when_it_is_back,
    what_was_on_the_disk_goes_on_when_the_origin_is_back_unchanged,
    an_origin_without_validators_is_understood,
    an_origin_that_changes_file_by_file_is_waited_for,
    a_rebuilt_pkgsrc_package_is_dropped_when_the_index_changes,
    a_large_member_streams_to_the_first_client,
    machines_with_the_same_files_and_other_validators_are_one_state,
    machines_in_different_states_are_never_mixed,
    machines_in_different_states_give_a_new_client_no_mix,
    requests_for_names_that_do_not_exist_do_not_end_what_another_client_has_begun,
    requests_for_many_sets_do_not_end_what_another_client_has_begun,
    requests_for_many_sets_from_the_same_address_do_not_end_what_a_connection_has_begun,
    a_client_that_begins_while_others_hold_many_sets_gets_no_mix,
    a_request_that_wants_nothing_stored_goes_on_with_what_its_client_has_begun,
    an_origin_that_changes_often_does_not_end_what_a_client_has_begun,
    many_index_files_leave_descriptors_for_others,
    a_member_that_somebody_has_replaced_on_the_disk_is_asked_for_again,
    a_set_without_anchors_is_checked_several_files_at_a_time,
    a_file_that_joins_a_large_set_without_checksums_costs_a_bounded_number_of_requests,
    a_change_of_a_large_set_without_checksums_is_seen_when_another_file_joins,
    updates_that_one_client_began_leave_places_at_the_origin_for_others,
);

/// What an origin serves: all its index files are of one state, which changes at once.
#[derive(Clone, Default)]
struct States(Arc<AtomicU64>);

impl States {
    fn next(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn body(target: &str, state: u64) -> Vec<u8> {
        format!("state {state} of {target}\n").into_bytes()
    }

    fn serve(&self, request: &crate::support::origin::Request, reply: &mut Reply<'_>) {
        let state = self.now();
        let tag = format!("\"{state}\"");
        if request.field("If-None-Match") == Some(&tag) {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n"));
            return;
        }
        reply.answer("200 OK", &format!("ETag: {tag}\r\n"), &Self::body(&request.target, state));
    }

    fn origin(&self) -> Origin {
        let states = self.clone();
        Origin::start(move |request, reply| states.serve(request, reply))
    }
}

/// The state that a body tells.
fn state(response: &Response) -> u64 {
    assert_eq!(response.status, 200, "{:?}", String::from_utf8_lossy(&response.body));
    assert!(response.whole);
    let text = String::from_utf8(response.body.clone()).unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

const IN_RELEASE: &str = "/debian/dists/sid/InRelease";
const PACKAGES: &str = "/debian/dists/sid/main/binary-amd64/Packages.xz";
const SOURCES: &str = "/debian/dists/sid/main/source/Sources.xz";
const TRANSLATION: &str = "/debian/dists/sid/main/i18n/Translation-en.xz";

fn launch(io: Io, origin: &Origin, preset: &str) -> Server {
    Launch::new(io, origin).args(["--preset", preset, "--workers", "2"]).start()
}

/// Lets clients update until each has done so `rounds` times, while the origin changes all the time.
fn update_all(io: Io, preset: &str, paths: &'static [&'static str], rounds: usize) {
    let states = States::default();
    let origin = states.origin();
    let server = launch(io, &origin, preset);
    let (done, refused, advanced) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicU64::new(0));
    let begun = Barrier::new(20);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                states.next();
                thread::sleep(Duration::from_millis(25));
            }
        });
        let clients: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = server.client();
                    begun.wait();
                    let mut last = 0;
                    let mut left = rounds;
                    while left > 0 {
                        match update(&mut client, paths) {
                            Some(state) => {
                                assert!(state >= last, "back from {last} to {state}");
                                last = state;
                                left -= 1;
                            }
                            None => {
                                let refused = refused.fetch_add(1, Ordering::SeqCst);
                                assert!(refused < 20 * rounds * 3, "refused all the time");
                            }
                        }
                    }
                    advanced.fetch_max(last, Ordering::SeqCst);
                })
            })
            .collect();
        let outcomes: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
    });
    assert!(advanced.load(Ordering::SeqCst) > 1, "no client has seen a change");
    let mut client = server.client();
    assert_eq!(update(&mut client, paths), Some(states.now()));
}

/// One update: all index files, which must be of one state. `None`: begin again, says the server.
fn update(client: &mut Client, paths: &[&str]) -> Option<u64> {
    let mut states = HashMap::new();
    for path in paths {
        let response = client.get(path);
        if response.status == 503 {
            return None;
        }
        states.insert(state(&response), *path);
    }
    assert_eq!(states.len(), 1, "mixed: {states:?}");
    states.into_keys().next()
}

fn twenty_clients_never_get_a_mixed_set_while_the_origin_changes(io: Io) {
    update_all(io, "apt", &[IN_RELEASE, PACKAGES, SOURCES, TRANSLATION], 15);
}

fn variants_of_one_index_are_of_one_state_too(io: Io) {
    const ALL: &[&str] =
        &["/All/pkg_summary.zst", "/All/pkg_summary.xz", "/All/pkg_summary.bz2", "/All/pkg_summary.gz"];
    update_all(io, "pkgsrc", ALL, 10);
}

fn a_client_that_goes_on_gets_what_it_began_with(io: Io) {
    let states = States::default();
    let origin = states.origin();
    let server = launch(io, &origin, "apt");
    assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0));
    let (mut old, mut new) = (server.client(), server.client());
    assert_eq!(state(&old.get(IN_RELEASE)), 0);
    states.next();
    assert_eq!(update(&mut new, &[IN_RELEASE, PACKAGES]), Some(1));
    // The name has another file by now; the client has the old one all the same.
    server.expect_cached(PACKAGES.trim_start_matches('/'), &States::body(PACKAGES, 1));
    assert_eq!(state(&old.get(PACKAGES)), 0);
    assert_eq!(update(&mut old, &[IN_RELEASE, PACKAGES]), Some(1));
}

fn a_client_that_looks_before_it_reads_goes_on_with_what_it_saw(io: Io) {
    let states = States::default();
    let origin = states.origin();
    let server = launch(io, &origin, "apt");
    assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0));
    let (mut old, mut new) = (server.client(), server.client());
    assert_eq!(old.ask("HEAD", IN_RELEASE, "").response("HEAD").status, 200);
    states.next();
    assert_eq!(update(&mut new, &[IN_RELEASE, PACKAGES]), Some(1));
    assert_eq!(state(&old.get(PACKAGES)), 0);
}

fn a_client_that_begins_gets_what_the_origin_has(io: Io) {
    let states = States::default();
    let origin = states.origin();
    let server = launch(io, &origin, "apt");
    let mut client = server.client();
    for expected in 0..5 {
        assert_eq!(update(&mut client, &[IN_RELEASE, PACKAGES, SOURCES]), Some(expected));
        // Unchanged: one question for the set.
        let before = origin.count();
        assert_eq!(update(&mut client, &[IN_RELEASE, PACKAGES, SOURCES]), Some(expected));
        assert_eq!(origin.count(), before + 1);
        states.next();
    }
}

fn a_new_connection_goes_on_where_the_address_was(io: Io) {
    let states = States::default();
    let origin = states.origin();
    let server = launch(io, &origin, "apt");
    assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0));
    assert_eq!(state(&server.get(IN_RELEASE)), 0);
    states.next();
    assert_eq!(state(&server.get(PACKAGES)), 0);
    assert_eq!(state(&server.get(IN_RELEASE)), 1);
    assert_eq!(state(&server.get(PACKAGES)), 1);
}

fn a_member_nobody_has_asked_for_is_refused_once_the_origin_has_changed(io: Io) {
    let states = States::default();
    let origin = states.origin();
    let server = launch(io, &origin, "apt");
    let mut client = server.client();
    assert_eq!(state(&client.get(IN_RELEASE)), 0);
    states.next();
    let refused = client.get(PACKAGES);
    assert_eq!(refused.status, 503);
    assert!(String::from_utf8_lossy(&refused.body).contains("begin again"));
    assert_eq!(client.get(PACKAGES).status, 503);
    assert_eq!(update(&mut client, &[IN_RELEASE, PACKAGES]), Some(1));
}

fn a_member_that_is_gone_is_missing_from_the_next_state(io: Io) {
    let states = States::default();
    let theirs = states.clone();
    let origin = Origin::start(move |request, reply| {
        if theirs.now() > 0 && request.target == SOURCES {
            return reply.answer("404 Not Found", "", b"gone");
        }
        theirs.serve(request, reply);
    });
    let server = launch(io, &origin, "apt");
    let mut client = server.client();
    assert_eq!(update(&mut client, &[IN_RELEASE, PACKAGES, SOURCES]), Some(0));
    states.next();
    assert_eq!(update(&mut client, &[IN_RELEASE, PACKAGES]), Some(1));
    client.get(SOURCES).expect(404, b"gone");
}

fn a_set_is_served_while_the_origin_is_down_if_that_is_allowed(io: Io) {
    let down = Arc::new(AtomicBool::new(false));
    let (states, is_down) = (States::default(), Arc::clone(&down));
    let theirs = states.clone();
    let origin = Origin::start(move |request, reply| {
        if is_down.load(Ordering::SeqCst) {
            return reply.reset();
        }
        theirs.serve(request, reply);
    });
    let args = ["--preset", "apt", "--stale-if-error", "forever"];
    let server = Launch::new(io, &origin).args(args).start();
    let strict = launch(io, &origin, "apt");
    for server in [&server, &strict] {
        assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0));
    }
    down.store(true, Ordering::SeqCst);
    assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0));
    assert_eq!(strict.get(IN_RELEASE).status, 502);
    down.store(false, Ordering::SeqCst);
    states.next();
    for server in [&server, &strict] {
        assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(1));
    }
}

/// An origin that can refuse one path, or fail.
#[derive(Clone, Default)]
struct Refusing {
    states: States,
    /// A status, or 0; 1 stands for no answer at all.
    status: Arc<AtomicUsize>,
}

impl Refusing {
    fn origin(&self, refused: &'static str) -> Origin {
        let theirs = self.clone();
        Origin::start(move |request, reply| match theirs.status.load(Ordering::SeqCst) {
            1 => reply.reset(),
            status @ 2.. if request.target == refused => {
                reply.answer(&format!("{status} Refused"), "", b"refused");
            }
            _ => theirs.states.serve(request, reply),
        })
    }

    fn say(&self, status: usize) {
        self.status.store(status, Ordering::SeqCst);
    }
}

fn a_refusal_of_the_only_member_leaves_the_set_for_an_outage(io: Io) {
    for status in [404, 403, 410, 401, 429] {
        let refusing = Refusing::default();
        let origin = refusing.origin(PACKAGES);
        let server =
            Launch::new(io, &origin).args(["--preset", "apt", "--stale-if-error", "forever"]).start();
        assert_eq!(state(&server.client().get(PACKAGES)), 0);
        server.expect_cached(PACKAGES.trim_start_matches('/'), &States::body(PACKAGES, 0));
        refusing.say(status);
        // An origin that is asked too often fails.
        let due = if status == 429 { 200 } else { status };
        // Until the fill has ended it is the answer.
        wait_until("it is asked", || usize::from(server.client().get(PACKAGES).status) == due);
        refusing.say(1);
        for _ in 0..2 {
            assert_eq!(state(&server.client().get(PACKAGES)), 0, "{status}");
        }
    }
}

fn a_refusal_of_one_member_leaves_the_others_and_it_for_an_outage(io: Io) {
    for status in [404, 403, 429] {
        let refusing = Refusing::default();
        let origin = refusing.origin(PACKAGES);
        let server =
            Launch::new(io, &origin).args(["--preset", "apt", "--stale-if-error", "forever"]).start();
        assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0));
        refusing.say(status);
        server.client().get(PACKAGES);
        refusing.say(1);
        assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0), "{status}");
        assert_eq!(update(&mut server.client(), &[PACKAGES, IN_RELEASE]), Some(0), "{status}");
    }
}

fn a_member_that_is_refused_for_a_moment_does_not_stop_a_collection_for_ever(io: Io) {
    for status in [404, 403, 429, 503] {
        let refusing = Refusing::default();
        let origin = refusing.origin(PACKAGES);
        let server =
            Launch::new(io, &origin).args(["--preset", "apt", "--stale-if-error", "forever"]).start();
        assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0));
        refusing.states.next();
        refusing.say(status);
        let mut client = server.client();
        let begun = state(&client.get(IN_RELEASE));
        let packages = client.get(PACKAGES);
        // Never the new one and the old one together.
        assert!(usize::from(packages.status) == status || state(&packages) == begun, "{packages:?}");
        refusing.say(0);
        let mut client = server.client();
        assert_eq!(update(&mut client, &[IN_RELEASE, PACKAGES]), Some(1), "{status}");
    }
}

fn a_set_is_found_again_by_the_next_process(io: Io) {
    let states = States::default();
    let origin = states.origin();
    let cache = tempfile::tempdir().unwrap();
    let start = || Launch::new(io, &origin).args(["--preset", "apt"]).cache(cache.path()).start();
    let first = start();
    assert_eq!(update(&mut first.client(), &[IN_RELEASE, PACKAGES]), Some(0));
    first.expect_cached(PACKAGES.trim_start_matches('/'), &States::body(PACKAGES, 0));
    drop(first);
    let before = origin.count();
    assert_eq!(update(&mut start().client(), &[IN_RELEASE, PACKAGES]), Some(0));
    for request in &origin.requests()[before..] {
        assert_eq!(request.field("If-None-Match"), Some("\"0\""), "{request:?}");
    }
    states.next();
    assert_eq!(update(&mut start().client(), &[PACKAGES, IN_RELEASE]), Some(1));
}

/// A cache that has the first state of a set on its disk, started anew while its origin is down.
struct Restarted {
    states: States,
    down: Arc<AtomicBool>,
    server: Server,
    _origin: Origin,
    _cache: tempfile::TempDir,
}

impl Restarted {
    fn new(io: Io) -> Self {
        let (states, down) = (States::default(), Arc::new(AtomicBool::new(false)));
        let (theirs, is_down) = (states.clone(), Arc::clone(&down));
        let origin = Origin::start(move |request, reply| {
            if is_down.load(Ordering::SeqCst) {
                return reply.reset();
            }
            theirs.serve(request, reply);
        });
        let cache = tempfile::tempdir().unwrap();
        let args = ["--preset", "apt", "--stale-if-error", "forever"];
        let start = || Launch::new(io, &origin).args(args).cache(cache.path()).start();
        let first = start();
        assert_eq!(update(&mut first.client(), &[IN_RELEASE, PACKAGES]), Some(0));
        for path in [IN_RELEASE, PACKAGES] {
            first.expect_cached(path.trim_start_matches('/'), &States::body(path, 0));
        }
        drop(first);
        down.store(true, Ordering::SeqCst);
        let server = start();
        Self { states, down, server, _origin: origin, _cache: cache }
    }
}

fn a_set_on_the_disk_is_served_after_a_restart_while_the_origin_is_down(io: Io) {
    let restarted = Restarted::new(io);
    let server = &restarted.server;
    for _ in 0..2 {
        assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0));
    }
    assert_eq!(server.get(SOURCES).status, 502);
    restarted.states.next();
    restarted.down.store(false, Ordering::SeqCst);
    assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES, SOURCES]), Some(1));
}

fn what_was_on_the_disk_is_not_mixed_with_what_the_origin_has_when_it_is_back(io: Io) {
    let restarted = Restarted::new(io);
    let mut client = restarted.server.client();
    assert_eq!(state(&client.get(IN_RELEASE)), 0);
    restarted.states.next();
    restarted.down.store(false, Ordering::SeqCst);
    // Nobody has asked for it since the start, and the client holds what is older.
    assert_eq!(client.get(PACKAGES).status, 503);
    assert_eq!(update(&mut client, &[IN_RELEASE, PACKAGES]), Some(1));
}

fn what_was_on_the_disk_goes_on_when_the_origin_is_back_unchanged(io: Io) {
    let restarted = Restarted::new(io);
    let mut client = restarted.server.client();
    assert_eq!(state(&client.get(IN_RELEASE)), 0);
    restarted.down.store(false, Ordering::SeqCst);
    assert_eq!(state(&client.get(PACKAGES)), 0);
    restarted.states.next();
    assert_eq!(update(&mut client, &[IN_RELEASE, PACKAGES]), Some(1));
}

fn an_origin_without_validators_is_understood(io: Io) {
    let states = States::default();
    let theirs = states.clone();
    let origin = Origin::start(move |request, reply| {
        reply.answer("200 OK", "", &States::body(&request.target, theirs.now()));
    });
    let server = launch(io, &origin, "apt");
    let mut client = server.client();
    for expected in 0..3 {
        assert_eq!(update(&mut client, &[IN_RELEASE, PACKAGES, SOURCES]), Some(expected));
        states.next();
    }
}

fn an_origin_that_changes_file_by_file_is_waited_for(io: Io) {
    // The last packages are 8 bytes, and a new Release file, which comes first, lists so many.
    let (release, packages) = (States::default(), States::default());
    let (theirs, others) = (release.clone(), packages.clone());
    let origin = Origin::start(move |request, reply| {
        let (state, body) = if request.target == IN_RELEASE {
            let state = theirs.now();
            // SHA-256 of "first" and of "state 1 ".
            let sum = [
                "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e 5",
                "23f338de5a52f8642d0e12bfd7a1b735bc6d39f0376c8362b2979d144aa53ce4 8",
            ][usize::try_from(state).unwrap()];
            let list = format!("state {state} of\nSHA256:\n {sum} main/binary-amd64/Packages.xz\n");
            (state, list)
        } else {
            let state = others.now();
            (state, ["first", "state 1 "][usize::try_from(state).unwrap()].to_owned())
        };
        let tag = format!("\"{state}\"");
        if request.field("If-None-Match") == Some(&tag) {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n"));
        } else {
            reply.answer("200 OK", &format!("ETag: {tag}\r\n"), body.as_bytes());
        }
    });
    let server = launch(io, &origin, "apt");
    let mut client = server.client();
    assert_eq!(state(&client.get(IN_RELEASE)), 0);
    client.get(PACKAGES).expect(200, b"first");
    release.next();
    // Half of the change: the whole of the old state is what there is.
    assert_eq!(state(&client.get(IN_RELEASE)), 0);
    client.get(PACKAGES).expect(200, b"first");
    packages.next();
    assert_eq!(state(&client.get(IN_RELEASE)), 1);
    client.get(PACKAGES).expect(200, b"state 1 ");
}

fn a_rebuilt_pkgsrc_package_is_dropped_when_the_index_changes(io: Io) {
    let rebuilt = Arc::new(AtomicBool::new(false));
    let is_rebuilt = Arc::clone(&rebuilt);
    let origin = Origin::start(move |request, reply| {
        let new = is_rebuilt.load(Ordering::SeqCst);
        let size = if new { 7 } else { 3 };
        match request.target.as_str() {
            "/All/pkg_summary.gz" => {
                let index = format!(
                    "PKGNAME=a-1.0\nFILE_NAME=a-1.0.tgz\nFILE_SIZE={size}\n\nPKGNAME=b-1.0\nFILE_SIZE=3\n\n"
                );
                reply.answer("200 OK", &format!("ETag: \"{size}\"\r\n"), index.as_bytes());
            }
            "/All/a-1.0.tgz" if new => reply.answer("200 OK", "", b"rebuilt"),
            _ => reply.answer("200 OK", "", b"old"),
        }
    });
    let server = Launch::new(io, &origin).args(["--preset", "pkgsrc"]).debug().start();
    let update = || drop(server.get("/All/pkg_summary.gz"));
    update();
    for package in ["/All/a-1.0.tgz", "/All/b-1.0.tgz"] {
        server.get(package).expect(200, b"old");
        server.expect_cached(package.trim_start_matches('/'), b"old");
    }
    rebuilt.store(true, Ordering::SeqCst);
    server.get("/All/a-1.0.tgz").expect(200, b"old");
    update();
    server.err.wait_for("a-1.0.tgz - 3 bytes, the index says 7");
    server.get("/All/a-1.0.tgz").expect(200, b"rebuilt");
    assert!(server.path("All/b-1.0.tgz").exists());
}

fn a_large_member_streams_to_the_first_client(io: Io) {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::start(move |request, reply| {
        if request.target != PACKAGES || request.field("If-None-Match").is_some() {
            return reply.answer("200 OK", "ETag: \"1\"\r\n", b"small");
        }
        reply.head(10, "ETag: \"1\"\r\n");
        reply.write(b"first");
        opened.wait();
        reply.write(b"later");
    });
    let server = launch(io, &origin, "apt");
    let mut client = server.client();
    client.get(IN_RELEASE).expect(200, b"small");
    client.ask("GET", PACKAGES, "");
    let mut response = client.head("GET");
    assert_eq!(client.raw(5), b"first");
    // Another one follows it, at once.
    let mut other = server.client();
    other.get(IN_RELEASE).expect(200, b"small");
    other.ask("GET", PACKAGES, "");
    other.head("GET");
    assert_eq!(other.raw(5), b"first");
    gate.open();
    response.body.extend_from_slice(b"first");
    client.finish(&mut response);
    response.expect(200, b"firstlater");
    wait_until("it is a file", || server.path(PACKAGES.trim_start_matches('/')).exists());
}

/// Two machines behind one name, which answer in turn. Each has its own tags, and its own state.
#[derive(Clone, Default)]
struct Twins {
    states: Arc<[AtomicU64; 2]>,
    /// Requests with bodies in their answers.
    sent: Arc<AtomicUsize>,
}

impl Twins {
    fn say(&self, one: u64, other: u64) {
        for (state, now) in self.states.iter().zip([one, other]) {
            state.store(now, Ordering::SeqCst);
        }
    }

    /// The tags are of the machine, or there are only dates, which differ as well.
    fn origin(&self, dates: bool) -> Origin {
        let (theirs, turns) = (self.clone(), AtomicUsize::new(0));
        Origin::start(move |request, reply| {
            let machine = turns.fetch_add(1, Ordering::SeqCst) % 2;
            let state = theirs.states[machine].load(Ordering::SeqCst);
            let (field, value) = if dates {
                (
                    "Last-Modified",
                    format!("Sat, 16 May 2015 20:31:{:02} GMT", 10 * u64::try_from(machine).unwrap() + state),
                )
            } else {
                ("ETag", format!("\"{machine}-{state}\""))
            };
            let asked = request.field(if dates { "If-Modified-Since" } else { "If-None-Match" });
            if asked
                .is_some_and(|asked| asked == value || !dates && asked.split(", ").any(|tag| tag == value))
            {
                reply.write(format!("HTTP/1.1 304 Not Modified\r\n{field}: {value}\r\n\r\n"));
                return;
            }
            theirs.sent.fetch_add(1, Ordering::SeqCst);
            let body = States::body(&request.target, state);
            reply.answer("200 OK", &format!("{field}: {value}\r\n"), &body);
        })
    }
}

fn machines_with_the_same_files_and_other_validators_are_one_state(io: Io) {
    for (preset, paths) in [
        ("apt", &[IN_RELEASE, PACKAGES, SOURCES][..]),
        ("pkgsrc", &["/All/pkg_summary.gz", "/All/pkg_summary.xz", "/All/pkg_summary.bz2"]),
    ] {
        for dates in [false, true] {
            let twins = Twins::default();
            let origin = twins.origin(dates);
            let server = launch(io, &origin, preset);
            // An odd number of clients' requests, and an even one.
            for count in [2, 3, 2, 3, 2, 3] {
                let mut client = server.client();
                assert_eq!(update(&mut client, &paths[..count]), Some(0), "{preset} {dates}");
            }
            let (asked, sent) = (origin.count(), twins.sent.load(Ordering::SeqCst));
            for _ in 0..10 {
                assert_eq!(update(&mut server.client(), paths), Some(0), "{preset} {dates}");
            }
            assert!(origin.count() - asked <= 12, "{} requests for ten clients", origin.count() - asked);
            if !dates {
                assert_eq!(twins.sent.load(Ordering::SeqCst), sent, "unchanged files were sent again");
            }
        }
    }
}

fn machines_in_different_states_are_never_mixed(io: Io) {
    for (preset, paths) in [
        ("apt", &[IN_RELEASE, PACKAGES, SOURCES, TRANSLATION][..]),
        ("pkgsrc", &["/All/pkg_summary.gz", "/All/pkg_summary.xz", "/All/pkg_summary.bz2"]),
    ] {
        // What all have had of one state before.
        let twins = Twins::default();
        let origin = twins.origin(false);
        let server = launch(io, &origin, preset);
        assert_eq!(update(&mut server.client(), paths), Some(0));
        let mut begun = server.client();
        assert_eq!(state(&begun.get(paths[0])), 0);
        twins.say(0, 1);
        let asked = origin.count();
        for _ in 0..12 {
            assert_eq!(update(&mut server.client(), paths), Some(0), "{preset}");
        }
        // One who has begun goes on, and is never sent away.
        assert!(paths[1..].iter().all(|path| state(&begun.get(path)) == 0));
        assert!(origin.count() - asked <= 60, "{} requests for twelve clients", origin.count() - asked);
        twins.say(1, 1);
        wait_until("the machines are one again", || update(&mut server.client(), paths) == Some(1));
    }
}

fn machines_in_different_states_give_a_new_client_no_mix(io: Io) {
    for paths in [
        &[IN_RELEASE, PACKAGES][..],
        &[IN_RELEASE, PACKAGES, SOURCES],
        &[PACKAGES, SOURCES, TRANSLATION, IN_RELEASE],
    ] {
        let twins = Twins::default();
        twins.say(1, 2);
        let origin = twins.origin(false);
        let server = launch(io, &origin, "apt");
        for _ in 0..6 {
            // Begin again, or all of one state.
            update(&mut server.client(), paths);
        }
        twins.say(2, 2);
        wait_until("the machines are one again", || update(&mut server.client(), paths) == Some(2));
    }
}

/// One client has begun with the first state; another does what it likes; then the origin changes.
fn undisturbed_by(io: Io, disturb: impl Fn(&mut Client, &States)) {
    const REPOMD: &str = "/el9/repodata/repomd.xml";
    const PRIMARY: &str = "/el9/repodata/primary.xml.gz";
    let states = States::default();
    let theirs = states.clone();
    let origin = Origin::start(move |request, reply| {
        if request.target.starts_with("/none") {
            return reply.answer("404 Not Found", "", b"no such file");
        }
        theirs.serve(request, reply);
    });
    let server = launch(io, &origin, "rpm");
    assert_eq!(update(&mut server.client_from(2), &[REPOMD, PRIMARY]), Some(0));
    let mut begun = server.client_from(3);
    assert_eq!(state(&begun.get(REPOMD)), 0);
    disturb(&mut server.client_from(4), &states);
    states.next();
    assert_eq!(update(&mut server.client_from(4), &[REPOMD, PRIMARY]), Some(states.now()));
    assert_eq!(state(&begun.get(PRIMARY)), 0);
}

fn requests_for_names_that_do_not_exist_do_not_end_what_another_client_has_begun(io: Io) {
    undisturbed_by(io, |other, _| {
        for number in 0..320 {
            assert_eq!(other.get(&format!("/none{number}/repodata/repomd.xml")).status, 404);
        }
    });
}

fn requests_for_many_sets_do_not_end_what_another_client_has_begun(io: Io) {
    undisturbed_by(io, |other, _| {
        for number in 0..320 {
            assert_eq!(state(&other.get(&format!("/some{number}/repodata/repomd.xml"))), 0);
        }
    });
}

/// One client begins with the first state, others do what they like, then the origin changes. The client asks for a file
/// that nobody has had.
fn no_mix_after(io: Io, begin_after: bool, disturb: impl Fn(&Server)) {
    let states = States::default();
    let origin = states.origin();
    let server = launch(io, &origin, "rpm");
    let mut begun = server.client_from(3);
    if begin_after {
        disturb(&server);
    }
    assert_eq!(state(&begun.get("/el9/repodata/repomd.xml")), 0);
    if !begin_after {
        disturb(&server);
    }
    states.next();
    let other = begun.get("/el9/repodata/filelists.xml.gz");
    assert!(other.status == 503 || state(&other) == 0, "{other:?}");
}

fn ask_for_sets(client: &mut Client, name: &str, count: usize) {
    for number in 0..count {
        assert_eq!(state(&client.get(&format!("/{name}{number}/repodata/repomd.xml"))), 0);
    }
}

fn requests_for_many_sets_from_the_same_address_do_not_end_what_a_connection_has_begun(io: Io) {
    no_mix_after(io, false, |server| ask_for_sets(&mut server.client_from(3), "some", 320));
}

fn a_client_that_begins_while_others_hold_many_sets_gets_no_mix(io: Io) {
    no_mix_after(io, true, |server| {
        for host in 10..16 {
            ask_for_sets(&mut server.client_from(host), &format!("of{host}-"), 60);
        }
    });
}

fn a_request_that_wants_nothing_stored_goes_on_with_what_its_client_has_begun(io: Io) {
    let states = States::default();
    let origin = states.origin();
    let server = launch(io, &origin, "apt");
    assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0));
    let mut client = server.client();
    assert_eq!(state(&client.get(IN_RELEASE)), 0);
    states.next();
    client.ask("GET", PACKAGES, "Cache-Control: no-store\r\n");
    assert_eq!(state(&client.response("GET")), 0);
    // One that begins hears the origin.
    let mut new = server.client_from(2);
    new.ask("GET", PACKAGES, "Cache-Control: no-store\r\n");
    assert_eq!(state(&new.response("GET")), 1);
}

fn an_origin_that_changes_often_does_not_end_what_a_client_has_begun(io: Io) {
    undisturbed_by(io, |other, states| {
        for _ in 0..40 {
            states.next();
            update(other, &["/el9/repodata/repomd.xml", "/el9/repodata/primary.xml.gz"]);
        }
    });
}

/// Index files of four sets without anchors, by the names that a client asks for.
fn many_members() -> Vec<String> {
    let name = |number: usize| format!("/debian/dists/d{}/main/i18n/Translation-x{number}.xz", number % 4);
    (0..320).map(name).collect()
}

fn many_index_files_leave_descriptors_for_others(io: Io) {
    let states = States::default();
    let origin = states.origin();
    let server = Launch::new(io, &origin)
        .args(["--preset", "apt", "--workers", "1"])
        .limit(Limit::Descriptors(256, 256))
        .start();
    let mut client = server.client();
    for path in many_members() {
        assert_eq!(state(&client.get(&path)), 0, "{path}");
    }
    wait_until("they are closed", || server.descriptors() < 200);
    // A miss, and what was asked for before.
    server.get("/debian/pool/main/a.deb").expect(200, &States::body("/debian/pool/main/a.deb", 0));
    states.next();
    for path in many_members().iter().take(50) {
        let response = server.client().get(path);
        assert!(response.status == 503 || state(&response) <= 1, "{path}");
    }
    server.get("/debian/pool/main/b.deb").expect(200, &States::body("/debian/pool/main/b.deb", 1));
}

fn a_member_that_somebody_has_replaced_on_the_disk_is_asked_for_again(io: Io) {
    let states = States::default();
    let origin = states.origin();
    let server = launch(io, &origin, "apt");
    assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0));
    // What is asked for again is checked once it is a file of the set.
    let mut again = server.client();
    wait_until("both are files of the set", || {
        let before = origin.count();
        [IN_RELEASE, IN_RELEASE, PACKAGES, PACKAGES]
            .iter()
            .for_each(|path| assert_eq!(state(&again.get(path)), 0));
        let asked = origin.requests().split_off(before);
        [IN_RELEASE, PACKAGES].iter().all(|path| asked.iter().any(|request| request.target == *path))
    });
    let mut begun = server.client();
    assert_eq!(state(&begun.get(IN_RELEASE)), 0);
    std::fs::remove_file(server.path(PACKAGES.trim_start_matches('/'))).unwrap();
    assert_eq!(state(&begun.get(PACKAGES)), 0);
    std::fs::remove_file(server.path(IN_RELEASE.trim_start_matches('/'))).unwrap();
    server.expect_cached(PACKAGES.trim_start_matches('/'), &States::body(PACKAGES, 0));
    // Another file, not the same one written over while it gets its name.
    std::fs::remove_file(server.path(PACKAGES.trim_start_matches('/'))).unwrap();
    server.put(PACKAGES.trim_start_matches('/'), b"state 9 of what the operator has put here");
    assert_eq!(update(&mut server.client(), &[IN_RELEASE, PACKAGES]), Some(0));
}

fn a_set_without_anchors_is_checked_several_files_at_a_time(io: Io) {
    let (states, busy, most) =
        (States::default(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (theirs, now, high, slow) =
        (states.clone(), busy, Arc::clone(&most), Arc::new(AtomicBool::new(false)));
    let is_slow = Arc::clone(&slow);
    let origin = Origin::start(move |request, reply| {
        high.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        if is_slow.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(30));
        }
        now.fetch_sub(1, Ordering::SeqCst);
        theirs.serve(request, reply);
    });
    let server = launch(io, &origin, "apt");
    let mut client = server.client();
    let paths: Vec<_> = many_members().into_iter().filter(|path| path.contains("/d0/")).take(40).collect();
    for path in &paths[..39] {
        assert_eq!(state(&client.get(path)), 0);
    }
    slow.store(true, Ordering::SeqCst);
    assert_eq!(state(&client.get(&paths[39])), 0);
    let most = most.load(Ordering::SeqCst);
    assert!((4..=16).contains(&most), "{most} at a time");
}

/// Files of one set that no list names.
fn unlisted(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("/debian/dists/sid/main/i18n/Translation-x{number}.xz")).collect()
}

fn a_file_that_joins_a_large_set_without_checksums_costs_a_bounded_number_of_requests(io: Io) {
    let states = States::default();
    let origin = states.origin();
    let server = launch(io, &origin, "apt");
    let mut client = server.client();
    let paths = unlisted(80);
    for path in &paths {
        assert_eq!(state(&client.get(path)), 0);
    }
    assert!(origin.count() <= 12 * paths.len(), "{} requests", origin.count());
}

fn a_change_of_a_large_set_without_checksums_is_seen_when_another_file_joins(io: Io) {
    let states = States::default();
    let origin = states.origin();
    let server = launch(io, &origin, "apt");
    let paths = unlisted(40);
    for path in &paths[..30] {
        assert_eq!(state(&server.client_from(2).get(path)), 0);
    }
    let mut client = server.client_from(3);
    assert_eq!(state(&client.get(&paths[0])), 0);
    states.next();
    for path in &paths[30..] {
        let response = client.get(path);
        assert!(response.status == 503 || state(&response) == 0, "{path}");
    }
    // Its own are no more than it has read; the new state is there for it once it begins again.
    assert_eq!(state(&client.get(&paths[0])), 1);
    assert_eq!(state(&client.get(&paths[35])), 1);
}

/// The files of each set hang at the origin.
fn updates_that_one_client_began_leave_places_at_the_origin_for_others(io: Io) {
    let (gate, state) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (opened, now) = (gate.clone(), Arc::clone(&state));
    let origin = Origin::start(move |request, reply| {
        let state = now.load(Ordering::SeqCst);
        if state > 0 && request.target.ends_with("Packages") {
            opened.wait();
        }
        reply.answer("200 OK", &format!("ETag: \"{state}\"\r\n"), format!("state {state}").as_bytes());
    });
    let args = ["--preset", "apt", "--max-origin-connections", "16"];
    let server = Launch::new(io, &origin).args(args).start();
    let set = |which: usize| format!("/d{which}/dists/x");
    let mut client = server.client();
    for which in 0..6 {
        client.get(&format!("{}/InRelease", set(which))).expect(200, b"state 0");
        for member in 0..8 {
            let target = format!("{}/main/binary-{member}/Packages", set(which));
            client.get(&target).expect(200, b"state 0");
        }
    }
    state.store(1, Ordering::SeqCst);
    let _begun: Vec<_> = (0..6)
        .map(|which| {
            let mut client = server.client();
            client.ask("GET", &format!("{}/InRelease", set(which)), "");
            client
        })
        .collect();
    let begun = || origin.requests().iter().filter(|request| request.target.ends_with("Packages")).count();
    wait_until("files hang", || begun() > 48 + 3);
    for n in 0..3 {
        let mut other = server.client_from(9);
        other.get(&format!("/pool/{n}.deb")).expect(200, b"state 1");
        other.get("/pass").expect(200, b"state 1");
    }
    gate.open();
}
