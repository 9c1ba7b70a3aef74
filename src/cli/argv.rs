//! Arguments with the habits of POSIX getopt.

use std::vec::IntoIter;

use super::flag::Flag;
use super::setting::printable;
use super::table::flags;

/// Flags in the order in which they were given, with their values.
pub(super) type Given = Vec<(&'static Flag, Option<String>)>;

/// The flags that end the parsing: what stands behind them, right or wrong, does not matter.
const FINAL: [&str; 4] = ["help", "updates", "version", "generate"];

/// The flags given. An error is one line, and wants the usage behind it.
pub(super) fn read(args: Vec<String>) -> Result<Given, String> {
    let mut reader = Reader { args: args.into_iter(), given: Vec::new() };
    while let Some(arg) = reader.args.next() {
        if let Some(long) = arg.strip_prefix("--").filter(|long| !long.is_empty()) {
            reader.take_long(long)?;
        } else if let Some(cluster) = arg.strip_prefix('-').filter(|cluster| !matches!(*cluster, "" | "-")) {
            reader.take_cluster(cluster)?;
        } else {
            // `--` or the first operand: as with getopt, what follows is no option, and operands are not used.
            break;
        }
        if reader.is_at_end() {
            break;
        }
    }
    Ok(reader.given)
}

struct Reader {
    args: IntoIter<String>,
    given: Given,
}

impl Reader {
    fn is_at_end(&self) -> bool {
        self.given.last().is_some_and(|(flag, _)| FINAL.contains(&flag.name))
    }

    /// Takes `name` or `name=value`.
    fn take_long(&mut self, text: &str) -> Result<(), String> {
        let (name, attached) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let flag = known(name, |flag| flag.name == name)?;
        if flag.value.is_empty() && attached.is_some() {
            return Err(format!("option expects no argument -- {name}"));
        }
        self.take(flag, attached)
    }

    /// Takes the letters behind a single `-`.
    fn take_cluster(&mut self, text: &str) -> Result<(), String> {
        let mut letters = text.chars();
        while let Some(letter) = letters.next().filter(|_| !self.is_at_end()) {
            let flag = known(&letter.to_string(), |flag| flag.short == Some(letter))?;
            let rest = Some(letters.as_str()).filter(|rest| !rest.is_empty() && !flag.value.is_empty());
            self.take(flag, rest)?;
            if !flag.value.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Takes a flag, and its value if it has one: what is attached to it, or the next argument.
    fn take(&mut self, flag: &'static Flag, attached: Option<&str>) -> Result<(), String> {
        let value = match attached {
            _ if flag.value.is_empty() => None,
            Some(value) => Some(value.to_owned()),
            None => Some(self.args.next().ok_or_else(|| {
                let name = flag.short.map_or(flag.name.to_owned(), |short| short.to_string());
                format!("option requires an argument -- {name}")
            })?),
        };
        self.given.push((flag, value));
        Ok(())
    }
}

fn known(name: &str, is_it: impl Fn(&Flag) -> bool) -> Result<&'static Flag, String> {
    flags().find(|flag| is_it(flag)).ok_or_else(|| format!("illegal option -- {}", printable(name)))
}
