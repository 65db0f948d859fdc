"""No program gets out, gets at anything, hurts its neighbours or is called right without being right."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.sandbox.pool import SandboxPool
from operators.sandbox import Case, CasesJob, CheckJob, Limits, Mounts, Outcome
from tests.sandbox.hostile import PROGRAMS, TESTS

pytestmark = pytest.mark.sandbox

GOOD = "def add(a, b):\n    return a + b\n"
LIMITS = Limits(seconds=3, cpu_seconds=3, memory_mb=400)
SIDE_BY_SIDE = 4
"""Sandboxes at a time: many programs wait until their time is over."""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[Outcome, Outcome]]:
    """The outcome of each hostile program, and of a good one that ran after it, all side by side."""
    os.environ["GRISTMILL_SECRET"] = "not for programs"
    jobs: list[CheckJob] = []
    for program in PROGRAMS.values():
        jobs += [CheckJob(program, TESTS, "add"), CheckJob(GOOD, TESTS, "add")]
    before = _descendants()
    try:
        with SandboxPool(SIDE_BY_SIDE) as pool:
            found = pool.run(jobs, LIMITS, Mounts())
            inside = _descendants() - before  # bubblewrap's two and the interpreter, of each sandbox
            assert len(inside) <= 3 * SIDE_BY_SIDE, f"processes are left inside: {inside}"
        assert _descendants() <= before, _descendants() - before
    finally:
        del os.environ["GRISTMILL_SECRET"]
    return dict(zip(PROGRAMS, zip(found[::2], found[1::2], strict=True), strict=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_contained_and_wrong(outcomes: dict[str, tuple[Outcome, Outcome]], name: str) -> None:
    bad, good = outcomes[name]
    assert bad.status in ("failed", "timeout"), bad
    assert bad.seconds < LIMITS.seconds + 60, bad
    assert good.status == "passed", good


def test_there_are_many() -> None:
    assert len(PROGRAMS) >= 40


@pytest.fixture(scope="module")
def as_scripts(request: pytest.FixtureRequest) -> dict[str, tuple[Outcome, Outcome]]:
    """The outcome of each of the tests' programs as a script, and of a good one that the same sandbox ran next."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path]
    here = [item for item in items if item.originalname == "test_it_is_contained_as_a_script"]
    names = [item.callspec.params["name"] for item in here]
    good = CasesJob("print(1 + 1)", (Case(stdin="", stdout="2"),))

    def run(some: list[str]) -> dict[str, tuple[Outcome, Outcome]]:
        found: dict[str, tuple[Outcome, Outcome]] = {}
        with SandboxPool(1) as pool:
            for name in some:
                job = CasesJob(PROGRAMS[name] + "\nprint(add(1, 1))\n", (Case(stdin="", stdout="2"),))
                [bad] = pool.run([job], LIMITS.model_copy(update={"seconds": 1.0}), Mounts())
                [fine] = pool.run([good], LIMITS, Mounts())
                found[name] = bad, fine
        return found

    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        parts = [*threads.map(run, [names[first::SIDE_BY_SIDE] for first in range(SIDE_BY_SIDE)])]
    return {name: outcomes for part in parts for name, outcomes in part.items()}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_contained_as_a_script(as_scripts: dict[str, tuple[Outcome, Outcome]], name: str) -> None:
    bad, fine = as_scripts[name]
    assert bad.status in ("failed", "timeout"), bad
    assert fine.status == "passed", fine


def _descendants() -> set[str]:
    """Return the processes below this one."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = place.read_text()
        except OSError:
            continue
        pid, name, rest = int(text.split()[0]), text[text.index("(") : text.rindex(")") + 1], text.rpartition(")")[2]
        parents[pid], names[pid] = int(rest.split()[1]), name
    found: set[str] = set()
    for pid in parents:
        at = pid
        while at in parents and at != os.getpid():
            at = parents[at]
        if at == os.getpid() and pid != at:
            found.add(f"{pid} {names[pid]}")
    return found
