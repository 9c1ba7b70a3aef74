//! The command line and its environment variables, with the habits of POSIX getopt.
//!
//! Every flag is an entry of `table`. Settings come from flags, then from variables. Flags that ask for something
//! other than serving are read by argh.

mod argv;
mod documents;
mod draft;
mod flag;
mod print;
mod setting;
mod settings;
mod table;
mod value;

use std::ffi::OsString;

use argh::FromArgs;

use crate::config::{Choice as _, Config};
use documents::{PROGRAM, usage};
use draft::Draft;
use setting::{printable, set};
use value::{Document, leading_number};

/// What is asked for instead of serving: the flags of the table that set nothing.
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
    #[argh(option, from_str_fn(Document::choose))]
    generate: Option<Document>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Run the server.
    Serve(Box<Config>),
    /// Write this text, newline included, to stdout and exit with 0.
    Print(String),
}

/// Reads the arguments (without the program's own name) and the environment. An error is one line, or the usage,
/// for stderr; the exit code is 1.
pub fn parse<A: Into<OsString>>(
    args: Vec<A>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Request, String> {
    // Checked before anything else, help included, as scripts may have come to expect.
    if let Some(port) = set(env, "FS_CACHE_PORT").filter(|port| leading_number(port).is_none()) {
        return Err(format!("FS_CACHE_PORT must be a number, got \"{}\"", printable(&port)));
    }
    let text = |arg: A| {
        let not_text = |arg: OsString| printable(&arg.to_string_lossy());
        arg.into().into_string().map_err(|arg| format!("argument is not UTF-8: \"{}\"", not_text(arg)))
    };
    let args = args.into_iter().map(text).collect::<Result<_, _>>()?;
    let mut defaults = Draft::new()?;
    let given = argv::read(args).map_err(|fault| format!("{fault}\n{}", usage(&mut defaults, env)))?;
    let actions = given.iter().filter(|(flag, _)| flag.is_action());
    let words = actions.flat_map(|(flag, value)| [Some(format!("--{}", flag.name)), value.clone()]);
    let words: Vec<String> = words.flatten().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let version = env!("CARGO_PKG_VERSION");
    let text = match Action::from_args(&[PROGRAM], &words) {
        Err(exit) if exit.status.is_ok() => usage(&mut defaults, env) + "\n",
        Err(exit) => return Err(exit.output.trim_end().to_owned()),
        Ok(Action { version: true, .. }) => format!("{version}\n"),
        Ok(Action { updates: true, .. }) => {
            let how = "install the newest source over it with: cargo install --path .";
            format!("{PROGRAM} {version}\nno server is asked for updates; {how}\n")
        }
        Ok(Action { generate: Some(document), .. }) => documents::document(document, &mut defaults),
        Ok(Action { print_config: true, .. }) => print::text(settings::read(&given, env, true)?),
        Ok(_) => return Ok(Request::Serve(Box::new(settings::read(&given, env, false)?.config))),
    };
    Ok(Request::Print(text))
}

#[cfg(test)]
mod tests;
