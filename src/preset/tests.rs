//! Paths as they are on the sites, each with the class it must have.

use super::*;
use Class::{Immutable, Neither, Revalidate};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Immutable,
    Revalidate,
    Neither,
}

#[rustfmt::skip]
const PATHS: &[(&str, Class, &[&str])] = &[
    ("pkgsrc", Immutable, &[
        "/packages/SmartOS/2014Q4/x86_64/All/watch-3.2.6nb1.tgz",
        "/packages/SmartOS/2023Q4/x86_64/All/gtk+3-3.24.tgz",
        "/pub/pkgsrc/packages/NetBSD/amd64/10.0/All/p5-Foo-1.0nb3.tgz",
        "/packages/Linux/el7/trunk/x86_64/All/tnftp-20200705.tgz",
        "/packages/Darwin/10.15/x86_64/All/zstd-1.5.0.txz",
    ]),
    ("pkgsrc", Revalidate, &[
        "/packages/SmartOS/2014Q4/x86_64/All/pkg_summary.gz",
        "/All/pkg_summary.zst", "/All/pkg_summary.xz", "/All/pkg_summary.bz2",
        "/All/SHA512.bz2", "/All/SHA512",
        "/packages/vulns/pkg-vulnerabilities", "/packages/vulns/pkg-vulnerabilities.gz",
        "/packages/SmartOS/bootstrap/bootstrap-2014Q4-x86_64.tar.gz",
        "/packages/SmartOS/bootstrap/bootstrap-trunk-x86_64-20240116.tar.gz.asc",
    ]),
    ("pkgsrc", Neither, &["/", "/packages/", "/All/pkg_summary", "/All/pkg_summary.gz.old", "/All/pkg_summaryxgz", "/index.html", "/x.tgz/"]),
    ("apt", Immutable, &[
        "/debian/pool/main/a/apt/apt_2.6.1_amd64.deb",
        "/debian/pool/main/g/glibc/libc6-udeb_2.36-9_amd64.udeb",
        "/debian/pool/main/h/hello/hello_2.10-3.dsc",
        "/debian/pool/main/h/hello/hello_2.10-3.debian.tar.xz",
        "/debian/pool/main/h/hello/hello_2.10.orig.tar.gz", "/debian/pool/main/h/hello/hello_2.10.orig.tar.gz.asc",
        "/debian/pool/main/h/hello/hello_2.10-1.diff.gz",
        "/debian-security/pool/updates/main/c/curl/curl_7.88.1-10+deb12u5_amd64.deb",
        "/flat/foo_1:2.0_all.deb",
        "/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/00aa11bb22cc33dd44ee55ff",
        "/ubuntu/dists/jammy/main/i18n/by-hash/MD5Sum/d41d8cd98f00b204e9800998ecf8427e",
        "/debian/dists/sid/main/binary-amd64/Packages.diff/2024-01-15-0206.12.gz",
        "/debian/dists/sid/main/binary-amd64/Packages.diff/T-2024-01-15-0206.12-F-2024-01-14-0206.09.gz",
    ]),
    ("apt", Revalidate, &[
        "/debian/dists/bookworm/InRelease", "/debian/dists/bookworm/Release", "/debian/dists/bookworm/Release.gpg",
        "/debian/dists/bookworm/main/binary-amd64/Packages", "/debian/dists/bookworm/main/binary-amd64/Packages.xz",
        "/debian/dists/bookworm/main/binary-amd64/Release",
        "/debian/dists/bookworm/main/source/Sources.gz",
        "/debian/dists/bookworm/main/Contents-amd64.gz", "/debian/dists/bookworm/main/Contents-udeb-all.gz",
        "/debian/dists/bookworm/main/i18n/Translation-en.bz2", "/debian/dists/bookworm/main/i18n/Translation-pt_BR.xz",
        "/debian/dists/sid/main/binary-amd64/Packages.diff/Index",
        "/ubuntu/dists/jammy/main/cnf/Commands-amd64.xz",
        "/ubuntu/dists/jammy/main/dep11/Components-amd64.yml.gz", "/ubuntu/dists/jammy/main/dep11/icons-64x64.tar.gz",
        "/ubuntu/dists/jammy-updates/main/debian-installer/binary-amd64/Packages.gz",
        "/debian/dists/bookworm/main/installer-amd64/current/images/netboot/netboot.tar.gz",
        "/debian/dists/bookworm/main/installer-amd64/20230607/images/SHA256SUMS",
        "/debian-security/dists/bookworm-security/InRelease", "/debian-security/dists/buster/updates/InRelease",
        "/flat/InRelease", "/flat/Packages.gz",
    ]),
    ("apt", Neither, &[
        "/debian/", "/debian/dists/bookworm/", "/debian/pool/main/a/apt/", "/debian/ls-lR.gz", "/xInRelease/y",
        "/debian/dists/bookworm/InRelease.old", "/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/",
        "/tarballs/x.tar.gz", "/debian/dists/bookworm/main/binary-amd64/Packages.html",
    ]),
    ("rpm", Immutable, &[
        "/fedora/linux/releases/40/Everything/x86_64/os/Packages/b/bash-5.2.26-3.fc40.x86_64.rpm",
        "/centos/9-stream/BaseOS/x86_64/os/drpms/x-1_2.drpm",
        "/repo/repodata/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-primary.xml.gz",
        "/repo/repodata/0123456789abcdef0123456789abcdef01234567-filelists.sqlite.bz2",
        "/repo/repodata/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-comps-Everything.x86_64.xml.zst",
    ]),
    ("rpm", Revalidate, &[
        "/repo/repodata/repomd.xml", "/repo/repodata/repomd.xml.asc", "/repo/repodata/repomd.xml.key",
        "/repo/repodata/primary.xml.gz", "/repo/repodata/filelists.sqlite.bz2", "/repo/repodata/comps.xml",
        "/os/.treeinfo", "/os/treeinfo", "/centos/RPM-GPG-KEY-CentOS-Official", "/suse/media.1/media",
    ]),
    ("rpm", Neither, &["/repo/repodata/", "/repo/x.rpm.html", "/repo/repodata/repomd.xml.old", "/images/boot.iso"]),
    ("arch", Immutable, &[
        "/core/os/x86_64/bash-5.2.026-2-x86_64.pkg.tar.zst", "/core/os/x86_64/bash-5.2.026-2-x86_64.pkg.tar.zst.sig",
        "/extra/os/x86_64/x-1:2.0-1-any.pkg.tar.xz",
    ]),
    ("arch", Revalidate, &[
        "/core/os/x86_64/core.db", "/core/os/x86_64/core.db.sig", "/core/os/x86_64/core.files",
        "/core/os/x86_64/core.db.tar.gz", "/core/os/x86_64/core.files.tar.gz.sig", "/lastupdate", "/lastsync",
        "/core/os/x86_64/core.links.tar.gz",
    ]),
    ("arch", Neither, &["/core/os/x86_64/", "/iso/2024.01.01/archlinux-x86_64.iso", "/core.db.old", "/x.tar.zst"]),
    ("alpine", Immutable, &[
        "/alpine/v3.19/main/x86_64/busybox-1.36.1-r15.apk",
        "/alpine/v3.19/releases/x86_64/alpine-minirootfs-3.19.1-x86_64.tar.gz",
        "/alpine/v3.19/releases/x86_64/alpine-standard-3.19.1-x86_64.iso.sha256",
    ]),
    ("alpine", Revalidate, &["/alpine/v3.19/main/x86_64/APKINDEX.tar.gz", "/alpine/v3.19/releases/x86_64/latest-releases.yaml"]),
    ("alpine", Neither, &["/alpine/edge/releases/x86_64/alpine-standard-x86_64.iso", "/alpine/last-updated", "/x/APKINDEX.tar.gz.sig"]),
    ("freebsd", Immutable, &[
        "/FreeBSD:14:amd64/latest/All/Hashed/curl-8.5.0~2a1b3c4d5e.pkg",
        "/FreeBSD:13:amd64/quarterly/All/Hashed/py39-pip-23.3~00ff.txz",
    ]),
    ("freebsd", Revalidate, &[
        "/FreeBSD:14:amd64/latest/All/curl-8.5.0.pkg", "/FreeBSD:12:amd64/latest/All/curl-7.txz",
        "/FreeBSD:14:amd64/latest/meta.conf", "/FreeBSD:14:amd64/latest/meta.txz",
        "/FreeBSD:14:amd64/latest/packagesite.pkg", "/FreeBSD:14:amd64/latest/data.pkg",
        "/FreeBSD:14:amd64/latest/Latest/pkg.pkg", "/FreeBSD:14:amd64/latest/Latest/pkg.txz.sig",
    ]),
    ("freebsd", Neither, &["/FreeBSD:14:amd64/latest/", "/FreeBSD:14:amd64/latest/All/Hashed/", "/releases/x.iso"]),
    ("openbsd", Immutable, &[
        "/pub/OpenBSD/7.5/packages/amd64/curl-8.6.0.tgz", "/pub/OpenBSD/7.5/packages-stable/amd64/curl-8.7.1.tgz",
        "/pub/OpenBSD/7.5/amd64/base75.tgz", "/pub/OpenBSD/7.5/amd64/install75.iso",
        "/pub/OpenBSD/syspatch/7.5/amd64/syspatch75-001_xserver.tgz",
    ]),
    ("openbsd", Revalidate, &[
        "/pub/OpenBSD/snapshots/packages/amd64/curl-8.6.0.tgz", "/pub/OpenBSD/snapshots/amd64/base75.tgz",
        "/pub/OpenBSD/7.5/amd64/SHA256.sig", "/pub/OpenBSD/7.5/amd64/SHA256", "/pub/OpenBSD/7.5/packages/amd64/index.txt",
        "/pub/OpenBSD/7.5/packages/amd64/", "/pub/OpenBSD/7.5/packages-stable/amd64/",
    ]),
    ("openbsd", Neither, &["/pub/OpenBSD/", "/pub/OpenBSD/patches/7.5/common/001_x.patch.sig"]),
    ("void", Immutable, &["/current/bash-5.2.21_1.x86_64.xbps", "/current/bash-5.2.21_1.x86_64.xbps.sig2", "/current/musl/x-1.0_12.noarch.xbps"]),
    ("void", Revalidate, &["/current/x86_64-repodata", "/current/musl/x86_64-musl-repodata", "/current/x86_64-stagedata"]),
    ("void", Neither, &["/current/", "/live/current/void-x86_64.iso", "/current/otime"]),
    ("nix", Immutable, &[
        "/nar/1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3.nar.xz",
        "/nar/lzip/d2lm5gy0ipz2mhkh8ddsvp8sf3nzf3bc-hello-2.12.1", "/nar/zstd/d2lm5gy0ipz2mhkh8ddsvp8sf3nzf3bc-hello-2.12.1",
        "/guix/nar/gzip/d2lm5gy0ipz2mhkh8ddsvp8sf3nzf3bc-hello-2.12.1-debug", "/nar/d2lm5gy0ipz2mhkh8ddsvp8sf3nzf3bc-hello-2.12.1",
        "/nar/none/d2lm5gy0ipz2mhkh8ddsvp8sf3nzf3bc-profile",
        "/file/hello-2.12.1.tar.gz/sha256/1ayhp9v4m4rdhjmnl2bq3cibrbqqkgjbl3s7yk2nhlh8vj3ay16g",
    ]),
    ("nix", Revalidate, &["/nix-cache-info", "/p4pclmv1gyja5kzc26npqpia1qqxrf0l.narinfo", "/guix/d2lm5gy0ipz2mhkh8ddsvp8sf3nzf3bc.narinfo"]),
    ("nix", Neither, &["/p4pcl.narinfo", "/log/x.drv", "/nar/lzip/", "/nar/lzip/hello-2.12.1", "/file/x/sha256/00", "/log/d2lm5gy0ipz2mhkh8ddsvp8sf3nzf3bc-hello-2.12.1"]),
    ("openwrt", Immutable, &[
        "/releases/23.05.3/packages/x86_64/base/bash_5.2.15-1_x86_64.ipk", "/releases/packages-23.05/x86_64/luci/luci_git-24.086.45142-09d5a38_all.ipk",
        "/releases/23.05.3/targets/x86/64/packages/kernel_5.15.150-1-5b8f1d0c7b1c5d2f9e3f9aa7a8b9a1d3_x86_64.ipk",
        "/releases/23.05.3/targets/x86/64/kmods/5.15.150-1-5b8f1d0c7b1c5d2f9e3f9aa7a8b9a1d3/kmod-tun_5.15.150-1_x86_64.ipk",
        "/releases/25.12.0-rc1/packages/aarch64_cortex-a53/base/bash-5.2.37-r1.apk", "/24.10.1/packages/mips_24kc/packages/nano_8.3-r1_mips_24kc.ipk",
        "/releases/23.05.3/targets/x86/64/openwrt-23.05.3-x86-64-generic-squashfs-combined.img.gz",
        "/releases/23.05.3/targets/x86/64/openwrt-imagebuilder-23.05.3-x86-64.Linux-x86_64.tar.xz",
    ]),
    ("openwrt", Revalidate, &[
        "/releases/23.05.3/packages/x86_64/base/Packages", "/releases/23.05.3/packages/x86_64/base/Packages.gz",
        "/releases/23.05.3/packages/x86_64/base/Packages.sig", "/releases/23.05.3/packages/x86_64/base/Packages.manifest",
        "/releases/25.12.0/packages/x86_64/base/packages.adb", "/releases/25.12.0/packages/x86_64/base/index.json",
        "/releases/23.05.3/targets/x86/64/kmods/5.15.150-1-5b8f1d0c7b1c5d2f9e3f9aa7a8b9a1d3/Packages.gz",
        "/releases/23.05.3/targets/x86/64/sha256sums", "/releases/23.05.3/targets/x86/64/sha256sums.asc",
        "/releases/23.05.3/targets/x86/64/profiles.json", "/releases/23.05.3/targets/x86/64/version.buildinfo",
        "/snapshots/packages/x86_64/base/bash_5.2.15-1_x86_64.ipk", "/snapshots/packages/x86_64/base/bash-5.2.37-r1.apk",
        "/releases/23.05-SNAPSHOT/packages/x86_64/base/bash_5.2.15-1_x86_64.ipk",
        "/snapshots/targets/x86/64/kmods/6.6.30-1-5b8f1d0c7b1c5d2f9e3f9aa7a8b9a1d3/kmod-tun_6.6.30-r1_x86_64.ipk",
        "/snapshots/targets/x86/64/openwrt-x86-64-generic-squashfs-combined.img.gz",
        "/packages/x86_64/base/bash_5.2.15-1_x86_64.ipk", "/targets/x86/64/packages/kernel-6.6.30.apk",
        "/.versions.json", "/releases/.overview.json",
    ]),
    ("openwrt", Neither, &["/releases/", "/releases/23.05.3/packages/x86_64/base/", "/releases/23.05.3/targets/x86/64/kmods/", "/releases/23.05.3/packages/x86_64/base/Packages.html", "/x/openwrt-23.05.3.img.gz"]),
    ("pip", Immutable, &[
        "/packages/70/8e/0e2d847013cb52cd35b38c009bb167a1a26b2ce6cd6965bf26b47bc0bf44/requests-2.31.0-py3-none-any.whl",
        "/packages/70/8e/0e2d/requests-2.31.0-py3-none-any.whl.metadata",
        "/packages/9d/be/1018/requests-2.31.0.tar.gz", "/packages/source/r/requests/requests-2.31.0.zip",
        "/team/index/+f/70e/0e2d847013/requests-2.31.0-py3-none-any.whl",
    ]),
    ("pip", Revalidate, &["/simple/requests/", "/simple/requests", "/simple/", "/team/index/simple/requests/", "/pypi/requests/json", "/pypi/requests/2.31.0/json"]),
    ("pip", Neither, &["/", "/project/requests/", "/search/", "/simple/requests/x/"]),
    ("npm", Immutable, &["/lodash/-/lodash-4.17.21.tgz", "/@types/node/-/node-20.0.0.tgz", "/@a/b/-/b-1.0.0-rc.1.tgz"]),
    ("npm", Revalidate, &["/lodash", "/JSONStream", "/@types/node", "/lodash/4.17.21", "/lodash/latest", "/@types/node/20.0.0", "/-/package/lodash/dist-tags", "/-/npm/v1/keys"]),
    ("npm", Neither, &["/", "/-/whoami", "/-/v1/search", "/-/user/org.couchdb.user:x", "/-/npm/v1/security/advisories/bulk", "/lodash/", "/a/b/c", "/-/ping", "/.well-known"]),
    ("cargo", Immutable, &["/crates/serde/serde-1.0.200.crate", "/api/v1/crates/serde/1.0.200/download"]),
    ("cargo", Revalidate, &["/config.json", "/index/config.json", "/1/a", "/2/cc", "/3/l/log", "/se/rd/serde", "/index/se/rd/serde_json", "/to/ki/tokio-util"]),
    ("cargo", Neither, &["/api/v1/crates", "/api/v1/crates/serde", "/se/rd/", "/api/v1/crates/serde/owners", "/me"]),
    ("go", Immutable, &[
        "/github.com/!burnt!sushi/toml/@v/v1.3.2.zip", "/golang.org/x/text/@v/v0.14.0.mod", "/golang.org/x/text/@v/v0.0.0-20170915032832-14c0d48ead0c.info",
        "/a/@v/v2.0.0+incompatible.info", "/sumdb/sum.golang.org/tile/8/0/x001/234", "/sumdb/sum.golang.org/tile/8/1/005.p/57",
        "/sumdb/sum.golang.org/lookup/golang.org/x/text@v0.14.0",
    ]),
    ("go", Revalidate, &["/golang.org/x/text/@v/list", "/golang.org/x/text/@latest", "/a/@v/master.info", "/a/@v/v1.info", "/a/@v/v1.2.info", "/a/@v/vnext.info", "/sumdb/sum.golang.org/latest", "/sumdb/sum.golang.org/supported"]),
    ("go", Neither, &["/golang.org/x/text", "/golang.org/x/text/@v/", "/x/@v/list/y"]),
    ("maven", Immutable, &[
        "/maven2/org/slf4j/slf4j-api/2.0.9/slf4j-api-2.0.9.jar", "/maven2/org/slf4j/slf4j-api/2.0.9/slf4j-api-2.0.9.pom.sha1",
        "/maven2/org/x/y/1.0.Final/y-1.0.Final-sources.jar", "/m/a/b/1.0/b-1.0.jar.asc.md5", "/m/a/b/1.0/b-1.0.module",
        "/m/a/b/1.0/b-1.0.war", "/m/a/b/1.0/b-1.0.aar.sha512", "/m/a/b/1.0/b-1.0.jar.sigstore.json", "/m/a/b/1.0/b-1.0.rar.asc",
        "/maven2/com/google/protobuf/protoc/3.25.1/protoc-3.25.1-linux-x86_64.exe", "/maven2/com/google/protobuf/protoc/3.25.1/protoc-3.25.1-linux-x86_64.exe.asc.sha1",
        "/maven2/com/almworks/sqlite4java/libsqlite4java-linux-amd64/1.0.392/libsqlite4java-linux-amd64-1.0.392.so",
        "/maven2/com/almworks/sqlite4java/sqlite4java-win32-x64/1.0.392/sqlite4java-win32-x64-1.0.392.dll",
        "/maven2/org/apache/maven/apache-maven/3.9.6/apache-maven-3.9.6-bin.tar.gz.sha512", "/maven2/org/x/dist/2.0.0.RC1/dist-2.0.0.RC1-src.zip",
        "/m/g/b/1.0/b-1.0.toml", "/m/g/b/1.0/b-1.0.nar", "/m/g/b/1.0/b-1.0.tar", "/m/g/b/1.0/b-1.0-x.yaml.asc", "/m/g/b/1.0/b-1.0.html",
        "/m/g/b/v1.0/b-v1.0.zip", "/m/com/github/u/repo/abcdef1234/repo-abcdef1234.zip", "/m/g/b/1.0/b-1.0.rpm.sha256", "/m/g/b/1.0/b-1.0.wasm",
        "/maven2/org/x/y/1.0/y-1.0-cyclonedx.xml", "/maven2/org/x/y/1.0/y-1.0-cyclonedx.json.asc",
    ]),
    ("maven", Revalidate, &[
        "/maven2/org/slf4j/slf4j-api/maven-metadata.xml", "/maven2/org/slf4j/slf4j-api/maven-metadata.xml.sha1",
        "/snapshots/org/x/y/1.0-SNAPSHOT/y-1.0-SNAPSHOT.jar", "/snapshots/org/x/y/1.0-SNAPSHOT/y-1.0-20240101.120000-1.pom",
        "/m/g/b/1.0-snapshot/b-1.0-snapshot.jar", "/m/g/b/1.0-Snapshot/b-1.0-20240101.120000-1.toml",
        "/maven2/g/b/1.0/maven-metadata.xml", "/maven2/g/b/1.0/maven-metadata.xml.sha256",
        "/snapshots/org/x/y/1.0-SNAPSHOT/maven-metadata.xml", "/maven2/archetype-catalog.xml",
        "/snapshots/org/x/y/1.0-SNAPSHOT/y-1.0-20240101.120000-1-bin.tar.gz.md5", "/snapshots/org/x/y/1.0-SNAPSHOT/y-1.0-SNAPSHOT.zip",
        "/snapshots/org/x/y/1.0-SNAPSHOT/y-1.0-SNAPSHOT.war", "/maven2/org/slf4j/slf4j-api/maven-metadata.xml.asc.sha512",
    ]),
    ("maven", Neither, &["/maven2/org/", "/m/g/b/1.0/maven-metadata-local.xml", "/m/g/b/1.0/index.html", "/m/g/b/1.0/README.txt", "/maven2/index.html", "/maven2/org/x/1.0/x.xml", "/maven2/org/x/y-1.zip", "/maven2/org/slf4j/slf4j-api/2.0.9/"]),
    ("rubygems", Immutable, &["/gems/rails-7.1.2.gem", "/quick/Marshal.4.8/rails-7.1.2.gemspec.rz"]),
    ("rubygems", Revalidate, &["/versions", "/names", "/info/rails", "/specs.4.8.gz", "/latest_specs.4.8.gz", "/prerelease_specs.4.8.gz"]),
    ("rubygems", Neither, &["/api/v1/dependencies", "/info/", "/gems/", "/specs.4.8.gz.x"]),
    ("conda", Immutable, &[
        "/conda-forge/linux-64/numpy-1.26.4-py312heda63a1_0.conda", "/pkgs/main/noarch/tzdata-2024a-h04d1e81_0.tar.bz2",
        "/conda-forge/linux-64/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.msgpack.zst",
    ]),
    ("conda", Revalidate, &["/conda-forge/linux-64/repodata.json", "/conda-forge/linux-64/repodata.json.zst", "/conda-forge/noarch/current_repodata.json", "/conda-forge/channeldata.json", "/c/noarch/repodata_shards.msgpack.zst", "/conda-forge/linux-64/repodata.jlap", "/conda-forge/linux-64/current_repodata.jlap", "/conda-forge/linux-64/current_repodata.json.zst"]),
    ("conda", Neither, &["/conda-forge/", "/conda-forge/linux-64/index.html"]),
    ("hackage", Immutable, &["/package/aeson-2.2.1.0/aeson-2.2.1.0.tar.gz"]),
    ("hackage", Revalidate, &["/01-index.tar.gz", "/00-index.tar.gz", "/timestamp.json", "/snapshot.json", "/root.json", "/mirrors.json", "/package/aeson-2.2.1.0/aeson.cabal", "/package/aeson/preferred"]),
    ("hackage", Neither, &["/package/aeson", "/package/aeson-2.2.1.0/docs/x.html", "/packages/"]),
    ("cran", Immutable, &["/src/contrib/ggplot2_3.4.4.tar.gz", "/src/contrib/Archive/ggplot2/ggplot2_3.4.0.tar.gz", "/bin/windows/contrib/4.3/ggplot2_3.4.4.zip", "/bin/macosx/big-sur-arm64/contrib/4.3/ggplot2_3.4.4.tgz"]),
    ("cran", Revalidate, &["/src/contrib/PACKAGES", "/src/contrib/PACKAGES.gz", "/src/contrib/PACKAGES.rds", "/src/contrib/Meta/archive.rds"]),
    ("cran", Neither, &["/web/packages/ggplot2/index.html", "/src/contrib/"]),
    ("cpan", Immutable, &["/authors/id/E/ET/ETHER/Moose-2.2206.tar.gz", "/authors/id/E/ET/ETHER/Moose-2.2206.meta"]),
    ("cpan", Revalidate, &["/modules/02packages.details.txt.gz", "/modules/03modlist.data.gz", "/authors/01mailrc.txt.gz", "/authors/id/E/ET/ETHER/CHECKSUMS"]),
    ("cpan", Neither, &["/authors/id/E/ET/ETHER/", "/index.html"]),
];

