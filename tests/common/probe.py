"""Tries, for each hardening directive of the units, what the directive forbids: a line of JSON for each.

Run by systemd as the unit's program, and again in a unit without any of the directives, where everything has to be
allowed. Whatever is tried is tried in a child, and harms nobody where it succeeds. What it looks for was put there
by the test (`tests/common/sandbox.rs`).
"""

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import stat
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
HOME = os.path.expanduser("~")
# Numbers without a function in the C library: the same on every 64-bit machine but x86.
X86 = platform.machine() == "x86_64"
CALLS = {"add_key": 248 if X86 else 217, "keyctl": 250 if X86 else 219, "clock_settime": 227 if X86 else 112, "getpid": 39}
CLONE_NEWUTS, CLONE_NEWUSER = 0x04000000, 0x10000000
KEYCTL_SETPERM, KEYCTL_SEARCH, SESSION_KEYRING, FOR_ALL = 5, 10, -3, 0x3F3F3F3F
KEY = ctypes.create_string_buffer(b"user"), ctypes.create_string_buffer(b"waveflow-probe")
PER_LINUX32, SCHED_FIFO, PTRACE_TRACEME, CLOCK_REALTIME = 8, 1, 0, 0
X32 = 0x40000000


def call(function, *arguments):
    """A function of the C library that says no by -1."""
    ctypes.set_errno(0)
    result = function(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result


def syscall(number, *arguments):
    return call(LIBC.syscall, ctypes.c_long(number), *[ctypes.c_long(value) for value in arguments])


def unless(errors, action):
    """A call with a bad argument: refused for the argument, it was let through; else it was forbidden."""
    try:
        action()
    except OSError as error:
        if error.errno not in errors:
            raise


def refuse(forbidden, why):
    """What is not a call that fails, but something seen."""
    if forbidden:
        raise OSError(why, "")


def opens(path, flags=os.O_RDONLY):
    os.close(os.open(path, flags))


def writes(directory):
    path = os.path.join(directory, f"probe-{os.getpid()}")
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))
    os.unlink(path)


def read_only(path):
    refuse(os.statvfs(path).f_flag & os.ST_RDONLY, errno.EROFS)


def status(field):
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(line.split()[1] for line in lines if line.startswith(field + ":"))


def core_dumps():
    resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def many_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    fcntl.fcntl(0, fcntl.F_DUPFD, 2000)


def files_for_others():
    path = os.path.join(HOME, f"probe-{os.getpid()}")
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))
    mode = os.stat(path).st_mode
    os.unlink(path)
    refuse(not mode & 0o044, errno.EACCES)


def other_users():
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        known = sum(int(line.split()[2]) for line in lines)
    refuse(known < 2**32 - 1, errno.EOVERFLOW)


def shared_memory():
    call(LIBC.shmget, 0x7766, 0, 0)


def cgroups():
    path = f"/sys/fs/cgroup/probe/{os.getpid()}"
    os.mkdir(path)
    os.rmdir(path)


def clock():
    unless([errno.EFAULT], lambda: syscall(CALLS["clock_settime"], CLOCK_REALTIME, 0))


def hostname():
    """As root of a namespace of our own, where it harms nobody and only a filter forbids it."""
    call(LIBC.unshare, CLONE_NEWUSER | CLONE_NEWUTS)
    socket.sethostname("probe")


def others_processes():
    os.stat("/proc/1/status")


def capabilities():
    refuse(int(status("CapBnd"), 16) == 0, errno.EPERM)


def new_privileges():
    shown = subprocess.run(["/usr/local/bin/probe-id", "-u"], stdout=subprocess.PIPE, check=True).stdout
    refuse(int(shown) != 0, errno.EPERM)


def set_user_id():
    path = os.path.join(HOME, f"probe-{os.getpid()}")
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o700))
    try:
        os.chmod(path, 0o700 | stat.S_ISUID)
    finally:
        os.unlink(path)


def realtime():
    unless([errno.EINVAL], lambda: call(LIBC.sched_setscheduler, 0, SCHED_FIFO, None))


def written_and_run():
    size, private_anonymous = 4096, 0x22
    LIBC.mmap.restype = ctypes.c_ssize_t
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # Both ways have to be shut.
    first = None
    for before, after in [(7, 7), (3, 5)]:
        try:
            at = call(LIBC.mmap, None, size, before, private_anonymous, -1, 0)
            call(LIBC.mprotect, at, size, after)
            return
        except OSError as error:
            first = first or error
    raise first


