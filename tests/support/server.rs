//! The real binary as a child process: its arguments, environment, log lines and end.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use super::client::{Client, Response};
use super::origin::Origin;
use super::sandbox::{self, Limit};
use super::util::{PATIENCE, within};

/// The backend a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Io {
    Uring,
    Poll,
}

impl Io {
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Poll => "poll",
        }
    }
}

/// Is the program under test the build without openat2, sendfile, splice and SO_REUSEPORT? The tests
/// may be another build than the program.
pub(crate) fn has_substitutes() -> bool {
    cfg!(feature = "portable") || std::env::var_os("FS_CACHE_TEST_SUBSTITUTES").is_some()
}

/// Whether the io_uring half of the suite can run here. Where the kernel or a container's filter
/// refuses rings it is left out, in words, unless FS_CACHE_TEST_REQUIRE_URING is set.
pub(crate) fn uring_works() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let works = sandbox::io_uring_allowed();
        assert!(
            works || std::env::var_os("FS_CACHE_TEST_REQUIRE_URING").is_none(),
            "io_uring is refused on this host and FS_CACHE_TEST_REQUIRE_URING is set"
        );
        if !works {
            eprintln!("SKIPPED: io_uring is refused on this host, only --io poll is tested");
        }
        works
    })
}

/// The binary under test.
pub(crate) fn binary() -> OsString {
    std::env::var_os("FS_CACHE_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_fs-caching-server").into())
}

/// A command for the binary with none of its variables inherited.
fn command(env: &BTreeMap<OsString, OsString>) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("FS_CACHE_") || text.starts_with("SSL_CERT_") || text == "TZ" {
            command.env_remove(&name);
        }
    }
    command.env_remove("NODE_EXTRA_CA_CERTS");
    command.envs(env);
    command
}

/// Runs the binary to its end with these arguments only; kills it, and fails, if it goes on.
#[track_caller]
pub(crate) fn run_cli(args: &[&str], env: &[(&str, &str)], limits: &[Limit]) -> Output {
    let env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let mut command = command(&env);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    sandbox::apply(&mut command, limits.to_vec());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("still running with {args:?}: {output:?}");
        }
        thread::sleep(std::time::Duration::from_millis(4));
    }
    child.wait_with_output().unwrap()
}

/// A port nobody listens on, below the range the kernel hands out by itself, so that no other
/// socket of a parallel test can take it between this look and the server's bind.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let start = u16::try_from(std::process::id() % 64).unwrap() * 300;
        let port = 11_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Lines of one output stream, collected by a thread.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn collect(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let sink = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                sink.0.lock().unwrap().push(line);
            }
        });
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The first line that satisfies `wanted`.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.all().into_iter().find(|line| wanted(line)) {
                return line;
            }
            assert!(Instant::now() < deadline, "no line {what:?} in {:#?}", self.all());
            thread::sleep(std::time::Duration::from_millis(4));
        }
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, part: &str) -> String {
        self.wait(part, |line| line.contains(part))
    }
}

/// What to start: built up by a test, then [`Launch::start`].
pub(crate) struct Launch {
    io: Io,
    url: String,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    limits: Vec<Limit>,
    cache: Option<PathBuf>,
    debug: bool,
    port: Option<u16>,
    stdout: Option<Stdio>,
    current_dir: Option<PathBuf>,
    /// Whether host, port, URL, directory and engine are given as flags.
    flags: bool,
}

impl Launch {
    pub(crate) fn new(io: Io, origin: &Origin) -> Self {
        Self::at(io, &origin.url())
    }

    pub(crate) fn at(io: Io, url: &str) -> Self {
        Self {
            io,
            url: url.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            limits: Vec::new(),
            cache: None,
            debug: false,
            port: None,
            stdout: None,
            current_dir: None,
            flags: true,
        }
    }

    /// A launch with no flags of its own: the test gives all of them, or variables. The port and
    /// the directory must be told as well, for the harness to find the server and its files.
    pub(crate) fn bare() -> Self {
        let mut launch = Self::at(Io::Poll, "");
        launch.flags = false;
        launch
    }

    pub(crate) fn current_dir(mut self, dir: &Path) -> Self {
        self.current_dir = Some(dir.to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.into(), value.as_ref().to_owned());
        self
    }

    pub(crate) fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Uses a directory that outlives this server.
    pub(crate) fn cache(mut self, dir: &Path) -> Self {
        self.cache = Some(dir.to_owned());
        self
    }

    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    pub(crate) fn debug(mut self) -> Self {
        self.debug = true;
        self
    }

    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Every path is cacheable, whatever its extension.
    pub(crate) fn cache_everything(self) -> Self {
        self.args(["-r", "."])
    }

