"""An origin that answers each request as a function says."""

import contextlib
import multiprocessing
import re
import socket
import threading

from .wire import Broken, Wire, Wrong


class Request:
    """`lines` are all fields as they came, `fields` the last of each name; `connection` counts the connections, from 0."""

    def __init__(self, first, lines, connection=0):
        self.method, self.target, _ = first.split(" ", 2)
        self.path = self.target.partition("?")[0]
        self.lines, self.fields, self.connection = lines, dict(lines), connection

    def part(self, size):
        """The range that is asked for in plain form: its first byte, and the one behind its last."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.fields.get("range", ""))
        if not found or int(found[1]) >= size:
            return None
        return int(found[1]), min(size, int(found[2] or size) + (1 if found[2] else 0))


class Origin:
    """Calls answer(wire, request), a thread for each connection, which ends where that returns False.

    With `apart` in a process of its own: what it takes to be hundreds of clients must not slow it down.
    """

    def __init__(self, answer, apart=False, port=0):
        self.answer, self.accepted, self.open = answer, 0, set()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None
        if apart:
            self.process = multiprocessing.get_context("fork").Process(target=self.run, daemon=True)
            self.process.start()
            self.listener.close()
        else:
            threading.Thread(target=self.run, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def run(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer, self.accepted), daemon=True).start()
            self.accepted += 1

    def serve(self, peer, number):
        try:
            with peer:
                self.open.add(peer)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.talk(peer, number)
        except (OSError, Broken, Wrong, ValueError):
            pass
        finally:
            self.open.discard(peer)

    def talk(self, peer, number):
        wire = Wire(peer)
        while self.answer(wire, Request(*wire.head(), number)) is not False:
            pass

    def stop(self):
        """Ends the connections that are kept, too."""
        if self.process:
            self.process.kill()
            self.process.join()
            return
        for open in (self.listener, *self.open):
            with contextlib.suppress(OSError):
                open.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def head(status="200 OK", **fields):
    """A head; underscores in the names of fields are hyphens."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
