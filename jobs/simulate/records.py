"""What a simulation replays: counts, samples with their verdicts, or a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from cluster.records.reader import find_run, last_stage, open_stage
from cluster.spending.draw_costs import costs_of_episodes, prices_of_roles
from cluster.storage.root import Root
from cluster.storage.tables import SUFFIXES, read_table
from jobs.looking.holdout import held_share
from operators.draws import draws
from operators.load.held_out import part_of
from operators.measure.counts import count_verdicts
from operators.measure.features import features_of
from operators.policies.policy import Bools, Floats, Ints
from operators.select.classes import answer_key, classify, distinct_answers, in_n, one_verifier
from operators.strategies.words import POLICY
from operators.verify.exact import VerifyExact
from schemas.datasets import SAMPLE_KEY
from schemas.errors import BadInput
from schemas.manifest import RunManifest
from schemas.prices import MICRO, Prices, price_of

Unit = Literal["samples", "tokens", "dollars"]
"""What is spent."""
TOKENS = ("prompt_tokens", "cached_prompt_tokens", "completion_tokens")
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
        cost: what a sample costs on average, shape [problems, arms]; None where each costs 1.
        ids: the names by which people know problems, where ``problems`` are keys (of a run).
    """

    problems: list[str]
    arms: list[str]
    n: Ints
    c: Ints
    samples: Samples | None = None
    cost: Floats | None = None
    ids: Mapping[str, str] = field(default_factory=dict[str, str])

    def arm(self, name: str) -> Recorded:
        """Return the record of one arm."""
        at = self.arms.index(name)
        cost = None if self.cost is None else self.cost[:, [at]]
        return Recorded(self.problems, [name], self.n[:, [at]], self.c[:, [at]], self.samples, cost, self.ids)


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


def read_recorded(
    source: str,
    root: str,
    model: str | None,
    unit: Unit = "samples",
    prices: Mapping[str, Prices] | None = None,
    holdout: float = 0.0,
) -> Recorded:
    """Read counts (problem, n, c), samples or verdicts from a table, or a run's verdicts.

    Args:
        source: a file, a folder, or a run's id.
        model: which of several models' rows to take; None takes all, as arms.
        unit: what is spent. Of tokens a table says ``completion_tokens`` and ``prompt_tokens`` (of each sample; beside
            n and c, of all n together), of dollars ``dollars``, or tokens and ``prices`` says the rest.
        holdout: the share of problems that is left out, for it is held out; a run says itself what is.

    Raises:
        BadInput: no such file or run, or a table that says neither.
    """
    if source.endswith((*SUFFIXES, ".gz")) or Path(source).exists() or "://" in source:
        table = read_table(source).drop("spent", strict=False)
    else:
        manifest = find_run(Root.at(root), source)
        holdout = holdout or held_share(manifest.config)
        table = _verdicts_of(Root.at(root), manifest, unit, prices)
    name = next((name for name in PROBLEM if name in table.columns), None)
    if name is None:
        raise BadInput(
            f"'{source}': no column names the problem; one of {', '.join(PROBLEM)} must, and there are "
            f"{', '.join(table.columns)}"
        )
    table = table.with_columns(pl.col(name).cast(pl.String).alias("problem"))
    ids: dict[str, str] = {}
    if name == "problem_key" and "problem_id" in table.columns:
        ids = dict(table.select("problem", pl.col("problem_id").cast(pl.String)).unique("problem").iter_rows())
    if holdout:
        table = part_of(table, holdout, "tuning", "problem")
    if model is not None:
        table = _of_model(table, source, model)
    if unit != "samples" and "spent" not in table.columns:
        table = table.with_columns(spent=_spent(table, source, unit, prices))
    if {"n", "c"} <= set(table.columns):
        return replace(_from_counts(table, source), ids=ids)
    table = draws(table)
    if "sample_index" not in table.columns:
        raise BadInput(
            f"'{source}' has neither counts (n and c of each problem) nor samples (sample_index with is_correct, or "
            f"with completion and answer); it has {', '.join(table.columns)}"
        )
    return replace(_from_samples(table, source), ids=ids)


