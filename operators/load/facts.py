"""What is decided by looking at all rows of a source, so that a piece of it is read as the whole is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from operators.load.golds import is_integral
from operators.load.options import Options, find_options
from operators.load.rows import Rows
from operators.verify.code_tests import CODE_COLUMNS, from_columns
from schemas.errors import BadInput


@dataclass(frozen=True)
class Facts:
    """What a source is as a whole; ``a | b`` is what two pieces of it are together.

    Attributes:
        coding: some row has columns of tests that say how a program is checked.
        options: where options to choose from stand.
        integral: columns of whole numbers that gaps turned into floats; None where a piece has another float there.
    """

    coding: bool = False
    options: Options | None = None
    integral: frozenset[str] = frozenset()

    def __or__(self, other: Facts) -> Facts:
        return Facts(self.coding or other.coding, self.options or other.options, self.integral & other.integral)


def facts_of(rows: Rows, choices: str | None, source: str) -> Facts:
    """Return what some rows are.

    Args:
        choices: the column of options, where the settings name it.

    Raises:
        BadInput: tests that can't be read; with their row.
    """
    coding = "verification" not in rows.columns and any(about is not None for about in code_of(rows, source))
    choosing = "verification" not in rows.columns and not coding
    integral = frozenset(name for name in rows.table.columns if is_integral(rows.table[name]))
    return Facts(coding, find_options(rows, choices) if choosing else None, integral)


def code_of(rows: Rows, source: str) -> list[dict[str, Any] | None]:
    """Return how each row's programs are checked, None for rows that aren't about programs.

    Raises:
        BadInput: tests that can't be read; with their row.
    """
    present = [name for name in rows.columns if name in CODE_COLUMNS]
    if not present:
        return []
    others = [name for name in ("prompt", "code_prompt", "starter_code", "metadata") if name in rows.columns]
    columns = {name: rows.values(name) for name in [*present, *others]}
    found: list[dict[str, Any] | None] = []
    for row in range(len(rows)):
        try:
            found.append(from_columns({name: values[row] for name, values in columns.items()}))
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"'{source}', row {row + 1}: its tests can't be read: {error}") from error
    return found
