//! Dates of header fields (RFC 9110 section 5.6.7).

use httpdate::HttpDate;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// The last second of the year 9999, which is as far as four digits go.
const LAST_SECOND: u64 = 253_402_300_799;

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
/// `None` for anything else, a wrong day of the week and dates before 1970 included.
pub fn parse(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let time = httpdate::parse_http_date(text.trim_ascii()).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
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
        }
    }
}
