//! What the program was told to do, checked: nothing here is a raw string that could still be wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::http::caching::Policy;
use crate::key::percent_decode;
use crate::pattern::Pattern;
use crate::preset::{Preset, Rules};

mod fills;
mod rights;

pub use fills::{Abandon, Fills};
pub use rights::{Account, Sandbox};

/// Everything the server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where files are cached, as the operator wrote it.
    pub cache_dir: PathBuf,
    /// Whether debug lines go to stderr.
    pub debug: bool,
    /// Name or address to listen on.
    pub host: String,
    /// Port to listen on; 0 lets the system choose.
    pub port: u16,
    /// Which paths are cached.
    pub pattern: Pattern,
    /// The package sites whose layouts were asked for.
    pub presets: Vec<&'static Preset>,
    /// Which of their indexes belong together, and which tell the sizes of packages.
    pub rules: Rules,
    /// Where missing files come from.
    pub origin: Origin,
    /// How many threads serve.
    pub workers: Workers,
    /// Which processors they run on.
    pub pin: Pinning,
    /// How they wait for sockets.
    pub io: IoChoice,
    /// Every bound on time and memory.
    pub limits: Limits,
    /// Whether redirects on cacheable paths are followed.
    pub follow_redirects: bool,
    /// Whether a Location on the origin becomes one on us.
    pub rewrite_location: bool,
    /// Whether answers tell what the cache did (RFC 9211).
    pub cache_status: bool,
    /// What becomes of a fill that does not go straight through.
    pub fills: Fills,
    /// The class of paths that are kept and checked, if there is one.
    pub revalidate: Option<Revalidate>,
    /// The origin is never asked.
    pub offline: bool,
    /// What the process may write to.
    pub sandbox: Sandbox,
    /// Whom it runs as, once it listens.
    pub account: Option<Account>,
}

/// Paths whose answers are kept and checked with the origin (RFC 9111).
#[derive(Debug, Clone)]
pub struct Revalidate {
    /// Which they are.
    pub pattern: Pattern,
    /// What counts as fresh, and what may be served when the origin fails.
    pub policy: Policy,
    /// Bytes of answers that are kept in memory because no plain file can stand for them. One of
    /// them may take an eighth.
    pub memory: usize,
}

impl Revalidate {
    /// Some thousands of small answers.
    pub const MEMORY: u64 = 64 * 1024 * 1024;
}

/// How many workers serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One for each processor the process may use.
    Auto,
    /// This many.
    Count(NonZeroUsize),
}

impl Workers {
    /// More threads than this help nobody and cost each its ring, pool and caches.
    pub const MAX: usize = 1024;

    /// Reads `auto` or a number.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => number(text)
                .filter(|&count| count <= Self::MAX)
                .and_then(NonZeroUsize::new)
                .map(Self::Count)
                .ok_or_else(|| format!("expected auto or a number from 1 to {}", Self::MAX)),
        }
    }
}

/// Which processors the workers are bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinning {
    /// None: the scheduler moves them.
    Off,
    /// Worker i runs on the i-th processor the process may use.
    Auto,
    /// Worker i runs on the i-th processor of this list.
    List(Vec<usize>),
}

impl Pinning {
    /// The number of processors a standard affinity mask can name.
    const CPUS: usize = 1024;

    /// Reads `auto` or a list such as `0,2-5`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last && last < Self::CPUS => cpus.extend(first..=last),
                _ => {
                    return Err(format!(
                        "expected auto or processors from 0 to {} such as 0,2-5",
                        Self::CPUS - 1
                    ));
                }
            }
        }
        Ok(Self::List(cpus))
    }
}

/// Which backend waits for sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring where the kernel allows it, else readiness polling.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// Readiness polling.
    Poll,
}

impl IoChoice {
    /// Reads `auto`, `uring` or `poll`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "poll" => Ok(Self::Poll),
            _ => Err("expected auto, uring or poll".to_owned()),
        }
    }
}

