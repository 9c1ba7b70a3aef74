//! Start-up lines, debug lines and the access log, byte for byte where log
//! parsers read them, and the ways in which a request might forge one.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::support::sandbox::Limit;
use crate::support::util::base64;
use crate::support::{Client, Gate, Io, Launch, Origin, Server, bytes, on_both, wait_until, within};

on_both!(
    debug_start_up_lines_come_in_the_originals_order,
    the_real_port_is_shown_for_port_0,
    without_debug_stderr_stays_empty,
    a_hits_debug_lines_are_the_originals,
    a_misss_debug_lines_are_the_originals,
    a_passs_debug_lines_are_the_originals,
    a_followers_debug_line_is_the_originals,
    refusals_have_their_debug_lines,
    the_access_line_comes_on_stderr_too_with_debug,
    an_access_line_has_every_field,
    the_length_field_is_the_heads_content_length,
    every_request_leaves_exactly_one_line,
    the_time_is_local_with_its_offset,
    no_request_can_forge_a_line,
    credentials_that_are_not_basic_show_no_user,
    closed_outputs_do_not_stop_it_or_reach_other_files,
    a_full_log_disk_does_not_stop_it,
    a_reader_that_stalls_does_not_stop_it,
    lines_lost_to_a_stalled_reader_are_counted_on_stderr,
    lines_lost_are_counted_at_the_end_too,
    a_reader_that_goes_away_does_not_stop_it,
);

/// The line behind `[uuid-v4] `, with the uuid.
fn tagged(line: &str) -> Option<(&str, &str)> {
    let (uuid, text) = line.strip_prefix('[')?.split_once("] ")?;
    let groups: Vec<&str> = uuid.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let version_4 = lengths == [8, 4, 4, 4, 12]
        && groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)))
        && groups[2].starts_with('4')
        && groups[3].starts_with(['8', '9', 'a', 'b']);
    version_4.then_some((uuid, text))
}

/// The debug lines of the request for `target`, in order, from its first to its access line.
#[track_caller]
fn debug_lines(server: &Server, method: &str, target: &str) -> Vec<String> {
    let first = format!("INCOMING REQUEST - {method} {target}");
    let last = format!("\"{method} {target} HTTP/1.1\"");
    within(&format!("the debug lines of {target}"), || {
        let all = server.err.all();
        let own = all.iter().filter_map(|line| tagged(line)).find(|(_, text)| *text == first)?.0;
        let lines: Vec<String> = all
            .iter()
            .filter_map(|line| tagged(line))
            .filter(|(uuid, _)| *uuid == own)
            .map(|(_, text)| text.to_owned())
            .collect();
        lines.iter().any(|line| line.contains(&last)).then_some(lines)
    })
}

fn debugging(io: Io, origin: &Origin) -> Server {
    Launch::new(io, origin).debug().start()
}

fn debug_start_up_lines_come_in_the_originals_order(io: Io) {
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).args(["-r", "^/a/.*\\.tgz$"]).debug().start();
    let lines = server.err.all();
    let port = server.addr().port();
    let want = [
        "starting server".to_owned(),
        "engine: ".to_owned(),
        format!("listening on http://127.0.0.1:{port}"),
        format!("proxying requests to {}", origin.url()),
        // A slash is shown escaped, as ECMAScript prints patterns.
        "caching matches of /^\\/a\\/.*\\.tgz$/".to_owned(),
        format!("caching to {}", server.cache_dir().display()),
    ];
    assert_eq!(lines.len(), want.len(), "{lines:#?}");
    for (line, want) in lines.iter().zip(&want) {
        if want == "engine: " {
            assert!(line.starts_with("engine: "), "{line:?}");
        } else {
            assert_eq!(line, want);
        }
    }
    assert_eq!(server.out.all(), [""; 0]);
}

fn the_real_port_is_shown_for_port_0(io: Io) {
    let origin = Origin::fixed(b"body");
    // The harness waits on the port it knows; the second server is found by its own words.
    let spawned = Launch::new(io, &origin).args(["-d", "-p", "0"]).unwaited();
    let line = spawned.err.wait_for("listening on http://127.0.0.1:");
    let port: u16 = line.rsplit(':').next().unwrap().parse().unwrap();
    assert_ne!(port, 0);
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 0..8 {
        let mut client = Client::connect(addr);
        client.get("/x").expect(200, b"body");
    }
}

