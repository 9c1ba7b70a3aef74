//! Arguments with the habits of POSIX getopt.

use std::ffi::OsString;

use super::flag::Flag;
use super::table::flags;
use super::{UsageError, printable};

/// Flags in the order in which they were given, with their values.
pub(super) type Given = Vec<(&'static Flag, Option<String>)>;

/// The flags that end the parsing: what stands behind them, right or wrong, does not matter any more.
const FINAL: [&str; 4] = ["help", "updates", "version", "generate"];

/// Finds out which flags are given.
///
/// The outer error is about an argument that is no text; the inner one wants the usage behind it.
pub(super) fn read<A: Into<OsString>>(args: Vec<A>) -> Result<Result<Given, String>, UsageError> {
    let text = |arg: A| {
        arg.into().into_string().map_err(|bytes| {
            UsageError(format!("argument is not UTF-8: \"{}\"", printable(&bytes.to_string_lossy())))
        })
    };
    Ok(given(args.into_iter().map(text).collect::<Result<_, _>>()?))
}

pub(super) fn given(args: Vec<String>) -> Result<Given, String> {
    let mut given = Vec::new();
    let mut rest = args.into_iter();
    while let Some(arg) = rest.next() {
        if let Some(long) = arg.strip_prefix("--").filter(|long| !long.is_empty()) {
            take_long(long, &mut rest, &mut given)?;
        } else if let Some(cluster) = arg.strip_prefix('-').filter(|cluster| !matches!(*cluster, "" | "-")) {
            take_cluster(cluster, &mut rest, &mut given)?;
        } else {
            // `--` or the first operand: as with getopt, what follows is no option, and operands are not used.
            break;
        }
        if is_final(&given) {
            break;
        }
    }
    Ok(given)
}

fn is_final(given: &Given) -> bool {
    given.last().is_some_and(|(flag, _)| FINAL.contains(&flag.name))
}

/// Takes `name` or `name=value`.
fn take_long(text: &str, rest: &mut impl Iterator<Item = String>, given: &mut Given) -> Result<(), String> {
    let (name, attached) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let flag = flags()
        .find(|flag| flag.name == name)
        .ok_or_else(|| format!("illegal option -- {}", printable(name)))?;
    if flag.value.is_empty() && attached.is_some() {
        return Err(format!("option expects no argument -- {name}"));
    }
    take(flag, attached, rest, given)
}

/// Takes the letters behind a single `-`.
fn take_cluster(
    text: &str,
    rest: &mut impl Iterator<Item = String>,
    given: &mut Given,
) -> Result<(), String> {
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let flag = flags()
            .find(|flag| flag.short == Some(letter))
            .ok_or_else(|| format!("illegal option -- {}", printable(&letter.to_string())))?;
        if !flag.value.is_empty() {
            let tail = letters.as_str();
            return take(flag, (!tail.is_empty()).then(|| tail.to_owned()), rest, given);
        }
        take(flag, None, rest, given)?;
        if is_final(given) {
            break;
        }
    }
    Ok(())
}

fn take(
    flag: &'static Flag,
    attached: Option<String>,
    rest: &mut impl Iterator<Item = String>,
    given: &mut Given,
) -> Result<(), String> {
    let value = if flag.value.is_empty() { None } else { attached.or_else(|| rest.next()) };
    if value.is_none() && !flag.value.is_empty() {
        let name = flag.short.map_or(flag.name.to_owned(), |short| short.to_string());
        return Err(format!("option requires an argument -- {name}"));
    }
    given.push((flag, value));
    Ok(())
}
