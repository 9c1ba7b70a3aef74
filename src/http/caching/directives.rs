//! Cache-Control of requests and of responses (RFC 9111 section 5.2), and CDN-Cache-Control
//! (RFC 9213).

use crate::http::fields::Fields;
use crate::http::head::{digits, saturating};

/// The largest number of seconds that is distinguished (RFC 9111 section 1.2.2).
const MOST_SECONDS: u64 = 1 << 31;

/// Whether a directive that may name fields is there, and what it names.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Listed {
    /// It is not there.
    #[default]
    No,
    /// For the whole response.
    All,
    /// For these fields only.
    Fields(Vec<String>),
}

impl Listed {
    /// The names, if it names any.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Fields(names) => names,
            Self::No | Self::All => &[],
        }
    }
}

/// What a response says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ResponseDirectives {
    /// Not to be stored.
    pub no_store: bool,
    /// Not to be used without validation; or these fields not.
    pub no_cache: Listed,
    /// Not to be stored by a shared cache; or these fields not.
    pub private: Listed,
    /// To be stored even where it otherwise would not be.
    pub public: bool,
    /// Not to be used stale.
    pub must_revalidate: bool,
    /// The same for shared caches.
    pub proxy_revalidate: bool,
    /// Not to be stored by a cache that does not understand the status.
    pub must_understand: bool,
    /// Seconds it is fresh.
    pub max_age: Option<u64>,
    /// The same for shared caches.
    pub s_maxage: Option<u64>,
    /// Seconds it may be used stale while it is revalidated (RFC 5861 section 3).
    pub stale_while_revalidate: Option<u64>,
    /// Seconds it may be used stale when the origin fails (RFC 5861 section 4).
    pub stale_if_error: Option<u64>,
}

impl ResponseDirectives {
    /// Reads Cache-Control, or CDN-Cache-Control in its place where that is `targeted` and valid:
    /// then the other one, and Expires, do not count (RFC 9213 section 2.1).
    pub fn of(fields: &Fields, targeted: bool) -> Self {
        let members = targeted.then(|| targeted_members(fields)).flatten();
        let members = members.unwrap_or_else(|| Members::of(fields, "cache-control"));
        Self {
            no_store: members.has("no-store"),
            no_cache: members.listed("no-cache"),
            private: members.listed("private"),
            public: members.has("public"),
            must_revalidate: members.has("must-revalidate"),
            proxy_revalidate: members.has("proxy-revalidate"),
            must_understand: members.has("must-understand"),
            max_age: members.seconds("max-age"),
            s_maxage: members.seconds("s-maxage"),
            stale_while_revalidate: members.seconds("stale-while-revalidate"),
            stale_if_error: members.seconds("stale-if-error"),
        }
    }

    /// Does CDN-Cache-Control take the place of Cache-Control?
    pub fn is_targeted(fields: &Fields) -> bool {
        targeted_members(fields).is_some()
    }
}

/// What a request wants.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RequestDirectives {
    /// Nothing of it is to be stored.
    pub no_store: bool,
    /// Nothing is to be used without validation.
    pub no_cache: bool,
    /// No response from the origin is wanted.
    pub only_if_cached: bool,
    /// Nothing older, in seconds.
    pub max_age: Option<u64>,
    /// Nothing that is fresh for less, in seconds.
    pub min_fresh: Option<u64>,
    /// What has been stale for no longer will do, in seconds.
    pub max_stale: Option<u64>,
}

impl RequestDirectives {
    /// Reads Cache-Control, and Pragma where that is not there (RFC 9111 section 5.4).
    pub fn of(fields: &Fields) -> Self {
        let members = Members::of(fields, "cache-control");
        let pragma = || fields.tokens("pragma").any(|token| token.eq_ignore_ascii_case(b"no-cache"));
        let max_stale = match members.values("max-stale").next() {
            Some(None) => Some(MOST_SECONDS),
            _ => members.seconds("max-stale"),
        };
        Self {
            no_store: members.has("no-store"),
            no_cache: members.has("no-cache") || !fields.contains("cache-control") && pragma(),
            only_if_cached: members.has("only-if-cached"),
            max_age: members.seconds("max-age"),
            min_fresh: members.seconds("min-fresh"),
            max_stale,
        }
    }
}

