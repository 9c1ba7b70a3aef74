#!/usr/bin/env python3
"""A burst of small misses on a disk whose flushes are slow: is each stored, is each asked of the origin once,
do memory and descriptors stay within bounds? Prints figures; exits non-zero if not.

    scripts/try/slow-disk.py [options]

The slow disk is a library that is loaded before the C library (LD_PRELOAD, made here with cc): it delays
fsync(2), fdatasync(2), syncfs(2) and sync_file_range(2) by --delay, and with --serial one after the other, as a
disk with one queue does. Not delayed is a sync_file_range that only waits for writes which were begun before:
it makes no disk flush anything. The files lie where --directory says; on a file system that is known to sync
as a whole (ext4, xfs, btrfs) one flush does for many.

Clients ask for files of their own over connections that stay, as fast as they are answered. Each answer is held
against what the origin sends. Memory and descriptors are looked at all the while.

--size is in bytes, --delay in milliseconds, --most-memory in MiB beyond what it has at the start; --apart:
each file in a new directory; in --directory a temporary one is made; after --seconds it has failed.
"""

import collections
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

from trial import command, origin, server, wire

LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>

static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER;

static void flush(void) {
    long ms = atol(getenv("SLOW_DISK_MS"));
    int serial = getenv("SLOW_DISK_SERIAL") != NULL;
    struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
    if (serial) pthread_mutex_lock(&disk);
    nanosleep(&time, NULL);
    if (serial) pthread_mutex_unlock(&disk);
}

#define SLOW(name) int name(int fd) { \
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name); flush(); return real(fd); }
SLOW(fsync)
SLOW(fdatasync)
SLOW(syncfs)

int sync_file_range(int fd, off64_t at, off64_t count, unsigned int flags) {
    int (*real)(int, off64_t, off64_t, unsigned int) =
        (int (*)(int, off64_t, off64_t, unsigned int))dlsym(RTLD_NEXT, "sync_file_range");
    if (flags != SYNC_FILE_RANGE_WAIT_BEFORE) flush();
    return real(fd, at, count, flags);
}
"""
# Every so often (seconds) the server is looked at.
LOOK = 0.05
PATIENCE = 120


def body(path, size):
    """Of each path its own."""
    return (path.encode() * (size // len(path) + 1))[:size]


def ask(program, paths, size, times, wrong):
    """One of some connections that share the paths."""
    try:
        with program.connect(patience=PATIENCE) as connection:
            while path := paths.get():
                begun = time.monotonic()
                answer, got = connection.get(path)
                if answer.status != 200 or got != body(path, size):
                    return wrong.append(f"{path}: {answer.status}")
                times.append(time.monotonic() - begun)
    except (wire.Broken, wire.Wrong) as error:
        wrong.append(str(error))


def slow(options):
    """What makes the disk slow for a program: its environment."""
    source, library = os.path.join(options.place, "slow.c"), os.path.join(options.place, "slow.so")
    with open(source, "w") as file:
        file.write(LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-lpthread"], check=True)
    return {"LD_PRELOAD": library, "SLOW_DISK_MS": str(options.delay)} | ({"SLOW_DISK_SERIAL": "1"} if options.serial else {})


def burst(options, engine, directory):
    """Whether all went well."""
    asked = collections.Counter()

    def answer(peer, request):
        asked[request.target] += 1
        head = origin.head(Last_Modified="Sat, 16 May 2015 20:31:39 GMT", Content_Length=options.size)
        peer.send(head + body(request.target, options.size))

    apart = "/{0}/-/{0}.tgz" if options.apart else "/{0}.tgz"
    paths = [apart.format(number) for number in range(options.files)]
    source = origin.Origin(answer)
    program = server.Server(options.binary, engine, directory, source.url, ["-r", "."], environment=slow(options), limit=options.descriptors)
    program.start()
    begun, resident, descriptors = time.monotonic(), [program.memory()], [0]
    deadline = begun + options.seconds

    def look():
        resident.append(program.memory())
        descriptors.append(program.descriptors())
        time.sleep(LOOK)

    waiting, times, wrong = queue.SimpleQueue(), [], []
    for path in [*paths, *[None] * options.connections]:
        waiting.put(path)
    sharing = (program, waiting, options.size, times, wrong)
    clients = [threading.Thread(target=ask, args=sharing, daemon=True) for _ in range(options.connections)]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients) and time.monotonic() < deadline:
        look()
    answered = time.monotonic() - begun

    def is_whole(path):
        try:
            return os.path.getsize(directory + path) == options.size
        except FileNotFoundError:
            return False

    # What is not stored never will be: no progress for some time is the end.
    missing, since = [path for path in paths if not is_whole(path)], time.monotonic()
    while missing and time.monotonic() < min(deadline, since + 10):
        look()
        left = [path for path in missing if not is_whole(path)]
        if len(left) < len(missing):
            since = time.monotonic()
        missing = left
    stored = time.monotonic() - begun
    program.stop(PATIENCE)
    again = sum(count - 1 for count in asked.values())
    grown, most = (max(resident) - resident[0]) / (1 << 20), max(descriptors)
    took = sorted(times) or [0]
    print(
        f"{engine}: {len(times)} of {options.files} answered in {answered:.1f} s"
        f" (median {took[len(took) // 2] * 1000:.0f} ms, worst {took[-1] * 1000:.0f} ms),"
        f" {len(missing)} not stored after {stored:.1f} s, {again} asked again,"
        f" {most} descriptors, {grown:.0f} MiB more"
    )
    for fault in wrong[:5]:
        print(f"  {fault}")
    bad = wrong or len(times) < options.files or missing or again
    return not bad and grown <= options.most_memory and most <= options.descriptors


options = command.options(__doc__, files=10000, size=16384, connections=64, delay=50, serial=False, apart=False, descriptors=1024,
                          most_memory=128, directory=str, seconds=300)
results = []
for engine in options.engines:
    with tempfile.TemporaryDirectory() as options.place, tempfile.TemporaryDirectory(dir=options.directory) as directory:
        results.append(burst(options, engine, directory))
sys.exit(0 if all(results) else "not as it should be")
