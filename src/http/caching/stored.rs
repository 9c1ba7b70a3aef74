//! The head of a stored response, and how later responses update it.

use super::Policy;
use super::directives::ResponseDirectives;
use super::vary::Variant;
use crate::http::date;
use crate::http::etag::{is_weak, weakly_equal};
use crate::http::fields::{Fields, end_to_end, is_one_of};
use crate::http::identity;
use crate::http::response::ResponseHead;

/// Fields that concern one connection or one hop, which are not stored (RFC 9111 section 3.1), and those that are
/// generated for each response.
const NOT_KEPT: [&str; 3] = ["content-length", "server", "proxy-authentication-info"];
/// Fields that describe the stored body, so a 304 does not change them (RFC 9111 section 3.2).
const OF_THE_BODY: [&str; 3] = ["content-encoding", "content-range", "content-length"];

/// Tags remembered beside the newest: an origin of more machines with different tags is rare.
const OTHER_TAGS: usize = 3;

/// Fields that say something to one user. They are passed to the client whose request has brought them and not stored,
/// whatever else the response says.
pub const OF_ONE_USER: [&str; 4] = ["Set-Cookie", "Set-Cookie2", "Clear-Site-Data", "Authentication-Info"];

/// When the request was sent and when its response was received, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Times {
    /// The request was sent.
    pub requested: u64,
    /// The head of the response was received.
    pub received: u64,
}

/// The head of a stored response.
#[derive(Clone, Debug)]
pub struct StoredHead {
    /// 200 for what has a file.
    pub status: u16,
    /// The reason phrase as received.
    pub reason: Box<[u8]>,
    /// End-to-end fields as received, Date among them, without Content-Length.
    pub fields: Fields,
    /// Of the last exchange that fetched or validated it.
    pub times: Times,
    /// Which requests it answers.
    pub variant: Variant,
    /// Invalidated by an unsafe request (RFC 9111 section 4.4): it has to be validated.
    pub invalid: bool,
    /// Other entity tags of the same bytes: the machines of an origin need not agree on them. Remembered by this
    /// process only.
    pub other_tags: Vec<Box<[u8]>>,
}

impl StoredHead {
    /// The head to store of a response received now: without the fields that it names as private, or as not to be used
    /// without validation (RFC 9111 sections 5.2.2.4 and 5.2.2.7), or that are one user's.
    pub fn new(answer: &ResponseHead, times: Times, variant: Variant, policy: &Policy) -> Self {
        let mut head = Self::received(answer, times, variant);
        drop_private(&mut head.fields, &answer.fields, policy);
        head
    }

    /// The head for the client whose request fetched it.
    pub fn received(answer: &ResponseHead, times: Times, variant: Variant) -> Self {
        Self {
            status: answer.status,
            reason: answer.reason.clone(),
            fields: received_fields(&answer.fields, times),
            times,
            variant,
            invalid: false,
            other_tags: Vec::new(),
        }
    }

    /// The head of a file of which only the modification time is known: always to be validated.
    pub fn unknown(modified: u64, content_type: &str) -> Self {
        let mut fields = Fields::new();
        fields.push(b"Last-Modified", &date::format(modified));
        fields.push(b"Content-Type", content_type.as_bytes());
        Self {
            status: 200,
            reason: b"OK".as_slice().into(),
            fields,
            times: Times::default(),
            variant: Variant::default(),
            invalid: true,
            other_tags: Vec::new(),
        }
    }

    /// Is it that of [`Self::unknown`]?
    pub fn is_unknown(&self) -> bool {
        self.times == Times::default()
    }

    /// Its entity tag.
    pub fn etag(&self) -> Option<&[u8]> {
        self.fields.get("etag")
    }

    /// The entity tags of the same bytes, its own first.
    fn all_tags(&self) -> impl Iterator<Item = &[u8]> {
        self.etag().into_iter().chain(self.other_tags.iter().map(|tag| &**tag))
    }

    /// Its Last-Modified, in seconds since 1970.
    pub fn modified(&self) -> Option<u64> {
        self.fields.only("last-modified").and_then(date::parse)
    }

    /// Its Date, in seconds since 1970.
    pub fn date(&self) -> Option<u64> {
        self.fields.only("date").and_then(date::parse)
    }

