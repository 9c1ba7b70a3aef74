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
"""

import hashlib
import os
import re
import sys
import time

sys.dont_write_bytecode = True

from trial import command, directory, origin, server

MIB = 1024 * 1024
BLOCK = 64 * 1024
PART = 64 * 1024


def content(first, end):
    """The made-up bytes from `first` up to and without `end`: each block unlike any other."""
    numbers = range(first // BLOCK, -(-end // BLOCK))
    blocks = b"".join(hashlib.shake_128(b"%d" % number).digest(BLOCK) for number in numbers)
    return blocks[first % BLOCK : first % BLOCK + end - first]


class Origin(origin.Origin):
    """Sends a file of made-up bytes, whole or in part, at a steady rate."""

    def __init__(self, size, rate):
        self.size, self.rate, self.sent, self.ranges = size, rate, 0, []
        super().__init__(self.send)

    def send(self, peer, request):
        first, end = request.part(self.size) or (0, self.size)
        fields = {"ETag": '"made-up"', "Content-Length": end - first, "Connection": "close"}
        if end - first < self.size:
            self.ranges.append((first, end))
            peer.send(origin.head("206 Partial Content", Content_Range=f"bytes {first}-{end - 1}/{self.size}", **fields))
        else:
            peer.send(origin.head(**fields))
        begun, at = time.monotonic(), first
        while at < end:
            piece = content(at, min(at + BLOCK, end))
            peer.send(piece)
            at += len(piece)
            self.sent += len(piece)
            time.sleep(max(0.0, begun + (at - first) / self.rate - time.monotonic()))
        return False


class Download:
    """One request, its head, and the times at which things came."""

    def __init__(self, program, target, extra=""):
        self.begun = time.monotonic()
        self.connection = program.connect(patience=30)
        self.connection.ask("GET", target, extra)
        self.status, self.head = self.connection.head().status, time.monotonic() - self.begun

    def read(self, count):
        return b"".join(self.connection.counted(count)), time.monotonic() - self.begun


class Trial:
    """The program in front of an origin, with an empty cache. Tells what was not met."""

    def __init__(self, options, io, place, size, rate):
        self.origin, self.size, self.failures = Origin(size, rate), size, []
        words = ["-d", "--drain-timeout", "0.1"]
        self.program = server.Server(options.binary, io, os.path.join(place, str(size)), self.origin.url, words)

    def expect(self, holds, what):
        self.failures += [] if holds else [what]
        print(f"  {'ok  ' if holds else 'FAIL'}  {what}", flush=True)

    def far(self, target, first, what):
        answer = Download(self.program, target, f"Range: bytes={first}-{first + PART - 1}\r\n")
        first_byte, rest = answer.read(1), answer.read(PART - 1)
        exact = first_byte[0] + rest[0] == content(first, first + PART)
        met = answer.status == 206 and exact and first_byte[1] < 1.0
        self.expect(met, f"{what}: {answer.status}, head {answer.head:.2f} s, first byte {first_byte[1]:.2f} s, all {rest[1]:.2f} s")

    def twice(self):
        return sum(map(int, re.findall(r"directly - (\d+) bytes fetched twice", self.program.said())))


def head_of_a_long_download(trial, seconds):
    with trial.program:
        trial.far("/first.tgz", trial.size // 2, "a range that starts the download")
        follower, position = Download(trial.program, "/second.tgz"), 0
        end = time.monotonic() + seconds
        trial.far("/second.tgz", trial.size // 2 + 12345, "a range in the middle")
        trial.far("/second.tgz", trial.size - PART, "a range at the end")
        exact = True
        while time.monotonic() < end:
            exact &= follower.read(BLOCK)[0] == content(position, position + BLOCK)
            position += BLOCK
        rate = position / (time.monotonic() - follower.begun) / 1e6
        trial.expect(exact and position > 0, f"the download beside it: {position / MIB:.1f} MiB exact, {rate:.2f} MB/s")
        counted, ranges = trial.twice(), trial.origin.ranges
        trial.expect(counted == 3 * PART, f"bytes fetched twice, as the debug lines count them: {counted}")
        trial.expect(ranges[0][1] - ranges[0][0] == PART, f"parts asked of the origin: {len(ranges)}")


def end_of_a_download(trial):
    size, name = trial.size, os.path.join(trial.program.cache, "x.tgz")
    with trial.program:
        whole = Download(trial.program, "/x.tgz")
        trial.far("/x.tgz", size - PART, "a range at the end of 12 MiB, at ten times the rate")
        body, took = whole.read(size)
        trial.expect(body == content(0, size), f"what its client got is exact, {took:.1f} s")
        stored = directory.until_stored(name) and directory.read(name) == content(0, size)
        trial.expect(stored, "the file stored in the end is exact")
        extra, twice = trial.origin.sent - size, trial.twice()
        trial.expect(twice == extra, f"the origin sent {extra} bytes beyond the file, the debug lines say {twice}")


def trial(options, io, place):
    print(f"{io}: {options.size} MiB at {options.rate / 1e6:g} MB/s")
    long, short = Trial(options, io, place, options.size * MIB, options.rate), Trial(options, io, place, 12 * MIB, options.rate * 10)
    head_of_a_long_download(long, options.seconds)
    end_of_a_download(short)
    return long.failures + short.failures


command.run(trial, command.options(__doc__, size=4096, rate=1_000_000, seconds=10.0))
