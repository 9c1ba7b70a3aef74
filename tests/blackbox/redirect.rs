//! `--follow-redirects`: targets, the fields that are sent there, and the end of a chain.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::resume;
use crate::support::sandbox::Limit;
use crate::support::server::free_port;
use crate::support::tls::Identity;
use crate::support::util::chunked;
use crate::support::{Gate, Io, Launch, Origin, Server, bytes, on_both, wait_until};

on_both!(
    without_the_option_a_redirect_is_passed_on,
    the_final_answer_is_stored_under_the_path_that_was_asked,
    a_final_answer_in_chunks_is_stored_whole,
    a_rest_from_another_mirror_is_of_another_file,
    a_partial_resumes_from_the_same_mirror_with_another_signature,
    a_relative_location_stays_with_the_host_and_keeps_what_is_for_it,
    authorization_and_cookie_never_come_back_once_dropped,
    a_circle_of_redirects_is_502,
    more_redirects_than_the_limit_are_502,
    as_many_redirects_as_the_limit_are_followed,
    a_redirect_from_https_to_http_is_never_followed,
    a_redirect_to_https_is_checked_like_an_https_origin,
    a_redirect_that_leaves_https_again_is_passed_on_with_a_whole_location,
    an_unusable_location_is_relayed_unchanged,
    a_server_that_cannot_be_reached_is_502,
    a_server_that_does_not_answer_is_504,
    an_error_at_the_end_is_passed_on_without_cookies,
    a_head_and_a_get_with_authorization_are_followed_and_not_stored,
    other_paths_and_methods_are_not_followed,
    a_redirect_back_to_ourselves_is_502_and_does_not_hang,
    a_redirect_to_another_path_of_ours_ends_there,
    many_clients_of_a_redirected_file_cost_one_fetch,
    connections_to_redirect_targets_are_reused,
    the_debug_line_hides_the_query,
    one_place_at_the_origin_is_enough,
);

/// An origin that redirects every target to what `location` makes of it.
fn redirecting(status: &'static str, location: impl Fn(&str) -> String + Send + Sync + 'static) -> Origin {
    Origin::start(move |request, reply| {
        let extra = format!("Location: {}\r\nSet-Cookie: first=1\r\n", location(&request.target));
        let body: &[u8] = if request.method == "HEAD" { b"" } else { b"moved" };
        reply.answer(status, &extra, body);
    })
}

fn following(io: Io, origin: &Origin) -> Launch {
    Launch::new(io, origin).args(["--follow-redirects", "--workers", "1"])
}

/// The same place by another name, so that hosts differ and not only ports.
fn by_name(origin: &Origin) -> String {
    format!("localhost:{}", origin.port())
}

fn without_the_option_a_redirect_is_passed_on(io: Io) {
    let target = Origin::silent();
    let to = format!("http://{}/x.tgz?a#b", target.authority());
    let location = to.clone();
    let origin = redirecting("302 Found", move |_| location.clone());
    let server = Server::start(io, &origin);
    let answer = server.get("/x.tgz");
    answer.expect(302, b"moved").expect_keep_alive();
    assert_eq!((answer.all("Location"), answer.all("Set-Cookie")), (vec![to.as_str()], vec!["first=1"]));
    assert_eq!(target.count(), 0);
    server.expect_nothing_cached();
}

