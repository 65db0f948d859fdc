"""A run's books: what it lent to workers and what came of it, one small file per writing, beside its allocations.

Credit stands in them before a worker hears of it, and a bill before what it paid for is committed. So whatever is
killed, the books say what was spent at most, without the stores: these may be merged, trimmed and vacuumed.
"""

from __future__ import annotations

import io
from typing import Literal

import polars as pl

from cluster.records.bill import Amount, Bill
from cluster.storage.root import Root
from schemas.contract import polars_schema, validate
from schemas.datasets import Payment

FOLDER = "payments"
WHOLE = "payments.parquet"
"""What a finished run's books are put together into."""
Kind = Literal["credit", "bill", "return", "lost"]


class Books:
    """The books of one run, which only this run writes."""

    def __init__(self, root: Root, run_id: str) -> None:
        self.root = root
        self.run_id = run_id
        self.folder = f"runs/{run_id}/{FOLDER}"
        self._sequence = 0
        self._rows: list[tuple[int | str, ...]] = []

    def add(
        self, kind: Kind, stage: str, role: str, credit: Amount, bill: Bill | None = None, samples: int = 0
    ) -> None:
        """Note an entry; see ``schemas.datasets.Payment``.

        Args:
            credit: what is lent, or what of it is closed.
            samples: those that the calls brought.
        """
        took = bill or Bill()
        self._rows.append(
            (
                *(self._sequence, kind, stage, role, samples),
                *(took.calls, took.prompt_tokens, took.cached_prompt_tokens, took.completion_tokens, took.passes),
                *(max(0, part) for part in credit.parts),
            )
        )
        self._sequence += 1

    def flush(self) -> None:
        """Make the entries durable."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        table = validate(pl.DataFrame(rows, schema=polars_schema(Payment), orient="row"), Payment, FOLDER)
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        self.root.write_bytes(buffer.getvalue(), self.folder, f"{table['sequence'][0]:010d}.parquet")

    def close(self) -> None:
        """Put the pieces together into one file."""
        self.flush()
        table = read_books(self.root, self.run_id)
        if len(table):
            buffer = io.BytesIO()
            table.write_parquet(buffer)
            self.root.write_bytes(buffer.getvalue(), self.folder, WHOLE)
            for name in self.root.list(self.folder):
                if name != WHOLE:
                    self.root.remove(self.folder, name)


def read_books(root: Root, run_id: str) -> pl.DataFrame:
    """Return the books of a run, in order; empty where it has none."""
    folder = f"runs/{run_id}/{FOLDER}"
    names = [name for name in root.list(folder) if name.endswith(".parquet")]
    tables = [pl.read_parquet(io.BytesIO(root.read_bytes(folder, name))) for name in names]
    if not tables:
        return pl.DataFrame(schema=polars_schema(Payment))
    # a crash while the pieces were put together leaves both
    return pl.concat(tables, how="diagonal").unique("sequence", keep="first").sort("sequence")
