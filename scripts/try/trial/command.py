"""The command line that the trials share: options, the engines to run on, the program, the verdict."""

import argparse
import contextlib
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
ENGINES = ("uring", "poll")
# So many faults are told in words.
FAULTS = 40
# The exit code where this machine lacks what a trial needs.
LEFT_OUT = 3


class Failed(Exception):
    """What went wrong, in one line."""


def program(given=None):
    """The words that start the program: those given, else FS_CACHE_BINARY, else the release build, which is made first."""
    words = shlex.split(given or os.environ.get("FS_CACHE_BINARY", ""))
    if not words:
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=HERE, check=True)
        metadata = ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
        told = json.loads(subprocess.run(metadata, cwd=HERE, check=True, capture_output=True).stdout)
        words = [os.path.join(told["target_directory"], "release", "fs-caching-server")]
    # A trial may start it in another directory.
    return [os.path.abspath(words[0]) if "/" in words[0] else words[0], *words[1:]]


def parser(text):
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def options(text, io="both", **usual):
    """--io, --binary, and an option for each name with its usual value: False is a flag, a type has no usual value."""
    read = parser(text)
    read.add_argument("--io", default=io, choices=["auto", *ENGINES, "both"], help="both: uring, then poll")
    read.add_argument("--binary", metavar="COMMAND", help="or FS_CACHE_BINARY; default: the release build")
    for name, value in usual.items():
        flag = "--" + name.replace("_", "-")
        if value is False:
            read.add_argument(flag, action="store_true")
        elif isinstance(value, type):
            read.add_argument(flag, type=value)
        else:
            read.add_argument(flag, type=type(value), default=value, metavar="N", help=f"default: {value}")
    found = read.parse_args()
    found.binary = program(found.binary)
    found.engines = ENGINES if found.io == "both" else (found.io,)
    return found


def most_descriptors():
    """Lets this process have as many descriptors as it may; how many that is."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def end_politely():
    """A request to end runs what a trial does at its end, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@contextlib.contextmanager
def workplace(keep):
    """A temporary directory, left behind if that is wished."""
    end_politely()
    work = tempfile.mkdtemp(prefix=f"{os.path.basename(sys.argv[0])}.")
    try:
        yield work
    finally:
        if keep:
            print("kept:", work)
        else:
            shutil.rmtree(work, ignore_errors=True)


def on_each_engine(found, trial):
    """The faults of trial(options, engine, directory), each in a directory of its own."""
    end_politely()
    for engine in found.engines:
        with tempfile.TemporaryDirectory(prefix="fs-cache-trial.") as directory:
            try:
                yield from ((engine, fault) for fault in trial(found, engine, directory))
            except Failed as failed:
                yield engine, str(failed)


def run(trial, found, name=None):
    """On each engine; tells the faults, with a name also what became of it all, and exits."""
    faults = list(on_each_engine(found, trial))
    for engine, fault in faults[:FAULTS]:
        print(f"FAULT: --io {engine}: {fault}" if name else f"BAD: {engine}: {fault}")
    if name:
        print(f"{name}:", f"FAILED, {len(faults)} faults" if faults else "ok")
    sys.exit(1 if faults else 0)
