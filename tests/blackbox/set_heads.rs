//! HEAD of a member of an index set: no client is told of a state that a GET would not give it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::support::origin::Request;
use crate::support::{Client, Gate, Io, Launch, Origin, Reply, Response, Server, on_both, wait_until};

on_both!(
    a_head_of_an_index_that_has_changed_tells_of_the_new_one,
    a_head_of_an_index_with_the_old_tag_is_no_304_once_it_has_changed,
    a_head_of_an_unchanged_index_is_answered_from_what_is_kept_after_one_check,
    a_head_of_a_fresh_index_is_answered_without_a_check,
    a_head_in_an_outage_is_answered_as_a_get_is,
    a_head_of_an_index_that_is_only_wanted_from_the_cache_is_answered_as_a_get_is,
    a_head_of_a_client_that_goes_on_tells_of_what_it_has_begun_with,
    a_head_of_an_index_that_is_refused_is_the_refusal_without_its_body,
    a_head_of_an_index_that_may_not_be_kept_any_more_has_no_body,
    a_head_of_an_index_on_its_way_is_of_the_same_state,
    a_head_of_an_index_that_nobody_has_is_passed,
    a_head_does_not_move_its_client_to_the_next_state,
    a_head_before_each_get_gives_its_client_no_mix,
    a_head_of_an_index_is_no_get_of_it,
    a_client_that_only_asks_for_heads_hears_of_each_change,
);

const IN_RELEASE: &str = "/debian/dists/sid/InRelease";
const PACKAGES: &str = "/debian/dists/sid/main/binary-amd64/Packages.xz";

/// A member of a set of each kind.
const MEMBERS: [(&str, &str); 3] =
    [("pkgsrc", "/All/pkg_summary.gz"), ("apt", IN_RELEASE), ("rpm", "/f/repodata/repomd.xml")];

/// An origin whose files are of one state.
#[derive(Clone, Default)]
struct States {
    now: Arc<AtomicU64>,
    /// It fails: with this status, or by a reset, which is 1.
    failure: Arc<AtomicUsize>,
}

impl States {
    fn next(&self) {
        self.now.fetch_add(1, Ordering::SeqCst);
    }

    fn fail(&self, how: usize) {
        self.failure.store(how, Ordering::SeqCst);
    }

    fn body(target: &str, state: u64) -> Vec<u8> {
        // Of another length each time, so that a head tells of its body.
        format!("state {state} of {target}\n{}", "x".repeat(usize::try_from(state).unwrap())).into_bytes()
    }

    fn serve(&self, request: &Request, reply: &mut Reply<'_>, lines: &str) {
        let (state, failure) = (self.now.load(Ordering::SeqCst), self.failure.load(Ordering::SeqCst));
        let lines = format!("ETag: \"{state}\"\r\n{lines}");
        match failure {
            0 if request.field("If-None-Match") == Some(&format!("\"{state}\"")) => {
                reply.write(format!("HTTP/1.1 304 Not Modified\r\n{lines}\r\n"));
            }
            0 if request.method == "HEAD" => {
                let length = Self::body(&request.target, state).len();
                reply.write(format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: {length}\r\n\r\n"));
            }
            0 => reply.answer("200 OK", &lines, &Self::body(&request.target, state)),
            1 => reply.reset(),
            status => reply.answer(&format!("{status} Failed"), "", b"failed"),
        }
    }

    fn origin(&self, lines: &'static str) -> Origin {
        let theirs = self.clone();
        Origin::start(move |request, reply| theirs.serve(request, reply, lines))
    }
}

fn launch(io: Io, origin: &Origin, preset: &str, more: &[&str]) -> Server {
    Launch::new(io, origin).args(["--preset", preset, "--workers", "2"]).args(more).start()
}

/// A client of an address of its own, which is known by no other connection.
fn client_from(server: &Server, host: u8) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
    socket.connect(&server.addr().into()).unwrap();
    Client::over(socket.into())
}

