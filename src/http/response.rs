//! Response heads (RFC 9112 section 4): read from the origin, and written for the client.

use super::BadMessage;
use super::fields::Fields;
use super::head::{self, Coding, content_length, digits, is_text_byte};
use super::request::{HeadLimits, Method, Version};
use ::http::StatusCode;

pub use super::request::request_head;

/// How the end of a response's body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseBody {
    /// There is no body.
    None,
    /// This many bytes.
    Length(u64),
    /// In the chunked coding.
    Chunked,
    /// All bytes until the connection closes; whether it is complete cannot be known.
    UntilClose,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// 100 to 999.
    pub status: u16,
    /// The reason phrase as received, maybe empty.
    pub reason: Box<[u8]>,
    /// The version as received.
    pub version: Version,
    /// The header section. Equal repeated lengths have become one.
    pub fields: Fields,
    /// Where it is from, if redirects led there: server and path.
    pub source: Option<Box<str>>,
}

impl ResponseHead {
    /// How the end of the body is found, `request` being the method that was asked with.
    ///
    /// # Errors
    /// Several unequal lengths, a length that is no number, and any Transfer-Encoding but a single `chunked`
    /// in HTTP/1.1 without a length; these even where there is no body, since the fields are passed on.
    pub fn body(&self, request: &Method) -> Result<ResponseBody, BadMessage> {
        let length = content_length(&self.fields)?;
        let coding = head::transfer_coding(&self.fields);
        if *request == Method::Head || matches!(self.status, 100..=199 | 204 | 304) {
            return match (coding, length) {
                (Coding::Absent, _) | (_, None) => Ok(ResponseBody::None),
                _ => Err(BadMessage::LengthAndCoding),
            };
        }
        match (coding, length) {
            (Coding::Absent, Some(length)) => Ok(ResponseBody::Length(length)),
            (Coding::Absent, None) => Ok(ResponseBody::UntilClose),
            (_, Some(_)) => Err(BadMessage::LengthAndCoding),
            (Coding::Chunked, None) if self.version == Version::Http11 => Ok(ResponseBody::Chunked),
            _ => Err(BadMessage::TransferCoding),
        }
    }

    /// Is a response that has no body by the rules (HEAD, 204, 304) certain to be followed by none? Some origins
    /// send one all the same, and its bytes would be read as the next response. So a response to HEAD must have
    /// Content-Length 0, whatever its status, and a 204 or 304 no Content-Length but 0.
    pub fn is_surely_empty(&self, request: &Method) -> bool {
        !self.fields.contains("transfer-encoding")
            && match content_length(&self.fields) {
                Ok(None) => *request != Method::Head,
                found => found == Ok(Some(0)),
            }
    }

    /// May the connection be used again once the body has ended (RFC 9112 section 9.3)?
    ///
    /// A body that ends by close says so itself.
    pub fn keep_alive(&self) -> bool {
        head::is_persistent(self.version, &self.fields)
    }

    /// Is it an interim response, before the final one (RFC 9110 section 15.2)?
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// Reads a response head from the front of `buf`: the head and how many bytes it took. `None` while it is
/// incomplete; call again with more bytes then.
///
/// `scanned` is zero at first and has to be handed on unchanged to the next call for the same head. Of `limits`,
/// the target's is not used.
///
/// # Errors
/// See [`BadMessage`]. The bytes after such a head cannot be trusted: the connection has to be closed.
pub fn parse(
    buf: &[u8],
    limits: &HeadLimits,
    scanned: &mut usize,
) -> Result<Option<(ResponseHead, usize)>, BadMessage> {
    let known = buf.len().min(b"HTTP/".len());
    if buf[..known] != b"HTTP/"[..known] {
        return Err(BadMessage::BadStatusLine);
    }
    let Some(end) = head::find_end(buf, 0, limits.bytes, scanned)? else {
        return Ok(None);
    };
    let (line, block) = head::split_first_line(&buf[..end]);
    let (version, status, reason) = status_line(line)?;
    let mut fields = head::parse_fields(block, limits.fields)?;
    unite_lengths(&mut fields);
    Ok(Some((ResponseHead { status, reason: reason.into(), version, fields, source: None }, end)))
}

/// Senders must write the space before an empty reason phrase, but many leave it out.
fn status_line(line: &[u8]) -> Result<(Version, u16, &[u8]), BadMessage> {
    let (version, rest) = line.split_at_checked(b"HTTP/1.1".len()).ok_or(BadMessage::BadStatusLine)?;
    let Some(version) = Version::read(version) else {
        let other = Version::is_other(version.trim_ascii());
        return Err(if other { BadMessage::UnsupportedVersion } else { BadMessage::BadStatusLine });
    };
    let rest = rest.strip_prefix(b" ").ok_or(BadMessage::BadStatusLine)?;
    let (number, reason) = rest.split_at_checked(3).ok_or(BadMessage::BadStatusLine)?;
    let status = digits(number).and_then(|number| number.parse().ok()).unwrap_or(0);
    let reason_fits = reason.is_empty() || reason.starts_with(b" ");
    if status < 100 || !reason_fits || !reason.iter().copied().all(is_text_byte) {
        return Err(BadMessage::BadStatusLine);
    }
    if status == 101 {
        return Err(BadMessage::SwitchingProtocols);
    }
    Ok((version, status, reason.strip_prefix(b" ").unwrap_or(reason)))
}

/// Leaves one Content-Length of several equal ones, so that they are not passed on. Others are left for
/// [`ResponseHead::body`] to refuse.
fn unite_lengths(fields: &mut Fields) {
    let repeated = fields.tokens("content-length").count() > 1;
    if let (true, Ok(Some(length))) = (repeated, content_length(fields)) {
        fields.remove("content-length");
        fields.push(b"Content-Length", length.to_string().as_bytes());
    }
}

/// Builds a head in one buffer. CR, LF and NUL in a value become spaces, so no value can add a line.
#[derive(Clone, Debug)]
pub struct HeadWriter {
    out: Vec<u8>,
}

impl HeadWriter {
    /// An HTTP/1.1 head with the usual reason phrase.
    pub fn new(status: u16) -> Self {
        Self::with_reason(status, reason(status).as_bytes())
    }

    /// An HTTP/1.1 head with a reason phrase of its own. Only the last three digits of `status` count.
    pub fn with_reason(status: u16, reason: &[u8]) -> Self {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(b"HTTP/1.1 ");
        for place in [100, 10, 1] {
            out.push(b"0123456789"[usize::from(status / place % 10)]);
        }
        out.push(b' ');
        head::push_clean(&mut out, reason);
        out.extend_from_slice(b"\r\n");
        Self { out }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        head::push_field(&mut self.out, name.as_bytes(), value.as_ref());
        self
    }

    /// Adds all of `fields`.
    #[must_use]
    pub fn fields(mut self, fields: &Fields) -> Self {
        head::push_fields(&mut self.out, fields);
        self
    }

    /// Bytes written so far.
    pub fn written(&self) -> usize {
        self.out.len()
    }

    /// The head with the empty line that ends it.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(b"\r\n");
        self.out
    }
}

/// Does the origin fail for now, so that a later request may succeed: overloaded, in maintenance, or timed out (RFC
/// 5861 section 4, RFC 6585 section 4, RFC 9110 section 15.5.9)?
pub fn is_origin_failure(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=504)
}

/// The registered reason phrase of a status, `Unknown` where there is none.
pub fn reason(status: u16) -> &'static str {
    let status = StatusCode::from_u16(status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}

#[cfg(test)]
mod tests;
