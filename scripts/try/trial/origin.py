"""An origin that answers as the path says: a process of its own, a thread for each connection.

Kinds, by the first component of the path:

len    a length, all at once             slow   a length, over a second or two
chunk  chunks of random sizes            late   a length, after a while
drop   one answer in two ends early      dropc  the same in chunks
reset  the same with a reset             stall  one answer in three stops for long, somewhere
error  404, 500 or 503 with a text       move   302 with a text
close  without a length                  junk   no HTTP at all
once   the first answer for a path ends early, at a place that is random; `oncec` in chunks

Any of them is resumed by `Range` where `If-Range` names the tag or the date.
"""

import email.utils
import hashlib
import multiprocessing
import random
import socket
import ssl
import struct
import threading
import time

from . import content

KINDS = ("len", "chunk", "slow", "late", "drop", "dropc", "reset", "stall", "error", "move", "close", "junk")
# Kinds whose answers may break off, or never come.
BREAKING = ("drop", "dropc", "reset", "stall", "junk", "once", "oncec")
# Those of unknown length.
CHUNKED = ("chunk", "dropc", "oncec")
PIECE = 64 * 1024


class Gone(Exception):
    """The connection is at its end."""


class Origin:
    """The process. `stall` is how long it stops for, in seconds; with `tls` a pair of files, it speaks that."""

    def __init__(self, seed, stall, tls=None, pace=1.0):
        self.seed, self.stall, self.tls, self.pace = seed, stall, tls, pace
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self.listener.getsockname()[1]}"
        self.requests = multiprocessing.Value("q")
        self.dropped = multiprocessing.Value("q")
        self.resumed = multiprocessing.Value("q")
        self.seen, self.seen_lock = set(), threading.Lock()
        self.process = multiprocessing.Process(target=self.run, daemon=True)

    def start(self):
        self.process.start()
        self.listener.close()
        return self

    def stop(self):
        self.process.kill()
        self.process.join()

    def run(self):
        context = None
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
        number = 0
        while True:
            connection, _ = self.listener.accept()
            number += 1
            dice = random.Random(f"{self.seed} {number}")
            threading.Thread(target=self.serve, args=(connection, context, dice), daemon=True).start()

    def serve(self, connection, context, dice):
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(60)
            if context:
                connection = context.wrap_socket(connection, server_side=True)
            answer = Answer(self, connection, dice)
            while answer.next():
                pass
        except (OSError, Gone, ValueError):
            pass
        finally:
            connection.close()

    def is_first(self, path):
        with self.seen_lock:
            known = path in self.seen
            self.seen.add(path)
            return not known

    def count(self, counter, amount=1):
        with counter.get_lock():
            counter.value += amount


