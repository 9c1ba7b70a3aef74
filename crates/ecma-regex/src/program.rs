//! A pattern as steps for the [engine that goes back](super::backtrack), as ECMA-262 section 22.2.2 has it.

use std::collections::HashMap;

use super::node::Node;
use super::units::UnitSet;

/// Steps of the longest program: counted rounds are written out.
const LARGEST: usize = 100_000;

/// A pattern that can be run.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) steps: Vec<Step>,
    pub(super) sets: Vec<Set>,
    /// Steps that have two ways on.
    pub(super) forks: usize,
    /// Places in the text that are remembered on the way; none without back-references.
    pub(super) slots: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Has one way on.
    Plain(Plain),
    Fork {
        number: usize,
        first: usize,
        second: usize,
    },
    /// Any number of units of a set: a fork, the unit and the way back to the fork. Not with back-references.
    Many {
        number: usize,
        set: usize,
        back: bool,
    },
    Jump(usize),
    /// Its body follows, up to [`Step::Found`]; the rest of the pattern is at `end`.
    Look {
        negated: bool,
        end: usize,
    },
    Found,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Plain {
    Units {
        set: usize,
        count: usize,
        back: bool,
    },
    Start,
    End,
    WordEdge {
        negated: bool,
    },
    /// From here on only with back-references: what a group captured is in three slots.
    Begin {
        group: usize,
    },
    Capture {
        group: usize,
    },
    Forget {
        first: usize,
        end: usize,
    },
    Back {
        group: usize,
        back: bool,
    },
    /// A round of a loop begins, or ends and has to have taken something.
    Enter {
        slot: usize,
    },
    Moved {
        slot: usize,
    },
}

/// A set whose lower half is looked up in one step.
#[derive(Debug)]
pub(super) struct Set {
    ascii: u128,
    all: UnitSet,
}

impl Set {
    fn of(all: UnitSet) -> Self {
        let ascii = (0..128).filter(|&unit| all.contains(unit)).fold(0, |bits, unit| bits | 1 << unit);
        Self { ascii, all }
    }

    pub(super) fn contains(&self, unit: u16) -> bool {
        if unit < 128 { self.ascii >> unit & 1 == 1 } else { self.all.contains(unit) }
    }
}

impl Program {
    /// `None` for a tree that becomes too large.
    pub(super) fn of(tree: &Node) -> Option<Self> {
        let groups = if refers_back(tree) { captures(tree) } else { 0 };
        let program = Self { steps: Vec::new(), sets: Vec::new(), forks: 0, slots: 3 * groups };
        let mut writer = Writer { program, numbers: HashMap::new(), captures: groups > 0 };
        writer.write(tree, 0, false)?;
        writer.push(Step::Found)?;
        Some(writer.program)
    }
}

fn refers_back(node: &Node) -> bool {
    matches!(node, Node::Back(_)) || parts(node).iter().any(refers_back)
}

fn captures(node: &Node) -> usize {
    usize::from(matches!(node, Node::Capture(_))) + parts(node).iter().map(captures).sum::<usize>()
}

fn parts(node: &Node) -> &[Node] {
    match node {
        Node::Unit(_) | Node::Start | Node::End | Node::WordEdge { .. } | Node::Back(_) => &[],
        Node::Sequence(nodes) | Node::Either(nodes) => nodes,
        Node::Capture(body) | Node::Look { body, .. } | Node::Repeat { body, .. } => {
            std::slice::from_ref(body)
        }
    }
}

/// Writes the steps of a tree.
struct Writer {
    program: Program,
    numbers: HashMap<UnitSet, usize>,
    captures: bool,
}

impl Writer {
    fn here(&self) -> usize {
        self.program.steps.len()
    }

    fn push(&mut self, step: Step) -> Option<usize> {
        let at = self.here();
        (at < LARGEST).then(|| self.program.steps.push(step))?;
        Some(at)
    }

    fn plain(&mut self, step: Plain) -> Option<()> {
        self.push(Step::Plain(step)).map(drop)
    }

    /// A step with two ways on: what follows, and what [`Self::join`] says.
    fn fork(&mut self, lazy: bool) -> Option<(usize, bool)> {
        let number = self.program.forks;
        self.program.forks += 1;
        let next = self.here() + 1;
        self.push(Step::Fork { number, first: next, second: next }).map(|at| (at, lazy))
    }

    /// The other way of a fork, or the end of a jump or a look-around, is here.
    fn join(&mut self, at: usize, lazy: bool) {
        let here = self.here();
        match &mut self.program.steps[at] {
            Step::Fork { first, .. } if lazy => *first = here,
            Step::Fork { second: end, .. } | Step::Jump(end) | Step::Look { end, .. } => *end = here,
            Step::Plain(_) | Step::Many { .. } | Step::Found => {}
        }
    }

