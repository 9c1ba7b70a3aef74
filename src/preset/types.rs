//! Which Content-Types contradict a name: a login page under the name of a package or an index is none, nor is a list
//! of its mirrors. Servers label packages in many ways (text/plain, application/octet-stream, application/gzip
//! under an .apk); only what no package can be counts.

use super::Rules;

/// Types of pages for people, and of errors: nothing that a package manager requests is one, unless its name says
/// so.
const PAGES: [&str; 4] =
    ["text/html", "application/xhtml+xml", "application/problem+json", "application/problem+xml"];
/// How the types of lists of mirrors begin (RFC 5854).
const METALINK: &str = "application/metalink";
/// Types of text that some indexes are, and no archive.
const JSON: [&str; 2] = ["application/json", "text/json"];

/// Packages, archives and images.
const ARCHIVES: [&str; 42] = [
    "deb", "udeb", "ddeb", "rpm", "drpm", "whl", "egg", "tar", "tgz", "tbz", "tbz2", "txz", "tzst", "tlz",
    "zip", "jar", "war", "ear", "aar", "klib", "apk", "ipk", "crate", "gem", "conda", "nupkg", "xbps", "pkg",
    "nar", "cpio", "iso", "img", "msi", "adb", "rar", "nbm", "hpi", "jpi", "kar", "exe", "dll", "so",
];
/// Compressed files: what they are stands before it.
const COMPRESSED: [&str; 10] = ["gz", "bz2", "xz", "zst", "lzma", "lz", "lzip", "lz4", "br", "rz"];
/// Signatures, checksums, and what a nar is described by.
const PROOFS: [&str; 9] = ["sig", "sig2", "asc", "md5", "sha1", "sha224", "sha256", "sha512", "narinfo"];
/// Where nars of Guix are, which have no ending.
const NARS: [&str; 5] = ["nar", "nar/gzip", "nar/lzip", "nar/zstd", "nar/none"];
/// What is a page by its name.
const NAMED_PAGES: [&str; 4] = ["html", "htm", "xhtml", "shtml"];
/// Digits of the shortest checksum that stands for a name.
const SHORTEST_HASH: usize = 32;

/// What a name says about the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    /// An archive: neither a page nor JSON.
    Archive,
    /// No page, whatever else.
    NoPage,
    /// A page.
    Page,
    /// Nothing.
    Nothing,
}

/// Does a 200 with this Content-Type contradict the relative path that was requested? Of names that say nothing,
/// only files of a preset are known to be no pages.
pub fn contradicts(rules: &Rules, path: &str, content_type: &[u8]) -> bool {
    let end = content_type.iter().position(|&byte| byte == b';').unwrap_or(content_type.len());
    let media = String::from_utf8_lossy(content_type[..end].trim_ascii()).to_ascii_lowercase();
    match named(path) {
        Named::Page => false,
        Named::Nothing => is_page(&media) && rules.is_no_page(&format!("/{path}")),
        Named::NoPage => is_page(&media),
        Named::Archive => is_page(&media) || JSON.contains(&media.as_str()),
    }
}

fn is_page(media: &str) -> bool {
    PAGES.contains(&media) || media.starts_with(METALINK)
}

/// Is it a nar, an archive of Nix or Guix?
pub fn is_nar(path: &str) -> bool {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    NARS.iter().any(|nars| directory == *nars || directory.ends_with(&format!("/{nars}")))
}

/// Does it name a nar?
pub fn describes_nar(path: &str) -> bool {
    path.ends_with(".narinfo")
}

