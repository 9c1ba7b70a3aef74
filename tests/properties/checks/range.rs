//! Ranges: what is selected lies inside, and is what plain arithmetic selects.
//!
//! The bytes are lines: the size, Range, If-Range, our tag, our date in Unix seconds.

use fs_caching_server::http::conditional::{Validators, Verdict, evaluate, if_range_holds};
use fs_caching_server::http::fields::Fields;
use fs_caching_server::http::range::{Selection, select};
use fs_caching_server::http::request::Method;

use super::dice::Dice;
use super::words;

const WORDS: &[&str] =
    &["bytes=", "0", "1", "9", "18446744073709551615", "18446744073709551616", "-", "-", ",", " ", "a"];

pub(crate) fn generate(dice: &mut Dice) -> Vec<u8> {
    let mut out = format!("{}\n", dice.magnitude()).into_bytes();
    if dice.one_in(3) {
        out.extend(words(dice, WORDS, 8));
    } else {
        let (first, last) = (dice.magnitude(), dice.magnitude());
        let range = [
            format!("{first}-"),
            format!("{first}-{last}"),
            format!("-{last}"),
            format!("{first}-{last}, 5-"),
        ];
        out.extend_from_slice(format!("bytes={}", range[dice.below(4)]).as_bytes());
    }
    if dice.one_in(3) {
        let tag = dice.pick(&["\"a\"", "W/\"a\"", "\"b\"", "*", "Sun, 06 Nov 1994 08:49:37 GMT"]);
        out.extend_from_slice(format!("\n{tag}\n\"a\"\n784111777").as_bytes());
    }
    if dice.one_in(4) {
        dice.spoil(&mut out);
    }
    out
}

pub(crate) fn check(data: &[u8]) -> bool {
    let mut lines = data.splitn(5, |&byte| byte == b'\n');
    let number = |line: Option<&[u8]>| -> Option<u64> { std::str::from_utf8(line?).ok()?.parse().ok() };
    let (size, range) = (number(lines.next()).unwrap_or(10), lines.next().unwrap_or_default());
    let (if_range, tag, date) = (lines.next(), lines.next(), number(lines.next()));
    let validators = Validators { etags: [tag, None], last_modified: date, since: date, now: 0 };
    let mut fields = Fields::from_iter([(&b"Range"[..], range)]);
    if let Some(condition) = if_range.filter(|condition| !condition.is_empty()) {
        fields.push(b"If-Range", condition);
    }
    conditions(if_range.unwrap_or_default(), &validators);
    let selected = select(&Method::Get, &fields, size, &validators);
    assert_eq!(select(&Method::Head, &fields, size, &validators), Selection::Whole);
    if !if_range_holds(&fields, &validators) {
        assert_eq!(selected, Selection::Whole, "in spite of If-Range");
        return false;
    }
    if let Selection::Part { first, last } = selected {
        assert!(first <= last && last < size, "{first} to {last} of {size}");
        // The same part again, asked for as it was given.
        let same = Fields::from_iter([("Range", format!("bytes={first}-{last}"))]);
        assert_eq!(select(&Method::Get, &same, size, &Validators::default()), selected);
    }
    if let Some(expected) = plainly_selected(range, size) {
        assert_eq!(selected, expected, "{}", range.escape_ascii());
    }
    matches!(selected, Selection::Part { .. })
}

/// Conditions do not contradict each other, whatever their text is.
fn conditions(text: &[u8], validators: &Validators<'_>) {
    let verdict = |name: &str| evaluate(&Method::Get, &Fields::from_iter([(name, text)]), validators);
    let (matching, none_matching) = (verdict("If-Match"), verdict("If-None-Match"));
    assert_ne!(matching, Verdict::NotModified);
    assert_ne!(none_matching, Verdict::PreconditionFailed);
    // What is strongly equal is weakly equal too.
    assert!(matching != Verdict::Proceed || none_matching == Verdict::NotModified, "{}", text.escape_ascii());
    let since = Fields::from_iter([("If-Unmodified-Since", text), ("If-Modified-Since", text)]);
    if validators.last_modified.is_some() && verdict("If-Unmodified-Since") == Verdict::PreconditionFailed {
        assert_eq!(verdict("If-Modified-Since"), Verdict::Proceed);
        assert_eq!(evaluate(&Method::Get, &since, validators), Verdict::PreconditionFailed);
    }
    let other = Method::Other("PUT".into());
    assert_eq!(evaluate(&other, &since, validators), Verdict::Proceed);
}

/// One range in plain form (RFC 9110 section 14.1.2), in numbers that do not overflow. `None` for other texts.
fn plainly_selected(range: &[u8], size: u64) -> Option<Selection> {
    let text = std::str::from_utf8(range).ok()?.strip_prefix("bytes=")?;
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| {
        let plain = text.len() < 30 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u128>().ok().filter(|_| plain)
    };
    let size = u128::from(size);
    let (first, end) = match (number(first), number(last)) {
        (Some(first), None) if last.is_empty() => (first, size),
        (Some(first), Some(last)) if first <= last => (first, size.min(last + 1)),
        (None, Some(suffix)) if first.is_empty() => (size.saturating_sub(suffix), size),
        _ => return None,
    };
    if first >= end {
        return Some(Selection::Unsatisfiable);
    }
    Some(Selection::Part { first: u64::try_from(first).unwrap(), last: u64::try_from(end - 1).unwrap() })
}
