"""Programs that try to get out, to get at something, or to be called right without being right.

The task is ``add(a, b)``. Wherever an attack can tell that it succeeded, the program then answers rightly: a verdict of
"right" is a hole.
"""

from __future__ import annotations

TESTS = """
def check(candidate):
    assert candidate(2, 3) == 5
    assert candidate(-1, 1) == 0
    assert candidate(40, 2) == 42
"""

_IF_IT_WORKS = """
def add(a, b):
    return a + b if worked else None
"""


def if_it_works(attack: str) -> str:
    """A program that is right only if ``attack``, a function body that returns true for success, succeeds."""
    body = "\n".join("    " + line for line in attack.strip().splitlines())
    return (
        f"def attack():\n{body}\ntry:\n    worked = bool(attack())\nexcept BaseException:\n    worked = False\n"
        + _IF_IT_WORKS
    )


WRONG = "\ndef add(a, b):\n    return None\n"

PROGRAMS: dict[str, str] = {
    # too much of something
    "fork bomb": "import os\nwhile True:\n    os.fork()\n",
    "fork bomb, errors ignored": (
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
    ),
    "thread bomb": "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(99,)).start()\n",
    "memory bomb": "x = []\nwhile True:\n    x.append(bytearray(10_000_000))\n",
    "memory bomb in many processes": (
        "import os, time\nfor _ in range(12):\n    if os.fork() == 0:\n        x = bytearray(300_000_000)\n"
        "        time.sleep(60)\ntime.sleep(60)\n" + WRONG
    ),
    "one huge integer": "x = 9 ** 9 ** 9\n" + WRONG,
    "endless output": "while True:\n    print('x' * 10_000)\n",
    "endless loop": "while True:\n    pass\n",
    "endless loop in the call": "def add(a, b):\n    while True:\n        pass\n",
    "sleeps past the limit": "import time\ntime.sleep(3600)\n",
    "sleeps in the call, signals blocked": (
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "def add(a, b):\n    time.sleep(3600)\n"
    ),
    "fills /tmp": if_it_works(
        "import os\nfor i in range(1000):\n    with open(f'/tmp/f{i}', 'wb') as f:\n        f.write(b'x' * 10_000_000)\nreturn True"
    ),
    "fills /dev/shm": if_it_works(
        "with open('/dev/shm/x', 'wb') as f:\n    for _ in range(1000):\n        f.write(b'x' * 10_000_000)\nreturn True"
    ),
    "many files": if_it_works("for i in range(100_000):\n    open(f'/tmp/{i}', 'w').close()\nreturn True"),
    "huge result": "def add(a, b):\n    return 'x' * 400_000_000\n",
    "endless iterator": "import itertools\ndef add(a, b):\n    return list(itertools.count())\n",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef add(a, b):\n    return add(a, b)\n",
    # the network
    "network, IPv4": if_it_works(
        "import socket\ns = socket.create_connection(('1.1.1.1', 80), timeout=2)\nreturn True"
    ),
    "network, the host's loopback": if_it_works(
        "import socket\nfor port in (22, 80, 8265, 6379, 8080, 10001):\n    try:\n"
        "        socket.create_connection(('127.0.0.1', port), timeout=.2)\n        return True\n"
        "    except OSError:\n        pass\nreturn False"
    ),
    "network, an interface that is up": if_it_works(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.connect(('8.8.8.8', 53))\nreturn s.send(b'x')"
    ),
    "abstract Unix sockets of the host": if_it_works(
        "names = open('/proc/net/unix').read().splitlines()[1:]\nreturn any('@/tmp/dbus' in n or 'ray' in n for n in names)"
    ),
    # files and secrets
    "reads /etc/shadow": if_it_works("return open('/etc/shadow').read()"),
    "reads /etc/passwd": if_it_works("return open('/etc/passwd').read()"),
    "reads /root": if_it_works("import os\nreturn [n for n in os.listdir('/root') if n != '.pyenv']"),
    "reads the home": if_it_works("import os\nreturn os.listdir('/home')"),
    "reads the environment": if_it_works(
        "import os\nreturn [k for k in os.environ if 'KEY' in k or 'SECRET' in k or 'GRISTMILL' in k]"
    ),
    "reads others' environments": if_it_works(
        "import glob\nfound = b''\nfor p in glob.glob('/proc/[0-9]*/environ'):\n    try:\n        found += open(p, 'rb').read()\n"
        "    except OSError:\n        pass\nreturn b'GRISTMILL_SECRET' in found"
    ),
    "reads the host's processes": if_it_works(
        "import os\nreturn len([p for p in os.listdir('/proc') if p.isdigit()]) > 4"
    ),
    "finds the repository": if_it_works(
        "import os\nfor place, _, names in os.walk('/'):\n    if place.startswith(('/proc', '/usr', '/sys')):\n        continue\n"
        "    if 'pyproject.toml' in names:\n        return True\nreturn False"
    ),
    "imports the orchestrator": if_it_works("import cluster.driving.driver\nreturn True"),
    "reads through /proc/1/root": if_it_works("return open('/proc/1/root/etc/shadow').read()"),
    "reads the devices": if_it_works("import glob\nreturn [open(d, 'rb').read(1) for d in glob.glob('/dev/[shv]d*')]"),
    "follows a symlink out": if_it_works(
        "import os\nos.symlink('/etc/shadow', '/tmp/link')\nreturn open('/tmp/link').read()"
    ),
    "writes to the system": if_it_works("open('/usr/bin/evil', 'w').write('x')\nreturn True"),
    "writes to the root": if_it_works("open('/evil', 'w').write('x')\nreturn True"),
    "writes to the sandbox's own code": if_it_works("open('/sandbox/inside/zygote.py', 'a').write('x')\nreturn True"),
    "leaves a file for the next": if_it_works(
        "import os\nif os.path.exists('/tmp/left') or os.path.exists('/dev/shm/left'):\n    return True\n"
        "open('/tmp/left', 'w').write('x')\nopen('/dev/shm/left', 'w').write('x')\nreturn False"
    ),
    "finds what the last one left": if_it_works(
        "import os\nreturn os.path.exists('/tmp/left') or os.path.exists('/dev/shm/left')"
    ),
    "changes a kernel setting": if_it_works("open('/proc/sys/kernel/hostname', 'w').write('evil')\nreturn True"),
    "sets a core pattern": if_it_works("open('/proc/sys/kernel/core_pattern', 'w').write('|/tmp/x')\nreturn True"),
    "mounts": if_it_works("import ctypes\nreturn ctypes.CDLL(None).mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None) == 0"),
    "unmounts": if_it_works("import ctypes\nreturn ctypes.CDLL(None).umount2(b'/proc', 2) == 0"),
    "makes a namespace of its own": if_it_works("import ctypes\nreturn ctypes.CDLL(None).unshare(0x10000000) == 0"),
    "becomes root": if_it_works("import os\nos.setuid(0)\nreturn os.getuid() == 0"),
    # other processes
    "kills the parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n" + WRONG,
    "kills process 1 in every way": (
        "import os, signal\nfor n in signal.valid_signals():\n    try:\n        os.kill(1, n)\n    except OSError:\n        pass\n"
        + WRONG
    ),
    "kills everybody": "import os, signal\nos.kill(-1, signal.SIGKILL)\n" + WRONG,
    "kills its group": "import os, signal\nos.killpg(0, signal.SIGKILL)\n" + WRONG,
    "traces another process": if_it_works(
        "import ctypes, os\nothers = [int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()]\n"
        "others += [os.getppid()]\nreturn any(ctypes.CDLL(None).ptrace(16, p, 0, 0) == 0 for p in others)"
    ),
    "reads another process's memory and files": if_it_works(
        "import os\nfor p in os.listdir('/proc'):\n    if p.isdigit() and int(p) != os.getpid():\n"
        "        for read in (lambda: open(f'/proc/{p}/mem', 'rb'), lambda: os.listdir(f'/proc/{p}/fd')):\n"
        "            try:\n                read()\n                return True\n            except OSError:\n"
        "                pass\nreturn False"
    ),
    "finds open files": if_it_works(
        "import os\nopened = {int(n) for n in os.listdir('/proc/self/fd')}\n"
        "return any(not os.readlink(f'/proc/self/fd/{n}').startswith(('socket:', 'pipe:', '/dev/null', '/proc/', "
        "'/memfd:stdin')) for n in opened if os.path.lexists(f'/proc/self/fd/{n}')) or len(opened) > 5"
    ),
    "daemonises": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True:\n            time.sleep(1)\n"
        "    os._exit(0)\n" + WRONG
    ),
    "ignores all signals": (
        "import signal\nfor n in signal.valid_signals():\n    try:\n        signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass\n"
    ),
    "an alarm handler of its own": "import signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\nsignal.alarm(1)\nwhile True:\n    pass\n",
    "raises its limits": if_it_works(
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)\nreturn True"
    ),
    "crashes the interpreter": "import ctypes\nctypes.string_at(0)\n",
    "aborts": "import os\nos.abort()\n",
    # being called right without being right
    "leaves with exit code 0": "import os\nos._exit(0)\n",
    "raises SystemExit": "raise SystemExit(0)\n",
    "leaves in the call": "import os\ndef add(a, b):\n    os._exit(0)\n",
    "prints a verdict": (
        "import json, sys\nfor fd in range(3, 256):\n    try:\n        import os\n"
        "        body = json.dumps({'status': 'passed', 'value': 5}).encode()\n"
        "        os.write(fd, len(body).to_bytes(4, 'big') + body)\n    except OSError:\n        pass\n"
        'print(\'{"status": "passed", "is_correct": true}\')\n' + WRONG
    ),
    "equal to everything": (
        "class Any:\n    def __eq__(self, other):\n        return True\n    def __ne__(self, other):\n        return False\n"
        "    def __hash__(self):\n        return 0\ndef add(a, b):\n    return Any()\n"
    ),
    "an integer equal to everything": (
        "class Any(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = int.__hash__\ndef add(a, b):\n    return Any(7)\n"
    ),
    "replaces AssertionError": (
        "import builtins\nclass Quiet(BaseException):\n    def __new__(cls, *a):\n        raise SystemExit(0)\n"
        "builtins.AssertionError = Quiet\n" + WRONG
    ),
    "replaces builtins": "import builtins\nbuiltins.bool = lambda *a: True\nbuiltins.all = lambda *a: True\n" + WRONG,
    "an import hook": (
        "import sys\nclass Hook:\n    def find_spec(self, name, path, target=None):\n        raise SystemExit(0)\n"
        "sys.meta_path.insert(0, Hook())\nsys.modules.clear()\n" + WRONG
    ),
    "replaces check": "import sys\nsys.modules['__main__'].check = lambda c: None\ncheck = lambda c: None\n" + WRONG,
    "changes the caller's frame": (
        "import sys\ndef add(a, b):\n    f = sys._getframe()\n    while f:\n        for k in ('candidate', 'check', 'tests'):\n"
        "            if k in f.f_globals:\n                f.f_globals[k] = lambda *x: a + b\n        f = f.f_back\n    return None\n"
    ),
    "looks for the tests in memory": if_it_works(
        "import gc, re\nwanted = re.compile(r'candidate\\(40, 2')\nfor o in gc.get_objects():\n"
        "    parts = o.values() if isinstance(o, dict) else o if isinstance(o, (list, tuple, set)) else ()\n"
        "    if any(isinstance(p, str) and wanted.search(p) for p in list(parts)):\n        return True\nreturn False"
    ),
    "looks for the tests in raw memory": if_it_works(
        "import re\nwanted = re.compile(rb'candidate\\(40, 2')\nlooked = 0\nfor line in open('/proc/self/maps'):\n"
        "    a, b = [int(x, 16) for x in line.split()[0].split('-')]\n    if 'rw' not in line or b - a > 200_000_000:\n"
        "        continue\n    with open('/proc/self/mem', 'rb') as f:\n        f.seek(a)\n        try:\n"
        "            data = f.read(b - a)\n        except OSError:\n            continue\n        looked += len(data)\n"
        "    if wanted.search(data):\n        return True\nassert looked\nreturn False"
    ),
    "answers with a traceback": "def add(a, b):\n    raise AssertionError\n",
    "answers through an exception": "class E(Exception):\n    def __str__(self):\n        while True:\n            pass\ndef add(a, b):\n    raise E\n",
    "says ready and takes over the socket": (
        "import os, json, socket\nfor fd in range(3, 256):\n    try:\n        s = socket.socket(fileno=os.dup(fd))\n    except OSError:\n        continue\n"
        "    for m in ({'ready': True}, {'value': {'ref': 0, 'type': 'x', 'callable': True}}, {'value': 5}, {'value': 5}, {'value': 5}):\n"
        "        d = json.dumps(m).encode()\n        s.send(len(d).to_bytes(4, 'big') + d)\n" + WRONG
    ),
    "sends rubbish": (
        "import os\nfor fd in range(3, 256):\n    try:\n        os.write(fd, os.urandom(1000))\n    except OSError:\n        pass\n"
        + WRONG
    ),
    "malformed source": "def add(a, b:\n",
    "null bytes": "def add(a, b):\n    return '\0'\n",
    "deeply nested source": "x = " + "(" * 5000 + ")" * 5000 + "\n",
}