def read_before(
    source: str, root: str, model: str | None, problems: list[str], holdout: float = 0.0
) -> tuple[Ints, Ints]:
    """Return n and c of the same problems by each model of another record (0 where it has none), shape [problems,
    models, 2], and of its other problems, [others, 2]."""
    found = read_recorded(source, root, model, holdout=holdout)
    known = {name: row for row, name in enumerate(found.problems)}
    rows = np.array([known.get(name, -1) for name in problems])
    counts = np.stack([found.n, found.c], axis=2)
    before = np.where(rows[:, None, None] >= 0, counts[rows], 0)
    return before, np.delete(counts, rows[rows >= 0], axis=0).reshape(-1, 2)


def read_features(source: str, recorded: Recorded) -> Floats:
    """Return what a table says of recorded problems beforehand, as features: [problems, features].

    It may name a run's problems by their keys, or by the ids that people know.

    Raises:
        BadInput: the table doesn't name its problems, lacks some of these, or says nothing of them.
    """
    table = read_table(source)
    name = next((name for name in PROBLEM if name in table.columns), None)
    if name is None:
        raise BadInput(f"'{source}': no column names the problem; one of {', '.join(PROBLEM)} must")
    table = table.with_columns(pl.col(name).cast(pl.String)).unique(name, keep="first", maintain_order=True)
    ids = {} if name == "problem_key" else recorded.ids
    problems = [ids.get(problem, problem) for problem in recorded.problems]
    ours = pl.DataFrame({name: problems}).join(table, on=name, how="left", maintain_order="left")
    lacking = [problem for problem in problems if problem not in set(table[name])]
    if lacking:
        raise BadInput(f"'{source}' says nothing of {len(lacking)} problems, for example '{lacking[0]}'")
    return features_of(ours)


def rates(recorded: Recorded) -> Floats:
    """Return the share of accepted samples, shape [problems]."""
    return recorded.c[:, 0] / np.maximum(recorded.n[:, 0], 1)


def _spent(table: pl.DataFrame, source: str, unit: Unit, prices: Mapping[str, Prices] | None) -> pl.Expr:
    """Return what each row cost, in the unit."""
    if unit == "dollars" and "dollars" in table.columns and prices is None:
        return pl.col("dollars").cast(pl.Float64)
    if "completion_tokens" not in table.columns:
        more = ", or a column 'dollars'" if unit == "dollars" else ""
        raise BadInput(f"--unit {unit}: '{source}' has no column 'completion_tokens'{more}; it has {table.columns}")
    completion = pl.col("completion_tokens").cast(pl.Float64)
    prompt = pl.col("prompt_tokens").cast(pl.Float64) if "prompt_tokens" in table.columns else pl.lit(0.0)
    if unit == "tokens":
        return prompt + completion
    cached = pl.col("cached_prompt_tokens") if "cached_prompt_tokens" in table.columns else pl.lit(0.0)
    model = pl.col("model").cast(pl.String) if "model" in table.columns else pl.lit("")
    spent = pl.lit(None, pl.Float64)
    for name in table.select(model.unique())[:, 0]:
        found = price_of(name or "", prices or {})
        if found is None or found.rates is None:
            raise BadInput(
                f"--unit dollars: no price of tokens is known for model '{name or ''}' of '{source}'; give --prices a "
                "file with the model's name, or '*', and dollars_per_million_prompt_tokens and _completion_tokens"
            )
        fresh, again, made = found.rates
        paid = ((prompt - cached) * fresh + cached * again + completion * made) / MICRO
        spent = pl.when(model == name).then(paid).otherwise(spent)
    return spent


def _mean_cost(table: pl.DataFrame, by: list[str]) -> pl.Expr:
    """Return the mean cost of a sample of each group, that of all samples where a group has none that is known."""
    usual = float(table["spent"].mean() or 0.0)  # type: ignore[arg-type]
    return pl.col("spent").mean().over(by).fill_null(usual)


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

    def by_arm(name: str, absent: float) -> Floats:
        wide = table.pivot(on="arm", index="problem", values=name, maintain_order=True).select(arms)
        return wide.fill_null(absent).to_numpy().astype(np.float64)

    n, c = (by_arm(name, 0).astype(np.int64) for name in ("n", "c"))
    cost = None
    if "spent" in table.columns:
        usual = float(table["spent"].sum()) / max(1, int(n.sum()))
        table = table.with_columns(each=pl.when(pl.col("n") > 0).then(pl.col("spent") / pl.col("n")))
        cost = by_arm("each", usual)
    return Recorded(problems, arms, n, c, cost=cost)