/// Fetches it, and waits until it is a file of its set: from then on it is checked.
fn seed(server: &Server, origin: &Origin, target: &str, body: &[u8]) {
    wait_until("it is checked", || {
        let before = origin.count();
        client_from(server, 2).get(target).expect(200, body);
        before > 0 && origin.count() > before
    });
}

fn head(client: &mut Client, target: &str, fields: &str) -> Response {
    client.ask("HEAD", target, fields).response("HEAD")
}

/// The head of this state's file.
#[track_caller]
fn expect_state(head: &Response, target: &str, state: u64) {
    assert_eq!(head.expect(200, b"").all("ETag"), [format!("\"{state}\"")]);
    let length = States::body(target, state).len().to_string();
    assert_eq!(head.all("Content-Length"), [length], "{:?}", head.fields);
    head.expect_keep_alive();
}

fn a_head_of_an_index_that_has_changed_tells_of_the_new_one(io: Io) {
    for (preset, target) in MEMBERS {
        for fields in
            ["", "Cache-Control: no-cache\r\n", "Cache-Control: max-age=0\r\n", "Range: bytes=0-1\r\n"]
        {
            let states = States::default();
            let origin = states.origin("");
            let server = launch(io, &origin, preset, &[]);
            seed(&server, &origin, target, &States::body(target, 0));
            for state in 1..3 {
                states.next();
                let mut client = client_from(&server, 2 + u8::try_from(state).unwrap());
                expect_state(&head(&mut client, target, fields), target, state);
                client.get(target).expect(200, &States::body(target, state));
            }
        }
    }
}

fn a_head_of_an_index_with_the_old_tag_is_no_304_once_it_has_changed(io: Io) {
    for (preset, target) in MEMBERS {
        let states = States::default();
        let origin = states.origin("");
        let server = launch(io, &origin, preset, &[]);
        seed(&server, &origin, target, &States::body(target, 0));
        let unchanged = head(&mut client_from(&server, 3), target, "If-None-Match: \"0\"\r\n");
        assert_eq!(unchanged.expect(304, b"").all("ETag"), ["\"0\""]);
        states.next();
        let changed = head(&mut client_from(&server, 4), target, "If-None-Match: \"0\"\r\n");
        expect_state(&changed, target, 1);
        let new = head(&mut client_from(&server, 5), target, "If-None-Match: \"1\"\r\n");
        assert_eq!(new.expect(304, b"").all("ETag"), ["\"1\""]);
    }
}

fn a_head_of_an_unchanged_index_is_answered_from_what_is_kept_after_one_check(io: Io) {
    for (preset, target) in MEMBERS {
        let states = States::default();
        let origin = states.origin("");
        let server = launch(io, &origin, preset, &[]);
        seed(&server, &origin, target, &States::body(target, 0));
        let before = origin.count();
        expect_state(&head(&mut client_from(&server, 3), target, ""), target, 0);
        let asked = origin.requests();
        assert_eq!(asked.len(), before + 1, "{preset}");
        assert_eq!(asked[before].all("If-None-Match"), ["\"0\""]);
    }
}

fn a_head_of_a_fresh_index_is_answered_without_a_check(io: Io) {
    for (preset, target) in MEMBERS {
        let states = States::default();
        let origin = states.origin("Cache-Control: max-age=3600\r\n");
        let server = launch(io, &origin, preset, &[]);
        client_from(&server, 2).get(target).expect(200, &States::body(target, 0));
        server.expect_cached(&target[1..], &States::body(target, 0));
        let before = origin.count();
        expect_state(&head(&mut client_from(&server, 3), target, ""), target, 0);
        assert_eq!(origin.count(), before, "{preset}");
        // Unless the client wants one.
        let no_cache = |host| head(&mut client_from(&server, host), target, "Cache-Control: no-cache\r\n");
        wait_until("it is checked", || no_cache(5).status == 200 && origin.count() > before);
        states.next();
        expect_state(&no_cache(4), target, 1);
    }
}

