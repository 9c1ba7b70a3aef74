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

Ten thousand connections beside room for as many: --descriptors 20000 --connections 10000.
"""

import contextlib
import sys
import threading
import time

sys.dont_write_bytecode = True

from trial import client, command, origin, probe, server, wire

LARGE = 8 << 20
PATIENCE = 30
# Processor time for a second of waiting: the clock and a look at the door, fifty times a second.
MOST_IDLE = 0.05


def answer(peer, request):
    if not request.path.startswith("/silent"):
        peer.send(origin.head(Content_Length=4) + b"body")


def said(peer, words):
    peer.send(words.encode())
    return peer


FLOODS = {
    "silent connections": lambda program, n: program.connect(),
    "heads without end": lambda program, n: said(program.connect(), "GET /x HTTP/1.1\r\nX-Long: "),
    "answers that nobody reads": lambda program, n: said(program.connect(4096), "GET /large.tar HTTP/1.1\r\nHost: a\r\n\r\n"),
    "misses without an answer": lambda program, n: said(program.connect(), f"GET /silent-{n}.tgz HTTP/1.1\r\nHost: a\r\n\r\n"),
}


def get(program, target, patience=PATIENCE):
    """The status and how long it took; None where nothing came in time."""
    began = time.monotonic()
    try:
        head, _, took = client.get(program.address, target, "Connection: close\r\n", patience=patience)
        return head.status, took
    except (wire.Broken, wire.Wrong) as error:
        return None if "imeout" in str(error) else str(error), time.monotonic() - began


def come_and_go(program, seconds):
    """Connections that are reset at once, from two threads; how many there were."""
    counts = [0, 0]

    def run(number):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(wire.Broken):
                program.connect().close(reset=True)
                counts[number] += 1

    probe.together([threading.Thread(target=run, args=(number,)) for number in range(2)])
    return sum(counts)


def check(program, bad, when):
    served = []
    for target in ("/small.tgz", f"/after-{when.replace(' ', '-')}.tgz", "/pass"):
        status, seconds = get(program, target)
        served.append(f"{target[1:6]} {status} in {seconds:.2f} s")
        if status != 200:
            bad.append(f"{when}: {target}: {status}")
    print(f"    after: {', '.join(served)}; {program.descriptors()} descriptors")


def trial(options, engine, directory):
    words, source, bad = ["--workers", 2, "--response-timeout", 20, "-d"], origin.Origin(answer), []
    program = server.Server(options.binary, engine, directory, source.url, words, limit=options.descriptors)
    program.put("small.tgz", body=b"body")
    program.put("large.tar", body=b"body" * (LARGE // 4))
    program.start()
    print(f"--io {engine}, {options.descriptors} descriptors, {options.connections} connections")
    for name, flood in FLOODS.items():
        peers = [flood(program, n) for n in range(options.connections)]
        # What has been asked for is work: only then does the waiting begin. One that spins never gets there.
        deadline = time.monotonic() + PATIENCE
        while program.share(1.5) > MOST_IDLE and time.monotonic() < deadline:
            pass
        share = program.share(options.seconds)
        first = name == next(iter(FLOODS))
        status, seconds = get(program, "/small.tgz", PATIENCE if first else 3)
        print(f"  {name}: {100 * share:.1f} % of a core while it lasts; {program.descriptors()} descriptors; "
              f"a hit meanwhile: {status or 'waits'} ({seconds:.2f} s)")
        if share > MOST_IDLE:
            bad.append(f"{name}: {100 * share:.0f} % of a core")
        if first and status != 200:
            bad.append(f"{name}: no hit while it lasts: {status}")
        for peer in peers:
            peer.close()
        check(program, bad, name)
    before = program.cpu()
    count = come_and_go(program, options.seconds)
    used = program.cpu() - before
    print(f"  {count} connections that come and go: {1e6 * used / max(count, 1):.0f} us of processor time each")
    check(program, bad, "come and go")
    if program.stop(PATIENCE) != 0:
        bad.append(f"exit code {program.process.returncode}")
    return bad + [line for line in program.said().splitlines() if "panicked" in line]


options = command.options(__doc__, descriptors=256, connections=1000, seconds=5.0)
command.most_descriptors()
command.run(trial, options)
