"""Stress curves (REST): what becomes of accuracy when one prompt asks several problems at once?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from operators.draws import draws
from operators.measure.counts import DRAWN
from operators.measure.intervals import ENDS
from operators.piecewise import PiecewiseOperator
from operators.verify.rest import headings
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Sample, Verdict
from schemas.errors import BadInput
from schemas.later import Floats, np, pl
from schemas.measures import StressCurve

PART = r"/(\d+)$"
"""In the verifier of a part's verdict: ``verify.rest/2``."""


class MeasureStress(PiecewiseOperator):
    """Accuracy by level (how many problems a prompt asks), by position, and by both (Pan et al. 2025, "REST: Stress
    Testing Large Reasoning Models by Asking Multiple Problems at Once").

    The level of a prompt is the number of its parts (``synthesize.rest`` makes such prompts, ``verify.rest`` judges
    them); a problem that was verified as it is has level 1. ``missing`` is the share of parts without an answer,
    ``tokens`` the mean length of a completion and, at a position, of what it says from that part's heading to the next
    (by the share of characters; of completions that have all headings), ``stress_score`` the mean accuracy over levels
    above 1. ``spread`` is the standard deviation of accuracy over models, where samples are of several (``worker``):
    how well a level tells them apart.

    95% intervals draw problems, wherever they stand, with replacement (the Bayesian bootstrap: Rubin 1981), so they are
    about problems like these. Of the levels and positions each has the same problems where prompts go round.
    """

    version: ClassVar[int] = 2
    inputs = {
        "verdicts": Verdict.select(
            *SAMPLE_KEY, "verifier", "problem_id", "predicted_answer", "is_correct", "status", "chosen"
        ),
        "samples": Sample.select(*SAMPLE_KEY, "completion", "completion_tokens", "status", "worker"),
    }
    optional = frozenset({"samples"})
    output = StressCurve

    bootstrap: int = Field(default=1000, ge=100)
    """How many times problems are drawn anew for the intervals."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""

    def partial(self, verdicts: pl.DataFrame | None = None, samples: pl.DataFrame | None = None) -> pl.DataFrame:
        """Return, for each base problem, level and position, how many parts were right, missing, and all.

        The same for each base problem, level and model, where ``worker`` isn't null. In rows whose ``problem_id`` is
        null the sum of tokens of each level and position (0: whole completions), and how many there are.
        """
        assert verdicts is not None
        place = pl.col("verifier").str.extract(PART).cast(pl.Int64)
        rows = draws(verdicts).filter(pl.col("status").is_in(DRAWN), pl.col("is_correct").is_not_null())
        rows = rows.with_columns(position=place)
        level = pl.col("position").max().over("problem_key").fill_null(1)
        rows = rows.with_columns(level=level).filter(pl.col("position").is_not_null() | (pl.col("level") == 1))
        rows = rows.filter(pl.col("position").is_not_null() | pl.col("position").max().over("problem_key").is_null())
        silent = pl.col("predicted_answer").is_null() | (pl.col("status") == "unparseable")
        counts = {
            "right": pl.col("is_correct").sum().cast(pl.Float64),
            "missing": silent.sum().cast(pl.Float64),
            "n": pl.len().cast(pl.Int64),
        }
        nobody = pl.lit(None, pl.String).alias("worker")
        found = rows.group_by("problem_id", "level", pl.col("position").fill_null(1)).agg(**counts).with_columns(nobody)
        if samples is None:
            return found
        levels = rows.group_by("problem_key").agg(pl.col("level").first())
        drawn = samples.filter(pl.col("status") == "ok").join(levels, on="problem_key")
        whole = drawn.select("level", pl.lit(0, pl.Int64).alias("position"), tokens=pl.col("completion_tokens"))
        tokens = pl.concat([whole.cast(pl.Int64), _by_position(drawn)]).group_by("level", "position")
        took = tokens.agg(right=pl.col("tokens").sum().cast(pl.Float64), n=pl.len().cast(pl.Int64))
        models = rows.join(samples.select(*SAMPLE_KEY, "worker").drop_nulls("worker"), on=SAMPLE_KEY)
        by_model = models.group_by("problem_id", "level", "worker").agg(**counts)
        return pl.concat([found, took, by_model], how="diagonal").select(found.columns)

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per metric, level and position.

        Raises:
            BadInput: nothing was judged.
        """
        of_all = pl.col("problem_id").is_not_null() & pl.col("worker").is_null()
        parts = partials.filter(of_all).group_by("problem_id", "level", "position")
        table = parts.agg(pl.sum("right", "missing", "n")).sort("problem_id", "level", "position")
        if table.is_empty():
            raise BadInput("measure.stress: no part was judged, so there is nothing to measure")
        models = partials.filter(pl.col("worker").is_not_null()).group_by("worker", "problem_id", "level")
        rows = [
            *self._curves(table),
            *self._spread(models.agg(pl.sum("right", "n")).sort("worker", "problem_id", "level")),
        ]
        tokens = partials.filter(pl.col("problem_id").is_null()).group_by("level", "position").agg(pl.sum("right", "n"))
        for level, position, total, n in tokens.sort("level", "position").iter_rows():
            rows.append(("tokens", level, position, total / n, None, None, n))
        return pl.DataFrame(rows, schema=polars_schema(StressCurve), orient="row")

    def _curves(self, table: pl.DataFrame) -> Iterator[tuple[object, ...]]:
        problem = table["problem_id"].rank("dense").to_numpy().astype(np.int64) - 1
        problems = int(problem.max()) + 1
        weights = np.random.default_rng(self.seed).standard_exponential((self.bootstrap, problems))
        level, position = table["level"].to_numpy(), table["position"].to_numpy()
        n = table["n"].to_numpy().astype(np.float64)
        right, missing = table["right"].to_numpy(), table["missing"].to_numpy()
        levels: list[int] = np.unique(level).tolist()
        scores: list[tuple[float, Floats]] = []
        for number in levels:
            for place in [0, *range(1, number + 1)]:
                some = (level == number) & ((position == place) | (place == 0))
                if not some.any():
                    continue
                for metric, hits in (("accuracy", right), ("missing", missing)):
                    value = float(hits[some].sum() / n[some].sum())
                    drawn = _shares(hits[some], n[some], weights[:, problem[some]])
                    yield (metric, number, place, value, *_ends(value, drawn), int(n[some].sum()))
                    if metric == "accuracy" and place == 0 and number > 1:
                        scores.append((value, drawn))
        if scores:
            value = float(np.mean([one for one, _ in scores]))
            drawn = np.mean([some for _, some in scores], axis=0)
            yield ("stress_score", 0, 0, value, *_ends(value, drawn), int(n[level > 1].sum()))

    def _spread(self, table: pl.DataFrame) -> Iterator[tuple[object, ...]]:
        """Yield, for each level that several models were asked at, how far they are apart."""
        problem = table["problem_id"].rank("dense").to_numpy().astype(np.int64) - 1
        weights = np.random.default_rng(self.seed).standard_exponential((self.bootstrap, problem.max(initial=-1) + 1))
        rows = table.with_columns(problem=pl.Series(problem, dtype=pl.Int64))
        for (level,), some in rows.group_by("level", maintain_order=True):
            models = [
                (one["right"].to_numpy(), one["n"].to_numpy().astype(np.float64), weights[:, one["problem"].to_numpy()])
                for one in some.partition_by("worker", maintain_order=True)
            ]
            if len(models) > 1:
                value = float(np.std([right.sum() / n.sum() for right, n, _ in models], ddof=1))
                drawn = np.std([_shares(*model) for model in models], axis=0, ddof=1)
                yield ("spread", level, 0, value, *_ends(value, drawn), int(some["n"].sum()))


def _by_position(drawn: pl.DataFrame) -> pl.DataFrame:
    """Return level, position and tokens of each part of the completions that have all of their parts' headings."""
    rows: list[tuple[int, int, int]] = []
    asked = drawn.filter(pl.col("level") > 1).select("completion", "completion_tokens", "level")
    for text, tokens, level in asked.iter_rows():
        places = headings(text)
        if len(places) >= level:
            starts = [*(places[number][0] for number in range(1, level + 1)), len(text)]
            shares = np.diff(starts) / len(text)
            rows += [(level, place, round(tokens * share)) for place, share in enumerate(shares.tolist(), 1)]
    return pl.DataFrame(rows, schema=dict.fromkeys(("level", "position", "tokens"), pl.Int64), orient="row")


def _shares(hits: Floats, n: Floats, weights: Floats) -> Floats:
    return (weights @ hits) / (weights @ n)


def _ends(value: float, drawn: Floats) -> tuple[float, float]:
    low, high = np.quantile(drawn, ENDS)
    return min(float(low), value), max(float(high), value)
