//! The stored form of a head: bytes stored beside a body, and trusted only if every one of them makes sense.
//!
//! A mark, the key and the body that it belongs to, the head, and a sum over all of it. Numbers are big-endian,
//! texts have their length before them. The first form had no key.

use super::stored::{OF_ONE_USER, StoredHead, Times};
use super::vary::Variant;
use crate::http::fields::Fields;
use crate::http::is_text_byte;

/// First bytes; the last one is the version of the form.
const MARK: &[u8] = b"fcsh\x02";
/// Those of the form before, which is still read.
const MARK_1: &[u8] = b"fcsh\x01";
/// Bytes of a record: a head has at most 64 KiB.
pub const MOST: usize = 256 * 1024;

/// What a record holds.
#[derive(Clone, Debug)]
pub struct Record {
    /// The head.
    pub head: StoredHead,
    /// The body that it belongs to.
    pub body: BodyId,
    /// The key that it belongs to; `None` in the form of earlier versions.
    pub key: Option<Box<[u8]>>,
}

/// The body that a head belongs to: another size or date is another body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyId {
    /// Of the file; a copy has another.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Last modification, in nanoseconds since 1970, modulo 2^64.
    pub modified: u64,
}

impl BodyId {
    /// Is it the same but for its place on the disk?
    pub fn is_copy_of(&self, other: &Self) -> bool {
        (self.size, self.modified) == (other.size, other.modified)
    }
}

/// Writes a record.
pub fn encode(head: &StoredHead, body: BodyId, key: &[u8]) -> Vec<u8> {
    let mut out = Out(MARK.to_vec());
    out.text(key);
    for number in [body.inode, body.size, body.modified, head.times.requested, head.times.received] {
        out.number(number);
    }
    out.number(u64::from(head.status));
    out.number(u64::from(head.invalid));
    out.text(&head.reason);
    out.number(head.variant.0.len() as u64);
    for (name, value) in &head.variant.0 {
        out.text(name.as_bytes());
        out.number(u64::from(value.is_some()));
        out.text(value.as_deref().unwrap_or_default());
    }
    out.number(head.fields.len() as u64);
    for (name, value) in head.fields.iter() {
        out.text(name);
        out.text(value);
    }
    let sum = sum(&out.0);
    out.number(sum);
    out.0
}

/// Reads a record; `None` for anything that was not written so.
pub fn decode(record: &[u8]) -> Option<Record> {
    let (written, told) = record.split_at_checked(record.len().checked_sub(8)?)?;
    if record.len() > MOST || In(told).number()? != sum(written) {
        return None;
    }
    let first_form = written.strip_prefix(MARK_1);
    let mut rest = In(first_form.or_else(|| written.strip_prefix(MARK))?);
    let key = if first_form.is_none() { Some(rest.text()?.into()) } else { None };
    let body = BodyId { inode: rest.number()?, size: rest.number()?, modified: rest.number()? };
    let times = Times { requested: rest.number()?, received: rest.number()? };
    let status = u16::try_from(rest.number()?).ok().filter(|status| (200..1000).contains(status))?;
    let invalid = rest.flag()?;
    let reason = rest.line()?.into();
    let mut variant = Variant::default();
    for _ in 0..rest.number()? {
        let name = std::str::from_utf8(rest.line()?).ok()?.to_owned();
        let given = rest.flag()?;
        let value = rest.line().filter(|value| given || value.is_empty())?;
        variant.0.push((name, given.then(|| value.to_vec())));
    }
    let mut fields = Fields::new();
    for _ in 0..rest.number()? {
        let name = rest.line().filter(|name| !name.is_empty() && !name.contains(&b':'))?;
        fields.push(name, rest.line()?);
    }
    if key.is_none() {
        // That version stored what is one user's.
        OF_ONE_USER.iter().for_each(|name| fields.remove(name));
    }
    let head = StoredHead { status, reason, fields, times, variant, invalid, other_tags: Vec::new() };
    rest.0.is_empty().then_some(Record { head, body, key })
}

struct Out(Vec<u8>);

impl Out {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text);
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A text of any bytes.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }

    /// A text that fits on one line of a head.
    fn line(&mut self) -> Option<&'a [u8]> {
        let text = self.text()?;
        text.iter().copied().all(is_text_byte).then_some(text)
    }
}

/// FNV-1a: against broken disks and half-written files, not against forgers.
pub fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(one: &StoredHead, other: &StoredHead) -> bool {
        one.fields.iter().eq(other.fields.iter())
            && (one.status, &one.reason, one.times, &one.variant, one.invalid)
                == (other.status, &other.reason, other.times, &other.variant, other.invalid)
    }

    prop_compose! {
        fn heads()(
            status in 200..1000_u16,
            reason in "[ -~]{0,20}",
            fields in prop::collection::vec(("[a-zA-Z-]{1,12}", "[ -~\u{80}-\u{ff}]{0,30}"), 0..12),
            variant in prop::collection::vec(("[a-z]{1,8}", prop::option::of("[ -~]{0,9}")), 0..4),
            requested in any::<u64>(),
            received in any::<u64>(),
            invalid in any::<bool>(),
        ) -> StoredHead {
            StoredHead {
                status,
                reason: reason.into_bytes().into(),
                fields: fields.iter().map(|(name, value)| (name, value)).collect(),
                times: Times { requested, received },
                variant: Variant(variant.into_iter().map(|(n, v)| (n, v.map(String::into_bytes))).collect()),
                invalid,
                other_tags: Vec::new(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            head in heads(),
            inode: u64,
            size: u64,
            modified: u64,
            key in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let body = BodyId { inode, size, modified };
            let written = encode(&head, body, &key);
            let read = decode(&written).unwrap();
            prop_assert!(same(&read.head, &head));
            prop_assert_eq!((read.body, read.key.as_deref()), (body, Some(&key[..])));
            // As the version before wrote it.
            let rest = &written[MARK.len() + 8 + key.len()..written.len() - 8];
            let mut older = [MARK_1, rest].concat();
            older.extend_from_slice(&sum(&older).to_be_bytes());
            let read = decode(&older).unwrap();
            prop_assert!(same(&read.head, &head));
            prop_assert_eq!((read.body, read.key), (body, None));
        }

        #[test]
        fn a_changed_or_cut_record_is_unknown(head in heads(), at: prop::sample::Index, bit in 0..8_u8) {
            let body = BodyId { inode: 1, size: 2, modified: 3 };
            let mut record = encode(&head, body, b"key");
            prop_assert!(decode(&record[..at.index(record.len())]).is_none());
            let at = at.index(record.len());
            record[at] ^= 1_u8 << bit;
            prop_assert!(decode(&record).is_none());
        }

        #[test]
        fn any_bytes_with_a_right_sum_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            bytes.splice(0..0, MARK.iter().copied());
            let told = sum(&bytes);
            bytes.extend_from_slice(&told.to_be_bytes());
            decode(&bytes);
        }
    }
}
