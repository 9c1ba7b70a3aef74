#!/usr/bin/env python3
"""A burst of small misses on a disk whose flushes are slow: is each stored, is each asked of the origin once,
do memory and descriptors stay within bounds? Prints figures; exits non-zero if not.

    scripts/try/slow-disk.py [options]

The slow disk is a library that is loaded before the C library (LD_PRELOAD, made here with cc): it delays
fsync(2), fdatasync(2), syncfs(2) and sync_file_range(2) by --delay, and with --serial one after the other, as a
disk with one queue does. Not delayed is a sync_file_range that only waits for writes which were begun before:
it makes no disk flush anything. The files lie where --directory says; on a file system that is known to sync
as a whole (ext4, xfs, btrfs) one flush does for many.

Clients ask for files of their own over connections that stay, as fast as they are answered. Each answer is held
against what the origin sends. Memory and descriptors are looked at all the while.

Options: --io auto|uring|poll|both (both: uring, then poll), --binary COMMAND (or FS_CACHE_BINARY; default: the
release build), --files N (10000), --size BYTES (16384), --connections N (64), --delay MS (50), --serial,
--apart (each file in a new directory), --descriptors N (1024), --most-memory MiB (128, beyond what it has at
the start), --directory DIR (a temporary one is made in it), --seconds N (300: then it has failed).
"""

import argparse
import collections
import os
import resource
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>

static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER;

static void flush(void) {
    long ms = atol(getenv("SLOW_DISK_MS"));
    int serial = getenv("SLOW_DISK_SERIAL") != NULL;
    struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
    if (serial) pthread_mutex_lock(&disk);
    nanosleep(&time, NULL);
    if (serial) pthread_mutex_unlock(&disk);
}

#define SLOW(name) int name(int fd) { \
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, #name); flush(); return real(fd); }
SLOW(fsync)
SLOW(fdatasync)
SLOW(syncfs)

