#!/usr/bin/env python3
"""Kills the program at random moments of fills under load, again and again, and starts it anew each time.

  scripts/try/kill.py                      200 kills, on each engine in turn
  scripts/try/kill.py --kills 20 --io poll

After each kill every path that was under way is asked for once more: it must come whole. Every finished
file must be exact, each time. Prints how many bytes the origin did not have to send again. Exits with 1 if
a file or an answer was wrong, or a path was stuck.
"""

import os
import random
import sys
import threading
import time

sys.dont_write_bytecode = True

from trial import client, command, content, directory, faulty, server

# Fills under way at a time, and clients of each.
FILLS, CLIENTS = 8, 2


def together(address, paths, clients):
    """Threads that fetch, begun, and what will have become of them."""
    results, threads = [], []
    for path in paths * clients:
        threads.append(threading.Thread(target=lambda path=path: results.append(client.fetch(address, path)), daemon=True))
        threads[-1].start()
    return threads, results


def one_kill(program, paths, dice, faults):
    """What the clients saw; how many files were in progress when the program died."""
    threads, seen = together(program.address, paths, CLIENTS)
    time.sleep(dice.random() * 0.8)
    program.kill()
    for thread in threads:
        thread.join()
    faults += [result for result in seen if result.startswith("wrong")]
    left = sum(in_progress for _, in_progress in directory.files(program.cache))
    faults += [f"wrong file: {wrong}" for wrong in directory.wrong_files(program.cache)]
    program.start()
    threads, again = together(program.address, paths, 1)
    for thread in threads:
        thread.join(client.PATIENCE + 10)
    faults += [f"after the restart: {result}" for result in again if result != "exact"]
    faults += ["after the restart: a client that waits for ever"] * sum(thread.is_alive() for thread in threads)
    faults += [f"wrong file: {wrong}" for wrong in directory.wrong_files(program.cache)]
    faults += [f"stuck: {path}" for path in paths if not directory.until_stored(program.cache + path, 5)]
    return seen, left


def trial(options, io, cache):
    source = faulty.Origin(options.seed, 9)
    program = server.Server(options.binary, io, cache, source.url, ["--workers", options.workers]).start()
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
        for file, _ in directory.files(cache):
            os.unlink(file)
        if (turn + 1) % 50 == 0:
            print(f"  {turn + 1} kills, {len(faults)} faults", flush=True)
    program.stop()
    source.stop()
    stuck = sum(fault.startswith(("stuck", "after")) for fault in faults)
    print(
        f"kill: --io {io}: {options.kills} kills, {len(faults) - stuck} wrong files or answers, {stuck} stuck paths; clients: "
        f"{exact} exact, {broken} broken visibly; {left} files in progress at a kill, {source.resumed.value} bytes resumed",
        flush=True,
    )
    return faults


command.run(trial, command.options(__doc__, kills=200, seed=1, workers=2), "kill")
