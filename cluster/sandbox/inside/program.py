"""The process of the program: executes it, then does as the tester asks. Everything here is in the program's hands."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from . import values
from .frames import Closed, read_frame, write_frame
from .isolate import be_readable, die_with_parent, limit

LARGEST_RESULT = 64 << 20
PACKAGES = "/packages"


def settle(keep: int, limits: dict[str, Any]) -> None:
    """Make a forked process one that runs a program: nothing open but ``keep`` and nothing to read or write to."""
    die_with_parent()
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, keep)
    os.closerange(keep + 1, 256)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    be_readable(True)
    limit(limits)
    random.seed()
    gc.unfreeze()
    if os.path.isdir(PACKAGES):
        sys.path.append(PACKAGES)


def serve(sock: socket.socket, source: str) -> None:
    """Execute the program, then answer calls of its functions until the tester hangs up."""
    fd = sock.fileno()
    namespace: dict[str, Any] = {"__name__": "program", "__builtins__": __builtins__}
    kept = _Kept(fd)
    try:
        exec(compile(source, "program.py", "exec"), namespace)
        write_frame(fd, {"ready": True})
    except BaseException as error:  # also SystemExit: the program is over before anybody asked for anything
        write_frame(fd, {"raised": describe(error)})
        return
    with contextlib.suppress(Closed):
        while True:
            asked = read_frame(fd)
            try:
                write_frame(fd, _answer(asked, namespace, kept))
            except Closed:
                return
            except BaseException as error:
                write_frame(fd, {"raised": describe(error)})


class _Kept:
    """Objects that the tester has references to, and functions of the tester's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._objects: list[Any] = []

    def keep(self, value: Any) -> Any:
        self._objects.append(value)
        return {"ref": len(self._objects) - 1, "type": type(value).__name__, "callable": callable(value)}

    def kept(self, data: Any) -> Any:
        if "ref" in data:
            return self._objects[data["ref"]]

        def ask_back(*args: Any, **kwargs: Any) -> Any:
            sent = values.encode([args, kwargs], self.keep)
            write_frame(self._fd, {"callback": data["function"], "arguments": sent})
            answer = read_frame(self._fd)
            if "raised" in answer:
                raise RuntimeError(answer["raised"]["message"])
            return values.decode(answer["value"], self.kept)

        return ask_back


def _answer(asked: dict[str, Any], namespace: dict[str, Any], kept: _Kept) -> dict[str, Any]:
    if "name" in asked:
        if asked["name"] not in namespace:
            return {"missing": True}
        return {"value": values.encode(namespace[asked["name"]], kept.keep)}
    target = kept.kept({"ref": asked["ref"]})
    args, kwargs = values.decode(asked["arguments"], kept.kept)
    before = [_mutable(item) and values.encode(item, kept.keep) for item in args]
    operation: Callable[..., Any] = _OPERATIONS[asked["do"]]
    answer = {"value": values.encode(operation(target, *args, **kwargs), kept.keep)}
    after = [_mutable(item) and values.encode(item, kept.keep) for item in args]
    changed = [[at, new] for at, (old, new) in enumerate(zip(before, after, strict=True)) if new != old]
    return {**answer, "changed": changed} if changed else answer


def _mutable(value: Any) -> bool:
    return isinstance(value, list | dict | set | bytearray)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda target, *args, **kwargs: target(*args, **kwargs),
    "attribute": getattr,
    "item": lambda target, key: target[key],
    "set_item": lambda target, key, value: target.__setitem__(key, value),
    "contains": lambda target, item: item in target,
    "len": len,
    "bool": bool,
    "str": str,
    "iterate": iter,
    "next": lambda target: next(target),
    "equal": lambda target, other: bool(target == other),
}


def describe(error: BaseException) -> dict[str, Any]:
    """Return name, message and the line of the program where it was raised."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "program.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = error.lineno
    try:
        message = str(error)[:500]
    except BaseException:
        message = ""
    bases = [kind.__name__ for kind in type(error).__mro__]
    return {"type": str(type(error).__name__)[:100], "bases": bases, "message": message, "line": line}


def run_cases(sock: socket.socket, source: str, limits: dict[str, Any]) -> None:
    """Fork a fresh process for every case: its standard streams come over ``sock``, its end is told there.

    This process never executes the program.
    """
    while True:
        message, streams, _, _ = socket.recv_fds(sock, 16, 3)
        if not message:
            return
        child = os.fork()
        if child == 0:
            try:
                for fd, stream in enumerate(streams):
                    os.dup2(stream, fd)
                os.closerange(3, 256)
                os.setsid()
                limit(limits)
                _main(source)
            finally:
                os._exit(1)
        for stream in streams:
            os.close(stream)
        write_frame(sock.fileno(), {"child": child})
        _, status = os.waitpid(child, 0)
        write_frame(sock.fileno(), {"exit": os.waitstatus_to_exitcode(status)})


def _main(source: str) -> None:
    """Run the program as a script; never returns."""
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)), encoding="utf-8", errors="surrogateescape")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w")), encoding="utf-8", errors="surrogateescape")
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), encoding="utf-8", errors="replace", write_through=True)  # type: ignore[arg-type]
    sys.argv = ["program.py"]
    code = 0
    try:
        exec(compile(source, "program.py", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as error:
        told = describe(error)
        where = f" (line {told['line']})" if told["line"] else ""
        sys.stderr.write(f"{told['type']}: {told['message']}{where}\n")
        code = 1
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    os._exit(code & 0xFF)


def preload(names: list[str]) -> None:
    """Import packages in the zygote, so that each program that wants them finds them loaded."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
