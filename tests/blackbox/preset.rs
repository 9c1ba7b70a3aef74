//! Presets: the paths that they cache, rebuilt packages, and `--print-config`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Io, Launch, Origin, bytes, on_both, run_cli, wait_until};

on_both!(
    a_preset_replaces_the_default_regex,
    a_preset_is_added_to_a_regex,
    a_package_with_another_size_than_in_apts_index_is_dropped,
    an_index_reaches_nothing_beyond_its_repository,
    npm_documents_and_archives_are_both_kept,
    packages_are_requested_once_and_indexes_are_revalidated,
    a_fresh_narinfo_is_checked_once_when_a_nar_is_missing,
);

/// Preset, what never changes under its name there, and what does.
const CLASSES: &[(&str, &[&str], &[&str])] = &[
    (
        "nix",
        &[
            "/nar/lzip/d2lm5gy0ipz2mhkh8ddsvp8sf3nzf3bc-hello-2.12.1",
            "/nar/zstd/d2lm5gy0ipz2mhkh8ddsvp8sf3nzf3bc-x",
        ],
        &["/p4pclmv1gyja5kzc26npqpia1qqxrf0l.narinfo", "/nix-cache-info"],
    ),
    (
        "openwrt",
        &[
            "/releases/23.05.3/packages/x86_64/base/bash_5.2.15-1_x86_64.ipk",
            "/releases/25.12.0/packages/x86_64/base/bash-5.2.37-r1.apk",
        ],
        &[
            "/releases/23.05.3/packages/x86_64/base/Packages.gz",
            "/releases/25.12.0/packages/x86_64/base/packages.adb",
            "/releases/23.05.3/targets/x86/64/kmods/5.15.150-1-5b8f/Packages.sig",
            "/snapshots/packages/x86_64/base/bash-5.2.37-r1.apk",
        ],
    ),
    (
        "maven",
        &[
            "/maven2/a/b/1.0/b-1.0-linux-x86_64.exe",
            "/maven2/a/b/1.0/b-1.0.so",
            "/maven2/a/b/1.0/b-1.0.dll.sha256",
            "/maven2/a/b/1.0/b-1.0-bin.tar.gz",
            "/maven2/a/b/1.0/b-1.0-src.zip.asc",
            "/maven2/a/b/1.0/b-1.0.toml",
            "/maven2/a/b/1.0/b-1.0.nar",
            "/maven2/a/b/1.0/b-1.0-config.yaml",
            "/maven2/a/b/v1.0/b-v1.0.zip",
        ],
        &[
            "/maven2/a/b/1.1-SNAPSHOT/b-1.1-SNAPSHOT-bin.zip",
            "/maven2/a/b/1.1-snapshot/b-1.1-snapshot.jar",
            "/maven2/a/b/maven-metadata.xml",
        ],
    ),
    (
        "conda",
        &["/conda-forge/linux-64/numpy-1.26.4-py312heda63a1_0.conda"],
        &[
            "/conda-forge/linux-64/repodata.jlap",
            "/conda-forge/linux-64/repodata_shards.msgpack.zst",
            "/conda-forge/linux-64/current_repodata.json",
        ],
    ),
];

fn packages_are_requested_once_and_indexes_are_revalidated(io: Io) {
    for (preset, immutable, checked) in CLASSES {
        let origin = Origin::start(|request, reply| {
            if request.field("If-None-Match").is_some() {
                reply.write("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n");
            } else {
                reply.answer("200 OK", "ETag: \"1\"\r\n", request.target.as_bytes());
            }
        });
        let server = Launch::new(io, &origin).args(["--preset", preset]).start();
        for path in immutable.iter().chain(*checked) {
            server.get(path).expect(200, path.as_bytes());
            server.expect_cached(&path[1..], path.as_bytes());
            let before = origin.count();
            if immutable.contains(path) {
                server.get(path).expect(200, path.as_bytes());
                assert_eq!(origin.count(), before, "{preset} {path}");
                continue;
            }
            // What has just come is new enough for a moment, in an index set.
            wait_until(&format!("{preset} {path} is checked"), || {
                server.get(path).expect(200, path.as_bytes());
                origin.count() > before
            });
        }
    }
}