/// Seconds in decimal digits (RFC 9111 section 1.2.2); more than the largest distinguished number is that number.
pub fn seconds(text: &[u8]) -> Option<u64> {
    saturating(text).map(|seconds| seconds.min(MOST_SECONDS))
}

/// The directives of a field over all its lines: names in lower case, values without their quotes.
struct Members(Vec<(String, Option<Vec<u8>>)>);

impl Members {
    fn of(fields: &Fields, name: &str) -> Self {
        Self(fields.all(name).flat_map(split).map(member).collect())
    }

    /// The values of all directives with this name.
    fn values(&self, name: &str) -> impl Iterator<Item = Option<&[u8]>> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_deref())
    }

    fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// Of several the first counts; one that cannot be read is zero: stale (RFC 9111 section 4.2.1).
    fn seconds(&self, name: &str) -> Option<u64> {
        self.values(name).next().map(|value| value.and_then(seconds).unwrap_or(0))
    }

    /// The fields that all directives with this name list; one that lists none is about the whole response.
    fn listed(&self, name: &str) -> Listed {
        let mut names = Vec::new();
        for value in self.values(name) {
            let before = names.len();
            let listed = value.unwrap_or_default().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            names.extend(listed.filter(|name| !name.is_empty()).map(lower));
            if names.len() == before {
                return Listed::All;
            }
        }
        if names.is_empty() { Listed::No } else { Listed::Fields(names) }
    }
}

/// CDN-Cache-Control where it is valid: a dictionary of structured fields (RFC 8941 section 3.2) whose seconds are
/// integers.
fn targeted_members(fields: &Fields) -> Option<Members> {
    const SECONDS: [&str; 4] = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];
    let mut lines = fields.all("cdn-cache-control");
    let is_plain = lines.all(|line| !line.iter().any(|&byte| byte.is_ascii_uppercase() || byte == b'"'));
    let is_key = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase() || c == '*')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b))
    };
    let is_valid = |(name, value): &(String, Option<Vec<u8>>)| {
        is_key(name)
            && (!SECONDS.contains(&name.as_str())
                || value.as_deref().is_some_and(|value| digits(value).is_some()))
    };
    let members = Members::of(fields, "cdn-cache-control");
    (is_plain && !members.0.is_empty() && members.0.iter().all(is_valid)).then_some(members)
}

fn member(text: &[u8]) -> (String, Option<Vec<u8>>) {
    match text.iter().position(|&byte| byte == b'=') {
        Some(at) => (lower(&text[..at]), Some(unquoted(&text[at + 1..]))),
        None => (lower(text), None),
    }
}

fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

/// Splits a list at the commas outside quoted strings; blanks around the members are dropped, and empty members.
fn split(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let members = line.split(move |&byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return byte == b',' && !quoted,
        }
        false
    });
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

