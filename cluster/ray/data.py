"""Ray Data for dataset-scope operators that outgrow one node: pieces spread over the cluster, merged once.

Only operators that are computed piece by piece go this way (``operators.piecewise``); the pieces' partial results are
small, and Ray Data bounds how many are in flight.
"""

from __future__ import annotations

import io
from typing import Any

import polars as pl
import ray
import ray.data

from cluster.tools.cores import give_way
from cluster.working.work import Done, Task


@ray.remote(num_cpus=0, max_retries=0)
def run_wide(task: Task) -> Done:
    """Compute a task's pieces with Ray Data and merge them."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    shared = ray.put(task)

    def partial(row: dict[str, Any]) -> dict[str, Any]:
        give_way()
        own: Task = ray.get(shared)
        stream = io.BytesIO()
        own.partial(own.pieces[row["id"]]).write_ipc(stream)
        return {"partial": stream.getvalue()}

    pieces = ray.data.range(len(task.pieces), override_num_blocks=len(task.pieces)).map(partial, num_cpus=1)
    partials = [pl.read_ipc(io.BytesIO(row["partial"])) for row in pieces.iter_rows()]
    return task.merged(pl.concat(partials))
