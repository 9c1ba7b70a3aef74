//! The origin of all runs: files that change, ranges that it knows or not, and times when it is down.

use super::*;

/// An answer, with what follows its head.
pub(crate) struct Sent {
    pub(crate) head: ResponseHead,
    pub(crate) body: Vec<u8>,
    pub(crate) version: usize,
}

/// What is under its paths now.
pub(crate) struct Origin {
    versions: [Cell<usize>; PATHS.len()],
    pub(crate) rng: Rng,
}

impl Origin {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { versions: Default::default(), rng }
    }

    pub(crate) fn version(&self, number: usize) -> usize {
        self.versions[number].get()
    }

    /// Another version, whose validator is another one too.
    pub(crate) fn change(&self, number: usize) {
        self.versions[number].set(self.version(number) + 1);
    }

    fn sent(&self, number: usize, status: u16, first: usize, lines: &[(&str, String)]) -> Sent {
        let version = self.version(number);
        let mut fields = Fields::new();
        lines.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
        let head =
            ResponseHead { status, reason: Box::default(), version: Version::Http11, fields, source: None };
        Sent { head, body: body_of(number, version).split_off(first), version }
    }

    fn tag(&self, number: usize) -> String {
        format!("\"{}\"", self.version(number))
    }

    /// The answer to a request for all of it; the length may be told or not.
    pub(crate) fn whole(&self, number: usize) -> Sent {
        let length = body_of(number, 0).len().to_string();
        let framing = [("Content-Length", length), ("Transfer-Encoding", "chunked".to_owned())];
        let framing = framing[self.rng.below(2)].clone();
        self.sent(number, 200, 0, &[("ETag", self.tag(number)), framing])
    }

    /// The answer to a request for the bytes from `from` on, if they are of that identity; or none.
    pub(crate) fn rest(&self, number: usize, from: u64, wanted: &Identity, calm: bool) -> Option<Sent> {
        let is_same = wanted.condition() == self.tag(number).as_bytes();
        match self.rng.below(if calm { 1 } else { 8 }) {
            1 => Some(self.whole(number)),
            2 | 3 => Some(self.sent(number, 503, 0, &[("Content-Length", "0".to_owned())])),
            4 | 5 => None,
            // One that does not look at the condition.
            6 => Some(self.part(number, from)),
            _ => Some(if is_same { self.part(number, from) } else { self.whole(number) }),
        }
    }

    fn part(&self, number: usize, from: u64) -> Sent {
        let total = body_of(number, 0).len();
        let first = usize::try_from(from).unwrap();
        if first >= total {
            return self.sent(number, 416, total, &[("Content-Length", "0".to_owned())]);
        }
        let fields = [
            ("ETag", self.tag(number)),
            ("Content-Range", format!("bytes {first}-{}/{total}", total - 1)),
            ("Content-Length", (total - first).to_string()),
        ];
        self.sent(number, 206, first, &fields)
    }
}

/// A body on its way, as `fetch::resume::Start` has it.
pub(crate) struct Coming {
    /// What is still to come, behind what the file has.
    pub(crate) body: Vec<u8>,
    /// Bytes in the file.
    pub(crate) stored: usize,
    /// Bytes of the whole, where that is known.
    pub(crate) end: Option<usize>,
    /// What the file is, where that is proven.
    pub(crate) identity: Option<Identity>,
}

/// What an answer for the rest is good for.
pub(crate) enum Rest {
    GoesOn(Coming, usize),
    Unanswered,
    Another,
}

/// Asks for what comes behind `stored` bytes of a file, as `fetch::resume` does it.
pub(crate) fn ask_rest(process: &ProcessRun, number: usize, stored: usize, identity: &Identity) -> Rest {
    let from = identity.ask_from(stored as u64);
    let Some(Sent { head, mut body, version }) = process.origin.rest(number, from, identity, process.calm)
    else {
        return Rest::Unanswered;
    };
    match identity.continues(&head, from) {
        Continuation::From { first, total } => {
            let (first, end) =
                (usize::try_from(first).unwrap(), total.map(|end| usize::try_from(end).unwrap()));
            if first > stored || end.is_some_and(|end| stored > end) || stored - first > body.len() {
                process.meet(Event::Another, 1);
                return Rest::Another;
            }
            process.meet(Event::Saved, first);
            let body = body.split_off(stored - first);
            Rest::GoesOn(Coming { body, stored, end, identity: Some(identity.clone()) }, version)
        }
        Continuation::Later => Rest::Unanswered,
        Continuation::Other => {
            process.meet(Event::Another, 1);
            Rest::Another
        }
    }
}
