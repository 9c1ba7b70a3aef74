//! An origin that is found in the middle of an update: what came together then does not stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Io, Launch, Origin, Server, on_both};

on_both!(
    a_set_that_was_fetched_during_an_update_heals_though_its_first_file_does_not_change_again,
    a_set_that_was_collected_during_an_update_heals_though_its_first_file_does_not_change_again,
    a_member_that_fails_does_not_stop_the_others_when_the_whole_set_is_looked_at,
);

/// Two members of a set, with and without a file that tells of every change.
const SETS: [(&str, [&str; 2]); 3] = [
    ("apt", ["/d/dists/x/Release", "/d/dists/x/main/binary-amd64/Packages"]),
    ("rpm", ["/f/repodata/repomd.xml", "/f/repodata/primary.xml.gz"]),
    ("pkgsrc", ["/All/pkg_summary.gz", "/All/pkg_summary.bz2"]),
];

/// The state of each; the second member fails in state 9.
type States = Arc<[AtomicUsize; 2]>;

fn origin(members: [&'static str; 2]) -> (Origin, States) {
    let states = States::default();
    let theirs = Arc::clone(&states);
    let origin = Origin::start(move |request, reply| {
        let which = members.iter().position(|member| *member == request.target).unwrap();
        let state = theirs[which].load(Ordering::SeqCst);
        let tag = format!("\"{state}\"");
        if state == 9 {
            reply.answer("500 Oh", "", b"");
        } else if request.field("If-None-Match") == Some(&tag) {
            reply.write(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n"));
        } else {
            reply.answer("200 OK", &format!("ETag: {tag}\r\n"), &body(state));
        }
    });
    (origin, states)
}

fn body(state: usize) -> Vec<u8> {
    format!("state {state}").into_bytes()
}

fn say(states: &States, first: usize, second: usize) {
    states[0].store(first, Ordering::SeqCst);
    states[1].store(second, Ordering::SeqCst);
}

fn update(server: &Server, members: [&str; 2]) -> [Vec<u8>; 2] {
    let mut client = server.client();
    members.map(|member| client.get(member).body)
}

/// The new state is there as soon as an update of a client begins with it, some seconds later at most.
fn expect_healed(server: &Server, members: [&str; 2], state: usize) {
    for _ in 0..40 {
        if update(server, members) == [body(state), body(state)] {
            return;
        }
        // The time that is given to the origin; no event tells of its end.
        std::thread::sleep(Duration::from_millis(500));
    }
    panic!("{:?} is still not of one state", members);
}

fn a_set_that_was_fetched_during_an_update_heals_though_its_first_file_does_not_change_again(io: Io) {
    std::thread::scope(|scope| {
        for (preset, members) in SETS {
            scope.spawn(move || {
                let (origin, states) = origin(members);
                say(&states, 1, 0);
                let server = Launch::new(io, &origin).args(["--preset", preset]).start();
                assert_eq!(update(&server, members), [body(1), body(0)]);
                say(&states, 1, 1);
                expect_healed(&server, members, 1);
            });
        }
    });
}

fn a_set_that_was_collected_during_an_update_heals_though_its_first_file_does_not_change_again(io: Io) {
    std::thread::scope(|scope| {
        for (preset, members) in SETS {
            scope.spawn(move || {
                let (origin, states) = origin(members);
                let server = Launch::new(io, &origin).args(["--preset", preset]).start();
                assert_eq!(update(&server, members), [body(0), body(0)]);
                say(&states, 1, 0);
                update(&server, members);
                say(&states, 1, 1);
                expect_healed(&server, members, 1);
            });
        }
    });
}

fn a_member_that_fails_does_not_stop_the_others_when_the_whole_set_is_looked_at(io: Io) {
    let members = SETS[0].1;
    let (origin, states) = origin(members);
    let server = Launch::new(io, &origin).args(["--preset", "apt"]).start();
    assert_eq!(update(&server, members), [body(0), body(0)]);
    say(&states, 0, 9);
    // Until the whole set has been looked at.
    for _ in 0..40 {
        server.get(members[0]).expect(200, &body(0));
        let failing = |request: &crate::support::origin::Request| {
            request.target == members[1] && request.field("If-None-Match").is_some()
        };
        if origin.requests().iter().any(failing) {
            server.get(members[0]).expect(200, &body(0));
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    panic!("nobody has looked");
}
