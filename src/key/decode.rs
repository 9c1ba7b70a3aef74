//! From the path of a request to a key, and to the form in which it is requested from the origin.
//!
//! Two steps, each with the meaning the cache directories of the first version rely on: percent-decoding as
//! `decodeURIComponent` does it, then normalisation as POSIX paths have it. The outcome can only name something
//! inside the cache directory.
//!
//! A file has one name, and is requested from the origin in one form: as a client sent it, but without dot
//! segments, empty segments and encoded slashes. What is not a file is requested as received, but dot segments are
//! resolved, since an origin may resolve them in another way.

use std::borrow::Cow;

use memchr::{memchr, memmem};

use super::Key;
use crate::http::percent::percent_decode;

/// The path of a request after decoding.
#[derive(Clone, Debug)]
pub struct UrlPath {
    /// Decoded and normalised, always beginning with `/`: what the pattern sees.
    pub normalized: String,
    /// The file it names. `None` for the root, for a path that ends in `/`, and for names that no file system
    /// accepts.
    pub key: Option<Key>,
}

labelled! {
    /// Why a path cannot be used.
    pub enum BadPath {
        /// A `%` without two hexadecimal digits, or bytes that are not UTF-8.
        Encoding => "URI malformed",
        /// A NUL byte, which no file name can hold.
        Nul => "NUL in path",
        /// It leads above the root, or would at some origins.
        Climbs => "path climbs above the root",
    }
}

impl std::error::Error for BadPath {}

/// Decodes the path of a request target (without its query).
pub fn decode(path: &[u8]) -> Result<UrlPath, BadPath> {
    let bytes = percent_decode(path).ok_or(BadPath::Encoding)?;
    let decoded = String::from_utf8(bytes).map_err(|_| BadPath::Encoding)?;
    if memchr(0, decoded.as_bytes()).is_some() {
        return Err(BadPath::Nul);
    }
    if climbs(decoded.as_bytes()) {
        return Err(BadPath::Climbs);
    }
    let normalized = normalize(decoded);
    let key = Key::new(&normalized);
    Ok(UrlPath { normalized, key })
}

/// Does a decoded path lead above the root, for this program or for an origin that reads it in another way?
///
/// Some origins take a backslash for a slash, and others drop the part of a segment after a semicolon, so that
/// `..;x` is `..`. For each segment the reading that leads further up counts.
fn climbs(decoded: &[u8]) -> bool {
    let step = |name: &[u8]| match &name[..memchr(b';', name).unwrap_or(name.len())] {
        b"" | b"." => 0,
        b".." => -1,
        _ => 1,
    };
    // Most paths have no two dots in a row.
    if memmem::find(decoded, b"..").is_none() {
        return false;
    }
    let mut depth = 0_i64;
    for segment in decoded.split(|&byte| byte == b'/') {
        let whole = depth + step(segment);
        for part in segment.split(|&byte| byte == b'\\') {
            depth += step(part);
            if depth < 0 {
                return true;
            }
        }
        depth = depth.min(whole);
        if depth < 0 {
            return true;
        }
    }
    false
}

/// Resolves `.`, `..` and `//`; a slash at the end stays.
fn normalize(path: String) -> String {
    let is_plain =
        |path: &[u8]| path.first() == Some(&b'/') && !path.windows(2).any(|two| matches!(two, b"//" | b"/."));
    if is_plain(path.as_bytes()) {
        return path;
    }
    let mut kept: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            name => kept.push(name),
        }
    }
    let mut out = String::with_capacity(path.len() + 1);
    for name in &kept {
        out.push('/');
        out.push_str(name);
    }
    if kept.is_empty() || path.ends_with('/') {
        out.push('/');
    }
    out
}

/// The forms in which a path is requested from the origin. Every segment keeps its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forms<'a> {
    /// As the client sent it, but for dot segments: for what has no file here.
    pub own: Cow<'a, [u8]>,
    /// The one form of all paths that name the same file.
    pub file: Cow<'a, [u8]>,
}

impl Forms<'_> {
    /// The forms of a path that [`decode`] accepts. Any other path stays as it is.
    pub fn of(path: &[u8]) -> Forms<'_> {
        let as_sent = Cow::Borrowed(path);
        if is_plain(path) {
            return Forms { own: as_sent.clone(), file: as_sent };
        }
        let (mut kept, mut has_dots) = (Vec::new(), false);
        for segment in segments(path) {
            match percent_decode(segment).as_deref() {
                Some(b"") => {}
                Some(b".") => has_dots = true,
                Some(b"..") => {
                    has_dots = true;
                    kept.pop();
                }
                Some(_) | None => kept.push(segment),
            }
        }
        let ends = segments(path).last().is_some_and(<[u8]>::is_empty);
        let mut file = kept.iter().flat_map(|segment| [b"/", *segment].concat()).collect::<Vec<u8>>();
        if kept.is_empty() || ends {
            file.push(b'/');
        }
        let own = if has_dots { Cow::Owned(file.clone()) } else { as_sent };
        Forms { own, file: Cow::Owned(file) }
    }

    /// Is the form of the file another resource for an origin that distinguishes `//` or an encoded slash?
    pub fn differ(&self) -> bool {
        self.own != self.file
    }
}

