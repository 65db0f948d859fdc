"""A run's books: what it lent to workers and what came of it, one small file per writing, beside its allocations.

Credit stands in them before a worker hears of it, and a bill before what it paid for is committed. So whatever is
killed, the books say what was spent at most, without the stores: these may be merged, trimmed and vacuumed.
"""

from __future__ import annotations

from typing import Literal

import polars as pl

from cluster.records.bill import Amount, Bill
from cluster.spending.pieces import join_pieces, read_pieces, write_piece
from cluster.storage.root import Root
from schemas.books import Payment
from schemas.contract import polars_schema

FOLDER = "payments"
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
                took.estimated_tokens,
            )
        )
        self._sequence += 1

    def flush(self) -> None:
        """Make the entries durable."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        table = pl.DataFrame(rows, schema=polars_schema(Payment), orient="row")
        write_piece(self.root, self.folder, table, Payment)

    def close(self) -> None:
        """Put the pieces together into one file."""
        self.flush()
        join_pieces(self.root, self.folder, Payment)


def read_books(root: Root, run_id: str) -> pl.DataFrame:
    """Return the books of a run, in order; empty where it has none."""
    return read_pieces(root, f"runs/{run_id}/{FOLDER}", Payment)
