#!/usr/bin/env python3
"""Large checks of fills, on loopback only. Prints figures; exits non-zero if a promise is broken.

    scripts/measure/fill.py [options] [crowd] [large] [abort]

crowd  50 clients ask for one 64 MiB file that is not cached; the origin sends it at 32 MiB/s; one
       more client joins half-way. Promised: one origin request, exact copies.
large  a 4 GiB file (--size) as a miss, then as a hit, each with a client at full speed and one at
       1 MB/s beside it, which is cut when the first is done. Promised: one origin request, exact
       copies, resident memory of the server below 64 MiB. The rate stands beside those of a plain
       download from the same origin in the same run, thrown away and written to a file.
abort  1,000 clients that go away at random points of hits, misses and passes, 32 at a time, while
       a control client checks exact bytes. Promised: no wrong byte for the control client, the
       descriptors come back, resident memory below 64 MiB.

Times depend on the machine, so they break a promise only with --strict: the last client of
`crowd` within 5 % of the origin's own time, the late client's first byte in under 20 ms.

Options: --workers N (2), --io auto|uring|poll, --binary COMMAND (or FS_CACHE_BINARY; default: the
release build), --size BYTES (suffixes M, G), --clients N (50), --aborts N (1000), --dir DIR (a
directory on the file system to measure; default: the temporary one), --seed N, --strict,
--original (give the program none of the options that the Node.js original does not have).
"""

import argparse
import json
import os
import random
import selectors
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MIB = 1 << 20
RSS_LIMIT_KIB = 64 * 1024
CROWD_SIZE = 64 * MIB
CROWD_RATE = 32 * MIB
SLOW_RATE = 1_000_000

# The content of every file: blocks of 1 MiB, each the same random bytes behind its own number.
MARK = 16
BASE = random.Random(2015).randbytes(MIB)


def mark(block):
    return b"%0*d" % (MARK, block)


# ---------------------------------------------------------------- the origin, a process of its own


class OriginServer:
    """/SIZE/RATE/NAME gives SIZE bytes at RATE bytes a second (0: as fast as it goes).
    /stats gives, for each target, the requests and when the first began and ended to be sent."""

    def __init__(self):
        self.stats = {}
        self.lock = threading.Lock()
        self.file = tempfile.TemporaryFile()
        self.file.write(BASE)
        self.file.flush()

    def run(self):
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        print(listener.getsockname()[1], flush=True)
        # Ends with the process that started it.
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = b""
        try:
            while True:
                while b"\r\n\r\n" not in buffer:
                    more = connection.recv(65536)
                    if not more:
                        return
                    buffer += more
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                method, target = head.split(b" ", 2)[:2]
                self.answer(connection, method, target.decode())
        except OSError:
            pass
        finally:
            connection.close()

    def answer(self, connection, method, target):
        if target == "/stats":
            with self.lock:
                body = json.dumps(self.stats).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        if target == "/warm":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return
        _, size, rate, _ = target.split("/", 3)
        size, rate = int(size), int(rate)
        with self.lock:
            entry = self.stats.setdefault(target, {"requests": 0})
            entry["requests"] += 1
            entry.setdefault("begun", time.monotonic())
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n"
            'Last-Modified: Sun, 17 May 2015 00:31:39 GMT\r\nETag: "%d"\r\n\r\n' % (size, size)
        )
        connection.sendall(head.encode())
        if method == b"HEAD":
            return
        self.send_body(connection, size, rate)
        with self.lock:
            entry.setdefault("ended", time.monotonic())

    def send_body(self, connection, size, rate):
        begun = time.monotonic()
        piece = 64 * 1024 if rate else MIB
        sent = 0
        while sent < size:
            block, inside = divmod(sent, MIB)
            if inside == 0:
                connection.sendall(mark(block)[: size - sent], socket.MSG_MORE)
                sent += min(MARK, size - sent)
                continue
            count = min(piece - sent % piece, MIB - inside, size - sent)
            sent += os.sendfile(connection.fileno(), self.file.fileno(), inside, count)
            if rate:
                ahead = sent / rate - (time.monotonic() - begun)
                if ahead > 0:
                    time.sleep(ahead)


class Origin:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--origin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.port = int(self.process.stdout.readline())

    def stats(self):
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"GET /stats HTTP/1.1\r\n\r\n")
            data = b""
            while True:
                data += connection.recv(MIB)
                head, found, body = data.partition(b"\r\n\r\n")
                if found and len(body) == int(head.rpartition(b": ")[2]):
                    return json.loads(body)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


