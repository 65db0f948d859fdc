"""The tester of one program: it forks the program's process, then reads the tests, and says what came of them.

The program's process is the first of a process namespace below this one's: the tester sees it, it can't see the tester,
and its end is the end of all that it started.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from . import program, streams
from .candidate import NotIsolated, Program, ProgramFailed
from .frames import Closed, Frames, TooLarge, TooSlow

LEAST_MEMORY = 512 << 20


class OutOfTime(BaseException):
    """The alarm: whatever was going on took too long. No ``except Exception`` of a test's swallows it."""


def main(job: dict[str, Any], tests: Frames, result: Frames) -> NoReturn:
    """Run one job and tell its outcome.

    Args:
        job: kind, program, limits; what programs may know. ``folder`` is where the program works; None: in namespaces
            that this process has entered.
        tests: where the rest of the job is read from: what they may not know.
    """
    child = 0
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            program.begin(theirs, job)
        theirs.close()
        about = tests.receive()
        # what a program answers with is held here as well
        memory = max(LEAST_MEMORY, 2 * job["limits"]["memory_mb"] << 20)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        outcome = _check(ours, about, job) if job["kind"] == "check" else _run(ours, about, job)
    except OutOfTime:
        outcome = {"status": "timeout"}
    except streams.CannotStart as error:
        outcome = {"status": "missing", "detail": str(error)}
    except NotIsolated as error:
        outcome = {"status": "broken", "detail": str(error)}
    except MemoryError:
        outcome = {"status": "failed", "detail": "out of memory"}
    except BaseException as error:  # such as a file that doesn't fit
        outcome = {"status": "refused", "detail": f"{type(error).__name__}: {error}"}
    if child:
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(Exception):
        result.send(outcome)
    os._exit(0)


def _check(sock: socket.socket, about: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Execute the tests here; the program's functions are called over there."""
    seconds, entry_point = job["limits"]["seconds"], job["entry_point"]
    signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    candidate = Program(sock.fileno(), time.monotonic() + seconds, job["limits"], job["folder"] is None)
    namespace: dict[str, Any] = {"__name__": "tests", "__builtins__": _Names(candidate, about["prefix"])}
    try:
        tests = compile(about["tests"], "tests", "exec")
    except (SyntaxError, ValueError) as error:
        return {"status": "refused", "detail": f"the tests don't compile: {error}"}
    try:
        found, value = candidate.start()
        if entry_point and not found:
            return {"status": "failed", "detail": f"the program defines no '{entry_point}'"}
        if entry_point:
            namespace[entry_point] = value
        exec(tests, namespace)
        if entry_point and callable(namespace.get("check")):
            namespace["check"](value)
        return _unittests(namespace) or {"status": "passed"}
    except (ProgramFailed, TooLarge, Closed) as failure:
        told = {TooLarge: "its result is too large", Closed: "it ended before its tests did"}
        return {"status": "failed", "detail": told.get(type(failure)) or str(failure)}
    except (TooSlow, OutOfTime):
        return {"status": "timeout"}
    except NotIsolated:
        raise
    except BaseException as error:  # a failed assertion, a test that stumbles over what it got, SystemExit
        said, *_ = getattr(error, "__notes__", ()) or [f"{type(error).__name__}{_at(error)}: {str(error)[:500]}"]
        return {"status": "failed", "detail": said}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Names(dict[str, Any]):
    """The tests' builtins; a name that is none of them, nor of the tests' own, is the prefix's, or the program's."""

    def __init__(self, candidate: Program, prefix: str) -> None:
        super().__init__(vars(builtins))
        self._candidate, self._prefix = candidate, prefix

    def __missing__(self, name: str) -> Any:
        if self._prefix:  # few tests need it
            prefix, self._prefix = self._prefix, ""
            for known, value in _executed(prefix).items():
                self.setdefault(known, value)
            if name in self:
                return self[name]
        found, value = self._candidate.named(name)
        if not found:
            raise KeyError(name)
        return self.setdefault(name, value)


def _alarm(*_: Any) -> NoReturn:
    raise OutOfTime


def _executed(prefix: str) -> dict[str, Any]:
    """Execute what the tests rely on; a prompt that ends in a function's head is made whole first."""
    namespace: dict[str, Any] = {"__name__": "prefix"}
    for text in (prefix, prefix.rstrip() + "\n    pass\n", prefix.rstrip() + "\n        pass\n"):
        with contextlib.suppress(SyntaxError):
            code = compile(text, "prefix", "exec")
            with contextlib.suppress(Exception):
                exec(code, namespace)
            break
    return namespace


def _unittests(namespace: dict[str, Any]) -> dict[str, Any] | None:
    """Run the TestCases among the tests; None where there are none, or all pass."""
    unittest = sys.modules.get("unittest")
    if unittest is None:
        return None
    kinds = [v for v in namespace.values() if isinstance(v, type) and issubclass(v, unittest.TestCase)]
    loader = unittest.TestLoader()
    for kind in kinds:
        result = unittest.TestResult()
        result.failfast = True
        loader.loadTestsFromTestCase(kind).run(result)
        for case, trace in [*result.failures, *result.errors]:
            return {"status": "failed", "detail": f"{case.id()}: {trace.strip().splitlines()[-1][:500]}"}
    return None


def _at(error: BaseException) -> str:
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "tests":
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line} of the tests)" if line else ""


