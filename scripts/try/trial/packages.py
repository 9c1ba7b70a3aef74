"""Trials with real package clients: what they need of this machine, an origin of files, the program before it, and a
run on each engine."""

import os
import shutil
import subprocess
import sys
import time
import urllib.parse
from email.utils import formatdate

from . import client, command, directory, origin, server
from .command import ENGINES, LEFT_OUT, Failed
from .directory import read

CLIENT_SECONDS = 120
# Settings of the user's that would lead a client elsewhere.
UNWANTED = ("npm_config_", "NPM_CONFIG_", "PIP_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


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


def environment(home):
    kept = {name: value for name, value in server.environment().items() if not name.startswith(UNWANTED)}
    return kept | {"HOME": home, "no_proxy": "127.0.0.1", "LC_ALL": "C"}


def run(words, work, seconds=CLIENT_SECONDS, **options):
    """What a command writes, that ends in time; on failure its last lines are the reason."""
    options = {"cwd": work, "env": environment(work), "stderr": subprocess.STDOUT} | options
    try:
        done = subprocess.run(words, timeout=seconds, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options)
    except FileNotFoundError as error:
        raise Failed(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{words[0]} was not done after {seconds} s") from error
    if done.returncode:
        said = (done.stdout + (done.stderr or b"")).decode(errors="replace")
        raise Failed(f"{words[0]} exited {done.returncode}: {' '.join(said.split())[-400:]}")
    return done.stdout.decode(errors="replace")


def empty(*parts):
    """An empty directory of this name."""
    path = os.path.join(*parts)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def write(body, *parts):
    path = os.path.join(*parts)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(body if isinstance(body, bytes) else body.encode())
    return path


class Origin(origin.Origin):
    """Answers by `site(request)`, which gives None (404) or a body and fields; conditions are looked at here, ranges
    are not. At `rate` it sends so many bytes a second."""

    def __init__(self, site, rate=0, port=0):
        self.site, self.rate, self.asked = site, rate, []
        super().__init__(self.reply, port=port)

    def reply(self, peer, request):
        request.path = urllib.parse.unquote(request.path)
        self.asked.append(request)
        body, fields = self.site(request) or (b"not here\n", None)
        status, fields = ("404 Not Found", {"Content-Type": "text/plain"}) if fields is None else ("200 OK", fields)
        if "if-none-match" in request.fields:
            unchanged = request.fields["if-none-match"] == fields.get("ETag")
        else:
            unchanged = request.fields.get("if-modified-since", "") == fields.get("Last-Modified")
        fields = {"Date": formatdate(usegmt=True)} | fields
        if unchanged:
            peer.send(origin.head("304 Not Modified", **fields))
        else:
            peer.send(origin.head(status, Content_Length=len(body), **fields))
            if request.method != "HEAD":
                self.send(peer, body)
        return fields.get("Connection") != "close"

    def send(self, peer, body):
        piece = self.rate // 20 or len(body)
        for at in range(0, len(body), piece or 1):
            peer.send(body[at:at + piece])
            time.sleep(0.05 if self.rate else 0)

    def count(self, path):
        return sum(request.path == path for request in self.asked)


class Cache(server.Server):
    """The program under test, at work on an empty directory."""

    def __init__(self, binary, work, source, engine, flags):
        super().__init__(binary, engine, empty(work, "cache"), source.url, ["-d", *flags], environment=environment(work), cwd=work)

    def get(self, path, *fields):
        """The body of this path, as a client with these fields gets it."""
        try:
            answer, body, _ = client.get(self.address, path, "".join(field + "\r\n" for field in fields))
        except (client.Broken, client.Wrong) as error:
            raise Failed(f"{path}: {error}") from None
        if answer.status != 200:
            raise Failed(f"{path}: status {answer.status}")
        return body

    def kept(self, path):
        """The file that is kept for this path, as soon as it is there."""
        if not directory.until_stored(self.cache + path):
            raise Failed(f"{path} is not kept")
        return read(self.cache + path)


def options(text, names, metavar, **more):
    """--io (engines, separated by commas), --keep, and what to try of these names; `more` are options with a value."""
    parser = command.parser(text)
    parser.add_argument("--io", default=",".join(ENGINES), help="engines, separated by commas")
    parser.add_argument("--keep", action="store_true", help="leave the working directory behind")
    for name, usual in more.items():
        parser.add_argument(f"--{name}", default=usual, help=f"default: {usual}")
    parser.add_argument("names", nargs="*", metavar=metavar, help=f"of {', '.join(names)}; default: all")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in names]:
        parser.error(f"not one of {', '.join(names)}: {', '.join(unknown)}")
    given.names, given.engines, given.binary = given.names or list(names), given.io.split(","), command.program()
    return given


def main(text, trials):
    """Runs each trial, a function of the program, a directory and an engine, on each engine, and exits."""
    given, outcomes = options(text, trials, "TRIAL"), set()
    with command.workplace(given.keep) as top:
        for trial in given.names:
            for engine in given.engines:
                outcome, note = "ok", ""
                try:
                    note = trials[trial](given.binary, empty(top, f"{trial}-{engine}"), engine) or ""
                except Skipped as why:
                    outcome, note = "left out", str(why)
                except Failed as why:
                    outcome, note = "FAILED", str(why)
                outcomes.add(outcome)
                print(f"{trial:12} {engine:6} {outcome:9} {note}", flush=True)
    sys.exit(1 if "FAILED" in outcomes else LEFT_OUT if outcomes == {"left out"} else 0)
