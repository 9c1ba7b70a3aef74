#!/usr/bin/env python3
"""Clients of rpm repositories behind the cache, while packages are built anew under their old names.

    scripts/try/rebuilt.py [--io uring,poll] [--keep] [dnf] [no-cache] [zypper]

A local origin holds a repository with two packages, built here by rpmbuild and indexed by createrepo_c.

dnf       A fresh dnf downloads both through the cache. One is built anew: same name, version and
          size, other bytes. A second fresh dnf must get it, and the origin must not be asked for
          the other one again.
no-cache  The package is built anew, but no index says so: a client that asks with no-cache gets it.
zypper    The first request for a package says that a metalink would be welcome, and the origin
          gives one to whoever says that. The package must be kept, not the metalink.

Needs createrepo_c and rpmbuild, and dnf for the first. FS_CACHE_BINARY: the program to test, with
arguments if need be (default: the release build). Exit code 0: all that ran is right, 3: the programs
are not installed.
"""

import contextlib
import hashlib
import os
import shutil
import sys
from email.utils import formatdate

sys.dont_write_bytecode = True

from trial import packages
from trial.packages import Cache, Failed, Origin, empty, expect, need, read, run, write

FLAGS = ["--preset", "rpm"]
PROBE, STABLE = "/repo/probe-1.0-1.noarch.rpm", "/repo/stable-1.0-1.noarch.rpm"
SPEC = """Name: {name}
Version: 1.0
Release: 1
Summary: made for a test
License: MIT
BuildArch: noarch
%description
made for a test
%install
mkdir -p %{{buildroot}}/opt
echo {text} > %{{buildroot}}/opt/{name}
%files
/opt/{name}
"""


class Repository:
    """A directory with two packages, and an origin that serves it."""

    def __init__(self, work):
        need("rpmbuild", "createrepo_c")
        self.work, self.root, self.sizes = work, empty(work, "site"), set()
        self.build("stable", "unchanged")
        self.build("probe", "build-one")
        self.index()
        self.origin = Origin(self.serve)

    def build(self, name, text):
        """Builds a package that is as long as the one before it: without compression."""
        top = empty(self.work, "rpmbuild")
        spec = write(SPEC.format(name=name, text=text), top, f"{name}.spec")
        run(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {top}", "--define", "_binary_payload w.ufdio",
             "--define", "_build_id_links none", spec], self.work)
        built = os.path.join(top, "RPMS", "noarch", f"{name}-1.0-1.noarch.rpm")
        os.makedirs(os.path.join(self.root, "repo"), exist_ok=True)
        shutil.copy(built, os.path.join(self.root, "repo"))
        return read(built)

    def rebuild(self, text):
        before = read(self.root + PROBE)
        after = self.build("probe", text)
        expect("size of the package that was built anew", len(after), len(before))
        if before == after:
            raise Failed("the package is the same although it was built anew")

    def index(self):
        run(["createrepo_c", "--quiet", os.path.join(self.root, "repo")], self.work)

    def serve(self, request):
        path = os.path.normpath(self.root + request.path)
        if "metalink" in request.fields.get("accept", "") and path.endswith(".rpm"):
            return b"<metalink/>\n", {"Content-Type": "application/metalink+xml", "ETag": '"metalink"'}
        if not path.startswith(self.root) or not os.path.isfile(path):
            return None
        body = read(path)
        # The date of a package that was built within the same second says nothing; the tag does.
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        return body, {"Content-Type": "application/octet-stream", "ETag": tag, "Last-Modified": formatdate(os.path.getmtime(path), usegmt=True)}


def dnf(work, cache):
    """What a dnf that knows nothing downloads of both packages."""
    need("dnf")
    state = empty(work, "dnf")
    os.makedirs(os.path.join(state, "log"))
    write(f"[probe]\nname=probe\nbaseurl={cache.url}/repo\nenabled=1\ngpgcheck=0\nskip_if_unavailable=0\nretries=1\n", state, "repos/probe.repo")
    write("[main]\nplugins=0\n", state, "dnf.conf")
    run(["dnf", "-c", f"{state}/dnf.conf", "--quiet", "--assumeyes", "--noplugins", f"--installroot={state}/root", "--releasever=1",
         f"--setopt=reposdir={state}/repos", f"--setopt=cachedir={state}/cache", f"--setopt=persistdir={state}/persist",
         f"--setopt=logdir={state}/log", "--setopt=zchunk=0", "install", "--downloadonly", f"--downloaddir={state}/got", "probe", "stable"], work)
    return [read(state, "got", os.path.basename(path)) for path in (PROBE, STABLE)]


@contextlib.contextmanager
def behind(command, work, engine):
    repository = Repository(work)
    with repository.origin, Cache(command, work, repository.origin, engine, FLAGS) as cache:
        yield repository, cache


def try_dnf(command, work, engine):
    need("dnf")
    with behind(command, work, engine) as (repository, cache):
        for text in ("build-one", "build-two", "build-six"):
            if text != "build-one":
                repository.rebuild(text)
                repository.index()
            got = dnf(work, cache)
            expect(f"{text}: probe", got[0] == read(repository.root + PROBE), True)
            expect(f"{text}: stable", got[1] == read(repository.root + STABLE), True)
        expect("requests for the package that is the same", repository.origin.count(STABLE), 1)
        return f"3 builds of {len(got[0])} bytes, {repository.origin.count(PROBE)} requests; the other package: 1"


def try_no_cache(command, work, engine):
    with behind(command, work, engine) as (repository, cache):
        # Two builds of one second could not be told apart by their dates.
        os.utime(repository.root + PROBE, (1_700_000_000, 1_700_000_000))
        expect("the first", cache.get(PROBE) == read(repository.root + PROBE), True)
        cache.kept(PROBE)
        repository.rebuild("build-two")
        new = read(repository.root + PROBE)
        expect("without no-cache", cache.get(PROBE) == new, False)
        expect("with no-cache", cache.get(PROBE, "Cache-Control: no-cache") == new, True)
        for _ in range(20):
            cache.get(PROBE, "Cache-Control: no-cache")
        expect("afterwards", cache.kept(PROBE) == new, True)
        return f"{repository.origin.count(PROBE)} requests for 23 of clients"


def try_zypper(command, work, engine):
    with behind(command, work, engine) as (repository, cache):
        whole = read(repository.root + PROBE)
        expect("the first", cache.get(PROBE, "Accept: application/metalink+xml, */*") == whole, True)
        expect("the second", cache.get(PROBE) == whole, True)
        expect("what is kept", cache.kept(PROBE) == whole, True)
        return f"{len(whole)} bytes, {repository.origin.count(PROBE)} request"


packages.main(__doc__, {"dnf": try_dnf, "no-cache": try_no_cache, "zypper": try_zypper})
