//! Fixed expectations, obtained from `new RegExp(pattern).test(input)` in Node 20.

use proptest::prelude::*;

use super::*;

/// Pattern, input, whether it matches.
#[rustfmt::skip]
const NODE: &[(&str, &str, bool)] = &[
    ("\\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\\.gz)$", "/a.png", true),
    ("\\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\\.gz)$", "/a.tar.gz", true),
    ("\\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\\.gz)$", "/a.tgz", true),
    ("\\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\\.gz)$", "/a.tgz/", false),
    ("\\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\\.gz)$", "/a.TGZ", false),
    ("\\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\\.gz)$", "/atgz", false),
    ("\\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\\.gz)$", "/a.js.map", false),
    ("\\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\\.gz)$", "/x.tgz\u{a}", false),
    ("\\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\\.gz)$", "/pkg_summary.gz", false),
    ("\\/packages\\/.*\\.tgz$", "/packages/a.tgz", true),
    ("\\/packages\\/.*\\.tgz$", "/packagesa.tgz", false),
    ("^\\/pub\\/", "/pub/x", true),
    ("^\\/pub\\/", "/a/pub/x", false),
    ("a|b", "b", true),
    ("a|b", "c", false),
    ("", "", true),
    ("", "/x", true),
    ("|x", "y", true),
    ("\\d", "5", true),
    ("\\d", "\u{663}", false),
    ("\\w$", "_", true),
    ("\\w$", "\u{e9}", false),
    ("\\w$", "-", false),
    ("\\D", "5", false),
    ("\\D", "\u{663}", true),
    ("\\W", "a", false),
    ("\\W", "\u{e9}", true),
    ("^\\s$", "\u{a0}", true),
    ("^\\s$", "\u{feff}", true),
    ("^\\s$", "\u{2028}", true),
    ("^\\s$", "\u{1680}", true),
    ("^\\s$", "\u{85}", false),
    ("^\\s$", "\u{b}", true),
    ("^\\s$", "a", false),
    ("\\S", "\u{feff} \u{9}", false),
    ("\\S", "a", true),
    ("a.b", "a-b", true),
    ("a.b", "a\u{a}b", false),
    ("a.b", "a\u{d}b", false),
    ("a.b", "a\u{2028}b", false),
    ("a.b", "a\u{2029}b", false),
    ("a.b", "a\u{85}b", true),
    ("a.b", "a\u{e9}b", true),
    ("a.b", "ab", false),
    ("a[^]b", "a\u{a}b", true),
    ("a[^]b", "ab", false),
    ("a[]b", "ab", false),
    ("a[]b", "a]b", false),
    ("[^\\d\\D]", "a", false),
    ("b$", "ab", true),
    ("b$", "ab\u{a}", false),
    ("b$", "ab\u{a}c", false),
    ("^a", "ba", false),
    ("^a", "b\u{a}a", false),
    ("^a", "ab", true),
    ("\\bfoo\\b", "a foo b", true),
    ("\\bfoo\\b", "afoo", false),
    ("\\bfoo\\b", "\u{e9}foo", true),
    ("\\bfoo\\b", "foo_", false),
    ("\\Boo", "foo", true),
    ("\\Boo", "oo", false),
    ("x\\By", "xy", true),
    ("\u{e9}\\b", "\u{e9}a", true),
    ("\u{e9}\\b", "\u{e9}", false),
    ("[[]", "[", true),
    ("[[]", "a", false),
    ("[a&&b]", "&", true),
    ("[a&&b]", "a", true),
    ("[a&&b]", "c", false),
    ("[+--b]", "-", true),
    ("[+--b]", "b", true),
    ("[+--b]", ",", true),
    ("[~~]", "~", true),
    ("[a-]", "-", true),
    ("[a-]", "b", false),
    ("[-a]", "-", true),
    ("[\\w-z]", "-", true),
    ("[\\w-z]", "z", true),
    ("[\\w-z]", "\u{e9}", false),
    ("[\\d-x]", "x", true),
    ("[\\d-x]", "-", true),
    ("[\\d-x]", "w", false),
    ("[a\\]b]", "]", true),
    ("[^a-c]$", "b", false),
    ("[^a-c]$", "d", true),
    ("[\\b]", "\u{8}", true),
    ("[\\b]", "b", false),
    ("[\\B]", "B", true),
    ("[.*+?()|^$]", "a", false),
    ("[.*+?()|^$]", "$", true),
    ("[.*+?()|^$]", "^", true),
    ("[.*+?()|^$]", ".", true),
    ("[\\s\\S]{3}", "a\u{a}b", true),
    ("[\\s\\S]{3}", "ab", false),
    ("{", "{", true),
    ("}", "}", true),
    ("]", "]", true),
    ("a{", "a{", true),
    ("a{1", "a{1", true),
    ("a{1", "a", false),
    ("x{,5}", "x{,5}", true),
    ("x{,5}", "x", false),
    ("a{,}", "a{,}", true),
    ("a{x}", "a{x}", true),
    ("^a{2}$", "aa", true),
    ("^a{2}$", "a", false),
    ("^a{2}$", "aaa", false),
    ("^a{2,}$", "aaaa", true),
    ("^a{2,}$", "a", false),
    ("^a{1,2}?$", "a", true),
    ("^a{1,2}?$", "aa", true),
    ("^a{1,2}?$", "aaa", false),
    ("a{0}b", "b", true),
    ("\\x41", "A", true),
    ("\\x41", "x41", false),
    ("\\x4", "x4", true),
    ("\\x4", "\u{4}", false),
    ("\\u0041", "A", true),
    ("\\u004", "u004", true),
    ("^\\u{3}$", "uuu", true),
    ("^\\u{3}$", "\u{3}", false),
    ("\\cJ", "\u{a}", true),
    ("\\c", "\\c", true),
    ("\\c", "c", false),
    ("\\c1", "\\c1", true),
    ("\\c1", "\u{11}", false),
    ("[\\c1]", "\u{11}", true),
    ("[\\c1]", "c", false),
    ("[\\c_]", "\u{1f}", true),
    ("[\\c*]", "c", true),
    ("[\\c*]", "\\", true),
    ("[\\c*]", "*", true),
    ("\\0", "\u{0}", true),
    ("\\0", "0", false),
    ("\\01", "\u{1}", true),
    ("\\08", "\u{0}8", true),
    ("\\101", "A", true),
    ("\\400", " 0", true),
    ("\\8", "8", true),
    ("\\18", "\u{1}8", true),
    ("[\\101]", "A", true),
    ("[\\8]", "8", true),
    ("\\377", "\u{ff}", true),
    ("\\e", "e", true),
    ("\\e", "\u{1b}", false),
    ("\\a", "a", true),
    ("\\-\\_\\/\\:\\@", "-_/:@", true),
    ("\\$", "$", true),
    ("\\A", "A", true),
    ("\\z", "z", true),
    ("\\p{L}", "p{L}", true),
    ("\\p{L}", "\u{e9}", false),
    ("\\Q.\\E", "Q.E", true),
    ("\\Q.\\E", "QxE", true),
    ("\\k", "k", true),
    ("\\k<a>", "k<a>", true),
    ("\\\u{e9}", "\u{e9}", true),
    ("(?<n>a)b", "ab", true),
    ("(?<$\u{e9}>a)", "a", true),
    ("(?:a|b)+?c", "abc", true),
    ("(?:a|b)+?c", "c", false),
    ("a??b", "b", true),
    ("(a*)*b", "b", true),
    ("(a*)*b", "aab", true),
    ("(a*)*b", "aa", false),
    ("(?:\\b|a){2}c", "aac", true),
    ("(?:\\b|a){2}c", "-c", true),
    ("(?:\\b|a){2}c", "ac", true),
    ("()", "", true),
    ("^...$", "abc", true),
    ("^...$", "ab", false),
    ("^...$", "a\u{e9}c", true),
    ("^...$", "\u{1f600}a", true),
    ("^...$", "\u{1f600}", false),
    ("^.$", "\u{1f600}", false),
    ("^.$", "\u{e9}", true),
    ("^.$", "\u{fffd}", true),
    ("\u{1f600}", "x\u{1f600}", true),
    ("[\u{1f600}]", "\u{1f600}", true),
    ("[\u{1f600}]", "\u{1f601}", true),
    ("[\u{1f600}]", "\u{1f000}", false),
    ("^[^\u{1f600}]$", "\u{1f600}", false),
    ("^[^\u{1f600}]$", "a", true),
    ("^[\u{1f600}]{2}$", "\u{1f600}", true),
    ("\\ud83d", "\u{1f600}", true),
    ("\\ud83d", "a", false),
    ("\\ude00$", "\u{1f600}", true),
    ("\\ude00$", "\u{1f601}", false),
    ("[\\ud800-\\udbff][\\udc00-\\udfff]", "\u{1f600}", true),
    ("[\\ud800-\\udbff][\\udc00-\\udfff]", "\u{e9}", false),
    ("\\u{1F600}", "\u{1f600}", false),
    ("\u{1f600}+$", "\u{1f600}\u{1f600}", true),
    ("\u{1f600}+$", "\u{1f600}", true),
    ("[\\0-\\uffff]$", "\u{1f600}", true),
    ("[^\\0-\\u007f]", "abc", false),
    ("[^\\0-\\u007f]", "a\u{e9}", true),
    ("[^\\0-\\u007f]", "\u{1f600}", true),
    ("^\\W\\W$", "\u{1f600}", true),
    ("^(?!.*\\.db$).*\\.gz$", "/a.gz", true),
    ("^(?!.*\\.db$).*\\.gz$", "/a.db", false),
    ("^(?!.*\\.db$).*\\.gz$", "/a.tar.gz", true),
    ("(?=.*\\.tgz)(?=.*x86)", "/x86/a.tgz", true),
    ("(?=.*\\.tgz)(?=.*x86)", "/arm/a.tgz", false),
    ("(?<=/pool/).*\\.deb$", "/pool/a.deb", true),
    ("(?<=/pool/).*\\.deb$", "/x/a.deb", false),
    ("(?<!-dev)\\.tgz$", "/a.tgz", true),
    ("(?<!-dev)\\.tgz$", "/a-dev.tgz", false),
    ("(?=a)*b", "b", true),
    ("(?!x)(?:(?:b|c?)*)*d", "bbd", true),
    ("(?!x)(?:(?:b|c?)*)*d", "bcb", false),
    ("(?!x)(?:(x?)?)+?E", "xxE", true),
    ("(?!x)(?:(x?)?)+?E", "xx", false),
    ("(?!x)(?:\\b|a){3,}c", "aaac", true),
    ("(?!x)(?:\\b|a){3,}c", "-c", true),
    ("^/(.)/\\1/", "/a/a/x", true),
    ("^/(.)/\\1/", "/a/b/x", false),
    ("(a)|b\\1$", "b", true),
    ("(a)|b\\1$", "c", false),
    ("\\1(a)$", "a", true),
    ("\\1(a)$", "b", false),
    ("(?<v>\\d+)-\\k<v>$", "12-12", true),
    ("(?<v>\\d+)-\\k<v>$", "12-13", false),
    ("([0-9])\\1{2}", "a555", true),
    ("([0-9])\\1{2}", "a556", false),
    ("^(?:(a)|b\\1)+$", "aba", true),
    ("^(?:(a)|b\\1)+$", "ab", true),
    ("(a\\1)$", "a", true),
    ("(x?\\1[b-d]){2}", "bxc", true),
    ("\\2(a)", "\u{2}a", true),
    ("\\2(a)", "a", false),
    ("(\u{1f600})\\1", "\u{1f600}\u{1f600}", true),
    ("(\u{1f600})\\1", "\u{1f600}", false),
    ("^(?=(a+?))\\1b", "ab", true),
    ("^(?=(a+?))\\1b", "aab", false),
    ("a/b", "a/b", true),
    ("\u{e9}$", "\u{e9}", true),
    ("\u{e9}$", "e\u{301}", false),
];

