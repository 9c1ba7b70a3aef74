//! The documents made from the table, for people and shells. Texts around it are in `templates/`.

use std::fmt::Display;

use super::draft::Draft;
use super::flag::Flag;
use super::setting::{Env, set};
use super::table::{SECTIONS, flags};
use super::value::{Document, leading_number};

/// The name in the usage and the version text.
pub(super) const PROGRAM: &str = "fs-caching-server";
/// Names end here in the first section of the usage, which has the form of the original.
const NAMES: usize = 25;
/// And here in the others.
const LONG_NAMES: usize = 34;
/// mandoc(1) wants no longer lines.
const MAN_WIDTH: usize = 78;

/// The text of `--help`, without a newline at its end. It shows the host and port that the environment sets.
pub(super) fn usage(defaults: &mut Draft, env: Env<'_>) -> String {
    let mut text = format!("usage: {PROGRAM} [options]\n");
    for (number, (title, flags)) in SECTIONS.iter().enumerate() {
        let width = if number == 0 { NAMES } else { LONG_NAMES };
        text.push_str(&format!("\n{title}\n"));
        for flag in *flags {
            let short = flag.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
            let names = format!("{short}--{} {}", flag.name, around("<", flag.value(), ">"));
            let variable = around("[env ", flag.variable(), "] ");
            let default = match (flag.value, in_force(flag, defaults, env).as_str()) {
                ("", _) | (_, "") => String::new(),
                ("regex", pattern) => format!(", defaults to /{pattern}/"),
                (_, default) => format!(", defaults to {default}"),
            };
            text.push_str(&format!("  {names:<width$} {variable}{}{default}\n", flag.help));
        }
    }
    text.trim_end().to_owned()
}

/// The default in force.
fn in_force(flag: &Flag, defaults: &mut Draft, env: Env<'_>) -> String {
    let set = match flag.name {
        "host" => set(env, "FS_CACHE_HOST"),
        "port" => {
            set(env, "FS_CACHE_PORT").and_then(|port| leading_number(&port)).map(|port| port.to_string())
        }
        _ => None,
    };
    set.unwrap_or_else(|| flag.default_in_words(defaults))
}

/// The text of `--generate`.
pub(super) fn document(which: Document, defaults: &mut Draft) -> String {
    let lines = |line: fn(&Flag, &mut Draft) -> String, defaults: &mut Draft| {
        flags().map(|flag| line(flag, defaults)).collect::<Vec<_>>().join("\n")
    };
    let (template, place, text) = match which {
        Document::Reference => return reference(defaults),
        Document::Man => (include_str!("templates/man.mdoc"), "{options}", man(defaults)),
        Document::Bash => (include_str!("templates/complete.bash"), "{cases}", bash(defaults)),
        Document::Zsh => (include_str!("templates/complete.zsh"), "{flags}", lines(zsh, defaults)),
        Document::Fish => (include_str!("templates/complete.fish"), "{flags}", lines(fish, defaults)),
    };
    template.replace(place, &text)
}

/// A part of a line that is not there without its text.
fn around(before: &str, text: Option<impl Display>, after: &str) -> String {
    text.map_or_else(String::new, |text| format!("{before}{text}{after}"))
}

/// The title of a section where it stands alone.
fn heading(title: &str) -> String {
    let title = if title == "options" { "basic options" } else { title };
    sentence(title)
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn word_is_flag(word: &str) -> bool {
    word.starts_with('-')
}

fn man(defaults: &mut Draft) -> String {
    let mut lines = Vec::new();
    for (title, flags) in SECTIONS {
        lines.push(format!(".Ss {}\n.Bl -tag -width Ds", heading(title)));
        for flag in *flags {
            let value = around(" Ar ", flag.value(), "");
            let short = around("Fl ", flag.short, &format!("{value} , "));
            lines.push(format!(".It {short}Fl -{}{value}", flag.name));
            lines.push(filled(&format!("{}.", sentence(flag.help))));
            let default = flag.default_in_words(defaults);
            if flag.value().is_some() && !default.is_empty() {
                lines.push(filled(&format!("The default is {default}.")));
            }
            lines.extend(flag.variable().map(|name| format!(".Pq Ev {name}")));
        }
        lines.push(".El".to_owned());
    }
    lines.join("\n")
}

/// Text for mdoc(7), in lines of bounded length.
fn filled(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let word = word.replace('\\', "\\e");
        // The dash of a flag is no hyphen.
        let word = if word_is_flag(&word) { word.replace('-', "\\-") } else { word };
        if lines.last().is_some_and(|line| line.len() + 1 + word.len() > MAN_WIDTH) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(&word);
        }
    }
    lines.join("\n").replace("\n.", "\n\\&.").replace("\n'", "\n\\&'")
}