fn the_final_answer_is_stored_under_the_path_that_was_asked(io: Io) {
    for (number, status) in
        ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"].into_iter().enumerate()
    {
        let body = bytes(700_000 + number, number as u64);
        let target = Origin::fixed(&body);
        let to = format!("http://{}/files/by-hash?sig=a%2Fb#part", by_name(&target));
        let origin = redirecting(status, move |_| to.clone());
        let url = format!("http://user:secret@{}/pkg", origin.authority());
        let server = Launch::at(io, &url).args(["--follow-redirects"]).start();
        let mut client = server.client();
        let answer = client.ask("GET", "/dir/x.tgz?q", "Cookie: c=1\r\nX-Kept: yes\r\n").response("GET");
        answer.expect(200, &body).expect_keep_alive();
        assert!(answer.all("Set-Cookie").is_empty(), "{:?}", answer.fields);
        server.expect_cached("dir/x.tgz", &body);
        server.expect_tree(&["dir/x.tgz"]);
        client.get("/dir/x.tgz").expect(200, &body);
        let (first, second) = (origin.only(), target.only());
        assert_eq!(first.target, "/pkg/dir/x.tgz?q");
        assert_eq!((first.field("Authorization").is_some(), first.field("Cookie")), (true, None));
        assert_eq!(first.field("CDN-Loop"), None);
        assert_eq!((second.method.as_str(), second.target.as_str()), ("GET", "/files/by-hash?sig=a%2Fb"));
        assert_eq!(second.all("Host"), [by_name(&target)]);
        assert_eq!((second.field("Authorization"), second.field("Cookie")), (None, None));
        assert_eq!((second.field("X-Kept"), second.field("Accept-Encoding")), (None, Some("identity")));
    }
}

fn a_final_answer_in_chunks_is_stored_whole(io: Io) {
    let body = bytes(300_000, 9);
    let message = chunked(&body, 10_000);
    let target = Origin::start(move |_, reply| {
        reply.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        reply.write(&message);
    });
    let to = target.url();
    let origin = redirecting("302 Found", move |path| format!("{to}{path}"));
    let server = following(io, &origin).start();
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
}

/// A mirror whose first answer breaks off if it is to.
fn mirror(body: &[u8], breaks: bool) -> Origin {
    let body = body.to_vec();
    Origin::start(move |request, reply| {
        let cut = if breaks && request.index == 0 { 100_000 } else { body.len() };
        resume::give(request, reply, &body, "ETag: \"same\"\r\n", cut);
    })
}

fn a_rest_from_another_mirror_is_of_another_file(io: Io) {
    let (one, two) = (bytes(300_000, 51), bytes(300_000, 52));
    let mirrors = [mirror(&one, true), mirror(&two, false)];
    let places = mirrors.each_ref().map(Origin::url);
    let asked = AtomicUsize::new(0);
    let origin = redirecting("302 Found", move |path| {
        let turn = asked.fetch_add(1, Ordering::Relaxed).min(1);
        format!("{}{path}", places[turn])
    });
    let server = following(io, &origin).start();
    let broken = server.client().ask("GET", "/x.tgz", "").response("GET");
    assert!(!broken.whole && one.starts_with(&broken.body), "bytes of two mirrors");
    server.expect_nothing_cached();
    server.get("/x.tgz").expect(200, &two);
    server.expect_cached("x.tgz", &two);
}

fn a_partial_resumes_from_the_same_mirror_with_another_signature(io: Io) {
    let body = bytes(300_000, 53);
    let place = mirror(&body, true);
    let (to, asked) = (place.url(), AtomicUsize::new(0));
    let origin = redirecting("302 Found", move |path| {
        format!("{to}{path}?signature={}", asked.fetch_add(1, Ordering::Relaxed))
    });
    let server = following(io, &origin).start();
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
    assert_eq!(place.requests()[1].target, "/x.tgz?signature=1");
    assert_eq!(resume::asked_from(&place.requests()[1]), Some(100_000));
}

fn a_relative_location_stays_with_the_host_and_keeps_what_is_for_it(io: Io) {
    for (location, asked) in [
        ("/elsewhere/y.tgz", "/elsewhere/y.tgz"),
        ("y.tgz?x=1", "/pkg/dir/y.tgz?x=1"),
        ("../y.tgz", "/pkg/y.tgz"),
        ("../../../../y z.tgz", "/y%20z.tgz"),
        ("?again", "/pkg/dir/x.tgz?again"),
    ] {
        let origin = Origin::start(move |request, reply| {
            if request.index == 0 {
                reply.answer("302 Found", &format!("Location: {location}\r\n"), b"");
            } else {
                reply.serve(request, b"the file");
            }
        });
        let url = format!("http://user:secret@{}/pkg", origin.authority());
        let server = Launch::at(io, &url).args(["--follow-redirects"]).start();
        server.ask("GET", "/dir/x.tgz", "User-Agent: a/1\r\n").expect(200, b"the file");
        server.expect_cached("dir/x.tgz", b"the file");
        let seen = origin.requests();
        assert_eq!((seen.len(), seen[1].target.as_str()), (2, asked), "{location}");
        for name in ["Host", "Authorization", "User-Agent"] {
            assert!(seen[1].field(name).is_some(), "{name} is missing");
            assert_eq!(seen[0].all(name), seen[1].all(name), "{location}");
        }
        assert_eq!(origin.connections(), 1, "the connection serves the second request too");
    }
}