fn named(path: &str) -> Named {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let lower = name.to_ascii_lowercase();
    if is_nar(path) {
        return Named::Archive;
    }
    let Some((stem, extension)) = lower.rsplit_once('.') else {
        let is_hash = lower.len() >= SHORTEST_HASH && lower.bytes().all(|byte| byte.is_ascii_hexdigit());
        // The registry of crates has them under this name.
        let is_crate = lower == "download" && directory.contains("crates/");
        return if is_crate {
            Named::Archive
        } else if is_hash {
            Named::NoPage
        } else {
            Named::Nothing
        };
    };
    if ARCHIVES.contains(&extension) {
        return Named::Archive;
    }
    if PROOFS.contains(&extension) {
        return Named::NoPage;
    }
    if NAMED_PAGES.contains(&extension) {
        return Named::Page;
    }
    if !COMPRESSED.contains(&extension) {
        return Named::Nothing;
    }
    // Old servers send the type of the content inside.
    match stem.rsplit_once('.').map_or("", |(_, inner)| inner) {
        inner if NAMED_PAGES.contains(&inner) => Named::Page,
        inner if ARCHIVES.contains(&inner) => Named::Archive,
        _ => Named::NoPage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_no_package_can_have_contradicts_its_name() {
        let page = "text/html";
        for (path, content_type, expected) in [
            ("a/x_1.0_amd64.deb", "text/html", true),
            ("a/x.deb", "Text/HTML; charset=utf-8", true),
            ("a/X.RPM", "application/xhtml+xml", true),
            ("x.rpm", "application/metalink+xml", true),
            ("x.rpm", "application/metalink4+xml; charset=UTF-8", true),
            ("x.whl", "application/problem+json", true),
            ("x.jar", "application/problem+xml", true),
            ("x.tgz", "application/json", true),
            ("x.tar.gz", "application/json", true),
            ("x.pkg.tar.zst", "text/html", true),
            ("nar/x.nar.xz", "text/html", true),
            ("guix/nar/lzip/d2lm5gy0ipz2mhkh8ddsvp8sf3nzf3bc-hello-2.12.1", page, true),
            ("nar/d2lm5gy0ipz2mhkh8ddsvp8sf3nzf3bc-hello", page, true),
            ("xnar/hello", page, false),
            ("p4pclmv1gyja5kzc26npqpia1qqxrf0l.narinfo", page, true),
            ("p4pclmv1gyja5kzc26npqpia1qqxrf0l.narinfo", "text/x-nix-narinfo", false),
            ("base/packages.adb", page, true),
            ("x.pkg.tar.zst.sig", "text/html", true),
            ("x.iso.sha256", "text/html", true),
            ("APKINDEX.tar.gz", "text/html", true),
            ("dists/x/Packages.gz", "text/html", true),
            ("by-hash/MD5Sum/0123456789abcdef0123456789abcdef", "text/html", true),
            ("api/v1/crates/serde/1.0.0/download", "application/json", true),
            ("api/v1/crates/serde/1.0.0/download", page, true),
            // As servers label packages.
            ("x.deb", "text/plain", false),
            ("x.deb", "application/x-debian-package", false),
            ("x.crate", "application/octet-stream", false),
            ("x.apk", "application/gzip", false),
            ("x.pkg.tar.zst", "text/plain; charset=utf-8", false),
            ("x.rpm", "", false),
            ("x.rpm", "htmlx", false),
            ("x.gz", "application/xml", false),
            // What is a page, or JSON, by its name.
            ("simple/foo/index.html", page, false),
            ("x.html.gz", page, false),
            ("repodata.json.gz", "application/json", false),
            ("repodata.json", "application/json", false),
            ("x/download", page, false),
            ("lodash", page, false),
            ("x.pom", page, false),
            ("InRelease", page, false),
            ("0123456789abcdef", page, false),
            ("", page, false),
        ] {
            let rules = Rules::default();
            assert_eq!(contradicts(&rules, path, content_type.as_bytes()), expected, "{path} {content_type}");
        }
    }

    #[test]
    fn a_file_that_a_preset_knows_is_no_page_unless_its_nature_is_that() {
        let rules = Rules::new(&super::super::PRESETS.iter().collect::<Vec<_>>()).unwrap();
        for (path, expected) in [
            ("debian/pool/main/a/a_1.dsc", true),
            ("debian/dists/sid/InRelease", true),
            ("debian/dists/sid/Release.gpg", true),
            ("m/org/x/1.0/x-1.0.pom", true),
            ("m/org/x/1.0/x-1.0.module", true),
            ("x/@v/v1.0.0.mod", true),
            ("x/@v/v1.0.0.info", true),
            ("packages/aa/x-1-py3-none-any.whl.metadata", true),
            ("core/os/x86_64/core.db", true),
            ("repo/repodata/repomd.xml.key", true),
            ("repo/.treeinfo", true),
            ("All/SHA512", true),
            ("current/x86_64-repodata", true),
            ("simple/foo", false),
            ("m/org/x/1.0/x-1.0-report.html", false),
            ("authors/00whois.html", false),
            ("package/aeson/preferred", false),
            ("nobody/knows/this", false),
        ] {
            assert_eq!(contradicts(&rules, path, b"text/html; charset=utf-8"), expected, "{path}");
            assert!(!contradicts(&rules, path, b"text/plain"), "{path}");
        }
        assert!(!contradicts(&rules, "pypi/requests/json", b"application/json"));
    }
}
