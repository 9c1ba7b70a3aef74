//! A load generator on one thread: connections that each ask again as soon as they are answered.
//!
//! It never sleeps unless told (`--block 1`): a server that must wake its client is charged for it,
//! and that would measure the client. It polls, and gives way to the origin on the same core.
//! Bodies are thrown away in the kernel, so that their copying does not hold it up.
//!
//! `--connect HOST:PORT`, the options of [`Files`] and [`Requests`], and
//! `--connections N` (1), `--order seq|random|once` (seq), `--seed N`,
//! `--seconds S` or `--count N` requests (once: the number of files),
//! `--warm 0`: no request of each connection before the clock starts,
//! `--usage FILE`: the cgroup's file with the server's CPU time, `--settle-ms N`: time for the
//! server's work after the last byte before that is read again,
//! `--pace N`: requests a second, of all connections together, whatever the answers do,
//! `--block 1`: sleeps while there is nothing to do, `--first-class 1`: real-time priority,
//! `--trace 1`: the times of each request, `--timeline 1`: of each read of a body,
//! `--deadline S` (60): seconds without any answer after which it gives up.

use std::io::{ErrorKind, IoSlice, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::args::{Args, Outcome};
use crate::content::{Files, scramble};
use crate::head::{self, Requests};
use crate::stats::cpu_seconds;
use crate::sys::{self, Epoll, Ready};
use crate::tally::Tally;

/// The most that is thrown away in one call, so that the others get their turn.
const DISCARD: u64 = 4 << 20;
/// Reads of one head and, if it is small, its body.
const BUFFER: usize = 4096;
/// Connections that open together; more would overflow the backlog of some servers.
const OPENING: usize = 64;
/// The token of the pacing timer.
const TIMER: u64 = u64::MAX;
/// How often the server may close between two requests without it counting as an error.
const RECONNECTS_IN_A_ROW: u32 = 3;

#[derive(Clone, Copy, PartialEq)]
enum State {
    Idle,
    Head,
    Body,
    Gone,
}

struct Connection {
    stream: TcpStream,
    state: State,
    serial: u64,
    /// Bytes of a head that came in pieces.
    partial: Vec<u8>,
    left: u64,
    close: bool,
    asked: u64,
    first: u64,
    answers: u64,
    reconnects: u32,
}

enum Order {
    Sequence,
    Random(u64),
}

struct Load {
    address: SocketAddr,
    requests: Requests,
    order: Order,
    epoll: Epoll,
    connections: Vec<Connection>,
    request: Vec<u8>,
    tally: Tally,
    /// No more requests than this.
    most: u64,
    trace: bool,
    timeline: bool,
    pace: Option<Pace>,
}

/// Requests at a given rate: a due one waits for a free connection, and the wait counts.
struct Pace {
    timer: OwnedFd,
    interval: u64,
    /// When the next is due.
    due: u64,
    free: Vec<usize>,
}

pub fn run(args: &Args) -> Outcome<()> {
    sys::raise_descriptors();
    let fail = |error: std::io::Error| error.to_string();
    let files = Files::from_args(args)?;
    let (order, once) = match args.text("order").unwrap_or("seq") {
        "seq" => (Order::Sequence, false),
        "once" => (Order::Sequence, true),
        "random" => (Order::Random(args.get("seed", 1)?), false),
        other => return Err(format!("--order {other}: seq, random or once")),
    };
    let seconds: f64 = args.get("seconds", 0.0)?;
    let most = args.get("count", if once { files.count } else { u64::MAX })?;
    if seconds <= 0.0 && most == u64::MAX {
        return Err("--seconds or --count is needed".into());
    }
    let mut load = Load {
        address: args.connect()?,
        requests: Requests::from_args(args, files),
        order,
        epoll: Epoll::new().map_err(fail)?,
        connections: Vec::new(),
        request: Vec::new(),
        tally: Tally::new(),
        most: u64::MAX,
        trace: args.on("trace"),
        timeline: args.on("timeline"),
        pace: None,
    };
    let timing = Timing {
        block: args.on("block"),
        deadline: (args.get::<f64>("deadline", 60.0)? * 1e9) as u64,
        settle: std::time::Duration::from_millis(args.get("settle-ms", 0)?),
        usage: args.text("usage"),
    };
    let first_class = args.on("first-class") && sys::go_first();
    load.open(args.get("connections", 1)?, args.get::<u8>("warm", 1)? != 0, &timing)?;
    let pace: f64 = args.get("pace", 0.0)?;
    if pace > 0.0 {
        let interval = (1e9 / pace) as u64;
        let timer = sys::ticks(interval).map_err(fail)?;
        load.epoll.add(timer.as_raw_fd(), TIMER, sys::READ).map_err(fail)?;
        let free = (0..load.connections.len()).rev().collect();
        load.pace = Some(Pace { timer, interval, due: sys::now(), free });
    }
    let (duration, cpu) = load.measure((seconds * 1e9) as u64, most, &timing)?;
    let answers = load.connections.iter().map(|connection| connection.answers);
    println!("{}", load.tally.json(duration, cpu, answers, first_class));
    Ok(())
}

struct Timing<'a> {
    block: bool,
    /// Nanoseconds.
    deadline: u64,
    settle: std::time::Duration,
    usage: Option<&'a str>,
}

