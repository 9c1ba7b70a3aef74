//! Header fields, and which of them travel from one hop to the next.

/// A header section: names and values in the order received, duplicates included.
///
/// One byte buffer and a list of spans, so that a clone costs two allocations however many fields there are.
#[derive(Clone, Default, Debug)]
pub struct Fields {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// The name is `bytes[start..middle]`, the value `bytes[middle..end]`.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    middle: usize,
    end: usize,
}

impl Fields {
    /// An empty section.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty section with room for `fields` fields of `bytes` bytes in all.
    pub(super) fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), spans: Vec::with_capacity(fields) }
    }

    /// Appends a field; one of the same name stays.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.spans.push(Span { start, middle, end: self.bytes.len() });
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + '_ {
        self.spans.iter().map(|span| (self.name(*span), &self.bytes[span.middle..span.end]))
    }

    /// The value of the first field called `name`, ASCII case ignored.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The values of all fields called `name`, ASCII case ignored.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The value of the field called `name` if there is exactly one of them.
    pub fn only(&self, name: &str) -> Option<&[u8]> {
        let mut named = self.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()));
        let (_, value) = named.next()?;
        if named.next().is_some() { None } else { Some(value) }
    }

    /// Is there a field called `name`, ASCII case ignored?
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Removes every field called `name`, ASCII case ignored.
    pub fn remove(&mut self, name: &str) {
        let bytes = &self.bytes;
        self.spans.retain(|span| !bytes[span.start..span.middle].eq_ignore_ascii_case(name.as_bytes()));
    }

    /// The members of the comma-separated list `name` over all its lines, blanks trimmed, empty ones skipped.
    ///
    /// Quotes are not looked into: a comma inside a quoted string separates too.
    pub fn tokens<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.all(name)
            .flat_map(|line| line.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|token| !token.is_empty())
    }

    /// How many fields there are, duplicates counted.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Is there no field at all?
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    fn name(&self, span: Span) -> &[u8] {
        &self.bytes[span.start..span.middle]
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(list: I) -> Self {
        let mut fields = Self::new();
        for (name, value) in list {
            fields.push(name.as_ref(), value.as_ref());
        }
        fields
    }
}

const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields a Connection field must not remove: losing one would change what the message means further on.
/// So are all that begin with `Content-` or `If-`.
const PROTECTED: [&str; 18] = [
    "accept-encoding",
    "accept-ranges",
    "age",
    "authorization",
    "cache-control",
    "cookie",
    "date",
    "etag",
    "expires",
    "host",
    "last-modified",
    "location",
    "max-forwards",
    "range",
    "set-cookie",
    "vary",
    "via",
    "www-authenticate",
];

/// Is it one of these names, ASCII case ignored?
pub fn is_one_of(name: &[u8], list: &[&str]) -> bool {
    list.iter().any(|entry| name.eq_ignore_ascii_case(entry.as_bytes()))
}

fn is_protected(name: &[u8]) -> bool {
    let begins = |with: &[u8]| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    begins(b"if-") || begins(b"content-") || is_one_of(name, &PROTECTED)
}

/// Does `name` concern this connection only (RFC 9110 section 7.6.1)?
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    is_one_of(name, &HOP_BY_HOP)
}

/// A copy of `from` without hop-by-hop fields, without those its Connection field nominates and without `also`.
///
/// A nomination is ignored where obeying it would change the message: Host, Content-*, Authorization,
/// Cache-Control, Range, If-* and the like stay (RFC 9110 section 7.6.1 forbids nominating such fields).
pub fn end_to_end(from: &Fields, also: &[&str]) -> Fields {
    let nominated: Vec<&[u8]> = from.tokens("connection").filter(|name| !is_protected(name)).collect();
    let mut kept = Fields::with_capacity(from.spans.len(), from.bytes.len());
    for (name, value) in from.iter() {
        let dropped = is_hop_by_hop(name)
            || is_one_of(name, also)
            || nominated.iter().any(|nominee| name.eq_ignore_ascii_case(nominee));
        if !dropped {
            kept.push(name, value);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_duplicates_are_kept_and_names_ignore_case() {
        let mut set = Fields::from_iter([("Via", "a"), ("X-One", "1"), ("vIA", "b")]);
        assert_eq!(set.get("VIA"), Some(&b"a"[..]));
        assert_eq!(set.all("via").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!((set.only("x-one"), set.only("via"), set.only("none")), (Some(&b"1"[..]), None, None));
        assert_eq!((set.len(), set.contains("x-ONE"), set.contains("x-on")), (3, true, false));
        set.remove("VIA");
        assert_eq!(set.iter().collect::<Vec<_>>(), [(&b"X-One"[..], &b"1"[..])]);
        set.remove("x-one");
        assert!(set.is_empty());
    }

    #[test]
    fn tokens_span_lines_and_skip_empties() {
        let set = Fields::from_iter([("A", " x ,, y"), ("b", "no"), ("a", ""), ("a", "z\t")]);
        assert_eq!(set.tokens("a").collect::<Vec<_>>(), [b"x", b"y", b"z"]);
        assert_eq!(set.tokens("c").count(), 0);
    }

    #[test]
    fn rfc9110_7_6_1_hop_by_hop_and_nominated_fields_stay_behind() {
        let set = Fields::from_iter([
            ("Host", "h"),
            ("Connection", "close, X-Hop, host, If-None-Match, content-length, VIA, Content-Digest, ,\"x"),
            ("connection", "X-Other"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Authorization", "Basic x"),
            ("x-hop", "1"),
            ("X-OTHER", "1"),
            ("If-None-Match", "\"a\""),
            ("Content-Length", "3"),
            ("Via", "1.0 first"),
            ("Content-Digest", "x"),
            ("Date", "now"),
            ("X-Kept", "1"),
        ]);
        let kept = end_to_end(&set, &["date"]);
        let names: Vec<_> = kept.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(names, ["Host", "If-None-Match", "Content-Length", "Via", "Content-Digest", "X-Kept"]);
    }
}
