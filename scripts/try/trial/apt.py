"""A signed repository of Debian packages, made here, and an apt that knows nothing of the user's or the system's."""

import contextlib
import gzip
import hashlib
import lzma
import os
import pwd
import shutil
import subprocess
import tempfile
from email.utils import formatdate

from .packages import Failed, empty, environment, need, read, run, write

# The date of the first state of a repository; each further one is a day newer.
FIRST_DATE, DAY = 1_700_000_000, 86_400


class Repository:
    """A key, and the files of one package at any version, signed at any date."""

    def __init__(self, work):
        need("apt-get", "dpkg", "dpkg-deb", "gpg", "gpgv")
        self.work = work
        self.architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
        # A socket of gpg's agent has a short path.
        self.gpg_home = tempfile.mkdtemp(prefix="gpg.", dir="/tmp")
        self.gpg("--quick-generate-key", "--passphrase", "", "probe@example.org", "ed25519", "sign", "never")
        self.keyring = os.path.join(work, "probe.gpg")
        self.gpg("--output", self.keyring, "--export")

    def source(self, url):
        return f"deb [signed-by={self.keyring}] {url}/debian stable main"

    def gpg(self, *words):
        run(["gpg", "--homedir", self.gpg_home, "--batch", "--yes", "--quiet", *words], self.work)

    def close(self):
        with contextlib.suppress(OSError, Failed):
            run(["gpgconf", "--homedir", self.gpg_home, "--kill", "all"], self.work)
        shutil.rmtree(self.gpg_home, ignore_errors=True)

    def package(self, version, text):
        """Its path, bytes, and entry in an index. Its size does not depend on a text of the same length."""
        control = f"Package: probe\nVersion: {version}\nArchitecture: all\nMaintainer: probe <probe@example.org>\nDescription: made for a test\n"
        tree, package = empty(self.work, "tree"), os.path.join(self.work, "probe.deb")
        write(control, tree, "DEBIAN/control")
        write(text, tree, "usr/share/probe")
        # Without compression, and with one date for all.
        run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, package], self.work,
            env=environment(self.work) | {"SOURCE_DATE_EPOCH": str(FIRST_DATE)})
        name, body = f"pool/main/p/probe/probe_{version}_all.deb", read(package)
        entry = control + f"Filename: {name}\nSize: {len(body)}\nSHA256: {hashlib.sha256(body).hexdigest()}\n\n"
        return f"/debian/{name}", body, entry.encode()

    def state(self, version, text, date, by_hash=False):
        """The path of the package at this version, and all files of the repository that has it, by their paths."""
        path, body, entry = self.package(version, text)
        files, directory = {path: body}, f"main/binary-{self.architecture}"
        release = f"Origin: probe\nSuite: stable\nCodename: stable\nArchitectures: {self.architecture}\nComponents: main\n"
        release += "Acquire-By-Hash: yes\n" if by_hash else ""
        release += f"Date: {formatdate(date, usegmt=True).replace('GMT', 'UTC')}\nSHA256:\n"
        for name, packed in (("Packages", entry), ("Packages.gz", gzip.compress(entry, mtime=0)), ("Packages.xz", lzma.compress(entry))):
            digest = hashlib.sha256(packed).hexdigest()
            release += f" {digest} {len(packed)} {directory}/{name}\n"
            files[f"/debian/dists/stable/{directory}/{name}"] = packed
            if by_hash:
                files[f"/debian/dists/stable/{directory}/by-hash/SHA256/{digest}"] = packed
        plain = write(release, self.work, "Release")
        self.gpg("--output", plain + ".signed", "--clearsign", plain)
        files["/debian/dists/stable/InRelease"] = read(plain + ".signed")
        return path, files


class Client:
    """An apt in a directory of its own, with one line of sources; dpkg installs below its `root`."""

    def __init__(self, state, source, own=()):
        self.state, self.root = state, os.path.join(state, "root")
        for place in ("lists/partial", "cache/archives/partial", "log", "got", "root/var/lib/dpkg/updates", "root/var/lib/dpkg/info"):
            os.makedirs(os.path.join(state, place))
        status = write("", self.root, "var/lib/dpkg/status")
        sources = write(source + "\n", state, "sources.list")
        nothing = ("main", "parts", "sourceparts", "preferences", "preferencesparts", "trusted", "trustedparts")
        settings = {f"Dir::Etc::{name}": "/dev/null" for name in nothing} | {
            "Dir::Etc::sourcelist": sources, "Dir::State": state, "Dir::State::lists": f"{state}/lists", "Dir::State::status": status,
            "Dir::Cache": f"{state}/cache", "Dir::Log": f"{state}/log", "APT::Sandbox::User": pwd.getpwuid(os.getuid()).pw_name,
            "Acquire::Languages": "none", "Acquire::Retries": "0", "Acquire::http::Proxy": "DIRECT",
            "Acquire::Check-Valid-Until": "false", "Acquire::Check-Date": "false",
        } | dict(own)
        words = (f"--root={self.root}", f"--log={state}/log/dpkg.log", "--force-not-root", "--force-bad-path", "--force-unsafe-io")
        # Read before all else, so that none of the machine's own settings and hooks apply.
        text = "".join(f'{name} "{value}";\n' for name, value in settings.items())
        path = write(text + "".join(f'DPkg::Options:: "{word}";\n' for word in words), state, "apt.conf")
        self.environment = environment(state) | {"APT_CONFIG": path}

    def apt(self, *words):
        """apt-get in the directory `got`; what it says."""
        return run(["apt-get", "-q", *words], os.path.join(self.state, "got"), env=self.environment)

    def update(self):
        said = self.apt("-o", "APT::Update::Error-Mode=any", "update")
        if "\nW:" in said or "\nE:" in said:
            raise Failed(f"apt-get update: {' '.join(said.split())[-300:]}")
