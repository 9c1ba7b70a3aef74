//! What the process may do once it listens.

/// What the process may write to, where the kernel can say so (Landlock).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Where it is possible: the directory in which the cache directory lies, so that one that was
    /// removed can be made anew.
    Auto,
    /// The cache directory alone, or the program does not start.
    On,
    /// Whatever its user may.
    Off,
}

impl Sandbox {
    /// Reads `auto`, `on` or `off`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("expected auto, on or off".to_owned()),
        }
    }
}

/// A user and a group of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As logs show it.
    pub name: String,
    /// The user, where it is to change.
    pub user: Option<u32>,
    /// The name of that user, where the system knows it: its other groups come along.
    pub login: Option<String>,
    /// The group.
    pub group: u32,
}
