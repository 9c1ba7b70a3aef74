//! ECMAScript patterns, as `new RegExp(source)` reads them without flags, matched in bounded time.
//!
//! A pattern is parsed here by the grammar of JavaScript, legacy forms included, into a small tree whose leaves are
//! sets of UTF-16 code units. The tree is run by one of two engines:
//!
//! * the crate `regex`, which takes time linear in the text, for everything regular. The tree is written out for it
//!   in the plainest terms (`[\u{61}-\u{7A}]`), so that the meaning of an escape or a shorthand does not depend on
//!   it;
//! * one of this crate for look-around and back-references, and for what is too large for `regex`.
//!
//! JavaScript counts code units: to it, U+1F600 is two surrogates, and `.` matches either. `regex` does not know
//! lone surrogates, so the surrogate 0xD83D stands as the private character U+10D83D in the pattern and in the text
//! alike. Only texts with characters beyond U+FFFF pay for that.
//!
//! ```
//! use ecma_regex::Pattern;
//!
//! let pattern = Pattern::new(r"^(?!/private/).*\.tgz$")?;
//! assert!(pattern.matches("/packages/a.tgz"));
//! assert!(!pattern.matches("/private/a.tgz"));
//! # Ok::<(), ecma_regex::PatternError>(())
//! ```
#![forbid(unsafe_code)]

mod backtrack;
mod node;
mod print;
mod program;
mod syntax;
mod units;

use std::fmt;
use std::sync::Arc;

use node::Node;
use program::Program;

/// Programs of `regex` above this size go to the other engine, which has a step for any number of units.
const PROGRAM_BYTES: usize = 4 << 20;

/// A compiled pattern. Cheap to clone.
#[derive(Clone)]
pub struct Pattern {
    source: Arc<str>,
    engine: Engine,
}

#[derive(Clone)]
enum Engine {
    Linear(regex::Regex),
    Backtracking(Arc<Program>),
}

/// Why a pattern is refused: one line that names the construct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError(String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Compiles `source`.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        let tree = syntax::parse(source).map_err(PatternError)?;
        let engine = match linear(&tree) {
            Some(engine) => engine,
            None => backtracking(&tree)?,
        };
        Ok(Self { source: source.into(), engine })
    }

    /// Whether the pattern matches anywhere in `text`; not if that takes too long to find out.
    pub fn matches(&self, text: &str) -> bool {
        self.try_matches(text) == Some(true)
    }

    /// Whether the pattern matches anywhere in `text`. `None` if that takes too long to find out, which depends on the
    /// two alone, and happens with look-around and back-references only.
    pub fn try_matches(&self, text: &str) -> Option<bool> {
        self.engine.matches(text)
    }

    /// The pattern as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The pattern as JavaScript prints it: between slashes, with slashes and line ends in it escaped.
    pub fn display(&self) -> String {
        if self.source.is_empty() {
            return "/(?:)/".to_owned();
        }
        let mut out = String::from("/");
        let (mut escaped, mut in_class) = (false, false);
        for c in self.source.chars() {
            match c {
                '/' if !escaped && !in_class => out.push_str("\\/"),
                '\n' | '\r' | '\u{2028}' | '\u{2029}' => {
                    // The backslash before it, if any, becomes part of the escape.
                    out.truncate(out.len() - usize::from(escaped));
                    out.push_str(&line_end(c));
                }
                c => out.push(c),
            }
            match c {
                '[' if !escaped => in_class = true,
                ']' if !escaped => in_class = false,
                _ => {}
            }
            escaped = c == '\\' && !escaped;
        }
        out.push('/');
        out
    }

    /// The engine that runs it: `regex` or `backtracking`.
    pub fn engine(&self) -> &'static str {
        match self.engine {
            Engine::Linear(_) => "regex",
            Engine::Backtracking(_) => "backtracking",
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

impl Engine {
    fn matches(&self, text: &str) -> Option<bool> {
        match self {
            Self::Linear(regex) => Some(regex.is_match(&units::text(text))),
            Self::Backtracking(program) => {
                backtrack::finds(program, &text.encode_utf16().collect::<Vec<_>>())
            }
        }
    }
}

fn line_end(c: char) -> String {
    match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        c => format!("\\u{:04x}", u32::from(c)),
    }
}

/// `None` if the pattern is not regular or its program would be too large.
fn linear(tree: &Node) -> Option<Engine> {
    let text = print::print(tree)?;
    let mut builder = regex::RegexBuilder::new(&text);
    let regex = builder.size_limit(PROGRAM_BYTES).nest_limit(print::NESTING).build();
    regex.ok().map(Engine::Linear)
}

fn backtracking(tree: &Node) -> Result<Engine, PatternError> {
    let program = Program::of(tree).map(|program| Engine::Backtracking(Arc::new(program)));
    program.ok_or_else(|| PatternError("too many quantifiers inside each other".to_owned()))
}

#[cfg(test)]
mod tests;
