//! The shape of the source, held by a test: who may use whom, what only one module may name, and
//! how long a file may get. Reads `src/`, runs nothing.
#![allow(clippy::unwrap_used, reason = "a failed assumption of a test is a failed test, in helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of program in one file, its tests not counted.
const MAX_LINES: usize = 450;

/// A module, and the modules of the crate that it may name. `sys::file` allows that part only.
/// Arrows point down: nothing in this table may reach a row above it.
const MAY_USE: &[(&str, &[&str])] = &[
    // The life of the process also needs what only `sys` has: signals, pinning, limits, listening sockets.
    (
        "server",
        &[
            "cache::Bounds",
            "cache::Store",
            "cache::lookup",
            "config",
            "downstream",
            "error",
            "fd_budget",
            "http",
            "observe",
            "outcome",
            "packages::tables",
            "route::Classes",
            "rt",
            "proxy",
            "stop",
            "sys",
            "upstream",
        ],
    ),
    // Bodies move by direct non-blocking calls on the loop: `rt` only says when to
    // try again, so the call itself is `sys`'s. Sockets by number, processes and signals are not.
    (
        "proxy",
        &[
            "cache",
            "config",
            "downstream",
            "error",
            "fd_budget",
            "http",
            "key",
            "observe",
            "outcome",
            "packages",
            "pattern",
            "preset",
            "route",
            "rt",
            "stop",
            "sys::cache",
            "sys::clock",
            "sys::file",
            "sys::socket",
            "sys::transfer",
            "sys::would_block",
            "upstream",
        ],
    ),
    // It takes part in the steps of a request: see `BACK` for what it has from `proxy`.
    (
        "packages",
        &[
            "cache",
            "config",
            "downstream",
            "error",
            "fd_budget",
            "http",
            "key",
            "observe",
            "outcome",
            "preset",
            "route",
            "rt",
            "sys::clock",
            "sys::file",
            "sys::socket",
        ],
    ),
    // To a client, at its pace: sockets, and files that are sent to them.
    (
        "downstream",
        &[
            "cache::place",
            "config",
            "error",
            "http",
            "outcome",
            "rt",
            "sys::cache",
            "sys::clock",
            "sys::file",
            "sys::is_io_error",
            "sys::socket",
            "sys::transfer",
            "sys::would_block",
        ],
    ),
    // Flags become a `Config` here, where the flag and the variable to complain about are known.
    // Words for errors of the system.
    ("cli", &["config", "fd_budget", "http", "pattern", "preset", "sys::process"]),
    ("route", &["http", "key", "outcome", "pattern", "preset"]),
    // Files are `sys`'s: reads and writes of a regular file need no loop.
    // Its thread goes behind the workers.
    (
        "cache",
        &[
            "error",
            "fd_budget",
            "http",
            "key",
            "outcome",
            "rt",
            "sys::file",
            "sys::handover",
            "sys::is_exhausted",
            "sys::process",
        ],
    ),
    // Sockets are read and written by direct calls, as in `downstream`.
    (
        "upstream",
        &[
            "config",
            "error",
            "fd_budget",
            "http",
            "rt",
            "sys::is_exhausted",
            "sys::socket",
            "sys::would_block",
        ],
    ),
    ("observe", &[]),
    // Who may open how many descriptors, and in which line the rest waits.
    ("fd_budget", &["config", "rt", "sys::process"]),
    ("config", &["http", "key", "pattern", "preset", "rt::engine"]),
    ("key", &["http"]),
    ("outcome", &[]),
    ("stop", &["rt"]),
    ("preset", &["pattern"]),
    ("pattern", &[]),
    ("http", &["error"]),
    ("error", &[]),
    ("labelled", &[]),
    ("rt", &["sys"]),
    ("sys", &[]),
];

/// The one pair of modules that use each other: an index set is served by the steps of a request, and asks the origin by
/// them. What `packages` may name above itself; `no_files_import_each_other` holds for these files too.
const BACK: &[&str] = &[
    "proxy::exchange",
    "proxy::fetch",
    "proxy::loops",
    "proxy::next",
    "proxy::passing",
    "proxy::revalidated",
];

/// What a module that touches nothing may not name.
const WORLD: &[&str] = &[
    "std::fs",
    "std::os",
    "std::env",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "socket2",
    "Instant::now",
    "SystemTime::now",
];

