"""Requests, and answers checked byte by byte."""

import socket
import struct
import time

from . import content, faulty
from .wire import Broken, Wire, Wrong

PATIENCE = 40


class Answer:
    """A head."""

    def __init__(self, first, fields):
        try:
            self.status = int(first.split(" ")[1])
        except (IndexError, ValueError):
            raise Wrong(f"no status line: {first!r}") from None
        self.fields = dict(fields)
        self.length = int(self.fields["content-length"]) if "content-length" in self.fields else None


class Connection(Wire):
    """A connection to the server. Every wait ends after a while, as Broken. `window` is the receive buffer in bytes."""

    def __init__(self, address, window=None, patience=PATIENCE):
        super().__init__(socket.socket())
        try:
            if window:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            self.socket.settimeout(patience)
            self.socket.connect(address)
        except OSError as error:
            self.socket.close()
            raise Broken(f"connect: {error}") from None
        self.open = True
        self.verified = 0
        # Called between pieces: a slow client.
        self.pause = lambda: None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self, reset=False):
        if reset and self.open:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.open = False
        self.socket.close()

    def ask(self, method, path, extra="", body=b""):
        self.send(f"{method} {path} HTTP/1.1\r\nHost: trial\r\n{extra}\r\n".encode() + body)

    def receive(self):
        data = super().receive()
        self.pause()
        return data

    def head(self):
        return Answer(*super().head())

    def pieces(self, answer, method="GET"):
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

    def get(self, path, extra="", method="GET"):
        """A whole answer: its head and its body."""
        self.ask(method, path, extra)
        answer = self.head()
        return answer, b"".join(self.pieces(answer, method))

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
        if status in (502, 504) and kind in faulty.BREAKING:
            raise Broken(f"status {status}")
        if kind in ("error", "move"):
            text = faulty.refusal_of(path)
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
            totals = (size, "*") if kind in faulty.CHUNKED else (size,)
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


def get(address, path, extra="", method="GET", patience=PATIENCE):
    """A whole answer over a connection of its own: its head, its body, and the seconds until its last byte."""
    began = time.monotonic()
    with Connection(address, patience=patience) as connection:
        return *connection.get(path, extra, method), time.monotonic() - began


def fetch(address, path):
    """What became of a download of one of `content`: "exact", or a sentence that begins with "broken" or "wrong"."""
    try:
        with Connection(address) as connection:
            connection.ask("GET", path)
            connection.check(path, connection.head())
        return "exact"
    except Broken as broken:
        return f"broken: {path}: {broken}"
    except Wrong as wrong:
        return f"wrong: {wrong}"
