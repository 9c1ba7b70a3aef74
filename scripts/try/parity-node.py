#!/usr/bin/env python3
"""Shows that this program and the Node.js original can take over each other's cache directory.

    scripts/try/parity-node.py PATH [--keep]

PATH (or FS_CACHE_NODE_ORIGINAL) is a checkout of the original with its modules installed, or
its fs-caching-server.js. FS_CACHE_BINARY is the program to test, with arguments if need be
(default: the release build).

Both ways round: one program fills an empty directory from a local origin and is stopped, the
origin is stopped, the other program is started on the directory and must serve every file as a
hit: the same bytes, and the same head as the program that wrote it (status, Content-Type,
Content-Length, ETag, Last-Modified, Connection), for GET, HEAD and If-None-Match. The directory
must hold the same names, with the same bytes, whoever wrote it. Exit code 0: all of it holds.
The two are never run on one directory at the same time: the original takes no lock.
"""

import hashlib
import http.client
import http.server
import json
import os
import posixpath
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
REGEX = "."

# Request targets: types by extension, and the ways a name can be written.
EXTENSIONS = (
    "tgz gz tar tar.gz bz2 xz zst zip 7z deb rpm whl jar gem crate iso img apk msi exe dmg png jpg jpeg gif svg ico webp "
    "css html htm js mjs json xml txt md pdf wasm woff woff2 mp4 csv sig asc sha256 yaml TGZ Html unknownext"
).split()
TARGETS = [f"/types/file.{extension}" for extension in EXTENSIONS] + [
    "/packages/SmartOS/2014Q4/x86_64/All/watch-3.2.6nb1.tgz",
    "/noextension",
    "/.hidden.tgz",
    "/name%20with%20space.tgz",
    "/plus+and%2Bplus.deb",
    "/tilde~1%7e2.deb",
    "/caf%C3%A9/%E2%82%AC.tgz",
    "/colon%3a1.deb",
    "/percent%25.tgz",
    "/a/./b/../c.tgz",
    "//double//slash.tgz",
    "/query.tgz?version=1",
    "/empty.tgz",
    "/big.tgz",
    "/very/deep/" + "directory/" * 20 + "file.tgz",
]
# Modification times with parts of a millisecond: the ETag is made of milliseconds.
TIMES_NS = [1431822699_000000000 + part for part in (0, 123000000, 123400000, 123500000, 123600000, 999499900, 999900000)]
HEAD_FIELDS = ("content-type", "content-length", "etag", "last-modified", "connection")


