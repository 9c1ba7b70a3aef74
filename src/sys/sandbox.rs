//! The sandbox of the process: the directory beneath which it may write (landlock(7)).

use std::io;
use std::path::Path;

/// How far the kernel enforces the sandbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fenced {
    /// All that was asked for holds.
    Fully,
    /// The kernel does not know all of it: before Linux 6.2 it lets files elsewhere be truncated,
    /// and before 6.10 devices be controlled.
    Partly,
    /// The kernel has no such thing.
    Not,
}

/// From now on this thread, and those it starts, can write, make and remove files beneath `path`
/// only, and execute none anywhere. Reading, sockets, and files that are open go on as before. It
/// cannot be undone, and is about this very directory: another one that gets its name is none that
/// may be written to. Blocks; for start-up only.
#[cfg(target_os = "linux")]
pub fn fence(path: &Path) -> io::Result<Fenced> {
    use landlock::{
        ABI, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    };
    // Later versions know of rights over sockets, which service managers and name services need.
    let writing = AccessFs::from_write(ABI::V5);
    let beneath = PathFd::new(path).map_err(io::Error::other)?;
    let status = Ruleset::default()
        .handle_access(writing | AccessFs::Execute)
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rule(PathBeneath::new(beneath, writing)))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(io::Error::other)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Fenced::Fully,
        RulesetStatus::PartiallyEnforced => Fenced::Partly,
        RulesetStatus::NotEnforced => Fenced::Not,
    })
}

/// This system has no such thing.
#[cfg(not(target_os = "linux"))]
pub fn fence(_: &Path) -> io::Result<Fenced> {
    Ok(Fenced::Not)
}
