//! Where the origin is, and the names and addresses of servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::{Choice, number};
use crate::http::percent::percent_decode;

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
    /// Which requests carry it.
    pub credential_use: CredentialUse,
}

/// Which requests carry the credentials of the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialUse {
    /// GET and HEAD: what only reads (RFC 9110 section 9.2.1).
    Safe,
    /// All methods but TRACE, whose response would show them to the client.
    All,
}

impl Choice for CredentialUse {
    const WORDS: &'static [(Self, &'static str)] = &[(Self::Safe, "safe"), (Self::All, "all")];
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
            credential_use: CredentialUse::Safe,
        })
    }

    /// Does a connection to it serve `other` as well?
    pub fn is_same_server(&self, other: &Self) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }

    /// The URL of a request's target there, for logs.
    pub fn shown(&self, target: &[u8]) -> String {
        let server = self.url.strip_suffix(&self.prefix).unwrap_or(&self.url);
        format!("{server}{}", String::from_utf8_lossy(target))
    }

    /// The target of the upstream request for a target without the prefix.
    pub fn target(&self, origin_form: &[u8]) -> Vec<u8> {
        match origin_form {
            // Asks about the server: no path, so no prefix.
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

/// Splits `host[:port]` or `[v6][:port]`; the host is returned in lower case and without brackets.
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
    Ok(format!("Basic {}", BASE64_STANDARD.encode(credentials)))
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
        let origin = Origin::parse("http://u:p@h/a/").unwrap();
        assert_eq!(origin.shown(&origin.target(b"/b?c")), "http://***@h/a/b?c");
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
}