fn authorization_and_cookie_never_come_back_once_dropped(io: Io) {
    let port = std::sync::Arc::new(std::sync::OnceLock::<u16>::new());
    let known = std::sync::Arc::clone(&port);
    let target = Origin::start(move |_, reply| {
        let back = format!("Location: http://127.0.0.1:{}/last.tgz\r\n", known.get().unwrap());
        reply.answer("302 Found", &back, b"");
    });
    let to = target.url();
    let origin = Origin::start(move |request, reply| {
        if request.target == "/last.tgz" {
            reply.serve(request, b"the file");
        } else {
            reply.answer("302 Found", &format!("Location: {to}/there\r\n"), b"");
        }
    });
    port.set(origin.port()).unwrap();
    let url = format!("http://user:secret@{}", origin.authority());
    let server = Launch::at(io, &url).args(["--follow-redirects"]).start();
    server.ask("GET", "/x.tgz", "Cookie: c=1\r\n").expect(200, b"the file");
    let last = origin.requests().pop().unwrap();
    assert_eq!(last.target, "/last.tgz");
    assert_eq!((last.field("Authorization"), last.field("Cookie")), (None, None));
}

/// The answer tells of the redirects, and nothing is kept.
#[track_caller]
fn expect_lost(server: &Server, target: &str) {
    let answer = server.get(target);
    assert_eq!(answer.status, 502);
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(answer.whole && text.contains("too many redirects"), "{text}");
    server.expect_nothing_cached();
}

fn a_circle_of_redirects_is_502(io: Io) {
    for (location, requests) in [("/x.tgz", 1), ("/b.tgz#f", 2)] {
        // The second leads from /b.tgz to itself.
        let origin = redirecting("302 Found", move |_| location.to_owned());
        let server = following(io, &origin).start();
        expect_lost(&server, "/x.tgz");
        assert_eq!(origin.count(), requests);
    }
    let origin = redirecting("302 Found", |at| if at == "/x.tgz" { "/b" } else { "x.tgz" }.to_owned());
    let server = following(io, &origin).start();
    expect_lost(&server, "/x.tgz");
    assert_eq!(origin.count(), 2);
}

fn more_redirects_than_the_limit_are_502(io: Io) {
    let origin = redirecting("302 Found", |at| format!("{at}x"));
    let server = following(io, &origin).start();
    expect_lost(&server, "/x.tgz");
    assert_eq!(origin.count(), 9);
}

fn as_many_redirects_as_the_limit_are_followed(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.index == 8 {
            reply.serve(request, b"the file");
        } else {
            reply.answer("302 Found", &format!("Location: {}x\r\n", request.target), b"");
        }
    });
    let server = following(io, &origin).start();
    server.get("/x.tgz").expect(200, b"the file");
    server.expect_cached("x.tgz", b"the file");
}

fn a_redirect_from_https_to_http_is_never_followed(io: Io) {
    let identity = Identity::signed("localhost");
    let plain = Origin::silent();
    let to = format!("http://{}/x.tgz", plain.authority());
    let location = to.clone();
    let origin = Origin::start_tls(identity.config.clone(), move |_, reply| {
        reply.answer("302 Found", &format!("Location: {location}\r\n"), b"moved");
    });
    let dir = tempfile::tempdir().unwrap();
    let server = following(io, &origin).env("SSL_CERT_FILE", identity.save(dir.path())).start();
    let answer = server.get("/x.tgz");
    answer.expect(302, b"moved").expect_keep_alive();
    assert_eq!(answer.all("Location"), [to]);
    assert_eq!((origin.count(), plain.count()), (1, 0));
    server.expect_nothing_cached();
}

