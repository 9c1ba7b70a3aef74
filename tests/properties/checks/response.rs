//! Response heads: read the same however they arrive, by us as by others, and by the client they are sent to.

use fs_caching_server::downstream::head::answer_fields;
use fs_caching_server::http::BadMessage;
use fs_caching_server::http::request::{HeadLimits, Method, Version};
use fs_caching_server::http::response::{HeadWriter, ResponseBody, ResponseHead, parse};

use super::dice::Dice;
use super::{WIDE, cuttings, grown, is_subsequence, listed, words};

const WORDS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200\r\n",
    "HTTP/1.1 ",
    "HTTP/",
    "304 ",
    "100 Continue\r\n\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    " ",
    "\0",
    "Content-Length: 3\r\n",
    "Content-Length: 3, 3\r\n",
    "content-length: 03\r\n",
    "Content-Length: 4\r\n",
    "Content-Length:\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, x-a\r\n",
    "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    "ETag: \"a,b\"\r\n",
    "X-A: 1\r\n",
    "Date: x\r\n",
    "Via:\t1.0 a \r\n",
    "\u{e9}",
];

pub(crate) fn generate(dice: &mut Dice) -> Vec<u8> {
    if dice.one_in(4) {
        return words(dice, WORDS, 14);
    }
    let version = dice.pick(&["1.1", "1.1", "1.1", "1.0", "2.0"]);
    let status =
        dice.pick(&["200 OK", "200", "200 ", "304 Not Modified", "204 None", "404 caf\u{e9}", "101 X", "99"]);
    let mut out = format!("HTTP/{version} {status}\r\n").into_bytes();
    for _ in 0..dice.below(5) {
        out.extend_from_slice(dice.pick(&WORDS[12..WORDS.len() - 1]).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if dice.one_in(3) {
        dice.spoil(&mut out);
    }
    out.extend_from_slice(dice.pick(&["", "abc", "HTTP/1.1 200 OK\r\n"]).as_bytes());
    out
}

pub(crate) fn check(data: &[u8]) -> bool {
    let Ok(Some((head, used))) = one_reading(data) else { return false };
    assert!(
        parse(&data[..used - 1], &HeadLimits::default(), &mut 0).unwrap().is_none(),
        "complete before its end"
    );
    assert!((100..=999).contains(&head.status) && head.status != 101);
    assert_eq!(head.is_interim(), head.status < 200);
    others_read_the_same(&data[..used], &head);
    written_and_read_again(&head);
    for method in [Method::Get, Method::Head] {
        if let Ok(body) = head.body(&method) {
            handed_on(&head, &method, body);
        }
    }
    true
}

/// All of a head that later steps look at.
pub(crate) fn fingerprint(head: &ResponseHead) -> impl PartialEq + std::fmt::Debug {
    let fields: Vec<(Vec<u8>, Vec<u8>)> =
        head.fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    (head.status, head.reason.clone(), head.version, fields)
}

fn one_reading(data: &[u8]) -> Result<Option<(ResponseHead, usize)>, BadMessage> {
    let narrow = HeadLimits { bytes: 150, fields: 4, target: 0 };
    for limits in [narrow, HeadLimits::default()] {
        let whole = parse(data, &limits, &mut 0);
        for steps in cuttings(data) {
            match (&whole, grown(data, &steps, |buf, scanned| parse(buf, &limits, scanned))) {
                (Ok(Some((one, used))), Ok(Some((other, also_used)))) => {
                    assert_eq!(
                        (fingerprint(one), *used),
                        (fingerprint(&other), also_used),
                        "in steps of {steps:?}"
                    );
                    assert!(*used <= limits.bytes && one.fields.len() <= limits.fields);
                }
                (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
                (whole, cut) => panic!("{whole:?}, but {cut:?} in steps of {steps:?}"),
            }
        }
    }
    parse(data, &HeadLimits::default(), &mut 0)
}

fn others_read_the_same(bytes: &[u8], head: &ResponseHead) {
    let mut headers = vec![httparse::EMPTY_HEADER; HeadLimits::default().fields];
    let mut theirs = httparse::Response::new(&mut headers);
    assert_eq!(theirs.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!(
        (theirs.code, theirs.version),
        (Some(head.status), Some(u8::from(head.version == Version::Http11)))
    );
    // Lengths that say the same several times have become one.
    let is_length = |name: &[u8]| name.eq_ignore_ascii_case(b"content-length");
    let theirs = theirs.headers.iter().map(|h| (h.name.as_bytes(), h.value));
    let theirs: Vec<_> = theirs.filter(|(name, _)| !is_length(name)).collect();
    let ours: Vec<_> = head.fields.iter().filter(|(name, _)| !is_length(name)).collect();
    assert_eq!(theirs, ours);
}

fn read_back(bytes: &[u8]) -> ResponseHead {
    let (head, used) = parse(bytes, &WIDE, &mut 0)
        .unwrap_or_else(|bad| panic!("{bad}: {}", bytes.escape_ascii()))
        .unwrap_or_else(|| panic!("not whole: {}", bytes.escape_ascii()));
    assert_eq!(used, bytes.len(), "{}", bytes.escape_ascii());
    head
}

fn written_and_read_again(head: &ResponseHead) {
    let again = read_back(&HeadWriter::with_reason(head.status, &head.reason).fields(&head.fields).finish());
    assert_eq!((again.status, &again.reason), (head.status, &head.reason));
    assert_eq!(listed(&again.fields), listed(&head.fields));
    if head.version == Version::Http11 {
        assert_eq!(again.body(&Method::Get), head.body(&Method::Get));
    }
}

/// What goes to the client has the framing that we give it, whatever the origin's fields were.
fn handed_on(head: &ResponseHead, method: &Method, body: ResponseBody) {
    let fields = answer_fields(&head.fields);
    for name in ["connection", "transfer-encoding", "content-length", "date", "server", "keep-alive"] {
        assert!(!fields.contains(name), "{name} is handed on");
    }
    let mut theirs = listed(&fields);
    assert_eq!(theirs.pop(), Some((&b"Via"[..], &b"1.1 fs-caching-server"[..])));
    assert!(is_subsequence(&theirs, &listed(&head.fields)), "a field from nowhere");
    let writer = HeadWriter::with_reason(head.status, &head.reason).fields(&fields);
    let (writer, expected) = match body {
        ResponseBody::Length(length) => (writer.field("Content-Length", length.to_string()), body),
        ResponseBody::Chunked => (writer.field("Transfer-Encoding", "chunked"), body),
        ResponseBody::None | ResponseBody::UntilClose => (writer, body),
    };
    assert_eq!(read_back(&writer.finish()).body(method), Ok(expected));
}
