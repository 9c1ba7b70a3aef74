#!/usr/bin/env python3
"""A crowd of connections that do next to nothing: what do those feel that work beside it?

    scripts/try/crowd.py [options]

Some clients ask for small cached files at a steady pace, in rounds: alone, beside connections that
idle between two requests, and beside those and clients that read a large file very slowly. Each
round has all three, in turn, each looked at several times, and the crowd is made anew. Prints the
medians over all looks of the 50th and 99th percentile of the time to the last byte; exits non-zero
if the 99th beside the whole crowd is more than twice what it is alone, or if an answer was wrong.

The server has one worker on the first core, everything else is on the others, and who measures goes
first there. Times are of use only on a machine that does nothing else meanwhile.

Options: --io auto|uring|poll|both (both: uring, then poll), --binary COMMAND (or FS_CACHE_BINARY;
default: the release build), --idle N (10000), --slow N (1000), --rounds N (7), --looks N (5, at each
state in a round), --seconds N (2, of each look), --pace N (2000 requests a second).
"""

import argparse
import contextlib
import itertools
import json
import os
import resource
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOAD = os.path.join(HERE, "target/bench/release/load")
SMALL = 1024
LARGE = 64 << 20
CONNECTIONS = 16
PATIENCE = 60
# A slow reader takes so much a second: less than any buffer between holds. They take turns, with such a
# pause (seconds) between some of them and the next.
SIP = 8192
PAUSE = 0.01
# After so long nothing more is done for a connection that is silent.
SILENCE = 3
# They come one after the other in so long (seconds), and are full after so much more. The system asks each full
# window again after 0.2, 0.4, 0.8 ... seconds: those of clients that come at once it would ask at once.
COMING = 10
FULL = 5
# Connections besides the crowd's.
SPARE = 200


