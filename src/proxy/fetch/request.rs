//! The requests that the origin gets.

use super::form;
use crate::config::{CredentialUse, FillQuery, Origin};
use crate::downstream::head::NAME;
use crate::fd_budget::OriginUse;
use crate::http::caching::stored::StoredHead;
use crate::http::conditional::SELECTING;
use crate::http::fields::{Fields, end_to_end, is_one_of};
use crate::http::range::Span;
use crate::http::request::{Method, RequestBody, RequestHead, request_head};
use crate::key::Key;
use crate::proxy::loops::TOKEN;

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
    pub errand: OriginUse,
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
    part.errand = OriginUse::Pass;
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
    OriginRequest {
        method: Method::Get,
        target: origin.target(&form[..kept]),
        fields,
        errand: OriginUse::Keep,
    }
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
    OriginRequest { method: Method::Get, target: origin.target(&target), fields, errand: OriginUse::Keep }
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
    OriginRequest { method, target, fields, errand: OriginUse::Pass }
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
const ASKING_FOR_ANOTHER: [(&str, Asks); 15] = [
    ("x-http-method", Asks::Method),
    ("x-http-method-override", Asks::Method),
    ("x-method-override", Asks::Method),
    ("x-original-method", Asks::Method),
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
