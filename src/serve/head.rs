//! The heads we send: to clients, and to the origin.

use super::form;
use super::loops::{NAME, TOKEN, VIA};
use crate::config::{CredentialUse, FillQuery, Origin};
use crate::error::Error;
use crate::fd_budget::Errand;
use crate::http::caching::stored::StoredHead;
use crate::http::conditional::SELECTING;
use crate::http::date;
use crate::http::fields::{Fields, end_to_end, is_one_of};
use crate::http::multipart::Multipart;
use crate::http::range::Span;
use crate::http::request::{Method, RequestBody, RequestHead, request_head};
use crate::http::response::{HeadWriter, reason};
use crate::key::Key;
use crate::outcome::Outcome;
use crate::sys::clock;

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

/// Fields of a 200 that a 304 has too: those of RFC 9110 section 15.4.5, the date by which caches before us compare what
/// has no tag, and what tells about the way and the age of the answer. Content-Type and the like are not among them.
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

/// The fields of a 304 in the place of a response with these.
pub fn not_modified(fields: &Fields) -> Fields {
    let mut kept = Fields::new();
    let due = fields.iter().filter(|(name, _)| is_one_of(name, &OF_A_304));
    due.for_each(|(name, value)| kept.push(name, value));
    kept
}

/// Adds what the cache had to do with the answer, behind what caches before us said.
pub fn tell(head: HeadWriter, outcome: Outcome, redirects: usize) -> HeadWriter {
    head.field("Cache-Status", outcome.cache_status(redirects)).field("X-Cache", outcome.x_cache())
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

/// A request to the origin, as it will be sent.
#[derive(Clone, Debug)]
pub struct OriginRequest {
    /// What is asked for.
    pub method: Method,
    /// Path and query.
    pub target: Vec<u8>,
    /// All fields, Host first.
    pub fields: Fields,
    /// What the answer is for.
    pub errand: Errand,
}

impl OriginRequest {
    /// Its bytes, without a body.
    pub fn head(&self) -> Vec<u8> {
        request_head(self.method.as_str(), &self.target, &self.fields)
    }

    /// Asks for the whole, whatever is kept.
    pub fn without_conditions(mut self) -> Self {
        ["if-none-match", "if-modified-since"].iter().for_each(|name| self.fields.remove(name));
        self
    }
}

/// What separates the parts of one body, unlike any content that somebody could have prepared.
pub fn boundary() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Without the fields that describe the content of a whole answer, not of a part of it.
pub fn part_fields(mut fields: Fields) -> Fields {
    for name in ["content-range", "content-md5", "content-digest"] {
        fields.remove(name);
    }
    fields
}

/// The fields of an answer with several parts, `fields` being those of the whole.
pub fn several_parts(mut fields: Fields, multipart: &Multipart) -> Fields {
    fields.remove("content-type");
    let mut several = Fields::new();
    several.push(b"Content-Type", multipart.content_type().as_bytes());
    part_fields(fields).iter().for_each(|(name, value)| several.push(name, value));
    several
}

/// The request for one part of a file that a fill is fetching, under the condition that it still is
/// what `validator` says (RFC 9110 section 13.1.5).
pub fn part_request(
    origin: &Origin,
    request: &RequestHead,
    query: FillQuery,
    span: Span,
    validator: &[u8],
) -> OriginRequest {
    let mut part = fill_request(origin, request, query);
    part.fields.push(b"Range", format!("bytes={}-{}", span.first, span.end - 1).as_bytes());
    part.fields.push(b"If-Range", validator);
    part.errand = Errand::Pass;
    part
}

/// The request that fills the cache: for the whole, uncoded file, whoever this client is and whatever it asked of it.
pub fn fill_request(origin: &Origin, request: &RequestHead, query: FillQuery) -> OriginRequest {
    let fields = fill_fields(origin, request, &carried(request, &[]));
    let form = form::of_file(request);
    let kept = match query {
        FillQuery::Strip => form.iter().position(|&byte| byte == b'?').unwrap_or(form.len()),
        FillQuery::Forward | FillQuery::Pass => form.len(),
    };
    OriginRequest { method: Method::Get, target: origin.target(&form[..kept]), fields, errand: Errand::Keep }
}

/// The same for an answer that is checked with the origin, of which `kept` is there and `told` goes along (see
/// [`carried`]): only if it is not what is kept any more.
pub fn check_request(
    origin: &Origin,
    request: &RequestHead,
    key: &Key,
    told: &Fields,
    kept: Option<&StoredHead>,
) -> OriginRequest {
    let target = if key.names_a_file() { form::of_file(request) } else { form::own(request) };
    let mut fields = fill_fields(origin, request, told);
    if let Some(tags) = kept.and_then(StoredHead::tags) {
        fields.push(b"If-None-Match", &tags);
    }
    if let Some(date) = kept.and_then(|kept| kept.fields.get("last-modified")) {
        fields.push(b"If-Modified-Since", date);
    }
    OriginRequest { method: Method::Get, target: origin.target(&target), fields, errand: Errand::Keep }
}

/// The client's fields that go along with a fill. What comes is for everybody, so nothing else that one of them says may
/// shape it: these say who asks, and by which way.
const PERMITTED: [&str; 3] = ["user-agent", "via", "cdn-loop"];

/// Fields by which clients choose between variants (RFC 9110 section 12.5). They go along where variants are told
/// apart by them.
pub const NEGOTIATED: [&str; 3] = ["accept", "accept-charset", "accept-language"];

/// Fields of a client for which no origin refuses a request that comes without them, beside those that select a part.
const NO_GROUNDS: [&str; 10] = [
    "cache-control",
    "content-length",
    "date",
    "dnt",
    "expect",
    "host",
    "max-forwards",
    "pragma",
    "server",
    "upgrade-insecure-requests",
];

/// What of a client's fields goes along with a fill: the permitted ones, and those named `also`.
pub fn carried(request: &RequestHead, also: &[&str]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in end_to_end(&request.fields, &[]).iter() {
        if is_one_of(name, &PERMITTED) || is_one_of(name, also) {
            fields.push(name, value);
        }
    }
    fields
}

/// What of these fields may go to another server than the origin.
pub fn for_anybody(fields: &Fields) -> Fields {
    let may = |name| [&PERMITTED[..], &NEGOTIATED, &SELECTING].iter().any(|list| is_one_of(name, list));
    let mut kept = Fields::new();
    fields.iter().filter(|(name, _)| may(name)).for_each(|(name, value)| kept.push(name, value));
    kept
}

/// Does the client say more than went along in `asked`, so that another answer may be due to it?
pub fn says_more(request: &RequestHead, asked: &OriginRequest) -> bool {
    let went = |name: &[u8], value: &[u8]| {
        asked.fields.iter().any(|(known, of)| known.eq_ignore_ascii_case(name) && of == value)
    };
    let fields = end_to_end(&request.fields, &[&NO_GROUNDS[..], &SELECTING].concat());
    request.query().is_some() && !asked.target.contains(&b'?')
        || fields.iter().any(|(name, value)| !went(name, value))
}

/// Statuses by which an origin says that somebody else might get an answer (RFC 9110 sections 15.5.2, 15.5.4 and
/// 15.5.8).
pub fn is_denied(status: u16) -> bool {
    matches!(status, 401 | 403 | 407)
}

fn fill_fields(origin: &Origin, request: &RequestHead, told: &Fields) -> Fields {
    let mut fields = for_origin(origin, request, told);
    if !fields.contains("accept") {
        fields.push(b"Accept", b"*/*");
    }
    fields.push(b"Accept-Encoding", b"identity");
    fields
}

/// The request for the whole made one for its bytes from `from` on, if it is still the one that
/// `validator` names (RFC 9110 sections 13.1.5 and 14.2).
pub fn rest_request(whole: &OriginRequest, from: u64, validator: &[u8]) -> OriginRequest {
    let mut rest = whole.clone();
    rest.fields.push(b"Range", format!("bytes={from}-").as_bytes());
    rest.fields.push(b"If-Range", validator);
    rest
}

/// The request passed on as it came, but for dot segments.
pub fn pass_request(origin: &Origin, request: &RequestHead) -> OriginRequest {
    let theirs = end_to_end(&request.fields, &["host", "date", "server", "content-length", "expect"]);
    let mut fields = for_origin(origin, request, &theirs);
    match request.body {
        RequestBody::None => {}
        RequestBody::Length(length) => fields.push(b"Content-Length", length.to_string().as_bytes()),
        RequestBody::Chunked => fields.push(b"Transfer-Encoding", b"chunked"),
    }
    if let Some(left) = request.forwards_left() {
        fields.remove("max-forwards");
        fields.push(b"Max-Forwards", left.saturating_sub(1).to_string().as_bytes());
    }
    let (method, target) = (request.method.clone(), origin.target(&form::own(request)));
    OriginRequest { method, target, fields, errand: Errand::Pass }
}

/// Adds to `theirs`, what goes along of the client's fields, what is ours.
fn for_origin(origin: &Origin, request: &RequestHead, theirs: &Fields) -> Fields {
    let mut fields = Fields::new();
    fields.push(b"Host", origin.host_field.as_bytes());
    for (name, value) in theirs.iter() {
        fields.push(name, value);
    }
    if let Some(authorization) = &origin.authorization
        && may_carry_credentials(origin.credential_use, &request.method, theirs)
    {
        fields.push(b"Authorization", authorization.as_bytes());
    }
    let version = request.version.as_str();
    let version = version.strip_prefix("HTTP/").unwrap_or(version);
    fields.push(b"Via", format!("{version} {NAME} {}", *TOKEN).as_bytes());
    fields
}

/// What applications can be asked for in a field, other than what the request line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asks {
    /// Another method.
    Method,
    /// Another path, or a prefix before it.
    Path,
}

