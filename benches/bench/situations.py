"""Points that are more than a stream of requests: a slow origin, a crowd, idle connections, cold
starts, neighbours, many files, both cores."""

import os
import statistics
import subprocess
import threading
import time

from .measure import Failed, spawn
from .points import GB, KIB, MIB, PLAIN, Point, fresh, hit, proxying

GIB = 1 << 30
MILLION = 1_000_000
# How long connections have idled when the memory that they take is read.
IDLE_SECONDS = 3


def slow_origin():
    """How much later than the origin sent it a byte of a slow body arrives."""
    size, rate, files = 60_000, 1_000_000, 5

    def sample(server, number):
        bench, delays, lags = server.bench, [], []
        for index in range(files):
            bench.origin.timeline()
            done = bench.tools.get(server, size=size, rate=rate, first=fresh(number, index), files=1, count=1, warm=0,
                                   timeline=True, block=True, first_class=True)
            sent = next(iter(bench.origin.timeline().values()))
            got = iter(done["timeline"])
            bytes_got, when = next(got)
            delays.append((when - sent[0][1]) / 1e6)
            for amount, sent_at in sent:
                while bytes_got < amount:
                    bytes_got, when = next(got)
                lags.append((when - sent_at) / 1e6)
        return {"value": max(0, statistics.median(delays)), "lag_median": statistics.median(lags), "lag_max": max(lags)}

    return Point("slow-origin", "first byte behind the origin's, at 1 MB/s", "ms", sample,
                 lambda server: server.bench.tools.run("verify", **server.asked_as(), size=KIB, files=1),
                 proxying, lower_is_better=True)


def crowd():
    """One file that is not there, at 32 MiB/s; another client comes half-way."""
    size, rate, clients = 64 * MIB, 32 * MIB, 50

    def sample(server, number):
        tools = server.bench.tools
        file = {"size": size, "rate": rate, "first": fresh(number, 0), "files": 1, "warm": 0, "block": True}
        server.bench.origin.counts()
        many = tools.start("get", **server.asked_as(), **file, connections=clients, count=clients, trace=True)
        try:
            try:
                many.wait(size / rate / 2)
            except subprocess.TimeoutExpired:
                pass
            late = tools.get(server, **file, count=1)
            done = tools.result(many, 120)
        finally:
            many.kill()
        if done["errors"]:
            raise Failed("; ".join(done["words"]))
        begun = min(asked for _, asked, _, _ in done["trace"])
        last = max(end for _, _, _, end in done["trace"])
        counts = server.bench.origin.counts()
        server.make_room()
        return {"value": (last - begun) / 1e9, "origin_requests": sum(counts.values()),
                "late_first_byte_ms": late["first_byte_us"]["max"] / 1e3}

    return Point("crowd", "50 clients, one miss of 64 MiB at 32 MiB/s: last one done (2.00 at best)", "s", sample,
                 applies=proxying, lower_is_better=True, most_rounds=3)


def idle():
    """Growth of resident memory by idle connections that have each asked once."""

    def sample(server, number):
        bench = server.bench
        server.start()
        server.wait()
        server.fill(size=KIB, files=1)
        # What it sets up for its first connections is not of any one.
        bench.tools.get(server, size=KIB, connections=100, count=2000)
        before = server.group.resident_kib()
        holder = bench.tools.start("idle", **server.asked_as(), size=KIB, connections=bench.many)
        try:
            if not holder.stdout.readline():
                raise Failed(holder.stderr.read().strip())
            time.sleep(IDLE_SECONDS)
            growth = server.group.resident_kib() - before
        finally:
            holder.kill()
            holder.communicate()
            server.stop()
        return {"value": max(0, growth) / bench.many * 1000, "connections": bench.many, "resident_kib": before}

    return Point("idle", "memory of 1,000 idle connections", "KiB", sample, lower_is_better=True, starts=True, most_rounds=3)


def cold(name, title, files, make=False, **more):
    """From the start of the process to the end of its first answer."""

    def sample(server, number):
        bench = server.bench
        if make:
            server.tree = bench.million()
        elif number == 0:
            server.start()
            server.wait()
            server.fill(size=KIB, files=files)
            server.stop(keep=True)
        server.prepare(keep=True)
        (here,) = bench.server_cpus
        command = server.command(1, bench.server_cpus)
        words = bench.tools.words("cold", {**server.asked_as(), "size": KIB, "cpu": min(bench.load_cpus)})
        with open(os.path.join(server.directory, "errors.log"), "ab") as errors:
            process = spawn([*words, "--", *command], {here}, server.group, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=errors, env=server.environment(), cwd=server.directory, text=True)
        server.group.root_pid = process.pid
        try:
            done = bench.tools.result(process, 60)
        except Failed:
            raise Failed(server.last_words()) from None
        server.stop(keep=True)
        return {"value": done["ms"], "refused": done["refused"]}

    return Point(name, title, "ms", sample, lower_is_better=True, starts=True, **more)


def probe(server, number):
    """1 KiB at an even 4,000 a second, before all others on its core: latency, not work."""
    bench = server.bench
    done = bench.tools.get(server, size=KIB, files=16, connections=16, pace=4000, seconds=bench.seconds, order="random",
                           seed=number + 1, block=True, first_class=True)
    if not done["requests"]:
        raise Failed("no answer to the probe")
    late = done["last_byte_us"]
    return {**late, "value": late["p99"], "first_class": done["first_class"], "achieved": done["requests"] / done["seconds"]}


