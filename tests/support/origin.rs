//! A scripted origin: one thread a connection, a closure a request, and a record of what came.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::client::find;
use super::util::PATIENCE;

/// The date every ready-made answer carries.
pub(crate) const LAST_MODIFIED: &str = "Sat, 16 May 2015 20:31:39 GMT";
/// The same instant in seconds since the epoch.
pub(crate) const LAST_MODIFIED_SECS: u64 = 1_431_808_299;

/// Something a stalled origin waits for until the test opens it.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until opened; gives up after a while so that a failed test leaves no thread behind.
    pub(crate) fn wait(&self) {
        let guard = self.0.0.lock().unwrap();
        let limit = PATIENCE * 3;
        drop(self.0.1.wait_timeout_while(guard, limit, |open| !*open).unwrap());
    }
}

/// One request as the origin saw it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    /// The head as it came, line ends included.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Which accepted connection it came over, from 0.
    pub(crate) connection: usize,
    /// How many requests came before it, on all connections.
    pub(crate) index: usize,
}

impl Request {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// A byte stream that may be TLS.
pub(crate) trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// The answering side of one connection, handed to the script.
pub(crate) struct Reply<'a> {
    stream: &'a mut dyn Duplex,
    socket: &'a TcpStream,
    open: bool,
    /// Read from the stream and not used yet.
    ahead: &'a mut Vec<u8>,
    /// The request's body has not been read yet.
    upload_waits: bool,
}

impl Reply<'_> {
    /// Writes raw bytes. False once the peer is gone, so that endless scripts can end.
    pub(crate) fn write(&mut self, data: impl AsRef<[u8]>) -> bool {
        if self.open {
            let sent = self.stream.write_all(data.as_ref());
            self.open = sent.and_then(|()| self.stream.flush()).is_ok();
        }
        self.open
    }

    /// The request's body, read now. Only for a script that is called at heads, and only once;
    /// None, and the connection's end, when it breaks off.
    pub(crate) fn upload(&mut self, request: &Request) -> Option<Vec<u8>> {
        assert!(std::mem::take(&mut self.upload_waits), "the body has been read already");
        let body = read_body(&mut *self.stream, self.ahead, request);
        self.open &= body.is_some();
        body
    }

    /// Ends the connection in order after this answer.
    pub(crate) fn close(&mut self) {
        self.open = false;
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(&mut self) {
        socket2::SockRef::from(self.socket).set_linger(Some(Duration::ZERO)).unwrap();
        self.open = false;
    }

    /// The head of a 200 with a length, the usual fields and `extra` field lines.
    pub(crate) fn head(&mut self, length: usize, extra: &str) -> bool {
        self.write(format!(
            "HTTP/1.1 200 OK\r\nLast-Modified: {LAST_MODIFIED}\r\nContent-Length: {length}\r\n{extra}\r\n"
        ))
    }

    /// A whole answer with a length.
    pub(crate) fn answer(&mut self, status: &str, extra: &str, body: &[u8]) {
        let mut message =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{extra}\r\n", body.len()).into_bytes();
        message.extend_from_slice(body);
        self.write(message);
    }

    /// A whole 200 as a package site gives it, or its head alone when that was asked.
    pub(crate) fn serve(&mut self, request: &Request, body: &[u8]) {
        self.head(body.len(), "");
        if request.method != "HEAD" {
            self.write(body);
        }
    }

    /// A body at a steady rate in bytes a second.
    pub(crate) fn paced(&mut self, body: &[u8], rate: u64) {
        let began = Instant::now();
        let mut sent = 0u64;
        for part in body.chunks(64 * 1024) {
            sent += u64::try_from(part.len()).unwrap();
            if !self.write(part) {
                return;
            }
            let due = Duration::from_millis(sent * 1000 / rate);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
}

type Script = dyn Fn(&Request, &mut Reply<'_>) + Send + Sync;

struct Shared {
    seen: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    stop: AtomicBool,
    script: Box<Script>,
    tls: Option<Arc<rustls::ServerConfig>>,
    /// The script is called before the request's body is read.
    at_heads: bool,
}

/// The origin; it stops accepting when dropped.
pub(crate) struct Origin {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Origin {
    /// An origin that answers each request by `script`.
    pub(crate) fn start(script: impl Fn(&Request, &mut Reply<'_>) + Send + Sync + 'static) -> Self {
        Self::listen(Box::new(script), None, false)
    }

    /// The same at this address and port.
    pub(crate) fn start_at(
        addr: SocketAddr,
        script: impl Fn(&Request, &mut Reply<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::around(TcpListener::bind(addr).unwrap(), Box::new(script), None, false)
    }

    /// The same behind TLS.
    pub(crate) fn start_tls(
        config: Arc<rustls::ServerConfig>,
        script: impl Fn(&Request, &mut Reply<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Box::new(script), Some(config), false)
    }

    /// An origin that answers at the request's head. What the script leaves of the body is read
    /// after the answer, as nginx does it, and the connection goes on.
    pub(crate) fn at_heads(
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&Request, &mut Reply<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Box::new(script), tls, true)
    }

    /// An origin that gives the same body for every target.
    pub(crate) fn fixed(body: &[u8]) -> Self {
        let body = body.to_vec();
        Self::start(move |request, reply| reply.serve(request, &body))
    }

    /// An origin that sends `head`, the first `cut` bytes of `message`, and the rest once the gate opens.
    pub(crate) fn gated(head: impl Into<String>, message: Vec<u8>, cut: usize) -> (Self, Gate) {
        let (head, gate) = (head.into(), Gate::default());
        let held = gate.clone();
        let origin = Self::start(move |_, reply| {
            reply.write(&head);
            reply.write(&message[..cut]);
            held.wait();
            reply.write(&message[cut..]);
        });
        (origin, gate)
    }

    /// An origin that must never be asked.
    pub(crate) fn silent() -> Self {
        Self::start(|_, reply| reply.answer("500 Asked", "", b"the origin was asked"))
    }

    fn listen(script: Box<Script>, tls: Option<Arc<rustls::ServerConfig>>, at_heads: bool) -> Self {
        Self::around(TcpListener::bind("127.0.0.1:0").unwrap(), script, tls, at_heads)
    }

    fn around(
        listener: TcpListener,
        script: Box<Script>,
        tls: Option<Arc<rustls::ServerConfig>>,
        at_heads: bool,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::new(Vec::new()),
            connections: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            script,
            tls,
            at_heads,
        });
        let state = Arc::clone(&shared);
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if state.stop.load(Ordering::Acquire) {
                    return;
                }
                let state = Arc::clone(&state);
                thread::spawn(move || connection(&state, &socket));
            }
        });
        Self { addr, shared }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn authority(&self) -> String {
        self.addr.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The URL to give to the server, by name behind TLS because certificates carry names.
    pub(crate) fn url(&self) -> String {
        if self.shared.tls.is_some() {
            format!("https://localhost:{}", self.addr.port())
        } else {
            format!("http://{}", self.addr)
        }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// The only request that came; fails the test when there were more or none.
    #[track_caller]
    pub(crate) fn only(&self) -> Request {
        let seen = self.requests();
        assert_eq!(seen.len(), 1, "requests at the origin: {seen:#?}");
        seen.into_iter().next().unwrap()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes the accept loop; a failure means it is gone already.
        drop(TcpStream::connect(self.addr));
    }
}

fn connection(state: &Shared, socket: &TcpStream) {
    let number = state.connections.fetch_add(1, Ordering::AcqRel);
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE * 6)).unwrap();
    socket.set_write_timeout(Some(PATIENCE * 3)).unwrap();
    let plain = socket.try_clone().unwrap();
    match &state.tls {
        None => {
            let mut stream = plain;
            talk(state, &mut stream, socket, number);
        }
        Some(config) => {
            let session = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
            // No close_notify is sent at the end: scripts that want one are the exception.
            let mut stream = rustls::StreamOwned::new(session, plain);
            talk(state, &mut stream, socket, number);
        }
    }
    // A graceful end even when unread bytes are left would turn into a reset; scripts that want
    // a reset have set it up themselves.
    drop(socket.shutdown(std::net::Shutdown::Write));
}

fn talk(state: &Shared, stream: &mut dyn Duplex, socket: &TcpStream, number: usize) {
    let mut ahead = Vec::new();
    while let Some(mut request) = read_head(stream, &mut ahead) {
        request.connection = number;
        if !state.at_heads {
            let Some(body) = read_body(stream, &mut ahead, &request) else { return };
            request.body = body;
        }
        {
            let mut seen = state.seen.lock().unwrap();
            request.index = seen.len();
            seen.push(request.clone());
        }
        let upload_waits = state.at_heads;
        let mut reply = Reply { stream: &mut *stream, socket, open: true, ahead: &mut ahead, upload_waits };
        (state.script)(&request, &mut reply);
        if reply.open && reply.upload_waits {
            drop(reply.upload(&request));
        }
        if !reply.open {
            return;
        }
    }
}

fn more(stream: &mut dyn Duplex, ahead: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 64 * 1024];
    match stream.read(&mut buffer) {
        Ok(0) | Err(_) => None,
        Ok(n) => {
            ahead.extend_from_slice(&buffer[..n]);
            Some(())
        }
    }
}

