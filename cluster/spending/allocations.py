"""The write-ahead log of what a run sends: one small file per dispatch, written before anything leaves.

Each row is a decision (``schemas.datasets.Allocation``); by what rule they are made stands beside them
(``cluster.records.rules``). After a crash the log says which indices were sent: those that are in no store are holes,
which the next run fills first, and what they may have cost at worst.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cluster.records.rules import FOLDER
from cluster.spending.pieces import join_pieces, read_pieces, write_piece
from cluster.storage.ranges import Ints, Ranges
from cluster.storage.root import Root
from schemas.books import Allocation
from schemas.contract import polars_schema


@dataclass(frozen=True, eq=False)
class Decisions:
    """Ranges that are about to be sent, and why."""

    ranges: Ranges
    values: NDArray[np.float64]
    """What one sample of each range was thought to gain."""
    reason: str


class AllocationLog:
    """The log of one run, which only this run writes."""

    def __init__(self, root: Root, run_id: str) -> None:
        self.root = root
        self.folder = f"runs/{run_id}/{FOLDER}"
        self._sequence = 0
        self._tables: list[pl.DataFrame] = []

    def add(
        self,
        stage: str,
        decisions: Decisions,
        keyed: pl.DataFrame,
        worst: tuple[Ints, Ints],
        observed: int,
        shadow_price: float | None,
    ) -> None:
        """Note decisions; they may be acted upon once they are written (``flush``).

        Args:
            keyed: their ranges, keyed.
            worst: the tokens and microdollars that a sample of each range may take at most.
        """
        columns = {
            "sequence": np.arange(self._sequence, self._sequence + len(keyed)),
            "stage": stage,
            "problem_key": keyed["problem_key"],
            "first_index": keyed["first"],
            "count": keyed["count"],
            "worst_tokens": worst[0],
            "worst_microdollars": worst[1],
            "observed_through": observed,
            "value": decisions.values,
            "shadow_price": shadow_price,
            "reason": decisions.reason,
        }
        kinds = {name: kind for name, kind in polars_schema(Allocation).items() if name in columns}
        self._tables.append(pl.DataFrame(columns, schema=kinds))
        self._sequence += len(keyed)

    def flush(self) -> None:
        """Make the decisions durable; nothing may be sent before this returns."""
        if not self._tables:
            return
        tables, self._tables = self._tables, []
        write_piece(self.root, self.folder, pl.concat(tables), Allocation)

    def close(self) -> None:
        """Put the pieces together into one file."""
        join_pieces(self.root, self.folder, Allocation)


def read_allocations(root: Root, run_id: str) -> pl.DataFrame:
    """Return the log of a run, in order; empty where it has none."""
    return read_pieces(root, f"runs/{run_id}/{FOLDER}", Allocation)


def ranges_of(allocations: pl.DataFrame) -> pl.DataFrame:
    """Return what was sent, as keyed ranges; an index that was sent twice is there twice."""
    return allocations.select("problem_key", first="first_index", count="count")
