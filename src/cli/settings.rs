//! What was given, by flag or by variable, turned into the configuration.

mod bounds;
mod kept;
mod origin;

use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::FromArgs;

use super::options::{DEFAULT_HOST, DEFAULT_PORT};
use super::{Env, UsageError};
use crate::config::{Account, Config, FileLimits, IoChoice, Limits, Pinning, Workers, check_host, mask};
use crate::pattern::{self, Pattern};
use crate::preset::{self, Preset, Rules};
use crate::sys::process;

/// The arguments as argh reads them. A value given twice counts as the last one says.
#[derive(FromArgs)]
#[argh(help_triggers("--help"))]
/// A caching HTTP proxy.
pub(super) struct Flags {
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
    /// which requests carry the credentials
    #[argh(option)]
    origin_credentials: Vec<String>,
    /// how to update
    #[argh(switch)]
    pub(super) updates: bool,
    /// version
    #[argh(switch)]
    pub(super) version: bool,
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
    /// bytes
    #[argh(option)]
    far_range: Vec<String>,
    /// bytes
    #[argh(option)]
    small_body: Vec<String>,
    /// bytes
    #[argh(option)]
    small_body_memory: Vec<String>,
    /// files
    #[argh(option)]
    open_files: Vec<String>,
    /// seconds
    #[argh(option)]
    look_up_time: Vec<String>,
    /// follow redirects
    #[argh(switch)]
    follow_redirects: bool,
    /// a Location on the upstream becomes ours
    #[argh(switch)]
    rewrite_location: bool,
    /// tell what the cache did
    #[argh(switch)]
    cache_status: bool,
    /// times
    #[argh(option)]
    resume_attempts: Vec<String>,
    /// when
    #[argh(option)]
    abandon_fill: Vec<String>,
    /// what becomes of a query
    #[argh(option)]
    fill_query: Vec<String>,
    /// seconds
    #[argh(option)]
    sweep_partials: Vec<String>,
    /// no fsync
    #[argh(switch)]
    no_sync: bool,
    /// paths to keep and check
    #[argh(option)]
    revalidate: Vec<String>,
    /// seconds or heuristic
    #[argh(option)]
    revalidate_after: Vec<String>,
    /// bytes
    #[argh(option)]
    revalidate_memory: Vec<String>,
    /// seconds or forever
    #[argh(option)]
    stale_if_error: Vec<String>,
    /// even where the response forbids it
    #[argh(switch)]
    stale_if_error_always: bool,
    /// fields that go along
    #[argh(option)]
    fill_fields: Vec<String>,
    /// fields that are stored all the same
    #[argh(option)]
    keep_fields: Vec<String>,
    /// no upstream
    #[argh(switch)]
    offline: bool,
    /// targeted field
    #[argh(switch)]
    cdn_cache_control: bool,
    /// seconds
    #[argh(option)]
    head_timeout: Vec<String>,
    /// bytes
    #[argh(option)]
    max_head: Vec<String>,
    /// fields
    #[argh(option)]
    max_fields: Vec<String>,
    /// bytes
    #[argh(option)]
    max_target: Vec<String>,
    /// bytes
    #[argh(option)]
    head_memory: Vec<String>,
    /// bytes a second
    #[argh(option)]
    min_rate: Vec<String>,
    /// connections
    #[argh(option)]
    max_connections: Vec<String>,
    /// connections
    #[argh(option)]
    max_client_connections: Vec<String>,
    /// connections
    #[argh(option)]
    max_origin_connections: Vec<String>,
    /// files
    #[argh(option)]
    max_fills: Vec<String>,
    /// requests
    #[argh(option)]
    max_pipelined: Vec<String>,
    /// what may be written to
    #[argh(option)]
    sandbox: Vec<String>,
    /// whom to run as
    #[argh(option)]
    user: Vec<String>,
    /// and in which group
    #[argh(option)]
    group: Vec<String>,
    /// package sites
    #[argh(option)]
    preset: Vec<String>,
    /// configuration
    #[argh(switch)]
    pub(super) print_config: bool,
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
        let far = Setting::pick(self.far_range.clone(), "--far-range", "FS_CACHE_FAR_RANGE", env);
        Ok(Limits {
            far_range: far.map_or(Ok(limits.far_range), |size| size.read("size", count))?,
            connect_time: connect?,
            response_head_time: response?,
            stall_time: stall?,
            idle_time: idle?,
            drain_time: drain?,
            files: self.file_limits(env, limits.files)?,
            ..self.bounds(env, limits)?
        })
    }

    fn file_limits(&self, env: Env<'_>, default: FileLimits) -> Result<FileLimits, UsageError> {
        let pick = |given: &[String], flag, variable| Setting::pick(given.to_vec(), flag, variable, env);
        let bytes = |given: &[String], flag, variable, default: u64| {
            pick(given, flag, variable).map_or(Ok(default), |size| size.read("size", count))
        };
        let memory = u64::try_from(default.body_memory).unwrap_or(u64::MAX);
        let memory =
            bytes(&self.small_body_memory, "--small-body-memory", "FS_CACHE_SMALL_BODY_MEMORY", memory)?;
        let open_files = match pick(&self.open_files, "--open-files", "FS_CACHE_OPEN_FILES") {
            Some(setting) if setting.value == "auto" => None,
            Some(setting) => Some(setting.read("number of files", |text| {
                count(text).map_err(|_| "expected auto or a whole number".to_owned())
            })?),
            None => default.open_files.map(|files| files as u64),
        };
        let look_up = pick(&self.look_up_time, "--look-up-time", "FS_CACHE_LOOK_UP_TIME");
        Ok(FileLimits {
            small_body: bytes(&self.small_body, "--small-body", "FS_CACHE_SMALL_BODY", default.small_body)?,
            body_memory: usize::try_from(memory).unwrap_or(usize::MAX),
            open_files: open_files.map(|files| usize::try_from(files).unwrap_or(usize::MAX)),
            look_up_time: look_up.map_or(Ok(default.look_up_time), |time| time.read("time", seconds))?,
        })
    }

    pub(super) fn into_config(self, env: Env<'_>, default_port: i64) -> Result<Config, UsageError> {
        let presets = presets(&self.preset, env)?;
        let (limits, fills) = (self.limits(env)?, self.fills(env, &presets)?);
        let revalidate = self.revalidate(env, &presets)?;
        let (sandbox, account) = (self.sandbox(env)?, self.account(env)?);
        let pick = |given: Vec<String>, flag, variable| Setting::pick(given, flag, variable, env);
        let origin = self.origin(env)?;
        let cache_dir = match pick(self.cache_dir, "--cache-dir", "FS_CACHE_DIR") {
            Some(dir) if self.print_config => PathBuf::from(dir.value),
            Some(dir) => dir.read("cache directory", |text| directory(text, account.as_ref()))?,
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
        let immutable = presets.iter().map(|preset| preset.immutable.join("|")).collect::<Vec<_>>();
        let pattern = match pick(self.regex, "--regex", "FS_CACHE_REGEX").filter(Setting::is_set) {
            Some(regex) => regex.read("regex", |source| joined(source, &immutable))?,
            None if presets.is_empty() => joined(pattern::DEFAULT, &[]).map_err(UsageError)?,
            None => joined("", &immutable).map_err(UsageError)?,
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
            rules: Rules::new(&presets).map_err(|error| UsageError(error.to_string()))?,
            presets,
            origin,
            workers: workers
                .map_or(Ok(Workers::Auto), |workers| workers.read("number of workers", Workers::parse))?,
            pin: pin.map_or(Ok(Pinning::Off), |pin| pin.read("cpu list", Pinning::parse))?,
            io: io.map_or(Ok(IoChoice::Auto), |io| io.read("engine", IoChoice::parse))?,
            limits,
            follow_redirects: self.follow_redirects || set(env, "FS_CACHE_FOLLOW_REDIRECTS").is_some(),
            rewrite_location: self.rewrite_location || set(env, "FS_CACHE_REWRITE_LOCATION").is_some(),
            cache_status: self.cache_status || set(env, "FS_CACHE_CACHE_STATUS").is_some(),
            fills,
            revalidate,
            offline: self.offline || set(env, "FS_CACHE_OFFLINE").is_some(),
            sandbox,
            account,
        })
    }
}

