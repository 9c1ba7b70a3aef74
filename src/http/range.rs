//! Range requests (RFC 9110 section 14).

use super::conditional::{Validators, if_range_holds};
use super::fields::Fields;
use super::head::digits;
use super::request::Method;

/// Which bytes of a representation to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selection {
    /// All of it, with 200.
    Whole,
    /// The bytes `first` to `last`, both included and both inside, with 206.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// None: answer 416.
    Unsatisfiable,
}

/// What the Range and If-Range fields of a request select of `size` bytes.
///
/// One range only. Several ranges, several Range lines, other units and bad syntax select the whole, as
/// RFC 9110 section 14.2 allows, and so does any method but GET.
pub fn select(method: &Method, fields: &Fields, size: u64, v: &Validators<'_>) -> Selection {
    let range = fields.only("range").filter(|_| *method == Method::Get);
    match range.and_then(one_range) {
        Some((first, last)) if if_range_holds(fields, v) => resolve(first, last, size),
        _ => Selection::Whole,
    }
}

/// The two positions of the only range in `value`, of which one may be left out.
fn one_range(value: &[u8]) -> Option<(Option<u64>, Option<u64>)> {
    let equals = value.iter().position(|&byte| byte == b'=')?;
    let (unit, set) = (&value[..equals], &value[equals + 1..]);
    let mut ranges =
        set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|range| !range.is_empty());
    let range = ranges.next().filter(|_| unit.eq_ignore_ascii_case(b"bytes"))?;
    let dash = range.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (position(&range[..dash])?, position(&range[dash + 1..])?);
    let backwards = matches!((first, last), (Some(first), Some(last)) if first > last);
    let valid = (first.is_some() || last.is_some()) && !backwards && ranges.next().is_none();
    valid.then_some((first, last))
}

/// A position, or the lack of one. What 64 bits do not hold lies beyond any file, so the largest will do.
fn position(text: &[u8]) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    digits(text).map(|number| Some(number.parse().unwrap_or(u64::MAX)))
}

fn resolve(first: Option<u64>, last: Option<u64>, size: u64) -> Selection {
    let Some(end) = size.checked_sub(1) else {
        return Selection::Unsatisfiable;
    };
    match (first, last) {
        (Some(first), _) if first > end => Selection::Unsatisfiable,
        (Some(first), last) => Selection::Part { first, last: last.unwrap_or(end).min(end) },
        (None, Some(0)) => Selection::Unsatisfiable,
        (None, suffix) => Selection::Part { first: size.saturating_sub(suffix.unwrap_or(size)), last: end },
    }
}

#[cfg(test)]
mod tests {
    use super::Selection::{Part, Unsatisfiable, Whole};
    use super::*;
    use proptest::prelude::*;

    fn get(range: &str, size: u64) -> Selection {
        select(&Method::Get, &Fields::from_iter([("Range", range)]), size, &Validators::default())
    }

    #[test]
    fn rfc9110_14_1_2_byte_ranges() {
        for (range, selection) in [
            ("bytes=0-0", Part { first: 0, last: 0 }),
            ("bytes=0-9", Part { first: 0, last: 9 }),
            ("bytes=3-99", Part { first: 3, last: 9 }),
            ("bytes=9-", Part { first: 9, last: 9 }),
            ("bytes=0-", Part { first: 0, last: 9 }),
            ("bytes=-1", Part { first: 9, last: 9 }),
            ("bytes=-10", Part { first: 0, last: 9 }),
            ("bytes=-11", Part { first: 0, last: 9 }),
            ("bytes= 2-4 ", Part { first: 2, last: 4 }),
            ("bytes=,2-4,", Part { first: 2, last: 4 }),
            ("BYTES=2-4", Part { first: 2, last: 4 }),
            ("bytes=0-99999999999999999999999", Part { first: 0, last: 9 }),
            ("bytes=-99999999999999999999999", Part { first: 0, last: 9 }),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-20", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=4-2", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes", Whole),
            ("bytes =0-1", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1 - 2", Whole),
            ("bytes=1--2", Whole),
            ("bytes=a-b", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(get(range, 10), selection, "{range}");
        }
    }

    #[test]
    fn nothing_of_an_empty_file_can_be_selected() {
        for range in ["bytes=0-", "bytes=0-0", "bytes=-5"] {
            assert_eq!(get(range, 0), Unsatisfiable, "{range}");
        }
        assert_eq!(get("lines=1-", 0), Whole);
    }

    #[test]
    fn rfc9110_14_2_only_one_line_of_a_get_counts() {
        let one = Fields::from_iter([("Range", "bytes=1-")]);
        let two = Fields::from_iter([("Range", "bytes=1-"), ("Range", "bytes=1-")]);
        let v = Validators::default();
        assert_eq!(select(&Method::Head, &one, 10, &v), Whole);
        assert_eq!(select(&Method::Other("POST".into()), &one, 10, &v), Whole);
        assert_eq!(select(&Method::Get, &two, 10, &v), Whole);
        assert_eq!(select(&Method::Get, &Fields::new(), 10, &v), Whole);
    }

    #[test]
    fn rfc9110_13_1_5_a_false_if_range_selects_the_whole() {
        let v = Validators { etags: [Some(b"\"a\""), None], last_modified: None };
        for (tag, selection) in [("\"a\"", Part { first: 1, last: 9 }), ("\"b\"", Whole)] {
            let set = Fields::from_iter([("Range", "bytes=1-"), ("If-Range", tag)]);
            assert_eq!(select(&Method::Get, &set, 10, &v), selection);
        }
        let beyond = Fields::from_iter([("Range", "bytes=99-"), ("If-Range", "\"b\"")]);
        assert_eq!(select(&Method::Get, &beyond, 10, &v), Whole);
    }

    proptest! {
        #[test]
        fn parts_lie_inside(first: u64, len: u64, size: u64) {
            let last = first.saturating_add(len);
            let expected = if first >= size { Unsatisfiable } else { Part { first, last: last.min(size - 1) } };
            prop_assert_eq!(get(&format!("bytes={first}-{last}"), size), expected);
        }

        #[test]
        fn any_text_selects_within_the_size(text in "(bytes=)?[0-9,\\- a]{0,24}", size in 0..50u64) {
            if let Part { first, last } = get(&text, size) {
                prop_assert!(first <= last && last < size);
            }
        }
    }
}
