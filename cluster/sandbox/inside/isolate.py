"""System calls that Python has no functions for: namespaces, mounts, privileges, limits of a process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from typing import Any, ClassVar

_libc = ctypes.CDLL(None, use_errno=True)

_NEW_NAMESPACES = 0x10000000 | 0x20000000 | 0x00020000 | 0x08000000  # user, processes, mounts, IPC
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_PDEATHSIG, _DUMPABLE, _NO_NEW_PRIVS, _SUBREAPER, _SECCOMP, _DROP = 1, 4, 38, 36, 22, 24
_BY_PROGRAM = 2  # SECCOMP_MODE_FILTER
_CAPABILITY_VERSION = 0x20080522


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(kind: str, at: str, flags: int, options: str = "") -> None:
    _check(_libc.mount(kind.encode(), at.encode(), kind.encode(), flags, options.encode()), f"mount {kind} on {at}")


def mount_proc() -> None:
    """Mount this process namespace's own /proc."""
    _mount("proc", "/proc", _NOSUID | _NODEV | _NOEXEC)


def become(uid: int) -> None:
    """Give up being root for good."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    # changing one's user makes a process's /proc files root's own, and its namespaces unmappable
    _check(_libc.prctl(_DUMPABLE, 1, 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that they can be waited for."""
    _check(_libc.prctl(_SUBREAPER, 1, 0, 0, 0), "prctl")


def die_with_parent() -> None:
    """Be killed when the parent ends."""
    _check(_libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def be_readable(readable: bool) -> None:
    """Let or don't let other processes of this user trace this one and read its memory."""
    _check(_libc.prctl(_DUMPABLE, int(readable), 0, 0, 0), "prctl")


def enter_namespaces() -> None:
    """Enter new user, mount and IPC namespaces; the next child is process 1 of a new process namespace."""
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEW_NAMESPACES), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def furnish(files_mb: int) -> None:
    """As process 1 of the new namespaces: mount what is this program's alone, then give up all privileges."""
    mount_proc()
    for at in ("/tmp", "/dev/shm"):
        _mount("tmpfs", at, _NOSUID | _NODEV, f"size={files_mb}m,nr_inodes=4096,mode=1777")
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
    give_up_privileges()


def give_up_privileges() -> None:
    """Have no capability from now on, and never get one again."""
    _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    for capability in range(64):
        if _libc.prctl(_DROP, capability, 0, 0, 0) != 0:
            break  # the kernel has no more
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


class _Instructions(ctypes.Structure):
    _fields_: ClassVar = [("length", ctypes.c_ushort), ("first", ctypes.c_char_p)]


def filter_calls(profile: str) -> None:
    """Make only the system calls that a profile lets through, from now on; nor will what this process starts.

    Args:
        profile: a program for the kernel's filter (see cluster.sandbox.system_calls), in hexadecimal digits.
    """
    code = bytes.fromhex(profile)
    program = _Instructions(len(code) // 8, code)  # eight bytes an instruction
    _check(_libc.prctl(_SECCOMP, _BY_PROGRAM, ctypes.byref(program), 0, 0), "the filter of system calls")


def limit(limits: dict[str, Any], address_space: bool = True) -> None:
    """Limit this process and what it will start.

    Args:
        limits: as ``operators.sandbox.Limits``.
        address_space: count what is reserved, too; some languages' run-times reserve much more than they use.
    """
    memory, files = limits["memory_mb"] << 20, limits["files_mb"] << 20
    for kind, most in (
        (resource.RLIMIT_AS if address_space else resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_FSIZE, files),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        with contextlib.suppress(ValueError):  # a smaller limit is there already
            resource.setrlimit(kind, (most, most))
    seconds = int(limits["cpu_seconds"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def first() -> bool:
    """Whether this is process 1 of a namespace of its own, whose end is the end of all others there."""
    return os.getpid() == 1


def kill_all() -> None:
    """As process 1: kill all others in this namespace."""
    if first():
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)


def kill_children() -> None:
    """Kill all children of this process."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        for pid in file.read().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def waited(*besides: int) -> float:
    """Return for how many seconds a process that /proc shows has waited for a core: the one that waited longest.

    Args:
        besides: processes that don't count.
    """
    longest = 0.0
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in besides:
            longest = max(longest, waited_of(int(name)))
    return longest


def waited_of(pid: int) -> float:
    """Return for how many seconds a thread of a process has waited for a core."""
    longest = 0.0
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                longest = max(longest, delay(file.read()))
    return longest


def delay(schedstat: str) -> float:
    """Return the seconds of waiting that the kernel's text about a thread says; none where it says nothing."""
    fields = schedstat.split()
    return int(fields[1]) / 1e9 if len(fields) == 3 else 0.0
