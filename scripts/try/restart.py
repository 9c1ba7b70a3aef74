#!/usr/bin/env python3
"""Restarts under socket activation, with clients that keep coming. Prints figures; exits non-zero
if a client was refused, reset, cut short or answered wrongly.

    scripts/try/restart.py [options]

Holds a listening socket, as a service manager does, and starts the server on it with LISTEN_FDS.
New connections come at a constant rate, whether or not earlier ones have been answered, each with
one request for a small file in the cache. Meanwhile the server is stopped (SIGTERM) and started
again several times; every fourth client sends its request 30 ms after it has connected, as one far
away does. In turn the next server starts when the last has ended, and as soon as the last
was told to end. At each stop three slow downloads are under way, two of files in the cache and one
of a file that the origin sends slowly. All must arrive exact, and every server must exit with 0.

Options: --io auto|uring|poll|both (both: uring, then poll), --binary COMMAND (or FS_CACHE_BINARY;
default: the release build), --restarts N (4), --rate N connections a second (300), --workers N (2).
"""

import argparse
import collections
import errno
import os
import resource
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MIB = 1 << 20
SMALL = bytes(range(256)) * 16
LARGE = 16 * MIB
# Downloads last about this long, well below the server's drain timeout.
SECONDS = 3.0
# Every so many clients send their request this much after they have connected.
LATE_ONE_IN, LATE = 4, 0.03
REQUEST = b"GET /small.tgz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PATIENCE = 15


def content(number):
    """16 MiB that differ by file and by place."""
    line = b"%08d" % number
    return b"".join(line + b"%08d" % block + SMALL[:1008] for block in range(LARGE // 1024))


# ------------------------------------------------------------------ origin: slow files, by number


class Origin:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    more = connection.recv(65536)
                    if not more:
                        return
                    head += more
                number = int(head.split(b" ")[1][len(b"/miss") : -len(b".tgz")])
                body = content(number)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body))
                begun = time.monotonic()
                for at in range(0, len(body), MIB // 4):
                    connection.sendall(body[at : at + MIB // 4])
                    pause(begun, at / len(body) * SECONDS)
            except OSError:
                pass


def pause(begun, due):
    time.sleep(max(0.0, begun + due - time.monotonic()))


# ------------------------------------------------------------------ the server


class Server:
    """One life of the program on the socket handed over."""

    def __init__(self, options, io, listener, cache, origin, notices):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("FS_CACHE_", "LISTEN_", "NOTIFY_"))}
        environment["NOTIFY_SOCKET"] = notices.getsockname()
        command = [sys.executable, os.path.abspath(__file__), "--hand-over", str(listener.fileno())]
        command += shlex.split(options.binary)
        command += ["-d", "-c", cache, "-U", f"http://127.0.0.1:{origin.port}", "--workers", str(options.workers), "--io", io]
        self.errors = tempfile.TemporaryFile()
        self.notices = notices
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=self.errors, env=environment, pass_fds=[listener.fileno()]
        )

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def engine(self):
        return next((line for line in self.said().splitlines() if line.startswith("engine: ")), "engine: not named")

    def wait_until_ready(self):
        """READY=1, as Type=notify has it. Other notices are those of the one that ends."""
        self.notices.settimeout(10)
        while True:
            try:
                if b"READY=1" in self.notices.recv(4096):
                    return
            except TimeoutError:
                sys.exit("the server does not say that it is ready: " + self.said())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def hand_over(fd, command):
    """Between fork and exec: sd_listen_fds(3) wants descriptor 3 and our process id."""
    if fd != 3:
        os.dup2(fd, 3)
        os.close(fd)
    os.set_inheritable(3, True)
    os.environ["LISTEN_FDS"] = "1"
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.execvp(command[0], command)


# ------------------------------------------------------------------ clients