/// Every limit in one place. None ends a transfer that makes progress, however long it takes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request or response head. Origins with long cookies and policies stay well below it.
    pub head_bytes: usize,
    /// Fields in a head. Browsers send some 20, origins some 40.
    pub head_fields: usize,
    /// Bytes of a request target. Package URLs are short; signed URLs reach a few KiB.
    pub target_bytes: usize,
    /// From the first byte of a request head to its last: what a trickling client may take.
    pub head_time: Duration,
    /// Between two requests of a connection. Longer than the pauses of a package manager between packages.
    pub idle_time: Duration,
    /// Without a single byte of progress in a body, either way. Longer than a radio link's or a sleepy disk's pause.
    pub stall_time: Duration,
    /// To open a connection to the origin, over all its addresses: above three SYN retries.
    pub connect_time: Duration,
    /// From the request to the origin's head. Mirrors that fetch on demand answer late.
    pub response_head_time: Duration,
    /// Bytes beyond a fill from which on a range counts as far ahead of it. Below, waiting is cheaper for all.
    pub far_range: u64,
    /// For open transfers once a stop was asked. Below the patience of service managers.
    pub drain_time: Duration,
    /// Open files and bodies in memory.
    pub files: FileLimits,
    /// Client connections at once, over all workers; `None` derives it from the descriptor limit.
    pub connections: Option<usize>,
    /// Of one client's address; `None` does not count.
    pub client_connections: Option<usize>,
    /// Requests at the origin at once, over all workers; `None` derives it from the descriptor limit.
    pub origin_connections: Option<usize>,
    /// Files being fetched at once; beyond it misses are passed on. `None`: as many as have a place at
    /// the origin.
    pub fills: Option<usize>,
    /// Requests in a row that a client sends without having its answers. What has come of them takes
    /// [`Self::head_bytes`] and one read in any case, so `None` does not count.
    pub pipelined: Option<usize>,
    /// Bytes of all heads that are not complete, of one worker. A thousand clients with the longest
    /// head each.
    pub head_memory: usize,
    /// Bytes a second that a client must take or give of a body, measured while we wait for it, over
    /// [`Self::stall_time`]; 0 asks for nothing.
    pub min_rate: u64,
    /// Idle connections to the origin that each worker keeps.
    pub idle_origin_connections: usize,
    /// How long they are kept: below the 5 s after which common origins close, so that few are found dead.
    pub origin_idle_time: Duration,
    /// Whole files that may wait for their names, each with a descriptor open. A disk that takes a
    /// tenth of a second for a batch has room for ten thousand a second.
    pub pending_commits: usize,
}

/// What each worker keeps ready of the files that are asked for.
#[derive(Debug, Clone, Copy)]
pub struct FileLimits {
    /// Bytes of the longest body that is kept in memory. Above it, sendfile from the page cache is as cheap.
    pub small_body: u64,
    /// Bytes of all such bodies of a worker.
    pub body_memory: usize,
    /// Open files of a worker; `None` derives it from the descriptor limit.
    pub open_files: Option<usize>,
    /// How long the look-up of a name holds. What happens to the file itself shows at once.
    pub look_up_time: Duration,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            small_body: 16 * 1024,
            body_memory: 32 * 1024 * 1024,
            open_files: None,
            look_up_time: Duration::from_secs(1),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            head_fields: 256,
            target_bytes: 16 * 1024,
            head_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(120),
            stall_time: Duration::from_secs(60),
            connect_time: Duration::from_secs(10),
            response_head_time: Duration::from_secs(60),
            far_range: 8 * 1024 * 1024,
            drain_time: Duration::from_secs(20),
            files: FileLimits::default(),
            connections: None,
            client_connections: None,
            origin_connections: None,
            fills: None,
            pipelined: None,
            head_memory: 64 * 1024 * 1024,
            min_rate: 0,
            idle_origin_connections: 32,
            origin_idle_time: Duration::from_secs(4),
            pending_commits: 1024,
        }
    }
}

