"""What people want to know once a run has ended: what it brought and cost, what is missing and why, what comes next."""

from __future__ import annotations

import os
import shlex
from typing import Any

from pydantic import ValidationError

from cluster.records.reader import open_stage
from cluster.storage.documents import read_snapshot
from cluster.storage.root import Root
from jobs.config.options import DEFAULT_ROOT
from jobs.report.format import wilson
from jobs.running.figures import costs_of, dollars_of
from operators import operator_class
from operators.select.classes import one_verifier
from operators.synthesize.choose import SynthesizeChoose
from operators.synthesize.sft import SynthesizeSft
from schemas.errors import BadInput, DamagedFile, DamagedLog, StageFailed
from schemas.later import pl
from schemas.manifest import RunManifest, StageRecord

MOST = 20_000
"""Samples of which it is found out why they are no training data; of more, ``op synthesize.choose`` says it."""
CHOSEN_OF = ("samples", "verdicts")


def closing(root: Root, manifest: RunManifest) -> list[str]:
    """Return what is said below a run's tables, a line each."""
    lines = [cost_line(manifest)]
    for tell in (_right, _missing, _best):
        try:
            lines += tell(root, manifest)
        except (DamagedFile, DamagedLog, StageFailed, pl.exceptions.PolarsError, OSError):
            # what is damaged is told of where the datasets are listed
            continue
    commands = next_commands(root, manifest)
    return [*lines, "next:", *(f"  {command}" for command in commands)] if commands else lines


def cost_line(manifest: RunManifest) -> str:
    """Return what the run itself took, all its engines together."""
    asked = [record for record in manifest.stages if record.prompt_tokens or record.completion_tokens]
    if not asked:
        return "cost: nothing (no tokens were used by this run)"
    read, written = (sum(getattr(record, name) for record in asked) for name in ("prompt_tokens", "completion_tokens"))
    dollars = dollars_of([*costs_of(manifest)])
    priced = "no price known (run.prices)" if dollars is None else f"${dollars:,.4g} for sampling"
    return f"cost: {read + written:,} tokens ({read:,} read, {written:,} written), {priced}"


def _right(root: Root, manifest: RunManifest) -> list[str]:
    """Return how many samples are right: of all, and of those that this run judged."""
    lines: list[str] = []
    for record in manifest.stages:
        judged = record.reused + record.computed
        if record.dataset != "verdicts" or not judged:
            continue
        found = one_verifier(open_stage(root, manifest, record.name)).select("is_correct")
        right = int(found.collect()["is_correct"].fill_null(False).sum())
        new = ""
        if record.reused and record.computed:
            new = f"; of the {record.computed:,} new ones {record.accepted:,} ({record.accepted / record.computed:.1%})"
        lines.append(f"{record.name}: {right:,} of {judged:,} samples are right ({right / judged:.1%}){new}")
    return lines


def _missing(root: Root, manifest: RunManifest) -> list[str]:
    """Return for each stage of training data how many right samples are no rows of it, and why."""
    lines: list[str] = []
    for record in manifest.stages:
        if record.dataset != "sft" or not record.complete:
            continue
        paths = _paths(root, manifest, record)
        snapshot = read_snapshot(root, record.path)
        if paths is None or snapshot is None:
            continue
        right = paths.filter(~pl.col("reason").is_in(["failed", "no answer", "not judged", "wrong"]).fill_null(False))
        counts = right["reason"].drop_nulls().value_counts(sort=True)
        why = ", ".join(f"{count:,} {reason}" for reason, count in counts.iter_rows())
        left = f": {why}" if why else ""
        lines.append(f"{record.name}: {len(right):,} right samples, {snapshot.rows:,} training rows{left}")
        kept = right.filter("kept")["problem_key"].n_unique()
        if kept < manifest.n_problems:
            none = manifest.n_problems - kept
            lines.append(f"{record.name}: {none:,} of {manifest.n_problems:,} problems have no row")
    return lines


def _paths(root: Root, manifest: RunManifest, record: StageRecord) -> pl.DataFrame | None:
    """Return which samples a stage of training data kept, and why not the others; None where it can't be told."""
    if "paths" in record.inputs:
        return open_stage(root, manifest, record.inputs["paths"]).collect()
    settings: dict[str, Any] = {**manifest.config.get(record.name, {})}
    name = settings.pop("operator", "")
    if name != "synthesize.sft" or not {*CHOSEN_OF} <= {*record.inputs}:
        return None
    stages = {other.name: other for other in manifest.stages}
    of = stages[record.inputs["samples"]]
    if of.reused + of.computed > MOST:
        return None
    try:
        operator = operator_class(name).model_validate(settings)
    except (ValidationError, BadInput):  # they are those of another version
        return None
    assert isinstance(operator, SynthesizeSft)
    tables = {
        given: open_stage(root, manifest, record.inputs[given]).select(SynthesizeChoose.inputs[given].names).collect()
        for given in CHOSEN_OF
    }
    return operator.chooser().run(**tables)


def _best(root: Root, manifest: RunManifest) -> list[str]:
    """Return which selection was right most often on this run's problems, where there are several."""
    lines: list[str] = []
    for record in manifest.stages:
        if record.dataset != "answers" or not record.complete:
            continue
        judged = open_stage(root, manifest, record.name).filter(pl.col("is_correct").is_not_null())
        counts = judged.group_by("method").agg(right=pl.col("is_correct").sum(), n=pl.len()).collect()
        counts = counts.with_columns(share=pl.col("right") / pl.col("n")).sort(
            "share", "method", descending=[True, False]
        )
        if len(counts) < 2:
            continue
        best, *others = counts.iter_rows(named=True)
        if not best["right"]:
            lines.append(f"{record.name}: none of {len(counts)} methods is right on any of {best['n']:,} problems")
            continue
        low, high = wilson(best["right"], best["n"])
        close = [other["method"] for other in others if wilson(other["right"], other["n"])[1] >= low]
        many = f"{len(close)} other method{'s' if len(close) > 1 else ''}"
        so = f"; {many} can't be told from it at 95%" if close else ""
        lines.append(
            f"{record.name}: of {len(counts)} methods '{best['method']}' is right most often, on {best['right']:,} of "
            f"{best['n']:,} problems ({best['share']:.1%} [{low:.1%}, {high:.1%}]{so})"
        )
    return lines


def next_commands(root: Root, manifest: RunManifest) -> list[str]:
    """Return up to three commands that make sense now."""
    default = os.environ.get("GRISTMILL_ROOT") or DEFAULT_ROOT
    where = (
        ""
        if root.url in (default.rstrip("/"), os.path.abspath(os.path.expanduser(default)))
        else f" --root {shlex.quote(root.url)}"
    )
    if manifest.state != "done":
        return [f"gristmill status {manifest.run_id}{where}", f"gristmill logs {manifest.run_id}{where}"]
    judged = [one for one in manifest.stages if one.dataset == "verdicts"]
    wrong = " --only wrong" if judged else ""
    commands = [f"gristmill samples {manifest.run_id}{wrong} --limit 5{where}"]
    rows = [
        snapshot.rows
        for record in manifest.stages
        if record.dataset == "sft" and record.complete and (snapshot := read_snapshot(root, record.path)) is not None
    ]
    if any(rows):
        commands.append(f"gristmill export {manifest.run_id} --format messages --to sft{where}")
    elif judged:
        commands.append(f"gristmill cost {manifest.run_id}{where}")
    return [*commands, f"gristmill view {manifest.run_id}{where}"]
