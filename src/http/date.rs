//! Dates of header fields (RFC 9110 section 5.6.7).

use httpdate::HttpDate;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// The last second of the year 9999, which is as far as four digits go.
const LAST_SECOND: u64 = 253_402_300_799;
/// Fifty years of the calendar's average length.
const FIFTY_YEARS: u64 = 50 * 31_556_952;

/// IMF-fixdate of a Unix time in seconds, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// A time after the year 9999 is written as the last second of it.
pub fn format(unix_secs: u64) -> [u8; 29] {
    let mut text = [b' '; 29];
    let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(unix_secs.min(LAST_SECOND)));
    let written = write!(&mut text[..], "{date}");
    debug_assert!(written.is_ok());
    text
}

/// Unix time in seconds of a date in any of the three forms a recipient must understand.
///
/// `None` for anything else, a wrong day of the week and dates before 1970 included. A year of two digits
/// is one from 1970 to 2069: right for what servers write, which is never far in the future.
pub fn parse(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let time = httpdate::parse_http_date(text.trim_ascii()).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// The same for what a client sends at the time `now`: a year of two digits that seems to be more than
/// 50 years ahead is the last one in the past with these digits.
pub fn parse_at(text: &[u8], now: u64) -> Option<u64> {
    let Some((day, rest)) = rfc850(text) else { return parse(text) };
    let (date, month, year, time) = (&rest[..2], &rest[3..6], &rest[7..9], &rest[10..]);
    let within = |century: u64| parse(format!("{day}, {date} {month} {century}{year} {time}").as_bytes());
    // The day of the week must be right too, so that the wrong century is mostly none at all.
    let century = century(now);
    within(century).filter(|&date| date <= now.saturating_add(FIFTY_YEARS)).or_else(|| within(century - 1))
}

/// The short name of the day, and the rest, of a date such as `Sunday, 06-Nov-94 08:49:37 GMT`.
fn rfc850(text: &[u8]) -> Option<(&str, &str)> {
    const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let text = std::str::from_utf8(text.trim_ascii()).ok().filter(|text| text.is_ascii())?;
    let (day, rest) = text.split_once(", ").filter(|(day, _)| DAYS.contains(day))?;
    let shaped = rest.len() == "06-Nov-94 08:49:37 GMT".len() && rest.as_bytes()[2] == b'-';
    (shaped && rest.as_bytes()[6] == b'-' && rest.as_bytes()[9] == b' ').then_some((&day[..3], rest))
}

/// The first two digits of the year.
fn century(unix_secs: u64) -> u64 {
    format(unix_secs)[12..14].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc9110_5_6_7_three_forms_are_one_date() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
    }

    /// 24 November 2026, 00:00:00.
    const NOW: u64 = 1_795_478_400;

    #[test]
    fn rfc9110_5_6_7_a_year_of_two_digits_is_at_most_50_years_ahead() {
        assert_eq!(&format(NOW), b"Tue, 24 Nov 2026 00:00:00 GMT");
        for (text, same) in [
            ("Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("Saturday, 16-May-15 20:31:39 GMT", "Sat, 16 May 2015 20:31:39 GMT"),
            ("Tuesday, 24-Nov-26 00:00:00 GMT", "Tue, 24 Nov 2026 00:00:00 GMT"),
            ("Sunday, 24-Nov-75 00:00:00 GMT", "Sun, 24 Nov 2075 00:00:00 GMT"),
            ("Monday, 23-Nov-76 00:00:00 GMT", "Mon, 23 Nov 2076 00:00:00 GMT"),
            ("Friday, 24-Nov-78 00:00:00 GMT", "Fri, 24 Nov 1978 00:00:00 GMT"),
            ("Friday, 31-Dec-99 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:59 GMT"),
            ("Saturday, 01-Jan-00 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT"),
        ] {
            assert_eq!(parse_at(text.as_bytes(), NOW), parse(same.as_bytes()), "{text}");
            assert!(parse(same.as_bytes()).is_some(), "{same}");
        }
        // The same text half a century earlier and later.
        let text = b"Saturday, 16-May-15 20:31:39 GMT";
        assert_eq!(parse_at(text, NOW + FIFTY_YEARS / 2), parse(text));
        assert_eq!(parse_at(b"Friday, 24-Nov-78 00:00:00 GMT", 0), Some(280_713_600));
        // 2095: too far ahead, and in 1995 it was another day of the week.
        assert_eq!(parse_at(b"Thursday, 24-Nov-95 00:00:00 GMT", NOW), None);
    }

    #[test]
    fn rfc9110_5_6_7_the_other_forms_do_not_depend_on_the_time() {
        for now in [0, NOW, LAST_SECOND, u64::MAX] {
            for text in [
                "Sun, 06 Nov 1994 08:49:37 GMT",
                "Sun Nov  6 08:49:37 1994",
                "Fri, 24 Nov 2178 00:00:00 GMT",
                "Sunday, 06-Nov-1994 08:49:37 GMT",
                "Sunday, 06 Nov 94 08:49:37 GMT",
                "Sunday, 06-Nov-9\u{e9} 08:49:37 GMT",
                "Someday, 06-Nov-94 08:49:37 GMT",
                "Sunday, ",
            ] {
                assert_eq!(parse_at(text.as_bytes(), now), parse(text.as_bytes()), "{text} at {now}");
            }
        }
    }

    #[test]
    fn the_edges_of_time() {
        assert_eq!(&format(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&format(951_782_400), b"Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(&format(LAST_SECOND), b"Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(format(u64::MAX), format(LAST_SECOND));
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "0",
            "yesterday",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"\xff\xfe"), None);
    }

    proptest! {
        #[test]
        fn written_dates_read_back(secs in 0..=LAST_SECOND) {
            prop_assert_eq!(parse(&format(secs)), Some(secs));
        }

        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            parse(&text);
            parse_at(&text, NOW);
        }

        #[test]
        fn nearly_a_date_does_not_make_it_panic(text in "[MTWFS][a-z]{2,8}, ?[0-9]{2}-[A-Z][a-z]{2}-.{2,4} [0-9:]{8} GMT") {
            parse(text.as_bytes());
            parse_at(text.as_bytes(), NOW);
        }

        /// All three forms of a time that is not more than 50 years from now are one.
        #[test]
        fn three_forms_of_any_near_time_are_one(secs in NOW - FIFTY_YEARS + 400 * 86_400..NOW + FIFTY_YEARS - 400 * 86_400) {
            let fixed = String::from_utf8(format(secs).to_vec()).unwrap();
            let (day, rest) = fixed.split_once(", ").unwrap();
            let parts: Vec<_> = rest.split(' ').collect();
            let long = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
                .into_iter().find(|long| long.starts_with(day)).unwrap();
            let old = format!("{long}, {}-{}-{} {} GMT", parts[0], parts[1], &parts[2][2..], parts[3]);
            let padded = parts[0].trim_start_matches('0');
            let c = format!("{day} {} {padded:>2} {} {}", parts[1], parts[3], parts[2]);
            for text in [fixed.clone(), old, c] {
                prop_assert_eq!(parse_at(text.as_bytes(), NOW), Some(secs), "{}", text);
            }
        }
    }
}