# ---------------------------------------------------------------- the server under test


class Server:
    def __init__(self, options, cache, origin_port):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = shlex.split(options.binary)
        command += ["-c", cache, "-H", "127.0.0.1", "-p", str(self.port), "-U", f"http://127.0.0.1:{origin_port}"]
        if not options.original:
            command += ["--workers", str(options.workers), "--io", options.io]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FS_CACHE_")}
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.errors, env=environment)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if self.process.poll() is not None:
                    self.errors.seek(0)
                    sys.exit("the server did not start: " + self.errors.read().decode(errors="replace").strip())
                time.sleep(0.05)
        else:
            sys.exit("the server does not listen")

    def status(self, field):
        with open(f"/proc/{self.process.pid}/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        return 0

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def peak_kib(self):
        return self.status("VmHWM")

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


# ---------------------------------------------------------------- clients


class Checker:
    """Takes a body as it comes and says whether it is exact. Reads straight into its block."""

    def __init__(self, size):
        self.size = size
        self.done = 0
        self.exact = True
        self.block = bytearray(min(size, MIB) or 1)
        self.view = memoryview(self.block)
        self.want = bytearray(BASE)

    def room(self):
        start = self.done % MIB
        return self.view[start : start + min(MIB - start, self.size - self.done)]

    def took(self, count):
        self.done += count
        if count and (self.done % MIB == 0 or self.done == self.size):
            number = (self.done - 1) // MIB
            length = self.done - number * MIB
            self.want[:MARK] = mark(number)
            if length == MIB:
                self.exact &= self.block == self.want
            else:
                self.exact &= self.block[:length] == self.want[:length]

    def feed(self, data):
        while data and self.done < self.size:
            room = self.room()
            part = data[: len(room)]
            room[: len(part)] = part
            self.took(len(part))
            data = data[len(part) :]
        self.exact &= not data

    def whole(self):
        return self.exact and self.done == self.size


def request(target, method="GET"):
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: measure\r\nConnection: close\r\n\r\n".encode()


def connect(port, timeout=60):
    connection = socket.create_connection(("127.0.0.1", port), timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_head(connection):
    """The status, the declared length (or None) and what of the body came with the head."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise OSError("closed within the head")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    length = None
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    return int(head.split()[1]), length, rest


def download(port, target, size, rate=0, stop=None, out=None, timeout=60):
    """One client. Returns (checker, first byte s, all s). With stop set early it leaves; with a
    rate it reads no faster than that."""
    begun = time.monotonic()
    checker = Checker(size)
    with connect(port, timeout) as connection:
        if rate:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(request(target))
        status, length, rest = read_head(connection)
        if status != 200 or length != size:
            raise OSError(f"status {status}, length {length}, wanted 200 and {size}")
        first = time.monotonic() - begun if rest else None
        checker.feed(rest)
        while checker.done < size:
            if stop is not None and stop.is_set():
                break
            room = checker.room()
            if rate:
                room = room[:65536]
            count = connection.recv_into(room)
            if not count:
                break
            if first is None:
                first = time.monotonic() - begun
            if out is not None:
                out.write(room[:count])
            checker.took(count)
            if rate:
                ahead = checker.done / rate - (time.monotonic() - begun)
                if ahead > 0:
                    time.sleep(min(ahead, 0.2))
    return checker, first, time.monotonic() - begun


def crowd_process(port, target, size, count, pipe):
    """`count` clients in one process: when each was done, and whether its copy is exact."""
    selector = selectors.DefaultSelector()
    for _ in range(count):
        connection = connect(port)
        connection.sendall(request(target))
        selector.register(connection, selectors.EVENT_READ, {"head": b"", "checker": None, "first": None})
    results = []
    deadline = time.monotonic() + 120
    while selector.get_map() and time.monotonic() < deadline:
        for key, _ in selector.select(1):
            state, connection = key.data, key.fileobj
            checker = state["checker"]
            count = 0
            try:
                if checker is None:
                    data = connection.recv(65536)
                    count = len(data)
                    state["head"] += data
                    head, found, rest = state["head"].partition(b"\r\n\r\n")
                    if found:
                        state["checker"] = checker = Checker(size)
                        checker.exact = b" 200 " in head.split(b"\r\n")[0] and b"content-length: %d" % size in head.lower()
                        checker.feed(rest)
                else:
                    count = connection.recv_into(checker.room())
                    checker.took(count)
            except OSError:
                count = 0
            if count == 0 or (checker and checker.done == size):
                results.append([time.monotonic(), bool(checker and checker.whole())])
                selector.unregister(connection)
                connection.close()
    results += [[time.monotonic(), False]] * len(selector.get_map())
    os.write(pipe, json.dumps(results).encode())
    os.close(pipe)


# ---------------------------------------------------------------- the checks


class Report:
    def __init__(self, strict):
        self.strict = strict
        self.broken = []

    def line(self, name, value):
        print(f"  {name:46} {value}", flush=True)

    def promise(self, holds, text):
        if not holds:
            self.broken.append(text)
            print(f"  BROKEN: {text}", flush=True)

    def timing(self, holds, text):
        if self.strict:
            self.promise(holds, text)
        elif not holds:
            print(f"  missed: {text}", flush=True)


def check_crowd(options, report, origin, cache):
    print(f"crowd: {options.clients} clients, one miss of {CROWD_SIZE // MIB} MiB, origin at {CROWD_RATE // MIB} MiB/s", flush=True)
    server = Server(options, cache, origin.port)
    target = f"/{CROWD_SIZE}/{CROWD_RATE}/crowd.tgz"
    try:
        children = []
        for index in range(2):
            count = options.clients // 2 + (options.clients % 2 if index == 0 else 0)
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    crowd_process(server.port, target, CROWD_SIZE, count, writer)
                finally:
                    os._exit(0)
            os.close(writer)
            children.append((child, reader))
        begun = None
        while begun is None:
            time.sleep(0.02)
            begun = origin.stats().get(target, {}).get("begun")
            if not server.alive():
                break
        time.sleep(max(0, (begun or 0) + CROWD_SIZE / CROWD_RATE / 2 - time.monotonic()))
        try:
            late, first, _ = download(server.port, target, CROWD_SIZE)
            late_exact = late.whole()
        except OSError as error:
            first, late_exact = None, False
            report.line("late client", error)
        results = []
        for child, reader in children:
            data = b""
            while piece := os.read(reader, 65536):
                data += piece
            os.close(reader)
            os.waitpid(child, 0)
            results += json.loads(data or b"[]")
        entry = origin.stats().get(target, {"requests": 0})
        exact = sum(good for _, good in results)
        report.line("origin requests", entry["requests"])
        report.line("exact copies", f"{exact} of {options.clients}, late client {'exact' if late_exact else 'NOT exact'}")
        report.promise(entry["requests"] == 1, "crowd: exactly one origin request")
        report.promise(exact == options.clients and late_exact, "crowd: exact copies")
        if results and "ended" in entry:
            own = entry["ended"] - entry["begun"]
            last = max(when for when, _ in results) - entry["begun"]
            report.line("origin's own time", f"{own:.3f} s")
            report.line("last client done", f"{last:.3f} s, {100 * (last / own - 1):+.1f} %")
            report.timing(last <= own * 1.05, "crowd: the last client within 5 % of the origin's own time")
        if first is not None:
            report.line("first byte of the client that joins half-way", f"{first * 1000:.1f} ms")
            report.timing(first < 0.020, "crowd: a late client's first byte in under 20 ms")
        report.line("peak resident memory of the server", f"{server.peak_kib() / 1024:.1f} MiB")
        report.promise(server.peak_kib() < RSS_LIMIT_KIB, "crowd: resident memory below 64 MiB")
    finally:
        server.stop()


def pair(port, target, size, report, label):
    """A client at full speed with one at 1 MB/s beside it. Returns the first one's seconds."""
    stop = threading.Event()
    slow = {}

    def run_slow():
        try:
            slow["checker"] = download(port, target, size, rate=SLOW_RATE, stop=stop)[0]
        except OSError as error:
            slow["error"] = error

    # A slow client first, so that the fast one is not the one that leads the fill.
    thread = threading.Thread(target=run_slow)
    thread.start()
    time.sleep(0.2)
    try:
        checker, first, seconds = download(port, target, size, timeout=120)
    except OSError as error:
        report.promise(False, f"large: {label}: {error}")
        return None
    finally:
        stop.set()
        thread.join(30)
    report.line(f"{label}: full speed", f"{seconds:.2f} s, {size / seconds / 1e6:.0f} MB/s, first byte {first * 1000:.1f} ms")
    got = slow.get("checker")
    report.line(f"{label}: beside it, 1 MB/s", f"{got.done / 1e6:.1f} MB, then cut" if got else slow.get("error", "no answer"))
    report.promise(checker.whole(), f"large: {label}: exact copy")
    # What the slow one had by then is exact too, up to its last whole block.
    report.promise(bool(got) and got.exact, f"large: {label}: the slow client's bytes are exact")
    return seconds


def check_large(options, report, origin, cache):
    size = options.size
    print(f"large: {size / MIB:.0f} MiB as a miss, then as a hit, with a client at 1 MB/s beside", flush=True)
    if shutil.disk_usage(cache).free < size * 1.2 + 256 * MIB:
        report.promise(False, f"large: not enough room in {cache}")
        return
    checker, _, plain = download(origin.port, f"/{size}/0/plain.bin", size)
    report.line("no proxy, thrown away", f"{plain:.2f} s, {size / plain / 1e6:.0f} MB/s")
    if not checker.whole():
        sys.exit("the origin of this script sends wrong bytes")
    written = os.path.join(cache, "plain.tmp")
    with open(written, "wb", buffering=0) as out:
        _, _, stored = download(origin.port, f"/{size}/0/plain.bin", size, out=out)
    os.unlink(written)
    report.line("no proxy, written to a file", f"{stored:.2f} s, {size / stored / 1e6:.0f} MB/s")

    server = Server(options, cache, origin.port)
    target = f"/{size}/0/large.tgz"
    try:
        pair(server.port, target, size, report, "miss")
        entry = origin.stats().get(target, {"requests": 0})
        if "ended" in entry:
            took = entry["ended"] - entry["begun"]
            report.line(
                "miss: the fill as the origin saw it",
                f"{took:.2f} s, {size / took / 1e6:.0f} MB/s, {plain / took:.2f} of thrown away, {stored / took:.2f} of written",
            )
        report.line("miss: peak resident memory", f"{server.peak_kib() / 1024:.1f} MiB")
        final = cache + target
        for _ in range(600):
            if os.path.exists(final):
                break
            time.sleep(0.1)
        report.promise(os.path.exists(final) and os.path.getsize(final) == size, "large: the file is in the cache, whole")
        pair(server.port, target, size, report, "hit")
        report.line("peak resident memory", f"{server.peak_kib() / 1024:.1f} MiB")
        requests = origin.stats().get(target, {"requests": 0})["requests"]
        report.line("origin requests", requests)
        report.promise(requests == 1, "large: exactly one origin request")
        report.promise(server.peak_kib() < RSS_LIMIT_KIB, "large: resident memory below 64 MiB")
    finally:
        server.stop()


def aborting_client(port, target, size, chance, counts):
    """Goes away at a random point: within its request, before the head, or within the body."""
    point = chance.random()
    try:
        connection = connect(port, 20)
    except OSError:
        counts["refused"] = counts.get("refused", 0) + 1
        return
    try:
        text = request(target)
        if point < 0.1:
            connection.sendall(text[: chance.randrange(len(text))])
        elif point < 0.3:
            connection.sendall(text)
            time.sleep(chance.random() * 0.003)
        else:
            connection.sendall(text)
            left = chance.randrange(1, size)
            while left > 0:
                data = connection.recv(min(left, 65536))
                if not data:
                    break
                left -= len(data)
        if chance.random() < 0.5:
            # A reset instead of an orderly end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        counts["aborted"] = counts.get("aborted", 0) + 1
    except OSError:
        counts["broken"] = counts.get("broken", 0) + 1
    finally:
        connection.close()


def abort_many(port, total, chance, counts, label):
    small, hit, middle = 20_000, 8 * MIB + 12345, 2 * MIB + 777
    numbers = iter(range(total))
    lock = threading.Lock()

    def run(seed):
        own = random.Random(seed)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            kind = own.randrange(4)
            if kind == 0:
                aborting_client(port, f"/{hit}/0/hit.tgz", hit, own, counts)
            elif kind == 1:
                aborting_client(port, f"/{small}/0/hit.tgz", small, own, counts)
            elif kind == 2:
                aborting_client(port, f"/{middle}/{64 * MIB}/miss-{label}-{number}.tgz", middle, own, counts)
            else:
                aborting_client(port, f"/{middle}/0/pass-{number}.bin", middle, own, counts)

    threads = [threading.Thread(target=run, args=(chance.random(),)) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def settle(server, wanted, limit):
    """Waits until the server holds no more than `wanted` descriptors, or for `limit` seconds."""
    deadline = time.monotonic() + limit
    while server.alive() and server.descriptors() > wanted and time.monotonic() < deadline:
        time.sleep(0.25)
    return server.descriptors() if server.alive() else -1


def check_abort(options, report, origin, cache):
    print(f"abort: {options.aborts} clients that go away in the middle (seed {options.seed})", flush=True)
    server = Server(options, cache, origin.port)
    idle = server.descriptors()
    chance = random.Random(options.seed)
    control = {"rounds": 0, "wrong": []}
    stop = threading.Event()

    def run_control():
        hit, small, part = 8 * MIB + 12345, 20_000, 2 * MIB + 777
        while not stop.is_set() and len(control["wrong"]) < 5:
            number = control["rounds"]
            for target, size in (
                (f"/{hit}/0/hit.tgz", hit),
                (f"/{small}/0/hit.tgz", small),
                (f"/{part}/0/control-{number}.tgz", part),
                (f"/{part}/0/control.bin", part),
            ):
                try:
                    if not download(server.port, target, size, timeout=30)[0].whole():
                        control["wrong"].append(f"{target}: other bytes")
                except OSError as error:
                    control["wrong"].append(f"{target}: {error}")
            control["rounds"] += 1

    try:
        for target, size in ((f"/{8 * MIB + 12345}/0/hit.tgz", 8 * MIB + 12345), ("/20000/0/hit.tgz", 20_000)):
            if not download(server.port, target, size)[0].whole():
                report.promise(False, f"abort: {target} as a miss")
        # Buffers, pools and caches reach their working size first.
        abort_many(server.port, 100, chance, {}, "warm")
        before = settle(server, idle + 4, 15)
        before_kib = server.status("VmRSS")
        thread = threading.Thread(target=run_control)
        thread.start()
        counts = {}
        begun = time.monotonic()
        abort_many(server.port, options.aborts, chance, counts, "run")
        took = time.monotonic() - begun
        stop.set()
        thread.join(120)
        if not server.alive():
            report.promise(False, "abort: the server is gone")
            return
        after = settle(server, min(before, idle + 4), 45)
        report.line("clients", f"{', '.join(f'{count} {name}' for name, count in sorted(counts.items()))}, in {took:.1f} s")
        report.line("control client", f"{control['rounds']} rounds of 4 files, {len(control['wrong'])} wrong")
        report.line("descriptors: at start, before, after", f"{idle}, {before}, {after}")
        report.line("resident memory: before, after, peak", " ".join(
            f"{kib / 1024:.1f} MiB" for kib in (before_kib, server.status("VmRSS"), server.peak_kib())))
        left = [name for _, _, names in os.walk(cache) for name in names if name.endswith(".in-progress")]
        report.line("files left in progress", len(left))
        report.promise(counts.get("refused", 0) == 0, "abort: no connection refused")
        report.promise(not control["wrong"] and control["rounds"] > 0, "abort: the control client: " + "; ".join(control["wrong"][:2]))
        report.promise(after <= max(before, idle + 4) + 2, "abort: the descriptors come back")
        report.promise(server.peak_kib() < RSS_LIMIT_KIB, "abort: resident memory below 64 MiB")
        report.promise(not left, "abort: no fill is left unfinished")
    finally:
        stop.set()
        server.stop()


def size_of(text):
    factors = {"K": 1 << 10, "M": MIB, "G": 1 << 30}
    return int(text[:-1]) * factors[text[-1].upper()] if text[-1].upper() in factors else int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=True)
    parser.add_argument("parts", nargs="*", metavar="part")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--io", default="auto", choices=("auto", "uring", "poll"))
    parser.add_argument("--binary", default=os.environ.get("FS_CACHE_BINARY"))
    parser.add_argument("--size", type=size_of, default=4 << 30)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--aborts", type=int, default=1000)
    parser.add_argument("--dir")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--original", action="store_true")
    parser.add_argument("--origin", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.origin:
        OriginServer().run()
    checks = {"crowd": check_crowd, "large": check_large, "abort": check_abort}
    unknown = [part for part in options.parts if part not in checks]
    if unknown:
        parser.error(f"unknown part {unknown[0]}: crowd, large or abort")
    if not options.binary:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=HERE, check=True)
        metadata = subprocess.run(
            ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"], cwd=HERE, check=True, stdout=subprocess.PIPE
        )
        options.binary = shlex.quote(os.path.join(json.loads(metadata.stdout)["target_directory"], "release", "fs-caching-server"))
    report = Report(options.strict)
    origin = Origin()
    try:
        for part in options.parts or list(checks):
            cache = tempfile.mkdtemp(prefix="fs-cache-fill.", dir=options.dir)
            try:
                checks[part](options, report, origin, cache)
            finally:
                shutil.rmtree(cache, ignore_errors=True)
    finally:
        origin.stop()
    print("ok" if not report.broken else f"{len(report.broken)} promises broken")
    return 1 if report.broken else 0


sys.exit(main())
