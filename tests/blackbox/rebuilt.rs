//! Packages rebuilt under their old name, with the same size: the next index lists another checksum.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::origin::Request;
use crate::support::{Gate, Io, Launch, Origin, Reply, Server, bytes, on_both, wait_until};

on_both!(
    a_rebuilt_rpm_listed_in_indexes_named_by_checksum_is_fetched_again,
    a_rebuilt_rpm_listed_in_an_index_with_a_fixed_name_is_fetched_again,
    a_rebuilt_package_of_arch_is_fetched_again,
    a_rebuilt_package_of_alpine_is_fetched_again,
    a_rebuilt_package_of_apt_is_fetched_again,
    a_rebuilt_package_of_apt_by_hash_is_fetched_again,
    a_rebuilt_source_package_of_apt_is_fetched_again,
    a_rebuilt_package_of_openwrt_is_fetched_again,
    a_rebuilt_package_of_pkgsrc_is_fetched_again,
    a_rebuilt_package_of_pkgsrc_with_the_old_date_is_fetched_again,
    a_rebuilt_rpm_whose_name_is_encoded_in_the_index_is_fetched_again,
    a_rebuilt_package_of_conda_is_fetched_again,
    a_rebuilt_package_of_freebsd_is_fetched_again,
    an_index_in_another_packing_is_compared_with_the_one_there_was,
    a_generation_that_an_earlier_process_has_seen_counts,
    an_index_that_goes_over_to_another_checksum_drops_nothing,
    a_package_in_transfer_when_its_index_changes_is_not_stored,
    an_index_of_two_generations_reaches_nothing_beyond_its_repository,
    a_client_with_the_new_index_never_gets_the_old_package,
    a_kill_while_packages_are_compared_loses_no_comparison,
    a_mirror_with_its_index_before_its_packages_has_no_old_package_stored,
);