def beside(server, number, **files):
    """The probe by itself, then while another client reads large files as fast as it goes."""
    quiet = probe(server, number)
    tools = server.bench.tools
    reader = tools.start("get", **server.asked_as(), size=GIB, connections=1, seconds=server.bench.seconds + 0.5,
                         warm=0, block=True, deadline=30, **files)
    try:
        result = probe(server, number)
        other = tools.result(reader, server.bench.seconds + 40)
    finally:
        reader.kill()
    if other["errors"]:
        raise Failed("; ".join(other["words"]))
    return {**result, "of_base": result["value"] / quiet["value"], "other_gb_per_second": other["bytes"] / GB / other["seconds"]}


def forget(server, stop=None):
    """Drops the large files of a cache from memory, again and again until `stop` is set."""
    held = [os.open(path, os.O_RDONLY) for path in server.large_files()]
    try:
        for descriptor in held:
            os.fsync(descriptor)
        while True:
            for descriptor in held:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if stop is None or stop.wait(0.1):
                return
    finally:
        for descriptor in held:
            os.close(descriptor)


def neighbours():
    title = "1 KiB hits at 4,000 a second, p99: "
    small = {"size": KIB, "files": 16}
    cold_files = 2

    def prepare_cold(server):
        server.fill(**small)
        if server.plain_tree:
            server.bench.tools.run("make", directory=server.store, size=GIB, files=cold_files)
        server.bench.tools.run("verify", **server.asked_as(), size=GIB, files=cold_files)

    def cold_reader(server, number):
        forget(server)
        stop = threading.Event()
        dropper = threading.Thread(target=forget, args=(server, stop))
        dropper.start()
        try:
            return beside(server, number, files=cold_files)
        finally:
            stop.set()
            dropper.join()

    def filling(server, number):
        try:
            return beside(server, number, first=fresh(number, 0), files=100)
        finally:
            server.make_room()

    on_disk = {"lower_is_better": True, "applies": lambda server: server.keeps_on_disk and server.largest >= GIB}
    return [
        Point("neighbours-quiet", title + "quiet", "us", probe, lambda server: server.fill(**small), lower_is_better=True),
        Point("neighbours-cold", title + "beside a reader of cold files of 1 GiB", "us", cold_reader, prepare_cold, **on_disk),
        Point("neighbours-fill", title + "beside a full-speed fill", "us", filling, lambda server: server.fill(**small),
              lower_is_better=True, applies=lambda server: server.keeps_on_disk and server.proxies),
    ]


def many_files():
    """A million files in the cache, of which a thousand, or all, are asked for."""

    def tree(server):
        return server.plain_tree and server.proxies

    def prepare(server):
        server.fill(size=KIB, files=1000)
        server.start_other()
        server.other.fill(size=KIB, files=1000)

    def launch(bench):
        return {"tree": bench.million()}

    more = {"fill": prepare, "launch": launch, "beside": lambda server: (server.other, 64), "applies": tree, "optional": True}
    return [
        hit("files-1m", "1 KiB, 1,000 files of 1,000,000 in the cache, random", KIB, 1000, 64, "random", **more),
        hit("files-1m-spread", "1 KiB, all of 1,000,000 files, random", KIB, MILLION, 64, "random",
            **{**more, "beside": None, "fill": lambda server: server.fill(size=KIB, files=1000)}),
    ]


def both_cores():
    """Load and server share their cores: one of each on one core, then on each of two. Work per second of wall time."""
    load = {"size": KIB, "files": 16, "connections": 64, "block": True}

    def cpus(bench):
        return sorted(bench.server_cpus | bench.load_cpus)

    def prepare(server):
        server.fill(size=KIB, files=16)
        server.start_other(workers=1)
        server.other.fill(size=KIB, files=16)

    def once(server, cores):
        bench = server.bench
        before = server.group.cpu_seconds()
        loads = [bench.tools.start("get", **server.asked_as(), **load, seconds=bench.seconds, cpus={cpu}) for cpu in cores]
        try:
            done = [bench.tools.result(process, bench.seconds + 70) for process in loads]
        finally:
            for process in loads:
                process.kill()
        spent = server.group.cpu_seconds() - before
        return sum(one["requests"] / one["seconds"] for one in done), sum(one["requests"] for one in done) / spent

    def sample(server, number):
        bench = server.bench
        one, one_cpu = once(server.other, bench.server_cpus)
        both, both_cpu = once(server, cpus(bench))
        # Two workers do twice the work of one if a second of their CPU time does as much.
        return {"value": both, "per_cpu_second": both_cpu, "of_base": both / one, "of_base_cpu": 2 * both_cpu / one_cpu}

    return Point("cores", "1 KiB, two workers on two cores, load on the same", "req/s", sample, prepare,
                 lambda server: server.takes_workers, launch=lambda bench: {"workers": 2, "cpus": set(cpus(bench))})


SITUATIONS = [
    slow_origin(),
    crowd(),
    idle(),
    cold("cold-1k", "cold start to the first answer, 1,000 files", 1000),
    cold("cold-1m", "cold start to the first answer, 1,000,000 files", MILLION, make=True, optional=True,
         applies=lambda server: server.plain_tree and server.layout == "plain"),
    *neighbours(),
    *many_files(),
    both_cores(),
]

ALL = {point.name: point for point in PLAIN + SITUATIONS}
