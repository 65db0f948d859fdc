"""The tester of one program: it forks the program's process, then reads the tests, and says what came of them.

The program's process is the first of a process namespace below this one's: the tester sees it, it can't see the tester,
and its end is the end of all that it started.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from . import channels, isolate, program, streams
from .candidate import Program, ProgramFailed
from .compare import same_output, same_value
from .frames import Closed, Frames, Malformed, TooLarge, TooSlow
from .outcomes import Cannot, Failed
from .probes import pass_anyway
from .references import NotCrossing
from .trials import OutOfTime, Trial, place, time_limit
from .values import decode

LEAST_MEMORY = 512 << 20
DEEP = 10_000
"""How deep what is read of a program's answers may be nested."""


class NotIsolated(Exception):
    """The program's process couldn't be shut in; nothing was executed."""


def main(job: dict[str, Any], tests: Frames, result: Frames) -> NoReturn:
    """Run one job and tell its outcome.

    Args:
        job: kind, program, limits; what programs may know. ``folder`` is where the program works; None: in namespaces
            that this process has entered.
        tests: where the rest of the job is read from: what they may not know.
    """
    child = 0
    about: dict[str, Any] = {}
    outcome: dict[str, Any]
    own = _own_schedstat()
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            program.begin(theirs, job)
        theirs.close()
        if job["door"] is not None:
            os.close(job["door"])
        # the first message is ours: nothing of the program's has been executed yet
        started = Frames(ours.fileno(), ours.fileno(), exact=True).receive()
        if "broken" in started:
            raise NotIsolated(started["broken"])
        result.send({"serves": child if job["kind"] in ("cases", "command") else None})
        about = tests.receive()
        if job["folder"] is None:
            isolate.give_up_privileges()
            if job["kind"] == "check":  # tests are data of somebody's, too; with the others nothing is executed here
                isolate.filter_calls(job["profile"])
        # what a program answers with is held here as well
        memory = max(LEAST_MEMORY, 2 * job["limits"]["memory_mb"] << 20)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        sys.setrecursionlimit(DEEP)
        outcome = _outcome(ours, about, job, started["folder"])
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
        if outcome["status"] == "timeout":
            outcome["waited"] = _waited(own, None if job["folder"] is None else child)
        os.kill(child, signal.SIGKILL)
    if about.get("probe"):
        outcome["probed"] = _probed(about, job)
    with contextlib.suppress(Exception):
        result.send(outcome)
    os._exit(0)


def _own_schedstat() -> int | None:
    """Open what the kernel says of this process's waiting, while /proc isn't the program's yet."""
    with contextlib.suppress(OSError):
        return os.open("/proc/self/schedstat", os.O_RDONLY)
    return None


def _waited(own: int | None, only: int | None) -> float:
    """Return for how many seconds the program, or this process, has waited for a core.

    Args:
        only: the program's process, where /proc shows others as well.
    """
    mine = 0.0 if own is None else isolate.delay(os.pread(own, 200, 0).decode())
    return max(mine, isolate.waited() if only is None else isolate.waited_of(only))


def _outcome(sock: socket.socket, about: dict[str, Any], job: dict[str, Any], folder: str) -> dict[str, Any]:
    """Run a job of any kind."""
    match job["kind"]:
        case "check":
            return _check(sock, about, job)
        case "calls":
            return _calls(sock, about, job)
        case _:
            return _run(sock, about, job, folder)


def _check(sock: socket.socket, about: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Execute the tests here; the program's functions are called over there."""
    seconds, entry_point = job["limits"]["seconds"], job["entry_point"]
    until = time.monotonic() + seconds
    candidate = Program(sock.fileno(), until, about["tests"])
    try:
        with time_limit(seconds):
            trial = Trial(about["tests"], about["prefix"])
            found, value = candidate.start()
            if entry_point and not found:
                return {"status": "failed", "detail": f"the program defines no '{entry_point}'"}
            with contextlib.suppress(OSError):
                os.chdir(job["folder"] or program.WORK)  # the files that tests write are the program's, too
            trial.run(candidate, entry_point, value)
        met = NotCrossing.met
        return {"status": "refused", "detail": str(met[0])} if met else {"status": "passed"}
    except (TooSlow, OutOfTime):
        return {"status": "timeout"}
    except (Cannot, NotCrossing) as error:
        return {"status": "refused", "detail": str(error)}
    except BaseException as error:
        if time.monotonic() >= until:  # which unittest takes for a failure
            return {"status": "timeout"}
        if NotCrossing.met:
            return {"status": "refused", "detail": str(NotCrossing.met[0])}
        told = _why(error)
        why = None if isinstance(error, ProgramFailed) else candidate.doubts or channels.why()
        return {"status": "refused", "detail": f"{why} ({told})"} if why else {"status": "failed", "detail": told}


def _why(error: BaseException) -> str:
    """Return why a program failed: it can't be run, or an assertion failed, a test stumbled over what it got, ..."""
    if isinstance(error, TooLarge):
        return "its result is too large"
    if isinstance(error, Closed):
        return "it ended before its tests did"
    if isinstance(error, Malformed):
        return "it answered with what is no answer"
    if isinstance(error, ProgramFailed | Failed):
        return str(error)
    said, *_ = getattr(error, "__notes__", ()) or [f"{type(error).__name__}{place(error)}: {str(error)[:500]}"]
    return said


def _probed(about: dict[str, Any], job: dict[str, Any]) -> str:
    """Return what functions do for which the tests pass, though they shouldn't; nothing where they don't."""
    try:
        with time_limit(job["limits"]["seconds"]):
            return pass_anyway(Trial(about["tests"], about["prefix"]), job["entry_point"]) or ""
    except (Cannot, OutOfTime):
        return ""


def _calls(sock: socket.socket, about: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Call one function of the program with one list of arguments after the other, until it returns something else than
    it should."""
    seconds = job["limits"]["seconds"]
    candidate = Program(sock.fileno(), time.monotonic() + seconds)
    calls = decode(about["calls"], candidate)
    number = 0
    readings = {True, False}  # whether what is expected is wrapped in a list: the same for all calls
    try:
        with time_limit(seconds):
            candidate.start()
        for call in calls:
            number += 1
            candidate.until = time.monotonic() + seconds
            with time_limit(seconds):
                function = candidate.method(job["fn_name"], job["class_name"])
                if function is None:
                    return {"status": "failed", "detail": f"the program defines no '{job['fn_name']}'"}
                found = function(*call["args"], **call["kwargs"])
            expected = call["expected"]
            if not call["wrapped"] or not same_value(found, expected[0], about["tolerance"]):
                readings.discard(True)
            if not same_value(found, expected, about["tolerance"]):
                readings.discard(False)
            if not readings:
                raise Failed(f"returned {_shown(found)}, expected {_shown(expected)}")
        return {"status": "passed"}
    except (TooSlow, OutOfTime):
        return {"status": "timeout", "detail": f"call {number} of {len(calls)}: longer than {seconds:g} s"}
    except BaseException as error:
        where = f"call {number} of {len(calls)}: " if number else ""
        return {"status": "failed", "detail": f"{where}{_why(error)}"}


def _run(sock: socket.socket, about: dict[str, Any], job: dict[str, Any], folder: str) -> dict[str, Any]:
    """Run the program on its cases, or a command."""
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


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _command(ended: streams.Ended, job: dict[str, Any]) -> dict[str, Any]:
    status = "timeout" if ended.timed_out else "passed" if ended.exit_code == 0 else "failed"
    return {
        "status": status,
        "detail": ended.why(job["limits"]),
        "exit_code": ended.exit_code,
        "stdout": ended.stdout,
    }
