"""What is decided by looking at all rows of a source, so that a piece of it is read as the whole is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from operators.load.code_columns import CODE_COLUMNS, from_columns, from_ground_truth
from operators.load.golds import is_integral
from operators.load.options import Options, find_options
from operators.load.rows import Rows, parsed
from schemas.errors import BadInput
from schemas.later import pl
from schemas.messages import tools_column

_INSIDE = (("reward_model", "ground_truth"), ("verification_info", ""), ("tests", ""))
"""(column, field): where sets for reward functions keep the tests of programs."""


@dataclass(frozen=True)
class Facts:
    """What a source is as a whole; ``a | b`` is what two pieces of it are together.

    Attributes:
        coding: some row has columns of tests that say how a program is checked.
        options: where options to choose from stand.
        tools: what stands in a column of tools describes functions, in each row.
        integral: columns of whole numbers that gaps turned into floats; None where a piece has another float there.
    """

    coding: bool = False
    options: Options | None = None
    tools: bool = True
    integral: frozenset[str] = frozenset()

    def __or__(self, other: Facts) -> Facts:
        return Facts(
            self.coding or other.coding,
            self.options or other.options,
            self.tools and other.tools,
            self.integral & other.integral,
        )


def facts_of(rows: Rows, choices: str | None, source: str) -> Facts:
    """Return what some rows are.

    Args:
        choices: the column of options, where the settings name it.

    Raises:
        BadInput: tests that can't be read; with their row.
    """
    coding = any(about is not None for about in code_of(rows, source))
    integral = frozenset(name for name in rows.table.columns if is_integral(rows.table[name]))
    return Facts(coding, find_options(rows, choices), not tools_of(rows)[1], integral)


def tools_of(rows: Rows) -> tuple[pl.Series | None, list[int], str]:
    """Return what describes tools (or functions, as they were called before), the rows (from 0) that have something
    else, and the column."""
    columns = [name for name in ("tools", "functions", "function") if name in rows.columns]
    column = next((name for name in columns if name == "tools" or isinstance(parsed(rows.first(name)), list)), None)
    if column is None:
        return None, [], ""
    tools, other = tools_column(rows.values(column), padded=column not in rows.objects)
    return tools, other, column


def code_of(rows: Rows, source: str) -> list[dict[str, Any] | None]:
    """Return how each row's programs are checked, None for rows that aren't about programs.

    Raises:
        BadInput: tests that can't be read; with their row.
    """
    present = [name for name in rows.columns if name in CODE_COLUMNS and name != "starter_code"]
    inside = [place for place in _INSIDE if place[0] in rows.columns]
    if not present and not inside:
        return []
    others = [
        name for name in ("prompt", "code_prompt", "starter_code", "metadata", "verification") if name in rows.columns
    ]
    columns = {name: rows.values(name) for name in {*present, *others, *(name for name, _ in inside)}}
    found: list[dict[str, Any] | None] = []
    for number in range(len(rows)):
        row = {name: values[number] for name, values in columns.items()}
        if row.get("verification"):  # it says itself how it is checked
            found.append(None)
            continue
        try:
            about = from_columns(row) if present else None
        except Exception as error:  # of a row: whatever reading another shape may raise
            told = f"'{source}', row {number + 1}: its tests can't be read ({type(error).__name__}: {error}). "
            raise BadInput(told + "Leave what holds them out with load.columns={" + present[0] + ": null}") from error
        for name, field in inside:
            about = about or _tests_in(row[name], field, row.get("starter_code"))
        found.append(about)
    return found


def _tests_in(value: Any, field: str, starter_code: str | None) -> dict[str, Any] | None:
    """Return the tests that a value for reward functions holds; None where it holds something else."""
    if field:
        value = parsed(value)
        value = cast("Mapping[str, Any]", value).get(field) if isinstance(value, Mapping) else None
    if isinstance(value, str) and value.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return from_ground_truth(value, starter_code)
    except Exception:  # it holds something else
        return None
