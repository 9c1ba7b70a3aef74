#!/usr/bin/env python3
"""Whether what the documents name exists: linked files and headings, paths of this repository, tests.

    scripts/check/links.py [FILE...]     (default: every .md file that git knows)

Looks at relative links and their anchors, and at these words in backticks: paths (`src/...`, `scripts/...`), names of
files (`hit.rs`), and tests or functions by their module (`fill::lead`, `hostile_clients::*`). Asks no network.
"""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
ROOTS = ("src/", "scripts/", "tests/", "docs/", "examples/", "crates/", "benches/", "fuzz/", "systemd/", "smf/", ".ci/")
# Written by running the program or its tests.
MADE = ("fuzz/artifacts",)


def known_files():
    found = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=HERE, check=True, capture_output=True, text=True)
    return sorted(name for name in found.stdout.split("\n") if name and os.path.exists(os.path.join(HERE, name)))


def prose(text):
    """The text without blocks of code, line numbers kept."""
    inside, lines = False, []
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            inside = not inside
            line = ""
        lines.append("" if inside else line)
    return lines


def anchors(text):
    """The anchors of a document's headings, as GitHub makes them."""
    found = set()
    for line in prose(text):
        if match := re.match(r"#+ +(.*?)\s*$", line):
            title = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", match[1]).lower()
            anchor = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
            number, unique = 0, anchor
            while unique in found:
                number += 1
                unique = f"{anchor}-{number}"
            found.add(unique)
    return found


def read(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return file.read()


def link_fault(name, target, headings):
    if re.match(r"[a-z]+:", target):
        return None
    path, _, anchor = target.partition("#")
    place = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
    if not os.path.exists(os.path.join(HERE, place)):
        return f"no such file: {target}"
    if anchor and place.endswith(".md"):
        if place not in headings:
            headings[place] = anchors(read(place))
        if anchor not in headings[place]:
            return f"no such heading: {target}"
    return None


def code_fault(name, word, files, modules):
    word = re.split(r"[\s#]", word)[0].rstrip("/:")
    if re.fullmatch(r"([a-z_]+::)+(\*|\w+)", word):
        module, item = word.split("::")[-2:]
        known = item == "*" or any(re.search(rf"\b(fn|mod|enum|struct|const) {item}\b", text) for text in modules.get(module, ()))
        return f"no such test or function: {word}" if module in modules and not known else None
    if re.fullmatch(r"[\w/-]+\.(rs|py|sh)", word) and not word.startswith(ROOTS):
        return None if any(f"/{file}".endswith(f"/{word}") for file in files) else f"no such file: {word}"
    if not word.startswith(ROOTS) or re.search(r"[<>*$…{]|[A-Z]{3}", word) or word.startswith(MADE):
        return None
    beside = os.path.join(os.path.dirname(name), word)
    if any(os.path.exists(os.path.join(HERE, place)) for place in (word, beside)):
        return None
    return f"no such path: {word}"


def main():
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__.strip())
        return 0
    files = known_files()
    modules = {}
    for name in files:
        if re.fullmatch(r"(src|tests/blackbox)/.+\.rs", name):
            module = name.removesuffix(".rs").removesuffix("/mod").rsplit("/", 1)[-1]
            modules.setdefault(module, []).append(read(name))
    faults, headings = 0, {}
    for name in sys.argv[1:] or [name for name in files if name.endswith(".md")]:
        for number, line in enumerate(prose(read(name)), 1):
            found = [link_fault(name, target, headings) for target in LINK.findall(line)]
            found += [code_fault(name, word, files, modules) for word in CODE.findall(line)]
            for fault in filter(None, found):
                faults += 1
                print(f"{name}:{number}: {fault}")
    print("links:", f"FAILED, {faults} faults" if faults else "ok")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
