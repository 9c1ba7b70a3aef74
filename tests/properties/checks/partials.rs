//! What an in-progress file says of itself: what was written is read, and nothing else is.

use fs_caching_server::cache::fingerprint::Fingerprint;
use fs_caching_server::cache::resume_record::{MAX_ATTRIBUTE, Record};
use fs_caching_server::http::identity::Identity;

use super::dice::Dice;
use super::words;

const NUMBERS: [&str; 9] =
    ["0", "7", "500", "18446744073709551615", "18446744073709551616", "+7", "007", " 7", ""];
const TAGS: [&str; 6] = ["\"a\"", "\"\"", "W/\"a\"", "a", "\"a\", \"b\"", ""];
const DATES: [&str; 4] = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "soon", ""];
const URLS: [&str; 3] = ["http://h/x.tgz", "?a=", "\r"];

/// The lines of a record, most of them right.
pub(crate) fn generate(dice: &mut Dice) -> Vec<u8> {
    let mostly = |dice: &mut Dice, of: &[&'static str]| {
        let upto = if dice.one_in(3) { of.len() } else { 2 };
        of[dice.below(upto)].to_owned()
    };
    let most = if dice.one_in(30) { 900 } else { 3 };
    let url = words(dice, &URLS, most);
    let lines = [
        mostly(dice, &["1", "1", "2", "01"]),
        mostly(dice, &["", "0c4e-boot", "\u{e9}", "a\tb"]),
        mostly(dice, &NUMBERS),
        mostly(dice, &NUMBERS),
        mostly(dice, &NUMBERS),
        mostly(dice, &NUMBERS[1..]),
        mostly(dice, &TAGS),
        mostly(dice, &DATES),
        mostly(dice, &["", "gzip", "gzip,br", "\0"]),
        mostly(dice, &["", "http://m/x", "\u{1}"]),
        mostly(dice, &["text/plain", "", "a\rb"]),
    ];
    let mut out = lines.join("\n").into_bytes();
    out.push(b'\n');
    out.extend_from_slice(&url);
    if dice.one_in(4) {
        dice.spoil(&mut out);
    }
    out
}

pub(crate) fn check(data: &[u8]) -> bool {
    // In the form that is known, so that more than its name is looked at.
    let within = again(&[b"1\n", data].concat());
    let built = built(data).is_some_and(|record| kept(&record, data));
    again(data) || within || built
}

/// What is read at all is exactly what would have been written.
fn again(bytes: &[u8]) -> bool {
    let Some(record) = Record::decode(bytes) else { return false };
    assert!(bytes.len() <= MAX_ATTRIBUTE);
    assert_eq!(record.encode().as_deref(), Some(bytes), "two forms of one record");
    let control = |&byte: &u8| byte == 0x7f || (byte < b' ' && !matches!(byte, b'\t' | b'\n'));
    assert!(!bytes.iter().any(control), "a control character");
    assert!(!record.identity.condition().is_empty(), "nothing proves that the rest is of the same file");
    true
}

/// A record of whatever pieces the bytes have.
fn built(data: &[u8]) -> Option<Record> {
    let mut dice = Dice::of(data);
    let mut pieces = data.split(|&byte| byte == b'\n').map(<[u8]>::to_vec);
    let boot = String::from_utf8(pieces.next()?).ok();
    let (etag, modified, source) = (pieces.next(), pieces.next(), pieces.next());
    let [coding, content_type, url] = [(); 3].map(|()| pieces.next().unwrap_or_default());
    let (length, synced) = (dice.one_in(2).then(|| dice.magnitude()), dice.magnitude());
    let mark = Fingerprint { at: dice.magnitude(), digest: dice.magnitude() };
    Some(Record {
        boot,
        synced,
        mark,
        url,
        content_type,
        identity: Identity { etag, modified, length, coding, source },
    })
}

/// What is written at all comes back, trusts no byte that it must not, and no part of it is a record of its own
/// but one with less of a URL.
fn kept(record: &Record, data: &[u8]) -> bool {
    let Some(written) = record.encode() else { return false };
    assert_eq!(Record::decode(&written).as_ref(), Some(record));
    let mut dice = Dice::of(data);
    let (size, boot) = (dice.magnitude(), record.boot.as_deref());
    assert!(record.trusted(size, boot) <= size && record.trusted(size, None) <= size.min(record.synced));
    let part = &written[..dice.below(written.len() - record.url.len())];
    assert_eq!(Record::decode(part), None, "a part of a record");
    true
}
