"""The kernel gives programs nothing that isn't theirs, and all that they keep is counted: for root, and for others."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import pytest

from cluster.sandbox import memory_group
from cluster.sandbox.pool import SandboxPool
from cluster.sandbox.system_calls import number
from operators.sandbox import (
    Call,
    CallsJob,
    Case,
    CasesJob,
    CheckJob,
    CommandJob,
    Job,
    Language,
    Limits,
    Mounts,
    Outcome,
)
from tests.sandbox import ordinary
from tests.sandbox.hostile import TESTS
from tests.sandbox.hostile_calls import CALLS, CANARY, EAT, LIMIT_MB, MEMORY
from tests.sandbox.test_programs import PASSING

pytestmark = pytest.mark.sandbox
LIMITS = Limits(seconds=3, cpu_seconds=3, memory_mb=LIMIT_MB)
PATIENT = Limits(seconds=300, cpu_seconds=300, memory_mb=LIMIT_MB)
"""For what ends by itself, however busy the machine is."""
SIDE_BY_SIDE = 4
"""Sandboxes at a time: many programs wait until their time is over."""
PROGRAMS = {**CALLS, **MEMORY}
JOBS = {name: CheckJob(program, TESTS, "add") for name, program in PROGRAMS.items()}
SCRIPTS = {name: CasesJob(f"{program}\nprint(add(40, 2))", (Case(stdout="42"),)) for name, program in PROGRAMS.items()}
SESSION_KEYRING, UNLINK = -3, 9


def groups() -> set[Path]:
    """Return the control groups of this process' sandboxes."""
    return {*Path("/sys/fs/cgroup").rglob(f"{memory_group.NAME}-{os.getpid()}-*")}


def some(first: int) -> list[object]:
    """Return the names of all programs; but for every fourth, `make test-long` alone tries them."""
    return [name if at % 4 == first else pytest.param(name, marks=pytest.mark.long) for at, name in enumerate(PROGRAMS)]