class Load(threading.Thread):
    """New connections at a constant rate."""

    def __init__(self, address, rate):
        super().__init__()
        self.address, self.rate = address, rate
        self.selector = selectors.DefaultSelector()
        self.counts = collections.Counter()
        self.first_faults = []
        self.waits = []
        self.most_open = 0
        self.late = collections.deque()
        self.over = threading.Event()

    def run(self):
        begun, opened = time.monotonic(), 0
        while True:
            now = time.monotonic()
            if not self.over.is_set():
                while opened < (now - begun) * self.rate:
                    opened += 1
                    self.open(now, opened % LATE_ONE_IN == 0)
            elif not self.selector.get_map():
                return
            self.most_open = max(self.most_open, len(self.selector.get_map()))
            for key, _ in self.selector.select(0.002):
                self.move(key.data)
            while self.late and now - self.late[0]["connected"] > LATE:
                state = self.late.popleft()
                if state["socket"].fileno() >= 0:
                    self.send(state)
            if opened % 64 == 0:
                for key in [k for k in self.selector.get_map().values() if now - k.data["begun"] > PATIENCE]:
                    self.end(key.data, "timed out")

    def open(self, now, late):
        connection = socket.socket()
        connection.setblocking(False)
        state = {"socket": connection, "begun": now, "got": bytearray(), "late": late, "connected": None}
        code = connection.connect_ex(self.address)
        self.selector.register(connection, selectors.EVENT_WRITE, state)
        if code not in (0, errno.EINPROGRESS):
            self.end(state, self.name_of(OSError(code, os.strerror(code))))

    def move(self, state):
        connection = state["socket"]
        try:
            if state["connected"] is None:
                code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
                state["connected"] = time.monotonic()
                self.selector.modify(connection, selectors.EVENT_READ, state)
                if state["late"]:
                    self.late.append(state)
                else:
                    self.send(state)
                return
            data = connection.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.end(state, self.name_of(error))
            return
        if data:
            state["got"] += data
            return
        head, _, body = bytes(state["got"]).partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 200 ") and body == SMALL:
            self.waits.append(time.monotonic() - state["begun"])
            self.end(state, "exact")
        else:
            self.end(state, "no answer" if not head else "cut short" if len(body) < len(SMALL) else "wrong")

    def send(self, state):
        try:
            state["socket"].send(REQUEST)
        except OSError as error:
            self.end(state, self.name_of(error))

    @staticmethod
    def name_of(error):
        names = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EPIPE: "reset"}
        return names.get(error.errno, "failed: " + error.strerror)

    def end(self, state, how):
        self.counts[how] += 1
        if how != "exact" and len(self.first_faults) < 5:
            kind = "late client" if state["late"] else "client"
            self.first_faults.append(f"{kind}: {how} after {time.monotonic() - state['begun']:.3f} s")
        self.selector.unregister(state["socket"])
        state["socket"].close()


