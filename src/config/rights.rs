//! The rights of the process once it listens.

use super::Choice;

/// What the process may write to, where the kernel can say so (Landlock).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Where it is possible: the directory in which the cache directory lies, so that one that was removed can be
    /// created again.
    Auto,
    /// The cache directory alone, or the program does not start.
    On,
    /// Whatever its user may.
    Off,
}

impl Choice for Sandbox {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Auto, "auto"), (Self::On, "on"), (Self::Off, "off")];
}

/// A user and a group of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As logs show it.
    pub name: String,
    /// The user, where it is to change.
    pub user: Option<u32>,
    /// The name of that user, where the system knows it: its supplementary groups are set as well.
    pub login: Option<String>,
    /// The group.
    pub group: u32,
}
