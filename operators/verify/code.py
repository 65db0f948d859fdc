"""Programs: run against tests, on cases or by calls, in a sandbox. Identical programs of a problem run once."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from operators.base import Operator
from operators.sandbox import (
    CallsJob,
    CasesJob,
    CheckJob,
    Job,
    Language,
    Limits,
    Mounts,
    Outcome,
    Sandbox,
)
from operators.thinking import answers_only
from operators.verify.blocks import find_program
from operators.verify.code_tests import CodeTests, read_tests
from operators.verify.names import defines, definition
from operators.verify.verdicts import SAMPLES, candidates, outcome_verdicts
from schemas.datasets import Problem, Verdict
from schemas.errors import BadInput
from schemas.later import pl

NOTHING_ASSERTED = "its tests assert nothing: they pass for functions that {how}"


class VerifyCode(Operator):
    """Run the program in each completion as its problem's ``verification`` says (``operators.verify.code_tests``).

    The program is the last block of code, in the tests' language, that defines what is tested, with the blocks that
    define what it uses; without blocks it is the whole completion. One that continues the prompt's code is put behind
    it. Tests run in another process than the program, so a program can't make them pass by changing what they rely on,
    and never finds what is expected of it.

    Verdicts: right only if all tests pass; one that takes too long is wrong, with status ``timeout``; ``unparseable``
    where there is no code (wrong); ``error`` (neither) where nobody can say: tests that can't be run, that assert
    nothing, or that need what can't be given to another process. ``answer_key`` is a hash of the program's text.
    """

    version: ClassVar[int] = 2
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select("problem_key", "problem_id", "messages", "verification"),
    }
    output = Verdict
    tools = ("sandbox",)

    limits: Limits = Limits()
    """What each program may use."""
    language: Language | None = None
    """How programs of another language are compiled and run; None is Python. Only for cases, not for tests."""
    packages: tuple[str, ...] = ("numpy",)
    """Installed Python packages that programs may import."""
    paths: tuple[str, ...] = ()
    """Further files and folders that programs can read, such as another language's tools outside of /usr."""
    tolerance: float = Field(default=1e-5, ge=0.0)
    """How far numbers with a decimal point may be off in an output, where the problem doesn't say."""

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame, sandbox: Sandbox) -> pl.DataFrame:
        began = time.perf_counter()
        samples = answers_only(samples, problems)
        tests = self._tests(problems)
        found, distinct = candidates(samples, lambda key, text: self._program(text, tests[key]))
        rows = [(key, program) for key, _, program, _ in distinct.iter_rows()]
        first = distinct["problem_key"].is_first_distinct().to_list()
        jobs = [self._job(program, tests[key], probe) for (key, program), probe in zip(rows, first, strict=True)]
        outcomes = sandbox.run(jobs, self.limits, self._mounts())
        probed = {key: outcome.probed for (key, _), outcome, probe in zip(rows, outcomes, first, strict=True) if probe}
        empty = self._assert_nothing({key: tests[key] for key in probed}, probed, sandbox)
        outcomes = [
            Outcome("refused", empty[key]) if key in empty else outcome
            for (key, _), outcome in zip(rows, outcomes, strict=True)
        ]
        for outcome in outcomes:
            self._refuse(outcome)
        return outcome_verdicts(self, samples, found, distinct, outcomes, time.perf_counter() - began)

    def check_problems(self, problems: pl.DataFrame) -> None:
        self._tests(problems)

    def objections(self, problems: pl.DataFrame, **tools: Any) -> list[str]:
        sandbox: Sandbox = tools["sandbox"]
        tests = self._tests(problems)
        names = dict(problems.select("problem_key", "problem_id").iter_rows())
        return [f"problem '{names[key]}': {why}" for key, why in self._assert_nothing(tests, {}, sandbox).items()]

    def _tests(self, problems: pl.DataFrame) -> dict[str, CodeTests]:
        """Return the tests of each problem, by problem_key."""
        tests: dict[str, CodeTests] = {}
        for key, problem_id, verification in problems.select("problem_key", "problem_id", "verification").iter_rows():
            tests[key] = read_tests(verification, problem_id)
            if not tests[key].cases and self.language is not None:
                raise BadInput(
                    f"problem '{problem_id}': tests that call functions are for Python; give 'cases' for programs of "
                    "another language"
                )
        return tests

    def _mounts(self) -> Mounts:
        return Mounts(packages=self.packages, paths=self.paths)

    def _assert_nothing(
        self, tests: Mapping[str, CodeTests], probed: Mapping[str, str | None], sandbox: Sandbox
    ) -> dict[str, str]:
        """Return the problems whose tests pass whatever a program does, and how that is known.

        Args:
            probed: what was found already; the others are tried without a program.
        """
        left = [key for key in tests if tests[key].tests is not None and probed.get(key) is None]
        outcomes = sandbox.run([self._job("", tests[key], probe=True) for key in left], self.limits, self._mounts())
        known = {**probed, **{key: outcome.probed for key, outcome in zip(left, outcomes, strict=True)}}
        return {key: NOTHING_ASSERTED.format(how=known[key]) for key in tests if known.get(key)}

    def _program(self, text: str, tests: CodeTests) -> str | None:
        suffix = "py" if self.language is None else self.language.file.rpartition(".")[2]
        return find_program(text, suffix, *tests.wanted(), reads=any(case.stdin for case in tests.cases))

    def _job(self, program: str, tests: CodeTests, probe: bool) -> Job:
        if tests.tests is not None:
            whole = with_prefix(program, tests.prefix, tests.entry_point)
            return CheckJob(whole, tests.tests, tests.entry_point, _relied_on(tests), probe)
        tolerance = self.tolerance if tests.tolerance is None else tests.tolerance
        if tests.fn_name is not None and tests.calls:
            return CallsJob(_begun(program, tests), tests.fn_name, tests.calls, tests.class_name(), tolerance)
        whole = program if self.language is not None else with_prefix(program, tests.prefix, None)
        return CasesJob(whole, tests.cases, tolerance, self.language)

    def _refuse(self, outcome: Outcome) -> None:
        if outcome.status == "missing":
            raise BadInput(f"verify.code.language: {outcome.detail}; nothing was judged")


def _relied_on(tests: CodeTests) -> str:
    """Return what tests rely on: what they forgot to import, and what the prompt gave."""
    return tests.tested().imports + tests.prefix


def _begun(program: str, tests: CodeTests) -> str:
    """Return a program that is called: where it defines nothing to call, it continues the starter code."""
    start = tests.starter_code or tests.prefix
    if any(defines(program, name) for names in tests.wanted() for name in names):
        head = re.search(r"(?m)^(?:@|class\s|(?:async\s+)?def\s)", start)
        return f"{start[: head.start()] if head else start}\n{program}"
    return start + program


def with_prefix(program: str, prefix: str, entry_point: str | None) -> str:
    """Put a program behind the code it continues, or, where it is whole, behind that code's imports and helpers."""
    if not prefix.strip():
        return program
    if entry_point is None or not defines(program, entry_point):
        return prefix + program
    head = re.search(definition(entry_point), prefix)
    return f"{prefix[: head.start()] if head else prefix}\n{program}"
