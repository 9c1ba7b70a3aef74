//! The man page, the completions and the tables of the reference are what the program makes of its own flags, and
//! README and reference name no flag that does not exist.
//!
//! `FS_CACHE_REWRITE=1 cargo test --test blackbox documents` writes them again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::run_cli;

/// What `--generate` makes, and where it is checked in.
const DOCUMENTS: &[(&str, &str)] = &[
    ("man", "man/fs-caching-server.8"),
    ("bash", "completions/fs-caching-server.bash"),
    ("zsh", "completions/_fs-caching-server"),
    ("fish", "completions/fs-caching-server.fish"),
    ("reference", "docs/reference.md"),
];

/// The tables stand between these in the reference.
const MARKERS: [&str; 2] = ["<!-- options: begin -->\n", "<!-- options: end -->\n"];

/// Documents whose flags and variables must exist.
const TEXTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/reference.md",
    "docs/presets.md",
    "docs/migrating.md",
    "docs/deployment.md",
    "docs/performance.md",
    "docs/platforms.md",
    "docs/tuning.md",
];

/// Flags of other programs in these documents.
const FOREIGN: &[&str] = &[
    "--cap-drop",
    "--dir",
    "--exclude",
    "--features",
    "--index-url",
    "--locked",
    "--manifest-path",
    "--no-default-features",
    "--now",
    "--quick",
    "--read-only",
    "--release",
    "--rounds",
    "--seconds",
    "--security-opt",
    "--stop-timeout",
    "--trusted-host",
];

/// Variables of the tests and scripts.
const TESTS_OWN: &[&str] = &["FS_CACHE_TEST_BINARY", "FS_CACHE_TEST_SUBSTITUTES", "FS_CACHE_REWRITE"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[track_caller]
fn printed(args: &[&str]) -> String {
    let output = run_cli(args, &[], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// All words of this form: the start, then letters, digits and the joint.
fn words(text: &str, start: &str, joint: char) -> BTreeSet<String> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == joint;
    let found = text.match_indices(start).filter(|(at, _)| !text[..*at].ends_with(|c| inside(c) || c == '-'));
    let word = |(at, _): (usize, &str)| {
        let rest = &text[at + start.len()..];
        let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        format!("{start}{}", rest[..end].trim_end_matches(joint))
    };
    found.map(word).filter(|word| word.len() > start.len()).collect()
}

fn flags(text: &str) -> BTreeSet<String> {
    words(text, "--", '-')
}

fn variables(text: &str) -> BTreeSet<String> {
    words(text, "FS_CACHE_", '_')
}

#[test]
fn generated_documents_are_up_to_date() {
    let rewrite = std::env::var_os("FS_CACHE_REWRITE").is_some();
    for (which, name) in DOCUMENTS {
        let mut made = printed(&["--generate", which]);
        assert_eq!(printed(&[&format!("--generate={which}"), "--no-such-flag"]), made);
        if *which == "reference" {
            let text = read(name);
            let [begin, end] = MARKERS.map(|marker| text.find(marker).expect(marker));
            made = [&text[..begin], MARKERS[0], &made, &text[end..]].concat();
        }
        if rewrite {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), &made).unwrap();
        }
        assert!(
            read(name) == made,
            "{name} is not what the flags say: FS_CACHE_REWRITE=1 cargo test --test blackbox documents"
        );
    }
}

#[test]
fn each_flag_and_variable_is_in_every_document() {
    let help = printed(&["--help"]);
    let (flags, variables) = (flags(&help), variables(&help));
    assert!(flags.len() > 50 && variables.len() > 50, "{flags:?} {variables:?}");
    for (which, _) in DOCUMENTS {
        let text = printed(&["--generate", which]).replace("Fl -", "--").replace("-l ", "--");
        let named = self::flags(&text);
        let missing: Vec<_> = flags.difference(&named).collect();
        assert!(missing.is_empty(), "{which} lacks {missing:?}");
        let named = self::variables(&text);
        let missing: Vec<_> = variables.difference(&named).collect();
        // Completions need no variables.
        assert!(missing.is_empty() || !matches!(*which, "man" | "reference"), "{which} lacks {missing:?}");
    }
}

#[test]
fn documents_name_no_flag_that_does_not_exist() {
    let help = printed(&["--help"]);
    let (known, variables) = (flags(&help), variables(&help));
    let mut wrong = Vec::new();
    for name in TEXTS {
        let text = read(name);
        let flags = flags(&text).into_iter().filter(|flag| !known.contains(flag));
        wrong.extend(
            flags.filter(|flag| !FOREIGN.contains(&flag.as_str())).map(|flag| format!("{name}: {flag}")),
        );
        let named = self::variables(&text).into_iter().filter(|variable| !variables.contains(variable));
        let named = named.filter(|variable| !TESTS_OWN.contains(&variable.as_str()));
        wrong.extend(named.map(|variable| format!("{name}: {variable}")));
    }
    assert!(wrong.is_empty(), "no such flags or variables: {wrong:#?}");
    let foreign: Vec<_> = FOREIGN.iter().filter(|flag| known.contains(**flag)).collect();
    assert!(foreign.is_empty(), "{foreign:?} are flags of this program");
}

/// Runs a program that may not be installed; `None` if it is not.
fn tool(program: &str, args: &[&str]) -> Option<(bool, String)> {
    match Command::new(program).args(args).current_dir(path(".")).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(error) => {
            eprintln!("SKIPPED: {program}: {error}");
            None
        }
    }
}

#[test]
fn the_man_page_has_no_fault_that_mandoc_knows() {
    let Some((ok, text)) = tool("mandoc", &["-Tlint", "man/fs-caching-server.8"]) else { return };
    assert!(ok && text.is_empty(), "{text}");
}

#[test]
fn the_shells_can_read_their_completions() {
    for (shell, name) in [
        ("bash", "completions/fs-caching-server.bash"),
        ("zsh", "completions/_fs-caching-server"),
        ("fish", "completions/fs-caching-server.fish"),
    ] {
        if let Some((ok, text)) = tool(shell, &["-n", name]) {
            assert!(ok && text.is_empty(), "{shell}: {text}");
        }
    }
}

#[test]
fn bash_completes_flags_and_their_values() {
    let script = r#"
        source completions/fs-caching-server.bash
        complete_words() {
            COMP_WORDS=(fs-caching-server "$@")
            COMP_CWORD=$#
            _fs_caching_server
            echo "${COMPREPLY[*]}"
        }
        complete_words --id
        complete_words --io ''
        complete_words --io =
        complete_words -d --io = u
        complete_words --preset ru
        complete_words --url ''
    "#;
    let Some((ok, text)) = tool("bash", &["-c", script]) else { return };
    let lines: Vec<_> = text.lines().collect();
    let engines = "auto uring poll";
    assert!(ok, "{text}");
    assert_eq!(lines, ["--idle-timeout", engines, engines, "uring", "rubygems", ""]);
}

#[test]
fn a_document_that_is_not_known_is_one_line_and_exit_1() {
    let output = run_cli(&["--generate", "html"], &[], &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("--generate") && error.contains("html") && error.contains("reference"), "{error}");
}