/// The upstream, or a server that it redirects to: http or https.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Whether to speak TLS.
    pub https: bool,
    /// Name or address, an IPv6 address without its brackets.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// Value of the Host field: with the port only where the URL spells it out.
    pub host_field: String,
    /// Path inside the URL without slashes at its end: empty or `/a/b`.
    pub prefix: String,
    /// The URL as logs show it: without slashes at its end, credentials hidden.
    pub url: String,
    /// Value of an Authorization field, for requests that bring none of their own.
    pub authorization: Option<String>,
}

impl Origin {
    /// Reads `scheme://[user[:password]@]host[:port][/path]`.
    pub fn parse(url: &str) -> Result<Self, String> {
        if let Some(c) = url.chars().find(|&c| c <= ' ' || c == '\\' || !c.is_ascii() || c.is_control()) {
            return Err(format!("the character {c:?} must be percent-encoded"));
        }
        let url = url.trim_end_matches('/');
        let (scheme, rest) = url.split_once("://").ok_or("expected http://HOST or https://HOST")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err("only http and https are known".to_owned()),
        };
        if rest.contains(['?', '#']) {
            return Err("a query or fragment cannot be part of it".to_owned());
        }
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (userinfo, address) = match authority.rsplit_once('@') {
            Some((userinfo, address)) => (Some(userinfo), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address)?;
        Ok(Self {
            https,
            port: port.unwrap_or(if https { 443 } else { 80 }),
            host_field: address.to_ascii_lowercase(),
            host,
            prefix: prefix.to_owned(),
            url: mask(url),
            authorization: userinfo.map(basic).transpose()?,
        })
    }

    /// Does a connection to it serve `other` as well?
    pub fn is_same_server(&self, other: &Self) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }

    /// The target of the upstream request for a client's target, which is taken exactly as it came.
    pub fn target(&self, origin_form: &[u8]) -> Vec<u8> {
        match origin_form {
            // Asks about the server, so there is no path to put the prefix before.
            b"*" => b"*".to_vec(),
            path => [self.prefix.as_bytes(), path].concat(),
        }
    }
}

/// Hides the credentials of a URL, whether or not the rest of it is well-formed.
pub(crate) fn mask(url: &str) -> String {
    let start = url.find("://").map_or(0, |colon| colon + 3);
    let end = url[start..].find('/').map_or(url.len(), |slash| start + slash);
    match url[start..end].rfind('@') {
        Some(at) => format!("{}***{}", &url[..start], &url[start + at..]),
        None => url.to_owned(),
    }
}