fn without_debug_stderr_stays_empty(io: Io) {
    let body = bytes(500_000, 1);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| match request.target.as_str() {
        "/short.tgz" => {
            reply.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
            reply.close();
        }
        "/none.tgz" => reply.close(),
        "/404.tgz" => reply.answer("404 Not Found", "", b"no"),
        _ => reply.serve(request, &sent),
    });
    let server = Server::start(io, &origin);
    fs::create_dir(server.path("dir.tgz")).unwrap();
    let targets = ["/a.tgz", "/a.tgz", "/pass", "/short.tgz", "/none.tgz", "/404.tgz", "/dir.tgz", "/%zz"];
    for target in targets {
        server.client().ask("GET", target, "").try_response("GET");
    }
    server.client().send("nonsense\r\n\r\n").rest();
    let mut client = server.client();
    client.ask("GET", "/leaves.tgz", "").head("GET");
    client.abort();
    server.expect_cached("leaves.tgz", &body);
    wait_until("all access lines", || server.out.all().len() > targets.len());
    assert_eq!(server.err.all(), [""; 0]);
}

fn a_hits_debug_lines_are_the_originals(io: Io) {
    let origin = Origin::silent();
    let server = debugging(io, &origin);
    let path = server.put("dir/x.tgz", b"body");
    server.get("/dir/x.tgz?q").expect(200, b"body");
    let lines = debug_lines(&server, "GET", "/dir/x.tgz?q");
    assert_eq!(
        lines[..2],
        [
            "INCOMING REQUEST - GET /dir/x.tgz?q".to_owned(),
            format!("{} is a file (cached) - streaming to client", path.display()),
        ]
    );
    assert_eq!(lines.len(), 3, "{lines:#?}");
}

fn a_misss_debug_lines_are_the_originals(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = debugging(io, &origin);
    server.get("/dir/x.tgz?q").expect(200, b"body");
    server.expect_cached("dir/x.tgz", b"body");
    let path = server.path("dir/x.tgz").display().to_string();
    let want = [
        "INCOMING REQUEST - GET /dir/x.tgz?q".to_owned(),
        format!("proxying GET to {}/dir/x.tgz?q", origin.url()),
        format!("saving local file to {path}.in-progress"),
        format!("renamed {path}.in-progress to {path}"),
    ];
    for line in &want {
        let seen = server.err.wait(line, |seen| tagged(seen).is_some_and(|(_, text)| text == line));
        assert!(tagged(&seen).is_some());
    }
    let lines = debug_lines(&server, "GET", "/dir/x.tgz?q");
    let at = |text: &String| lines.iter().position(|line| line == text);
    assert!(at(&want[0]) < at(&want[1]) && at(&want[1]) < at(&want[2]), "{lines:#?}");
}

fn a_passs_debug_lines_are_the_originals(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = debugging(io, &origin);
    for (method, target) in [("GET", "/pass?q"), ("POST", "/x.tgz"), ("HEAD", "/new.tgz")] {
        server.ask(method, target, "Content-Length: 0\r\n");
        let lines = debug_lines(&server, method, target);
        assert_eq!(lines[1], "request will be proxied with no caching");
        let access = lines.last().unwrap();
        assert!(access.starts_with("127.0.0.1 - "), "{lines:#?}");
    }
}

fn a_followers_debug_line_is_the_originals(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |_, reply| {
        reply.head(4, "");
        held.wait();
        reply.write("body");
    });
    let server = debugging(io, &origin);
    let mut leader = server.client();
    let mut first = leader.ask("GET", "/x.tgz", "").head("GET");
    let mut follower = server.client();
    let mut second = follower.ask("GET", "/x.tgz?second", "").head("GET");
    gate.open();
    leader.finish(&mut first);
    follower.finish(&mut second);
    let lines = debug_lines(&server, "GET", "/x.tgz?second");
    let start = format!("{} download in progress - ", server.path("x.tgz").display());
    assert!(lines[1].starts_with(&start), "{lines:#?}");
}

fn refusals_have_their_debug_lines(io: Io) {
    let origin = Origin::start(|_, reply| reply.answer("404 Not Found", "", b"no"));
    let server = debugging(io, &origin);
    fs::create_dir(server.path("dir.tgz")).unwrap();
    server.get("/dir.tgz");
    server.get("/%zz");
    server.get("/missing.tgz");
    let directory = format!("{} is a directory - sending 400 to client", server.path("dir.tgz").display());
    assert_eq!(debug_lines(&server, "GET", "/dir.tgz")[1], directory);
    let undecodable = &debug_lines(&server, "GET", "/%zz")[1];
    assert!(undecodable.starts_with("failed to parse pathname - sending 400 to client - "), "{undecodable}");
    let missing = debug_lines(&server, "GET", "/missing.tgz");
    let proxied = "statusCode 404 from backend not in 200 range - proxying back to caller".to_owned();
    assert!(missing.contains(&proxied), "{missing:#?}");
}

