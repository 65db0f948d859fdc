"""Whether a scorer can tell the steps of right texts from those of wrong ones: what a search stands on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from operators.base import Operator
from operators.draws import draws
from operators.measure.intervals import ENDS
from operators.select.classes import one_verifier
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Score, Verdict
from schemas.episodes import ScorerSteps
from schemas.errors import BadInput
from schemas.later import Bools, Floats, Ints, np, pl

POINTLESS = 0.55
"""Up to this AUC a search goes by chance."""
DEPTHS = ("first", "middle", "last")


class MeasureScorerSteps(Operator):
    """The AUC of a scorer's values of prefixes against the final verdict, by how deep in their texts they end.

    Scores with ``step_scores`` come from ``score.process`` (a process reward model) or ``score.steps`` (any other
    scorer). Both what the last step's score says and what the least of all steps' says are measured. A search compares
    prefixes of one problem, so see ``within``. Intervals resample problems.
    """

    version: ClassVar[int] = 1
    scope = "dataset"
    inputs = {
        "scores": Score.select(*SAMPLE_KEY, "scorer", "step_scores", "status"),
        "verdicts": Verdict.select(*SAMPLE_KEY, "verifier", "is_correct", "chosen"),
    }
    output = ScorerSteps

    bootstrap: int = Field(default=400, ge=50)
    """How many times problems are drawn anew for the intervals."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""

    def run(self, scores: pl.LazyFrame, verdicts: pl.LazyFrame) -> pl.DataFrame:
        """Return one row per scorer, reduction and depth.

        Raises:
            BadInput: nothing was both scored step by step and judged.
        """
        known = draws(one_verifier(verdicts)).filter(pl.col("is_correct").is_not_null())
        scored = scores.filter(pl.col("status") == "ok", pl.col("step_scores").list.len() > 0)
        rows = scored.join(known.select(*SAMPLE_KEY, "is_correct"), on=SAMPLE_KEY).collect(engine="streaming")
        if rows.is_empty():
            raise BadInput(
                "measure.scorer_steps: no sample has both step scores and a verdict; connect score.process or "
                "score.steps, and a verifier of problems with known answers"
            )
        rows = rows.sort("scorer", *SAMPLE_KEY)
        found: list[dict[str, Any]] = []
        for (scorer,), own in rows.group_by("scorer", maintain_order=True):
            prefixes = _prefixes(own)
            for reduce in ("last", "min"):
                for depth in (*DEPTHS, "all"):
                    some = prefixes if depth == "all" else prefixes.filter(pl.col("depth") == depth)
                    found.append({"scorer": scorer, "reduce": reduce, "depth": depth, **self._row(some, reduce)})
        return pl.DataFrame(found, schema=polars_schema(ScorerSteps), orient="row")

    def _row(self, prefixes: pl.DataFrame, reduce: str) -> dict[str, Any]:
        own = prefixes.drop_nulls(reduce)
        values, right = own[reduce].to_numpy(), own["is_correct"].to_numpy()
        problem = own["problem_key"].rank("dense").to_numpy().astype(np.int64) - 1
        problems = int(problem.max()) + 1 if len(own) else 0
        found = auc(values, right)
        row: dict[str, Any] = {"auc": found, "low": None, "high": None, "within": None, "n": len(own)}
        row |= {"n_problems": problems, "note": ""}
        if found is None:
            return {**row, "note": "all of them are right, or all are wrong"}
        rng = np.random.default_rng(self.seed)
        draws = [rng.multinomial(problems, [1.0 / problems] * problems)[problem] for _ in range(self.bootstrap)]
        spread = [value for weights in draws if (value := auc(values, right, weights)) is not None]
        low, high = np.quantile(spread, ENDS) if spread else (found, found)
        row |= {"low": min(float(low), found), "high": max(float(high), found)}
        row["within"] = _within(values, right, [np.flatnonzero(problem == one) for one in range(problems)])
        if found <= POINTLESS:
            row["note"] = f"warning: at an AUC of {POINTLESS} or less a search by this scorer goes by chance"
        return row


def _prefixes(rows: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each prefix: problem_key, is_correct, depth, and what each reduction says of it."""
    steps = pl.col("step_scores").list
    numbered = rows.with_row_index("row").with_columns(place=pl.int_ranges(1, steps.len() + 1), of=steps.len())
    each = numbered.explode("step_scores", "place")
    third = (3 * (pl.col("place") - 1) // pl.col("of")).clip(0, 2).cast(pl.Int64)
    return each.select(
        "problem_key",
        "is_correct",
        depth=third.replace_strict(dict(enumerate(DEPTHS)), return_dtype=pl.String),
        last=pl.col("step_scores").cast(pl.Float64),
        min=pl.col("step_scores").cum_min().over("row").cast(pl.Float64),
    )


def auc(values: Floats, right: Bools, weights: Ints | None = None) -> float | None:
    """Return the share of pairs of a right and a wrong one in which the right one has the larger value, ties half.

    Args:
        weights: how often each counts; once where none are given.
    """
    each = np.ones(len(values)) if weights is None else weights.astype(np.float64)
    levels, place = np.unique(values, return_inverse=True)
    good = np.bincount(place, each * right, len(levels))
    bad = np.bincount(place, each * ~right, len(levels))
    pairs = good.sum() * bad.sum()
    if pairs == 0:
        return None
    below = np.cumsum(bad) - bad
    return float((good * (below + 0.5 * bad)).sum() / pairs)


def _within(values: Floats, right: Bools, groups: Sequence[Ints]) -> float | None:
    """Return the AUC among pairs of one group, all such pairs together."""
    won, pairs = 0.0, 0
    for group in groups:
        count = int(right[group].sum()) * int((~right[group]).sum())
        if count:
            won, pairs = won + count * (auc(values[group], right[group]) or 0.0), pairs + count
    return won / pairs if pairs else None
