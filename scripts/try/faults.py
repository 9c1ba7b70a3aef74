#!/usr/bin/env python3
"""What this program, nginx and the Node.js original do when things go wrong: docs/faults.md.

  scripts/try/faults.py --node-original DIR           a table on stdout, in about a minute
  scripts/try/faults.py --node-original DIR --write   renews docs/faults.md as well
  scripts/try/faults.py --only range --only kill      the cases whose names have these words
  scripts/try/faults.py --server ours                 one server alone

DIR (or FS_CACHE_NODE_ORIGINAL) is a checkout of the original with its modules installed; without it, or
without nginx, that column is left out. --binary (or FS_CACHE_BINARY) names this program; the release build is
the default. Each case gets a fresh process, cache directory and origin, all on loopback. Exits with 1 if this
program shows a fault that the table writes in capitals.
"""

import concurrent.futures
import gzip
import hashlib
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

from trial import command, origin, peers, server, wire

PAGE = os.path.join(command.HERE, "docs", "faults.md")
MARK = "<!-- From here on written by scripts/try/faults.py. -->\n"
SIZE = 8 << 20
# Silence of so many seconds is given up: by the servers that can be told so, and by the clients.
STALL, PATIENCE = 1, 8
PIECE, PIECE_SECONDS = 256 << 10, 0.1
SETTLE = 0.4
MODIFIED = "Sun, 17 May 2015 00:31:39 GMT"
SECRET = b"not for clients\n"


