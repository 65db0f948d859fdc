"""Columns of coding data sets that say how programs are checked, as ``verification`` says it."""

from __future__ import annotations

import base64
import io
import json
import pickle
import re
import zlib
from collections.abc import Mapping
from typing import Any, NoReturn, cast

CODE_COLUMNS = (
    "test",
    "entry_point",
    "test_cases",
    "test_list",
    "test_setup_code",
    "test_imports",
    "input_output",
    "public_tests",
    "private_tests",
    "generated_tests",
    "public_test_cases",
    "private_test_cases",
    "starter_code",
)
"""Columns that say how programs are checked; they are no part of a problem's ``metadata``."""
_TEST = re.compile(r"^\s*def test_\w+\(", re.M)
_MODULE = re.compile(r"^from solution import [^\n]*\n?", re.M)
"""Where tests take what they test from a file of that name: here they stand below the program."""
UNPACKED = 256 << 20
"""Bytes that packed tests may have."""


def from_columns(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the verification of a data set's row, from columns as known data sets name them; None for other rows.

    Raises:
        ValueError: a column of such a name that holds something else.
    """
    from operators.verify.code_tests import is_code, zipped  # what only programs' problems need

    if row.get("test") and row.get("entry_point"):  # HumanEval, EvalPlus, BigCodeBench
        prompt = str(row.get("code_prompt") or row.get("prompt") or "")
        prefix = {"prefix": prompt} if is_code(prompt) else {}
        code = {"tests": row["test"], "entry_point": row["entry_point"], **prefix}
        return {"code": code}
    if isinstance(row.get("test"), str) and _TEST.search(row["test"]):  # KodCode: pytest's functions, of a module
        return {"code": {"tests": _MODULE.sub("", row["test"]).strip()}}
    if isinstance(row.get("test_cases"), list) and all(str(one).startswith("assert ") for one in row["test_cases"]):
        return {"code": {"tests": "\n".join(row["test_cases"])}}  # AceCode
    if row.get("test_list"):  # MBPP
        setup = row.get("test_setup_code") or "\n".join(row.get("test_imports") or ())
        return {"code": {"tests": "\n".join([setup, *row["test_list"]]).strip()}}
    if row.get("input_output"):  # APPS, TACO
        return from_ground_truth(row["input_output"], row.get("starter_code"))
    if row.get("public_test_cases") or row.get("private_test_cases"):  # LiveCodeBench
        return _live_code_bench(row)
    every: list[dict[str, str]] = []
    for name in ("public_tests", "private_tests", "generated_tests"):  # CodeContests
        if row.get(name):
            every += zipped(row[name]["input"], row[name]["output"])
    return {"code": {"cases": every}} if every else None


def from_ground_truth(given: Any, starter_code: str | None = None) -> dict[str, Any] | None:
    """Return the verification that one value says: inputs and outputs, or a list of cases; None where it says neither.

    Args:
        given: an object, a list, or JSON text of one, as APPS' ``input_output``, PRIME's and verl's ``ground_truth``.

    Raises:
        ValueError: text that isn't JSON, or cases that can't be read.
    """
    both = json.loads(given) if isinstance(given, str) else given
    if isinstance(both, list):
        cases = cast("list[Any]", both)
        if not cases or not all(isinstance(case, dict) and {"input", "output"} <= case.keys() for case in cases):  # pyright: ignore[reportUnknownMemberType]
            return None
        return _of_cases(cases, None, starter_code)
    if not isinstance(both, dict) or not {"inputs", "outputs"} <= both.keys():  # pyright: ignore[reportUnknownMemberType]
        return None
    about = cast("dict[str, Any]", both)
    code = {"inputs": about["inputs"], "outputs": about["outputs"]}
    if not about.get("fn_name"):
        return {"code": code}
    return {"code": {**code, "fn_name": about["fn_name"], **_starter(starter_code)}}


def with_starter_code(prompt: str, starter_code: str | None) -> str:
    """Return a prompt with the code that programs are to begin with behind it, unless it holds that already."""
    code = (starter_code or "").rstrip()
    if not code.strip() or code.strip() in prompt:
        return prompt
    return f"{prompt.rstrip()}\n\nStarter code:\n{code.lstrip(chr(10))}\n"


def _live_code_bench(row: Mapping[str, Any]) -> dict[str, Any]:
    cases: list[Any] = []
    for name in ("public_test_cases", "private_test_cases"):
        cases += _unpacked(row.get(name))
    about: Any = row.get("metadata") or {}
    about = json.loads(about) if isinstance(about, str) else about
    return _of_cases(cases, about.get("func_name"), row.get("starter_code"))


def _of_cases(cases: list[Any], fn_name: str | None, starter_code: str | None) -> dict[str, Any]:
    functional = [case for case in cases if case.get("testtype") == "functional" or case.get("fn_name")]
    name = fn_name or next((case["fn_name"] for case in functional if case.get("fn_name")), None)
    kept = [{"input": case["input"], "output": case["output"]} for case in cases]
    if not functional and not (fn_name and not any(case.get("testtype") for case in cases)):
        return {"code": {"cases": kept}}
    if name is None:
        raise ValueError("its tests call a function, and no 'func_name' in metadata says which")
    return {"code": {"cases": kept, "fn_name": name, **_starter(starter_code)}}


def _starter(starter_code: str | None) -> dict[str, str]:
    return {"starter_code": starter_code} if starter_code else {}


def _unpacked(given: Any) -> list[Any]:
    """Return test cases: a list, its JSON, or LiveCodeBench's packing of it (pickled JSON, compressed, in base64)."""
    if not given:
        return []
    if not isinstance(given, str):
        return list(given)
    try:
        return json.loads(given)
    except json.JSONDecodeError:
        pass
    opened = zlib.decompressobj()
    data = opened.decompress(base64.b64decode(given), UNPACKED)
    if opened.unconsumed_tail:
        raise ValueError(f"packed tests are larger than {UNPACKED >> 20} MB")
    try:
        return json.loads(_Text(io.BytesIO(data)).load())
    except pickle.UnpicklingError as error:
        raise ValueError(f"packed tests are no text: {error}") from error


class _Text(pickle.Unpickler):
    """Reads a pickled text, and nothing that would import or call something."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"they name {module_name}.{global_name}")
