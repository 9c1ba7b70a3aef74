//! Heads kept beside their files: what was written is read, and nothing else is.

use fs_caching_server::http::caching::Policy;
use fs_caching_server::http::caching::record::{BodyId, MOST, Record, decode, encode, sum};
use fs_caching_server::http::caching::stored::{StoredHead, Times};
use fs_caching_server::http::caching::vary::Variant;
use fs_caching_server::http::request::HeadLimits;
use fs_caching_server::http::response::parse;

use super::dice::Dice;
use super::response;

/// What a record begins with.
const MARK: &[u8] = b"fcsh\x02";
/// What one of an earlier version begins with, which has no key.
const MARK_1: &[u8] = b"fcsh\x01";

pub(crate) fn generate(dice: &mut Dice) -> Vec<u8> {
    if dice.one_in(2) {
        return response::generate(dice);
    }
    // What is inside of a record, nearly right.
    let mut out = Vec::new();
    for number in [7, 3, 1, 1, 2, 200, dice.number() % 3] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let text = |out: &mut Vec<u8>, text: &[u8]| {
        out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        out.extend_from_slice(text);
    };
    text(&mut out, b"OK");
    for (count, name) in [(dice.number() % 2, b"accept"), (dice.number() % 3, b"x-date")] {
        out.extend_from_slice(&count.to_be_bytes());
        for _ in 0..count {
            text(&mut out, name);
            if name == b"accept" {
                out.extend_from_slice(&u64::from(!dice.one_in(4)).to_be_bytes());
            }
            text(&mut out, dice.pick(&[&b"v"[..], b"", b"a\r\nb: c"]));
        }
    }
    if dice.one_in(4) {
        dice.spoil(&mut out);
    }
    out
}

pub(crate) fn check(data: &[u8]) -> bool {
    let whole = again(data);
    // With a sum that fits, so that more than the sum is looked at.
    let summed = |begun: &[u8]| [begun, &sum(begun).to_be_bytes()].concat();
    let within = again(&summed(&[MARK, &[0; 8], data].concat()));
    let older = again(&summed(&[MARK_1, data].concat()));
    assert_eq!(within, older, "the forms differ in more than the key");
    kept(data) || whole || within
}

/// What is read at all is exactly what would have been written.
fn again(bytes: &[u8]) -> bool {
    let Some(Record { head, body, key }) = decode(bytes) else { return false };
    assert!(bytes.len() <= MOST);
    if let Some(key) = key {
        assert_eq!(encode(&head, body, &key), bytes, "two forms of one record");
    }
    let lines = head.fields.iter().flat_map(|(name, value)| [name, value]).chain([&*head.reason]);
    lines.for_each(|text| {
        assert!(
            !text.iter().any(|&byte| byte == 0x7f || (byte < b' ' && byte != b'\t')),
            "a control character"
        )
    });
    true
}

/// The head of an answer comes back, and no damaged copy of it does.
fn kept(data: &[u8]) -> bool {
    let Ok(Some((answer, used))) = parse(data, &HeadLimits::default(), &mut 0) else { return false };
    let Ok(variant) = Variant::of(&answer.fields, &answer.fields, &["accept"]) else { return false };
    if answer.status < 200 {
        return false;
    }
    let mut dice = Dice::of(data);
    let times = Times { requested: dice.magnitude(), received: dice.magnitude() };
    let policy = Policy { targeted: dice.one_in(2), ..Policy::default() };
    let head = StoredHead::new(&answer, times, variant, &policy);
    let body = BodyId { inode: dice.number(), size: used as u64, modified: dice.number() };
    let written = encode(&head, body, data);
    let Record { head: read, body: of, key } = decode(&written).unwrap();
    assert_eq!(key.as_deref(), Some(data));
    assert_eq!((read.status, &read.reason, read.times, of), (head.status, &head.reason, head.times, body));
    assert_eq!((&read.variant, read.invalid), (&head.variant, head.invalid));
    assert!(read.fields.iter().eq(head.fields.iter()));
    assert!(decode(&written[..dice.below(written.len())]).is_none(), "a part of a record");
    let mut damaged = written.clone();
    let at = dice.below(written.len());
    damaged[at] ^= 1 << dice.below(8);
    assert!(decode(&damaged).is_none(), "a damaged record");
    true
}