class Answer:
    """One connection's answers."""

    def __init__(self, origin, connection, dice):
        self.origin, self.connection, self.dice = origin, connection, dice
        self.input = b""

    def next(self):
        method, path, fields = self.request()
        self.origin.count(self.origin.requests)
        if method in ("PUT", "POST"):
            return self.upload(fields)
        kind = content.kind_of(path)
        if kind == "junk":
            self.send(self.dice.randbytes(self.dice.randrange(1, 200)) + b"\r\n\r\n")
            return False
        if kind in ("error", "move"):
            return self.refuse(method, kind, path)
        if kind == "late":
            time.sleep(self.dice.random() * 0.5 * self.origin.pace)
        return self.file(method, kind, path, fields)

    def request(self):
        while b"\r\n\r\n" not in self.input:
            self.receive()
        head, _, self.input = self.input.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        return method, path.partition("?")[0], {name.lower(): value.strip() for name, _, value in pairs}

    def receive(self):
        more = self.connection.recv(PIECE)
        if not more:
            raise Gone
        self.input += more

    def send(self, data):
        self.connection.sendall(data)

    def upload(self, fields):
        """Answers with the digest of what came."""
        if "chunked" in fields.get("transfer-encoding", ""):
            body = b""
            while True:
                size = int(self.line(), 16)
                body += self.take(size)
                self.take(2)
                if size == 0:
                    break
        else:
            body = self.take(int(fields.get("content-length", 0)))
        self.short(200, hashlib.sha256(body).hexdigest().encode())
        return True

    def line(self):
        while b"\r\n" not in self.input:
            self.receive()
        line, _, self.input = self.input.partition(b"\r\n")
        return line

    def take(self, count):
        while len(self.input) < count:
            self.receive()
        taken, self.input = self.input[:count], self.input[count:]
        return taken

    def short(self, status, body, extra="", method="GET"):
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        self.send(head.encode() + (b"" if method == "HEAD" else body))

    def refuse(self, method, kind, path):
        status = 302 if kind == "move" else (404, 500, 503)[content.number_of(path) % 3]
        self.short(status, refusal_of(path), "Location: /len/1-1.tgz\r\n" if kind == "move" else "", method)
        return True

    def file(self, method, kind, path, fields):
        size = content.size_of(path)
        wanted = wanted_part(path, fields, size)
        first, end = wanted or (0, size)
        tag = content.etag_of(path)
        date = email.utils.formatdate(content.modified_of(path), usegmt=True)
        head = "HTTP/1.1 206 Partial Content\r\n" if wanted else "HTTP/1.1 200 OK\r\n"
        head += f"ETag: {tag}\r\nLast-Modified: {date}\r\nAccept-Ranges: bytes\r\n"
        if wanted:
            head += f"Content-Range: bytes {first}-{end - 1}/{size}\r\n"
            # Of a file that is stored only the program itself asks for a part.
            if "if-range" in fields and path.endswith(".tgz"):
                self.origin.count(self.origin.resumed, first)
        chunked = kind in CHUNKED
        if kind == "close":
            head += "Connection: close\r\n"
        elif chunked:
            head += "Transfer-Encoding: chunked\r\n"
        else:
            head += f"Content-Length: {end - first}\r\n"
        self.send(head.encode() + b"\r\n")
        if method == "HEAD":
            return kind != "close"
        stop = self.breaks_at(kind, path, first, end)
        self.body(kind, path, first, end if stop is None else stop, chunked)
        if stop is None:
            if chunked:
                self.send(b"0\r\n\r\n")
            if kind == "close" and isinstance(self.connection, ssl.SSLSocket):
                # Without this the end of such a body is one that anybody may have made.
                self.connection.unwrap()
            return kind != "close"
        self.origin.count(self.origin.dropped)
        if kind == "stall":
            time.sleep(self.origin.stall)
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def breaks_at(self, kind, path, first, end):
        """Where this answer ends early, if it does."""
        odds = {"drop": 0.5, "dropc": 0.5, "reset": 0.5, "stall": 0.3}.get(kind, 0.0)
        early = self.origin.is_first(path) if kind in ("once", "oncec") else self.dice.random() < odds
        return self.dice.randrange(first, end) if early and end > first else None

    def body(self, kind, path, first, end, chunked):
        pause = 0.0
        if kind == "slow":
            pause = self.dice.uniform(0.3, 1.5) * self.origin.pace * PIECE / max(end - first, PIECE)
        at = first
        while at < end:
            most = self.dice.randrange(1, PIECE) if chunked else PIECE
            piece = content.part(path, at, min(end, at + most))
            at += len(piece)
            self.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            if pause:
                time.sleep(pause)


def refusal_of(path):
    return b"no " + content.tag_of(path).hex().encode() + b"\n"


def wanted_part(path, fields, size):
    """The part that is asked for in plain form, if the condition holds: first and end."""
    condition = fields.get("if-range")
    date = email.utils.formatdate(content.modified_of(path), usegmt=True)
    if condition not in (None, content.etag_of(path), date):
        return None
    first, dash, last = fields.get("range", "").removeprefix("bytes=").partition("-")
    if not dash or not first.isdigit() or int(first) >= size:
        return None
    return int(first), min(size, int(last) + 1) if last.isdigit() else size