fn chosen(names: &str) -> Vec<&'static Preset> {
    parse(names).unwrap()
}

#[test]
fn every_path_has_its_class_and_only_that() {
    for &(name, class, paths) in PATHS {
        let preset = find(name).unwrap();
        let of = |alternatives: &[&str]| Pattern::new(&alternatives.join("|")).unwrap();
        let (immutable, revalidate) = (of(preset.immutable), of(preset.revalidate));
        for path in paths {
            let found = (immutable.matches(path), revalidate.matches(path));
            assert_eq!(found, (class == Immutable, class == Revalidate), "{name} {path}");
        }
    }
}

#[test]
fn every_alternative_is_needed_by_some_path() {
    for preset in PRESETS {
        for alternative in preset.immutable.iter().chain(preset.revalidate) {
            let pattern = Pattern::new(alternative).unwrap();
            assert_eq!(pattern.engine(), "regex", "{} {alternative}", preset.name);
            let mut paths = PATHS.iter().filter(|(name, ..)| *name == preset.name).flat_map(|row| row.2);
            assert!(
                paths.any(|path| pattern.matches(path)),
                "{} {alternative}: no path tests it",
                preset.name
            );
            // References by number in the operator's own pattern keep their meaning.
            assert_eq!(alternative.matches('(').count(), alternative.matches("(?:").count(), "{alternative}");
        }
    }
}

