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

--looks are at each state in a round, --seconds those of each look, --pace is in requests a second.
"""

import contextlib
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

from trial import command, origin, server

LOAD = os.path.join(command.HERE, "target/bench/release/load")
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
STATES = ("alone", "beside the idle", "beside all")


def load(*words):
    run = subprocess.run([LOAD, *map(str, words)], capture_output=True, text=True, timeout=PATIENCE)
    if run.returncode:
        raise command.Failed(f"load {words[0]}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def needed(options):
    """Descriptors of the server, which gives eight tenths of them to clients at most."""
    return (options.idle + options.slow + SPARE) * 10 // 8


def started(options, engine, directory, cores):
    """Whatever is asked for is in the cache directory: the origin has nothing."""
    words = ["-r", ".", "--workers", 1, "--pin-cpus", min(cores), "--max-connections", needed(options)]
    words += ["--idle-timeout", 600, "--stall-timeout", 600]
    nothing = origin.Origin(lambda *_: False)
    program = server.Server(options.binary, engine, directory, nothing.url, words, limit=needed(options), cpus=cores)
    program.put("large.tar", LARGE)
    load("make", "--directory", directory, "--size", SMALL, "--files", CONNECTIONS)
    return program.start()


def at(program):
    return ["--connect", "%s:%d" % program.address]


def probe(program, options):
    words = ["--size", SMALL, "--files", CONNECTIONS, "--connections", CONNECTIONS, "--order", "random"]
    words += ["--pace", options.pace, "--seconds", options.seconds, "--block", 1, "--first-class", 1]
    looks = [load("get", *at(program), *words) for _ in range(options.looks)]
    return [(look["last_byte_us"]["p50"], look["last_byte_us"]["p99"], look["errors"]) for look in looks]


@contextlib.contextmanager
def idlers(program, options):
    words = ["idle", *at(program), "--size", SMALL, "--connections", options.idle]
    process = subprocess.Popen([LOAD, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if not process.stdout.readline():
            raise command.Failed("the idle connections cannot be opened")
        yield
    finally:
        process.stdin.close()
        process.wait(PATIENCE)


@contextlib.contextmanager
def slow_readers(program, options):
    """Takes a sip of each answer once a second, and holds that each is still there."""
    readers = [program.connect() for _ in range(options.slow)]
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
                    if not reader.socket.recv(SIP, socket.MSG_DONTWAIT):
                        gone.append(reader)
                except BlockingIOError:
                    pass
                except OSError:
                    gone.append(reader)
            stop.wait(max(0.001, PAUSE - (time.monotonic() - begun)))

    for reader in readers:
        reader.ask("GET", "/large.tar")
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


def settle(program):
    """What has been asked for is work, and a connection that has fallen silent is put aside after a
    second: waits until that is done."""
    time.sleep(SILENCE)
    deadline = time.monotonic() + PATIENCE
    while program.share(0.3) and time.monotonic() < deadline:
        pass


def trial(options, engine, directory):
    cores = os.sched_getaffinity(0)
    program = started(options, engine, directory, cores)
    os.sched_setaffinity(0, cores - {min(cores)})
    seen, bad, most = {state: [] for state in STATES}, [], 0
    for _ in range(options.rounds):
        settle(program)
        seen["alone"] += probe(program, options)
        with idlers(program, options):
            settle(program)
            seen["beside the idle"] += probe(program, options)
            with slow_readers(program, options) as gone:
                time.sleep(FULL)
                seen["beside all"] += probe(program, options)
                most = max(most, program.descriptors())
            if gone:
                bad.append(f"{len(gone)} slow readers were cut")
    program.stop()
    os.sched_setaffinity(0, cores)
    print(f"--io {engine}: {options.idle} idle, {options.slow} slow readers, {most} descriptors")
    p99 = {}
    for state, looks in seen.items():
        p50 = statistics.median(look[0] for look in looks)
        low, p99[state], high = statistics.quantiles((look[1] for look in looks), method="inclusive")
        print(f"  {state}: p50 {p50:.0f} us, p99 {p99[state]:.0f} us (half of {len(looks)} looks: {low:.0f} to {high:.0f})")
        if errors := sum(look[2] for look in looks):
            bad.append(f"{state}: {errors} errors")
    for state in STATES[1:]:
        ratio = p99[state] / p99["alone"]
        print(f"  p99 {state}: {ratio:.2f} of alone")
        if ratio > 2:
            bad.append(f"p99 {state} is {ratio:.2f} of what it is alone")
    return bad


options = command.options(__doc__, idle=10_000, slow=1_000, rounds=7, looks=5, seconds=2.0, pace=2_000)
cargo = ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", os.path.join(command.HERE, "benches/load/Cargo.toml")]
subprocess.run([*cargo, "--target-dir", os.path.join(command.HERE, "target/bench")], check=True)
if command.most_descriptors() < needed(options):
    sys.exit(f"needs {needed(options)} descriptors (ulimit -Hn)")
if len(os.sched_getaffinity(0)) < 2:
    sys.exit("needs a core for the server and one for the clients")
command.run(trial, options)