fn a_redirect_to_https_is_checked_like_an_https_origin(io: Io) {
    let body = bytes(400_000, 4);
    let identity = Identity::signed("localhost");
    let sent = body.clone();
    let target =
        Origin::start_tls(identity.config.clone(), move |request, reply| reply.serve(request, &sent));
    let (by_name, by_address) = (target.url(), format!("https://{}", target.authority()));
    let origin = redirecting("301 Moved", move |at| {
        let server = if at.contains("address") { &by_address } else { &by_name };
        format!("{server}{at}")
    });
    let dir = tempfile::tempdir().unwrap();
    let server = following(io, &origin).env("SSL_CERT_FILE", identity.save(dir.path())).start();
    server.get("/x.tgz").expect(200, &body);
    server.expect_cached("x.tgz", &body);
    // The certificate names localhost, not its address.
    assert_eq!(server.get("/address.tgz").status, 502);
    assert_eq!(target.count(), 1);
    server.expect_tree(&["x.tgz"]);
}

fn a_redirect_that_leaves_https_again_is_passed_on_with_a_whole_location(io: Io) {
    let identity = Identity::signed("localhost");
    let plain = Origin::silent();
    let location = format!("//{}/x.tgz", plain.authority()).replacen("//", "http://", 1);
    let to = location.clone();
    let secure = Origin::start_tls(identity.config.clone(), move |request, reply| {
        let next = if request.target == "/1" { "2?q" } else { &to };
        reply.answer("302 Found", &format!("Location: {next}\r\nContent-Location: here\r\n"), b"moved");
    });
    let first = secure.url();
    let origin = redirecting("302 Found", move |_| format!("{first}/1"));
    let dir = tempfile::tempdir().unwrap();
    let server = following(io, &origin).env("SSL_CERT_FILE", identity.save(dir.path())).start();
    let answer = server.get("/x.tgz");
    answer.expect(302, b"moved");
    assert_eq!(answer.all("Location"), [location]);
    assert_eq!(answer.all("Content-Location"), [format!("{}/here", secure.url())]);
    assert_eq!((secure.count(), plain.count()), (2, 0));
}

fn an_unusable_location_is_relayed_unchanged(io: Io) {
    for lines in [
        "",
        "Location:\r\n",
        "Location: /a\r\nLocation: /b\r\n",
        "Location: ftp://127.0.0.1/x.tgz\r\n",
        "Location: http://user:pw@127.0.0.1/x.tgz\r\n",
        "Location: http:///x.tgz\r\n",
        "Location: http://127.0.0.1:0/x.tgz\r\n",
        "Location: http://127.0.0.1:99999/x.tgz\r\n",
        "Location: http://no_such..name/x.tgz\r\n",
    ] {
        let origin = Origin::start(move |_, reply| reply.answer("302 Found", lines, b"moved"));
        let server = following(io, &origin).start();
        let answer = server.get("/x.tgz");
        answer.expect(302, b"moved").expect_keep_alive();
        let sent: String =
            answer.all("Location").iter().map(|value| format!("Location: {value}\r\n")).collect();
        assert_eq!(sent.replace("Location: \r\n", "Location:\r\n"), lines);
        assert_eq!(origin.count(), 1, "{lines}");
        server.expect_nothing_cached();
    }
}

fn a_server_that_cannot_be_reached_is_502(io: Io) {
    // Nobody listens there.
    let port = free_port();
    let origin = redirecting("302 Found", move |at| format!("http://127.0.0.1:{port}{at}"));
    let server = following(io, &origin).start();
    let mut client = server.client();
    for _ in 0..2 {
        let answer = client.get("/x.tgz");
        assert_eq!(answer.status, 502);
        answer.expect_keep_alive();
    }
    assert_eq!(origin.count(), 2);
    server.expect_nothing_cached();
}

