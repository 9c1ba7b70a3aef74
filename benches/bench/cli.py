"""Options, and the order of things."""

import argparse
import os
import resource
import signal
import sys
import time
from email.utils import formatdate

from . import goals, measure, peers, report, servers, situations

DESCRIPTION = """\
Benchmarks the program beside other caches on this machine: each server on one core, load and origin
on another, rounds interleaved, medians, and the server's own CPU time as the measure.
See docs/benchmark.md. Installs nothing; says what is missing."""

ALL_SERVERS = {kind.name: kind for kind in [
    servers.OursUring, servers.OursPoll, *peers.ALL, servers.MonoioHttp, servers.LimitSendfile, servers.LimitMemory]}
ALIASES = {"ours": ["ours-uring", "ours-poll"], "limit": ["limit-sendfile", "limit-memory"]}
QUICK_SERVERS = ["ours-uring", "nginx"]
QUICK_POINTS = ["hit-1k-64", "hit-16k-64", "mixed", "hit-256k-64", "hit-8m-16", "miss-64k", "miss-64m", "pass-64m", "slow-origin"]


class Bench:
    """What points and servers need to know of the run."""

    def __init__(self, options, found, server_cpus, load_cpus):
        self.rounds, self.seconds = options.rounds, options.seconds
        self.server_cpus, self.load_cpus = server_cpus, load_cpus
        self.node_original = options.node_original
        self.tools = measure.Tools(load_cpus)
        self.tools.build()
        self.binary = os.path.abspath(options.binary) if options.binary else self.tools.program()
        self.descriptors = raise_descriptors()
        # Connections of the points with "10,000", where the descriptor limit allows as many.
        self.many = min(10_000, (self.descriptors - 400) // max(kind.descriptors_each for kind in found))
        self.tree = None
        self.directory = measure.Directory(options.cache_root)
        self.origin = measure.Origin(self.tools, formatdate(usegmt=True))

    def million(self):
        """A tree of 1,000,000 files of 1 KiB, made when it is first needed. Takes 4 GB and as many inodes."""
        if not self.tree:
            print(f"making {situations.MILLION:,} files", flush=True)
            self.tree = self.directory.new("million")
            self.tools.run("make", directory=self.tree, size=1024, files=situations.MILLION)
        return self.tree

    def close(self):
        self.origin.stop()
        self.directory.remove()


def raise_descriptors():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def parse():
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ours and nginx, few points, three short rounds: under a minute")
    parser.add_argument("--points", help=f"a list with commas, of: {', '.join(situations.ALL)}")
    parser.add_argument("--servers", help=f"a list with commas, of: {', '.join([*ALL_SERVERS, *ALIASES])}")
    parser.add_argument("--rounds", type=int, help="rounds of each point (5)")
    parser.add_argument("--seconds", type=float, help="length of a round of hits (2)")
    parser.add_argument("--out", metavar="DIR", help="write results.md, results.json and chart.svg there")
    parser.add_argument("--binary", metavar="PATH", help="the program to test (default: a release build of the checkout)")
    parser.add_argument("--cache-root", metavar="DIR", help="where the caches are made: the file system to measure")
    parser.add_argument("--million", action="store_true", help="also the points with 1,000,000 files: 4 GB and as many inodes")
    parser.add_argument("--node-original", metavar="DIR", help="the Node.js program: a checkout with its modules installed")
    parser.add_argument("--list", action="store_true", help="say which servers and points there are, and what is missing")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (0.5 if options.quick else 2.0)
    options.servers = chosen(parser, options.servers, ALL_SERVERS, QUICK_SERVERS if options.quick else list(ALL_SERVERS))
    standard = [name for name, point in situations.ALL.items() if options.million or not point.optional]
    options.points = chosen(parser, options.points, situations.ALL, QUICK_POINTS if options.quick else standard)
    return options


def chosen(parser, text, known, default):
    if not text:
        return default
    names = [name for word in text.split(",") for name in ALIASES.get(word, [word])]
    for name in names:
        if name not in known:
            parser.error(f"{name}: not one of {', '.join(known)}")
    return names


def present(options):
    """The servers that can run; says what is missing for the others."""
    found = []
    for name in options.servers:
        missing = ALL_SERVERS[name].missing(options)
        if missing:
            print(f"left out: {name}: needs {missing}")
        else:
            found.append(ALL_SERVERS[name])
    return found


def main():
    options = parse()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("needs two cores: one for the server, one for the load")
    found = present(options)
    if not found:
        sys.exit("no server is left to measure")
    if options.list:
        print("servers:", ", ".join(kind.name for kind in found))
        print("points:", ", ".join(situations.ALL))
        return 0
    # Ctrl-C and a polite end both run the `finally` below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begun = time.monotonic()
    try:
        bench = Bench(options, found, {cpus[0]}, {cpus[1]})
    except measure.Failed as error:
        sys.exit(str(error))
    try:
        return measured(options, bench, found, begun)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        bench.close()


def measured(options, bench, found, begun):
    settings = {"rounds": bench.rounds, "seconds": bench.seconds, "many connections": bench.many}
    versions = {kind.name: {"version": kind(bench).version(), "access log": kind.log} for kind in found}
    results = report.Results(report.machine(bench.directory.path), settings, versions)
    for name in options.points:
        point = situations.ALL[name]
        samples, failures = point.run(bench, found)
        bench.origin.check()
        results.add(point, samples, failures)
        results.print_point(name)
        if options.out:
            results.write(options.out)
    print(goals.text(results))
    print(f"{time.monotonic() - begun:.0f} s")
    return 0