/// Patterns JavaScript refuses.
#[rustfmt::skip]
const REFUSED: &[&str] = &[
    "[a--b]",
    "(",
    "a)",
    "(?",
    "(?a)",
    "(?i:a)",
    "(?<n",
    "(?<1>a)",
    "(?<n>a)(?<n>b)",
    "(?<n>a)\\k",
    "(?<n>a)\\k<m>",
    "(?<n>a)[\\k]",
    "[",
    "[a",
    "[b-a]",
    "[\\",
    "\\",
    "*",
    "a**",
    "+a",
    "?",
    "{2}",
    "a{2}{3}",
    "a{2,1}",
    "^*",
    "$+",
    "\\b?",
    "(?<=a)*",
    "(?<!a)+",
    "|*",
    "(?P<n>a)",
    "a++",
];

/// Pattern and how `String(new RegExp(pattern))` shows it.
#[rustfmt::skip]
const SHOWN: &[(&str, &str)] = &[
    ("", "/(?:)/"),
    ("a/b", "/a\\/b/"),
    ("[/]", "/[/]/"),
    ("a\\/b", "/a\\/b/"),
    ("a\u{a}b", "/a\\nb/"),
    ("a\\\u{a}b", "/a\\nb/"),
    ("\u{2028}\u{2029}\u{d}", "/\\u2028\\u2029\\r/"),
    ("\\\\/", "/\\\\\\//"),
    ("[\\]/]/", "/[\\]/]\\//"),
    ("[^]/]", "/[^]\\/]/"),
    ("a\\\u{d}b", "/a\\rb/"),
    ("\\\u{2028}", "/\\u2028/"),
    ("\\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\\.gz)$", "/\\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\\.gz)$/"),
];

