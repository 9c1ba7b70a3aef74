#!/usr/bin/env python3
"""The program as a container runs it, without a container engine: does it serve a miss and a hit?

    scripts/try/container.py [--binary FILE] [--verbose]

What the program is put into: a user that is not root, no capabilities and none to be had, a file
system that is read-only but for the cache directory, and a system call filter like the default one
of container engines, which refuses io_uring. (As root the user is 65534; else a user namespace is
made, in which the caller is user 65534.) Before the program is started, each of these is tried, so
that a test in a half-built box cannot pass.

Then: a miss from a small origin on loopback, the same again as a hit with the origin not asked, a
pass, the line that names the engine, a stop. Exit code 0: all as promised; 1: not; 3: the box
cannot be made here, with what is missing.

--binary FILE (or FS_CACHE_BINARY): the program; default: the release build.
"""

import ctypes
import errno
import os
import platform
import re
import shutil
import struct
import sys
import tempfile

sys.dont_write_bytecode = True

from trial import client, command, directory, origin, server, wire

USER = 65534
CANNOT = command.LEFT_OUT
BODY = bytes(range(256)) * 4096

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWUSER = 0x00020000, 0x08000000, 0x04000000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
SYS_MOUNT_SETATTR, SYS_IO_URING_SETUP = 442, 425
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 24, 38, 22

libc = ctypes.CDLL(None, use_errno=True)

# Calls that such a filter refuses, as (x86_64, aarch64).
REFUSED = {
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "syslog": (103, 116),
    "open_by_handle_at": (304, 265), "quotactl": (179, 60), "acct": (163, 89), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "clock_settime": (227, 112), "settimeofday": (164, 170), "move_pages": (279, 239),
}  # fmt: skip
MACHINES = {"x86_64": (0, 0xC000003E, 56), "aarch64": (1, 0xC00000B7, 220)}
CLONE3 = 435
NEW_NAMESPACES = 0x7E020000


def cannot(what):
    print("  the box cannot be made here:", what, flush=True)
    sys.exit(CANNOT)


def call(name, *arguments):
    """A function of libc whose failure is an OSError."""
    if getattr(libc, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


# ------------------------------------------------------------------ inside


def build_filter():
    """Classic BPF over struct seccomp_data: number at 0, architecture at 4, first argument at 16."""
    column, architecture, clone = MACHINES[platform.machine()]
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, refuse | errno.EPERM), (load, 0, 0, 0)]
    if column == 0:  # The second set of numbers, x32.
        steps += [(at_least, 0, 1, 0x40000000), (give, 0, 0, refuse | errno.EPERM)]
    for numbers in REFUSED.values():
        steps += [(equal, 0, 1, numbers[column]), (give, 0, 0, refuse | errno.EPERM)]
    # The C library falls back to clone, whose flags a filter can read.
    steps += [(equal, 0, 1, CLONE3), (give, 0, 0, refuse | errno.ENOSYS)]
    steps += [(equal, 0, 3, clone), (load, 0, 0, 16), (any_bit, 0, 1, NEW_NAMESPACES), (give, 0, 0, refuse | errno.EPERM)]
    steps += [(give, 0, 0, allow)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def apply_filter():
    program = build_filter()
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    header = ctypes.create_string_buffer(head, len(head))
    call("prctl", PR_SET_SECCOMP, 2, ctypes.byref(header), 0, 0)


def set_read_only(path, recursive, on):
    attributes = struct.pack("QQQQ", MOUNT_ATTR_RDONLY if on else 0, 0 if on else MOUNT_ATTR_RDONLY, 0, 0)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    flags = AT_RECURSIVE if recursive else 0
    call("syscall", SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, ctypes.byref(buffer), ctypes.c_size_t(32))


def close_in(cache):
    """Namespaces, read-only mounts, another user, no capabilities, the filter; in this order."""
    namespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS
    uid, gid = os.getuid(), os.getgid()
    try:
        call("unshare", namespaces | (0 if uid == 0 else CLONE_NEWUSER))
    except OSError as error:
        need = "root, or user namespaces for this user" if uid else "the right to make namespaces (CAP_SYS_ADMIN)"
        cannot(f"{error}; it needs {need}")
    if uid != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{USER} {uid} 1"), ("gid_map", f"{USER} {gid} 1")):
            with open("/proc/self/" + name, "w") as file:
                file.write(text)
    try:
        call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        call("mount", cache.encode(), cache.encode(), None, MS_BIND, None)
        set_read_only("/", True, True)
        set_read_only(cache, False, False)
    except OSError as error:
        cannot(f"{error}; it needs mounts in a namespace of one's own, and Linux 5.12")
    os.chdir(cache)  # Through the new mount; the directory we came from may be out of reach.
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for capability in range(last + 1):
        call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
    if uid == 0:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
    # Version 3 of the interface; this process, three empty sets of 64 bits each.
    call("capset", struct.pack("Ii", 0x20080522, 0), bytes(24))
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    apply_filter()


def look_around(cache):
    """What this process, which is about to become the server, finds in the box."""
    found = {}
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    found["user is not root"] = os.getuid() == os.geteuid() == USER
    found["no capabilities"] = all(int(status[name], 16) == 0 for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"))
    found["no new privileges"] = status["NoNewPrivs"] == "1"
    found["system calls are filtered"] = status["Seccomp"] == "2"
    libc.syscall(SYS_IO_URING_SETUP, 1, None)
    found["io_uring is refused with EPERM"] = ctypes.get_errno() == errno.EPERM
    for place in ("/", "/tmp", "/dev/shm", os.path.dirname(cache)):
        if os.path.isdir(place):
            found[f"{place} is read-only"] = writing(place) == errno.EROFS
    found["the cache directory can be written to"] = writing(cache) == 0
    for name, holds in found.items():
        print(f"  {'yes' if holds else 'NO '}  {name}")
    sys.stdout.flush()
    return all(found.values())


def writing(directory):
    path = os.path.join(directory, ".fs-cache-container")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL))
        os.unlink(path)
        return 0
    except OSError as error:
        return error.errno


