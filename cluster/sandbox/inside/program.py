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
from typing import Any, NoReturn

from .faults import describe
from .frames import Closed, Frames
from .isolate import be_readable, die_with_parent, filter_calls, furnish, kill_all, limit
from .objects import OPERATIONS, Kept
from .values import TooDeep, decode, is_mutable

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
        if job["door"] is not None:
            os.write(job["door"], b"0")  # into the control group that counts memory
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
        frames.send({"folder": folder})
        if job["kind"] in ("check", "calls"):
            _shut_in(job)
            _serve(frames, job["program"], job["entry_point"], job["prelude"])
        else:
            _run_each(job)
        code = 0
    finally:
        os._exit(code)


def _shut_in(job: dict[str, Any], address_space: bool = True) -> None:
    """Take the last steps before something of the program's is executed in this process."""
    be_readable(True)  # what it uses can be seen from outside
    limit(job["limits"], address_space)
    if job["folder"] is None:
        filter_calls(job["profile"])


def preload(names: list[str]) -> None:
    """Import packages in the zygote, so that each program that wants them finds them loaded."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.freeze()


def _serve(frames: Frames, source: str, entry_point: str | None, prelude: str) -> None:
    """Execute the program, then answer calls of its functions until the tester hangs up."""
    namespace = module("program")
    kept = Kept(frames, namespace)
    if "print" in source or "stdout" in source:
        sys.stdout = kept.printed
    try:
        if prelude:  # beneath the program's own names, so that none of it is taken for something that it defines
            given: dict[str, Any] = {}
            exec(prelude, given)
            namespace["__builtins__"] = {**vars(builtins), **{k: v for k, v in given.items() if not k.startswith("__")}}
        exec(compile(source, "program.py", "exec"), namespace)
        frames.send(kept.told(_named(namespace, entry_point, kept)))
    except BaseException as error:  # also SystemExit: the program is over before anybody asked for anything
        frames.send({"raised": describe(error)})
        return
    with contextlib.suppress(Closed):
        while True:
            asked = frames.receive()
            try:
                answer = kept.told(_answer(asked, namespace, kept))
            except TooDeep:
                answer = {"too_deep": True}
            except BaseException as error:
                answer = kept.told({"raised": describe(error, kept)})
            frames.send(answer)


def module(name: str) -> dict[str, Any]:
    """Return the names of a new module that is known as ``name``: dataclasses and pickles look themselves up there."""
    made = sys.modules[name] = types.ModuleType(name)
    builtins.exit = builtins.quit = sys.exit  # these are usually there by the module "site"
    return made.__dict__


def _named(namespace: dict[str, Any], name: str | None, kept: Kept) -> dict[str, Any]:
    return {"value": kept.encode(namespace[name])} if name in namespace else {"missing": True}


def _method(namespace: dict[str, Any], name: str, owner: str | None, kept: Kept) -> dict[str, Any]:
    """Return what is called: a method of a new object, or a function."""
    for place in (owner, name, "Solution"):
        found = namespace.get(place) if place else None
        if isinstance(found, type) and hasattr(found, name):
            return {"value": kept.refer(getattr(found(), name))}
        if place == name and callable(found):
            return {"value": kept.refer(found)}
    return {"missing": True}


def _answer(asked: dict[str, Any], namespace: dict[str, Any], kept: Kept) -> dict[str, Any]:
    if "name" in asked:
        return _named(namespace, asked["name"], kept)
    if "method" in asked:
        return _method(namespace, asked["method"], asked["class"], kept)
    target = kept.kept({"ref": asked["ref"]})
    args, kwargs = decode(asked["arguments"], kept)
    given = {**dict(enumerate(args)), **kwargs}
    before = {at: kept.encode(item) for at, item in given.items() if is_mutable(item)}
    result = OPERATIONS[asked["do"]](target, *args, **kwargs)
    same = next((at for at, item in given.items() if item is result and at in before), None)
    answer = {"value": kept.encode(result)} if same is None else {"same": same}
    after = {at: kept.encode(given[at]) for at in before}
    changed = [[at, new] for at, new in after.items() if new != before[at]]
    return {**answer, "changed": changed} if changed else answer


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
                _shut_in(job, address_space=command is None)
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
        exec(compile(source, "program.py", "exec"), module("__main__"))
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
