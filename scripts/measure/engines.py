#!/usr/bin/env python3
"""CPU of the two event loops, side by side: io_uring and the portable one, on hits.

    scripts/measure/engines.py [--rounds N] [--seconds S] [--binary FILE]

One worker on the first processor, wrk on the second; rounds are interleaved; medians. The figure is
the server's own CPU time (user and system, /proc/PID/stat) per request and per GB. Needs wrk and two
processors. Loopback only.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "try"))

from trial import client, command, directory, server

POINTS = [("1k.tgz", 1 << 10, 64), ("16k.tgz", 16 << 10, 64), ("1m.tgz", 1 << 20, 16), ("128m.tgz", 128 << 20, 4)]


def load(program, name, connections, seconds, cpu):
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"{program.url}/{name}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 30, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    count = re.search(r"(\d+) requests in", done.stdout)
    read = re.search(r", ([\d.]+)(KB|MB|GB) read", done.stdout)
    if not count or not read or "Non-2xx" in done.stdout:
        sys.exit(f"wrk failed:\n{done.stdout}{done.stderr}")
    return int(count[1]), float(read[1]) * {"KB": 1e-6, "MB": 1e-3, "GB": 1.0}[read[2]] * 1.024**2


def report(name, size, connections, servers, options, cpu):
    costs = {engine: [] for engine in servers}
    for _ in range(options.rounds):
        for engine, program in servers.items():
            before = program.cpu()
            requests, gigabytes = load(program, name, connections, options.seconds, cpu)
            spent = program.cpu() - before
            costs[engine].append(spent / requests * 1e6 if size < 1 << 20 else spent / gigabytes)
    middle = {engine: statistics.median(values) for engine, values in costs.items()}
    unit = "us/request" if size < 1 << 20 else "cpu-s/GB"
    spread = "  ".join(f"{min(v):.3g}-{max(v):.3g}" for v in costs.values())
    ratio = middle["poll"] / middle["uring"]
    print(f"{name:>9} {unit:>12} {middle['uring']:9.3g} {middle['poll']:9.3g} {ratio:18.2f}   {spread}", flush=True)


def main():
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--binary")
    options = parser.parse_args()
    words, cpus = command.program(options.binary), sorted(os.sched_getaffinity(0))
    if not shutil.which("wrk") or len(cpus) < 2:
        sys.exit("needs wrk (a package of that name) and two processors")
    with tempfile.TemporaryDirectory(prefix="fs-cache-engines.") as cache:
        flags = ["--workers", 1, "--pin-cpus", cpus[0]]
        servers = {io: server.Server(words, io, cache, "http://127.0.0.1:9", flags, cpus={cpus[0]}) for io in command.ENGINES}
        for name, size, _ in POINTS:
            servers["uring"].put(name, body=os.urandom(1 << 10) * (size >> 10))
        with servers["uring"], servers["poll"]:
            for program in servers.values():
                for name, _, _ in POINTS:
                    if client.get(program.address, "/" + name)[1] != directory.read(cache, name):
                        sys.exit("wrong bytes")
            print(f"{'point':>9} {'unit':>12} {'io_uring':>9} {'portable':>9} {'portable/io_uring':>18}   spread of each")
            for name, size, connections in POINTS:
                report(name, size, connections, servers, options, cpus[1])


main()
