"""Programs that ask the kernel for what isn't theirs, keep memory where nobody looks, or break what watches them.

As those of ``hostile``, each answers rightly only where its attack succeeds.
"""

from __future__ import annotations

from cluster.sandbox.system_calls import number
from tests.sandbox.hostile import WRONG, if_it_works

LIMIT_MB = 400
"""Memory that these programs may use; they keep more, if they can."""
CANARY = "gristmill-canary"
_LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def _call(name: str, *arguments: int | str) -> str:
    """A program that is right if a system call succeeds."""
    if number(name) < 0:  # not on this machine: nor may it succeed as "no such call"
        return if_it_works("return False")
    given = ", ".join(map(str, [number(name), *arguments]))
    return if_it_works(f"{_LIBC}room = ctypes.create_string_buffer(4096)\nreturn libc.syscall({given}) >= 0")


def _forks(what: str, many: int = 5) -> str:
    """A program whose children each do something, and stay; it is right if all of them are there after a while."""
    body = "\n".join(f"            {line}" for line in what.splitlines())
    return if_it_works(
        f"import mmap, os, time\nready, told = os.pipe()\nfor _ in range({many}):\n    if os.fork() == 0:\n        try:\n{body}\n"
        f"            os.write(told, b'x')\n            time.sleep(60)\n        finally:\n            os._exit(1)\n"
        f"os.close(told)\nfor _ in range({many}):\n    if not os.read(ready, 1):\n        return False\ntime.sleep(0.2)\nreturn True"
    )


_KEEP = "kept = []\nfor _ in range(20):\n{body}\nimport time\ntime.sleep(0.2)\nreturn True"
"""Twenty times 31 MB are more than may be kept, files and what the kernel needs included; a file may have 32."""


def _keep(body: str) -> str:
    return if_it_works(
        _LIBC + "import mmap\n" + _KEEP.format(body="\n".join(f"    {line}" for line in body.splitlines()))
    )


_FRAME = "import os, struct, threading, time, mmap\ndef send(data):\n    os.write(3, data)\n"
EAT = "import os, time\nfor _ in range(5):\n    if os.fork() == 0:\n        x = bytearray(300 << 20)\n        time.sleep(60)\n"
_PIECE = 1 << 20
_MAP = (
    "libc.mmap.restype = ctypes.c_void_p\nlibc.munmap.argtypes = libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]\n"
    "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]\n"
)


def _trimmed(flags: int, size: int, many: int, opened: str = "-1") -> str:
    """Shared memory that is written, and then mapped in one page only."""
    return if_it_works(
        f"{_LIBC}{_MAP}for _ in range({many}):\n    at = libc.mmap(None, {size}, 3, {flags}, {opened}, 0)\n"
        f"    if at in (None, ctypes.c_void_p(-1).value):\n        return False\n    ctypes.memset(at, 1, {size})\n"
        f"    libc.munmap(at + 4096, {size} - 4096, 0)\nimport time\ntime.sleep(0.2)\nreturn True"
    )


