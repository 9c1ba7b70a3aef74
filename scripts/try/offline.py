#!/usr/bin/env python3
"""Package clients behind the cache while the origin is away, and when it is back.

    scripts/try/offline.py [--io uring,poll] [--flags FLAGS] [--keep] [pkgin] [apt] [pip] [npm]

A local origin holds one small repository of each kind, made here. Each client fetches its index and
installs a package through the cache. Then the origin stops, all that the clients have is removed, and
they do the same again; and once more after the cache was started anew on its directory. Then the
origin is back with a new index and a new version, which each client must get with its next request.

pkgin is played by this script: it asks for pkg_summary.zst, .xz, .bz2 and .gz in turn as libfetch
does, leaves the index when its date is no newer, and needs packages to be as long as the index says.
apt, pip and npm are those of this machine, each in a temporary directory of its own: none reads or
writes what is the user's or the system's. A client that is not installed is left out.

FS_CACHE_BINARY: the program to test, with arguments if need be (default: the release build). Exit
code 0: all that ran is right.
"""

import base64
import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import shlex
import sys
import tarfile
import time
import zipfile
from email.utils import formatdate, parsedate_to_datetime

sys.dont_write_bytecode = True

from trial import apt, command, packages, server, wire
from trial.packages import Failed, Skipped, empty, environment, need, read, run

FLAGS = "--preset pkgsrc,apt,pip,npm --stale-if-error forever"
PKGSRC = "/packages/SmartOS/2024Q4/x86_64/All"


