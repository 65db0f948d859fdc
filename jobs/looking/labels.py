"""Labels of a run's verdicts: what was said, what to ask for next, and what an audit makes of it."""

from __future__ import annotations

from typing import Any

import polars as pl
from rich.console import Console

from cluster.records.annotations import annotations_of, judged_stage
from cluster.records.reader import last_stage, open_stage
from cluster.storage.root import Root
from operators.measure.next_labels import MeasureNextLabels
from operators.measure.verifier_audit import MeasureVerifierAudit
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY
from schemas.errors import BadInput
from schemas.manifest import RunManifest
from schemas.measures import Label

LEAST = 2
"""Labels without which nothing is audited."""


def labels_of(root: Root, manifest: RunManifest) -> pl.DataFrame:
    """Return annotations as labels, of samples that were chosen by lot: the others stand for nobody but themselves.

    A lot is of the samples that there were. Where more were drawn since, and labels asked for among all of them, those
    of the earlier lot are left out: they say nothing of the samples that came later.
    """
    said = annotations_of(root, manifest).filter(pl.col("stratum").is_not_null())
    newest = pl.col("stratum_size").sort_by("time").last().over("stratum")
    said = said.filter(pl.col("stratum_size") == newest)
    schema = polars_schema(Label)
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in said.columns]
    return said.with_columns(absent).select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def with_texts(root: Root, manifest: RunManifest, said: pl.DataFrame) -> pl.DataFrame:
    """Return annotated samples with what there is to look at, and without what was said."""
    schema = polars_schema(Label)
    keys = said.select(*SAMPLE_KEY, "problem_id", "accepted", "stratum", "stratum_size")
    stages = {name: last_stage(manifest, name) for name in ("samples", "problems")}
    found = keys.lazy()
    if stages["samples"] is not None:
        samples = open_stage(root, manifest, stages["samples"]).select(*SAMPLE_KEY, "completion")
        found = found.join(samples, on=SAMPLE_KEY, how="left")
    if stages["problems"] is not None:
        problems = open_stage(root, manifest, stages["problems"]).select("problem_key", "prompt", "answer")
        found = found.join(problems, on="problem_key", how="left")
    verdicts = open_stage(root, manifest, judged_stage(manifest).name).select(*SAMPLE_KEY, "predicted_answer")
    table = found.join(verdicts, on=SAMPLE_KEY, how="left").collect()
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in table.columns]
    return table.with_columns(absent).select(list(schema)).sort(SAMPLE_KEY)


def next_labels(root: Root, manifest: RunManifest, count: int, goal: str = "errors") -> pl.DataFrame:
    """Return the samples whose labels would tell an audit most, with what there is to look at.

    Raises:
        BadInput: all are labelled, or there is nothing to label.
    """
    stages = {name: last_stage(manifest, name) for name in ("samples", "scores", "problems")}
    read = {name: None if stage is None else open_stage(root, manifest, stage) for name, stage in stages.items()}
    labels = labels_of(root, manifest)
    operator = MeasureNextLabels.model_validate({"next": count, "goal": goal})
    verdicts = open_stage(root, manifest, judged_stage(manifest).name)
    return operator.run(verdicts, labels.lazy() if len(labels) else None, **read)


def audit(root: Root, manifest: RunManifest) -> dict[str, Any]:
    """Return how many verdicts are annotated, and what ``measure.verifier_audit`` makes of those that stand for more.

    Returns:
        ``annotated`` (all), ``labels`` (chosen by lot), ``rows`` of the audit, and ``why`` there are none.
    """
    said, labels = annotations_of(root, manifest), labels_of(root, manifest)
    document: dict[str, Any] = {"annotated": len(said), "labels": len(labels), "rows": [], "why": ""}
    agree = said.filter(pl.col("accepted").is_not_null())
    document["agree"] = int((agree["accepted"] == agree["is_correct"]).sum())
    if len(labels) < LEAST:
        document["why"] = (
            f"no estimate yet: annotate at least {LEAST} of the samples that --next, or the page's Annotate, asks for"
        )
        return document
    try:
        verdicts = open_stage(root, manifest, judged_stage(manifest).name)
        found = MeasureVerifierAudit().run(verdicts, labels=labels.lazy())
    except BadInput as error:
        document["why"] = str(error)
        return document
    document["rows"] = found.filter(pl.col("k") == 0).to_dicts() if "k" in found.columns else found.to_dicts()
    return document


def print_audit(console: Console, document: dict[str, Any]) -> None:
    """Print what ``audit`` gives."""
    console.print(
        f"{document['annotated']:,} verdicts are annotated, {document['agree']:,} of them found right; "
        f"{document['labels']:,} were chosen by lot",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if document["why"]:
        console.print(document["why"], highlight=False, markup=False, soft_wrap=True)
    for row in document["rows"]:
        low, high = row.get("low"), row.get("high")
        between = "" if low is None or high is None else f"  ({low:.3f} to {high:.3f})"
        value = row.get("value")
        if value is not None:
            console.print(f"  {next(iter(row.values()))!s:<20} {value:.3f}{between}", highlight=False, markup=False)