class Download(threading.Thread):
    """One slow download; `result` is "exact", or what was wrong with it."""

    def __init__(self, address, path, number):
        super().__init__()
        self.address, self.path, self.number = address, path, number
        self.under_way = threading.Event()
        self.result = "not begun"

    def run(self):
        try:
            self.result = self.fetch()
        except OSError as error:
            self.result = f"{self.path}: {error}"
        self.under_way.set()

    def fetch(self):
        want = content(self.number)
        connection = socket.socket()
        # So that most of the file is still on the server's side while we dawdle.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
        connection.settimeout(30)
        connection.connect(self.address)
        with connection:
            connection.sendall(f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            got = bytearray()
            begun, start = time.monotonic(), None
            while True:
                data = connection.recv(64 * 1024)
                if not data:
                    break
                got += data
                if start is None and b"\r\n\r\n" in got:
                    start = got.index(b"\r\n\r\n") + 4
                    self.under_way.set()
                pause(begun, len(got) / LARGE * SECONDS)
        if start is None or not got.startswith(b"HTTP/1.1 200 "):
            return f"{self.path}: no 200 ({len(got)} bytes)"
        if got[start:] != want:
            return f"{self.path}: {len(got) - start} of {LARGE} bytes" + (", wrong ones" if len(got) - start >= LARGE else "")
        return "exact"


# ------------------------------------------------------------------ the trial


def trial(options, io, directory):
    cache = os.path.join(directory, "cache-" + io)
    os.mkdir(cache)
    with open(os.path.join(cache, "small.tgz"), "wb") as file:
        file.write(SMALL)
    for number in (1, 2):
        with open(os.path.join(cache, f"hit{number}.tgz"), "wb") as file:
            file.write(content(number))
    origin = Origin()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    address = listener.getsockname()
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(os.path.join(directory, "notices-" + io))

    def start():
        return Server(options, io, listener, cache, origin, notices)

    faults = []
    server = start()
    server.wait_until_ready()
    print(f"--io {io}: {server.engine()}", flush=True)
    load = Load(address, options.rate)
    load.start()
    time.sleep(1)
    exact = 0
    for turn in range(options.restarts):
        overlap = turn % 2 == 1
        downloads = [Download(address, f"/hit{n}.tgz", n) for n in (1, 2)]
        downloads.append(Download(address, f"/miss{10 + turn}.tgz", 10 + turn))
        for download in downloads:
            download.start()
        for download in downloads:
            download.under_way.wait(20)
        # New ones were answered before: those that wait while nobody accepts are seen by their waits.
        told = time.monotonic()
        last = server
        last.stop()
        if not overlap:
            code = last.wait()
            ended = time.monotonic()
        server = start()
        server.wait_until_ready()
        ready = time.monotonic()
        if overlap:
            code = last.wait()
            ended = time.monotonic()
        for download in downloads:
            download.join()
            exact += download.result == "exact"
            if download.result != "exact":
                faults.append(f"restart {turn + 1}: {download.result}")
        if code != 0:
            faults.append(f"restart {turn + 1}: exit code {code}: {last.said()[-500:]}")
        order = "next at once" if overlap else "next after"
        print(f"  restart {turn + 1} ({order}): ended after {ended - told:.2f} s, next ready after {ready - told:.2f} s", flush=True)
        time.sleep(1)
    load.over.set()
    load.join()
    server.stop()
    if server.wait() != 0:
        faults.append("the last server did not exit with 0")
    listener.close()
    waits = sorted(load.waits)
    total = sum(load.counts.values())
    print(f"  connections: {total}; " + ", ".join(f"{how} {n}" for how, n in load.counts.most_common()))
    shown = ("refused", "reset", "no answer", "cut short", "wrong", "timed out")
    print("  " + ", ".join(f"{how} {load.counts[how]}" for how in shown) + f"; most open at a time {load.most_open}")
    if waits:
        print(f"  answered after: median {waits[len(waits) // 2] * 1000:.1f} ms, longest {waits[-1]:.2f} s")
    print(f"  downloads in flight: {exact} of {3 * options.restarts} exact")
    faults += load.first_faults
    if load.counts["exact"] != total:
        faults.append(f"{total - load.counts['exact']} of {total} connections were not answered exactly")
    return faults


def main():
    if sys.argv[1:2] == ["--hand-over"]:
        hand_over(int(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--io", default="both", choices=["auto", "uring", "poll", "both"])
    default = os.path.join(HERE, "target/release/fs-caching-server")
    parser.add_argument("--binary", default=os.environ.get("FS_CACHE_BINARY", default))
    parser.add_argument("--restarts", type=int, default=4)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if hard == resource.RLIM_INFINITY else min(16384, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    faults = []
    with tempfile.TemporaryDirectory() as directory:
        for io in ["uring", "poll"] if options.io == "both" else [options.io]:
            faults += [f"--io {io}: {fault}" for fault in trial(options, io, directory)]
    for fault in faults:
        print("FAULT:", fault)
    print("restart:", "FAILED" if faults else "ok")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
