//! From the path of a request to the name of a file.
//!
//! Two steps, each with the meaning the cache directories of the first version rely on: percent-decoding as
//! `decodeURIComponent` does it, then normalisation as POSIX paths have it. The outcome can only name something
//! inside the cache directory.

use std::fmt;

/// The ending of a file that is still being fetched.
pub const IN_PROGRESS: &str = ".in-progress";

/// The directory at the top of the cache that is no part of the served tree.
pub const RESERVED: &str = ".fs-caching-server";

/// The longest file name common file systems take, in bytes.
const NAME_BYTES: usize = 255;

/// The longest relative path the system calls take, in bytes (`PATH_MAX` less its NUL).
const PATH_BYTES: usize = 4095;

/// A path proven to stay inside the cache directory: relative, no `.`, `..`, empty or NUL component.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key(String);

/// A request's path after decoding.
#[derive(Clone, Debug)]
pub struct UrlPath {
    /// Decoded and normalised, always beginning with `/`: what the pattern sees.
    pub normalized: String,
    /// The file it names. `None` for the root, for a path that ends in `/`, and for names no file system takes.
    pub key: Option<Key>,
}

/// Why a path cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPath {
    /// A `%` without two hexadecimal digits, or bytes that are not UTF-8.
    Encoding,
    /// A NUL byte, which no file name can hold.
    Nul,
}

impl BadPath {
    /// The reason in the words of the debug log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encoding => "URI malformed",
            Self::Nul => "NUL in path",
        }
    }
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for BadPath {}

/// Decodes the path of a request target (without its query).
pub fn decode(path: &[u8]) -> Result<UrlPath, BadPath> {
    let bytes = percent_decode(path).ok_or(BadPath::Encoding)?;
    let decoded = String::from_utf8(bytes).map_err(|_| BadPath::Encoding)?;
    if decoded.contains('\0') {
        return Err(BadPath::Nul);
    }
    let normalized = normalize(&decoded);
    let key = Key::new(&normalized);
    Ok(UrlPath { normalized, key })
}

/// Replaces each `%XX` by its byte; `None` where a `%` lacks its two digits.
pub(crate) fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let (digits, tail) = tail.split_first_chunk::<2>()?;
            out.push(hex(digits[0])? << 4 | hex(digits[1])?);
            rest = tail;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    Some(out)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Resolves `.`, `..` and `//`. `..` stops at the root; a slash at the end stays.
