//! Which requests a stored answer may answer (RFC 9111 section 4.1).

use crate::http::fields::Fields;

/// The request fields that chose an answer, and what they said.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Variant(pub Vec<(String, Option<Vec<u8>>)>);

/// `Vary: *`: no later request is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unmatched;

impl Variant {
    /// The variant that `answer` is, `request` being the fields it was asked with.
    ///
    /// Accept-Encoding is left out: the origin is always asked with the same one.
    pub fn of(answer: &Fields, request: &Fields) -> Result<Self, Unmatched> {
        let mut chosen: Vec<(String, Option<Vec<u8>>)> = Vec::new();
        for name in answer.tokens("vary") {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            if name == "*" {
                return Err(Unmatched);
            }
            if name != "accept-encoding" && !chosen.iter().any(|(known, _)| *known == name) {
                let value = normal(request, &name);
                chosen.push((name, value));
            }
        }
        Ok(Self(chosen))
    }

    /// Does it answer a request with these fields?
    pub fn matches(&self, request: &Fields) -> bool {
        self.0.iter().all(|(name, value)| normal(request, name) == *value)
    }

    /// Does it answer every request?
    pub fn is_only_one(&self) -> bool {
        self.0.is_empty()
    }
}

/// A field's value over all its lines: blanks around commas do not count, nor does the case of
/// languages (RFC 4647 section 2). `None` where the field is not there.
fn normal(request: &Fields, name: &str) -> Option<Vec<u8>> {
    let members: Vec<&[u8]> = request.tokens(name).collect();
    let joined = request.contains(name).then(|| members.join(&b", "[..]))?;
    Some(if name == "accept-language" { joined.to_ascii_lowercase() } else { joined })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(vary: &[&str], first: &[(&str, &str)], second: &[(&str, &str)]) -> bool {
        let answer = vary.iter().map(|line| ("Vary", line)).collect();
        Variant::of(&answer, &first.iter().copied().collect())
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
        assert!(Variant::of(&vary, &Fields::new()).unwrap().is_only_one());
    }

    #[test]
    fn rfc9111_4_1_a_star_never_matches() {
        for vary in ["*", "*, *", ", *", "a, *", "*, a"] {
            let vary = Fields::from_iter([("Vary", vary)]);
            assert_eq!(Variant::of(&vary, &Fields::new()), Err(Unmatched));
        }
    }
}
