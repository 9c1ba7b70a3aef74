//! `--rewrite-location`: locations on the origin become locations on the proxy, and nothing else changes.

use std::sync::{Arc, OnceLock};

use crate::support::{Io, Launch, Origin, on_both};

on_both!(
    a_location_on_the_origin_becomes_a_path_on_us,
    only_locations_below_the_prefix_are_rewritten,
    without_the_option_nothing_changes,
    answers_to_uploads_are_rewritten_too,
    a_location_on_an_https_twin_stays,
);

/// A server whose origin answers 302 with the Location that the query of the request is the number
/// of, `{origin}` in it being the origin's own server.
fn table(io: Io, prefix: &str, args: &[&str], cases: &'static [(&'static str, &'static str)]) {
    let server_of = Arc::new(OnceLock::<String>::new());
    let known = Arc::clone(&server_of);
    let origin = Origin::start(move |request, reply| {
        let number: usize = request.target.split_once('?').unwrap().1.parse().unwrap();
        let location = cases[number].0.replace("{origin}", known.get().unwrap());
        reply.answer(
            "302 Found",
            &format!("Location: {location}\r\nContent-Location: {location}\r\n"),
            b"moved",
        );
    });
    server_of.set(origin.authority()).unwrap();
    let server = Launch::at(io, &format!("{}{prefix}", origin.url())).args(args).start();
    let mut client = server.client();
    for (number, (location, expected)) in cases.iter().enumerate() {
        // One path is passed, the other is a miss that comes to nothing.
        for path in ["/dir/x", "/dir/x.tgz"] {
            let answer = client.get(&format!("{path}?{number}"));
            answer.expect(302, b"moved").expect_keep_alive();
            let expected = expected.replace("{origin}", &origin.authority());
            assert_eq!(answer.all("Location"), [expected.as_str()], "{location}");
            assert_eq!(answer.all("Content-Location"), [expected.as_str()], "{location}");
        }
    }
    server.expect_nothing_cached();
}

fn a_location_on_the_origin_becomes_a_path_on_us(io: Io) {
    table(
        io,
        "",
        &["--rewrite-location"],
        &[
            ("http://{origin}/y.tgz?a=b#c", "/y.tgz?a=b#c"),
            ("HTTP://{origin}", "/"),
            ("/y", "/y"),
            ("y", "/dir/y"),
            ("../y", "/y"),
            ("//{origin}/y", "/y"),
            // Two slashes would name another host.
            ("http://{origin}//elsewhere.test/y", "/.//elsewhere.test/y"),
            ("https://{origin}/y", "https://{origin}/y"),
            ("http://elsewhere.test/y", "http://elsewhere.test/y"),
            ("//elsewhere.test/y", "//elsewhere.test/y"),
            ("http://user@{origin}/y", "http://user@{origin}/y"),
            ("mailto:x", "mailto:x"),
            ("", ""),
        ],
    );
}

fn only_locations_below_the_prefix_are_rewritten(io: Io) {
    table(
        io,
        "/pkg/all",
        &["--rewrite-location"],
        &[
            ("http://{origin}/pkg/all/y.tgz", "/y.tgz"),
            ("/pkg/all/y#f", "/y#f"),
            ("/pkg/all", "/"),
            ("y", "/dir/y"),
            ("..", "/"),
            ("../..", "http://{origin}/pkg/"),
            ("/pkg/allies/y", "http://{origin}/pkg/allies/y"),
            ("/y", "http://{origin}/y"),
            ("http://{origin}/pkg/y", "http://{origin}/pkg/y"),
        ],
    );
}

fn without_the_option_nothing_changes(io: Io) {
    table(
        io,
        "/pkg",
        &[],
        &[("http://{origin}/pkg/y.tgz", "http://{origin}/pkg/y.tgz"), ("../y", "../y"), ("/pkg/y", "/pkg/y")],
    );
}

fn answers_to_uploads_are_rewritten_too(io: Io) {
    let origin = Origin::start(|request, reply| {
        let host = request.field("Host").unwrap();
        reply.answer("201 Created", &format!("Location: http://{host}/made/1\r\n"), b"");
    });
    let server = Launch::new(io, &origin).args(["--rewrite-location", "--follow-redirects"]).start();
    let mut client = server.client();
    client.send("PUT /made HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody");
    let answer = client.response("PUT");
    answer.expect(201, b"");
    assert_eq!(answer.all("Location"), ["/made/1"]);
}

/// Rewritten, it would come back to us and from us to the same redirect, for ever.
fn a_location_on_an_https_twin_stays(io: Io) {
    let origin = Origin::start(|request, reply| {
        let host = request.field("Host").unwrap();
        reply.answer("301 Moved", &format!("Location: https://{host}{}\r\n", request.target), b"");
    });
    let server = Launch::new(io, &origin).args(["--rewrite-location"]).start();
    let answer = server.get("/x.tgz");
    assert_eq!(answer.all("Location"), [format!("https://{}/x.tgz", origin.authority())]);
}
