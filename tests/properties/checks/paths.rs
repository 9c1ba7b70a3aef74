//! From a path to a file: never out of the cache directory, always the same file for the same path.

use std::path::{Component, Path};
use std::sync::LazyLock;

use fs_caching_server::http::request::{HeadLimits, parse};
use fs_caching_server::key::{BadPath, Key, decode};
use fs_caching_server::pattern::Pattern;
use fs_caching_server::preset::Rules;
use fs_caching_server::route::{Classes, Route, decide};

use super::dice::Dice;
use super::words;

static EVERYTHING: LazyLock<Classes> = LazyLock::new(|| Classes {
    immutable: Pattern::new("").unwrap(),
    revalidate: None,
    rules: Rules::default(),
});

const WORDS: &[&str] = &[
    "/",
    "/",
    "/",
    ".",
    "..",
    "a",
    "b.tgz",
    "%2f",
    "%2E",
    "%2e%2e",
    "%",
    "%0",
    "%00",
    "%25",
    "%C3%A9",
    "%c3",
    "\u{e9}",
    "\\",
    "%5c",
    ".in-progress",
    "%2Ein-progress",
    "?",
    "#",
    " ",
    "~",
    "%7f",
    "...",
    "etc/passwd",
];

pub(crate) fn generate(dice: &mut Dice) -> Vec<u8> {
    let mut out = b"/".to_vec();
    out.extend(words(dice, WORDS, 12));
    if dice.one_in(12) {
        let at = dice.below(out.len() + 1);
        let long = "x".repeat(dice.pick(&[&[235][..], &[244], &[256], &[4100]])[0]);
        out.splice(at..at, long.into_bytes());
    }
    out
}

pub(crate) fn check(data: &[u8]) -> bool {
    let url = match decode(data) {
        Ok(url) => url,
        Err(bad) => {
            let nul = data.contains(&0) || data.windows(3).any(|three| three == b"%00");
            assert!(bad != BadPath::Nul || nul, "no NUL in {}", data.escape_ascii());
            let dots =
                data.contains(&b'.') || data.windows(3).any(|three| three.eq_ignore_ascii_case(b"%2e"));
            assert!(bad != BadPath::Climbs || dots, "no dot in {}", data.escape_ascii());
            return false;
        }
    };
    assert_eq!(url.normalized, rewritten(data), "{}", data.escape_ascii());
    never_above_the_root(data);
    let encoded: String = url.normalized.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for again in [encoded, url.normalized.replace('%', "%25")] {
        let again = decode(again.as_bytes()).unwrap();
        assert_eq!((&again.normalized, &again.key), (&url.normalized, &url.key), "not the same file");
    }
    if let Some(key) = &url.key {
        stays_inside(key, &url.normalized);
    }
    routed(data, &url.normalized, url.key.as_ref());
    url.key.is_some()
}

fn stays_inside(key: &Key, normalized: &str) {
    assert_eq!(format!("/{}", key.as_str()), normalized);
    let path = Path::new(key.as_str());
    assert!(path.components().all(|component| matches!(component, Component::Normal(_))), "{path:?}");
    assert_eq!(path.components().count(), key.components().count(), "{path:?}");
    assert!(!key.as_str().contains('\0'));
    let joined = Path::new("/cache").join(path);
    assert!(joined.starts_with("/cache") && joined != Path::new("/cache"), "{joined:?}");
    assert_eq!(path.parent(), Some(Path::new(key.parent())));
    assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(key.file_name()));
    assert!(key.in_progress().len() <= 255 && key.as_str().len() < 4096);
    let in_progress = |name: &str| name.ends_with(".in-progress");
    assert_eq!(key.is_in_progress_name(), key.components().any(in_progress));
}

/// The way of a request comes to the same file, whatever its query is.
fn routed(path: &[u8], normalized: &str, key: Option<&Key>) {
    let request = [b"GET ", path, b"?/../q HTTP/1.0\r\n\r\n"].concat();
    let Ok(Some((head, _))) = parse(&request, &HeadLimits::default(), &mut 0) else { return };
    // Bytes that end a target, or turn it into another form.
    if path.contains(&b'?') || !path.starts_with(b"/") || *head.target != [path, b"?/../q"].concat() {
        return;
    }
    assert_eq!(head.path(), path);
    match decide(&head, &EVERYTHING) {
        Route::Cache(found) => {
            assert_eq!(Some(&found), key);
            assert!(!found.is_in_progress_name());
        }
        Route::Revalidate(_) => unreachable!("there is no such class"),
        Route::Directory(name) => {
            assert!(key.is_none() && normalized.ends_with('/'));
            assert_eq!(normalized.trim_matches('/'), name);
        }
        Route::Pass(_) => assert!(key.is_none_or(Key::is_in_progress_name)),
        Route::BadPath(why) => panic!("{why}: {}", path.escape_ascii()),
    }
}

/// However often its beginning ends, it is inside.
fn never_above_the_root(data: &[u8]) {
    let text = String::from_utf8_lossy(data).to_lowercase().replace("%2f", "/").replace("%2e", ".");
    let mut depth = 0;
    for segment in text.split('/') {
        depth += match segment {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        assert!(depth >= 0, "above the root: {text}");
    }
}

/// What normalising means, by rewriting the text until nothing changes any more.
fn rewritten(data: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut rest = data;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    let mut text = format!("/{}", String::from_utf8(bytes).unwrap());
    // A dot at the end names a directory, but leaves no slash of its own behind.
    let is_directory = text.ends_with('/');
    text.push('/');
    loop {
        let shorter = text.replace("//", "/").replace("/./", "/");
        text = match shorter.find("/../") {
            _ if shorter != text => shorter,
            Some(at) => [&shorter[..shorter[..at].rfind('/').unwrap_or(0)], &shorter[at + 3..]].concat(),
            None => break,
        };
    }
    if !is_directory && text.len() > 1 {
        text.pop();
    }
    text
}