/// Those fields. Many applications see no difference between `-` and `_` in a name, so it makes none here.
const ASKING_FOR_ANOTHER: [(&str, Asks); 14] = [
    ("x-http-method", Asks::Method),
    ("x-http-method-override", Asks::Method),
    ("x-method-override", Asks::Method),
    ("x-request-method", Asks::Method),
    ("path-info", Asks::Path),
    ("script-name", Asks::Path),
    ("x-forwarded-path", Asks::Path),
    ("x-forwarded-prefix", Asks::Path),
    ("x-forwarded-uri", Asks::Path),
    ("x-original-uri", Asks::Path),
    ("x-original-url", Asks::Path),
    ("x-override-url", Asks::Path),
    ("x-rewrite-url", Asks::Path),
    ("x-script-name", Asks::Path),
];

/// Is an application asked for another one of these?
fn asks_for_another(theirs: &Fields, what: Asks) -> bool {
    let folded = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let is = |name: &[u8], known: &str| name.iter().map(folded).eq(known.bytes());
    theirs.iter().any(|(name, _)| ASKING_FOR_ANOTHER.iter().any(|(known, of)| *of == what && is(name, known)))
}

/// May the credentials of the URL go with this request? Anybody can send it: they are to open what can be
/// read below the URL, not what lies beside it nor what can be changed.
fn may_carry_credentials(credential_use: CredentialUse, method: &Method, theirs: &Fields) -> bool {
    let fits = match credential_use {
        CredentialUse::Safe => {
            matches!(method, Method::Get | Method::Head) && !asks_for_another(theirs, Asks::Method)
        }
        CredentialUse::All => method.as_str() != "TRACE",
    };
    fits && !asks_for_another(theirs, Asks::Path) && !theirs.contains("authorization")
}
