"""Requests, and answers checked byte by byte."""

import random
import socket
import struct

from . import content, origin

PATIENCE = 40
PIECE = 64 * 1024


class Broken(Exception):
    """The transfer ended in a way that any client notices."""


class Wrong(Exception):
    """The answer is not what it should be, and looks as if it were."""


class Answer:
    """A head."""

    def __init__(self, text):
        first, *lines = text.decode("latin-1").split("\r\n")
        try:
            self.status = int(first.split(" ")[1])
        except (IndexError, ValueError):
            raise Wrong(f"no status line: {first!r}") from None
        self.fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.fields[name.lower()] = value.strip()
        self.length = int(self.fields["content-length"]) if "content-length" in self.fields else None


class Connection:
    """A connection to the server. Every wait ends after a while, as Broken."""

    def __init__(self, address, small_buffer=False):
        self.socket = socket.socket()
        try:
            if small_buffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            self.socket.settimeout(PATIENCE)
            self.socket.connect(address)
        except OSError as error:
            self.socket.close()
            raise Broken(f"connect: {error}") from None
        self.input = b""
        self.open = True
        self.verified = 0
        # Called between pieces: a slow client.
        self.pause = lambda: None

    def close(self, reset=False):
        if reset and self.open:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.open = False
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Broken(f"send: {error}") from None

    def ask(self, method, path, extra="", body=b""):
        self.send(f"{method} {path} HTTP/1.1\r\nHost: trial\r\n{extra}\r\n".encode() + body)

    def receive(self):
        try:
            data = self.socket.recv(PIECE)
        except OSError as error:
            raise Broken(f"receive: {type(error).__name__}") from None
        self.pause()
        return data

    def more(self):
        data = self.receive()
        if not data:
            raise Broken("closed")
        self.input += data

    def head(self):
        while b"\r\n\r\n" not in self.input:
            if len(self.input) > 1 << 16:
                raise Wrong("a head without an end")
            self.more()
        head, _, self.input = self.input.partition(b"\r\n\r\n")
        return Answer(head)

    def pieces(self, answer, method):
        """The body as it comes. Raises Broken where it does not come whole."""
        if method == "HEAD" or answer.status in (204, 304):
            return
        if "chunked" in answer.fields.get("transfer-encoding", ""):
            yield from self.chunks()
        elif answer.length is not None:
            yield from self.counted(answer.length)
        else:
            # Its end cannot be told from a break by anyone.
            data, self.input = self.input or self.receive(), b""
            while data:
                yield data
                data = self.receive()
            self.open = False
        if answer.fields.get("connection", "").lower() == "close":
            self.open = False

    def counted(self, left):
        while left:
            if not self.input:
                self.more()
            piece, self.input = self.input[:left], self.input[left:]
            left -= len(piece)
            yield piece

    def chunks(self):
        while True:
            size = int(self.line(), 16)
            yield from self.counted(size)
            if self.line():
                raise Wrong("a chunk that does not end where it should")
            if size == 0:
                return

    def line(self):
        while b"\r\n" not in self.input:
            self.more()
        line, _, self.input = self.input.partition(b"\r\n")
        return line

    def check(self, path, answer, method="GET", wanted=None, leave_at=None, validators=()):
        """Reads one answer and holds it against what is due. With `leave_at`, only so many bytes of it.

        `wanted` is the range asked for, first and last; `validators` whether a 304 may come.
        """
        due = self.due(path, answer, method, wanted, validators)
        first, end = due if isinstance(due, tuple) else (0, len(due))
        at = first
        for piece in self.pieces(answer, method):
            expected = content.part(path, at, at + len(piece)) if isinstance(due, tuple) else due[at : at + len(piece)]
            if piece != expected or at + len(piece) > end:
                raise Wrong(f"{method} {path}: other bytes within {len(piece)} from {at} on")
            at += len(piece)
            self.verified += len(piece)
            if leave_at is not None and at - first >= leave_at:
                return False
        if method != "HEAD" and answer.status not in (204, 304) and at != end:
            # A body that ends with its connection is short where the origin broke it off.
            unframed = answer.length is None and "transfer-encoding" not in answer.fields
            raise Broken("closed") if unframed else Wrong(f"{method} {path}: {at - first} bytes of {end - first}")
        return True

    def due(self, path, answer, method, wanted, validators):
        """The bytes that this answer must have: of the file from where to where, or a text of their own."""
        kind, size, status = content.kind_of(path), content.size_of(path), answer.status
        if status in (502, 504) and kind in origin.BREAKING:
            raise Broken(f"status {status}")
        if kind in ("error", "move"):
            text = origin.refusal_of(path)
            if status not in (302, 404, 500, 503) or answer.length not in (None, len(text)):
                raise Wrong(f"{method} {path}: status {status}, length {answer.length}")
            return text
        if status == 304 and validators:
            return (0, 0)
        if status == 416 and wanted and wanted[0] >= size:
            return b""
        if status == 206 and wanted:
            first, last = wanted[0], min(wanted[1], size - 1)
            # A file that still comes in chunks has no length yet (RFC 9110 section 14.4).
            totals = (size, "*") if kind in origin.CHUNKED else (size,)
            if answer.fields.get("content-range") not in [f"bytes {first}-{last}/{total}" for total in totals]:
                raise Wrong(f"{path}: asked for {wanted}, got {answer.fields.get('content-range')}")
            due = (first, last + 1)
        elif status == 200:
            due = (0, size)
        else:
            raise Wrong(f"{method} {path}: status {status}")
        if answer.length not in (None, due[1] - due[0]):
            raise Wrong(f"{method} {path}: Content-Length {answer.length} for {due}")
        return due


def garbage(dice: random.Random):
    """What is no request, or only looks like one."""
    return dice.choice(
        (
            dice.randbytes(dice.randrange(1, 400)),
            b"GET /len/1-1.tgz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET /len/1-1.tgz HTTP/1.1\nHost: a\n\n",
            b"GET /x%00.tgz HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /../../../etc/passwd HTTP/9.9\r\n\r\n",
            b"PUT /up.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
            b"\r\n" * 20,
        )
    )