/// Splits `host[:port]` or `[v6][:port]`; the host comes back lower-cased and without brackets.
fn split_port(address: &str) -> Result<(String, Option<u16>), String> {
    let (host, rest) = match address.strip_prefix('[') {
        Some(bracketed) => {
            let (v6, rest) = bracketed.split_once(']').ok_or("\"[\" without \"]\"")?;
            v6.parse::<Ipv6Addr>().map_err(|_| format!("\"{v6}\" is no IPv6 address"))?;
            (v6, rest)
        }
        None => {
            let (host, rest) = address.split_at(address.find(':').unwrap_or(address.len()));
            check_name(host)?;
            (host, rest)
        }
    };
    let port = match rest.strip_prefix(':') {
        Some(digits) => {
            Some(port_number(digits).ok_or_else(|| format!("\"{digits}\" is no port from 1 to 65535"))?)
        }
        None if rest.is_empty() => None,
        None => return Err(format!("\"{rest}\" after the address")),
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// Checks a host to listen on: a name or an address, which may have a zone (`fe80::1%eth0`).
pub(crate) fn check_host(host: &str) -> Result<(), String> {
    let address =
        host.split_once('%').filter(|(_, zone)| !zone.is_empty()).map_or(host, |(address, _)| address);
    if address.contains(':') {
        return address.parse::<IpAddr>().map(drop).map_err(|_| "no IPv6 address".to_owned());
    }
    check_name(host)
}

/// Checks a host name or IPv4 address. Underscores are common in the names of containers.
fn check_name(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(label_fits) {
        return Err(format!("\"{host}\" is no host name"));
    }
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(format!("\"{host}\" is no IPv4 address"));
    }
    Ok(())
}

/// A number in plain digits: `parse` alone would also take a sign.
fn number(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn port_number(text: &str) -> Option<u16> {
    number(text).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0)
}

/// The Authorization value for `user[:password]`, percent-encoded as in a URL.
fn basic(userinfo: &str) -> Result<String, String> {
    let mut credentials = percent_decode(userinfo.as_bytes())
        .ok_or("a % in the credentials needs two hexadecimal digits after it")?;
    if !userinfo.contains(':') {
        credentials.push(b':');
    }
    Ok(format!("Basic {}", base64(&credentials)))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_usize, |bits, &byte| bits << 8 | usize::from(byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = char::from(DIGITS[bits >> (18 - 6 * place) & 63]);
            out.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// URL; then https, host, port, Host field, prefix, URL shown.
    #[rustfmt::skip]
    const ORIGINS: &[(&str, bool, &str, u16, &str, &str, &str)] = &[
        ("http://h", false, "h", 80, "h", "", "http://h"),
        ("https://h/", true, "h", 443, "h", "", "https://h"),
        ("HTTP://H.Example:8080///", false, "h.example", 8080, "h.example:8080", "", "HTTP://H.Example:8080"),
        ("http://h:80/a/b//", false, "h", 80, "h:80", "/a/b", "http://h:80/a/b"),
        ("http://10.0.0.1:3128/x", false, "10.0.0.1", 3128, "10.0.0.1:3128", "/x", "http://10.0.0.1:3128/x"),
        ("https://[::1]/p", true, "::1", 443, "[::1]", "/p", "https://[::1]/p"),
        ("http://[2001:DB8::1]:81", false, "2001:db8::1", 81, "[2001:db8::1]:81", "", "http://[2001:DB8::1]:81"),
        ("http://my_origin-1.", false, "my_origin-1.", 80, "my_origin-1.", "", "http://my_origin-1."),
        ("http://h//a/%41@b:c", false, "h", 80, "h", "//a/%41@b:c", "http://h//a/%41@b:c"),
        ("http://u:p@h/a", false, "h", 80, "h", "/a", "http://***@h/a"),
    ];

    #[test]
    fn a_lone_fill_is_abandoned_below_its_percentage() {
        let below = Abandon::parse("60").unwrap();
        for (policy, stored, length, applies) in [
            (Abandon::Never, 0, Some(100), false),
            (Abandon::Always, 99, Some(100), true),
            (below, 59, Some(100), true),
            (below, 60, Some(100), false),
            (below, u64::MAX, None, true),
            (below, u64::MAX / 2, Some(u64::MAX), true),
        ] {
            assert_eq!(policy.applies(stored, length), applies, "{policy:?} {stored} {length:?}");
        }
        for bad in ["", "0", "101", "+5", "some", "60%"] {
            assert!(Abandon::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins() {
        for &(url, https, host, port, host_field, prefix, shown) in ORIGINS {
            let origin = Origin::parse(url).unwrap();
            assert_eq!((origin.https, origin.host.as_str(), origin.port), (https, host, port), "{url}");
            assert_eq!((origin.host_field.as_str(), origin.prefix.as_str()), (host_field, prefix), "{url}");
            assert_eq!(origin.url, shown);
        }
    }

    #[test]
    fn refused_origins() {
        let cases = [
            ("h", "expected http://HOST"),
            ("http:/h", "expected http://HOST"),
            ("http://", "expected http://HOST"),
            ("http:///x", "host is missing"),
            ("http://:80", "host is missing"),
            ("ftp://h", "only http and https"),
            ("http://h?x", "query"),
            ("http://h/a#b", "fragment"),
            ("http://h/a b", "' '"),
            ("http://h/\n", "'\\n'"),
            ("http://h\\x", "'\\\\'"),
            ("http://h\u{e9}", "'\u{e9}'"),
            ("http://h:", "is no port"),
            ("http://h:0", "is no port"),
            ("http://h:+1", "is no port"),
            ("http://h:65536", "is no port"),
            ("http://::1", "host is missing"),
            ("http://[::1", "\"[\" without"),
            ("http://[::1]x", "after the address"),
            ("http://[1.2.3.4]", "no IPv6"),
            ("http://a..b", "no host name"),
            ("http://a,b", "no host name"),
            ("http://256.1.1.1", "no IPv4"),
            ("http://u:%zz@h", "hexadecimal"),
        ];
        for (url, reason) in cases {
            let error = Origin::parse(url).unwrap_err();
            assert!(error.contains(reason) && !error.contains('\n'), "{url}: {error}");
        }
    }

    #[test]
    fn credentials() {
        let cases = [
            ("http://h", None),
            ("http://user:pass@h", Some("Basic dXNlcjpwYXNz")),
            ("http://u%40x:p%3Aw@h", Some("Basic dUB4OnA6dw==")),
            ("http://user@h", Some("Basic dXNlcjo=")),
            ("http://a:b@c@h", Some("Basic YTpiQGM=")),
        ];
        for (url, value) in cases {
            let origin = Origin::parse(url).unwrap();
            assert_eq!(origin.authorization.as_deref(), value);
            assert_eq!((origin.host.as_str(), origin.url.contains("pass")), ("h", false));
        }
        assert_eq!(mask("http://u:secret@h o/@"), "http://***@h o/@");
    }

    #[test]
    fn targets() {
        let target =
            |url: &str, from: &str| String::from_utf8(Origin::parse(url).unwrap().target(from.as_bytes()));
        assert_eq!(target("http://h/a/", "//b/../c?d").unwrap(), "/a//b/../c?d");
        assert_eq!(target("http://h", "/%2e").unwrap(), "/%2e");
        assert_eq!(target("http://h/a", "*").unwrap(), "*");
    }

    #[test]
    fn hosts_to_listen_on() {
        for good in ["0.0.0.0", "::", "::1", "fe80::1%eth0", "localhost", "a_b.c-d."] {
            assert_eq!(check_host(good), Ok(()), "{good}");
        }
        for bad in ["", "[::1]", "a b", "1.2.3", "::g", "a%b", "fe80::1%", ".", "a/b", "h:80", "\u{e9}"] {
            assert!(check_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn choices() {
        let count = |n| NonZeroUsize::new(n).map(Workers::Count).ok_or(String::new());
        assert_eq!(Workers::parse("auto"), Ok(Workers::Auto));
        assert_eq!((Workers::parse("1"), Workers::parse("1024")), (count(1), count(1024)));
        for bad in ["0", "1025", "-1", "+1", "x", "", " 1", "99999999999999999999"] {
            assert!(Workers::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Pinning::parse("auto"), Ok(Pinning::Auto));
        assert_eq!(Pinning::parse("0,2-5,1"), Ok(Pinning::List(vec![0, 2, 3, 4, 5, 1])));
        for bad in ["", ",", "1,", "5-2", "-", "1-", "a", "1024", "0-99999999999", "1-2-3", "+1"] {
            assert!(Pinning::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(IoChoice::parse("auto"), Ok(IoChoice::Auto));
        assert_eq!(
            (IoChoice::parse("uring"), IoChoice::parse("poll")),
            (Ok(IoChoice::Uring), Ok(IoChoice::Poll))
        );
        assert!(IoChoice::parse("Poll").is_err());
    }
}
