//! A tree written out for one of the engines, in terms both read alike.

use super::node::Node;
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

/// Writes `tree` for one of the engines; `None` if the engine cannot express it.
pub(super) fn print(tree: &Node, dialect: Dialect) -> Option<String> {
    let mut printer = Printer { dialect, looks: 0, out: String::new() };
    printer.write(tree)?;
    Some(printer.out)
}

struct Printer {
    dialect: Dialect,
    /// How many look-arounds are open.
    looks: u32,
    out: String,
}

impl Printer {
    fn write(&mut self, node: &Node) -> Option<()> {
        let regress = self.dialect == Dialect::Regress;
        match node {
            Node::Unit(set) => write_set(set, self.dialect, &mut self.out),
            Node::Start => self.out.push('^'),
            Node::End => self.out.push('$'),
            Node::WordEdge { negated } => self.out.push_str(match (regress, negated) {
                (true, false) => r"\b",
                (true, true) => r"\B",
                (false, false) => r"(?-u:\b)",
                (false, true) => r"(?-u:\B)",
            }),
            Node::Sequence(nodes) => nodes.iter().try_for_each(|node| self.write(node))?,
            Node::Either(nodes) => {
                for (i, node) in nodes.iter().enumerate() {
                    self.out.push_str(if i == 0 { "(?:" } else { "|" });
                    self.write(node)?;
                }
                self.out.push(')');
            }
            // What a group captured only matters to back-references.
            Node::Capture(body) => self.bracket(if regress { "(" } else { "(?:" }, body)?,
            Node::Look { open, body } if regress => {
                self.looks += 1;
                self.bracket(open, body)?;
                self.looks -= 1;
            }
            Node::Back(group) if regress => self.out.push_str(&format!(r"(?:\{group})")),
            Node::Look { .. } | Node::Back(_) => return None,
            Node::Repeat { body, min, max, lazy } => self.repeat(body, *min, *max, *lazy)?,
        }
        Some(())
    }

    /// Laziness decides which match is found first, not whether there is one, so it is kept only where that can show:
    /// inside a look-around, which is left with its first match, for the sake of its captures.
    fn repeat(&mut self, body: &Node, min: u32, max: Option<u32>, lazy: bool) -> Option<()> {
        self.bracket("(?:", body)?;
        let max = max.map_or(String::new(), |max| max.to_string());
        self.out.push_str(&format!("{{{min},{max}}}{}", if lazy && self.looks > 0 { "?" } else { "" }));
        Some(())
    }

    fn bracket(&mut self, open: &str, body: &Node) -> Option<()> {
        self.out.push_str(open);
        self.write(body)?;
        self.out.push(')');
        Some(())
    }
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