def _run(sock: socket.socket, about: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Run the program on its cases, or a command."""
    started = Frames(sock.fileno(), sock.fileno(), exact=True).receive()
    if "broken" in started:
        raise NotIsolated(started["broken"])
    folder: str = started["folder"]
    language = job.get("language")

    def run(template: list[str] | None, stdin: str) -> streams.Ended:
        command = template and [part.replace("{dir}", folder) for part in template]
        return streams.run(sock, command, stdin, job)

    if job["kind"] == "command":
        _write(folder, about["files"])
        return _command(run(about["command"], about["stdin"]), job)
    if language is None:
        return _cases(about, job, lambda stdin: run(None, stdin))
    _write(folder, [(language["file"], job["program"])])
    build, start = (
        [part.replace("{file}", language["file"]) for part in language[name]] for name in ("compile", "run")
    )
    if build:
        ended = run(build, "")
        why = ended.why(job["limits"])
        if why is not None:
            return {"status": "timeout" if ended.timed_out else "failed", "detail": f"doesn't compile: {why}"}
    return _cases(about, job, lambda stdin: run(start, stdin))


def _write(folder: str, files: list[Any]) -> None:
    for name, text in files:
        place = os.path.join(folder, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)


def _cases(about: dict[str, Any], job: dict[str, Any], run: Callable[[str], streams.Ended]) -> dict[str, Any]:
    """Run the program on one case after the other, until one fails."""
    for number, case in enumerate(about["cases"], 1):
        ended = run(case["stdin"])
        why = ended.why(job["limits"])
        if why is None and not same_output(ended.stdout, case["stdout"], about["tolerance"]):
            why = f"wrote {_quote(ended.stdout)}, expected {_quote(case['stdout'])}"
        if why is not None:
            status = "timeout" if ended.timed_out else "failed"
            return {"status": status, "detail": f"case {number} of {len(about['cases'])}: {why}"}
    return {"status": "passed"}


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def same_output(found: str, expected: str, tolerance: float) -> bool:
    """Compare two outputs word by word; numbers that aren't whole may differ by ``tolerance``."""
    left, right = found.split(), expected.split()
    return len(left) == len(right) and all(
        one == other or _close(one, other, tolerance) for one, other in zip(left, right, strict=True)
    )


def _close(one: str, other: str, tolerance: float) -> bool:
    if not tolerance or not ({".", "e", "E"} & {*other}):
        return False
    try:
        left, right = float(one), float(other)
    except ValueError:
        return False
    return abs(left - right) <= tolerance * max(1.0, abs(right))


def _command(ended: streams.Ended, job: dict[str, Any]) -> dict[str, Any]:
    status = "timeout" if ended.timed_out else "passed" if ended.exit_code == 0 else "failed"
    return {
        "status": status,
        "detail": ended.why(job["limits"]),
        "exit_code": ended.exit_code,
        "stdout": ended.stdout,
    }
