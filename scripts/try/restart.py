#!/usr/bin/env python3
"""Restarts under socket activation, with clients that keep coming. Prints figures; exits non-zero
if a client was refused, reset, cut short or answered wrongly.

    scripts/try/restart.py [options]

Holds a listening socket, as a service manager does, and starts the server on it with LISTEN_FDS.
New connections come at a constant rate, whether or not earlier ones have been answered, each with
one request for a small file in the cache. Meanwhile the server is stopped (SIGTERM) and started
again several times; every fourth client sends its request 30 ms after it has connected, as one far
away does. In turn the next server starts when the last has ended, and as soon as the last
was told to end. At each stop three slow downloads are under way, two of files in the cache and one
of a file that the origin sends slowly. All must arrive exact, and every server must exit with 0.

--rate is in connections a second.
"""

import asyncio
import collections
import concurrent.futures
import errno
import os
import re
import socket
import sys
import threading
import time

sys.dont_write_bytecode = True

from trial import client, command, origin, server, wire

MIB = 1 << 20
SMALL = bytes(range(256)) * 16
LARGE = 16 * MIB
# Downloads last about this long, well below the server's drain timeout.
SECONDS = 3.0
# Every so many clients send their request this much after they have connected.
LATE_ONE_IN, LATE = 4, 0.03
REQUEST = b"GET /small.tgz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PATIENCE = 15
ERRORS = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EPIPE: "reset"}