/// Is there neither an encoded byte nor an empty segment nor one that begins with a dot?
fn is_plain(path: &[u8]) -> bool {
    !path.contains(&b'%') && !path.windows(2).any(|two| matches!(two, b"//" | b"/."))
}

/// What stands between slashes, encoded ones included.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let text = rest?;
        let is_slash = |at: &usize| {
            text[*at] == b'/' || text.get(*at..at + 3).is_some_and(|three| three.eq_ignore_ascii_case(b"%2f"))
        };
        let Some(at) = (0..text.len()).find(is_slash) else { return rest.take() };
        rest = text.get(at + if text[at] == b'/' { 1 } else { 3 }..);
        text.get(..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normalized(path: &str) -> Result<String, BadPath> {
        decode(path.as_bytes()).map(|path| path.normalized)
    }

    /// The answers of `path.posix.normalize(decodeURIComponent(x))` in Node 20; none where that throws. What climbs
    /// above the root is not among them.
    const NODE: &[(&str, Option<&str>)] = &[
        ("/", Some("/")),
        ("/a", Some("/a")),
        ("/a/", Some("/a/")),
        ("//a", Some("/a")),
        ("/a//b", Some("/a/b")),
        ("/a/./b", Some("/a/b")),
        ("/a/../b", Some("/b")),
        ("/a/..", Some("/")),
        ("/a/../", Some("/")),
        ("/a/.", Some("/a")),
        ("/a/./", Some("/a/")),
        ("/.", Some("/")),
        ("/...", Some("/...")),
        ("/a/...", Some("/a/...")),
        ("/.a", Some("/.a")),
        ("/a.", Some("/a.")),
        ("/..a/b", Some("/..a/b")),
        ("/a..", Some("/a..")),
        ("/a%2fb", Some("/a/b")),
        ("/a%2Fb", Some("/a/b")),
        ("/a/%2e%2E/b", Some("/b")),
        ("/%2e", Some("/")),
        ("/a%20b", Some("/a b")),
        ("/a+b", Some("/a+b")),
        ("/%41%62", Some("/Ab")),
        ("/a\\..\\b", Some("/a\\..\\b")),
        ("/a%5c..%5cb", Some("/a\\..\\b")),
        ("/a%5C", Some("/a\\")),
        ("/%C3%A9", Some("/é")),
        ("/%e2%82%ac", Some("/€")),
        ("/%f0%9f%98%80", Some("/😀")),
        ("/%ED%A0%80", None),
        ("/%C0%AF", None),
        ("/%C3", None),
        ("/%FF", None),
        ("/%", None),
        ("/%4", None),
        ("/%4g", None),
        ("/%zz", None),
        ("/100%", None),
        ("/%25", Some("/%")),
        ("/%252e%252e/a", Some("/%2e%2e/a")),
        ("/a%2f", Some("/a/")),
        ("/a%2F..", Some("/")),
        ("/a%2f%2fb", Some("/a/b")),
        ("/a/b/c/../../d", Some("/a/d")),
        ("/./././a", Some("/a")),
        ("/a/..b", Some("/a/..b")),
        ("/a/b..", Some("/a/b..")),
        ("/a//", Some("/a/")),
        ("/a///..//b", Some("/b")),
        ("/a/.../b", Some("/a/.../b")),
        ("/%0a", Some("/\n")),
        ("/%7F", Some("/\x7f")),
        ("/a;b", Some("/a;b")),
        ("/a:b", Some("/a:b")),
        ("/~a", Some("/~a")),
        ("/%F4%90%80%80", None),
        ("/%u0041", None),
        ("/a%2e", Some("/a.")),
        ("/a/%2e%2e%2fb", Some("/b")),
        ("//", Some("/")),
        ("///", Some("/")),
    ];

    #[test]
    fn decoded_and_normalised_as_before() {
        for &(path, expected) in NODE {
            assert_eq!(normalized(path), expected.map(str::to_owned).ok_or(BadPath::Encoding), "{path}");
        }
    }

    #[test]
    fn what_climbs_above_the_root_at_any_origin_is_no_path() {
        for path in [
            "/..",
            "/../a",
            "/%2e%2e/a",
            "/.%2E",
            "/..%2fa",
            "/%2e%2e%2Fa",
            "//..//",
            "/a/../../b",
            "/a//../../b",
            "/a%2f..%2f..%2fb",
            "/./../a",
            "/a/b/../../../../d/",
            "/..;x/a",
            "/..;/a",
            "/%2e%2e%3bx/a",
            "/.;x/..;y/a",
            "/;x/../a",
            "/..\\a",
            "/..%5Ca",
            "/a/..\\..\\b",
            "/a\\..\\..\\b",
            "/a\\b/../..",
            "/a/x\\..\\..\\..;\\b",
        ] {
            assert_eq!(normalized(path), Err(BadPath::Climbs), "{path}");
        }
        for path in [
            "/a/..",
            "/a/..;x",
            "/a/..\\b",
            "/a\\..\\b",
            "/a\\b/..",
            "/a;../b",
            "/...;x",
            "/..a/..",
            "/a;x/..",
        ] {
            assert!(normalized(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn the_origin_is_asked_for_a_file_in_one_form_and_for_the_rest_without_dot_segments() {
        for (path, own, file) in [
            ("/", "/", "/"),
            ("/a%20b/c", "/a%20b/c", "/a%20b/c"),
            ("/%41+%2B;x=%2e", "/%41+%2B;x=%2e", "/%41+%2B;x=%2e"),
            ("/.hidden/...", "/.hidden/...", "/.hidden/..."),
            ("/a/../b", "/b", "/b"),
            ("/a/./%2e/b%2e", "/a/b%2e", "/a/b%2e"),
            ("/a/.%2E/b", "/b", "/b"),
            ("/a%2f..%2Fb%20", "/b%20", "/b%20"),
            ("/a/..", "/", "/"),
            ("/a/.", "/a", "/a"),
            ("/a/b/../", "/a/", "/a/"),
            ("//a///b", "//a///b", "/a/b"),
            ("/@s%2fn", "/@s%2fn", "/@s/n"),
            ("/a%2F", "/a%2F", "/a/"),
            ("//", "//", "/"),
            ("/a//./b", "/a/b", "/a/b"),
            ("/%", "/%", "/%"),
        ] {
            let forms = Forms::of(path.as_bytes());
            let text = |form: &[u8]| String::from_utf8(form.to_vec()).unwrap();
            assert_eq!((text(&forms.own), text(&forms.file)), (own.to_owned(), file.to_owned()), "{path}");
            assert_eq!(forms.differ(), own != file, "{path}");
        }
    }

    #[test]
    fn names() {
        let key = |path: &str| decode(path.as_bytes()).ok().and_then(|path| path.key);
        let deep = key("/a/b%20c/d.tgz").unwrap();
        assert_eq!(deep.as_str(), "a/b c/d.tgz");
        assert_eq!(deep.components().collect::<Vec<_>>(), ["a", "b c", "d.tgz"]);
        assert_eq!((deep.parent(), deep.file_name()), ("a/b c", "d.tgz"));
        assert_eq!(deep.in_progress(), "d.tgz.in-progress");
        let top = key("//x.tgz").unwrap();
        assert_eq!((top.parent(), top.file_name()), ("", "x.tgz"));
        assert!(!top.is_in_progress_name());
        assert!(key("/a/x.in-progress").unwrap().is_in_progress_name());
        assert!(key("/a.in-progress/x").unwrap().is_in_progress_name());
        for none in ["/", "", "/a/", "/a/..", "/a/./"] {
            assert_eq!(key(none), None, "{none}");
        }
    }

    #[test]
    fn lengths() {
        let key = |path: &str| decode(path.as_bytes()).unwrap().key;
        assert!(key(&format!("/{}", "x".repeat(243))).is_some());
        assert!(key(&format!("/{}", "x".repeat(244))).is_none());
        assert!(key(&format!("/{}/x", "d".repeat(255))).is_some());
        assert!(key(&format!("/{}/x", "d".repeat(256))).is_none());
        assert!(key(&format!("/{}x", "dddd/".repeat(800))).is_some());
        assert!(key(&format!("/{}x", "dddd/".repeat(820))).is_none());
    }

    #[test]
    fn raw_bytes() {
        assert_eq!(decode(b"/\xc3\xa9").unwrap().normalized, "/\u{e9}");
        assert_eq!(decode(b"/\xe9").unwrap_err(), BadPath::Encoding);
        assert_eq!(decode(b"/x%00.tgz").unwrap_err(), BadPath::Nul);
        assert_eq!(decode(b"/x\0.tgz").unwrap_err(), BadPath::Nul);
        assert_eq!(BadPath::Encoding.to_string(), "URI malformed");
        assert_eq!(BadPath::Nul.to_string(), "NUL in path");
    }

    proptest! {
        #[test]
        fn a_key_stays_inside(path in proptest::collection::vec(prop_oneof![
            Just(b'/'), Just(b'.'), Just(b'%'), Just(b'2'), Just(b'e'), Just(b'F'), any::<u8>()
        ], 0..60)) {
            if let Ok(url) = decode(&path) {
                prop_assert!(url.normalized.starts_with('/'));
                let path = [b"/", &*path].concat();
                if let Ok(rooted) = decode(&path) {
                    let forms = Forms::of(&path);
                    for form in [&forms.own, &forms.file] {
                        prop_assert_eq!(&decode(form).unwrap().normalized, &rooted.normalized);
                        prop_assert_eq!(Forms::of(form).file, forms.file.clone());
                    }
                }
                if let Some(key) = url.key {
                    prop_assert!(key.components().all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0')));
                    prop_assert_eq!(format!("/{}", key.as_str()), url.normalized.clone());
                    prop_assert_eq!(decode(url.normalized.replace('%', "%25").as_bytes()).unwrap().normalized, url.normalized);
                }
            }
        }
    }
}
