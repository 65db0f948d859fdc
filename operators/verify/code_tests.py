"""What a coding problem says about how a program is checked, in the shapes that data sets use.

In a problem's ``verification``, under ``code`` or at its top:

    {"tests": "def check(candidate): ...", "entry_point": "f", "prefix": "import math"}     (as HumanEval)
    {"tests": ["assert f(1) == 2", ...]}                                                    (as MBPP)
    {"cases": [{"stdin": "3", "stdout": "6"}, ...]}                                         (as CodeContests)
    {"inputs": ["3", ...], "outputs": ["6", ...]}                                           (as APPS)
    {"fn_name": "add", "inputs": [[1, 2], ...], "outputs": [3, ...]}                        (as APPS' and TACO's calls)
    {"fn_name": "add", "cases": [{"input": "1\\n2", "output": "3"}, ...]}                    (as LiveCodeBench)
"""

from __future__ import annotations

import json
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from operators.sandbox import Call, Case
from operators.verify.calls import read_calls
from operators.verify.names import Names, Tested, made_whole, names_of, parsed, tested
from schemas.errors import BadInput


class CodeTests(BaseModel):
    """How a program is checked: by tests that call its functions, by what it writes for what it reads, or by calls of
    one function."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tests: str | None = None
    entry_point: str | None = None
    prefix: str = ""
    """What a program begins with: imports, helpers, the head of the function that it continues."""
    cases: tuple[Case, ...] = ()
    fn_name: str | None = None
    """The function, or the method of a class, that ``calls`` call."""
    calls: tuple[Call, ...] = ()
    starter_code: str = ""
    """The head of the function or class that the prompt showed."""
    tolerance: float | None = Field(default=None, ge=0.0)
    """How far numbers in an output may be off; None leaves it to the verifier."""

    def tested(self) -> Tested:
        """Return the names that tests need from the program, and what they forgot to import."""
        return tested(self.tests or "", self.entry_point, self.prefix)

    def class_name(self) -> str | None:
        """Return the class whose method is called, as the starter code says."""
        names = names_of(made_whole(self.starter_code)) or Names()
        return next(iter(sorted(names.defined - {self.fn_name})), None)

    def wanted(self) -> tuple[frozenset[str], ...]:
        """Return the names that the program is to define; further sets where others would do."""
        if self.fn_name is not None:
            owner = self.class_name() or "Solution"
            return (frozenset({owner}), frozenset({self.fn_name}), frozenset({"Solution"}))
        names = self.tested().names if self.tests is not None else frozenset[str]()
        return (names,) if names else ()


def read_tests(verification: str | None, problem_id: str) -> CodeTests:
    """Return what a problem's ``verification`` says.

    Raises:
        BadInput: it says nothing that can be run; names the problem.
    """
    given: dict[str, Any] = json.loads(verification or "{}")
    about: Any = given.get("code", given)
    if not isinstance(about, dict):
        raise BadInput(f"problem '{problem_id}': verification.code must be a JSON object")
    try:
        found = _read({name: value for name, value in cast("dict[str, Any]", about).items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"problem '{problem_id}': verification.code.{where}: {first['msg']}") from error
    except ValueError as error:
        raise BadInput(f"problem '{problem_id}': verification.code: {error}") from error
    kinds = [
        kind
        for kind, there in (("tests", found.tests is not None), ("cases", found.cases), ("calls", found.calls))
        if there
    ]
    if not kinds:
        raise BadInput(
            f"problem '{problem_id}': its verification has neither 'tests' nor 'cases', so no program can be checked; "
            f"found {sorted(about)}"  # pyright: ignore[reportUnknownArgumentType]
        )
    if len(kinds) > 1:
        raise BadInput(
            f"problem '{problem_id}': verification.code has {' and '.join(kinds)}; a program is checked in one way: "
            "leave the others out"
        )
    return found


def _read(about: dict[str, Any]) -> CodeTests:
    """Return the tests that the fields of ``verification`` describe.

    Raises:
        ValueError: fields that don't fit together.
    """
    fields = {name: about[name] for name in CodeTests.model_fields if name in about}
    if isinstance(fields.get("tests"), list):
        fields["tests"] = "\n".join(map(str, fields["tests"]))
    inputs, outputs = about.get("inputs"), about.get("outputs")
    cases: Any = about.get("cases")
    if inputs is not None and outputs is not None:
        if len(inputs) != len(outputs):
            raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs; each input needs its output")
    elif isinstance(cases, list) and all(isinstance(case, dict) and "input" in case for case in cases):  # pyright: ignore[reportUnknownVariableType]
        every = cast("list[dict[str, Any]]", cases)
        inputs, outputs = [case["input"] for case in every], [case.get("output") for case in every]
    if inputs is not None and outputs is not None:
        fields.pop("cases", None)
        if about.get("fn_name"):
            fields["calls"] = read_calls(inputs, outputs)
        else:
            fields["cases"] = zipped(inputs, outputs)
    elif fields.get("fn_name") and fields.get("tests"):
        fields["entry_point"] = fields.get("entry_point") or fields["fn_name"]
    return CodeTests(**fields)


def is_code(prompt: str) -> bool:
    """Whether a prompt is the beginning of a program rather than words about one."""
    tree = parsed(made_whole(prompt))
    return tree is not None and bool(tree.body)


def zipped(inputs: Any, outputs: Any) -> list[dict[str, str]]:
    """Return the cases that lists of inputs and outputs describe."""
    return [{"stdin": _lines(one), "stdout": _lines(other)} for one, other in zip(inputs, outputs, strict=True)]


def _lines(text: Any) -> str:
    return "\n".join(map(str, cast("list[Any]", text))) if isinstance(text, list) else str(text)