/// One file of `src/`.
struct Source {
    /// Relative to `src/`.
    path: String,
    /// Its program: comments and the contents of strings blanked, tests cut off.
    program: String,
    /// Lines before its tests.
    lines: usize,
}

impl Source {
    /// The top module it belongs to.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// Every place that names `name` as a whole path segment or keyword: line numbers.
    fn naming(&self, name: &str) -> Vec<usize> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let mut found = Vec::new();
        for (number, line) in self.program.lines().enumerate() {
            let mut names = line.match_indices(name).filter(|(at, _)| {
                !line[..*at].ends_with(is_word) && !line[at + name.len()..].starts_with(is_word)
            });
            if names.next().is_some() {
                found.push(number + 1);
            }
        }
        found
    }

    /// Complaints about every line that names one of `names`.
    fn complaints(&self, names: &[&str], rule: &str) -> Vec<String> {
        let lines = |name: &&str| {
            let name = (*name).to_owned();
            self.naming(&name)
                .into_iter()
                .map(move |line| format!("src/{}:{line} names {name}: {rule}", self.path))
        };
        names.iter().flat_map(lines).collect()
    }

    /// Paths below the crate's root that it names, two segments deep: `sys::file`, `error::Error`.
    fn uses(&self) -> BTreeSet<String> {
        self.paths(&[]).iter().map(|path| path.split("::").take(2).collect::<Vec<_>>().join("::")).collect()
    }

    /// Its own place among the modules: `proxy::fetch` for `proxy/fetch/mod.rs`.
    fn place(&self) -> String {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if path == "lib" { String::new() } else { path.replace('/', "::") }
    }

    /// Paths below the crate's root that it names, `children` being modules that it declares.
    fn paths(&self, children: &[&str]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let place = self.place();
        for root in ["crate", "super", "self"].iter().chain(children) {
            for (at, _) in self.program.match_indices(&format!("{root}::")) {
                let before = &self.program[..at];
                if before.ends_with("::") || before.ends_with(is_word) {
                    continue;
                }
                let mut tree = &self.program[at..];
                let mut base = place.as_str();
                if let Some(rest) = tree.strip_prefix("crate::") {
                    (base, tree) = ("", rest);
                } else if let Some(rest) = tree.strip_prefix("self::") {
                    tree = rest;
                }
                while let Some(rest) = tree.strip_prefix("super::") {
                    tree = rest;
                    base = base.rsplit_once("::").map_or("", |(parent, _)| parent);
                }
                expand(base, tree, &mut found);
            }
        }
        found
    }

    /// Is this module the one that declares the other?
    fn is_parent_of(&self, other: &Self) -> bool {
        other.place().rsplit_once("::").map_or("", |(parent, _)| parent) == self.place()
    }
}

/// Adds the paths that a `use` tree (or a path in code) names.
fn expand(before: &str, tree: &str, found: &mut BTreeSet<String>) {
    let tree = tree.trim_start();
    if let Some(inside) = tree.strip_prefix('{') {
        for part in split_group(inside) {
            expand(before, part, found);
        }
        return;
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    let path = if before.is_empty() { name.to_owned() } else { format!("{before}::{name}") };
    match rest.strip_prefix("::") {
        Some(rest) => expand(&path, rest, found),
        None if name == "self" => drop(found.insert(before.to_owned())),
        None if !name.is_empty() => drop(found.insert(path)),
        None => {}
    }
}

/// The comma-separated parts up to the brace that closes the group.
fn split_group(inside: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_u32, 0, Vec::new());
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&inside[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

/// The text with comments and the contents of string and character literals made blank; line
/// ends stay, so that line numbers do.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = literal(rest);
        let (taken, left) = rest.split_at(if skipped == 0 { first.len_utf8() } else { skipped });
        if skipped == 0 {
            out.push_str(taken);
        } else {
            out.extend(taken.chars().map(|c| if c == '\n' { c } else { ' ' }));
        }
        rest = left;
    }
    out
}