fn npm_documents_and_archives_are_both_kept(io: Io) {
    let origin = Origin::start(|request, reply| {
        if request.field("If-None-Match").is_some() {
            reply.write("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n");
        } else {
            reply.answer("200 OK", "ETag: \"1\"\r\n", request.target.as_bytes());
        }
    });
    let server = Launch::new(io, &origin).args(["--preset", "npm"]).start();
    let paths = [
        "/lodash",
        "/lodash/-/lodash-1.0.0.tgz",
        "/lodash/latest",
        "/@types/node",
        "/@types/node/-/node-2.0.0.tgz",
    ];
    for path in paths {
        server.get(path).expect(200, path.as_bytes());
    }
    server.expect_tree(&["@types/node/-/node-2.0.0.tgz", "lodash/-/lodash-1.0.0.tgz"]);
    let before = origin.count();
    for path in paths {
        server.get(path).expect(200, path.as_bytes());
    }
    let asked: Vec<_> = origin.requests()[before..].iter().map(|request| request.target.clone()).collect();
    assert_eq!(asked, ["/lodash", "/lodash/latest", "/@types/node"]);
}

fn a_preset_replaces_the_default_regex(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Launch::new(io, &origin).args(["--preset", "apt,arch"]).start();
    for path in ["/pool/main/a/a_1_all.deb", "/core/os/x86_64/a-1-1-any.pkg.tar.zst", "/x.html"] {
        server.get(path).expect(200, b"body");
    }
    server.expect_tree(&["core/os/x86_64/a-1-1-any.pkg.tar.zst", "pool/main/a/a_1_all.deb"]);
}

fn a_preset_is_added_to_a_regex(io: Io) {
    let origin = Origin::fixed(b"body");
    let server = Launch::new(io, &origin).args(["-r", "^/x$"]).env("FS_CACHE_PRESET", "apt").start();
    for path in ["/pool/a.deb", "/x", "/x.html"] {
        server.get(path).expect(200, b"body");
    }
    server.expect_tree(&["pool/a.deb", "x"]);
}

fn a_fresh_narinfo_is_checked_once_when_a_nar_is_missing(io: Io) {
    const NARINFO: &str = "/p4pclmv1gyja5kzc26npqpia1qqxrf0l.narinfo";
    const OTHER: &str = "/a4pclmv1gyja5kzc26npqpia1qqxrf0l.narinfo";
    let fresh = "Content-Type: text/x-nix-narinfo\r\nCache-Control: max-age=31536000\r\n";
    for (extra, status) in
        [("", "404 Not Found"), ("", "410 Gone"), ("Authorization: Basic YTpi\r\n", "404 No")]
    {
        let packed_anew = Arc::new(AtomicBool::new(false));
        let is_new = Arc::clone(&packed_anew);
        let origin = Origin::start(move |request, reply| {
            let now = if is_new.load(Ordering::Relaxed) { 2 } else { 1 };
            let tag = format!("ETag: \"{now}\"\r\n");
            match &*request.target {
                NARINFO if request.field("If-None-Match") == Some(&format!("\"{now}\"")) => {
                    reply.write(format!("HTTP/1.1 304 Not Modified\r\n{tag}{fresh}\r\n"));
                }
                NARINFO | OTHER => {
                    reply.answer(
                        "200 OK",
                        &format!("{tag}{fresh}"),
                        format!("URL: nar/{now}.nar.xz\n").as_bytes(),
                    );
                }
                target if target == format!("/nar/{now}.nar.xz") => reply.serve(request, b"nar"),
                _ => reply.answer(status, "", b"none"),
            }
        });
        let server = Launch::new(io, &origin).args(["--preset", "nix"]).start();
        let asked = |path| origin.requests().iter().filter(|request| request.target == path).count();
        let narinfo = |path: &str, state: u8| {
            server.get(path).expect(200, format!("URL: nar/{state}.nar.xz\n").as_bytes());
        };
        for _ in 0..3 {
            narinfo(NARINFO, 1);
            narinfo(OTHER, 1);
        }
        assert_eq!((asked(NARINFO), asked(OTHER)), (1, 1));
        // What is no nar says nothing.
        server.get("/nowhere/x.nar.xz");
        narinfo(NARINFO, 1);
        assert_eq!(asked(NARINFO), 1);
        packed_anew.store(true, Ordering::Relaxed);
        server.ask("GET", "/nar/1.nar.xz", extra).expect(status[..3].parse().unwrap(), b"none");
        for _ in 0..3 {
            narinfo(NARINFO, 2);
            narinfo(OTHER, 2);
        }
        server.get("/nar/2.nar.xz").expect(200, b"nar");
        narinfo(NARINFO, 2);
        assert_eq!((asked(NARINFO), asked(OTHER)), (2, 2));
    }
}

