//! What is made of the table for people and shells. Texts around it are in `templates/`.

use std::fmt::Display;

use super::draft::Draft;
use super::flag::Flag;
use super::table::{SECTIONS, flags};
use super::value::leading_number;
use super::{Document, Env, PROGRAM, set};

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

/// What may stand for the value of each flag that takes one; for many, nothing that a shell could know.
fn bash(defaults: &mut Draft) -> String {
    let (mut lines, mut others) = (Vec::new(), Vec::new());
    for flag in flags().filter(|flag| flag.value().is_some()) {
        let names = format!("{}--{}", around("-", flag.short, " | "), flag.name);
        let (words, as_files) = match (flag.value, flag.words(defaults)) {
            ("dir", _) => ("-d".to_owned(), "; compopt -o filenames"),
            ("user", _) => ("-u".to_owned(), ""),
            ("group", _) => ("-g".to_owned(), ""),
            (_, words) => (format!("-W '{}'", words.join(" ")), ""),
        };
        if words == "-W ''" {
            others.push(names);
        } else {
            let call = format!("mapfile -t COMPREPLY < <(compgen {words} -- \"$current\"){as_files}");
            lines.push(format!("    {names}) {call} ;;"));
        }
    }
    lines.push(format!("    {}) ;;", others.join(" | ")));
    let names: Vec<_> = flags().map(|flag| format!("--{}", flag.name)).collect();
    lines.push(format!(
        "    *) mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$current\") ;;",
        names.join(" ")
    ));
    lines.join("\n")
}

fn zsh(flag: &Flag, defaults: &mut Draft) -> String {
    let help = flag.help.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]");
    let words = flag.words(defaults);
    let (equals, value) = match flag.value {
        "" => ("", String::new()),
        "dir" => ("=", ":dir:_files -/".to_owned()),
        "user" => ("=", ":user:_users".to_owned()),
        "group" => ("=", ":group:_groups".to_owned()),
        value if words.is_empty() => ("=", format!(":{value}: ")),
        value => ("=", format!(":{value}:({})", words.join(" "))),
    };
    let long = format!("--{}{equals}", flag.name);
    match flag.short {
        Some(short) => {
            let plus = if equals.is_empty() { "" } else { "+" };
            format!("    '(-{short} --{})'{{-{short}{plus},{long}}}'[{help}]{value}'", flag.name)
        }
        None => format!("    '{}{long}[{help}]{value}'", if flag.repeats { "*" } else { "" }),
    }
}

fn fish(flag: &Flag, defaults: &mut Draft) -> String {
    let short = around(" -s ", flag.short, "");
    let words = flag.words(defaults).join(" ");
    let value = match flag.value {
        "" => String::new(),
        "dir" => " -x -a '(__fish_complete_directories)'".to_owned(),
        "user" => " -x -a '(__fish_complete_users)'".to_owned(),
        "group" => " -x -a '(__fish_complete_groups)'".to_owned(),
        _ if words.is_empty() => " -x".to_owned(),
        _ => format!(" -x -a '{words}'"),
    };
    let help = flag.help.replace('\'', "\\'");
    format!("complete -c {PROGRAM}{short} -l {}{value} -d '{help}'", flag.name)
}