def archive(**files):
    """A .tgz of these names and texts."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


class Site:
    """Files by path, each with a date and a content type; its origin can be stopped and started on its port."""

    def __init__(self):
        self.port, self.files, self.origin = server.free_port(), {}, None
        self.url = f"http://127.0.0.1:{self.port}"

    def put(self, path, body, date, kind="application/octet-stream"):
        fields = {"Content-Type": kind, "Last-Modified": formatdate(date, usegmt=True)}
        # Half of the kinds have validators of one sort, half of both.
        if kind != "application/octet-stream":
            fields["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if kind == "application/json":
            fields["Vary"] = "Accept"
        self.files[path] = (body, fields)

    def start(self):
        self.origin = packages.Origin(lambda request: self.files.get(request.path), port=self.port)

    def stop(self):
        self.origin.stop()


class Client:
    """A package client in a directory of its own: `publish` puts a version into the origin, `forget`
    removes all that the client has, `install` updates and installs, and returns the version it got."""

    NEEDS = ()

    def __init__(self, work, cache):
        need(*self.NEEDS)
        self.work, self.cache = empty(work, type(self).__name__.lower()), cache
        self.forget()

    def forget(self):
        self.state = empty(self.work, "state")

    def read(self, *parts):
        return read(self.state, *parts).decode().strip()

    def close(self):
        pass


class Pkgin(Client):
    SUFFIXES = {"zst": None, "xz": lzma.decompress, "bz2": bz2.decompress, "gz": gzip.decompress}

    def publish(self, site, version, date):
        package = archive(**{"+CONTENTS": f"@name probe-{version}\n", "share__probe": f"{version}\n"})
        site.put(f"{PKGSRC}/probe-{version}.tgz", package, date)
        summary = f"PKGNAME=probe-{version}\nFILE_NAME=probe-{version}.tgz\nFILE_SIZE={len(package)}\nCOMMENT=made for a test\n\n".encode()
        site.put(f"{PKGSRC}/pkg_summary.bz2", bz2.compress(summary), date)
        site.put(f"{PKGSRC}/pkg_summary.gz", gzip.compress(summary, mtime=0), date)

    def ask(self, path):
        """The connection, and the head of the answer on it."""
        connection = self.cache.connect(patience=20)
        connection.ask("GET", path, "User-Agent: pkgin libfetch/2.0\r\n")
        return connection, connection.head()

    def install(self):
        """The first summary that is there; the package when it is as long as that says."""
        for suffix, unpack in self.SUFFIXES.items():
            connection, answer = self.ask(f"{PKGSRC}/pkg_summary.{suffix}")
            with connection:
                if answer.status == 200:
                    return self.update(connection, answer, unpack)
        raise Failed("no pkg_summary is there")

    def update(self, connection, answer, unpack):
        date = parsedate_to_datetime(answer.fields["last-modified"]).timestamp()
        summary = os.path.join(self.state, "summary")
        # Closes after the head when it knows the index.
        if not os.path.exists(summary) or os.path.getmtime(summary) < date:
            packages.write(unpack(b"".join(connection.pieces(answer))), summary)
            os.utime(summary, (date, date))
        entry = dict(line.split("=", 1) for line in self.read("summary").splitlines() if line)
        connection, answer = self.ask(f"{PKGSRC}/{entry['FILE_NAME']}")
        with connection:
            body = b"".join(connection.pieces(answer))
        if answer.status != 200 or len(body) != answer.length or len(body) != int(entry["FILE_SIZE"]):
            raise Failed(f"{entry['FILE_NAME']}: status {answer.status}, length {answer.length} of {entry['FILE_SIZE']}")
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            return tar.extractfile("share/probe").read().decode().strip()


class Apt(Client):
    """With a signed repository, its indexes by hash; dpkg installs below a root of its own."""

    def __init__(self, work, cache):
        self.repository = apt.Repository(empty(work, "repository"))
        super().__init__(work, cache)

    def close(self):
        self.repository.close()

    def publish(self, site, version, date):
        for path, body in self.repository.state(version, version + "\n", date, by_hash=True)[1].items():
            site.put(path, body, date, "text/plain" if path.endswith("InRelease") else "application/octet-stream")

    def forget(self):
        super().forget()
        self.apt = apt.Client(self.state, self.repository.source(self.cache.url))

    def install(self):
        self.apt.update()
        self.apt.apt("-y", "install", "probe")
        return self.read("root/usr/share/probe")


class Pip(Client):
    NEEDS = ("pip",)

    def __init__(self, work, cache):
        super().__init__(work, cache)
        self.versions = []

    def publish(self, site, version, date):
        packed, inside = io.BytesIO(), f"probe_wheel-{version}.dist-info"
        with zipfile.ZipFile(packed, "w") as wheel:
            files = {"probe_wheel.py": f'version = "{version}"\n', f"{inside}/METADATA": f"Metadata-Version: 2.1\nName: probe-wheel\nVersion: {version}\n",
                     f"{inside}/WHEEL": "Wheel-Version: 1.0\nGenerator: probe\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
            files[f"{inside}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{inside}/RECORD"])
            for name, text in files.items():
                wheel.writestr(name, text)
        body, name = packed.getvalue(), f"probe_wheel-{version}-py3-none-any.whl"
        digest = hashlib.sha256(body).hexdigest()
        path = f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{name}"
        site.put(path, body, date)
        self.versions.append((name, f"../..{path}#sha256={digest}"))
        links = "".join(f'<a href="{link}">{name}</a>\n' for name, link in self.versions)
        site.put("/simple/probe-wheel/", f"<!DOCTYPE html><html><body>\n{links}</body></html>\n".encode(), date, "text/html")

    def install(self):
        target = empty(self.state, "target")
        run(["pip", "--isolated", "--disable-pip-version-check", "install", "--no-cache-dir", "--retries", "0", "--timeout", "20", "--no-deps",
             "--index-url", f"{self.cache.url}/simple/", "--target", target, "probe-wheel"], self.work)
        return self.read("target", "probe_wheel.py").split('"')[1]


class Npm(Client):
    """One package that needs another, which has a scope."""

    NAMES, NEEDS = ("probe-npm", "@probe/needed"), ("npm", "node")

    def __init__(self, work, cache):
        super().__init__(work, cache)
        self.documents = {name: {} for name in self.NAMES}

    def publish(self, site, version, date):
        for name, needs in zip(self.NAMES, ({self.NAMES[1]: version}, {})):
            manifest = {"name": name, "version": version, "dependencies": needs}
            body = self.tarball(manifest)
            path = f"/{name}/-/{name.split('/')[-1]}-{version}.tgz"
            site.put(path, body, date)
            integrity = "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode()
            # A host of its own, as a mirrored registry has: npm is told to put its registry's in the place of it.
            self.documents[name][version] = manifest | {"dist": {"tarball": "https://registry.example.org" + path, "integrity": integrity}}
            document = {"name": name, "dist-tags": {"latest": version}, "versions": self.documents[name], "modified": formatdate(date)}
            site.put("/" + name, json.dumps(document).encode(), date, "application/json")

    @staticmethod
    def tarball(manifest):
        return archive(**{"package__package.json": json.dumps(manifest), "package__index.js": "module.exports = 1\n"})

    def install(self):
        target = empty(self.state, "target")
        run(["npm", "install", "--prefix", target, "--registry", self.cache.url + "/", "--cache", os.path.join(self.state, "cache"),
             "--userconfig", os.path.join(self.work, "npmrc"), "--globalconfig", os.path.join(self.work, "no-such-npmrc"), "--fetch-retries=0", "--replace-registry-host=always",
             "--fetch-timeout=20000", "--no-audit", "--no-fund", "--no-update-notifier", "--prefer-online", self.NAMES[0]],
            target, env=environment(self.work))
        versions = {json.loads(self.read("target/node_modules", name, "package.json"))["version"] for name in self.NAMES}
        return " and ".join(sorted(versions))


CLIENTS = {"pkgin": Pkgin, "apt": Apt, "pip": Pip, "npm": Npm}


def stage(clients, title, wanted, failures):
    """Every client installs; each must get the version wanted."""
    for name, each in clients.items():
        begun = time.monotonic()
        try:
            got = each.install()
            result = "ok" if got == wanted else f"FAILED: got version {got}"
        except (Failed, OSError, wire.Broken, wire.Wrong) as error:
            result = f"FAILED: {error}"
        if result != "ok":
            failures.append(f"{name}, {title}: {result}")
        print(f"  {name:6} {title:30} {wanted} {time.monotonic() - begun:5.1f} s  {result}", flush=True)


def publish(clients, site, version, date):
    for each in clients.values():
        each.publish(site, version, date)


def forget(clients):
    for each in clients.values():
        each.forget()


def try_engine(options, engine, work, failures):
    site, clients = Site(), {}
    cache = packages.Cache(options.binary, work, site, engine, shlex.split(options.flags))
    with contextlib.ExitStack() as stack:
        for name in options.names:
            try:
                clients[name] = stack.enter_context(contextlib.closing(CLIENTS[name](work, cache)))
            except Skipped as reason:
                print(f"  {name:6} left out: {reason}")
        publish(clients, site, "1.0.0", apt.FIRST_DATE)
        site.start()
        stack.enter_context(cache)
        stage(clients, "first", "1.0.0", failures)
        site.stop()
        forget(clients)
        stage(clients, "origin stopped, all forgotten", "1.0.0", failures)
        cache.stop()
        cache.start()
        forget(clients)
        stage(clients, "the cache restarted as well", "1.0.0", failures)
        publish(clients, site, "2.0.0", apt.FIRST_DATE + apt.DAY)
        site.start()
        stage(clients, "origin back, new index", "2.0.0", failures)
        site.stop()
        forget(clients)
        stage(clients, "origin stopped once more", "2.0.0", failures)


options, failures = packages.options(__doc__, CLIENTS, "CLIENT", flags=FLAGS), []
with command.workplace(options.keep) as work:
    try:
        for engine in options.engines:
            print(f"--io {engine}")
            try_engine(options, engine, empty(work, engine), failures)
    except Failed as error:
        failures.append(str(error))
        print(f"FAILED: {error}")
print(f"offline: {len(failures)} failures" if failures else "offline: ok")
sys.exit(1 if failures else 0)
