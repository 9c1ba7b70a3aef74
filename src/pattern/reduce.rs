//! Loops rewritten so that every round takes something.
//!
//! `regress` never returns from nested loops whose rounds may take nothing, such as `(?:(?:b|c?)*)*d`. JavaScript
//! drops such rounds, so a loop over `x` means the same as a loop over the matches of `x` that are not empty, and that
//! can be written down. Which group captured what gets lost, so this is for patterns without back-references.

use super::node::Node;

/// Rewriting multiplies nested loops, and so does `regress`; what grows beyond this is refused.
const NODES: u64 = 20_000;

/// `regress` writes out loops with up to this many rounds that must be made.
const UNROLLED: u32 = 5;

/// Rounds that must be written out one by one: those that are empty only under a condition (`(?:\b|a){3,}`).
const ROUNDS: u32 = 16;

/// The same pattern without captures and without empty rounds; `None` if that is too large.
pub(super) fn reduce(node: &Node) -> Option<Node> {
    let all = |nodes: &[Node]| nodes.iter().map(reduce).collect::<Option<Vec<_>>>();
    Some(match node {
        Node::Sequence(nodes) => Node::Sequence(all(nodes)?),
        Node::Either(nodes) => Node::Either(all(nodes)?),
        Node::Capture(body) => reduce(body)?,
        Node::Look { open, body } => Node::Look { open, body: Box::new(reduce(body)?) },
        Node::Repeat { body, min, max, .. } => reduce_loop(reduce(body)?, *min, *max)?,
        Node::Unit(_) | Node::Start | Node::End | Node::WordEdge { .. } | Node::Back(_) => node.clone(),
    })
}

fn reduce_loop(body: Node, min: u32, max: Option<u32>) -> Option<Node> {
    let Some(empty) = empty(&body) else {
        return Some(repeat(body, min, max));
    };
    let Some(filled) = filled(&body) else {
        return Some(if min == 0 { nothing() } else { empty });
    };
    if is_large(&filled) {
        return None;
    }
    if is_nothing(&empty) {
        return Some(repeat(filled, 0, max));
    }
    // Only the rounds that must be made may be empty, each under its condition.
    let mut rounds = vec![body; usize::try_from(min).ok().filter(|_| min <= ROUNDS)?];
    rounds.push(repeat(filled, 0, max.map(|max| max - min)));
    Some(Node::Sequence(rounds))
}

fn repeat(body: Node, min: u32, max: Option<u32>) -> Node {
    Node::Repeat { body: Box::new(body), min, max, lazy: false }
}

fn nothing() -> Node {
    Node::Sequence(Vec::new())
}

fn is_nothing(node: &Node) -> bool {
    matches!(node, Node::Sequence(nodes) if nodes.is_empty())
}

/// The empty matches of a reduced node: nothing, or the conditions under which there are any.
fn empty(node: &Node) -> Option<Node> {
    match node {
        Node::Unit(_) => None,
        Node::Start | Node::End | Node::WordEdge { .. } | Node::Look { .. } | Node::Back(_) => {
            Some(node.clone())
        }
        Node::Sequence(nodes) => {
            let mut parts = nodes.iter().map(empty).collect::<Option<Vec<_>>>()?;
            parts.retain(|part| !is_nothing(part));
            Some(Node::Sequence(parts))
        }
        Node::Either(nodes) => {
            let branches: Vec<_> = nodes.iter().filter_map(empty).collect();
            match branches.iter().any(is_nothing) {
                true => Some(nothing()),
                false => (!branches.is_empty()).then_some(Node::Either(branches)),
            }
        }
        Node::Capture(body) => empty(body),
        Node::Repeat { min: 0, .. } | Node::Repeat { max: Some(0), .. } => Some(nothing()),
        // The body of a reduced loop always takes something.
        Node::Repeat { .. } => None,
    }
}

/// The matches of a reduced node that take something.
fn filled(node: &Node) -> Option<Node> {
    match node {
        Node::Unit(_) | Node::Back(_) => Some(node.clone()),
        Node::Start | Node::End | Node::WordEdge { .. } | Node::Look { .. } => None,
        // The first part that takes something stands behind empty ones, and before anything.
        Node::Sequence(nodes) => either((0..nodes.len()).filter_map(|i| {
            let mut parts = nodes[..i].iter().map(empty).collect::<Option<Vec<_>>>()?;
            parts.push(filled(&nodes[i])?);
            parts.extend_from_slice(&nodes[i + 1..]);
            Some(Node::Sequence(parts))
        })),
        Node::Either(nodes) => either(nodes.iter().filter_map(filled)),
        Node::Capture(body) => filled(body),
        Node::Repeat { max: Some(0), .. } => None,
        Node::Repeat { body, min, max, .. } => Some(repeat((**body).clone(), (*min).max(1), *max)),
    }
}

fn either(branches: impl Iterator<Item = Node>) -> Option<Node> {
    let mut branches: Vec<_> = branches.collect();
    if branches.len() > 1 { Some(Node::Either(branches)) } else { branches.pop() }
}

/// Whether a loop around another loop may go round empty: what `regress` must not be given.
pub(super) fn has_empty_rounds(node: &Node) -> bool {
    let again = |max: Option<u32>| max.is_none_or(|max| max > 1);
    let here =
        matches!(node, Node::Repeat { body, max, .. } if again(*max) && may_be_empty(body) && has_loop(body));
    here || parts(node).iter().any(has_empty_rounds)
}

/// A loop over a single unit does not count, since that is one instruction to the engine.
fn has_loop(node: &Node) -> bool {
    let here = matches!(node, Node::Repeat { body, .. } if !matches!(**body, Node::Unit(_)));
    here || parts(node).iter().any(has_loop)
}

/// Whether a tree needs its captures.
pub(super) fn refers_back(node: &Node) -> bool {
    matches!(node, Node::Back(_)) || parts(node).iter().any(refers_back)
}

/// Whether `regress` would make too much of a tree.
pub(super) fn is_large(node: &Node) -> bool {
    size(node) > NODES
}

fn size(node: &Node) -> u64 {
    let inner = parts(node).iter().map(size).fold(1, u64::saturating_add);
    if let Node::Repeat { min: min @ 0..=UNROLLED, .. } = node {
        inner.saturating_mul(u64::from(*min) + 1)
    } else {
        inner
    }
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

fn may_be_empty(node: &Node) -> bool {
    match node {
        Node::Unit(_) => false,
        Node::Start | Node::End | Node::WordEdge { .. } | Node::Look { .. } | Node::Back(_) => true,
        Node::Sequence(nodes) => nodes.iter().all(may_be_empty),
        Node::Either(nodes) => nodes.iter().any(may_be_empty),
        Node::Capture(body) => may_be_empty(body),
        Node::Repeat { body, min, .. } => *min == 0 || may_be_empty(body),
    }
}
