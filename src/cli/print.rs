//! The configuration in force, for `--print-config`: one `name = value` line for each option, by its long name,
//! then what the presets have added, as comments.

use super::draft::Draft;
use super::printable;
use super::table::flags;
use crate::preset::{Extent, Preset};

/// The lines, each with its newline. Credentials in the URL are hidden.
pub(super) fn text(draft: &mut Draft) -> String {
    let mut text = String::new();
    for flag in flags().filter(|flag| !flag.is_action()) {
        line(&mut text, &format!("{} = {}", flag.name, printable(&flag.show(draft))));
    }
    for preset in &draft.config.presets {
        explain(&mut text, preset);
    }
    text
}

/// What a preset stands for, part by part.
fn explain(text: &mut String, preset: &Preset) {
    let name = preset.name;
    for (class, patterns) in [("immutable", preset.immutable), ("revalidate", preset.revalidate)] {
        for pattern in patterns {
            line(text, &format!("# {name} {class}: {pattern}"));
        }
    }
    for pattern in preset.documents {
        line(text, &format!("# {name} never a file at its path: {pattern}"));
    }
    for set in preset.sets {
        let extent = match set.extent {
            Extent::Directory => "in one directory".to_owned(),
            Extent::Below(directory) => format!("below one directory in {directory}"),
        };
        line(text, &format!("# {name} one set {extent}: {}", set.members.join("|")));
    }
    for index in preset.indexes {
        line(text, &format!("# {name} packages listed in: {}", index.paths.join("|")));
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::table::flags;
    use super::super::{Request, parse};

    fn printed(args: &[&str], vars: &[(&str, &str)]) -> String {
        let env =
            |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        let args: Vec<_> = args.iter().chain(&["--print-config"]).collect();
        match parse(args, &env).unwrap() {
            Request::Print(text) => text,
            Request::Serve(config) => unreachable!("{config:?}"),
        }
    }

    fn value(text: &str, name: &str) -> String {
        let start = format!("{name} = ");
        let line =
            text.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| unreachable!("{name}"));
        line[start.len()..].to_owned()
    }

    #[test]
    fn every_option_is_printed() {
        let text = printed(&["-U", "http://h"], &[]);
        for flag in flags().filter(|flag| !flag.is_action()) {
            value(&text, flag.name);
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(" = ").next().unwrap();
            assert!(flags().any(|flag| flag.name == name), "{line}");
        }
    }

    #[test]
    fn it_can_be_printed_before_the_origin_and_the_directory_are_there() {
        let text = printed(&["-c", "/nonexistent/x", "--preset", "apt"], &[]);
        assert_eq!(
            (value(&text, "url"), value(&text, "cache-dir")),
            (String::new(), "/nonexistent/x".into())
        );
        assert!(!std::path::Path::new("/nonexistent").exists());
    }

    #[test]
    fn what_is_printed_is_what_was_given() {
        let args =
            ["-U", "http://u:p@h/x/", "-d", "--pin-cpus", "0,2-3", "--idle-timeout=1.5", "-r", "a\u{1}b"];
        let text = printed(&args, &[("FS_CACHE_PORT", "81"), ("FS_CACHE_PRESET", "pip,npm")]);
        for (name, expected) in [
            ("url", "http://***@h/x"),
            ("debug", "on"),
            ("pin-cpus", "0,2,3"),
            ("idle-timeout", "1.5"),
            ("stall-timeout", "60"),
            ("port", "81"),
            ("io", "auto"),
            ("preset", "pip,npm"),
        ] {
            assert_eq!(value(&text, name), expected, "{name}");
        }
        assert!(value(&text, "regex").starts_with("(?:a\\u{1}b)|(?:"), "{text}");
        assert!(text.contains("\n# npm immutable: /-/[^/]+\\.tgz$\n"), "{text}");
    }
}
