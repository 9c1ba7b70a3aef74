//! Flags, variables, usage, messages and exit codes, as scripts and unit
//! files of the original rely on them.

use std::process::Output;

use crate::support::sandbox::Limit;
use crate::support::server::free_port;
use crate::support::{Io, Launch, Origin, run_cli};

const DEFAULT_REGEX: &str = r"/\.(png|jpg|jpeg|css|html|js|tar|tgz|tar\.gz)$/";

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn usage_of(args: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    let output = run_cli(args, env, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stderr(&output), "");
    stdout(&output).lines().map(str::to_owned).collect()
}

#[track_caller]
fn line<'a>(usage: &'a [String], start: &str) -> &'a str {
    usage
        .iter()
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no line {start:?} in {usage:#?}"))
}

/// One clear line on stderr that names `value` and one of `names`; exit 1; nothing on stdout.
#[track_caller]
fn expect_complaint(output: &Output, value: &str, names: &[&str]) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(stdout(output), "");
    let text = stderr(output);
    assert_eq!(text.lines().count(), 1, "one line: {text:?}");
    assert!(text.contains(value), "{value:?} is not named in {text:?}");
    assert!(names.iter().any(|name| text.contains(name)), "none of {names:?} is named in {text:?}");
}

#[test]
fn help_is_the_originals_usage_on_stdout() {
    for flag in ["-h", "--help"] {
        let usage = usage_of(&[flag], &[]);
        assert_eq!(usage[..3], ["usage: fs-caching-server [options]", "", "options"]);
        let starts = [
            "  -c, --cache-dir <dir>     [env FS_CACHE_DIR] ",
            "  -d, --debug               ",
            "  -H, --host <host>         [env FS_CACHE_HOST] ",
            "  -h, --help                ",
            "  -p, --port <port>         [env FS_CACHE_PORT] ",
            "  -r, --regex <regex>       [env FS_CACHE_REGEX] ",
            "  -U, --url <url>           [env FS_CACHE_URL] ",
            "  -u, --updates             ",
            "  -v, --version             ",
        ];
        for (line, start) in usage[3..].iter().zip(starts) {
            assert!(line.starts_with(start), "{line:?} for {start:?}");
            assert!(line.len() > start.len(), "no words in {line:?}");
        }
        assert!(usage[5].contains("0.0.0.0"), "{}", usage[5]);
        assert!(usage[7].contains("8080"), "{}", usage[7]);
        assert!(usage[8].contains(DEFAULT_REGEX), "{}", usage[8]);
    }
}

#[test]
fn help_shows_the_default_in_force() {
    let env = [("FS_CACHE_HOST", "192.0.2.7"), ("FS_CACHE_PORT", "81"), ("FS_CACHE_REGEX", "never shown")];
    let usage = usage_of(&["-h"], &env);
    let host = line(&usage, "  -H, ");
    assert!(host.contains("192.0.2.7") && !host.contains("0.0.0.0"));
    let port = line(&usage, "  -p, ");
    assert!(port.contains("81") && !port.contains("8080"));
    assert!(line(&usage, "  -r, ").contains(DEFAULT_REGEX));
}

#[test]
fn help_names_each_new_option_and_its_variable() {
    let usage = usage_of(&["-h"], &[]);
    for (option, variable) in [
        ("--workers", "FS_CACHE_WORKERS"),
        ("--pin-cpus", "FS_CACHE_PIN_CPUS"),
        ("--io", "FS_CACHE_IO"),
        ("--drain-timeout", "FS_CACHE_DRAIN_TIMEOUT"),
        ("--far-range", "FS_CACHE_FAR_RANGE"),
        ("--small-body", "FS_CACHE_SMALL_BODY"),
        ("--small-body-memory", "FS_CACHE_SMALL_BODY_MEMORY"),
        ("--open-files", "FS_CACHE_OPEN_FILES"),
        ("--look-up-time", "FS_CACHE_LOOK_UP_TIME"),
        ("--resume-attempts", "FS_CACHE_RESUME_ATTEMPTS"),
        ("--abandon-fill", "FS_CACHE_ABANDON_FILL"),
        ("--no-sync", "FS_CACHE_NO_SYNC"),
        ("--sweep-partials", "FS_CACHE_SWEEP_PARTIALS"),
    ] {
        let text = usage[12..].join("\n");
        assert!(text.contains(option), "{option} is not in {text}");
        assert!(text.contains(variable), "{variable} is not in {text}");
    }
    // New options are long-only.
    for line in &usage[12..] {
        let word = line.trim_start();
        assert!(!word.starts_with('-') || word.starts_with("--"), "{line}");
    }
}