/// The length of the comment or literal that `text` starts with; 0 where it starts with neither.
fn literal(text: &str) -> usize {
    let upto = |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return upto("*/", 2);
    }
    if text.starts_with("r\"") {
        return upto("\"", 2);
    }
    if text.starts_with("r#\"") {
        return upto("\"#", 3);
    }
    if let Some(rest) = text.strip_prefix('"') {
        let mut escaped = false;
        let closing = |c: char| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        };
        return rest.find(closing).map_or(text.len(), |at| at + 2);
    }
    if text.starts_with("'\\") {
        return upto("'", 3);
    }
    let mut after = text.chars().skip(1);
    match (text.starts_with('\''), after.next(), after.next()) {
        (true, Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 0,
    }
}

/// The program part of a file: what stands before its inline test module.
fn without_tests(text: &str) -> &str {
    let inline = |at: &usize| text[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
    let cut = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(inline);
    &text[..cut.unwrap_or(text.len())]
}

/// Where the test modules are that `file` declares: without the ending, so that it is a directory's name too.
fn test_modules(file: &Path, text: &str) -> Vec<PathBuf> {
    let stem = file.file_stem().unwrap().to_string_lossy();
    let dir = match &*stem {
        "mod" | "lib" | "main" => file.parent().unwrap().to_owned(),
        _ => file.with_extension(""),
    };
    let lines: Vec<&str> = text.lines().collect();
    let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
    declared
        .filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';'))
        .map(|name| dir.join(name))
        .collect()
}

fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), out);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            out.push(entry.path());
        }
    }
}

/// Every file of the program, in order.
fn sources() -> Vec<Source> {
    sources_of("src")
}

fn sources_of(dir: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let texts: Vec<_> = files.into_iter().map(|file| (fs::read_to_string(&file).unwrap(), file)).collect();
    let tests: BTreeSet<PathBuf> = texts.iter().flat_map(|(text, file)| test_modules(file, text)).collect();
    let is_test = |file: &Path| file.with_extension("").ancestors().any(|part| tests.contains(part));
    let programs = texts.iter().filter(|(_, file)| !is_test(file));
    programs
        .map(|(text, file)| {
            let program = without_tests(text);
            Source {
                path: file.strip_prefix(&root).unwrap().to_string_lossy().into_owned(),
                program: blanked(program),
                lines: program.lines().count(),
            }
        })
        .collect()
}

#[track_caller]
fn expect_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let mut complaints = Vec::new();
    let sources = sources();
    // `super` within an inline module is that file itself.
    let is_module = |top: &str| sources.iter().any(|source| source.module() == top);
    for source in sources.iter().filter(|source| !matches!(source.module(), "lib" | "main")) {
        let module = source.module();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            complaints.push(format!("src/{}: module {module} is not in the table", source.path));
            continue;
        };
        for used in source.uses() {
            let top = used.split("::").next().unwrap();
            if module == "packages" && BACK.contains(&used.as_str()) {
                continue;
            }
            if top != module && is_module(top) && !allowed.contains(&top) && !allowed.contains(&used.as_str())
            {
                complaints.push(format!("src/{}: {module} may not use {used}", source.path));
            }
        }
    }
    expect_none(&complaints);
}

#[test]
fn the_table_has_no_way_up() {
    for (row, (module, allowed)) in MAY_USE.iter().enumerate() {
        for used in *allowed {
            let top = used.split("::").next().unwrap();
            let below = MAY_USE.iter().position(|(name, _)| *name == top).unwrap();
            // Values that have no parts of the crate themselves are free to all.
            assert!(below > row || MAY_USE[below].1.is_empty(), "{module} uses {used}, which is above it");
        }
    }
}

/// Groups of files that import each other. None is added.
const CIRCLES: &[&[&str]] = &[];

