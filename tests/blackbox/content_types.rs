//! Responses whose Content-Type contradicts the file name: a login page instead of a package, a list of mirrors, an
//! error page with status 200. With a preset they are passed on and not stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{Io, Launch, Origin, on_both, wait_until};

on_both!(
    a_login_page_is_not_kept_as_a_package,
    a_login_page_does_not_replace_an_index,
    a_login_page_in_an_index_set_leaves_the_set_as_it_was,
    a_package_under_a_careless_type_is_kept,
    a_login_page_is_not_kept_under_any_name_that_a_preset_knows,
    a_page_that_is_a_page_by_its_name_is_kept,
    without_a_preset_every_type_is_kept,
);

/// Answers with the type in the query's place: what stands behind `?`.
fn typed() -> Origin {
    Origin::start(|request, reply| {
        let content_type = request.target.split_once('?').map_or("text/html", |(_, query)| query);
        reply.answer("200 OK", &format!("Content-Type: {content_type}\r\n"), b"body");
    })
}

/// An origin of which every response has this type.
fn always(content_type: &'static str) -> Origin {
    Origin::start(move |_, reply| {
        reply.answer("200 OK", &format!("Content-Type: {content_type}\r\n"), b"body");
    })
}

const PRESETS: &str =
    "pkgsrc,apt,rpm,arch,alpine,freebsd,openbsd,void,nix,pip,npm,cargo,maven,rubygems,conda";

fn a_login_page_is_not_kept_as_a_package(io: Io) {
    for content_type in [
        "text/html",
        "Text/HTML; charset=UTF-8",
        "application/xhtml+xml",
        "application/metalink+xml",
        "application/metalink4+xml; charset=UTF-8",
        "application/problem+json",
        "application/problem+xml",
        "application/json",
    ] {
        let origin = always(content_type);
        let server = Launch::new(io, &origin).args(["--preset", PRESETS, "--cache-status"]).debug().start();
        for path in [
            "/pool/main/a/a_1_all.deb",
            "/pool/a_1.udeb",
            "/os/Packages/b/b-1.x86_64.rpm",
            "/drpms/x-1_2.drpm",
            "/packages/aa/x-1-py3-none-any.whl",
            "/All/watch-3.tgz",
            "/packages/x-1.zip",
            "/org/x/1.0/x-1.0.jar",
            "/org/x/1.0/x-1.0.war",
            "/v3.19/main/x86_64/busybox-1.apk",
            "/crates/x/x-1.0.0.crate",
            "/api/v1/crates/x/1.0.0/download",
            "/gems/x-1.gem",
            "/noarch/x-1.conda",
            "/core/os/x86_64/a-1-1-any.pkg.tar.zst",
            "/current/x-1_1.x86_64.xbps",
            "/nar/0abc.nar.xz",
            "/noarch/x-1.tar.bz2",
            "/lodash/-/lodash-1.0.0.tgz",
        ] {
            for _ in 0..2 {
                let response = server.get(path);
                response.expect(200, b"body").expect_keep_alive();
                assert_eq!(response.all("Content-Type"), [content_type], "{path}");
                let status = response.field("Cache-Status").unwrap_or_default();
                assert!(status.ends_with("detail=\"content type contradicts the name\""), "{path}: {status}");
            }
        }
        assert_eq!(origin.count(), 38, "each is asked each time");
        server.expect_nothing_cached();
        server.err.wait_for("not saved - content type contradicts the name");
    }
}

fn a_login_page_does_not_replace_an_index(io: Io) {
    let portal = Arc::new(AtomicBool::new(false));
    let shut = Arc::clone(&portal);
    let origin = Origin::start(move |request, reply| {
        if shut.load(Ordering::SeqCst) {
            reply.answer("200 OK", "Content-Type: text/html\r\n", b"who are you?");
        } else if request.field("If-None-Match").is_some() {
            reply.write("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n");
        } else {
            reply.answer("200 OK", "ETag: \"1\"\r\n", b"index");
        }
    });
    let server = Launch::new(io, &origin).args(["--preset", "alpine"]).debug().start();
    let path = "/v3.19/main/x86_64/APKINDEX.tar.gz";
    server.get(path).expect(200, b"index");
    server.expect_cached(&path[1..], b"index");
    portal.store(true, Ordering::SeqCst);
    server.get(path).expect(200, b"who are you?");
    server.err.wait_for("not stored - content type contradicts the name");
    server.expect_cached(&path[1..], b"index");
    portal.store(false, Ordering::SeqCst);
    server.get(path).expect(200, b"index");
    assert!(origin.requests().last().unwrap().field("If-None-Match").is_some(), "what is kept is checked");
}