/// The tables of docs/reference.md.
fn reference(defaults: &mut Draft) -> String {
    let mut text = String::new();
    for (title, flags) in SECTIONS {
        text.push_str(&format!("\n**{}**\n\n", heading(title)));
        text.push_str("| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n");
        for flag in *flags {
            let value = flag.value().map(str::to_uppercase);
            let names =
                format!("{}`--{}{}`", around("`-", flag.short, "`, "), flag.name, around(" ", value, ""));
            let variable = around("`", flag.variable(), "`");
            let default = flag.default_in_words(defaults).replace('|', "\\|");
            // One word is a value; several describe one.
            let is_value = !default.is_empty() && !default.contains(' ');
            let default = if is_value { format!("`{default}`") } else { default };
            let quoted = |word| if word_is_flag(word) { format!("`{word}`") } else { word.to_owned() };
            let meaning = flag.help.split(' ').map(quoted).collect::<Vec<_>>().join(" ");
            text.push_str(&format!("| {names} | {variable} | {default} | {meaning} |\n"));
        }
    }
    text
}

/// Values that shells complete by themselves: the placeholder, then the way of bash, zsh and fish.
const KNOWN: [(&str, [&str; 3]); 3] = [
    ("dir", ["-d", "_files -/", "(__fish_complete_directories)"]),
    ("user", ["-u", "_users", "(__fish_complete_users)"]),
    ("group", ["-g", "_groups", "(__fish_complete_groups)"]),
];

/// How the shell of this number completes the value of a flag: in its own way, or from these words.
fn candidates(
    flag: &Flag,
    defaults: &mut Draft,
    shell: usize,
    from_words: fn(&str) -> String,
) -> Option<String> {
    let known = KNOWN.iter().find(|(value, _)| *value == flag.value).map(|(_, ways)| ways[shell].to_owned());
    known.or_else(|| {
        Some(flag.words(defaults).join(" ")).filter(|words| !words.is_empty()).map(|w| from_words(&w))
    })
}

fn bash(defaults: &mut Draft) -> String {
    let (mut lines, mut others) = (Vec::new(), Vec::new());
    let call = |how: &str| format!("mapfile -t COMPREPLY < <(compgen {how} -- \"$current\")");
    for flag in flags().filter(|flag| flag.value().is_some()) {
        let names = format!("{}--{}", around("-", flag.short, " | "), flag.name);
        let as_files = if flag.value == "dir" { "; compopt -o filenames" } else { "" };
        match candidates(flag, defaults, 0, |words| format!("-W '{words}'")) {
            Some(how) => lines.push(format!("    {names}) {}{as_files} ;;", call(&how))),
            None => others.push(names),
        }
    }
    lines.push(format!("    {}) ;;", others.join(" | ")));
    let names: Vec<_> = flags().map(|flag| format!("--{}", flag.name)).collect();
    lines.push(format!("    *) {} ;;", call(&format!("-W '{}'", names.join(" ")))));
    lines.join("\n")
}

fn zsh(flag: &Flag, defaults: &mut Draft) -> String {
    let help = flag.help.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]");
    let action = candidates(flag, defaults, 1, |words| format!("({words})")).unwrap_or(" ".to_owned());
    let value = around(":", flag.value(), &format!(":{action}"));
    let long = format!("--{}{}", flag.name, if value.is_empty() { "" } else { "=" });
    match flag.short {
        Some(short) => {
            let plus = if value.is_empty() { "" } else { "+" };
            format!("    '(-{short} --{})'{{-{short}{plus},{long}}}'[{help}]{value}'", flag.name)
        }
        None => format!("    '{}{long}[{help}]{value}'", if flag.repeats { "*" } else { "" }),
    }
}

fn fish(flag: &Flag, defaults: &mut Draft) -> String {
    let short = around(" -s ", flag.short, "");
    let words = around(" -a '", candidates(flag, defaults, 2, str::to_owned), "'");
    let value = if flag.value().is_some() { format!(" -x{words}") } else { words };
    let help = flag.help.replace('\'', "\\'");
    format!("complete -c {PROGRAM}{short} -l {}{value} -d '{help}'", flag.name)
}