/// A repository: two packages, of which the first is another one in the second state, as long as before.
#[derive(Clone)]
struct Site {
    preset: &'static str,
    /// The index's path, in each state.
    index: [&'static str; 2],
    packages: [&'static str; 2],
    /// Packs the index: of each package the name, relative to the index's base, and the checksum.
    pack: fn(&[(&str, &str); 2]) -> Vec<u8>,
    /// The packages' names in it.
    names: [&'static str; 2],
}

const BUILDS: [&[u8]; 2] = [b"build one", b"build two"];
const STABLE: &[u8] = b"unchanged";
const SIZE: usize = STABLE.len();

/// The checksum of the first package in each state, and that of the other.
const SUMS: [&str; 2] = [
    "5fddb9545db6e7a5d11471e66b874985c65d63e7292279c5db9eb2917bae2711",
    "e45688ace7983a0b303d1c20bf8426ef0207abba479ea6dd1739816258df89d4",
];
const STABLE_SUM: &str = "aaa8d3c8d74ad3e8f6b1772aa9c7e0eaa528cb42fc93599ce2f125b00d4c424c";

impl Site {
    fn index(&self, state: usize) -> Vec<u8> {
        (self.pack)(&[(self.names[0], SUMS[state]), (self.names[1], STABLE_SUM)])
    }

    fn serve(&self, state: usize, request: &Request, reply: &mut Reply<'_>) {
        let body = match request.target.as_str() {
            path if path == self.index[state] => self.index(state),
            path if path == self.packages[0] => BUILDS[state].to_vec(),
            path if path == self.packages[1] => STABLE.to_vec(),
            _ => return reply.answer("404 Not Found", "", b"not here"),
        };
        reply.answer("200 OK", &format!("ETag: \"{state}{}\"\r\n", request.target), &body);
    }

    /// An origin in a state that changes, and that state.
    fn origin(&self) -> (Origin, Arc<AtomicUsize>) {
        let state = Arc::new(AtomicUsize::new(0));
        let (site, now) = (self.clone(), Arc::clone(&state));
        let origin =
            Origin::start(move |request, reply| site.serve(now.load(Ordering::SeqCst), request, reply));
        (origin, state)
    }

    fn launch(&self, io: Io, origin: &Origin) -> Launch {
        Launch::new(io, origin).args(["--preset", self.preset]).debug()
    }

    /// The first state is fetched and kept.
    fn fetch_first(&self, server: &Server) {
        server.get(self.index[0]).expect(200, &self.index(0));
        for (path, body) in self.packages.iter().zip([BUILDS[0], STABLE]) {
            server.get(path).expect(200, body);
            server.expect_cached(path.trim_start_matches('/'), body);
        }
    }

    /// After the second index the first package is the new one, and the other is not asked for.
    fn expect_second(&self, server: &Server, origin: &Origin) {
        server.get(self.index[1]).expect(200, &self.index(1));
        wait_until("the new build is fetched", || server.get(self.packages[0]).body == BUILDS[1]);
        server.get(self.packages[1]).expect(200, STABLE);
        let asked = |path: &str| origin.requests().iter().filter(|request| request.target == path).count();
        assert_eq!((asked(self.packages[0]), asked(self.packages[1])), (2, 1));
        server.expect_cached(self.packages[0].trim_start_matches('/'), BUILDS[1]);
    }

    fn check(&self, io: Io) {
        let (origin, state) = self.origin();
        let server = self.launch(io, &origin).start();
        self.fetch_first(&server);
        state.store(1, Ordering::SeqCst);
        server.get(self.packages[0]).expect(200, BUILDS[0]);
        self.expect_second(&server, &origin);
        let line = format!("dropped {}", server.path(self.packages[0].trim_start_matches('/')).display());
        server.err.wait_for(&line);
        self.check_size_alone(io);
    }

    /// A package on the disk whose size differs from that in the first index that the program reads.
    fn check_size_alone(&self, io: Io) {
        let (origin, _) = self.origin();
        let server = self.launch(io, &origin).start();
        for path in self.packages {
            server.put(path.trim_start_matches('/'), b"of another size");
        }
        server.get(self.packages[0]).expect(200, b"of another size");
        server.get(self.index[0]).expect(200, &self.index(0));
        wait_until("the listed package is fetched", || server.get(self.packages[0]).body == BUILDS[0]);
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

fn bzip2(text: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
}

fn archive(files: &[(&str, String)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(text.len()).unwrap());
        header.set_mode(0o644);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn primary(packages: &[(&str, &str); 2]) -> Vec<u8> {
    let package = |(name, sum): &(&str, &str)| {
        format!(
            "<package type=\"rpm\"><name>x</name><arch>noarch</arch><checksum type=\"sha256\" pkgid=\"YES\">{sum}</checksum>\
             <summary>a &amp; b</summary><size package=\"{SIZE}\" installed=\"1\" archive=\"1\"/><location href=\"{name}\"/>\
             <format><rpm:provides><rpm:entry name=\"x\"/></rpm:provides></format></package>\n"
        )
    };
    let packages: String = packages.iter().map(package).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata xmlns=\"http://linux.duke.edu/metadata/common\" packages=\"2\">{packages}</metadata>\n"
    )
    .into_bytes()
}

const RPM: Site = Site {
    preset: "rpm",
    index: [
        "/repo/repodata/00000000000000000000000000000001-primary.xml.gz",
        "/repo/repodata/00000000000000000000000000000002-primary.xml.gz",
    ],
    packages: ["/repo/Packages/a/a-1-1.noarch.rpm", "/repo/b-1-1.noarch.rpm"],
    pack: |packages| gzip(&primary(packages)),
    names: ["Packages/a/a-1-1.noarch.rpm", "b-1-1.noarch.rpm"],
};

fn a_rebuilt_rpm_listed_in_indexes_named_by_checksum_is_fetched_again(io: Io) {
    RPM.check(io);
}

fn a_rebuilt_rpm_listed_in_an_index_with_a_fixed_name_is_fetched_again(io: Io) {
    let index = ["/repo/repodata/primary.xml.zst"; 2];
    Site { index, pack: |packages| zstd(&primary(packages)), ..RPM }.check(io);
}

fn a_rebuilt_package_of_arch_is_fetched_again(io: Io) {
    let pack = |packages: &[(&str, &str); 2]| {
        let desc = |(name, sum): (&str, &str)| {
            format!("%FILENAME%\n{name}\n\n%NAME%\nx\n\n%CSIZE%\n{SIZE}\n\n%SHA256SUM%\n{sum}\n\n")
        };
        gzip(&archive(&[
            ("a-1-1/desc", desc(packages[0])),
            ("a-1-1/files", "%FILES%\nusr/\n".to_owned()),
            ("b-1-1/desc", desc(packages[1])),
        ]))
    };
    Site {
        preset: "arch",
        index: ["/core/os/x86_64/core.db"; 2],
        packages: ["/core/os/x86_64/a-1-1-any.pkg.tar.zst", "/core/os/x86_64/b-1-1-any.pkg.tar.zst"],
        pack,
        names: ["a-1-1-any.pkg.tar.zst", "b-1-1-any.pkg.tar.zst"],
    }
    .check(io);
}

fn a_rebuilt_package_of_alpine_is_fetched_again(io: Io) {
    let pack = |packages: &[(&str, &str); 2]| {
        let record = |(name, sum): (&str, &str)| {
            let (name, version) = name.split_once('=').unwrap();
            format!("C:Q1{}=\nP:{name}\nV:{version}\nA:x86_64\nS:{SIZE}\nI:1\n\n", &sum[..27])
        };
        let signature = archive(&[(".SIGN.RSA.x.rsa.pub", "signature".to_owned())]);
        // Without its end: what follows belongs to the same archive.
        let signature = gzip(&signature[..signature.len() - 1024]);
        let records = packages.map(record).concat();
        [signature, gzip(&archive(&[("DESCRIPTION", "v3".to_owned()), ("APKINDEX", records)]))].concat()
    };
    Site {
        preset: "alpine",
        index: ["/v3.20/main/x86_64/APKINDEX.tar.gz"; 2],
        packages: ["/v3.20/main/x86_64/a-1.0-r0.apk", "/v3.20/main/x86_64/b-1.0-r0.apk"],
        pack,
        names: ["a=1.0-r0", "b=1.0-r0"],
    }
    .check(io);
}

fn deb822(packages: &[(&str, &str); 2]) -> Vec<u8> {
    let record = |(name, sum): &(&str, &str)| {
        format!(
            "Package: x\nVersion: 1\nFilename: {name}\nSize: {SIZE}\nMD5sum: 0\nSHA256: {sum}\nDescription: x\n more\n\n"
        )
    };
    packages.iter().map(record).collect::<String>().into_bytes()
}

const APT: Site = Site {
    preset: "apt",
    index: ["/debian/dists/sid/main/binary-amd64/Packages.gz"; 2],
    packages: ["/debian/pool/main/a/a_1_all.deb", "/debian/pool/main/b/b_1_all.deb"],
    pack: |packages| gzip(&deb822(packages)),
    names: ["pool/main/a/a_1_all.deb", "pool/main/b/b_1_all.deb"],
};

fn a_rebuilt_package_of_apt_is_fetched_again(io: Io) {
    APT.check(io);
}

fn a_rebuilt_package_of_apt_by_hash_is_fetched_again(io: Io) {
    let index = [
        "/debian/dists/sid/main/binary-amd64/by-hash/SHA256/01",
        "/debian/dists/sid/main/binary-amd64/by-hash/SHA256/02",
    ];
    Site { index, ..APT }.check(io);
}

fn a_rebuilt_source_package_of_apt_is_fetched_again(io: Io) {
    let pack = |packages: &[(&str, &str); 2]| {
        let record = |(name, sum): (&str, &str)| {
            let (directory, file) = name.rsplit_once('/').unwrap();
            format!(
                "Package: x\nFiles:\n 0 {SIZE} {file}\n 0 1 other.dsc\nChecksums-Sha256:\n {sum} {SIZE} {file}\nDirectory: {directory}\n\n"
            )
        };
        gzip(packages.map(record).concat().as_bytes())
    };
    const BY_HASH: [&str; 2] = [
        "/debian/dists/sid/main/source/by-hash/SHA256/01",
        "/debian/dists/sid/main/source/by-hash/SHA256/02",
    ];
    for index in [["/debian/dists/sid/main/source/Sources.gz"; 2], BY_HASH] {
        Site {
            preset: "apt",
            index,
            packages: ["/debian/pool/main/a/a_1.tar.xz", "/debian/pool/main/b/b_1.dsc"],
            pack,
            names: ["pool/main/a/a_1.tar.xz", "pool/main/b/b_1.dsc"],
        }
        .check(io);
    }
}

fn a_rebuilt_package_of_openwrt_is_fetched_again(io: Io) {
    let pack = |packages: &[(&str, &str); 2]| {
        let record = |(name, sum): (&str, &str)| {
            format!(
                "Package: x\nVersion: 1\nFilename: {name}\nSize: {SIZE}\nSHA256sum: {sum}\nDescription:  x\n\n"
            )
        };
        gzip(packages.map(record).concat().as_bytes())
    };
    Site {
        preset: "openwrt",
        index: ["/releases/23.05.5/packages/x86_64/base/Packages.gz"; 2],
        packages: [
            "/releases/23.05.5/packages/x86_64/base/a_1_x86_64.ipk",
            "/releases/23.05.5/packages/x86_64/base/b_1_x86_64.ipk",
        ],
        pack,
        names: ["a_1_x86_64.ipk", "b_1_x86_64.ipk"],
    }
    .check(io);
}

fn an_index_in_another_packing_is_compared_with_the_one_there_was(io: Io) {
    let index = [APT.index[0], "/debian/dists/sid/main/binary-amd64/by-hash/SHA256/02"];
    Site { index, ..APT }.check(io);
}

fn a_rebuilt_package_of_pkgsrc_is_fetched_again(io: Io) {
    let pack = |packages: &[(&str, &str); 2]| {
        let record = |(name, sum): (&str, &str)| {
            let name = name.trim_end_matches(".tgz");
            format!("PKGNAME={name}\nBUILD_DATE=2024-01-0{} 00:00:00 +0000\nFILE_SIZE={SIZE}\n\n", &sum[..1])
        };
        bzip2(packages.map(record).concat().as_bytes())
    };
    Site {
        preset: "pkgsrc",
        index: ["/packages/All/pkg_summary.bz2"; 2],
        packages: ["/packages/All/a-1.0.tgz", "/packages/All/b-1.0.tgz"],
        pack,
        names: ["a-1.0.tgz", "b-1.0.tgz"],
    }
    .check(io);
}

fn a_rebuilt_package_of_pkgsrc_with_the_old_date_is_fetched_again(io: Io) {
    let pack = |packages: &[(&str, &str); 2]| {
        let record = |(name, sum): (&str, &str)| {
            format!(
                "PKGNAME=x-1\nFILE_NAME={name}\nBUILD_DATE=2024-01-01 00:00:00 +0000\nFILE_SIZE={SIZE}\nFILE_CKSUM=SHA256 {sum}\n\n"
            )
        };
        gzip(packages.map(record).concat().as_bytes())
    };
    Site {
        preset: "pkgsrc",
        index: ["/packages/All/pkg_summary.gz"; 2],
        packages: ["/packages/All/a-1.0.tgz", "/packages/All/b-1.0.tgz"],
        pack,
        names: ["a-1.0.tgz", "b-1.0.tgz"],
    }
    .check(io);
}

fn a_rebuilt_rpm_whose_name_is_encoded_in_the_index_is_fetched_again(io: Io) {
    Site {
        packages: ["/repo/Packages/g/gcc-c++-1.rpm", "/repo/b-1-1.noarch.rpm"],
        names: ["Packages/g/gcc-c%2B%2b-1.rpm", "b-1-1.noarch.rpm"],
        ..RPM
    }
    .check(io);
}

fn a_rebuilt_package_of_conda_is_fetched_again(io: Io) {
    let pack = |packages: &[(&str, &str); 2]| {
        let record = |(name, sum): (&str, &str)| {
            format!("\"{name}\":{{\"depends\":[\"x\"],\"md5\":\"0\",\"sha256\":\"{sum}\",\"size\":{SIZE}}}")
        };
        let [old, new] = packages.map(record);
        let text = format!(
            "{{\"info\":{{\"subdir\":\"noarch\"}},\"packages\":{{{old}}},\"packages.conda\":{{{new}}},\"removed\":[]}}"
        );
        zstd(text.as_bytes())
    };
    Site {
        preset: "conda",
        index: ["/main/noarch/repodata.json.zst"; 2],
        packages: ["/main/noarch/a-1-0.tar.bz2", "/main/noarch/b-1-0.conda"],
        pack,
        names: ["a-1-0.tar.bz2", "b-1-0.conda"],
    }
    .check(io);
}

fn a_rebuilt_package_of_freebsd_is_fetched_again(io: Io) {
    let pack = |packages: &[(&str, &str); 2]| {
        let record = |(name, sum): (&str, &str)| {
            format!(
                "{{\"name\":\"x\",\"sum\":\"{sum}\",\"path\":\"{name}\",\"repopath\":\"{name}\",\"pkgsize\":{SIZE}}}\n"
            )
        };
        zstd(&archive(&[("packagesite.yaml", packages.map(record).concat())]))
    };
    Site {
        preset: "freebsd",
        index: ["/FreeBSD:14:amd64/latest/packagesite.pkg"; 2],
        packages: [
            "/FreeBSD:14:amd64/latest/All/Hashed/a-1~0a.pkg",
            "/FreeBSD:14:amd64/latest/All/Hashed/b-1~0b.pkg",
        ],
        pack,
        names: ["All/Hashed/a-1~0a.pkg", "All/Hashed/b-1~0b.pkg"],
    }
    .check(io);
}

fn a_generation_that_an_earlier_process_has_seen_counts(io: Io) {
    for site in [RPM, APT] {
        let (origin, state) = site.origin();
        let first = site.launch(io, &origin).start();
        site.fetch_first(&first);
        let cache = first.cache_dir().to_owned();
        let mut first = first;
        first.signal(libc::SIGTERM);
        first.wait();
        state.store(1, Ordering::SeqCst);
        let second = site.launch(io, &origin).cache(&cache).start();
        second.get(site.packages[0]).expect(200, BUILDS[0]);
        site.expect_second(&second, &origin);
    }
}

fn an_index_that_goes_over_to_another_checksum_drops_nothing(io: Io) {
    let pack = |packages: &[(&str, &str); 2]| {
        let text = String::from_utf8(deb822(packages)).unwrap();
        // The marker of the second state goes into a checksum of another kind.
        text.replace(&format!("SHA256: {}", SUMS[1]), "SHA1: 5").into_bytes()
    };
    let site = Site { pack, ..APT };
    let (origin, state) = site.origin();
    let server = site.launch(io, &origin).start();
    site.fetch_first(&server);
    state.store(1, Ordering::SeqCst);
    server.get(site.index[1]).expect(200, &site.index(1));
    server.get(site.packages[0]).expect(200, BUILDS[0]);
    let asked = origin.requests().iter().filter(|request| request.target == site.packages[0]).count();
    assert_eq!(asked, 1);
}

fn a_package_in_transfer_when_its_index_changes_is_not_stored(io: Io) {
    let (state, gate) = (Arc::new(AtomicUsize::new(0)), Gate::default());
    let (now, opened) = (Arc::clone(&state), gate.clone());
    let origin = Origin::start(move |request, reply| {
        let state = now.load(Ordering::SeqCst);
        if request.target != RPM.packages[0] || state == 1 {
            return RPM.serve(state, request, reply);
        }
        reply.head(SIZE, "");
        reply.write(&BUILDS[0][..4]);
        opened.wait();
        reply.write(&BUILDS[0][4..]);
    });
    let server = RPM.launch(io, &origin).start();
    server.get(RPM.index[0]).expect(200, &RPM.index(0));
    let mut early = server.client();
    early.ask("GET", RPM.packages[0], "");
    let mut response = early.head("GET");
    response.body.extend(early.raw(4));
    state.store(1, Ordering::SeqCst);
    server.get(RPM.index[1]).expect(200, &RPM.index(1));
    let path = server.path(RPM.packages[0].trim_start_matches('/'));
    server.err.wait_for(&format!("{} is not stored - the index has another one", path.display()));
    // Who comes now gets what the index tells of, while the other goes on with what it began with.
    server.get(RPM.packages[0]).expect(200, BUILDS[1]);
    gate.open();
    early.finish(&mut response);
    response.expect(200, BUILDS[0]);
    server.get(RPM.packages[0]).expect(200, BUILDS[1]);
    wait_until("the new one is kept", || {
        server.get(RPM.packages[0]).expect(200, BUILDS[1]);
        std::fs::read(&path).is_ok_and(|body| body == BUILDS[1])
    });
}

fn an_index_of_two_generations_reaches_nothing_beyond_its_repository(io: Io) {
    const NAMES: [&str; 4] = ["../keep.rpm", "/keep.rpm", "Packages/../../keep.rpm", "repodata/repomd.xml"];
    let index = |sum: &str| {
        let package = |name: &str| {
            format!(
                "<package><checksum type=\"sha256\">{sum}</checksum><location href=\"{name}\"/></package>"
            )
        };
        let elsewhere = "<package><checksum type=\"sha256\">SUM</checksum><location xml:base=\"http://example.org/\" href=\"else.rpm\"/></package>";
        let names: String = NAMES.iter().chain(&["dropped.rpm"]).map(|name| package(name)).collect();
        format!("<metadata>{}{names}</metadata>", elsewhere.replace("SUM", sum)).into_bytes()
    };
    let origin = Origin::start(move |request, reply| {
        let state = usize::from(request.target == RPM.index[1]);
        reply.serve(request, &index(SUMS[state]));
    });
    let server = RPM.launch(io, &origin).start();
    for name in ["keep.rpm", "repo/else.rpm", "repo/repodata/repomd.xml", "repo/dropped.rpm"] {
        server.put(name, &bytes(10, 1));
    }
    let outside = server.outside().join("keep.rpm");
    std::fs::write(&outside, b"outside").unwrap();
    server.get(RPM.index[0]).expect(200, &index(SUMS[0]));
    server.get(RPM.index[1]).expect(200, &index(SUMS[1]));
    // The last of the index: by then all others have been looked at.
    wait_until("the last package is dropped", || !server.path("repo/dropped.rpm").exists());
    let left = ["keep.rpm", "repo/else.rpm", "repo/repodata/repomd.xml"];
    assert!(left.iter().all(|name| server.path(name).exists()) && outside.exists());
}

/// Packages of a large index, so that to compare it takes a while.
const MANY: usize = 40_000;

/// An index of many packages, of which the last is the rebuilt one.
fn large(packages: &[(&str, &str); 2]) -> Vec<u8> {
    let filler = |at: usize| {
        format!("Package: f{at}\nFilename: pool/f{at}.deb\nSize: 5\nSHA256: {at:064x}\nDescription: x\n\n")
    };
    let mut text: String = (0..MANY).map(filler).collect();
    text.push_str(&String::from_utf8(deb822(packages)).unwrap());
    gzip(text.as_bytes())
}

/// Under one name, and by the checksum.
fn large_sites() -> [Site; 2] {
    let site = Site { pack: large, ..APT };
    let index = [
        "/debian/dists/sid/main/binary-amd64/by-hash/SHA256/01",
        "/debian/dists/sid/main/binary-amd64/by-hash/SHA256/02",
    ];
    [site.clone(), Site { index, ..site }]
}

fn a_client_with_the_new_index_never_gets_the_old_package(io: Io) {
    for site in large_sites() {
        let (origin, state) = site.origin();
        let server = site.launch(io, &origin).start();
        site.fetch_first(&server);
        server.get(site.packages[0]).expect(200, BUILDS[0]);
        state.store(1, Ordering::SeqCst);
        // On one connection and on two.
        let (mut client, index) = (server.client(), site.index(1));
        // On a busy machine the old one is served after a wait.
        wait_until("it has the new index", || client.get(site.index[1]).body == index);
        let mut others: Vec<_> = (0..3).map(|_| server.client()).collect();
        client.get(site.packages[0]).expect(200, BUILDS[1]);
        for other in &mut others {
            other.get(site.packages[0]).expect(200, BUILDS[1]);
            other.get(site.packages[1]).expect(200, STABLE);
        }
        let asked = |path: &str| origin.requests().iter().filter(|request| request.target == path).count();
        assert_eq!(asked(site.packages[1]), 1);
    }
}

fn a_kill_while_packages_are_compared_loses_no_comparison(io: Io) {
    for site in large_sites() {
        for is_named in [false, true] {
            let (origin, state) = site.origin();
            let mut first = site.launch(io, &origin).start();
            site.fetch_first(&first);
            first.expect_cached(&site.index[0][1..], &site.index(0));
            let cache = first.cache_dir().to_owned();
            state.store(1, Ordering::SeqCst);
            let index = site.index(1);
            wait_until("a client has the new index", || first.get(site.index[1]).body == index);
            let path = first.path(&site.index[1][1..]);
            if is_named {
                wait_until("it has its name", || std::fs::read(&path).is_ok_and(|body| body == index));
            }
            first.signal(libc::SIGKILL);
            first.wait();
            let second = site.launch(io, &origin).cache(&cache).start();
            wait_until("a client has the new index", || second.get(site.index[1]).body == index);
            second.get(site.packages[0]).expect(200, BUILDS[1]);
            second.get(site.packages[1]).expect(200, STABLE);
        }
    }
}

fn a_mirror_with_its_index_before_its_packages_has_no_old_package_stored(io: Io) {
    for site in [RPM, APT] {
        let (index, packages) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (theirs, states) = (site.clone(), [Arc::clone(&index), Arc::clone(&packages)]);
        let origin = Origin::start(move |request, reply| {
            let which = usize::from(theirs.packages.contains(&request.target.as_str()));
            theirs.serve(states[which].load(Ordering::SeqCst), request, reply);
        });
        let server = site.launch(io, &origin).start();
        site.fetch_first(&server);
        index.store(1, Ordering::SeqCst);
        wait_until("a client has the new index", || server.get(site.index[1]).body == site.index(1));
        let (target, path) = (site.packages[0], server.path(&site.packages[0][1..]));
        wait_until("the old package is dropped", || !path.exists());
        for _ in 0..2 {
            server.get(target).expect(200, BUILDS[0]);
            server.err.wait_for("the origin has another one by now");
            assert!(!path.exists());
        }
        packages.store(1, Ordering::SeqCst);
        wait_until("the new package is there", || server.get(target).body == BUILDS[1]);
        server.expect_cached(&target[1..], BUILDS[1]);
        server.get(site.packages[1]).expect(200, STABLE);
        server.expect_cached(&site.packages[1][1..], STABLE);
    }
}
