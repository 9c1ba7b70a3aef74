//! What a request costs in pure code: one list of operations and inputs, timed by `operations.rs` and counted in
//! instructions by `instructions.rs`.

use std::cell::RefCell;
use std::hint::black_box;

use fs_caching_server::http::conditional::Validators;
use fs_caching_server::http::fields::Fields;
use fs_caching_server::http::request::{self, HeadLimits, Method, RequestHead};
use fs_caching_server::http::response::{self, HeadWriter};
use fs_caching_server::http::{date, mime, range};
use fs_caching_server::key;
use fs_caching_server::observe::access_log::{self, Entry, Stamp};
use fs_caching_server::pattern::{self, Pattern};
use fs_caching_server::preset::Rules;
use fs_caching_server::route;
use fs_caching_server::route::Classes;

/// One operation on one input.
pub(crate) struct Case {
    /// The operation.
    pub(crate) group: &'static str,
    /// The input.
    pub(crate) name: &'static str,
    /// Does it once.
    pub(crate) run: Box<dyn Fn()>,
}

/// pkgin's requests are libfetch's.
const LIBFETCH: &str = "GET /packages/SmartOS/2024Q4/x86_64/All/nginx-1.27.3.tgz HTTP/1.1\r\n\
    Host: pkgsrc.smartos.org\r\n\
    User-Agent: pkgin/23.8.1\r\n\
    Connection: keep-alive\r\n\r\n";

const APT: &str = "GET /debian/pool/main/n/nginx/nginx-common_1.22.1-9_all.deb HTTP/1.1\r\n\
    Host: deb.example.org\r\n\
    User-Agent: Debian APT-HTTP/1.3 (2.6.1)\r\n\
    Accept: text/*\r\n\
    If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";

const CURL: &str = "GET /packages/All/x.tgz HTTP/1.1\r\n\
    Host: localhost:8080\r\n\
    User-Agent: curl/8.5.0\r\n\
    Accept: */*\r\n\r\n";

const BROWSER: &str = "GET /packages/SmartOS/2024Q4/x86_64/All/?C=M;O=D HTTP/1.1\r\n\
    Host: cache.example.org:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate\r\n\
    Referer: http://cache.example.org:8080/packages/SmartOS/2024Q4/x86_64/\r\n\
    Cookie: session=7f3c9a52d0e84b1f9d6a; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Priority: u=0, i\r\n\
    Connection: keep-alive\r\n\r\n";

/// What a mirror answers a fill with.
const ORIGIN: &str = "HTTP/1.1 200 OK\r\n\
    Server: nginx/1.22.1\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: application/x-compressed\r\n\
    Content-Length: 1048576\r\n\
    Last-Modified: Sat, 05 Nov 1994 20:11:02 GMT\r\n\
    ETag: \"2ebabab6-100000\"\r\n\
    Accept-Ranges: bytes\r\n\
    Connection: keep-alive\r\n\r\n";

/// Look-ahead, so that the backtracking engine runs it.
const BACKTRACKING: &str = r"^(?!/private/)(?:.*/)?[^/]+\.(tgz|tar\.gz|deb)$";

/// Unix time of the files and requests, in seconds.
const WHEN: u64 = 784_111_777;

/// Every case, in the order of a request.
pub(crate) fn all() -> Vec<Case> {
    [heads(), paths(), routes(), ranges(), answers(), lines()].into_iter().flatten().collect()
}

fn case(group: &'static str, name: &'static str, run: impl Fn() + 'static) -> Case {
    Case { group, name, run: Box::new(run) }
}

fn parse(text: &str) -> RequestHead {
    let parsed = request::parse(text.as_bytes(), &HeadLimits::default(), &mut 0);
    parsed.ok().flatten().map(|(head, _)| head).expect("a complete head")
}

fn heads() -> Vec<Case> {
    let requests = [("libfetch", LIBFETCH), ("apt", APT), ("curl", CURL), ("browser", BROWSER)];
    let mut cases: Vec<Case> = Vec::new();
    for (name, text) in requests {
        drop(parse(text));
        cases.push(case("request head", name, move || {
            let text = black_box(text.as_bytes());
            drop(black_box(request::parse(text, &HeadLimits::default(), &mut 0)));
        }));
    }
    cases.push(case("response head of the origin", "nginx", || {
        let text = black_box(ORIGIN.as_bytes());
        drop(black_box(response::parse(text, &HeadLimits::default(), &mut 0)));
    }));
    cases
}

