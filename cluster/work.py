"""What happens inside a worker: read slices, run one operator, write one part.

A ``Task`` is small and picklable: an operator, what it reads and where its result goes. Both runners execute the same
function, so a stage gives the same rows wherever it ran.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import Any

import polars as pl

from cluster.storage.parts import Part, write_part
from cluster.storage.root import Root
from cluster.storage.slices import Slice
from cluster.storage.snapshot import Snapshot
from operators.base import Operator
from schemas.errors import GristmillError, StageFailed


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
    """How many samples (stores) or problems (snapshots) it is about."""


@dataclass(frozen=True)
class Done:
    """The result of a task."""

    part: Part
    seconds: float


def execute(task: Task) -> Done:
    """Run a task.

    Raises:
        StageFailed: the operator raised; carries the stage and the traceback. Nothing was written.
        ContractViolation: the operator's result breaks its contract. Nothing was written.
    """
    began = time.perf_counter()
    root = Root(task.root)
    operator = task.operator
    inputs: dict[str, Any] = {}
    for name, columns in operator.inputs.items():
        scan = task.inputs[name].scan(root, columns) if name in task.inputs else None
        inputs[name] = scan.collect() if scan is not None and operator.scope != "dataset" else scan
    table = run_operator(operator, task.stage, inputs)
    if task.folder is None:
        part = Snapshot(root, task.stage, task.view_id, operator.output).write(task.index, table)
    else:
        _check_conservation(task, inputs["samples"], table)
        part = write_part(root, task.folder, table, operator.output, task.stage)
    return Done(part, time.perf_counter() - began)


def run_operator(operator: Operator, stage: str, inputs: dict[str, Any], **tools: Any) -> pl.DataFrame:
    """Run an operator on its input tables, handing it the tools it declares.

    Raises:
        StageFailed: what the operator raised, with the stage's name; errors of our own pass through.
    """
    if "workers" in operator.tools:
        from cluster.workers import shared_workers  # only verification pays for the pool's imports

        tools["workers"] = shared_workers()
    try:
        return operator.run(**inputs, **tools)
    except GristmillError:
        raise
    except Exception as error:
        raise StageFailed(
            f"stage {stage}: {operator.public_name()} raised {type(error).__name__}: {error}\n"
            f"{''.join(traceback.format_exception(error))}"
        ) from None


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
