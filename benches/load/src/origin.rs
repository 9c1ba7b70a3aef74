//! An origin on one thread whose bodies follow from their paths (see `content`).
//!
//! `--port N` (0: any), `--date TEXT`: its `Date`. Prints its port and runs until its standard input
//! ends. `GET /__counts` gives the number of requests of each path, `GET /__timeline` when how many
//! bytes of each paced path had been sent. Both are cleared by the request.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use crate::args::{Args, Outcome};
use crate::content::{self, BLOCK, MARK, hash, mark, page};
use crate::head;
use crate::sys::{self, Epoll, Ready};

/// Blocks sent by one call.
const BLOCKS: usize = 32;
/// The longest head of a request.
const LONGEST_HEAD: usize = 16 << 10;
const LISTENER: u64 = u64::MAX;
const INPUT: u64 = u64::MAX - 1;

/// A body on its way.
struct Body {
    path: String,
    hash: u64,
    size: u64,
    sent: u64,
    rate: u64,
    begun: u64,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// A head, or the whole answer to a question about the origin itself, and how much of it is sent.
    output: Vec<u8>,
    written: usize,
    body: Option<Body>,
    writing: bool,
}

struct Origin {
    epoll: Epoll,
    listener: TcpListener,
    connections: HashMap<u64, Connection>,
    paced: Vec<u64>,
    next: u64,
    date: String,
    counts: HashMap<String, u64>,
    timelines: HashMap<String, Vec<[u64; 2]>>,
}

pub fn run(args: &Args) -> Outcome<()> {
    sys::raise_descriptors();
    let date = args.text("date").unwrap_or("Thu, 01 Jan 2026 00:00:00 GMT").to_string();
    serve(args.get("port", 0)?, date).map_err(|error| error.to_string())
}

fn serve(port: u16, date: String) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(listener.as_raw_fd(), LISTENER, sys::READ)?;
    epoll.add(io::stdin().as_raw_fd(), INPUT, sys::READ)?;
    println!("{}", listener.local_addr()?.port());
    let mut origin = Origin {
        epoll,
        listener,
        connections: HashMap::new(),
        paced: Vec::new(),
        next: 0,
        date,
        counts: HashMap::new(),
        timelines: HashMap::new(),
    };
    let mut ready = Ready::with_capacity(256);
    loop {
        origin.epoll.wait(&mut ready, if origin.paced.is_empty() { -1 } else { 1 })?;
        for event in &ready {
            match event.u64 {
                INPUT if io::stdin().read(&mut [0; 64])? == 0 => return Ok(()),
                INPUT => {}
                LISTENER => origin.accept(),
                number => origin.ready(number),
            }
        }
        for number in std::mem::take(&mut origin.paced) {
            origin.write(number);
        }
    }
}

