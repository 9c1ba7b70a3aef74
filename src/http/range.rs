//! Range requests (RFC 9110 section 14).

use super::conditional::{Validators, if_range_holds};
use super::fields::Fields;
use super::head::saturating;
use super::message::MOST_BYTES;
use super::request::Method;

/// The most ranges in one request. Clients that update files from their differences request a few dozen at a time;
/// more select the whole.
const MAX_RANGES: usize = 128;
/// Parts that may overlap others (RFC 9110 section 14.2 warns of more): one pair.
const MAX_OVERLAPS: usize = 1;
/// What the heads of all parts take at the most: with more bytes than fit beside them the length of the body would be one
/// that no file can have.
const PART_HEADS: u64 = 1024 * 1024;

/// The bytes from `first` up to and without `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset behind the last byte, beyond `first`.
    pub end: u64,
}

impl Span {
    /// How many bytes it has.
    pub fn count(self) -> u64 {
        self.end - self.first
    }

    /// Those of these bytes that are in it.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        &bytes[within(self.first)..within(self.end)]
    }
}

/// Which bytes of a representation to send.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// Two or more parts in the order requested, with 206 and multipart/byteranges. Together they have no more
    /// bytes than the whole.
    Parts(Vec<Span>),
    /// None: answer 416.
    Unsatisfiable,
}

/// What the Range and If-Range fields of a request select of `size` bytes.
///
/// Ranges outside are left out; one that overlaps or touches the one before it in the request is merged with it.
/// The whole is selected, as RFC 9110 section 14.2 allows, by several Range lines, other units, bad syntax, too
/// many ranges, too many that overlap, ranges that have more bytes than the whole together, and by any method but
/// GET.
pub fn select(method: &Method, fields: &Fields, size: u64, v: &Validators<'_>) -> Selection {
    asked(method, fields, v).map_or(Selection::Whole, |ranges| resolve_all(&ranges, size))
}

/// The first and the last position of the only range of a request, where it has both: such a range can be resolved
/// without the length.
pub fn closed(method: &Method, fields: &Fields, v: &Validators<'_>) -> Option<(u64, u64)> {
    match asked(method, fields, v)?.as_slice() {
        [(Some(first), Some(last))] => Some((*first, *last)),
        _ => None,
    }
}

/// Two positions, of which one may be left out.
type Range = (Option<u64>, Option<u64>);

/// The ranges of a request, if they apply.
fn asked(method: &Method, fields: &Fields, v: &Validators<'_>) -> Option<Vec<Range>> {
    let range = fields.only("range").filter(|_| *method == Method::Get)?;
    range_set(range).filter(|_| if_range_holds(fields, v))
}

/// The ranges in `value`, at least one, if it is well-formed and not too long.
fn range_set(value: &[u8]) -> Option<Vec<Range>> {
    let equals = value.iter().position(|&byte| byte == b'=')?;
    let (unit, set) = (&value[..equals], &value[equals + 1..]);
    let mut ranges = Vec::new();
    for range in set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|range| !range.is_empty()) {
        if ranges.len() == MAX_RANGES {
            return None;
        }
        ranges.push(one_range(range)?);
    }
    (unit.eq_ignore_ascii_case(b"bytes") && !ranges.is_empty()).then_some(ranges)
}

fn one_range(range: &[u8]) -> Option<Range> {
    let dash = range.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (position(&range[..dash])?, position(&range[dash + 1..])?);
    let backwards = matches!((first, last), (Some(first), Some(last)) if first > last);
    ((first.is_some() || last.is_some()) && !backwards).then_some((first, last))
}

/// A position, or the lack of one. What 64 bits do not hold lies beyond any file, so the largest will do.
fn position(text: &[u8]) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    saturating(text).map(Some)
}

fn resolve_all(ranges: &[Range], size: u64) -> Selection {
    let mut spans: Vec<Span> = Vec::with_capacity(ranges.len());
    for span in ranges.iter().filter_map(|range| resolve(*range, size)) {
        match spans.last_mut() {
            Some(before) if (before.first..=before.end).contains(&span.first) => {
                before.end = before.end.max(span.end);
            }
            _ => spans.push(span),
        }
    }
    match spans.as_slice() {
        [] => Selection::Unsatisfiable,
        [only] => Selection::Part { first: only.first, last: only.end - 1 },
        _ if is_flood(&spans, size) => Selection::Whole,
        _ => Selection::Parts(spans),
    }
}

/// Do the parts cost more than the whole, or overlap more than an honest request does?
fn is_flood(spans: &[Span], size: u64) -> bool {
    let bytes = spans.iter().fold(0_u64, |sum, span| sum.saturating_add(span.count()));
    let mut sorted = spans.to_vec();
    sorted.sort_unstable_by_key(|span| span.first);
    let overlaps = sorted.windows(2).filter(|pair| pair[1].first < pair[0].end).count();
    bytes > size.min(MOST_BYTES - PART_HEADS) || overlaps > MAX_OVERLAPS
}

