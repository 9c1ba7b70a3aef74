//! What a run of the load generator counts, and how it is printed.

use crate::stats::Histogram;

/// Errors that are reported in words.
const WORDS: usize = 5;

/// Counts, and times in nanoseconds.
pub struct Tally {
    pub asked: u64,
    pub answered: u64,
    /// Of bodies.
    pub bytes: u64,
    pub errors: u64,
    /// Connections opened in place of one that the server closed.
    pub reconnects: u64,
    pub words: Vec<String>,
    /// Serial, asked, first byte, last byte.
    pub trace: Vec<[u64; 4]>,
    /// Bytes until then, time.
    pub timeline: Vec<[u64; 2]>,
    pub first_byte: Histogram,
    pub last_byte: Histogram,
}

impl Tally {
    pub fn new() -> Self {
        Self {
            asked: 0,
            answered: 0,
            bytes: 0,
            errors: 0,
            reconnects: 0,
            words: Vec::new(),
            trace: Vec::new(),
            timeline: Vec::new(),
            first_byte: Histogram::new(),
            last_byte: Histogram::new(),
        }
    }

    /// Grows with anything that happens: answers and errors, bytes.
    pub fn seen(&self) -> (u64, u64) {
        (self.answered + self.errors, self.bytes)
    }

    /// Counts an error, and keeps the words of the first.
    pub fn error(&mut self, words: String) {
        self.errors += 1;
        if self.words.len() < WORDS {
            // Only what JSON and `Debug` write alike.
            self.words.push(words.replace(|letter| !(' '..='~').contains(&letter), "?"));
        }
    }

    /// One object. `answers` are those of each connection.
    pub fn json(
        &self,
        duration: u64,
        cpu: Option<f64>,
        answers: impl Iterator<Item = u64>,
        first: bool,
    ) -> String {
        let (least, most) = answers.fold((u64::MAX, 0), |(least, most), own| (least.min(own), most.max(own)));
        let words: Vec<String> = self.words.iter().map(|words| format!("{words:?}")).collect();
        let fields = [
            ("requests", self.answered.to_string()),
            ("bytes", self.bytes.to_string()),
            ("errors", self.errors.to_string()),
            ("reconnects", self.reconnects.to_string()),
            ("seconds", format!("{:.6}", duration as f64 / 1e9)),
            ("cpu", cpu.map_or("null".into(), |cpu| format!("{cpu:.6}"))),
            ("first_byte_us", self.first_byte.json()),
            ("last_byte_us", self.last_byte.json()),
            ("answers_per_connection", format!("[{least}, {most}]")),
            ("first_class", first.to_string()),
            ("words", format!("[{}]", words.join(", "))),
            ("trace", format!("{:?}", self.trace)),
            ("timeline", format!("{:?}", self.timeline)),
        ];
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        format!("{{{}}}", fields.join(", "))
    }
}
