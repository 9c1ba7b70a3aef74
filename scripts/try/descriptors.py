#!/usr/bin/env python3
"""Few descriptors, and clients that hold as many as they can, all at once: are others still served?

    scripts/try/descriptors.py [options]

Starts the server with 1,024 descriptors and its usual number of workers. Many index files of a preset
are asked for, each set's InRelease first, as apt does; readers of distinct cold files take a sip and then nothing; clients ask for large answers
that are not kept, and read nothing. While all of these hold what they have, a probe asks for hits and
misses, each a few times a second, half of them over new connections. Prints the worst answers, and the
most descriptors seen; exits non-zero if a probe took a second or more, or failed, or if an index file was
answered with anything but 200.

As root the page cache is dropped before; else the files are of holes, which nothing has read.

Options: --io auto|uring|poll|both (both: uring, then poll), --binary COMMAND (or FS_CACHE_BINARY;
default: the release build), --descriptors N (1024), --index N (900), --slow N (400), --passes N (60),
--seconds N (15, of probing), --size BYTES (4194304, of a cold file).
"""

import argparse
import multiprocessing
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
PATIENCE = 20
LARGE = 16 << 20
WORST = 1.0
# Index files of one set.
SUITE = 200
# Probes of each kind a second.
PACE = 4


class Origin:
    """Answers every request: /big with what no socket can hold, the rest with a few bytes.

    A process of its own: what it takes to be hundreds of clients must not slow it down.
    """

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        multiprocessing.get_context("fork").Process(target=self.run, daemon=True).start()

    def run(self):
        self.big = bytes(LARGE)
        while True:
            peer, _ = self.listener.accept()
            threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    def talk(self, peer):
        try:
            head = b""
            while data := peer.recv(65536):
                head += data
                while b"\r\n\r\n" in head:
                    request, head = head.split(b"\r\n\r\n", 1)
                    if request.startswith(b"GET /big"):
                        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
                        peer.sendall(self.big)
                    elif b'if-none-match: "a"' in request.lower():
                        peer.sendall(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n')
                    else:
                        peer.sendall(b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 4\r\n\r\nbody')
        except OSError:
            pass
        finally:
            peer.close()


class Server:
    def __init__(self, options, engine, origin):
        self.directory = tempfile.TemporaryDirectory()
        os.mkdir(self.path("dists"))
        for name, size in [("hit.deb", 4)] + [(f"cold-{n}.deb", options.size) for n in range(options.slow)]:
            with open(self.path(name), "wb") as file:
                file.truncate(size)
        drop_page_cache()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        limit = options.descriptors
        self.process = subprocess.Popen(
            shlex.split(options.binary)
            + ["-H127.0.0.1", f"-p{self.port}", "-c", self.directory.name, "--io", engine, "--preset", "apt"]
            + ["-U", f"http://127.0.0.1:{origin.port}"],
            stdout=subprocess.DEVNULL,
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

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def connect(self, window=None):
        peer = socket.socket()
        if window:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        peer.settimeout(PATIENCE)
        peer.connect(("127.0.0.1", self.port))
        return peer

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def drop_page_cache():
    try:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("1")
    except OSError:
        pass


def ask(peer, target):
    peer.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


def answer(peer):
    """The status of a whole answer of known length."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = peer.recv(65536)
        if not more:
            return "closed"
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields.get(b"content-length", 0)) - len(body)
    while left > 0:
        more = peer.recv(min(left, 65536))
        if not more:
            return "cut short"
        left -= len(more)
    return int(head.split()[1])


class Probe:
    """Hits and misses, over a connection that stays and over new ones."""

    def __init__(self, server):
        self.server, self.stop, self.seen = server, threading.Event(), []
        self.threads = [
            threading.Thread(target=self.run, args=(kind, fresh))
            for kind in ("hit", "miss")
            for fresh in (False, True)
        ]
        for thread in self.threads:
            thread.start()

    def run(self, kind, fresh):
        peer, number = None, 0
        while not self.stop.is_set():
            number += 1
            target = "/hit.deb" if kind == "hit" else f"/miss-{fresh}-{number}.deb"
            began = time.monotonic()
            try:
                if peer is None or fresh:
                    peer = self.server.connect()
                ask(peer, target)
                status = answer(peer)
            except OSError as error:
                status, peer = str(error) or type(error).__name__, None
            took = time.monotonic() - began
            self.seen.append((kind, "new connection" if fresh else "kept connection", status, took))
            if fresh and peer is not None:
                peer.close()
            self.stop.wait(max(0, 1 / PACE - took))

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        return self.seen


def ask_for_index_files(server, count, statuses):
    peer = None
    for number in range(count):
        suite, number = f"/dists/s{number // SUITE}", number % SUITE
        try:
            peer = peer or server.connect()
            ask(peer, f"{suite}/main/binary-a{number}/Packages.gz" if number else f"{suite}/InRelease")
            status = answer(peer)
        except OSError as error:
            status, peer = str(error), None
        statuses[status] = statuses.get(status, 0) + 1


def crowd(server, count, target, sip):
    """Clients that ask, take a sip if that is wished, and then nothing."""
    peers, begun = [], []

    def take(peer):
        try:
            if peer.recv(sip):
                begun.append(peer)
        except OSError:
            pass

    for number in range(count):
        try:
            peer = server.connect(4096)
            ask(peer, target(number))
            peers.append(peer)
        except OSError:
            pass
    if sip:
        takers = [threading.Thread(target=take, args=(peer,)) for peer in peers]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join()
    return peers, len(begun)


def try_engine(options, engine, origin, bad):
    server = Server(options, engine, origin)
    held, statuses = [], {}
    probe = Probe(server)
    jobs = [
        threading.Thread(target=ask_for_index_files, args=(server, options.index, statuses)),
        threading.Thread(target=lambda: held.append(crowd(server, options.slow, lambda n: f"/cold-{n}.deb", 4096))),
        threading.Thread(target=lambda: held.append(crowd(server, options.passes, lambda n: f"/big-{n}", 0))),
    ]
    most = server.descriptors()
    for job in jobs:
        job.start()
    end = time.monotonic() + options.seconds
    while time.monotonic() < end or any(job.is_alive() for job in jobs):
        time.sleep(0.2)
        most = max(most, server.descriptors())
        if time.monotonic() > end + 4 * PATIENCE:
            break
    seen = probe.end()
    begun = max((count for _, count in held), default=0)
    print(f"--io {engine}: {most} descriptors of {options.descriptors}; index files {statuses}; "
          f"{begun} of {options.slow} slow readers have begun; {options.passes} silent passes")
    if statuses != {200: options.index}:
        bad.append(f"{engine}: index files {statuses}")
    for kind in ("hit", "miss"):
        for how in ("kept connection", "new connection"):
            mine = [(status, took) for k, h, status, took in seen if (k, h) == (kind, how)]
            failed = [status for status, _ in mine if status != 200]
            worst = max(took for _, took in mine)
            print(f"  {kind}, {how}: {len(mine)} asked, {len(failed)} failed {sorted(set(map(str, failed)))}, "
                  f"worst {worst:.3f} s")
            if failed or worst >= WORST:
                bad.append(f"{engine}: {kind}, {how}: {len(failed)} failed, worst {worst:.3f} s")
    for peers, _ in held:
        for peer in peers:
            peer.close()
    if code := server.stop():
        bad.append(f"{engine}: exit code {code}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--io", default="both", choices=["auto", "uring", "poll", "both"])
    parser.add_argument("--binary", default=os.environ.get("FS_CACHE_BINARY"))
    for name, usual in [("descriptors", 1024), ("index", 900), ("slow", 400), ("passes", 60), ("size", 4 << 20)]:
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--seconds", type=float, default=15)
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
