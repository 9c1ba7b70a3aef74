//! From the path of a URL to a file name in the cache directory, and names that must never be reached.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};

use nix::sys::stat::Mode;

use crate::support::util::tree;
use crate::support::{Io, Launch, Origin, Server, on_both};

on_both!(
    names_are_decoded_and_normalised,
    the_pattern_sees_the_decoded_normalised_path,
    a_regex_with_endless_backtracking_delays_no_request,
    an_undecodable_path_is_400_with_an_empty_body,
    a_nul_in_the_path_is_400,
    no_path_leads_out_of_the_cache_directory,
    a_symlink_inside_is_followed,
    a_symlink_to_a_file_outside_is_passed,
    a_symlinked_directory_outside_is_never_written_to,
    a_dangling_symlink_creates_nothing_outside,
    a_directory_is_400_with_an_empty_body,
    a_fifo_or_device_is_never_served,
    in_progress_names_are_passed,
    the_programs_own_directory_is_passed,
    a_trailing_slash_is_never_a_file,
    odd_but_legal_names_round_trip,
    a_cache_directory_that_does_not_exist_is_made,
    a_relative_cache_directory_lies_below_the_current_one,
    paths_in_debug_lines_are_normalised_as_the_originals_were,
);

fn names_are_decoded_and_normalised(io: Io) {
    for (target, name) in [
        ("/a%20b.tgz", "a b.tgz"),
        ("/dir%2Fx.tgz", "dir/x.tgz"),
        ("/x%2etgz", "x.tgz"),
        ("/a/../b.tgz", "b.tgz"),
        ("/a/./b//c.tgz", "a/b/c.tgz"),
        ("//a//b.tgz", "a/b.tgz"),
        ("/a/%2e%2e/b.tgz", "b.tgz"),
        ("/%E4%B8%AD.tgz", "\u{4e2d}.tgz"),
        ("/q%3Fm.tgz", "q?m.tgz"),
        ("/h%23h.tgz", "h#h.tgz"),
        ("/a+b.tgz", "a+b.tgz"),
        ("/a%2Bb.tgz", "a+b.tgz"),
        ("/%25.tgz", "%.tgz"),
        ("/%2525.tgz", "%25.tgz"),
        ("/x.tgz?name=/../../y", "x.tgz"),
    ] {
        let origin = Origin::fixed(b"body");
        let server = Server::start(io, &origin);
        let mut client = server.client();
        client.get(target).expect(200, b"body");
        server.expect_cached(name, b"body");
        assert_eq!(tree(server.cache_dir()), [name], "for {target}");
        client.get(target).expect(200, b"body");
        // In what form the origin is asked for those with dot segments and more slashes stands in `targets`.
        if !["dir/x.tgz", "b.tgz", "a/b/c.tgz", "a/b.tgz"].contains(&name) {
            assert_eq!(origin.only().target, target);
        }
        assert_eq!(origin.count(), 1);
    }
}

fn the_pattern_sees_the_decoded_normalised_path(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for target in
        ["/x.tgz/../y", "/y?x.tgz", "/x.tgz/..", "/x.TGZ", "/x.tgz%0A", "/x.tgz%2F", "/xtgz", "/x.tgz.sig"]
    {
        client.get(target).expect(200, b"body");
    }
    server.expect_nothing_cached();
    assert_eq!(origin.count(), 8);
    client.get("/x%2E%74gz").expect(200, b"body");
    server.expect_cached("x.tgz", b"body");
}

fn a_regex_with_endless_backtracking_delays_no_request(io: Io) {
    let origin = Origin::fixed(b"the origin's");
    let server = Launch::new(io, &origin)
        .debug()
        .args(["--workers", "1", "-r", r"^(?!.*/\.)(.*/)*[^/]+\.tgz$|^/(a+)\1+b"])
        .start();
    server.put("x.tgz", b"a file");
    let leavers: Vec<_> = (0..12)
        .map(|n| {
            let mut client = server.client();
            client.ask("GET", &format!("/{}{n}", "/a".repeat(100)), "");
            client
        })
        .collect();
    drop(leavers);
    server.get("/x.tgz").expect(200, b"a file");
    server.get("/aaab").expect(200, b"the origin's");
    server.expect_cached("aaab", b"the origin's");
    // Nobody can tell in time whether this one matches.
    server.get(&format!("/{}", "a".repeat(4_000))).expect(200, b"the origin's");
    server.err.wait_for("not cached - regex takes too long");
    server.expect_tree(&["aaab", "x.tgz"]);
}