    /// Can it be validated with the origin?
    pub fn has_validator(&self) -> bool {
        self.etag().is_some() || self.fields.contains("last-modified")
    }

    /// Does this 304 select this stored response (RFC 9111 section 4.3.4)? One with another validator does not. For
    /// a file of which only the date is known, only the same date counts.
    pub fn is_selected_by(&self, not_modified: &Fields) -> bool {
        let date = not_modified.only("last-modified").and_then(date::parse);
        let same_date = date.is_some() && date == self.modified();
        if self.is_unknown() {
            return same_date;
        }
        let other_date = not_modified.contains("last-modified") && self.modified().is_some() && !same_date;
        match (not_modified.get("etag"), self.etag()) {
            // Weak tags are equal for what the origin takes as equivalent, so the date counts as well.
            (Some(told), Some(_)) => {
                let kept = self.all_tags().find(|tag| weakly_equal(told, tag));
                kept.is_some_and(|kept| !other_date || !is_weak(told) && !is_weak(kept))
            }
            (Some(_), None) => false,
            (None, _) => !other_date,
        }
    }

    /// Is a response with these fields the same variant? `told` and `always` as for [`Variant::of`].
    pub fn is_same_variant(&self, answer: &Fields, told: &Fields, always: &[&str]) -> bool {
        let says = if answer.contains("vary") { answer } else { &self.fields };
        Variant::of(says, told, always).is_ok_and(|variant| variant == self.variant)
    }

    /// Does the response to a HEAD describe this stored body (RFC 9111 section 4.3.5)?
    pub fn is_described_by(&self, head: &ResponseHead, length: u64) -> bool {
        let same = |name| head.fields.get(name).is_none_or(|told| self.fields.get(name) == Some(told));
        let told = head.fields.get("content-length").and_then(|told| std::str::from_utf8(told).ok());
        head.status == self.status
            && same("etag")
            && same("last-modified")
            && told.is_none_or(|told| told.trim().parse() == Ok(length))
    }

    /// The head after a validation with these fields: they replace those of the same name (RFC 9111 section 3.2).
    /// Its own tag stays: another form of it is not known to be that of these bytes.
    #[must_use]
    pub fn updated(&self, by: &Fields, times: Times, policy: &Policy) -> Self {
        let mut news = received_fields(by, times);
        drop_private(&mut news, by, policy);
        let has_tag = self.etag().is_some_and(|own| by.get("etag").is_some_and(|new| weakly_equal(own, new)));
        let is_of_body =
            |name: &[u8]| is_one_of(name, &OF_THE_BODY) || has_tag && name.eq_ignore_ascii_case(b"etag");
        // An age belongs to the exchange that brought it.
        let is_replaced = |name: &[u8]| {
            let is_new = || news.iter().any(|(new, _)| new.eq_ignore_ascii_case(name));
            !is_of_body(name) && (name.eq_ignore_ascii_case(b"age") || is_new())
        };
        let kept = self.fields.iter().filter(|(name, _)| !is_replaced(name));
        let fields = kept.chain(news.iter().filter(|(name, _)| !is_of_body(name))).collect();
        let updated = Self { fields, times, invalid: false, ..self.clone() };
        updated.with_tags_of(self).unwrap_or(updated)
    }

    /// The head of the same bytes with all tags that both are known by, if that is more.
    #[must_use]
    pub fn with_tags_of(&self, other: &Self) -> Option<Self> {
        let own = self.etag()?;
        let mut tags: Vec<Box<[u8]>> = Vec::new();
        for tag in other.all_tags().chain(self.all_tags()) {
            if !weakly_equal(tag, own) && !tags.iter().any(|known| weakly_equal(known, tag)) {
                tags.push(tag.into());
            }
        }
        tags.truncate(OTHER_TAGS);
        (tags != self.other_tags).then(|| Self { other_tags: tags, ..self.clone() })
    }

    /// All its tags, for If-None-Match (RFC 9110 section 13.1.2).
    pub fn tags(&self) -> Option<Vec<u8>> {
        self.etag()?;
        Some(self.all_tags().collect::<Vec<_>>().join(&b", "[..]))
    }

