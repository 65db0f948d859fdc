"""A warm interpreter for the command line: it has imported what commands need, and forks for each of them.

A command costs a second or two of imports, more than most of what tests do with it. Here they are paid once. What a
fork does is what ``python -m jobs.cli`` does in a new interpreter: it has the folder, the environment, the streams and
the search path that it was given, and it ends as any interpreter does. ``tests.commands`` is the other end.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

from tests.privileges import give_up

PACKAGES = ("schemas", "operators", "pipelines", "cluster", "jobs")
LEFT_OUT = {"ray", "engines", "background", "inside"}
"""Parts of names of modules that need a library of their own, or that change the process which imports them."""
OTHERS = ("cluster.engines.scripted", "altair", "deltalake", "pandas", "psycopg", "s3fs", "sqlalchemy", "vl_convert")
"""What else commands import when they first need it."""
STATUS = struct.Struct("i")
"""What is told of a process: its number once, and how it ended."""


def preload() -> None:
    """Import what commands import, and nothing that starts a thread which they would miss."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages([package], f"{package}.", onerror=lambda name: None):
            if not LEFT_OUT & set(module.name.split(".")):
                importlib.import_module(module.name)
    for name in OTHERS:
        importlib.import_module(name)
    threads = {task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    # Polars' threads aren't there in a fork, whose first query would wait for them for ever
    assert "polars-0" not in threads, "an import ran a query: do it in a function instead"
    gc.collect()
    gc.freeze()  # or each fork would look through all of this when it ends, and copy the memory


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; return the request in each fork, and None in the server when the other end is gone."""
    told: dict[int, int] = {}
    """Process number -> where to say how it ended."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control.fileno(), reading], [], [])
        if reading in ready:
            os.read(reading, 4096)
            _tell(told)
        if control.fileno() not in ready:
            continue
        data, handles, _, _ = socket.recv_fds(control, 1 << 20, 4)
        if not data:
            return None
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for handle in (reading, writing, handles[3], *told.values()):
                os.close(handle)
            control.close()
            for number, handle in enumerate(handles[:3]):
                os.dup2(handle, number)
                os.close(handle)
            return json.loads(data)
        for handle in handles[:3]:
            os.close(handle)
        told[pid] = handles[3]
        os.write(handles[3], STATUS.pack(pid))


def _tell(told: dict[int, int]) -> None:
    """Say of each process that has ended how it did."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in told:
            handle = told.pop(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(handle, STATUS.pack(os.waitstatus_to_exitcode(status)))
            os.close(handle)


def become(request: dict[str, Any]) -> None:
    """Turn this fork into the command's process."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    if not request["privileged"]:
        give_up()
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [os.getcwd(), *given, *(path for path in sys.path[1:] if path not in given)]
    sys.argv = [str(Path("jobs", "cli.py").absolute()), *request["arguments"]]
    # processes that this one starts must not import this file in its place
    here = sys.modules["__main__"]
    here.__spec__ = None
    here.__dict__.pop("__file__", None)


if __name__ == "__main__":
    preload()
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        become(asked)
        from jobs.cli import main

        main()
