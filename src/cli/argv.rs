//! Arguments with the habits of POSIX getopt, brought into the one form that argh reads.

use std::ffi::OsString;

use super::UsageError;
use super::options::{FINAL, OPTIONS, Opt};
use super::settings::printable;

/// Brings the arguments into the form `--name value`.
///
/// The outer error is about an argument that is no text; the inner one wants the usage behind it.
pub(super) fn normalise<A: Into<OsString>>(args: Vec<A>) -> Result<Result<Vec<String>, String>, UsageError> {
    let mut rest = Vec::with_capacity(args.len());
    for arg in args {
        let text = arg.into().into_string();
        rest.push(text.map_err(|bytes| {
            UsageError(format!("argument is not UTF-8: \"{}\"", printable(&bytes.to_string_lossy())))
        })?);
    }
    Ok(canonical(rest))
}

pub(super) fn canonical(args: Vec<String>) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut rest = args.into_iter();
    while let Some(arg) = rest.next() {
        let ended = if let Some(long) = arg.strip_prefix("--").filter(|long| !long.is_empty()) {
            take_long(long, &mut rest, &mut out)?
        } else if let Some(cluster) = arg.strip_prefix('-').filter(|cluster| !matches!(*cluster, "" | "-")) {
            take_cluster(cluster, &mut rest, &mut out)?
        } else {
            // `--` or the first operand: as with getopt, what follows is no option, and operands are not used.
            true
        };
        if ended {
            break;
        }
    }
    Ok(out)
}

/// Takes `name` or `name=value`; true if nothing behind it matters.
fn take_long(
    text: &str,
    rest: &mut impl Iterator<Item = String>,
    out: &mut Vec<String>,
) -> Result<bool, String> {
    let (name, attached) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let option = OPTIONS
        .iter()
        .find(|option| option.long == name)
        .ok_or_else(|| format!("illegal option -- {}", printable(name)))?;
    if option.value.is_none() && attached.is_some() {
        return Err(format!("option expects no argument -- {name}"));
    }
    take(option, attached, rest, out)
}

/// Takes the letters behind a single `-`; true if nothing behind them matters.
fn take_cluster(
    text: &str,
    rest: &mut impl Iterator<Item = String>,
    out: &mut Vec<String>,
) -> Result<bool, String> {
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let option = OPTIONS
            .iter()
            .find(|option| option.short == Some(letter))
            .ok_or_else(|| format!("illegal option -- {}", printable(&letter.to_string())))?;
        let tail = letters.as_str();
        if option.value.is_some() {
            return take(option, (!tail.is_empty()).then(|| tail.to_owned()), rest, out);
        }
        if take(option, None, rest, out)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn take(
    option: &Opt,
    attached: Option<String>,
    rest: &mut impl Iterator<Item = String>,
    out: &mut Vec<String>,
) -> Result<bool, String> {
    out.push(format!("--{}", option.long));
    if option.value.is_some() {
        let name = || option.short.map_or(option.long.to_owned(), |short| short.to_string());
        out.push(
            attached
                .or_else(|| rest.next())
                .ok_or_else(|| format!("option requires an argument -- {}", name()))?,
        );
    }
    Ok(FINAL.contains(&option.long))
}
