"""Process 1 of a program's namespace: it forks the program, then reads the tests, and says what came of them."""

from __future__ import annotations

import ast
import builtins
import contextlib
import os
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from . import program, streams
from .candidate import Program, ProgramFailed
from .frames import Closed, TooLarge, TooSlow, read_frame, write_frame
from .isolate import furnish, kill_others

WORK = "/tmp/work"


class OutOfTime(BaseException):
    """The alarm: whatever was going on took too long. No ``except Exception`` of a test's swallows it."""


def main(job: dict[str, Any], tests_fd: int, result_fd: int, separate: bool) -> NoReturn:
    """Run one job and write its outcome to ``result_fd``.

    Args:
        job: kind, program, limits; what programs may know.
        tests_fd: where the rest of the job is read from: what they may not.
        separate: this is process 1 of its own namespaces.
    """
    try:
        if separate:
            furnish(job["limits"]["files_mb"])
        os.makedirs(job.get("folder") or WORK, exist_ok=True)
        os.chdir(job.get("folder") or WORK)
        outcome = _run(job, tests_fd, result_fd)
    except OutOfTime:
        outcome = {"status": "timeout"}
    except streams.CannotStart as error:
        outcome = {"status": "refused", "detail": str(error)}
    except MemoryError:
        outcome = {"status": "failed", "detail": "out of memory"}
    except BaseException as error:
        outcome = {"status": "error", "detail": f"{type(error).__name__}: {error}"}
    with contextlib.suppress(Exception):
        write_frame(result_fd, outcome)
    kill_others()
    os._exit(0)


def _run(job: dict[str, Any], tests_fd: int, result_fd: int) -> dict[str, Any]:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    limits = job["limits"]
    match job["kind"]:
        case "check":
            ours = _fork(job, lambda sock: program.serve(sock, job["program"]))
            return _check(ours, read_frame(tests_fd), limits)
        case "cases" if job["language"] is None:
            ours = _fork(job, lambda sock: program.run_cases(sock, job["program"], limits))
            return _cases(job, read_frame(tests_fd), lambda case: streams.run_forked(ours, case, limits))
        case "cases":
            return _other_language(job, read_frame(tests_fd))
        case _:
            return _command(read_frame(tests_fd), limits)


def _fork(job: dict[str, Any], body: Any) -> socket.socket:
    """Fork the program's process, before anything is read that it mustn't know; return the socket to it."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        code = 1
        try:
            fd = os.dup2(theirs.fileno(), 200)
            theirs = socket.socket(fileno=fd)
            program.settle(fd, job["limits"])
            body(theirs)
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    return ours


def _check(sock: socket.socket, about: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """Execute the tests here; the program's functions are called over there."""
    until = time.monotonic() + limits["seconds"]
    signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, limits["seconds"])
    candidate = Program(sock.fileno(), until, limits)
    namespace: dict[str, Any] = {"__name__": "tests"}
    try:
        tests = compile(about["tests"], "tests", "exec")
        missing = _free_names(about["tests"])
    except (SyntaxError, ValueError) as error:
        return {"status": "refused", "detail": f"the tests don't compile: {error}"}
    try:
        candidate.start()
        _prepare(about["prefix"], namespace)
        known = set(namespace)
        for name in missing | ({about["entry_point"]} if about["entry_point"] else set()):
            if (name not in known or name == about["entry_point"]) and not hasattr(builtins, name):
                found, value = candidate.named(name)
                if found:
                    namespace[name] = value
        if about["entry_point"] and about["entry_point"] not in namespace:
            return {"status": "failed", "detail": f"the program defines no '{about['entry_point']}'"}
        exec(tests, namespace)
        if about["entry_point"] and callable(namespace.get("check")):
            namespace["check"](namespace[about["entry_point"]])
        return _unittests(namespace) or {"status": "passed"}
    except ProgramFailed as failure:
        return {"status": "timeout" if failure.timeout else "failed", "detail": str(failure)}
    except (TooSlow, OutOfTime):
        return {"status": "timeout"}
    except (Closed, TooLarge) as error:
        said = "its result is too large" if isinstance(error, TooLarge) else "it ended before its tests did"
        return {"status": "failed", "detail": candidate.overstepped or said}
    except AssertionError as error:
        return {"status": "failed", "detail": f"AssertionError{_at(error)}: {_short(error)}"}
    except BaseException as error:  # a test that stumbles over what it got, or SystemExit
        said = f"{type(error).__name__}{_at(error)}: {_short(error)}"
        return {"status": "failed", "detail": candidate.raised.get(id(error), said)}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _alarm(*_: Any) -> NoReturn:
    raise OutOfTime


def _prepare(prefix: str, namespace: dict[str, Any]) -> None:
    """Execute what the tests rely on; a prompt that ends in a function's head is made whole first."""
    for text in (prefix, prefix.rstrip() + "\n    pass\n", prefix.rstrip() + "\n        pass\n"):
        try:
            code = compile(text, "prefix", "exec")
        except SyntaxError:
            continue
        with contextlib.suppress(Exception):
            exec(code, namespace)
        return


def _free_names(source: str) -> set[str]:
    """Return the names that the tests use and may not define themselves."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    bound = {node.id for node in tree.body if isinstance(node, ast.Name)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return used - bound


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


def _short(error: BaseException) -> str:
    return str(error)[:500]


def _cases(job: dict[str, Any], about: dict[str, Any], run: Any) -> dict[str, Any]:
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


def _other_language(job: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Compile the program by its language's template, then run it on each case."""
    language, limits = job["language"], job["limits"]
    here = os.getcwd()
    with open(language["file"], "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(job["program"])

    def filled(template: list[str]) -> list[str]:
        return [part.replace("{file}", language["file"]).replace("{dir}", here) for part in template]

    if language["compile"]:
        ended = streams.run_command(filled(language["compile"]), "", limits)
        why = ended.why(limits)
        if why is not None:
            return {"status": "timeout" if ended.timed_out else "failed", "detail": f"doesn't compile: {why}"}
    return _cases(job, about, lambda stdin: streams.run_command(filled(language["run"]), stdin, limits))


def _command(about: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    here = os.getcwd()
    for name, text in about["files"]:
        if os.path.dirname(name):
            os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
    command = [part.replace("{dir}", here) for part in about["command"]]
    ended = streams.run_command(command, about["stdin"], limits)
    status = "timeout" if ended.timed_out else "passed" if ended.exit_code == 0 else "failed"
    return {
        "status": status,
        "detail": ended.why(limits),
        "exit_code": ended.exit_code,
        "stdout": ended.stdout,
    }
