//! Request heads: read the same however they arrive, by us as by others, and after they were passed on.

use fs_caching_server::proxy::fetch::request::{fill_request, pass_request};
use std::sync::LazyLock;

use fs_caching_server::config::{FillQuery, Origin};
use fs_caching_server::http::BadMessage;
use fs_caching_server::http::fields::{Fields, end_to_end, is_one_of};
use fs_caching_server::http::request::{
    HeadLimits, Method, RequestBody, RequestHead, Version, parse, request_head, sketch,
};
use fs_caching_server::key::{Forms, decode};

use super::dice::Dice;
use super::{WIDE, cuttings, grown, is_subsequence, listed, words};

static ORIGIN: LazyLock<Origin> = LazyLock::new(|| Origin::parse("http://up.example:81/base").unwrap());

const WORDS: &[&str] = &[
    "GET ",
    "HEAD ",
    "OPTIONS ",
    "PUT ",
    "/",
    "/a.tgz",
    "*",
    "http://h",
    "https://[::1]:8/x",
    "?q=/",
    "%2e%2E",
    " ",
    "\t",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    " HTTP/1.1\r\nHost: h\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\0",
    "Host: h:80\r\n",
    "Host: \r\n",
    "X: y\r\n",
    "x:",
    "Content-Length: 3\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Connection: close, x\r\n",
    "Connection: keep-alive, host, content-length\r\n",
    "Expect: 100-continue\r\n",
    "Range: bytes=0-1\r\n",
    "If-None-Match: \"a\"\r\n",
    "Authorization: Basic YTpi\r\n",
    "Accept-Encoding: gzip\r\n",
    "TE: trailers\r\n",
    "\u{e9}",
    "body",
];