fn resolve((first, last): Range, size: u64) -> Option<Span> {
    let span = match (first, last) {
        (Some(first), last) => {
            Span { first, end: last.map_or(size, |last| last.saturating_add(1)).min(size) }
        }
        (None, suffix) => Span { first: size.saturating_sub(suffix.unwrap_or(size)), end: size },
    };
    (span.first < span.end).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::Selection::{Part, Parts, Unsatisfiable, Whole};
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

    fn parts(spans: &[(u64, u64)]) -> Selection {
        Parts(spans.iter().map(|&(first, last)| Span { first, end: last + 1 }).collect())
    }

    #[test]
    fn rfc9110_14_1_2_several_ranges() {
        for (range, selection) in [
            ("bytes=0-1,3-4", parts(&[(0, 1), (3, 4)])),
            ("bytes= 0-1 ,\t3-4", parts(&[(0, 1), (3, 4)])),
            ("bytes=,,0-1,,3-4,", parts(&[(0, 1), (3, 4)])),
            ("bytes=8-,0-0", parts(&[(8, 9), (0, 0)])),
            ("bytes=0-0,-1", parts(&[(0, 0), (9, 9)])),
            ("bytes=-2,0-0,4-5", parts(&[(8, 9), (0, 0), (4, 5)])),
            // Outside: left out.
            ("bytes=0-1,10-,3-4", parts(&[(0, 1), (3, 4)])),
            ("bytes=0-1,10-", Part { first: 0, last: 1 }),
            ("bytes=-0,3-4", Part { first: 3, last: 4 }),
            ("bytes=10-,99999999999999999999999-,-0", Unsatisfiable),
            // Touching or overlapping the one before: one with it.
            ("bytes=0-1,2-4", Part { first: 0, last: 4 }),
            ("bytes=0-5,3-4", Part { first: 0, last: 5 }),
            ("bytes=0-5,3-7,9-9", parts(&[(0, 7), (9, 9)])),
            ("bytes=0-,0-,0-", Part { first: 0, last: 9 }),
            // One pair may overlap; more, or more bytes than the whole, is a flood.
            ("bytes=5-7,0-5", parts(&[(5, 7), (0, 5)])),
            ("bytes=4-5,2-4,0-2", Whole),
            ("bytes=1-9,0-1", Whole),
            ("bytes=5-9,0-9", Whole),
            // One bad range spoils all.
            ("bytes=0-1,4-3", Whole),
            ("bytes=0-1,x", Whole),
            ("bytes=0-1,-", Whole),
            ("bytes=0-1;3-4", Whole),
        ] {
            assert_eq!(get(range, 10), selection, "{range}");
        }
    }

    #[test]
    fn rfc9110_14_2_floods_of_ranges_select_the_whole() {
        let size = 1_000_000;
        let list = |count: usize, one: fn(usize) -> String| {
            format!("bytes={}", (0..count).map(one).collect::<Vec<_>>().join(","))
        };
        let apart = |count| list(count, |at| format!("{}-{}", at * 10, at * 10));
        assert!(matches!(get(&apart(MAX_RANGES), size), Parts(spans) if spans.len() == MAX_RANGES));
        assert_eq!(get(&apart(MAX_RANGES + 1), size), Whole);
        assert_eq!(get(&list(1_000, |_| "0-".into()), size), Whole);
        assert_eq!(get(&list(100, |at| format!("{}-", 100 - at)), size), Whole);
        assert_eq!(get(&list(100, |at| format!("{}-999", 100 - at)), size), Whole);
    }

    #[test]
    fn rfc9110_14_4_a_range_with_both_its_ends_needs_no_length() {
        let v = Validators::default();
        for (range, due) in [
            ("bytes=3-9", Some((3, 9))),
            ("bytes=3-", None),
            ("bytes=-3", None),
            ("bytes=0-1,3-4", None),
            ("bytes=9-3", None),
        ] {
            let fields = Fields::from_iter([("Range", range)]);
            assert_eq!(closed(&Method::Get, &fields, &v), due, "{range}");
            assert_eq!(closed(&Method::Head, &fields, &v), None, "{range}");
        }
        let guarded = Fields::from_iter([("Range", "bytes=3-9"), ("If-Range", "\"a\"")]);
        assert_eq!(closed(&Method::Get, &guarded, &v), None);
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
        let v = Validators { etags: [Some(b"\"a\""), None], ..Validators::default() };
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

        /// A request for ascending parts that do not touch gets exactly these.
        #[test]
        fn ascending_parts_come_as_asked(steps in proptest::collection::vec((1..9u64, 1..9u64), 2..20)) {
            let mut at = 0;
            let mut spans = Vec::new();
            for (gap, count) in steps {
                spans.push(Span { first: at + gap, end: at + gap + count });
                at += gap + count;
            }
            let text: Vec<_> = spans.iter().map(|span| format!("{}-{}", span.first, span.end - 1)).collect();
            prop_assert_eq!(get(&format!("bytes={}", text.join(",")), at), Parts(spans));
        }

        #[test]
        fn any_text_selects_within_the_size(text in "(bytes=)?[0-9,\\- a]{0,24}", size in 0..50u64) {
            match get(&text, size) {
                Part { first, last } => prop_assert!(first <= last && last < size),
                Parts(spans) => {
                    prop_assert!(spans.len() > 1);
                    prop_assert!(spans.iter().all(|span| span.first < span.end && span.end <= size));
                    prop_assert!(spans.iter().map(|span| span.count()).sum::<u64>() <= size);
                }
                Whole | Unsatisfiable => {}
            }
        }
    }
}