def body_of(path):
    """The origin's bytes for a path: known, and different for each."""
    seed = hashlib.sha256(path.encode()).digest()
    return seed * (SIZE // len(seed))


# The origin: a well answer, and the ill ones. Each tells whether the connection goes on.


def head_of(path, status="200 OK", **fields):
    return origin.head(status, ETag=f'"{path}"', Last_Modified=MODIFIED, **fields)


def well(peer, request):
    """The whole, or the range asked for."""
    body, part = body_of(request.path), request.part(SIZE)
    if part and request.fields.get("if-range", f'"{request.path}"') == f'"{request.path}"':
        fields = {"Content_Length": part[1] - part[0], "Content_Range": f"bytes {part[0]}-{part[1] - 1}/{SIZE}"}
        peer.send(head_of(request.path, "206 Partial Content", **fields) + body[part[0] : part[1]])
    else:
        peer.send(head_of(request.path, Content_Length=SIZE) + body)
    return True


def slow(peer, request):
    peer.send(head_of(request.path, Content_Length=SIZE))
    body = body_of(request.path)
    for at in range(0, SIZE, PIECE):
        peer.send(body[at : at + PIECE])
        time.sleep(PIECE_SECONDS)
    return True


def short(length, then="close"):
    """A body by length of which only `length` bytes come."""

    def answer(peer, request):
        peer.send(head_of(request.path, Content_Length=SIZE) + body_of(request.path)[:length])
        time.sleep(0.1)
        if then == "reset":
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif then == "stall":
            time.sleep(4 * PATIENCE)
        return False

    return answer


def long(peer, request):
    peer.send(head_of(request.path, Content_Length=SIZE) + body_of(request.path) + b"x" * 1000)
    return False


def chunked(length):
    """Chunks up to `length` bytes, in the last of them cut short, and no last chunk."""

    def answer(peer, request):
        whole = head_of(request.path, Transfer_Encoding="chunked")
        body = body_of(request.path)
        for at in range(0, length, PIECE):
            whole += wire.chunk(body[at : at + PIECE])
        peer.send(whole[:-1000] if length < SIZE else whole)
        return False

    return answer


def unframed(peer, request):
    peer.send(head_of(request.path, Connection="close") + body_of(request.path)[: SIZE // 2])
    return False


def two_lengths(peer, request):
    lengths = f"Content-Length: {SIZE // 2}\r\nContent-Length: {SIZE}\r\n\r\n".encode()
    peer.send(head_of(request.path)[:-2] + lengths + body_of(request.path))
    return False


def missing(peer, request):
    peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\nnothing\n")
    return True


def coded(vary):
    """In gzip for whoever takes it."""

    def answer(peer, request):
        fields = {"Vary": "Accept-Encoding"} if vary else {}
        body = body_of(request.path)
        if "gzip" in request.fields.get("accept-encoding", ""):
            body = gzip.compress(body, mtime=0)
            fields["Content_Encoding"] = "gzip"
        peer.send(head_of(request.path, Content_Length=len(body), **fields) + body)
        return True

    return answer


def private(peer, request):
    """Only for who says who he is."""
    if "authorization" in request.fields:
        return well(peer, request)
    peer.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    return True


class Origin(origin.Origin):
    """Answers as `behaves` says at the time."""

    def __init__(self):
        self.behaves, self.seen = well, []
        super().__init__(self.note)

    def note(self, peer, request):
        peer.socket.settimeout(5 * PATIENCE)
        self.seen.append(request)
        return self.behaves(peer, request)


# The servers, each in a directory of its own.


class Ours(server.Server):
    name, flags = "this program", ["--stall-timeout", STALL, "--response-timeout", STALL]

    def __init__(self, options, directory, source):
        super().__init__(self.program(options), None, os.path.join(directory, "cache"), source.url, self.flags, output=True)
        self.directory, self.origin, self.options = directory, source, options

    @staticmethod
    def program(options):
        return options.binary

    def kept(self, path):
        """The bytes that are kept under a finished name."""
        try:
            with open(self.cache + path, "rb") as file:
                return file.read()
        except OSError:
            return None


class Node(Ours):
    name, flags = "Node.js original", []

    @staticmethod
    def program(options):
        return peers.original(options.node_original)


class Nginx(peers.Nginx):
    name = "nginx"

    def __init__(self, options, directory, source):
        rules = f'proxy_set_header Connection ""; proxy_read_timeout {STALL}s; proxy_cache_valid 200 1d; proxy_cache_lock on;'
        super().__init__(directory, source.url, "use_temp_path=off", rules)
        os.mkdir(self.cache)
        self.directory, self.origin, self.options = directory, source, options


# What a client sees.


class Client(threading.Thread):
    """One request. `word` is what came of it, `first_byte` the seconds until the body began."""

    def __init__(self, program, path, extra="", due=None, leave_at=None):
        super().__init__(daemon=True)
        self.program, self.path, self.extra, self.leave_at = program, path, extra, leave_at
        self.due = body_of(path) if due is None else due
        self.word, self.first_byte, self.body, self.answer = "hung", None, b"", None
        self.start()

    def run(self):
        began = time.monotonic()
        try:
            with self.program.connect(patience=PATIENCE) as connection:
                connection.ask("GET", self.path, self.extra)
                self.answer = connection.head()
                for piece in connection.pieces(self.answer):
                    self.first_byte = self.first_byte or time.monotonic() - began
                    self.body += piece
                    if self.leave_at is not None and len(self.body) >= self.leave_at:
                        self.word = "left"
                        return
            self.word = self.judge()
        except (wire.Broken, wire.Wrong, ValueError) as broken:
            self.word = self.what_broke(str(broken))

    def judge(self):
        """The framing says that this is the whole answer."""
        if self.answer.status not in (200, 206):
            return f"status {self.answer.status}"
        if self.body == self.due:
            return "exact"
        if self.answer.status == 200 and self.body == body_of(self.path) and "Range" in self.extra:
            return "the whole instead"
        if self.answer.fields.get("content-encoding") == "gzip":
            return "GZIP, NOT ASKED FOR"
        if not self.due.startswith(self.body):
            return "WRONG BYTES AS A SUCCESS"
        proven = self.answer.length is not None or "transfer-encoding" in self.answer.fields
        return "SHORT AS A SUCCESS" if proven else "short, its end unproven"

    def what_broke(self, how):
        status = f"status {self.answer.status}, " if self.answer and self.answer.status not in (200, 206) else ""
        if "Timeout" in how:
            return status + "HUNG"
        if not self.answer:
            return "no connection" if how.startswith("connect") else "closed without an answer"
        return status + ("visibly broken" if self.due.startswith(self.body) else "WRONG BYTES, then broken")

    def wait(self):
        self.join(4 * PATIENCE)
        return self.word


def raw(program, fields, body=b"", first=b"POST /up.txt"):
    """The status, or what came instead, of a request sent as it is."""
    try:
        with program.connect(patience=PATIENCE) as connection:
            connection.send(first + b" HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n" + body)
            return f"status {connection.head().status}"
    except wire.Broken as broken:
        return "HUNG" if "Timeout" in str(broken) else "closed without an answer"


# The cases. Each takes a server that has been started, and returns a phrase.


def ask(program, path="/file.tgz", extra="", due=None):
    return Client(program, path, extra, due).wait()


def afterwards(program, path="/file.tgz", well_again=None):
    """What was kept, and what the next client gets from a well origin."""
    time.sleep(SETTLE)
    kept = program.kept(path)
    wrong = "" if kept in (None, body_of(path)) else "; A SHORT FILE KEPT" if len(kept) < SIZE else "; A WRONG FILE KEPT"
    (well_again or program.origin).behaves = well
    if not program.is_alive():
        return f"{wrong}; THE SERVER DIED"
    return f"{wrong}; next: {ask(program, path)}" + ("" if program.is_alive() else "; THE SERVER DIED")


def failing(answer):
    def case(program):
        program.origin.behaves = answer
        return ask(program) + afterwards(program)

    return case


def ambiguous(program):
    program.origin.behaves = two_lengths
    word = ask(program)
    return (word if word.startswith("status") else "TAKES ONE OF THEM") + afterwards(program)


def chained(program):
    """A second one of its kind, whose origin is the first: does it take the end for a proof?"""
    program.origin.behaves = unframed
    directory = os.path.join(program.directory, "second")
    os.mkdir(directory)
    second = type(program)(program.options, directory, program)
    try:
        return ask(second.start()) + afterwards(second, well_again=program.origin)
    finally:
        second.kill()


def once(program):
    """Well from the second request on."""

    def answer(peer, request):
        program.origin.behaves = well
        return short(SIZE // 2)(peer, request)

    program.origin.behaves = answer
    return ask(program) + afterwards(program)


def fragment(program):
    return ask(program, extra="Range: bytes=1000-1999\r\n", due=body_of("/file.tgz")[1000:2000]) + afterwards(program)


def coding(vary):
    def case(program):
        program.origin.behaves = coded(vary)
        due = gzip.compress(body_of("/file.js"), mtime=0)
        first = Client(program, "/file.js", "Accept-Encoding: gzip\r\n", due)
        word = first.wait()
        if first.body == body_of("/file.js"):
            word = "exact, plain"
        time.sleep(SETTLE)
        return f"{word}; plain client: {ask(program, '/file.js')}"

    return case


def authorization(program):
    program.origin.behaves = private
    first = ask(program, extra="Authorization: Basic dTpw\r\n")
    time.sleep(SETTLE)
    other = ask(program)
    return f"{first}; without it: " + ("GIVEN AWAY" if other == "exact" else other)


def requests(program):
    count = len(program.origin.seen)
    return "1 request to the origin" if count == 1 else f"{count} requests to the origin"


def leaves(program):
    program.origin.behaves = slow
    Client(program, "/file.tgz", leave_at=4 * PIECE).wait()
    time.sleep(SETTLE)
    word = ask(program)
    return f"second: {word}, {requests(program)}" + afterwards(program)


def joins(program):
    program.origin.behaves = slow
    first = Client(program, "/file.tgz")
    time.sleep(SETTLE)
    second = Client(program, "/file.tgz")
    word = second.wait()
    took = SIZE / PIECE * PIECE_SECONDS
    when = "no byte" if second.first_byte is None else "at once" if second.first_byte < took / 3 else "WAITS FOR THE END"
    return f"first: {first.wait()}; second: {word}, {when}, {requests(program)}"


def killed(program):
    program.origin.behaves = slow
    first = Client(program, "/file.tgz")
    time.sleep(SIZE / PIECE * PIECE_SECONDS / 2)
    program.kill()
    word = first.wait()
    program.origin.behaves = well
    before = len(program.origin.seen)
    program.start()
    after = afterwards(program)
    rest = any("range" in request.fields for request in program.origin.seen[before:])
    return word + after + (", only the rest fetched" if rest else "")


def nul(program):
    return raw(program, b"", first=b"GET /x%00.tgz") + afterwards(program)


def traversal(program):
    """Reads a file beside the cache directory, or writes one there?"""
    outside = os.path.join(program.directory, "secret.tgz")
    with open(outside, "wb") as file:
        file.write(SECRET)
    ways = ("/..%2f{}", "/../{}", "/%2e%2e/{}", "/a/..%2f..%2f{}", "//../{}", "/..%5c{}", "/..%2f..%2f..%2f..%2fetc/{}")
    words = []
    for way in ways:
        for name in ("secret.tgz", "planted.tgz", "passwd"):
            reader = Client(program, way.format(name))
            reader.wait()
            words.append("no answer" if not reader.answer else str(reader.answer.status))
            if SECRET in reader.body or b"root:" in reader.body:
                return f"READS OUTSIDE by {way}"
    if os.path.exists(os.path.join(program.directory, "planted.tgz")):
        return "WRITES OUTSIDE"
    alive = "" if program.is_alive() else "; THE SERVER DIED"
    return "stays inside, status " + " or ".join(sorted(set(words))) + alive


def smuggled(fields, body):
    """A request with two ends: is it refused, or passed on with both?"""

    def case(program):
        word = raw(program, fields, body)
        time.sleep(SETTLE)
        seen = program.origin.seen
        if any(sum(name in ("content-length", "transfer-encoding") for name, _ in request.lines) > 1 for request in seen):
            return f"{word}, PASSED ON WITH BOTH"
        return f"{word}, " + ("passed on with one end" if seen else "not passed on")

    return case


def full(program):
    """On a file system that holds half of the file."""
    program.kill()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE // 2}", "tmpfs", program.cache]
    if os.getuid() or not shutil.which("mount") or subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
        return "not tried: needs the rights to mount"
    try:
        program.start()
        return ask(program) + afterwards(program)
    finally:
        program.kill()
        subprocess.run(["umount", program.cache], check=False)


def away(program):
    first = ask(program)
    time.sleep(SETTLE)
    program.origin.stop()
    return f"{first}; origin stopped: {ask(program)}"


BOTH = b"Content-Length: 48\r\nTransfer-Encoding: chunked\r\n"
SECOND = b"0\r\n\r\nGET /smuggled.tgz HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"
CASES = {
    "origin drops in mid-body, once": once,
    "origin drops in mid-body, each time": failing(short(SIZE // 2)),
    "the same, chunked": failing(chunked(SIZE // 2)),
    "origin resets in mid-body": failing(short(SIZE // 2, "reset")),
    "origin stalls in mid-body": failing(short(SIZE // 2, "stall")),
    "chunked without last chunk": failing(chunked(SIZE)),
    "body a byte shorter than its length": failing(short(SIZE - 1)),
    "body longer than its length": failing(long),
    "body that ends with the connection, cut": failing(unframed),
    "the same, through two of a kind in a row": chained,
    "answer with two Content-Length": ambiguous,
    "404 on a path to cache": failing(missing),
    "Range on a miss": fragment,
    "gzip on a miss, origin says Vary": coding(True),
    "gzip on a miss, without Vary": coding(False),
    "Authorization on a miss, then a client without": authorization,
    "first client leaves in mid-fill": leaves,
    "second client during a slow fill": joins,
    "kill -9 in mid-fill, restart": killed,
    "cached file, origin stopped": away,
    "disk full": full,
    "`GET /x%00.tgz`": nul,
    "`/..%2f` and its like": traversal,
    "request with Content-Length and chunked": smuggled(BOTH, SECOND),
    "request with two Content-Length": smuggled(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"abcdef"),
}


def trial(options, kind, name):
    with tempfile.TemporaryDirectory(prefix="fs-cache-faults-") as directory, Origin() as source:
        program = kind(options, directory, source)
        try:
            return CASES[name](program.start())
        finally:
            if program.process:
                program.kill()


def column(options, kind, names):
    results = {}
    for name in names:
        results[name] = trial(options, kind, name)
        print(f"{kind.name}: {name}: {results[name]}", file=sys.stderr, flush=True)
    return results


def first_line(*command):
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return (run.stdout + run.stderr).strip().split("\n")[0]


def versions(options, kinds):
    """A sentence on each column."""
    words = []
    for kind in kinds:
        if kind is Ours:
            words.append("this program " + first_line(*options.binary, "-v"))
        elif kind is Nginx:
            words.append(first_line(peers.nginx(), "-v").replace("nginx version: nginx/", "nginx "))
        else:
            own = first_line(*peers.original(options.node_original), "-v")
            words.append(f"the Node.js original {own} on Node.js {first_line('node', '--version')}")
    return "Versions: " + ", ".join(words) + "."


def servers(options):
    node = bool(options.node_original and shutil.which("node"))
    able = {"ours": (Ours, True), "nginx": (Nginx, bool(peers.nginx())), "node": (Node, node)}
    for name, (_, there) in able.items():
        if not there:
            print(f"faults: without {name}, which is not there", file=sys.stderr)
    if "ours" in (options.server or able):
        options.binary = command.program(options.binary)
    return [kind for name, (kind, there) in able.items() if there and name in (options.server or able)]


def main():
    parser = command.parser(__doc__)
    parser.add_argument("--binary")
    parser.add_argument("--node-original", metavar="DIR", default=os.environ.get("FS_CACHE_NODE_ORIGINAL"))
    parser.add_argument("--server", action="append", choices=["ours", "nginx", "node"])
    parser.add_argument("--only", action="append", metavar="WORD")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    names = [name for name in CASES if not options.only or any(word.lower() in name.lower() for word in options.only)]
    kinds = servers(options)
    # Each server has its own origin, so they can go through their cases side by side.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        columns = list(pool.map(lambda kind: column(options, kind, names), kinds))
    table = ["| case | " + " | ".join(kind.name for kind in kinds) + " |", "| --- " * (len(kinds) + 1) + "|"]
    table += ["| " + " | ".join([name, *(results[name] for results in columns)]) + " |" for name in names]
    text = versions(options, kinds) + "\n\n" + "\n".join(table) + "\n"
    print(text, end="")
    if options.write:
        with open(PAGE, encoding="utf-8") as file:
            introduction = file.read().partition(MARK)[0]
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write(introduction + MARK + "\n" + text)
    faults = [phrase for kind, results in zip(kinds, columns) if kind is Ours for phrase in results.values()]
    return 1 if any(re.search(r"\b[A-Z]{4,}\b", phrase) for phrase in faults) else 0


if __name__ == "__main__":
    sys.exit(main())