fn an_undecodable_path_is_400_with_an_empty_body(io: Io) {
    let origin = Origin::silent();
    let server = Server::start(io, &origin);
    for target in [
        "/%ff.tgz",
        "/%zz.tgz",
        "/%",
        "/%2",
        "/x%C3.tgz",
        "/%C0%AE%C0%AE/x.tgz",
        "/%ED%A0%80.tgz",
        "/not-cacheable%",
    ] {
        let response = server.get(target);
        response.expect(400, b"");
        let posted = server.ask("POST", target, "Content-Length: 0\r\n");
        posted.expect(400, b"");
    }
    assert_eq!(origin.count(), 0);
    server.expect_nothing_cached();
}

fn a_nul_in_the_path_is_400(io: Io) {
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).cache_everything().start();
    for target in ["/x%00.tgz", "/%00", "/x.tgz%00.png", "/a%00/../x.tgz"] {
        let response = server.get(target);
        assert_eq!(response.status, 400, "for {target}");
    }
    assert_eq!(origin.count(), 0);
    server.put("x.tgz", b"alive");
    server.get("/x.tgz").expect(200, b"alive");
}

fn no_path_leads_out_of_the_cache_directory(io: Io) {
    let origin = Origin::fixed(b"the origin's");
    let server = Launch::new(io, &origin).cache_everything().start();
    let secret = server.outside().join("secret.tgz");
    fs::write(&secret, b"secret").unwrap();
    server.put("sub/keep.tgz", b"kept");
    let before = tree(server.outside());
    for target in [
        "/../secret.tgz",
        "/../../secret.tgz",
        "/sub/../../secret.tgz",
        "/%2e%2e/secret.tgz",
        "/%2E%2E%2Fsecret.tgz",
        "/..%2fsecret.tgz",
        "/sub/..%2f..%2fsecret.tgz",
        "/sub/%2e%2e/%2e%2e/secret.tgz",
        "/.%2e/secret.tgz",
        "/%2e%2e%5csecret.tgz",
        "/..%5Csecret.tgz",
        "/..\\secret.tgz",
        "/....//secret.tgz",
        "/%252e%252e/secret.tgz",
        "//../secret.tgz",
        "/./../secret.tgz",
        "http://localhost/../secret.tgz",
        "http://localhost/%2e%2e/secret.tgz",
    ] {
        let response = server.get(target);
        assert_ne!(response.body, b"secret", "{target} read outside");
        assert!(matches!(response.status, 200 | 400), "{target}: {}", response.status);
    }
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    let mut after = tree(server.outside());
    after.retain(|name| !name.starts_with("cache/"));
    let mut known = before;
    known.retain(|name| !name.starts_with("cache/"));
    assert_eq!(after, known, "something was written outside");
}

fn a_symlink_inside_is_followed(io: Io) {
    let origin = Origin::silent();
    let server = Server::start(io, &origin);
    server.put("real/x.tgz", b"linked");
    symlink("real/x.tgz", server.path("relative.tgz")).unwrap();
    symlink("real", server.path("dir")).unwrap();
    symlink("../real/x.tgz", server.path("real/up.tgz")).unwrap();
    for target in ["/relative.tgz", "/dir/x.tgz", "/real/up.tgz"] {
        server.get(target).expect(200, b"linked");
    }
    assert_eq!(origin.count(), 0);
}

