#!/usr/bin/env python3
"""The real zsync behind the cache: it asks for many ranges at once, and takes the bodies with several parts apart by
itself.

    scripts/try/zsync.py [--io uring,poll] [--keep] [hit] [miss] [slow]

zsyncmake describes a file of a local origin; zsync has an older version of it, and fetches what differs
through the cache.

hit     The file is kept already.
miss    The cache has nothing yet.
slow    The same while the origin sends slowly.

Each must end, with the very bytes of the origin's file in the client and in the cache.

Needs zsync and zsyncmake. FS_CACHE_BINARY: the program to test, with arguments if need be (default:
the release build). Exit code 0: all that ran is right, 3: the programs are not installed.
"""

import os
import random
import re
import sys

sys.dont_write_bytecode = True

from trial import packages
from trial.packages import Cache, Origin, expect, need, read, run, write

# The client that met bodies it cannot read asked again and again, without end.
SECONDS = 30
SIZE, CHANGES = 8_000_000, 40
FLAGS = ["-r", r"\.iso$"]
PATH = "/images/probe.iso"


def images():
    """Two versions that differ in short runs all over."""
    dice = random.Random(17)
    old = dice.randbytes(SIZE)
    new = bytearray(old)
    for change in range(CHANGES):
        at = change * SIZE // CHANGES + dice.randrange(10_000)
        new[at:at + 3000] = dice.randbytes(3000)
    return old, bytes(new)


def fetched(text):
    """Bytes that zsync says it used of its own file, and fetched."""
    found = re.search(r"used (\d+) local, fetched (\d+)", text)
    return [int(number) for number in found.groups()] if found else [0, SIZE]


def attempt(command, work, engine, warm, rate=0):
    need("zsync", "zsyncmake")
    old, new = images()
    site = os.path.join(work, "site")
    run(["zsyncmake", "-u", "probe.iso", "-o", f"{site}{PATH}.zsync", write(new, site + PATH)], work)
    parts = {path: read(site + path) for path in (PATH, PATH + ".zsync")}
    fields = {"Content-Type": "application/octet-stream", "Last-Modified": "Sat, 16 May 2015 20:31:39 GMT", "ETag": '"probe"'}
    origin = Origin(lambda request: (parts[request.path], fields) if request.path in parts else None, rate=rate)
    with origin, Cache(command, work, origin, engine, FLAGS) as cache:
        if warm:
            expect("the file", cache.get(PATH) == new, True)
            cache.kept(PATH)
        state = os.path.join(work, "client")
        seed, target = write(old, state, "old.iso"), os.path.join(state, "new.iso")
        said = run(["zsync", "-i", seed, "-o", target, f"{cache.url}{PATH}.zsync"], state, SECONDS)
        expect("what zsync has", read(target) == new, True)
        expect("what is kept", cache.kept(PATH) == new, True)
        local, remote = fetched(said)
        expect("zsync used what it had", local > SIZE // 2, True)
        return f"{SIZE} bytes, {local} of them its own, {remote} fetched"


packages.main(__doc__, {
    "hit": lambda *given: attempt(*given, warm=True),
    "miss": lambda *given: attempt(*given, warm=False),
    "slow": lambda *given: attempt(*given, warm=False, rate=4_000_000),
})