#[test]
fn no_files_import_each_other() {
    let sources: Vec<Source> = sources().into_iter().filter(|source| source.path != "main.rs").collect();
    let places: Vec<String> = sources.iter().map(Source::place).collect();
    let owner = |path: &str| {
        let owns =
            |place: &str| path == place || path.strip_prefix(place).is_some_and(|p| p.starts_with("::"));
        let owners = places.iter().enumerate().filter(|(_, place)| owns(place));
        owners.max_by_key(|(_, place)| place.len()).map(|(at, _)| at)
    };
    // What a module has from its own parent is aside: names that all of its files use.
    let mut reached: Vec<BTreeSet<usize>> = Vec::new();
    for source in &sources {
        let children = sources.iter().filter(|other| source.is_parent_of(other));
        let children: Vec<String> =
            children.map(|child| child.place().rsplit("::").next().unwrap().to_owned()).collect();
        let children: Vec<&str> = children.iter().map(String::as_str).collect();
        let imports = source.paths(&children);
        let imports = imports.iter().filter_map(|path| owner(path));
        reached.push(imports.filter(|&at| !sources[at].is_parent_of(source)).collect());
    }
    for through in 0..sources.len() {
        let further = reached[through].clone();
        for from in reached.iter_mut().filter(|from| from.contains(&through)) {
            from.extend(&further);
        }
    }
    let circle = |at: usize| -> BTreeSet<&str> {
        let back = reached[at].iter().filter(|&&to| to != at && reached[to].contains(&at));
        back.chain([&at]).map(|&to| sources[to].path.as_str()).collect()
    };
    let circles: BTreeSet<_> = (0..sources.len()).map(circle).filter(|files| files.len() > 1).collect();
    let known: BTreeSet<BTreeSet<&str>> =
        CIRCLES.iter().map(|files| files.iter().copied().collect()).collect();
    assert_eq!(circles, known, "files that import each other, and the list of those that may");
}

#[test]
fn the_binary_only_starts_the_library() {
    let main = sources().into_iter().find(|source| source.path == "main.rs").unwrap();
    for (at, _) in main.program.match_indices("fs_caching_server::") {
        let mut found = BTreeSet::new();
        expand("", &main.program[at + "fs_caching_server::".len()..], &mut found);
        for used in found {
            let top = used.split("::").next().unwrap();
            assert!(matches!(top, "cli" | "config" | "server"), "src/main.rs uses {used}");
        }
    }
}

#[test]
fn what_decides_by_values_touches_nothing() {
    let pure = ["http", "key", "route", "pattern", "preset", "outcome"];
    let all = sources();
    let is_pure =
        |source: &&Source| pure.contains(&source.module()) || source.path.starts_with("packages/index");
    let sources = all.iter().filter(is_pure);
    let rule = "this module is to be pure";
    expect_none(&sources.flat_map(|source| source.complaints(WORLD, rule)).collect::<Vec<_>>());
}

#[test]
fn only_sys_names_nix_and_libc_and_reads_error_numbers() {
    let all = sources();
    let others = all.iter().filter(|source| source.module() != "sys");
    let (names, rule) = (["nix", "rustix", "libc", "raw_os_error"], "only src/sys may");
    expect_none(&others.flat_map(|source| source.complaints(&names, rule)).collect::<Vec<_>>());
}

#[test]
fn only_the_ring_backend_names_monoio() {
    let all = sources();
    let others = all.iter().filter(|source| source.path != "rt/uring.rs");
    let (names, rule) = (["monoio", "io_uring"], "only src/rt/uring.rs may");
    expect_none(&others.flat_map(|source| source.complaints(&names, rule)).collect::<Vec<_>>());
}

#[test]
fn only_sys_holds_unsafe() {
    let all = sources();
    let others = all.iter().filter(|source| source.module() != "sys");
    let (names, rule) = (["unsafe", "unsafe_code"], "only src/sys may");
    expect_none(&others.flat_map(|source| source.complaints(&names, rule)).collect::<Vec<_>>());
}

#[test]
fn a_file_fits_in_a_head() {
    let mut complaints = Vec::new();
    for dir in ["src", "crates/ecma-regex/src"] {
        for Source { path, lines, .. } in
            sources_of(dir).into_iter().filter(|source| source.lines > MAX_LINES)
        {
            complaints.push(format!("{dir}/{path}: {lines} lines without its tests, not {MAX_LINES}"));
        }
    }
    expect_none(&complaints);
}

/// So that whoever reads `src/` meets patterns by one name.
#[test]
fn only_pattern_names_the_crate_of_regexes() {
    let all = sources();
    let others = all.iter().filter(|source| source.path != "pattern.rs");
    let (names, rule) = (["ecma_regex"], "only src/pattern.rs may");
    expect_none(&others.flat_map(|source| source.complaints(&names, rule)).collect::<Vec<_>>());
}

/// Documents that lead a reader through the source.
const MAPS: [&str; 2] = ["ARCHITECTURE.md", "CONTRIBUTING.md"];

