//! A whole connection: heads, bodies and heads again, cut at any place, come to the same messages.
//!
//! The first byte says which side sends: odd for an origin (and for every second answer to a HEAD with
//! the next bit), even for a client.

use fs_caching_server::http::body::Incoming;
use fs_caching_server::http::request::{self, HeadLimits, Method};
use fs_caching_server::http::response;

use super::dice::Dice;
use super::{chunked, cuttings, request as requests, response as responses};

const LIMITS: HeadLimits = HeadLimits { bytes: 512, fields: 16, target: 100 };

pub(crate) fn generate(dice: &mut Dice) -> Vec<u8> {
    let side = dice.byte() & 3;
    let mut out = vec![side];
    for _ in 0..1 + dice.below(4) {
        let first = if side & 1 == 0 { "PUT /a HTTP/1.1\r\nHost: h" } else { "HTTP/1.1 200 OK" };
        let framing =
            dice.pick(&["Content-Length: 5", "Transfer-Encoding: chunked", "X: y", "Content-Length: 0"]);
        match dice.below(6) {
            0 if side & 1 == 0 => out.extend(requests::generate(dice)),
            0 => out.extend(responses::generate(dice)),
            1 => out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
            _ => {
                out.extend_from_slice(format!("{first}\r\n{framing}\r\n\r\n").as_bytes());
                match framing {
                    "Content-Length: 5" => out.extend_from_slice(b"12345"),
                    "Transfer-Encoding: chunked" => out.extend(chunked::generate(dice)),
                    _ => {}
                }
            }
        }
    }
    out
}

pub(crate) fn check(data: &[u8]) -> bool {
    let Some((side, bytes)) = data.split_first() else { return false };
    let read = |steps: &[usize]| Reading::new(*side).all(bytes, steps);
    let whole = read(&[bytes.len().max(1)]);
    let mut position = 0;
    for message in &whole.messages {
        assert!(position <= message.starts && message.starts < message.body_starts);
        assert!(message.body_starts <= message.ends && message.ends <= bytes.len(), "beyond what is there");
        assert!(message.payload.len() <= message.ends - message.body_starts);
        position = message.ends;
    }
    for steps in cuttings(bytes) {
        assert_eq!(read(&steps), whole, "in steps of {steps:?}");
    }
    whole.messages.len() > 1
}

/// A message that came whole.
#[derive(PartialEq, Debug)]
struct Message {
    starts: usize,
    head: String,
    body_starts: usize,
    payload: Vec<u8>,
    ends: usize,
}

/// How it stands with the connection.
#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    /// A head is due.
    Head,
    /// The body of a message is due.
    Body,
    /// Nothing is to be read any more: it was the last message, or what came is refused.
    Closed,
    Refused,
}

/// What has been made of the bytes so far.
#[derive(Debug)]
struct Reading {
    side: u8,
    state: State,
    input: Vec<u8>,
    scanned: usize,
    /// Bytes taken off the input, in all.
    taken: usize,
    body: Incoming,
    /// The message whose body is due, and whether another may follow.
    current: Option<(Message, bool)>,
    messages: Vec<Message>,
}

impl PartialEq for Reading {
    fn eq(&self, other: &Self) -> bool {
        // How far a broken body was read is of no use to anyone.
        let taken = |reading: &Self| (reading.state != State::Refused).then_some(reading.taken);
        let outcome = |reading: &Self| (reading.state, taken(reading));
        let (ours, theirs) = ((&self.current, &self.messages), (&other.current, &other.messages));
        outcome(self) == outcome(other) && ours == theirs
    }
}

impl Reading {
    fn new(side: u8) -> Self {
        Self {
            side,
            state: State::Head,
            input: Vec::new(),
            scanned: 0,
            taken: 0,
            body: Incoming::Done,
            current: None,
            messages: Vec::new(),
        }
    }

    fn all(mut self, bytes: &[u8], steps: &[usize]) -> Self {
        let mut rest = bytes;
        for step in steps.iter().cycle() {
            let (piece, after) = rest.split_at(rest.len().min(*step));
            rest = after;
            self.feed(piece);
            assert_eq!(self.taken + self.input.len() + rest.len(), bytes.len(), "bytes are lost");
            if rest.is_empty() || matches!(self.state, State::Closed | State::Refused) {
                break;
            }
        }
        self
    }

    fn feed(&mut self, piece: &[u8]) {
        self.input.extend_from_slice(piece);
        loop {
            let going_on = match self.state {
                State::Head => self.head(),
                State::Body => self.payload(),
                State::Closed | State::Refused => false,
            };
            if !going_on {
                return;
            }
        }
    }

    /// Reads a head as a connection does. Is there more to do with what is here?
    fn head(&mut self) -> bool {
        let method =
            if self.side & 2 != 0 && self.messages.len() % 2 == 1 { Method::Head } else { Method::Get };
        let read = if self.side & 1 == 0 {
            request::parse(&self.input, &LIMITS, &mut self.scanned).map_err(drop).map(|read| {
                read.map(|(head, used)| {
                    let body = Ok(Incoming::from(head.body));
                    (body, format!("{:?}", requests::fingerprint(&head)), head.keep_alive(), used)
                })
            })
        } else {
            response::parse(&self.input, &LIMITS, &mut self.scanned).map_err(drop).map(|read| {
                read.map(|(head, used)| {
                    let body = head.body(&method).map(Incoming::from);
                    (body, format!("{:?}", responses::fingerprint(&head)), head.keep_alive(), used)
                })
            })
        };
        let (body, head, keep, used) = match read {
            Ok(Some((Ok(body), head, keep, used))) => (body, head, keep, used),
            Ok(None) => return false,
            Ok(Some((Err(_), ..))) | Err(()) => {
                self.state = State::Refused;
                return false;
            }
        };
        assert_eq!(self.scanned, 0, "the next head is not looked at from its start");
        let starts = self.taken;
        self.take_off(used);
        let message =
            Message { starts, head, body_starts: self.taken, payload: Vec::new(), ends: self.taken };
        self.current = Some((message, keep));
        (self.state, self.body) = (State::Body, body);
        true
    }

    fn payload(&mut self) -> bool {
        let Some((message, keep)) = &mut self.current else { return false };
        let before = self.input.len();
        if self.body.take(&mut self.input, &mut message.payload).is_err() {
            self.state = State::Refused;
            return false;
        }
        self.taken += before - self.input.len();
        if !self.body.is_done() {
            assert!(self.input.is_empty(), "a body that leaves its own bytes");
            return false;
        }
        message.ends = self.taken;
        self.state = if *keep { State::Head } else { State::Closed };
        self.messages.extend(self.current.take().map(|(message, _)| message));
        !self.input.is_empty()
    }

    fn take_off(&mut self, count: usize) {
        self.input.drain(..count);
        self.taken += count;
    }
}
