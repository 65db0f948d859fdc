"""Samples that another problem's prompt has paid for already.

A problem's key says what it asks *and* what judges it, so a mended or newly named answer makes a problem of its own.
What the model read is the same, and so are its samples: a problem that has none is given those of an earlier problem
with its ``prompt_key``, in the same store, under its own key. They are copied before the run is planned and cost
nothing: their ``run_id`` is ``DRAWN@TAKEN`` (the run that paid for them, the run that took them over), so that nothing
counts them to either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from cluster.planning.plan import RunPlan, StagePlan
from cluster.records.run import Say
from cluster.storage.delta import scan_store
from cluster.storage.documents import MANIFEST
from cluster.storage.parts import write_part
from cluster.storage.root import Root
from cluster.storage.slices import scan_files
from operators.sample.sampling import Sampling
from schemas.datasets import Problem, Sample
from schemas.identity import prompt_keys

BATCH = 16
"""Problems whose samples are copied at a time."""


@dataclass(frozen=True)
class Reuse:
    """What one sampling stage can take over.

    Attributes:
        pairs: problem_key, problem_id, donor (an earlier problem's key) and rows (how many samples that has).
    """

    stage: StagePlan
    pairs: pl.DataFrame

    def sentence(self) -> str:
        return (
            f"{self.pairs['rows'].sum():,} samples of {len(self.pairs):,} problem(s) are there already, drawn for the "
            "same prompt when it had another answer: they are used again"
        )


def reusable(plan: RunPlan, root: Root) -> list[Reuse]:
    """Return what the sampling stages of a plan can take over from earlier problems."""
    found: list[Reuse] = []
    for stage in plan.stages.values():
        if not isinstance(stage.stage.operator, Sampling) or stage.store is None or stage.action == "reuse":
            continue
        if not len(stage.store.held):
            continue
        pairs = _pairs(plan, stage, root)
        if len(pairs):
            found.append(Reuse(stage, pairs))
    return found


def _pairs(plan: RunPlan, stage: StagePlan, root: Root) -> pl.DataFrame:
    source = next(iter(plan.stages.values()))
    held = scan_store(root, stage.folder, Sample).group_by("problem_key").agg(rows=pl.len())
    held = root.patiently(held.collect, f"looking what {stage.folder} holds")
    own = plan.problems.tables(root, Problem.select("problem_key", "problem_id", "prompt_key"))
    asked = pl.col("prompt_key").is_not_null()
    lacking = pl.concat(table.filter(asked).join(held, on="problem_key", how="anti") for table in own)
    if lacking.is_empty():
        return lacking
    earlier = _earlier(root, source.stage.name, lacking, held)
    return (
        lacking.join(earlier, on="prompt_key")
        .drop("prompt_key")
        .unique("problem_key", keep="first")
        .sort("problem_key")
    )


def _earlier(root: Root, name: str, lacking: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Return the earlier problems whose samples fit: prompt_key, donor and rows, one for each prompt."""
    found: list[pl.DataFrame] = []
    columns = [column for column in ("problem_key", "prompt", "messages", "tools") if column in Problem.column_names()]
    for view in root.list("snapshots", name):
        if not root.exists("snapshots", name, view, MANIFEST):
            continue
        files = [file for file in root.list("snapshots", name, view) if file.endswith(".parquet")]
        uris = [root.uri("snapshots", name, view, file) for file in files]
        rows = scan_files(root, uris, Problem).select(columns).join(held.lazy(), on="problem_key", how="semi")
        table = root.patiently(rows.collect, f"looking through the problems of {view}")
        table = table.select(prompt_keys(table), donor="problem_key")
        found.append(table.join(lacking.select("prompt_key"), on="prompt_key", how="semi"))
    if not found:
        return pl.DataFrame(schema={"prompt_key": pl.String, "donor": pl.String, "rows": pl.UInt32})
    donors = pl.concat(found).join(held, left_on="donor", right_on="problem_key")
    return donors.sort("rows", "donor", descending=[True, False]).unique(
        "prompt_key", keep="first", maintain_order=True
    )


def with_reuse(plan: RunPlan, root: Root) -> RunPlan:
    """Return a plan that counts as there what a run would take over first."""
    notes = list(plan.notes)
    for reuse in reusable(plan, root):
        operator = reuse.stage.stage.operator
        assert isinstance(operator, Sampling)
        reuse.stage.held += int(reuse.pairs["rows"].clip(upper_bound=operator.per_problem).sum())
        notes.append(f"{reuse.stage.stage.name}: {reuse.sentence()}")
    return replace(plan, notes=tuple(notes))


def take_over(plan: RunPlan, root: Root, run_id: str, say: Say) -> bool:
    """Copy what can be taken over under the keys of the plan's problems; return whether there was anything.

    The stores must be ours to write.
    """
    taken = False
    for reuse in reusable(plan, root):
        store = reuse.stage.store
        if store is None or store.lease is None:
            continue
        for batch in reuse.pairs.iter_slices(BATCH):
            wanted = batch.select(own_key="problem_key", own_id="problem_id", problem_key="donor")
            rows = scan_store(root, store.folder, Sample).filter(
                pl.col("problem_key").is_in(wanted["problem_key"].implode()), pl.col("status") == "ok"
            )
            table = root.patiently(rows.collect, f"copying samples within {store.folder}")
            table = table.join(wanted, on="problem_key")
            table = table.with_columns(problem_key="own_key", problem_id="own_id", run_id=_taken(run_id))
            table = table.drop("own_key", "own_id")
            if len(table):
                store.commit([write_part(root, store.folder, table, Sample, reuse.stage.stage.name)])
                taken = True
        say(reuse.sentence(), reuse.stage.stage.name)
    return taken


def _taken(run_id: str) -> pl.Expr:
    return pl.col("run_id").str.split("@").list.first() + f"@{run_id}"
