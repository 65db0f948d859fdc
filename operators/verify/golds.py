"""What is expected of a problem's answer: one gold, several of which any is right, or several of which all are asked.

One gold is the problem's ``answer``. Several are in its ``verification``: ``{"answers": {"any": [...]}}``, or
``{"answers": {"all": [...]}}`` whose elements are matched with the answer's one to one, in any order; an element of
``all`` may itself be a list of writings. ``{"math": {"tolerance": {"absolute": 0.01}}}`` (or ``relative``; a number
alone is absolute) says how far from a gold a number may be; a list of numbers has one for each of ``all``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

from schemas.errors import BadInput
from schemas.later import pl


@dataclass(frozen=True)
class Golds:
    """What is expected: ``any`` of several, or ``all``, each in one of several writings; and how exactly.

    Attributes:
        tolerances: how far a number may be from a gold, (absolute, relative) as texts of numbers: none, one for all,
            or one for each of ``all``.
    """

    any: tuple[str, ...] = ()
    all: tuple[tuple[str, ...], ...] = ()
    tolerances: tuple[tuple[str, str], ...] = ()

    @property
    def known(self) -> bool:
        return bool(self.any or self.all)

    def texts(self) -> list[str]:
        """Return every expected text."""
        return [*self.any, *(text for member in self.all for text in member)]


def golds_of(problem: Mapping[str, Any]) -> Golds:
    """Return what is expected of a problem, given its ``answer`` and ``verification``.

    Raises:
        BadInput: ``verification`` holds answers or a tolerance of another shape.
    """
    given = _given(problem)
    answers = given.get("answers")
    if answers is None:
        answer = problem.get("answer")
        return Golds((answer,) if answer is not None else (), (), _tolerances(given, problem, 1))
    if not isinstance(answers, dict) or len(cast("dict[str, Any]", answers)) != 1:
        raise _refused(problem, 'verification.answers must be {"any": [...]} or {"all": [...]}')
    [(how, listed)] = cast("dict[str, Any]", answers).items()
    if how not in ("any", "all") or not isinstance(listed, list) or not listed:
        raise _refused(
            problem, 'verification.answers must be {"any": [...]} or {"all": [...]}, with one answer at least'
        )
    members: list[list[Any]] = [
        cast("list[Any]", member) if isinstance(member, list) else [member] for member in cast("list[Any]", listed)
    ]
    texts = [tuple(_text(one, problem) for one in member) for member in members]
    if not all(texts) or (how == "any" and any(len(one) != 1 for one in texts)):
        raise _refused(problem, "each of verification.answers must be a text; of 'all', a list of writings too")
    if how == "any":
        return Golds(tuple(dict.fromkeys(one[0] for one in texts)), (), _tolerances(given, problem, 1))
    return Golds((), tuple(texts), _tolerances(given, problem, len(texts)))


def check_golds(problems: pl.DataFrame) -> None:
    """Refuse problems whose ``verification`` holds answers or a tolerance of another shape; few have any.

    Raises:
        BadInput: naming the problem.
    """
    asking = problems.select("problem_id", "answer", "verification").filter(pl.col("verification").is_not_null())
    for row in asking.iter_rows(named=True):
        golds_of(row)


def _given(problem: Mapping[str, Any]) -> dict[str, Any]:
    text = problem.get("verification")
    return json.loads(text) if text else {}


def _text(value: Any, problem: Mapping[str, Any]) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _refused(problem, f"verification.answers holds {json.dumps(value)[:80]}, which is no text")
    text = str(value)
    if not text.strip():
        raise _refused(problem, "verification.answers holds an empty answer")
    return text


def _tolerances(given: dict[str, Any], problem: Mapping[str, Any], golds: int) -> tuple[tuple[str, str], ...]:
    math = given.get("math")
    if math is None:
        return ()
    if not isinstance(math, dict):
        raise _refused(problem, 'verification.math must be an object, such as {"tolerance": {"absolute": 0.01}}')
    found = cast("dict[str, Any]", math).get("tolerance")
    if found is None:
        return ()
    said = cast("dict[str, Any]", found) if isinstance(found, dict) else {"absolute": found}
    each = {name: cast("list[Any]", value) if isinstance(value, list) else [value] for name, value in said.items()}
    count = max(map(len, each.values()), default=0)
    try:
        if {*said} - {"absolute", "relative"} or any(len(values) not in (1, count) for values in each.values()):
            raise ValueError
        if count not in (1, golds) or any(isinstance(value, bool) for values in each.values() for value in values):
            raise ValueError
        numbers = {name: [Fraction(str(value)) for value in values] * count for name, values in each.items()}
        if min(min(values) for values in numbers.values()) < 0:
            raise ValueError
    except (ValueError, ZeroDivisionError) as error:
        raise _refused(
            problem,
            'verification.math.tolerance must be {"absolute": NUMBER}, {"relative": NUMBER} or both, from 0 on; a list '
            "of numbers has one for each of verification.answers.all",
        ) from error
    none = [Fraction(0)] * count
    absolute, relative = numbers.get("absolute", none), numbers.get("relative", none)
    return tuple((str(absolute[place]), str(relative[place])) for place in range(count))


def _refused(problem: Mapping[str, Any], why: str) -> BadInput:
    return BadInput(f"problem '{problem.get('problem_id', problem.get('problem_key'))}': {why}")
