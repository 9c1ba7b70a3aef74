//! A tree written out for the crate `regex`, in terms whose meaning it cannot mistake.

use super::node::Node;
use super::units::UnitSet;

/// Enough for the tree of the deepest pattern the parser lets through.
pub(super) const NESTING: u32 = 8 * super::syntax::DEPTH;

/// Writes `tree`; `None` if it has what `regex` cannot express.
pub(super) fn print(tree: &Node) -> Option<String> {
    let mut out = String::new();
    write(tree, &mut out)?;
    Some(out)
}

fn write(node: &Node, out: &mut String) -> Option<()> {
    match node {
        Node::Unit(set) => write_set(set, out),
        Node::Start => out.push('^'),
        Node::End => out.push('$'),
        Node::WordEdge { negated } => out.push_str(if *negated { r"(?-u:\B)" } else { r"(?-u:\b)" }),
        Node::Sequence(nodes) => nodes.iter().try_for_each(|node| write(node, out))?,
        Node::Either(nodes) => {
            for (i, node) in nodes.iter().enumerate() {
                out.push_str(if i == 0 { "(?:" } else { "|" });
                write(node, out)?;
            }
            out.push(')');
        }
        // What a group captured only matters to back-references.
        Node::Capture(body) => bracket(body, out)?,
        Node::Look { .. } | Node::Back(_) => return None,
        // Laziness decides which match is found first, not whether there is one.
        Node::Repeat { body, min, max, .. } => {
            bracket(body, out)?;
            let max = max.map_or(String::new(), |max| max.to_string());
            out.push_str(&format!("{{{min},{max}}}"));
        }
    }
    Some(())
}

fn bracket(body: &Node, out: &mut String) -> Option<()> {
    out.push_str("(?:");
    write(body, out)?;
    out.push(')');
    Some(())
}

fn write_set(set: &UnitSet, out: &mut String) {
    match set.char_ranges()[..] {
        [(first, last)] if first == last => out.push_str(&format!(r"\u{{{first:X}}}")),
        [] => out.push_str(r"[^\u{0}-\u{10FFFF}]"),
        ref ranges => {
            out.push('[');
            for (first, last) in ranges {
                out.push_str(&format!(r"\u{{{first:X}}}-\u{{{last:X}}}"));
            }
            out.push(']');
        }
    }
}
