//! How old a stored response is and how long it is fresh (RFC 9111 section 4.2).

use super::directives::{ResponseDirectives, seconds};
use super::stored::StoredHead;
use super::{After, Policy};
use crate::http::date;
use crate::http::fields::Fields;

/// What a heuristic gives at most: a day.
const HEURISTIC_LIMIT: u64 = 86_400;
/// The heuristic lifetime is the time since the last change divided by this.
const HEURISTIC_PART: u64 = 10;

/// Statuses that are heuristically cacheable (RFC 9110 section 15.1).
pub fn is_heuristically_cacheable(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Its age at `now` (seconds since 1970), in seconds (RFC 9111 section 4.2.3).
pub fn age(head: &StoredHead, now: u64) -> u64 {
    let came = head.times.received;
    let apparent = head.date().map_or(0, |date| came.saturating_sub(date));
    let corrected = age_field(&head.fields).saturating_add(came.saturating_sub(head.times.requested));
    apparent.max(corrected).saturating_add(now.saturating_sub(came))
}

/// The Age field: the first member of its first line, or nothing (RFC 9111 section 5.1).
fn age_field(fields: &Fields) -> u64 {
    fields.tokens("age").next().and_then(seconds).unwrap_or(0)
}

/// How long it is fresh as the origin says, in seconds; `None` where it does not say.
pub fn explicit(fields: &Fields, targeted: bool, came: u64) -> Option<u64> {
    let directives = ResponseDirectives::of(fields, targeted);
    let said = directives.s_maxage.or(directives.max_age);
    if said.is_some() || !fields.contains("expires") || (targeted && ResponseDirectives::is_targeted(fields))
    {
        return said;
    }
    // One that cannot be read lies in the past (RFC 9111 section 5.3).
    let expires = fields.only("expires").and_then(lenient_date).unwrap_or(0);
    let date = fields.only("date").and_then(date::parse).unwrap_or(came);
    Some(expires.saturating_sub(date))
}

/// How long it is fresh, in seconds.
pub fn lifetime(head: &StoredHead, policy: &Policy) -> u64 {
    if let Some(said) = explicit(&head.fields, policy.targeted, head.times.received) {
        return said;
    }
    let public = ResponseDirectives::of(&head.fields, policy.targeted).public;
    if !is_heuristically_cacheable(head.status) && !public {
        return 0;
    }
    match (policy.after, head.modified()) {
        // Counted from the last validation, so its age at that time is added.
        (After::Time(time), _) if time.is_zero() => 0,
        (After::Time(time), _) => time.as_secs().saturating_add(age(head, head.times.received)),
        (After::Heuristic, Some(modified)) => {
            let date = head.date().unwrap_or(head.times.received);
            (date.saturating_sub(modified) / HEURISTIC_PART).min(HEURISTIC_LIMIT)
        }
        (After::Heuristic, None) => 0,
    }
}

/// Seconds for which it is still fresh; below zero, those since it is not any more.
pub fn left(head: &StoredHead, now: u64, policy: &Policy) -> i64 {
    let seconds = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    seconds(lifetime(head, policy)).saturating_sub(seconds(age(head, now)))
}

/// A date whose letters may be of either case, and whose day of the week may be wrong: the rest says which day is meant.
fn lenient_date(text: &[u8]) -> Option<u64> {
    date::parse(text).or_else(|| {
        let mut text = text.to_ascii_lowercase();
        for at in 0..text.len() {
            if at == 0 || !text[at - 1].is_ascii_alphabetic() {
                text[at].make_ascii_uppercase();
            }
        }
        let zone = text.len().saturating_sub(b"GMT".len());
        text[zone..].make_ascii_uppercase();
        date::parse(&text).or_else(|| on_its_day(&mut text))
    })
}

/// The date with the day of the week that it falls on. Not for years of two digits, where the day of the week
/// decides the century.
fn on_its_day(text: &mut [u8]) -> Option<u64> {
    const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
    let (told, rest) = text.split_first_chunk_mut::<3>()?;
    if !DAYS.contains(&&*told) || rest.first().is_none_or(u8::is_ascii_alphabetic) {
        return None;
    }
    DAYS.iter().find_map(|day| {
        text[..day.len()].copy_from_slice(*day);
        date::parse(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::caching::stored::Times;
    use crate::http::caching::vary::Variant;
    use crate::http::request::Version;
    use crate::http::response::ResponseHead;
    use proptest::prelude::*;
    use std::time::Duration;

    const CAME: u64 = 1_000_000;

    /// A head received at `CAME`, one second after the request; `@n` is the date `CAME` + n.
    fn head(status: u16, fields: &[(&str, &str)]) -> StoredHead {
        let dated = |value: &str| match value.strip_prefix('@').and_then(|n| n.parse::<i64>().ok()) {
            Some(n) => date::format(CAME.saturating_add_signed(n)).to_vec(),
            None => value.as_bytes().to_vec(),
        };
        let fields = fields.iter().map(|(name, value)| (name, dated(value))).collect();
        let answer = ResponseHead {
            status,
            reason: b"".as_slice().into(),
            version: Version::Http11,
            fields,
            source: None,
        };
        StoredHead::new(
            &answer,
            Times { requested: CAME - 1, received: CAME },
            Variant::default(),
            &Policy::default(),
        )
    }

    fn policy(after: After) -> Policy {
        Policy { after, targeted: true, ..Policy::default() }
    }

    #[test]
    fn rfc9111_4_2_3_age() {
        for (fields, age_then) in [
            (&[("Date", "@0")][..], 1),
            (&[("Date", "@-50")], 50),
            (&[("Date", "@50")], 1),
            (&[("Age", "30")], 31),
            (&[("Date", "@-50"), ("Age", "30")], 50),
            (&[("Age", "30, 0")], 31),
            (&[("Age", "0, 30")], 1),
            (&[("Age", "abc")], 1),
            (&[("Age", "-30")], 1),
            (&[("Age", "30.0")], 1),
            (&[("Age", "30"), ("Age", "0")], 31),
        ] {
            let head = head(200, fields);
            assert_eq!(age(&head, CAME), age_then, "{fields:?}");
            assert_eq!(age(&head, CAME + 7), age_then + 7, "{fields:?}");
            assert_eq!(age(&head, CAME - 7), age_then, "a clock that went back: {fields:?}");
        }
    }

    #[test]
    fn rfc9111_4_2_1_explicit_lifetimes() {
        for (fields, said) in [
            (&[("Cache-Control", "max-age=5")][..], Some(5)),
            (&[("Cache-Control", "max-age=5, s-maxage=7")], Some(7)),
            (&[("Cache-Control", "max-age=5"), ("Expires", "@90"), ("Date", "@0")], Some(5)),
            (&[("Expires", "@90"), ("Date", "@0")], Some(90)),
            (&[("Expires", "@90"), ("Date", "@30")], Some(60)),
            (&[("Expires", "@-90"), ("Date", "@0")], Some(0)),
            (&[("Expires", "0"), ("Date", "@0")], Some(0)),
            (&[("Expires", "@90"), ("Expires", "@90"), ("Date", "@0")], Some(0)),
            (&[("CDN-Cache-Control", "max-age=3"), ("Cache-Control", "max-age=5")], Some(3)),
            (&[("CDN-Cache-Control", "no-cache"), ("Expires", "@90")], None),
            (&[], None),
        ] {
            assert_eq!(explicit(&head(200, fields).fields, true, CAME), said, "{fields:?}");
        }
    }

    #[test]
    fn rfc9110_5_6_7_dates_of_either_case_or_a_wrong_day_and_no_other_form() {
        for (text, reads) in [
            ("Thu, 18 Aug 2050 02:01:18 GMT", true),
            ("Mon, 18 Aug 2050 02:01:18 GMT", true),
            ("Thu Aug  8 02:01:18 2050", true),
            ("Xyz, 18 Aug 2050 02:01:18 GMT", false),
            ("Mon, 31 Feb 2050 02:01:18 GMT", false),
            ("18 Aug 2050 02:01:18 GMT", false),
            ("THU, 18 AUG 2050 02:01:18 gMT", true),
            ("thursday, 18-aug-50 02:01:18 gmt", true),
            ("Thu Aug 18 02:01:18 2050", true),
            ("Thu, 18 Aug 2050 02:01:18 UTC", false),
            ("Thu, 18 Aug 50 02:01:18 GMT", false),
            ("Thu 18 Aug 2050 02:01:18 GMT", false),
            ("Thu, 18  Aug  2050 02:01:18 GMT", false),
            ("Thu, 18-Aug-2050 02:01:18 GMT", false),
            ("Thu, 18 Aug 2050 02.01.18 GMT", false),
            ("Thu, 18 Aug 2050 2:01:18 GMT", false),
            ("", false),
            ("0", false),
        ] {
            assert_eq!(lenient_date(text.as_bytes()).is_some(), reads, "{text}");
        }
    }

    #[test]
    fn rfc9111_4_2_2_heuristic_lifetimes() {
        let changed = [("Last-Modified", "@-5000"), ("Date", "@0")];
        let heuristic = policy(After::Heuristic);
        assert_eq!(lifetime(&head(200, &changed), &heuristic), 500);
        assert_eq!(lifetime(&head(404, &changed), &heuristic), 500);
        assert_eq!(lifetime(&head(403, &changed), &heuristic), 0);
        let public = [&changed[..], &[("Cache-Control", "public")]].concat();
        assert_eq!(lifetime(&head(403, &public), &heuristic), 500);
        assert_eq!(lifetime(&head(200, &[("Last-Modified", "@50"), ("Date", "@0")]), &heuristic), 0);
        assert_eq!(lifetime(&head(200, &[]), &heuristic), 0);
        let old = [("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Date", "@0")];
        assert_eq!(lifetime(&head(200, &old), &heuristic), HEURISTIC_LIMIT);
        assert_eq!(lifetime(&head(200, &[("Cache-Control", "max-age=3")]), &heuristic), 3);
    }

    #[test]
    fn a_fixed_time_is_counted_from_the_check() {
        let minute = policy(After::Time(Duration::from_secs(60)));
        let aged = head(200, &[("Age", "1000")]);
        assert_eq!(lifetime(&aged, &minute) - age(&aged, CAME + 10), 50);
        assert_eq!(lifetime(&head(403, &[]), &minute), 0);
        assert_eq!(lifetime(&aged, &policy(After::Time(Duration::ZERO))), 0);
    }

    proptest! {
        #[test]
        fn an_answer_never_gets_younger(age_told: u32, date in -100_000..100_000_i64, now: u32, later: u32) {
            let (told, date) = (age_told.to_string(), format!("@{date}"));
            let head = head(200, &[("Age", &told), ("Date", &date)]);
            let (now, later) = (u64::from(now.min(later)), u64::from(now.max(later)));
            prop_assert!(age(&head, now) <= age(&head, later));
        }

        #[test]
        fn any_date_can_be_read(text in "[ -~]{0,40}") {
            lenient_date(text.as_bytes());
        }
    }
}
