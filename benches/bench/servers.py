"""What all servers have in common, ours, and the limit servers."""

import contextlib
import os
import shutil
import socket
import subprocess
import time

from .measure import Failed, Group, finish, free_port, spawn

START_SECONDS = 20
# Files that are fetched one by one, in the time it takes to check them anyway.
MANY = 100
# What counts as a large file when room is made between rounds.
LARGE = 1 << 20


def make_room(directory):
    """Removes the large files. The small ones go at the end of the run: while the inodes of deleted
    files may not be used again, ext4 looks through them for each new one, at the cost of the server
    that is measured next."""
    for place, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(place, name)
            if not os.path.islink(path) and os.path.getsize(path) >= 1 << 20:
                os.unlink(path)


class Server:
    """A server under test. Subclasses say how it is started."""

    name = ""
    # Programs it needs, each with the Debian package (or other source) that has it.
    needs = {}
    # Of the load tool's names, those it can be asked for.
    layout = "plain"
    # False: it has files of its own and no origin.
    proxies = True
    # Its cache is a tree of plain files at the URL's own path.
    plain_tree = False
    # The largest body it keeps.
    largest = 1 << 40
    # Whether it can be told not to keep what ends in .zip.
    passes = False
    # Open files it counts on for each connection of a client.
    descriptors_each = 2
    # Whether it can run with two threads or processes.
    takes_workers = False
    # Whether misses are written to a file system at all, and into one file for all.
    keeps_on_disk = True
    one_file = False
    # How its access log is written, for the report.
    log = ""

    def __init__(self, bench):
        self.bench = bench
        self.process = None
        self.group = None
        self.port = None
        self.directory = None
        # A tree of files that is there, and stays, instead of an empty cache.
        self.tree = None
        # Another one of its kind, started differently, to be measured beside it.
        self.other = None

    @classmethod
    def missing(cls, options):
        """What must be installed first, in words; None if it can run."""
        wanted = [f"{program} ({package})" for program, package in cls.needs.items() if not cls.find(program)]
        return ", ".join(wanted) or None

    @staticmethod
    def find(program):
        return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

    def version(self):
        return ""

    def command(self, workers, cpus):
        """The command to run; writes what configuration it needs to self.directory."""
        raise NotImplementedError

    def environment(self):
        return None

    @property
    def store(self):
        """The directory of the cached files."""
        return self.tree or os.path.join(self.directory, "store")

    def prepare(self, keep=False):
        """A fresh directory, unless `keep`, and a port."""
        if not keep or not self.directory:
            self.directory = self.bench.directory.new(self.name)
            os.mkdir(os.path.join(self.directory, "store"))
        self.port = free_port()
        self.group = Group(self.name)

    def launch(self, workers=1, cpus=None):
        cpus = cpus or self.bench.server_cpus
        command = self.command(workers, cpus)
        with open(os.path.join(self.directory, "access.log"), "ab") as log, \
                open(os.path.join(self.directory, "errors.log"), "ab") as errors:
            self.process = spawn(command, cpus, self.group, stdin=subprocess.DEVNULL, stdout=log, stderr=errors,
                                 env=self.environment(), cwd=self.directory)
        self.group.root_pid = self.process.pid

    def start(self, tree=None, **options):
        self.tree = tree
        self.prepare()
        self.launch(**options)

    def wait(self):
        """Until it accepts connections."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.02)
        raise Failed(f"{self.name} did not start: {self.last_words()}")

    def last_words(self):
        words = ""
        for name in ("errors.log", "access.log"):
            with open(os.path.join(self.directory, name), errors="replace") as file:
                words += " ".join(file.read()[-600:].split())
        return words or "it said nothing"

    def start_other(self, **options):
        """Starts another one of this kind beside it; it ends with this one."""
        self.other = type(self)(self.bench)
        self.other.name += "-other"
        self.other.start(**options)
        self.other.wait()

    def stop(self, keep=False):
        if self.other:
            self.other.stop()
            self.other = None
        if self.process:
            if keep:
                # Some write down what they have when they are asked to end.
                finish(self.process, 5)
            else:
                self.process.kill()
                self.process.wait(10)
            self.process = None
        if self.group:
            self.group.kill()
            self.group = None
        if self.directory and not keep:
            make_room(self.directory)
            self.directory = None

    def asked_as(self):
        """Options of the load tool for asking it."""
        return {"connect": f"127.0.0.1:{self.port}", "layout": self.layout}

    def fill(self, **files):
        """Puts files into its cache, and checks them: once as they come, once from the cache."""
        origin = self.bench.origin
        if files["files"] > MANY:
            # Some wait for a delayed acknowledgement within a miss: together they wait but once.
            self.bench.tools.get(self, **files, order="once", connections=32, warm=0)
        self.bench.tools.run("verify", **self.asked_as(), **files)
        # Some answer before their cache is ready, and keep nothing of the first.
        for _ in range(3):
            origin.counts()
            self.bench.tools.run("verify", **self.asked_as(), **files)
            again = sum(origin.counts().values())
            if not again:
                return
            time.sleep(0.5)
        raise Failed(f"does not keep it: {again} requests to the origin for what it had")

    def large_files(self):
        for directory, _, names in os.walk(self.store):
            for name in names:
                path = os.path.join(directory, name)
                # The server removes and renames files meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.getsize(path) >= LARGE:
                        yield path

    def make_room(self):
        """Removes large files from the disk, so that many rounds need the room of one."""
        if self.one_file:
            return
        for path in self.large_files():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


class Ours(Server):
    engine = ""
    plain_tree = True
    takes_workers = True
    passes = True
    # Half of its descriptors are for clients.
    descriptors_each = 2
    log = "to a file, in batches"

    def command(self, workers, cpus):
        words = [self.bench.binary, "-c", self.store, "-H", "127.0.0.1", "-p", str(self.port)]
        words += ["-U", f"http://127.0.0.1:{self.bench.origin.port}", "--io", self.engine]
        return words + ["--workers", str(workers), "--pin-cpus", ",".join(str(cpu) for cpu in sorted(cpus))]

    def environment(self):
        return {name: value for name, value in os.environ.items() if not name.startswith("FS_CACHE_")}

    def version(self):
        return subprocess.run([self.bench.binary, "-v"], capture_output=True, text=True).stdout.strip()


class OursUring(Ours):
    name = "ours-uring"
    engine = "uring"


class OursPoll(Ours):
    name = "ours-poll"
    engine = "poll"


class Limit(Server):
    """A minimal server in C over files that are there: no proxy, no log."""

    needs = {"cc": "Debian package gcc"}
    proxies = False
    plain_tree = True
    log = "none"
    kind = ""

    def command(self, workers, cpus):
        return [self.bench.tools.limit(self.kind), str(self.port), self.store]

    def fill(self, **files):
        self.bench.tools.run("make", directory=self.store, **files)
        self.bench.tools.run("verify", **self.asked_as(), **files)


class LimitSendfile(Limit):
    name = "limit-sendfile"
    kind = "sendfile"


class LimitMemory(Limit):
    name = "limit-memory"
    kind = "memory"
    largest = 256 << 20


class MonoioHttp(Limit):
    """benches/peer: files through the library monoio-http, each read whole; no proxy, no log."""

    name = "monoio-http"
    needs = {"cargo": "https://rustup.rs, or the Debian package cargo"}
    largest = 16 << 20

    def command(self, workers, cpus):
        return [self.bench.tools.peer(), "--dir", self.store, "--port", str(self.port)]
