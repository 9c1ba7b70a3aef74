//! Sets of UTF-16 code units, and how a code unit is written as a character.

use std::borrow::Cow;

/// A set of code units as sorted ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct UnitSet(Vec<(u16, u16)>);

const DIGITS: &[(u16, u16)] = &[(0x30, 0x39)];
const WORD: &[(u16, u16)] = &[(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)];
const SPACE: &[(u16, u16)] = &[
    (0x09, 0x0D),
    (0x20, 0x20),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
    (0xFEFF, 0xFEFF),
];
const LINE_ENDS: &[(u16, u16)] = &[(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)];

impl UnitSet {
    pub(super) fn single(unit: u16) -> Self {
        Self(vec![(unit, unit)])
    }

    /// What `.` matches.
    pub(super) fn dot() -> Self {
        Self(LINE_ENDS.to_vec()).inverted()
    }

    /// The set of `\d`, `\D`, `\s`, `\S`, `\w` or `\W`.
    pub(super) fn shorthand(letter: char) -> Option<Self> {
        let set = match letter.to_ascii_lowercase() {
            'd' => DIGITS,
            's' => SPACE,
            'w' => WORD,
            _ => return None,
        };
        let set = Self(set.to_vec());
        Some(if letter.is_ascii_uppercase() { set.inverted() } else { set })
    }

    pub(super) fn contains(&self, unit: u16) -> bool {
        let at = self.0.partition_point(|&(first, _)| first <= unit);
        at.checked_sub(1).is_some_and(|at| unit <= self.0[at].1)
    }

    pub(super) fn add(&mut self, first: u16, last: u16) {
        self.0.push((first, last));
        self.0.sort_unstable();
        self.0.dedup_by(|next, kept| {
            let joins = u32::from(next.0) <= u32::from(kept.1) + 1;
            if joins {
                kept.1 = kept.1.max(next.1);
            }
            joins
        });
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for &(first, last) in &other.0 {
            self.add(first, last);
        }
    }

    pub(super) fn inverted(&self) -> Self {
        let mut out = Vec::new();
        let mut next = Some(0);
        for &(first, last) in &self.0 {
            if let Some(start) = next.filter(|&start| start < first) {
                out.push((start, first - 1));
            }
            next = last.checked_add(1);
        }
        out.extend(next.map(|start| (start, u16::MAX)));
        Self(out)
    }

    /// The set as ranges of characters, surrogates in their stand-ins.
    pub(super) fn char_ranges(&self) -> Vec<(u32, u32)> {
        let mut out = Vec::new();
        for &(first, last) in &self.0 {
            for (low, high, offset) in [(0, 0xD7FF, 0), (0xD800, 0xDFFF, STAND_IN), (0xE000, 0xFFFF, 0)] {
                let (first, last) = (u32::from(first).max(low), u32::from(last).min(high));
                if first <= last {
                    out.push((first + offset, last + offset));
                }
            }
        }
        out
    }
}

/// Added to a surrogate, this gives the private character that stands for it.
const STAND_IN: u32 = 0x10_0000;

/// The text as the engines read it: each character beyond U+FFFF as two stand-ins.
pub(super) fn text(given: &str) -> Cow<'_, str> {
    if given.bytes().all(|byte| byte < 0xF0) {
        return Cow::Borrowed(given);
    }
    let unit_char =
        |unit: u16| char::from_u32(u32::from(unit)).or(char::from_u32(u32::from(unit) + STAND_IN));
    Cow::Owned(given.encode_utf16().filter_map(unit_char).collect())
}
