//! The command line and its environment variables, with the habits of POSIX getopt.
//!
//! Arguments are first brought into the one form argh takes (`--name value`), which also settles which of help,
//! version and a mistake comes first. A flag then beats its variable, and a variable beats the default.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use argh::FromArgs;

use crate::config::{Config, IoChoice, Limits, Origin, Pinning, Workers, check_host, mask};
use crate::pattern::Pattern;
use crate::sys::process;

/// The name in the usage and the version text.
const PROGRAM: &str = "fs-caching-server";

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Run the server.
    Serve(Box<Config>),
    /// Write this text, newline included, to stdout and exit with 0.
    Print(String),
}

/// One clear line, or the usage, for stderr; the exit code is 1.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

/// The environment: the value of a variable, if it is set.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the arguments (without the program's own name) and the environment.
pub fn parse<A: Into<OsString>>(
    args: Vec<A>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Request, UsageError> {
    // Checked before anything else, help included, as scripts may have come to expect.
    let default_port = env_port(env)?;
    let canonical = normalise(args)?
        .map_err(|fault| UsageError(format!("{fault}\n{}", usage_text(env, default_port))))?;
    let words: Vec<&str> = canonical.iter().map(String::as_str).collect();
    let flags = match Flags::from_args(&[PROGRAM], &words) {
        Ok(flags) => flags,
        Err(exit) if exit.status.is_ok() => {
            return Ok(Request::Print(usage_text(env, default_port) + "\n"));
        }
        Err(exit) => return Err(UsageError(exit.output.trim_end().to_owned())),
    };
    let version = env!("CARGO_PKG_VERSION");
    if flags.version {
        return Ok(Request::Print(format!("{version}\n")));
    }
    if flags.updates {
        return Ok(Request::Print(format!(
            "{PROGRAM} {version}\nno server is asked for updates; install the newest release with: cargo install {PROGRAM}\n"
        )));
    }
    flags.into_config(env, default_port).map(|config| Request::Serve(Box::new(config)))
}

/// The text of `--help`, without a newline at its end. It shows the host and port the environment sets.
pub fn usage(env: &dyn Fn(&str) -> Option<String>) -> String {
    usage_text(env, env_port(env).unwrap_or(DEFAULT_PORT))
}

/// One option, for the normaliser and for the usage.
struct Opt {
    short: Option<char>,
    long: &'static str,
    /// What stands for the value in the usage; none for a switch.
    value: Option<&'static str>,
    help: &'static str,
}

const fn opt(
    short: Option<char>,
    long: &'static str,
    value: Option<&'static str>,
    help: &'static str,
) -> Opt {
    Opt { short, long, value, help }
}

/// Every option, in the order of the usage. `{host}`, `{port}` and `{regex}` become the defaults in force.
const OPTIONS: [Opt; 17] = [
    opt(Some('c'), "cache-dir", Some("<dir>"), "[env FS_CACHE_DIR] where files are cached, defaults to CWD"),
    opt(Some('d'), "debug", None, "[env FS_CACHE_DEBUG] write debug lines to stderr"),
    opt(Some('H'), "host", Some("<host>"), "[env FS_CACHE_HOST] address to listen on, defaults to {host}"),
    opt(Some('h'), "help", None, "print this text and exit"),
    opt(Some('p'), "port", Some("<port>"), "[env FS_CACHE_PORT] port to listen on, defaults to {port}"),
    opt(Some('r'), "regex", Some("<regex>"), "[env FS_CACHE_REGEX] paths to cache, defaults to {regex}"),
    opt(
        Some('U'),
        "url",
        Some("<url>"),
        "[env FS_CACHE_URL] upstream to fetch from, http or https (required)",
    ),
    opt(Some('u'), "updates", None, "print the version and how to update, and exit"),
    opt(Some('v'), "version", None, "print the version and exit"),
    opt(
        None,
        "workers",
        Some("<n>"),
        "[env FS_CACHE_WORKERS] threads that serve, auto is one per cpu, defaults to auto",
    ),
    opt(
        None,
        "pin-cpus",
        Some("<list>"),
        "[env FS_CACHE_PIN_CPUS] bind workers to cpus, auto or such as 0,2-5, defaults to none",
    ),
    opt(None, "io", Some("<engine>"), "[env FS_CACHE_IO] auto, uring or poll, defaults to auto"),
    opt(
        None,
        "connect-timeout",
        Some("<s>"),
        "[env FS_CACHE_CONNECT_TIMEOUT] to connect to the upstream, defaults to 10 seconds",
    ),
    opt(
        None,
        "response-timeout",
        Some("<s>"),
        "[env FS_CACHE_RESPONSE_TIMEOUT] until the upstream's response begins, defaults to 60 seconds",
    ),
    opt(
        None,
        "stall-timeout",
        Some("<s>"),
        "[env FS_CACHE_STALL_TIMEOUT] without a byte of progress in a body, defaults to 60 seconds",
    ),
    opt(
        None,
        "idle-timeout",
        Some("<s>"),
        "[env FS_CACHE_IDLE_TIMEOUT] between the requests of a connection, defaults to 120 seconds",
    ),
    opt(
        None,
        "drain-timeout",
        Some("<s>"),
        "[env FS_CACHE_DRAIN_TIMEOUT] for what is in flight at a stop, defaults to 20 seconds",
    ),
];

/// The options that end the parsing: what stands behind them, right or wrong, does not matter any more.
const FINAL: [&str; 3] = ["help", "updates", "version"];

const DEFAULT_PORT: i64 = 8080;
const DEFAULT_HOST: &str = "0.0.0.0";

fn usage_text(env: Env<'_>, port: i64) -> String {
    let host = set(env, "FS_CACHE_HOST").unwrap_or_else(|| DEFAULT_HOST.to_owned());
    let mut text = format!("usage: {PROGRAM} [options]\n\noptions");
    for option in &OPTIONS {
        let short = option.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
        let names = format!("{short}--{} {}", option.long, option.value.unwrap_or(""));
        let help = option.help.replace("{regex}", &format!("/{}/", Pattern::DEFAULT));
        let help = help.replace("{port}", &port.to_string()).replace("{host}", &host);
        text.push_str(&format!("\n  {names:<26}{help}"));
    }
    text
}

/// Brings the arguments into the form `--name value`.
///
/// The outer error is about an argument that is no text; the inner one wants the usage behind it.
fn normalise<A: Into<OsString>>(args: Vec<A>) -> Result<Result<Vec<String>, String>, UsageError> {
    let mut rest = Vec::with_capacity(args.len());
    for arg in args {
        let text = arg.into().into_string();
        rest.push(text.map_err(|bytes| {
            UsageError(format!("argument is not UTF-8: \"{}\"", printable(&bytes.to_string_lossy())))
        })?);
    }
    Ok(canonical(rest))
}

fn canonical(args: Vec<String>) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut rest = args.into_iter();
    while let Some(arg) = rest.next() {
        let ended = if let Some(long) = arg.strip_prefix("--").filter(|long| !long.is_empty()) {
            take_long(long, &mut rest, &mut out)?
        } else if let Some(cluster) = arg.strip_prefix('-').filter(|cluster| !matches!(*cluster, "" | "-")) {
            take_cluster(cluster, &mut rest, &mut out)?
        } else {
            // `--` or the first operand: as with getopt, what follows is no option, and operands are not used.
            true
        };
        if ended {
            break;
        }
    }
    Ok(out)
}

