//! `--stale-if-error-always`: the old index during an outage, although the site has forbidden it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Io, Launch, Origin, Server, on_both};

on_both!(
    an_outage_serves_must_revalidate_with_stale_if_error_always,
    an_outage_serves_an_index_set_that_must_not_be_stale_if_the_operator_says_always,
    an_outage_serves_must_revalidate_no_longer_than_stale_if_error,
    an_outage_serves_nothing_that_is_not_kept,
    without_the_switch_must_revalidate_is_an_error,
    the_switch_alone_is_refused,
);

const FORBIDDING: [&str; 5] = [
    "max-age=0, must-revalidate",
    "max-age=0, proxy-revalidate",
    "s-maxage=0",
    "no-cache",
    "no-cache, must-revalidate, max-age=0, stale-if-error=0",
];
const ALWAYS: [&str; 3] = ["--stale-if-error", "forever", "--stale-if-error-always"];

/// An origin that fails once the switch is set: with this status line, or by a reset.
struct Site {
    origin: Origin,
    down: Arc<AtomicBool>,
}

impl Site {
    fn new(said: &'static str, failure: Option<&'static str>) -> Self {
        let down = Arc::new(AtomicBool::new(false));
        let is_down = Arc::clone(&down);
        let origin = Origin::start(move |request, reply| match failure {
            _ if !is_down.load(Ordering::SeqCst) => {
                let lines = format!("ETag: \"1\"\r\nCache-Control: {said}\r\n");
                if request.field("If-None-Match").is_some() {
                    reply.write(format!("HTTP/1.1 304 Not Modified\r\n{lines}\r\n"));
                } else {
                    reply.answer("200 OK", &lines, b"index");
                }
            }
            Some(status) => reply.answer(status, "", b"down"),
            None => reply.reset(),
        });
        Self { origin, down }
    }

    fn launch(&self, io: Io, args: &[&str]) -> Server {
        Launch::new(io, &self.origin)
            .args(["--revalidate", r"\.idx$", "--cache-status"])
            .args(args)
            .debug()
            .start()
    }

    fn fail(&self) {
        self.down.store(true, Ordering::SeqCst);
    }
}

const FAILURES: [Option<&str>; 4] =
    [Some("500 Oh"), Some("503 Service Unavailable"), Some("504 Gateway Timeout"), None];

#[track_caller]
fn expect_forced(server: &Server, target: &str) {
    let stale = server.get(target);
    stale.expect(200, b"index").expect_keep_alive();
    assert_eq!(
        stale.all("Cache-Status"),
        ["fs-caching-server; fwd=stale; detail=\"origin fails, response forbids stale\""]
    );
    assert_eq!(stale.all("X-Cache"), ["STALE"]);
    server.err.wait_for("is stored, stale, which the response forbids: the origin fails");
}

fn an_outage_serves_must_revalidate_with_stale_if_error_always(io: Io) {
    for said in FORBIDDING {
        for failure in FAILURES {
            let site = Site::new(said, failure);
            let server = site.launch(io, &ALWAYS);
            server.get("/a.idx").expect(200, b"index");
            server.expect_cached("a.idx", b"index");
            site.fail();
            for _ in 0..2 {
                expect_forced(&server, "/a.idx");
            }
            assert_eq!(server.ask("HEAD", "/a.idx", "").status, 200, "{said}: a HEAD");
            assert!(server.get("/b.idx").status >= 500, "{said}: what is not kept");
            // Up again: it is checked as ever.
            site.down.store(false, Ordering::SeqCst);
            let checked = server.get("/a.idx");
            assert_eq!(checked.expect(200, b"index").all("X-Cache"), ["REVALIDATED"], "{said}");
        }
    }
}

fn an_outage_serves_an_index_set_that_must_not_be_stale_if_the_operator_says_always(io: Io) {
    for said in FORBIDDING {
        for failure in [Some("503 Service Unavailable"), None] {
            let site = Site::new(said, failure);
            let server = site.launch(io, &["--preset", "apt", ALWAYS[0], ALWAYS[1], ALWAYS[2]]);
            for target in ["/debian/dists/sid/InRelease", "/debian/dists/sid/main/binary-amd64/Packages.xz"] {
                server.get(target).expect(200, b"index");
                server.expect_cached(&target[1..], b"index");
            }
            site.fail();
            // A second time is a new beginning.
            for _ in 0..2 {
                expect_forced(&server, "/debian/dists/sid/InRelease");
            }
        }
    }
}

fn an_outage_serves_must_revalidate_no_longer_than_stale_if_error(io: Io) {
    // Received with an age, it has been stale for far longer than that; its own word does not count.
    let said = "max-age=60, must-revalidate, stale-if-error=90000\r\nAge: 10000";
    for (time, status) in [("3600", 503), ("20000", 200)] {
        let site = Site::new(said, Some("503 Service Unavailable"));
        let server = site.launch(io, &["--stale-if-error", time, "--stale-if-error-always"]);
        server.get("/a.idx").expect(200, b"index");
        server.expect_cached("a.idx", b"index");
        site.fail();
        assert_eq!(server.get("/a.idx").status, status, "{time}");
    }
}

fn an_outage_serves_nothing_that_is_not_kept(io: Io) {
    for said in ["no-store", "private", "no-store, must-revalidate", "private, no-cache"] {
        let site = Site::new(said, Some("503 Service Unavailable"));
        let server = site.launch(io, &ALWAYS);
        server.get("/a.idx").expect(200, b"index");
        site.fail();
        assert_eq!(server.get("/a.idx").status, 503, "{said}");
        server.expect_nothing_cached();
    }
}

fn without_the_switch_must_revalidate_is_an_error(io: Io) {
    for said in FORBIDDING {
        let site = Site::new(said, Some("503 Service Unavailable"));
        let server = site.launch(io, &["--stale-if-error", "forever"]);
        server.get("/a.idx").expect(200, b"index");
        server.expect_cached("a.idx", b"index");
        site.fail();
        assert_eq!(server.get("/a.idx").status, 503, "{said}");
    }
}

fn the_switch_alone_is_refused(io: Io) {
    let origin = Origin::silent();
    for launch in [
        Launch::new(io, &origin).args(["--revalidate", ".", "--stale-if-error-always"]),
        Launch::new(io, &origin).env("FS_CACHE_STALE_IF_ERROR_ALWAYS", "1"),
    ] {
        let (status, error) = launch.fail();
        assert_eq!(status.code(), Some(1));
        assert_eq!(error, "--stale-if-error-always needs --stale-if-error <s>");
    }
    // By variables alone, any text; an empty one is off.
    for (value, served) in [("no", 200), ("", 503)] {
        let site = Site::new("no-cache", Some("503 Service Unavailable"));
        let server = Launch::new(io, &site.origin)
            .env("FS_CACHE_REVALIDATE", r"\.idx$")
            .env("FS_CACHE_STALE_IF_ERROR", "forever")
            .env("FS_CACHE_STALE_IF_ERROR_ALWAYS", value)
            .start();
        server.get("/a.idx").expect(200, b"index");
        server.expect_cached("a.idx", b"index");
        site.fail();
        assert_eq!(server.get("/a.idx").status, served, "{value:?}");
    }
}
