//! The configuration in force, for `--print-config`: one `name = value` line for each option, by its long name;
//! then as comments what the presets add, and the shares of the descriptors.

use super::draft::Draft;
use super::setting::printable;
use super::table::flags;
use crate::fd_budget::Descriptors;
use crate::preset::{Extent, Preset};

/// The lines, each with its newline. Credentials in the URL are hidden.
pub(super) fn text(mut draft: Draft) -> String {
    let options = flags().filter(|flag| !flag.is_action());
    let options = options.map(|flag| format!("{} = {}", flag.name, printable(&flag.show(&mut draft))));
    let mut lines: Vec<String> = options.collect();
    lines.extend(draft.config.presets.iter().flat_map(|preset| explain(preset)));
    let shares = Descriptors::of_process(draft.config.workers, &draft.config.limits);
    lines
        .push(shares.map_or_else(|e| format!("# {e}\n"), |(shares, _)| format!("# descriptors: {shares}\n")));
    lines.join("\n")
}

/// What a preset stands for, part by part.
fn explain(preset: &Preset) -> Vec<String> {
    let name = preset.name;
    let mut lines = Vec::new();
    for (class, patterns) in [
        ("immutable", preset.immutable),
        ("revalidate", preset.revalidate),
        ("never a file at its path", preset.documents),
    ] {
        lines.extend(patterns.iter().map(|pattern| format!("# {name} {class}: {pattern}")));
    }
    for set in preset.sets {
        let extent = match set.extent {
            Extent::Directory => "in one directory".to_owned(),
            Extent::Below(directory) => format!("below one directory in {directory}"),
        };
        lines.push(format!("# {name} one set {extent}: {}", set.members.join("|")));
    }
    let indexes = preset.indexes.iter();
    lines.extend(indexes.map(|index| format!("# {name} packages listed in: {}", index.paths.join("|"))));
    lines
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