/// The words in backticks of a document, blocks of code left out, each with the directory of the section it is in
/// (`### Inside `src/proxy``).
fn quoted(document: &str) -> Vec<(String, String)> {
    let (mut found, mut inside, mut is_code) = (Vec::new(), String::new(), false);
    for line in document.lines() {
        is_code ^= line.trim_start().starts_with("```");
        if is_code {
            continue;
        }
        if line.starts_with('#') {
            inside = line.split("Inside `").nth(1).map_or("", |rest| rest.trim_end_matches('`')).to_owned();
        }
        found.extend(line.split('`').skip(1).step_by(2).map(|word| (inside.clone(), word.to_owned())));
    }
    found
}

/// Is there a file or directory of this name: from the root, from `src/`, or anywhere below `inside`?
fn exists(inside: &str, name: &str, files: &[String]) -> bool {
    let is_it = |file: &String| {
        let below = file.strip_prefix(inside).filter(|_| !inside.is_empty()).unwrap_or_default();
        below.ends_with(&format!("/{name}")) || below.contains(&format!("/{name}/"))
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(name).exists() || root.join("src").join(name).exists() || files.iter().any(is_it)
}

/// Does a file define `item` in a type or a module of the name `owner`?
fn defines(file: &Path, text: &str, owner: &str, item: &str) -> bool {
    let is_word = |text: &str, word: &str| {
        text.match_indices(word).any(|(at, _)| {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
        })
    };
    let of_type = ["enum", "struct", "trait"].iter().any(|kind| is_word(text, &format!("{kind} {owner}")));
    let is_module = file.with_extension("").ends_with(owner) || file.parent().unwrap().ends_with(owner);
    (of_type || is_module) && is_word(text, item)
}

#[test]
fn files_and_names_in_the_architecture_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for dir in ["src", "crates", "tests"] {
        walk(&root.join(dir), &mut paths);
    }
    let files: Vec<String> =
        paths.iter().map(|path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned()).collect();
    let texts: Vec<String> = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut complaints = Vec::new();
    for map in MAPS {
        let words = quoted(&fs::read_to_string(root.join(map)).unwrap());
        assert!(words.len() > 50, "{map} was not read");
        for (inside, word) in words {
            let is_path = |c: char| c.is_alphanumeric() || "_-./".contains(c);
            let name = word.trim_end_matches(['/', '*']);
            let is_named = if word.starts_with('.') || word.contains("//") {
                true
            } else if let Some((owner, item)) = word.split('(').next().unwrap().rsplit_once("::") {
                let owner = owner.rsplit("::").next().unwrap();
                paths.iter().zip(&texts).any(|(path, text)| defines(path, text, owner, item))
            } else if name.chars().all(is_path) && (word.contains('/') || name.ends_with(".rs")) {
                exists(&inside, name, &files)
            } else {
                true
            };
            if !is_named {
                complaints.push(format!("{map}: there is no `{word}`"));
            }
        }
    }
    expect_none(&complaints);
}

#[test]
fn the_reading_itself_works() {
    let text = "use crate::{a::{self, B}, c::d::e};\n// crate::no\nlet x = \"crate::no\"; crate::f(); '\"';\n\
                #[cfg(test)]\nmod t;\nuse crate::g;\n#[cfg(test)]\nmod tests {\nuse crate::no;\n}\n";
    let source = Source { path: "z/y.rs".into(), program: blanked(without_tests(text)), lines: 0 };
    let uses: Vec<String> = source.uses().into_iter().collect();
    assert_eq!(uses, ["a", "a::B", "c::d", "f", "g"]);
    assert_eq!(source.naming("crate"), [1, 3, 6]);
    assert_eq!(test_modules(Path::new("src/z/mod.rs"), text), [Path::new("src/z/t")]);
    assert_eq!(test_modules(Path::new("src/z.rs"), text), [Path::new("src/z/t")]);
    let text = "use super::super::w::V;\nuse super::y::{self, k::l};\nself::m(); child::n(); x::child::o();";
    let source = Source { path: "a/b/mod.rs".into(), program: text.into(), lines: 0 };
    let paths: Vec<String> = source.paths(&["child"]).into_iter().collect();
    assert_eq!(paths, ["a::b::child::n", "a::b::m", "a::y", "a::y::k::l", "w::V"]);
    assert!(sources().len() > 40, "src/ was not read");
}