fn read_head(stream: &mut dyn Duplex, ahead: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(at) = find(ahead, b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, ahead)?;
    };
    let rest = ahead.split_off(end);
    let head = String::from_utf8_lossy(&std::mem::replace(ahead, rest)).into_owned();
    let mut words = head.split("\r\n").next()?.split(' ').map(str::to_owned);
    Some(Request {
        method: words.next()?,
        target: words.next()?,
        version: words.next()?,
        body: Vec::new(),
        connection: 0,
        index: 0,
        head: head.clone(),
    })
}

fn read_body(stream: &mut dyn Duplex, ahead: &mut Vec<u8>, request: &Request) -> Option<Vec<u8>> {
    if request.field("Expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if request.field("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        read_chunks(stream, ahead)
    } else if let Some(length) = request.field("Content-Length") {
        let length: usize = length.parse().ok()?;
        read_exact(stream, ahead, length)
    } else {
        Some(Vec::new())
    }
}

fn read_exact(stream: &mut dyn Duplex, ahead: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while ahead.len() < length {
        more(stream, ahead)?;
    }
    let rest = ahead.split_off(length);
    Some(std::mem::replace(ahead, rest))
}

fn read_line(stream: &mut dyn Duplex, ahead: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = find(ahead, b"\r\n") {
            let line = read_exact(stream, ahead, at + 2)?;
            return String::from_utf8(line[..at].to_vec()).ok();
        }
        more(stream, ahead)?;
    }
}

fn read_chunks(stream: &mut dyn Duplex, ahead: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream, ahead)?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            while !read_line(stream, ahead)?.is_empty() {}
            return Some(body);
        }
        body.extend(read_exact(stream, ahead, size)?);
        read_exact(stream, ahead, 2)?;
    }
}