def chosen(request: pytest.FixtureRequest, test: str) -> list[str]:
    """Return the programs that a test is about to be asked about."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    return [item.callspec.params["name"] for item in items if item.originalname == test and item.path == request.path]


@pytest.fixture(scope="module")
def here() -> dict[str, Outcome]:
    """Outcomes for whoever runs the tests, who has a key in the keyring of the session."""
    call = ctypes.CDLL(None).syscall
    key = call(number("add_key"), b"user", CANARY.encode(), b"not for programs", 16, SESSION_KEYRING)
    others = groups()  # of pools that other tests of this process keep
    try:
        with SandboxPool(SIDE_BY_SIDE) as pool:
            outcomes = pool.run([*JOBS.values()], LIMITS, Mounts())
        left = groups() - others
        assert not left, f"control groups are left: {left}"
        return dict(zip(PROGRAMS, outcomes, strict=True))
    finally:
        with contextlib.suppress(OSError):
            call(number("keyctl"), UNLINK, key, SESSION_KEYRING)


@pytest.fixture(scope="module")
def for_others(request: pytest.FixtureRequest) -> dict[str, tuple[Outcome, Outcome]]:
    """Outcomes for an ordinary user without control groups, called by tests and as scripts."""
    names = chosen(request, "test_an_ordinary_user_is_as_safe")
    weaker, outcomes = ordinary.outcomes([kind[name] for kind in (JOBS, SCRIPTS) for name in names], LIMITS)
    assert "no control group" in weaker
    return dict(zip(names, zip(outcomes[: len(names)], outcomes[len(names) :], strict=True), strict=True))


@pytest.fixture(scope="module")
def as_scripts(request: pytest.FixtureRequest) -> dict[str, Outcome]:
    """Outcomes of the same programs, run as scripts."""
    names = chosen(request, "test_it_gets_nothing_as_a_script")
    with SandboxPool(SIDE_BY_SIDE) as pool:
        return dict(zip(names, pool.run([SCRIPTS[name] for name in names], LIMITS, Mounts()), strict=True))


def test_there_are_many() -> None:
    assert len(PROGRAMS) >= 50


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_gets_nothing(here: dict[str, Outcome], name: str) -> None:
    assert here[name].status in ("failed", "timeout"), here[name]


@pytest.mark.parametrize("name", some(0))
def test_it_gets_nothing_as_a_script(as_scripts: dict[str, Outcome], name: str) -> None:
    assert as_scripts[name].status in ("failed", "timeout"), as_scripts[name]


@pytest.mark.parametrize("name", some(1))
def test_an_ordinary_user_is_as_safe(for_others: dict[str, tuple[Outcome, Outcome]], name: str) -> None:
    assert all(outcome.status in ("failed", "timeout") for outcome in for_others[name]), for_others[name]


def test_right_programs_are_right_for_an_ordinary_user() -> None:
    jobs: list[Job] = [CheckJob(program, tests) for program, tests in PASSING.values()]
    jobs += [
        CasesJob("print(int(input()) + 1)", (Case(stdin="1", stdout="2"), Case(stdin="41", stdout="42"))),
        CasesJob("import mmap\nprint(mmap.mmap(0, 0, prot=1)[:3].decode())", (Case(stdin="abc" + "." * (2 << 20), stdout="abc"),)),
        CasesJob("{ print $1 + 1 }", (Case(stdin="1", stdout="2"),), language=Language(file="m.awk", run=("awk", "-f", "{file}"))),
        CallsJob("def f(x): return x + 1", "f", (Call(args=(1,), expected=2),)),
        CommandJob(("cat", "a.txt", "-"), (("a.txt", "1"),), "2"),
    ]  # fmt: skip
    _, outcomes = ordinary.outcomes(jobs, Limits(seconds=300, cpu_seconds=300))
    assert [(job, outcome) for job, outcome in zip(jobs, outcomes, strict=True) if outcome.status != "passed"] == []


FAIR = """
import mmap, multiprocessing
large = bytearray(200 << 20)
def part(i):
    return sum(large[::4096]) + i
def add(a, b):
    with multiprocessing.get_context('fork').Pool(4) as pool:
        found = pool.map(part, range(4))
    shared = mmap.mmap(-1, 1 << 16)
    shared.write(bytes(1 << 16))
    return a + b if found == [0, 1, 2, 3] else None
"""
"""Uses 200 MB in five processes, which are the same 200 MB, and a little shared memory."""


def test_what_processes_share_is_counted_once() -> None:
    job = CheckJob(FAIR, TESTS, "add")
    with SandboxPool(1) as pool:
        [outcome] = pool.run([job], PATIENT, Mounts())
    assert outcome.status == "passed", outcome
    _, [outcome] = ordinary.outcomes([job], PATIENT)
    assert outcome.status == "passed", outcome


def test_programs_are_watched_while_their_tests_are_busy() -> None:
    program = EAT + "def add(a, b):\n    return a + b\n"
    tests = "while True:\n    pass\ndef check(candidate):\n    pass"
    limits = Limits(seconds=12, cpu_seconds=12, memory_mb=LIMIT_MB)  # so long the tests go on
    with SandboxPool(1) as pool:
        [outcome] = pool.run([CheckJob(program, tests, "add")], limits, Mounts())
    assert (outcome.status, outcome.detail) == ("failed", f"more than {LIMIT_MB} MB of memory")


def test_tests_have_no_more_of_the_kernel_than_programs() -> None:
    tests = (
        f"import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nfor call in {number('unshare')}, {number('mount')}, {number('keyctl')}:\n"
        + ("    assert libc.syscall(call, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() == 38")
    )
    with SandboxPool(1) as pool:
        [outcome] = pool.run([CheckJob("", tests)], LIMITS, Mounts())
    assert outcome.status == "passed", outcome
