//! The engine for what is not regular, and for what `regex` finds too large: a program of a pattern's steps, of which
//! one way after another is gone, as ECMA-262 section 22.2.2 has it.
//!
//! A place that was of no use once is not gone through again, which makes the time linear in the text for nearly all
//! patterns without back-references; what still takes more than [`MOST_STEPS`] is given up. Each step takes constant
//! time, or counts as many as it takes: that, not how often it goes back, is what bounds a match.

use super::program::{Plain, Program, Step};

/// Steps taken for one text: some milliseconds.
const MOST_STEPS: u64 = 1_000_000;
/// Bits for places that were gone through: 8 MiB.
const MOST_PLACES: usize = 1 << 26;
/// A group or a round that has not begun.
const UNSET: usize = usize::MAX;

/// Is there a match anywhere in these code units? `None` if that takes too long to find out.
pub(super) fn finds(program: &Program, text: &[u16]) -> Option<bool> {
    let width = text.len() + 1;
    // With captures there is more to a place than where it is.
    let places = if program.slots > 0 { 0 } else { program.forks * width };
    if places > MOST_PLACES {
        return None;
    }
    let mut search = Search {
        program,
        text,
        left: MOST_STEPS,
        branches: Vec::new(),
        slots: vec![UNSET; program.slots],
        seen: vec![0; places.div_ceil(64)],
        looks: 0,
        trail: Vec::new(),
    };
    // What begins with `^` matches at the beginning or not at all.
    let anchored = matches!(program.steps[..], [Step::Plain(Plain::Start), ..]);
    for start in 0..if anchored { 1 } else { width } {
        if search.run(0, start)? {
            return Some(true);
        }
    }
    Some(false)
}

/// What is to be done when a way leads nowhere.
enum Branch {
    Go { step: usize, at: usize },
    Restore { slot: usize, was: usize },
}

/// A look for a match.
struct Search<'a> {
    program: &'a Program,
    text: &'a [u16],
    /// Steps that may still be taken.
    left: u64,
    branches: Vec<Branch>,
    slots: Vec<usize>,
    /// Places, by fork and position, that lead nowhere or are being gone through.
    seen: Vec<u64>,
    /// Look-arounds that are open, and the places seen in them.
    looks: usize,
    trail: Vec<usize>,
}

