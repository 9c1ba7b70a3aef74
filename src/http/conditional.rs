//! Conditional requests (RFC 9110 section 13).

use super::date;
use super::etag::{opaque, strongly_equal, weakly_equal};
use super::fields::Fields;
use super::request::Method;

/// The validators of the representation. It may have two entity tags: the origin's and the one of the file.
#[derive(Clone, Debug, Default)]
pub struct Validators<'a> {
    /// Entity tags as they stand in an ETag field: quoted, weak ones with their `W/`.
    pub etags: [Option<&'a [u8]>; 2],
    /// Time of the last change, in Unix seconds.
    pub last_modified: Option<u64>,
    /// The time that dates in conditions are held against: the same, or what stands for it where there is none.
    pub since: Option<u64>,
    /// The time of the request, in Unix seconds: what dates with a year of two digits are read by.
    pub now: u64,
}

impl Validators<'_> {
    fn any(&self, same: impl Fn(&[u8]) -> bool) -> bool {
        self.etags.iter().flatten().any(|tag| same(tag))
    }
}

/// The result of a request's conditions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Answer as if there were no condition.
    Proceed,
    /// Answer 304.
    NotModified,
    /// Answer 412.
    PreconditionFailed,
}

/// Fields of a request that select how much is sent of what, and in which coding; not which resource, nor which variant
/// of it.
pub const SELECTING: [&str; 7] = [
    "accept-encoding",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
];

/// Does the request have neither a condition nor a range?
pub fn is_plain(fields: &Fields) -> bool {
    fields.iter().all(|(name, _)| {
        let conditional = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-"));
        !conditional && !name.eq_ignore_ascii_case(b"range")
    })
}

/// Does it have neither, and no Cache-Control and Pragma either? Names are compared only where their length fits.
pub fn is_bare(fields: &Fields) -> bool {
    fields.iter().all(|(name, _)| {
        let said: &[&[u8]] = match name.len() {
            5 => &[b"range"],
            6 => &[b"pragma"],
            8 => &[b"if-match", b"if-range"],
            13 => &[b"cache-control", b"if-none-match"],
            17 => &[b"if-modified-since"],
            19 => &[b"if-unmodified-since"],
            _ => &[],
        };
        !said.iter().any(|said| name.eq_ignore_ascii_case(said))
    })
}

/// Evaluates the conditions of a GET or HEAD in the order of RFC 9110 section 13.2.2.
///
/// Other methods proceed. A date that cannot be read, or that stands on several lines, is no condition.
pub fn evaluate(method: &Method, fields: &Fields, v: &Validators<'_>) -> Verdict {
    if !matches!(method, Method::Get | Method::Head) {
        return Verdict::Proceed;
    }
    let unchanged_since = |name| {
        let since = date::parse_at(fields.only(name)?, v.now)?;
        v.since.map(|changed| changed <= since)
    };
    let wanted = if fields.contains("if-match") {
        lists(fields, "if-match", v, strongly_equal)
    } else {
        unchanged_since("if-unmodified-since").unwrap_or(true)
    };
    if !wanted {
        return Verdict::PreconditionFailed;
    }
    let known = if fields.contains("if-none-match") {
        // Some origins give tags without quotes, and clients give them back so.
        let same = |tag: &[u8]| fields.only("if-none-match").is_some_and(|line| line.trim_ascii() == tag);
        lists(fields, "if-none-match", v, weakly_equal) || v.any(same)
    } else {
        unchanged_since("if-modified-since").unwrap_or(false)
    };
    if known { Verdict::NotModified } else { Verdict::Proceed }
}

/// Does If-Range let the Range field count (RFC 9110 section 13.1.5)? True when there is none.
///
/// A tag must be strongly equal, a date exactly the same.
pub fn if_range_holds(fields: &Fields, v: &Validators<'_>) -> bool {
    if !fields.contains("if-range") {
        return true;
    }
    let Some(value) = fields.only("if-range") else {
        return false;
    };
    match first_tag(value) {
        Some((tag, rest)) => rest.is_empty() && v.any(|known| strongly_equal(known, tag)),
        None => v.last_modified.is_some() && date::parse_at(value, v.now) == v.last_modified,
    }
}

