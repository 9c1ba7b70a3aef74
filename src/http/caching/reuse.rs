//! Whether a stored response may be used for a request (RFC 9111 sections 4 and 4.2.4).

use super::directives::{Listed, RequestDirectives, ResponseDirectives};
use super::freshness::{age, lifetime};
use super::stored::StoredHead;
use super::{IfError, Policy};

/// How a stored response may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// As it is: it is fresh.
    Fresh,
    /// As it is: it is stale, and the client accepts that.
    Stale,
    /// As it is, while it is revalidated.
    WhileRevalidate,
    /// Only after validation with the origin.
    Validate,
}

/// Decides at `now`, in seconds since 1970.
pub fn decide(head: &StoredHead, request: &RequestDirectives, now: u64, policy: &Policy) -> Reuse {
    let directives = ResponseDirectives::of(&head.fields, policy.targeted);
    if head.invalid || request.no_cache || directives.no_cache == Listed::All {
        return Reuse::Validate;
    }
    let (age, lifetime) = (age(head, now), lifetime(head, policy));
    // Zero asks for a response of this very moment.
    if request.max_age.is_some_and(|most| age > most || most == 0) {
        return Reuse::Validate;
    }
    if lifetime > age {
        let enough = request.min_fresh.is_none_or(|least| lifetime - age >= least);
        return if enough { Reuse::Fresh } else { Reuse::Validate };
    }
    let stale = age - lifetime;
    let within = |seconds: Option<u64>| seconds.is_some_and(|seconds| stale <= seconds);
    if request.min_fresh.is_some() || is_strict(&directives) {
        Reuse::Validate
    } else if within(request.max_stale) {
        Reuse::Stale
    } else if within(directives.stale_while_revalidate) {
        Reuse::WhileRevalidate
    } else {
        Reuse::Validate
    }
}

/// May it be used stale because the origin cannot be reached, or fails (RFC 5861 section 4)?
pub fn may_use_if_error(head: &StoredHead, now: u64, policy: &Policy) -> bool {
    let forbidden = forbids_stale(head, policy);
    if forbidden && !policy.if_error_always {
        return false;
    }
    let stale = age(head, now).saturating_sub(lifetime(head, policy));
    let directives = ResponseDirectives::of(&head.fields, policy.targeted);
    let said = !forbidden && directives.stale_if_error.is_some_and(|seconds| stale <= seconds);
    said || match policy.if_error {
        IfError::AsSaid => false,
        IfError::Time(time) => stale <= time.as_secs(),
        IfError::Forever => true,
    }
}

/// Does the stored response forbid its use when stale, or without validation (RFC 9111 section 4.2.4)?
pub fn forbids_stale(head: &StoredHead, policy: &Policy) -> bool {
    let directives = ResponseDirectives::of(&head.fields, policy.targeted);
    is_strict(&directives) || directives.no_cache == Listed::All
}

/// Must it never be used stale (RFC 9111 sections 5.2.2.2, 5.2.2.8 and 5.2.2.10)?
fn is_strict(directives: &ResponseDirectives) -> bool {
    directives.must_revalidate || directives.proxy_revalidate || directives.s_maxage.is_some()
}

#[cfg(test)]
mod tests {
    use super::Reuse::{Fresh, Stale, Validate, WhileRevalidate};
    use super::*;
    use crate::http::caching::After;
    use crate::http::caching::stored::Times;
    use crate::http::caching::vary::Variant;
    use crate::http::fields::Fields;
    use crate::http::request::Version;
    use crate::http::response::ResponseHead;
    use proptest::prelude::*;
    use std::time::Duration;

    const CAME: u64 = 1_000_000;

    fn head(said: &str) -> StoredHead {
        let fields = Fields::from_iter([("Cache-Control", said)]);
        let answer = ResponseHead {
            status: 200,
            reason: b"".as_slice().into(),
            version: Version::Http11,
            fields,
            source: None,
        };
        StoredHead::new(
            &answer,
            Times { requested: CAME, received: CAME },
            Variant::default(),
            &Policy::default(),
        )
    }

    fn after(seconds: u64, said: &str, wanted: &str) -> Reuse {
        let request = RequestDirectives::of(&Fields::from_iter([("Cache-Control", wanted)]));
        decide(&head(said), &request, CAME + seconds, &Policy::default())
    }