def inside(cache, command):
    try:
        close_in(cache)
    except OSError as error:
        cannot(f"{error}")
    if not look_around(cache):
        print("container: the box is not closed")
        sys.stdout.flush()
        sys.exit(CANNOT)
    os.dup2(2, 1)
    os.execv(command[0], command)


# ------------------------------------------------------------------ outside


def serve(options, place):
    os.chmod(place, 0o755)
    # The program where the other user can read it.
    program = os.path.join(place, "program")
    shutil.copy(options.binary, program)
    os.chmod(program, 0o755)
    cache = os.path.join(place, "cache")
    os.mkdir(cache, 0o700)
    if os.getuid() == 0:
        try:
            os.chown(cache, USER, USER)
        except OSError as error:
            cannot(f"there is no user {USER} in this namespace ({error})")
    asked = []

    def answer(peer, request):
        asked.append(request.path)
        peer.send(origin.head(Content_Length=len(BODY), Last_Modified="Sun, 17 May 2015 00:31:39 GMT") + BODY)

    boxed = server.Server([program], None, cache, origin.Origin(answer).url, ["-d"], environment={"HOME": "/nonexistent"}, output=None, cwd="/")
    boxed.words = [sys.executable, "-B", os.path.abspath(__file__), "--inside", cache, *boxed.words]
    try:
        with boxed:
            faults = judge(boxed, asked)
    except command.Failed:
        if boxed.process.returncode == CANNOT:
            return CANNOT
        print("the program does not start:\n" + boxed.said())
        return 1
    if options.verbose or faults:
        print(boxed.said())
    return 1 if faults else 0


def judge(boxed, asked):
    """What is not as promised."""
    faults, path = [], "/packages/x.tgz"

    def expect(holds, what):
        print(f"  {'ok' if holds else 'FAULT'}  {what}")
        faults.extend([] if holds else [what])

    def is_exact(path):
        try:
            answer, body, _ = client.get(boxed.address, path, patience=20)
            return (answer.status, body) == (200, BODY)
        except (wire.Broken, wire.Wrong):
            return False

    print("served:")
    expect(is_exact(path), "a miss: exact bytes")
    stored = directory.until_stored(boxed.cache + path, 2)
    expect(stored and directory.read(boxed.cache + path) == BODY, "the file is in the cache directory")
    expect(is_exact(path) and asked == [path], "a hit: exact bytes, the origin not asked")
    expect(is_exact("/pass"), "a pass: exact bytes")
    code = boxed.stop(30)
    expect(code == 0, f"the stop: exit code {code}")
    engines = re.findall("^engine.*", boxed.said(), re.MULTILINE)
    print("\n".join(engines) or "engine: not named")
    expect(len(engines) == 1 and engines[0].endswith("(io_uring refused: EPERM)"), "the engine and the reason are named")
    return faults


def main():
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2], sys.argv[3:])
    parser = command.parser(__doc__)
    parser.add_argument("--binary")
    parser.add_argument("--verbose", action="store_true", help="print all that the program says")
    options = parser.parse_args()
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        cannot("it needs Linux on " + " or ".join(MACHINES))
    [options.binary] = command.program(options.binary)
    print("the box:", flush=True)
    with tempfile.TemporaryDirectory() as place:
        status = serve(options, place)
    print("container:", {0: "ok", CANNOT: "the box cannot be made here"}.get(status, "FAILED"))
    return status


sys.exit(main())