/// Takes `name` or `name=value`; true if nothing behind it matters.
fn take_long(
    text: &str,
    rest: &mut impl Iterator<Item = String>,
    out: &mut Vec<String>,
) -> Result<bool, String> {
    let (name, attached) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let option = OPTIONS
        .iter()
        .find(|option| option.long == name)
        .ok_or_else(|| format!("illegal option -- {}", printable(name)))?;
    if option.value.is_none() && attached.is_some() {
        return Err(format!("option expects no argument -- {name}"));
    }
    take(option, attached, rest, out)
}

/// Takes the letters behind a single `-`; true if nothing behind them matters.
fn take_cluster(
    text: &str,
    rest: &mut impl Iterator<Item = String>,
    out: &mut Vec<String>,
) -> Result<bool, String> {
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let option = OPTIONS
            .iter()
            .find(|option| option.short == Some(letter))
            .ok_or_else(|| format!("illegal option -- {}", printable(&letter.to_string())))?;
        let tail = letters.as_str();
        if option.value.is_some() {
            return take(option, (!tail.is_empty()).then(|| tail.to_owned()), rest, out);
        }
        if take(option, None, rest, out)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn take(
    option: &Opt,
    attached: Option<String>,
    rest: &mut impl Iterator<Item = String>,
    out: &mut Vec<String>,
) -> Result<bool, String> {
    out.push(format!("--{}", option.long));
    if option.value.is_some() {
        let name = || option.short.map_or(option.long.to_owned(), |short| short.to_string());
        out.push(
            attached
                .or_else(|| rest.next())
                .ok_or_else(|| format!("option requires an argument -- {}", name()))?,
        );
    }
    Ok(FINAL.contains(&option.long))
}

/// The arguments as argh reads them. A value given twice counts as the last one says.
#[derive(FromArgs)]
#[argh(help_triggers("--help"))]
/// A caching HTTP proxy.
struct Flags {
    /// where files are cached
    #[argh(option)]
    cache_dir: Vec<String>,
    /// debug lines
    #[argh(switch)]
    debug: bool,
    /// address to listen on
    #[argh(option)]
    host: Vec<String>,
    /// port to listen on
    #[argh(option)]
    port: Vec<String>,
    /// paths to cache
    #[argh(option)]
    regex: Vec<String>,
    /// upstream
    #[argh(option)]
    url: Vec<String>,
    /// how to update
    #[argh(switch)]
    updates: bool,
    /// version
    #[argh(switch)]
    version: bool,
    /// threads that serve
    #[argh(option)]
    workers: Vec<String>,
    /// cpus to bind them to
    #[argh(option)]
    pin_cpus: Vec<String>,
    /// backend
    #[argh(option)]
    io: Vec<String>,
    /// seconds
    #[argh(option)]
    connect_timeout: Vec<String>,
    /// seconds
    #[argh(option)]
    response_timeout: Vec<String>,
    /// seconds
    #[argh(option)]
    stall_timeout: Vec<String>,
    /// seconds
    #[argh(option)]
    idle_timeout: Vec<String>,
    /// seconds
    #[argh(option)]
    drain_timeout: Vec<String>,
}

impl Flags {
    fn limits(&self, env: Env<'_>) -> Result<Limits, UsageError> {
        let time = |given: &[String], flag, variable, default| {
            Setting::pick(given.to_vec(), flag, variable, env)
                .map_or(Ok(default), |time| time.read("time", seconds))
        };
        let limits = Limits::default();
        let connect =
            time(&self.connect_timeout, "--connect-timeout", "FS_CACHE_CONNECT_TIMEOUT", limits.connect_time);
        let response = time(
            &self.response_timeout,
            "--response-timeout",
            "FS_CACHE_RESPONSE_TIMEOUT",
            limits.response_head_time,
        );
        let stall = time(&self.stall_timeout, "--stall-timeout", "FS_CACHE_STALL_TIMEOUT", limits.stall_time);
        let idle = time(&self.idle_timeout, "--idle-timeout", "FS_CACHE_IDLE_TIMEOUT", limits.idle_time);
        let drain = time(&self.drain_timeout, "--drain-timeout", "FS_CACHE_DRAIN_TIMEOUT", limits.drain_time);
        Ok(Limits {
            connect_time: connect?,
            response_head_time: response?,
            stall_time: stall?,
            idle_time: idle?,
            drain_time: drain?,
            ..limits
        })
    }

    fn into_config(self, env: Env<'_>, default_port: i64) -> Result<Config, UsageError> {
        let limits = self.limits(env)?;
        let pick = |given: Vec<String>, flag, variable| Setting::pick(given, flag, variable, env);
        let url = pick(self.url, "--url", "FS_CACHE_URL").filter(Setting::is_set).ok_or_else(|| {
            UsageError("url must be specified with `-U <url>` or as FS_CACHE_URL".to_owned())
        })?;
        let origin = url.read("URL", Origin::parse)?;
        let cache_dir = match pick(self.cache_dir, "--cache-dir", "FS_CACHE_DIR") {
            Some(dir) => dir.read("cache directory", directory)?,
            None => std::env::current_dir().map_err(|error| {
                UsageError(format!("cannot use the current directory: {}", process::error_text(&error)))
            })?,
        };
        let host = match pick(self.host, "--host", "FS_CACHE_HOST") {
            Some(host) => host.read("host", |host| check_host(host).map(|()| host.to_owned()))?,
            None => DEFAULT_HOST.to_owned(),
        };
        let port = match pick(self.port, "--port", "FS_CACHE_PORT") {
            Some(port) => port.read("port", port_number)?,
            None => u16::try_from(default_port).unwrap_or_default(),
        };
        let pattern = match pick(self.regex, "--regex", "FS_CACHE_REGEX").filter(Setting::is_set) {
            Some(regex) => {
                regex.read("regex", |source| Pattern::new(source).map_err(|error| error.to_string()))?
            }
            None => Pattern::new(Pattern::DEFAULT).map_err(|error| UsageError(error.to_string()))?,
        };
        let workers = pick(self.workers, "--workers", "FS_CACHE_WORKERS");
        let pin = pick(self.pin_cpus, "--pin-cpus", "FS_CACHE_PIN_CPUS");
        let io = pick(self.io, "--io", "FS_CACHE_IO");
        Ok(Config {
            cache_dir,
            debug: self.debug || set(env, "FS_CACHE_DEBUG").is_some(),
            host,
            port,
            pattern,
            origin,
            workers: workers
                .map_or(Ok(Workers::Auto), |workers| workers.read("number of workers", Workers::parse))?,
            pin: pin.map_or(Ok(Pinning::Off), |pin| pin.read("cpu list", Pinning::parse))?,
            io: io.map_or(Ok(IoChoice::Auto), |io| io.read("engine", IoChoice::parse))?,
            limits,
        })
    }
}

/// A value and where it came from.
struct Setting {
    value: String,
    source: &'static str,
}

impl Setting {
    fn pick(given: Vec<String>, flag: &'static str, variable: &'static str, env: Env<'_>) -> Option<Self> {
        let flag = given.into_iter().next_back().map(|value| Self { value, source: flag });
        flag.or_else(|| set(env, variable).map(|value| Self { value, source: variable }))
    }

    /// An empty `--url` or `--regex` counts as none, even where the variable is set.
    fn is_set(&self) -> bool {
        !self.value.is_empty()
    }

    fn read<T>(&self, what: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, UsageError> {
        read(&self.value).map_err(|why| {
            let shown = printable(&mask(&self.value));
            UsageError(format!("cannot use {what} \"{shown}\" ({}): {why}", self.source))
        })
    }
}

/// The value of a variable; an empty one counts as unset.
fn set(env: Env<'_>, variable: &str) -> Option<String> {
    env(variable).filter(|value| !value.is_empty())
}

fn env_port(env: Env<'_>) -> Result<i64, UsageError> {
    set(env, "FS_CACHE_PORT").map_or(Ok(DEFAULT_PORT), |value| {
        leading_number(&value).ok_or_else(|| {
            UsageError(format!("FS_CACHE_PORT must be a number, got \"{}\"", printable(&value)))
        })
    })
}

fn port_number(text: &str) -> Result<u16, String> {
    let port = leading_number(text).and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| "expected a number from 0 to 65535".to_owned())
}

/// Reads a number as JavaScript's parseInt does: white space before and anything behind is ignored.
fn leading_number(text: &str) -> Option<i64> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit);
    let add = |number: Option<i64>, digit| {
        Some(number.unwrap_or(0).saturating_mul(10).saturating_add(i64::from(digit - b'0')))
    };
    digits.fold(None, add).map(|number| sign * number)
}

