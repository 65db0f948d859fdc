"""The problems of a run: read once, a piece at a time, sorted by their keys and numbered in that order.

Nothing here holds their texts: these are in a temporary spill, and in the run's snapshot once that is written. What is
held of a problem is its key, and its class where there are several.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cluster.moe.order import ordered
from cluster.planning.choice import choose
from cluster.planning.content import check_stages
from cluster.planning.spill import PIECE_BYTES, PIECE_ROWS, Spill
from cluster.storage.numbering import Numbering
from cluster.storage.ranges import Ints
from cluster.storage.root import Root
from cluster.storage.rows import NumberedRows
from cluster.storage.slices import Slice
from operators.base import Operator
from pipelines.graph import Stage
from pipelines.unjudged import has_answers
from schemas.contract import Columns, validate
from schemas.datasets import Problem
from schemas.identity import TableDigest, more_in
from schemas.job import RunSettings


class Problems:
    """What a run is about.

    Attributes:
        numbering: problem key -> number, in the order of the keys.
        view: the id of this choice of problems, which depends on all that they say.
        notes: what the source has to tell of them.
        classes: the task type of each problem, as a number; all 0 where there is one type.
        longest: UTF-8 bytes of the longest prompt, with what is said in its conversation.
        answered: whether any of them says what is right.
    """

    def __init__(self, spill: Spill, numbering: Numbering, look: _SecondLook, notes: tuple[str, ...]) -> None:
        self.numbering = numbering
        self.view = look.view.hexdigest()
        self.classes = look.classes
        self.longest = look.longest
        self.answered = look.answered
        self.notes = notes
        self._size = look.size
        self._spill: Spill | None = spill
        self._rows: NumberedRows | None = None

    def __len__(self) -> int:
        return self.numbering.problems

    @property
    def keys(self) -> pl.Series:
        """The key of each problem, in order."""
        return self.numbering.keys(np.arange(len(self)))

    def in_order(self, order: Literal["alternate", "grouped"]) -> Ints:
        """Return the problems in the order in which they are worked on."""
        return ordered(self.classes, order)

    def kept_in(self, rows: NumberedRows) -> None:
        """Hear that the snapshot of the problems is there: from now on they are read from it."""
        self._rows, self._spill = rows, None

    def slice(self, numbers: Ints) -> Slice:
        """Describe the rows of some problems, for a worker; their snapshot must be there."""
        assert self._rows is not None
        return self._rows.slice(numbers, self.numbering)

    def tables(self, root: Root, columns: Columns | None = None) -> Iterator[pl.DataFrame]:
        """Yield the problems in the order of their numbers, a few megabytes at a time."""
        columns = columns or Problem.select()
        if self._spill is not None:
            return (table.select(columns.names) for table in self._spill.tables())
        assert self._rows is not None
        step = max(1, min(PIECE_ROWS, PIECE_BYTES * len(self) // max(1, self._size)))
        return self._rows.tables(root, columns, step)


def read_problems(source: Stage, root: Root, settings: RunSettings, stages: Sequence[Stage]) -> Problems:
    """Read the problems that a run takes.

    Args:
        stages: those that will work on them, and may refuse them.

    Raises:
        BadInput: problems can't be used.
        NothingToDo: no problem is left for this run.
    """
    spill, ids = Spill("problem_key"), _Unique()
    notes: list[str] = []
    more: set[str] = set()
    given = _Given(source.operator.batches(notes.append))
    for table in choose(given, root, settings):
        check_stages(stages, given.table, table, given.before)
        if table["problem_id"].is_duplicated().any() or table["problem_key"].is_duplicated().any():
            _refuse_doubles(source, root, settings)
        table = validate(table, Problem, source.name)
        more |= more_in(table)
        ids.add(table["problem_id"])
        spill.add(table)
    if ids.doubtful:
        _refuse_doubles(source, root, settings)
    del ids
    look = _SecondLook([stage.operator for stage in stages if "problems" in stage.operator.inputs], more)
    numbering = Numbering(map(look, spill.tables()))
    if numbering.repeats:
        _refuse_doubles(source, root, settings)
    return Problems(spill, numbering, look, tuple(notes))


class _Given:
    """What a source gives, a table at a time: the latest, and how many problems came before it."""

    def __init__(self, tables: Iterable[pl.DataFrame]) -> None:
        self._tables = tables
        self.table = pl.DataFrame()
        self.before = 0

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for table in self._tables:
            self.before += len(self.table)
            self.table = table
            yield table


_LENGTH = pl.col("prompt").str.len_bytes().cast(pl.Int64) + (
    pl.col("messages").list.eval(pl.element().struct.field("content").str.len_bytes()).list.sum().fill_null(0)
)


class _SecondLook:
    """What is learnt of problems when they come in order; called with each table, it returns the keys."""

    def __init__(self, checks: list[Operator], more: set[str]) -> None:
        self.view = TableDigest(more)
        self.size = self.longest = 0
        self.answered = False
        self._checks = checks
        self._names: dict[str, int] = {}
        self._classes: list[NDArray[np.int32]] = []

    def __call__(self, table: pl.DataFrame) -> pl.Series:
        for operator in self._checks:
            operator.check_problems(table)
        self.view.add(table)
        self.size += int(table.estimated_size())
        self.answered = self.answered or has_answers(table)
        self.longest = max(self.longest, int(table.select(_LENGTH.max()).item()))
        for name in table["task_type"].unique(maintain_order=True):
            self._names.setdefault(name, len(self._names))
        if len(self._names) == 1:  # as an array without memory of its own
            self._classes.append(np.broadcast_to(np.int32(0), len(table)))
        else:
            self._classes.append(table["task_type"].replace_strict(self._names, return_dtype=pl.Int32).to_numpy())
        return table["problem_key"]

    @property
    def classes(self) -> NDArray[np.int32]:
        """The number of each problem's task type."""
        if len(self._names) == 1:
            return np.broadcast_to(np.int32(0), sum(map(len, self._classes)))
        return np.concatenate(self._classes)


def _refuse_doubles(source: Stage, root: Root, settings: RunSettings) -> None:
    """Refuse problems of which two have one id or one content: read as a whole, their source knows best what to say.

    Raises:
        BadInput, ContractViolation: naming them.
    """
    whole = pl.concat(choose([source.operator.run()], root, settings))
    validate(whole, Problem, source.name)


class _Unique:
    """Whether texts are all different, by their hashes."""

    def __init__(self) -> None:
        self._hashes = bytearray()

    def add(self, texts: pl.Series) -> None:
        self._hashes += texts.hash(7).to_numpy().data

    @property
    def doubtful(self) -> bool:
        """Whether two may be the same."""
        hashes = np.frombuffer(self._hashes, np.uint64)
        hashes.sort()
        return bool((hashes[1:] == hashes[:-1]).any())
