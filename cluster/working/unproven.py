"""Refusals that aren't rows yet, because nothing was served so far.

A wrong setting makes a server refuse whatever it is asked; written down as failures of samples, these would stand in
the way of the same run with better settings. So the first refusals wait until something was served, or until there is
nothing else to draw.
"""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


class Unproven:
    """The first rows of one worker."""

    def __init__(self) -> None:
        self._rows: list[Row] | None = []
        """Rows that wait; None once something was served."""

    def proven(self, rows: list[Row]) -> list[Row]:
        """Take the rows of a draw; return those that may be written now."""
        if self._rows is None:
            return rows
        self._rows += rows
        return [] if all(row["status"] == "error" for row in rows) else self.rest()

    def rest(self) -> list[Row]:
        """Return all that wait: something was served, or there is nothing else."""
        rows, self._rows = self._rows or [], None if self._rows else self._rows
        return rows
