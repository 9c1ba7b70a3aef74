//! An origin that breaks off, and then says when it wants to be asked for the rest.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::resume::{asked_from, give};
use crate::support::{Io, Launch, Origin, bytes, on_both};

on_both!(
    the_rest_is_not_asked_for_before_the_time_that_the_origin_gave,
    a_time_beyond_all_patience_is_waited_for_only_so_long,
    a_time_that_is_none_or_over_holds_nothing_up,
);

const TAG: &str = "ETag: \"one\"\r\n";

/// Breaks off, refuses with `refusal` once, then gives the rest. When each request came.
fn refuses_once(body: &[u8], refusal: &'static str) -> (Origin, Arc<Mutex<Vec<Instant>>>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let (body, came) = (body.to_vec(), Arc::clone(&times));
    let origin = Origin::start(move |request, reply| {
        came.lock().unwrap().push(Instant::now());
        match request.index {
            0 => give(request, reply, &body, TAG, 100_000),
            1 => drop(reply.write(format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n"))),
            _ => give(request, reply, &body, TAG, body.len()),
        }
    });
    (origin, times)
}

/// How long after its refusal the origin was asked again.
fn waited(io: Io, refusal: &'static str, args: &[&str]) -> Duration {
    let body = bytes(300_000, 23);
    let (origin, times) = refuses_once(&body, refusal);
    let server = Launch::new(io, &origin).args(args).start();
    server.get("/x.tgz").expect(200, &body).expect_keep_alive();
    server.expect_cached("x.tgz", &body);
    let asked: Vec<_> = origin.requests().iter().map(asked_from).collect();
    assert_eq!(asked, [None, Some(100_000), Some(100_000)], "{refusal}");
    let times = times.lock().unwrap();
    times[2].duration_since(times[1])
}

fn the_rest_is_not_asked_for_before_the_time_that_the_origin_gave(io: Io) {
    for refusal in [
        "503 Service Unavailable\r\nRetry-After: 2",
        "429 Too Many Requests\r\nRetry-After: 2",
        // By the origin's own clock.
        "503 Service Unavailable\r\nDate: Sat, 16 May 2015 20:31:39 GMT\r\nRetry-After: Sat, 16 May 2015 20:31:41 GMT",
    ] {
        let waited = waited(io, refusal, &[]);
        assert!(waited >= Duration::from_millis(1_950), "{waited:?} after {refusal}");
    }
}

fn a_time_beyond_all_patience_is_waited_for_only_so_long(io: Io) {
    // The patience is three stall times.
    for refusal in
        ["503 x\r\nRetry-After: 99999999999999999999", "429 x\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT"]
    {
        let waited = waited(io, refusal, &["--stall-timeout", "1"]);
        assert!(waited >= Duration::from_secs(1), "{waited:?} after {refusal}");
    }
}

fn a_time_that_is_none_or_over_holds_nothing_up(io: Io) {
    for refusal in [
        "503 x\r\nRetry-After: soon",
        "503 x\r\nRetry-After: -5",
        "429 x\r\nRetry-After: 0",
        "503 x\r\nRetry-After: 3600\r\nRetry-After: 3600",
        "503 x\r\nRetry-After: Sat, 16 May 2015 20:31:41 GMT",
    ] {
        waited(io, refusal, &[]);
    }
}