fn the_access_line_comes_on_stderr_too_with_debug(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = debugging(io, &origin);
    server.get("/pass").expect(200, b"body");
    let line = server.out.wait_for("\"GET /pass HTTP/1.1\"");
    let twin = server.err.wait("the access line", |seen| seen.ends_with(&line));
    assert_eq!(tagged(&twin).unwrap().1, line);
}

/// Splits an access line into what is before, inside and behind the brackets of its time.
#[track_caller]
fn around_time(line: &str) -> (&str, &str, &str) {
    let (before, rest) = line.split_once('[').unwrap();
    let (time, after) = rest.split_once(']').unwrap();
    (before, time, after)
}

fn an_access_line_has_every_field(io: Io) {
    let origin = Origin::fixed(b"0123456789");
    let server = Server::start(io, &origin);
    server.put("hit.tgz", b"12345");
    let user = base64(b"aladdin:open sesame");
    let mut client = server.client();
    client
        .ask(
            "GET",
            "/hit.tgz?a=b",
            &format!(
                "Authorization: Basic {user}\r\nReferer: http://from.test/\r\n\
                 User-Agent: libfetch/2.0\r\n"
            ),
        )
        .response("GET");
    let line = server.out.wait_for("/hit.tgz");
    let (before, _, after) = around_time(&line);
    assert_eq!(before, "127.0.0.1 - aladdin ");
    assert_eq!(after, " \"GET /hit.tgz?a=b HTTP/1.1\" 200 5 \"http://from.test/\" \"libfetch/2.0\"");
    client.send("POST /pass HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
    client.response("POST").expect(200, b"0123456789");
    let line = server.out.wait_for("/pass");
    let (before, _, after) = around_time(&line);
    assert_eq!(before, "127.0.0.1 - - ");
    assert_eq!(after, " \"POST /pass HTTP/1.0\" 200 10 \"-\" \"-\"");
}

fn the_length_field_is_the_heads_content_length(io: Io) {
    let origin = Origin::start(|request, reply| {
        match request.target.as_str() {
            "/chunked" => reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            _ => reply.write("HTTP/1.1 204 No Content\r\n\r\n"),
        };
    });
    let server = Server::start(io, &origin);
    server.put("x.tgz", b"12345");
    let tag = server.get("/x.tgz").field("ETag").unwrap().to_owned();
    for (method, target, extra, want) in [
        ("GET", "/x.tgz?1", "", "200 5"),
        ("HEAD", "/x.tgz?2", "", "200 5"),
        ("GET", "/x.tgz?3", &format!("If-None-Match: {tag}\r\n"), "304 -"),
        ("GET", "/x.tgz?4", "Range: bytes=1-2\r\n", "206 2"),
        ("GET", "/chunked", "", "200 -"),
        ("GET", "/empty", "", "204 -"),
    ] {
        server.ask(method, target, extra);
        let line = server.out.wait_for(&format!("{target} HTTP"));
        assert!(line.contains(&format!("\"{method} {target} HTTP/1.1\" {want} \"-\"")), "{line}");
    }
}

fn every_request_leaves_exactly_one_line(io: Io) {
    let body = bytes(300_000, 2);
    let sent = body.clone();
    let origin = Origin::start(move |request, reply| {
        if request.target.starts_with("/dies") {
            reply.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
            reply.close();
        } else {
            reply.serve(request, &sent);
        }
    });
    let server = Server::start(io, &origin);
    let targets =
        ["/a.tgz?1", "/a.tgz?2", "/pass?3", "/dies.tgz?4", "/dies?5", "/%zz?6", "/abort.tgz?7", "/abort?8"];
    for target in targets {
        let mut client = server.client();
        client.ask("GET", target, "");
        if target.starts_with("/abort") {
            client.head("GET");
            client.abort();
        } else {
            client.try_response("GET");
        }
    }
    for target in targets {
        server.out.wait_for(target);
    }
    server.get("/last").expect(200, &body);
    server.out.wait_for("/last");
    let all = server.out.all();
    for target in targets {
        let lines = all.iter().filter(|line| line.contains(target)).count();
        assert_eq!(lines, 1, "{target} in {all:#?}");
    }
    assert_eq!(all.len(), targets.len() + 1, "{all:#?}");
}

fn the_time_is_local_with_its_offset(io: Io) {
    for (zone, offset) in [("UTC0", "-0000"), ("XYZ4", "-0400"), ("XYZ-5:30", "+0530")] {
        let origin = Origin::silent();
        let server = Launch::new(io, &origin).env("TZ", zone).start();
        server.put("x.tgz", b"body");
        let before = std::time::SystemTime::now();
        server.get("/x.tgz").expect(200, b"body");
        let line = server.out.wait_for("/x.tgz");
        let (_, time, _) = around_time(&line);
        // 16/May/2015:20:31:39 -0400
        let (local, zone_shown) = time.split_once(' ').unwrap();
        assert_eq!(zone_shown, offset, "{line}");
        assert_eq!(local.len(), 20, "{line}");
        if offset == "-0000" {
            // The same instant in the form of a Date field: only the punctuation differs.
            let (day, clock) = local.split_once(':').unwrap();
            let date = format!("Thu, {} {clock} GMT", day.replace('/', " "));
            let shown = parse_any_weekday(&date);
            let off = shown.duration_since(before).unwrap_or_else(|error| error.duration());
            assert!(off.as_secs() < 20, "{line}");
        }
    }
}

/// An IMF date whose weekday was made up.
fn parse_any_weekday(date: &str) -> std::time::SystemTime {
    ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
        .iter()
        .find_map(|day| httpdate::parse_http_date(&format!("{day}{}", &date[3..])).ok())
        .unwrap_or_else(|| panic!("no date: {date}"))
}

fn no_request_can_forge_a_line(io: Io) {
    let origin = Origin::silent();
    let server = Server::start(io, &origin);
    server.put("x.tgz", b"body");
    let user = base64(b"ev\"il\n\\user\x1b[2J:pw");
    let fields = format!(
        "Authorization: Basic {user}\r\n\
         Referer: a\" 200 1 \"b\\\r\nUser-Agent: q\"q\"q\\\tt\r\n"
    );
    server.ask("GET", "/x.tgz?\"q\\\"", &fields).expect(200, b"body");
    let line = server.out.wait_for("/x.tgz");
    let (before, _, after) = around_time_behind_user(&line);
    assert!(before.starts_with("127.0.0.1 - ev\\x22il") && before.contains("\\x5Cuser"), "{line}");
    assert!(!line.contains('\x1b'), "{line:?}");
    let start =
        " \"GET /x.tgz?\\x22q\\x5C\\x22 HTTP/1.1\" 200 4 \"a\\x22 200 1 \\x22b\\x5C\" \"q\\x22q\\x22q\\x5C";
    assert!(after.starts_with(start), "{after}");
    assert!(!after.contains('\t'), "{after:?}");
    assert_eq!(server.out.all().len(), 1, "{:?}", server.out.all());
    // Unicode in a field, and a user with a space or bracket, keep the line in one piece as well.
    let user = base64("jos\u{e9} ] x:pw".as_bytes());
    server
        .ask("GET", "/x.tgz?2", &format!("Authorization: Basic {user}\r\nUser-Agent: \u{e9}\r\n"))
        .expect(200, b"body");
    server.out.wait_for("/x.tgz?2");
    assert_eq!(server.out.all().len(), 2);
}

/// As [`around_time`], for a user name that may hold a bracket itself.
fn around_time_behind_user(line: &str) -> (&str, &str, &str) {
    let request = line.find("] \"").unwrap();
    let open = line[..request].rfind('[').unwrap();
    (&line[..open], &line[open + 1..request], &line[request + 1..])
}

fn credentials_that_are_not_basic_show_no_user(io: Io) {
    let origin = Origin::silent();
    let server = Server::start(io, &origin);
    server.put("x.tgz", b"body");
    for (n, value) in ["Basic", "Basic !!!", "", "Basic Og==", "Bearer dTpw"].iter().enumerate() {
        let target = format!("/x.tgz?{n}");
        server.ask("GET", &target, &format!("Authorization: {value}\r\n")).expect(200, b"body");
        let line = server.out.wait_for(&format!("{target} "));
        assert!(line.starts_with("127.0.0.1 - - ["), "{value:?}: {line}");
    }
}

fn closed_outputs_do_not_stop_it_or_reach_other_files(io: Io) {
    let body = bytes(100_000, 3);
    let origin = Origin::fixed(&body);
    let server = Launch::new(io, &origin)
        .args(["-d"])
        .limit(Limit::Closed(1))
        .limit(Limit::Closed(2))
        .limit(Limit::Closed(0))
        .start();
    let mut client = server.client();
    for n in 0..20 {
        let name = format!("{n}.tgz");
        for _ in 0..3 {
            client.get(&format!("/{name}")).expect(200, &body);
        }
        server.expect_cached(&name, &body);
        client.get("/pass").expect(200, &body);
    }
    assert_eq!(origin.count(), 40);
    for n in 0..20 {
        server.expect_cached(&format!("{n}.tgz"), &body);
    }
}

fn a_full_log_disk_does_not_stop_it(io: Io) {
    let origin = Origin::fixed(b"body");
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let server = Launch::new(io, &origin).stdout(full).start();
    let mut client = server.client();
    for _ in 0..50 {
        client.get("/x.tgz").expect(200, b"body");
        client.get("/pass").expect(200, b"body");
    }
}

/// A server whose access log goes into a pipe that is not read.
fn logs_to_nobody(io: Io) -> (Server, OwnedFd) {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let server = Launch::new(io, &Origin::silent()).stdout(writer).start();
    server.put("x.tgz", b"body");
    (server, reader)
}

/// This many requests for `/x.tgz`, ten at a time, each with a log line of about this many bytes.
fn write_lines(server: &Server, requests: u64, length: usize) -> Client {
    let target = format!("/x.tgz?{}", "q".repeat(length));
    let mut client = server.client();
    for _ in 0..requests / 10 {
        for _ in 0..10 {
            client.ask("GET", &target, "");
        }
        for _ in 0..10 {
            client.response("GET").expect(200, b"body");
        }
    }
    client
}

fn a_reader_that_stalls_does_not_stop_it(io: Io) {
    let (server, reader) = logs_to_nobody(io);
    // 12 MB of lines into a pipe that nobody reads: beyond 8 MiB they are dropped.
    let mut client = write_lines(&server, 2_000, 6_000);
    assert!(server.resident_kib() < 96 * 1024, "{} KiB resident", server.resident_kib());
    drop(reader);
    client.get("/x.tgz").expect(200, b"body");
}

fn lines_lost_to_a_stalled_reader_are_counted_on_stderr(io: Io) {
    let (server, reader) = logs_to_nobody(io);
    // 18 MB of lines while nobody reads. Every answer comes all the same.
    let requests = 1_500;
    let mut client = write_lines(&server, requests, 12_000);
    assert_eq!(server.err.all(), [""; 0], "nothing can be said before the reader goes on");
    let lines = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(File::from(reader)).lines().map_while(Result::ok) {
            assert!(line.ends_with(" HTTP/1.1\" 200 4 \"-\" \"-\""), "a torn line: {line}");
            counter.fetch_add(1, Ordering::AcqRel);
        }
    });
    let lost = || -> u64 {
        let told = server.err.all();
        told.iter().map(|line| line.split_once(" log lines lost").unwrap().0.parse::<u64>().unwrap()).sum()
    };
    // Every line was either written or counted.
    wait_until("all lines are accounted for", || lines.load(Ordering::Acquire) + lost() == requests);
    assert!(lost() > 0, "18 MB fit into 8 MiB");
    assert!(lines.load(Ordering::Acquire) * 12_000 > 8_000_000, "fewer lines kept than fit");
    client.get("/x.tgz").expect(200, b"body");
    wait_until("the next line is out", || lines.load(Ordering::Acquire) + lost() == requests + 1);
}