#[test]
fn members_and_anchors_of_sets_and_indexes_of_packages_are_of_a_class() {
    for preset in PRESETS {
        let rules = Rules::new(&[preset]).unwrap();
        for &(name, class, paths) in PATHS.iter().filter(|(name, ..)| *name == preset.name) {
            for path in paths {
                if rules.place(path).is_some() {
                    assert_eq!(class, Revalidate, "{name} {path} is in a set");
                }
                if rules.package_index(path).is_some() {
                    assert_ne!(class, Neither, "{name} {path} lists packages");
                }
            }
        }
    }
}

#[test]
fn what_looks_like_a_document_of_one_preset_stays_the_file_of_another() {
    let rules = Rules::new(&chosen("pkgsrc,apt,pip,npm")).unwrap();
    for (path, immutable) in [
        ("/All/pkg_summary.gz", false),
        ("/pkg_summary.gz", false),
        ("/InRelease", false),
        ("/Packages.gz", false),
        ("/watch-1.tgz", true),
        ("/a_1.deb", true),
    ] {
        assert!(!rules.is_document(path), "{path}");
        assert_eq!(rules.is_file_of_another(path), immutable, "{path}");
    }
    for document in ["/lodash", "/@types/node", "/socket.io"] {
        assert!(rules.is_document(document) && !rules.is_file_of_another(document), "{document}");
    }
}

