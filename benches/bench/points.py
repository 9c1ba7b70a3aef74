"""What a point is, and those of plain work: hits, misses, what is passed through.

Rounds are interleaved: each server is measured once before any is measured again."""

import dataclasses
import sys
import typing

from .measure import Failed

KIB, MIB = 1 << 10, 1 << 20
GB = 1e9


@dataclasses.dataclass
class Point:
    name: str
    title: str
    unit: str
    # One round of one server: {"value": figure, and what else there is to tell}.
    sample: typing.Callable
    # Before the first round, with the server running: fills and checks.
    prepare: typing.Callable = lambda server: None
    # Whether a server can be measured here at all.
    applies: typing.Callable = lambda server: True
    lower_is_better: bool = False
    # How the server is started, as far as it is not as always.
    launch: typing.Callable = lambda bench: {}
    # Not part of a run that names no points.
    optional: bool = False
    # The point starts and stops its servers itself.
    starts: bool = False
    # More rounds than this tell nothing new.
    most_rounds: int = 1000

    def run(self, bench, classes):
        """Samples by server name; a server that fails has a list with what it had by then, and a word."""
        samples, failures, servers = {}, {}, {}

        def attempt(server, action):
            try:
                return action()
            except (Failed, OSError) as error:
                failures[server.name] = str(error)
                print(f"    {server.name}: {error}", file=sys.stderr, flush=True)
                servers.pop(server.name, None)
                server.stop()
                return None

        try:
            for kind in classes:
                server = kind(bench)
                if self.applies(server):
                    servers[server.name] = server
                    if not self.starts:
                        attempt(server, lambda: server.start(**self.launch(bench)))
            for server in list(servers.values()):
                if not self.starts:
                    attempt(server, lambda: (server.wait(), self.prepare(server)))
            for number in range(min(bench.rounds, self.most_rounds)):
                for server in list(servers.values()):
                    sample = attempt(server, lambda: self.sample(server, number))
                    if sample:
                        samples.setdefault(server.name, []).append(sample)
        finally:
            for server in servers.values():
                server.stop()
        return samples, failures


def told(done, **more):
    """What a run of the load tool says beside the figure itself."""
    return {"cpu": done["cpu"], "seconds": done["seconds"], "requests": done["requests"], "bytes": done["bytes"],
            "per_second": done["requests"] / done["seconds"], "first_byte_us": done["first_byte_us"],
            "last_byte_us": done["last_byte_us"], "answers_per_connection": done["answers_per_connection"],
            "cpu_share": done["cpu"] / done["seconds"], **more}


def hit(name, title, size, files, connections, order="seq", per_byte=False, fill=None, beside=None, **more):
    """Hits for a while: requests, or GB, per second of server CPU.

    `beside` gives, for a server, another server and number of connections that are measured right
    before: what the load does to a server is their ratio, `of_base`, which no drift of the machine can move."""

    def prepare(server):
        server.fill(size=size, files=files)

    def once(server, number, connections):
        bench = server.bench
        done = bench.tools.get(server, size=size, files=files, connections=min(connections, bench.many), order=order,
                               seed=number + 1, seconds=bench.seconds)
        work = done["bytes"] / GB if per_byte else done["requests"]
        return told(done, value=work / done["cpu"])

    def sample(server, number):
        base = once(beside(server)[0], number, beside(server)[1]) if beside else None
        result = once(server, number, connections)
        return {**result, "of_base": result["value"] / base["value"]} if base else result

    unit = "GB/cpu-s" if per_byte else "req/cpu-s"
    largest = size if isinstance(size, int) else int(size.split(":")[1])
    more.setdefault("applies", lambda server: server.largest >= largest)
    return Point(name, title, unit, sample, fill or prepare, **more)


def fresh(number, count):
    """The serial of a round's first file: no round asks for what another one has fetched."""
    return (number + 1) * 1_000_000 + count


def miss_small():
    """Distinct files, each asked for once."""
    connections = 16

    def sample(server, number):
        files = int(750 * server.bench.seconds)
        done = server.bench.tools.get(server, size=64 * KIB, first=fresh(number, 0), files=files, order="once",
                                      connections=connections, warm=0, settle_ms=300)
        counts = server.bench.origin.counts()
        return told(done, value=done["requests"] / done["cpu"], origin_requests=sum(counts.values()) / files)

    return Point("miss-64k", f"miss 64 KiB, {connections} connections", "req/cpu-s", sample,
                 lambda server: server.fill(size=64 * KIB, files=10), proxying)


def miss_large():
    """One client, one file after the other; what the server does after the last byte counts too."""

    def sample(server, number):
        files = 4 if server.bench.seconds >= 1 else 2
        done = server.bench.tools.get(server, size=64 * MIB, first=fresh(number, 0), files=files, order="once",
                                      connections=1, warm=0, settle_ms=500)
        counts = server.bench.origin.counts()
        server.make_room()
        return told(done, value=done["cpu"] / (done["bytes"] / GB), origin_requests=sum(counts.values()) / files)

    return Point("miss-64m", "miss 64 MiB, stored", "cpu-s/GB", sample,
                 lambda server: server.fill(size=64 * MIB, files=1), proxying, lower_is_better=True)


def passed():
    """What is not to be kept: no file, and a request to the origin each time."""
    count = 6

    def prepare(server):
        asked = {**server.asked_as(), "layout": "pass"}
        server.bench.tools.run("verify", **asked, size=64 * MIB, files=1)
        server.bench.origin.counts()

    def sample(server, number):
        done = server.bench.tools.get(server, layout="pass", size=64 * MIB, files=1, count=count, connections=1,
                                      warm=0, settle_ms=300)
        asked = sum(server.bench.origin.counts().values())
        if asked != count:
            raise Failed(f"{asked} requests to the origin for {count} that are not to be kept")
        return told(done, value=done["cpu"] / (done["bytes"] / GB))

    return Point("pass-64m", "pass 64 MiB, not stored", "cpu-s/GB", sample, prepare,
                 lambda server: server.proxies and server.passes, lower_is_better=True)


def proxying(server):
    return server.proxies


PLAIN = [
    hit("hit-1k-64", "hit 1 KiB, 64 connections", KIB, 16, 64),
    hit("hit-1k-512", "hit 1 KiB, 512 connections", KIB, 16, 512),
    hit("hit-1k-10000", "hit 1 KiB, 10,000 connections", KIB, 16, 10_000, beside=lambda server: (server, 64)),
    hit("hit-16k-64", "hit 16 KiB, 64 connections", 16 * KIB, 16, 64),
    hit("mixed", "4,000 files of 4-64 KiB, random, 64 connections", f"{4 * KIB}:{64 * KIB}", 4000, 64, "random"),
    hit("hit-256k-64", "hit 256 KiB, 64 connections", 256 * KIB, 16, 64, per_byte=True),
    hit("hit-8m-16", "hit 8 MiB, 16 connections", 8 * MIB, 4, 16, per_byte=True),
    hit("hit-128m-4", "hit 128 MiB, 4 connections", 128 * MIB, 1, 4, per_byte=True),
    miss_small(),
    miss_large(),
    passed(),
]