fn paths() -> Vec<Case> {
    let paths = [
        ("plain", "/packages/SmartOS/2024Q4/x86_64/All/nginx-1.27.3.tgz"),
        ("percent-encoded", "/pool/main/g/g%2b%2b/libstdc%2B%2B6_12.2.0-14~deb12u1_amd64.deb"),
        ("dots and slashes", "/packages//SmartOS/./2024Q4/../2024Q4/x86_64/All/nginx-1.27.3.tgz"),
    ];
    let mapped = |(name, path): (_, &'static str)| {
        case("path mapping", name, move || drop(black_box(key::decode(black_box(path.as_bytes())))))
    };
    paths.into_iter().map(mapped).collect()
}

fn routes() -> Vec<Case> {
    let backtracking = Pattern::new(BACKTRACKING).expect("a good pattern");
    assert_eq!(backtracking.engine(), "backtracking");
    let default = Pattern::new(pattern::DEFAULT).expect("a good pattern");
    let routed = |name, text, pattern: &Pattern| {
        let classes = Classes { immutable: pattern.clone(), revalidate: None, rules: Rules::default() };
        let head = parse(text);
        case("routing", name, move || drop(black_box(route::decide(black_box(&head), &classes))))
    };
    vec![
        routed("default pattern, to the cache", LIBFETCH, &default),
        routed("default pattern, passed on", APT, &default),
        routed("backtracking pattern, to the cache", LIBFETCH, &backtracking),
        routed("backtracking pattern, passed on", BROWSER, &backtracking),
    ]
}

fn ranges() -> Vec<Case> {
    let inputs: [(_, &[(&str, &str)]); 4] = [
        ("none", &[("Host", "h"), ("User-Agent", "curl/8.5.0"), ("Accept", "*/*")]),
        ("resumed", &[("Host", "h"), ("Range", "bytes=524288-")]),
        ("resumed, with If-Range", &[("Range", "bytes=524288-"), ("If-Range", "\"1048576-784111777000\"")]),
        ("several", &[("Host", "h"), ("Range", "bytes=0-99,200-299")]),
    ];
    let selected = |(name, fields): (_, &[(&str, &str)])| {
        let fields: Fields = fields.iter().copied().collect();
        let tag: &[u8] = b"\"1048576-784111777000\"";
        let validators =
            Validators { etags: [Some(tag), None], last_modified: Some(WHEN), since: Some(WHEN), now: WHEN };
        case("range selection", name, move || {
            black_box(range::select(&Method::Get, black_box(&fields), black_box(1 << 20), &validators));
        })
    };
    inputs.into_iter().map(selected).collect()
}

/// The head of a hit, with nothing prepared.
fn answers() -> Vec<Case> {
    let described = |status| {
        HeadWriter::new(black_box(status))
            .field("Last-Modified", date::format(black_box(WHEN)))
            .field("Content-Type", mime::by_name(black_box(b"nginx-1.27.3.tgz")))
            .field("ETag", "\"1048576-784111777000\"")
            .field("Content-Length", "1048576")
            .field("Accept-Ranges", "bytes")
    };
    let ended = |head: HeadWriter| {
        head.field("Date", date::format(black_box(WHEN))).field("Connection", "keep-alive").finish()
    };
    vec![
        case("response head", "200", move || drop(black_box(ended(described(200))))),
        case("response head", "206", move || {
            let part = described(206).field("Content-Range", black_box("bytes 524288-1048575/1048576"));
            drop(black_box(ended(part)));
        }),
    ]
}

fn lines() -> Vec<Case> {
    let logged = |name, text| {
        let head = parse(text);
        let stamp = RefCell::new(Stamp::default());
        case("access line", name, move || {
            let entry = Entry {
                client: black_box("192.0.2.35"),
                user: None,
                at: black_box(WHEN),
                method: head.method.as_str().as_bytes(),
                target: black_box(&head.target),
                version: "1.1",
                status: black_box(200),
                content_length: Some(black_box(1 << 20)),
                referer: head.fields.get("referer"),
                agent: head.fields.get("user-agent"),
            };
            let mut line = Vec::with_capacity(512);
            access_log::format(&entry, stamp.borrow_mut().at(entry.at), &mut line);
            black_box(&line);
        })
    };
    vec![logged("libfetch", LIBFETCH), logged("browser", BROWSER)]
}