#[test]
fn what_is_the_directory_of_other_files_too_is_no_file() {
    let rules = Rules::new(&chosen("npm,apt")).unwrap();
    for document in ["/lodash", "/@types/node", "/lodash/4.17.21", "/@types/node/20.0.0"] {
        assert!(rules.is_document(document), "{document}");
    }
    for file in
        ["/lodash/-/lodash-4.17.21.tgz", "/@types/node/-/node-20.0.0.tgz", "/debian/dists/sid/InRelease"]
    {
        assert!(!rules.is_document(file), "{file}");
    }
}

#[test]
fn names_are_told_apart_and_all_have_paths() {
    let mut names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
    for name in &names {
        assert!(PATHS.iter().any(|(known, ..)| known == name), "{name} is not tested");
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PRESETS.len());
}

#[test]
fn lists_of_names() {
    let names =
        |list: &str| parse(list).map(|found| found.iter().map(|preset| preset.name).collect::<Vec<_>>());
    assert_eq!(names("apt"), Ok(vec!["apt"]));
    assert_eq!(names(" pkgsrc, apt,,npm "), Ok(vec!["pkgsrc", "apt", "npm"]));
    assert_eq!(names(""), Ok(vec![]));
    assert!(names("apt,yum").unwrap_err().starts_with("expected names out of pkgsrc, apt, rpm,"));
    assert!(names("APT").is_err());
}

