"""Which samples should a person label next, so that an audit's interval shrinks most?"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from operators.base import Operator
from operators.draws import draws
from operators.select.classes import one_verifier
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Problem, Sample, Score, Verdict
from schemas.errors import BadInput
from schemas.later import Bools, Floats, Ints, np, pl
from schemas.measures import Label

Goal = Literal["accuracy", "completeness", "soundness", "precision", "errors"]

BINS = 3
"""Strata of the accepted samples and of the rejected ones, by what is cheap to know."""
LEAST = 6
"""Labels that every stratum gets first."""
USUAL = (0.8, 0.2)
"""Chance that an accepted sample is right, and a rejected one, before there are labels; worth ``WORTH`` labels."""
WORTH = 2.0


class MeasureNextLabels(Operator):
    """Choose ``next`` samples to label: what ``--next`` of ``measure.verifier_audit`` and ``measure.estimate`` does.

    Samples are in strata: what the verifier says of them, and thirds of a cheap score (a scorer's, where there are
    ``scores``; else how frequent the answer is in its problem). A label is worth most where the verifier may be wrong
    and where that matters: of stratum h are labelled in proportion to N_h S_h (Neyman 1934), S_h being the deviation of
    its labels' influence on the goal. With p_h the share of right samples there, by the labels so far,

        S_h = sqrt(p_h (1 - p_h)) |influence|,   the influence of being right, not wrong:
        accuracy 1; precision 1/P(accepted) if accepted; completeness (accepted - c) / P(right);
        soundness (rejected - s) / P(wrong); ``errors``: of both of these, as the sum of their squares.

    Within a stratum a lot decides, so labels are weighted by what they stand for and no estimate is biased. The first
    round, without labels, goes by usual figures of verifiers. Give all rounds' labels back together:

        gristmill op measure.verifier_audit --next 50 --in verdicts=weak.parquet --in samples=s.parquet --out r1.jsonl
        gristmill op measure.verifier_audit --in verdicts=weak.parquet --in labels=r1.jsonl --out audit.csv
        gristmill op measure.verifier_audit --next 50 --in verdicts=weak.parquet --in labels=r1.jsonl --out r2.jsonl
    """

    version: ClassVar[int] = 1
    scope = "dataset"
    inputs = {
        "verdicts": Verdict.select(*SAMPLE_KEY, "verifier", "predicted_answer", "answer_key", "is_correct", "chosen"),
        "labels": Label.select(),
        "scores": Score.select(*SAMPLE_KEY, "scorer", "score"),
        "samples": Sample.select(*SAMPLE_KEY, "problem_id", "completion"),
        "problems": Problem.select("problem_key", "problem_id", "prompt", "answer"),
    }
    optional = frozenset({"labels", "scores", "samples", "problems"})
    output = Label

    next: Annotated[int, Field(ge=1)] = 50
    """How many."""
    goal: Goal = "errors"
    """Which figure's interval is to shrink most."""
    seed: int = 0
    """Of the lot by which samples are chosen within a stratum."""

    def run(
        self,
        verdicts: pl.LazyFrame,
        labels: pl.LazyFrame | None = None,
        scores: pl.LazyFrame | None = None,
        samples: pl.LazyFrame | None = None,
        problems: pl.LazyFrame | None = None,
    ) -> pl.DataFrame:
        """Return the samples to label, with what there is to look at.

        Raises:
            BadInput: there is no verdict, or nothing that isn't labelled.
        """
        judged = draws(one_verifier(verdicts)).filter(pl.col("is_correct").is_not_null())
        table = _strata(judged, scores).sort(SAMPLE_KEY).collect(engine="streaming")
        known = pl.DataFrame(schema={**{name: table.schema[name] for name in SAMPLE_KEY}, "right": pl.Boolean})
        if labels is not None:
            given = labels.filter(pl.col("is_correct").is_not_null()).unique(SAMPLE_KEY, keep="last")
            known = given.select(*SAMPLE_KEY, right="is_correct").collect()
        table = table.join(known, on=SAMPLE_KEY, how="left", maintain_order="left")
        free = int(table["right"].null_count())
        if not free:
            raise BadInput(f"measure.next_labels: all {len(table):,} samples with a verdict are labelled")
        chosen = self._choose(table, min(self.next, free))
        return _shown(chosen, samples, problems)

    def _choose(self, table: pl.DataFrame, count: int) -> pl.DataFrame:
        """Return ``count`` rows without a label."""
        groups = table.group_by("stratum").agg(
            pl.len().alias("size"),
            pl.col("accepted").first(),
            pl.col("right").count().alias("n"),
            pl.col("right").sum().alias("c"),
        )
        groups = groups.sort("stratum")
        size, n, c = (groups[name].to_numpy().astype(np.float64) for name in ("size", "n", "c"))
        spread = deviations(size, n, c, groups["accepted"].to_numpy(), self.goal)
        take = dict(zip(groups["stratum"].to_list(), allocate(size, n, spread, count).tolist(), strict=True))
        lot = np.random.default_rng(self.seed).permutation(len(table))
        free = table.with_columns(lot=pl.Series(lot)).filter(pl.col("right").is_null()).sort("lot")
        place = pl.int_range(pl.len()).over("stratum")
        return free.filter(place < pl.col("stratum").replace_strict(take, return_dtype=pl.Int64)).drop("lot", "right")