fn unquoted(text: &[u8]) -> Vec<u8> {
    match text {
        [b'"', inside @ .., b'"'] => {
            let mut out = Vec::with_capacity(inside.len());
            let mut bytes = inside.iter();
            while let Some(&byte) = bytes.next() {
                out.extend(if byte == b'\\' { bytes.next().copied() } else { Some(byte) });
            }
            out
        }
        _ => text.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn response(lines: &[&str]) -> ResponseDirectives {
        ResponseDirectives::of(&lines.iter().map(|line| ("Cache-Control", line)).collect(), false)
    }

    fn request(line: &str) -> RequestDirectives {
        RequestDirectives::of(&Fields::from_iter([("Cache-Control", line)]))
    }

    #[test]
    fn rfc9111_5_2_2_response_directives() {
        let found = response(&["no-store, NO-CACHE,private , public", "must-revalidate,,proxy-revalidate"]);
        assert!(found.no_store && found.public && found.must_revalidate && found.proxy_revalidate);
        assert_eq!((found.no_cache, found.private), (Listed::All, Listed::All));
        let found = response(&["no-cache=\"A, b\", private=c", "foo=\"max-age=9, no-store\", max-age=1"]);
        assert_eq!(found.no_cache.names(), ["a", "b"]);
        assert_eq!(found.private.names(), ["c"]);
        assert_eq!((found.max_age, found.no_store), (Some(1), false));
        assert_eq!(response(&["no-cache=\"a\", no-cache"]).no_cache, Listed::All);
        let found = response(&["s-maxage=2, stale-while-revalidate=3, stale-if-error=4"]);
        assert_eq!((found.s_maxage, found.stale_while_revalidate), (Some(2), Some(3)));
        assert_eq!(found.stale_if_error, Some(4));
    }

    #[test]
    fn rfc9111_4_2_1_the_first_of_several_counts_and_nonsense_is_stale() {
        for (line, age) in [
            ("max-age=5, max-age=9", Some(5)),
            ("max-age=\"5\"", Some(5)),
            ("max-age=005", Some(5)),
            ("max-age=99999999999999999999", Some(MOST_SECONDS)),
            ("max-age=-5", Some(0)),
            ("max-age='5'", Some(0)),
            ("max-age=5.0", Some(0)),
            ("max-age= 5", Some(0)),
            ("max-age=", Some(0)),
            ("max-age", Some(0)),
            ("max-age =5", None),
            ("x=\"\\\", max-age=5\"", None),
            ("", None),
        ] {
            assert_eq!(response(&[line]).max_age, age, "{line}");
        }
    }

    #[test]
    fn rfc9111_5_2_1_request_directives() {
        let found = request("no-store, no-cache, only-if-cached, max-age=1, min-fresh=2, max-stale");
        assert!(found.no_store && found.no_cache && found.only_if_cached);
        assert_eq!((found.max_age, found.min_fresh, found.max_stale), (Some(1), Some(2), Some(MOST_SECONDS)));
        assert_eq!(request("max-stale=7").max_stale, Some(7));
    }

    #[test]
    fn rfc9111_5_4_pragma_counts_alone_only() {
        let alone = Fields::from_iter([("Pragma", "x, No-Cache")]);
        let beside = Fields::from_iter([("Pragma", "no-cache"), ("Cache-Control", "x")]);
        assert!(RequestDirectives::of(&alone).no_cache);
        assert!(!RequestDirectives::of(&beside).no_cache);
    }

    #[test]
    fn rfc9213_2_1_the_targeted_field_goes_before_the_other_if_it_is_valid() {
        for (targeted, age, rules) in [
            ("max-age=7", Some(7), true),
            ("foobar, max-age=7", Some(7), true),
            ("max-age=7, &&&", Some(1), false),
            ("max-age=\"7\"", Some(1), false),
            ("max-age =7", Some(1), false),
            ("max-age= 7", Some(1), false),
            ("Max-Age=7", Some(1), false),
            ("", Some(1), false),
        ] {
            let fields = Fields::from_iter([("Cache-Control", "max-age=1"), ("CDN-Cache-Control", targeted)]);
            assert_eq!(ResponseDirectives::of(&fields, true).max_age, age, "{targeted}");
            assert_eq!(ResponseDirectives::of(&fields, false).max_age, Some(1));
            assert_eq!(ResponseDirectives::is_targeted(&fields), rules, "{targeted}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(text in "[ -~]{0,64}") {
            let fields = Fields::from_iter([("Cache-Control", &text), ("CDN-Cache-Control", &text)]);
            ResponseDirectives::of(&fields, true);
            RequestDirectives::of(&fields);
        }

        #[test]
        fn what_is_quoted_is_no_directive(before in "[a-z]{1,8}", quoted in "[a-z,= -]{0,32}") {
            let found = response(&[&format!("{before}x=\"{quoted}, no-store\", max-age=3")]);
            prop_assert!(!found.no_store);
            prop_assert_eq!(found.max_age, Some(3));
        }
    }
}
