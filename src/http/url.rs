//! http and https URLs, and references resolved against them (RFC 3986 section 5): what a Location
//! field means, and how to write one.

use std::fmt;

use super::target::is_authority;
use memchr::memchr;

/// An absolute http or https URL, in its parts. What must be encoded is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    /// Is it https?
    pub https: bool,
    /// Host and port as received, in lower case; an empty port is left out.
    pub authority: String,
    /// Begins with a slash.
    pub path: String,
    /// Behind the question mark, where there is one.
    pub query: Option<String>,
    /// Behind the number sign, where there is one. It is never sent to a server.
    pub fragment: Option<String>,
}

labelled! {
    /// Why a reference cannot be used.
    pub enum BadReference {
        /// Nothing, or a control character in it.
        Malformed => "malformed",
        /// A scheme other than http and https.
        Scheme => "neither http nor https",
        /// No host, one that is none, or a user name before it (RFC 9110 section 4.2.4).
        Authority => "no usable host",
    }
}

/// What stands before the first of these bytes, and what stands behind it.
fn cut<'a>(text: &'a [u8], marks: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    match text.iter().position(|byte| marks.contains(byte)) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

impl Url {
    /// Reads an absolute URL.
    ///
    /// # Errors
    /// See [`BadReference`]; a reference that has no scheme is one of these.
    pub fn parse(text: &[u8]) -> Result<Self, BadReference> {
        Self::read(text, None)
    }

    /// The URL that `reference` means in a response from this one (RFC 3986 section 5.2.2, strict). Bytes that a
    /// URL cannot hold, such as blanks and those of other scripts, are percent-encoded, as browsers do.
    ///
    /// # Errors
    /// See [`BadReference`].
    pub fn join(&self, reference: &[u8]) -> Result<Self, BadReference> {
        Self::read(reference, Some(self))
    }

    /// Takes a reference apart (RFC 3986 appendix B) and resolves it. With a scheme it has to name a server as well.
    fn read(text: &[u8], base: Option<&Self>) -> Result<Self, BadReference> {
        if text.is_empty() || text.iter().any(u8::is_ascii_control) {
            return Err(BadReference::Malformed);
        }
        let (text, fragment) = cut(text, b"#");
        let (text, query) = cut(text, b"?");
        let (https, base, text) = match (cut(text, b":/"), base) {
            ((scheme, Some(rest)), _) if text[scheme.len()] == b':' => (is_https(scheme)?, None, rest),
            (_, Some(base)) => (base.https, Some(base), text),
            _ => return Err(BadReference::Scheme),
        };
        let query = query.map(encoded);
        let (authority, path, query) = match (text.strip_prefix(b"//"), base) {
            (Some(rest), _) => {
                let (authority, path) = rest.split_at(memchr(b'/', rest).unwrap_or(rest.len()));
                (self::authority(authority)?, encoded(path), query)
            }
            (None, Some(base)) => {
                let (path, query) = base.resolve_path(text, query);
                (base.authority.clone(), path, query)
            }
            _ => return Err(BadReference::Authority),
        };
        let path = without_dots(&path);
        Ok(Self { https, authority, path, query, fragment: fragment.map(encoded) })
    }

    /// Path and query of a reference on the same server.
    fn resolve_path(&self, path: &[u8], query: Option<String>) -> (String, Option<String>) {
        match path {
            [] => (self.path.clone(), query.or_else(|| self.query.clone())),
            [b'/', ..] => (encoded(path), query),
            _ => {
                let directory = self.path.rfind('/').map_or("/", |slash| &self.path[..=slash]);
                (format!("{directory}{}", encoded(path)), query)
            }
        }
    }

