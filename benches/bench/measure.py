"""Processes pinned to a core, the CPU time and memory of a process tree, and the load tool."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Files of both layers: a unified mount beside version 1 controllers counts too.
CGROUP_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A server or a tool did not do what it should; the message says what."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def spawn(command, cpus, group=None, **more):
    """Starts a command on these cores. It ends with this process, in whatever way that ends."""

    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, cpus)
        if group:
            group.enter()

    return subprocess.Popen(command, preexec_fn=prepare, start_new_session=True, **more)


def finish(process, seconds=10):
    """Asks a process to end, and ends it if it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


class Group:
    """All processes of one server: in a cgroup where one can be made, else found by /proc."""

    def __init__(self, name):
        self.root_pid = None
        self.directory = None
        for root in CGROUP_ROOTS:
            path = f"{root}/bench-{os.getpid()}-{name}"
            try:
                if os.path.exists(f"{root}/cgroup.controllers"):
                    os.mkdir(path)
                    self.directory = path
                    break
            except OSError:
                continue

    @property
    def usage_file(self):
        return f"{self.directory}/cpu.stat" if self.directory else None

    def enter(self):
        if self.directory:
            with open(f"{self.directory}/cgroup.procs", "w") as file:
                file.write("0")

    def pids(self):
        if self.directory:
            with open(f"{self.directory}/cgroup.procs") as file:
                return [int(line) for line in file]
        return tree(self.root_pid) if self.root_pid else []

    def cpu_seconds(self):
        """User and system time of the tree. The fallback has the resolution of the clock tick."""
        if self.directory:
            with open(self.usage_file) as file:
                return next(int(line.split()[1]) for line in file if line.startswith("usage_usec")) / 1e6
        total = 0
        for pid in self.pids():
            # utime, stime, and the same of children that have ended.
            total += sum(int(field) for field in (stat(pid) or [0] * 15)[11:15])
        return total / os.sysconf("SC_CLK_TCK")

    def resident_kib(self):
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/status") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
            except OSError:
                pass
        return total

    def kill(self):
        """Ends all that is left, and removes the cgroup."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        deadline = time.monotonic() + 5
        while self.directory and time.monotonic() < deadline:
            try:
                os.rmdir(self.directory)
                self.directory = None
            except OSError:
                time.sleep(0.02)


def stat(pid):
    """The fields of /proc/PID/stat behind the name: state, parent, ..."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1].split()
    except OSError:
        return None


def tree(root):
    """A process and all below it, and those of its session that have lost their parent."""
    known = {int(name): stat(name) for name in os.listdir("/proc") if name.isdigit()}
    found = {root}
    while True:
        more = {pid for pid, fields in known.items() if fields and (int(fields[1]) in found or int(fields[3]) == root)}
        if more <= found:
            return sorted(pid for pid in found if known.get(pid))
        found |= more


class Tools:
    """The load tool, the limit servers and the program itself: built, found, and run."""

    def __init__(self, load_cpus):
        self.load_cpus = load_cpus
        self.target = os.path.join(HERE, "target/bench")
        self.load = os.path.join(self.target, "release/load")

    def build(self):
        if not shutil.which("cargo"):
            raise Failed("cargo is missing: https://rustup.rs, or the Debian package cargo")
        manifest = os.path.join(HERE, "benches/load/Cargo.toml")
        cargo = ["cargo", "build", "--release", "--locked", "--quiet"]
        subprocess.run([*cargo, "--manifest-path", manifest, "--target-dir", self.target], check=True)
        compiler = shutil.which("cc")
        for name in ("sendfile", "memory") if compiler else ():
            source = os.path.join(HERE, f"benches/limit/{name}.c")
            subprocess.run([compiler, "-O2", "-Wall", "-o", self.limit(name), source], check=True)

    def limit(self, name):
        return os.path.join(self.target, f"limit-{name}")

    def peer(self):
        """Builds benches/peer and returns the binary's path."""
        manifest = os.path.join(HERE, "benches/peer/Cargo.toml")
        words = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", manifest]
        subprocess.run([*words, "--target-dir", self.target], check=True)
        return os.path.join(self.target, "release/peer")

    def program(self):
        """Builds the checkout and returns the binary's path."""
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=HERE, check=True)
        words = ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
        metadata = subprocess.run(words, cwd=HERE, check=True, stdout=subprocess.PIPE)
        return os.path.join(json.loads(metadata.stdout)["target_directory"], "release/fs-caching-server")

    def words(self, command, options):
        words = [self.load, command]
        for name, value in options.items():
            if value is not None:
                words += [f"--{name.replace('_', '-')}", str(int(value) if isinstance(value, bool) else value)]
        return words

    def start(self, command, **options):
        """Starts a subcommand of the load tool; `result` takes what it prints."""
        cpus = options.pop("cpus", self.load_cpus)
        return spawn(self.words(command, options), cpus, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                     stderr=subprocess.PIPE, text=True)

    def result(self, process, seconds=300):
        try:
            out, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Failed(f"{' '.join(process.args[:2])} took more than {seconds} s") from None
        if process.returncode != 0:
            raise Failed(errors.strip() or f"load ended with {process.returncode}")
        return json.loads(out)

    def run(self, command, **options):
        return self.result(self.start(command, **options))

    def get(self, server, **options):
        """Load on a server: what the tool reports, with the server's CPU seconds in `cpu`."""
        usage = server.group.usage_file
        before = None if usage else server.group.cpu_seconds()
        done = self.run("get", **{**server.asked_as(), "usage": usage, **options})
        if not usage:
            done["cpu"] = server.group.cpu_seconds() - before
        if done["errors"]:
            raise Failed(f"{done['errors']} errors of {done['requests']} requests: {'; '.join(done['words'])}")
        return done


class Origin:
    """The origin of the load tool, on the core of the load."""

    def __init__(self, tools, date):
        self.process = tools.start("origin", date=date)
        self.port = int(self.process.stdout.readline())

    def check(self):
        """Without it no figure means anything."""
        if self.process.poll() is not None:
            words = self.process.stderr.read().strip()
            raise SystemExit(f"the origin ended with {self.process.returncode}: {words or 'it said nothing'}")

    def ask(self, path):
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            data = b""
            while True:
                data += connection.recv(1 << 20)
                head, found, body = data.partition(b"\r\n\r\n")
                if found and len(body) == int(head.rpartition(b": ")[2]):
                    return json.loads(body)

    def counts(self):
        """Requests by path since the last call."""
        return self.ask("/__counts")

    def timeline(self):
        """For each paced path: [bytes sent, nanoseconds], since the last call."""
        return self.ask("/__timeline")

    def stop(self):
        self.process.stdin.close()
        finish(self.process)


class Directory:
    """A directory of our own on the file system to measure; gone afterwards."""

    def __init__(self, root):
        self.path = tempfile.mkdtemp(prefix="fs-caching-server-bench.", dir=root)
        # Servers that give up root must get through.
        os.chmod(self.path, 0o755)
        self.count = 0

    def new(self, name):
        self.count += 1
        path = os.path.join(self.path, f"{self.count}-{name}")
        os.mkdir(path)
        return path

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)