impl Load {
    /// Opens the connections and, if `warm`, has each answered once. Nothing of it is counted.
    fn open(&mut self, count: usize, warm: bool, timing: &Timing<'_>) -> Outcome<()> {
        while self.connections.len() < count {
            let before = self.connections.len();
            for index in before..count.min(before + OPENING) {
                let stream =
                    sys::connect(self.address).map_err(|error| format!("connection {index}: {error}"))?;
                let add = self.epoll.add(stream.as_raw_fd(), index as u64, sys::READ);
                add.map_err(|error| error.to_string())?;
                self.connections.push(Connection::new(stream));
            }
            if warm {
                self.most = self.tally.asked + (self.connections.len() - before) as u64;
                (before..self.connections.len()).for_each(|index| self.ask(index, sys::now()));
                self.turns(u64::MAX, timing)?;
            }
        }
        if self.tally.errors > 0 {
            return Err(format!("while it warmed up: {}", self.tally.words.join("; ")));
        }
        self.connections.iter_mut().for_each(|connection| connection.answers = 0);
        self.tally = Tally::new();
        Ok(())
    }

    /// The measured part: its length in nanoseconds, and the server's CPU seconds.
    fn measure(&mut self, length: u64, most: u64, timing: &Timing<'_>) -> Outcome<(u64, Option<f64>)> {
        self.most = most;
        let before = timing.usage.and_then(cpu_seconds);
        let begun = sys::now();
        if self.pace.is_none() {
            (0..self.connections.len()).for_each(|index| self.ask(index, sys::now()));
        }
        self.turns(if length == 0 { u64::MAX } else { begun + length }, timing)?;
        let duration = sys::now() - begun;
        std::thread::sleep(timing.settle);
        let after = timing.usage.and_then(cpu_seconds);
        Ok((duration, before.zip(after).map(|(before, after)| after - before)))
    }

    /// Serves events until the time is up or the last request is answered.
    fn turns(&mut self, end: u64, timing: &Timing<'_>) -> Outcome<()> {
        let mut ready = Ready::with_capacity(512);
        let (mut progress, mut seen) = (sys::now(), self.tally.seen());
        while self.tally.answered + self.tally.errors < self.most {
            self.epoll
                .wait(&mut ready, if timing.block { 10 } else { 0 })
                .map_err(|error| error.to_string())?;
            for event in &ready {
                match event.u64 {
                    TIMER => self.tick(),
                    index => self.readable(index as usize),
                }
            }
            if ready.is_empty() && !timing.block {
                sys::give_way();
            }
            let now = sys::now();
            if now >= end {
                break;
            }
            if self.tally.seen() != seen {
                (progress, seen) = (now, self.tally.seen());
            } else if now > progress + timing.deadline {
                return Err(format!("no byte in {} s; {} answers", timing.deadline / 1_000_000_000, seen.0));
            }
            if self.connections.iter().all(|connection| connection.state == State::Gone) {
                return Err(format!("all connections failed: {}", self.tally.words.join("; ")));
            }
        }
        Ok(())
    }

    /// The due requests, as many as there are free connections.
    fn tick(&mut self) {
        let now = sys::now();
        if let Some(pace) = &self.pace {
            sys::ticked(&pace.timer);
        }
        while let Some(pace) = &mut self.pace {
            if pace.due > now {
                break;
            }
            let Some(index) = pace.free.pop() else { break };
            let due = pace.due;
            pace.due += pace.interval;
            self.ask(index, due);
        }
    }

    /// Sends the next request on this connection, if there is one.
    fn ask(&mut self, index: usize, due: u64) {
        if self.tally.asked >= self.most {
            self.connections[index].state = State::Idle;
            return;
        }
        let number = self.tally.asked;
        self.tally.asked += 1;
        let files = self.requests.files();
        let place = match self.order {
            Order::Sequence => number % files.count,
            Order::Random(seed) => {
                scramble(seed.wrapping_mul(0x5851_f42d).wrapping_add(number)) % files.count
            }
        };
        self.connections[index].serial = files.first + place;
        self.connections[index].asked = due;
        self.send(index);
    }

