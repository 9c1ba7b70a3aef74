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

import collections
import concurrent.futures
import json
import multiprocessing
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "try"))

from trial import client, command, directory, origin, server, wire

MIB = 1 << 20
MOST_MEMORY = 64 * MIB
CROWD_SIZE = 64 * MIB
CROWD_RATE = 32 * MIB
SLOW_RATE = 1_000_000
# Files of `abort`.
SMALL, HIT, MIDDLE = 20_000, 8 * MIB + 12345, 2 * MIB + 777

# The content of every file: blocks of 1 MiB, each the same random bytes behind its own number.
MARK = 16
BASE = random.Random(2015).randbytes(MIB)


def mark(block):
    return b"%0*d" % (MARK, block)


class Origin(origin.Origin):
    """/SIZE/RATE/NAME gives SIZE bytes at RATE bytes a second (0: as fast as it goes).
    /stats gives, for each target, the requests and when the first began and ended to be sent."""

    def __init__(self):
        self.all, self.lock, self.file = {}, threading.Lock(), tempfile.TemporaryFile()
        self.file.write(BASE)
        self.file.flush()
        super().__init__(self.reply, apart=True)

    def reply(self, peer, request):
        if request.target == "/stats":
            with self.lock:
                body = json.dumps(self.all).encode()
            return peer.send(origin.head(Content_Length=len(body)) + body)
        _, size, rate, _ = request.target.split("/", 3)
        with self.lock:
            entry = self.all.setdefault(request.target, {"requests": 0})
            entry["requests"] += 1
            entry.setdefault("begun", time.monotonic())
        peer.send(origin.head(Content_Type="application/octet-stream", Content_Length=size,
                              Last_Modified="Sun, 17 May 2015 00:31:39 GMT", ETag=f'"{size}"'))
        if request.method != "HEAD":
            self.body(peer.socket, int(size), int(rate))
            with self.lock:
                entry.setdefault("ended", time.monotonic())

    def body(self, connection, size, rate):
        begun, sent = time.monotonic(), 0
        piece = 64 * 1024 if rate else MIB
        while sent < size:
            block, inside = divmod(sent, MIB)
            if inside == 0:
                connection.sendall(mark(block)[: size - sent], socket.MSG_MORE)
                sent += min(MARK, size - sent)
                continue
            count = min(piece - sent % piece, MIB - inside, size - sent)
            sent += os.sendfile(connection.fileno(), self.file.fileno(), inside, count)
            if rate:
                time.sleep(max(0, sent / rate - (time.monotonic() - begun)))

    def stats(self, target):
        body = client.get(("127.0.0.1", self.port), "/stats")[1]
        return json.loads(body).get(target, {"requests": 0})


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
            self.exact &= self.block == self.want if length == MIB else self.block[:length] == self.want[:length]

    def feed(self, data):
        while data and self.done < self.size:
            part = data[: len(self.room())]
            self.room()[: len(part)] = part
            self.took(len(part))
            data = data[len(part) :]
        self.exact &= not data

    def whole(self):
        return self.exact and self.done == self.size


def download(address, target, size, rate=0, stop=None, out=None, patience=60):
    """One client. Returns (checker, first byte s, all s). With stop set early it leaves; with a
    rate it reads no faster than that."""
    begun = time.monotonic()
    checker = Checker(size)
    with client.Connection(address, 65536 if rate else None, patience) as connection:
        connection.ask("GET", target, "Connection: close\r\n")
        answer = connection.head()
        if answer.status != 200 or answer.length != size:
            raise OSError(f"status {answer.status}, length {answer.length}, wanted 200 and {size}")
        first = time.monotonic() - begun if connection.input else None
        checker.feed(connection.input)
        while checker.done < size and not (stop and stop.is_set()):
            room = checker.room()
            if rate:
                room = room[:65536]
            count = connection.socket.recv_into(room)
            if not count:
                break
            first = first or time.monotonic() - begun
            if out is not None:
                out.write(room[:count])
            checker.took(count)
            if rate:
                time.sleep(min(0.2, max(0, checker.done / rate - (time.monotonic() - begun))))
    return checker, first, time.monotonic() - begun


