"""Running a program on one standard input: what it wrote, how it ended, and whether it took too much of anything."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from .frames import Closed, TooSlow, read_frame
from .isolate import contained, crowd, kill_others, limit

FORKER = 2
"""The process of ``program.run_cases``: the first fork of process 1."""
LOOK = 0.02
"""Seconds between two looks at how much memory a program's processes use together."""


class CannotStart(Exception):
    """There is no such command."""


@dataclass
class Ended:
    """How one run ended."""

    stdout: str = ""
    stderr: str = ""
    exit_code: int | None = None
    timed_out: bool = False
    overstepped: str | None = None

    def why(self, limits: dict[str, Any]) -> str | None:
        """Return why the run failed; None if it didn't."""
        if self.timed_out:
            return f"longer than {limits['seconds']:g} s"
        if self.overstepped:
            return self.overstepped
        if self.exit_code:
            last = (self.stderr.strip() or self.stdout.strip()).splitlines()[-1:]
            said = f": {last[0][:300]}" if last else ""
            if self.exit_code < 0:
                with contextlib.suppress(ValueError):
                    return f"killed by {signal.Signals(-self.exit_code).name}{said}"
            return f"exit code {self.exit_code}{said}"
        return None


def overstepping(limits: dict[str, Any]) -> str | None:
    """Return which limit the processes of this namespace are over together; None if none."""
    if not contained():
        return None
    processes, used = crowd()
    if used > limits["memory_mb"] << 20:
        return f"more than {limits['memory_mb']} MB of memory"
    if processes > 4 * limits["processes"]:
        return f"more than {limits['processes']} processes"
    return None


def run_forked(sock: socket.socket, stdin: str, limits: dict[str, Any]) -> Ended:
    """Have ``program.run_cases`` at the other end of ``sock`` run the program on ``stdin``."""
    given, outputs = _streams(stdin)
    try:
        socket.send_fds(sock, [b"run"], [given, outputs[0][1], outputs[1][1]])
    except OSError:
        return Ended(overstepped="it killed what runs it")
    finally:
        os.close(given)
        for _, write in outputs:
            os.close(write)
    until = time.monotonic() + limits["seconds"]
    collected = _Collected([read for read, _ in outputs], limits)
    child = 0
    try:
        child = read_frame(sock.fileno(), until)["child"]
        ended = collected.until(sock.fileno(), until)
        if ended is not None:
            return ended
        told = read_frame(sock.fileno(), until)
        collected.rest()
        return collected.ended(exit_code=int(told["exit"]))
    except TooSlow:
        return collected.ended(timed_out=True)
    except Closed:
        return collected.ended(overstepped="it killed what runs it")
    finally:
        collected.close()
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        kill_others(spare=FORKER)


def run_command(command: list[str], stdin: str, limits: dict[str, Any]) -> Ended:
    """Run a command as a process of its own."""
    given, outputs = _streams(stdin)
    try:
        process = subprocess.Popen(
            command,
            stdin=given,
            stdout=outputs[0][1],
            stderr=outputs[1][1],
            start_new_session=True,
            preexec_fn=lambda: limit(limits, address_space=False),
        )
    except OSError as error:
        for read, _ in outputs:
            os.close(read)
        raise CannotStart(f"'{command[0]}' can't be started: {error.strerror}") from error
    finally:
        os.close(given)
        for _, write in outputs:
            os.close(write)
    until = time.monotonic() + limits["seconds"]
    collected = _Collected([read for read, _ in outputs], limits)
    over = os.pidfd_open(process.pid)
    try:
        ended = collected.until(over, until)
        if ended is None:
            process.wait()
            collected.rest()
            return collected.ended(exit_code=process.returncode)
        return ended
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kill_others()
        os.close(over)
        collected.close()


def _streams(stdin: str) -> tuple[int, list[tuple[int, int]]]:
    """Return a file that holds ``stdin``, and (read, write) of pipes for stdout and stderr."""
    given = os.memfd_create("stdin")
    with os.fdopen(os.dup(given), "wb") as file:
        file.write(stdin.encode("utf-8", "surrogatepass"))
    os.lseek(given, 0, os.SEEK_SET)
    return given, [os.pipe(), os.pipe()]


class _Collected:
    """What comes through stdout and stderr, up to a limit."""

    def __init__(self, reads: list[int], limits: dict[str, Any]) -> None:
        self._reads = reads
        self._open = list(reads)
        self._texts = {read: bytearray() for read in reads}
        self._most = int(limits["output_mb"] * (1 << 20))
        self._limits = limits

    def until(self, signalled: int, until: float) -> Ended | None:
        """Collect until ``signalled`` can be read (None), or the run has to be ended (why)."""
        while True:
            left = until - time.monotonic()
            if left <= 0:
                return self.ended(timed_out=True)
            ready = select.select([signalled, *self._open], [], [], min(left, LOOK))[0]
            if not self._take(ready):
                return self.ended(overstepped=f"more than {self._limits['output_mb']:g} MB of output")
            if signalled in ready:
                return None
            if not ready:
                over = overstepping(self._limits)
                if over is not None:
                    return self.ended(overstepped=over)

    def rest(self) -> None:
        """Take what is there already."""
        while ready := select.select(self._open, [], [], 0)[0] if self._open else []:
            if not self._take(ready):
                return

    def _take(self, ready: list[int]) -> bool:
        for read in ready:
            if read in self._open:
                part = os.read(read, 1 << 16)
                if not part:
                    self._open.remove(read)
                self._texts[read] += part
        return sum(map(len, self._texts.values())) <= self._most

    def ended(self, **how: Any) -> Ended:
        out, err = (self._texts[read].decode("utf-8", "replace") for read in self._reads)
        return Ended(out, err, **how)

    def close(self) -> None:
        for read in self._reads:
            os.close(read)
