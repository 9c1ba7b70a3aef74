//! The heads we send: to clients, and to the origin.

use crate::config::Origin;
use crate::error::Error;
use crate::http::caching::stored::StoredHead;
use crate::http::date;
use crate::http::fields::{Fields, end_to_end};
use crate::http::request::{RequestBody, RequestHead, request_head};
use crate::http::response::{HeadWriter, reason};
use crate::sys::clock;

/// How we name ourselves in Via (RFC 9110 section 7.6.3).
const VIA: &[u8] = b"1.1 fs-caching-server";

/// The head of an answer of our own.
pub fn local(status: u16, length: usize) -> HeadWriter {
    HeadWriter::new(status).field("Content-Length", length.to_string())
}

/// Adds what every answer has and ends the head.
pub fn finish(head: HeadWriter, keep: bool) -> Vec<u8> {
    finish_dated(head.field("Date", date::format(clock::unix_secs())), keep)
}

/// The same for a head that has its date.
pub fn finish_dated(head: HeadWriter, keep: bool) -> Vec<u8> {
    // libfetch keeps a connection on this very word only, so it is said even where it is implied.
    let connection = if keep { "keep-alive" } else { "close" };
    head.field("Connection", connection).finish()
}

/// The fields of a stored answer as a client gets them; its `age` in seconds replaces what was told.
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

/// The head of a 304 about an answer with these fields: without those that describe a body
/// (RFC 9110 section 15.4.5).
pub fn not_modified(fields: &Fields) -> HeadWriter {
    let mut described = HeadWriter::new(304);
    for (name, value) in fields.iter() {
        let of_body = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"))
            && !name.eq_ignore_ascii_case(b"content-location")
            || name.eq_ignore_ascii_case(b"set-cookie");
        if !of_body {
            described = described.field(&String::from_utf8_lossy(name), value);
        }
    }
    described
}

/// The text of an answer that tells of an error: one line.
pub fn error_text(status: u16, error: &Error) -> String {
    let line = format!("{status} {}: {error}", reason(status));
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).chain(['\n']).collect()
}

/// What of the origin's answer goes to clients, but for its length.
pub fn answer_fields(from: &Fields) -> Fields {
    let mut fields = end_to_end(from, &["date", "server", "content-length"]);
    fields.push(b"Via", VIA);
    fields
}

/// The request that fills the cache: for the whole, uncoded file, whatever this client asked of it.
pub fn fill_request(origin: &Origin, request: &RequestHead) -> Vec<u8> {
    check_request(origin, request, None)
}

/// The same, but only if it is not what is kept any more.
pub fn check_request(origin: &Origin, request: &RequestHead, kept: Option<&StoredHead>) -> Vec<u8> {
    let own = [
        "host",
        "date",
        "server",
        "content-length",
        "expect",
        "accept-encoding",
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
    ];
    let mut fields = for_origin(origin, request, &own);
    fields.push(b"Accept-Encoding", b"identity");
    if let Some(tag) = kept.and_then(StoredHead::etag) {
        fields.push(b"If-None-Match", tag);
    }
    if let Some(date) = kept.and_then(|kept| kept.fields.get("last-modified")) {
        fields.push(b"If-Modified-Since", date);
    }
    request_head("GET", &origin.target(&request.origin_form()), &fields)
}

/// The request passed on as it came.
pub fn pass_request(origin: &Origin, request: &RequestHead) -> Vec<u8> {
    let mut fields = for_origin(origin, request, &["host", "date", "server", "content-length", "expect"]);
    match request.body {
        RequestBody::None => {}
        RequestBody::Length(length) => fields.push(b"Content-Length", length.to_string().as_bytes()),
        RequestBody::Chunked => fields.push(b"Transfer-Encoding", b"chunked"),
    }
    request_head(request.method.as_str(), &origin.target(&request.origin_form()), &fields)
}

fn for_origin(origin: &Origin, request: &RequestHead, own: &[&str]) -> Fields {
    let mut fields = Fields::new();
    fields.push(b"Host", origin.host_field.as_bytes());
    for (name, value) in end_to_end(&request.fields, own).iter() {
        fields.push(name, value);
    }
    if let Some(authorization) = &origin.authorization
        && !request.fields.contains("authorization")
    {
        fields.push(b"Authorization", authorization.as_bytes());
    }
    fields.push(b"Via", VIA);
    fields
}