fn lines_lost_are_counted_at_the_end_too(io: Io) {
    let (server, reader) = logs_to_nobody(io);
    drop(write_lines(&server, 1_500, 12_000));
    server.signal(libc::SIGTERM);
    wait_until("it ends", || server.gone());
    let told = server.err.wait_for("log lines lost");
    let lost: u64 = told.split_once(' ').unwrap().0.parse().unwrap();
    assert!((1..1_500).contains(&lost), "{told}");
    drop(reader);
}

fn a_reader_that_goes_away_does_not_stop_it(io: Io) {
    let origin = Origin::fixed(b"body");
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let server = Launch::new(io, &origin).stdout(writer).start();
    drop(reader);
    let mut client = server.client();
    for _ in 0..50 {
        client.get("/x.tgz").expect(200, b"body");
        client.get("/pass").expect(200, b"body");
    }
    assert!(!server.gone());
}

#[test]
fn a_log_file_gets_whole_lines_in_order() {
    let origin = Origin::silent();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let file = File::create(&path).unwrap();
    let server = Launch::new(Io::Poll, &origin).stdout(Stdio::from(file)).args(["--workers", "1"]).start();
    server.put("x.tgz", b"body");
    let mut client = server.client();
    for n in 0..200 {
        client.get(&format!("/x.tgz?{n}.")).expect(200, b"body");
    }
    let text = within("two hundred lines", || {
        let text = fs::read_to_string(&path).unwrap();
        (text.lines().count() == 200).then_some(text)
    });
    for (n, line) in text.lines().enumerate() {
        assert!(line.contains(&format!("?{n}. HTTP/1.1\" 200 4 ")), "{line}");
    }
}
