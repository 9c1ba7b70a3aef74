#!/usr/bin/env python3
"""Runs the suite http-cache-tests (https://cache-tests.fyi) against this program, with all that it
asks for in the revalidate class, and shows the counts beside those of the other caches whose
results come with the suite.

    scripts/try/http-cache-tests.py [--suite DIR] [--io uring,poll] [--write]
    scripts/try/http-cache-tests.py --test ID        one test, with every head as it was sent and received
    scripts/try/http-cache-tests.py --server nginx   another cache, compared with what the suite has stored of it

Without --suite the npm package http-cache-tests is taken from the registry that npm is configured
for; it is older than the suite's repository, a checkout of which (bare or not) --suite names. The
suite is copied to a temporary directory, where npm adds the few modules it needs. Its origin, its
client and its rules for what a result means run as they are; the origin is held on 127.0.0.1.

Every test that this program does not pass needs a reason in docs/http-cache-tests.notes.toml.
Exit code 0: each has one, and each reason still has its test. --write renews docs/http-cache-tests.md
below its marker, and docs/http-cache-tests.json. FS_CACHE_BINARY: the program to test, with
arguments if need be (default: the release build). It needs node, npm, git and Python 3.11.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib

sys.dont_write_bytecode = True

from trial import command, packages, peers, server
from trial.packages import Failed

HERE = command.HERE
PAGE, RESULTS, NOTES = (os.path.join(HERE, "docs", "http-cache-tests" + end) for end in (".md", ".json", ".notes.toml"))
MARKER = "<!-- From here on written by scripts/try/http-cache-tests.py. -->"
PACKAGE = "http-cache-tests"
# The modules that the suite's origin and client import, of the many that its package.json names.
MODULES = ("undici", "node-fetch")
# Nothing for ever; everything kept and checked, as long as its head or a guess from its age says. Stale
# when the origin fails: without it the tests of what must not be served stale are not judged. The suite's origin
# tells its requests apart by fields of its own, and the suite's tests of Vary name others: all that its client sends
# goes along. Some of its tests have fields of one user stored.
FILL_FIELDS = "Req-Num,Test-ID,Test-Name,Foo,Bar,Baz,Abc,Other,Accept-Language,Sec-Fetch-Mode"
KEEP_FIELDS = "Set-Cookie,Set-Cookie2,Clear-Site-Data"
FLAGS = ("-r $^ --revalidate . --revalidate-after heuristic --stale-if-error forever --cdn-cache-control "
         f"--fill-fields {FILL_FIELDS} --keep-fields {KEEP_FIELDS}")
RUN_SECONDS, INSTALL_SECONDS = 900, 300
ENGINES = {"uring": "io_uring", "poll": "epoll"}
KINDS = {"required": ("pass", "fail"), "optimal": ("pass", "optional_fail"), "check": ("yes", "no")}
# Outcomes that say nothing against a cache; a dependency's own failure is explained where it is.
UNBLAMED = ("pass", "yes", "no", "untested", "dependency_fail")

# Run before the suite's origin: it would listen on every address.
LOOPBACK = """
const net = require('net')
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port) { return listen.call(this, Number(port), '127.0.0.1') }
"""

# Asks the suite's own rules, dependencies between tests included, what each result means.
EVALUATE = """
import fs from 'fs'
import { pathToFileURL } from 'url'
const [, root, engine, given] = process.argv
const load = path => import(pathToFileURL(path))
const rules = fs.existsSync(`${engine}/lib/results.mjs`) ? 'results' : 'display'
const { determineTestResult } = await load(`${engine}/lib/${rules}.mjs`)
const suites = (await load(`${root}/tests/index.mjs`)).default
const stored = (await load(`${root}/results/index.mjs`)).default.filter(cache => cache.type !== 'browser')
const read = path => JSON.parse(fs.readFileSync(path))
const names = { '-': 'untested', '✅': 'pass', '⛔️': 'fail', '⚠️': 'optional_fail', Y: 'yes', N: 'no', '🔹': 'setup_fail',
  '⁉️': 'harness_fail', '⚪️': 'dependency_fail', '↻': 'retry' }
const tests = suites.flatMap(suite => suite.tests.filter(test => !test.browser_only).map(test =>
  ({ id: test.id, name: test.name, suite: suite.name, kind: test.kind || 'required', depends_on: test.depends_on || [] })))