fn a_head_in_an_outage_is_answered_as_a_get_is(io: Io) {
    let stale = ["--stale-if-error", "forever"];
    for lines in ["", "Cache-Control: max-age=0\r\n", "Cache-Control: must-revalidate\r\n"] {
        for failure in [503, 1] {
            for (args, allowed) in [(&stale[..0], false), (&stale[..], !lines.contains("must"))] {
                let states = States::default();
                let origin = states.origin(lines);
                let server = launch(io, &origin, "apt", args);
                seed(&server, &origin, IN_RELEASE, &States::body(IN_RELEASE, 0));
                server.expect_cached(&IN_RELEASE[1..], &States::body(IN_RELEASE, 0));
                states.fail(failure);
                let mut client = client_from(&server, 3);
                let told = head(&mut client, IN_RELEASE, "");
                let got = client_from(&server, 4).get(IN_RELEASE);
                assert_eq!(told.status, got.status, "{lines} {failure} {args:?}");
                assert_eq!(told.status == 200, allowed, "{lines} {failure} {args:?}");
                // Nothing is left on the connection.
                states.fail(0);
                client.get(IN_RELEASE).expect(200, &States::body(IN_RELEASE, 0));
            }
        }
    }
}

fn a_head_of_an_index_that_is_only_wanted_from_the_cache_is_answered_as_a_get_is(io: Io) {
    const ONLY: &str = "Cache-Control: only-if-cached\r\n";
    for (lines, status) in [("", 504), ("Cache-Control: max-age=3600\r\n", 200)] {
        let states = States::default();
        let origin = states.origin(lines);
        let server = launch(io, &origin, "apt", &[]);
        if status == 200 {
            client_from(&server, 2).get(IN_RELEASE).expect(200, &States::body(IN_RELEASE, 0));
        } else {
            seed(&server, &origin, IN_RELEASE, &States::body(IN_RELEASE, 0));
        }
        let before = origin.count();
        assert_eq!(head(&mut client_from(&server, 3), IN_RELEASE, ONLY).status, status);
        assert_eq!(client_from(&server, 4).ask("GET", IN_RELEASE, ONLY).response("GET").status, status);
        assert_eq!(origin.count(), before);
    }
}

fn a_head_of_a_client_that_goes_on_tells_of_what_it_has_begun_with(io: Io) {
    let states = States::default();
    let origin = states.origin("");
    let server = launch(io, &origin, "apt", &[]);
    for target in [IN_RELEASE, PACKAGES] {
        seed(&server, &origin, target, &States::body(target, 0));
    }
    let mut begun = client_from(&server, 3);
    expect_state(&head(&mut begun, IN_RELEASE, ""), IN_RELEASE, 0);
    states.next();
    let mut new = client_from(&server, 4);
    expect_state(&head(&mut new, IN_RELEASE, ""), IN_RELEASE, 1);
    // Pinned: the origin has nothing to say, whatever the client asks for.
    let before = origin.count();
    let pinned = head(&mut begun, PACKAGES, "Cache-Control: no-cache\r\n");
    expect_state(&pinned, PACKAGES, 0);
    assert_eq!(origin.count(), before);
    new.get(PACKAGES).expect(200, &States::body(PACKAGES, 1));
}

fn a_head_of_an_index_that_is_refused_is_the_refusal_without_its_body(io: Io) {
    for status in [403, 404, 410] {
        let states = States::default();
        let origin = states.origin("");
        let server = launch(io, &origin, "apt", &["--stale-if-error", "forever"]);
        seed(&server, &origin, IN_RELEASE, &States::body(IN_RELEASE, 0));
        server.expect_cached(&IN_RELEASE[1..], &States::body(IN_RELEASE, 0));
        states.fail(status);
        let mut client = client_from(&server, 3);
        let refused = head(&mut client, IN_RELEASE, "");
        assert_eq!(usize::from(refused.status), status);
        assert_eq!(refused.all("Content-Length"), ["6"]);
        refused.expect_keep_alive();
        // What is kept stays, and no body is on the connection.
        states.fail(503);
        client.get(IN_RELEASE).expect(200, &States::body(IN_RELEASE, 0));
    }
}