fn a_server_that_does_not_answer_is_504(io: Io) {
    let gate = Gate::default();
    let held = gate.clone();
    let target = Origin::start(move |_, _| held.wait());
    let to = target.url();
    let origin = redirecting("302 Found", move |at| format!("{to}{at}"));
    let server = following(io, &origin).args(["--response-timeout", "2"]).start();
    assert_eq!(server.get("/x.tgz").status, 504);
    gate.open();
    assert_eq!((origin.count(), target.count()), (1, 1));
    server.expect_nothing_cached();
}

fn an_error_at_the_end_is_passed_on_without_cookies(io: Io) {
    let target = Origin::start(|_, reply| {
        let extra = "Set-Cookie: theirs=1\r\nContent-Location: list\r\nX-Theirs: yes\r\n";
        reply.answer("404 Gone Fishing", extra, b"no such file");
    });
    let to = target.url();
    let origin = redirecting("302 Found", move |at| format!("{to}{at}"));
    let server = following(io, &origin).start();
    let answer = server.get("/x.tgz");
    answer.expect(404, b"no such file").expect_keep_alive();
    assert_eq!((answer.all("Set-Cookie").len(), answer.all("X-Theirs")), (0, vec!["yes"]));
    assert_eq!(answer.all("Content-Location"), [format!("{}/list", target.url())]);
    server.expect_nothing_cached();
}

fn a_head_and_a_get_with_authorization_are_followed_and_not_stored(io: Io) {
    let target = Origin::fixed(b"the file");
    let to = target.url();
    let origin = redirecting("302 Found", move |at| format!("{to}{at}"));
    let server = following(io, &origin).start();
    let head = server.ask("HEAD", "/x.tgz", "");
    assert_eq!((head.status, head.field("Content-Length")), (200, Some("8")));
    server.ask("GET", "/x.tgz", "Authorization: Bearer t\r\n").expect(200, b"the file");
    let seen = target.requests();
    assert_eq!((seen[0].method.as_str(), seen[1].method.as_str()), ("HEAD", "GET"));
    assert_eq!(seen[1].field("Authorization"), None);
    assert_eq!(origin.requests()[1].field("Authorization"), Some("Bearer t"));
    server.expect_nothing_cached();
}