fn a_symlink_to_a_file_outside_is_passed(io: Io) {
    let origin = Origin::fixed(b"the origin's");
    let server = Launch::new(io, &origin).debug().start();
    let secret = server.outside().join("secret.tgz");
    fs::write(&secret, b"secret").unwrap();
    symlink(&secret, server.path("absolute.tgz")).unwrap();
    symlink("../secret.tgz", server.path("relative.tgz")).unwrap();
    for target in ["/absolute.tgz", "/relative.tgz"] {
        for _ in 0..2 {
            server.get(target).expect(200, b"the origin's");
        }
        let link = fs::symlink_metadata(server.path(&target[1..])).unwrap();
        assert!(link.is_symlink(), "{target} was replaced");
    }
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert_eq!(origin.count(), 4);
}

fn a_symlinked_directory_outside_is_never_written_to(io: Io) {
    let origin = Origin::fixed(b"the origin's");
    let server = Server::start(io, &origin);
    let outside = server.outside().join("elsewhere");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("there.tgz"), b"secret").unwrap();
    symlink(&outside, server.path("out")).unwrap();
    for target in ["/out/there.tgz", "/out/new.tgz", "/out/deep/new.tgz"] {
        server.get(target).expect(200, b"the origin's");
    }
    assert_eq!(tree(&outside), ["there.tgz"]);
    assert_eq!(fs::read(outside.join("there.tgz")).unwrap(), b"secret");
    assert_eq!(origin.count(), 3);
}

fn a_dangling_symlink_creates_nothing_outside(io: Io) {
    let origin = Origin::fixed(b"the origin's");
    let server = Server::start(io, &origin);
    let nowhere = server.outside().join("nowhere.tgz");
    symlink(&nowhere, server.path("x.tgz")).unwrap();
    symlink("loop.tgz", server.path("loop.tgz")).unwrap();
    for target in ["/x.tgz", "/loop.tgz"] {
        server.get(target).expect(200, b"the origin's");
    }
    assert!(!nowhere.exists());
}

fn a_directory_is_400_with_an_empty_body(io: Io) {
    let origin = Origin::silent();
    let server = Launch::new(io, &origin).cache_everything().start();
    fs::create_dir_all(server.path("dir.tgz/sub")).unwrap();
    for target in ["/dir.tgz", "/dir.tgz/sub", "/dir.tgz/", "/", "/dir.tgz/.."] {
        server.get(target).expect(400, b"");
    }
    let head = server.ask("HEAD", "/dir.tgz", "");
    assert_eq!(head.status, 400);
    assert_eq!(origin.count(), 0);
}

fn a_fifo_or_device_is_never_served(io: Io) {
    let origin = Origin::fixed(b"the origin's");
    let server = Server::start(io, &origin);
    let fifo = server.path("fifo.tgz");
    nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o644)).unwrap();
    let socket = server.path("socket.tgz");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    symlink("/dev/zero", server.path("zero.tgz")).unwrap();
    for target in ["/fifo.tgz", "/socket.tgz", "/zero.tgz"] {
        server.get(target).expect(200, b"the origin's");
    }
    let kind = |path| fs::symlink_metadata(path).unwrap().file_type();
    assert!(kind(&fifo).is_fifo(), "the FIFO was replaced");
    assert!(kind(&socket).is_socket(), "the socket was replaced");
}

fn in_progress_names_are_passed(io: Io) {
    let origin = Origin::fixed(b"the origin's");
    let server = Launch::new(io, &origin).cache_everything().start();
    server.put("x.tgz.in-progress", b"half a file");
    for target in ["/x.tgz.in-progress", "/x.tgz%2ein-progress", "/dir/new.tgz.in-progress", "/.in-progress"]
    {
        server.get(target).expect(200, b"the origin's");
    }
    assert_eq!(origin.count(), 4);
    server.expect_tree(&["x.tgz.in-progress"]);
    server.expect_cached("x.tgz.in-progress", b"half a file");
}

fn the_programs_own_directory_is_passed(io: Io) {
    let origin = Origin::fixed(b"the origin's");
    let server = Launch::new(io, &origin).cache_everything().start();
    server.put(".fs-caching-server/heads/x.tgz", b"a head");
    for target in
        ["/.fs-caching-server/heads/x.tgz", "/a/..//%2efs-caching-server/new.tgz", "/.fs-caching-server"]
    {
        server.get(target).expect(200, b"the origin's");
    }
    server.get("/a/.fs-caching-server/x.tgz").expect(200, b"the origin's");
    assert_eq!(origin.count(), 4);
    server.expect_tree(&[".fs-caching-server/heads/x.tgz", "a/.fs-caching-server/x.tgz"]);
}