#[test]
fn help_has_its_flags_in_sections() {
    let usage = usage_of(&["-h"], &[]);
    let titles: Vec<_> =
        usage[1..].iter().filter(|line| !line.is_empty() && !line.starts_with(' ')).collect();
    assert!(titles.len() > 4 && titles[0] == "options", "{titles:?}");
    for pair in usage.windows(2).filter(|pair| pair[0].is_empty()) {
        assert!(titles.contains(&&pair[1]), "{pair:?}");
    }
}

#[test]
fn an_empty_variable_means_the_default() {
    let env = [
        ("FS_CACHE_HOST", ""),
        ("FS_CACHE_PORT", ""),
        ("FS_CACHE_REGEX", ""),
        ("FS_CACHE_DIR", ""),
        ("FS_CACHE_DEBUG", ""),
        ("FS_CACHE_URL", ""),
    ];
    let usage = usage_of(&["-h"], &env);
    assert!(line(&usage, "  -H, ").contains("0.0.0.0"));
    assert!(line(&usage, "  -p, ").contains("8080"));
    let output = run_cli(&[], &env, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "url must be specified with `-U <url>` or as FS_CACHE_URL\n");
}

#[test]
fn version_stands_alone_on_stdout() {
    for flag in ["-v", "--version"] {
        let output = run_cli(&[flag], &[], &[]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(stdout(&output), concat!(env!("CARGO_PKG_VERSION"), "\n"), "{flag}");
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn updates_prints_the_version_and_asks_no_network() {
    for flag in ["-u", "--updates"] {
        let output = run_cli(&[flag], &[], &[Limit::Refuse(libc::SYS_socket)]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(stdout(&output).contains(env!("CARGO_PKG_VERSION")));
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn the_first_of_help_version_and_errors_wins_as_with_getopt() {
    let output = run_cli(&["-v", "--no-such-option"], &[], &[]);
    assert_eq!(output.status.code(), Some(0));
    let output = run_cli(&["-dvh"], &[], &[]);
    assert_eq!(stdout(&output), concat!(env!("CARGO_PKG_VERSION"), "\n"), "-v comes before -h");
    let output = run_cli(&["-d", "-h"], &[], &[]);
    assert!(stdout(&output).starts_with("usage: "));
}

#[test]
fn without_a_url_it_says_so() {
    for args in [&[][..], &["-d"], &["--host", "127.0.0.1"]] {
        let output = run_cli(args, &[], &[]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr(&output), "url must be specified with `-U <url>` or as FS_CACHE_URL\n");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_port_variable_that_is_no_number_is_refused_in_the_originals_words() {
    for value in ["x", "port", "-", "http://a"] {
        let env = [("FS_CACHE_PORT", value), ("FS_CACHE_URL", "http://a.test")];
        let output = run_cli(&[], &env, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stderr(&output), format!("FS_CACHE_PORT must be a number, got \"{value}\"\n"));
    }
}

#[test]
fn an_unknown_option_prints_the_usage_on_stderr() {
    for args in [&["-x"][..], &["--nope"], &["-dx"], &["--nope=1"], &["-U", "http://a", "-q"]] {
        let output = run_cli(args, &[], &[]);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(stdout(&output), "");
        let text = stderr(&output);
        assert!(text.contains("usage: fs-caching-server [options]"), "{text}");
        assert!(text.contains("  -c, --cache-dir <dir>     "), "{text}");
    }
}

#[test]
fn a_missing_argument_prints_the_usage_on_stderr() {
    for args in [&["-p"][..], &["--url"], &["-d", "-c"], &["-dH"], &["--workers"]] {
        let output = run_cli(args, &[], &[]);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(stdout(&output), "");
        let text = stderr(&output);
        assert!(text.contains("usage: fs-caching-server [options]"), "{text}");
    }
}

#[test]
fn a_wrong_port_is_one_line_and_exit_1() {
    for port in ["65536", "-1", "abc", "99999999999999999999"] {
        let output = run_cli(&["-U", "http://a.test", "-p", port], &[], &[]);
        expect_complaint(&output, port, &["-p", "--port"]);
    }
    let env = [("FS_CACHE_PORT", "70000"), ("FS_CACHE_URL", "http://a.test")];
    expect_complaint(&run_cli(&[], &env, &[]), "70000", &["FS_CACHE_PORT"]);
}

#[test]
fn a_wrong_value_is_one_line_that_names_it_and_its_flag() {
    let url = ["-U", "http://127.0.0.1:1"];
    let port = free_port().to_string();
    for (flags, names, value) in [
        (["-r", "("], ["-r", "--regex"], "("),
        (["-r", "a{2,1}"], ["-r", "--regex"], "a{2,1}"),
        (["-r", "[b-a]"], ["-r", "--regex"], "[b-a]"),
        (["-c", "/dev/null"], ["-c", "--cache-dir"], "/dev/null"),
        (["-c", "/dev/null/sub"], ["-c", "--cache-dir"], "/dev/null/sub"),
        (["-H", "192.0.2.1"], ["-H", "--host"], "192.0.2.1"),
        (["-H", "no such host"], ["-H", "--host"], "no such host"),
        (["--workers", "0"], ["--workers"; 2], "0"),
        (["--workers", "many"], ["--workers"; 2], "many"),
        (["--workers", "-1"], ["--workers"; 2], "-1"),
        (["--pin-cpus", "x"], ["--pin-cpus"; 2], "x"),
        (["--pin-cpus", "99999"], ["--pin-cpus"; 2], "99999"),
        (["--io", "threads"], ["--io"; 2], "threads"),
        (["--drain-timeout", "soon"], ["--drain-timeout"; 2], "soon"),
        (["--far-range", "8MB"], ["--far-range"; 2], "8MB"),
        (["--small-body", "-1"], ["--small-body"; 2], "-1"),
        (["--small-body-memory", "many"], ["--small-body-memory"; 2], "many"),
        (["--open-files", "1.5"], ["--open-files"; 2], "1.5"),
        (["--look-up-time", "0"], ["--look-up-time"; 2], "0"),
    ] {
        let args = [&url[..], &["-p", &port], &flags].concat();
        expect_complaint(&run_cli(&args, &[], &[]), value, &names);
    }
}

#[test]
fn a_wrong_variable_is_one_line_that_names_it() {
    for (name, value) in [
        ("FS_CACHE_REGEX", "("),
        ("FS_CACHE_DIR", "/dev/null/sub"),
        ("FS_CACHE_HOST", "192.0.2.1"),
        ("FS_CACHE_WORKERS", "many"),
        ("FS_CACHE_PIN_CPUS", "x"),
        ("FS_CACHE_IO", "threads"),
        ("FS_CACHE_DRAIN_TIMEOUT", "soon"),
    ] {
        let port = free_port().to_string();
        let args = ["-U", "http://127.0.0.1:1", "-p", &port];
        // That an address cannot be listened on is known too late to tell flag from variable.
        let names = match name {
            "FS_CACHE_HOST" => [name, "--host"],
            _ => [name; 2],
        };
        expect_complaint(&run_cli(&args, &[(name, value)], &[]), value, &names);
    }
}

#[test]
fn a_wrong_url_is_one_line_and_exit_1() {
    for url in [
        "nonsense",
        "ftp://a.test",
        "http://",
        "http://a.test:99999",
        "http://a.test:port",
        "://a.test",
        "http://a b.test",
    ] {
        let port = free_port().to_string();
        let output = run_cli(&["-U", url, "-p", &port], &[], &[]);
        expect_complaint(&output, url, &["-U", "--url"]);
        let env = [("FS_CACHE_URL", url)];
        let output = run_cli(&["-p", &port], &env, &[]);
        expect_complaint(&output, url, &["FS_CACHE_URL"]);
    }
}

/// Starts with exactly these arguments and checks where it listens and what it proxies to.
#[track_caller]
fn expect_getopt(build: impl Fn(&str, &str, &str) -> Vec<String>) {
    let origin = Origin::fixed(b"body");
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    // The launch's own flags come first; getopt lets the later ones win.
    let args = build(&port.to_string(), &origin.url(), &dir.path().to_string_lossy());
    let server = Launch::at(Io::Poll, "http://127.0.0.1:1").port(port).args(&args).start();
    server.get("/x.tgz").expect(200, b"body");
    server.err.wait_for(&format!("http://127.0.0.1:{port}"));
    crate::support::wait_until("cached in the last directory named", || dir.path().join("x.tgz").exists());
}

#[test]
fn getopt_habits_work() {
    let owned = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    expect_getopt(|port, url, dir| owned(&["-d", "-p", port, "-U", url, "-c", dir]));
    expect_getopt(|port, url, dir| owned(&[&format!("-dp{port}"), &format!("-U{url}"), &format!("-c{dir}")]));
    expect_getopt(|port, url, dir| owned(&["-dp", port, "-H127.0.0.1", "-U", url, "-c", dir]));
    expect_getopt(|port, url, dir| {
        owned(&[
            "--debug",
            &format!("--port={port}"),
            &format!("--url={url}"),
            &format!("--cache-dir={dir}"),
            "--host=127.0.0.1",
        ])
    });
    expect_getopt(|port, url, dir| {
        owned(&[
            "--debug",
            "--port",
            port,
            "--url",
            url,
            "--cache-dir",
            dir,
            "--host",
            "127.0.0.1",
            "--regex",
            "tgz",
        ])
    });
    // Nothing behind `--` or the first operand is an option.
    expect_getopt(|_, url, dir| owned(&["-d", "-U", url, "-c", dir, "--", "--no-such-option"]));
    expect_getopt(|_, url, dir| owned(&["-d", "-U", url, "-c", dir, "help", "-x"]));
}

#[test]
fn variables_work_and_a_flag_beats_them() {
    let origin = Origin::fixed(b"body");
    let dir = tempfile::tempdir().unwrap();
    // The launch gives host, port, URL, directory and engine as flags: all of these must lose.
    let server = Launch::new(Io::Poll, &origin)
        .env("FS_CACHE_HOST", "192.0.2.1")
        .env("FS_CACHE_PORT", "1")
        .env("FS_CACHE_URL", "http://192.0.2.1:1")
        .env("FS_CACHE_DIR", dir.path())
        .env("FS_CACHE_IO", "uring")
        .env("FS_CACHE_REGEX", "\\.txt$")
        .env("FS_CACHE_DEBUG", "false")
        .start();
    server.get("/x.txt").expect(200, b"body");
    server.get("/x.tgz").expect(200, b"body");
    server.expect_tree(&["x.txt"]);
    // Any non-empty value of the debug variable switches it on.
    server.err.wait_for("caching matches of /\\.txt$/");
    server.err.wait_for("engine: epoll");
    assert!(crate::support::tree(dir.path()).is_empty());
}

#[test]
fn everything_can_be_given_by_variables_alone() {
    let origin = Origin::fixed(b"body");
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = Launch::bare()
        .port(port)
        .cache(dir.path())
        .env("FS_CACHE_HOST", "127.0.0.1")
        .env("FS_CACHE_PORT", port.to_string())
        .env("FS_CACHE_URL", origin.url())
        .env("FS_CACHE_DIR", dir.path())
        .env("FS_CACHE_DEBUG", "1")
        .env("FS_CACHE_WORKERS", "1")
        .env("FS_CACHE_IO", "poll")
        .start();
    server.get("/x.tgz").expect(200, b"body");
    server.expect_cached("x.tgz", b"body");
    server.err.wait_for("engine: epoll");
    server.err.wait_for(&format!("listening on http://127.0.0.1:{port}"));
}

#[test]
fn the_default_directory_is_the_current_one() {
    let origin = Origin::fixed(b"body");
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let server = Launch::bare()
        .port(port)
        .cache(dir.path())
        .current_dir(dir.path())
        .args(["-H", "127.0.0.1", "-d", "-U", &origin.url()])
        .args(["-p", &port.to_string()])
        .start();
    server.get("/a/x.tgz").expect(200, b"body");
    server.expect_cached("a/x.tgz", b"body");
    let real = dir.path().canonicalize().unwrap();
    server.err.wait_for(&format!("caching to {}", real.display()));
}

#[test]
fn trailing_slashes_of_the_url_are_removed() {
    let origin = Origin::fixed(b"body");
    for slashes in ["", "/", "///"] {
        let server = Launch::at(Io::Poll, &format!("{}{slashes}", origin.url())).debug().start();
        server.get("/x").expect(200, b"body");
        let line = format!("proxying requests to {}", origin.url());
        server.err.wait("the URL", |seen| seen == line);
    }
    assert!(origin.requests().iter().all(|request| request.target == "/x"));
}

#[test]
fn the_default_pattern_matches_what_the_original_cached() {
    let origin = Origin::fixed(b"body");
    let server = crate::support::Server::start(Io::Poll, &origin);
    let mut client = server.client();
    let cached = ["a.css", "a.html", "a.jpeg", "a.jpg", "a.js", "a.png", "a.tar", "a.tar.gz", "a.tgz"];
    for name in cached {
        client.get(&format!("/{name}")).expect(200, b"body");
        server.expect_cached(name, b"body");
    }
    for name in ["a.gz", "a.zst", "a.TGZ", "a.json", "a.tgz.sig", "a.htm", "tgz", "pkg_summary.gz"] {
        client.get(&format!("/{name}")).expect(200, b"body");
    }
    server.expect_tree(&cached);
    assert_eq!(origin.count(), cached.len() + 8);
}

/// Pattern, targets that match, targets that do not.
type PatternCase = (&'static str, &'static [&'static str], &'static [&'static str]);

const PATTERNS: &[PatternCase] = &[
    (r"^\/a\/", &["/a/x"], &["/b/a/x"]),
    (r"\.(zst|gz)$", &["/x.zst", "/y.gz"], &["/x.zstd", "/gz"]),
    ("tgz", &["/tgz", "/a.tgz.b"], &["/TGZ"]),
    (r"[/&&x]q", &["/q1", "/a&q"], &["/aq"]),
    (r"[[]b", &["/%5Bb"], &["/b"]),
    ("a[^]c", &["/a%0Ac", "/abc"], &["/ac"]),
    ("x{", &["/x%7B"], &["/x"]),
    ("x{,2}", &["/x%7B,2%7D"], &["/xx"]),
    (r"\u0041b", &["/Ab"], &["/ab"]),
    (r"\x41b", &["/Ab"], &["/ab"]),
    (r"^/\d+$", &["/12"], &["/%D9%A1", "/x"]),
    (r"^/\w+$", &["/a_9"], &["/%C3%A9"]),
    (r"^/\s$", &["/%C2%A0", "/%20", "/%EF%BB%BF"], &["/x"]),
    ("^/a.c$", &["/abc"], &["/a%0Ac", "/a%E2%80%A8c", "/a%0Dc"]),
    (r"^/(?!skip)\w+\.tgz$", &["/keep.tgz"], &["/skip.tgz"]),
    (r"(?<=/v)\d", &["/v1"], &["/w1"]),
    (r"^/(\w)\1$", &["/aa"], &["/ab"]),
    (r"^/(?<first>\w)\k<first>$", &["/bb"], &["/ab"]),
    (r"\-\_\.x", &["/-_.x"], &["/-_x"]),
    ("a$", &["/a"], &["/a%0A", "/ab"]),
    (r"\bx\b", &["/x", "/-x-"], &["/ax"]),
    (r"^/\cJ$", &["/%0A"], &["/J"]),
    ("]x}", &["/%5Dx%7D"], &["/x"]),
];

#[test]
fn patterns_match_as_in_ecmascript() {
    let origin = Origin::fixed(b"body");
    for (pattern, matching, others) in PATTERNS {
        let server = Launch::new(Io::Poll, &origin).args(["-r", *pattern, "--workers", "1"]).start();
        let mut client = server.client();
        for target in *others {
            client.get(target).expect(200, b"body");
        }
        server.expect_nothing_cached();
        for target in *matching {
            client.get(target).expect(200, b"body");
            let before = origin.count();
            client.get(target).expect(200, b"body");
            assert_eq!(origin.count(), before, "{target} is no match of {pattern}");
        }
    }
}
