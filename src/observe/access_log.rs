//! The access log: one line a request, in the combined format with a few departures kept from the first version.

use std::time::{Duration, SystemTime};

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use chrono::{DateTime, Local, Offset};

/// The values of one line.
pub struct Entry<'a> {
    /// Address of the client. On a socket of both families an IPv4 one comes as `::ffff:10.0.1.35`.
    pub client: &'a str,
    /// User of a Basic Authorization; see [`basic_user`].
    pub user: Option<&'a [u8]>,
    /// When the response ended, in seconds since 1970.
    pub at: u64,
    /// The method as received.
    pub method: &'a [u8],
    /// The request target as received.
    pub target: &'a [u8],
    /// The number of the HTTP version as received: `1.1` or `1.0`.
    pub version: &'a str,
    /// Status of the response.
    pub status: u16,
    /// The response's Content-Length field, whether or not a body was sent.
    pub content_length: Option<u64>,
    /// The Referer field.
    pub referer: Option<&'a [u8]>,
    /// The User-Agent field.
    pub agent: Option<&'a [u8]>,
}

/// The time as the line shows it, such as `[16/May/2015:20:31:39 -0400]`, written once a second.
#[derive(Debug, Default)]
pub struct Stamp {
    second: Option<u64>,
    text: String,
}

impl Stamp {
    /// The text for a time in seconds since 1970.
    pub fn at(&mut self, second: u64) -> &str {
        if self.second != Some(second) {
            self.second = Some(second);
            let local = DateTime::<Local>::from(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
            // The first version wrote UTC so, and its readers may compare whole fields.
            let zone = if local.offset().fix().local_minus_utc() == 0 { "-0000" } else { "%z" };
            self.text = local.format(&format!("[%d/%b/%Y:%H:%M:%S {zone}]")).to_string();
        }
        &self.text
    }
}

/// Appends the line, without its newline, to `out`; `stamp` is the text of its time.
pub fn format(entry: &Entry<'_>, stamp: &str, out: &mut Vec<u8>) {
    let mut number = itoa::Buffer::new();
    let text = |out: &mut Vec<u8>, text: &str| out.extend_from_slice(text.as_bytes());
    text(out, entry.client);
    text(out, " - ");
    field(out, entry.user, Place::Bare);
    out.push(b' ');
    text(out, stamp);
    text(out, " \"");
    escape(out, entry.method, Place::Quoted);
    out.push(b' ');
    escape(out, entry.target, Place::Quoted);
    text(out, " HTTP/");
    text(out, entry.version);
    text(out, "\" ");
    text(out, number.format(entry.status));
    out.push(b' ');
    text(out, entry.content_length.map_or("-", |length| number.format(length)));
    text(out, " \"");
    field(out, entry.referer, Place::Quoted);
    text(out, "\" \"");
    field(out, entry.agent, Place::Quoted);
    out.push(b'"');
}

/// Where a value stands in the line.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Between quotation marks.
    Quoted,
    /// Between spaces, so that a space or a bracket would pass for the next field.
    Bare,
}

fn field(out: &mut Vec<u8>, value: Option<&[u8]>, place: Place) {
    match value {
        None | Some([]) => out.push(b'-'),
        Some(value) => escape(out, value, place),
    }
}

/// Writes what is printable as it is, and every byte of the rest as `\xHH`, so that no request can forge a line.
fn escape(out: &mut Vec<u8>, value: &[u8], place: Place) {
    if value.iter().all(|&byte| is_plain(byte, place)) {
        out.extend_from_slice(value);
        return;
    }
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let bytes = c.encode_utf8(&mut buffer).as_bytes();
            if must_escape(c, place) {
                escape_bytes(out, bytes);
            } else {
                out.extend_from_slice(bytes);
            }
        }
        escape_bytes(out, chunk.invalid());
    }
}

/// Is this ASCII that [`must_escape`] leaves as it is? Nearly every value is all of it.
fn is_plain(byte: u8, place: Place) -> bool {
    let quoted = (byte == b' ' || byte.is_ascii_graphic()) && byte != b'\\' && byte != b'"';
    quoted && (place == Place::Quoted || !matches!(byte, b' ' | b'[' | b']'))
}

fn must_escape(c: char, place: Place) -> bool {
    match c {
        '\\' | '"' => true,
        // Readers that split lines the Unicode way stop at these two as well.
        '\u{2028}' | '\u{2029}' => true,
        '[' | ']' => place == Place::Bare,
        c if c.is_whitespace() => place == Place::Bare || c.is_control(),
        c => c.is_control(),
    }
}

fn escape_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
        out.extend_from_slice(&[b'\\', b'x', DIGITS[high], DIGITS[low]]);
    }
}

/// Without padding, and with any bits in the part of the last digit that holds none of the bytes.
const LENIENT: GeneralPurpose = {
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&STANDARD, config.with_decode_padding_mode(DecodePaddingMode::RequireNone))
};