/// The path of an index that is fetched by its checksum.
const BY_HASH: &str = "/debian/dists/sid/main/binary-amd64/by-hash/SHA256/00ff";

fn a_package_with_another_size_than_in_apts_index_is_dropped(io: Io) {
    let index = b"Package: a\nFilename: pool/a_1_all.deb\nSize: 6\n\nPackage: b\nFilename: pool/b_1_all.deb\nSize: 5\n";
    let origin = Origin::start(|request, reply| {
        reply.serve(request, if request.target == BY_HASH { index } else { b"newone" });
    });
    let server = Launch::new(io, &origin).args(["--preset", "apt"]).debug().start();
    let old = server.put("debian/pool/a_1_all.deb", b"older");
    server.put("debian/pool/b_1_all.deb", b"right");
    server.get("/debian/pool/a_1_all.deb").expect(200, b"older");
    server.get(BY_HASH).expect(200, index);
    server.err.wait("dropped", |line| {
        line.contains(&format!("dropped {} - 5 bytes, the index says 6", old.display()))
    });
    server.get("/debian/pool/a_1_all.deb").expect(200, b"newone");
    server.expect_cached("debian/pool/a_1_all.deb", b"newone");
    server.get("/debian/pool/b_1_all.deb").expect(200, b"right");
}

fn an_index_reaches_nothing_beyond_its_repository(io: Io) {
    let files =
        ["../keep.deb", "/etc/hostname", "pool/../../keep.deb", "dists/sid/InRelease", "pool/dropped.deb"];
    let index: String = files.map(|name| format!("Filename: {name}\nSize: 1\n\n")).concat();
    let body = index.clone().into_bytes();
    let origin = Origin::start(move |request, reply| reply.serve(request, &body));
    let server = Launch::new(io, &origin).args(["--preset", "apt"]).start();
    let outside = server.outside().join("keep.deb");
    fs::write(&outside, b"outside").unwrap();
    for name in ["keep.deb", "debian/dists/sid/InRelease", "debian/pool/dropped.deb"] {
        server.put(name, &bytes(10, 1));
    }
    server.get(BY_HASH).expect(200, index.as_bytes());
    // The last of the index: by then all others have been looked at.
    wait_until("the last package is dropped", || !server.path("debian/pool/dropped.deb").exists());
    let left = ["debian/dists/sid/InRelease", BY_HASH.trim_start_matches('/'), "debian/pool/", "keep.deb"];
    server.expect_tree(&left);
    assert!(outside.exists());
}

#[test]
fn the_configuration_in_force_is_printed() {
    let args =
        ["--preset", "pkgsrc", "--preset", "npm,pip", "-r", r"\.iso$", "--print-config", "-U", "http://h/x"];
    let output = run_cli(&args, &[("FS_CACHE_PORT", "81"), ("FS_CACHE_DIR", "/nonexistent")], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    for line in ["cache-dir = /nonexistent", "port = 81", "url = http://h/x", "preset = pkgsrc,npm,pip"] {
        assert!(text.lines().any(|known| known == line), "no {line:?} in {text}");
    }
    assert!(text.contains("\nregex = (?:\\.iso$)|(?:\\.(?:tgz|tbz|txz)$)|"), "{text}");
    assert!(text.contains("\nrevalidate = (?:/pkg_summary\\."), "{text}");
}