def deviations(size: Floats, n: Floats, c: Floats, accepted: Bools, goal: Goal) -> Floats:
    """Return S_h of each stratum, shape [strata], given its size, labels and right ones among these."""
    usual = np.where(accepted, *USUAL)
    p = (c + WORTH * usual) / (n + WORTH)
    share = size / size.sum()
    right, yes = float(share @ p), float(share @ accepted)
    complete = float((share * p) @ accepted) / right
    sound = float((share * (1.0 - p)) @ ~accepted) / (1.0 - right)
    slopes = {
        "accuracy": np.ones(len(size)),
        "precision": accepted / max(yes, 1e-9),
        "completeness": (accepted - complete) / right,
        "soundness": (~accepted - sound) / (1.0 - right),
    }
    slope = np.hypot(slopes["completeness"], slopes["soundness"]) if goal == "errors" else slopes[goal]
    return np.sqrt(p * (1.0 - p)) * np.abs(slope)


def allocate(size: Floats, n: Floats, spread: Floats, count: int) -> Ints:
    """Return how many more labels each stratum gets, shape [strata]: together ``count``.

    One by one, to whom one more takes most off the variance  sum_h (N_h S_h)^2 / n_h;  which is Neyman's rule where no
    stratum has too many already. Strata with fewer than ``LEAST`` labels come first.
    """
    given = n.copy()
    weight = (size * np.maximum(spread, 1e-9)) ** 2
    for _ in range(count):
        gain = np.where(given < size, weight / (np.maximum(given, 0.5) * (given + 1.0)), -1.0)
        gain = np.where((given < np.minimum(LEAST, size)) & (gain > 0), gain + 1e12 * (LEAST - given), gain)
        given[int(gain.argmax())] += 1.0
    return (given - n).astype(np.int64)


def _strata(judged: pl.LazyFrame, scores: pl.LazyFrame | None) -> pl.LazyFrame:
    """Return the verdicts with the stratum of each and its size."""
    key = pl.coalesce("answer_key", "predicted_answer")
    same = pl.when(key.is_not_null()).then(pl.len().over("problem_key", key)).otherwise(0)
    rows = judged.with_columns(accepted="is_correct", cheap=same / pl.len().over("problem_key"))
    if scores is not None:
        one = scores.filter(pl.col("scorer") == pl.col("scorer").min()).select(*SAMPLE_KEY, "score")
        rows = rows.join(one, on=SAMPLE_KEY, how="left").with_columns(cheap=pl.col("score").fill_null(-np.inf))
    rank = (pl.col("cheap").rank("min").over("accepted") - 1) / pl.len().over("accepted")
    name = pl.when("accepted").then(pl.lit("accepted")).otherwise(pl.lit("rejected"))
    third = (rank * BINS).floor().cast(pl.Int64) + 1
    rows = rows.with_columns(stratum=pl.format("{} {}/{}", name, third, pl.lit(BINS)))
    columns = (*SAMPLE_KEY, "predicted_answer", "accepted", "stratum")
    return rows.with_columns(stratum_size=pl.len().over("stratum").cast(pl.Int64)).select(*columns, "stratum_size")


def _shown(chosen: pl.DataFrame, samples: pl.LazyFrame | None, problems: pl.LazyFrame | None) -> pl.DataFrame:
    """Return the samples with their problems' texts and their own, as far as they are known."""
    schema = polars_schema(Label)
    found = chosen.with_columns(is_correct=pl.lit(None, pl.Boolean))
    texts = None if samples is None else samples.select(*SAMPLE_KEY, "problem_id", "completion")
    if texts is not None:
        found = found.join(texts.collect(), on=SAMPLE_KEY, how="left")
    if problems is not None:
        about = problems.select("problem_key", "prompt", "answer", other="problem_id").collect()
        found = found.join(about, on="problem_key", how="left")
        found = found.with_columns(problem_id=pl.coalesce(*(n for n in ("problem_id", "other") if n in found.columns)))
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in found.columns]
    return found.with_columns(absent).select(list(schema)).sort(SAMPLE_KEY)
