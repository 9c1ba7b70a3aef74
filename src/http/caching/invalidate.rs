//! What an unsafe request makes stale (RFC 9111 section 4.4).

use crate::http::fields::Fields;
use crate::http::url::without_dots;

/// Does an answer with this status mean that something may have changed?
pub fn is_success(status: u16) -> bool {
    (200..400).contains(&status)
}

/// The targets (path and query) whose stored answers are stale after a request to `target` that was
/// answered with `answer`: itself, and what Location and Content-Location name on the same site.
///
/// `sites` are the authorities under which the origin is known, `prefix` is the path in front of
/// every target there.
pub fn targets(target: &[u8], answer: &Fields, sites: &[&[u8]], prefix: &[u8]) -> Vec<Vec<u8>> {
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

/// The target that a reference stands for, if it is one of this site.
fn resolve(reference: &[u8], base: &[u8], sites: &[&[u8]], prefix: &[u8]) -> Option<Vec<u8>> {
    let reference = reference.split(|&byte| byte == b'#').next().unwrap_or_default();
    let lower = reference.to_ascii_lowercase();
    let authority = [&b"http://"[..], b"https://", b"//"].into_iter().find(|s| lower.starts_with(s));
    if let Some(scheme) = authority {
        let rest = &reference[scheme.len()..];
        let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
        let here = sites.iter().any(|site| site.eq_ignore_ascii_case(&rest[..end]));
        return here.then(|| below(prefix, &rest[end..])).flatten();
    }
    if reference.starts_with(b"/") {
        return below(prefix, reference);
    }
    if reference.is_empty() {
        return Some(base.to_vec());
    }
    let has_scheme = reference
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && !b"+-.".contains(byte))
        .is_some_and(|at| reference[at] == b':');
    if has_scheme {
        return None;
    }
    let path = base.split(|&byte| byte == b'?').next().unwrap_or_default();
    let directory = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let kept = if reference.starts_with(b"?") { path } else { &path[..directory] };
    below(prefix, &[prefix, kept, reference].concat())
}

/// What a target at the origin is below the prefix, its dot segments resolved (RFC 3986 section 5.2.4): with them it may
/// lie elsewhere.
fn below(prefix: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let (path, query) = target.split_at(target.iter().position(|&byte| byte == b'?').unwrap_or(target.len()));
    let path = without_dots(std::str::from_utf8(path).ok()?);
    let target = [path.as_bytes(), query].concat();
    let rest = target.strip_prefix(prefix)?;
    match rest.first() {
        Some(b'/') => Some(rest.to_vec()),
        Some(b'?') | None => Some([b"/", rest].concat()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(location: &str, prefix: &str) -> Option<String> {
        let answer = Fields::from_iter([("Location", location)]);
        let found = targets(b"/a/b?q", &answer, &[b"origin:81", b"cache.test"], prefix.as_bytes());
        found.get(1).map(|target| String::from_utf8_lossy(target).into_owned())
    }

    #[test]
    fn rfc9111_4_4_the_target_itself_and_what_it_names_on_the_same_site() {
        let answer = Fields::from_iter([("Location", "/x"), ("Content-Location", "/y?z")]);
        assert_eq!(targets(b"/a?b", &answer, &[], b""), [&b"/a?b"[..], b"/x", b"/y?z"]);
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
