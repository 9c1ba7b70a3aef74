use super::argv;
use super::table::flags;
use super::*;
use crate::config::Limits;
use crate::config::{IoChoice, Pinning, Workers};
use crate::pattern;
use std::path::PathBuf;

fn run(args: &[&str], vars: &[(&str, &str)]) -> Result<Request, String> {
    let env =
        |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    parse(args.to_vec(), &env)
}

fn config(args: &[&str], vars: &[(&str, &str)]) -> Config {
    match run(args, vars).unwrap() {
        Request::Serve(config) => *config,
        Request::Print(text) => unreachable!("{text}"),
    }
}

fn error(args: &[&str], vars: &[(&str, &str)]) -> String {
    run(args, vars).unwrap_err()
}

#[test]
fn arguments_take_one_form() {
    type Words<'a> = &'a [&'a str];
    let cases: &[(Words<'_>, Result<Words<'_>, &str>)] = &[
        (&[], Ok(&[])),
        (&["-p", "80"], Ok(&["--port", "80"])),
        (&["-p80"], Ok(&["--port", "80"])),
        (&["-dp", "80"], Ok(&["--debug", "--port", "80"])),
        (&["-dp80", "-d"], Ok(&["--debug", "--port", "80", "--debug"])),
        (&["-pd"], Ok(&["--port", "d"])),
        (&["-p=80"], Ok(&["--port", "=80"])),
        (&["--port=80"], Ok(&["--port", "80"])),
        (&["--port="], Ok(&["--port", ""])),
        (&["--url=http://h/?a=b"], Ok(&["--url", "http://h/?a=b"])),
        (&["--port", "80", "-H127.0.0.1"], Ok(&["--port", "80", "--host", "127.0.0.1"])),
        (&["-c", "--help"], Ok(&["--cache-dir", "--help"])),
        (&["-c", "--", "-d"], Ok(&["--cache-dir", "--", "--debug"])),
        (&["-d", "--", "-x"], Ok(&["--debug"])),
        (&["-d", "help", "-x"], Ok(&["--debug"])),
        (&["-", "-x"], Ok(&[])),
        (&["", "-x"], Ok(&[])),
        (&["-dvx", "-y"], Ok(&["--debug", "--version"])),
        (&["--help", "--nope"], Ok(&["--help"])),
        (&["-u", "-p"], Ok(&["--updates"])),
        (&["--io=poll", "--workers", "2"], Ok(&["--io", "poll", "--workers", "2"])),
        (&["-z"], Err("illegal option -- z")),
        (&["-dz"], Err("illegal option -- z")),
        (&["-d-"], Err("illegal option -- -")),
        (&["-z", "-h"], Err("illegal option -- z")),
        (&["--nope=1"], Err("illegal option -- nope")),
        (&["--=1"], Err("illegal option -- ")),
        (&["--port-"], Err("illegal option -- port-")),
        (&["--debug=1"], Err("option expects no argument -- debug")),
        (&["-p"], Err("option requires an argument -- p")),
        (&["--port"], Err("option requires an argument -- p")),
        (&["--workers"], Err("option requires an argument -- workers")),
        (&["-\u{e9}"], Err("illegal option -- \u{e9}")),
    ];
    for (args, expected) in cases {
        let expected =
            expected.map(|words| words.iter().map(ToString::to_string).collect()).map_err(str::to_owned);
        let given = argv::read(args.iter().map(ToString::to_string).collect());
        let words = given.map(|given| {
            let words = given.into_iter().map(|(flag, value)| [Some(format!("--{}", flag.name)), value]);
            words.flatten().flatten().collect::<Vec<_>>()
        });
        assert_eq!(words, expected, "{args:?}");
    }
}

#[test]
fn defaults() {
    let config =
        config(&["-U", "http://h/"], &[("FS_CACHE_HOST", ""), ("FS_CACHE_PORT", ""), ("FS_CACHE_DEBUG", "")]);
    assert_eq!(config.cache_dir, std::env::current_dir().unwrap());
    assert_eq!((config.debug, config.host.as_str(), config.port), (false, "0.0.0.0", 8080));
    assert_eq!(config.pattern.display(), format!("/{}/", pattern::DEFAULT));
    assert_eq!(config.origin.url, "http://h");
    assert_eq!((config.workers, config.pin, config.io), (Workers::Auto, Pinning::Off, IoChoice::Auto));
    assert_eq!(config.limits.head_bytes, Limits::default().head_bytes);
}

#[test]
fn a_flag_beats_its_variable_and_the_last_flag_the_first() {
    let vars = [
        ("FS_CACHE_DIR", "/nonexistent"),
        ("FS_CACHE_DEBUG", "false"),
        ("FS_CACHE_HOST", "::1"),
        ("FS_CACHE_PORT", "80x"),
        ("FS_CACHE_REGEX", "b"),
        ("FS_CACHE_URL", "http://env"),
        ("FS_CACHE_WORKERS", "3"),
        ("FS_CACHE_PIN_CPUS", "auto"),
        ("FS_CACHE_IO", "poll"),
    ];
    let set = config(&["-c", "."], &vars);
    assert_eq!(
        (set.cache_dir, set.debug, set.host.as_str(), set.port),
        (PathBuf::from("."), true, "::1", 80)
    );
    assert_eq!((set.pattern.display().as_str(), set.origin.url.as_str()), ("/b/", "http://env"));
    assert_eq!((set.pin, set.io), (Pinning::Auto, IoChoice::Poll));
    assert_eq!(Ok(set.workers), Workers::parse("3"));
    let flags = [
        "-c/x",
        "-c",
        "/",
        "-Hh",
        "-p1",
        "-p2",
        "-rc",
        "-U",
        "https://flag",
        "--workers=auto",
        "--pin-cpus=1",
        "--io=auto",
    ];
    let set = config(&flags, &vars);
    assert_eq!((set.cache_dir, set.host.as_str(), set.port), (PathBuf::from("/"), "h", 2));
    assert_eq!((set.pattern.display().as_str(), set.origin.url.as_str()), ("/c/", "https://flag"));
    assert_eq!((set.workers, set.pin, set.io), (Workers::Auto, Pinning::List(vec![1]), IoChoice::Auto));
    assert_eq!(config(&["-r", ""], &vars[3..6]).host, "0.0.0.0");
}

#[test]
fn switches_are_off_unless_a_flag_or_any_text_in_their_variable_turns_them_on() {
    let seen = |args: &[&str], vars: &[(&str, &str)]| {
        let set = config(&[&["-Uhttp://h"], args].concat(), vars);
        (set.follow_redirects, set.rewrite_location, set.cache_status)
    };
    assert_eq!(seen(&[], &[("FS_CACHE_FOLLOW_REDIRECTS", "")]), (false, false, false));
    assert_eq!(seen(&["--follow-redirects"], &[]), (true, false, false));
    assert_eq!(seen(&["--rewrite-location"], &[]), (false, true, false));
    assert_eq!(seen(&["--cache-status"], &[]), (false, false, true));
    assert_eq!(seen(&[], &[("FS_CACHE_FOLLOW_REDIRECTS", "1")]), (true, false, false));
    assert_eq!(seen(&[], &[("FS_CACHE_REWRITE_LOCATION", "0")]), (false, true, false));
    assert_eq!(seen(&[], &[("FS_CACHE_CACHE_STATUS", "yes")]), (false, false, true));
}

#[test]
fn an_empty_regex_is_the_default_and_an_empty_url_is_none() {
    let vars = [("FS_CACHE_REGEX", "b"), ("FS_CACHE_URL", "http://env")];
    assert_eq!(config(&["-r", ""], &vars).pattern.display(), format!("/{}/", pattern::DEFAULT));
    assert_eq!(error(&["-U", ""], &vars), "url must be specified with `-U <url>` or as FS_CACHE_URL");
    assert_eq!(error(&["help"], &[]), "url must be specified with `-U <url>` or as FS_CACHE_URL");
}

#[test]
fn presets_are_added_to_what_is_given_and_take_the_place_of_the_default() {
    let apt = crate::preset::find("apt").unwrap().immutable.join("|");
    let npm = crate::preset::find("npm").unwrap().immutable.join("|");
    let set = |args: &[&str], vars: &[(&str, &str)]| {
        config(&[&["-Uhttp://h"], args].concat(), vars).pattern.source().to_owned()
    };
    assert_eq!(set(&[], &[]), pattern::DEFAULT);
    assert_eq!(set(&["--preset", ""], &[]), pattern::DEFAULT);
    assert_eq!(set(&["--preset", "apt"], &[]), apt);
    assert_eq!(set(&["--preset", "apt,npm"], &[]), format!("(?:{apt})|(?:{npm})"));
    assert_eq!(set(&["--preset=npm", "--preset=apt", "--preset=npm"], &[]), format!("(?:{npm})|(?:{apt})"));
    assert_eq!(set(&["--preset=apt", "-r", "x"], &[]), format!("(?:x)|(?:{apt})"));
    assert_eq!(set(&["--preset=apt"], &[("FS_CACHE_REGEX", "x")]), format!("(?:x)|(?:{apt})"));
    assert_eq!(set(&[], &[("FS_CACHE_PRESET", "apt")]), apt);
    assert_eq!(set(&["--preset=npm"], &[("FS_CACHE_PRESET", "apt")]), npm);
    let revalidate = config(&["-Uhttp://h", "--preset=npm"], &[]).revalidate.unwrap();
    let npm = crate::preset::find("npm").unwrap().revalidate.join("|");
    assert_eq!(revalidate.pattern.source(), npm);
    let both = config(&["-Uhttp://h", "--preset=npm", "--revalidate=x"], &[]).revalidate.unwrap();
    assert_eq!(both.pattern.source(), format!("(?:x)|(?:{npm})"));
    assert!(config(&["-Uhttp://h"], &[]).revalidate.is_none());
}

#[test]
fn texts() {
    let shown = |args: &[&str], vars: &[(&str, &str)]| match run(args, vars).unwrap() {
        Request::Print(text) => text,
        Request::Serve(config) => unreachable!("{config:?}"),
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(shown(&["-v"], &[]), format!("{version}\n"));
    assert!(shown(&["-u"], &[]).starts_with(&format!("fs-caching-server {version}\n")));
    let help =
        shown(&["-h"], &[("FS_CACHE_PORT", " 81x"), ("FS_CACHE_HOST", "::1"), ("FS_CACHE_REGEX", "b")]);
    let lines: Vec<&str> = help.lines().collect();
    assert_eq!(lines[..3], ["usage: fs-caching-server [options]", "", "options"]);
    assert!(help.contains("\n  -c, --cache-dir <dir>     [env FS_CACHE_DIR] "));
    assert!(help.contains("\n  -d, --debug               [env FS_CACHE_DEBUG] "));
    assert!(help.contains("\n      --workers <n>                  [env FS_CACHE_WORKERS] "));
    assert!(help.contains("defaults to ::1\n") && help.contains("defaults to 81\n"));
    assert!(help.contains(&format!("defaults to /{}/\n", pattern::DEFAULT)));
    let help = shown(&["-h"], &[]);
    assert_eq!(error(&["-z"], &[]), format!("illegal option -- z\n{}", help.trim_end()));
}

const SET: (&str, &str) = ("FS_CACHE_URL", "http://h");

/// Arguments, a variable, and the error they cause.
#[rustfmt::skip]
const MISTAKES: &[(&[&str], (&str, &str), &str)] = &[
    (&["-h"], ("FS_CACHE_PORT", "x"), "FS_CACHE_PORT must be a number, got \"x\""),
    (&["-p1"], ("FS_CACHE_PORT", "-"), "FS_CACHE_PORT must be a number, got \"-\""),
    (&[], ("FS_CACHE_PORT", "65536"), "cannot use port \"65536\" (FS_CACHE_PORT): expected a number from 0 to 65535"),
    (&["-p-1"], SET, "cannot use port \"-1\" (--port): expected a number from 0 to 65535"),
    (&["-p", "a\nb"], SET, "cannot use port \"a\\u{a}b\" (--port): expected a number from 0 to 65535"),
    (&["-H", ""], SET, "cannot use host \"\" (--host): the host is missing"),
    (&["-Hä"], SET, "cannot use host \"ä\" (--host): \"ä\" is no host name"),
    (&[], ("FS_CACHE_REGEX", "("), "cannot use regex \"(\" (FS_CACHE_REGEX): \"(\" without \")\", at character 1"),
    (&["-Uftp://u:p@h"], SET, "cannot use URL \"ftp://***@h\" (--url): only http and https are known"),
    (&["-c/proc/nonexistent"], SET, "cannot use cache directory \"/proc/nonexistent\" (--cache-dir): No such file or directory"),
    (&["--stall-timeout=0"], SET, "cannot use time \"0\" (--stall-timeout): expected a number of seconds from 0.001 to a year, or a time such as 90s, 10m or 2h"),
    (&[], ("FS_CACHE_DRAIN_TIMEOUT", "NaN"), "cannot use time \"NaN\" (FS_CACHE_DRAIN_TIMEOUT): expected a number of seconds from 0.001 to a year, or a time such as 90s, 10m or 2h"),
    (&["--revalidate-after=soon"], SET, "cannot use time \"soon\" (--revalidate-after): expected a number of seconds from 0.001 to a year, 0 or heuristic, or a time such as 90s, 10m or 2h"),
    (&["--stale-if-error=-1"], SET, "cannot use time \"-1\" (--stale-if-error): expected a number of seconds from 0.001 to a year, 0 or forever, or a time such as 90s, 10m or 2h"),
    (&["--open-files=x"], SET, "cannot use number of files \"x\" (--open-files): expected auto or a whole number"),
    (&["--resume-attempts=4294967296"], SET, "cannot use number \"4294967296\" (--resume-attempts): expected a whole number from 0 to 4294967295"),
    (&["-c/dev/null"], SET, "cannot use cache directory \"/dev/null\" (--cache-dir): Not a directory"),
    (&["--preset=apt,yum"], SET, "cannot use preset \"apt,yum\" (--preset): expected names out of pkgsrc, apt, rpm, arch, alpine, openwrt, freebsd, openbsd, void, nix, pip, npm, cargo, go, maven, rubygems, conda, hackage, cran, cpan"),
    (&["-c", ""], SET, "cannot use cache directory \"\" (--cache-dir): the name is empty"),
    (&["--workers=0"], SET, "cannot use number of workers \"0\" (--workers): expected auto or a number from 1 to 1024"),
    (&[], ("FS_CACHE_IO", "epoll"), "cannot use engine \"epoll\" (FS_CACHE_IO): expected auto, uring or poll"),
    (&["--max-head=1023"], SET, "cannot use size \"1023\" (--max-head): expected a whole number from 1024 to 16777216, or a size such as 64K or 8M"),
    (&["--max-fields", "0"], SET, "cannot use number of fields \"0\" (--max-fields): expected a whole number from 1 to 16384"),
    (&["--head-memory=65535"], SET, "cannot use size \"65535\" (--head-memory): expected a whole number from 65536, or a size such as 64K or 8M"),
    (&[], ("FS_CACHE_MAX_FILLS", "auto"), "cannot use number \"auto\" (FS_CACHE_MAX_FILLS): expected none or a whole number from 1"),
    (&["--max-connections=none"], SET, "cannot use number \"none\" (--max-connections): expected auto or a whole number from 1"),
    (&["--pin-cpus=a"], SET, "cannot use cpu list \"a\" (--pin-cpus): expected auto or processors from 0 to 1023 such as 0,2-5"),
    (&["--abandon-fill=0"], SET, "cannot use policy \"0\" (--abandon-fill): expected never, always or a percentage from 1 to 100"),
    (&[], ("FS_CACHE_RESUME_ATTEMPTS", "-1"), "cannot use number \"-1\" (FS_CACHE_RESUME_ATTEMPTS): expected a whole number from 0 to 4294967295"),
];

#[test]
fn every_limit_is_a_flag_and_a_variable() {
    type Case = (&'static str, &'static str, fn(&Limits) -> String, &'static str);
    let cases: &[Case] = &[
        ("head-timeout", "1.5", |l| format!("{:?}", l.head_time), "1.5s"),
        ("connect-timeout", "1", |l| format!("{:?}", l.connect_time), "1s"),
        ("max-head", "2000", |l| l.head_bytes.to_string(), "2000"),
        ("max-fields", "9", |l| l.head_fields.to_string(), "9"),
        ("max-target", "1024", |l| l.target_bytes.to_string(), "1024"),
        ("head-memory", "65536", |l| l.head_memory.to_string(), "65536"),
        ("min-rate", "100", |l| l.min_rate.to_string(), "100"),
        ("max-connections", "7", |l| format!("{:?}", l.connections), "Some(7)"),
        ("max-connections", "auto", |l| format!("{:?}", l.connections), "None"),
        ("max-client-connections", "7", |l| format!("{:?}", l.client_connections), "Some(7)"),
        ("max-client-connections", "none", |l| format!("{:?}", l.client_connections), "None"),
        ("max-origin-connections", "7", |l| format!("{:?}", l.origin_connections), "Some(7)"),
        ("max-fills", "7", |l| format!("{:?}", l.fills), "Some(7)"),
        ("max-pipelined", "7", |l| format!("{:?}", l.pipelined), "Some(7)"),
    ];
    for (name, value, read, shown) in cases {
        let variable = format!("FS_CACHE_{}", name.to_uppercase().replace('-', "_"));
        let (flag, set) = (format!("--{name}={value}"), (variable.as_str(), *value));
        assert_eq!(read(&config(&[&flag], &[SET]).limits), *shown, "{flag}");
        assert_eq!(read(&config(&[], &[SET, set]).limits), *shown, "{variable}");
        assert!(flags().any(|flag| flag.variable().as_ref() == Some(&variable)), "{variable}");
    }
}

#[test]
fn a_default_can_be_given_as_the_documents_show_it() {
    let mut defaults = Draft::new().unwrap();
    for flag in flags().filter(|flag| !flag.value.is_empty() && !flag.is_action()) {
        let (shown, words) = (flag.show(&mut defaults), flag.default_in_words(&mut defaults));
        if !shown.is_empty() {
            let given = vec![(flag, Some(words.clone()))];
            let mut draft = settings::read(&given, &|_| None, true).unwrap();
            assert_eq!(flag.show(&mut draft), shown, "--{} {words}", flag.name);
        }
    }
}

#[test]
fn names_are_told_apart() {
    let names: std::collections::BTreeSet<_> = flags().map(|flag| flag.name).collect();
    let shorts: std::collections::BTreeSet<_> = flags().filter_map(|flag| flag.short).collect();
    assert_eq!(names.len(), flags().count());
    // New flags are long-only.
    assert_eq!(shorts.into_iter().collect::<String>(), "HUcdhpruv");
}

/// The values that the documents state.
#[test]
fn a_lan_never_meets_the_defaults() {
    let limits = config(&[], &[SET]).limits;
    assert_eq!((limits.head_bytes, limits.head_fields, limits.target_bytes), (65_536, 256, 16_384));
    assert_eq!((limits.head_memory, limits.min_rate), (67_108_864, 0));
    let times = [
        limits.head_time,
        limits.idle_time,
        limits.stall_time,
        limits.connect_time,
        limits.response_head_time,
    ];
    assert_eq!(times.map(|time| time.as_secs()), [60, 120, 60, 10, 60]);
    let counts = [
        limits.connections,
        limits.client_connections,
        limits.origin_connections,
        limits.fills,
        limits.pipelined,
    ];
    assert_eq!(counts, [None; 5]);
    assert_eq!(config(&[], &[SET]).account, None);
}

#[test]
fn mistakes_take_one_line_with_the_value_and_where_it_stood() {
    for &(args, var, expected) in MISTAKES {
        assert_eq!(error(args, &[var, SET]), expected, "{args:?}");
    }
}

#[test]
fn arguments_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let error = parse(vec![OsString::from_vec(b"-c\xff".to_vec())], &|_| None).unwrap_err();
    assert_eq!(error, "argument is not UTF-8: \"-c\u{fffd}\"");
}

#[test]
fn numbers_as_parse_int_reads_them() {
    let cases = [
        ("80", Some(80)),
        ("80x", Some(80)),
        (" \u{feff}\t+8.9", Some(8)),
        ("-5", Some(-5)),
        ("0x50", Some(0)),
        ("1e3", Some(1)),
        ("x80", None),
        ("", None),
        ("- 5", None),
        ("99999999999999999999", Some(i64::MAX)),
    ];
    for (text, number) in cases {
        assert_eq!(leading_number(text), number, "{text}");
    }
}
