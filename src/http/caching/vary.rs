//! For which requests a stored response may be used (RFC 9111 section 4.1).

use crate::http::conditional::SELECTING;
use crate::http::fields::{Fields, is_hop_by_hop};
use crate::http::message::is_token_byte;

/// The request fields that selected a response, with their values.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Variant(pub Vec<(String, Option<Vec<u8>>)>);

/// Is it a field that the origin gets with one value for all clients, so that it selects nothing?
fn is_ours(name: &str) -> bool {
    name == "host" || SELECTING.contains(&name)
}

/// `Vary: *`: no later request is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unmatched;

impl Variant {
    /// The variant of the response `answer`: `told` are the client's fields that went to the origin. The fields
    /// named `always` select it even where Vary does not list them.
    pub fn of(answer: &Fields, told: &Fields, always: &[&str]) -> Result<Self, Unmatched> {
        let mut chosen: Vec<(String, Option<Vec<u8>>)> = Vec::new();
        for name in answer.tokens("vary").chain(always.iter().map(|name| name.as_bytes())) {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            if name == "*" {
                return Err(Unmatched);
            }
            if !is_ours(&name) && !chosen.iter().any(|(known, _)| *known == name) {
                let value = normal(told, &name);
                chosen.push((name, value));
            }
        }
        Ok(Self(chosen))
    }

    /// Does it match a request with these fields?
    pub fn matches(&self, request: &Fields) -> bool {
        self.0.iter().all(|(name, value)| normal(request, name) == *value)
    }

    /// Does it match every request?
    pub fn is_only_one(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads a list of request fields that may select a response, separated by commas.
pub fn names(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
    names
        .map(|name| match name.as_str() {
            "authorization" => Err("Authorization goes along anyway".to_owned()),
            own if is_ours(own) || is_hop_by_hop(own.as_bytes()) || own.starts_with("content-") => {
                Err(format!("{own} does not depend on the client"))
            }
            token if token.bytes().all(is_token_byte) => Ok(name),
            other => Err(format!("{other} is no name of a field")),
        })
        .collect()
}

/// A field's value over all its lines: blanks around commas do not count, nor does the case of
/// languages (RFC 4647 section 2). `None` where the field is not there, and for an Accept that says no more than that
/// (RFC 9110 section 12.5.1).
fn normal(request: &Fields, name: &str) -> Option<Vec<u8>> {
    let members: Vec<&[u8]> = request.tokens(name).collect();
    let joined = request.contains(name).then(|| members.join(&b", "[..]))?;
    match name {
        "accept" if joined == b"*/*" => None,
        "accept-language" => Some(joined.to_ascii_lowercase()),
        _ => Some(joined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(vary: &[&str], first: &[(&str, &str)], second: &[(&str, &str)]) -> bool {
        let answer = vary.iter().map(|line| ("Vary", line)).collect();
        Variant::of(&answer, &first.iter().copied().collect(), &[])
            .unwrap()
            .matches(&second.iter().copied().collect())
    }

    #[test]
    fn rfc9111_4_1_the_named_fields_must_say_the_same() {
        assert!(matches(&["Foo"], &[("foo", "1"), ("x", "1")], &[("FOO", "1"), ("x", "2")]));
        assert!(!matches(&["Foo"], &[("foo", "1")], &[("foo", "2")]));
        assert!(!matches(&["Foo"], &[("foo", "1")], &[]));
        assert!(!matches(&["Foo"], &[], &[("foo", "1")]));
        assert!(matches(&["Foo"], &[], &[]));
        assert!(!matches(&["a, b", "c"], &[("c", "1")], &[("c", "2")]));
        assert!(matches(&["a"], &[("a", "1, 2")], &[("a", " 1"), ("a", "2 ")]));
        assert!(!matches(&["a"], &[("a", "1, 2")], &[("a", "2, 1")]));
        assert!(matches(
            &["Accept-Language"],
            &[("accept-language", "en, DE")],
            &[("accept-language", "En ,de")]
        ));
        assert!(!matches(&["Foo"], &[("foo", "a")], &[("foo", "A")]));
    }

    #[test]
    fn what_we_ask_the_origin_ourselves_does_not_count() {
        assert!(matches(&["Accept-Encoding"], &[("accept-encoding", "gzip")], &[]));
        let vary = Fields::from_iter([("Vary", "accept-encoding")]);
        assert!(Variant::of(&vary, &Fields::new(), &[]).unwrap().is_only_one());
    }

    #[test]
    fn names_of_fields_that_go_along() {
        assert_eq!(names(" Foo,X-Bar ,"), Ok(vec!["foo".to_owned(), "x-bar".to_owned()]));
        for bad in ["a b", "Range", "Connection", "Authorization", "Content-Length", "a:b"] {
            assert!(names(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_that_always_count_need_no_vary_and_any_type_is_said_in_two_ways() {
        let variant = |told: &[(&str, &str)]| {
            Variant::of(&Fields::new(), &told.iter().copied().collect(), &["accept"]).unwrap()
        };
        let accepts = |value| Fields::from_iter([("Accept", value)]);
        assert!(
            variant(&[]).matches(&accepts("*/*")) && variant(&[("Accept", "*/*")]).matches(&Fields::new())
        );
        assert!(!variant(&[]).matches(&accepts("text/html")));
        assert!(variant(&[("Accept", "text/html")]).matches(&accepts("text/html")));
        assert!(!variant(&[("Accept", "text/html")]).matches(&Fields::new()));
    }

    #[test]
    fn rfc9111_4_1_a_star_never_matches() {
        for vary in ["*", "*, *", ", *", "a, *", "*, a"] {
            let vary = Fields::from_iter([("Vary", vary)]);
            assert_eq!(Variant::of(&vary, &Fields::new(), &[]), Err(Unmatched));
        }
    }
}
