#!/usr/bin/env python3
"""CPU of the two event loops, side by side: io_uring and the portable one, on hits.

    scripts/measure/engines.py [--rounds N] [--seconds S] [--binary FILE]

One worker on the first processor, wrk on the second; rounds are interleaved; medians. The figure is
the server's own CPU time (user and system, /proc/PID/stat) per request and per GB. Needs wrk, two
processors, and a release build. Loopback only.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
POINTS = [("1k.tgz", 1 << 10, 64), ("16k.tgz", 16 << 10, 64), ("1m.tgz", 1 << 20, 16), ("128m.tgz", 128 << 20, 4)]
ENGINES = ["uring", "poll"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(binary, engine, cache, cpu):
    port = free_port()
    arguments = [binary, "-c", cache, "-H", "127.0.0.1", "-p", str(port), "-U", "http://127.0.0.1:9"]
    arguments += ["--io", engine, "--workers", "1", "--pin-cpus", str(cpu)]
    server = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 0.1).close()
            return server, port
        except OSError:
            time.sleep(0.05)
    sys.exit(f"the server did not start with --io {engine}")


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(port, name, connections, seconds, cpu):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}/{name}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30,
                          preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    count = re.search(r"(\d+) requests in", done.stdout)
    read = re.search(r", ([\d.]+)(KB|MB|GB) read", done.stdout)
    if not count or not read or "Non-2xx" in done.stdout:
        sys.exit(f"wrk failed:\n{done.stdout}{done.stderr}")
    return int(count[1]), float(read[1]) * {"KB": 1e-6, "MB": 1e-3, "GB": 1.0}[read[2]] * 1.024**2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--binary", default=os.path.join(HERE, "target/release/fs-caching-server"))
    options = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))
    if not shutil.which("wrk") or len(cpus) < 2:
        sys.exit("needs wrk (a package of that name) and two processors")
    cache = tempfile.mkdtemp(prefix="fs-cache-engines.")
    servers = {}
    try:
        for name, size, _ in POINTS:
            with open(os.path.join(cache, name), "wb") as file:
                file.write(os.urandom(1 << 10) * (size >> 10))
        servers = {engine: start(options.binary, engine, cache, cpus[0]) for engine in ENGINES}
        for _, port in servers.values():
            for name, _, _ in POINTS:
                body = urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}").read()
                assert body == open(os.path.join(cache, name), "rb").read(), "wrong bytes"
        print(f"{'point':>9} {'unit':>12} {'io_uring':>9} {'portable':>9} {'portable/io_uring':>18}   spread of each")
        for name, size, connections in POINTS:
            report(name, size, connections, servers, options, cpus[1])
    finally:
        for server, _ in servers.values():
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        shutil.rmtree(cache)


def report(name, size, connections, servers, options, cpu):
    costs = {engine: [] for engine in ENGINES}
    for _ in range(options.rounds):
        for engine, (server, port) in servers.items():
            before = cpu_seconds(server.pid)
            requests, gigabytes = load(port, name, connections, options.seconds, cpu)
            spent = cpu_seconds(server.pid) - before
            costs[engine].append(spent / requests * 1e6 if size < 1 << 20 else spent / gigabytes)
    middle = {engine: statistics.median(values) for engine, values in costs.items()}
    unit = "us/request" if size < 1 << 20 else "cpu-s/GB"
    spread = "  ".join(f"{min(v):.3g}-{max(v):.3g}" for v in costs.values())
    ratio = middle["poll"] / middle["uring"]
    print(f"{name:>9} {unit:>12} {middle['uring']:9.3g} {middle['poll']:9.3g} {ratio:18.2f}   {spread}", flush=True)


main()
