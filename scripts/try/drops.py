#!/usr/bin/env python3
"""An origin that breaks off every file once, at a random place: plain and TLS, by length and chunked.

  scripts/try/drops.py                              1,000 drops on each engine
  scripts/try/drops.py --drops 100 --io poll
  scripts/try/drops.py --exact-at-least 99          fails where fewer clients in a hundred got every byte

The origin resumes where it is asked to. Every client must get the exact bytes, or a transfer that it can see
is broken; and so must a second one a moment later, who gets the exact bytes. Exits with 1 otherwise.

--binary (or FS_CACHE_BINARY) names the program; target/release is the default.
"""

import argparse
import concurrent.futures
import os
import random
import sys
import tempfile

sys.dont_write_bytecode = True

from trial import client, content, origin, server

AT_A_TIME = 8


def fetch(address, path):
    """One of "exact", "broken", or what is wrong."""
    connection = None
    try:
        connection = client.Connection(address)
        connection.ask("GET", path)
        connection.check(path, connection.head())
        return "exact"
    except client.Broken:
        return "broken"
    except client.Wrong as wrong:
        return f"wrong: {wrong}"
    finally:
        if connection:
            connection.close()


def twice(address, path):
    """A drop's client, and one who comes after it."""
    return fetch(address, path), fetch(address, path)


def trial(options, io, tls, directory):
    """A quarter of the drops each by length and chunked, over plain TCP or TLS."""
    cache = os.path.join(directory, f"cache-{io}-{'tls' if tls else 'plain'}")
    os.mkdir(cache)
    source = origin.Origin(options.seed, 9, tls).start()
    environment = {"SSL_CERT_FILE": tls[0]} if tls else {}
    limits = ["--workers", str(options.workers)]
    program = server.Server(options.binary, io, cache, source.url, limits, environment).start()
    faults, lines = [], []
    for kind, how in (("once", "by length"), ("oncec", "chunked")):
        dice = random.Random(f"{options.seed} {kind}")
        paths = [
            content.path_of(kind, number, dice.choice((dice.randrange(1, 5000), dice.randrange(1, 2_000_000))))
            for number in range(options.drops // 4)
        ]
        dropped, resumed = source.dropped.value, source.resumed.value
        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
            results = list(pool.map(lambda path: twice(program.address, path), paths))
        dropped, resumed = source.dropped.value - dropped, source.resumed.value - resumed
        exact = sum(first == "exact" for first, _ in results)
        broken = sum(first == "broken" for first, _ in results)
        faults += [first for first, _ in results if first not in ("exact", "broken")]
        faults += [f"{path}: the next client: {second}" for path, (_, second) in zip(paths, results) if second != "exact"]
        if exact * 100 < options.exact_at_least * len(paths):
            faults.append(f"{how}: only {exact} of {len(paths)} exact")
        if dropped != len(paths):
            faults.append(f"{how}: {dropped} drops where {len(paths)} were due")
        lines.append(f"{how}: {dropped} drops, {exact} exact, {broken} broken visibly, {resumed} bytes resumed")
    program.stop()
    faults += [f"wrong file: {wrong}" for wrong in server.wrong_files(cache)]
    source.stop()
    for line in lines:
        print(f"drops: --io {io}, {'TLS' if tls else 'plain'}, {line}", flush=True)
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drops", type=int, default=1000)
    parser.add_argument("--io", default="both", choices=["auto", "uring", "poll", "both"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--exact-at-least", type=float, default=0, metavar="PERCENT")
    parser.add_argument("--binary", default=server.BINARY)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    faults = []
    for io in ["uring", "poll"] if options.io == "both" else [options.io]:
        with tempfile.TemporaryDirectory(prefix="fs-cache-drops-") as directory:
            tls = server.certificate(directory)
            if not tls:
                sys.exit("drops: needs openssl, to make a certificate")
            for pair in (None, tls):
                faults += [f"--io {io}: {fault}" for fault in trial(options, io, pair, directory)]
    for fault in faults[:40]:
        print("FAULT:", fault)
    print("drops:", f"FAILED, {len(faults)} faults" if faults else "ok")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
