"""Random clients, and what became of them."""

import hashlib
import multiprocessing
import random
import threading
import time

from . import client, content, faulty

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
        dice = random.Random(f"{world.seed} {row} {number}")
        tags = {}
        while not world.over.is_set():
            one(world, dice, count, tags)

    threads = [threading.Thread(target=live, args=(number,), daemon=True) for number in range(world.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def one(world, dice, count, tags):
    """One client from its connection to its end."""
    kills, path = world.kills.value, dice.choice(world.names)
    was_down = world.down.value
    connection = None
    begun = time.monotonic()
    try:
        connection = client.Connection(world.address, 16 * 1024 if dice.random() < 0.1 else None)
        dice.choice(WAYS)(connection, world, dice, count, tags, path)
    except client.Wrong as wrong:
        count("wrong")
        world.fault(f"wrong: {wrong}")
    except client.Broken as broken:
        count("broken")
        # A pipeline names its breaking path itself.
        path = getattr(broken, "path", path)
        killed = was_down or world.down.value or world.kills.value != kills
        if killed:
            count("excused")
        elif content.kind_of(path) not in faulty.BREAKING:
            count("unexplained")
            world.fault(f"broken without a reason: {path}: {broken} after {time.monotonic() - begun:.1f} s")
        if "imeout" in str(broken) and not killed:
            count("hung")
            world.fault(f"no end in sight: {path}: {broken}")
        if killed:
            time.sleep(0.05)
    finally:
        if connection:
            count("bytes", connection.verified)
            connection.close(reset=dice.random() < 0.2)


def whole(connection, world, dice, count, tags, path):
    """Several files over one connection."""
    for turn in range(dice.randrange(1, 8)):
        if turn:
            path = dice.choice(world.names)
        try:
            count("requests")
            connection.ask("GET", path)
            answer = connection.head()
            connection.check(path, answer)
        except client.Broken as broken:
            broken.path = path
            raise
        if "etag" in answer.fields and answer.status == 200:
            tags[path] = answer.fields["etag"]
        if not connection.open:
            return


def part(connection, world, dice, count, tags, path):
    size = content.size_of(path)
    first = dice.randrange(size + 2)
    last = first + dice.choice((0, 10, 5000, size))
    count("requests")
    count("ranges")
    connection.ask("GET", path, f"Range: bytes={first}-{last}\r\n")
    connection.check(path, connection.head(), wanted=(first, last))


def resumed(connection, world, dice, count, tags, path):
    """A part on condition that it is still the same file."""
    if path not in tags:
        return whole(connection, world, dice, count, tags, path)
    first = dice.randrange(content.size_of(path) + 1)
    count("requests")
    count("ranges")
    connection.ask("GET", path, f"Range: bytes={first}-\r\nIf-Range: {tags[path]}\r\n")
    connection.check(path, connection.head(), wanted=(first, 1 << 40))


def head(connection, world, dice, count, tags, path):
    count("requests")
    connection.ask("HEAD", path)
    connection.check(path, connection.head(), method="HEAD")
    # What follows on the connection is the next answer, not a body.
    if connection.open:
        whole(connection, world, dice, count, tags, path)


def conditional(connection, world, dice, count, tags, path):
    if path not in tags:
        return whole(connection, world, dice, count, tags, path)
    count("requests")
    connection.ask("GET", path, f"If-None-Match: {tags[path]}\r\n")
    answer = connection.head()
    if answer.status == 304:
        count("not_modified")
    connection.check(path, answer, validators=(tags[path],))


def early(connection, world, dice, count, tags, path):
    """Leaves in the middle; what came until then is checked."""
    count("requests")
    count("left")
    connection.ask("GET", path)
    if dice.random() < 0.2:
        return
    answer = connection.head()
    connection.check(path, answer, leave_at=dice.randrange(1, content.size_of(path) + 2))


def slow(connection, world, dice, count, tags, path):
    connection.pause = lambda: time.sleep(0.002 * dice.random())
    whole(connection, world, dice, count, tags, path)


def pipelined(connection, world, dice, count, tags, path):
    """Asks for three at once; once one breaks, the others do not come."""
    paths = [path, dice.choice(world.names), dice.choice(world.names)]
    connection.send(b"".join(b"GET %s HTTP/1.1\r\nHost: trial\r\n\r\n" % each.encode() for each in paths))
    for each in paths:
        count("requests")
        try:
            connection.check(each, connection.head())
        except client.Broken as broken:
            broken.path = each
            raise
        if not connection.open:
            return


def upload(connection, world, dice, count, tags, path):
    body = dice.randbytes(dice.choice((0, 10, 70_000, 500_000)))
    count("requests")
    if dice.random() < 0.5:
        connection.ask("PUT", "/up/1-1.txt", f"Content-Length: {len(body)}\r\n", body)
    else:
        middle = len(body) // 2
        halves = [half for half in (body[:middle], body[middle:]) if half]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(half), half) for half in halves)
        connection.ask("PUT", "/up/1-1.txt", "Transfer-Encoding: chunked\r\n", chunks + b"0\r\n\r\n")
    try:
        answer = connection.head()
        got = b"".join(connection.pieces(answer, "PUT"))
    except client.Broken as broken:
        broken.path = "/up/1-1.txt"
        raise
    if answer.status != 200 or got != hashlib.sha256(body).hexdigest().encode():
        raise client.Wrong(f"an upload of {len(body)} bytes: status {answer.status}, {got[:80]!r}")


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


def nonsense(connection, world, dice, count, tags, path):
    """Must be answered with an error or cut off, and soon."""
    count("requests")
    try:
        connection.send(garbage(dice))
        connection.socket.shutdown(1)
        answer = connection.head()
    except (client.Broken, client.Wrong, OSError) as error:
        if "imeout" in str(error):
            raise
        return
    if answer.status < 400 and answer.status != 200:
        raise client.Wrong(f"status {answer.status} for nonsense")


WAYS = (whole, whole, whole, whole, part, part, resumed, head, conditional, early, early, slow, pipelined, upload, nonsense)