CALLS: dict[str, str] = {
    # keys
    "asks for the session keyring": _call("keyctl", 0, -3, 0),
    "joins a keyring": _call("keyctl", 1, "b'_ses'"),
    "adds a key": _call("add_key", "b'user'", "b'x'", "b'y'", 1, -3),
    "requests a key": _call("request_key", "b'user'", f"b'{CANARY}'", 0, 0),
    "looks for keys in /proc": if_it_works(f"return '{CANARY}' in open('/proc/keys').read()"),
    # parts of the kernel
    "userfaultfd": _call("userfaultfd", 1),
    "performance counters": _call("perf_event_open", "room", 0, -1, -1, 0),
    "io_uring": _call("io_uring_setup", 4, "room"),
    "bpf": _call("bpf", 0, "room", 48),
    "reads the kernel's log": _call("syslog", 3, "room", 4096),
    "asks what modules there are": _call("init_module", "room", 0, "b''"),
    "quotas": _call("quotactl", 0x800001 << 8, 0, 0, "room"),
    "secret memory": _call("memfd_secret", 0),
    "a notifier of all files": _call("fanotify_init", 0, 0),
    "handles of files": _call("name_to_handle_at", -100, "b'/usr'", "room", "ctypes.byref(ctypes.c_int())", 0),
    "sets the clock": _call("clock_settime", 0, "room"),
    "reads the clock's adjustment": _call("adjtimex", "room"),
    "names the machine": _call("sethostname", "b'evil'", 4),
    "an odd personality": _call("personality", 0x0400000),
    "a call that is newer than the profile": _call("getpid").replace(f"({number('getpid')})", "(458, room, room, 1, 0)"),
    "calls of 32 bits": if_it_works(
        "import ctypes, mmap, platform\nassert platform.machine() == 'x86_64'\n"
        "m = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)\n"
        "m.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')\n"  # mov eax, 20; int 0x80; ret: getpid of i386
        "return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))() > 0"
    ),
    "calls of the x32 kind": if_it_works(f"{_LIBC}return libc.syscall(0x40000000 | {number('getpid')}) > 0"),
    # other families of sockets
    **{
        f"a socket of the family {name}": if_it_works(f"import socket\nreturn socket.socket({family}, {kind}, 0).fileno() >= 0")
        for name, family, kind in (("VSOCK", 40, 1), ("NETLINK", 16, 3), ("ALG", 38, 5), ("PACKET", 17, 3), ("BLUETOOTH", 31, 3))
    },
    # namespaces and mounts
    **{
        f"unshare({flag:#x})": _call("unshare", flag)
        for flag in (0x10000000, 0x20000000, 0x00020000, 0x40000000, 0x02000000, 0x00000080)
    },
    "a child in a new namespace of users": if_it_works(
        f"{_LIBC}pid = libc.syscall({number('clone')}, 0x10000011, 0, 0, 0, 0)\nif pid == 0:\n    os._exit(0)\nreturn pid > 0"
    ),
    "a child by clone3": if_it_works(
        f"{_LIBC}import struct\nroom = struct.pack('11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)\n"
        f"pid = libc.syscall({number('clone3')}, room, len(room))\nif pid == 0:\n    os._exit(0)\nreturn pid > 0"
    ),
    "enters its own namespace again": if_it_works(
        f"{_LIBC}return libc.syscall({number('setns')}, os.open('/proc/self/ns/ipc', os.O_RDONLY), 0) == 0"
    ),
    "a new root": _call("chroot", "b'/tmp'"),
    "turns the root round": _call("pivot_root", "b'/tmp'", "b'/tmp'"),
    "opens a file system": _call("fsopen", "b'tmpfs'", 0),
    "takes a tree of mounts": _call("open_tree", -100, "b'/tmp'", 1),
    "changes a mount": _call("mount_setattr", -100, "b'/tmp'", 0, "room", 32),
    # other processes
    "is traced": _call("ptrace", 0, 0, 0, 0),
    "traces a child": if_it_works(
        f"{_LIBC}import time\npid = os.fork()\nif pid == 0:\n    time.sleep(60)\n"
        f"return libc.syscall({number('ptrace')}, 0x4206, pid, 0, 0) == 0"
    ),
    "reads a child's memory": if_it_works(
        f"{_LIBC}import time\nroom = ctypes.create_string_buffer(8)\n"
        "v = (ctypes.c_void_p * 2)(ctypes.addressof(room), 8)\npid = os.fork()\nif pid == 0:\n    time.sleep(60)\n"
        f"return libc.syscall({number('process_vm_readv')}, pid, v, 1, v, 1, 0) == 8"
    ),
    "takes process 1's descriptors": if_it_works(
        f"{_LIBC}return libc.syscall({number('pidfd_getfd')}, os.pidfd_open(os.getpid()), 3, 0) >= 0"
    ),
    "compares processes": _call("kcmp", "os.getpid()", "os.getpid()", 0, 0, 0),
    # privileges
    "hides what it uses": _call("prctl", 4, 0, 0, 0, 0),
    "has privileges to gain": if_it_works("return 'NoNewPrivs:\\t1' not in open('/proc/self/status').read()"),
    "has capabilities to gain": if_it_works(
        "lines = open('/proc/self/status').read().splitlines()\n"
        "return any(int(line.split()[1], 16) for line in lines if line.startswith('Cap'))"
    ),
    "has no filter": if_it_works("return 'Seccomp:\\t2' not in open('/proc/self/status').read()"),
    "goes first": if_it_works("import os\nos.setpriority(0, 0, -10)\nreturn True"),
    "goes first of all": if_it_works("import os\nos.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\nreturn True"),
    "leaves its control group": if_it_works(
        "import glob, os\nfor p in glob.glob('/sys/fs/cgroup/**/cgroup.procs', recursive=True):\n    open(p, 'w').write('0')\n    return True\n"
        "for n in os.listdir('/proc/self/fd'):\n    if int(n) > 3 and os.path.exists(f'/proc/self/fd/{n}'):\n"
        "        os.write(int(n), b'0')\n        return True\nreturn False"
    ),
    "writes to /dev": if_it_works("open('/dev/left', 'wb').write(b'x' * 1000)\nreturn True"),
    "presses the magic key": if_it_works("open('/proc/sysrq-trigger', 'w').write('h')\nreturn True"),
    "reads the kernel's memory": if_it_works("return open('/proc/kcore', 'rb').read(1)"),
    "reads the kernel's addresses": if_it_works("return int(open('/proc/kallsyms').readline().split()[0], 16)"),
    "finds the machine's devices": if_it_works("import os\nreturn os.listdir('/sys')"),
    "types on the terminal": if_it_works("import fcntl\nfcntl.ioctl(open('/dev/tty'), 0x5412, b'x')\nreturn True"),
}  # fmt: skip
MEMORY: dict[str, str] = {
    "memory in five processes": _forks("x = bytearray(100 << 20)"),
    "shared memory in five processes": _forks("m = mmap.mmap(-1, 100 << 20)\nm.write(bytes(100 << 20))"),
    "files in memory": _keep("f = os.memfd_create('x')\nos.write(f, bytes(31 << 20))\nkept.append(f)"),
    "files in memory of one that is never to be ended": _keep(
        "try:\n    open('/proc/self/oom_score_adj', 'w').write('-1000')\nexcept OSError:\n    pass\n"
        "f = os.memfd_create('x')\nos.write(f, bytes(31 << 20))\nkept.append(f)"
    ),
    "files in memory that nobody has open": _keep(
        "import socket\na, b = socket.socketpair()\nf = os.memfd_create('x')\nos.write(f, bytes(31 << 20))\n"
        "socket.send_fds(a, [b'x'], [f])\nos.close(f)\nkept += [a, b]"
    ),
    "files in memory of which a page is mapped": _keep(
        "f = os.memfd_create('x')\nos.write(f, bytes(31 << 20))\nkept.append(mmap.mmap(f, 4096))\nos.close(f)"
    ),
    "shared memory that is given back": _keep(
        "m = mmap.mmap(-1, 20 << 20)\nm.write(bytes(20 << 20))\nm.madvise(mmap.MADV_DONTNEED)\nkept.append(m)"
    ).replace("range(20)", "range(35)"),
    "shared memory of which a page is mapped": _trimmed(0x21, 50 * _PIECE, 10),
    "many pieces of shared memory of which a page is mapped": _trimmed(0x21, _PIECE, 500),
    "/dev/zero, shared, of which a page is mapped": _trimmed(0x01, 50 * _PIECE, 10, "os.open('/dev/zero', os.O_RDWR)"),
    "System V's shared memory": if_it_works(
        f"{_LIBC}libc.shmat.restype = ctypes.c_void_p\nlibc.shmdt.argtypes = [ctypes.c_void_p]\nfor i in range(5):\n"
        "    at = libc.shmat(libc.shmget(i + 1, 100 << 20, 0o1600), None, 0)\n    if at in (None, ctypes.c_void_p(-1).value):\n        return False\n"
        "    ctypes.memset(at, 1, 100 << 20)\n    libc.shmdt(at)\nimport time\ntime.sleep(0.2)\nreturn True"
    ),
    "System V's queues": if_it_works(
        f"{_LIBC}room = ctypes.create_string_buffer(b'\\1' * 8, 8 + 8000)\nsent = 0\nfor i in range(32_000):\n"
        "    q = libc.msgget(i + 1, 0o1600)\n    while libc.msgsnd(q, room, 8000, 0o4000) == 0:\n        sent += 8000\n"
        "    if sent > 550 << 20:\n        return True\nreturn False"
    ),
    "System V's semaphores": if_it_works(
        f"{_LIBC}made = sum(32_000 for i in range(400) if libc.semget(i + 1, 32_000, 0o1600) >= 0)\nreturn made * 64 > 550 << 20"
    ),
    "pipes": if_it_works(
        "import fcntl, os\nput = 0\nfor _ in range(60):\n    r, w = os.pipe()\n    os.set_blocking(w, False)\n    try:\n"
        "        fcntl.fcntl(w, 1031, 1 << 20)\n    except OSError:\n        pass\n    try:\n        while True:\n"
        "            put += os.write(w, bytes(1 << 16))\n    except OSError:\n        pass\nreturn put > 550 << 20"
    ),
    "names of files": if_it_works(
        "import os\nput = 0\nfor i in range(4000):\n    open(f'/tmp/{i}', 'w').close()\n    for n in range(40):\n"
        "        os.setxattr(f'/tmp/{i}', f'user.{n}', bytes(60_000))\n        put += 60_000\n    if put > 550 << 20:\n        return True\nreturn False"
    ),
    "a file of a terabyte": if_it_works("import os\nos.truncate(os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 1 << 40)\nreturn True"),
    # half a frame, and other things that keep a reader busy
    "half a frame, then memory": "import os\nos.write(3, b'\\0\\0\\0\\x0d')\n" + EAT + "time.sleep(60)\n" + WRONG,
    "a frame a byte at a time, then memory": (
        "import os\nos.write(3, b'\\0\\1\\0\\0')\n" + EAT + "while True:\n    os.write(3, b' ')\n    time.sleep(0.001)\n" + WRONG
    ),
    "frames without end, then memory": (
        EAT + "import json\nd = json.dumps({'printed': 'x', 'callback': 0, 'arguments': {'l': [{'l': []}, {'d': []}]}}).encode()\n"
        "while True:\n    os.write(3, len(d).to_bytes(4, 'big') + d)\n" + WRONG
    ),
    "hangs up, then memory": "import os\nos.close(3)\n" + EAT + "time.sleep(60)\n" + WRONG,
    "leaves its children, with memory": EAT + "os._exit(0)\n",
    "memory where nobody may look": if_it_works(
        "import os, shutil, subprocess, sys, time\nplace = '/tmp/mine'\nshutil.copy(os.path.realpath('/proc/self/exe'), place)\n"
        "os.chmod(place, 0o111)\ncode = 'import time; x = bytearray(100 << 20); print(1, flush=True); time.sleep(60)'\n"
        "started = [subprocess.Popen([place, '-I', '-S', '-c', code], stdout=subprocess.PIPE, env={'PYTHONHOME': sys.base_prefix})\n"
        "           for _ in range(5)]\nassert all(p.stdout.readline() for p in started)\ntime.sleep(0.2)\nreturn True"
    ),
}  # fmt: skip
