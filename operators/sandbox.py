"""The sandbox protocol: programs that a model wrote, run without network, files or patience.

An operator describes what is to be run as jobs and gets an outcome for each, in order; how they are contained is the
sandbox's business (``cluster.sandbox``). What is expected of a program never reaches the process that runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from schemas.settings import Settings

OutcomeStatus = Literal["passed", "failed", "timeout", "refused", "missing"]


class Limits(Settings):
    """What one program may use. A program that wants more has failed."""

    seconds: float = Field(default=10.0, gt=0.0)
    """Wall-clock seconds of a check, or of one stdin/stdout case; then the whole tree of processes is killed."""
    cpu_seconds: int = Field(default=10, ge=1)
    """CPU seconds of one process."""
    memory_mb: int = Field(default=512, ge=64)
    """Memory of one process, and of all of the program's together."""
    processes: int = Field(default=16, ge=1)
    """The most processes and threads at a time."""
    output_mb: float = Field(default=4.0, gt=0.0)
    """What may be written to stdout and stderr."""
    files_mb: int = Field(default=32, ge=1)
    """What may be written to files; they are gone afterwards."""


class Case(BaseModel):
    """One run of a program: what it reads, and what it should write."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stdin: str = ""
    stdout: str = ""


class Call(BaseModel):
    """One call of a function, and what it should return; all as JSON values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    expected: Any = None
    wrapped: bool = False
    """``expected`` is a list of one, which may stand for what is in it; the same for all calls of a problem."""


class Language(Settings):
    """How programs of another language are compiled and run, as command templates.

    ``{file}`` is the program's file, ``{dir}`` its folder, which is also the working directory.
    """

    file: str
    """Name that the program is written under, such as ``main.cpp``."""
    compile: tuple[str, ...] = ()
    """The command that compiles; empty where nothing is compiled."""
    run: Annotated[tuple[str, ...], Field(min_length=1)]
    """The command that runs the program."""


@dataclass(frozen=True)
class Mounts:
    """What of this machine a program can read, beside the system and Python's standard library. Nothing is writable."""

    packages: tuple[str, ...] = ()
    """Installed Python packages that programs may import."""
    paths: tuple[str, ...] = ()
    """Files and folders, seen under their own paths."""


@dataclass(frozen=True)
class CheckJob:
    """A Python program whose functions are called by tests. The tests run in another process than the program.

    Values cross between them as data: numbers, text, containers and the like as what they are, other objects as
    references that compare equal to nothing but themselves.
    """

    program: str
    tests: str
    """Python: asserts, a function ``check(candidate)``, unittest's TestCases, pytest's functions and classes."""
    entry_point: str | None = None
    """The function that ``check`` is given."""
    prefix: str = ""
    """Python that the tests rely on, such as helpers that the prompt defines."""
    probe: bool = False
    """Find out as well whether the tests assert anything; see ``Outcome.probed``."""


@dataclass(frozen=True)
class CasesJob:
    """A program that reads stdin and writes stdout, run once for each case until one fails."""

    program: str
    cases: tuple[Case, ...]
    tolerance: float = 0.0
    """How far numbers that aren't whole may be off, absolutely and relatively."""
    language: Language | None = None
    """None: Python."""


@dataclass(frozen=True)
class CallsJob:
    """A Python program of which one function, or a method of one class, is called until one call returns something
    else than expected. Names of the standard library's usual modules are there without being imported."""

    program: str
    fn_name: str
    calls: tuple[Call, ...]
    class_name: str | None = None
    """The class whose method is called; None: ``Solution``, if the program defines no such function."""
    tolerance: float = 0.0
    """How far numbers that aren't whole may be off, absolutely and relatively."""


@dataclass(frozen=True)
class CommandJob:
    """A checking program, given files and standard input; see ``operators.verify.command``."""

    command: tuple[str, ...]
    files: tuple[tuple[str, str], ...] = ()
    """(name, text), written to the working directory."""
    stdin: str = ""


Job = CheckJob | CasesJob | CallsJob | CommandJob


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    ``refused``: nothing can be said of it (the tests themselves don't compile, or need what can't be given to another
    process); ``missing``: nor of any other like it, since the command isn't there.
    """

    status: OutcomeStatus
    detail: str | None = None
    """Why it failed, in a line."""
    seconds: float = 0.0
    exit_code: int | None = None
    """How a command ended; a negative number is the signal that ended it."""
    stdout: str = ""
    """What a command wrote to standard output."""
    probed: str | None = None
    """Where that was asked: what functions do for which the tests pass though they shouldn't (raise, return what equals
    nothing). Empty where there are none such; None where nobody knows."""
    waited: float = 0.0
    """Where it took too long: how many seconds of that its process waited for a core."""


class Sandbox(Protocol):
    """Runs jobs."""

    def run(self, jobs: Sequence[Job], limits: Limits, mounts: Mounts) -> list[Outcome]:
        """Return an outcome for each job, in order.

        Raises:
            BadInput: there is no sandbox on this machine, or ``mounts`` names what isn't there.
        """
        ...