    #[test]
    fn rfc9111_4_2_fresh_until_its_lifetime_has_passed() {
        assert_eq!(after(9, "max-age=10", ""), Fresh);
        assert_eq!(after(10, "max-age=10", ""), Validate);
        assert_eq!(after(0, "", ""), Validate);
        assert_eq!(after(0, "max-age=10, no-cache", ""), Validate);
        assert_eq!(after(0, "max-age=10, no-cache=\"a\"", ""), Fresh);
    }

    #[test]
    fn rfc9111_5_2_1_what_the_request_wants() {
        for (seconds, said, wanted, verdict) in [
            (0, "max-age=10", "no-cache", Validate),
            (0, "max-age=10", "max-age=0", Validate),
            (3, "max-age=10", "max-age=2", Validate),
            (3, "max-age=10", "max-age=3", Fresh),
            (3, "max-age=10", "min-fresh=7", Fresh),
            (3, "max-age=10", "min-fresh=8", Validate),
            (13, "max-age=10", "max-stale", Stale),
            (13, "max-age=10", "max-stale=3", Stale),
            (13, "max-age=10", "max-stale=2", Validate),
            (13, "max-age=10, must-revalidate", "max-stale=9", Validate),
            (13, "s-maxage=10", "max-stale=9", Validate),
            (13, "max-age=10, proxy-revalidate", "max-stale=9", Validate),
        ] {
            assert_eq!(after(seconds, said, wanted), verdict, "{seconds} {said} {wanted}");
        }
    }

    #[test]
    fn rfc5861_3_stale_while_revalidate() {
        let said = "max-age=10, stale-while-revalidate=5";
        assert_eq!(after(15, said, ""), WhileRevalidate);
        assert_eq!(after(16, said, ""), Validate);
        assert_eq!(after(15, said, "max-age=12"), Validate);
        assert_eq!(after(12, &format!("{said}, must-revalidate"), ""), Validate);
    }

    #[test]
    fn rfc9111_4_4_what_was_invalidated_is_checked() {
        let head = head("max-age=10").invalidated();
        assert_eq!(decide(&head, &RequestDirectives::default(), CAME, &Policy::default()), Validate);
    }

    #[test]
    fn rfc5861_4_stale_if_error() {
        let use_at = |seconds, said: &str, if_error| {
            let policy = Policy { if_error, after: After::Heuristic, ..Policy::default() };
            may_use_if_error(&head(said), CAME + seconds, &policy)
        };
        let minute = IfError::Time(Duration::from_secs(60));
        assert!(!use_at(11, "max-age=10", IfError::AsSaid));
        assert!(use_at(70, "max-age=10", minute));
        assert!(!use_at(71, "max-age=10", minute));
        assert!(use_at(1_000_000_000, "max-age=10", IfError::Forever));
        assert!(use_at(30, "max-age=10, stale-if-error=20", IfError::AsSaid));
        assert!(!use_at(31, "max-age=10, stale-if-error=20", IfError::AsSaid));
        for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=1", "no-cache"] {
            assert!(!use_at(11, &format!("max-age=10, {strict}"), IfError::Forever), "{strict}");
        }
    }

    #[test]
    fn what_forbids_stale_use_is_used_if_the_operator_says_always() {
        let use_at = |seconds, said: &str, if_error| {
            let policy =
                Policy { if_error, if_error_always: true, after: After::Heuristic, ..Policy::default() };
            may_use_if_error(&head(said), CAME + seconds, &policy)
        };
        let minute = IfError::Time(Duration::from_secs(60));
        for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache"] {
            let said = format!("max-age=10, stale-if-error=9999, {strict}");
            assert!(use_at(1_000_000, &said, IfError::Forever), "{strict}");
            assert!(use_at(70, &said, minute), "{strict}");
            // The time is the operator's: what the response forbids it does not allow as well.
            assert!(!use_at(71, &said, minute), "{strict}");
            assert!(!use_at(11, &said, IfError::AsSaid), "{strict}");
        }
    }

    proptest! {
        #[test]
        fn what_may_not_be_used_stale_never_is(said in "max-age=[0-9]{1,3}", wanted in "[a-z-]{0,9}(=[0-9]{1,3})?", seconds in 0..2000_u64) {
            let verdict = after(seconds, &format!("{said}, must-revalidate, stale-while-revalidate=999"), &wanted);
            prop_assert!(matches!(verdict, Fresh | Validate));
        }
    }
}
