//! What a pattern is made of.

use super::units::UnitSet;

/// A part of a pattern.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// One code unit out of a set.
    Unit(UnitSet),
    /// `^`
    Start,
    /// `$`
    End,
    /// `\b` or `\B`
    WordEdge {
        negated: bool,
    },
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Capture(Box<Node>),
    /// Look-around; `open` is its first characters, such as `(?=`.
    Look {
        open: &'static str,
        body: Box<Node>,
    },
    /// A reference to what a group captured.
    Back(u32),
    Repeat {
        body: Box<Node>,
        min: u32,
        max: Option<u32>,
        lazy: bool,
    },
}