def body_of(target):
    """The origin's bytes for a target: known, different for each, of several sizes."""
    # One file whatever its form: the original asks for it as it came, this program as it is named.
    path = "/" + posixpath.normpath(target.split("?")[0]).lstrip("/")
    if path == "/empty.tgz":
        return b""
    seed = hashlib.sha256(path.encode()).digest()
    size = 3_000_000 if path == "/big.tgz" else 100 + int.from_bytes(seed[:2], "big")
    return (seed * (size // len(seed) + 1))[:size]


class Origin(http.server.BaseHTTPRequestHandler):
    """A local origin with a length and a date on everything."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        # Not self.path, which has lost a leading double slash.
        body = body_of(self.requestline.split()[1])
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Sun, 17 May 2015 00:31:39 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """One of the two programs on a cache directory."""

    def __init__(self, command, cache, origin_port):
        self.port = free_port()
        self.log = tempfile.TemporaryFile()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FS_CACHE_")}
        arguments = ["-c", cache, "-H", "127.0.0.1", "-p", str(self.port), "-r", REGEX, "-U", f"http://127.0.0.1:{origin_port}"]
        self.process = subprocess.Popen(command + arguments, stdout=self.log, stderr=self.log, env=environment)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        self.log.seek(0)
        sys.exit(f"{command[0]} did not start: {self.log.read().decode(errors='replace').strip()}")

    def ask(self, method, target, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, target, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def tree(directory):
    found = {}
    for top, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(top, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, directory)] = hashlib.sha256(file.read()).hexdigest()
    return found


def fill(command, cache, failures, name):
    """Fills the cache through the program, origin running; then both are stopped."""
    origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    origin.daemon_threads = True
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    server = Server(command, cache, origin.server_port)
    try:
        for target in TARGETS:
            status, _, body = server.ask("GET", target)
            if status != 200 or body != body_of(target):
                failures.append(f"{name}: filling {target}: status {status}, {len(body)} bytes")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            names = tree(cache)
            if len(names) >= len(TARGETS) and not any(entry.endswith(".in-progress") for entry in names):
                break
            time.sleep(0.1)
    finally:
        server.stop()
        origin.shutdown()
        origin.server_close()


def comparable(headers):
    """The fields of a hit's head that both must agree on; a charset is optional."""
    kept = {field: headers.get(field) for field in HEAD_FIELDS}
    if kept["content-type"]:
        kept["content-type"] = kept["content-type"].split(";")[0].strip().lower()
    return kept


def heads(command, cache, failures, name):
    """Every target as a hit, with no origin behind: what GET, HEAD and a validator get."""
    server = Server(command, cache, free_port())
    seen = {}
    try:
        for target in TARGETS:
            get = server.ask("GET", target)
            if get[0] != 200 or get[2] != body_of(target):
                failures.append(f"{name}: {target} is not served as a hit: status {get[0]}, {len(get[2])} bytes")
                continue
            head = server.ask("HEAD", target)
            if head[2]:
                failures.append(f"{name}: HEAD {target} has a body")
            fresh = server.ask("GET", target, [("If-None-Match", get[1].get("etag", ""))])
            seen[target] = {
                "GET": (get[0], comparable(get[1])),
                "HEAD": (head[0], comparable(head[1])),
                "If-None-Match": (fresh[0], {"etag": fresh[1].get("etag"), "body": len(fresh[2])}),
            }
    finally:
        server.stop()
    return seen


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--keep"]
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0
    path = arguments[0] if arguments else os.environ.get("FS_CACHE_NODE_ORIGINAL")
    if not path:
        print("parity-node: name a checkout of the Node.js original: scripts/try/parity-node.py PATH, or FS_CACHE_NODE_ORIGINAL=PATH", file=sys.stderr)
        return 2
    script = os.path.join(path, "fs-caching-server.js") if os.path.isdir(path) else path
    if not os.path.isfile(script):
        print(f"parity-node: {script} is no file", file=sys.stderr)
        return 2
    if not shutil.which("node"):
        print("parity-node: node is not installed", file=sys.stderr)
        return 2
    node = ["node", script]
    if os.environ.get("FS_CACHE_BINARY"):
        ours = shlex.split(os.environ["FS_CACHE_BINARY"])
    else:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=HERE, check=True)
        metadata = subprocess.run(
            ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"], cwd=HERE, check=True, stdout=subprocess.PIPE
        )
        ours = [os.path.join(json.loads(metadata.stdout)["target_directory"], "release", "fs-caching-server")]

    work = tempfile.mkdtemp(prefix="parity-node.")
    failures = []
    trees = {}
    try:
        for writer, write, reader, read in (("node", node, "ours", ours), ("ours", ours, "node", node)):
            before = len(failures)
            cache = os.path.join(work, f"by-{writer}")
            os.mkdir(cache)
            fill(write, cache, failures, f"{writer} fills")
            trees[writer] = tree(cache)
            # Times as other tools leave them, on a few files.
            for target, stamp in zip(TARGETS, TIMES_NS):
                os.utime(cache + target, ns=(stamp, stamp))
            own = heads(write, cache, failures, f"{writer} on its own directory")
            other = heads(read, cache, failures, f"{reader} on the directory of {writer}")
            if tree(cache) != trees[writer]:
                failures.append(f"the directory of {writer} was changed by serving it")
            for target in TARGETS:
                for kind in ("GET", "HEAD", "If-None-Match"):
                    left, right = own.get(target, {}).get(kind), other.get(target, {}).get(kind)
                    if left != right and left and right:
                        failures.append(f"{kind} {target}: {writer} {left}, {reader} {right}")
            result = "ok" if len(failures) == before else f"{len(failures) - before} differences"
            print(f"directory written by {writer:4}, served by {reader:4}: {len(trees[writer])} files, {len(other)} hits: {result}")
        names = set(trees["node"]) ^ set(trees["ours"])
        changed = [name for name in set(trees["node"]) & set(trees["ours"]) if trees["node"][name] != trees["ours"][name]]
        for name in sorted(names):
            failures.append(f"only {'node' if name in trees['node'] else 'ours'} made the file {name}")
        for name in sorted(changed):
            failures.append(f"the two hold other bytes under {name}")
        print(f"the two directories hold the same names and bytes: {'no' if names or changed else 'yes'}")
    finally:
        if "--keep" in sys.argv:
            print("kept:", work)
        else:
            shutil.rmtree(work, ignore_errors=True)
    for failure in failures[:60]:
        print("  " + failure)
    return 1 if failures else 0


sys.exit(main())
