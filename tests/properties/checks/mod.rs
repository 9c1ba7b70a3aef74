//! What must hold for any bytes at all: one file a parser, each with a check and a generator.
//!
//! `check` takes the bytes and panics where a promise is broken; it tells whether they got past the
//! parser, so that the suite can see that not everything is turned away at the door. `generate`
//! makes such bytes from a seed. The targets in `fuzz/` run the same checks, guided by coverage.

pub(crate) mod chunked;
pub(crate) mod connection;
pub(crate) mod dates;
pub(crate) mod dice;
pub(crate) mod partials;
pub(crate) mod paths;
pub(crate) mod range;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod stored;

use dice::Dice;
use fs_caching_server::http::fields::Fields;
use fs_caching_server::http::request::HeadLimits;

/// Limits that nothing here reaches.
pub(crate) const WIDE: HeadLimits = HeadLimits { bytes: 1 << 24, fields: 1 << 16, target: 1 << 20 };

/// Ways to cut `data` into pieces, as their lengths, to be gone through again and again: all at once, byte by
/// byte, and two that depend on the bytes themselves.
pub(crate) fn cuttings(data: &[u8]) -> [Vec<usize>; 4] {
    let mut dice = Dice::of(data);
    let mut steps = |bound| (0..7).map(|_| 1 + dice.below(bound)).collect();
    [vec![data.len().max(1)], vec![1], steps(4), steps(60)]
}

/// Reads what lies at the front of `data` while it grows by `steps`, with `parse` as a connection calls it: the
/// memory of how far it has looked, the grown buffer, nothing else.
pub(crate) fn grown<T, E>(
    data: &[u8],
    steps: &[usize],
    parse: impl Fn(&[u8], &mut usize) -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let (mut scanned, mut len) = (0, 0);
    for step in steps.iter().cycle() {
        len = data.len().min(len + step);
        match parse(&data[..len], &mut scanned)? {
            None if len < data.len() => {}
            end => return Ok(end),
        }
    }
    Ok(None)
}

/// Names and values, in order.
pub(crate) fn listed(fields: &Fields) -> Vec<(&[u8], &[u8])> {
    fields.iter().collect()
}

/// Does `part` consist of members of `whole`, in their order?
pub(crate) fn is_subsequence<T: PartialEq>(part: &[T], whole: &[T]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|wanted| rest.any(|found| found == wanted))
}

/// Bytes made of words that mean something, with a few that do not.
pub(crate) fn words(dice: &mut Dice, words: &[&str], most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..dice.below(most) {
        out.extend_from_slice(dice.pick(words).as_bytes());
    }
    if dice.one_in(3) {
        dice.spoil(&mut out);
    }
    out
}
