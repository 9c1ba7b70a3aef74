"""The program under trial, and others on a port: their lives, memory, processor time and descriptors."""

import ctypes
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time

from .client import PATIENCE, Connection
from .command import Failed

START = 20


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def environment():
    """Without the program's own settings, and without a service manager's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("FS_CACHE_", "LISTEN_", "NOTIFY_"))}


def die_with_parent():
    """Even a SIGKILL of a trial leaves no server behind: PR_SET_PDEATHSIG of prctl(2)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Program:
    """Any program that listens on a port of its own, started as often as it is ended.

    `limit` is how many descriptors it may have, `cpus` the processors it may use. What it says on standard error is
    kept; `output`: its standard output as well, or (None) goes where ours goes.
    """

    def __init__(self, words=(), environment=None, limit=None, cpus=None, output=False, cwd=None, port=None):
        self.address = ("127.0.0.1", port or free_port())
        self.url = "http://%s:%d" % self.address
        self.words, self.more, self.limit, self.cpus, self.cwd = list(words), environment or {}, limit, cpus, cwd
        self.log, self.output, self.process = tempfile.TemporaryFile(), output, None
        # Descriptors that it is given besides.
        self.fds = ()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process and self.is_alive():
            self.stop()

    def prepare(self):
        die_with_parent()
        if self.limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit, self.limit))
        if self.cpus:
            os.sched_setaffinity(0, self.cpus)

    def launch(self):
        """Does not wait until it listens."""
        output = {True: self.log, False: subprocess.DEVNULL, None: None}[self.output]
        self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=output, stderr=self.log, cwd=self.cwd,
                                        env=environment() | self.more, preexec_fn=self.prepare, pass_fds=self.fds, start_new_session=True)

    def start(self):
        self.launch()
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self.is_alive():
            if self.listens():
                return self
            time.sleep(0.01)
        self.kill()
        raise Failed(f"{shlex.join(self.words)} did not start: {self.said().strip()[-400:]}")

    def listens(self):
        try:
            socket.create_connection(self.address, 5).close()
            return True
        except OSError:
            return False

    def said(self):
        # Not by its offset, at which the program writes.
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0).decode(errors="replace")

    def is_alive(self):
        return self.process.poll() is None

    def kill(self):
        """Returns once nobody listens any more: the sockets of a ring outlive their process for a moment."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        deadline = time.monotonic() + 10
        while self.listens():
            if time.monotonic() > deadline:
                raise Failed("a killed server goes on listening")
            time.sleep(0.005)

    def stop(self, patience=60):
        """The exit code; None where it had to be killed."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(patience)

    def wait(self, patience=60):
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def connect(self, window=None, patience=PATIENCE):
        return Connection(self.address, window, patience)

    def status(self, name):
        """A figure of /proc/PID/status, as VmRSS or VmHWM, in bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next((int(line.split()[1]) << 10 for line in file if line.startswith(name + ":")), 0)

    def memory(self):
        """Resident bytes."""
        return self.status("VmRSS")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu(self):
        """Seconds of processor time, of the user and of the system."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def share(self, seconds):
        """Of a processor, used during so many seconds."""
        before, began = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu() - before) / (time.monotonic() - began)


class Server(Program):
    """The program in front of an origin, on a cache directory; `how` is as of Program."""

    def __init__(self, binary, io, cache, origin, words=(), **how):
        super().__init__(**how)
        self.cache = cache
        os.makedirs(cache, exist_ok=True)
        self.words = [*binary, "-c", cache, "-U", origin, "-H", self.address[0], "-p", str(self.address[1])]
        self.words += (["--io", io] if io else []) + list(map(str, words))

    def put(self, name, size=None, body=b""):
        """A file in the cache directory: with these bytes, or of so many, all of them zero."""
        path = os.path.join(self.cache, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(body)
            file.truncate(len(body) if size is None else size)
