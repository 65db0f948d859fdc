"""Commands as a user gives them, each in a process of its own that a warm interpreter forks (``tests.fork_server``)."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import IO, Any

from tests.fork_server import STATUS

HERE = Path(__file__).parents[1]
SECONDS = 300.0
"""How long a command may take that should end by itself: what hangs fails, what is slow doesn't."""


@cache
def _server() -> tuple[socket.socket, threading.Lock]:
    """Start the server; it ends with this process, whose end of the socket is closed then."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.fork_server", str(its.fileno())]
    subprocess.Popen(command, cwd=HERE, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL)
    its.close()
    return ours, threading.Lock()


def _scratch(name: str) -> IO[bytes]:
    """Return a file in memory: unlike a pipe, it never fills."""
    return os.fdopen(os.memfd_create(name), "rb")


class Command:
    """A running command, with what tests use of ``subprocess.Popen``.

    Args:
        folder: where it runs.
        changes: environment variables that differ from this process's.
        log: where everything that it says is appended; without it, ``communicate`` returns what it said.
        privileged: whether it may all that this process may, if that is root's; else permissions hold for it.
    """

    def __init__(
        self,
        *arguments: str,
        folder: Path,
        changes: dict[str, str] | None = None,
        log: Any = None,
        privileged: bool = True,
    ) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(folder)]), **(changes or {})}
        request = {"arguments": arguments, "folder": str(folder.absolute()), "environment": environment}
        request["privileged"] = privileged
        self.args = ["gristmill", *arguments]
        self.returncode: int | None = None
        self._said: list[IO[bytes]] = [log, log] if log else [_scratch("out"), _scratch("err")]
        self._reading, writing = os.pipe()
        control, lock = _server()
        with open(os.devnull) as nothing, lock:
            handles = [nothing.fileno(), *(file.fileno() for file in self._said), writing]
            socket.send_fds(control, [json.dumps(request).encode()], handles)
        os.close(writing)
        self.pid = self._read()

    def __del__(self) -> None:
        os.close(self._reading)

    def _read(self) -> int:
        data = os.read(self._reading, STATUS.size)
        assert data, "the server that forks commands is gone"
        return STATUS.unpack(data)[0]

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._reading], [], [], 0)[0]:
            self.returncode = self._read()
        return self.returncode

    def wait(self, timeout: float = SECONDS) -> int:
        if self.returncode is None and not select.select([self._reading], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout)
        code = self.poll()
        assert code is not None
        return code

    def communicate(self, timeout: float = SECONDS) -> tuple[str, str]:
        """Wait for its end; return what it wrote to standard output and to standard error."""
        self.wait(timeout)
        for file in self._said:
            file.seek(0)
        out, err = (file.read().decode() for file in self._said)
        return out, err

    def output(self) -> str:
        """Return what it has written to standard output so far."""
        return self._so_far(0)

    def errors(self) -> str:
        """Return what it has written to standard error so far."""
        return self._so_far(1)

    def _so_far(self, which: int) -> str:
        file = self._said[which].fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def gristmill(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Give a command and wait for its end."""
    command = Command(*arguments, folder=cwd, changes=env)
    try:
        out, err = command.communicate()
    except subprocess.TimeoutExpired:
        command.kill()
        raise
    return subprocess.CompletedProcess(command.args, command.wait(), out, err)


def as_json(*arguments: str, cwd: Path) -> Any:
    """Give a command that must succeed; return the document that it prints."""
    done = gristmill(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
