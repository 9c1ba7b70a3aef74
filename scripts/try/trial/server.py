"""The program under trial: its life, its memory, its descriptors, its files."""

import os
import random
import shlex
import signal
import socket
import subprocess
import time

from . import content

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BINARY = os.environ.get("FS_CACHE_BINARY", os.path.join(HERE, "target/release/fs-caching-server"))


class Server:
    """The program on a port of its own, started as often as it is killed."""

    def __init__(self, binary, io, cache, origin, options=(), environment=None, debug=None):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = probe.getsockname()
        self.command = shlex.split(binary) + ["-c", cache, "-U", origin, "-H", "127.0.0.1", "-p", str(self.address[1])]
        self.command += ["--io", io, *options] + (["-d"] if debug else [])
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FS_CACHE_")}
        self.environment = clean | (environment or {})
        self.cache, self.debug, self.process = cache, debug, None

    def start(self):
        errors = open(self.debug, "ab") if self.debug else subprocess.DEVNULL
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=errors, env=self.environment)
        if self.debug:
            errors.close()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended with {self.process.returncode}: {shlex.join(self.command)}")
            try:
                socket.create_connection(self.address, 5).close()
                return self
            except OSError:
                time.sleep(0.01)
        raise SystemExit("the server does not listen")

    def is_alive(self):
        return self.process.poll() is None

    def kill(self):
        """Returns once nobody listens any more: the sockets of a ring outlive their process for a moment."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(self.address, 5).close()
            except ConnectionRefusedError:
                return
            except OSError:
                pass
            time.sleep(0.005)
        raise SystemExit("a killed server goes on listening")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def files(cache):
    """Every file below the cache directory: its path, and whether it is in progress."""
    for directory, _, names in os.walk(cache):
        for name in names:
            yield os.path.join(directory, name), name.endswith(".in-progress")


def wrong_files(cache):
    """Finished files that are not what belongs to their names."""
    for file, in_progress in files(cache):
        if in_progress:
            continue
        path = "/" + os.path.relpath(file, cache)
        try:
            with open(file, "rb") as opened:
                data = opened.read()
        except FileNotFoundError:
            continue
        if data != content.whole(path):
            yield f"{path}: {len(data)} bytes of {content.size_of(path)}"


class Meddler:
    """Does to the cache directory what others do: deletes files, leaves some behind, changes their times."""

    def __init__(self, cache, names, seed):
        self.cache, self.dice = cache, random.Random(f"{seed} meddler")
        self.names = [name for name in names if name.endswith(".tgz")]
        self.deleted = self.left = self.touched = 0

    def once(self):
        path = os.path.join(self.cache, self.dice.choice(self.names)[1:])
        way = self.dice.randrange(10)
        try:
            if way < 7:
                os.unlink(path)
                self.deleted += 1
            elif way < 8:
                self.leave(path + ".in-progress")
            else:
                os.utime(path, (time.time(), self.dice.randrange(1_000_000_000, 1_700_000_000)))
                self.touched += 1
        except OSError:
            pass

    def leave(self, path):
        """What a crash left behind: nobody holds it."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(self.dice.randbytes(self.dice.randrange(2000)))
        self.left += 1


def certificate(directory):
    """A key and a certificate for 127.0.0.1, signed by itself; none where there is no openssl."""
    key, pem = os.path.join(directory, "key.pem"), os.path.join(directory, "cert.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", key, "-out", pem, "-days", "2", "-subj", "/CN=trial", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return pem, key
