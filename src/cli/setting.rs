//! A setting as it was given: by a flag or by an environment variable.

use crate::config::mask;

/// The environment: the value of a variable, if it is set.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The value of a variable; an empty one counts as unset.
pub(super) fn set(env: Env<'_>, variable: &str) -> Option<String> {
    env(variable).filter(|value| !value.is_empty())
}

/// Keeps a message on one line whatever the value holds.
pub(super) fn printable(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() }
    };
    text.chars().map(escape).collect()
}

/// A value and where it came from.
pub(super) struct Setting {
    pub(super) value: String,
    /// Names it in an error line.
    pub(super) what: &'static str,
    /// The flag or the variable.
    pub(super) source: String,
}

impl Setting {
    /// Reads the value; an error is one line that names its source.
    pub(super) fn read<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
        read(&self.value).map_err(|why| {
            let shown = printable(&mask(&self.value));
            format!("cannot use {} \"{shown}\" ({}): {why}", self.what, self.source)
        })
    }
}
