"""What is measured: one Point for each row of the table.

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
                        attempt(server, server.start)
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
            "last_byte_us": done["last_byte_us"], "cpu_share": done["cpu"] / done["seconds"], **more}


def hit(name, title, size, files, connections, order="seq", per_byte=False, **more):
    """Hits for a while: requests, or GB, per second of server CPU."""

    def prepare(server):
        server.fill(size=size, files=files)

    def sample(server, number):
        done = server.bench.tools.get(server, size=size, files=files, connections=connections, order=order,
                                      seed=number + 1, seconds=server.bench.seconds)
        work = done["bytes"] / GB if per_byte else done["requests"]
        return told(done, value=work / done["cpu"])

    unit = "GB/cpu-s" if per_byte else "req/cpu-s"
    largest = size if isinstance(size, int) else int(size.split(":")[1])
    return Point(name, title, unit, sample, prepare, lambda server: server.largest >= largest, **more)


HITS = [
    hit("hit-1k-64", "hit 1 KiB, 64 connections", KIB, 16, 64),
    hit("hit-1k-512", "hit 1 KiB, 512 connections", KIB, 16, 512),
    hit("hit-16k-64", "hit 16 KiB, 64 connections", 16 * KIB, 16, 64),
    hit("mixed", "4,000 files of 4-64 KiB, random", f"{4 * KIB}:{64 * KIB}", 4000, 64, "random"),
    hit("hit-256k-64", "hit 256 KiB, 64 connections", 256 * KIB, 16, 64, per_byte=True),
    hit("hit-8m-16", "hit 8 MiB, 16 connections", 8 * MIB, 4, 16, per_byte=True),
    hit("hit-128m-4", "hit 128 MiB, 4 connections", 128 * MIB, 1, 4, per_byte=True),
    hit("hit-1k-10000", "hit 1 KiB, 10,000 connections", KIB, 16, 10_000),
]

ALL = {point.name: point for point in HITS}