    /// Does it lead to the same scheme, host and port as `other`?
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.https == other.https && self.host_and_port() == other.host_and_port()
    }

    /// Is it the same but for the fragment, which no server sees?
    pub fn is_same_resource(&self, other: &Self) -> bool {
        self.is_same_server(other) && (&self.path, &self.query) == (&other.path, &other.query)
    }

    fn host_and_port(&self) -> (&str, u16) {
        let default = if self.https { 443 } else { 80 };
        let port = self.authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        let split = port.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        split.unwrap_or((&self.authority, default))
    }

    /// Scheme and authority.
    pub fn server(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }

    /// The target of a request for it: path and query (RFC 9112 section 3.2.1).
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The same resource for clients that reach `prefix` on its server as the root. `None` if it is not below `prefix`.
    pub fn below(&self, prefix: &str) -> Option<Self> {
        let path = match self.path.strip_prefix(prefix)? {
            "" => "/",
            path => Some(path).filter(|path| path.starts_with('/'))?,
        };
        Some(Self { path: path.to_owned(), ..self.clone() })
    }

    /// A reference to it on its own server: a path with query and fragment.
    pub fn reference(&self) -> String {
        // Two slashes at its start would name another host (RFC 3986 section 4.2).
        let start = if self.path.starts_with("//") { "/." } else { "" };
        format!("{start}{}{}", self.path, self.rest())
    }

    /// Query and fragment.
    fn rest(&self) -> String {
        let marked = |mark: char, part: &Option<String>| part.as_ref().map(|part| format!("{mark}{part}"));
        [marked('?', &self.query), marked('#', &self.fragment)].into_iter().flatten().collect()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}{}", self.server(), self.path, self.rest())
    }
}

fn is_https(scheme: &[u8]) -> Result<bool, BadReference> {
    let is_http = scheme.eq_ignore_ascii_case(b"http");
    if is_http || scheme.eq_ignore_ascii_case(b"https") { Ok(!is_http) } else { Err(BadReference::Scheme) }
}

fn authority(text: &[u8]) -> Result<String, BadReference> {
    let text = text.strip_suffix(b":").unwrap_or(text);
    let text = Some(text).filter(|text| is_authority(text)).and_then(|text| std::str::from_utf8(text).ok());
    text.map(str::to_ascii_lowercase).ok_or(BadReference::Authority)
}