fn a_login_page_in_an_index_set_leaves_the_set_as_it_was(io: Io) {
    const PACKAGES: &str = "/debian/dists/sid/main/binary-amd64/Packages.xz";
    const IN_RELEASE: &str = "/debian/dists/sid/InRelease";
    let phase = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&phase);
    let origin = Origin::start(move |request, reply| match now.load(Ordering::SeqCst) {
        3 => reply.reset(),
        2 if request.target == PACKAGES => {
            reply.answer("200 OK", "Content-Type: text/html\r\n", b"who are you?");
        }
        state => {
            let tag = format!("\"{state}\"");
            if request.field("If-None-Match") == Some(&tag) {
                reply.write(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n"));
            } else {
                reply.answer("200 OK", &format!("ETag: {tag}\r\n"), state.to_string().as_bytes());
            }
        }
    });
    let args = ["--preset", "apt", "--stale-if-error", "forever"];
    let server = Launch::new(io, &origin).args(args).debug().start();
    for target in [IN_RELEASE, PACKAGES] {
        server.get(target).expect(200, b"1");
        server.expect_cached(&target[1..], b"1");
    }
    phase.store(2, Ordering::SeqCst);
    server.get(IN_RELEASE).expect(200, b"1");
    server.err.wait_for("an index set is not refreshed - ");
    // In the outage after that everything there was is there, and of one state.
    phase.store(3, Ordering::SeqCst);
    for target in [IN_RELEASE, PACKAGES] {
        server.get(target).expect(200, b"1");
    }
}

fn a_package_under_a_careless_type_is_kept(io: Io) {
    for (at, content_type) in [
        "text/plain",
        "text/plain; charset=iso-8859-1",
        "application/octet-stream",
        "binary/octet-stream",
        "application/x-debian-package",
        "application/gzip",
        "application/xml",
    ]
    .into_iter()
    .enumerate()
    {
        let origin = always(content_type);
        let server = Launch::new(io, &origin).args(["--preset", PRESETS]).start();
        for name in
            [format!("pool/a_{at}.deb"), format!("crates/x-{at}.crate"), format!("x-{at}-any.pkg.tar.zst")]
        {
            server.get(&format!("/{name}")).expect(200, b"body");
            server.expect_cached(&name, b"body");
        }
        assert_eq!(origin.count(), 3);
    }
    // None at all.
    let origin = Origin::fixed(b"body");
    let server = Launch::new(io, &origin).args(["--preset", "apt"]).start();
    server.get("/pool/a.deb").expect(200, b"body");
    server.expect_cached("pool/a.deb", b"body");
}

fn a_login_page_is_not_kept_under_any_name_that_a_preset_knows(io: Io) {
    const NAMES: [(&str, &[&str]); 9] = [
        ("apt", &["/pool/m/a/a_1.dsc", "/dists/s/InRelease", "/dists/s/Release", "/dists/s/Release.gpg"]),
        (
            "maven",
            &["/m/a/1/a-1.pom", "/m/a/1/a-1.module", "/m/a/1/a-1-features.xml", "/m/a/maven-metadata.xml"],
        ),
        (
            "go",
            &[
                "/m/@v/v1.0.0.mod",
                "/m/@v/v1.0.0.info",
                "/sumdb/s.org/tile/8/0/000",
                "/m/@latest",
                "/m/@v/list",
            ],
        ),
        ("pip", &["/packages/ab/a-1-py3-none-any.whl.metadata"]),
        ("pkgsrc", &["/All/SHA512"]),
        ("arch", &["/core/os/x86_64/core.db", "/core/os/x86_64/core.files"]),
        ("void", &["/current/x86_64-repodata"]),
        (
            "rpm",
            &["/r/repodata/repomd.xml", "/r/repodata/repomd.xml.key", "/r/RPM-GPG-KEY-x", "/r/.treeinfo"],
        ),
        ("alpine", &["/v3/releases/x86_64/latest-releases.yaml"]),
    ];
    for content_type in ["text/html; charset=utf-8", "application/problem+json", "application/metalink4+xml"]
    {
        let origin = Origin::start(move |request, reply| {
            assert!(request.field("If-None-Match").is_none(), "{} is kept", request.target);
            let fields =
                format!("ETag: \"1\"\r\nCache-Control: max-age=600\r\nContent-Type: {content_type}\r\n");
            reply.answer("200 OK", &fields, b"body");
        });
        for (preset, names) in NAMES {
            let server = Launch::new(io, &origin).args(["--preset", preset, "--cache-status"]).start();
            for name in names {
                for _ in 0..2 {
                    let response = server.get(name);
                    response.expect(200, b"body");
                    let status = response.field("Cache-Status").unwrap_or_default();
                    assert!(
                        status.ends_with("detail=\"content type contradicts the name\""),
                        "{name}: {status}"
                    );
                }
            }
            server.expect_nothing_cached();
        }
    }
}

fn a_page_that_is_a_page_by_its_name_is_kept(io: Io) {
    let origin = always("text/html");
    let server = Launch::new(io, &origin).args(["--preset", "pip,maven", "-r", r"\.html(\.gz)?$"]).start();
    for name in ["x.html", "y.html.gz", "simple/requests", "org/x/1.0/x-1.0-report.html"] {
        server.get(&format!("/{name}")).expect(200, b"body");
        server.expect_cached(name, b"body");
    }
    let json = always("application/json");
    let server = Launch::new(io, &json).args(["--preset", "conda"]).start();
    server.get("/noarch/repodata.json.bz2").expect(200, b"body");
    server.expect_cached("noarch/repodata.json.bz2", b"body");
}

fn without_a_preset_every_type_is_kept(io: Io) {
    let origin = typed();
    let server = Launch::new(io, &origin).start();
    for (name, query) in
        [("a.tgz", ""), ("b.tar.gz", "?application/json"), ("c.tar", "?application/metalink+xml")]
    {
        server.get(&format!("/{name}{query}")).expect(200, b"body");
        server.expect_cached(name, b"body");
    }
    wait_until("each is asked once", || origin.count() == 3);
}
