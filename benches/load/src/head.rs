//! Heads of requests and responses: as much of HTTP/1.1 as a benchmark needs.

use crate::args::Args;
use crate::content::Files;

/// What is asked for, and how.
pub struct Requests {
    files: Files,
    /// `http://AUTHORITY` for a forward proxy, else empty.
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Requests {
    /// Reads `--absolute AUTHORITY`, which asks a forward proxy.
    pub fn from_args(args: &Args, files: Files) -> Self {
        let absolute = args.text("absolute");
        let before = absolute.map(|authority| format!("http://{authority}")).unwrap_or_default();
        let host = absolute.unwrap_or("bench.example.org");
        let after = format!(" HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n");
        Self { files, before: before.into_bytes(), after: after.into_bytes() }
    }

    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Replaces what is in `out` by the request for one file.
    pub fn write(&self, serial: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(&self.before);
        self.files.path(serial, out);
        out.extend_from_slice(&self.after);
    }
}

/// What matters of a response's head.
#[derive(Debug, PartialEq)]
pub struct Response {
    pub status: u16,
    pub length: Option<u64>,
    pub close: bool,
    /// Bytes of the head itself, its empty line included.
    pub head: usize,
}

/// Where a head ends, if it does: the number of its bytes.
pub fn end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads a response's head. `None` while it is incomplete, an error if it is none.
pub fn response(bytes: &[u8]) -> Result<Option<Response>, String> {
    let Some(head) = end(bytes) else { return Ok(None) };
    let mut lines = bytes[..head - 4].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.next().unwrap_or_default();
    let status = first.split(|byte| *byte == b' ').nth(1).and_then(number);
    let status = status.ok_or_else(|| format!("no status in {:?}", String::from_utf8_lossy(first)))?;
    let mut found =
        Response { status: status as u16, length: None, close: first.starts_with(b"HTTP/1.0"), head };
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            found.length = number(value);
        } else if name.eq_ignore_ascii_case(b"connection") && value.eq_ignore_ascii_case(b"close") {
            found.close = true;
        }
    }
    Ok(Some(found))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\nConnection: close\r\n\r\nbody";
        let want = Response { status: 200, length: Some(12), close: true, head: bytes.len() - 4 };
        assert_eq!(response(bytes), Ok(Some(want)));
        assert_eq!(response(&bytes[..40]), Ok(None));
        assert!(response(b"nonsense\r\n\r\n").is_err());
    }
}
