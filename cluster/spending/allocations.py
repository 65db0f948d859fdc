"""The write-ahead log of what a run sends: one small file per dispatch, written before anything leaves.

Each row is a decision (``schemas.datasets.Allocation``); by what rule they are made stands beside them
(``cluster.records.rules``). After a crash the log says which indices were sent: those that are in no store are holes,
which the next run fills first, and what they may have cost at worst.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from cluster.records.rules import FOLDER
from cluster.spending.account import Amount
from cluster.storage.ranges import Range
from cluster.storage.root import Root
from schemas.contract import polars_schema, validate
from schemas.datasets import Allocation

WHOLE = "allocations.parquet"
"""What a finished run's log is put together into."""


@dataclass(frozen=True)
class Decision:
    """A range that is about to be sent, and why."""

    range: Range
    value: float
    reason: str


class AllocationLog:
    """The log of one run, which only this run writes."""

    def __init__(self, root: Root, run_id: str) -> None:
        self.root = root
        self.folder = f"runs/{run_id}/{FOLDER}"
        self._sequence = 0
        self._rows: list[dict[str, Any]] = []

    def add(
        self,
        stage: str,
        decisions: Sequence[Decision],
        worst: Sequence[Amount],
        observed: int,
        shadow_price: float | None,
    ) -> None:
        """Note decisions; they may be acted upon once they are written (``flush``)."""
        self._rows += [
            {
                "sequence": self._sequence + place,
                "stage": stage,
                "problem_key": decision.range.problem_key,
                "first_index": decision.range.first,
                "count": decision.range.size,
                "worst_tokens": each.tokens,
                "worst_microdollars": each.microdollars,
                "observed_through": observed,
                "value": decision.value,
                "shadow_price": shadow_price,
                "reason": decision.reason,
            }
            for place, (decision, each) in enumerate(zip(decisions, worst, strict=True))
        ]
        self._sequence += len(decisions)

    def flush(self) -> None:
        """Make the decisions durable; nothing may be sent before this returns."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        table = validate(pl.DataFrame(rows, schema=polars_schema(Allocation), orient="row"), Allocation, FOLDER)
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        self.root.write_bytes(buffer.getvalue(), self.folder, f"{rows[0]['sequence']:010d}.parquet")

    def close(self) -> None:
        """Put the pieces together into one file."""
        table = read_allocations(self.root, self.folder.split("/")[1])
        if len(table):
            buffer = io.BytesIO()
            table.write_parquet(buffer)
            self.root.write_bytes(buffer.getvalue(), self.folder, WHOLE)
            for name in self.root.list(self.folder):
                if name.endswith(".parquet") and name != WHOLE:
                    self.root.remove(self.folder, name)


def read_allocations(root: Root, run_id: str) -> pl.DataFrame:
    """Return the log of a run, in order; empty where it has none."""
    folder = f"runs/{run_id}/{FOLDER}"
    names = [name for name in root.list(folder) if name.endswith(".parquet")]
    tables = [pl.read_parquet(io.BytesIO(root.read_bytes(folder, name))) for name in names]
    if not tables:
        return pl.DataFrame(schema=polars_schema(Allocation))
    # a crash while the pieces were put together leaves both
    return pl.concat(tables).unique("sequence", keep="first").sort("sequence")


def ranges_of(allocations: pl.DataFrame) -> list[Range]:
    """Return what was sent, as ranges; an index that was sent twice is there twice."""
    return [Range(*row) for row in allocations.select("problem_key", "first_index", "count").iter_rows()]
