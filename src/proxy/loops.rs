//! Requests that come back to us: by the way to the origin, or by a redirect that we have followed.

use std::sync::LazyLock;

use crate::downstream::head::{NAME, VIA};
use crate::http::fields::Fields;
use crate::http::request::RequestHead;

/// What tells this process from others of its name, as a comment in the Via of its requests.
pub static TOKEN: LazyLock<String> = LazyLock::new(|| {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    format!("({:016x})", high ^ low)
});
/// Programs of this name in a row that are taken for a chain. More must be a loop, in which somebody
/// removes comments from Via.
const LONGEST_CHAIN: usize = 16;

/// The field that shows a request as one that has been here before (RFC 8586).
pub const LOOP_FIELD: &str = "CDN-Loop";

/// How this process names itself to the servers that it is redirected to.
#[derive(Debug)]
pub struct Name(String);

impl Name {
    /// A name that no other process has.
    pub fn unique() -> Self {
        Self(format!("fs-caching-server-{}", uuid::Uuid::new_v4().simple()))
    }

    /// Has one of our own requests, sent after a redirect, come back to us?
    pub fn is_in(&self, fields: &Fields) -> bool {
        fields.tokens(LOOP_FIELD).any(|member| member == self.0.as_bytes())
    }
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Has this request been here before? Its Via shows this very process, or too many of its kind.
pub fn has_looped(request: &RequestHead) -> bool {
    let named = |member: &[u8]| {
        let mut words = member.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        words.nth(1).is_some_and(|by| by == NAME.as_bytes())
    };
    let ours = |member: &[u8]| member.ends_with(TOKEN.as_bytes());
    let mut chain = request.fields.tokens("via").filter(|member| named(member));
    chain.by_ref().take(LONGEST_CHAIN).any(ours) || chain.next().is_some()
}

/// The value of a field, or without this process's mark if it is our Via.
pub fn unmarked<'a>(name: &[u8], value: &'a [u8]) -> &'a [u8] {
    let marked = name.eq_ignore_ascii_case(b"via") && value.ends_with(TOKEN.as_bytes());
    if marked { VIA } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::{HeadLimits, parse};

    fn with_via(lines: &[&str]) -> RequestHead {
        let via: String = lines.iter().map(|line| format!("Via: {line}\r\n")).collect();
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{via}\r\n");
        parse(text.as_bytes(), &HeadLimits::default(), &mut 0).unwrap().unwrap().0
    }

    #[test]
    fn rfc9110_7_6_3_a_request_that_came_back_is_known_by_its_via() {
        let ours = format!("1.1 fs-caching-server {}", *TOKEN);
        let theirs = "1.1 fs-caching-server (0123456789abcdef)";
        for (lines, looped) in [
            (&[][..], false),
            (&["1.1 other"], false),
            (&[theirs], false),
            (&[theirs, "1.0 other, 1.1 fs-caching-server"], false),
            (&[&ours], true),
            (&["1.0 first", &ours], true),
            (&[&format!("1.0 first, {ours}, {theirs}")], true),
            // The token alone, or under another name, is not ours.
            (&[TOKEN.as_str()], false),
            (&[&format!("1.1 other {}", *TOKEN)], false),
        ] {
            assert_eq!(has_looped(&with_via(lines)), looped, "{lines:?}");
        }
        assert!(!has_looped(&with_via(&["1.1 fs-caching-server"; LONGEST_CHAIN])));
        assert!(has_looped(&with_via(&["1.1 fs-caching-server"; LONGEST_CHAIN + 1])));
    }
}
