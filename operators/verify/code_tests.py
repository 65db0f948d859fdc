"""What a coding problem says about how a program is checked, in the shapes that data sets use.

In a problem's ``verification``, under ``code`` or at its top:

    {"tests": "def check(candidate): ...", "entry_point": "f", "prefix": "import math"}     (as HumanEval)
    {"tests": ["assert f(1) == 2", ...]}                                                    (as MBPP)
    {"cases": [{"stdin": "3", "stdout": "6"}, ...]}                                         (as CodeContests)
    {"inputs": ["3", ...], "outputs": ["6", ...]}                                           (as APPS)
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from operators.sandbox import Case
from schemas.errors import BadInput

CODE_COLUMNS = (
    "test",
    "entry_point",
    "test_list",
    "test_setup_code",
    "test_imports",
    "input_output",
    "public_tests",
    "private_tests",
    "generated_tests",
)
"""Columns of coding data sets that say how programs are checked."""


class CodeTests(BaseModel):
    """How a program is checked: by tests that call its functions, or by what it writes for what it reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tests: str | None = None
    entry_point: str | None = None
    prefix: str = ""
    """What a program begins with: imports, helpers, the head of the function that it continues."""
    cases: tuple[Case, ...] = ()
    tolerance: float | None = None
    """How far numbers in an output may be off; None leaves it to the verifier."""


def read_tests(verification: str | None, problem_id: str) -> CodeTests:
    """Return what a problem's ``verification`` says.

    Raises:
        BadInput: it says nothing that can be run; names the problem.
    """
    given: dict[str, Any] = json.loads(verification or "{}")
    about: dict[str, Any] = given.get("code", given)
    if not isinstance(about, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadInput(f"problem '{problem_id}': verification.code must be a JSON object")
    fields: dict[str, Any] = {name: about[name] for name in CodeTests.model_fields if name in about}
    if isinstance(fields.get("tests"), list):
        fields["tests"] = "\n".join(map(str, fields["tests"]))
    if "inputs" in about and "outputs" in about:
        fields["cases"] = _zipped(about["inputs"], about["outputs"])
    try:
        found = CodeTests(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(
            f"problem '{problem_id}': verification.code.{'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error
    if found.tests is None and not found.cases:
        raise BadInput(
            f"problem '{problem_id}': its verification has neither 'tests' nor 'cases', so no program can be checked; "
            f"found {sorted(about)}"
        )
    return found


def from_columns(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the verification of a data set's row, from columns as known data sets name them; None for other rows.

    Raises:
        ValueError: a column of such a name that holds something else.
    """
    if row.get("test") and row.get("entry_point"):  # HumanEval, EvalPlus, BigCodeBench
        prompt = str(row.get("code_prompt") or row.get("prompt") or "")
        prefix = {"prefix": prompt} if _is_code(prompt) else {}
        code = {"tests": row["test"], "entry_point": row["entry_point"], **prefix}
        return {"code": code}
    if row.get("test_list"):  # MBPP
        setup = row.get("test_setup_code") or "\n".join(row.get("test_imports") or ())
        return {"code": {"tests": "\n".join([setup, *row["test_list"]]).strip()}}
    if row.get("input_output"):  # APPS, TACO
        both = row["input_output"]
        both = json.loads(both) if isinstance(both, str) else both
        return {"code": {"inputs": both["inputs"], "outputs": both["outputs"]}}
    every: list[dict[str, str]] = []
    for name in ("public_tests", "private_tests", "generated_tests"):  # CodeContests
        if row.get(name):
            every += _zipped(row[name]["input"], row[name]["output"])
    return {"code": {"cases": every}} if every else None


def _is_code(prompt: str) -> bool:
    """Whether a prompt is the beginning of a program rather than words about one."""
    for ending in ("", "\n    pass\n", "\n        pass\n"):
        with contextlib.suppress(SyntaxError, ValueError):
            return bool(ast.parse(prompt.rstrip() + ending).body)
    return False


def _zipped(inputs: Any, outputs: Any) -> list[dict[str, str]]:
    return [{"stdin": _lines(one), "stdout": _lines(other)} for one, other in zip(inputs, outputs, strict=True)]


def _lines(text: Any) -> str:
    return "\n".join(map(str, cast("list[Any]", text))) if isinstance(text, list) else str(text)
