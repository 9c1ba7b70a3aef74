//! Dates: what is written is read, in each of the three forms, as plain arithmetic has it.

use fs_caching_server::http::date::{self, parse};

use super::dice::Dice;

const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

pub(crate) fn generate(dice: &mut Dice) -> Vec<u8> {
    let secs = dice.magnitude() % (LAST + 1);
    let form = dice.below(3);
    let mut out = forms(secs)[form].clone().into_bytes();
    if dice.one_in(2) {
        dice.spoil(&mut out);
    }
    out
}

pub(crate) fn check(data: &[u8]) -> bool {
    if let Some(bytes) = data.first_chunk::<8>() {
        written_and_read(u64::from_be_bytes(*bytes) % (LAST + 1));
    }
    let Some(secs) = parse(data) else { return false };
    written_and_read(secs);
    // It was one of the three ways to write this second, but for blanks around it and leading zeros or case.
    let text = String::from_utf8(data.to_ascii_lowercase()).unwrap();
    let month = MONTHS[civil(secs).1 - 1].to_ascii_lowercase();
    assert!(text.contains(&month), "{text} is no date in {month}");
    true
}

fn written_and_read(secs: u64) {
    let [fixdate, obsolete, asctime] = forms(secs);
    assert_eq!(std::str::from_utf8(&date::format(secs)), Ok(&*fixdate));
    assert_eq!(parse(fixdate.as_bytes()), Some(secs), "{fixdate}");
    assert_eq!(parse(asctime.as_bytes()), Some(secs), "{asctime}");
    // Two digits of a year mean 1970 to 2069.
    if civil(secs).0 < 2070 {
        assert_eq!(parse(obsolete.as_bytes()), Some(secs), "{obsolete}");
    }
}

/// Year, month from 1, day from 1, by counting.
fn civil(secs: u64) -> (u64, usize, u64) {
    let mut days = secs / 86_400;
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        month += 1;
        if days < length {
            break;
        }
        days -= length;
    }
    (year, month, days + 1)
}

/// A second in the three forms of RFC 9110 section 5.6.7.
fn forms(secs: u64) -> [String; 3] {
    let (year, month, day) = civil(secs);
    let month = MONTHS[month - 1];
    let weekday = DAYS[usize::try_from(secs / 86_400 % 7).unwrap()];
    let short = &weekday[..3];
    let clock = format!("{:02}:{:02}:{:02}", secs / 3600 % 24, secs / 60 % 60, secs % 60);
    [
        format!("{short}, {day:02} {month} {year} {clock} GMT"),
        format!("{weekday}, {day:02}-{month}-{:02} {clock} GMT", year % 100),
        format!("{short} {month} {day:2} {clock} {year}"),
    ]
}
