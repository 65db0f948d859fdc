"""What a simulation replays: counts, samples with their verdicts, or a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from cluster.records.reader import find_run, last_stage, open_stage
from cluster.storage.root import Root
from cluster.storage.tables import SUFFIXES, read_table
from operators.measure.counts import count_verdicts
from operators.policies.policy import Bools, Floats, Ints
from operators.select.classes import answer_key, classify, distinct_answers, in_n, one_verifier
from operators.verify.exact import VerifyExact
from schemas.errors import BadInput

PROBLEM = ("problem_key", "problem_id", "problem_index")
"""Columns that may name a problem."""


@dataclass(frozen=True)
class Recorded:
    """Recorded samples of some problems by one or several sampling configurations (arms).

    Attributes:
        problems: their names.
        arms: names of the configurations; one "" where there is one.
        n, c: samples and accepted ones, shape [problems, arms].
        samples: the samples themselves, where votes can be replayed (then there is one arm).
    """

    problems: list[str]
    arms: list[str]
    n: Ints
    c: Ints
    samples: Samples | None = None

    def arm(self, name: str) -> Recorded:
        """Return the record of one arm."""
        at = self.arms.index(name)
        return Recorded(self.problems, [name], self.n[:, [at]], self.c[:, [at]], self.samples)


@dataclass(frozen=True)
class Samples:
    """Samples one by one, problem by problem.

    Attributes:
        answers: what each voted for, numbered within its problem, -1 for nothing; shape [samples].
        correct: whether it was accepted, shape [samples].
        starts: where each problem's samples begin, shape [problems].
    """

    answers: Ints
    correct: Bools
    starts: Ints


def read_recorded(source: str, root: str, model: str | None) -> Recorded:
    """Read counts (problem, n, c), samples or verdicts from a table, or a run's verdicts.

    Args:
        source: a file, a folder, or a run's id.
        model: which of several models' rows to take; None takes all, as arms.

    Raises:
        BadInput: no such file or run, or a table that says neither.
    """
    if source.endswith((*SUFFIXES, ".gz")) or Path(source).exists() or "://" in source:
        table = read_table(source)
    else:
        table = _verdicts_of(Root.at(root), source)
    name = next((name for name in PROBLEM if name in table.columns), None)
    if name is None:
        raise BadInput(
            f"'{source}': no column names the problem; one of {', '.join(PROBLEM)} must, and there are "
            f"{', '.join(table.columns)}"
        )
    table = table.with_columns(pl.col(name).cast(pl.String).alias("problem"))
    if model is not None:
        table = _of_model(table, source, model)
    if {"n", "c"} <= set(table.columns):
        return _from_counts(table, source)
    if "sample_index" not in table.columns:
        raise BadInput(
            f"'{source}' has neither counts (n and c of each problem) nor samples (sample_index with is_correct, or "
            f"with completion and answer); it has {', '.join(table.columns)}"
        )
    return _from_samples(table, source)


def read_before(source: str, root: str, model: str | None, problems: list[str]) -> tuple[Ints, Ints]:
    """Return n and c of the same problems by each model of another record (0 where it has none), shape [problems,
    models, 2], and of its other problems, [others, 2]."""
    found = read_recorded(source, root, model)
    known = {name: row for row, name in enumerate(found.problems)}
    rows = np.array([known.get(name, -1) for name in problems])
    counts = np.stack([found.n, found.c], axis=2)
    before = np.where(rows[:, None, None] >= 0, counts[rows], 0)
    return before, np.delete(counts, rows[rows >= 0], axis=0).reshape(-1, 2)


def rates(recorded: Recorded) -> Floats:
    """Return the share of accepted samples, shape [problems]."""
    return recorded.c[:, 0] / np.maximum(recorded.n[:, 0], 1)


def _of_model(table: pl.DataFrame, source: str, model: str) -> pl.DataFrame:
    if "model" not in table.columns:
        raise BadInput(f"'{source}' has no column 'model', so '{model}' can't be chosen")
    chosen = table.filter(pl.col("model") == model)
    if chosen.is_empty():
        raise BadInput(f"'{source}' has no model '{model}'; it has {', '.join(table['model'].unique().sort())}")
    return chosen


def _from_counts(table: pl.DataFrame, source: str) -> Recorded:
    wrong = table.filter((pl.col("c") > pl.col("n")) | (pl.col("c") < 0) | pl.col("c").is_null())
    if len(wrong):
        row = wrong.row(0, named=True)
        raise BadInput(
            f"'{source}': problem '{row['problem']}' has c = {row['c']} of n = {row['n']}; c must be in [0, n]"
        )
    arm = pl.col("model") if "model" in table.columns else pl.lit("")
    table = table.with_columns(arm=arm.cast(pl.String))
    if table.select(pl.struct("problem", "arm").is_duplicated().any()).item():
        raise BadInput(f"'{source}': a problem occurs twice for one model; add up its n and c")
    arms = table["arm"].unique(maintain_order=True).to_list()
    problems = table["problem"].unique(maintain_order=True).to_list()
    n, c = (
        table.pivot(on="arm", index="problem", values=name, maintain_order=True).select(arms).fill_null(0).to_numpy()
        for name in ("n", "c")
    )
    return Recorded(problems, arms, n.astype(np.int64), c.astype(np.int64))


def _from_samples(table: pl.DataFrame, source: str) -> Recorded:
    if "is_correct" not in table.columns:
        if not {"completion", "answer"} <= set(table.columns):
            raise BadInput(f"'{source}' has samples without verdicts: it needs is_correct, or completion and answer")
        table = _judged(table)
    table = table.with_columns(
        problem_key="problem", status=pl.col("status") if "status" in table.columns else pl.lit("ok")
    )
    if "predicted_answer" not in table.columns and "answer_key" not in table.columns:
        counts = count_verdicts(table).filter(pl.col("n") > 0)
        return _from_counts(counts.rename({"problem_id": "problem"}), source)
    return _voted(table)


def _judged(table: pl.DataFrame) -> pl.DataFrame:
    """Compare what completions say with the answers as text, letters and digits only."""
    rows = table.with_columns(problem_key="problem", problem_id="problem", status=pl.lit("ok"))
    samples = rows.select("problem_key", "sample_index", "problem_id", "completion", "status")
    problems = rows.select("problem_key", "answer").unique("problem_key", keep="first", maintain_order=True)
    verifier = VerifyExact(ignore_punctuation=True, ignore_space=True)
    return verifier.run(samples, problems).with_columns(problem=pl.col("problem_key"))


def _voted(table: pl.DataFrame) -> Recorded:
    """Number answers by class; rows that say nothing about the model are left out."""
    rows = one_verifier(table).filter(in_n()).sort("problem_key", "sample_index")
    if "answer_key" not in rows.columns:
        rows = rows.with_columns(answer_key="predicted_answer")
    if "predicted_answer" not in rows.columns:
        rows = rows.with_columns(predicted_answer="answer_key")
    classes = classify(distinct_answers(rows)).select("problem_key", "answer_key", "answer_class")
    rows = rows.with_columns(answer_key(rows.columns))
    rows = rows.join(classes, on=["problem_key", "answer_key"], how="left", maintain_order="left")
    sizes = rows.group_by("problem_key", maintain_order=True).agg(
        pl.len().alias("n"), pl.col("is_correct").fill_null(False).sum().alias("c")
    )
    n = sizes["n"].to_numpy().astype(np.int64)
    samples = Samples(
        rows["answer_class"].fill_null(-1).to_numpy().astype(np.int64),
        rows["is_correct"].fill_null(False).to_numpy(),
        np.cumsum(n) - n,
    )
    c = sizes["c"].to_numpy().astype(np.int64)
    return Recorded(sizes["problem_key"].to_list(), [""], n[:, None], c[:, None], samples)


def _verdicts_of(root: Root, run: str) -> pl.DataFrame:
    manifest = find_run(root, run)
    stage = last_stage(manifest, "verdicts")
    if stage is None:
        raise BadInput(f"run {manifest.run_id} has no verdicts to replay")
    names = ["problem_key", "sample_index", "verifier", "predicted_answer", "answer_key", "is_correct", "status"]
    return open_stage(root, manifest, stage).select(names).collect()
