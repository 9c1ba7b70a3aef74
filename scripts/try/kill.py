#!/usr/bin/env python3
"""Kills the program at random moments of fills under load, again and again, and starts it anew each time.

  scripts/try/kill.py                      200 kills, on each engine in turn
  scripts/try/kill.py --kills 20 --io poll

After each kill every path that was under way is asked for once more: it must come whole. Every finished
file must be exact, each time. Prints how many bytes the origin did not have to send again. Exits with 1 if
a file or an answer was wrong, or a path was stuck.

--binary (or FS_CACHE_BINARY) names the program; target/release is the default.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

from trial import client, content, origin, server

# Fills under way at a time, and clients of each.
FILLS, CLIENTS = 8, 2


def fetch(address, path, results):
    connection = None
    try:
        connection = client.Connection(address)
        connection.ask("GET", path)
        connection.check(path, connection.head())
        results.append("exact")
    except client.Broken as broken:
        results.append(f"broken: {path}: {broken}")
    except client.Wrong as wrong:
        results.append(f"wrong: {wrong}")
    finally:
        if connection:
            connection.close()


def together(address, paths, clients):
    """Threads that fetch, begun, and what will have become of them."""
    results = []
    threads = [
        threading.Thread(target=fetch, args=(address, path, results), daemon=True) for path in paths for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    return threads, results


def one_kill(program, paths, dice, faults):
    """What the clients saw; how many files were in progress when the program died."""
    threads, seen = together(program.address, paths, CLIENTS)
    time.sleep(dice.random() * 0.8)
    program.kill()
    for thread in threads:
        thread.join()
    faults += [result for result in seen if result.startswith("wrong")]
    left = sum(in_progress for _, in_progress in server.files(program.cache))
    faults += [f"wrong file: {wrong}" for wrong in server.wrong_files(program.cache)]
    program.start()
    threads, again = together(program.address, paths, 1)
    for thread in threads:
        thread.join(client.PATIENCE + 10)
    faults += [f"after the restart: {result}" for result in again if result != "exact"]
    faults += ["after the restart: a client that waits for ever"] * sum(thread.is_alive() for thread in threads)
    faults += [f"wrong file: {wrong}" for wrong in server.wrong_files(program.cache)]
    faults += [f"stuck: {path}" for path in paths if not is_stored(program, path)]
    return seen, left


def is_stored(program, path):
    """The name comes a moment after the last byte."""
    deadline = time.monotonic() + 5
    while not os.path.exists(program.cache + path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def clean(cache):
    for file, _ in server.files(cache):
        os.unlink(file)


def trial(options, io, directory):
    cache = os.path.join(directory, "cache-" + io)
    os.mkdir(cache)
    source = origin.Origin(options.seed, 9).start()
    program = server.Server(options.binary, io, cache, source.url, ["--workers", str(options.workers)]).start()
    dice = random.Random(options.seed)
    faults, broken, exact, left = [], 0, 0, 0
    for turn in range(options.kills):
        kinds = [dice.choice(("slow", "slow", "slow", "chunk", "len")) for _ in range(FILLS)]
        paths = [
            content.path_of(kind, turn * FILLS + number, dice.randrange(100_000, 3_000_000))
            for number, kind in enumerate(kinds)
        ]
        seen, in_progress = one_kill(program, paths, dice, faults)
        broken += sum(result.startswith("broken") for result in seen)
        exact += seen.count("exact")
        left += in_progress
        clean(cache)
        if (turn + 1) % 50 == 0:
            print(f"  {turn + 1} kills, {len(faults)} faults", flush=True)
    program.stop()
    source.stop()
    stuck = sum(fault.startswith(("stuck", "after")) for fault in faults)
    wrong = len(faults) - stuck
    print(
        f"kill: --io {io}: {options.kills} kills, {wrong} wrong files or answers, {stuck} stuck paths; clients: "
        f"{exact} exact, {broken} broken visibly; {left} files in progress at a kill, {source.resumed.value} bytes resumed",
        flush=True,
    )
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--io", default="both", choices=["auto", "uring", "poll", "both"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", default=server.BINARY)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    faults = []
    for io in ["uring", "poll"] if options.io == "both" else [options.io]:
        with tempfile.TemporaryDirectory(prefix="fs-cache-kill-") as directory:
            faults += [f"--io {io}: {fault}" for fault in trial(options, io, directory)]
    for fault in faults[:40]:
        print("FAULT:", fault)
    print("kill:", f"FAILED, {len(faults)} faults" if faults else "ok")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
