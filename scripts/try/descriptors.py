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

--seconds are those of probing, --size is that of a cold file, in bytes.
"""

import contextlib
import os
import sys
import threading
import time

sys.dont_write_bytecode = True

from trial import command, origin, probe, server, wire

PATIENCE = 20
LARGE = 16 << 20
BODY = bytes(LARGE)
# Index files of one set.
SUITE = 200
# Probes of each kind a second.
PACE = 4


def answer(peer, request):
    """/big with what no socket can hold, the rest with a few bytes."""
    if request.path.startswith("/big"):
        peer.send(origin.head(Content_Length=LARGE))
        # Not a copy for each: the origin is not to be what a probe waits for.
        peer.send(BODY)
    elif request.fields.get("if-none-match") == '"a"':
        peer.send(origin.head("304 Not Modified", ETag='"a"'))
    else:
        peer.send(origin.head(ETag='"a"', Content_Length=4) + b"body")


def drop_page_cache():
    with contextlib.suppress(OSError):
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("1")


def ask_until(stop, program, kind, how, asked):
    """Hits or misses, over a connection that stays or over new ones."""
    peer, number, fresh = None, 0, how == "new connection"
    while not stop.is_set():
        number += 1
        peer = asked.get(program, "/hit.deb" if kind == "hit" else f"/miss-{fresh}-{number}.deb", peer)
        if fresh and peer:
            peer = peer.close()
        stop.wait(max(0, 1 / PACE - asked[-1][1]))


def ask_for_index_files(program, count, statuses):
    asked, peer = probe.Asked(), None
    for number in range(count):
        suite, number = f"/dists/s{number // SUITE}", number % SUITE
        peer = asked.get(program, f"{suite}/main/binary-a{number}/Packages.gz" if number else f"{suite}/InRelease", peer)
        statuses[asked[-1][0]] = statuses.get(asked[-1][0], 0) + 1


def crowd(program, count, target, sip):
    """Clients that ask, take a sip if that is wished, and then nothing."""
    peers, begun = [], []

    def take(peer):
        with contextlib.suppress(OSError):
            if peer.socket.recv(sip):
                begun.append(peer)

    for number in range(count):
        with contextlib.suppress(wire.Broken):
            peer = program.connect(4096, PATIENCE)
            peer.ask("GET", target(number))
            peers.append(peer)
    if sip:
        probe.together([threading.Thread(target=take, args=(peer,)) for peer in peers])
    return peers, len(begun)


def trial(options, engine, directory):
    source = origin.Origin(answer, apart=True)
    program = server.Server(options.binary, engine, directory, source.url, ["--preset", "apt"], limit=options.descriptors)
    os.mkdir(os.path.join(directory, "dists"))
    for name, size in [("hit.deb", 4)] + [(f"cold-{n}.deb", options.size) for n in range(options.slow)]:
        program.put(name, size)
    drop_page_cache()
    program.start()
    held, statuses, bad, stop = [], {}, [], threading.Event()
    seen = {(kind, how): probe.Asked() for kind in ("hit", "miss") for how in ("kept connection", "new connection")}
    probes = [threading.Thread(target=ask_until, args=(stop, program, *which, asked)) for which, asked in seen.items()]
    jobs = [
        threading.Thread(target=ask_for_index_files, args=(program, options.index, statuses)),
        threading.Thread(target=lambda: held.append(crowd(program, options.slow, lambda n: f"/cold-{n}.deb", 4096))),
        threading.Thread(target=lambda: held.append(crowd(program, options.passes, lambda n: f"/big-{n}", 0))),
    ]
    most = program.descriptors()
    for thread in probes + jobs:
        thread.start()
    end = time.monotonic() + options.seconds
    while time.monotonic() < end or any(job.is_alive() for job in jobs):
        time.sleep(0.2)
        most = max(most, program.descriptors())
        if time.monotonic() > end + 4 * PATIENCE:
            break
    stop.set()
    for thread in probes:
        thread.join()
    begun = max((count for _, count in held), default=0)
    print(f"--io {engine}: {most} descriptors of {options.descriptors}; index files {statuses}; "
          f"{begun} of {options.slow} slow readers have begun; {options.passes} silent passes")
    if statuses != {200: options.index}:
        bad.append(f"index files {statuses}")
    for (kind, how), asked in seen.items():
        print(f"  {kind}, {how}: {asked}")
        if asked.is_bad():
            bad.append(f"{kind}, {how}: {asked.fault()}")
    for peers, _ in held:
        for peer in peers:
            peer.close()
    if program.stop(PATIENCE) != 0:
        bad.append(f"exit code {program.process.returncode}")
    source.stop()
    return bad


options = command.options(__doc__, descriptors=1024, index=900, slow=400, passes=60, size=4 << 20, seconds=15.0)
command.most_descriptors()
command.run(trial, options)
