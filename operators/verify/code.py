"""Programs: run against tests or on cases, in a sandbox. Identical programs of a problem run once."""

from __future__ import annotations

import re
import time
from typing import ClassVar

import polars as pl
from pydantic import Field

from operators.base import Operator
from operators.sandbox import CasesJob, CheckJob, Job, Language, Limits, Mounts, Outcome, Sandbox
from operators.verify.code_tests import CodeTests, read_tests
from operators.verify.verdicts import candidates, outcome_verdicts
from schemas.datasets import Problem, Sample, Verdict
from schemas.errors import BadInput

_FENCED = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_OPEN = re.compile(r"```[^\n]*\Z")


class VerifyCode(Operator):
    """Run the program in each completion as its problem's ``verification`` says (``operators.verify.code_tests``).

    The program is the last block of code that defines the problem's entry point, else the last block, else the whole
    completion; one that continues the prompt's code is put behind it. Tests run in another process than the program,
    so a program can't make them pass by changing what they rely on, and never finds what is expected of it.

    Verdicts: right only if all tests pass; one that takes too long is wrong, with status ``timeout``; ``unparseable``
    where there is no code (wrong); ``error`` where the tests themselves can't be run (neither). ``answer_key`` is a
    hash of the program's text.
    """

    version: ClassVar[int] = 1
    scope = "sample"
    inputs = {
        "samples": Sample.select("problem_key", "sample_index", "problem_id", "completion", "status"),
        "problems": Problem.select("problem_key", "problem_id", "verification"),
    }
    output = Verdict
    tools = ("sandbox",)

    limits: Limits = Limits()
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
        tests = self._tests(problems)
        found, distinct = candidates(samples, lambda key, text: extract_program(text, tests[key].entry_point))
        jobs = [self._job(program, tests[key]) for key, _, program, _ in distinct.iter_rows()]
        outcomes = sandbox.run(jobs, self.limits, Mounts(packages=self.packages, paths=self.paths))
        for outcome in outcomes:
            self._refuse(outcome)
        return outcome_verdicts(self, samples, found, distinct, outcomes, time.perf_counter() - began)

    def check_problems(self, problems: pl.DataFrame) -> None:
        self._tests(problems)

    def _tests(self, problems: pl.DataFrame) -> dict[str, CodeTests]:
        """Return the tests of each problem, by problem_key."""
        tests: dict[str, CodeTests] = {}
        for key, problem_id, verification in problems.select("problem_key", "problem_id", "verification").iter_rows():
            tests[key] = read_tests(verification, problem_id)
            if tests[key].tests is not None and self.language is not None:
                raise BadInput(
                    f"problem '{problem_id}': tests that call functions are for Python; give 'cases' for programs of "
                    "another language"
                )
        return tests

    def _job(self, program: str, tests: CodeTests) -> Job:
        if tests.tests is not None:
            whole = with_prefix(program, tests.prefix, tests.entry_point)
            return CheckJob(whole, tests.tests, tests.entry_point, tests.prefix)
        tolerance = self.tolerance if tests.tolerance is None else tests.tolerance
        whole = program if self.language is not None else with_prefix(program, tests.prefix, None)
        return CasesJob(whole, tests.cases, tolerance, self.language)

    def _refuse(self, outcome: Outcome) -> None:
        if outcome.status == "missing":
            raise BadInput(f"verify.code.language: {outcome.detail}; nothing was judged")


def extract_program(completion: str, entry_point: str | None) -> str | None:
    """Return the program in a completion, None where there is none."""
    blocks = _FENCED.findall(completion)
    if not blocks:
        text = _OPEN.sub("", completion)
        return text if text.strip() else None
    if entry_point is not None:
        defining = [block for block in blocks if _defines(block, entry_point)]
        blocks = defining or blocks
    return blocks[-1] if blocks[-1].strip() else None


def with_prefix(program: str, prefix: str, entry_point: str | None) -> str:
    """Put a program behind the code it continues, or, where it is whole, behind that code's imports and helpers."""
    if not prefix.strip():
        return program
    if entry_point is None or not _defines(program, entry_point):
        return prefix + program
    head = re.search(_definition(entry_point), prefix)
    return f"{prefix[: head.start()] if head else prefix}\n{program}"


def _definition(name: str) -> str:
    return rf"(?m)^(?:@[^\n]*\n)*(?:async\s+def|def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*="


def _defines(program: str, name: str) -> bool:
    return re.search(_definition(name), program) is not None
