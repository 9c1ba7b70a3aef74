"""Random clients, and what became of them."""

import hashlib
import multiprocessing
import random
import threading
import time

from . import client, content, faulty, wire

# What is counted, by every process in a row of its own.
FIGURES = ("requests", "bytes", "wrong", "broken", "excused", "unexplained", "left", "not_modified", "ranges", "hung")
# Faults that are told in words.
FAULTS = 30
# Kinds of files, the plain ones more often.
KINDS = faulty.KINDS + ("len", "len", "len", "chunk")


class World:
    """What clients and the trial share: the address, the end, and the moments when the server was killed."""

    def __init__(self, seed, address, names, processes, threads):
        self.seed, self.address, self.names = seed, address, names
        self.processes, self.threads = processes, threads
        self.over = multiprocessing.Event()
        self.kills = multiprocessing.Value("q")
        self.down = multiprocessing.Value("q")
        self.figures = multiprocessing.Array("q", processes * len(FIGURES), lock=False)
        self.faults = multiprocessing.SimpleQueue()
        self.told = multiprocessing.Value("q")
        self.running = []

    def start(self):
        for row in range(self.processes):
            process = multiprocessing.Process(target=run, args=(self, row), daemon=True)
            process.start()
            self.running.append(process)

    def stop(self):
        self.over.set()
        for process in self.running:
            process.join(2 * client.PATIENCE)
            if process.is_alive():
                process.kill()
                self.fault("a client process does not end")

    def total(self, name):
        return sum(self.figures[FIGURES.index(name) :: len(FIGURES)])

    def fault(self, text):
        """The first of them only: nobody reads before the end, and a pipe holds so much."""
        with self.told.get_lock():
            self.told.value += 1
            if self.told.value <= FAULTS:
                self.faults.put(text[:500])

    def first_faults(self):
        while not self.faults.empty():
            yield self.faults.get()
        if self.told.value > FAULTS:
            yield f"and {self.told.value - FAULTS} more"


def names(seed, count):
    """The paths that are asked for."""
    dice = random.Random(f"{seed} names")
    sizes = content.SIZES + (content.LARGE,)
    made = []
    for number in range(count):
        kind = dice.choice(KINDS)
        size = dice.choice(sizes) if dice.random() < 0.5 else dice.randrange(100_000)
        made.append(content.path_of(kind, number, size, "tgz" if dice.random() < 0.85 else "txt"))
    return made


