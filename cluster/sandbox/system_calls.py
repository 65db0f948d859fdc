"""Which system calls are let through, as programs for the kernel's own filter (seccomp(2)), compiled by libseccomp.

There are two: the outer one, which bubblewrap loads, lets through what the first process inside still needs to shut
programs in (mounts, namespaces); the inner one is loaded by each program, and by what runs its tests, when that is
done. A call that isn't let through is one that this kernel doesn't have (ENOSYS), as is every call that is newer than
``NEWEST``; calls of another architecture's (32 bits) end the process.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any, NamedTuple

from schemas.errors import BadInput

NEWEST = 456
"""The number of the newest call that somebody has thought about: futex_requeue (Linux 6.7). Calls of Linux 5.1 and
newer have one number on all architectures."""
CLOSED = {
    "the kernel itself": "acct bpf create_module delete_module finit_module init_module query_module get_kernel_syms "
    "ioperm iopl kexec_file_load kexec_load lookup_dcookie modify_ldt nfsservctl perf_event_open quotactl quotactl_fd "
    "reboot swapoff swapon syslog sysfs _sysctl uselib ustat userfaultfd vhangup vm86 vm86old bdflush",
    "a second way to make system calls": "io_uring_enter io_uring_register io_uring_setup",
    "memory that no account shows": "memfd_secret",
    "keys of the user": "add_key keyctl request_key",
    "the machine's clock and name": "adjtimex clock_adjtime clock_settime settimeofday stime sethostname setdomainname",
    "files beyond the mounts": "chroot fanotify_init fanotify_mark fsconfig fsmount fsopen fspick mount_setattr "
    "move_mount name_to_handle_at open_by_handle_at open_tree pivot_root umount umount2",
    "other processes": "kcmp migrate_pages move_pages pidfd_getfd process_madvise process_mrelease process_vm_readv "
    "process_vm_writev ptrace",
    "namespaces by flags that no filter can read": "clone3",  # the C library then takes clone
    "namespaces of others": "setns",
}
"""What neither profile lets through, by what it would give."""
INSIDE = ("mount", "unshare")
"""What the inner profile keeps back as well."""
UNCOUNTED = ("memfd_create", "shmget", "msgget", "semget")
"""What it keeps back where nobody counts the memory that these keep without a process that maps it."""
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6; not AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK, ...
_NEW_NAMESPACES = 0x7E020000  # every flag of clone(2) that begins with CLONE_NEW
_DUMPABLE = 4  # prctl(2)'s PR_SET_DUMPABLE, behind which a program could hide what it uses
_PERSONALITIES = (0, 0x0040000, 0xFFFFFFFF)  # the usual one; the same with addresses as they are; only asked
_SHARED_NOWHERE = 0x21  # MAP_SHARED | MAP_ANONYMOUS
SHARED = 1 << 20
"""Bytes of one piece of anonymous memory that processes share, where only what is mapped can be counted."""


class Profiles(NamedTuple):
    """The programs for the kernel's filter, as bytes."""

    outer: bytes
    inner: bytes


@cache
def profiles(counted: bool) -> Profiles:
    """Return both profiles.

    Args:
        counted: a control group counts memory; else a program gets none that can't be seen in its processes: nothing
            of ``UNCOUNTED``, and only small pieces of shared anonymous memory.

    Raises:
        BadInput: libseccomp isn't there.
    """
    return Profiles(_compiled(inner=False, counted=True), _compiled(inner=True, counted=counted))


@cache
def number(name: str) -> int:
    """Return the number of a system call on this machine; below 0 where it has none of this name."""
    return _library().resolve_syscall(_library().Arch.NATIVE, name)


def _compiled(inner: bool, counted: bool) -> bytes:
    library = _library()
    rules = library.SyscallFilter(library.ERRNO(38))  # ENOSYS
    rules.set_attr(library.Attr.CTL_OPTIMIZE, 2)  # a tree, no list

    def let(name: str, *conditions: tuple[int, int, int] | tuple[int, int, int, int]) -> None:
        """Let a call through whose arguments are so: (which, how compared, with what)."""
        rules.add_rule(library.ALLOW, number(name), *(library.Arg(*condition) for condition in conditions))

    closed = {name for names in CLOSED.values() for name in names.split()}
    of_conditions = {"socket", "personality"}
    if inner:
        closed |= {*INSIDE}
        of_conditions |= {"clone", "prctl"}
    if not counted:
        closed |= {*UNCOUNTED}
        of_conditions.add("mmap")
    kept = {number(name) for name in closed | of_conditions}
    for at in range(NEWEST + 1):
        if at not in kept:
            rules.add_rule(library.ALLOW, at)
    for family in _FAMILIES:
        let("socket", (0, library.EQ, family))
    for kind in _PERSONALITIES:
        let("personality", (0, library.EQ, kind))
    if inner:
        let("clone", (0, library.MASKED_EQ, _NEW_NAMESPACES, 0))
        let("prctl", (0, library.NE, _DUMPABLE))
    if not counted:
        for flags in (0x00, 0x01, 0x20):
            let("mmap", (3, library.MASKED_EQ, _SHARED_NOWHERE, flags))
        shared = library.Arg(3, library.MASKED_EQ, _SHARED_NOWHERE, _SHARED_NOWHERE)
        rules.add_rule(library.ALLOW, number("mmap"), shared, library.Arg(1, library.LE, SHARED))
        rules.add_rule(library.ERRNO(12), number("mmap"), shared, library.Arg(1, library.GT, SHARED))  # ENOMEM
    read, write = os.pipe()
    with os.fdopen(read, "rb") as compiled, os.fdopen(write, "wb") as file:
        rules.export_bpf(file)
        file.close()
        return compiled.read()


@cache
def _library() -> Any:
    try:
        import pyseccomp
    except RuntimeError as error:
        raise BadInput(
            "programs that a model wrote are run behind a filter of system calls, and libseccomp, which makes it, "
            "isn't installed here (Debian: apt-get install libseccomp2)"
        ) from error
    return pyseccomp