fn a_head_of_an_index_that_may_not_be_kept_any_more_has_no_body(io: Io) {
    for (lines, framed) in [
        ("Cache-Control: no-store\r\nContent-Length: 300000\r\n", false),
        ("Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n", true),
    ] {
        let states = States::default();
        let theirs = states.clone();
        let origin = Origin::start(move |request, reply| {
            if theirs.now.load(Ordering::SeqCst) == 0 {
                return theirs.serve(request, reply, "");
            }
            if request.target != IN_RELEASE {
                return reply.answer("200 OK", "", b"next");
            }
            reply.write(format!("HTTP/1.1 200 OK\r\nETag: \"1\"\r\n{lines}\r\n"));
            if request.method != "HEAD" {
                if framed {
                    reply.write("5\r\nindex\r\n0\r\n\r\n");
                } else {
                    reply.write(vec![b'x'; 300_000]);
                }
            }
        });
        let server = launch(io, &origin, "apt", &[]);
        seed(&server, &origin, IN_RELEASE, &States::body(IN_RELEASE, 0));
        states.next();
        let mut client = client_from(&server, 3);
        let told = head(&mut client, IN_RELEASE, "");
        assert_eq!(told.expect(200, b"").all("ETag"), ["\"1\""]);
        assert_eq!(told.all("Content-Length"), if framed { vec![] } else { vec!["300000"] });
        client.get("/next").expect(200, b"next");
    }
}

fn a_head_of_an_index_on_its_way_is_of_the_same_state(io: Io) {
    let states = States::default();
    let (gate, theirs) = (Gate::default(), states.clone());
    let open = gate.clone();
    let origin = Origin::start(move |request, reply| {
        if request.index > 0 || request.target != IN_RELEASE {
            return theirs.serve(request, reply, "");
        }
        reply.write("HTTP/1.1 200 OK\r\nETag: \"0\"\r\nContent-Length: 200000\r\n\r\n");
        reply.write(vec![b'a'; 100_000]);
        open.wait();
        reply.write(vec![b'a'; 100_000]);
    });
    let server = launch(io, &origin, "apt", &[]);
    let mut getting = client_from(&server, 2);
    getting.ask("GET", IN_RELEASE, "");
    let begun = getting.head("GET");
    assert_eq!(begun.all("ETag"), ["\"0\""]);
    // The origin has another state by now.
    states.next();
    let mut looking = client_from(&server, 3);
    let told = head(&mut looking, IN_RELEASE, "");
    assert_eq!(told.expect(200, b"").all("ETag"), ["\"0\""]);
    assert_eq!(told.all("Content-Length"), ["200000"]);
    assert_eq!(origin.count(), 1);
    gate.open();
    let mut whole = begun;
    getting.finish(&mut whole);
    whole.expect(200, &vec![b'a'; 200_000]);
}

fn a_head_of_an_index_that_nobody_has_is_passed(io: Io) {
    let states = States::default();
    let origin = states.origin("");
    let server = launch(io, &origin, "apt", &[]);
    for _ in 0..2 {
        expect_state(&head(&mut client_from(&server, 3), PACKAGES, ""), PACKAGES, 0);
    }
    // Nor if there are others of the set.
    seed(&server, &origin, IN_RELEASE, &States::body(IN_RELEASE, 0));
    for host in [2, 4] {
        expect_state(&head(&mut client_from(&server, host), PACKAGES, ""), PACKAGES, 0);
    }
    let asked: Vec<_> = origin.requests().into_iter().filter(|request| request.target == PACKAGES).collect();
    assert_eq!(asked.iter().map(|request| &*request.method).collect::<Vec<_>>(), ["HEAD"; 4]);
    server.expect_tree(&[&IN_RELEASE[1..]]);
}

