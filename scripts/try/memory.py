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

--compare COMMAND is another build, whose figures are printed too and count for nothing; --body and --memory
are in bytes, --seconds are those of sampling.
"""

import multiprocessing
import select
import sys
import threading
import time

sys.dont_write_bytecode = True

from trial import command, origin, probe, server

PATIENCE = 20
PACE = 0.25
# So long the crowd may take to have the beginnings of its answers.
ARRIVAL = 120
# What a silent client may hold beside the memory for answers.
EACH = 256 << 10
# What the process takes without any client: its code, tables, buffers of its workers, small bodies.
FIXED = 64 << 20


class Origin(origin.Origin):
    """The same long body for every request, fresh for an hour. `asked` counts those of the probe."""

    def __init__(self, size):
        self.asked, self.body = multiprocessing.Value("Q"), bytes(size)
        super().__init__(self.always, apart=True)

    def always(self, peer, request):
        if "?probe" in request.target:
            with self.asked.get_lock():
                self.asked.value += 1
        peer.send(origin.head(Cache_Control="max-age=3600", Content_Length=len(self.body)))
        peer.send(self.body)


def ask_twice(program, source, stop, seen, kept):
    number = 0
    while not stop.is_set():
        number += 1
        for turn in range(2):
            before = source.asked.value
            if peer := seen.get(program, f"/x.idx?probe{number}"):
                peer.close()
            if turn:
                kept.append(source.asked.value == before)
        stop.wait(PACE)


def measured(options, binary, engine, directory):
    source = Origin(options.body)
    words = ["--revalidate", r"\.idx$", "--revalidate-memory", options.memory]
    program = server.Server(binary, engine, directory, source.url, words).start()
    crowd, seen, kept, stop = [], probe.Asked(), [], threading.Event()
    prober = threading.Thread(target=ask_twice, args=(program, source, stop, seen, kept))
    most, began, answered = program.memory(), time.monotonic(), select.poll()
    while len(crowd) < options.clients or len(answered.poll(0)) < len(crowd):
        if len(crowd) < options.clients:
            for _ in range(20):
                peer = program.connect(4096)
                peer.ask("GET", f"/x.idx?{len(crowd)}")
                answered.register(peer.socket, select.POLLIN)
                crowd.append(peer)
        elif time.monotonic() - began > ARRIVAL:
            break
        else:
            time.sleep(0.1)
        most = max(most, program.memory())
    arrival, silent = time.monotonic() - began, len(answered.poll(0))
    prober.start()
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        most = max(most, program.memory())
    stop.set()
    prober.join()
    for peer in crowd:
        peer.close()
    bad = [f"exit code {program.process.returncode}"] if program.stop(PATIENCE) != 0 else []
    source.stop()
    bound = options.memory + len(crowd) * EACH + FIXED
    print(f"--io {engine}: {len(crowd)} silent clients, {most >> 20} MiB at the most of {bound >> 20} MiB "
          f"({options.memory >> 20} + {len(crowd)} x 0.25 + {FIXED >> 20}), answered within {arrival:.1f} s; probe: {seen}, "
          f"{sum(kept)} of {len(kept)} kept")
    if most > bound:
        bad.append(f"{most >> 20} MiB")
    if silent < len(crowd):
        bad.append(f"{len(crowd) - silent} clients have no answer")
    if sum(kept) < len(kept):
        bad.append("the probe's answers are not kept")
    if seen.is_bad():
        bad.append(f"probe: {seen.fault()}")
    return bad


def trial(options, engine, directory):
    bad = measured(options, options.binary, engine, directory + "/cache")
    if options.compare:
        print("compared with ", end="")
        measured(options, command.program(options.compare), engine, directory + "/compared")
    return bad


options = command.options(__doc__, compare=str, clients=1000, body=3_000_000, memory=64 << 20, seconds=20.0)
command.most_descriptors()
command.run(trial, options)