def keyring():
    syscall(CALLS["keyctl"], KEYCTL_SEARCH, SESSION_KEYRING, *map(ctypes.addressof, KEY), 0)


def add_key():
    kind, description = map(ctypes.addressof, KEY)
    key = syscall(CALLS["add_key"], kind, description, description, 1, SESSION_KEYRING)
    syscall(CALLS["keyctl"], KEYCTL_SETPERM, key, FOR_ALL)


def foreign_calls():
    """A call of the x32 ABI: unknown to most kernels, and a death where only native calls may be made. On x86 alone."""
    unless([errno.ENOSYS], lambda: syscall(X32 | CALLS["getpid"]))


def debugging():
    call(LIBC.ptrace, PTRACE_TRACEME, 0, None, None)


def privileged():
    unless([errno.EFAULT], lambda: call(LIBC.chroot, None))


def resources():
    os.sched_setaffinity(0, os.sched_getaffinity(0))


def answered():
    """A call that is filtered is answered, and does not end who makes it."""
    refuse(tried(debugging) > 0, errno.EPERM)


PROBES = {
    "LimitCORE": [core_dumps],
    "LimitNOFILE": [many_descriptors],
    "UMask": [files_for_others],
    "PrivateUsers": [other_users],
    "ProtectSystem": [lambda: writes("/srv/probe")],
    "ProtectHome": [lambda: writes("/home/probe")],
    "InaccessiblePaths": [
        lambda: opens(f"{HOME}/.ssh/id"),
        lambda: opens(f"{HOME}/.gnupg/id"),
        lambda: opens(f"{HOME}/.local/share/keyrings/id")],
    "PrivateTmp": [lambda: opens("/tmp/probe"), lambda: opens("/var/tmp/probe")],
    "PrivateDevices": [lambda: opens("/dev/probe")],
    "PrivateIPC": [shared_memory],
    "ProtectKernelTunables": [lambda: read_only("/proc/sys"), lambda: read_only("/sys")],
    "ProtectKernelModules": [lambda: os.listdir("/usr/lib/modules")],
    "ProtectControlGroups": [cgroups],
    "ProtectKernelLogs": [lambda: opens("/dev/kmsg", os.O_WRONLY | os.O_NONBLOCK)],
    "ProtectClock": [clock],
    "ProtectHostname": [hostname],
    "ProtectProc": [others_processes],
    "CapabilityBoundingSet": [capabilities],
    "NoNewPrivileges": [new_privileges],
    "RestrictNamespaces": [
        lambda: call(LIBC.unshare, CLONE_NEWUSER),
        lambda: call(LIBC.unshare, CLONE_NEWUSER | CLONE_NEWUTS)],
    "RestrictAddressFamilies": [lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()],
    "RestrictRealtime": [realtime],
    "RestrictSUIDSGID": [set_user_id],
    "LockPersonality": [lambda: call(LIBC.personality, PER_LINUX32)],
    "MemoryDenyWriteExecute": [written_and_run],
    "KeyringMode": [keyring],
    "SystemCallArchitectures": [foreign_calls],
    "SystemCallFilter": [debugging, privileged, resources],
    "SystemCallErrorNumber": [answered],
}


def tried(probe):
    """How a child of ours fares with it: 0 is allowed, an errno, or the signal that ended it, negative."""
    child = os.fork()
    if child == 0:
        result = 255
        try:
            probe()
            result = 0
        except (OSError, ValueError) as error:
            result = getattr(error, "errno", None) or errno.EPERM
        finally:
            os._exit(result)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended)


def name(result):
    if result < 0:
        return signal.Signals(-result).name
    return errno.errorcode.get(result, str(result)) if result else None


if sys.argv[1:] == ["--add-key"]:
    add_key()
    sys.exit()
for directive in sys.argv[1:] or PROBES:
    results = [tried(probe) for probe in PROBES[directive]]
    # 255 is a mistake in here, and proves nothing.
    held = {"forbidden": all(result not in (0, 255) for result in results), "allowed": not any(results)}
    print(json.dumps({"directive": directive, **held, "how": [name(result) for result in results]}))
