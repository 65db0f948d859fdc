"""The process of the program: executes it, then does as the tester asks. Everything here is in the program's hands."""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import io
import os
import random
import signal
import socket
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

from . import values
from .frames import Closed, Frames
from .isolate import be_readable, die_with_parent, furnish, kill_all, limit

FD = 3
"""The only file descriptor that a program finds open beside its standard streams: the socket to the tester."""
PACKAGES = "/packages"
WORK = "/tmp/work"


def begin(sock: socket.socket, job: dict[str, Any]) -> NoReturn:
    """Turn this fork into the program's process: nothing open, nothing to read or write to, no privileges."""
    code = 1
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.dup2(sock.fileno(), FD)
        os.closerange(FD + 1, 256)
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        frames = Frames(FD, FD)
        folder = job["folder"]
        try:
            if folder is None:
                furnish(job["limits"]["files_mb"])
                folder = WORK
                os.mkdir(folder)
            else:
                die_with_parent()
            os.chdir(folder)
        except OSError as error:
            frames.send({"broken": f"{type(error).__name__}: {error}"})
            os._exit(1)
        random.seed()
        if job["kind"] == "check":
            be_readable(True)
            limit(job["limits"])
            _serve(frames, job["program"], job["entry_point"])
        else:
            frames.send({"folder": folder})
            _run_each(job)
        code = 0
    finally:
        os._exit(code)


def preload(names: list[str]) -> None:
    """Import packages in the zygote, so that each program that wants them finds them loaded."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.freeze()


def _serve(frames: Frames, source: str, entry_point: str | None) -> None:
    """Execute the program, then answer calls of its functions until the tester hangs up."""
    namespace = _module("program")
    kept = _Kept(frames)
    try:
        exec(compile(source, "program.py", "exec"), namespace)
        frames.send(_named(namespace, entry_point, kept))
    except BaseException as error:  # also SystemExit: the program is over before anybody asked for anything
        frames.send({"raised": describe(error)})
        return
    with contextlib.suppress(Closed):
        while True:
            asked = frames.receive()
            try:
                frames.send(_answer(asked, namespace, kept))
            except Closed:
                return
            except BaseException as error:
                frames.send({"raised": describe(error)})


def _module(name: str) -> dict[str, Any]:
    """Return the names of a new module that is known as ``name``: dataclasses and pickles look themselves up there."""
    module = sys.modules[name] = types.ModuleType(name)
    builtins.exit = builtins.quit = sys.exit  # these are usually there by the module "site"
    return module.__dict__


class _Kept:
    """Objects that the tester has references to, and functions of the tester's."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._objects: list[Any] = []

    def keep(self, value: Any) -> Any:
        self._objects.append(value)
        return {"ref": len(self._objects) - 1, "type": type(value).__name__}

    def kept(self, data: Any) -> Any:
        if "ref" in data:
            return self._objects[data["ref"]]

        def ask_back(*args: Any, **kwargs: Any) -> Any:
            self._frames.send({"callback": data["function"], "arguments": values.encode([args, kwargs], self.keep)})
            answer = self._frames.receive()
            if "raised" in answer:
                raise RuntimeError(answer["raised"]["message"])
            return values.decode(answer["value"], self.kept)

        return ask_back


def _named(namespace: dict[str, Any], name: str | None, kept: _Kept) -> dict[str, Any]:
    return {"value": values.encode(namespace[name], kept.keep)} if name in namespace else {"missing": True}


def _answer(asked: dict[str, Any], namespace: dict[str, Any], kept: _Kept) -> dict[str, Any]:
    if "name" in asked:
        return _named(namespace, asked["name"], kept)
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


def _run_each(job: dict[str, Any]) -> None:
    """Start a fresh process for every run that the tester asks for, and tell how it ended; execute nothing here.

    What a run needs comes over the socket: a command (none: the program itself, in a fork), and standard streams.
    """
    sock = socket.socket(fileno=FD)
    frames = Frames(FD, FD)
    while True:
        message, streams, _, _ = socket.recv_fds(sock, 1, 3)
        if not message:
            return
        command = frames.receive()["command"]
        failed, told = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for fd, stream in enumerate(streams):
                    os.dup2(stream, fd)
                os.dup2(told, FD, inheritable=False)
                os.closerange(FD + 1, 256)
                os.setsid()
                be_readable(True)
                limit(job["limits"], address_space=command is None)
                if command is None:
                    os.close(FD)
                    _main(job["program"])
                os.execvp(command[0], command)
            except OSError as error:
                os.write(FD, str(error.strerror).encode())
            finally:
                os._exit(1)
        os.close(told)
        for stream in streams:
            os.close(stream)
        problem = os.read(failed, 1000).decode()
        os.close(failed)
        _, status = os.waitpid(child, 0)
        kill_all()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        frames.send({"exit": os.waitstatus_to_exitcode(status), "problem": problem})


def _main(source: str) -> NoReturn:
    """Run the program as a script."""
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)), encoding="utf-8", errors="surrogateescape")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w")), encoding="utf-8", errors="surrogateescape")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w")), encoding="utf-8", errors="replace", line_buffering=True
    )
    sys.argv = ["program.py"]
    code = 0
    try:
        exec(compile(source, "program.py", "exec"), _module("__main__"))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as error:
        told = describe(error)
        where = f" (line {told['line']})" if told["line"] else ""
        sys.stderr.write(f"{told['type']}{where}: {told['message']}\n")
        code = 1
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    os._exit(code & 0xFF)
