//! Bounded waiting, reproducible bytes, and a look at a directory tree.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The longest any single wait may last before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Polls until `probe` yields a value; fails the test with `what` after [`PATIENCE`].
pub(crate) fn within<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long: {what}");
        thread::sleep(Duration::from_millis(4));
    }
}

/// Polls until `probe` is true.
pub(crate) fn wait_until(what: &str, mut probe: impl FnMut() -> bool) {
    within(what, || probe().then_some(()));
}

/// `len` bytes that no short period repeats, so a shifted or mixed body never compares equal.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Compares bodies and names the first difference instead of printing megabytes.
#[track_caller]
pub(crate) fn assert_bytes(got: &[u8], want: &[u8], what: &str) {
    if got == want {
        return;
    }
    let at = got.iter().zip(want).position(|(a, b)| a != b).unwrap_or(got.len().min(want.len()));
    panic!(
        "{what}: {} bytes where {} were due, first difference at {at}: {:?}...",
        got.len(),
        want.len(),
        String::from_utf8_lossy(&got[at..got.len().min(at + 80)])
    );
}

/// Every file below `root`, as sorted relative paths; directories are named only when empty.
pub(crate) fn tree(root: &Path) -> Vec<String> {
    fn walk(dir: &Path, prefix: &str, out: &mut Vec<String>) {
        let mut empty = true;
        let entries = match fs::read_dir(dir) {
            // The server has removed it meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound && !prefix.is_empty() => return,
            entries => entries.unwrap(),
        };
        for entry in entries.map(Result::unwrap) {
            empty = false;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{name}/"), out);
            } else {
                out.push(name);
            }
        }
        if empty && !prefix.is_empty() {
            out.push(prefix.to_owned());
        }
    }
    let mut out = Vec::new();
    walk(root, "", &mut out);
    out.sort();
    out
}

/// Base64 with padding, for Basic credentials.
pub(crate) fn base64(input: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in input.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, &byte| (word << 8) | u32::from(byte)) << (8 * (3 - group.len()));
        for sextet in 0..4 {
            let index = usize::try_from((word >> (18 - 6 * sextet)) & 63).unwrap();
            let symbol = if sextet > group.len() { '=' } else { char::from(ALPHABET[index]) };
            out.push(symbol);
        }
    }
    out
}

/// A chunked body, cut into pieces of `piece` bytes, with its last chunk.
pub(crate) fn chunked(body: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for part in body.chunks(piece) {
        let mut size = String::new();
        write!(size, "{:x}\r\n", part.len()).unwrap();
        out.extend_from_slice(size.as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
