#!/usr/bin/env python3
"""Runs the package clients of this machine through the proxy, twice.

    scripts/try/real-clients.sh [--keep] [apt] [pip] [npm] [cargo]

First run: each client fetches its indexes and a few small packages through a proxy in front of the source
it is configured for. Second run: the same cache directories, but the proxies' origin is a closed port; the
clients fetch the same packages again, and every file that the first run let through the regex is asked for
by hand. All of it must come from the cache, byte for byte.

The sources are read from the clients' own configuration when the script runs. Every client works in a
directory of its own below a temporary directory: nothing of the user's is read for anything but that
configuration, and nothing is written. One proxy stands for one origin host. Where an index names its files
by absolute links to a host (pip, cargo), a small rewriting server between proxy and index points these
links at the files host's proxy.

FS_CACHE_BINARY: the program to test, with arguments if need be, such as --io poll (default: the release
build). REAL_CLIENTS_TIMEOUT: seconds for each command of a client (240). --keep leaves the temporary
directory behind. Exit code 0: everything that ran is right.
"""

import collections
import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import sys
import time
import types
import urllib.error
import urllib.parse
import urllib.request

sys.dont_write_bytecode = True

from trial import apt, client, command, directory, packages, server, wire
from trial.packages import Failed, Skipped, empty, environment, need, read, write

REGEX = r"\.(deb|whl|tgz|crate|tar\.gz)$|/download$"
SECONDS = int(os.environ.get("REAL_CLIENTS_TIMEOUT", 240))
# As the system's clients do it, without a proxy of the user's.
straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url, **fields):
    """The body and the content type; None where it cannot be had."""
    try:
        with straight.open(urllib.request.Request(url, headers=fields), timeout=30) as answer:
            return answer.read(), answer.headers.get("Content-Type", "text/plain")
    except (OSError, ValueError, urllib.error.HTTPError):
        return None


def run(words, work, **options):
    return packages.run(words, work, SECONDS, **options)


def parted(url):
    """The scheme and authority of a URL; its path, with a slash at its end."""
    found = re.match(r"(https?://[^/]+)(.*)", url)
    if not found or "@" in found[1]:
        raise Skipped("no http or https source without a password is configured")
    return found[1], found[2].rstrip("/") + "/"


class Client:
    """A package client, its proxies, and what they keep. `prepare` sets all up, `first` and `second` leave
    what the client fetched in `self.got`."""

    def __init__(self, binary, work, stack):
        self.binary, self.work, self.stack, self.caches, self.manifest = binary, work, stack, [], []

    def proxy(self, url):
        work = empty(self.work, f"proxy-{len(self.caches)}")
        cache = packages.Cache(self.binary, work, types.SimpleNamespace(url=url), None, ["-r", REGEX])
        # Its access lines too.
        cache.output = True
        self.caches.append(self.stack.enter_context(cache))
        return cache

    def front(self, url, old, new):
        """A proxy in front of a server that forwards GET and replaces one host by another in bodies."""

        def site(request):
            wanted = {name: request.fields.get(name.lower(), usual) for name, usual in (("Accept", "*/*"), ("User-Agent", "-"))}
            found = fetch(url + request.target, **wanted)
            return found and (found[0].replace(old.encode(), new.encode()), {"Content-Type": found[1]})

        return self.proxy(self.stack.enter_context(packages.Origin(site)).url)

    def close_origins(self):
        for cache in self.caches:
            cache.stop()
            cache.words[cache.words.index("-U") + 1] = f"http://127.0.0.1:{server.free_port()}"
            cache.start()

    def record(self):
        """Every GET that matches the regex and was answered 200 must be a whole file in the cache."""
        for cache in self.caches:
            deadline, said = time.monotonic() + 10, None
            # A file gets its name, and a request its line, a moment after the last byte.
            while time.monotonic() < deadline and (said != cache.said() or any(busy for _, busy in directory.files(cache.cache))):
                said = cache.said()
                time.sleep(0.3)
            for target in dict.fromkeys(re.findall(r'"GET (\S+) HTTP/1\.[01]" 200 ', cache.said())):
                path = os.path.normpath(urllib.parse.unquote(target.split("?")[0]))
                if not re.search(REGEX, path):
                    continue
                if not directory.until_stored(cache.cache + path):
                    raise Failed(f"answered 200 but not in the cache: {path}")
                self.manifest.append((cache, target, read(cache.cache + path)))
            if left := [path for path, in_progress in directory.files(cache.cache) if in_progress]:
                raise Failed("left in the cache: " + " ".join(left))
        if not self.manifest:
            raise Failed("no file matched the regex (does the source redirect to another host?)")

    def replay(self):
        """The same bytes once more, with the origin closed; a path that is not cached must give an error."""
        for cache, target, body in self.manifest:
            try:
                answer, got, _ = client.get(cache.address, target)
            except (wire.Broken, wire.Wrong) as error:
                raise Failed(f"not served from the cache: {target}: {error}") from None
            if answer.status != 200 or got != body:
                raise Failed(f"served with other bytes, or status {answer.status}: {target}")
        for cache in self.caches:
            status = client.get(cache.address, f"/not-in-the-cache-{os.getpid()}")[0].status
            if status < 500:
                raise Failed(f"an uncached path gave {status} with the origin closed")

    def compare(self):
        """What the client itself holds must be some of these files."""
        sums = {hashlib.sha256(body).digest() for _, _, body in self.manifest}
        held = [path for path, _ in directory.files(self.got)]
        for path in held:
            if hashlib.sha256(read(path)).digest() not in sums:
                raise Failed(f"the client has other bytes than the cache: {os.path.basename(path)}")
        if not held:
            raise Failed("the client fetched nothing")

    def urls(self):
        """The files' own addresses, for a client that has no index any more."""
        return [cache.url + target for cache, target, _ in self.manifest]


