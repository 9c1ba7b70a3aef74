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

import argparse
import base64
import bz2
import contextlib
import gzip
import hashlib
import http.client
import http.server
import io
import json
import lzma
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from email.utils import formatdate, parsedate_to_datetime

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLAGS = "--preset pkgsrc,apt,pip,npm --stale-if-error forever"
ENGINES = ("uring", "poll")
CLIENT_SECONDS, START_SECONDS = 120, 20
# The date of the first state of the repositories; the second is a day newer.
FIRST_DATE = 1_700_000_000
DAY = 86_400
PKGSRC = "/packages/SmartOS/2024Q4/x86_64/All"


class Failed(Exception):
    """What went wrong, in one line."""


class Skipped(Exception):
    """What is missing, in one line."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(command, log, **options):
    """A command that ends in time; on failure its last lines are the reason."""
    with open(log, "ab") as file:
        begun = file.tell()
        try:
            done = subprocess.run(command, timeout=CLIENT_SECONDS, stdout=file, stderr=file, stdin=subprocess.DEVNULL, **options)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{command[0]} was not done after {CLIENT_SECONDS} s") from error
    if done.returncode:
        with open(log, errors="replace") as file:
            file.seek(begun)
            raise Failed(f"{command[0]} exited {done.returncode}: {' '.join(file.read().split())[-400:]}")


def environment(home):
    """No proxies, indexes or settings of the user's."""
    unwanted = ("FS_CACHE_", "npm_config_", "NPM_CONFIG_", "PIP_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return kept | {"HOME": home, "no_proxy": "127.0.0.1", "LC_ALL": "C"}


def empty(*parts):
    """An empty directory of this name."""
    path = os.path.join(*parts)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def archive(**files):
    """A .tgz of these names and texts."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def index_page(*names):
    links = "".join(f'<a href="{link}">{name}</a>\n' for name, link in names)
    return f"<!DOCTYPE html><html><body>\n{links}</body></html>\n".encode()


class Origin:
    """Files by path, each with a date and a content type; can be stopped and started on its port."""

    def __init__(self):
        self.port, self.files, self.server, self.asked = free_port(), {}, None, 0

    def put(self, path, body, date, kind="application/octet-stream"):
        self.files[path] = (body, formatdate(date, usegmt=True), kind)

    def start(self):
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                origin.asked += 1
                body, date, kind = origin.files.get(self.path.split("?")[0], (None, None, None))
                if body is None:
                    return self.answer(404, b"not here\n", {"Content-Type": "text/plain"})
                # Half of the kinds have validators of one sort, half of both.
                head = {"Content-Type": kind, "Last-Modified": date}
                if kind != "application/octet-stream":
                    head["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                if kind == "application/json":
                    head["Vary"] = "Accept"
                return self.answer(304 if self.unchanged(head) else 200, body, head)

            def unchanged(self, head):
                if "If-None-Match" in self.headers:
                    return self.headers["If-None-Match"] == head.get("ETag")
                return self.headers.get("If-Modified-Since") == head["Last-Modified"]

            def answer(self, status, body, head):
                self.send_response(status)
                for name, value in head.items():
                    self.send_header(name, value)
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if status != 304:
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            # Also of connections that the cache keeps.
            def process_request(self, request, address):
                origin.open.append(request)
                super().process_request(request, address)

        self.open = []
        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Cache:
    """The program under test, on one directory and port."""

    def __init__(self, command, work, origin, engine, flags):
        self.port, self.work, self.process = free_port(), work, None
        self.command = command + ["-c", empty(work, "cache"), "-H", "127.0.0.1", "-p", str(self.port), "-U", f"http://127.0.0.1:{origin.port}",
                                  "--io", engine, *shlex.split(flags)]

    def start(self):
        with open(os.path.join(self.work, "cache.log"), "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(self.work), cwd=self.work)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.05)
        with open(os.path.join(self.work, "cache.log"), errors="replace") as log:
            raise Failed(f"the cache did not start: {log.read().strip()[-300:]}")

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


class Client:
    """A package client in a directory of its own: `publish` puts a version into the origin, `forget`
    removes all that the client has, `install` updates and installs, and returns the version it got."""

    def __init__(self, work, port):
        self.work, self.port = empty(work, type(self).__name__.lower()), port
        self.log = os.path.join(self.work, "log")
        self.forget()

    @classmethod
    def need(cls, *programs):
        for program in programs:
            if not shutil.which(program):
                raise Skipped(f"{program} is not installed")

    def forget(self):
        self.state = empty(self.work, "state")

    def read(self, *parts):
        with open(os.path.join(self.state, *parts)) as file:
            return file.read().strip()


class Pkgin(Client):
    SUFFIXES = {"zst": None, "xz": lzma.decompress, "bz2": bz2.decompress, "gz": gzip.decompress}

    def publish(self, origin, version, date):
        package = archive(**{"+CONTENTS": f"@name probe-{version}\n", "share__probe": f"{version}\n"})
        origin.put(f"{PKGSRC}/probe-{version}.tgz", package, date)
        summary = f"PKGNAME=probe-{version}\nFILE_NAME=probe-{version}.tgz\nFILE_SIZE={len(package)}\nCOMMENT=made for a test\n\n".encode()
        origin.put(f"{PKGSRC}/pkg_summary.bz2", bz2.compress(summary), date)
        origin.put(f"{PKGSRC}/pkg_summary.gz", gzip.compress(summary, mtime=0), date)

    def ask(self, connection, path):
        connection.request("GET", path, headers={"User-Agent": "pkgin libfetch/2.0"})
        return connection.getresponse()

    def install(self):
        """The first summary that is there; the package when it is as long as that says."""
        for suffix, unpack in self.SUFFIXES.items():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            with contextlib.closing(connection):
                answer = self.ask(connection, f"{PKGSRC}/pkg_summary.{suffix}")
                if answer.status == 200:
                    return self.update(answer, unpack)
        raise Failed("no pkg_summary is there")

    def update(self, answer, unpack):
        date = parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
        summary = os.path.join(self.state, "summary")
        # Closes after the head when it knows the index.
        if not os.path.exists(summary) or os.path.getmtime(summary) < date:
            text = unpack(answer.read())
            with open(summary, "wb") as file:
                file.write(text)
            os.utime(summary, (date, date))
        entry = dict(line.split("=", 1) for line in self.read("summary").splitlines() if line)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            answer = self.ask(connection, f"{PKGSRC}/{entry['FILE_NAME']}")
            length, body = answer.headers["Content-Length"], answer.read()
        if answer.status != 200 or length != entry["FILE_SIZE"] or len(body) != int(length):
            raise Failed(f"{entry['FILE_NAME']}: status {answer.status}, length {length} of {entry['FILE_SIZE']}")
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            return tar.extractfile("share/probe").read().decode().strip()


class Apt(Client):
    """With a signed repository, its indexes by hash; dpkg installs below a root of its own."""

    def __init__(self, work, port):
        self.need("apt-get", "dpkg", "dpkg-deb", "gpg", "gpgv")
        self.architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
        super().__init__(work, port)
        # A socket of gpg's agent has a short path.
        self.gpg_home = tempfile.mkdtemp(prefix="gpg.", dir="/tmp")
        self.gpg("--quick-generate-key", "--passphrase", "", "probe@example.org", "ed25519", "sign", "never")
        self.keyring = os.path.join(self.work, "probe.gpg")
        self.gpg("--output", self.keyring, "--export")

    def gpg(self, *words):
        run(["gpg", "--homedir", self.gpg_home, "--batch", "--yes", "--quiet", *words], self.log)

    def close(self):
        with contextlib.suppress(OSError, Failed):
            run(["gpgconf", "--homedir", self.gpg_home, "--kill", "all"], self.log)
        shutil.rmtree(self.gpg_home, ignore_errors=True)

    def forget(self):
        super().forget()
        for place in ("lists/partial", "cache/archives/partial", "log", "root/var/lib/dpkg/updates", "root/var/lib/dpkg/info"):
            os.makedirs(os.path.join(self.state, place))
        open(os.path.join(self.state, "root/var/lib/dpkg/status"), "w").close()

    def publish(self, origin, version, date):
        tree, package = empty(self.work, "tree"), os.path.join(self.work, "probe.deb")
        for path, text in (("DEBIAN/control", self.control(version)), ("usr/share/probe", version + "\n")):
            path = os.path.join(tree, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
        run(["dpkg-deb", "--root-owner-group", "--build", tree, package], self.log)
        with open(package, "rb") as file:
            body = file.read()
        name = f"pool/main/p/probe/probe_{version}_all.deb"
        origin.put(f"/debian/{name}", body, date)
        entry = self.control(version) + f"Filename: {name}\nSize: {len(body)}\nSHA256: {hashlib.sha256(body).hexdigest()}\n\n"
        self.publish_indexes(origin, entry.encode(), date)

    def control(self, version):
        return f"Package: probe\nVersion: {version}\nArchitecture: all\nMaintainer: probe <probe@example.org>\nDescription: made for a test\n"

    def publish_indexes(self, origin, entries, date):
        release = f"Origin: probe\nSuite: stable\nCodename: stable\nArchitectures: {self.architecture}\nComponents: main\nAcquire-By-Hash: yes\n"
        release += f"Date: {formatdate(date, usegmt=True).replace('GMT', 'UTC')}\nSHA256:\n"
        directory = f"main/binary-{self.architecture}"
        for name, body in (("Packages", entries), ("Packages.gz", gzip.compress(entries, mtime=0)), ("Packages.xz", lzma.compress(entries))):
            digest = hashlib.sha256(body).hexdigest()
            release += f" {digest} {len(body)} {directory}/{name}\n"
            origin.put(f"/debian/dists/stable/{directory}/{name}", body, date)
            origin.put(f"/debian/dists/stable/{directory}/by-hash/SHA256/{digest}", body, date)
        path = os.path.join(self.work, "Release")
        with open(path, "w") as file:
            file.write(release)
        self.gpg("--output", path + ".signed", "--clearsign", path)
        with open(path + ".signed", "rb") as file:
            origin.put("/debian/dists/stable/InRelease", file.read(), date, "text/plain")

    def install(self):
        root, sources = os.path.join(self.state, "root"), os.path.join(self.state, "sources.list")
        with open(sources, "w") as file:
            file.write(f"deb [signed-by={self.keyring}] http://127.0.0.1:{self.port}/debian stable main\n")
        settings = {
            "Dir::Etc::main": "/dev/null", "Dir::Etc::parts": "/dev/null", "Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null", "Dir::Etc::trustedparts": "/dev/null",
            "Dir::State": self.state, "Dir::State::status": os.path.join(root, "var/lib/dpkg/status"), "Dir::Cache": os.path.join(self.state, "cache"),
            "Dir::Log": os.path.join(self.state, "log"), "APT::Sandbox::User": subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip(),
            "Acquire::Languages": "none", "Acquire::Retries": "0", "Acquire::http::Proxy": "DIRECT",
        }
        # Read before all else, so that none of the machine's own settings and hooks apply.
        path = os.path.join(self.state, "apt.conf")
        with open(path, "w") as file:
            file.writelines(f'{name} "{value}";\n' for name, value in settings.items())
            words = (f"--root={root}", f"--log={self.state}/log/dpkg.log", "--force-not-root", "--force-bad-path", "--force-unsafe-io")
            file.writelines(f'DPkg::Options:: "{word}";\n' for word in words)
        known = environment(self.work) | {"APT_CONFIG": path}
        run(["apt-get", "-q", "update", "--error-on=any"], self.log, env=known)
        run(["apt-get", "-q", "-y", "install", "probe"], self.log, env=known)
        return self.read("root/usr/share/probe")


class Pip(Client):
    def __init__(self, work, port):
        self.need("pip")
        super().__init__(work, port)
        self.versions = []

    def publish(self, origin, version, date):
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
        origin.put(path, body, date)
        self.versions.append((name, f"../..{path}#sha256={digest}"))
        origin.put("/simple/probe-wheel/", index_page(*self.versions), date, "text/html")

    def install(self):
        target = empty(self.state, "target")
        index = f"http://127.0.0.1:{self.port}/simple/"
        run(["pip", "--isolated", "--disable-pip-version-check", "install", "--no-cache-dir", "--retries", "0", "--timeout", "20", "--no-deps",
             "--index-url", index, "--target", target, "probe-wheel"], self.log, env=environment(self.work))
        return self.read("target", "probe_wheel.py").split('"')[1]


class Npm(Client):
    """One package that needs another, which has a scope."""

    NAMES = ("probe-npm", "@probe/needed")

    def __init__(self, work, port):
        self.need("npm", "node")
        super().__init__(work, port)
        self.documents = {name: {} for name in self.NAMES}

    def publish(self, origin, version, date):
        for name, needs in zip(self.NAMES, ({self.NAMES[1]: version}, {})):
            manifest = {"name": name, "version": version, "dependencies": needs}
            body = self.tarball(manifest)
            path = f"/{name}/-/{name.split('/')[-1]}-{version}.tgz"
            origin.put(path, body, date)
            integrity = "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode()
            # A host of its own, as a mirrored registry has: npm is told to put its registry's in the place of it.
            self.documents[name][version] = manifest | {"dist": {"tarball": "https://registry.example.org" + path, "integrity": integrity}}
            document = {"name": name, "dist-tags": {"latest": version}, "versions": self.documents[name], "modified": formatdate(date)}
            origin.put("/" + name.replace("/", "%2f"), json.dumps(document).encode(), date, "application/json")

    @staticmethod
    def tarball(manifest):
        return archive(**{"package__package.json": json.dumps(manifest), "package__index.js": "module.exports = 1\n"})

    def install(self):
        target = empty(self.state, "target")
        run(["npm", "install", "--prefix", target, "--registry", f"http://127.0.0.1:{self.port}/", "--cache", os.path.join(self.state, "cache"),
             "--userconfig", os.path.join(self.work, "npmrc"), "--globalconfig", os.path.join(self.work, "no-such-npmrc"), "--fetch-retries=0", "--replace-registry-host=always",
             "--fetch-timeout=20000", "--no-audit", "--no-fund", "--no-update-notifier", "--prefer-online", self.NAMES[0]],
            self.log, env=environment(self.work), cwd=target)
        versions = {json.loads(self.read("target/node_modules", name, "package.json"))["version"] for name in self.NAMES}
        return " and ".join(sorted(versions))


CLIENTS = {"pkgin": Pkgin, "apt": Apt, "pip": Pip, "npm": Npm}


def stage(clients, title, wanted, failures):
    """Every client installs; each must get the version wanted."""
    for name, client in clients.items():
        begun = time.monotonic()
        try:
            got = client.install()
            result = "ok" if got == wanted else f"FAILED: got version {got}"
        except (Failed, OSError, http.client.HTTPException) as error:
            result = f"FAILED: {error}"
        if result != "ok":
            failures.append(f"{name}, {title}: {result}")
        print(f"  {name:6} {title:30} {wanted} {time.monotonic() - begun:5.1f} s  {result}", flush=True)


def publish(clients, origin, version, date):
    for client in clients.values():
        client.publish(origin, version, date)


def forget(clients):
    for client in clients.values():
        client.forget()


def try_engine(options, engine, work, failures):
    origin = Origin()
    cache = Cache(options.program, work, origin, engine, options.flags)
    clients = {}
    for name in options.clients:
        try:
            clients[name] = CLIENTS[name](work, cache.port)
        except Skipped as reason:
            print(f"  {name:6} left out: {reason}")
    try:
        publish(clients, origin, "1.0.0", FIRST_DATE)
        origin.start()
        cache.start()
        stage(clients, "first", "1.0.0", failures)
        origin.stop()
        forget(clients)
        stage(clients, "origin stopped, all forgotten", "1.0.0", failures)
        cache.stop()
        cache.start()
        forget(clients)
        stage(clients, "the cache restarted as well", "1.0.0", failures)
        publish(clients, origin, "2.0.0", FIRST_DATE + DAY)
        origin.start()
        stage(clients, "origin back, new index", "2.0.0", failures)
        origin.stop()
        forget(clients)
        stage(clients, "origin stopped once more", "2.0.0", failures)
    finally:
        cache.stop()
        for client in clients.values():
            getattr(client, "close", lambda: None)()


def program():
    """The command of the program under test."""
    if os.environ.get("FS_CACHE_BINARY"):
        return shlex.split(os.environ["FS_CACHE_BINARY"])
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=HERE, check=True)
    metadata = subprocess.run(["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"], cwd=HERE, check=True, capture_output=True)
    return [os.path.join(json.loads(metadata.stdout)["target_directory"], "release", "fs-caching-server")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(CLIENTS)} (all)")
    parser.add_argument("--io", default=",".join(ENGINES), help="the engines to test (uring,poll)")
    parser.add_argument("--flags", default=FLAGS, help=f"the program's flags ({FLAGS})")
    parser.add_argument("--keep", action="store_true", help="leave the temporary directory behind")
    options = parser.parse_args()
    options.clients = options.clients or list(CLIENTS)
    for name in options.clients:
        if name not in CLIENTS:
            parser.error(f"{name}: not one of {', '.join(CLIENTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.program = program()
    work, failures = tempfile.mkdtemp(prefix="fs-cache-offline."), []
    try:
        for engine in options.io.split(","):
            print(f"--io {engine}")
            try_engine(options, engine, empty(work, engine), failures)
    except Failed as error:
        failures.append(str(error))
        print(f"FAILED: {error}")
    finally:
        if options.keep:
            print("kept:", work)
        else:
            shutil.rmtree(work, ignore_errors=True)
    print(f"offline: {len(failures)} failures" if failures else "offline: ok")
    return 1 if failures else 0


sys.exit(main())