def _from_samples(table: pl.DataFrame, source: str) -> Recorded:
    if "is_correct" not in table.columns:
        if not {"completion", "answer"} <= set(table.columns):
            raise BadInput(f"'{source}' has samples without verdicts: it needs is_correct, or completion and answer")
        table = _judged(table)
    table = table.with_columns(
        problem_key="problem", status=pl.col("status") if "status" in table.columns else pl.lit("ok")
    )
    if "predicted_answer" not in table.columns and "answer_key" not in table.columns:
        counts = count_verdicts(table).filter(pl.col("n") > 0).rename({"problem_id": "problem"})
        if "spent" in table.columns:
            each = table.select("problem", each=_mean_cost(table, ["problem"])).unique("problem")
            counts = counts.join(each, on="problem").with_columns(spent=pl.col("each") * pl.col("n"))
        return _from_counts(counts, source)
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
    said = [pl.col(name).cast(pl.String) for name in ("predicted_answer", "answer_key") if name in table.columns]
    rows = one_verifier(table.with_columns(said)).filter(in_n()).sort("problem_key", "sample_index")
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
    cost = None
    if "spent" in rows.columns:
        each = rows.select("problem_key", each=_mean_cost(rows, ["problem_key"])).unique("problem_key")
        cost = sizes.join(each, on="problem_key", maintain_order="left")["each"].to_numpy()[:, None]
    return Recorded(sizes["problem_key"].to_list(), [""], n[:, None], c[:, None], samples, cost)


def _verdicts_of(root: Root, manifest: RunManifest, unit: Unit, prices: Mapping[str, Prices] | None) -> pl.DataFrame:
    """Return a run's verdicts, with what each sample cost where something else than samples is spent."""
    stage = last_stage(manifest, "verdicts")
    if stage is None:
        raise BadInput(f"run {manifest.run_id} has no verdicts to replay")
    names = [
        "problem_key",
        "problem_id",
        "sample_index",
        "verifier",
        "predicted_answer",
        "answer_key",
        "is_correct",
        "status",
        "episode",
    ]
    verdicts = open_stage(root, manifest, stage).select(*names, "chosen").collect()
    drawn = last_stage(manifest, "samples")
    if unit == "samples" or drawn is None:
        return verdicts
    if verdicts["chosen"].null_count() < len(verdicts):
        spent = _spent_by_episodes(root, manifest, drawn, unit, prices)
        return draws(verdicts).join(spent, on=["problem_key", "episode"], how="left", maintain_order="left")
    samples = open_stage(root, manifest, drawn).select(*SAMPLE_KEY, *TOKENS).collect()
    own = manifest.prices.get(drawn)
    if unit == "dollars" and prices is None and own is not None:
        spent = _spent(samples, manifest.run_id, unit, {"*": Prices.model_validate(own)})
        samples = samples.select(*SAMPLE_KEY, spent.alias("dollars"))
    return verdicts.join(samples, on=SAMPLE_KEY, how="left", maintain_order="left")


def _spent_by_episodes(
    root: Root, manifest: RunManifest, stage: str, unit: Unit, prices: Mapping[str, Prices] | None
) -> pl.DataFrame:
    """Return what each episode took with all its calls: problem_key, episode, ``spent``.

    Raises:
        BadInput: the price of a role isn't known.
    """
    samples = open_stage(root, manifest, stage).select(*SAMPLE_KEY, "episode", "episode_facts").collect()
    told = samples.filter(pl.col("episode_facts").is_not_null())
    if unit == "tokens":
        costs = costs_of_episodes(told, None)
    else:
        roles = {role for one in told["episode_facts"] for role in json.loads(one)["roles"]}
        by_role = prices_of_roles(manifest, stage, roles - {POLICY}) if prices is None else {
            role: price_of(role, prices) or Prices() for role in roles
        }  # fmt: skip
        if unknown := sorted(role for role in roles if by_role[role].rates is None):
            raise BadInput(
                f"--unit dollars: run {manifest.run_id} was played by {', '.join(sorted(roles))}, and no price of "
                f"tokens is known for {', '.join(unknown)}; give --prices a file with the names of these, or '*'"
            )
        costs = costs_of_episodes(told, by_role)
    return told.join(costs, on=SAMPLE_KEY).select("problem_key", "episode", spent="cost")
