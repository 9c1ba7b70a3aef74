//! What an unsafe request makes stale (RFC 9111 section 4.4).

use crate::http::fields::Fields;
use crate::http::url::Url;

/// Does a response with this status mean that something may have changed?
pub fn is_success(status: u16) -> bool {
    (200..400).contains(&status)
}

/// The targets (path and query) whose stored responses are invalid after a request to `target` that got the
/// response `answer`: itself, and what Location and Content-Location name on the same site.
///
/// `sites` are the authorities under which the origin is known, `prefix` is the path in front of
/// every target there.
pub fn targets(target: &[u8], answer: &Fields, sites: &[&[u8]], prefix: &str) -> Vec<Vec<u8>> {
    let mut found = vec![target.to_vec()];
    for name in ["location", "content-location"] {
        let Some(named) =
            answer.only(name).and_then(|value| resolve(value.trim_ascii(), target, sites, prefix))
        else {
            continue;
        };
        if !found.contains(&named) {
            found.push(named);
        }
    }
    found
}

/// The target that a reference stands for, if it is one of this site. The scheme does not count: both lead to it.
fn resolve(reference: &[u8], base: &[u8], sites: &[&[u8]], prefix: &str) -> Option<Vec<u8>> {
    let site = sites.first()?;
    let base = Url::parse(&[&b"http://"[..], site, prefix.as_bytes(), base].concat()).ok()?;
    let url = base.join(reference).ok()?;
    let here = sites.iter().any(|site| site.eq_ignore_ascii_case(url.authority.as_bytes()));
    here.then(|| url.below(prefix)).flatten().map(|url| url.target().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(location: &str, prefix: &str) -> Option<String> {
        let answer = Fields::from_iter([("Location", location)]);
        let found = targets(b"/a/b?q", &answer, &[b"origin:81", b"cache.test"], prefix);
        found.get(1).map(|target| String::from_utf8_lossy(target).into_owned())
    }

    #[test]
    fn rfc9111_4_4_the_target_itself_and_what_it_names_on_the_same_site() {
        let answer = Fields::from_iter([("Location", "/x"), ("Content-Location", "/y?z")]);
        assert_eq!(targets(b"/a?b", &answer, &[b"origin"], ""), [&b"/a?b"[..], b"/x", b"/y?z"]);
        for (location, prefix, target) in [
            ("/x", "", Some("/x")),
            ("x", "", Some("/a/x")),
            ("?y", "", Some("/a/b?y")),
            ("x:y", "", None),
            ("http://origin:81/x#f", "", Some("/x")),
            ("HTTPS://Cache.Test?q", "", Some("/?q")),
            ("//origin:81", "", Some("/")),
            ("http://origin/x", "", None),
            ("http://elsewhere/x", "", None),
            ("/p/x", "/p", Some("/x")),
            ("/px", "/p", None),
            ("/q/x", "/p", None),
            ("/p/../x", "/p", None),
            ("/p/y/../x?z/../w", "/p", Some("/x?z/../w")),
            ("../x", "", Some("/x")),
            ("../../x", "", Some("/x")),
            ("../x", "/p", Some("/x")),
            ("../../x", "/p", None),
            ("../../p/x", "/p", Some("/x")),
            ("http://origin:81/p/../q", "/p", None),
            ("", "", None),
        ] {
            assert_eq!(named(location, prefix).as_deref(), target, "{location}");
        }
    }
}
