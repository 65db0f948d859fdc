"""What happens inside a worker. Work is small and picklable: an operator or a merge, what it reads, where it goes.

Both runners execute the same ``run`` method, so a stage gives the same rows wherever it ran.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import polars as pl

from cluster.storage.parts import Part, write_part
from cluster.storage.root import Root
from cluster.storage.slices import Slice, damaged_file
from cluster.storage.snapshot import Snapshot
from operators.asking import AskingOperator
from operators.base import Operator
from operators.engine import Engine, EngineDied
from operators.piecewise import PiecewiseOperator
from schemas.datasets import EPISODE, SAMPLE_KEY, Sample
from schemas.errors import DamagedFile, GristmillError, StageFailed
from schemas.identity import digest


@dataclass(frozen=True)
class Done:
    """The result of a piece of work."""

    part: Part
    seconds: float
    answers: tuple[str, ...] = ()
    """Files of what the engine answered (``cluster.working.journal``); of no use once the part is committed."""


class Work(Protocol):
    """One piece of work for a worker; cheap enough to be done again elsewhere."""

    @property
    def number(self) -> int: ...

    @property
    def stage(self) -> str: ...

    @property
    def rows(self) -> int:
        """How many samples (stores) or problems (snapshots) it is about."""
        ...

    def run(self) -> Done:
        """Do it; called in the worker."""
        ...


@dataclass(frozen=True)
class Task:
    """One call of one operator."""

    number: int
    stage: str
    operator: Operator
    root: str
    inputs: dict[str, Slice]
    folder: str | None = None
    """Where a store's part goes; None for a snapshot."""
    view_id: str = ""
    index: int = 0
    """Which part of the snapshot ``view_id``."""
    rows: int = 0
    pieces: tuple[dict[str, Slice], ...] = ()
    """The inputs a few problems at a time, for an operator that is computed piece by piece."""
    reads: int = 0
    """How many samples it reads, where it sees the whole dataset."""
    unsafe: bool = False
    """Whether generated programs may be run without a sandbox."""
    again: bool = False
    """Whether some of it was asked before, in work that came to nothing."""

    def run(self) -> Done:
        """Run the operator and write its part.

        Raises:
            StageFailed: the operator raised; carries the stage and the traceback. Nothing was written.
            ContractViolation: the operator's result breaks its contract. Nothing was written.
            DamagedFile: an input can't be read.
        """
        began = time.perf_counter()
        root = Root(self.root)
        operator = self.operator
        if isinstance(operator, PiecewiseOperator) and self.pieces:
            partials = [self.partial(piece) for piece in self.pieces]
            table = _guarded(operator, self.stage, lambda: operator.merge(pl.concat(partials)))
            part = self._snapshot(root, table)
        else:
            inputs = self._read(root)
            try:
                table = run_operator(operator, self.stage, inputs, self.unsafe, root)
            except StageFailed as error:
                raise self._damage(root, inputs) or error from None
            part = self._write(root, inputs, table)
        return Done(part, time.perf_counter() - began)

    async def ask(self, engine: Engine) -> Done:
        """Do the same with an operator that asks an engine, in the engine's own event loop.

        Args:
            engine: the worker's desk.

        Raises:
            StageFailed, ContractViolation, DamagedFile: as ``run``.
            EngineDied: the engine is gone; nothing was written.
        """
        began = time.perf_counter()
        root, operator = Root(self.root), self.operator
        assert isinstance(operator, AskingOperator)
        inputs = await asyncio.to_thread(self._read, root)
        try:
            table = await operator.ask(engine, **inputs, **tools_of(operator, self.unsafe))
        except (GristmillError, EngineDied):
            raise
        except Exception as error:
            raise _failure(operator, self.stage, error) from None
        return Done(await asyncio.to_thread(self._write, root, inputs, table), time.perf_counter() - began)

    def _write(self, root: Root, inputs: dict[str, Any], table: pl.DataFrame) -> Part:
        if self.folder is None:
            return self._snapshot(root, table)
        _check_conservation(self, inputs["samples"], table)
        table = self._with_episodes(root, table)
        return write_part(root, self.folder, table, self.operator.output, self.stage)

    def _with_episodes(self, root: Root, table: pl.DataFrame) -> pl.DataFrame:
        """Say of which episodes the rows are, where the operator (a user's own, of old) doesn't."""
        told = set(EPISODE) & set(self.operator.output.column_names())
        if not told or "chosen" in self.operator.inputs["samples"].names:
            return table
        episodes = self.inputs["samples"].read(root, Sample.select(*SAMPLE_KEY, *sorted(told)))
        if episodes["episode"].null_count() == len(episodes):
            return table
        return table.drop(*told, strict=False).join(episodes, on=SAMPLE_KEY, how="left")

    def partial(self, piece: dict[str, Slice]) -> pl.DataFrame:
        """Return the partial result of one piece."""
        operator, root = self.operator, Root(self.root)
        assert isinstance(operator, PiecewiseOperator)
        inputs = {
            name: piece[name].read(root, columns) if name in piece else None
            for name, columns in operator.inputs.items()
        }
        return _guarded(operator, self.stage, lambda: operator.partial(**inputs))

    def merged(self, partials: pl.DataFrame) -> Done:
        """Finish an operator whose partial results were computed elsewhere."""
        began = time.perf_counter()
        operator = self.operator
        assert isinstance(operator, PiecewiseOperator)
        table = _guarded(operator, self.stage, lambda: operator.merge(partials))
        return Done(self._snapshot(Root(self.root), table), time.perf_counter() - began)

    def _read(self, root: Root) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        for name, columns in self.operator.inputs.items():
            if name not in self.inputs:
                inputs[name] = None
            elif self.operator.scope == "dataset" or name in self.operator.lazy:
                inputs[name] = self.inputs[name].scan(root, columns)
            else:
                inputs[name] = self.inputs[name].read(root, columns)
        return inputs

    def _damage(self, root: Root, inputs: dict[str, Any]) -> DamagedFile | None:
        """Return which file can't be read, of the inputs that an operator reads itself; None where all can be."""
        for name, columns in self.operator.inputs.items():
            if isinstance(inputs[name], pl.LazyFrame):
                damaged = damaged_file(root, self.inputs[name].uris, columns.names)
                if damaged is not None:
                    return damaged
        return None

    def _snapshot(self, root: Root, table: pl.DataFrame) -> Part:
        return Snapshot(root, self.stage, self.view_id, self.operator.output).write(self.index, table)

    def halves(self) -> Iterator[Task]:
        """Yield two tasks that do the same on half the samples each; nothing where it can't be cut (other scopes)."""
        ranges = self.inputs["samples"].ranges if self.folder is not None and "samples" in self.inputs else None
        if ranges is None or ranges["count"].sum() < 2:
            return
        for number, half in enumerate(_halve(ranges)):
            inputs = {name: part.restricted_to(half) for name, part in self.inputs.items()}
            rows = int(half["count"].sum())
            yield replace(
                self, number=int(digest([self.number, number])[:12], 16), inputs=inputs, rows=rows, again=True
            )