impl Search<'_> {
    /// Goes all ways from a step until one leads to [`Step::Found`]. What was captured on it stays.
    fn run(&mut self, mut step: usize, mut at: usize) -> Option<bool> {
        let base = self.branches.len();
        loop {
            self.left = self.left.checked_sub(1)?;
            let next = match self.program.steps[step] {
                Step::Found => {
                    // The other ways are given up, but not what undoes the captures.
                    let mut ways = self.branches.split_off(base);
                    ways.retain(|branch| matches!(branch, Branch::Restore { .. }));
                    self.branches.append(&mut ways);
                    return Some(true);
                }
                Step::Fork { number, first, second } => self.is_new(number, at).then(|| {
                    self.branches.push(Branch::Go { step: second, at });
                    (first, at)
                }),
                Step::Many { number, set, back } => {
                    self.many((number, set, back), step + 1, at)?;
                    None
                }
                Step::Jump(to) => Some((to, at)),
                Step::Look { negated, end } => self.look(step + 1, at, negated)?.then_some((end, at)),
                Step::Plain(plain) => self.take(plain, at)?.map(|at| (step + 1, at)),
            };
            match next.or_else(|| self.go_back(base)) {
                Some(next) => (step, at) = next,
                None => return Some(false),
            }
        }
    }

    /// Leaves the way on to `step` from each place in a row of units.
    fn many(&mut self, (fork, set, back): (usize, usize, bool), step: usize, mut at: usize) -> Option<()> {
        while self.is_new(fork, at) {
            self.left = self.left.checked_sub(1)?;
            self.branches.push(Branch::Go { step, at });
            match self.units(set, 1, at, back) {
                Some(next) => at = next,
                None => break,
            }
        }
        Some(())
    }

    /// The last way that was not gone, if there is one.
    fn go_back(&mut self, base: usize) -> Option<(usize, usize)> {
        while self.branches.len() > base {
            match self.branches.pop()? {
                Branch::Go { step, at } => return Some((step, at)),
                Branch::Restore { slot, was } => self.slots[slot] = was,
            }
        }
        None
    }

    /// Has this fork not been come to at this place? With captures that is not asked.
    fn is_new(&mut self, fork: usize, at: usize) -> bool {
        if self.seen.is_empty() {
            return true;
        }
        let place = fork * (self.text.len() + 1) + at;
        let (word, bit) = (place / 64, 1 << (place % 64));
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        if new && self.looks > 0 {
            self.trail.push(place);
        }
        new
    }

    /// Is there a match of the look-around whose body is at `step`, or none?
    fn look(&mut self, step: usize, at: usize, negated: bool) -> Option<bool> {
        let (base, trail) = (self.branches.len(), self.trail.len());
        self.looks += 1;
        let found = self.run(step, at)?;
        self.looks -= 1;
        if found {
            // They led somewhere, and may again.
            for place in self.trail.drain(trail..) {
                self.seen[place / 64] &= !(1 << (place % 64));
            }
        }
        if found && negated {
            self.go_back(base);
        }
        Some(found != negated)
    }

    /// Where a step that has one way on leads; `Some(None)` for nowhere.
    fn take(&mut self, step: Plain, at: usize) -> Option<Option<usize>> {
        let passed = |passes: bool| Some(passes.then_some(at));
        match step {
            Plain::Units { set, count, back } => {
                self.left = self.left.checked_sub(count.min(self.text.len()) as u64)?;
                Some(self.units(set, count, at, back))
            }
            Plain::Start => passed(at == 0),
            Plain::End => passed(at == self.text.len()),
            Plain::WordEdge { negated } => {
                let word =
                    |at: Option<usize>| at.and_then(|at| self.text.get(at)).is_some_and(|&c| is_word(c));
                passed((word(at.checked_sub(1)) != word(Some(at))) != negated)
            }
            Plain::Begin { group } => {
                self.put(3 * group, at);
                passed(true)
            }
            Plain::Capture { group } => {
                let begun = self.slots[3 * group];
                self.put(3 * group + 1, begun.min(at));
                self.put(3 * group + 2, begun.max(at));
                passed(true)
            }
            Plain::Forget { first, end } => {
                self.left = self.left.checked_sub(3 * (end - first) as u64)?;
                (3 * first..3 * end).for_each(|slot| self.put(slot, UNSET));
                passed(true)
            }
            Plain::Back { group, back } => {
                let (first, last) = (self.slots[3 * group + 1], self.slots[3 * group + 2]);
                // A group that captured nothing is as good as empty.
                let captured = if first == UNSET { &[] } else { &self.text[first..last] };
                self.left = self.left.checked_sub(captured.len() as u64)?;
                let there = window(self.text, at, captured.len(), back);
                Some(there.filter(|(units, _)| *units == captured).map(|(_, next)| next))
            }
            Plain::Enter { slot } => {
                self.put(slot, at);
                passed(true)
            }
            Plain::Moved { slot } => passed(self.slots[slot] != at),
        }
    }

    fn units(&self, set: usize, count: usize, at: usize, back: bool) -> Option<usize> {
        let set = &self.program.sets[set];
        if count == 1 && !back {
            return self.text.get(at).filter(|&&unit| set.contains(unit)).map(|_| at + 1);
        }
        let (units, next) = window(self.text, at, count, back)?;
        units.iter().all(|&unit| set.contains(unit)).then_some(next)
    }

    fn put(&mut self, slot: usize, value: usize) {
        let was = std::mem::replace(&mut self.slots[slot], value);
        self.branches.push(Branch::Restore { slot, was });
    }
}

/// The next `count` units in one direction, and where they end.
fn window(text: &[u16], at: usize, count: usize, back: bool) -> Option<(&[u16], usize)> {
    if back {
        let from = at.checked_sub(count)?;
        return Some((text.get(from..at)?, from));
    }
    let end = at.checked_add(count)?;
    Some((text.get(at..end)?, end))
}

fn is_word(unit: u16) -> bool {
    u8::try_from(unit).is_ok_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests;
