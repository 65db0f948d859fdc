"""Calibration: does a method's confidence say how often its answers are right?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from operators.piecewise import PiecewiseOperator
from schemas.contract import polars_schema
from schemas.datasets import Answer, Calibration
from schemas.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK = 4_000_000
"""Numbers held at once while bootstrapping."""


class MeasureCalibration(PiecewiseOperator):
    """Expected calibration error, Brier score and a reliability table of each selection method, with 95% intervals.

    ECE (Guo et al. 2017) is the mean over answers of |accuracy - mean confidence| of the answer's bin, ``bins`` equal
    widths, closed on the right; the first one has 0 as well. Brier is the mean of (confidence - right)^2. Answers whose
    correctness isn't known are left out. Intervals: problems drawn with replacement, replicates centred on the estimate
    (a small resample's ECE is too large on average).
    """

    version: ClassVar[int] = 1
    inputs = {"answers": Answer.select("problem_key", "method", "confidence", "is_correct")}
    output = Calibration

    bins: int = Field(default=10, ge=1)
    bootstrap: int = Field(default=1000, ge=100)
    """Bootstrap replicates."""
    seed: int = 0

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
        whole = np.ones((1, len(table)))
        estimate = [float(value[0]) for value in _measures(whole, confidence, right, place, self.bins)]
        spread = self._intervals(confidence, right, place, estimate)
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
        names = ("ece", "brier", "accuracy")
        row: dict[str, object] = {"method": method, "n": len(table), "confidence": float(confidence.mean())}
        for name, value, (low, high) in zip(names, estimate, spread, strict=True):
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
        return {**row, "bins": reliability}

    def _intervals(
        self, confidence: Floats, right: Floats, place: Ints, estimate: list[float]
    ) -> list[tuple[float, float]]:
        rng = np.random.default_rng(self.seed)
        n, step = len(right), max(1, BLOCK // len(right))
        parts: list[tuple[Floats, Floats, Floats]] = []
        for start in range(0, self.bootstrap, step):
            some = min(step, self.bootstrap - start)
            drawn = rng.integers(0, n, size=(some, n))
            weights = np.stack([np.bincount(one, minlength=n) for one in drawn]).astype(np.float64)
            parts.append(_measures(weights, confidence, right, place, self.bins))
        found: list[tuple[float, float]] = []
        for values, at in zip(zip(*parts, strict=True), estimate, strict=True):
            replicates = np.concatenate(values)
            low, high = np.quantile(replicates - replicates.mean() + at, [0.025, 0.975])
            found.append((float(np.clip(min(low, at), 0, 1)), float(np.clip(max(high, at), 0, 1))))
        return found


def _measures(
    weights: Floats, confidence: Floats, right: Floats, place: Ints, bins: int
) -> tuple[Floats, Floats, Floats]:
    """Return (ece, brier, accuracy) of each replicate.

    Args:
        weights: how often each answer is in it, shape [replicates, answers].
    """
    n = weights.sum(axis=1)
    inside = (place[:, None] == np.arange(bins)[None]).astype(np.float64)
    gaps = weights @ (inside * (right - confidence)[:, None])  # n of the bin times its gap
    return np.abs(gaps).sum(axis=1) / n, weights @ (confidence - right) ** 2 / n, weights @ right / n
