"""One run of a program on one standard input: what it wrote, how it ended, whether it took too much of anything."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

from .frames import Closed, Frames, Malformed, TooSlow


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
            lines = (self.stderr.strip() or self.stdout.strip()).splitlines()
            telling = [line for line in lines if "error" in line.casefold()] or lines[-1:]
            said = f": {telling[0].strip()[:300]}" if telling else ""
            if self.exit_code < 0:
                with contextlib.suppress(ValueError):
                    return f"killed by {signal.Signals(-self.exit_code).name}{said}"
            return f"exit code {self.exit_code}{said}"
        return None


def run(sock: socket.socket, command: list[str] | None, stdin: str, job: dict[str, Any]) -> Ended:
    """Have the program's process run the program (or a command) on ``stdin``. Whatever else it started has ended then.

    Raises:
        CannotStart: there is no such command.
    """
    limits = job["limits"]
    given, outputs = _streams(stdin)
    frames = Frames(sock.fileno(), sock.fileno())
    collected = _Collected([read for read, _ in outputs], limits)
    try:
        try:
            socket.send_fds(sock, [b"!"], [given, outputs[0][1], outputs[1][1]])
            frames.send({"command": command})
        finally:
            os.close(given)
            for _, write in outputs:
                os.close(write)
        until = time.monotonic() + limits["seconds"]
        ended = collected.until(sock.fileno(), until)
        if ended is not None:
            return ended
        told = frames.receive(until)
        if told["problem"]:
            raise CannotStart(f"'{(command or [''])[0]}' can't be started: {told['problem']}")
        return collected.rest() or collected.ended(exit_code=int(told["exit"]))
    except TooSlow:
        return collected.ended(timed_out=True)
    except (Closed, Malformed, OSError):
        return collected.ended(overstepped="it killed what runs it")
    finally:
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
            now = time.monotonic()
            if now >= until:
                return self.ended(timed_out=True)
            ready = select.select([signalled, *self._open], [], [], until - now)[0]
            if not self._take(ready):
                return self._too_much()
            if signalled in ready:
                return None

    def rest(self) -> Ended | None:
        """Take what is there already; return why that is too much."""
        while ready := select.select(self._open, [], [], 0)[0] if self._open else []:
            if not self._take(ready):
                return self._too_much()
        return None

    def _take(self, ready: list[int]) -> bool:
        for read in ready:
            if read in self._open:
                part = os.read(read, 1 << 16)
                if not part:
                    self._open.remove(read)
                self._texts[read] += part
        return sum(map(len, self._texts.values())) <= self._most

    def _too_much(self) -> Ended:
        return self.ended(overstepped=f"more than {self._limits['output_mb']:g} MB of output")

    def ended(self, **how: Any) -> Ended:
        out, err = (self._texts[read].decode("utf-8", "replace") for read in self._reads)
        return Ended(out, err, **how)

    def close(self) -> None:
        for read in self._reads:
            os.close(read)