def is_exact(address, target, size):
    """When a client was done, and whether its copy is exact."""
    try:
        exact = download(address, target, size, patience=120)[0].whole()
    except (OSError, wire.Broken, wire.Wrong):
        exact = False
    return time.monotonic(), exact


def several(address, target, size, count):
    """So many clients in this process."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: is_exact(address, target, size), range(count)))


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

    def memory(self, program, check):
        peak = program.status("VmHWM")
        self.promise(peak < MOST_MEMORY, f"{check}: resident memory below 64 MiB")
        return f"{peak / MIB:.1f} MiB"


def check_crowd(options, report, source, cache, program):
    print(f"crowd: {options.clients} clients, one miss of {CROWD_SIZE // MIB} MiB, origin at {CROWD_RATE // MIB} MiB/s", flush=True)
    target = f"/{CROWD_SIZE}/{CROWD_RATE}/crowd.tgz"
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool, program:
        half = options.clients // 2
        jobs = [pool.submit(several, program.address, target, CROWD_SIZE, count) for count in (half, options.clients - half)]
        while not (begun := source.stats(target).get("begun")) and program.is_alive():
            time.sleep(0.02)
        time.sleep(max(0, (begun or 0) + CROWD_SIZE / CROWD_RATE / 2 - time.monotonic()))
        first, late_exact = None, False
        try:
            late, first, _ = download(program.address, target, CROWD_SIZE)
            late_exact = late.whole()
        except (OSError, wire.Broken, wire.Wrong) as error:
            report.line("late client", error)
        results = [result for job in jobs for result in job.result()]
        entry = source.stats(target)
        exact = sum(good for _, good in results)
        report.line("origin requests", entry["requests"])
        report.line("exact copies", f"{exact} of {options.clients}, late client {'exact' if late_exact else 'NOT exact'}")
        report.promise(entry["requests"] == 1, "crowd: exactly one origin request")
        report.promise(exact == options.clients and late_exact, "crowd: exact copies")
        if "ended" in entry:
            own = entry["ended"] - entry["begun"]
            last = max(when for when, _ in results) - entry["begun"]
            report.line("origin's own time", f"{own:.3f} s")
            report.line("last client done", f"{last:.3f} s, {100 * (last / own - 1):+.1f} %")
            report.timing(last <= own * 1.05, "crowd: the last client within 5 % of the origin's own time")
        if first is not None:
            report.line("first byte of the client that joins half-way", f"{first * 1000:.1f} ms")
            report.timing(first < 0.020, "crowd: a late client's first byte in under 20 ms")
        report.line("peak resident memory of the server", report.memory(program, "crowd"))


def pair(address, target, size, report, label):
    """A client at full speed with one at 1 MB/s beside it."""
    stop, slow = threading.Event(), {}

    def run_slow():
        try:
            slow["checker"] = download(address, target, size, rate=SLOW_RATE, stop=stop)[0]
        except (OSError, wire.Broken, wire.Wrong) as error:
            slow["error"] = error

    # A slow client first, so that the fast one is not the one that leads the fill.
    thread = threading.Thread(target=run_slow)
    thread.start()
    time.sleep(0.2)
    try:
        checker, first, seconds = download(address, target, size, patience=120)
    except (OSError, wire.Broken, wire.Wrong) as error:
        return report.promise(False, f"large: {label}: {error}")
    finally:
        stop.set()
        thread.join(30)
    report.line(f"{label}: full speed", f"{seconds:.2f} s, {size / seconds / 1e6:.0f} MB/s, first byte {first * 1000:.1f} ms")
    got = slow.get("checker")
    report.line(f"{label}: beside it, 1 MB/s", f"{got.done / 1e6:.1f} MB, then cut" if got else slow.get("error", "no answer"))
    report.promise(checker.whole(), f"large: {label}: exact copy")
    # What the slow one had by then is exact too, up to its last whole block.
    report.promise(bool(got) and got.exact, f"large: {label}: the slow client's bytes are exact")


def check_large(options, report, source, cache, program):
    size = options.size
    print(f"large: {size / MIB:.0f} MiB as a miss, then as a hit, with a client at 1 MB/s beside", flush=True)
    if shutil.disk_usage(cache).free < size * 1.2 + 256 * MIB:
        return report.promise(False, f"large: not enough room in {cache}")
    straight = ("127.0.0.1", source.port)
    checker, _, plain = download(straight, f"/{size}/0/plain.bin", size)
    report.line("no proxy, thrown away", f"{plain:.2f} s, {size / plain / 1e6:.0f} MB/s")
    if not checker.whole():
        sys.exit("the origin of this script sends wrong bytes")
    written = os.path.join(cache, "plain.tmp")
    with open(written, "wb", buffering=0) as out:
        _, _, stored = download(straight, f"/{size}/0/plain.bin", size, out=out)
    os.unlink(written)
    report.line("no proxy, written to a file", f"{stored:.2f} s, {size / stored / 1e6:.0f} MB/s")

    target = f"/{size}/0/large.tgz"
    with program:
        pair(program.address, target, size, report, "miss")
        entry = source.stats(target)
        if "ended" in entry:
            took = entry["ended"] - entry["begun"]
            report.line(
                "miss: the fill as the origin saw it",
                f"{took:.2f} s, {size / took / 1e6:.0f} MB/s, {plain / took:.2f} of thrown away, {stored / took:.2f} of written",
            )
        report.line("miss: peak resident memory", f"{program.status('VmHWM') / MIB:.1f} MiB")
        whole = directory.until_stored(cache + target, 60) and os.path.getsize(cache + target) == size
        report.promise(whole, "large: the file is in the cache, whole")
        pair(program.address, target, size, report, "hit")
        report.line("peak resident memory", report.memory(program, "large"))
        requests = source.stats(target)["requests"]
        report.line("origin requests", requests)
        report.promise(requests == 1, "large: exactly one origin request")


def aborting_client(address, target, size, chance):
    """Goes away at a random point: within its request, before the head, or within the body."""
    point = chance.random()
    try:
        connection = client.Connection(address, patience=20)
    except wire.Broken:
        return "refused"
    with connection:
        try:
            text = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            if point < 0.1:
                connection.send(text[: chance.randrange(len(text))])
            elif point < 0.3:
                connection.send(text)
                time.sleep(chance.random() * 0.003)
            else:
                connection.send(text)
                left = chance.randrange(1, size)
                while left > 0 and (data := connection.socket.recv(min(left, 65536))):
                    left -= len(data)
            # A reset instead of an orderly end.
            connection.close(reset=chance.random() < 0.5)
            return "aborted"
        except (OSError, wire.Broken):
            return "broken"


def abort_many(address, total, seed, label):
    """What became of how many."""

    def one(number):
        chance = random.Random(f"{seed} {label} {number}")
        target, size = chance.choice((
            (f"/{HIT}/0/hit.tgz", HIT), (f"/{SMALL}/0/hit.tgz", SMALL),
            (f"/{MIDDLE}/{64 * MIB}/miss-{label}-{number}.tgz", MIDDLE), (f"/{MIDDLE}/0/pass-{number}.bin", MIDDLE),
        ))
        return aborting_client(address, target, size, chance)

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        return collections.Counter(pool.map(one, range(total)))


def settle(program, wanted, limit):
    """Waits until the server holds no more than `wanted` descriptors, or for `limit` seconds."""
    deadline = time.monotonic() + limit
    while program.is_alive() and program.descriptors() > wanted and time.monotonic() < deadline:
        time.sleep(0.25)
    return program.descriptors() if program.is_alive() else -1


def control(address, stop, wrong):
    """A client that must not notice; how often it had all its files."""
    rounds = 0
    while not stop.is_set() and len(wrong) < 5:
        files = (f"/{HIT}/0/hit.tgz", f"/{SMALL}/0/hit.tgz", f"/{MIDDLE}/0/control-{rounds}.tgz", f"/{MIDDLE}/0/control.bin")
        for target in files:
            try:
                if not download(address, target, int(target.split("/")[1]), patience=30)[0].whole():
                    wrong.append(f"{target}: other bytes")
            except (OSError, wire.Broken, wire.Wrong) as error:
                wrong.append(f"{target}: {error}")
        rounds += 1
    return rounds


def check_abort(options, report, source, cache, program):
    print(f"abort: {options.aborts} clients that go away in the middle (seed {options.seed})", flush=True)
    stop, wrong = threading.Event(), []
    with program, concurrent.futures.ThreadPoolExecutor(1) as pool:
        idle = program.descriptors()
        for size in (HIT, SMALL):
            if not download(program.address, f"/{size}/0/hit.tgz", size)[0].whole():
                report.promise(False, f"abort: /{size}/0/hit.tgz as a miss")
        # Buffers, pools and caches reach their working size first.
        abort_many(program.address, 100, options.seed, "warm")
        before, resident = settle(program, idle + 4, 15), program.memory()
        rounds = pool.submit(control, program.address, stop, wrong)
        begun = time.monotonic()
        counts = abort_many(program.address, options.aborts, options.seed, "run")
        took = time.monotonic() - begun
        stop.set()
        rounds = rounds.result()
        if not program.is_alive():
            return report.promise(False, "abort: the server is gone")
        after = settle(program, min(before, idle + 4), 45)
        report.line("clients", f"{', '.join(f'{count} {name}' for name, count in sorted(counts.items()))}, in {took:.1f} s")
        report.line("control client", f"{rounds} rounds of 4 files, {len(wrong)} wrong")
        report.line("descriptors: at start, before, after", f"{idle}, {before}, {after}")
        kept = f"{resident / MIB:.1f} MiB {program.memory() / MIB:.1f} MiB"
        report.line("resident memory: before, after, peak", f"{kept} {report.memory(program, 'abort')}")
        left = sum(in_progress for _, in_progress in directory.files(cache))
        report.line("files left in progress", left)
        report.promise(not counts["refused"], "abort: no connection refused")
        report.promise(not wrong and rounds > 0, "abort: the control client: " + "; ".join(wrong[:2]))
        report.promise(after <= max(before, idle + 4) + 2, "abort: the descriptors come back")
        report.promise(not left, "abort: no fill is left unfinished")


def size_of(text):
    factors = {"K": 1 << 10, "M": MIB, "G": 1 << 30}
    return int(text[:-1]) * factors[text[-1].upper()] if text[-1].upper() in factors else int(text)


CHECKS = {"crowd": check_crowd, "large": check_large, "abort": check_abort}


def main():
    parser = command.parser(__doc__)
    parser.add_argument("parts", nargs="*", metavar="part")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--io", default="auto", choices=("auto", "uring", "poll"))
    parser.add_argument("--binary")
    parser.add_argument("--size", type=size_of, default=4 << 30)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--aborts", type=int, default=1000)
    parser.add_argument("--dir")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--original", action="store_true")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in CHECKS]:
        parser.error(f"unknown part {unknown[0]}: crowd, large or abort")
    words, report = command.program(options.binary), Report(options.strict)
    engine, flags = (None, []) if options.original else (options.io, ["--workers", options.workers])
    with Origin() as source:
        for part in options.parts or CHECKS:
            with tempfile.TemporaryDirectory(prefix="fs-cache-fill.", dir=options.dir) as cache:
                CHECKS[part](options, report, source, cache, server.Server(words, engine, cache, source.url, flags))
    print("ok" if not report.broken else f"{len(report.broken)} promises broken")
    return 1 if report.broken else 0


sys.exit(main())
