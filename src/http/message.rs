//! What requests and responses are made of: versions, methods, and how large a head may be.

/// Bytes of a method; the longest registered one has 17.
pub(super) const METHOD_LIMIT: usize = 32;
/// Bytes of the longest body: no file, no offset in one and no range of one can be longer (`off_t`). What a peer says
/// beyond that is refused, so that sums of lengths stay within 64 bits.
pub(super) const MOST_BYTES: u64 = i64::MAX.unsigned_abs();

/// The versions spoken here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    /// As it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }

    /// `None` for a version that is not spoken here, or none at all.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        [Self::Http10, Self::Http11].into_iter().find(|version| version.as_str().as_bytes() == text)
    }

    /// Does `text` look like a version of HTTP, spoken here or not?
    pub(super) fn is_other(text: &[u8]) -> bool {
        let number = text.strip_prefix(b"HTTP/").unwrap_or_default();
        !number.is_empty() && number.iter().all(|&byte| byte == b'.' || byte.is_ascii_digit())
    }
}

/// A request's method. Methods are case-sensitive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// Any other token.
    Other(Box<str>),
}

impl Method {
    /// As it stands on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Other(name) => name,
        }
    }

    /// May the request be sent twice (RFC 9110 section 9.2.2)?
    pub fn is_idempotent(&self) -> bool {
        self.is_safe() || matches!(self.as_str(), "PUT" | "DELETE")
    }

    /// Does the request ask for no change (RFC 9110 section 9.2.1)?
    pub fn is_safe(&self) -> bool {
        matches!(self.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE")
    }

    pub(super) fn read(token: &[u8]) -> Option<Self> {
        match token {
            b"GET" => Some(Self::Get),
            b"HEAD" => Some(Self::Head),
            _ => {
                let valid =
                    (1..=METHOD_LIMIT).contains(&token.len()) && token.iter().copied().all(is_token_byte);
                let name = std::str::from_utf8(token).ok().filter(|_| valid)?;
                Some(Self::Other(name.into()))
            }
        }
    }
}

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes from the first line to the empty line, both included.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: 64 * 1024, fields: 256, target: 16 * 1024 }
    }
}

/// May `byte` be part of a method or of a field name (RFC 9110 section 5.6.2)?
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
