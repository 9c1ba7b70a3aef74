//! Buffered log output: workers add lines to buffers, one thread writes them. A slow or closed stdout or stderr
//! never holds up a request.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use super::access_log::{self, Entry, Stamp};

/// Bytes that may wait in a buffer; lines beyond that are dropped, and counted.
const MAX_BEHIND: usize = 8 * 1024 * 1024;
/// How long lines are collected before they are written together: a write for each would cost more than the
/// response that it records.
const GATHER: Duration = Duration::from_millis(5);
/// A buffer that has grown beyond this is shrunk once it is empty.
const SPARE: usize = 256 * 1024;

#[derive(Default)]
struct State {
    stderr: Vec<u8>,
    lost: u64,
    lanes: Vec<Arc<Mutex<Lines>>>,
    /// A buffer has lines that the writing thread has not taken yet.
    pending: bool,
    /// The writing thread is writing.
    writing: bool,
    /// A flush waits for everything to be written.
    urgent: bool,
}

impl State {
    fn take_lost(&mut self) -> u64 {
        let lost = |lane: &Arc<Mutex<Lines>>| std::mem::take(&mut lock(lane).lost);
        std::mem::take(&mut self.lost) + self.lanes.iter().map(lost).sum::<u64>()
    }
}

/// Access lines of one worker.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    stamp: Stamp,
    lost: u64,
}

/// The output to stdout and stderr.
pub struct Log {
    debug: bool,
    state: Mutex<State>,
    more: Condvar,
    written: Condvar,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("debug", &self.debug).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Starts the writing thread.
    pub fn start(debug: bool) -> io::Result<Arc<Self>> {
        let log =
            Arc::new(Self { debug, state: Mutex::default(), more: Condvar::new(), written: Condvar::new() });
        let theirs = Arc::clone(&log);
        std::thread::Builder::new().name("log".into()).spawn(move || theirs.write())?;
        Ok(log)
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
        let mut state = lock(&self.state);
        if state.stderr.len() + text.len() > MAX_BEHIND {
            state.lost += 1;
            return;
        }
        state.stderr.extend_from_slice(text.as_bytes());
        self.ring(state);
    }

    /// Waits until everything added so far is written, or the time is over.
    pub fn flush(&self, limit: Duration) {
        let mut state = lock(&self.state);
        (state.pending, state.urgent) = (true, true);
        self.more.notify_one();
        let waited = self.written.wait_timeout_while(state, limit, |state| state.pending || state.writing);
        drop(waited);
    }

    /// Flushes as [`flush`](Self::flush) does; where that takes too long it writes at least the number of lost
    /// lines.
    pub fn end(&self, limit: Duration) {
        self.flush(limit);
        let lost = lock(&self.state).take_lost();
        if lost == 0 {
            return;
        }
        // Stderr may not be read either.
        let (done, ended) = mpsc::channel::<String>();
        let telling = std::thread::Builder::new().spawn(move || {
            tell_lost(lost);
            drop(done);
        });
        if telling.is_ok() {
            drop(ended.recv_timeout(limit));
        }
    }

    /// Wakes the writing thread, unless it has been woken already.
    fn ring(&self, mut state: MutexGuard<'_, State>) {
        if !std::mem::replace(&mut state.pending, true) {
            drop(state);
            self.more.notify_one();
        }
    }

    fn write(&self) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            let lost = self.collect(&mut out, &mut err);
            // A closed stream takes nothing; the program works on.
            drop(io::stdout().lock().write_all(&out).and_then(|()| io::stdout().flush()));
            drop(io::stderr().lock().write_all(&err));
            if lost > 0 {
                tell_lost(lost);
            }
            for buffer in [&mut out, &mut err] {
                buffer.clear();
                buffer.shrink_to(SPARE);
            }
            let mut state = lock(&self.state);
            state.writing = false;
            if !state.pending {
                state.urgent = false;
                self.written.notify_all();
            }
        }
    }

    /// Waits for lines, collects more for a moment, and takes them all. The number of lost lines.
    fn collect(&self, out: &mut Vec<u8>, err: &mut Vec<u8>) -> u64 {
        let waited = self.more.wait_while(lock(&self.state), |state| !state.pending);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.more.wait_timeout_while(state, GATHER, |state| !state.urgent);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        (state.pending, state.writing) = (false, true);
        std::mem::swap(err, &mut state.stderr);
        for lane in &state.lanes {
            let mut lines = lock(lane);
            if out.is_empty() {
                std::mem::swap(out, &mut lines.text);
            } else {
                out.append(&mut lines.text);
            }
        }
        state.take_lost()
    }
}

fn tell_lost(lines: u64) {
    drop(writeln!(io::stderr().lock(), "{lines} log lines lost: the log is not read fast enough"));
}

/// The access log of one worker. Its lines wait in a buffer of their own, so that workers do not wait for each
/// other.
#[derive(Clone)]
pub struct Lane {
    log: Arc<Log>,
    lines: Arc<Mutex<Lines>>,
}

impl Lane {
    /// Registers a new buffer, for the life of the process.
    pub fn open(log: &Arc<Log>) -> Self {
        let lines = Arc::new(Mutex::new(Lines::default()));
        lock(&log.state).lanes.push(Arc::clone(&lines));
        Self { log: Arc::clone(log), lines }
    }

    /// The log it belongs to.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Adds an access line to stdout, and among the debug lines of its request.
    pub fn access(&self, entry: &Entry<'_>, request: &RequestLog) {
        let mut lines = lock(&self.lines);
        let start = lines.text.len();
        if start > MAX_BEHIND {
            lines.lost += 1;
            return;
        }
        let Lines { text, stamp, .. } = &mut *lines;
        access_log::format(entry, stamp.at(entry.at), text);
        let among_debug = request.is_on().then(|| String::from_utf8_lossy(&text[start..]).into_owned());
        text.push(b'\n');
        // The writing thread takes the two locks in the other order.
        drop(lines);
        if let Some(line) = among_debug {
            request.debug(format_args!("{line}"));
        }
        if start == 0 {
            self.log.ring(lock(&self.log.state));
        }
    }
}

/// The debug lines of one request, behind its id.
#[derive(Clone, Debug)]
pub struct RequestLog(Option<(Arc<Log>, uuid::Uuid)>);

impl RequestLog {
    /// Gives the request an id, if debug lines are wanted.
    pub fn new(log: &Arc<Log>) -> Self {
        Self(log.debug.then(|| (Arc::clone(log), uuid::Uuid::new_v4())))
    }

    /// Are debug lines wanted?
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a debug line.
    pub fn debug(&self, line: fmt::Arguments<'_>) {
        if let Some((log, id)) = &self.0 {
            log.error(format_args!("[{id}] {line}"));
        }
    }
}
