"""Measures over everything, computed piece by piece: memory that doesn't grow with the number of samples.

A dataset-scope result that is a reduction over problems is declared in two halves. ``partial`` sees all rows of *some*
problems and keeps of them what the result needs, a few bytes a sample or a row a problem; ``merge`` sees what all calls
of ``partial`` kept. Pieces can be read one after the other on one machine or side by side on many.

    class MeanAccuracy(PiecewiseOperator):
        '''The share of right samples, every problem counted alike.'''

        version = 1
        inputs = {"verdicts": Verdict.select("problem_key", "is_correct")}
        output = Accuracy

        def partial(self, verdicts: pl.DataFrame) -> pl.DataFrame:
            return verdicts.group_by("problem_key").agg(pl.col("is_correct").mean())

        def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
            return partials.sort("problem_key").select(accuracy=pl.col("is_correct").mean())

The law: however the problems are cut into pieces, and in whatever order the partials arrive, ``merge`` gives the same
rows, bit by bit. So ``merge`` sorts by problem before anything that depends on order, sums of floats included.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from operators.base import Operator
from schemas.later import pl


class PiecewiseOperator(Operator):
    """Base of dataset-scope operators that are computed piece by piece.

    An input without a ``problem_key`` column can't be cut (``whole_inputs``): it comes in a call of ``partial`` of its
    own, whole.

    Class attributes:
        piece_rows: about how many rows, of all inputs together, ``run`` hands to one call of ``partial``.
    """

    scope = "dataset"
    piece_rows: ClassVar[int] = 500_000

    def partial(self, *args: Any, **kwargs: Any) -> pl.DataFrame:
        """Return what the result needs to know of some problems, compactly; inputs come by keyword, as DataFrames.

        One call gets either all rows that all inputs with a ``problem_key`` have of some problems, and None for the
        others; or the inputs without one, and None for those that have it. An input that isn't connected is None in
        every call, and a table without rows is possible. All results have the same columns and dtypes.
        """
        raise TypeError(f"{type(self).__name__} doesn't define partial()")

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Compute the output table from the results of ``partial``, concatenated in any order (at least one)."""
        raise TypeError(f"{type(self).__name__} doesn't define merge()")

    def whole_inputs(self) -> frozenset[str]:
        """Return the inputs that can't be cut, because they have no ``problem_key``."""
        return frozenset(name for name, columns in self.inputs.items() if "problem_key" not in columns.names)

    def run(self, **tables: pl.LazyFrame | None) -> pl.DataFrame:
        """Compute the output table, holding one piece's rows and all partials at a time.

        A first pass counts rows per problem. Each piece is a range of problem keys: of files sorted by them it reads
        its own share, of others all keys.
        """
        return self.merge(pl.concat([self.partial(**piece) for piece in self._pieces(tables)]))

    def _pieces(self, tables: dict[str, pl.LazyFrame | None]) -> Iterator[dict[str, pl.DataFrame | None]]:
        """Yield the arguments of each call of ``partial``."""
        connected = {name: table.lazy() for name, table in tables.items() if table is not None}
        nothing = dict.fromkeys(self.inputs)
        whole = {name: table for name, table in connected.items() if name in self.whole_inputs()}
        keyed = {name: table for name, table in connected.items() if name not in whole}
        if whole or not keyed:
            yield {**nothing, **_collected(whole)}
        if not keyed:
            return
        ranges = key_ranges(list(keyed.values()), self.piece_rows)
        if len(ranges) < 2:
            yield {**nothing, **_collected(keyed)}
            return
        for low, high in ranges:
            some = pl.col("problem_key").is_between(pl.lit(low), pl.lit(high))
            yield {**nothing, **_collected({name: table.filter(some) for name, table in keyed.items()})}


def _collected(tables: dict[str, pl.LazyFrame]) -> dict[str, pl.DataFrame]:
    return {name: table.collect(engine="streaming") for name, table in tables.items()}


def key_ranges(tables: list[pl.LazyFrame], rows: int) -> list[tuple[str, str]]:
    """Return the first and last problem key of each piece: whole problems, about ``rows`` rows, in order of the key."""
    before = pl.col("rows").cum_sum() - pl.col("rows")
    problems = pl.concat([table.select("problem_key") for table in tables]).group_by("problem_key")
    return (
        problems.agg(pl.len().cast(pl.Int64).alias("rows"))
        .sort("problem_key")
        .group_by(piece=before // rows, maintain_order=True)
        .agg(pl.col("problem_key").first().alias("low"), pl.col("problem_key").last().alias("high"))
        .select("low", "high")
        .collect(engine="streaming")
        .rows()
    )
