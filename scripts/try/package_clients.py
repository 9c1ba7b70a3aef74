"""What the trials with real clients share: an origin in this process, the program under test on a port and a directory
of its own, and a run on each engine. Not a program."""

import argparse
import contextlib
import http.server
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENGINES = ("uring", "poll")
CLIENT_SECONDS, START_SECONDS = 120, 20
LEFT_OUT = 3


class Failed(Exception):
    """What went wrong, in one line."""


class Skipped(Exception):
    """What is missing, in one line."""


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skipped(f"{program} is not installed")


def expect(what, got, wanted):
    if got != wanted:
        short = [text[:60] if isinstance(text, bytes) else text for text in (got, wanted)]
        raise Failed(f"{what}: {short[0]!r}, not {short[1]!r}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(home):
    """No proxies and no settings of the user's."""
    unwanted = ("FS_CACHE_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return kept | {"HOME": home, "no_proxy": "127.0.0.1", "LC_ALL": "C"}


def run(command, work, seconds=CLIENT_SECONDS, **options):
    """What a command writes, that ends in time; on failure its last lines are the reason."""
    options = {"cwd": work, "env": environment(work)} | options
    try:
        done = subprocess.run(command, timeout=seconds, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{command[0]} was not done after {seconds} s") from error
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        raise Failed(f"{command[0]} exited {done.returncode}: {' '.join(text.split())[-400:]}")
    return text


def empty(*parts):
    """An empty directory of this name."""
    path = os.path.join(*parts)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def read(*parts):
    with open(os.path.join(*parts), "rb") as file:
        return file.read()


def write(body, *parts):
    path = os.path.join(*parts)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(body if isinstance(body, bytes) else body.encode())
    return path


class Request:
    """One request at the origin: `connection` counts the connections accepted, from 0."""

    def __init__(self, path, fields, connection):
        self.path, self.fields, self.connection = path, fields, connection


class Origin:
    """Answers GET and HEAD by `site(request)`, which gives None (404) or a body and fields; conditions and ranges
    are looked at here, ranges are not. At `rate` it sends so many bytes a second."""

    def __init__(self, site, rate=0):
        self.site, self.port, self.asked = site, free_port(), []
        origin, accepted = self, iter(range(1 << 62))

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                self.number = next(accepted)

            def do_GET(self):
                request = Request(urllib.parse.unquote(self.path.split("?")[0]), self.headers, self.number)
                origin.asked.append(request)
                found = origin.site(request)
                if found is None:
                    return self.answer(404, b"not here\n", {"Content-Type": "text/plain"})
                body, fields = found
                known = self.headers.get("If-None-Match")
                if known is not None:
                    unchanged = known == fields.get("ETag")
                else:
                    unchanged = "Last-Modified" in fields and self.headers.get("If-Modified-Since") == fields["Last-Modified"]
                return self.answer(304 if unchanged else 200, body, fields)

            do_HEAD = do_GET

            def answer(self, status, body, fields):
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if status != 304 and self.command != "HEAD":
                    self.send(body)

            def send(self, body):
                piece = rate // 20 or len(body)
                for at in range(0, len(body), piece or 1):
                    self.wfile.write(body[at:at + piece])
                    time.sleep(0.05 if rate else 0)

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, address):
                pass

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def count(self, path):
        return sum(request.path == path for request in self.asked)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Cache:
    """The program under test."""

    def __init__(self, command, work, origin, engine, flags):
        self.port, self.work, self.directory = free_port(), work, empty(work, "cache")
        self.url, self.log = f"http://127.0.0.1:{self.port}", os.path.join(work, "cache.log")
        command = command + ["-c", self.directory, "-H", "127.0.0.1", "-p", str(self.port), "-U", f"http://127.0.0.1:{origin.port}", "-d",
                             "--io", engine, *flags]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(work), cwd=work)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.05)
        raise Failed(f"the cache did not start: {read(self.log).decode(errors='replace').strip()[-300:]}")

    def get(self, path, *fields):
        """The body of this path, as curl gets it with these fields."""
        lines = [word for field in fields for word in ("-H", field)]
        target = os.path.join(self.work, "got")
        run(["curl", "-sS", "-f", "-m", "60", *lines, "-o", target, self.url + path], self.work)
        return read(target)

    def kept(self, path):
        """The file that is kept for this path, as soon as it is there."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                return read(self.directory + path)
            time.sleep(0.05)
        raise Failed(f"{path} is not kept")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def binary():
    """FS_CACHE_BINARY, or the release build."""
    given = os.environ.get("FS_CACHE_BINARY")
    if given:
        return shlex.split(given)
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=HERE, check=True)
    return [os.path.join(HERE, "target", "release", "fs-caching-server")]


def main(text, trials):
    """Runs each trial, a function of the command, a directory and an engine, on each engine, and exits."""
    name = os.path.basename(sys.argv[0])
    parser = argparse.ArgumentParser(prog=name, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--io", default=",".join(ENGINES), help="engines, separated by commas")
    parser.add_argument("--keep", action="store_true", help="leave the working directory behind")
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"of {', '.join(trials)}; default: all")
    given = parser.parse_args()
    if unknown := [trial for trial in given.trials if trial not in trials]:
        parser.error(f"no such trial: {', '.join(unknown)}")
    command, outcomes = binary(), set()
    top = tempfile.mkdtemp(prefix=f"{name}.")
    for trial in given.trials or trials:
        for engine in given.io.split(","):
            outcome, note = "ok", ""
            try:
                note = trials[trial](command, empty(top, f"{trial}-{engine}"), engine) or ""
            except Skipped as why:
                outcome, note = "left out", str(why)
            except Failed as why:
                outcome, note = "FAILED", str(why)
            outcomes.add(outcome)
            print(f"{trial:12} {engine:6} {outcome:9} {note}", flush=True)
    if given.keep:
        print(f"kept: {top}")
    else:
        shutil.rmtree(top, ignore_errors=True)
    sys.exit(1 if "FAILED" in outcomes else LEFT_OUT if outcomes == {"left out"} else 0)