def content(number):
    """16 MiB that differ by file and by place."""
    line = b"%08d" % number
    return b"".join(line + b"%08d" % block + SMALL[:1008] for block in range(LARGE // 1024))


def slowly(peer, request):
    """A file by its number."""
    body = content(int(request.path[len("/miss") : -len(".tgz")]))
    peer.send(origin.head(Content_Length=len(body), Connection="close"))
    begun = time.monotonic()
    for at in range(0, len(body), MIB // 4):
        peer.send(body[at : at + MIB // 4])
        pause(begun, at / len(body) * SECONDS)
    return False


def pause(begun, due):
    time.sleep(max(0.0, begun + due - time.monotonic()))


class Life(server.Server):
    """One life of the program on the socket handed over: sd_listen_fds(3) wants descriptor 3 and the process id."""

    def __init__(self, options, io, listener, cache, source, notices):
        super().__init__(options.binary, io, cache, source, ["-d", "--workers", options.workers])
        self.words = ["/bin/sh", "-c", 'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"', "sh", *self.words]
        self.more, self.fds, self.listener, self.notices = {"NOTIFY_SOCKET": notices.getsockname()}, [3], listener, notices
        self.launch()
        self.wait_until_ready()

    def prepare(self):
        super().prepare()
        os.dup2(self.listener.fileno(), 3)

    def engine(self):
        """The debug line that names it, which may come a moment after READY=1."""
        deadline = time.monotonic() + 2
        while not (found := re.search("^engine: .*", self.said(), re.MULTILINE)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found[0] if found else "engine: not named"

    def wait_until_ready(self):
        """READY=1, as Type=notify has it. Other notices are those of the one that ends."""
        self.notices.settimeout(10)
        try:
            while b"READY=1" not in self.notices.recv(4096):
                pass
        except TimeoutError:
            raise command.Failed("the server does not say that it is ready: " + self.said()) from None


class Load(threading.Thread):
    """New connections at a constant rate, whether or not earlier ones have been answered."""

    def __init__(self, address, rate):
        super().__init__()
        self.address, self.rate = address, rate
        self.counts, self.open, self.most_open = collections.Counter(), 0, 0
        self.first_faults, self.waits = [], []
        self.over = threading.Event()
        self.start()

    def run(self):
        asyncio.run(self.come())

    async def come(self):
        begun, clients = time.monotonic(), set()
        while not self.over.is_set():
            while len(clients) < (time.monotonic() - begun) * self.rate:
                clients.add(asyncio.create_task(self.one(len(clients) % LATE_ONE_IN == 0)))
            await asyncio.sleep(0.002)
        await asyncio.gather(*clients)

    async def one(self, is_late):
        begun = time.monotonic()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            how = await asyncio.wait_for(self.ask(is_late), PATIENCE)
        except TimeoutError:
            how = "timed out"
        except OSError as error:
            how = ERRORS.get(error.errno, f"failed: {error.strerror}")
        self.open -= 1
        self.counts[how] += 1
        took = time.monotonic() - begun
        if how == "exact":
            self.waits.append(took)
        elif len(self.first_faults) < 5:
            self.first_faults.append(f"{'late client' if is_late else 'client'}: {how} after {took:.3f} s")

    async def ask(self, is_late):
        """What came of one client."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            if is_late:
                await asyncio.sleep(LATE)
            writer.write(REQUEST)
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
        if head.startswith(b"HTTP/1.1 200 ") and body == SMALL:
            return "exact"
        return "no answer" if not head else "cut short" if len(body) < len(SMALL) else "wrong"


def download(address, path, number, under_way):
    """A slow download: "exact", or what was wrong with it."""
    got = bytearray()
    try:
        # So that most of the file is still on the server's side while we dawdle.
        with client.Connection(address, 128 * 1024, 30) as connection:
            connection.ask("GET", path, "Connection: close\r\n")
            answer, begun = connection.head(), time.monotonic()
            if answer.status != 200:
                return f"{path}: no 200"
            under_way.release()
            for piece in connection.pieces(answer):
                got += piece
                pause(begun, len(got) / LARGE * SECONDS)
    except (wire.Broken, wire.Wrong) as error:
        return f"{path}: {error}, {len(got)} of {LARGE} bytes"
    finally:
        under_way.release()
    return "exact" if got == content(number) else f"{path}: {len(got)} of {LARGE} bytes, not the right ones"


def restart(turn, last, start, address, faults):
    """The next life after the last, or beside it; how many downloads came through exact."""
    overlap, under_way, pool = turn % 2 == 1, threading.Semaphore(0), concurrent.futures.ThreadPoolExecutor(3)
    wanted = (("/hit1.tgz", 1), ("/hit2.tgz", 2), (f"/miss{10 + turn}.tgz", 10 + turn))
    downloads = [pool.submit(download, address, *one, under_way) for one in wanted]
    for _ in downloads:
        under_way.acquire(timeout=20)
    # New ones were answered before: those that wait while nobody accepts are seen by their waits.
    told = time.monotonic()
    last.process.terminate()
    if not overlap:
        code, ended = last.wait(), time.monotonic()
    following = start()
    ready = time.monotonic()
    if overlap:
        code, ended = last.wait(), time.monotonic()
    results = [each.result() for each in downloads]
    faults += [f"restart {turn + 1}: {result}" for result in results if result != "exact"]
    if code != 0:
        faults.append(f"restart {turn + 1}: exit code {code}: {last.said()[-500:]}")
    order = "next at once" if overlap else "next after"
    print(f"  restart {turn + 1} ({order}): ended after {ended - told:.2f} s, next ready after {ready - told:.2f} s", flush=True)
    return following, results.count("exact")


def trial(options, io, directory):
    source, cache = origin.Origin(slowly), os.path.join(directory, "cache")
    os.mkdir(cache)
    for name, body in (("small", SMALL), ("hit1", content(1)), ("hit2", content(2))):
        with open(os.path.join(cache, name + ".tgz"), "wb") as file:
            file.write(body)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(os.path.join(directory, "notices"))

    def start():
        return Life(options, io, listener, cache, source.url, notices)

    faults, exact, life = [], 0, start()
    print(f"--io {io}: {life.engine()}", flush=True)
    load = Load(listener.getsockname(), options.rate)
    time.sleep(1)
    for turn in range(options.restarts):
        life, more = restart(turn, life, start, listener.getsockname(), faults)
        exact += more
        time.sleep(1)
    load.over.set()
    load.join()
    if life.stop() != 0:
        faults.append("the last server did not exit with 0")
    listener.close()
    waits = sorted(load.waits)
    total = sum(load.counts.values())
    print(f"  connections: {total}; " + ", ".join(f"{how} {n}" for how, n in load.counts.most_common()))
    shown = ("refused", "reset", "no answer", "cut short", "wrong", "timed out")
    print("  " + ", ".join(f"{how} {load.counts[how]}" for how in shown) + f"; most open at a time {load.most_open}")
    if waits:
        print(f"  answered after: median {waits[len(waits) // 2] * 1000:.1f} ms, longest {waits[-1]:.2f} s")
    print(f"  downloads in flight: {exact} of {3 * options.restarts} exact")
    faults += load.first_faults
    if load.counts["exact"] != total:
        faults.append(f"{total - load.counts['exact']} of {total} connections were not answered exactly")
    return faults


command.most_descriptors()
command.run(trial, command.options(__doc__, restarts=4, rate=300.0, workers=2), "restart")
