//! A tree written out for one of the engines, in terms both read alike.

use super::syntax::Node;
use super::units::UnitSet;

/// Whose pattern language to write.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Dialect {
    /// The crate `regex`, which has neither look-around nor back-references.
    Regex,
    /// The crate `regress` with the flag `u`.
    Regress,
}

/// Enough for the tree of the deepest pattern the parser lets through.
pub(super) const NESTING: u32 = 8 * super::syntax::DEPTH;

/// `None` if the dialect cannot express the tree.
pub(super) fn print(tree: &Node, dialect: Dialect) -> Option<String> {
    let mut out = String::new();
    write(tree, dialect, &mut out)?;
    Some(out)
}

fn write(node: &Node, dialect: Dialect, out: &mut String) -> Option<()> {
    let regress = dialect == Dialect::Regress;
    match node {
        Node::Unit(set) => write_set(set, dialect, out),
        Node::Start => out.push('^'),
        Node::End => out.push('$'),
        Node::WordEdge { negated } => out.push_str(match (regress, negated) {
            (true, false) => r"\b",
            (true, true) => r"\B",
            (false, false) => r"(?-u:\b)",
            (false, true) => r"(?-u:\B)",
        }),
        Node::Sequence(nodes) => nodes
            .iter()
            .try_for_each(|node| write(node, dialect, out))?,
        Node::Either(nodes) => {
            out.push_str("(?:");
            for (i, node) in nodes.iter().enumerate() {
                out.push_str(if i > 0 { "|" } else { "" });
                write(node, dialect, out)?;
            }
            out.push(')');
        }
        // What a group captured only matters to back-references.
        Node::Capture(body) => bracket(if regress { "(" } else { "(?:" }, body, dialect, out)?,
        Node::Look { open, body } if regress => bracket(open, body, dialect, out)?,
        Node::Back(group) if regress => out.push_str(&format!(r"(?:\{group})")),
        Node::Look { .. } | Node::Back(_) => return None,
        Node::Repeat {
            body,
            min,
            max,
            lazy,
        } => {
            bracket("(?:", body, dialect, out)?;
            out.push_str(&match max {
                Some(max) => format!("{{{min},{max}}}"),
                None => format!("{{{min},}}"),
            });
            out.push_str(if *lazy { "?" } else { "" });
        }
    }
    Some(())
}

fn bracket(open: &str, body: &Node, dialect: Dialect, out: &mut String) -> Option<()> {
    out.push_str(open);
    write(body, dialect, out)?;
    out.push(')');
    Some(())
}

fn write_set(set: &UnitSet, dialect: Dialect, out: &mut String) {
    let ranges = set.char_ranges();
    match (&ranges[..], dialect) {
        (&[(first, last)], _) if first == last => out.push_str(&format!(r"\u{{{first:X}}}")),
        ([], Dialect::Regex) => out.push_str(r"[^\u{0}-\u{10FFFF}]"),
        (ranges, _) => {
            out.push('[');
            for (first, last) in ranges {
                out.push_str(&format!(r"\u{{{first:X}}}-\u{{{last:X}}}"));
            }
            out.push(']');
        }
    }
}