def run(world, row):
    """One process: its threads, each a client after the other."""
    lock = threading.Lock()

    def count(name, amount=1):
        with lock:
            world.figures[row * len(FIGURES) + FIGURES.index(name)] += amount

    def live(number):
        dice, tags = random.Random(f"{world.seed} {row} {number}"), {}
        while not world.over.is_set():
            Visit(world, dice, count, tags).live()

    threads = [threading.Thread(target=live, args=(number,), daemon=True) for number in range(world.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Visit:
    """One client from its connection to its end. `path` is what it asks for at the time, `tags` are those it has seen."""

    def __init__(self, world, dice, count, tags):
        self.world, self.dice, self.count, self.tags = world, dice, count, tags
        self.path, self.connection = dice.choice(world.names), None

    def live(self):
        kills, was_down, begun = self.world.kills.value, self.world.down.value, time.monotonic()
        try:
            self.connection = client.Connection(self.world.address, 16 * 1024 if self.dice.random() < 0.1 else None)
            getattr(self, self.dice.choice(WAYS))()
        except client.Wrong as wrong:
            self.count("wrong")
            self.world.fault(f"wrong: {wrong}")
        except client.Broken as broken:
            killed = was_down or self.world.down.value or self.world.kills.value != kills
            self.broke(broken, killed, time.monotonic() - begun)
        finally:
            if self.connection:
                self.count("bytes", self.connection.verified)
                self.connection.close(reset=self.dice.random() < 0.2)

    def broke(self, broken, killed, after):
        self.count("broken")
        if killed:
            self.count("excused")
            time.sleep(0.05)
            return
        if content.kind_of(self.path) not in faulty.BREAKING:
            self.count("unexplained")
            self.world.fault(f"broken without a reason: {self.path}: {broken} after {after:.1f} s")
        if "imeout" in str(broken):
            self.count("hung")
            self.world.fault(f"no end in sight: {self.path}: {broken}")

    def get(self, extra="", method="GET", **due):
        """Asks, and holds the answer against what is due."""
        self.count("requests")
        self.connection.ask(method, self.path, extra)
        answer = self.connection.head()
        self.connection.check(self.path, answer, method, **due)
        return answer

    def whole(self):
        """Several files over one connection."""
        for turn in range(self.dice.randrange(1, 8)):
            if turn:
                self.path = self.dice.choice(self.world.names)
            answer = self.get()
            if "etag" in answer.fields and answer.status == 200:
                self.tags[self.path] = answer.fields["etag"]
            if not self.connection.open:
                return

    def part(self):
        size = content.size_of(self.path)
        first = self.dice.randrange(size + 2)
        last = first + self.dice.choice((0, 10, 5000, size))
        self.count("ranges")
        self.get(f"Range: bytes={first}-{last}\r\n", wanted=(first, last))

    def resumed(self):
        """A part on condition that it is still the same file."""
        if self.path not in self.tags:
            return self.whole()
        first = self.dice.randrange(content.size_of(self.path) + 1)
        self.count("ranges")
        self.get(f"Range: bytes={first}-\r\nIf-Range: {self.tags[self.path]}\r\n", wanted=(first, 1 << 40))

    def head(self):
        self.get(method="HEAD")
        # What follows on the connection is the next answer, not a body.
        if self.connection.open:
            self.whole()

    def conditional(self):
        if self.path not in self.tags:
            return self.whole()
        tag = self.tags[self.path]
        if self.get(f"If-None-Match: {tag}\r\n", validators=(tag,)).status == 304:
            self.count("not_modified")

    def early(self):
        """Leaves in the middle; what came until then is checked."""
        self.count("left")
        if self.dice.random() < 0.2:
            self.count("requests")
            self.connection.ask("GET", self.path)
        else:
            self.get(leave_at=self.dice.randrange(1, content.size_of(self.path) + 2))

    def slow(self):
        self.connection.pause = lambda: time.sleep(0.002 * self.dice.random())
        self.whole()

    def pipelined(self):
        """Asks for three at once; once one breaks, the others do not come."""
        paths = [self.path, self.dice.choice(self.world.names), self.dice.choice(self.world.names)]
        self.connection.send(b"".join(b"GET %s HTTP/1.1\r\nHost: trial\r\n\r\n" % each.encode() for each in paths))
        for self.path in paths:
            self.count("requests")
            self.connection.check(self.path, self.connection.head())
            if not self.connection.open:
                return

    def upload(self):
        self.path, body = "/up/1-1.txt", self.dice.randbytes(self.dice.choice((0, 10, 70_000, 500_000)))
        self.count("requests")
        if self.dice.random() < 0.5:
            self.connection.ask("PUT", self.path, f"Content-Length: {len(body)}\r\n", body)
        else:
            middle = len(body) // 2
            chunks = b"".join(wire.chunk(half) for half in (body[:middle], body[middle:]) if half)
            self.connection.ask("PUT", self.path, "Transfer-Encoding: chunked\r\n", chunks + wire.chunk(b""))
        answer = self.connection.head()
        got = b"".join(self.connection.pieces(answer, "PUT"))
        if answer.status != 200 or got != hashlib.sha256(body).hexdigest().encode():
            raise client.Wrong(f"an upload of {len(body)} bytes: status {answer.status}, {got[:80]!r}")

    def nonsense(self):
        """Must be answered with an error or cut off, and soon."""
        self.count("requests")
        try:
            self.connection.send(garbage(self.dice))
            self.connection.socket.shutdown(1)
            answer = self.connection.head()
        except (client.Broken, client.Wrong, OSError) as error:
            if "imeout" in str(error):
                raise
            return
        if answer.status < 400 and answer.status != 200:
            raise client.Wrong(f"status {answer.status} for nonsense")


def garbage(dice):
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


# What a client does, some of it more often.
WAYS = ("whole", "whole", "whole", "part", "part", "resumed", "head", "conditional", "early", "early", "slow", "pipelined", "upload", "nonsense")
