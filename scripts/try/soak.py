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

There are --paths files, and --processes of --threads clients each.
"""

import os
import random
import sys
import time

sys.dont_write_bytecode = True

from trial import command, directory, faulty, load, server

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


def trial(options, io, place):
    cache = os.path.join(place, "cache")
    tls = faulty.certificate(place) if options.tls else None
    if options.tls and not tls:
        raise command.Failed("--tls needs openssl")
    source = faulty.Origin(options.seed, STALL, tls)
    environment = {"SSL_CERT_FILE": tls[0]} if tls else {}
    limits = ["--stall-timeout", STALL_TIMEOUT, "--workers", options.workers]
    program = server.Server(options.binary, io, cache, source.url, limits, environment=environment).start()
    names = load.names(options.seed, options.paths)
    world = load.World(options.seed, program.address, names, options.processes, options.threads)
    world.start()
    watch, faults, lives = Watch(), [], 1
    meddler = directory.Meddler(cache, names, options.seed)
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
    faults += [f"wrong file: {wrong}" for wrong in directory.wrong_files(cache)]
    stored = sum(not in_progress for _, in_progress in directory.files(cache))
    left = sum(in_progress for _, in_progress in directory.files(cache))
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


command.run(trial, command.options(__doc__, seconds=300, seed=1, workers=2, paths=400, processes=2, threads=12, kill_every=0.0, tls=False), "soak")
