//! Fixed expectations of look-around and back-references, obtained from `new RegExp(pattern).test(input)` in Node 20,
//! and what a match may cost.

use super::super::Pattern;

/// Pattern, input, whether it matches: made at random, each once with a match and once without.
#[rustfmt::skip]
const NODE: &[(&str, &str, bool)] = &[
    ("(?=((?<=(c)?))(?=(?<![^a]))$)", "", true),
    ("(?=((?<=(c)?))(?=(?<![^a]))$)", "cccc", false),
    ("(?=(?=$)(?:(?<!b)|([^a])))", "aa/cc", true),
    ("(?=(?=$)(?:(?<!b)|([^a])))", "bbbbb", false),
    ("b(?:(?:(?:(\\w)+|(?<!\\w))){2}|\\1)", "baaa", true),
    ("b(?:(?:(?:(\\w)+|(?<!\\w))){2}|\\1)", "c", false),
    ("(((?<=(\\w){0,2}))b.)", "baa", true),
    ("(((?<=(\\w){0,2}))b.)", "/", false),
    ("((?<=((?!b)(?:/|[a-c]))))", "aa", true),
    ("((?<=((?!b)(?:/|[a-c]))))", "b", false),
    ("\\b(?:((?:\\2){0,3}?)?|(?<!\\w))", "cccbb", true),
    ("\\b(?:((?:\\2){0,3}?)?|(?<!\\w))", "", false),
    ("(c(?<!(?:^){2}))", "/ccccc", true),
    ("(c(?<!(?:^){2}))", "", false),
    ("(?<=[a-c])", "////cc", true),
    ("(?<=[a-c])", "", false),
    ("((?=((?=\\w))+))", "//ccb", true),
    ("((?=((?=\\w))+))", "", false),
    ("(?:(?:(?<=\\b)){2}|\\w)", "bbbacc", true),
    ("(?:(?:(?<=\\b)){2}|\\w)", "/", false),
    ("(?:((([a-c]\\w)))+|\\B(a$(?=\\1)))", "ccc", true),
    ("(?:((([a-c]\\w)))+|\\B(a$(?=\\1)))", "//c", false),
    ("(?!\\w)(?<=\\w).", "aa//", true),
    ("(?!\\w)(?<=\\w).", "cccc", false),
    ("(?:^)??(?=(?:a)*)[a-c][a-c]", "aa/aa", true),
    ("(?:^)??(?=(?:a)*)[a-c][a-c]", "////c", false),
    ("(?<=(b))((?<=a))*", "cbbbbb", true),
    ("(?<=(b))((?<=a))*", "aaaaa", false),
    ("(?:((?<=/))|a)", "aaaccc", true),
    ("(?:((?<=/))|a)", "", false),
    ("(?:((?:\\2/|(?!b)))+|\\b).", "aaaaa/", true),
    ("(?:((?:\\2/|(?!b)))+|\\b).", "", false),
    ("(?<!(?<!((?:[^a]|$))))/", "aa//c", true),
    ("(?<!(?<!((?:[^a]|$))))/", "", false),
    ("b(?:((?!.)){0,2}){0,2}", "/ccb", true),
    ("b(?:((?!.)){0,2}){0,2}", "aaaaa", false),
    ("(?!(?:(?:$|\\B))+?)", "aa///", true),
    ("(?!(?:(?:$|\\B))+?)", "/", false),
    ("(?!/)(?:(?=a)){1,}", "aaaa", true),
    ("(?!/)(?:(?=a)){1,}", "", false),
    ("(?:(((?!(?:\\B|c)))+)+)+", "c", true),
    ("(?:(((?!(?:\\B|c)))+)+)+", "", false),
    ("(?<!\\w(\\b)?)(?!(?:a/|a))\\B", "", true),
    ("(?<!\\w(\\b)?)(?!(?:a/|a))\\B", "ba", false),
    ("\\w(?:(?:^)+?|(?=[^a]\\w))/", "a/cccc", true),
    ("\\w(?:(?:^)+?|(?=[^a]\\w))/", "aaaa", false),
    ("(?:(?:/|(?=(?!\\1))))??(\\B)", "", true),
    ("(?:(?:/|(?=(?!\\1))))??(\\B)", "a", false),
    ("(?:((?=\\w))|/)", "aaaa", true),
    ("(?:((?=\\w))|/)", "", false),
    ("(^\\2(?<!((?![^a]))+))", "cacaaa", true),
    ("(^\\2(?<!((?![^a]))+))", "aaa/cc", false),
    ("(?<=(?:.|b))", "b/b/", true),
    ("(?<=(?:.|b))", "", false),
    ("(((?!^))*)a", "ccbaaa", true),
    ("(((?!^))*)a", "//cbcc", false),
    ("(?<!(?:(?<=[^a])|$))", "cccb", true),
    ("(?<!(?:(?<=[^a])|$))", "", false),
    ("((?!\\b(\\b)[^a]a.))+((?=a))*.", "///", true),
    ("((?!\\b(\\b)[^a]a.))+((?=a))*.", "", false),
];

#[test]
fn it_answers_as_node() {
    for &(source, input, expected) in NODE {
        let pattern = Pattern::new(source).unwrap();
        assert_eq!(pattern.engine(), "backtracking");
        assert_eq!(pattern.try_matches(input), Some(expected), "{pattern:?} on {input:?}");
    }
}

/// Patterns that kept another engine busy for minutes, on paths as short as 40 bytes.
#[test]
fn nested_loops_beside_a_look_around_take_linear_time() {
    for source in [
        r"^(?!.*/\.)(.*/)*[^/]+\.tgz$",
        r"^/(?!private)(\w+[.-]?)+\.tgz$",
        r"(?=(a+)+$)(?!b)",
        r"^(?=(a|aa)+$)(a|b|ab)*c",
        r"(?!x)((a*)*)*b",
    ] {
        let pattern = Pattern::new(source).unwrap();
        for path in ["/".repeat(4_000) + "x", "a".repeat(4_000), "/".to_owned() + &"a".repeat(4_000) + "!"] {
            assert!(pattern.try_matches(&path).is_some(), "{source} on {}", &path[..40]);
        }
    }
}

#[test]
fn a_look_around_that_is_found_everywhere_is_not_given_up_soon() {
    for source in [r"(?<=^(\w+)+)-", r"^(?:(?=.*b)a)*c"] {
        let pattern = Pattern::new(source).unwrap();
        assert_eq!(pattern.try_matches(&("a".repeat(500) + "b")), Some(false), "{source}");
    }
}

#[test]
fn what_takes_too_long_is_given_up() {
    let (long, longest) = ("a".repeat(4_000), "a".repeat(1 << 20));
    for (source, path) in [
        (r"(a+)\1+b", &long),
        (r"^(a*)*\1c", &long),
        (r"(?:(?=.*b)a|a)*c", &longest),
        (r"(?=a)(?:a?){99}b", &longest),
    ] {
        let pattern = Pattern::new(source).unwrap();
        assert_eq!(pattern.try_matches(path), None, "{source}");
        assert!(!pattern.matches(path));
    }
}

#[test]
fn what_a_round_forgets_counts_as_steps() {
    let pattern = Pattern::new(&format!(r"^(?:a|{})*\1c", "()".repeat(99))).unwrap();
    assert_eq!(pattern.try_matches(&"a".repeat(20)), Some(false));
    assert_eq!(pattern.try_matches(&"a".repeat(4_000)), None);
}
