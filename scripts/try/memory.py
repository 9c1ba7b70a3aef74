#!/usr/bin/env python3
"""Silent clients of many different queries: does memory stay under its bound, and are others served?

    scripts/try/memory.py [options]

Starts the server with a class that is checked with the origin and --revalidate-memory. Many clients ask
for a query of their own each, and read nothing; of each answer some hundred KB are more than the sockets
hold. The resident memory is sampled meanwhile; once each has the beginning of its answer, a probe asks
for queries of its own, each twice, and reads them. Prints the most memory
seen, its bound (--revalidate-memory, and 256 KiB for each silent client, and a fixed part), the probe's
worst answer, and how many of its second questions were answered without the origin. Exits non-zero if
memory exceeded the bound, or if a probe failed, took a second or more, or was not kept.

Options: --io auto|uring|poll|both (both: uring, then poll), --binary COMMAND (or FS_CACHE_BINARY;
default: the release build), --compare COMMAND (another build, whose figures are printed too and count for
nothing), --clients N (1000), --body BYTES (3000000), --memory BYTES (67108864), --seconds N (20, of sampling).
"""

import argparse
import multiprocessing
import os
import resource
import select
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 20
WORST = 1.0
PACE = 0.25
# So long the crowd may take to have the beginnings of its answers.
ARRIVAL = 120
# What a silent client may hold beside the memory for answers.
EACH = 256 << 10
# What the process takes without any client: its code, tables, buffers of its workers, small bodies.
FIXED = 64 << 20


class Origin:
    """Answers every request with the same long body, fresh for an hour. A process of its own."""

    def __init__(self, body):
        self.body = body
        self.asked = multiprocessing.Value("Q")
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        multiprocessing.get_context("fork").Process(target=self.run, daemon=True).start()

    def run(self):
        body = bytes(self.body)
        while True:
            peer, _ = self.listener.accept()
            threading.Thread(target=self.talk, args=(peer, body), daemon=True).start()

    def talk(self, peer, body):
        try:
            head = b""
            while data := peer.recv(65536):
                head += data
                while b"\r\n\r\n" in head:
                    request, head = head.split(b"\r\n\r\n", 1)
                    if b"?probe" in request.split(b"\r\n")[0]:
                        with self.asked.get_lock():
                            self.asked.value += 1
                    fields = b"Cache-Control: max-age=3600\r\nContent-Length: %d\r\n\r\n" % len(body)
                    peer.sendall(b"HTTP/1.1 200 OK\r\n" + fields)
                    peer.sendall(body)
        except OSError:
            pass
        finally:
            peer.close()


class Server:
    def __init__(self, options, binary, engine, origin):
        self.directory = tempfile.TemporaryDirectory()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            shlex.split(binary)
            + ["-H127.0.0.1", f"-p{self.port}", "-c", self.directory.name, "--io", engine]
            + ["--revalidate", r"\.idx$", "--revalidate-memory", str(options.memory)]
            + ["-U", f"http://127.0.0.1:{origin.port}"],
            stdout=subprocess.DEVNULL,
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

    def resident(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def ask(peer, target):
    peer.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


def answer(peer, length):
    """The status of a whole answer."""
    data = bytearray()
    while b"\r\n\r\n" not in data or len(data) < data.index(b"\r\n\r\n") + 4 + length:
        more = peer.recv(1 << 20)
        if not more:
            return "cut short"
        data += more
    return int(data.split(None, 2)[1])


def probe(server, origin, options, stop, seen):
    number = 0
    while not stop.is_set():
        number += 1
        for _ in range(2):
            before, began = origin.asked.value, time.monotonic()
            try:
                with server.connect() as peer:
                    ask(peer, f"/x.idx?probe{number}")
                    status = answer(peer, options.body)
            except OSError as error:
                status = str(error) or type(error).__name__
            seen.append((status, time.monotonic() - began, origin.asked.value == before))
        stop.wait(PACE)


def try_engine(options, binary, engine, origin):
    server = Server(options, binary, engine, origin)
    crowd, seen, stop = [], [], threading.Event()
    prober = threading.Thread(target=probe, args=(server, origin, options, stop, seen))
    most, began, answered = server.resident(), time.monotonic(), select.poll()
    while len(crowd) < options.clients or len(answered.poll(0)) < len(crowd):
        if len(crowd) < options.clients:
            for _ in range(20):
                peer = server.connect(4096)
                ask(peer, f"/x.idx?{len(crowd)}")
                answered.register(peer, select.POLLIN)
                crowd.append(peer)
        elif time.monotonic() - began > ARRIVAL:
            break
        else:
            time.sleep(0.1)
        most = max(most, server.resident())
    arrival, silent = time.monotonic() - began, len(answered.poll(0))
    prober.start()
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        most = max(most, server.resident())
    stop.set()
    prober.join()
    for peer in crowd:
        peer.close()
    bad = [f"exit code {code}"] if (code := server.stop()) else []
    bound = options.memory + len(crowd) * EACH + FIXED
    failed = [status for status, _, _ in seen if status != 200]
    worst = max(took for _, took, _ in seen)
    kept = [from_cache for _, _, from_cache in seen[1::2]]
    print(f"--io {engine}: {len(crowd)} silent clients, {most >> 20} MiB at the most of {bound >> 20} MiB "
          f"({options.memory >> 20} + {len(crowd)} x 0.25 + {FIXED >> 20}), answered within {arrival:.1f} s; probe: {len(seen)} asked, {len(failed)} failed "
          f"{sorted(set(map(str, failed)))}, worst {worst:.3f} s, {sum(kept)} of {len(kept)} kept")
    if most > bound:
        bad.append(f"{most >> 20} MiB")
    if silent < len(crowd):
        bad.append(f"{len(crowd) - silent} clients have no answer")
    if sum(kept) < len(kept):
        bad.append("the probe's answers are not kept")
    if failed or worst >= WORST:
        bad.append(f"probe: {len(failed)} failed, worst {worst:.3f} s")
    return [f"{engine}: {line}" for line in bad]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--io", default="both", choices=["auto", "uring", "poll", "both"])
    parser.add_argument("--binary", default=os.environ.get("FS_CACHE_BINARY"))
    parser.add_argument("--compare")
    for name, usual in [("clients", 1000), ("body", 3_000_000), ("memory", 64 << 20)]:
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    if not options.binary:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=HERE, check=True)
        options.binary = os.path.join(HERE, "target/release/fs-caching-server")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    origin, bad = Origin(options.body), []
    engines = ("uring", "poll") if options.io == "both" else (options.io,)
    for engine in engines:
        bad += try_engine(options, options.binary, engine, origin)
    for engine in engines if options.compare else ():
        print("compared with ", end="")
        try_engine(options, options.compare, engine, origin)
    for line in bad:
        print(f"BAD: {line}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
