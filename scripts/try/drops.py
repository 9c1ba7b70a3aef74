#!/usr/bin/env python3
"""An origin that breaks off every file once, at a random place: plain and TLS, by length and chunked.

  scripts/try/drops.py                              1,000 drops on each engine
  scripts/try/drops.py --drops 100 --io poll
  scripts/try/drops.py --exact-at-least 99          fails where fewer clients in a hundred got every byte

The origin resumes where it is asked to. Every client must get the exact bytes, or a transfer that it can see
is broken; and so must a second one a moment later, who gets the exact bytes. Exits with 1 otherwise.
"""

import concurrent.futures
import os
import random
import sys

sys.dont_write_bytecode = True

from trial import client, command, content, directory, faulty, server

AT_A_TIME = 8


def over(options, io, tls, cache):
    """A quarter of the drops each by length and chunked, over plain TCP or TLS."""
    source = faulty.Origin(options.seed, 9, tls)
    environment = {"SSL_CERT_FILE": tls[0]} if tls else {}
    program = server.Server(options.binary, io, cache, source.url, ["--workers", options.workers], environment=environment).start()
    faults, lines = [], []
    for kind, how in (("once", "by length"), ("oncec", "chunked")):
        dice = random.Random(f"{options.seed} {kind}")
        paths = [
            content.path_of(kind, number, dice.choice((dice.randrange(1, 5000), dice.randrange(1, 2_000_000))))
            for number in range(options.drops // 4)
        ]
        dropped, resumed = source.dropped.value, source.resumed.value
        # A drop's client, and one who comes after it.
        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
            results = list(pool.map(lambda path: [client.fetch(program.address, path) for _ in range(2)], paths))
        dropped, resumed = source.dropped.value - dropped, source.resumed.value - resumed
        exact = sum(first == "exact" for first, _ in results)
        broken = sum(first.startswith("broken") for first, _ in results)
        faults += [first for first, _ in results if first.startswith("wrong")]
        faults += [f"{path}: the next client: {second}" for path, (_, second) in zip(paths, results) if second != "exact"]
        if exact * 100 < options.exact_at_least * len(paths):
            faults.append(f"{how}: only {exact} of {len(paths)} exact")
        if dropped != len(paths):
            faults.append(f"{how}: {dropped} drops where {len(paths)} were due")
        lines.append(f"{how}: {dropped} drops, {exact} exact, {broken} broken visibly, {resumed} bytes resumed")
    program.stop()
    faults += [f"wrong file: {wrong}" for wrong in directory.wrong_files(cache)]
    source.stop()
    for line in lines:
        print(f"drops: --io {io}, {'TLS' if tls else 'plain'}, {line}", flush=True)
    return faults


def trial(options, io, place):
    tls = faulty.certificate(place)
    if not tls:
        raise command.Failed("needs openssl, to make a certificate")
    return [fault for pair in (None, tls) for fault in over(options, io, pair, os.path.join(place, "tls" if pair else "plain"))]


command.run(trial, command.options(__doc__, drops=1000, seed=1, exact_at_least=0.0, workers=2), "drops")
