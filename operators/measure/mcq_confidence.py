"""Confidence with and without reasoning: does a model that reasons first become surer, and rightly so?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from operators.draws import draws
from operators.measure.counts import DRAWN
from operators.measure.intervals import ENDS
from operators.piecewise import PiecewiseOperator
from operators.select.classes import one_verifier
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Problem, Score, Verdict
from schemas.errors import BadInput
from schemas.later import Floats, np, pl
from schemas.measures import McqConfidence

VERDICTS = Verdict.select(*SAMPLE_KEY, "verifier", "is_correct", "status", "chosen")
SCORES = Score.select(*SAMPLE_KEY, "scorer", "score")
ARMS = ("direct", "reasoned")
BINS = 10


class MeasureMcqConfidence(PiecewiseOperator):
    """Compare the confidences of answers to multiple choice that were given at once (``direct``) and after reasoning.

    Confidence is the probability of the chosen letter at its place (``score.letters``). Models are surer after they
    have reasoned, of wrong answers too, so confidences of the two kinds aren't comparable with one another.

    For each arm: ``accuracy``, mean ``confidence`` (of all, right and wrong answers), ``brier``, the mean of
    (confidence - right)^2, and ``ece`` over ten bins of equal width (Guo et al. 2017; too large by chance, so without
    interval). ``difference`` is reasoned less direct on the questions that both have. 95% intervals draw questions,
    with all their samples, with replacement.
    """

    version: ClassVar[int] = 1
    inputs = {
        "direct": VERDICTS,
        "direct_scores": SCORES,
        "reasoned": VERDICTS,
        "reasoned_scores": SCORES,
        "problems": Problem.select("problem_key", "metadata"),
    }
    optional = frozenset({"problems"})
    output = McqConfidence

    by: str = ""
    """A field of the problems' metadata: also a row for each subject."""
    bootstrap: int = Field(default=1000, ge=100)
    """How many times questions are drawn anew for the intervals."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""

    def partial(self, **tables: pl.DataFrame | None) -> pl.DataFrame:
        """Return a row per sample of either arm: problem_key, arm, right, confidence, subject."""
        found: list[pl.DataFrame] = []
        for arm in ARMS:
            verdicts, scores = tables.get(arm), tables.get(f"{arm}_scores")
            assert verdicts is not None and scores is not None
            known = draws(one_verifier(verdicts)).filter(
                pl.col("status").is_in(DRAWN), pl.col("is_correct").is_not_null()
            )
            sure = scores.filter(pl.col("scorer") == pl.col("scorer").min(), pl.col("score").is_finite())
            rows = known.join(sure.select(*SAMPLE_KEY, "score"), on=SAMPLE_KEY)
            right = pl.col("is_correct").cast(pl.Float64)
            found.append(rows.select(*SAMPLE_KEY, arm=pl.lit(arm), right=right, confidence="score"))
        table = pl.concat(found)
        problems = tables.get("problems")
        if problems is None or not self.by:
            return table.with_columns(subject=pl.lit(None, pl.String))
        said = [json.loads(text or "{}").get(self.by) for text in problems["metadata"]]
        names = pl.Series([None if one is None else str(one) for one in said], dtype=pl.String)
        return table.join(problems.select("problem_key", subject=names), on="problem_key", how="left")

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per subject, metric and arm.

        Raises:
            BadInput: no question has a scored answer in both arms.
        """
        both = partials.filter(pl.col("arm").n_unique().over("problem_key") == len(ARMS))
        if both.is_empty():
            raise BadInput("measure.mcq_confidence: no question has a judged and scored answer in both arms")
        table = both.sort("problem_key", "arm", "sample_index")
        rows = [*self._of("", table)]
        for subject in table["subject"].drop_nulls().unique().sort():
            rows += self._of(subject, table.filter(pl.col("subject") == subject))
        return pl.DataFrame(rows, schema=polars_schema(McqConfidence), orient="row")

    def _of(self, subject: str, table: pl.DataFrame) -> Iterator[tuple[object, ...]]:
        """Yield the rows of some questions. A figure is a ratio of sums over them, so that questions can be weighed."""
        question = table["problem_key"].rank("dense").to_numpy().astype(np.int64) - 1
        questions = int(question.max()) + 1
        rng = np.random.default_rng(self.seed)
        weights = rng.multinomial(questions, np.full(questions, 1.0 / questions), self.bootstrap).astype(np.float64)
        weights = np.concatenate([np.ones((1, questions)), weights])
        arm = table["arm"].to_numpy()
        right, sure = table["right"].to_numpy(), table["confidence"].to_numpy()
        all_of = np.ones(len(table))
        kinds = {
            "accuracy": (right, all_of),
            "confidence": (sure, all_of),
            "confidence_right": (sure * right, right),
            "confidence_wrong": (sure * (1.0 - right), 1.0 - right),
            "brier": ((sure - right) ** 2, all_of),
        }
        for metric, (top, of) in kinds.items():
            drawn: dict[str, Floats] = {}
            for name in ARMS:
                mine = arm == name
                sums = [np.bincount(question[mine], one[mine], questions) for one in (top, of)]
                with np.errstate(invalid="ignore", divide="ignore"):
                    drawn[name] = (weights @ sums[0]) / (weights @ sums[1])
            drawn["difference"] = drawn["reasoned"] - drawn["direct"]
            for name, values in drawn.items():
                yield (subject, metric, name, *_ends(values), questions)
        for name in ARMS:
            mine = arm == name
            yield (subject, "ece", name, ece(sure[mine], right[mine]), None, None, questions)


def _ends(values: Floats) -> tuple[float | None, float | None, float | None]:
    """Return the estimate, which comes first, and the ends of its interval; None where there is nothing."""
    if not np.isfinite(values[0]):
        return None, None, None
    low, high = np.nanquantile(values[1:], ENDS)
    return float(values[0]), float(low), float(high)


def ece(confidence: Floats, right: Floats) -> float:
    """Return the mean absolute gap between accuracy and confidence over ten bins of equal width."""
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(place, right - confidence, BINS)
    return float(np.abs(gaps).sum() / len(right))