/// Reads a time in seconds, fractions allowed.
fn seconds(text: &str) -> Result<Duration, String> {
    /// A year: beyond it clocks may overflow, and nobody waits.
    const MOST: f64 = 365.0 * 86_400.0;
    let number = text.parse().ok().filter(|seconds| (0.001..=MOST).contains(seconds));
    number
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected a number of seconds, at least 0.001".to_owned())
}

/// The cache directory; one that does not exist yet is made, as the original did when it stored
/// its first file.
fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the name is empty".to_owned());
    }
    // Through the trailing dot the directory must also be one we may enter.
    let path = PathBuf::from(text);
    let entered = std::fs::metadata(path.join(".")).map(drop);
    let ready = entered.or_else(|error| {
        let absent = error.kind() == std::io::ErrorKind::NotFound;
        if absent { std::fs::create_dir_all(&path) } else { Err(error) }
    });
    ready.map(|()| path).map_err(|error| process::error_text(&error))
}

/// Keeps a message on one line whatever the value holds.
fn printable(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() }
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    fn run(args: &[&str], vars: &[(&str, &str)]) -> Result<Request, UsageError> {
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
        run(args, vars).unwrap_err().0
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
            assert_eq!(canonical(args.iter().map(ToString::to_string).collect()), expected, "{args:?}");
        }
    }

    #[test]
    fn defaults() {
        let config = config(
            &["-U", "http://h/"],
            &[("FS_CACHE_HOST", ""), ("FS_CACHE_PORT", ""), ("FS_CACHE_DEBUG", "")],
        );
        assert_eq!(config.cache_dir, std::env::current_dir().unwrap());
        assert_eq!((config.debug, config.host.as_str(), config.port), (false, "0.0.0.0", 8080));
        assert_eq!(config.pattern.display(), format!("/{}/", Pattern::DEFAULT));
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
    fn an_empty_regex_is_the_default_and_an_empty_url_is_none() {
        let vars = [("FS_CACHE_REGEX", "b"), ("FS_CACHE_URL", "http://env")];
        assert_eq!(config(&["-r", ""], &vars).pattern.display(), format!("/{}/", Pattern::DEFAULT));
        assert_eq!(error(&["-U", ""], &vars), "url must be specified with `-U <url>` or as FS_CACHE_URL");
        assert_eq!(error(&["help"], &[]), "url must be specified with `-U <url>` or as FS_CACHE_URL");
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
        assert!(help.contains("\n      --workers <n>         [env FS_CACHE_WORKERS] "));
        assert!(help.contains("defaults to ::1\n") && help.contains("defaults to 81\n"));
        assert!(help.contains(&format!("defaults to /{}/\n", Pattern::DEFAULT)));
        assert_eq!(lines.len(), 3 + OPTIONS.len());
        assert_eq!(error(&["-z"], &[]), format!("illegal option -- z\n{}", usage(&|_| None)));
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
        (&["--stall-timeout=0"], SET, "cannot use time \"0\" (--stall-timeout): expected a number of seconds, at least 0.001"),
        (&[], ("FS_CACHE_DRAIN_TIMEOUT", "NaN"), "cannot use time \"NaN\" (FS_CACHE_DRAIN_TIMEOUT): expected a number of seconds, at least 0.001"),
        (&["-c/dev/null"], SET, "cannot use cache directory \"/dev/null\" (--cache-dir): Not a directory"),
        (&["-c", ""], SET, "cannot use cache directory \"\" (--cache-dir): the name is empty"),
        (&["--workers=0"], SET, "cannot use number of workers \"0\" (--workers): expected auto or a number from 1 to 1024"),
        (&[], ("FS_CACHE_IO", "epoll"), "cannot use engine \"epoll\" (FS_CACHE_IO): expected auto, uring or poll"),
        (&["--pin-cpus=a"], SET, "cannot use cpu list \"a\" (--pin-cpus): expected auto or processors from 0 to 1023 such as 0,2-5"),
    ];

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
        assert_eq!(error.0, "argument is not UTF-8: \"-c\u{fffd}\"");
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
}