#[test]
fn patterns_are_joined_with_the_operators_first() {
    assert_eq!(any_of(["", "a|b"]), "a|b");
    assert_eq!(any_of([]), "");
    let joined = any_of([r"(x)\1", r"\.deb$"]);
    assert_eq!(joined, r"(?:(x)\1)|(?:\.deb$)");
    let pattern = Pattern::new(&joined).unwrap();
    assert!(pattern.matches("/axx") && pattern.matches("/a.deb") && !pattern.matches("/ax"));
}

#[test]
fn members_of_one_set_are_found_whatever_directory_they_are_in() {
    let rules = Rules::new(&chosen("apt,pkgsrc,rpm")).unwrap();
    let place = |path| rules.place(path).map(|place: Place<'_>| (place.rule, place.root, place.is_anchor));
    let cases = [
        ("/debian/dists/bookworm/InRelease", Some((0, "/debian/dists/bookworm", true))),
        ("/debian/dists/bookworm/Release.gpg", Some((0, "/debian/dists/bookworm", true))),
        ("/debian/dists/bookworm/main/binary-amd64/Packages.xz", Some((0, "/debian/dists/bookworm", false))),
        ("/debian/dists/sid/main/binary-amd64/Packages.diff/Index", Some((0, "/debian/dists/sid", false))),
        ("/s/dists/buster/updates/InRelease", Some((0, "/s/dists/buster", false))),
        ("/debian/dists/bookworm/main/binary-amd64/Release", Some((0, "/debian/dists/bookworm", false))),
        ("/a/dists/b/dists/c/main/Contents-all", Some((0, "/a/dists/b/dists/c", false))),
        ("/flat/InRelease", Some((0, "/flat", true))),
        ("/flat/Packages.gz", Some((0, "/flat", false))),
        ("/Packages.gz", Some((0, "", false))),
        ("/dists/InRelease", Some((0, "/dists", true))),
        ("/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/00", None),
        ("/2014Q4/x86_64/All/pkg_summary.gz", Some((1, "/2014Q4/x86_64/All", false))),
        ("/2014Q4/x86_64/All/pkg_summary.xz", Some((1, "/2014Q4/x86_64/All", false))),
        ("/repo/repodata/repomd.xml", Some((2, "/repo/repodata", true))),
        ("/repo/repodata/primary.xml.gz", Some((2, "/repo/repodata", false))),
        ("/x.tgz", None),
    ];
    for (path, expected) in cases {
        assert_eq!(place(path), expected, "{path}");
    }
}

#[test]
fn names_in_an_index_are_relative_to_the_repository() {
    let rules = Rules::new(&chosen("apt,pkgsrc,openwrt")).unwrap();
    let cases = [
        ("/debian/dists/bookworm/main/binary-amd64/Packages.xz", Some((Form::AptPackages, "debian"))),
        ("/dists/bookworm/main/binary-amd64/by-hash/SHA256/00ff", Some((Form::AptPackages, ""))),
        ("/dists/bookworm/main/i18n/by-hash/SHA256/00ff", None),
        ("/flat/repo/Packages", Some((Form::AptPackages, "flat/repo"))),
        (
            "/releases/23.05.3/packages/x86_64/base/Packages.gz",
            Some((Form::AptPackages, "releases/23.05.3/packages/x86_64/base")),
        ),
        ("/2014Q4/All/pkg_summary.gz", Some((Form::PkgSummary, "2014Q4/All"))),
        ("/pkg_summary.zst", Some((Form::PkgSummary, ""))),
        ("/debian/dists/bookworm/InRelease", None),
    ];
    for (path, expected) in cases {
        assert_eq!(rules.package_index(path), expected, "{path}");
    }
}
