#!/usr/bin/env python3
"""apt-get behind the cache, in front of one name that stands for two servers.

    scripts/try/two-mirrors.py [--io uring,poll] [--keep] [tags] [states] [twins] [swap]

Each connection at the origin is, in turn, to the one server or the other, as with a name of two
addresses. Their repositories are signed, without by-hash, so that a client that gets indexes of two
states cannot but fail.

tags    Both have the same files, with other dates and ETags. Eight clients, one after the other and
        four at a time, update and download.
states  As before, and then one server has a newer state than the other. Every client must get the
        one or the other as a whole, without an error; when both have it, all must get it.
twins   The same, and the indexes of both states are equally long.
swap    The same package is built anew, with the same size, on both.

Needs apt-get, dpkg-deb, gpg and gpgv. FS_CACHE_BINARY: the program to test, with arguments if need be
(default: the release build). Exit code 0: all that ran is right, 3: the programs are not installed.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import sys
import time
from email.utils import formatdate

sys.dont_write_bytecode = True

from trial import apt, packages
from trial.packages import Cache, Failed, Origin, empty, expect, read

FLAGS = ["--preset", "apt"]
HOUR = 3_600
# Until a new state that all servers have is what clients get.
PATIENCE = 60


class Repository(apt.Repository):
    """States of a signed repository: the date, the path of the package, and all files by path."""

    def __init__(self, work):
        super().__init__(work)
        self.states = []

    def add(self, version, text):
        """The next state: this package, signed a day later."""
        date = apt.FIRST_DATE + len(self.states) * apt.DAY
        self.states.append((date, *self.state(version, text, date)))


class Mirrors:
    """Two servers behind one name, each with a state."""

    def __init__(self, repository):
        self.repository, self.now = repository, [0, 0]
        self.origin = Origin(self.serve)

    def serve(self, request):
        server = request.connection % 2
        date, _, files = self.repository.states[self.now[server]]
        body = files.get(request.path)
        if body is None:
            return None
        tag = f'"{server}-{hashlib.sha256(body).hexdigest()[:16]}"'
        # The next request is for the other one.
        return body, {"Connection": "close", "ETag": tag, "Last-Modified": formatdate(date + server * HOUR, usegmt=True), "Content-Type": "application/octet-stream"}


def client(repository, work, cache, number):
    """The package as an apt that knows nothing downloads it; which state it is of."""
    state = empty(work, f"client-{number}")
    fresh = apt.Client(state, repository.source(cache.url))
    fresh.update()
    fresh.apt("download", "probe")
    got = {name: read(state, "got", name) for name in os.listdir(f"{state}/got")}
    for number, (_, path, files) in reversed(list(enumerate(repository.states))):
        if got == {os.path.basename(path): files[path]}:
            return number
    raise Failed(f"apt-get has {', '.join(got)}, which is of no state")


def several(repository, work, cache, count, at_once):
    """The states that so many clients get."""
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda number: client(repository, work, cache, number), range(count)))


@contextlib.contextmanager
def behind(command, work, engine):
    repository = Repository(work)
    with contextlib.closing(repository):
        repository.add("1.0", "build one")
        mirrors = Mirrors(repository)
        with mirrors.origin, Cache(command, work, mirrors.origin, engine, FLAGS) as cache:
            yield repository, mirrors, cache


def until_all(repository, work, cache, state):
    """All clients get this state; how many had another before."""
    deadline, earlier = time.monotonic() + PATIENCE, 0
    while (got := several(repository, work, cache, 2, 1)) != [state, state]:
        if time.monotonic() > deadline:
            raise Failed(f"{PATIENCE} s after both servers had state {state} clients get {got}")
        earlier += 2
    return earlier


def try_tags(command, work, engine):
    with behind(command, work, engine) as (repository, mirrors, cache):
        expect("states, one after the other", several(repository, work, cache, 8, 1), [0] * 8)
        expect("states, four at a time", several(repository, work, cache, 8, 4), [0] * 8)
        path = repository.states[0][1]
        expect("what is kept", cache.kept(path) == repository.states[0][2][path], True)
        return f"16 clients, {len(mirrors.origin.asked)} requests at the origin"


def try_states(command, work, engine, version="2.0+with.a.longer.name"):
    with behind(command, work, engine) as (repository, mirrors, cache):
        repository.add(version, "build two")
        # The newer state has the older package too, as pools have.
        _, path, files = repository.states[0]
        repository.states[1][2][path] = files[path]
        expect("states before", several(repository, work, cache, 2, 1), [0, 0])
        mirrors.now[1] = 1
        # What the one server has not yet is not asked of it.
        repository.states[0][2].update({path: body for path, body in repository.states[1][2].items() if "/pool/" in path})
        between = several(repository, work, cache, 6, 1) + several(repository, work, cache, 6, 3)
        mirrors.now[0] = 1
        earlier = until_all(repository, work, cache, 1)
        counts = f"{between.count(0)} clients got the old state and {between.count(1)} the new one"
        return f"{counts}; then all the new one, after {earlier} more; {len(mirrors.origin.asked)} requests"


def try_twins(command, work, engine):
    return try_states(command, work, engine, "2.0")


def try_swap(command, work, engine):
    with behind(command, work, engine) as (repository, mirrors, cache):
        repository.add("1.0", "build six")
        sizes = [len(files[path]) for _, path, files in repository.states]
        expect("size of the package that was built anew", sizes[1], sizes[0])
        expect("states before", several(repository, work, cache, 2, 1), [0, 0])
        mirrors.now = [1, 1]
        earlier = until_all(repository, work, cache, 1)
        return f"{sizes[0]} bytes each, {earlier} clients with the old one in between"


packages.main(__doc__, {"tags": try_tags, "states": try_states, "twins": try_twins, "swap": try_swap})