fn other_paths_and_methods_are_not_followed(io: Io) {
    let target = Origin::silent();
    let to = target.url();
    let origin = redirecting("302 Found", move |at| format!("{to}{at}"));
    let server = following(io, &origin).start();
    server.get("/index").expect(302, b"moved");
    server.ask("POST", "/x.tgz", "Content-Length: 0\r\n").expect(302, b"moved");
    let mut client = server.client();
    client.send("GET /x.tgz HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    client.response("GET").expect(302, b"moved");
    assert_eq!((origin.count(), target.count()), (3, 0));
}

fn a_redirect_back_to_ourselves_is_502_and_does_not_hang(io: Io) {
    let port = free_port();
    let origin = redirecting("302 Found", move |at| format!("http://127.0.0.1:{port}{at}"));
    let server = following(io, &origin).port(port).start();
    expect_lost(&server, "/x.tgz");
    // Asked by the client, and by ourselves; the answer to that was the same again.
    assert_eq!(origin.count(), 2);
    // In the revalidated class the response is passed on, and the redirect with it. A port of its own: the ring of
    // a process that was just ended may still accept on the other.
    let port = free_port();
    let origin = redirecting("302 Found", move |at| format!("http://127.0.0.1:{port}{at}"));
    let args = ["--revalidate", r"\.idx$|/$", "--preset", "rpm", "--response-timeout", "20"];
    let server = following(io, &origin).port(port).args(args).start();
    for target in ["/x.idx", "/x.idx?q", "/d/", "/repodata/repomd.xml"] {
        for method in ["GET", "HEAD"] {
            let before = origin.count();
            let answer = server.ask(method, target, "");
            assert_ne!(answer.status, 504, "{method} {target}");
            assert!(origin.count() <= before + 2, "{method} {target}: {}", origin.count() - before);
        }
    }
}

fn a_redirect_to_another_path_of_ours_ends_there(io: Io) {
    let port = free_port();
    let origin = Origin::start(move |request, reply| {
        if request.target.starts_with("/old") {
            reply.answer("301 Moved", &format!("Location: http://localhost:{port}/new.tgz\r\n"), b"");
        } else {
            reply.serve(request, b"the file");
        }
    });
    let server = following(io, &origin).port(port).start();
    server.get("/old.tgz").expect(200, b"the file");
    server.expect_cached("old.tgz", b"the file");
    server.get("/new.tgz").expect(200, b"the file");
    server.expect_cached("new.tgz", b"the file");
    assert_eq!(origin.count(), 3);
    // What is there already is served to ourselves as to anybody.
    server.get("/older.tgz").expect(200, b"the file");
    server.expect_cached("older.tgz", b"the file");
    assert_eq!(origin.count(), 4);
}

fn many_clients_of_a_redirected_file_cost_one_fetch(io: Io) {
    let body = bytes(500_000, 7);
    let gate = Gate::default();
    let (sent, held) = (body.clone(), gate.clone());
    let target = Origin::start(move |_, reply| {
        reply.head(sent.len(), "");
        reply.write(&sent[..1000]);
        held.wait();
        reply.write(&sent[1000..]);
    });
    let to = target.url();
    let origin = redirecting("302 Found", move |at| format!("{to}{at}"));
    let server = Launch::new(io, &origin).args(["--follow-redirects", "--workers", "2"]).start();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..6).map(|_| scope.spawn(|| server.get("/x.tgz"))).collect();
        wait_until("the target is asked", || target.count() > 0);
        gate.open();
        for client in clients {
            client.join().unwrap().expect(200, &body);
        }
    });
    assert_eq!((origin.count(), target.count()), (1, 1));
    server.expect_cached("x.tgz", &body);
}

fn connections_to_redirect_targets_are_reused(io: Io) {
    let target = Origin::fixed(b"the file");
    let to = target.url();
    let origin = redirecting("302 Found", move |at| format!("{to}{at}"));
    let server = following(io, &origin).start();
    let mut client = server.client();
    for number in 0..5 {
        client.get(&format!("/{number}.tgz")).expect(200, b"the file");
    }
    assert_eq!((origin.count(), target.count()), (5, 5));
    assert_eq!((origin.connections(), target.connections()), (1, 1));
}

fn the_debug_line_hides_the_query(io: Io) {
    let target = Origin::fixed(b"the file");
    let to = target.url();
    let origin = redirecting("302 Found", move |_| format!("{to}/file?signature=secret"));
    let server = following(io, &origin).debug().start();
    server.get("/x.tgz").expect(200, b"the file");
    server.err.wait_for(&format!("following redirect to {}/file", target.url()));
    server.err.wait_for("renamed ");
    assert!(server.err.all().iter().all(|line| !line.contains("secret")), "{:#?}", server.err.all());
}

/// A redirect gives its place among the requests under way to the next request, or that would wait
/// for itself. So few descriptors leave room for one at a time.
fn one_place_at_the_origin_is_enough(io: Io) {
    let target = Origin::fixed(b"the file");
    let to = target.url();
    let origin = Origin::start(move |request, reply| {
        let location = format!("Location: {to}{}\r\n", request.target);
        if request.target == "/chunked.tgz" {
            reply.write(format!("HTTP/1.1 302 Found\r\nTransfer-Encoding: chunked\r\n{location}\r\n"));
            reply.write(chunked(b"moved", 2));
        } else {
            reply.answer("302 Found", &location, b"moved");
        }
    });
    let server = following(io, &origin).limit(Limit::Descriptors(64, 64)).start();
    for target in ["/x.tgz", "/chunked.tgz"] {
        server.get(target).expect(200, b"the file");
    }
}