class Apt(Client):
    def prepare(self):
        need("apt-get")
        targets = run(["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages"], self.work, env=None)
        for line in sorted(set(targets.splitlines())):
            url, release, component = line.split("|")
            if url.startswith("http") and fetch(f"{url.rstrip('/')}/dists/{release}/InRelease"):
                break
        else:
            raise Skipped("no http or https source of this machine can be reached")
        host, path = parted(url)
        places = ("/usr/share/keyrings", "/etc/apt/keyrings", "/etc/apt/trusted.gpg.d")
        keyrings = ",".join(file for place in places for file, _ in directory.files(place) if file.endswith((".gpg", ".asc")))
        signed = f"[signed-by={keyrings}] " if keyrings else ""
        own = {}
        for name in ("Acquire::Check-Valid-Until", "Acquire::Check-Date"):
            own[name] = run(["apt-config", "dump", "--format", "%v", name], self.work, env=None).strip() or "true"
        source = f"deb {signed}{self.proxy(host).url}{path} {release} {component}"
        self.apt = apt.Client(os.path.join(self.work, "apt"), source, own)
        self.got = os.path.join(self.apt.state, "got")

    def first(self):
        self.apt.apt("update")
        # Two small packages, one of them with a plus sign in its file name if there is one.
        found = {True: [], False: []}
        for entry in run(["apt-cache", "dumpavail"], self.work, env=self.apt.environment).split("\n\n"):
            fields = dict(re.findall(r"^(Package|Version|Filename|Size): (.*)$", entry, re.MULTILINE))
            if len(fields) == 4 and 4000 <= int(fields["Size"]) <= 200_000:
                found["+" in fields["Filename"]].append(f"{fields['Package']}={fields['Version']}")
        self.chosen = (found[True][:1] + found[False])[:2]
        if not self.chosen:
            raise Failed("the source lists no small package")
        self.second()

    def second(self):
        empty(self.got)
        self.apt.apt("download", *self.chosen)


class Pip(Client):
    def index(self):
        said = run(["pip", "config", "list"], self.work, env=None)
        for section in (":env:", "global", "[a-z]+"):
            if found := re.search(rf"^{section}\.index-url='(.*)'$", said, re.MULTILINE):
                return found[1]
        return run(["python3", "-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"], self.work, env=None).strip()

    def prepare(self):
        need("pip")
        index = self.index().rstrip("/")
        host, path = parted(index)
        page = fetch(f"{index}/six/")
        if not page:
            raise Skipped("the index cannot be reached")
        links = collections.Counter(re.findall(r'href="(https?://[^/"]+)', page[0].decode()))
        files = links.most_common(1)[0][0] if links else host
        # Files first: the index front must know where to point the links.
        self.simple = self.front(host, files, self.proxy(files).url).url + path

    def get(self, *words):
        self.got = empty(self.work, "got")
        run(["pip", "--isolated", "--disable-pip-version-check", "download", "--no-cache-dir", "--no-deps", "--only-binary", ":all:",
             "--retries", "0", "--timeout", "60", "--dest", self.got, *words], self.work)

    def first(self):
        self.get("--index-url", self.simple, "six", "idna")

    def second(self):
        self.get("--no-index", *self.urls())


