//! Which paths are cached: a pattern as `new RegExp(source)` reads it in JavaScript.

pub use ecma_regex::{Pattern, PatternError};

/// What is cached when nothing else is said.
pub const DEFAULT: &str = r"\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\.gz)$";
