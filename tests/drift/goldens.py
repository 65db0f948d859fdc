"""What operators said when their versions were new: one file for each operator and version, in ``goldens/``.

Identities carry an operator's version, so that rows of other versions are never mixed. That only holds if a change of
the output is a change of the version, and people forget. So what every operator makes of some small tables is kept, and
compared. Files of earlier versions stay, as a record of what they did.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from operators import operator_class
from tests.drift.cases import HERE, Case, answer, cases

FOLDER = HERE / "goldens"
COMMAND = "python -m tests.drift"


class Difference(NamedTuple):
    """Where an answer isn't what it was."""

    case: int
    where: str
    was: Any
    now: Any

    def __str__(self) -> str:
        return f"case {self.case}, {self.where}: it was {self.was!r} and is {self.now!r}"


def path(name: str, version: int) -> Path:
    return FOLDER / f"{name}.v{version}.json"


def current(name: str) -> list[dict[str, Any]]:
    """Return what an operator is asked now, and what it says."""
    return [{**_asked(case), "rows": _plain(answer(name, case).to_dicts())} for case in cases(name)]


def kept(name: str) -> list[dict[str, Any]] | None:
    """Return what an operator of the present version was asked, and what it said; None where that isn't known."""
    file = path(name, operator_class(name).version)
    return json.loads(file.read_text()) if file.exists() else None


def keep(name: str, answers: list[dict[str, Any]]) -> None:
    """Write down what the present version says, one row a line."""
    entries: list[str] = []
    for entry in answers:
        head = json.dumps({key: value for key, value in entry.items() if key != "rows"}, ensure_ascii=False)
        rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in entry["rows"])
        entries.append(f'{head[:-1]}, "rows": [\n  {rows}\n]}}')
    FOLDER.mkdir(exist_ok=True)
    path(name, operator_class(name).version).write_text("[\n" + ",\n".join(entries) + "\n]\n")


def difference(was: list[dict[str, Any]], now: list[dict[str, Any]]) -> Difference | None:
    """Return the first difference between two lists of answers.

    The last digits of a number don't count, nor does a column, or a field, that is new and empty (or false, or zero).
    """
    if len(was) != len(now):
        return Difference(min(len(was), len(now)), "cases", len(was), len(now))
    for number, (old, new) in enumerate(zip(was, now, strict=True)):
        if (found := _differ("", old, new)) is not None:
            return Difference(number, *found)
    return None


def _differ(where: str, was: Any, now: Any) -> tuple[str, Any, Any] | None:
    if isinstance(was, dict) and isinstance(now, dict):
        keys = [key for key in {**was, **now} if key in was or now[key]]
        pairs = [(f"{where} {key}", was.get(key), now.get(key)) for key in keys]
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = [(f"{where} {at}", *pair) for at, pair in enumerate(zip(was, now, strict=True))]
    elif isinstance(was, float) and isinstance(now, float | int):
        return None if math.isclose(was, now, rel_tol=1e-6, abs_tol=1e-9) else (where.strip(), was, now)
    else:
        return None if was == now else (where.strip(), was, now)
    return next((found for pair in pairs if (found := _differ(*pair)) is not None), None)


def _asked(case: Case) -> dict[str, Any]:
    return _plain({"settings": case.settings, "problems": case.problems, "tables": case.tables})


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back, without the place of this folder."""
    return json.loads(json.dumps(value, ensure_ascii=False).replace(str(HERE), "HERE"))
