//! The flags: one table, from which come the parsing, `--help`, `--print-config`, the man page, the completions and
//! the options in docs/reference.md.
//!
//! To add one: a field of the configuration, a line here, and the documents made again (CONTRIBUTING.md).

use super::flag::Kind::{Action, Late, Limit, Number, Switch, Time, Value};
use super::flag::{Flag, flag};

/// A head below this could not even hold a common client's request.
const LEAST_HEAD: u64 = 1024;
/// Above this a head is no head any more, and its memory would count.
const MOST_HEAD: u64 = 16 * 1024 * 1024;
/// Fields beyond this are looked through one by one for too long.
const MOST_FIELDS: u64 = 16 * 1024;
const ANY: u64 = u64::MAX;

/// Every flag, in the order of `--help`.
pub(super) fn flags() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|(_, flags)| *flags)
}

/// Title and flags of each section, in the order of `--help`. The first is that of the original, line by line.
#[rustfmt::skip]
pub(super) static SECTIONS: &[(&str, &[Flag])] = &[
    ("options", &[
        flag("cache-dir", "dir", Late(|d| &mut d.late.cache_dir, |c| c.cache_dir.display().to_string()),
            "directory for the stored files").short('c').what("cache directory").default("the current directory"),
        flag("debug", "", Switch(|d| &mut d.config.debug),
            "write debug lines to stderr").short('d'),
        flag("host", "host", Late(|d| &mut d.late.host, |c| c.host.clone()),
            "address to listen on").short('H'),
        flag("help", "", Action,
            "print this help and exit").short('h'),
        flag("port", "port", Late(|d| &mut d.late.port, |c| c.port.to_string()),
            "port to listen on").short('p'),
        flag("regex", "regex", Late(|d| &mut d.late.regex, |c| c.pattern.source().to_owned()),
            "paths to store and never revalidate, an ECMAScript regular expression").short('r'),
        flag("url", "url", Late(|d| &mut d.late.url, |c| c.origin.url.clone()),
            "origin to fetch from, http or https (required)").short('U').what("URL"),
        flag("updates", "", Action,
            "print the version and how to update, and exit").short('u'),
        flag("version", "", Action,
            "print the version and exit").short('v'),
    ]),
    ("what is stored", &[
        flag("preset", "list", Value(|d| &mut d.config.presets),
            "known package sites, such as apt,npm: sets -r and --revalidate for them; replaces the default of -r, adds to a -r that is given").what("preset").repeats(),
        flag("revalidate", "regex", Late(|d| &mut d.late.revalidate, |c| c.revalidate.as_ref().map_or("", |class| class.pattern.source()).to_owned()),
            "paths to store and revalidate with the origin; takes precedence over -r"),
        flag("revalidate-after", "time", Value(|d| &mut d.class.policy.after),
            "freshness lifetime of a revalidated response to which the origin gives none, or heuristic (a tenth of its age)"),
        flag("revalidate-memory", "size", Number(|d| &mut d.class.memory, 0..=ANY),
            "memory for revalidated responses that cannot be stored as plain files"),
        flag("stale-if-error", "time", Value(|d| &mut d.class.policy.if_error),
            "how long stale responses may be served while the origin fails, or forever").default("what the response says"),
        flag("stale-if-error-always", "", Switch(|d| &mut d.class.policy.if_error_always),
            "serve stale responses even if the response forbids it; needs --stale-if-error"),
        flag("cdn-cache-control", "", Switch(|d| &mut d.class.policy.targeted),
            "CDN-Cache-Control takes precedence over Cache-Control and Expires"),
        flag("fill-query", "what", Value(|d| &mut d.query),
            "what to do with the query when a file is fetched: forward, strip, or pass (relay, do not store)")
            .what("policy").default("forward, with a preset strip"),
        flag("fill-fields", "list", Value(|d| &mut d.class.fields),
            "additional request fields to forward to the origin for paths of --revalidate"),
        flag("keep-fields", "list", Value(|d| &mut d.class.policy.stored_anyway),
            "response fields to store and send to all clients, although they are meant for one user, such as Set-Cookie"),
    ]),
    ("origin", &[
        flag("origin-credentials", "which", Value(|d| &mut d.config.origin.credential_use),
            "requests that carry the user and password of the URL: safe (GET and HEAD) or all").what("policy"),
        flag("connect-timeout", "time", Time(|d| &mut d.config.limits.connect_time),
            "time limit for connecting to the origin"),
        flag("response-timeout", "time", Time(|d| &mut d.config.limits.response_head_time),
            "time limit for the origin to begin its response"),
        flag("max-origin-connections", "n", Limit(|d| &mut d.config.limits.origin_connections, 1, "auto"),
            "maximum number of concurrent requests to the origin").what("number"),
        flag("follow-redirects", "", Switch(|d| &mut d.config.follow_redirects),
            "follow redirects on paths to store"),
        flag("rewrite-location", "", Switch(|d| &mut d.config.rewrite_location),
            "rewrite Location headers to point at this proxy"),
        flag("offline", "", Switch(|d| &mut d.config.offline),
            "never connect to the origin"),
    ]),
    ("fetching files", &[
        flag("max-fills", "n", Limit(|d| &mut d.config.limits.fills, 1, "none"),
            "maximum number of files fetched at the same time; further requests are relayed and not stored").what("number"),
        flag("far-range", "size", Number(|d| &mut d.config.limits.far_range, 0..=ANY),
            "fetch a range separately (not stored) if it begins more than this ahead of the running download"),
        flag("resume-attempts", "n", Number(|d| &mut d.config.fills.resume_attempts, 0..=u32::MAX as u64),
            "maximum consecutive resume attempts without progress").what("number"),
        flag("abandon-fill", "when", Value(|d| &mut d.config.fills.abandon),
            "when to stop a download without clients: never, always, or a percentage: stop unless that much of the file has arrived").what("policy"),
        flag("sweep-partials", "time", Value(|d| &mut d.config.fills.sweep),
            "remove partial files (NAME.in-progress) that have not changed for this long").default("never"),
        flag("no-sync", "", Switch(|d| &mut d.no_sync),
            "do not sync files to the disk before they get their final names"),
    ]),
    ("clients", &[
        flag("head-timeout", "time", Time(|d| &mut d.config.limits.head_time),
            "time limit for a client to send a request head (request line and fields)"),
        flag("idle-timeout", "time", Time(|d| &mut d.config.limits.idle_time),
            "time limit between two requests on a client connection"),
        flag("stall-timeout", "time", Time(|d| &mut d.config.limits.stall_time),
            "time limit for a body transfer without progress, to or from a client or the origin"),
        flag("min-rate", "size", Number(|d| &mut d.config.limits.min_rate, 0..=ANY),
            "minimum transfer rate of a client in bytes per second; 0 means no minimum").what("rate"),
        flag("max-head", "size", Number(|d| &mut d.config.limits.head_bytes, LEAST_HEAD..=MOST_HEAD),
            "maximum size of a request or response head"),
        flag("max-fields", "n", Number(|d| &mut d.config.limits.head_fields, 1..=MOST_FIELDS),
            "maximum number of header fields").what("number of fields"),
        flag("max-target", "size", Number(|d| &mut d.config.limits.target_bytes, LEAST_HEAD..=MOST_HEAD),
            "maximum size of path and query of a request"),
        flag("head-memory", "size", Late(|d| &mut d.late.head_memory, |c| c.limits.head_memory.to_string()),
            "per-worker memory for incomplete request heads"),
        flag("max-connections", "n", Limit(|d| &mut d.config.limits.connections, 1, "auto"),
            "maximum number of concurrent client connections").what("number"),
        flag("max-client-connections", "n", Limit(|d| &mut d.config.limits.client_connections, 1, "none"),
            "maximum number of concurrent connections of one client address").what("number"),
        flag("max-pipelined", "n", Limit(|d| &mut d.config.limits.pipelined, 1, "none"),
            "maximum number of pipelined requests in a row").what("number"),
        flag("cache-status", "", Switch(|d| &mut d.config.cache_status),
            "add the fields Cache-Status and X-Cache to responses"),
    ]),
    ("workers and memory", &[
        flag("workers", "n", Value(|d| &mut d.config.workers),
            "number of worker threads; auto means one per CPU").what("number of workers"),
        flag("pin-cpus", "list", Value(|d| &mut d.config.pin),
            "bind workers to CPUs: auto, or a list such as 0,2-5").what("cpu list").default("not bound"),
        flag("io", "engine", Value(|d| &mut d.config.io),
            "event loop of the workers: auto, uring (io_uring) or poll (readiness: epoll, event ports)"),
        flag("small-body", "size", Number(|d| &mut d.config.limits.files.small_body, 0..=ANY),
            "maximum size of a file whose body is kept in memory"),
        flag("small-body-memory", "size", Number(|d| &mut d.config.limits.files.body_memory, 0..=ANY),
            "per-worker memory for bodies of small files"),
        flag("open-files", "n", Limit(|d| &mut d.config.limits.files.open_files, 0, "auto"),
            "per-worker number of stored files that are kept open").what("number of files"),
        flag("look-up-time", "time", Time(|d| &mut d.config.limits.files.look_up_time),
            "how long the path of an open file is trusted before it is looked up again"),
    ]),
    ("process", &[
        flag("sandbox", "when", Value(|d| &mut d.config.sandbox),
            "restrict where the process may write (Landlock): auto, on or off").what("sandbox"),
        flag("user", "user", Late(|d| &mut d.late.user, |c| c.account.as_ref().and_then(|account| account.user).map_or_else(String::new, |id| id.to_string())),
            "drop privileges to this user (name or number) after binding the port"),
        flag("group", "group", Late(|d| &mut d.late.group, |c| c.account.as_ref().map_or_else(String::new, |account| account.group.to_string())),
            "drop privileges to this group (name or number)").default("the group of --user"),
        flag("drain-timeout", "time", Time(|d| &mut d.config.limits.drain_time),
            "how long in-flight transfers may continue after a stop signal"),
        flag("print-config", "", Action,
            "print the configuration in force and exit"),
        flag("generate", "document", Action,
            "print the man page (man), shell completions (bash, zsh, fish) or the option tables (reference), and exit"),
    ]),
];
