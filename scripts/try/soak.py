#!/usr/bin/env python3
"""Random clients, origins and faults for a given time; every byte is checked, memory and descriptors watched.

  scripts/try/soak.py                               five minutes on each engine
  scripts/try/soak.py --seconds 1800 --io uring     half an hour on one
  scripts/try/soak.py --kill-every 20               the program is killed and started anew, too
  scripts/try/soak.py --tls                         the origin speaks TLS (needs openssl)
  scripts/try/soak.py --seed 7                      other clients

Prints one line of figures for each engine. Exits with 1 if an answer or a stored file was wrong, if a
transfer broke or stood still without a reason, or if memory or descriptors grew: their means over the last
quarter are held against those over the second. "Broken visibly" are transfers that the origin broke off (or
a kill), and that each client could see were not whole.

--binary (or FS_CACHE_BINARY) names the program; target/release is the default.
"""

import argparse
import os
import random
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from trial import load, origin, server

MIB = 1 << 20
# The program gives up a silent origin after this long; the origin is silent for longer.
STALL_TIMEOUT, STALL = 6, 9
# What may come and go without being a leak.
MEMORY_SLACK, DESCRIPTOR_SLACK = 6 * MIB, 24


class Watch:
    """Memory and descriptors, twice a second."""

    def __init__(self):
        self.samples = []

    def look(self, at, program):
        try:
            self.samples.append((at, program.memory(), program.descriptors()))
        except (OSError, IndexError):
            pass

    def quarter(self, number, seconds, which):
        begin, end = (number - 1) * seconds / 4, number * seconds / 4
        values = [sample[which] for sample in self.samples if begin <= sample[0] <= end]
        return sum(values) / max(len(values), 1)


def soak(options, io, directory):
    cache = os.path.join(directory, "cache-" + io)
    os.mkdir(cache)
    tls = server.certificate(directory) if options.tls else None
    if options.tls and not tls:
        sys.exit("soak: --tls needs openssl")
    source = origin.Origin(options.seed, STALL, tls).start()
    environment = {"SSL_CERT_FILE": tls[0]} if tls else {}
    limits = ["--stall-timeout", str(STALL_TIMEOUT), "--workers", str(options.workers)]
    program = server.Server(options.binary, io, cache, source.url, limits, environment).start()
    names = load.names(options.seed, options.paths)
    world = load.World(options.seed, program.address, names, options.processes, options.threads)
    world.start()
    watch, faults, lives = Watch(), [], 1
    meddler = server.Meddler(cache, names, options.seed)
    dice = random.Random(f"{options.seed} kills")
    begun = time.monotonic()
    next_kill = options.kill_every * (0.5 + dice.random())
    next_look = 0.0
    while (now := time.monotonic() - begun) < options.seconds:
        if not program.is_alive():
            faults.append(f"the program ended by itself, with {program.process.returncode}")
            break
        if now >= next_look:
            watch.look(now, program)
            next_look = now + 0.5
        meddler.once()
        if options.kill_every and now >= next_kill:
            next_kill = now + options.kill_every * (0.5 + dice.random())
            world.down.value = 1
            with world.kills.get_lock():
                world.kills.value += 1
            program.kill()
            program.start()
            world.down.value = 0
            lives += 1
        time.sleep(0.1)
    world.stop()
    faults += world.first_faults()
    if program.is_alive() and program.stop() != 0:
        faults.append("the program did not end with 0 when asked to")
    faults += [f"wrong file: {wrong}" for wrong in server.wrong_files(cache)]
    stored = sum(not in_progress for _, in_progress in server.files(cache))
    left = sum(in_progress for _, in_progress in server.files(cache))
    source.stop()
    memory = [watch.quarter(quarter, options.seconds, 1) for quarter in (2, 4)]
    descriptors = [watch.quarter(quarter, options.seconds, 2) for quarter in (2, 4)]
    if not options.kill_every:
        if memory[1] > memory[0] * 1.1 + MEMORY_SLACK:
            faults.append("memory grows")
        if descriptors[1] > descriptors[0] * 1.1 + DESCRIPTOR_SLACK:
            faults.append("descriptors grow")
    total = world.total
    print(
        f"soak: --io {io}{' --tls' if options.tls else ''}: {options.seconds} s, {total('requests')} requests, "
        f"{total('bytes')} bytes verified, {total('wrong')} wrong, {total('broken')} broken visibly "
        f"({total('unexplained')} without a reason), rss {memory[0] / MIB:.0f}->{memory[1] / MIB:.0f} MiB, "
        f"fds {descriptors[0]:.0f}->{descriptors[1]:.0f}"
    )
    print(
        f"  {total('ranges')} ranges, {total('not_modified')} not modified, {total('left')} left early; origin: "
        f"{source.requests.value} requests, {source.dropped.value} broken off, {source.resumed.value} bytes not sent again; "
        f"{meddler.deleted} files deleted, {meddler.left} leftovers, {meddler.touched} times changed, {lives} lives, "
        f"{total('excused')} broken by a kill; {stored} files exact at the end, {left} in progress",
        flush=True,
    )
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--io", default="both", choices=["auto", "uring", "poll", "both"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", default=server.BINARY)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--paths", type=int, default=400)
    parser.add_argument("--processes", type=int, default=2, help="of clients")
    parser.add_argument("--threads", type=int, default=12, help="clients of each process")
    parser.add_argument("--kill-every", type=float, default=0, metavar="S")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    faults = []
    for io in ["uring", "poll"] if options.io == "both" else [options.io]:
        with tempfile.TemporaryDirectory(prefix="soak-") as directory:
            faults += [f"--io {io}: {fault}" for fault in soak(options, io, directory)]
    for fault in faults[:40]:
        print("FAULT:", fault)
    print("soak:", f"FAILED, {len(faults)} faults" if faults else "ok")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
