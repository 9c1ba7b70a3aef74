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
import gzip
import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import time
from email.utils import formatdate

sys.dont_write_bytecode = True
import package_clients
from package_clients import Cache, Failed, Origin, empty, expect, need, read, run, write

FLAGS = ["--preset", "apt"]
FIRST_DATE, DAY, HOUR = 1_700_000_000, 86_400, 3_600
# Until a new state that all servers have is what clients get.
PATIENCE = 60


class Repository:
    """States of a signed repository: the files of each by path."""

    def __init__(self, work):
        need("apt-get", "dpkg-deb", "gpg", "gpgv")
        self.work, self.states = work, []
        self.architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
        # A socket of gpg's agent has a short path.
        self.gpg_home = tempfile.mkdtemp(prefix="gpg.", dir="/tmp")
        self.gpg("--quick-generate-key", "--passphrase", "", "probe@example.org", "ed25519", "sign", "never")
        self.keyring = os.path.join(work, "probe.gpg")
        self.gpg("--output", self.keyring, "--export")

    def gpg(self, *words):
        run(["gpg", "--homedir", self.gpg_home, "--batch", "--yes", "--quiet", *words], self.work)

    def close(self):
        with contextlib.suppress(OSError, Failed):
            run(["gpgconf", "--homedir", self.gpg_home, "--kill", "all"], self.work)
        shutil.rmtree(self.gpg_home, ignore_errors=True)

    def package(self, version, text):
        """A package whose size does not depend on a text of the same length."""
        control = f"Package: probe\nVersion: {version}\nArchitecture: all\nMaintainer: probe <probe@example.org>\nDescription: made for a test\n"
        tree, package = empty(self.work, "tree"), os.path.join(self.work, "probe.deb")
        write(control, tree, "DEBIAN/control")
        write(text, tree, "usr/share/probe")
        # Without compression, and with one date for all.
        run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, package], self.work,
            env=package_clients.environment(self.work) | {"SOURCE_DATE_EPOCH": str(FIRST_DATE)})
        name, body = f"pool/main/p/probe/probe_{version}_all.deb", read(package)
        entry = control + f"Filename: {name}\nSize: {len(body)}\nSHA256: {hashlib.sha256(body).hexdigest()}\n\n"
        return f"/debian/{name}", body, entry.encode()

    def add(self, version, text):
        """The next state: this package, signed a day later."""
        path, body, entry = self.package(version, text)
        files, directory, date = {path: body}, f"main/binary-{self.architecture}", FIRST_DATE + len(self.states) * DAY
        release = f"Origin: probe\nSuite: stable\nCodename: stable\nArchitectures: {self.architecture}\nComponents: main\n"
        release += f"Date: {formatdate(date, usegmt=True).replace('GMT', 'UTC')}\nSHA256:\n"
        for name, packed in (("Packages", entry), ("Packages.gz", gzip.compress(entry, mtime=0)), ("Packages.xz", lzma.compress(entry))):
            release += f" {hashlib.sha256(packed).hexdigest()} {len(packed)} {directory}/{name}\n"
            files[f"/debian/dists/stable/{directory}/{name}"] = packed
        plain = write(release, self.work, "Release")
        self.gpg("--output", plain + ".signed", "--clearsign", plain)
        files["/debian/dists/stable/InRelease"] = read(plain + ".signed")
        self.states.append((date, path, files))


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
    for place in ("lists/partial", "cache/archives/partial", "got"):
        os.makedirs(os.path.join(state, place))
    write("", state, "status")
    write(f"deb [signed-by={repository.keyring}] {cache.url}/debian stable main\n", state, "sources.list")
    write(f"""Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "{state}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::State "{state}";
Dir::State::lists "{state}/lists";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "0";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
""", state, "apt.conf")
    settings = {"env": package_clients.environment(state) | {"APT_CONFIG": f"{state}/apt.conf"}}
    said = run(["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"], state, **settings)
    if "\nW:" in said or "\nE:" in said:
        raise Failed(f"apt-get update: {' '.join(said.split())[-300:]}")
    run(["apt-get", "-q", "download", "probe"], f"{state}/got", **settings)
    got = {name: read(state, "got", name) for name in os.listdir(f"{state}/got")}
    for number, (_, path, files) in reversed(list(enumerate(repository.states))):
        if got == {os.path.basename(path): files[path]}:
            return number
    raise Failed(f"apt-get has {', '.join(got)}, which is of no state")


def several(repository, work, cache, count, at_once):
    """The states that so many clients get."""
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda number: client(repository, work, cache, number), range(count)))


def behind(command, work, engine, stack):
    repository = Repository(work)
    stack.callback(repository.close)
    repository.add("1.0", "build one")
    mirrors = Mirrors(repository)
    stack.callback(mirrors.origin.stop)
    cache = Cache(command, work, mirrors.origin, engine, FLAGS)
    stack.callback(cache.stop)
    return repository, mirrors, cache


def until_all(repository, work, cache, state):
    """All clients get this state; how many had another before."""
    deadline, earlier = time.monotonic() + PATIENCE, 0
    while (got := several(repository, work, cache, 2, 1)) != [state, state]:
        if time.monotonic() > deadline:
            raise Failed(f"{PATIENCE} s after both servers had state {state} clients get {got}")
        earlier += 2
    return earlier


def try_tags(command, work, engine):
    with contextlib.ExitStack() as stack:
        repository, mirrors, cache = behind(command, work, engine, stack)
        expect("states, one after the other", several(repository, work, cache, 8, 1), [0] * 8)
        expect("states, four at a time", several(repository, work, cache, 8, 4), [0] * 8)
        path = repository.states[0][1]
        expect("what is kept", cache.kept(path) == repository.states[0][2][path], True)
        return f"16 clients, {len(mirrors.origin.asked)} requests at the origin"


def try_states(command, work, engine, version="2.0+with.a.longer.name"):
    with contextlib.ExitStack() as stack:
        repository, mirrors, cache = behind(command, work, engine, stack)
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
    with contextlib.ExitStack() as stack:
        repository, mirrors, cache = behind(command, work, engine, stack)
        repository.add("1.0", "build six")
        sizes = [len(files[path]) for _, path, files in repository.states]
        expect("size of the package that was built anew", sizes[1], sizes[0])
        expect("states before", several(repository, work, cache, 2, 1), [0, 0])
        mirrors.now = [1, 1]
        earlier = until_all(repository, work, cache, 1)
        return f"{sizes[0]} bytes each, {earlier} clients with the old one in between"


if __name__ == "__main__":
    package_clients.main(__doc__, {"tags": try_tags, "states": try_states, "twins": try_twins, "swap": try_swap})