#[test]
fn both_engines_answer_as_node() {
    for &(source, input, expected) in NODE {
        let pattern = Pattern::new(source).unwrap();
        assert_eq!(pattern.matches(input), expected, "{pattern:?} on {input:?} by {}", pattern.engine());
        let tree = syntax::parse(source).unwrap();
        assert_eq!(
            backtracking(&tree).unwrap().matches(input),
            Some(expected),
            "{pattern:?} on {input:?} by backtracking"
        );
    }
}

#[test]
fn what_node_refuses_is_refused_in_one_line() {
    for source in REFUSED {
        let error = Pattern::new(source).unwrap_err().to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{source}: {error}");
    }
}

#[test]
fn shown_as_node_shows_it() {
    for &(source, shown) in SHOWN {
        assert_eq!(Pattern::new(source).unwrap().display(), shown);
    }
}

#[test]
fn the_linear_engine_takes_what_is_regular() {
    for source in [r"\.(tgz|tar\.gz)$", "", r"(?<n>a)\b[^]", "\u{1f600}", r"[\ud800-\udfff]", r"x{0,1000}"] {
        assert_eq!(Pattern::new(source).unwrap().engine(), "regex", "{source}");
    }
    for source in [r"(?=a)", r"(a)\1", r"(?<!a)b", r"[a-z]{1000000}"] {
        assert_eq!(Pattern::new(source).unwrap().engine(), "backtracking", "{source}");
    }
}

