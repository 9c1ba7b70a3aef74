//! Which responses may be stored (RFC 9111 section 3).

use super::directives::{Listed, ResponseDirectives};
use super::freshness::{explicit, is_heuristically_cacheable, lifetime};
use super::stored::StoredHead;
use super::{IfError, Policy};
use crate::http::fields::Fields;
use crate::http::response::ResponseHead;

/// Why a response is not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotStorable {
    /// `no-store`.
    NoStore,
    /// `private`.
    Private,
    /// The request had Authorization, and the response does not allow a shared cache to store it.
    Authorization,
    /// A part of a response, or about a response that is stored elsewhere.
    Partial,
    /// Nothing allows its reuse, or it could never be reused.
    NoUse,
}

/// May a shared cache store the response to a GET with the fields `request`?
pub fn may_store(answer: &ResponseHead, request: &Fields, targeted: bool) -> Result<(), NotStorable> {
    let directives = ResponseDirectives::of(&answer.fields, targeted);
    if matches!(answer.status, 100..=199 | 206 | 304) {
        return Err(NotStorable::Partial);
    }
    let understood = is_understood(answer.status);
    // A cache that understands the status ignores no-store (RFC 9111 section 5.2.2.3).
    if directives.must_understand && !understood || directives.no_store && !directives.must_understand {
        return Err(NotStorable::NoStore);
    }
    if directives.private == Listed::All {
        return Err(NotStorable::Private);
    }
    let shared = directives.public || directives.must_revalidate || directives.s_maxage.is_some();
    if request.contains("authorization") && !shared {
        return Err(NotStorable::Authorization);
    }
    let said = explicit(&answer.fields, targeted, 0).is_some() || directives.public;
    if said || is_heuristically_cacheable(answer.status) { Ok(()) } else { Err(NotStorable::NoUse) }
}

/// Is it a status whose rules for caches this program knows (RFC 9110 section 15, RFC 6585)?
fn is_understood(status: u16) -> bool {
    matches!(status, 100 | 101 | 200..=206 | 300..=304 | 307 | 308 | 400 | 401 | 403..=406 | 408..=417)
        || matches!(status, 421 | 422 | 426 | 428 | 429 | 431 | 451 | 500..=505 | 507 | 508 | 511)
}

/// May this response update a stored one that has the `status`? Only if it could have been stored itself with that
/// status.
pub fn may_update(status: u16, answer: &ResponseHead, request: &Fields, targeted: bool) -> bool {
    let as_kept = ResponseHead { status, ..answer.clone() };
    // A 304 need not repeat what made it of use.
    matches!(may_store(&as_kept, request, targeted), Ok(()) | Err(NotStorable::NoUse))
}

/// Is it of use later: is it fresh for a time, can it be validated, or may it be served when the origin fails?
pub fn is_useful(head: &StoredHead, policy: &Policy) -> bool {
    lifetime(head, policy) > 0
        || head.has_validator()
        || head.status == 200 && policy.if_error != IfError::AsSaid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::Version;

    fn keep(status: u16, said: &[(&str, &str)], request: &[(&str, &str)]) -> Result<(), NotStorable> {
        let fields = said.iter().copied().collect();
        let answer = ResponseHead {
            status,
            reason: b"".as_slice().into(),
            version: Version::Http11,
            fields,
            source: None,
        };
        may_store(&answer, &request.iter().copied().collect(), true)
    }

    #[test]
    fn rfc9111_3_what_may_be_kept() {
        let cc = |value| [("Cache-Control", value)];
        for (status, said, verdict) in [
            (200, &[][..], Ok(())),
            (404, &[], Ok(())),
            (403, &[], Err(NotStorable::NoUse)),
            (403, &cc("max-age=9"), Ok(())),
            (403, &cc("public"), Ok(())),
            (403, &[("Expires", "0")], Ok(())),
            (599, &cc("max-age=9"), Ok(())),
            (206, &cc("max-age=9"), Err(NotStorable::Partial)),
            (304, &cc("max-age=9"), Err(NotStorable::Partial)),
            (200, &cc("no-store, max-age=9"), Err(NotStorable::NoStore)),
            (200, &cc("private, max-age=9"), Err(NotStorable::Private)),
            (200, &cc("private=\"a\", max-age=9"), Ok(())),
        ] {
            assert_eq!(keep(status, said, &[]), verdict, "{status} {said:?}");
        }
    }

    #[test]
    fn rfc9111_5_2_2_3_must_understand_goes_before_no_store() {
        let said = [("Cache-Control", "max-age=9, no-store, must-understand")];
        assert_eq!(keep(200, &said, &[]), Ok(()));
        assert_eq!(keep(599, &said, &[]), Err(NotStorable::NoStore));
    }

    #[test]
    fn rfc9111_3_5_an_answer_to_one_user_is_kept_only_if_it_says_so() {
        let user = [("Authorization", "x")];
        for (said, verdict) in [
            ("max-age=9", Err(NotStorable::Authorization)),
            ("max-age=9, public", Ok(())),
            ("max-age=9, must-revalidate", Ok(())),
            ("s-maxage=9", Ok(())),
            ("private, s-maxage=9", Err(NotStorable::Private)),
        ] {
            assert_eq!(keep(200, &[("Cache-Control", said)], &user), verdict, "{said}");
        }
    }

    #[test]
    fn rfc9213_2_1_the_targeted_field_alone_counts() {
        let said = [("Cache-Control", "no-store"), ("CDN-Cache-Control", "max-age=9")];
        assert_eq!(keep(200, &said, &[]), Ok(()));
        let said = [("Cache-Control", "max-age=9"), ("CDN-Cache-Control", "private")];
        assert_eq!(keep(200, &said, &[]), Err(NotStorable::Private));
    }
}