/// Does the list `name` hold `*` or a tag that is `equal` to one of the representation?
fn lists(fields: &Fields, name: &str, v: &Validators<'_>, equal: fn(&[u8], &[u8]) -> bool) -> bool {
    fields
        .all(name)
        .any(|line| line.trim_ascii() == b"*" || tags(line).any(|tag| v.any(|known| equal(known, tag))))
}

/// The entity tags of one line. The list ends where it is not a list of tags any more.
///
/// A tag may hold commas, so the line cannot simply be cut at them.
fn tags(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        let (tag, after) = first_tag(rest)?;
        rest = after.trim_ascii_start();
        (rest.is_empty() || rest.starts_with(b",")).then_some(tag)
    })
}

/// The entity tag at the front of `text`, and what follows it.
fn first_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let quoted = opaque(text).strip_prefix(b"\"")?;
    let end = text.len() - quoted.len() + quoted.iter().position(|&byte| byte == b'"')? + 1;
    Some(text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::Verdict::{NotModified, PreconditionFailed, Proceed};
    use super::*;

    const CHANGED: u64 = 784_111_777;
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn known() -> Validators<'static> {
        Validators {
            etags: [Some(b"\"a,b\""), Some(b"W/\"w\"")],
            last_modified: Some(CHANGED),
            since: Some(CHANGED),
            now: CHANGED + 1,
        }
    }

    #[test]
    fn rfc9110_13_1_1_to_13_1_4_single_conditions() {
        for (name, value, verdict) in [
            ("If-None-Match", "\"a,b\"", NotModified),
            ("If-None-Match", "W/\"a,b\"", NotModified),
            ("If-None-Match", "\"w\"", NotModified),
            ("If-None-Match", "\"x\", ,\"y\" ,\"a,b\"", NotModified),
            ("If-None-Match", "*", NotModified),
            ("If-None-Match", " * ", NotModified),
            ("If-None-Match", "\"*\"", Proceed),
            ("If-None-Match", "\"x\"", Proceed),
            ("If-None-Match", "", Proceed),
            ("If-None-Match", "a,b", Proceed),
            ("If-None-Match", "\"a,b", Proceed),
            ("If-None-Match", "\"x\" \"a,b\"", Proceed),
            ("If-None-Match", "w/\"a,b\"", Proceed),
            ("If-Match", "\"a,b\"", Proceed),
            ("If-Match", "*", Proceed),
            ("If-Match", "\"x\", \"a,b\"", Proceed),
            ("If-Match", "\"x\"", PreconditionFailed),
            ("If-Match", "W/\"a,b\"", PreconditionFailed),
            ("If-Match", "W/\"w\"", PreconditionFailed),
            ("If-Match", "", PreconditionFailed),
            ("If-Modified-Since", SAME, NotModified),
            ("If-Modified-Since", AFTER, NotModified),
            ("If-Modified-Since", BEFORE, Proceed),
            ("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT", NotModified),
            ("If-Modified-Since", "Sun Nov  6 08:49:37 1994", NotModified),
            ("If-Modified-Since", "Sunday, 06-Nov-94 08:49:36 GMT", Proceed),
            ("If-Modified-Since", "Sun Nov  6 08:49:36 1994", Proceed),
            ("If-Modified-Since", "soon", Proceed),
            ("If-Unmodified-Since", SAME, Proceed),
            ("If-Unmodified-Since", AFTER, Proceed),
            ("If-Unmodified-Since", BEFORE, PreconditionFailed),
            ("If-Unmodified-Since", "Sunday, 06-Nov-94 08:49:36 GMT", PreconditionFailed),
            ("If-Unmodified-Since", "Sun Nov  6 08:49:36 1994", PreconditionFailed),
            ("If-Unmodified-Since", "soon", Proceed),
        ] {
            let set = Fields::from_iter([(name, value)]);
            assert_eq!(evaluate(&Method::Get, &set, &known()), verdict, "{name}: {value}");
            assert_eq!(evaluate(&Method::Head, &set, &known()), verdict, "{name}: {value}");
            assert_eq!(evaluate(&Method::Other("POST".into()), &set, &known()), Proceed);
        }
    }

    #[test]
    fn rfc9110_13_2_2_precedence() {
        for (list, verdict) in [
            (&[("If-None-Match", "\"x\""), ("If-Modified-Since", SAME)][..], Proceed),
            (&[("If-None-Match", "\"a,b\""), ("If-Modified-Since", BEFORE)], NotModified),
            (&[("If-Match", "\"a,b\""), ("If-Unmodified-Since", BEFORE)], Proceed),
            (&[("If-Match", "\"x\""), ("If-None-Match", "\"a,b\"")], PreconditionFailed),
            (&[("If-Match", "\"a,b\""), ("If-None-Match", "\"a,b\"")], NotModified),
            (&[("If-Unmodified-Since", BEFORE), ("If-None-Match", "*")], PreconditionFailed),
            (&[("If-None-Match", "\"x\""), ("If-None-Match", "\"a,b\"")], NotModified),
            (&[("If-None-Match", "\"x\""), ("If-None-Match", "*")], NotModified),
            (&[("If-None-Match", "\"x\""), ("If-None-Match", "W/\"y\"")], Proceed),
            (&[("If-Match", "\"x\""), ("If-Match", "\"a,b\"")], Proceed),
            (&[("If-Match", "\"a,b\""), ("If-Modified-Since", SAME)], NotModified),
            (&[("If-Unmodified-Since", SAME), ("If-Modified-Since", SAME)], NotModified),
            (&[("If-Unmodified-Since", BEFORE), ("If-Modified-Since", SAME)], PreconditionFailed),
            (&[("If-Unmodified-Since", BEFORE), ("If-Unmodified-Since", BEFORE)], Proceed),
            (&[("If-Modified-Since", SAME), ("If-Modified-Since", SAME)], Proceed),
            (&[], Proceed),
        ] {
            assert_eq!(
                evaluate(&Method::Get, &Fields::from_iter(list.iter().copied()), &known()),
                verdict,
                "{list:?}"
            );
        }
    }

    #[test]
    fn without_validators_only_the_star_matches() {
        let nothing = Validators::default();
        for (name, value, verdict) in [
            ("If-None-Match", "\"a,b\"", Proceed),
            ("If-None-Match", "*", NotModified),
            ("If-Match", "\"a,b\"", PreconditionFailed),
            ("If-Modified-Since", SAME, Proceed),
            ("If-Unmodified-Since", BEFORE, Proceed),
        ] {
            assert_eq!(
                evaluate(&Method::Get, &Fields::from_iter([(name, value)]), &nothing),
                verdict,
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn rfc9110_13_1_5_if_range() {
        for (value, holds) in [
            ("\"a,b\"", true),
            ("W/\"a,b\"", false),
            ("\"w\"", false),
            ("W/\"w\"", false),
            ("\"x\"", false),
            ("\"a,b\", \"x\"", false),
            (SAME, true),
            ("Sunday, 06-Nov-94 08:49:37 GMT", true),
            ("Sun Nov  6 08:49:37 1994", true),
            (AFTER, false),
            (BEFORE, false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(if_range_holds(&Fields::from_iter([("If-Range", value)]), &known()), holds, "{value}");
        }
        assert!(if_range_holds(&Fields::new(), &Validators::default()));
        assert!(!if_range_holds(&Fields::from_iter([("If-Range", "soon")]), &Validators::default()));
        assert!(!if_range_holds(&Fields::from_iter([("If-Range", SAME), ("If-Range", SAME)]), &known()));
    }
}
