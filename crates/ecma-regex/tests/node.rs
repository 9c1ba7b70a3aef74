//! Random patterns and inputs, answered here and by Node.js: the two must not differ.
//!
//! ```text
//! ECMA_REGEX_PAIRS=600000 ECMA_REGEX_SEED=7 \
//!     cargo test --release -p fs-caching-server-ecma-regex --test node -- --nocapture
//! ```
//!
//! runs so many pairs of each kind; a plain `cargo test` runs a few, and none where there is no `node`.
#![allow(clippy::unwrap_used, reason = "a failed assumption of a test is a failed test, in helpers too")]
#![allow(clippy::print_stderr, reason = "what was left out or given up is to be seen")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use ecma_regex::Pattern;
use patterns::{Kind, Random};

#[path = "node/patterns.rs"]
mod patterns;

/// Pairs of a pattern and an input, of each kind, unless told otherwise.
const PAIRS: usize = 20_000;
/// Inputs of one pattern.
const INPUTS: usize = 8;
/// Patterns that Node is asked about at once.
const BATCH: usize = 500;
/// One pair in so many may be given up.
const GIVEN_UP: usize = 1_000;

#[test]
fn paths_and_patterns_for_them_are_answered_as_by_node() {
    compare(Kind::Paths);
}

#[test]
fn captures_and_references_are_answered_as_by_node() {
    compare(Kind::References);
}

#[test]
fn look_around_of_all_kinds_is_answered_as_by_node() {
    compare(Kind::LookAround);
}

fn compare(kind: Kind) {
    let Some(mut node) = Node::start() else {
        eprintln!("left out: node cannot be run");
        return;
    };
    let (pairs, seed) = (setting("ECMA_REGEX_PAIRS", PAIRS), setting("ECMA_REGEX_SEED", 1));
    let mut random = Random::new(seed);
    let (mut compared, mut given_up, mut differences) = (0, 0, Vec::new());
    while compared < pairs {
        let batch: Vec<_> = (0..BATCH).map(|_| kind.pattern_and_inputs(&mut random, INPUTS)).collect();
        for ((source, inputs), answer) in batch.iter().zip(node.ask(&batch)) {
            if answer == "slow" {
                continue;
            }
            let Ok(pattern) = Pattern::new(source) else {
                assert_eq!(answer, "refused", "{source:?} is refused, but not by Node");
                continue;
            };
            assert_ne!(answer, "refused", "{source:?} is refused by Node alone");
            for (input, expected) in inputs.iter().zip(answer.chars()) {
                compared += 1;
                match pattern.try_matches(input) {
                    None => given_up += 1,
                    Some(found) if found == (expected == '1') => {}
                    Some(found) => {
                        differences.push(format!("{source:?} on {input:?}: {found}, Node {expected}"))
                    }
                }
            }
        }
    }
    eprintln!("{kind:?}, seed {seed}: {compared} pairs, {given_up} given up, {} differ", differences.len());
    assert!(differences.is_empty(), "\n  {}\n", differences.join("\n  "));
    assert!(given_up <= compared / GIVEN_UP + 1, "{given_up} of {compared} given up");
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// A process that answers in batches.
struct Node {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Node {
    /// `None` where there is none. V8's interpreter is asked: the code it compiles for a regex used more than once
    /// says that `((b\w)((?=[^a]))){2}` does not match `ababa/b`, and the interpreter that it does.
    fn start() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/answers.js");
        let mut command = Command::new("node");
        command.args(["--regexp-interpret-all", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let answers = BufReader::new(child.stdout.take()?);
        Some(Self { child, answers })
    }

    fn ask(&mut self, batch: &[(String, Vec<String>)]) -> Vec<String> {
        let mut text = String::new();
        for (source, inputs) in batch {
            let strings: Vec<_> = [source].into_iter().chain(inputs).map(|string| quoted(string)).collect();
            text.push_str(&format!("[{}]\n", strings.join(",")));
        }
        let mut questions = self.child.stdin.take().unwrap();
        let writer = thread::spawn(move || {
            questions.write_all(text.as_bytes()).unwrap();
            questions
        });
        let answers = batch.iter().map(|_| {
            let mut line = String::new();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "node has ended");
            line.trim_end().to_owned()
        });
        let answers = answers.collect();
        self.child.stdin = Some(writer.join().unwrap());
        answers
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// As a string of JSON.
fn quoted(string: &str) -> String {
    let unit = |unit: u16| match u8::try_from(unit) {
        Ok(byte @ (b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    format!("\"{}\"", string.encode_utf16().map(unit).collect::<String>())
}
