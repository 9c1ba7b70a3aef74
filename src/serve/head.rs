//! The heads we send: to clients, and to the origin.

use crate::config::Origin;
use crate::error::Error;
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
    // libfetch keeps a connection on this very word only, so it is said even where it is implied.
    let connection = if keep { "keep-alive" } else { "close" };
    head.field("Date", date::format(clock::unix_secs())).field("Connection", connection).finish()
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
    request_head("GET", &origin.target(&request.origin_form()), &fields)
}

/// The request for the whole made one for its bytes from `from` on, if it is still the one that
/// `validator` names (RFC 9110 sections 13.1.5 and 14.2).
pub fn rest_request(whole: &[u8], from: u64, validator: &[u8]) -> Vec<u8> {
    let range = format!("Range: bytes={from}-\r\nIf-Range: ");
    let fields = whole.strip_suffix(b"\r\n").unwrap_or(whole);
    [fields, range.as_bytes(), validator, b"\r\n\r\n"].concat()
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
