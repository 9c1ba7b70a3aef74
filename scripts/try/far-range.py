#!/usr/bin/env python3
"""A range far into a file that comes slowly. Prints figures; exits non-zero if one is not met.

    scripts/try/far-range.py [options]

An origin on the loopback sends a file of 4 GiB (--size, in MiB) at 1 MB/s (--rate, in bytes a
second, for the whole file and for each part alike); its bytes are made up as they are sent. For
--seconds (10) the head of this download is tried: a range in the middle of the file, one at its
end, and one that starts the download must each have their first byte and 64 KiB exact within a
second, while a client that follows the download goes on reading exact bytes. Then the server is
stopped. A file of 12 MiB at ten times the rate shows the end of a download with a far range beside
it: what is stored must be exact. The debug lines must count the bytes that were fetched twice.

Options: --io auto|uring|poll|both (both), --binary COMMAND (or FS_CACHE_BINARY; default: the
release build), --size MIB, --rate BYTES, --seconds N.
"""

import argparse
import hashlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

MIB = 1024 * 1024
BLOCK = 64 * 1024
PART = 64 * 1024
ETAG = '"made-up"'


def block(number):
    """The bytes of one block, unlike those of any other."""
    return hashlib.shake_128(b"%d" % number).digest(BLOCK)


def content(first, end):
    """The bytes from `first` up to and without `end`."""
    blocks = b"".join(block(number) for number in range(first // BLOCK, -(-end // BLOCK)))
    return blocks[first % BLOCK : first % BLOCK + end - first]


class Origin:
    """Sends a file of made-up bytes, whole or in part, at a steady rate."""

    def __init__(self, size, rate):
        self.size, self.rate, self.sent, self.ranges = size, rate, 0, []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
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
                asked = re.search(rb"\r\nrange: bytes=(\d+)-(\d+)\r\n", head, re.IGNORECASE)
                first, end, status, extra = 0, self.size, "200 OK", ""
                if asked:
                    first, end, status = int(asked[1]), int(asked[2]) + 1, "206 Partial Content"
                    extra = f"Content-Range: bytes {first}-{end - 1}/{self.size}\r\n"
                    self.ranges.append((first, end))
                answer = f"HTTP/1.1 {status}\r\nETag: {ETAG}\r\nContent-Length: {end - first}\r\n{extra}"
                connection.sendall(f"{answer}Connection: close\r\n\r\n".encode())
                begun, at = time.monotonic(), first
                while at < end:
                    piece = content(at, min(at + BLOCK, end))
                    connection.sendall(piece)
                    at += len(piece)
                    self.sent += len(piece)
                    time.sleep(max(0.0, begun + (at - first) / self.rate - time.monotonic()))
            except OSError:
                pass


class Server:
    """The program in front of an origin, with an empty cache."""

    def __init__(self, options, io, origin):
        self.directory = tempfile.TemporaryDirectory(prefix="far-range-")
        self.errors = tempfile.TemporaryFile()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = shlex.split(options.binary) + ["-d", "-H", "127.0.0.1", "-p", str(self.port), "--io", io]
        command += ["-c", self.directory.name, "-U", f"http://127.0.0.1:{origin.port}", "--drain-timeout", "0.1"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FS_CACHE_")}
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.errors, env=environment)
        limit = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > limit or self.process.poll() is not None:
                    sys.exit("the server does not listen: " + self.said())
                time.sleep(0.02)

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Answer:
    """One request, its head, and the times at which things came."""

    def __init__(self, port, target, extra=""):
        self.begun = time.monotonic()
        self.connection = socket.create_connection(("127.0.0.1", port), 30)
        self.connection.sendall(f"GET {target} HTTP/1.1\r\nHost: h\r\n{extra}\r\n".encode())
        self.body = b""
        while b"\r\n\r\n" not in self.body:
            self.more()
        head, self.body = self.body.split(b"\r\n\r\n", 1)
        self.status = int(head.split(b" ")[1])

    def more(self):
        got = self.connection.recv(MIB)
        if not got:
            raise EOFError("the transfer broke off")
        self.body += got

    def read(self, count):
        while len(self.body) < count:
            self.more()
        took = time.monotonic() - self.begun
        taken, self.body = self.body[:count], self.body[count:]
        return taken, took


class Trial:
    """Counts what was not met."""

    def __init__(self):
        self.failures = 0

    def expect(self, holds, what):
        self.failures += not holds
        print(f"  {'ok  ' if holds else 'FAIL'}  {what}", flush=True)

    def far(self, server, target, first, what):
        answer = Answer(server.port, target, f"Range: bytes={first}-{first + PART - 1}\r\n")
        _, head = answer.read(0)
        first_byte = answer.read(1)
        rest = answer.read(PART - 1)
        exact = first_byte[0] + rest[0] == content(first, first + PART)
        met = answer.status == 206 and exact and first_byte[1] < 1.0
        self.expect(met, f"{what}: {answer.status}, head {head:.2f} s, first byte {first_byte[1]:.2f} s, all {rest[1]:.2f} s")


def twice(server):
    return sum(map(int, re.findall(r"directly - (\d+) bytes fetched twice", server.said())))


def head_of_a_long_download(trial, options, io):
    size = options.size * MIB
    print(f"{io}: {options.size} MiB at {options.rate / 1e6:g} MB/s")
    origin = Origin(size, options.rate)
    server = Server(options, io, origin)
    try:
        trial.far(server, "/first.tgz", size // 2, "a range that starts the download")
        follower = Answer(server.port, "/second.tgz")
        position = 0
        end = time.monotonic() + options.seconds
        trial.far(server, "/second.tgz", size // 2 + 12345, "a range in the middle")
        trial.far(server, "/second.tgz", size - PART, "a range at the end")
        exact = True
        while time.monotonic() < end:
            piece, _ = follower.read(BLOCK)
            exact &= piece == content(position, position + BLOCK)
            position += BLOCK
        rate = position / (time.monotonic() - follower.begun) / 1e6
        trial.expect(exact and position > 0, f"the download beside it: {position / MIB:.1f} MiB exact, {rate:.2f} MB/s")
        counted = twice(server)
        trial.expect(counted == 3 * PART, f"bytes fetched twice, as the debug lines count them: {counted}")
        trial.expect(origin.ranges[0][1] - origin.ranges[0][0] == PART, f"parts asked of the origin: {len(origin.ranges)}")
    finally:
        server.stop()


def end_of_a_download(trial, options, io):
    size = 12 * MIB
    origin = Origin(size, options.rate * 10)
    server = Server(options, io, origin)
    name = os.path.join(server.directory.name, "x.tgz")
    try:
        whole = Answer(server.port, "/x.tgz")
        trial.far(server, "/x.tgz", size - PART, "a range at the end of 12 MiB, at ten times the rate")
        body, took = whole.read(size)
        trial.expect(body == content(0, size), f"what its client got is exact, {took:.1f} s")
        limit = time.monotonic() + 10
        while not os.path.exists(name) and time.monotonic() < limit:
            time.sleep(0.05)
        with open(name, "rb") as stored:
            trial.expect(stored.read() == content(0, size), "the file stored in the end is exact")
        extra = origin.sent - size
        trial.expect(twice(server) == extra, f"the origin sent {extra} bytes beyond the file, the debug lines say {twice(server)}")
    finally:
        server.stop()


def main():
    default = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "target", "release", "fs-caching-server")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--io", choices=["auto", "uring", "poll", "both"], default="both")
    parser.add_argument("--binary", default=os.environ.get("FS_CACHE_BINARY", os.path.normpath(default)))
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rate", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    trial = Trial()
    for io in ["uring", "poll"] if options.io == "both" else [options.io]:
        head_of_a_long_download(trial, options, io)
        end_of_a_download(trial, options, io)
    sys.exit(1 if trial.failures else 0)


if __name__ == "__main__":
    main()