/// The members of a set of each kind.
const SETS: [(&str, [&str; 3]); 3] = [
    ("pkgsrc", ["/All/pkg_summary.gz", "/All/pkg_summary.bz2", "/All/pkg_summary.xz"]),
    ("apt", [IN_RELEASE, PACKAGES, "/debian/dists/sid/main/source/Sources.xz"]),
    ("rpm", ["/f/repodata/repomd.xml", "/f/repodata/primary.xml.gz", "/f/repodata/other.xml.gz"]),
];

/// A server that has all files of a set.
fn seeded(io: Io, states: &States, preset: &str, set: [&str; 3]) -> (Origin, Server) {
    let origin = states.origin("");
    let server = launch(io, &origin, preset, &[]);
    for target in set {
        seed(&server, &origin, target, &States::body(target, 0));
    }
    (origin, server)
}

fn a_head_does_not_move_its_client_to_the_next_state(io: Io) {
    for (preset, set) in SETS {
        for (seen, fields) in [(1, ""), (0, ""), (1, "If-None-Match: \"0\"\r\n"), (1, "Range: bytes=0-1\r\n")]
        {
            let states = States::default();
            let (_origin, server) = seeded(io, &states, preset, set);
            let mut client = client_from(&server, 3);
            for target in &set[..2] {
                client.get(target).expect(200, &States::body(target, 0));
            }
            states.next();
            // What a GET would get, which would be the second of this file.
            expect_state(&head(&mut client, set[seen], fields), set[seen], 1);
            expect_state(&head(&mut client_from(&server, 3), set[seen], fields), set[seen], 1);
            client.get(set[2]).expect(200, &States::body(set[2], 0));
            client.get(set[0]).expect(200, &States::body(set[0], 1));
            client_from(&server, 3).get(set[1]).expect(200, &States::body(set[1], 1));
        }
    }
}

fn a_head_before_each_get_gives_its_client_no_mix(io: Io) {
    for (preset, set) in SETS {
        let states = States::default();
        let (_origin, server) = seeded(io, &states, preset, set);
        let mut client = client_from(&server, 3);
        client.get(set[0]).expect(200, &States::body(set[0], 0));
        states.next();
        for target in &set[1..] {
            for _ in 0..2 {
                expect_state(&head(&mut client, target, ""), target, 0);
            }
            client.get(target).expect(200, &States::body(target, 0));
        }
    }
}

fn a_head_of_an_index_is_no_get_of_it(io: Io) {
    for (preset, set) in SETS {
        let states = States::default();
        let (_origin, server) = seeded(io, &states, preset, set);
        let mut client = client_from(&server, 3);
        expect_state(&head(&mut client, set[0], ""), set[0], 0);
        client.get(set[1]).expect(200, &States::body(set[1], 0));
        states.next();
        // Neither has been read before.
        for target in [set[0], set[2]] {
            client.get(target).expect(200, &States::body(target, 0));
        }
    }
}

fn a_client_that_only_asks_for_heads_hears_of_each_change(io: Io) {
    for (preset, set) in SETS {
        let states = States::default();
        let (_origin, server) = seeded(io, &states, preset, set);
        let mut client = client_from(&server, 3);
        for state in 0..3 {
            for target in [set[0], set[1], set[0]] {
                expect_state(&head(&mut client, target, ""), target, state);
            }
            states.next();
        }
        // It goes on with what it heard last.
        client.get(set[1]).expect(200, &States::body(set[1], 2));
        client.get(set[0]).expect(200, &States::body(set[0], 2));
    }
}
