"""Truth that may not be known yet (None), and matching members one to one."""

from __future__ import annotations

from collections.abc import Iterable


def every(results: Iterable[bool | None]) -> bool | None:
    """Return whether all are true; None where that hangs on something unknown."""
    found = list(results)
    return False if False in found else (None if None in found else True)


def any_of(results: Iterable[bool | None]) -> bool | None:
    """Return whether any is true; None where that hangs on something unknown."""
    found = list(results)
    return True if True in found else (None if None in found else False)


def one_to_one(table: list[list[bool | None]]) -> bool | None:
    """Return whether each row can be given a column of its own in which it is true; None where that isn't known."""
    if matches([[cell is True for cell in row] for row in table]):
        return True
    return None if matches([[cell is not False for cell in row] for row in table]) else False


def matches(table: list[list[bool]]) -> bool:
    """Return whether each row can be given a column of its own in which it is true (by augmenting paths)."""
    taken: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column, fits in enumerate(table[row]):
            if fits and column not in tried:
                tried.add(column)
                if column not in taken or place(taken[column], tried):
                    taken[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(table)))
