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
import os
import random
import socket
import ssl
import struct
import subprocess
import threading
import time

from . import content, origin, wire

KINDS = ("len", "chunk", "slow", "late", "drop", "dropc", "reset", "stall", "error", "move", "close", "junk")
# Kinds whose answers may break off, or never come.
BREAKING = ("drop", "dropc", "reset", "stall", "junk", "once", "oncec")
# Those of unknown length.
CHUNKED = ("chunk", "dropc", "oncec")


class Origin(origin.Origin):
    """A process. `stall` is how long it stops for, in seconds; with `tls` a pair of files, it speaks that."""

    def __init__(self, seed, stall, tls=None):
        self.seed, self.stall = seed, stall
        self.requests = multiprocessing.Value("q")
        self.dropped = multiprocessing.Value("q")
        self.resumed = multiprocessing.Value("q")
        self.seen, self.seen_lock = set(), threading.Lock()
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        super().__init__(None, apart=True)
        if tls:
            self.url = self.url.replace("http:", "https:")

    def talk(self, peer, number):
        peer.settimeout(60)
        if self.context:
            peer = self.context.wrap_socket(peer, server_side=True)
        try:
            answers = Answers(self, peer, random.Random(f"{self.seed} {number + 1}"))
            while answers.next():
                pass
        finally:
            peer.close()

    def is_first(self, path):
        with self.seen_lock:
            known = path in self.seen
            self.seen.add(path)
            return not known

    def count(self, counter, amount=1):
        with counter.get_lock():
            counter.value += amount


class Answers(wire.Wire):
    """One connection's answers."""

    def __init__(self, origin, peer, dice):
        super().__init__(peer)
        self.origin, self.dice = origin, dice

    def next(self):
        request = origin.Request(*self.head())
        self.origin.count(self.origin.requests)
        if request.method in ("PUT", "POST"):
            return self.upload(request.fields)
        kind = content.kind_of(request.path)
        if kind == "junk":
            self.send(self.dice.randbytes(self.dice.randrange(1, 200)) + b"\r\n\r\n")
            return False
        if kind in ("error", "move"):
            return self.refuse(request.method, kind, request.path)
        if kind == "late":
            time.sleep(self.dice.random() * 0.5)
        return self.file(kind, request)

    def upload(self, fields):
        """Answers with the digest of what came."""
        chunked = "chunked" in fields.get("transfer-encoding", "")
        body = b"".join(self.chunks() if chunked else self.counted(int(fields.get("content-length", 0))))
        self.short(200, hashlib.sha256(body).hexdigest().encode())
        return True

    def short(self, status, body, method="GET", **fields):
        self.send(origin.head(f"{status} X", Content_Length=len(body), **fields) + (b"" if method == "HEAD" else body))

    def refuse(self, method, kind, path):
        status = 302 if kind == "move" else (404, 500, 503)[content.number_of(path) % 3]
        self.short(status, refusal_of(path), method, **({"Location": "/len/1-1.tgz"} if kind == "move" else {}))
        return True

    def file(self, kind, request):
        path, size = request.path, content.size_of(request.path)
        date = email.utils.formatdate(content.modified_of(path), usegmt=True)
        holds = request.fields.get("if-range") in (None, content.etag_of(path), date)
        wanted = request.part(size) if holds else None
        first, end = wanted or (0, size)
        fields = {"ETag": content.etag_of(path), "Last-Modified": date, "Accept-Ranges": "bytes"}
        if wanted:
            fields["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
            # Of a file that is stored only the program itself asks for a part.
            if "if-range" in request.fields and path.endswith(".tgz"):
                self.origin.count(self.origin.resumed, first)
        chunked = kind in CHUNKED
        if kind == "close":
            fields["Connection"] = "close"
        elif chunked:
            fields["Transfer-Encoding"] = "chunked"
        else:
            fields["Content-Length"] = end - first
        self.send(origin.head("206 Partial Content" if wanted else "200 OK", **fields))
        if request.method == "HEAD":
            return kind != "close"
        stop = self.breaks_at(kind, path, first, end)
        self.body(kind, path, first, end if stop is None else stop, chunked)
        if stop is None:
            if chunked:
                self.send(wire.chunk(b""))
            if kind == "close" and isinstance(self.socket, ssl.SSLSocket):
                # Without this the end of such a body is one that anybody may have made.
                self.socket.unwrap()
            return kind != "close"
        self.origin.count(self.origin.dropped)
        if kind == "stall":
            time.sleep(self.origin.stall)
        elif kind == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def breaks_at(self, kind, path, first, end):
        """Where this answer ends early, if it does."""
        odds = {"drop": 0.5, "dropc": 0.5, "reset": 0.5, "stall": 0.3}.get(kind, 0.0)
        early = self.origin.is_first(path) if kind in ("once", "oncec") else self.dice.random() < odds
        return self.dice.randrange(first, end) if early and end > first else None

    def body(self, kind, path, first, end, chunked):
        pause = 0.0
        if kind == "slow":
            pause = self.dice.uniform(0.3, 1.5) * wire.PIECE / max(end - first, wire.PIECE)
        at = first
        while at < end:
            most = self.dice.randrange(1, wire.PIECE) if chunked else wire.PIECE
            piece = content.part(path, at, min(end, at + most))
            at += len(piece)
            self.send(wire.chunk(piece) if chunked else piece)
            if pause:
                time.sleep(pause)


def refusal_of(path):
    return b"no " + content.tag_of(path).hex().encode() + b"\n"


def certificate(directory):
    """A certificate for 127.0.0.1, signed by itself, and its key; none where there is no openssl."""
    key, pem = os.path.join(directory, "key.pem"), os.path.join(directory, "cert.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", key, "-out", pem, "-days", "2", "-subj", "/CN=trial", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return pem, key