#[test]
fn what_no_engine_takes_is_named() {
    let cases = [
        (format!("{}a{}", "(?:".repeat(101), ")".repeat(101)), "more than 100 groups"),
        ("(?=a)".to_owned() + "[a-z]{0,100001}", "quantifiers inside"),
        ("(?=a)".to_owned() + &"(?:".repeat(60) + "a" + &"){2}".repeat(60), "quantifiers inside"),
    ];
    for (source, reason) in cases {
        let error = Pattern::new(&source).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn deep_patterns_compile() {
    let source = format!("{}a{}", "(?:".repeat(100), "|b)*?".repeat(100));
    assert!(Pattern::new(&source).unwrap().matches("a"));
}

fn atom() -> impl Strategy<Value = String> {
    let plain = [
        "a",
        "b",
        ".",
        "^",
        "$",
        r"\b",
        r"\B",
        r"\w",
        r"\S",
        "[^a]",
        "[]",
        "[a-c/]",
        r"\.",
        "{",
        r"\1",
        "\u{e9}",
        "\u{1f600}",
    ];
    proptest::sample::select(plain.to_vec()).prop_map(str::to_owned)
}

fn simple_pattern() -> impl Strategy<Value = String> {
    pattern_with(&["(?:"])
}

/// Groups are opened in one of these ways.
fn pattern_with(open: &'static [&'static str]) -> impl Strategy<Value = String> {
    atom().prop_recursive(4, 16, 4, move |inner| {
        let repeat = proptest::sample::select(vec!["*", "+", "?", "*?", "{2}", "{1,}", "{0,3}?"]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}|{b}")),
            (inner.clone(), repeat).prop_map(|(a, repeat)| format!("(?:{a}){repeat}")),
            (proptest::sample::select(open), inner).prop_map(|(open, a)| format!("{open}{a})")),
        ]
    })
}

proptest! {
    #[test]
    fn both_engines_agree(source in simple_pattern(), input in "[abc./ \\n\u{e9}\u{1f600}\u{1}]{0,8}") {
        let tree = syntax::parse(&source).unwrap();
        let linear = linear(&tree).unwrap();
        if let Ok(backtracking) = backtracking(&tree) {
            prop_assert_eq!(linear.matches(&input), backtracking.matches(&input));
        }
    }

    #[test]
    fn what_is_found_is_seen_from_the_beginning(
        source in pattern_with(&["(", "(?=", "(?!", "(?<=", "(?<!"]),
        input in "[ab./\u{1f600}]{0,8}",
    ) {
        let found = Pattern::new(&source).unwrap().try_matches(&input);
        let seen = Pattern::new(&format!("^(?=[^]*(?:{source}))")).unwrap().try_matches(&input);
        prop_assert!(found.is_some() && found == seen, "{found:?} {seen:?}");
        let unseen = Pattern::new(&format!("^(?![^]*(?:{source}))")).unwrap().try_matches(&input);
        prop_assert_eq!(unseen, found.map(|found| !found));
    }

    #[test]
    fn any_text_is_read_or_refused(source in "\\PC{0,20}", input in "\\PC{0,10}") {
        if let Ok(pattern) = Pattern::new(&source) {
            pattern.matches(&input);
        }
    }
}