def load(*words):
    run = subprocess.run([LOAD, *map(str, words)], capture_output=True, text=True, timeout=PATIENCE)
    if run.returncode:
        sys.exit(f"load {words[0]}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def descriptors(options):
    """What the server needs, which gives eight tenths of them to clients at most."""
    return (options.idle + options.slow + SPARE) * 10 // 8


class Origin:
    """Of nothing: whatever is asked for is put into the cache directory before."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]


class Server:
    def __init__(self, options, engine, origin):
        self.directory = tempfile.TemporaryDirectory()
        with open(os.path.join(self.directory.name, "large.tar"), "wb") as file:
            file.truncate(LARGE)
        load("make", "--directory", self.directory.name, "--size", SMALL, "--files", CONNECTIONS)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        limit = descriptors(options)
        words = shlex.split(options.binary) + ["-H127.0.0.1", f"-p{self.port}", "-c", self.directory.name]
        words += ["-U", f"http://127.0.0.1:{origin.port}", "-r", ".", "--io", engine, "--workers", "1"]
        words += ["--pin-cpus", str(min(os.sched_getaffinity(0))), "--max-connections", str(limit)]
        words += ["--idle-timeout", "600", "--stall-timeout", "600"]
        self.process = subprocess.Popen(
            words,
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

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def at(self):
        return ["--connect", f"127.0.0.1:{self.port}"]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)


def probe(server, options):
    words = ["--size", SMALL, "--files", CONNECTIONS, "--connections", CONNECTIONS, "--order", "random"]
    words += ["--pace", options.pace, "--seconds", options.seconds, "--block", 1, "--first-class", 1]
    looks = [load("get", *server.at(), *words) for _ in range(options.looks)]
    return [(look["last_byte_us"]["p50"], look["last_byte_us"]["p99"], look["errors"]) for look in looks]


@contextlib.contextmanager
def idlers(server, options):
    words = ["idle", *server.at(), "--size", SMALL, "--connections", options.idle]
    process = subprocess.Popen([LOAD, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if not process.stdout.readline():
            sys.exit("the idle connections cannot be opened")
        yield
    finally:
        process.stdin.close()
        process.wait(PATIENCE)


@contextlib.contextmanager
def slow_readers(server, options):
    """Takes a sip of each answer once a second, and holds that each is still there."""
    readers = [server.connect() for _ in range(options.slow)]
    stop, gone = threading.Event(), []

    def run():
        # Whoever measures runs at once: how long it waits for its own core is no time of the server.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        turns = itertools.cycle(readers)
        while not stop.is_set():
            begun = time.monotonic()
            # As many of them at a time as keep each at a sip a second.
            for reader in itertools.islice(turns, max(1, round(len(readers) * PAUSE))):
                try:
                    if not reader.recv(SIP, socket.MSG_DONTWAIT):
                        gone.append(reader)
                except BlockingIOError:
                    pass
                except OSError:
                    gone.append(reader)
            stop.wait(max(0.001, PAUSE - (time.monotonic() - begun)))

    for reader in readers:
        reader.sendall(b"GET /large.tar HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(COMING / len(readers))
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield gone
    finally:
        stop.set()
        thread.join()
        for reader in readers:
            reader.close()


def settle(server):
    """What has been asked for is work, and a connection that has fallen silent is put aside after a
    second: waits until that is done."""
    time.sleep(SILENCE)
    path = f"/proc/{server.process.pid}/stat"
    last, deadline = None, time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with open(path) as file:
            used = file.read().rsplit(") ", 1)[1].split()[11:13]
        if used == last:
            return
        last = used
        time.sleep(0.3)


def try_engine(options, engine, origin, bad, cores, others):
    os.sched_setaffinity(0, cores)
    server = Server(options, engine, origin)
    os.sched_setaffinity(0, others)
    states = ("alone", "beside the idle", "beside all")
    seen = {state: [] for state in states}
    most = 0
    for _ in range(options.rounds):
        settle(server)
        seen["alone"] += probe(server, options)
        with idlers(server, options):
            settle(server)
            seen["beside the idle"] += probe(server, options)
            with slow_readers(server, options) as gone:
                time.sleep(FULL)
                seen["beside all"] += probe(server, options)
                most = max(most, server.descriptors())
            if gone:
                bad.append(f"{engine}: {len(gone)} slow readers were cut")
    server.stop()
    print(f"--io {engine}: {options.idle} idle, {options.slow} slow readers, {most} descriptors")
    p99 = {}
    for state, looks in seen.items():
        p50 = statistics.median(look[0] for look in looks)
        low, p99[state], high = statistics.quantiles((look[1] for look in looks), method="inclusive")
        print(f"  {state}: p50 {p50:.0f} us, p99 {p99[state]:.0f} us (half of {len(looks)} looks: {low:.0f} to {high:.0f})")
        if errors := sum(look[2] for look in looks):
            bad.append(f"{engine}: {state}: {errors} errors")
    for state in states[1:]:
        ratio = p99[state] / p99["alone"]
        print(f"  p99 {state}: {ratio:.2f} of alone")
        if ratio > 2:
            bad.append(f"{engine}: p99 {state} is {ratio:.2f} of what it is alone")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--io", default="both", choices=["auto", "uring", "poll", "both"])
    parser.add_argument("--binary", default=os.environ.get("FS_CACHE_BINARY"))
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--looks", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--pace", type=int, default=2_000)
    options = parser.parse_args()
    cargo = ["cargo", "build", "--release", "--locked", "--quiet"]
    manifest = os.path.join(HERE, "benches/load/Cargo.toml")
    target = os.path.join(HERE, "target/bench")
    subprocess.run([*cargo, "--manifest-path", manifest, "--target-dir", target], check=True)
    if not options.binary:
        subprocess.run(cargo, cwd=HERE, check=True)
        options.binary = os.path.join(HERE, "target/release/fs-caching-server")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < descriptors(options):
        sys.exit(f"needs {descriptors(options)} descriptors (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        sys.exit("needs a core for the server and one for the clients")
    origin, bad = Origin(), []
    others = cores - {min(cores)}
    for engine in ("uring", "poll") if options.io == "both" else (options.io,):
        try_engine(options, engine, origin, bad, cores, others)
    for line in bad:
        print(f"BAD: {line}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