    /// The command line of this launch for a given cache directory and port.
    fn command(&mut self, cache: &Path, port: u16) -> Command {
        let mut command = command(&self.env);
        if self.flags {
            command
                .args(["-H", "127.0.0.1", "-p"])
                .arg(port.to_string())
                .arg("-U")
                .arg(&self.url)
                .arg("-c")
                .arg(cache)
                .args(["--io", self.io.flag()]);
        }
        if let Some(dir) = &self.current_dir {
            command.current_dir(dir);
        }
        if self.debug {
            command.arg("-d");
        }
        // Before the test's own arguments: theirs may end in operands, and the later one wins.
        if let Ok(extra) = std::env::var("FS_CACHE_TEST_EXTRA_ARGS") {
            command.args(extra.split_whitespace());
        }
        command.args(&self.args);
        command
            .stdin(Stdio::null())
            .stdout(self.stdout.take().unwrap_or_else(Stdio::piped))
            .stderr(Stdio::piped());
        sandbox::apply(&mut command, std::mem::take(&mut self.limits));
        command
    }

    /// Starts the server and waits until it accepts connections.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        let debug = self.debug;
        let server = self.unwaited();
        server.wait_until_listening();
        if debug {
            server.err.wait_for("caching to ");
        }
        server
    }

    /// Starts the server and waits for nothing.
    pub(crate) fn unwaited(mut self) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let cache = self.cache.take().unwrap_or_else(|| {
            let inside = dir.path().join("cache");
            fs::create_dir(&inside).unwrap();
            inside
        });
        let port = self.port.unwrap_or_else(free_port);
        let child = self.command(&cache, port).spawn().unwrap();
        Server::around(child, port, cache, dir)
    }

    /// Runs a launch that is expected to fail at once.
    #[track_caller]
    pub(crate) fn fail(mut self) -> (ExitStatus, String) {
        let dir = tempfile::tempdir().unwrap();
        let port = self.port.unwrap_or_else(free_port);
        let mut child = self.command(dir.path(), port).spawn().unwrap();
        let err = Lines::collect(child.stderr.take().unwrap());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the server started where it should have refused");
            }
            thread::sleep(std::time::Duration::from_millis(4));
        };
        // The pipe's end is read by a thread; the last line may be a moment behind the exit.
        if !status.success() {
            err.wait("anything", |_| true);
        }
        (status, err.all().join("\n"))
    }
}

/// A running server; killed when dropped, with its stderr shown if the test failed.
pub(crate) struct Server {
    child: Child,
    port: u16,
    cache: PathBuf,
    dir: TempDir,
    pub(crate) out: Lines,
    pub(crate) err: Lines,
}

impl Server {
    /// The usual server on this backend.
    #[track_caller]
    pub(crate) fn start(io: Io, origin: &Origin) -> Self {
        Launch::new(io, origin).start()
    }

    fn around(mut child: Child, port: u16, cache: PathBuf, dir: TempDir) -> Self {
        let out = child.stdout.take().map_or_else(Lines::default, Lines::collect);
        let err = child.stderr.take().map_or_else(Lines::default, Lines::collect);
        Self { child, port, cache, dir, out, err }
    }

    #[track_caller]
    fn wait_until_listening(&self) {
        within("the server listens", || {
            if self.gone() {
                panic!("the server exited: {:#?}", self.err.all());
            }
            TcpStream::connect(self.addr()).ok()
        });
    }

    /// Whether the process has ended, without reaping it.
    pub(crate) fn gone(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid()))
            .map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A directory of this test outside the cache directory, its parent.
    pub(crate) fn outside(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn cache_dir(&self) -> &Path {
        &self.cache
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.cache.join(name)
    }

    /// Puts a finished file into the cache directory.
    pub(crate) fn put(&self, name: &str, body: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, body).unwrap();
        path
    }

    /// Waits until the file is committed and checks every byte of it.
    #[track_caller]
    pub(crate) fn expect_cached(&self, name: &str, body: &[u8]) {
        let got = within(&format!("{name} is cached"), || fs::read(self.path(name)).ok());
        super::assert_bytes(&got, body, name);
    }

    /// The cache directory holds exactly these files beside answers that no plain file can stand for, as soon as work in progress has ended.
    #[track_caller]
    pub(crate) fn expect_tree(&self, files: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.tree();
            if found == files {
                return;
            }
            assert!(Instant::now() < deadline, "{found:?}, not {files:?}");
            thread::sleep(std::time::Duration::from_millis(4));
        }
    }

    /// The same for no regular file, finished or not.
    #[track_caller]
    pub(crate) fn expect_nothing_cached(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut found = self.tree();
            found.retain(|name| !name.ends_with('/'));
            if found.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left in the cache: {found:?}");
            thread::sleep(std::time::Duration::from_millis(4));
        }
    }

    fn tree(&self) -> Vec<String> {
        let mut found = super::tree(&self.cache);
        found.retain(|name| !name.starts_with(".fs-caching-server/documents/"));
        found
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// A client of the address 127.0.0.`host`.
    pub(crate) fn client_from(&self, host: u8) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
        socket.connect(&self.addr().into()).unwrap();
        Client::over(socket.into())
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        self.client().get(target)
    }

    #[track_caller]
    pub(crate) fn ask(&self, method: &str, target: &str, extra: &str) -> Response {
        self.client().ask(method, target, extra).response(method)
    }

    /// Open descriptors of the process.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        sandbox::signal(self.pid(), signal);
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        within("the server ends", || child.try_wait().unwrap())
    }

    /// Kills it without warning, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("stderr of the server: {:#?}", self.err.all());
        }
        // Both fail only when the process is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