impl Origin {
    /// Takes what waits. A connection that is gone again is none of our business.
    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let set = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
            if set.and_then(|()| self.epoll.add(stream.as_raw_fd(), self.next, sys::READ)).is_err() {
                continue;
            }
            let connection = Connection {
                stream,
                input: Vec::new(),
                output: Vec::new(),
                written: 0,
                body: None,
                writing: false,
            };
            self.connections.insert(self.next, connection);
            self.next += 1;
        }
    }

    fn ready(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let mut buffer = [0; LONGEST_HEAD];
        match connection.stream.read(&mut buffer) {
            Ok(count) if count > 0 && connection.input.len() + count <= LONGEST_HEAD => {
                connection.input.extend_from_slice(&buffer[..count]);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => {
                self.connections.remove(&number);
                return;
            }
        }
        self.write(number);
    }

    /// Sends what may be sent, and takes the next request when one is answered.
    fn write(&mut self, number: u64) {
        loop {
            let Some(connection) = self.connections.get_mut(&number) else { return };
            if connection.is_free() {
                let Some(end) = head::end(&connection.input) else { break };
                let request = String::from_utf8_lossy(&connection.input[..end]).into_owned();
                connection.input.drain(..end);
                self.answer(number, &request);
                continue;
            }
            let before = connection.body.as_ref().map_or(0, |body| body.sent);
            let result = connection.push();
            if let Some(body) = connection.body.as_ref().filter(|body| body.rate > 0 && body.sent > before) {
                let timeline = self.timelines.entry(body.path.clone()).or_default();
                timeline.push([body.sent, sys::now()]);
            }
            match result {
                Ok(true) => connection.finish(),
                Ok(false) => {
                    if !self.paced.contains(&number) {
                        self.paced.push(number);
                    }
                    break;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.want_writing(number, true);
                    return;
                }
                Err(_) => {
                    self.connections.remove(&number);
                    return;
                }
            }
        }
        self.want_writing(number, false);
    }

    fn want_writing(&mut self, number: u64, wanted: bool) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if connection.writing != wanted {
            let events = if wanted { sys::READ | sys::WRITE } else { sys::READ };
            if self.epoll.change(connection.stream.as_raw_fd(), number, events).is_ok() {
                connection.writing = wanted;
            } else {
                self.connections.remove(&number);
            }
        }
    }

    fn answer(&mut self, number: u64, request: &str) {
        let mut words = request.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = match target.strip_prefix("http://").and_then(|rest| rest.find('/').map(|at| &rest[at..]))
        {
            Some(path) => path.to_string(),
            None => target.to_string(),
        };
        let own = match path.as_str() {
            "/__counts" => Some(format!("{:?}", std::mem::take(&mut self.counts))),
            "/__timeline" => Some(format!("{:?}", std::mem::take(&mut self.timelines))),
            _ => None,
        };
        let (size, rate) = content::parse(&path).unwrap_or((0, 0));
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.written = 0;
        if own.is_some() || size == 0 {
            let status = if own.is_some() { "200 OK" } else { "404 Not Found" };
            let text = own.unwrap_or_default();
            let length = text.len();
            connection.output =
                format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{text}").into_bytes();
            return;
        }
        *self.counts.entry(path.clone()).or_default() += 1;
        connection.output.clear();
        let written = write!(
            connection.output,
            "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: {}\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\nLast-Modified: Sun, 17 May 2015 00:31:39 GMT\r\nETag: \"{size:x}\"\r\nCache-Control: public, max-age=86400\r\n\r\n",
            self.date
        );
        debug_assert!(written.is_ok(), "a vector takes everything");
        if method == "GET" {
            let hash = hash(path.as_bytes());
            connection.body = Some(Body { path, hash, size, sent: 0, rate, begun: sys::now() });
        }
    }
}

impl Connection {
    fn is_free(&self) -> bool {
        self.output.is_empty() && self.body.is_none()
    }

    fn finish(&mut self) {
        self.output.clear();
        self.body = None;
    }

    /// Sends more of the answer: true when it is complete, false if its pace says to wait.
    fn push(&mut self) -> io::Result<bool> {
        while self.written < self.output.len() {
            let piece = [IoSlice::new(&self.output[self.written..])];
            self.written += sys::send(&self.stream, &piece, self.body.is_some())?;
        }
        let Some(body) = &mut self.body else { return Ok(true) };
        loop {
            let allowed = body.allowed();
            if allowed == 0 {
                return Ok(body.sent == body.size);
            }
            body.sent += send_blocks(&self.stream, body.hash, body.sent, allowed)? as u64;
        }
    }
}

impl Body {
    /// Bytes that may be sent now.
    fn allowed(&self) -> u64 {
        let left = self.size - self.sent;
        if self.rate == 0 {
            return left;
        }
        // One millisecond's worth is there from the start.
        let elapsed = (sys::now() - self.begun) / 1_000_000 + 1;
        (self.rate * elapsed / 1000).saturating_sub(self.sent).min(left)
    }
}

/// Sends up to `allowed` bytes of a body from `offset` on; how many it were.
fn send_blocks(stream: &TcpStream, hash: u64, offset: u64, allowed: u64) -> io::Result<usize> {
    let first = offset / BLOCK as u64;
    let marks: [[u8; MARK]; BLOCKS] = std::array::from_fn(|index| mark(hash, first + index as u64));
    let mut pieces = [IoSlice::new(&[]); 2 * BLOCKS];
    let mut skip = (offset % BLOCK as u64) as usize;
    let mut left = allowed;
    for (index, mark) in marks.iter().enumerate() {
        for (place, whole) in [(2 * index, &mark[..]), (2 * index + 1, &page()[MARK..])] {
            let rest = &whole[skip.min(whole.len())..];
            skip -= whole.len() - rest.len();
            let rest = &rest[..rest.len().min(left as usize)];
            left -= rest.len() as u64;
            pieces[place] = IoSlice::new(rest);
        }
    }
    sys::send(stream, &pieces, false)
}