int sync_file_range(int fd, off64_t at, off64_t count, unsigned int flags) {
    int (*real)(int, off64_t, off64_t, unsigned int) =
        (int (*)(int, off64_t, off64_t, unsigned int))dlsym(RTLD_NEXT, "sync_file_range");
    if (flags != SYNC_FILE_RANGE_WAIT_BEFORE) flush();
    return real(fd, at, count, flags);
}
"""
# Every so often (seconds) the server is looked at.
LOOK = 0.05


def body(path, size):
    """Of each path its own."""
    return (path.encode() * (size // len(path) + 1))[:size]


class Origin:
    def __init__(self, size):
        self.size = size
        self.asked = collections.Counter()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            peer, _ = self.listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    def talk(self, peer):
        head = b""
        try:
            while data := peer.recv(65536):
                head += data
                while b"\r\n\r\n" in head:
                    request, head = head.split(b"\r\n\r\n", 1)
                    path = request.split(b" ", 2)[1].decode()
                    self.asked[path] += 1
                    fields = f"Last-Modified: Sat, 16 May 2015 20:31:39 GMT\r\nContent-Length: {self.size}"
                    peer.sendall(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + body(path, self.size))
        except OSError:
            pass


class Server:
    def __init__(self, options, engine, origin, library, directory):
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        words = shlex.split(options.binary) + ["-H127.0.0.1", f"-p{self.port}", "-c", directory]
        words += ["-U", f"http://127.0.0.1:{origin.port}", "-r", ".", "--io", engine]
        slow = {"LD_PRELOAD": library, "SLOW_DISK_MS": str(options.delay)}
        if options.serial:
            slow["SLOW_DISK_SERIAL"] = "1"
        limit = (options.descriptors, options.descriptors)
        self.process = subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **slow},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.connect().close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    sys.exit("the server does not start")
                time.sleep(0.05)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), 120)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident(self):
        """MiB."""
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)

    def stop(self):
        self.process.terminate()
        self.process.wait(120)


class Clients:
    """Some connections that share the paths."""

    def __init__(self, server, paths, options):
        self.server, self.size = server, options.size
        self.paths, self.lock = iter(paths), threading.Lock()
        self.wrong, self.times = [], []
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(options.connections)]
        for thread in self.threads:
            thread.start()

    def run(self):
        try:
            with self.server.connect() as connection:
                stream = connection.makefile("rb")
                while True:
                    with self.lock:
                        path = next(self.paths, None)
                    if path is None:
                        return
                    begun = time.monotonic()
                    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
                    status = stream.readline()
                    length = 0
                    while (line := stream.readline()) not in (b"\r\n", b""):
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    if b" 200 " not in status or stream.read(length) != body(path, self.size):
                        self.wrong.append(f"{path}: {status!r}")
                        return
                    self.times.append(time.monotonic() - begun)
        except OSError as error:
            self.wrong.append(str(error))


def try_burst(options, engine, library):
    origin = Origin(options.size)
    apart = "/{0}/-/{0}.tgz" if options.apart else "/{0}.tgz"
    paths = [apart.format(number) for number in range(options.files)]
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        server = Server(options, engine, origin, library, directory)
        begun, resident, descriptors = time.monotonic(), [server.resident()], [0]
        deadline = begun + options.seconds

        def look():
            resident.append(server.resident())
            descriptors.append(server.descriptors())
            time.sleep(LOOK)

        clients = Clients(server, paths, options)
        while any(thread.is_alive() for thread in clients.threads) and time.monotonic() < deadline:
            look()
        answered = time.monotonic() - begun

        def is_whole(path):
            try:
                return os.path.getsize(directory + path) == options.size
            except FileNotFoundError:
                return False

        # What is not stored never will be: no progress for some time is the end.
        missing, since = [path for path in paths if not is_whole(path)], time.monotonic()
        while missing and time.monotonic() < min(deadline, since + 10):
            look()
            left = [path for path in missing if not is_whole(path)]
            if len(left) < len(missing):
                since = time.monotonic()
            missing = left
        stored = time.monotonic() - begun
        server.stop()
    again = sum(count - 1 for count in origin.asked.values())
    grown, most = max(resident) - resident[0], max(descriptors)
    times = sorted(clients.times) or [0]
    print(
        f"{engine}: {len(clients.times)} of {options.files} answered in {answered:.1f} s"
        f" (median {times[len(times) // 2] * 1000:.0f} ms, worst {times[-1] * 1000:.0f} ms),"
        f" {len(missing)} not stored after {stored:.1f} s, {again} asked again,"
        f" {most} descriptors, {grown:.0f} MiB more"
    )
    for wrong in clients.wrong[:5]:
        print(f"  {wrong}")
    bad = clients.wrong or len(clients.times) < options.files or missing or again
    return not bad and grown <= options.most_memory and most <= options.descriptors


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--io", default="both", choices=["auto", "uring", "poll", "both"])
    release = os.path.join(HERE, "target/release/fs-caching-server")
    parser.add_argument("--binary", default=os.environ.get("FS_CACHE_BINARY", release))
    parser.add_argument("--files", type=int, default=10000)
    parser.add_argument("--size", type=int, default=16384)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--delay", type=int, default=50)
    parser.add_argument("--serial", action="store_true")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--descriptors", type=int, default=1024)
    parser.add_argument("--most-memory", type=int, default=128)
    parser.add_argument("--directory")
    parser.add_argument("--seconds", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        source, library = os.path.join(place, "slow.c"), os.path.join(place, "slow.so")
        with open(source, "w") as file:
            file.write(LIBRARY)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-lpthread"], check=True)
        engines = ["uring", "poll"] if options.io == "both" else [options.io]
        results = [try_burst(options, engine, library) for engine in engines]
    sys.exit(0 if all(results) else "not as it should be")


if __name__ == "__main__":
    main()