fn normalize(path: &str) -> String {
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

impl Key {
    /// Takes a normalised path, so that only the ending and the lengths are left to check.
    fn new(normalized: &str) -> Option<Self> {
        let path = normalized.strip_prefix('/')?;
        let fits = |name: &str, room: usize| !name.is_empty() && name.len() <= room;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let named = fits(name, NAME_BYTES - IN_PROGRESS.len())
            && (parent.is_empty() || parent.split('/').all(|directory| fits(directory, NAME_BYTES)))
            && path.len() + IN_PROGRESS.len() <= PATH_BYTES;
        named.then(|| Self(path.to_owned()))
    }

    /// That of a file found at this path relative to the cache directory.
    pub fn of_file(path: &str) -> Option<Self> {
        Self::new(&format!("/{path}"))
    }

    /// The file that `name`, as it is on the disk, means in the directory `base` ("" is the top). `None` for one that
    /// lies elsewhere, and for the name of a file in progress.
    pub fn beneath(base: &str, name: &str) -> Option<Self> {
        let mut path = format!("/{base}").trim_end_matches('/').to_owned();
        for component in name.split('/').filter(|component| *component != ".") {
            if matches!(component, "" | "..") || component.contains('\0') {
                return None;
            }
            path.push('/');
            path.push_str(component);
        }
        let key = Self::new(&path)?;
        (key.as_str().len() > base.len() && !key.is_in_progress_name()).then_some(key)
    }

    /// Stands for a path with a query, or for one that no file can have the name of: never equal to
    /// the key of a file.
    pub fn resource(normalized: &str, query: Option<&[u8]>) -> Self {
        let mut text = normalized.to_owned();
        if let Some(query) = query {
            text.push('?');
            for &byte in query {
                if byte.is_ascii() {
                    text.push(char::from(byte));
                } else {
                    text.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        Self(text)
    }

    /// Is it that of a file?
    pub fn names_a_file(&self) -> bool {
        !self.0.starts_with('/')
    }

    /// Does it lie in the directory that is no part of the served tree?
    pub fn is_reserved(&self) -> bool {
        self.components().next() == Some(RESERVED)
    }

    /// The path relative to the cache directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directories in order, then the file name.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// Everything before the last component; empty at the top.
    pub fn parent(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(parent, _)| parent)
    }

    /// The file name while the file is being fetched.
    pub fn in_progress(&self) -> String {
        format!("{}{IN_PROGRESS}", self.file_name())
    }

    /// Whether any component could be mistaken for a file that is being fetched.
    pub fn is_in_progress_name(&self) -> bool {
        self.components().any(|name| name.ends_with(IN_PROGRESS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_in_an_index_stay_beneath_its_directory() {
        let key = |base: &str, name: &str| Key::beneath(base, name).map(|key| key.0);
        let some = |path: &str| Some(path.to_owned());
        assert_eq!(key("All", "a-1.tgz"), some("All/a-1.tgz"));
        assert_eq!(key("", "pool/a%3a.deb"), some("pool/a%3a.deb"));
        assert_eq!(key("deb", "./x/./b.deb"), some("deb/x/b.deb"));
        for bad in [
            "",
            ".",
            "/",
            "/etc/passwd",
            "../a",
            "a/../../b",
            "a//b",
            "a/",
            "a\0b",
            "x.in-progress",
            "x.in-progress/a",
        ] {
            assert_eq!(key("All", bad), None, "{bad:?}");
            assert_eq!(key("", bad), None, "{bad:?}");
        }
    }

    fn normalized(path: &str) -> Result<String, BadPath> {
        decode(path.as_bytes()).map(|path| path.normalized)
    }

    /// The answers of `path.posix.normalize(decodeURIComponent(x))` in Node 20; none where that throws.
    const NODE: &[(&str, Option<&str>)] = &[
        ("/", Some("/")),
        ("/a", Some("/a")),
        ("/a/", Some("/a/")),
        ("//a", Some("/a")),
        ("/a//b", Some("/a/b")),
        ("/a/./b", Some("/a/b")),
        ("/a/../b", Some("/b")),
        ("/../a", Some("/a")),
        ("/../../a", Some("/a")),
        ("/a/..", Some("/")),
        ("/a/../", Some("/")),
        ("/a/.", Some("/a")),
        ("/a/./", Some("/a/")),
        ("/.", Some("/")),
        ("/..", Some("/")),
        ("/...", Some("/...")),
        ("/a/...", Some("/a/...")),
        ("/.a", Some("/.a")),
        ("/a.", Some("/a.")),
        ("/..a/b", Some("/..a/b")),
        ("/a..", Some("/a..")),
        ("/a%2fb", Some("/a/b")),
        ("/a%2Fb", Some("/a/b")),
        ("/%2e%2e/a", Some("/a")),
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
        ("/a/b/../../../../d/", Some("/d/")),
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
        ("//..//", Some("/")),
    ];

    #[test]
    fn decoded_and_normalised_as_before() {
        for &(path, expected) in NODE {
            assert_eq!(normalized(path), expected.map(str::to_owned).ok_or(BadPath::Encoding), "{path}");
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
        for none in ["/", "", "/a/", "/..", "/a/..", "/a/./"] {
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
                if let Some(key) = url.key {
                    prop_assert!(key.components().all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0')));
                    prop_assert_eq!(format!("/{}", key.as_str()), url.normalized.clone());
                    prop_assert_eq!(decode(url.normalized.replace('%', "%25").as_bytes()).unwrap().normalized, url.normalized);
                }
            }
        }
    }
}
