"""Calibration: does a method's confidence say how often its answers are right?"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from operators.piecewise import PiecewiseOperator
from schemas.contract import polars_schema
from schemas.datasets import Answer
from schemas.errors import BadInput
from schemas.later import Floats, Ints, np, pl
from schemas.measures import Calibration

BLOCK = 2_000_000
"""Answers drawn at once while bootstrapping."""
MEASURED = ("rmsce", "brier", "accuracy")
"""What has an interval."""


class MeasureCalibration(PiecewiseOperator):
    """How far each selection method's confidence can be believed, with 95% intervals.

    Answers fall into ``bins`` bins of confidence of equal width, closed on the right; the first one has 0 as well. The
    gap of a bin is its accuracy less its mean confidence. Answers whose correctness isn't known are left out.

    * ``rmsce`` is the root of the answers' mean squared gap, each bin's square less the variance that chance gives it
      (Kumar, Liang and Ma 2019, "Verified Uncertainty Calibration"): a calibrated method comes out near 0. A bin with
      a single answer tells nothing; where there is no other, ``rmsce`` is null.
    * ``ece`` (Guo et al. 2017) is the answers' mean absolute gap. Chance alone makes it too large, the more so the
      fewer answers a bin has, and no interval around it holds: it has none, and is there for comparison.
    * ``brier`` is the mean of (confidence - right)^2.

    Intervals are quantiles of ``bootstrap`` replicates, centred on the estimate, that of ``rmsce`` before the root is
    taken. In each, problems are drawn with replacement and are right with the chance (right + 1) / (n + 2) of their
    bin: the answers themselves, drawn again, would say that a bin in which all were right can't hold a wrong one.
    """

    version: ClassVar[int] = 2
    inputs = {"answers": Answer.select("problem_key", "method", "confidence", "is_correct")}
    output = Calibration
    needs_judged = True

    bins: int = Field(default=10, ge=1)
    """Bins of confidence, of equal width."""
    bootstrap: int = Field(default=1000, ge=100)
    """Bootstrap replicates."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""

    def partial(self, answers: pl.DataFrame) -> pl.DataFrame:
        """Return the answers that are known to be right or wrong."""
        return answers.filter(pl.col("is_correct").is_not_null())

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per method.

        Raises:
            BadInput: no answer is known to be right or wrong.
        """
        if partials.is_empty():
            raise BadInput(
                "measure.calibration: no answer is known to be right or wrong, so there is nothing to measure"
            )
        rows = [
            self._row(str(method), table)
            for (method,), table in partials.sort("method", "problem_key").group_by("method")
        ]
        return pl.DataFrame(rows, schema=polars_schema(Calibration)).sort("method")

    def _row(self, method: str, table: pl.DataFrame) -> dict[str, object]:
        confidence = table["confidence"].to_numpy()
        right = table["is_correct"].cast(pl.Float64).to_numpy()
        edges = np.linspace(0.0, 1.0, self.bins + 1)
        place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, self.bins - 1)
        count, sure, good = (np.bincount(place, w, self.bins) for w in (None, confidence, right))
        reliability = [
            {
                "low": float(edges[i]),
                "high": float(edges[i + 1]),
                "n": int(count[i]),
                "confidence": float(sure[i] / count[i]) if count[i] else None,
                "accuracy": float(good[i] / count[i]) if count[i] else None,
            }
            for i in range(self.bins)
        ]
        row: dict[str, object] = {"method": method, "n": len(table), "confidence": float(confidence.mean())}
        row |= {"ece_low": None, "ece_high": None}
        row["ece"] = float(np.abs(good - sure).sum() / len(table))
        estimate = _measures(confidence[None], right[None], place[None], self.bins)[:, 0]
        replicates = self._replicates(confidence, place, (good + 1) / (count + 2))
        spread = replicates - replicates.mean(axis=1, keepdims=True) + estimate[:, None]
        low, high = np.quantile(spread, [0.025, 0.975], axis=1)
        low, high = np.minimum(low, estimate), np.maximum(high, estimate)
        for name, *values in zip(MEASURED, estimate, low, high, strict=True):
            shares = np.clip(values, 0.0, 1.0)
            named = np.sqrt(shares) if name == "rmsce" else shares
            said = [None] * 3 if name == "rmsce" and count.max() < 2 else named.tolist()
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), said, strict=True))
        return {**row, "bins": reliability}

    def _replicates(self, confidence: Floats, place: Ints, chance: Floats) -> Floats:
        """Return the measures of each replicate, shape [3, bootstrap]; ``chance`` is that of being right, by bin."""
        rng = np.random.default_rng(self.seed)
        n, step = len(confidence), max(1, BLOCK // len(confidence))
        parts: list[Floats] = []
        for start in range(0, self.bootstrap, step):
            drawn = rng.integers(0, n, size=(min(step, self.bootstrap - start), n))
            bins = place[drawn]
            right = (rng.random(drawn.shape) < chance[bins]).astype(np.float64)
            parts.append(_measures(confidence[drawn], right, bins, self.bins))
        return np.concatenate(parts, axis=1)


def _measures(confidence: Floats, right: Floats, place: Ints, bins: int) -> Floats:
    """Return the squared calibration error, Brier score and accuracy of each replicate, shape [3, replicates].

    Args:
        confidence, right, place: of each answer, shape [replicates, answers]; place is its bin.
    """
    replicates, n = right.shape
    gap = right - confidence
    where: Ints = (np.arange(replicates, dtype=np.int64)[:, None] * bins + place).reshape(-1)

    def sums(values: Floats | None) -> Floats:
        found = np.bincount(where, None if values is None else values.ravel(), replicates * bins)
        return found.reshape(replicates, bins).astype(np.float64)

    count, total, squares = sums(None), sums(gap), sums(gap * gap)
    several = np.maximum(count, 2.0)
    # n of the bin times (its gap^2 - the variance of that), both of which need two answers
    excess = np.where(count > 1, total**2 / several - (squares - total**2 / several) / (several - 1.0), 0.0)
    return np.stack([excess.sum(axis=1) / n, (gap * gap).mean(axis=1), right.mean(axis=1)])
