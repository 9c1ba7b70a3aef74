#!/usr/bin/env python3
"""More connections than the server has descriptors for: does it spin, does it crash, does it serve
afterwards? Prints figures; exits non-zero if one is bad.

    scripts/try/flood.py [options]

Starts the server with a limit of 256 descriptors and floods it in several ways: connections that say
nothing, heads that never end, answers that nobody reads, misses whose origin does not answer, and
connections that come and go as fast as they can. During each it measures the processor time that the
server uses (user and system, from /proc) over some seconds of waiting; the flood that comes and goes
is work, and is shown only. During the first, and after each, a hit, a miss and a pass must be served;
during the others it is shown how long a hit waits. Connections are dropped at the end of each flood.

Options: --io auto|uring|poll|both (both: uring, then poll), --binary COMMAND (or FS_CACHE_BINARY;
default: the release build; nothing here depends on its speed), --descriptors N (256), --connections N (1000), --seconds N (5).
Ten thousand connections beside room for as many: --descriptors 20000 --connections 10000.
"""

import argparse
import os
import resource
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LARGE = 8 << 20
PATIENCE = 30
# Processor time for a second of waiting: the clock and a look at the door, fifty times a second.
MOST_IDLE = 0.05


class Origin:
    """Answers all but /silent."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            peer, _ = self.listener.accept()
            threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    def talk(self, peer):
        try:
            head = b""
            while True:
                data = peer.recv(65536)
                if not data:
                    return
                head += data
                while b"\r\n\r\n" in head:
                    request, head = head.split(b"\r\n\r\n", 1)
                    if not request.startswith(b"GET /silent"):
                        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
        except OSError:
            pass
        finally:
            peer.close()


class Server:
    def __init__(self, options, engine, origin):
        self.directory = tempfile.TemporaryDirectory()
        cache = os.path.join(self.directory.name, "cache")
        os.mkdir(cache)
        for name, size in (("small.tgz", 4), ("large.tar", LARGE)):
            with open(os.path.join(cache, name), "wb") as file:
                file.write(b"body" * (size // 4))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        limit = options.descriptors
        self.log = open(os.path.join(self.directory.name, "err"), "wb+")
        self.process = subprocess.Popen(
            shlex.split(options.binary)
            + ["-H127.0.0.1", f"-p{self.port}", "-c", cache, "--io", engine, "--workers", "2"]
            + ["-U", f"http://127.0.0.1:{origin.port}", "--response-timeout", "20", "-d"],
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect().close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    sys.exit("the server does not start")
                time.sleep(0.05)

    def connect(self, window=None):
        peer = socket.socket()
        if window:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        peer.settimeout(PATIENCE)
        peer.connect(("127.0.0.1", self.port))
        return peer

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def share(self, seconds):
        """Of a core, used during so many seconds."""
        before, began = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu() - before) / (time.monotonic() - began)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def get(self, target, patience=PATIENCE):
        """The status and how long it took; None where nothing came in time."""
        began = time.monotonic()
        try:
            with self.connect() as peer:
                peer.settimeout(patience)
                peer.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % target.encode())
                answer = b""
                while data := peer.recv(65536):
                    answer += data
        except TimeoutError:
            return None, time.monotonic() - began
        except OSError as error:
            return str(error), time.monotonic() - began
        status = int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.1 ") else answer[:40]
        return status, time.monotonic() - began

    def stop(self):
        self.process.terminate()
        return self.process.wait(PATIENCE)


def request(target):
    return f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


FLOODS = [
    ("silent connections", lambda server, n: server.connect()),
    ("heads without end", lambda server, n: said(server.connect(), b"GET /x HTTP/1.1\r\nX-Long: ")),
    ("answers that nobody reads", lambda server, n: said(server.connect(4096), request("/large.tar"))),
    ("misses without an answer", lambda server, n: said(server.connect(), request(f"/silent-{n}.tgz"))),
]


def said(peer, words):
    peer.sendall(words)
    return peer


def come_and_go(server, seconds):
    """Connections that are reset at once, from two threads; how many there were."""
    counts = [0, 0]

    def run(number):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                peer = server.connect()
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                peer.close()
                counts[number] += 1
            except OSError:
                pass

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def check(server, bad, when):
    served = []
    for target in ("/small.tgz", f"/after-{when.replace(' ', '-')}.tgz", "/pass"):
        status, seconds = server.get(target)
        served.append(f"{target[1:6]} {status} in {seconds:.2f} s")
        if status != 200:
            bad.append(f"{when}: {target}: {status}")
    print(f"    after: {', '.join(served)}; {server.descriptors()} descriptors")


def try_engine(options, engine, origin, bad):
    server = Server(options, engine, origin)
    print(f"--io {engine}, {options.descriptors} descriptors, {options.connections} connections")
    for name, flood in FLOODS:
        peers = [flood(server, n) for n in range(options.connections)]
        # What has been asked for is work: only then does the waiting begin. One that spins never gets there.
        deadline = time.monotonic() + PATIENCE
        while server.share(1.5) > MOST_IDLE and time.monotonic() < deadline:
            pass
        share = server.share(options.seconds)
        first = name == FLOODS[0][0]
        status, seconds = server.get("/small.tgz", PATIENCE if first else 3)
        print(f"  {name}: {100 * share:.1f} % of a core while it lasts; {server.descriptors()} descriptors; "
              f"a hit meanwhile: {status or 'waits'} ({seconds:.2f} s)")
        if share > MOST_IDLE:
            bad.append(f"{engine}: {name}: {100 * share:.0f} % of a core")
        if first and status != 200:
            bad.append(f"{engine}: {name}: no hit while it lasts: {status}")
        for peer in peers:
            peer.close()
        check(server, bad, name)
    before = server.cpu()
    count = come_and_go(server, options.seconds)
    used = server.cpu() - before
    print(f"  {count} connections that come and go: {1e6 * used / max(count, 1):.0f} us of processor time each")
    check(server, bad, "come and go")
    if code := server.stop():
        bad.append(f"{engine}: exit code {code}")
    server.log.seek(0)
    lines = [line for line in server.log.read().decode(errors="replace").splitlines() if "panicked" in line]
    bad.extend(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--io", default="both", choices=["auto", "uring", "poll", "both"])
    parser.add_argument("--binary", default=os.environ.get("FS_CACHE_BINARY"))
    parser.add_argument("--descriptors", type=int, default=256)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    if not options.binary:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=HERE, check=True)
        options.binary = os.path.join(HERE, "target/release/fs-caching-server")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    origin, bad = Origin(), []
    for engine in ("uring", "poll") if options.io == "both" else (options.io,):
        try_engine(options, engine, origin, bad)
    for line in bad:
        print(f"BAD: {line}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
