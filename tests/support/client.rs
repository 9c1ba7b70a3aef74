//! A client that sends exact bytes and reads one response at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::sandbox;
use super::util::PATIENCE;

/// How the body of a response was delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(usize),
    Chunked,
    Close,
}

/// One response as it came over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
    /// False when the connection broke before the framing said the body was complete.
    pub(crate) whole: bool,
    /// Statuses of the 1xx responses before this one.
    pub(crate) interim: Vec<u16>,
}

impl Response {
    /// The first value of a field, its name compared without case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// Every value of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The response carries `body`, whole, under `status`.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16, body: &[u8]) -> &Self {
        assert_eq!(
            self.status,
            status,
            "status; fields: {:?}, body: {:?}",
            self.fields,
            String::from_utf8_lossy(&self.body[..self.body.len().min(200)])
        );
        super::assert_bytes(&self.body, body, "response body");
        assert!(self.whole, "a broken transfer");
        self
    }

    /// The connection this came over stays open, and says so in the words libfetch looks for.
    #[track_caller]
    pub(crate) fn expect_keep_alive(&self) -> &Self {
        assert_eq!(self.all("Connection"), ["keep-alive"], "{:?}", self.fields);
        self
    }
}

/// A raw connection with what was read ahead.
pub(crate) struct Client {
    stream: TcpStream,
    ahead: Vec<u8>,
    eof: bool,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        Self::over(stream)
    }

    /// A client whose kernel takes in only a few KiB before it must read.
    pub(crate) fn connect_with_small_window(addr: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&addr.into()).unwrap();
        Self::over(socket.into())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, ahead: Vec::new(), eof: false }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, data: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(data.as_ref()).unwrap();
        self
    }

    /// Sends what the server may refuse to read: it may have answered and closed already.
    pub(crate) fn send_lossy(&mut self, data: impl AsRef<[u8]>) -> &mut Self {
        // A reset here is the server's answer, seen by the read that follows.
        drop(self.stream.write_all(data.as_ref()));
        self
    }

    /// `METHOD target HTTP/1.1` with a Host and `extra` field lines, each ended by CR LF.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, target: &str, extra: &str) -> &mut Self {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: cache.test\r\n{extra}\r\n"))
    }

    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.ask("GET", target, "").response("GET")
    }

    /// Closes the sending side only.
    pub(crate) fn half_close(&mut self) -> &mut Self {
        self.stream.shutdown(Shutdown::Write).unwrap();
        self
    }

    /// The same, where the server may have closed already.
    pub(crate) fn end(&mut self) {
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// Goes away the rude way, with a reset, which is on its way when this returns.
    pub(crate) fn abort(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
        sandbox::disconnect(&self.stream);
    }

    /// Reads more; false at the end of the stream or on a reset. A time-out fails the test.
    #[track_caller]
    fn more(&mut self) -> bool {
        if self.eof {
            return false;
        }
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.eof = true,
            Ok(n) => self.ahead.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::TimedOut => {
                panic!(
                    "nothing came within {PATIENCE:?}; so far: {:?}",
                    String::from_utf8_lossy(&self.ahead[..self.ahead.len().min(300)])
                );
            }
            Err(_) => self.eof = true,
        }
        !self.eof
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.ahead.split_off(count);
        std::mem::replace(&mut self.ahead, rest)
    }

    /// Exactly `count` raw bytes, wherever in a message they are.
    #[track_caller]
    pub(crate) fn raw(&mut self, count: usize) -> Vec<u8> {
        while self.ahead.len() < count {
            assert!(self.more(), "ended after {} of {count} bytes", self.ahead.len());
        }
        self.take(count)
    }

    /// Adds up to `count` raw bytes to `body`; false at the end of the stream.
    #[track_caller]
    pub(crate) fn try_raw(&mut self, count: usize, body: &mut Vec<u8>) -> bool {
        let there = !self.ahead.is_empty() || self.more();
        let count = self.ahead.len().min(count);
        body.extend(self.take(count));
        there
    }

    /// Has the server said something, or closed? Waits for a moment only.
    pub(crate) fn has_answer(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let answered = !self.ahead.is_empty() || self.stream.peek(&mut [0]).is_ok();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        answered
    }

    /// Everything to the end of the stream.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        let count = self.ahead.len();
        self.take(count)
    }

    /// The server closes, and sends nothing more before that.
    #[track_caller]
    pub(crate) fn expect_closed(&mut self) {
        let rest = self.rest();
        assert!(
            rest.is_empty(),
            "more bytes where the connection should close: {:?}",
            String::from_utf8_lossy(&rest)
        );
    }

    /// One head, 1xx heads before it folded into `interim`; None at a clean or unclean end.
    #[track_caller]
    pub(crate) fn try_head(&mut self, method: &str) -> Option<Response> {
        let mut interim = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = find(&self.ahead, b"\r\n\r\n") {
                    break at + 4;
                }
                if !self.more() {
                    return None;
                }
            };
            let head = self.take(end);
            let mut response = parse_head(&head, method);
            if response.status / 100 == 1 {
                interim.push(response.status);
                continue;
            }
            response.interim = interim;
            return Some(response);
        }
    }

    /// The head of the next response, before any of its body.
    #[track_caller]
    pub(crate) fn head(&mut self, method: &str) -> Response {
        self.try_head(method).expect("no response head")
    }

    /// The next response with its body, or as much of it as came.
    #[track_caller]
    pub(crate) fn try_response(&mut self, method: &str) -> Option<Response> {
        let mut response = self.try_head(method)?;
        self.finish(&mut response);
        Some(response)
    }

    #[track_caller]
    pub(crate) fn response(&mut self, method: &str) -> Response {
        self.try_response(method).expect("no response")
    }

    /// Reads the rest of a body whose head (and perhaps first bytes) were read before.
    #[track_caller]
    pub(crate) fn finish(&mut self, response: &mut Response) {
        match response.framing {
            Framing::None => {}
            Framing::Length(length) => {
                let missing = length - response.body.len();
                while self.ahead.len() < missing && self.more() {}
                let have = self.ahead.len().min(missing);
                response.body.extend(self.take(have));
                response.whole = have == missing;
            }
            Framing::Close => {
                response.body.extend(self.rest());
            }
            Framing::Chunked => response.whole = self.chunks(&mut response.body).is_some(),
        }
    }

    #[track_caller]
    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.ahead, b"\r\n") {
                let line = self.take(at + 2);
                return Some(String::from_utf8(line[..at].to_vec()).unwrap());
            }
            if !self.more() {
                return None;
            }
        }
    }

    #[track_caller]
    fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap().trim();
            let size = usize::from_str_radix(digits, 16)
                .unwrap_or_else(|_| panic!("a bad chunk size line: {line:?}"));
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Some(());
            }
            while self.ahead.len() < size + 2 {
                if !self.more() {
                    let have = self.ahead.len().min(size);
                    body.extend(self.take(have));
                    return None;
                }
            }
            body.extend(self.take(size));
            assert_eq!(self.take(2), b"\r\n", "chunk data ends with CR LF");
        }
    }
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Strict on purpose: whatever the server sends must be well-formed.
#[track_caller]
fn parse_head(head: &[u8], method: &str) -> Response {
    let text = String::from_utf8_lossy(head).into_owned();
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let status_line = lines.next().unwrap();
    let mut words = status_line.splitn(3, ' ');
    let version = words.next().unwrap().to_owned();
    assert!(
        version.starts_with("HTTP/1."),
        "a bad status line: {:?}",
        status_line.chars().take(200).collect::<String>()
    );
    let status: u16 = words.next().unwrap().parse().unwrap();
    let fields: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) =
                line.split_once(':').unwrap_or_else(|| panic!("a field line without colon: {line:?}"));
            assert!(!name.contains([' ', '\t']), "a space in a field name: {line:?}");
            (name.to_owned(), value.trim().to_owned())
        })
        .collect();
    let mut response = Response {
        version,
        status,
        fields,
        body: Vec::new(),
        framing: Framing::None,
        whole: true,
        interim: Vec::new(),
    };
    response.framing = framing(&response, method);
    response
}

#[track_caller]
fn framing(response: &Response, method: &str) -> Framing {
    let lengths = response.all("Content-Length");
    let chunked = response.all("Transfer-Encoding");
    assert!(lengths.len() <= 1, "more than one Content-Length: {lengths:?}");
    assert!(lengths.is_empty() || chunked.is_empty(), "Content-Length beside Transfer-Encoding");
    if method == "HEAD" || matches!(response.status, 100..=199 | 204 | 304) {
        Framing::None
    } else if !chunked.is_empty() {
        assert_eq!(chunked, ["chunked"]);
        Framing::Chunked
    } else if let Some(length) = lengths.first() {
        Framing::Length(length.parse().unwrap())
    } else {
        Framing::Close
    }
}
