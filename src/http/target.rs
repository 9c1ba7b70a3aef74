//! Request targets and the authorities in them and in Host.

use super::head::digits;
use super::message::Method;
use memchr::{memchr2, memrchr};
use std::net::Ipv6Addr;

/// Is `target` in origin-form, absolute-form or, for OPTIONS, asterisk-form (RFC 9112 section 3.2)?
///
/// Bytes that belong encoded but cannot be misread, such as `|` or `"` or those above 127, are let through.
pub(super) fn is_target(method: &Method, target: &[u8]) -> bool {
    // All bytes in any case: a loop without an early exit is vectorised.
    let bad = |byte: u8| byte <= b' ' || byte == b'#' || byte == 0x7f;
    if target.iter().fold(false, |found, &byte| found | bad(byte)) {
        return false;
    }
    match (target, split_absolute(target)) {
        ([b'/', ..], _) => true,
        (b"*", _) => method.as_str() == "OPTIONS",
        (_, Some((authority, _))) => is_authority(authority),
        _ => false,
    }
}

/// Authority of an `http` or `https` absolute-form, and what follows it.
pub(super) fn split_absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let after = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, after) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(after)
    })?;
    Some(after.split_at(memchr2(b'/', b'?', after).unwrap_or(after.len())))
}

/// Is `text` a host with or without a port (RFC 3986 section 3.2)? User names are refused.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match memrchr(b':', text) {
        Some(colon) if !text[colon..].contains(&b']') => (&text[..colon], &text[colon + 1..]),
        _ => (text, &b""[..]),
    };
    let port_fits = digits(port).is_some_and(|number| number.parse::<u16>().is_ok());
    let host_fits = match host {
        [b'[', address @ .., b']'] => is_ipv6(address),
        _ => !host.is_empty() && host.iter().all(|&byte| is_name_byte(byte)),
    };
    host_fits && (port.is_empty() || port_fits)
}

fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// A table, since every request has a Host and nearly all of its bytes are looked up here.
const NAME_BYTES: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0_u8);
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let (others, mut at) = (b"-._~%!$&'()*+,;=", 0);
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

fn is_name_byte(byte: u8) -> bool {
    NAME_BYTES[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9112_3_2_targets() {
        for target in [
            "/",
            "//",
            "/?",
            "/a?b=/?c",
            "/a%20b%2F..",
            "/a/../b",
            "/a|b\"c<d>e^f`g{h}i[j]k\\l",
            "/caf\u{e9}",
            "http://h",
            "http://h/",
            "http://h?x",
            "HTTP://h:80/x?y",
            "https://[::1]:8443/x",
        ] {
            assert!(is_target(&Method::Get, target.as_bytes()), "{target}");
        }
        for target in [
            "",
            "*",
            "a",
            "?x",
            "#",
            "/#x",
            "/a b",
            " /",
            "/a\tb",
            "/a\rb",
            "/a\0",
            "/a\x7f",
            "h:80",
            "ftp://h/",
            "http:/h",
            "http://",
            "http:///x",
            "http://:80/",
            "http://user@h/",
            "http://h:x/",
        ] {
            assert!(!is_target(&Method::Get, target.as_bytes()), "{target:?}");
        }
    }

    #[test]
    fn the_asterisk_is_for_options() {
        assert!(is_target(&Method::Other("OPTIONS".into()), b"*"));
        assert!(!is_target(&Method::Head, b"*"));
    }

    #[test]
    fn rfc3986_3_2_authorities() {
        for text in
            ["h", "a.example.", "my_host", "10.0.0.1:8080", "[::1]", "[fe80::1]:80", "h:", "h:0", "h:65535"]
        {
            assert!(is_authority(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            ":",
            ":80",
            "h:65536",
            "h:-1",
            "h:8a",
            "a:b:80",
            "a b",
            "a/b",
            "a@b",
            "a?b",
            "a#b",
            "a\\b",
            "::1",
            "[::1",
            "[]",
            "[x]",
            "[::1]x",
            "[::1]:x",
            "caf\u{e9}",
            "a\"b",
            "<a>",
        ] {
            assert!(!is_authority(text.as_bytes()), "{text}");
        }
    }
}
