#!/usr/bin/env python3
"""Checks what starts the program as a service: systemd's units and the SMF manifest.

    scripts/check/services.py [smf] [systemd]     (default: both)

smf      the manifest is well-formed, its structure is what the document type of service bundles
         demands (order and number of elements, attributes and their values), it has the service's
         name, the variables and the methods that a zone relies on, and shell methods parse.
systemd  `systemd-analyze verify` says nothing about the units, `systemd-analyze security` gives 2.0
         or less, and io_uring's calls are allowed. Where systemd is missing and this is root on a
         system with apt-get, it is installed; else it is said that this part was left out.

Exit code 0: all well; 1: faults; 3: no faults, but a part could not be checked.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MANIFEST = os.path.join(HERE, "smf/manifest.xml")
UNITS = os.path.join(HERE, "systemd")
PROGRAM = "/usr/local/bin/fs-caching-server"
MOST_EXPOSED = 2.0

# ------------------------------------------------------------------ SMF

TYPES = "count integer opaque host hostname net_address_v4 net_address_v6 time astring ustring boolean fmri uri"
BOOLEAN = "true|false"
GROUPINGS = "require_all|require_any|exclude_all|optional_all"
# Element: (content, attributes). The content is an expression over the names of the children, each followed by a
# blank; None is text. An attribute's value is an expression, or None for any text; all are required. Only what our
# manifest has is here, with what else the document type lets stand beside it: an element that is missing is a fault.
RULES = {
    "service_bundle": ("(service )*", {"type": "archive|manifest|profile", "name": None}),
    "service": (
        "(create_default_instance )?(single_instance )?(restarter )?(dependency )*(dependent )*(method_context )?"
        "(exec_method )*(property_group )*(instance )*(stability )?(template )?",
        {"name": None, "version": r"\d+", "type": "service|restarter|milestone"},
    ),
    "create_default_instance": ("", {"enabled": BOOLEAN}),
    "single_instance": ("", {}),
    "dependency": (
        "(service_fmri )*(stability )?(propval |property )*",
        {"name": None, "grouping": GROUPINGS, "restart_on": "error|restart|refresh|none", "type": "service|path"},
    ),
    "service_fmri": ("", {"value": r"(svc|file|lrc):.+"}),
    "method_context": ("(method_profile |method_credential )?(method_environment )?", {"working_directory": r"/.*|:default|:home"}),
    "method_credential": ("", {"user": None, "group": None, "privileges": None, "limit_privileges": None}),
    "method_environment": ("(envvar )+", {}),
    "envvar": ("", {"name": r"[A-Za-z_]\w*", "value": None}),
    "exec_method": (
        "(method_context )?(stability )?(propval |property )*",
        {"type": "method|monitor", "name": None, "exec": r"(?s).+", "timeout_seconds": r"-1|\d+"},
    ),
    "property_group": ("(stability )?(propval |property )*", {"name": None, "type": None}),
    "propval": ("", {"name": None, "type": TYPES.replace(" ", "|"), "value": None}),
    "stability": ("", {"value": "Standard|Stable|Evolving|Unstable|External|Obsolete"}),
    "template": ("common_name (description )?(documentation )?", {}),
    "common_name": ("(loctext )+", {}),
    "loctext": (None, {"xml:lang": None}),
}
XML_SPACE = "{http://www.w3.org/XML/1998/namespace}"
SERVICE = "application/fs-caching-server"
VARIABLES = ["FS_CACHE_DIR", "FS_CACHE_URL", "FS_CACHE_HOST", "FS_CACHE_PORT", "FS_CACHE_REGEX", "FS_CACHE_DEBUG"]
METHODS = {"start": r"/\S+/fs-caching-server &", "stop": r":kill( -TERM)?", "refresh": r":kill -HUP"}
# What illumos calls the basic set's members, and what a low port needs.
PRIVILEGES = "basic file_link_any file_read file_write net_access proc_exec proc_fork proc_info proc_session net_privaddr".split()


def structure(element, path, faults):
    """Compares one element and those within with the table."""
    path = f"{path}/{element.tag}"
    if element.tag not in RULES:
        faults.append(f"{path}: no such element")
        return
    content, known = RULES[element.tag]
    attributes = {name.replace(XML_SPACE, "xml:"): value for name, value in element.attrib.items()}
    faults.extend(f"{path}: the attribute {name} is missing" for name in known if name not in attributes)
    for name, value in attributes.items():
        if name not in known:
            faults.append(f"{path}: no such attribute here: {name}")
        elif known[name] is not None and not re.fullmatch(known[name], value):
            faults.append(f"{path}: {name}={value!r} is not one of {known[name]}")
    children = "".join(child.tag + " " for child in element)
    if content is None:
        if children:
            faults.append(f"{path}: has elements where only text may be")
    else:
        if not re.fullmatch(content, children):
            faults.append(f"{path}: its elements are [{children.strip()}], which does not follow {content.strip()!r}")
        texts = [element.text, *(child.tail for child in element)]
        if any(text and text.strip() for text in texts):
            faults.append(f"{path}: text where only elements may be")
    for child in element:
        structure(child, path, faults)


def check_smf():
    faults = []
    with open(MANIFEST, encoding="utf-8") as file:
        text = file.read()
    try:
        bundle = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        return [f"smf/manifest.xml: not well-formed: {error}"]
    if not re.search(r'<!DOCTYPE\s+service_bundle\s+SYSTEM\s+["\']/usr/share/lib/xml/dtd/service_bundle.dtd.1["\']', text):
        faults.append("the document type is not that of service bundles")
    structure(bundle, "", faults)
    if bundle.tag != "service_bundle":
        return faults + ["the root is no service_bundle"]
    if bundle.get("type") != "manifest":
        faults.append("the bundle is no manifest")
    services = bundle.findall("service")
    if [service.get("name") for service in services] != [SERVICE]:
        return faults + [f"the one service is not {SERVICE}"]
    service = services[0]
    for name in ("method_context", "template"):
        if service.find(name) is None:
            faults.append(f"a manifest needs {name}")
    variables = [variable.get("name") for variable in service.iter("envvar")]
    faults += [f"the variable {name} is missing" for name in VARIABLES if name not in variables]
    faults += [f"the variable {name} is there twice" for name in set(variables) if variables.count(name) > 1]
    methods = {method.get("name"): method.get("exec", "") for method in service.iter("exec_method")}
    for name, wanted in METHODS.items():
        if not re.fullmatch(wanted, methods.get(name, "")):
            faults.append(f"the method {name} is {methods.get(name)!r}, wanted {wanted}")
    for name, line in methods.items():
        if not line.startswith(":") and subprocess.run(["bash", "-n", "-c", line]).returncode != 0:
            faults.append(f"the method {name} is no shell line")
    credential = service.find("method_context/method_credential")
    if credential is None or credential.get("user") != "nobody":
        faults.append("the user is not nobody")
    else:
        for attribute in ("privileges", "limit_privileges"):
            privileges = credential.get(attribute, "").split(",")
            faults += [f"{attribute}: {one!r} is unknown here" for one in privileges if one.lstrip("!") not in PRIVILEGES]
            if "all" in privileges or "!file_link_any" not in privileges:
                faults.append(f"{attribute} are not the least")
    durations = [one.get("value") for one in service.iter("propval") if one.get("name") == "duration"]
    ampersand = methods.get("start", "").rstrip().endswith("&")
    if durations not in ([], ["contract"], ["child"]) or ampersand != (durations != ["child"]):
        faults.append(f"a start method {'with' if ampersand else 'without'} '&' does not fit the model {durations}")
    return ["smf/manifest.xml: " + fault for fault in faults]


# ------------------------------------------------------------------ systemd


def have_systemd():
    if shutil.which("systemd-analyze"):
        return True
    if os.getuid() == 0 and shutil.which("apt-get"):
        print("installing systemd, for systemd-analyze", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        quiet = {"env": environment, "stdout": subprocess.DEVNULL, "timeout": 300}
        subprocess.run(["apt-get", "-qq", "update"], **quiet)
        subprocess.run(["apt-get", "-qq", "install", "-y", "--no-install-recommends", "systemd"], **quiet)
    return shutil.which("systemd-analyze") is not None


def analyze(*arguments):
    done = subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip()


def check_systemd(units=UNITS):
    faults = []
    names = sorted(name for name in os.listdir(units) if name.endswith((".service", ".socket")))
    if not any(name.endswith(".service") for name in names):
        return ["systemd/: no unit"]
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            with open(os.path.join(units, name), encoding="utf-8") as file:
                text = file.read()
            if name.endswith(".service") and f"ExecStart={PROGRAM}\n" not in text:
                faults.append(f"{name}: does not start {PROGRAM}")
            # The program need not be installed for its unit to be checked.
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(text.replace(f"ExecStart={PROGRAM}\n", f"ExecStart={shutil.which('true')}\n"))
        paths = [os.path.join(directory, name) for name in names]
        code, said = analyze("verify", "--man=no", *paths)
        if code != 0 or said:
            faults.append(f"systemd-analyze verify: exit code {code}\n{said}")
        else:
            print(f"systemd-analyze verify: clean ({', '.join(names)})")
        for path in paths:
            if path.endswith(".service"):
                faults += check_exposure(path)
    return ["systemd: " + fault for fault in faults]


def check_exposure(path):
    code, said = analyze("security", "--offline=true", path)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    if found is None:
        return [f"systemd-analyze security: no level (exit code {code})\n{said}"]
    print(f"systemd-analyze security: {found[0]}")
    if float(found[1]) > MOST_EXPOSED:
        worst = "\n".join(line for line in said.splitlines() if line.startswith("✗"))
        return [f"exposure level {found[1]}, wanted {MOST_EXPOSED} or less\n{worst}"]
    return []


def main():
    chosen = sys.argv[1:] or ["smf", "systemd"]
    if any(name not in ("smf", "systemd") for name in chosen):
        print(__doc__)
        return 0 if chosen in (["-h"], ["--help"]) else 2
    faults, left_out = [], False
    if "smf" in chosen:
        found = check_smf()
        faults += found
        if not found:
            print("SMF manifest: well-formed, as the document type demands, names and methods as promised")
    if "systemd" in chosen:
        if have_systemd():
            faults += check_systemd()
        else:
            left_out = True
            print("systemd's units: NOT CHECKED, systemd-analyze is missing and cannot be installed")
    for fault in faults:
        print("FAULT:", fault)
    print("services:", "FAILED" if faults else "a part was left out" if left_out else "ok")
    return 1 if faults else 3 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