def _halve(ranges: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Cut keyed ranges into two halves with as many samples each."""
    room = ranges["count"].sum() // 2
    before = pl.col("count").cum_sum() - pl.col("count")
    head = ranges.with_columns(taken=(room - before).clip(0).clip(upper_bound=pl.col("count")))
    yield head.filter(pl.col("taken") > 0).select("problem_key", "first", count="taken")
    rest = head.filter(pl.col("taken") < pl.col("count"))
    yield rest.select("problem_key", pl.col("first") + pl.col("taken"), count=pl.col("count") - pl.col("taken"))


def run_operator(
    operator: Operator, stage: str, inputs: dict[str, Any], unsafe: bool = False, root: Root | None = None, **tools: Any
) -> pl.DataFrame:
    """Run an operator on its input tables, handing it the tools it declares.

    Args:
        unsafe: run generated programs without a sandbox.
        root: where lazy inputs are read from; it is waited for, and the operator runs again, if it goes away meanwhile.
        tools: those that this process has already (an engine).

    Raises:
        StageFailed: what the operator raised, with the stage's name; errors of our own pass through.
    """
    given = {**tools_of(operator, unsafe), **tools}

    def call() -> pl.DataFrame:
        return operator.run(**inputs, **given)

    if root is None or not any(isinstance(table, pl.LazyFrame) for table in inputs.values()):
        return _guarded(operator, stage, call)
    return _guarded(operator, stage, lambda: root.patiently(call, f"stage {stage}: reading its input"))


def tools_of(operator: Operator, unsafe: bool) -> dict[str, Any]:
    """Return the tools that an operator declares, but an engine. Only who needs them pays for the pools' imports."""
    tools: dict[str, Any] = {}
    if "workers" in operator.tools:
        from cluster.tools.processes import shared_workers

        tools["workers"] = shared_workers()
    if "sandbox" in operator.tools:
        from cluster.sandbox.pool import shared_sandbox

        tools["sandbox"] = shared_sandbox(unsafe)
    return tools


def _guarded(operator: Operator, stage: str, call: Any) -> pl.DataFrame:
    try:
        return call()
    except GristmillError:
        raise
    except Exception as error:
        raise _failure(operator, stage, error) from None


def _failure(operator: Operator, stage: str, error: BaseException) -> StageFailed:
    return StageFailed(
        f"stage {stage}: {operator.public_name()} raised {type(error).__name__}: {error}\n"
        f"{''.join(traceback.format_exception(error))}"
    )


def _check_conservation(task: Task, samples: pl.DataFrame, table: pl.DataFrame) -> None:
    """Rows in = rows out: a sample-scope operator answers for every sample it was given, and for no other."""
    keys = ["problem_key", "sample_index"]
    lost = samples.join(table, on=keys, how="anti")
    added = table.join(samples, on=keys, how="anti")
    if len(lost) or len(added):
        example = (lost if len(lost) else added).select(keys).row(0, named=True)
        raise StageFailed(
            f"stage {task.stage}: {task.operator.public_name()} got {len(samples)} samples and lost {len(lost)}, added "
            f"{len(added)}; for example {example}. A sample-scope operator returns one row per sample it was given"
        )