    /// Writes a node, in which the groups after the first `group` are; backwards in a look-behind.
    fn write(&mut self, node: &Node, group: usize, back: bool) -> Option<()> {
        match node {
            Node::Unit(units) => {
                let set = self.set(units);
                self.plain(Plain::Units { set, count: 1, back })?;
            }
            Node::Start => self.plain(Plain::Start)?,
            Node::End => self.plain(Plain::End)?,
            &Node::WordEdge { negated } => self.plain(Plain::WordEdge { negated })?,
            Node::Sequence(nodes) => {
                let mut numbered = Vec::new();
                let mut group = group;
                for node in nodes {
                    numbered.push((node, group));
                    group += captures(node);
                }
                if back {
                    numbered.reverse();
                }
                numbered.into_iter().try_for_each(|(node, group)| self.write(node, group, back))?;
            }
            Node::Either(nodes) => self.either(nodes, group, back)?,
            Node::Capture(body) if self.captures => {
                self.plain(Plain::Begin { group })?;
                self.write(body, group + 1, back)?;
                self.plain(Plain::Capture { group })?;
            }
            Node::Capture(body) => self.write(body, group, back)?,
            Node::Look { open, body } => {
                let at = self.push(Step::Look { negated: open.ends_with('!'), end: 0 })?;
                self.write(body, group, open.starts_with("(?<"))?;
                self.push(Step::Found)?;
                self.join(at, false);
            }
            &Node::Back(number) => {
                let group = usize::try_from(number).ok()?.checked_sub(1)?;
                self.plain(Plain::Back { group, back })?;
            }
            Node::Repeat { body, min, max, lazy } => {
                let round = Round { body, group, back };
                self.repeat(&round, usize::try_from(*min).ok()?, *max, *lazy)?;
            }
        }
        Some(())
    }

    fn set(&mut self, units: &UnitSet) -> usize {
        let next = self.program.sets.len();
        let number = *self.numbers.entry(units.clone()).or_insert(next);
        if number == next {
            self.program.sets.push(Set::of(units.clone()));
        }
        number
    }

    fn either(&mut self, nodes: &[Node], mut group: usize, back: bool) -> Option<()> {
        let mut ends = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if index + 1 < nodes.len() {
                let (fork, lazy) = self.fork(false)?;
                self.write(node, group, back)?;
                ends.push(self.push(Step::Jump(0))?);
                self.join(fork, lazy);
            } else {
                self.write(node, group, back)?;
            }
            group += captures(node);
        }
        ends.into_iter().for_each(|end| self.join(end, false));
        Some(())
    }

    fn repeat(&mut self, round: &Round<'_>, min: usize, max: Option<u32>, lazy: bool) -> Option<()> {
        self.required(round, min)?;
        if let (Node::Unit(units), None, false) = (round.body, max, self.captures) {
            let (number, set) = (self.program.forks, self.set(units));
            self.program.forks += 1;
            return self.push(Step::Many { number, set, back: round.back }).map(drop);
        }
        let Some(max) = max else {
            let (fork, lazy) = self.fork(lazy)?;
            self.optional(round)?;
            self.push(Step::Jump(fork))?;
            self.join(fork, lazy);
            return Some(());
        };
        let mut forks = Vec::new();
        for _ in min..usize::try_from(max).ok()? {
            forks.push(self.fork(lazy)?);
            self.optional(round)?;
        }
        forks.into_iter().for_each(|(fork, lazy)| self.join(fork, lazy));
        Some(())
    }

    /// Rounds that must be made.
    fn required(&mut self, round: &Round<'_>, count: usize) -> Option<()> {
        if let Node::Unit(units) = round.body {
            let set = self.set(units);
            if count > 0 {
                self.plain(Plain::Units { set, count, back: round.back })?;
            }
            return Some(());
        }
        let start = self.here();
        for _ in 0..count {
            self.forget(round)?;
            self.write(round.body, round.group, round.back)?;
            if self.here() == start {
                break;
            }
        }
        Some(())
    }

    /// A round that may be left out; it has to take something. Without captures a round that does not comes to a place
    /// that has been gone through.
    fn optional(&mut self, round: &Round<'_>) -> Option<()> {
        if !self.captures {
            return self.write(round.body, round.group, round.back);
        }
        let slot = self.program.slots;
        self.program.slots += 1;
        self.plain(Plain::Enter { slot })?;
        self.forget(round)?;
        self.write(round.body, round.group, round.back)?;
        self.plain(Plain::Moved { slot })
    }

    /// A new round knows nothing of what the last one captured.
    fn forget(&mut self, round: &Round<'_>) -> Option<()> {
        let end = round.group + captures(round.body);
        if self.captures && end > round.group {
            self.plain(Plain::Forget { first: round.group, end })?;
        }
        Some(())
    }
}

/// The body of a loop.
struct Round<'a> {
    body: &'a Node,
    group: usize,
    back: bool,
}
