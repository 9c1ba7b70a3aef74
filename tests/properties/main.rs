//! The promises of the parsers, for bytes made from seeds and for those that guided searches have kept.
//!
//! The targets in `fuzz/` run the same checks for as long as one likes: `scripts/try/fuzz.sh`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed assumption of a test is a failed test"
)]

mod checks;

use std::fs;
use std::path::Path;

use checks::dice::Dice;

const SEEDS: u64 = 4_000;

/// The input at work, on stderr should its check fail.
struct Named<'a>(String, &'a [u8]);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {}", self.0, self.1.escape_ascii());
        }
    }
}

fn from_seeds(check: fn(&[u8]) -> bool, generate: fn(&mut Dice) -> Vec<u8>) {
    let mut passed = 0;
    for seed in 0..SEEDS {
        let data = generate(&mut Dice::new(seed));
        let named = Named(format!("seed {seed}"), &data);
        passed += u64::from(check(&data));
        drop(named);
    }
    // Else nearly all of it is turned away at once, and nothing is checked.
    assert!(passed > SEEDS / 10 && passed < SEEDS, "{passed} of {SEEDS} got past the parser");
}

/// What guided searches have found worth keeping: short ways to reach each branch.
fn from_corpus(name: &str, check: fn(&[u8]) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "{} is nearly empty", folder.display());
    for file in files {
        let data = fs::read(&file).unwrap();
        let named = Named(file.display().to_string(), &data);
        check(&data);
        drop(named);
    }
}

/// Two tests for each target.
macro_rules! targets {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn holds_for_seeds() {
                super::from_seeds(super::checks::$name::check, super::checks::$name::generate);
            }

            #[test]
            fn holds_for_the_corpus() {
                super::from_corpus(stringify!($name), super::checks::$name::check);
            }
        }
    )*};
}

targets!(request response chunked range dates paths connection stored partials);