/// Percent-encodes what a URL cannot hold (RFC 3986 section 2). A percent sign stays what it is.
fn encoded(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Removes `.` and `..` (RFC 3986 section 5.2.4); an empty path becomes `/`.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
        // A dot segment at the end leaves the slash before it.
        if is_last && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(base: &str, reference: &str) -> Result<String, BadReference> {
        Url::parse(base.as_bytes()).unwrap().join(reference.as_bytes()).map(|url| url.to_string())
    }

    #[test]
    fn rfc3986_5_4_1_normal_examples() {
        for (reference, target) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q#s"),
            ("g#s", "http://a/b/c/g#s"),
            ("g?y#s", "http://a/b/c/g?y#s"),
            (";x", "http://a/b/c/;x"),
            ("g;x", "http://a/b/c/g;x"),
            ("g;x?y#s", "http://a/b/c/g;x?y#s"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../", "http://a/"),
            ("../../g", "http://a/g"),
        ] {
            assert_eq!(joined("http://a/b/c/d;p?q", reference).as_deref(), Ok(target), "{reference}");
        }
    }

    #[test]
    fn rfc3986_5_4_2_abnormal_examples() {
        for (reference, target) in [
            ("../../../g", "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            (".g", "http://a/b/c/.g"),
            ("g..", "http://a/b/c/g.."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
            ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("g#s/./x", "http://a/b/c/g#s/./x"),
            ("g#s/../x", "http://a/b/c/g#s/../x"),
        ] {
            assert_eq!(joined("http://a/b/c/d;p?q", reference).as_deref(), Ok(target), "{reference}");
        }
        assert_eq!(joined("http://a/b/c/d;p?q", "http:g"), Err(BadReference::Authority));
        assert_eq!(joined("http://a/b/c/d;p?q", "g:h"), Err(BadReference::Scheme));
    }

    #[test]
    fn rfc9110_10_2_2_what_locations_look_like() {
        for (reference, target) in [
            ("HTTPS://Mirror.Example:8443", "https://mirror.example:8443/"),
            ("http://h?x=/y", "http://h/?x=/y"),
            ("http://h:/x", "http://h/x"),
            ("http://[::1]:80/x", "http://[::1]:80/x"),
            ("http://h//x/../y", "http://h//y"),
            ("/a?u=http://x:1/#f", "http://a/a?u=http://x:1/#f"),
            ("/x y|z\\\u{e9}\"", "http://a/x%20y%7Cz%5C%C3%A9%22"),
            ("/%2e%2E/%7Ex", "http://a/%2e%2E/%7Ex"),
            ("/x?", "http://a/x?"),
            ("./a:b", "http://a/b/c/a:b"),
        ] {
            assert_eq!(joined("http://a/b/c/d;p?q", reference).as_deref(), Ok(target), "{reference}");
        }
        for (reference, fault) in [
            ("", BadReference::Malformed),
            ("/a\tb", BadReference::Malformed),
            ("/a\u{7f}", BadReference::Malformed),
            ("ftp://h/", BadReference::Scheme),
            ("mailto:x", BadReference::Scheme),
            (":x", BadReference::Scheme),
            ("a:b/c", BadReference::Scheme),
            ("//", BadReference::Authority),
            ("http:///x", BadReference::Authority),
            ("http://:80/", BadReference::Authority),
            ("http://user:pw@h/", BadReference::Authority),
            ("http://h\\@evil/", BadReference::Authority),
            ("http://h:99999/", BadReference::Authority),
            ("http://h h/", BadReference::Authority),
            ("http://[::1/", BadReference::Authority),
        ] {
            assert_eq!(joined("http://a/b/c/d;p?q", reference), Err(fault), "{reference}");
        }
        assert_eq!(Url::parse(b"/x"), Err(BadReference::Scheme));
        assert_eq!(joined("http://a", "g").as_deref(), Ok("http://a/g"));
    }

    #[test]
    fn rfc9110_4_2_3_a_port_that_is_the_default_may_be_left_out() {
        let same = |a: &str, b: &str| {
            Url::parse(a.as_bytes()).unwrap().is_same_server(&Url::parse(b.as_bytes()).unwrap())
        };
        for (a, b) in [
            ("http://h/x", "http://H:80/y"),
            ("https://h", "https://h:443"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("http://h", "https://h"),
            ("http://h", "http://h:81"),
            ("http://h", "http://g"),
            ("https://h:80", "http://h:80"),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn a_reference_below_a_prefix_is_a_path_and_never_another_host() {
        for (url, prefix, reference) in [
            ("http://h/a/b?c#d", "", Some("/a/b?c#d")),
            ("http://h", "", Some("/")),
            ("http://h/p/x", "/p", Some("/x")),
            ("http://h/p", "/p", Some("/")),
            ("http://h/p?q", "/p", Some("/?q")),
            ("http://h/pq", "/p", None),
            ("http://h/q", "/p", None),
            ("http://h//evil/x", "", Some("/.//evil/x")),
            ("http://h/p//evil/x", "/p", Some("/.//evil/x")),
        ] {
            let url = Url::parse(url.as_bytes()).unwrap();
            assert_eq!(url.below(prefix).map(|url| url.reference()).as_deref(), reference, "{url} {prefix}");
            if let Some(reference) = reference {
                let back = Url::parse(b"http://cache/").unwrap().join(reference.as_bytes()).unwrap();
                assert_eq!((back.server().as_str(), back.query), ("http://cache", url.query), "{reference}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_resolved_can_be_sent(reference in proptest::collection::vec(any::<u8>(), 0..40)) {
            let base = Url::parse(b"http://a/b/c?d").unwrap();
            if let Ok(url) = base.join(&reference) {
                let target = url.target();
                prop_assert!(target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(!target.contains('#'));
                // Written out, it means itself.
                prop_assert_eq!(base.join(url.to_string().as_bytes()), Ok(url));
            }
        }
    }
}