pub(crate) fn generate(dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    if dice.one_in(4) {
        return words(dice, WORDS, 16);
    }
    let method = dice.pick(&["GET", "GET", "HEAD", "OPTIONS", "POST", "CONNECT", "G(T"]);
    let target = dice.pick(&["/", "/a.tgz", "/a?b", "*", "http://h/x", "http://h?x", "h:80", "/\u{e9}", ""]);
    let version =
        dice.pick(&["HTTP/1.1\r\nHost: h", "HTTP/1.1\r\nHost: h", "HTTP/1.0", "HTTP/1.1", "HTTP/2.0"]);
    out.extend_from_slice(format!("{method} {target} {version}\r\n").as_bytes());
    for _ in 0..dice.below(5) {
        let fields = &WORDS[21..WORDS.len() - 2];
        out.extend_from_slice(dice.pick(fields).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if dice.one_in(3) {
        dice.spoil(&mut out);
    }
    out.extend_from_slice(dice.pick(&["", "", "GET / HTTP/1.1\r\n", "\0"]).as_bytes());
    out
}

pub(crate) fn check(data: &[u8]) -> bool {
    sketch(data);
    let narrow = HeadLimits { bytes: 150, fields: 4, target: 24 };
    let read = one_reading(data, &HeadLimits::default());
    if let Ok(Some((head, used))) = one_reading(data, &narrow) {
        assert!(used <= narrow.bytes + 16 && head.fields.len() <= narrow.fields);
        assert!(head.target.len() <= narrow.target);
        let (wide, also_used) = read.as_ref().unwrap().as_ref().unwrap();
        assert_eq!((fingerprint(&head), used), (fingerprint(wide), *also_used));
    }
    let Ok(Some((head, used))) = read else { return false };
    what_follows_does_not_matter(data, &head, used);
    others_read_the_same(&data[..used], &head);
    written_and_read_again(&head);
    passed_on(&head);
    // No other method gets that far.
    if head.method == Method::Get {
        asked_for_the_cache(&head);
    }
    true
}

/// All of a head that later steps look at.
pub(crate) fn fingerprint(head: &RequestHead) -> impl PartialEq + std::fmt::Debug {
    let fields: Vec<(Vec<u8>, Vec<u8>)> =
        head.fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    (head.method.clone(), head.target.clone(), head.version, head.body, fields)
}

/// The one reading that all cuttings come to; which refusal it is may depend on what came first.
fn one_reading(data: &[u8], limits: &HeadLimits) -> Result<Option<(RequestHead, usize)>, BadMessage> {
    let whole = parse(data, limits, &mut 0);
    for steps in cuttings(data) {
        match (&whole, grown(data, &steps, |buf, scanned| parse(buf, limits, scanned))) {
            (Ok(Some((one, used))), Ok(Some((other, also_used)))) => {
                assert_eq!(
                    (fingerprint(one), *used),
                    (fingerprint(&other), also_used),
                    "in steps of {steps:?}"
                );
            }
            (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
            (whole, cut) => panic!("{whole:?}, but {cut:?} in steps of {steps:?}"),
        }
    }
    whole
}

fn what_follows_does_not_matter(data: &[u8], head: &RequestHead, used: usize) {
    let limits = HeadLimits::default();
    let alone = parse(&data[..used], &limits, &mut 0).unwrap().unwrap();
    assert_eq!((fingerprint(&alone.0), alone.1), (fingerprint(head), used));
    assert!(parse(&data[..used - 1], &limits, &mut 0).unwrap().is_none(), "complete before its end");
    assert!(data[..used].ends_with(b"\r\n\r\n"));
}

/// A reader that is less strict than ours finds the same in what ours has accepted.
fn others_read_the_same(bytes: &[u8], head: &RequestHead) {
    let mut headers = vec![httparse::EMPTY_HEADER; HeadLimits::default().fields];
    let mut theirs = httparse::Request::new(&mut headers);
    // It gives targets as text; the bytes beyond ASCII, which nobody has to understand, are none there.
    let line = bytes.len() - bytes.trim_ascii_start().len() + head.method.as_str().len() + 1;
    let mut text = bytes.to_vec();
    let target = &mut text[line..][..head.target.len()];
    target.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'x');
    let target = target.to_vec();
    assert_eq!(theirs.parse(&text), Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!(theirs.method, Some(head.method.as_str()));
    assert_eq!(theirs.path.map(str::as_bytes), Some(&*target));
    assert_eq!(theirs.version, Some(u8::from(head.version == Version::Http11)));
    let theirs: Vec<_> = theirs.headers.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
    assert_eq!(theirs, listed(&head.fields));
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    let blank = bytes.chunks(2).take_while(|pair| *pair == b"\r\n").count();
    assert_eq!(lines - blank, head.fields.len() + 2, "a line that is no field");
}

fn read_back(bytes: &[u8]) -> RequestHead {
    let (head, used) = parse(bytes, &WIDE, &mut 0)
        .unwrap_or_else(|refusal| panic!("{refusal}: {}", bytes.escape_ascii()))
        .unwrap_or_else(|| panic!("not whole: {}", bytes.escape_ascii()));
    assert_eq!(used, bytes.len(), "{}", bytes.escape_ascii());
    head
}

fn written_and_read_again(head: &RequestHead) {
    let mut fields = head.fields.clone();
    if !fields.contains("host") {
        fields.push(b"Host", b"h");
    }
    let again = read_back(&request_head(head.method.as_str(), &head.target, &fields));
    assert_eq!((&again.method, &again.target, again.body), (&head.method, &head.target, head.body));
    assert_eq!(listed(&again.fields), listed(&fields));
    assert_eq!((again.path(), again.origin_form()), (head.path(), head.origin_form()));
}

/// Fields of ours, not taken from the request.
const OURS: [&str; 6] =
    ["host", "via", "content-length", "transfer-encoding", "accept-encoding", "authorization"];

fn theirs(fields: &Fields) -> Vec<(&[u8], &[u8])> {
    let ours = |name: &[u8]| OURS.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
    fields.iter().filter(|(name, _)| !ours(name)).collect()
}

/// The same request reaches the origin, with the body where we saw it and nothing between hops.
fn passed_on(head: &RequestHead) {
    let sent = read_back(&pass_request(&ORIGIN, head).head());
    assert_eq!((&sent.method, sent.body), (&head.method, head.body));
    expect_target(&sent.target, head, |forms| forms.own.into_owned());
    assert_eq!(sent.fields.only("host"), Some(ORIGIN.host_field.as_bytes()));
    assert!(is_subsequence(&theirs(&sent.fields), &listed(&head.fields)), "a field from nowhere");
    for name in ["connection", "keep-alive", "te", "trailer", "upgrade", "proxy-connection", "expect"] {
        assert!(!sent.fields.contains(name), "{name} is passed on");
    }
    let again = end_to_end(&sent.fields, &[]);
    assert!(is_subsequence(&listed(&again), &listed(&sent.fields)));
}

/// The same path to us, without dot segments that the origin could read in another way, and the query as it came.
fn expect_target(sent: &[u8], head: &RequestHead, form: impl Fn(Forms<'_>) -> Vec<u8>) {
    let (as_sent, path) = (head.origin_form(), head.path());
    let Ok(meant) = decode(path) else { return };
    let query = &as_sent[as_sent.iter().position(|&byte| byte == b'?').unwrap_or(as_sent.len())..];
    if *as_sent == *b"*" {
        return assert_eq!(sent, b"*");
    }
    let asked = form(Forms::of(path));
    assert_eq!(*sent, *ORIGIN.target(&[&asked, query].concat()), "{}", head.target.escape_ascii());
    let understood = decode(&asked).unwrap();
    assert_eq!((understood.normalized, understood.key), (meant.normalized, meant.key));
    let text = String::from_utf8_lossy(&asked.to_ascii_lowercase()).replace("%2f", "/").replace("%2e", ".");
    assert!(text.split('/').all(|segment| !matches!(segment, "." | "..")), "{text}");
    assert_eq!(form(Forms::of(&asked)), asked);
}

/// For the whole file and nothing but it, whatever this client wanted.
fn asked_for_the_cache(head: &RequestHead) {
    let sent = read_back(&fill_request(&ORIGIN, head, FillQuery::Strip).head());
    assert!(!sent.target.contains(&b'?'));
    let sent = read_back(&fill_request(&ORIGIN, head, FillQuery::Forward).head());
    expect_target(&sent.target, head, |forms| forms.file.into_owned());
    assert_eq!((&sent.method, sent.body), (&Method::Get, RequestBody::None));
    assert_eq!(sent.fields.only("accept-encoding"), Some(&b"identity"[..]));
    for name in ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]
    {
        assert!(!sent.fields.contains(name), "{name} is asked");
    }
    let known = ["host", "user-agent", "accept", "accept-encoding", "via", "cdn-loop"];
    assert!(sent.fields.iter().all(|(name, _)| is_one_of(name, &known)), "this client's own field");
    assert_eq!(sent.fields.only("accept"), Some(&b"*/*"[..]));
    let mut fields = sent.fields.clone();
    // For any type, whatever the client accepts.
    fields.remove("accept");
    assert!(is_subsequence(&theirs(&fields), &listed(&head.fields)), "a field from nowhere");
}
