#!/usr/bin/env python3
"""Which flags are fastest on this host, for the files of a directory of yours. Linux only.

    scripts/measure/tune.py [--quick] DIR

Takes a sample of the files below DIR, starts the program on it with different flags, on loopback,
asks for the files in random order, and prints the flags to use with the figures behind them. One
thing is varied at a time, and what wins is kept for the next: the number of workers, whether they
are bound to processors, how they wait for sockets, and up to which size a body is kept in memory.
At the end the flags that won run once more against none at all. docs/tuning.md tells how to read it.

DIR is only read. The program is given it as its cache directory, with every path cached and an
origin that refuses connections, so that nothing can be fetched and hence nothing written.

Options: --quick (under a minute; a rough answer), --rounds N (5), --seconds S (2, of each run),
--files N (256, the most that are sampled), --connections N (64), --url URL (your origin, only to
print the whole command), --binary FILE and --load FILE (default: the release builds).
"""

import contextlib
import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "try"))

from trial import client, command, directory, server

# The walk through DIR ends at either.
WALK_FILES, WALK_SECONDS = 200_000, 10
# What the sample may take: so much of the memory that is free, so that all of it stays in the page
# cache, and no more than can soon be read once.
SHARE_OF_MEMORY, SAMPLE_BYTES, SAMPLE_BYTES_QUICK = 4, 1 << 30, 1 << 28
# From this mean size on, bytes are counted instead of requests.
LARGE = 256 << 10
# Files of the sample whose bytes are compared with those on the disk before anything is timed.
CHECKED = 16
# A smaller difference is not worth a flag.
MATTERS = 0.03
SMALL_BODIES = [4 << 10, 64 << 10]
# Each server's first run, which is not counted: it opens files and fills caches.
WARM_UP = 0.3
# The longest name the program keeps, in bytes, and names that it does not serve.
NAME_BYTES, NEVER_SERVED = 243, (".in-progress",)
# A load average for each processor from which on the machine is not quiet.
BUSY = 0.5
CORES = len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else 1


def size(count):
    for unit in ["bytes", "KiB", "MiB"]:
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


# ------------------------------------------------------------------------ the sample


def walk(top):
    """Regular files with a name the program serves: (bytes, path below the top). Never follows links."""
    found, pending, end = [], [""], time.monotonic() + WALK_SECONDS
    while pending and len(found) < WALK_FILES and time.monotonic() < end:
        below = pending.pop()
        try:
            entries = list(os.scandir(os.path.join(top, below)))
        except OSError:
            continue
        for entry in entries:
            path = os.path.join(below, entry.name)
            named = path.isprintable() and len(os.fsencode(entry.name)) <= NAME_BYTES
            if not named or entry.name.endswith(NEVER_SERVED):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                elif entry.is_file(follow_symlinks=False) and os.access(entry.path, os.R_OK):
                    found.append((entry.stat(follow_symlinks=False).st_size, path))
            except OSError:
                continue
    return found, bool(pending)


def sample(options):
    """Every n-th file in the order of size, so that the sample has the sizes of the whole."""
    found, cut = walk(options.dir)
    found.sort()
    room = min(free_memory() // SHARE_OF_MEMORY, SAMPLE_BYTES_QUICK if options.quick else SAMPLE_BYTES)
    step = max(1, len(found) / options.files)
    chosen = [found[int((n + 0.5) * step)] for n in range(min(options.files, len(found)))]
    kept = list(chosen)
    while kept and sum(bytes for bytes, _ in kept) > room:
        kept.pop()
    if not kept:
        sys.exit(f"tune: no file in {options.dir} that can be read and is smaller than {size(room)}")
    print(f"files    {len(found)}{' and more' if cut else ''}, {len(kept)} of them sampled by size: median "
          f"{size(kept[len(kept) // 2][0])}, largest {size(kept[-1][0])}, together {size(sum(b for b, _ in kept))}")
    if len(kept) < len(chosen):
        print(f"         left out: {len(chosen) - len(kept)} larger ones, so that all of them stay in memory")
    return kept


def free_memory():
    with open("/proc/meminfo") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))


# ------------------------------------------------------------------------ the server


class Server(server.Program):
    """The program with some flags, on files that it never writes to."""

    def __init__(self, options, flags):
        super().__init__()
        self.words = [options.binary, "-c", options.dir, "-r", ".", "-U", f"http://127.0.0.1:{options.closed_port}"]
        self.words += ["-H", self.address[0], "-p", str(self.address[1]), *flags]

    def failure(self):
        """Starts it; why it does not serve, or nothing."""
        try:
            self.start()
        except command.Failed:
            return self.said().strip() or "it ended at once, or does not accept connections"
        return None


def check(options, files):
    """Right bytes first. Also brings the sample into the page cache."""
    program = Server(options, [])
    if failure := program.failure():
        sys.exit(f"tune: the program does not serve {options.dir}: {failure}")
    spread = {round(n * (len(files) - 1) / (CHECKED - 1)) for n in range(CHECKED)}
    for number, (_, path) in enumerate(files):
        body = directory.read(options.dir, path)
        if number in spread and client.get(program.address, "/" + urllib.parse.quote(path))[1] != body:
            sys.exit(f"tune: {path} is served with other bytes than it has")
    program.kill()