fn a_trailing_slash_is_never_a_file(io: Io) {
    let origin = Origin::fixed(b"a listing");
    let server = Launch::new(io, &origin).cache_everything().start();
    server.put("x.tgz", b"a file");
    let mut client = server.client();
    for target in ["/listing/", "/listing/", "/x.tgz/"] {
        client.get(target).expect(200, b"a listing");
    }
    assert_eq!(origin.count(), 3);
    let mut files = tree(server.cache_dir());
    files.retain(|name| !name.ends_with('/'));
    assert_eq!(files, ["x.tgz"]);
    server.expect_cached("x.tgz", b"a file");
}

fn odd_but_legal_names_round_trip(io: Io) {
    let origin = Origin::start(|request, reply| {
        reply.serve(request, request.target.as_bytes());
    });
    let server = Server::start(io, &origin);
    let mut client = server.client();
    for target in [
        "/...tgz",
        "/.hidden.tgz",
        "/-dash.tgz",
        "/a'b\"c.tgz",
        "/semi;colon,comma.tgz",
        "/pipe|star*.tgz",
        "/in-progress.tgz",
        "/x.in-progress.tgz",
        "/new%0Aline.tgz",
    ] {
        client.get(target).expect(200, target.as_bytes());
        client.get(target).expect(200, target.as_bytes());
    }
    assert_eq!(origin.count(), 9, "a name was fetched twice");
}

fn a_cache_directory_that_does_not_exist_is_made(io: Io) {
    let origin = Origin::fixed(b"body");
    let outside = tempfile::tempdir().unwrap();
    for name in ["new", "new/er/and/deeper", "with space", "slash/"] {
        let cache = outside.path().join(name);
        let server = Launch::new(io, &origin).cache(&cache).debug().start();
        assert!(cache.is_dir(), "{name} was not made at the start");
        server.get("/dir/x.tgz").expect(200, b"body");
        server.expect_cached("dir/x.tgz", b"body");
        if name != "new" {
            server.expect_tree(&["dir/x.tgz"]);
        }
    }
}

fn a_relative_cache_directory_lies_below_the_current_one(io: Io) {
    for (relative, exists) in [("rel", true), ("./made/here", false), ("rel/../other", true)] {
        let origin = Origin::fixed(b"body");
        let current = tempfile::tempdir().unwrap();
        fs::create_dir(current.path().join("rel")).unwrap();
        if !exists {
            assert!(!current.path().join(relative).exists());
        }
        let cache = current.path().join(relative);
        // The later flag wins, and the earlier directory stays as it was.
        let server =
            Launch::new(io, &origin).current_dir(current.path()).args(["-c", relative]).debug().start();
        server.get("/dir/x.tgz").expect(200, b"body");
        server.get("/dir/x.tgz").expect(200, b"body");
        let file = cache.join("dir/x.tgz");
        let got = crate::support::within("the file is there", || fs::read(&file).ok());
        assert_eq!(got, b"body", "{relative}");
        assert_eq!(tree(server.cache_dir()), [""; 0]);
        assert_eq!(origin.count(), 1);
        server.err.wait(relative, |line| line == format!("caching to {relative}"));
    }
}

fn paths_in_debug_lines_are_normalised_as_the_originals_were(io: Io) {
    // The original shows `path.join(DIR, file)`.
    for (given, shown) in [("./made", "made"), ("rel/../other", "other"), ("rel//twice/", "rel/twice")] {
        let origin = Origin::fixed(b"body");
        let current = tempfile::tempdir().unwrap();
        fs::create_dir(current.path().join("rel")).unwrap();
        let server = Launch::new(io, &origin).current_dir(current.path()).args(["-c", given]).debug().start();
        server.get("/dir/x.tgz").expect(200, b"body");
        let line = server.err.wait_for("saving local file to ");
        assert!(line.ends_with(&format!(" saving local file to {shown}/dir/x.tgz.in-progress")), "{line}");
    }
}