    fn send(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        self.requests.write(connection.serial, &mut self.request);
        connection.state = State::Head;
        connection.partial.clear();
        match sys::send(&connection.stream, &[IoSlice::new(&self.request)], false) {
            Ok(sent) if sent == self.request.len() => {}
            // The server closed while nothing was asked: the reading side will find that out.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                self.reconnect(index);
            }
            other => self.fail(index, format!("request not sent: {other:?}")),
        }
    }

    fn readable(&mut self, index: usize) {
        match self.connections[index].state {
            State::Head => self.read_head(index),
            State::Body => self.read_body(index),
            // Only an end can come while nothing is asked.
            State::Idle => self.replace(index),
            State::Gone => {}
        }
    }

    fn read_head(&mut self, index: usize) {
        let mut buffer = [0; BUFFER];
        let connection = &mut self.connections[index];
        let bytes = match connection.stream.read(&mut buffer) {
            Ok(0) if connection.partial.is_empty() => return self.reconnect(index),
            Ok(0) => return self.fail(index, "closed within the head".into()),
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::ConnectionReset && connection.partial.is_empty() => {
                return self.reconnect(index);
            }
            Err(error) => return self.fail(index, format!("head: {error}")),
        };
        let whole = if connection.partial.is_empty() {
            bytes
        } else {
            connection.partial.extend_from_slice(bytes);
            &connection.partial
        };
        let response = match head::response(whole) {
            Ok(Some(response)) => response,
            Ok(None) => {
                if connection.partial.is_empty() {
                    connection.partial = bytes.to_vec();
                }
                return;
            }
            Err(words) => return self.fail(index, words),
        };
        let size = self.requests.files().size(connection.serial);
        let body = (whole.len() - response.head) as u64;
        if response.status != 200 || response.length != Some(size) || body > size {
            return self.fail(index, format!("{response:?} for {size} bytes"));
        }
        connection.reconnects = 0;
        connection.close = response.close;
        connection.left = size - body;
        connection.state = State::Body;
        connection.first = 0;
        self.got(index, body);
        // Most of a body lies behind its head.
        if body > 0 && self.connections[index].state == State::Body {
            self.read_body(index);
        }
    }

    fn read_body(&mut self, index: usize) {
        let connection = &self.connections[index];
        match sys::discard(&connection.stream, connection.left.min(DISCARD) as usize) {
            Ok(0) => self.fail(index, format!("closed with {} bytes to come", connection.left)),
            Ok(count) => {
                self.connections[index].left -= count as u64;
                self.got(index, count as u64);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.fail(index, format!("body: {error}")),
        }
    }

    /// Counts bytes of a body, and the answer with its last.
    fn got(&mut self, index: usize, count: u64) {
        let connection = &mut self.connections[index];
        let now = sys::now();
        if count > 0 && connection.first == 0 {
            connection.first = now;
            self.tally.first_byte.add(now.saturating_sub(connection.asked));
        }
        self.tally.bytes += count;
        if self.timeline {
            self.tally.timeline.push([self.tally.bytes, now]);
        }
        if connection.left > 0 {
            return;
        }
        connection.answers += 1;
        self.tally.answered += 1;
        self.tally.last_byte.add(now.saturating_sub(connection.asked));
        if self.trace {
            self.tally.trace.push([connection.serial, connection.asked, connection.first, now]);
        }
        connection.state = State::Idle;
        if connection.close {
            self.replace(index);
        }
        self.go_on(index, now);
    }

    fn go_on(&mut self, index: usize, now: u64) {
        if self.connections[index].state != State::Idle {
            return;
        }
        match &mut self.pace {
            None => self.ask(index, now),
            Some(pace) => {
                pace.free.push(index);
                if pace.due <= now {
                    self.tick();
                }
            }
        }
    }

    /// The server closed before it answered: it may, between two requests. Asks again.
    fn reconnect(&mut self, index: usize) {
        self.connections[index].reconnects += 1;
        if self.connections[index].reconnects > RECONNECTS_IN_A_ROW {
            return self.fail(index, "closed without an answer".into());
        }
        self.replace(index);
        if self.connections[index].state == State::Idle {
            self.send(index);
        }
    }

    /// A new connection in place of this one.
    fn replace(&mut self, index: usize) {
        self.tally.reconnects += 1;
        let opened = sys::connect(self.address);
        let opened = opened.and_then(|stream| {
            self.epoll.add(stream.as_raw_fd(), index as u64, sys::READ)?;
            Ok(stream)
        });
        let connection = &mut self.connections[index];
        match opened {
            Ok(stream) => {
                connection.stream = stream;
                connection.state = State::Idle;
            }
            Err(error) => {
                connection.state = State::Gone;
                self.tally.error(format!("reconnect: {error}"));
            }
        }
    }

    /// Counts an error; the connection starts anew.
    fn fail(&mut self, index: usize, words: String) {
        self.tally.error(words);
        self.connections[index].reconnects = 0;
        self.replace(index);
        // Every answer an error: it need not go on as fast as it can.
        if self.tally.errors < 1000 {
            self.go_on(index, sys::now());
        } else {
            self.connections[index].state = State::Gone;
        }
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let (state, partial) = (State::Idle, Vec::new());
        Self {
            stream,
            state,
            partial,
            serial: 0,
            left: 0,
            close: false,
            asked: 0,
            first: 0,
            answers: 0,
            reconnects: 0,
        }
    }
}
