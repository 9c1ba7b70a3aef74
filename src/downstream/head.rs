//! The heads that clients get.

use crate::error::Error;
use crate::http::caching::stored::StoredHead;
use crate::http::date;
use crate::http::fields::{Fields, end_to_end, is_one_of};
use crate::http::multipart::Multipart;
use crate::http::response::{HeadWriter, reason};
use crate::outcome::Outcome;
use crate::sys::clock;

/// How we name ourselves in Via (RFC 9110 section 7.6.3).
pub const NAME: &str = "fs-caching-server";
/// The same in Via.
pub const VIA: &[u8] = b"1.1 fs-caching-server";

/// The head of a response of this server's own.
pub fn local(status: u16, length: usize) -> HeadWriter {
    HeadWriter::new(status).field("Content-Length", length.to_string())
}

/// Adds the fields of every response and ends the head.
pub fn finish(head: HeadWriter, keep: bool) -> Vec<u8> {
    finish_dated(head.field("Date", date::format(clock::unix_secs())), keep)
}

/// The same for a head that has its date.
pub fn finish_dated(head: HeadWriter, keep: bool) -> Vec<u8> {
    // libfetch keeps a connection on this very word only, so it is said even where it is implied.
    let connection = if keep { "keep-alive" } else { "close" };
    head.field("Connection", connection).finish()
}

/// The fields of a stored response as a client gets them; `age` in seconds replaces the field of the origin.
pub fn kept_fields(head: &StoredHead, age: Option<u64>) -> Fields {
    let mut fields = head.fields.clone();
    fields.remove("accept-ranges");
    if let Some(age) = age {
        fields.remove("age");
        fields.push(b"Age", age.to_string().as_bytes());
    }
    fields.push(b"Via", VIA);
    fields
}

/// Fields of a 200 that a 304 has too: those of RFC 9110 section 15.4.5, the date by which caches before us compare what
/// has no tag, and those about the caches and the age of the response. Content-Type and the like are not among them.
const OF_A_304: [&str; 11] = [
    "age",
    "cache-control",
    "cache-status",
    "cdn-cache-control",
    "content-location",
    "date",
    "etag",
    "expires",
    "last-modified",
    "vary",
    "via",
];

/// The fields of a 304 that replaces a response with these.
pub fn not_modified(fields: &Fields) -> Fields {
    let mut kept = Fields::new();
    let due = fields.iter().filter(|(name, _)| is_one_of(name, &OF_A_304));
    due.for_each(|(name, value)| kept.push(name, value));
    kept
}

/// Adds how the cache handled the request, after the members of caches before it.
pub fn tell(head: HeadWriter, outcome: Outcome, redirects: usize) -> HeadWriter {
    head.field("Cache-Status", outcome.cache_status(redirects)).field("X-Cache", outcome.x_cache())
}

/// The body of an error response: one line.
pub fn error_text(status: u16, error: &Error) -> String {
    let line = format!("{status} {}: {error}", reason(status));
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).chain(['\n']).collect()
}

/// The fields of the origin's response that clients get, without its length.
pub fn answer_fields(from: &Fields) -> Fields {
    let mut fields = end_to_end(from, &["date", "server", "content-length"]);
    fields.push(b"Via", VIA);
    fields
}

/// What separates the parts of one body; no content can have been prepared to contain it.
pub fn boundary() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Without the fields that describe the content of a whole response, not of a part of it.
pub fn part_fields(mut fields: Fields) -> Fields {
    for name in ["content-range", "content-md5", "content-digest"] {
        fields.remove(name);
    }
    fields
}

/// The fields of a response with several parts, `fields` being those of the whole.
pub fn several_parts(mut fields: Fields, multipart: &Multipart) -> Fields {
    fields.remove("content-type");
    let mut several = Fields::new();
    several.push(b"Content-Type", multipart.content_type().as_bytes());
    part_fields(fields).iter().for_each(|(name, value)| several.push(name, value));
    several
}
