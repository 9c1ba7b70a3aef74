//! What is made of the table for people and shells.

use super::draft::Draft;
use super::flag::Flag;
use super::table::SECTIONS;
use super::value::leading_number;
use super::{Env, PROGRAM, set};

/// Names end here in the first section of the usage, which has the form of the original.
const NAMES: usize = 25;
/// And here in the others.
const LONG_NAMES: usize = 34;

/// The text of `--help`, without a newline at its end. It shows the host and port that the environment sets.
pub(super) fn usage(defaults: &mut Draft, env: Env<'_>) -> String {
    let mut text = format!("usage: {PROGRAM} [options]\n");
    for (number, (title, flags)) in SECTIONS.iter().enumerate() {
        let width = if number == 0 { NAMES } else { LONG_NAMES };
        text.push_str(&format!("\n{title}\n"));
        for flag in *flags {
            let short = flag.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
            let value = if flag.value.is_empty() { String::new() } else { format!("<{}>", flag.value) };
            let names = format!("{short}--{} {value}", flag.name);
            let variable = flag.variable().map_or_else(String::new, |name| format!("[env {name}] "));
            let default =
                default(flag, defaults, env).map_or_else(String::new, |it| format!(", defaults to {it}"));
            text.push_str(&format!("  {names:<width$} {variable}{}{default}\n", flag.help));
        }
    }
    text.trim_end().to_owned()
}

/// The default in force.
fn default(flag: &Flag, defaults: &mut Draft, env: Env<'_>) -> Option<String> {
    let in_force = match flag.name {
        "host" => set(env, "FS_CACHE_HOST"),
        "port" => {
            set(env, "FS_CACHE_PORT").and_then(|port| leading_number(&port)).map(|port| port.to_string())
        }
        _ => None,
    };
    let default = in_force.unwrap_or_else(|| flag.default_in_words(defaults));
    match (flag.value, default.as_str()) {
        ("", _) | (_, "") => None,
        ("regex", pattern) => Some(format!("/{pattern}/")),
        _ => Some(default),
    }
}