const judge = (name, version, results) => ({ name, version, results,
  outcomes: Object.fromEntries(tests.map(({ id }) => [id, names[determineTestResult(suites, id, results)[2]]])) })
console.log(JSON.stringify({ tests,
  subjects: Object.entries(read(given)).map(([name, results]) => judge(name, '', results)),
  stored: stored.map(cache => judge(cache.name, cache.version, read(`${root}/results/${cache.file}`))) }))
"""

def run(words, seconds, cwd=None, env=None):
    """A command that ends, in the user's own surroundings: its standard output."""
    return packages.run(words, cwd, seconds, env=env, stderr=subprocess.PIPE)


class Suite:
    """A copy of the suite that can be run."""

    def __init__(self, given, work):
        self.root, self.work = os.path.join(work, "suite"), work
        os.mkdir(self.root)
        self.version = self.bring(given)
        inner = os.path.join(self.root, "test-engine")
        self.engine = inner if os.path.isdir(inner) else self.root
        with open(os.path.join(self.root, "package.json")) as file:
            wanted = json.load(file)["dependencies"]
        # In place of the whole package.json: npm itself is among what it names.
        with open(os.path.join(self.root, "package.json"), "w") as file:
            json.dump({"private": True, "dependencies": {name: wanted[name] for name in MODULES if name in wanted}}, file)
        run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"], INSTALL_SECONDS, cwd=self.root)

    def bring(self, given):
        """Copies it; returns what to call it."""
        if not given:
            run(["npm", "pack", "--pack-destination", self.work, PACKAGE], INSTALL_SECONDS)
            packed = next(name for name in os.listdir(self.work) if name.endswith(".tgz"))
            run(["tar", "-xzf", os.path.join(self.work, packed), "-C", self.root, "--strip-components=1"], 60)
            return "npm " + packed.removesuffix(".tgz")
        if not os.path.isdir(given):
            raise Failed(f"{given} is no directory")
        if os.path.isfile(os.path.join(given, "package.json")):
            shutil.copytree(given, self.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", "node_modules"))
        else:
            archive = os.path.join(self.work, "suite.tar")
            run(["git", "-C", given, "archive", "-o", archive, "HEAD"], 60)
            run(["tar", "-xf", archive, "-C", self.root], 60)
        return "commit " + run(["git", "-C", given, "log", "-1", "--format=%h of %cs"], 60).strip()

    def environment(self, **settings):
        """What npm would tell the suite's programs."""
        kept = {name: value for name, value in os.environ.items() if not name.lower().startswith(("npm_", "http_proxy", "https_proxy"))}
        return kept | {f"npm_{level}config_{name}": value for name, value in settings.items() for level in ("", "package_")}

    def origin(self):
        shim = os.path.join(self.work, "loopback.cjs")
        with open(shim, "w") as file:
            file.write(LOOPBACK)
        words = ["node", "--require", shim, os.path.join(self.engine, "server/server.mjs")]
        origin = server.Program(words, output=True, cwd=self.root)
        origin.more = self.environment(protocol="http", port=str(origin.address[1]), pidfile=os.path.join(self.work, "origin.pid"))
        return origin

    def client(self, url, test=""):
        settings = self.environment(base=url, id=test)
        return run(["node", "--no-warnings", os.path.join(self.engine, "cli.mjs")], RUN_SECONDS, env=settings, cwd=self.root)

    def evaluate(self, results):
        given = os.path.join(self.work, "given.json")
        with open(given, "w") as file:
            json.dump(results, file)
        return json.loads(run(["node", "--no-warnings", "--input-type=module", "-e", EVALUATE, "--", self.root, self.engine, given], 60))


def subject(options, name, work, origin):
    """A cache in front of the origin."""
    if options.server == "nginx":
        # What the suite's own container runs nginx with.
        return peers.Nginx(work, origin.url, "levels=1:2 max_size=1000m inactive=600m", "proxy_cache_revalidate on;")
    return server.Server(options.program, name, os.path.join(work, "cache"), origin.url, shlex.split(options.flags))


def measure(options, suite, name, work):
    """The suite's results of one cache, as it writes them; of one test, what it prints."""
    work = os.path.join(work, name)
    os.mkdir(work)
    with suite.origin() as origin, subject(options, name, work, origin) as cache:
        output = suite.client(cache.url, options.test)
    if options.test:
        print(f"== {name}: the client\n{output}\n== {name}: the origin\n{origin.said()}")
        return None
    return json.loads(output[output.index("\n{") if not output.startswith("{") else 0:])


def counts(judged, tests, kind):
    """Passed, failed, behind a dependency that failed, and the rest."""
    seen = [judged["outcomes"][test["id"]] for test in tests if test["kind"] == kind]
    good, bad = KINDS[kind]
    figures = [seen.count(good), seen.count(bad), seen.count("dependency_fail")]
    return figures + [len(seen) - sum(figures)]


def table(report):
    """A Markdown table with a row for each cache."""
    heads = [f"{kind}: {word}" if index == 0 else word for kind, first in (("required", "passed"), ("optimal", "passed"), ("check", "yes"))
             for index, word in enumerate((first, "failed" if first == "passed" else "no", "dependency", "other"))]
    lines = ["| cache | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for judged in report["subjects"] + report["stored"]:
        figures = [figure for kind in KINDS for figure in counts(judged, report["tests"], kind)]
        title = f"{judged['name']} {judged['version']}".strip()
        if judged in report["subjects"]:
            title = f"**{title}**"
        lines.append(f"| {title} | " + " | ".join(map(str, figures)) + " |")
    return lines


def failures(report):
    """The tests that one of ours has failed, with the suite's message."""
    found = []
    for test in report["tests"]:
        outcomes = {judged["name"]: judged["outcomes"][test["id"]] for judged in report["subjects"]}
        blamed = [judged for judged in report["subjects"] if judged["outcomes"][test["id"]] not in UNBLAMED]
        if blamed:
            message = " ".join(str(blamed[0]["results"][test["id"]][1]).split()).replace("|", "\\|")
            others = sum(judged["outcomes"][test["id"]] in ("pass", "yes") for judged in report["stored"])
            found.append(test | {"outcomes": outcomes, "message": message, "others": others,
                                 "where": "all" if len(blamed) == len(outcomes) else ", ".join(judged["name"] for judged in blamed)})
    return found


def rows(failed, stored):
    """A Markdown table of tests."""
    lines = ["| test | kind | the suite's words | failed with | passed by |", "| --- | --- | --- | --- | --- |"]
    return lines + [f"| {test['suite']}: {test['name']} (`{test['id']}`) | {test['kind']} | {test['message']} | {test['where']} "
                    f"| {test['others']} of {stored} |" for test in failed]


def read_notes():
    if not os.path.exists(NOTES):
        return []
    with open(NOTES, "rb") as file:
        return tomllib.load(file).get("note", [])


def page(report, failed, notes, suite, version):
    """The generated half of docs/http-cache-tests.md."""
    stored = len(report["stored"])
    lines = ["", f"`{version}`, flags `{FLAGS}`, suite {suite.version}; the others as stored with the suite.", "", *table(report), ""]
    lines += ["## What is not passed, and why", ""]
    explained = set()
    for note in notes:
        covered = [test for test in failed if test["id"] in note["tests"]]
        explained.update(test["id"] for test in covered)
        if covered:
            lines += [f"### {note['title']}", "", note["why"].strip(), "", *rows(covered, stored), ""]
    rest = [test for test in failed if test["id"] not in explained]
    if rest:
        lines += ["### Not explained yet", "", *rows(rest, stored), ""]
    return "\n".join(lines + behind(report))


def behind(report):
    """The tests that say nothing since one that they build on is not passed."""
    lines = ["## Not judged", "", "These build on a test that is not passed:", ""]
    for test in report["tests"]:
        outcomes = [judged["outcomes"] for judged in report["subjects"]]
        if any(outcome[test["id"]] == "dependency_fail" for outcome in outcomes):
            blocked = [name for name in test["depends_on"] if any(outcome[name] not in ("pass", "yes") for outcome in outcomes)]
            lines.append(f"- `{test['id']}`, on {', '.join(f'`{name}`' for name in blocked)}")
    return lines + [""]


def write(report, text, suite, version):
    kept = "# The suite http-cache-tests\n\n"
    if os.path.exists(PAGE):
        with open(PAGE) as file:
            kept = file.read().split(MARKER)[0]
    with open(PAGE, "w") as file:
        file.write(kept + MARKER + "\n" + text)
    with open(RESULTS, "w") as file:
        # One line a test; True, or the suite's name and message of the failure.
        results = {judged["name"]: judged["results"] for judged in report["subjects"]}
        body = ",\n".join(f'"{name}": {{\n' + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in found.items()) + "\n}"
                          for name, found in results.items())
        file.write(f'{{"program": {json.dumps(version)}, "suite": {json.dumps(suite.version)},\n{body}}}\n')


def compare(report, server):
    """Another cache beside the suite's stored results of it."""
    ours = report["subjects"][0]
    theirs = next((judged for judged in report["stored"] if judged["name"].lower() == server), None)
    if not theirs:
        return
    differing = [test for test in report["tests"] if ours["outcomes"][test["id"]] != theirs["outcomes"][test["id"]]]
    print(f"\n{len(differing)} of {len(report['tests'])} tests end otherwise than with the stored {theirs['name']} {theirs['version']}:")
    for test in differing:
        print(f"  {test['id']}: {ours['outcomes'][test['id']]} here, {theirs['outcomes'][test['id']]} stored; {ours['results'].get(test['id'])}")


def parse():
    parser = command.parser(__doc__)
    parser.add_argument("--suite", metavar="DIR", help="a checkout of the suite, or a bare repository (default: the npm package)")
    parser.add_argument("--io", default="uring,poll", help="the engines to test (uring,poll)")
    parser.add_argument("--flags", default=FLAGS, help=f"the program's flags ({FLAGS.replace('%', '%%')})")
    parser.add_argument("--server", choices=("ours", "nginx"), default="ours", help="the cache to test")
    parser.add_argument("--test", metavar="ID", default="", help="run this one alone, and show its traffic")
    parser.add_argument("--write", action="store_true", help="renew the page and the results in docs")
    parser.add_argument("--keep", action="store_true", help="leave the temporary directory behind")
    options = parser.parse_args()
    options.subjects = ["nginx"] if options.server == "nginx" else options.io.split(",")
    if options.server == "ours" and not set(options.subjects) <= set(ENGINES):
        parser.error(f"--io: of {', '.join(ENGINES)}")
    if options.write and (options.server != "ours" or options.flags != FLAGS or set(options.subjects) != set(ENGINES)):
        parser.error("--write needs a run of both engines with the flags as they are")
    return options


def tested(options, work):
    suite = Suite(options.suite, work)
    options.program = command.program() if options.server == "ours" else []
    results = {}
    for name in options.subjects:
        begun = time.monotonic()
        title = f"this, {ENGINES[name]}" if options.server == "ours" else name
        results[title] = measure(options, suite, name, work)
        print(f"{title}: {time.monotonic() - begun:.0f} s", flush=True)
    if options.test:
        return 0
    report = suite.evaluate(results)
    print("\n".join(["", f"suite: {suite.version}", "", *table(report)]))
    if options.server != "ours":
        compare(report, options.server)
        return 0
    return judged_ours(options, suite, report)


def judged_ours(options, suite, report):
    failed, notes = failures(report), read_notes()
    version = "fs-caching-server " + run([options.program[0], "-v"], 10).strip()
    if options.write:
        write(report, page(report, failed, notes, suite, version), suite, version)
    noted = {name for note in notes for name in note["tests"]}
    names = {test["id"] for test in failed}
    unexplained = [test for test in failed if test["id"] not in noted]
    print(f"\n{len(failed)} tests are not passed, {len(unexplained)} of them without a reason in {os.path.relpath(NOTES, HERE)}")
    for test in unexplained:
        print(f"  {test['kind']:8} {test['id']}: {test['message']} (with {test['where']}; {test['others']} of {len(report['stored'])} others pass)")
    stale = sorted(noted - names)
    if stale:
        print(f"reasons without a test that fails: {', '.join(stale)}")
    return 1 if unexplained or stale else 0


def main():
    options = parse()
    with command.workplace(options.keep) as work:
        try:
            return tested(options, work)
        except Failed as error:
            print(f"http-cache-tests: {error}", file=sys.stderr)
            return 2


sys.exit(main())