/// The presets chosen, each once, in the order in which they were first named.
fn presets(given: &[String], env: Env<'_>) -> Result<Vec<&'static Preset>, UsageError> {
    let (value, source) = if given.is_empty() {
        (set(env, "FS_CACHE_PRESET").unwrap_or_default(), "FS_CACHE_PRESET")
    } else {
        (given.join(","), "--preset")
    };
    let named = Setting { value, source }.read("preset", preset::parse)?;
    let mut chosen: Vec<&'static Preset> = Vec::new();
    for preset in named {
        if !chosen.iter().any(|known| known.name == preset.name) {
            chosen.push(preset);
        }
    }
    Ok(chosen)
}

/// The operator's pattern, together with those of presets.
fn joined(source: &str, presets: &[String]) -> Result<Pattern, String> {
    // Alone first: a pattern is not to become right, or mean another thing, by what stands around it.
    Pattern::new(source).map_err(|error| error.to_string())?;
    let all = preset::any_of([source].into_iter().chain(presets.iter().map(String::as_str)));
    Pattern::new(&all).map_err(|error| error.to_string())
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
pub(super) fn set(env: Env<'_>, variable: &str) -> Option<String> {
    env(variable).filter(|value| !value.is_empty())
}

pub(super) fn env_port(env: Env<'_>) -> Result<i64, UsageError> {
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
pub(super) fn leading_number(text: &str) -> Option<i64> {
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

/// Reads a number of bytes or of things.
fn count(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| "expected a whole number".to_owned())
}

/// Reads a time in seconds, fractions allowed.
fn seconds(text: &str) -> Result<Duration, String> {
    /// A year: beyond it clocks may overflow, and nobody waits.
    const MOST: f64 = 365.0 * 86_400.0;
    let number = text.parse().ok().filter(|seconds| (0.001..=MOST).contains(seconds));
    number
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected a number of seconds from 0.001 to a year".to_owned())
}

/// The same, 0 for no time at all; an error names the `word` that stands for a time as well.
fn seconds_or_none(text: &str, word: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text).map_err(|why| format!("{why}, 0 or {word}")) }
}

/// The cache directory; one that does not exist yet is made, as the original did when it stored
/// its first file, and belongs to whom the program will run as.
fn directory(text: &str, account: Option<&Account>) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the name is empty".to_owned());
    }
    // Through the trailing dot the directory must also be one we may enter.
    let path = PathBuf::from(text);
    let entered = std::fs::metadata(path.join(".")).map(drop);
    let ready = entered.or_else(|error| {
        let absent = error.kind() == std::io::ErrorKind::NotFound;
        if absent { make(&path, account) } else { Err(error) }
    });
    ready.map(|()| path).map_err(|error| process::error_text(&error))
}

fn make(path: &Path, account: Option<&Account>) -> std::io::Result<()> {
    std::fs::create_dir_all(path)?;
    account.map_or(Ok(()), |account| process::give(path, account.user, account.group))
}

/// Keeps a message on one line whatever the value holds.
pub(super) fn printable(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() }
    };
    text.chars().map(escape).collect()
}
