//! The options: one table, for the arguments and for the usage.

use super::settings::set;
use super::{Env, PROGRAM};
use crate::pattern;

/// One option, for the normaliser and for the usage.
pub(super) struct Opt {
    pub(super) short: Option<char>,
    pub(super) long: &'static str,
    /// What stands for the value in the usage; none for a switch.
    pub(super) value: Option<&'static str>,
    pub(super) help: &'static str,
}

pub(super) const fn opt(
    short: Option<char>,
    long: &'static str,
    value: Option<&'static str>,
    help: &'static str,
) -> Opt {
    Opt { short, long, value, help }
}

/// Every option, in the order of the usage. `{host}`, `{port}` and `{regex}` become the defaults in force.
pub(super) const OPTIONS: [Opt; 56] = [
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
        "origin-credentials",
        Some("<which>"),
        "[env FS_CACHE_ORIGIN_CREDENTIALS] requests that carry those in the url: safe (GET, HEAD) or all, defaults to safe",
    ),
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
        "[env FS_CACHE_PIN_CPUS] bind workers to cpus, auto or such as 0,2-5; not bound by default",
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
    opt(
        None,
        "far-range",
        Some("<bytes>"),
        "[env FS_CACHE_FAR_RANGE] ranges so far ahead of a download are fetched directly, defaults to 8388608",
    ),
    opt(
        None,
        "small-body",
        Some("<bytes>"),
        "[env FS_CACHE_SMALL_BODY] longest body kept in memory, defaults to 16384",
    ),
    opt(
        None,
        "small-body-memory",
        Some("<bytes>"),
        "[env FS_CACHE_SMALL_BODY_MEMORY] for such bodies, a worker, defaults to 33554432",
    ),
    opt(
        None,
        "open-files",
        Some("<n>"),
        "[env FS_CACHE_OPEN_FILES] files kept open, a worker, defaults to auto",
    ),
    opt(
        None,
        "look-up-time",
        Some("<s>"),
        "[env FS_CACHE_LOOK_UP_TIME] how long the look-up of a name holds, defaults to 1 second",
    ),
    opt(
        None,
        "follow-redirects",
        None,
        "[env FS_CACHE_FOLLOW_REDIRECTS] follow the upstream's redirects on paths to cache",
    ),
    opt(
        None,
        "rewrite-location",
        None,
        "[env FS_CACHE_REWRITE_LOCATION] a Location on the upstream becomes one on this server",
    ),
    opt(
        None,
        "cache-status",
        None,
        "[env FS_CACHE_CACHE_STATUS] tell in Cache-Status and X-Cache what the cache did",
    ),
    opt(
        None,
        "resume-attempts",
        Some("<n>"),
        "[env FS_CACHE_RESUME_ATTEMPTS] times to ask for the rest without progress, defaults to 8",
    ),
    opt(
        None,
        "abandon-fill",
        Some("<when>"),
        "[env FS_CACHE_ABANDON_FILL] without clients: never, always, or below a percentage; defaults to never",
    ),
    opt(
        None,
        "fill-query",
        Some("<what>"),
        "[env FS_CACHE_FILL_QUERY] of a path to cache: forward, strip or pass; defaults to forward, with a preset strip",
    ),
    opt(
        None,
        "sweep-partials",
        Some("<s>"),
        "[env FS_CACHE_SWEEP_PARTIALS] remove in-progress files untouched for so long, not done by default",
    ),
    opt(
        None,
        "no-sync",
        None,
        "[env FS_CACHE_NO_SYNC] do not wait for the disk before files get their names",
    ),
    opt(
        None,
        "revalidate",
        Some("<regex>"),
        "[env FS_CACHE_REVALIDATE] paths to keep and check with the upstream, before -r; none by default",
    ),
    opt(
        None,
        "revalidate-after",
        Some("<s>"),
        "[env FS_CACHE_REVALIDATE_AFTER] seconds, or heuristic: unchecked for so long, defaults to 0",
    ),
    opt(
        None,
        "revalidate-memory",
        Some("<bytes>"),
        "[env FS_CACHE_REVALIDATE_MEMORY] for such answers that no file can hold, defaults to 67108864",
    ),
    opt(
        None,
        "stale-if-error",
        Some("<s>"),
        "[env FS_CACHE_STALE_IF_ERROR] seconds, or forever: served stale so long while the upstream fails",
    ),
    opt(
        None,
        "stale-if-error-always",
        None,
        "[env FS_CACHE_STALE_IF_ERROR_ALWAYS] the same where the response forbids it; needs --stale-if-error",
    ),
    opt(
        None,
        "fill-fields",
        Some("<list>"),
        "[env FS_CACHE_FILL_FIELDS] further request fields that go along when paths of --revalidate are asked for",
    ),
    opt(
        None,
        "keep-fields",
        Some("<list>"),
        "[env FS_CACHE_KEEP_FIELDS] of Set-Cookie and the like: response fields that are stored all the same",
    ),
    opt(None, "offline", None, "[env FS_CACHE_OFFLINE] never ask the upstream"),
    opt(
        None,
        "cdn-cache-control",
        None,
        "[env FS_CACHE_CDN_CACHE_CONTROL] CDN-Cache-Control goes before Cache-Control",
    ),
    opt(
        None,
        "head-timeout",
        Some("<s>"),
        "[env FS_CACHE_HEAD_TIMEOUT] from a request's first byte to the end of its head, defaults to 60 seconds",
    ),
    opt(
        None,
        "max-head",
        Some("<bytes>"),
        "[env FS_CACHE_MAX_HEAD] longest head of a request or response, defaults to 65536",
    ),
    opt(
        None,
        "max-fields",
        Some("<n>"),
        "[env FS_CACHE_MAX_FIELDS] header fields in a head, defaults to 256",
    ),
    opt(
        None,
        "max-target",
        Some("<bytes>"),
        "[env FS_CACHE_MAX_TARGET] longest path and query of a request, defaults to 16384",
    ),
    opt(
        None,
        "head-memory",
        Some("<bytes>"),
        "[env FS_CACHE_HEAD_MEMORY] for heads that are not complete, a worker, defaults to 67108864",
    ),
    opt(
        None,
        "min-rate",
        Some("<bytes>"),
        "[env FS_CACHE_MIN_RATE] a second that a client must take or send of a body, 0 is off, defaults to 0",
    ),
    opt(
        None,
        "max-connections",
        Some("<n>"),
        "[env FS_CACHE_MAX_CONNECTIONS] of clients at a time, defaults to auto: half of the descriptors",
    ),
    opt(
        None,
        "max-client-connections",
        Some("<n>"),
        "[env FS_CACHE_MAX_CLIENT_CONNECTIONS] of one client address at a time, defaults to none",
    ),
    opt(
        None,
        "max-origin-connections",
        Some("<n>"),
        "[env FS_CACHE_MAX_ORIGIN_CONNECTIONS] requests at the upstream at a time, defaults to auto",
    ),
    opt(
        None,
        "max-fills",
        Some("<n>"),
        "[env FS_CACHE_MAX_FILLS] files fetched into the cache at a time, defaults to none",
    ),
    opt(
        None,
        "max-pipelined",
        Some("<n>"),
        "[env FS_CACHE_MAX_PIPELINED] requests in a row without waiting for answers, defaults to none",
    ),
    opt(
        None,
        "sandbox",
        Some("<when>"),
        "[env FS_CACHE_SANDBOX] restrict what may be written to: auto, on or off, defaults to auto",
    ),
    opt(
        None,
        "user",
        Some("<user>"),
        "[env FS_CACHE_USER] whom to run as after the start as root, a name or a number",
    ),
    opt(None, "group", Some("<group>"), "[env FS_CACHE_GROUP] and in which group, a name or a number"),
    opt(
        None,
        "preset",
        Some("<list>"),
        "[env FS_CACHE_PRESET] paths of package sites, added to the regex or in its place: such as apt,npm",
    ),
    opt(None, "print-config", None, "print the configuration in force and exit"),
];

/// The options that end the parsing: what stands behind them, right or wrong, does not matter any more.
pub(super) const FINAL: [&str; 3] = ["help", "updates", "version"];

pub(super) const DEFAULT_PORT: i64 = 8080;
pub(super) const DEFAULT_HOST: &str = "0.0.0.0";

pub(super) fn usage_text(env: Env<'_>, port: i64) -> String {
    let host = set(env, "FS_CACHE_HOST").unwrap_or_else(|| DEFAULT_HOST.to_owned());
    let mut text = format!("usage: {PROGRAM} [options]\n\noptions");
    for option in &OPTIONS {
        let short = option.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
        let names = format!("{short}--{} {}", option.long, option.value.unwrap_or(""));
        let help = option.help.replace("{regex}", &format!("/{}/", pattern::DEFAULT));
        let help = help.replace("{port}", &port.to_string()).replace("{host}", &host);
        text.push_str(&format!("\n  {names:<25} {help}"));
    }
    text
}
