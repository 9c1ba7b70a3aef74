//! The command line and its environment variables, with the habits of POSIX getopt.
//!
//! Every flag is a line in the `table`. What is to be set comes from flags, then from variables; what is to be done in
//! the place of serving is read by argh.

mod argv;
mod documents;
mod draft;
mod flag;
mod print;
mod settings;
mod table;
mod value;

use std::ffi::OsString;

use argh::{FromArgValue, FromArgs};

use crate::config::{Choice, Config};
use crate::fd_budget::Descriptors;
use documents::usage;
use draft::Draft;
use value::leading_number;

/// The name in the usage and the version text.
const PROGRAM: &str = "fs-caching-server";

/// What to do in the place of serving: the flags of the table that set nothing.
#[derive(FromArgs)]
#[argh(help_triggers("--help"))]
/// A caching HTTP proxy.
struct Action {
    /// print the version and how to update
    #[argh(switch)]
    updates: bool,
    /// print the version
    #[argh(switch)]
    version: bool,
    /// print the configuration
    #[argh(switch)]
    print_config: bool,
    /// print a document
    #[argh(option)]
    generate: Option<Document>,
}

/// What `--generate` prints.
#[derive(Clone, Copy, PartialEq)]
enum Document {
    Man,
    Bash,
    Zsh,
    Fish,
    /// The tables of docs/reference.md.
    Reference,
}

impl Choice for Document {
    const WORDS: &'static [(Self, &'static str)] = &[
        (Self::Man, "man"),
        (Self::Bash, "bash"),
        (Self::Zsh, "zsh"),
        (Self::Fish, "fish"),
        (Self::Reference, "reference"),
    ];
}

impl FromArgValue for Document {
    fn from_arg_value(text: &str) -> Result<Self, String> {
        Self::choose(text)
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Run the server.
    Serve(Box<Config>),
    /// Write this text, newline included, to stdout and exit with 0.
    Print(String),
}

/// One clear line, or the usage, for stderr; the exit code is 1.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

/// The environment: the value of a variable, if it is set.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the arguments (without the program's own name) and the environment.
pub fn parse<A: Into<OsString>>(
    args: Vec<A>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Request, UsageError> {
    // Checked before anything else, help included, as scripts may have come to expect.
    if let Some(port) = set(env, "FS_CACHE_PORT").filter(|port| leading_number(port).is_none()) {
        return Err(UsageError(format!("FS_CACHE_PORT must be a number, got \"{}\"", printable(&port))));
    }
    let mut defaults = Draft::new()?;
    let given =
        argv::read(args)?.map_err(|fault| UsageError(format!("{fault}\n{}", usage(&mut defaults, env))))?;
    let actions = given.iter().filter(|(flag, _)| flag.is_action());
    let words = actions.flat_map(|(flag, value)| [Some(format!("--{}", flag.name)), value.clone()]);
    let words: Vec<String> = words.flatten().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let action = match Action::from_args(&[PROGRAM], &words) {
        Ok(action) => action,
        Err(exit) if exit.status.is_ok() => return Ok(Request::Print(usage(&mut defaults, env) + "\n")),
        Err(exit) => return Err(UsageError(exit.output.trim_end().to_owned())),
    };
    let version = env!("CARGO_PKG_VERSION");
    if action.version {
        return Ok(Request::Print(format!("{version}\n")));
    }
    if action.updates {
        return Ok(Request::Print(format!(
            "{PROGRAM} {version}\nno server is asked for updates; install the newest source over it with: cargo install --path .\n"
        )));
    }
    if let Some(document) = action.generate {
        return Ok(Request::Print(documents::document(document, &mut defaults)));
    }
    let mut draft = settings::read(&given, env, action.print_config)?;
    if !action.print_config {
        return Ok(Request::Serve(Box::new(draft.config)));
    }
    let shares = Descriptors::of_process(draft.config.workers, &draft.config.limits);
    let shares = shares.map_or_else(|error| error, |(descriptors, _)| format!("descriptors: {descriptors}"));
    Ok(Request::Print(format!("{}# {shares}\n", print::text(&mut draft))))
}

/// The value of a variable; an empty one counts as unset.
fn set(env: Env<'_>, variable: &str) -> Option<String> {
    env(variable).filter(|value| !value.is_empty())
}

/// Keeps a message on one line whatever the value holds.
fn printable(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() }
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests;