class Npm(Client):
    def prepare(self):
        need("npm")
        registry = run(["npm", "config", "get", "registry"], self.work, env=None).strip().rstrip("/")
        host, path = parted(registry)
        if not fetch(f"{registry}/ms"):
            raise Skipped("the registry cannot be reached without more than its address")
        self.registry = self.proxy(host).url + path

    def get(self, *words):
        self.got = empty(self.work, "got")
        run(["npm", "pack", "--registry", self.registry, "--replace-registry-host=always", "--userconfig", os.path.join(self.work, "npmrc"),
             "--globalconfig", os.path.join(self.work, "no-such-npmrc"), "--cache", empty(self.work, "cache"), "--fetch-retries=0",
             "--fetch-timeout=60000", "--no-update-notifier", "--no-audit", "--pack-destination", self.got, *words], self.work)

    def first(self):
        self.get("ms@2.1.3", "left-pad@1.3.0", "@types/ms@2.1.0")

    def second(self):
        self.get(*self.urls())


class Cargo(Client):
    def index(self):
        """The sparse index of the configuration, else cargo's own default, which is read off the directory that a
        private cargo makes for it."""
        home = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
        texts = [read(home, name).decode() for name in ("config.toml", "config") if os.path.exists(os.path.join(home, name))]
        if "replace-with" in (text := "\n".join(texts)):
            return (re.findall(r'^ *registry *= *"sparse\+(http[^"]*)"', text, re.MULTILINE) or [""])[0]
        probe = os.path.join(self.work, "probe")
        with contextlib.suppress(Failed):
            self.cargo(probe, "fetch")
        os.unlink(os.path.join(self.project, "Cargo.lock"))
        found = glob.glob(f"{probe}/registry/index/*/config.json")
        return re.sub(r".*/(.*)-[0-9a-f]*/config.json", r"https://\1/", found[0]) if found else ""

    def cargo(self, home, *words):
        run(["cargo", *words], self.project, env=environment(os.path.expanduser("~")) | {"CARGO_HOME": home})

    def prepare(self):
        need("cargo")
        self.project, self.home = os.path.join(self.work, "project"), os.path.join(self.work, "home")
        write("", self.project, "src/lib.rs")
        manifest = '[package]\nname = "probe"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nitoa = "1"\ncfg-if = "1"\n'
        write(manifest, self.project, "Cargo.toml")
        host, path = parted(self.index())
        config = fetch(f"{host}{path}config.json")
        if not config:
            raise Skipped("the index cannot be reached")
        files = parted(json.loads(config[0])["dl"])[0]
        index = self.front(host, files, self.proxy(files).url).url
        write(f'[source.crates-io]\nreplace-with = "proxy"\n[source.proxy]\nregistry = "sparse+{index}{path}"\n[net]\nretry = 0\n', self.home, "config.toml")

    def first(self):
        self.cargo(self.home, "fetch")
        self.got = os.path.join(self.home, "registry", "cache")

    def second(self):
        """The lock file and the index that cargo keeps stay; the crates themselves are fetched again."""
        for name in ("cache", "src"):
            shutil.rmtree(os.path.join(self.home, "registry", name), ignore_errors=True)
        self.cargo(self.home, "fetch", "--locked")


CLIENTS = {"apt": Apt, "pip": Pip, "npm": Npm, "cargo": Cargo}


def both_runs(kind, binary, work):
    """A line about it."""
    with contextlib.ExitStack() as stack:
        fetcher, step = kind(binary, work, stack), "setup"
        try:
            fetcher.prepare()
            step, begun = "first run", time.monotonic()
            fetcher.first()
            first = time.monotonic() - begun
            fetcher.record()
            fetcher.compare()
            step = "second run"
            fetcher.close_origins()
            begun = time.monotonic()
            fetcher.second()
            second = time.monotonic() - begun
            fetcher.replay()
            fetcher.compare()
        except Skipped as why:
            return f"skipped: {why}"
        except Failed as why:
            return f"FAILED: {step}: {why}"
        count, size = len(fetcher.manifest), sum(len(body) for _, _, body in fetcher.manifest)
        return f"{count:2} files {size:9} bytes  first run {first:.1f} s, second run (origin closed) {second:.1f} s: ok"


parser = command.parser(__doc__)
parser.add_argument("clients", nargs="*", choices=[*CLIENTS, []], metavar="CLIENT")
parser.add_argument("--keep", action="store_true")
options = parser.parse_args()
binary, lines = command.program(), []
with command.workplace(options.keep) as work:
    for name in options.clients or CLIENTS:
        lines.append(both_runs(CLIENTS[name], binary, empty(work, name)))
        print(f"{name:6} {lines[-1]}", flush=True)
sys.exit(1 if any(line.startswith("FAILED") for line in lines) else 0)