/// The user of Basic credentials; `None` when the field is of another scheme, malformed, or names no user.
pub fn basic_user(authorization: &[u8]) -> Option<Vec<u8>> {
    let (scheme, credentials) = authorization.trim_ascii().split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut user = base64(credentials.trim_ascii())?;
    if let Some(colon) = memchr::memchr(b':', &user) {
        user.truncate(colon);
    }
    (!user.is_empty()).then_some(user)
}

/// Decodes base64 of either alphabet, padded or not.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|&digit| digit != b'=').map_or(0, |last| last + 1);
    let standard = |&digit: &u8| match digit {
        b'-' => b'+',
        b'_' => b'/',
        digit => digit,
    };
    LENIENT.decode(text[..end].iter().map(standard).collect::<Vec<_>>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn entry() -> Entry<'static> {
        Entry {
            client: "10.0.1.35",
            user: None,
            at: 1_431_823_899,
            method: b"GET",
            target: b"/x.tgz",
            version: "1.1",
            status: 200,
            content_length: Some(12432),
            referer: None,
            agent: Some(b"libfetch/2.0"),
        }
    }

    /// The line with its date, which depends on the zone of the machine, checked and replaced by `DATE`.
    fn line(entry: &Entry<'_>) -> String {
        let mut out = Vec::new();
        format(entry, Stamp::default().at(entry.at), &mut out);
        let text = String::from_utf8(out).unwrap();
        let (start, end) = (text.find('[').unwrap() + 1, text.find(']').unwrap());
        let date = text[start..end].to_owned();
        let at = DateTime::parse_from_str(&date, "%d/%b/%Y:%H:%M:%S %z").unwrap();
        assert_eq!(at.timestamp(), 1_431_823_899);
        text.replacen(&date, "DATE", 1)
    }

    #[test]
    fn plain() {
        assert_eq!(
            line(&entry()),
            r#"10.0.1.35 - - [DATE] "GET /x.tgz HTTP/1.1" 200 12432 "-" "libfetch/2.0""#
        );
    }

    #[test]
    fn every_field() {
        let entry = Entry {
            client: "::1",
            user: Some(b"bob"),
            method: b"POST",
            target: b"/a?b",
            version: "1.0",
            status: 304,
            content_length: None,
            referer: Some(b"http://r/"),
            agent: Some(b""),
            ..entry()
        };
        assert_eq!(line(&entry), r#"::1 - bob [DATE] "POST /a?b HTTP/1.0" 304 - "http://r/" "-""#);
    }

    #[test]
    fn mapped_address_is_shown_as_it_is() {
        let client = IpAddr::from(std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped()).to_string();
        let entry = Entry { client: &client, ..entry() };
        assert!(line(&entry).starts_with("::ffff:192.0.2.1 - - "));
    }

    #[test]
    fn nothing_can_be_forged() {
        let cases: [(&[u8], &str, &str); 9] = [
            (br#"a\b"#, r"a\x5Cb", r"a\x5Cb"),
            (br#"a"b"c"#, r"a\x22b\x22c", r"a\x22b\x22c"),
            (b"a\r\nb", r"a\x0D\x0Ab", r"a\x0D\x0Ab"),
            (b"a\x1b[0m\x7f", r"a\x1B[0m\x7F", r"a\x1B\x5B0m\x7F"),
            (b"a b\t]", r"a b\x09]", r"a\x20b\x09\x5D"),
            ("\u{e9}\u{1f600}".as_bytes(), "\u{e9}\u{1f600}", "\u{e9}\u{1f600}"),
            (b"\xe9\xc3", r"\xE9\xC3", r"\xE9\xC3"),
            ("\u{9b}\u{2028}".as_bytes(), r"\xC2\x9B\xE2\x80\xA8", r"\xC2\x9B\xE2\x80\xA8"),
            ("\u{3000}".as_bytes(), "\u{3000}", r"\xE3\x80\x80"),
        ];
        for (value, quoted, bare) in cases {
            let entry = Entry { user: Some(value), target: value, referer: Some(value), ..entry() };
            let expected = format!(
                r#"10.0.1.35 - {bare} [DATE] "GET {quoted} HTTP/1.1" 200 12432 "{quoted}" "libfetch/2.0""#
            );
            assert_eq!(line(&entry), expected);
        }
    }

    #[test]
    fn users() {
        let cases: [(&[u8], Option<&[u8]>); 13] = [
            (b"Basic Ym9iOnNlY3JldA==", Some(b"bob")),
            (b"basic Ym9iOnNlY3JldA", Some(b"bob")),
            (b"BASIC   Ym9iOnNlY3JldA== ", Some(b"bob")),
            (b"Basic Ym9i", Some(b"bob")),
            (b"Basic w6k6eA==", Some("\u{e9}".as_bytes())),
            (b"Basic /+86eA==", Some(b"\xff\xef")),
            (b"Basic _-86eA==", Some(b"\xff\xef")),
            (b"Basic OnNlY3JldA==", None),
            (b"Basic", None),
            (b"Basic ", None),
            (b"Bearer Ym9iOnNlY3JldA==", None),
            (b"Basic Ym9i!nNl", None),
            (b"", None),
        ];
        for (field, user) in cases {
            assert_eq!(basic_user(field).as_deref(), user, "{}", String::from_utf8_lossy(field));
        }
    }
}
