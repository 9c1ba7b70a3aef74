//! Request heads (RFC 9112 section 3): read strictly, and written for the origin.

use std::borrow::Cow;

use super::fields::Fields;
use super::head::{self, Coding, content_length, saturating};
use super::message::{METHOD_LIMIT, is_token_byte};
use super::target::{is_authority, is_target, split_absolute};
use memchr::{memchr, memchr2, memrchr};

pub use super::bad_message::BadMessage;
pub use super::message::{HeadLimits, Method, Version};

/// Bytes of empty lines before a request that are skipped (RFC 9112 section 2.2).
const BLANK_LIMIT: usize = 16;

/// How the end of a request's body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestBody {
    /// There is no body.
    None,
    /// This many bytes, maybe zero.
    Length(u64),
    /// In the chunked coding.
    Chunked,
}

impl RequestBody {
    /// Does nothing follow the head?
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The request target as received.
    pub target: Box<[u8]>,
    /// The version as received.
    pub version: Version,
    /// The header section.
    pub fields: Fields,
    /// How the end of the body is found.
    pub body: RequestBody,
}

impl RequestHead {
    /// The authority of an absolute-form.
    pub fn authority(&self) -> Option<&[u8]> {
        split_absolute(&self.target).map(|(authority, _)| authority)
    }

    /// Is the target a path, with a query or without (RFC 9112 section 3.2.1)?
    pub fn is_origin_form(&self) -> bool {
        self.target.first() == Some(&b'/')
    }

    /// Path and query as received. Scheme and authority of an absolute-form are left out, `*` stays `*`. An
    /// absolute-form without a path has the path `/` (RFC 9112 section 3.2.1), or is about the whole server
    /// (section 3.2.4).
    pub fn origin_form(&self) -> Cow<'_, [u8]> {
        match split_absolute(&self.target) {
            Some((_, b"")) if self.method.as_str() == "OPTIONS" => b"*".into(),
            Some((_, rest)) if !rest.starts_with(b"/") => [b"/", rest].concat().into(),
            Some((_, rest)) => rest.into(),
            None => (&*self.target).into(),
        }
    }

    /// The path as received: the origin form before its `?`.
    pub fn path(&self) -> &[u8] {
        let form = match &*self.target {
            form @ [b'/', ..] => form,
            form => split_absolute(form).map_or(form, |(_, rest)| rest),
        };
        match memchr(b'?', form).unwrap_or(form.len()) {
            0 => b"/",
            end => &form[..end],
        }
    }

    /// What follows the first `?` of the target, as received.
    pub fn query(&self) -> Option<&[u8]> {
        memchr(b'?', &self.target).map(|at| &self.target[at + 1..])
    }

    /// Max-Forwards of an OPTIONS or TRACE request (RFC 9110 section 7.6.2).
    pub fn forwards_left(&self) -> Option<u64> {
        if !matches!(self.method.as_str(), "OPTIONS" | "TRACE") {
            return None;
        }
        saturating(self.fields.only("max-forwards")?)
    }

    /// Does the client want the connection to stay (RFC 9112 section 9.3)?
    pub fn keep_alive(&self) -> bool {
        head::is_persistent(self.version, &self.fields)
    }

    /// Does the client wait for a 100 before it sends its body (RFC 9110 section 10.1.1)?
    pub fn expects_continue(&self) -> bool {
        self.version == Version::Http11
            && self.body != RequestBody::None
            && self.fields.tokens("expect").next().is_some()
    }
}

/// Reads a request head from the front of `buf`: the head and how many bytes it took, empty lines before it
/// included. `None` while it is incomplete; call again with more bytes then.
///
/// `scanned` is zero at first and has to be handed on unchanged to the next call for the same head.
///
/// # Errors
/// Anything that some other program might read differently; see [`BadMessage`]. What can be refused before the
/// head is complete is refused at once.
pub fn parse(
    buf: &[u8],
    limits: &HeadLimits,
    scanned: &mut usize,
) -> Result<Option<(RequestHead, usize)>, BadMessage> {
    let start = skip_blank_lines(buf)?;
    refuse_early(&buf[start..], limits)?;
    let Some(end) = head::find_end(buf, start, limits.bytes, scanned)? else {
        return Ok(None);
    };
    let (line, block) = head::split_first_line(&buf[start..end]);
    let (method, target, version) = request_line(line, limits)?;
    let fields = head::parse_fields(block, limits.fields)?;
    check_host(version, &fields)?;
    if fields.tokens("expect").any(|token| !token.eq_ignore_ascii_case(b"100-continue")) {
        return Err(BadMessage::UnknownExpectation);
    }
    let body = framing(version, &fields)?;
    Ok(Some((RequestHead { method, target: target.into(), version, fields, body }, end)))
}