    /// The same, to be validated before it is used.
    #[must_use]
    pub fn invalidated(&self) -> Self {
        Self { invalid: true, ..self.clone() }
    }
}

/// The end-to-end fields of a response received now.
fn received_fields(from: &Fields, times: Times) -> Fields {
    let mut fields = end_to_end(from, &NOT_KEPT);
    identity::drop_no_codings(&mut fields);
    // A recipient with a clock adds the date of arrival (RFC 9110 section 6.6.1).
    if fields.only("date").and_then(date::parse).is_none() {
        fields.remove("date");
        fields.push(b"Date", &date::format(times.received));
    }
    fields
}

/// Removes the fields that are one user's, or that `from`, the response as it was received, does not let a shared cache
/// store.
fn drop_private(fields: &mut Fields, from: &Fields, policy: &Policy) {
    let directives = ResponseDirectives::of(from, policy.targeted);
    policy.stored_anyway.left_out().for_each(|name| fields.remove(name));
    for listed in [&directives.no_cache, &directives.private] {
        listed.names().iter().for_each(|name| fields.remove(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::Version;

    const NOW: Times = Times { requested: 1000, received: 1001 };

    fn answer(fields: &[(&str, &str)]) -> ResponseHead {
        let fields = fields.iter().copied().collect();
        ResponseHead {
            status: 200,
            reason: b"OK".as_slice().into(),
            version: Version::Http11,
            fields,
            source: None,
        }
    }

    fn stored(fields: &[(&str, &str)]) -> StoredHead {
        StoredHead::new(&answer(fields), NOW, Variant::default(), &Policy::default())
    }

    fn text(head: &StoredHead, name: &str) -> Option<String> {
        head.fields.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn rfc9111_3_1_fields_of_one_hop_are_not_kept() {
        let head = stored(&[
            ("Connection", "a"),
            ("A", "1"),
            ("Proxy-Authenticate", "x"),
            ("Proxy-Authentication-Info", "x"),
            ("Content-Length", "3"),
            ("Cache-Control", "no-cache=\"b\", private=\"c\""),
            ("B", "1"),
            ("C", "1"),
            ("D", "1"),
            ("Set-Cookie", "s"),
            ("Clear-Site-Data", "\"*\""),
        ]);
        let names: Vec<_> = head.fields.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
        assert_eq!(names, ["Cache-Control", "D", "Date"]);
    }

    #[test]
    fn rfc9110_6_6_1_an_answer_without_a_date_gets_that_of_its_arrival() {
        assert_eq!(stored(&[]).date(), Some(1001));
        assert_eq!(stored(&[("Date", "nonsense")]).date(), Some(1001));
        assert_eq!(stored(&[("Date", "Thu, 01 Jan 1970 00:00:07 GMT")]).date(), Some(7));
    }

    #[test]
    fn rfc9111_3_2_a_304_replaces_what_it_names_and_nothing_else() {
        let head = stored(&[
            ("ETag", "\"a\""),
            ("A", "1"),
            ("A", "2"),
            ("B", "1"),
            ("Age", "9"),
            ("Content-Encoding", "x"),
            ("Content-Type", "t"),
        ]);
        let times = Times { requested: 2000, received: 2001 };
        let by = Fields::from_iter([
            ("A", "3"),
            ("Content-Length", "0"),
            ("Content-Encoding", "y"),
            ("Content-Type", "u"),
        ]);
        let updated = head.invalidated().updated(&by, times, &Policy::default());
        assert_eq!(updated.fields.all("a").collect::<Vec<_>>(), [b"3"]);
        assert_eq!(
            (text(&updated, "b").unwrap(), text(&updated, "etag").unwrap()),
            ("1".into(), "\"a\"".into())
        );
        assert_eq!((text(&updated, "age"), text(&updated, "content-length")), (None, None));
        assert_eq!(text(&updated, "content-encoding").unwrap(), "x");
        assert_eq!(text(&updated, "content-type").unwrap(), "u");
        assert_eq!((updated.times, updated.date(), updated.invalid), (times, Some(2001), false));
    }

    #[test]
    fn rfc9111_4_3_4_a_304_with_another_tag_is_about_another_answer() {
        for (kept, told, same) in
            [("\"a\"", "\"a\"", true), ("\"a\"", "W/\"a\"", true), ("\"a\"", "\"b\"", false)]
        {
            let told = Fields::from_iter([("ETag", told)]);
            assert_eq!(stored(&[("ETag", kept)]).is_selected_by(&told), same);
        }
        assert!(stored(&[("ETag", "\"a\"")]).is_selected_by(&Fields::new()));
        assert!(!stored(&[]).is_selected_by(&Fields::from_iter([("ETag", "\"b\"")])));
    }

    #[test]
    fn rfc9111_4_3_4_a_304_with_another_date_is_about_another_answer() {
        let (date, other) = ("Thu, 01 Jan 1970 00:00:07 GMT", "Thu, 01 Jan 1970 00:00:08 GMT");
        for (kept, told, same) in [
            (&[("Last-Modified", date)][..], &[("Last-Modified", date)][..], true),
            (&[("Last-Modified", date)], &[("Last-Modified", other)], false),
            (&[("Last-Modified", date)], &[("Last-Modified", "nonsense")], false),
            (&[("Last-Modified", date)], &[], true),
            (&[("Last-Modified", date), ("ETag", "\"a\"")], &[("Last-Modified", other)], false),
            (
                &[("Last-Modified", date), ("ETag", "\"a\"")],
                &[("Last-Modified", other), ("ETag", "\"a\"")],
                true,
            ),
            (
                &[("Last-Modified", date), ("ETag", "W/\"a\"")],
                &[("Last-Modified", other), ("ETag", "W/\"a\"")],
                false,
            ),
            (&[("ETag", "\"a\"")], &[("Last-Modified", date)], true),
        ] {
            let told: Fields = told.iter().copied().collect();
            assert_eq!(stored(kept).is_selected_by(&told), same, "{kept:?} {told:?}");
        }
        let unknown = StoredHead::unknown(7, "x");
        for (told, same) in [
            (&[("Last-Modified", date), ("ETag", "\"a\"")][..], true),
            (&[("Last-Modified", other)], false),
            (&[("ETag", "\"a\"")], false),
            (&[], false),
        ] {
            assert_eq!(unknown.is_selected_by(&told.iter().copied().collect()), same, "{told:?}");
        }
    }

    #[test]
    fn rfc9110_13_1_2_tags_of_the_same_bytes_are_asked_with_together_and_each_vouches() {
        let (one, other) = (stored(&[("ETag", "\"a\"")]), stored(&[("ETag", "\"b\"")]));
        let both = other.with_tags_of(&one).unwrap();
        assert_eq!(both.tags().unwrap(), b"\"b\", \"a\"");
        assert!(both.with_tags_of(&one).is_none() && both.with_tags_of(&other).is_none());
        let told = |tag: &str| Fields::from_iter([("ETag", tag)]);
        assert!(both.is_selected_by(&told("\"a\"")) && both.is_selected_by(&told("\"b\"")));
        assert!(!both.is_selected_by(&told("\"c\"")));
        let vouched = both.updated(&told("\"a\""), NOW, &Policy::default());
        assert_eq!(vouched.tags().unwrap(), b"\"a\", \"b\"");
        let many = (0..9).fold(one, |head, number| {
            stored(&[("ETag", &format!("\"{number}\""))]).with_tags_of(&head).unwrap()
        });
        assert_eq!(many.tags().unwrap(), b"\"8\", \"7\", \"6\", \"5\"");
        assert!(stored(&[]).with_tags_of(&many).is_none() && stored(&[]).tags().is_none());
    }

    #[test]
    fn rfc9111_4_3_5_a_head_with_other_validators_is_about_another_body() {
        let head = stored(&[("ETag", "\"a\"")]);
        assert!(head.is_described_by(&answer(&[]), 3));
        assert!(head.is_described_by(&answer(&[("ETag", "\"a\""), ("Content-Length", "3")]), 3));
        assert!(!head.is_described_by(&answer(&[("ETag", "\"b\"")]), 3));
        assert!(!head.is_described_by(&answer(&[("Content-Length", "4")]), 3));
        assert!(!head.is_described_by(&answer(&[("Last-Modified", "x")]), 3));
        assert!(!head.is_described_by(&ResponseHead { status: 404, ..answer(&[]) }, 3));
    }
}
