//! Log lines on their way out: workers add them to a buffer, one thread writes it. A slow or
//! closed stdout or stderr never holds up a request.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes a stream may be behind; lines beyond that are lost, and counted.
const MAX_BEHIND: usize = 8 * 1024 * 1024;

#[derive(Default)]
struct Buffers {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    lost: u64,
    writing: bool,
}

impl Buffers {
    fn is_idle(&self) -> bool {
        self.stdout.is_empty() && self.stderr.is_empty()
    }
}

/// The way to stdout and stderr.
pub struct Log {
    debug: bool,
    buffers: Mutex<Buffers>,
    more: Condvar,
    written: Condvar,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("debug", &self.debug).finish_non_exhaustive()
    }
}

impl Log {
    /// Starts the writing thread.
    pub fn start(debug: bool) -> io::Result<Arc<Self>> {
        let log = Arc::new(Self {
            debug,
            buffers: Mutex::default(),
            more: Condvar::new(),
            written: Condvar::new(),
        });
        let theirs = Arc::clone(&log);
        std::thread::Builder::new().name("log".into()).spawn(move || theirs.write())?;
        Ok(log)
    }

    /// Are debug lines wanted?
    pub fn debugs(&self) -> bool {
        self.debug
    }

    /// Adds an access line to stdout.
    pub fn access(&self, line: &[u8]) {
        let mut buffers = self.buffers();
        let full = buffers.stdout.len() + line.len() > MAX_BEHIND;
        if full {
            buffers.lost += 1;
            return;
        }
        let idle = buffers.is_idle();
        buffers.stdout.extend_from_slice(line);
        buffers.stdout.push(b'\n');
        self.wake(buffers, idle);
    }

    /// Adds a debug line to stderr, if they are wanted. Control characters are escaped, so that no
    /// request can forge a line.
    pub fn debug(&self, line: fmt::Arguments<'_>) {
        if self.debug {
            self.error(line);
        }
    }

    /// Adds a line to stderr in any case.
    pub fn error(&self, line: fmt::Arguments<'_>) {
        let mut text = String::new();
        for character in line.to_string().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        text.push('\n');
        let mut buffers = self.buffers();
        if buffers.stderr.len() + text.len() > MAX_BEHIND {
            buffers.lost += 1;
            return;
        }
        let idle = buffers.is_idle();
        buffers.stderr.extend_from_slice(text.as_bytes());
        self.wake(buffers, idle);
    }

    /// Waits until everything added so far is written, or the time is over.
    pub fn flush(&self, limit: Duration) {
        let pending = |buffers: &mut Buffers| {
            buffers.writing || !(buffers.stdout.is_empty() && buffers.stderr.is_empty())
        };
        drop(self.written.wait_timeout_while(self.buffers(), limit, pending));
    }

    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that has something to write needs no waking: it looks again when it is done.
    fn wake(&self, buffers: MutexGuard<'_, Buffers>, was_idle: bool) {
        drop(buffers);
        if was_idle {
            self.more.notify_one();
        }
    }

    fn write(&self) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            let idle = |b: &mut Buffers| b.is_idle();
            let mut buffers =
                self.more.wait_while(self.buffers(), idle).unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut out, &mut buffers.stdout);
            std::mem::swap(&mut err, &mut buffers.stderr);
            let lost = std::mem::take(&mut buffers.lost);
            buffers.writing = true;
            drop(buffers);
            // A closed stream takes nothing; the program works on.
            drop(io::stdout().lock().write_all(&out).and_then(|()| io::stdout().flush()));
            drop(io::stderr().lock().write_all(&err));
            if lost > 0 {
                drop(writeln!(io::stderr().lock(), "{lost} log lines lost: the log is not read fast enough"));
            }
            out.clear();
            err.clear();
            self.buffers().writing = false;
            self.written.notify_all();
        }
    }
}

/// The debug lines of one request, behind its id.
#[derive(Clone, Debug)]
pub struct RequestLog {
    log: Arc<Log>,
    id: Option<uuid::Uuid>,
}

impl RequestLog {
    /// Gives the request an id, if debug lines are wanted.
    pub fn new(log: &Arc<Log>) -> Self {
        Self { log: Arc::clone(log), id: log.debug.then(uuid::Uuid::new_v4) }
    }

    /// Are debug lines wanted?
    pub fn is_on(&self) -> bool {
        self.id.is_some()
    }

    /// Adds a debug line.
    pub fn debug(&self, line: fmt::Arguments<'_>) {
        if let Some(id) = &self.id {
            self.log.error(format_args!("[{id}] {line}"));
        }
    }

    /// Adds the access line, to stdout and among the debug lines.
    pub fn access(&self, line: &[u8]) {
        self.log.access(line);
        self.debug(format_args!("{}", String::from_utf8_lossy(line)));
    }
}