/// Method, target and version of the first line of `buf` as far as they can be recognised, for the log line of a
/// refused request. Each may be empty.
pub fn sketch(buf: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let text = buf.trim_ascii_start();
    let line = &text[..memchr2(b'\r', b'\n', text).unwrap_or(text.len())];
    match split_line(line) {
        Some((method, target, version)) if version.starts_with(b"HTTP/") => (method, target, version),
        _ => {
            let space = memchr(b' ', line).unwrap_or(line.len());
            (&line[..space], line[space..].trim_ascii(), b"")
        }
    }
}

/// A request head for the origin, in HTTP/1.1.
///
/// `target` and `fields` go as they are, but for CR, LF and NUL, which become spaces.
pub fn request_head(method: &str, target: &[u8], fields: &Fields) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    head::push_clean(&mut out, method.as_bytes());
    out.push(b' ');
    head::push_clean(&mut out, target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    head::push_fields(&mut out, fields);
    out.extend_from_slice(b"\r\n");
    out
}

/// Bytes of empty lines at the front of `buf` (RFC 9112 section 2.2).
fn skip_blank_lines(buf: &[u8]) -> Result<usize, BadMessage> {
    let mut start = 0;
    while buf[start..].starts_with(b"\r\n") {
        start += 2;
        if start > BLANK_LIMIT {
            return Err(BadMessage::BadSyntax);
        }
    }
    Ok(start)
}

/// Refuses an incomplete head that no further bytes can make valid, instead of waiting for its end.
fn refuse_early(rest: &[u8], limits: &HeadLimits) -> Result<(), BadMessage> {
    match rest {
        [] | [b'\r'] => return Ok(()),
        [b'\n', ..] => return Err(BadMessage::BareLineFeed),
        [first, ..] if !is_token_byte(*first) => return Err(BadMessage::BadSyntax),
        _ => {}
    }
    let Some(space) = memchr(b' ', &rest[..rest.len().min(METHOD_LIMIT + 1)]) else {
        return if rest.len() > METHOD_LIMIT { Err(BadMessage::BadSyntax) } else { Ok(()) };
    };
    let target = &rest[space + 1..];
    match target.get(..=limits.target) {
        Some(long) if memchr2(b' ', b'\r', long).is_none() => Err(BadMessage::TargetTooLong),
        _ => Ok(()),
    }
}

/// Cuts a request line at its first and its last space.
fn split_line(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (first, last) = (memchr(b' ', line)?, memrchr(b' ', line)?);
    (first < last).then(|| (&line[..first], &line[first + 1..last], &line[last + 1..]))
}

fn request_line<'a>(line: &'a [u8], limits: &HeadLimits) -> Result<(Method, &'a [u8], Version), BadMessage> {
    let (method, target, version) = split_line(line).ok_or(BadMessage::BadSyntax)?;
    let version = match Version::read(version) {
        Some(version) => version,
        None if Version::is_other(version) => return Err(BadMessage::UnsupportedVersion),
        None => return Err(BadMessage::BadSyntax),
    };
    let method = Method::read(method).ok_or(BadMessage::BadSyntax)?;
    if method.as_str() == "CONNECT" {
        return Err(BadMessage::Connect);
    }
    if target.len() > limits.target {
        return Err(BadMessage::TargetTooLong);
    }
    if !is_target(&method, target) {
        return Err(BadMessage::BadTarget);
    }
    Ok((method, target, version))
}

/// Host is there once and makes sense (RFC 9112 section 3.2); HTTP/1.0 may do without, and it may be empty.
fn check_host(version: Version, fields: &Fields) -> Result<(), BadMessage> {
    match (fields.only("host"), fields.contains("host")) {
        (Some(host), _) if host.is_empty() || is_authority(host) => Ok(()),
        (None, false) if version == Version::Http10 => Ok(()),
        (None, false) => Err(BadMessage::MissingHost),
        _ => Err(BadMessage::BadHost),
    }
}

/// How the end of the body is found, if there is only one way to find it (RFC 9112 section 6.3).
fn framing(version: Version, fields: &Fields) -> Result<RequestBody, BadMessage> {
    let lengths = fields.all("content-length").count();
    match head::transfer_coding(fields) {
        Coding::Absent => {}
        _ if lengths > 0 => return Err(BadMessage::LengthAndCoding),
        Coding::Chunked if version == Version::Http11 => return Ok(RequestBody::Chunked),
        Coding::Unknown if version == Version::Http11 => return Err(BadMessage::UnknownCoding),
        Coding::Chunked | Coding::Unknown | Coding::Malformed => {
            return Err(BadMessage::TransferCoding);
        }
    }
    // Most requests have none: a hit does not look for it twice.
    let Some(value) = fields.get("content-length") else { return Ok(RequestBody::None) };
    if lengths > 1 || value.contains(&b',') {
        return Err(BadMessage::AmbiguousLength);
    }
    Ok(content_length(fields)?.map_or(RequestBody::None, RequestBody::Length))
}

#[cfg(test)]
mod tests;