# ------------------------------------------------------------------------ measuring


def load(options, program, seconds):
    """Requests (or GB) a second, and the server's CPU microseconds (or seconds) for each, over one run."""
    processes = max(1, CORES // 2)
    words = [options.load, "get", "--connect", "%s:%d" % program.address, "--list", options.list, "--order", "random"]
    # A client that polls while it has nothing to do would take the processors from the server.
    words += ["--warm", "0", "--block", "1", "--seconds", str(seconds), "--deadline", "10"]
    words += ["--connections", str(max(1, options.connections // processes)), "--seed"]
    before = program.cpu()
    running = [subprocess.Popen([*words, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                preexec_fn=server.die_with_parent) for seed in range(1, processes + 1)]
    try:
        said = [process.communicate(timeout=seconds + 20) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    spent = program.cpu() - before
    told = [json.loads(out) if process.returncode == 0 else sys.exit(f"tune: the load generator failed: {errors.strip()}")
            for process, (out, errors) in zip(running, said)]
    if any(one["errors"] for one in told):
        sys.exit(f"tune: wrong answers (has a file changed meanwhile?): {told[0]['words']}")
    done = sum(one["bytes"] / 1e9 if options.large else one["requests"] for one in told)
    if not done or not spent:
        sys.exit("tune: too short a run: raise --seconds")
    return done / max(one["seconds"] for one in told), spent / done * (1 if options.large else 1e6)


class Candidate:
    """Some flags, and what they gave in each round."""

    def __init__(self, label, flags):
        self.label, self.flags = label, flags
        self.workers = int(flags[flags.index("--workers") + 1]) if "--workers" in flags else CORES
        self.rates, self.costs = [], []

    def line(self, mark):
        def told(values):
            low, middle, high = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
                                 for value in [min(values), statistics.median(values), max(values)])
            return f"{middle:>7} ({low}-{high})"

        return f"  {mark} {self.label:<20} {told(self.rates):<24} {told(self.costs):<21}"

    def gains(self, other):
        """How much better it was than the other in each round, 0.1 being 10 %: at what was served, and at
        what all workers could serve if each had a processor, which is workers / CPU."""
        served = [mine / theirs - 1 for mine, theirs in zip(self.rates, other.rates)]
        costs = zip(self.costs, other.costs)
        return served, [self.workers / mine / (other.workers / theirs) - 1 for mine, theirs in costs]

    def beats(self, other):
        """Better in every round at one of the two, and not worse in every round at the other."""
        better = [min(gains) > 0 and statistics.median(gains) >= MATTERS for gains in self.gains(other)]
        worse = [max(gains) < 0 and statistics.median(gains) <= -MATTERS for gains in self.gains(other)]
        return any(better) and not any(worse)


def measure(options, running):
    """Rounds of all, every other one in reverse, so that a drift of the machine hits all alike."""
    for _, program in running:
        load(options, program, WARM_UP)
    for number in range(options.rounds):
        for candidate, program in running if number % 2 == 0 else reversed(running):
            rate, cost = load(options, program, options.seconds)
            candidate.rates.append(rate)
            candidate.costs.append(cost)


def contest(options, title, candidates):
    """The first candidate stays unless another beats it; of several that do, the best."""
    print(f"\n{title}")
    running = []
    with contextlib.ExitStack() as stack:
        for candidate in candidates:
            program = Server(options, candidate.flags)
            stack.push(program)
            failure = program.failure()
            if failure and candidate is candidates[0]:
                sys.exit(f"tune: the program does not run with {shlex.join(candidate.flags)}: {failure}")
            if failure:
                print(f"    {candidate.label}: left out, it does not run here: {failure}")
            else:
                running.append((candidate, program))
        measure(options, running)
    return winner_of([candidate for candidate, _ in running])


def winner_of(candidates):
    first = candidates[0]
    better = [candidate for candidate in candidates[1:] if candidate.beats(first)]
    winner = max(better, key=lambda one: sum(map(statistics.median, one.gains(first))), default=first)
    for candidate in candidates:
        line = candidate.line("*" if candidate is winner else " ")
        if candidate is not first:
            line += "".join(f"  {statistics.median(gains):+.0%} ({min(gains):+.0%} to {max(gains):+.0%})".ljust(24)
                            for gains in candidate.gains(first))
        print(line.rstrip())
    if winner is first and len(candidates) > 1:
        print("    within the spread, or worse: the first stays")
    sys.stdout.flush()
    return winner.flags


# ------------------------------------------------------------------------ what is tried


def refusal(options, flags):
    """Why the program does not run with these flags, or nothing."""
    program = Server(options, flags)
    failure = program.failure()
    if not failure:
        program.kill()
    return failure


def tune_workers(options, flags):
    counts = sorted({1, max(1, CORES // 2)} - {CORES}, reverse=True)
    if not counts:
        print("\nworkers: one processor, nothing to try")
        return flags
    tried = [Candidate(f"auto ({CORES})", flags)]
    tried += [Candidate(f"--workers {n}", [*flags, "--workers", str(n)]) for n in counts]
    return contest(options, "workers", tried)


def tune_pinning(options, flags):
    tried = [Candidate("not bound", flags), Candidate("--pin-cpus auto", [*flags, "--pin-cpus", "auto"])]
    return contest(options, "workers bound to processors", tried)


def tune_engine(options, flags):
    refused = refusal(options, [*flags, "--io", "uring"])
    if refused:
        print(f"\nengine: nothing to try, io_uring cannot be had here: {refused}")
        return flags
    tried = [Candidate("auto (io_uring)", flags), Candidate("--io poll", [*flags, "--io", "poll"])]
    return contest(options, "engine", tried)


def tune_small_body(options, flags):
    usage = subprocess.run([options.binary, "--help"], capture_output=True, text=True, timeout=10).stdout
    if "--small-body" not in usage:
        print("\nbodies kept in memory: nothing to try, this version of the program has no --small-body")
        return flags
    if options.smallest > max(SMALL_BODIES):
        print(f"\nbodies kept in memory: nothing to try, no file of the sample is below {size(max(SMALL_BODIES))}")
        return flags
    tried = [Candidate("default", flags)]
    tried += [Candidate(f"--small-body {n}", [*flags, "--small-body", str(n)]) for n in SMALL_BODIES]
    return contest(options, "bodies kept in memory", tried)


def verdict(options, flags):
    won = bool(flags)
    if won:
        tried = [Candidate("defaults", []), Candidate("what won", flags)]
        flags = contest(options, "all that won, against the defaults", tried)
    print("\nuse      " + shlex.join(["fs-caching-server", "-c", options.dir, "-U", options.url, *flags]))
    if won and not flags:
        print("         That is the defaults: what won above did not win again.")
    elif not flags:
        print("         That is the defaults: nothing else that was tried is better by more than the spread.")


# ------------------------------------------------------------------------ the command


def options_of_command():
    parser = command.parser(__doc__)
    parser.add_argument("dir", metavar="DIR")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--files", type=int, default=256)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--url", default="URL")
    parser.add_argument("--binary", default=os.path.join(command.HERE, "target/release/fs-caching-server"))
    parser.add_argument("--load", default=os.path.join(command.HERE, "benches/load/target/release/load"))
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (0.8 if options.quick else 2)
    if min(options.rounds, options.seconds, options.files, options.connections) <= 0:
        parser.error("a number must be above zero")
    options.dir = os.path.abspath(options.dir)
    return options


def missing(options):
    """What is not there, and how to get it."""
    if not sys.platform.startswith("linux"):
        yield "Linux: CPU times are read from /proc, and the load generator uses epoll"
    if not os.path.isdir(options.dir):
        yield f"the directory {options.dir}"
    if not os.access(options.binary, os.X_OK):
        yield f"the program, {options.binary}: cargo build --release"
    if not os.access(options.load, os.X_OK):
        yield f"the load generator, {options.load}: cargo build --release --manifest-path benches/load/Cargo.toml"


def main():
    options = options_of_command()
    lacking = list(missing(options))
    if lacking:
        sys.exit("\n".join(f"tune: missing: {what}" for what in lacking))
    # What is running then ends.
    for number in [signal.SIGTERM, signal.SIGHUP]:
        signal.signal(number, lambda *_: sys.exit("tune: stopped"))
    # Bound but not listening: as long as it is held, connections to it are refused.
    with socket.socket() as closed, tempfile.NamedTemporaryFile("w", prefix="tune.") as listed:
        closed.bind(("127.0.0.1", 0))
        options.closed_port, options.list = closed.getsockname()[1], listed.name
        machine = os.uname()
        system = f"{machine.sysname} {machine.release}, {machine.machine}"
        print(f"machine  {CORES} processors, {system}; the load runs on them too")
        if os.getloadavg()[0] > BUSY * CORES:
            print(f"         busy with other work: load average {os.getloadavg()[0]:.1f}; the figures will scatter")
        files = sample(options)
        listed.write("".join(f"{bytes} /{urllib.parse.quote(path)}\n" for bytes, path in files))
        listed.flush()
        options.smallest = files[0][0]
        options.large = sum(bytes for bytes, _ in files) / len(files) >= LARGE
        check(options, files)
        units = "GB a second, and CPU seconds a GB" if options.large else "requests a second, and CPU us a request"
        print(f"runs     {options.rounds} rounds of {options.seconds:g} s, {options.connections} connections")
        print(f"columns  {units}, each the median (lowest-highest);\n"
              "         gain over the first line, round by round: in what was served, and in workers / CPU", flush=True)
        flags = []
        for step in [tune_workers, tune_pinning, tune_engine, tune_small_body]:
            flags = step(options, flags)
        verdict(options, flags)


try:
    main()
except KeyboardInterrupt:
    sys.exit("tune: stopped")
