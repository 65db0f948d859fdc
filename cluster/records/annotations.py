"""Annotations: what people say of verdicts, in one table of the root (``schemas.books.Annotation``).

Rows are only added, by whoever annotates, at the same time as others and while runs go on. They are about samples of a
store, not about a run, so they hold for every run that reads the same verdicts, and no garbage collection takes them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from cluster.records.reader import last_stage, open_stage
from cluster.storage.appending import append, read_appended
from cluster.storage.root import Root
from operators.select.classes import one_verifier
from schemas.books import Annotation
from schemas.contract import polars_schema, validate
from schemas.datasets import SAMPLE_KEY
from schemas.errors import BadInput, ContractViolation
from schemas.manifest import RunManifest, StageRecord

FOLDER = "annotations"
LONGEST = 10_000
"""Characters of a note."""
VERDICT = ("verifier", "is_correct")
FREE = ("time", "author", "is_correct", "note", "stratum", "stratum_size")
"""What whoever annotates says; everything else is looked up."""


def judged_stage(manifest: RunManifest) -> StageRecord:
    """Return the stage whose verdicts people annotate: the last one that gives some.

    Raises:
        BadInput: there is none.
    """
    name = last_stage(manifest, "verdicts")
    record = next((one for one in manifest.stages if one.name == name), None)
    if record is None:
        raise BadInput(f"run {manifest.run_id} has no stage that gives verdicts, so there is nothing to annotate")
    return record


def annotate(root: Root, manifest: RunManifest, said: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Write annotations down; return the rows.

    Args:
        said: of each problem_key and sample_index, and what of ``FREE`` is known; author and is_correct at least.

    Raises:
        BadInput: the run has no such verdict, or something that can't be said; nothing was written.
    """
    record = judged_stage(manifest)
    given = list(said)
    try:
        keys = pl.DataFrame(
            [(one["problem_key"], one["sample_index"]) for one in given],
            schema={"problem_key": pl.String, "sample_index": pl.Int64}, orient="row",
        )  # fmt: skip
    except (pl.exceptions.PolarsError, ValueError, OverflowError, TypeError) as error:
        raise BadInput(f"these aren't keys of samples: {error}") from error
    known = open_stage(root, manifest, record.name).select(*SAMPLE_KEY, "problem_id", *VERDICT)
    found = one_verifier(known).join(keys.unique().lazy(), on=SAMPLE_KEY, how="semi").collect()
    verdicts = {(row["problem_key"], row["sample_index"]): row for row in found.iter_rows(named=True)}
    rows: list[dict[str, Any]] = []
    for one in given:
        verdict = verdicts.get((one["problem_key"], one["sample_index"]))
        if verdict is None:
            raise BadInput(f"run {manifest.run_id} has no verdict on {one['problem_key']}/{one['sample_index']}")
        if len(str(one.get("note") or "")) > LONGEST:
            raise BadInput(f"a note has {LONGEST:,} characters at most")
        rows.append(
            {
                **verdict,
                **{name: one.get(name) for name in FREE},
                "note": one.get("note") or "",
                "time": one.get("time") or datetime.now(UTC),
                "id": secrets.token_hex(12),
                "store": record.path,
                "run_id": manifest.run_id,
                "accepted": verdict["is_correct"],
            }
        )
    try:
        table = validate(pl.DataFrame(rows, schema=polars_schema(Annotation), orient="row"), Annotation, FOLDER)
    except (ContractViolation, pl.exceptions.PolarsError, TypeError) as error:
        raise BadInput(f"these annotations can't be written: {error}") from error
    append(root, FOLDER, Annotation, table)
    return table


def annotations_of(root: Root, manifest: RunManifest) -> pl.DataFrame:
    """Return what was said of a run's verdicts, the last word on each sample, in the order of the samples."""
    record = judged_stage(manifest)
    rows = read_appended(root, FOLDER, Annotation).filter(pl.col("store") == record.path)
    if rows.is_empty():
        return rows
    asked = (pl.col(name).drop_nulls().last().over(SAMPLE_KEY) for name in ("stratum", "stratum_size"))
    rows = rows.sort("time", maintain_order=True).with_columns(asked)  # who was asked for once stays so
    last = rows.unique(SAMPLE_KEY, keep="last", maintain_order=True)
    mine = open_stage(root, manifest, record.name).select(SAMPLE_KEY)
    said = last.filter(pl.col("is_correct").is_not_null())
    return said.lazy().join(mine, on=SAMPLE_KEY, how="semi").sort(SAMPLE_KEY).collect()
