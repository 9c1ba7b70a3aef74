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
import os
import posixpath
import shutil
import sys
import time

sys.dont_write_bytecode = True

from trial import client, command, directory, origin, peers, server

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


def answer(peer, request):
    """With a length and a date on everything."""
    body = body_of(request.target)
    fields = {"Content-Type": "application/octet-stream", "Last-Modified": "Sun, 17 May 2015 00:31:39 GMT"}
    peer.send(origin.head(Content_Length=len(body), **fields) + body)


def program(words, cache, url):
    return server.Server(words, None, cache, url, ["-r", "."], output=True)


def tree(cache):
    return {os.path.relpath(path, cache): hashlib.sha256(directory.read(path)).hexdigest() for path, _ in directory.files(cache)}


def fill(words, cache, failures, name):
    """Fills the cache through the program, origin running; then both are stopped."""
    with origin.Origin(answer) as source, program(words, cache, source.url) as filler:
        for target in TARGETS:
            got, body, _ = client.get(filler.address, target)
            if got.status != 200 or body != body_of(target):
                failures.append(f"{name}: filling {target}: status {got.status}, {len(body)} bytes")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            states = [in_progress for _, in_progress in directory.files(cache)]
            if len(states) >= len(TARGETS) and not any(states):
                break
            time.sleep(0.1)


def comparable(fields):
    """What both must agree on of a hit's head; a charset is optional."""
    kept = {field: fields.get(field) for field in HEAD_FIELDS}
    if kept["content-type"]:
        kept["content-type"] = kept["content-type"].split(";")[0].strip().lower()
    return kept


def heads(words, cache, failures, name):
    """Every target as a hit, with no origin behind: what GET, HEAD and a validator get."""
    seen = {}
    with program(words, cache, f"http://127.0.0.1:{server.free_port()}") as reader:
        for target in TARGETS:
            got, body, _ = client.get(reader.address, target)
            if got.status != 200 or body != body_of(target):
                failures.append(f"{name}: {target} is not served as a hit: status {got.status}, {len(body)} bytes")
                continue
            with reader.connect() as connection:
                connection.ask("HEAD", target, "Connection: close\r\n")
                head = connection.head()
                if connection.input or connection.receive():
                    failures.append(f"{name}: HEAD {target} has a body")
            fresh, body, _ = client.get(reader.address, target, f"If-None-Match: {got.fields.get('etag', '')}\r\n")
            seen[target] = {
                "GET": (got.status, comparable(got.fields)),
                "HEAD": (head.status, comparable(head.fields)),
                "If-None-Match": (fresh.status, {"etag": fresh.fields.get("etag"), "body": len(body)}),
            }
    return seen


def compare(work, node, ours):
    """What they differ in."""
    failures, trees = [], {}
    for writer, write, reader, read in (("node", node, "ours", ours), ("ours", ours, "node", node)):
        before = len(failures)
        cache = os.path.join(work, f"by-{writer}")
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
    failures += [f"only {'node' if name in trees['node'] else 'ours'} made the file {name}" for name in sorted(names)]
    failures += [f"the two hold other bytes under {name}" for name in sorted(changed)]
    print(f"the two directories hold the same names and bytes: {'no' if names or changed else 'yes'}")
    return failures


parser = command.parser(__doc__)
parser.add_argument("path", nargs="?", default=os.environ.get("FS_CACHE_NODE_ORIGINAL"))
parser.add_argument("--keep", action="store_true")
options = parser.parse_args()
if not options.path:
    parser.error("name a checkout of the Node.js original: scripts/try/parity-node.py PATH, or FS_CACHE_NODE_ORIGINAL=PATH")
node = peers.original(options.path)
if not os.path.isfile(node[1]):
    parser.error(f"{node[1]} is no file")
if not shutil.which("node"):
    parser.error("node is not installed")
with command.workplace(options.keep) as work:
    failures = compare(work, node, command.program())
for failure in failures[:60]:
    print("  " + failure)
sys.exit(1 if failures else 0)
