"""Forecasts of coverage at more samples than were drawn, with intervals; and where drawing more stops to pay."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from scipy import optimize as _optimize  # pyright: ignore[reportMissingTypeStubs]
from scipy import special as _special  # pyright: ignore[reportMissingTypeStubs]

from operators.measure.counts import LEFT_OUT, FromCounts, left_out
from operators.measure.pass_at_k import allocation, estimate
from operators.measure.tail import fit_tail
from schemas.contract import polars_schema
from schemas.datasets import Forecast
from schemas.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
optimize: Any = _optimize  # they ship no types
special: Any = _special

POINTS = 40
"""Log-spaced k at which curves are fitted (Brown et al. 2024)."""
Curve = Callable[[Ints, Ints, Ints], Floats]
"""(n, c, ks) -> coverage at each k."""


class MeasureForecast(FromCounts):
    """Forecast the coverage that the same problems will have once each has k samples.

    Four methods side by side, ``tail`` being ours and the one to go by:

    * ``tail``: what was solved stays solved, and of the others a share will be (``operators.measure.tail``). Its 95%
      interval is for the coverage that will be seen: posterior and the draws to come.
    * ``beta_binomial``: p ~ Beta(a, b) by maximum likelihood, 1 - E[(1-p)^k] (Schaeffer et al. 2025).
    * ``power_law``: exp(a k^b) by least squares at 40 log-spaced k (Brown et al. 2024).
    * ``ttspm``: F_max (1 - (1-p)^k) with one p for all problems, the same way; ``saturation`` is
      N* = ceil(ln(eps / (F_max p)) / ln(1-p)), from which a sample adds less than ``epsilon`` ("Scaling over Scaling").
      On problems that differ it saturates far too early, so it is only shown beside the others.

    Intervals of the last three: problems drawn with replacement; a method that can't be fitted has no row. Where
    k <= n of every problem, all rows are the unbiased pass@k. Models are forecast apart.
    """

    version: ClassVar[int] = 1
    output = Forecast

    k: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Empty: 2, 5 and 10 times the largest n."""
    epsilon: float = Field(default=1e-4, gt=0.0, lt=1.0)
    draws: int = Field(default=4000, ge=100)
    """From the posterior."""
    bootstrap: int = Field(default=200, ge=20)
    seed: int = 0

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per model, k and method.

        Raises:
            BadInput: nothing to forecast from.
        """
        table = partials.filter(pl.col("n") > 0).with_columns(pl.col("model").fill_null("")).sort("model", "problem_id")
        if table.is_empty():
            raise BadInput(
                "measure.forecast: no problem has a sample that counts, so there is nothing to forecast from"
            )
        bare = partials[LEFT_OUT[0]].is_null().all()
        excluded = "" if bare else left_out(partials)
        found = [
            self._forecast(str(model), counts["n"].to_numpy(), counts["c"].to_numpy(), excluded)
            for (model,), counts in table.group_by("model", maintain_order=True)
        ]
        return pl.concat(found)

    def _forecast(self, model: str, n: Ints, c: Ints, excluded: str) -> pl.DataFrame:
        n, c = n.astype(np.int64), c.astype(np.int64)
        k = np.array(sorted(set(self.k)) or [2 * int(n.max()), 5 * int(n.max()), 10 * int(n.max())], dtype=np.int64)
        rows = self._tail(n, c, k)
        saturation: int | None = None
        curves: dict[str, Curve] = {"beta_binomial": beta_binomial, "power_law": power_law, "ttspm": ttspm}
        for method, curve in curves.items():
            rows += self._bootstrapped(method, curve, n, c, k)
        if c.any():
            saturation = saturates_at(*_fit_ttspm(n, c), self.epsilon)
        notes = [note for note in (allocation(n), excluded) if note]
        return (
            pl.DataFrame(rows, schema=["method", "k", "coverage", "low", "high"], orient="row")
            .with_columns(
                model=pl.lit(model),
                saturation=pl.when(pl.col("method") == "ttspm").then(pl.lit(saturation, pl.Int64)),
                n_problems=pl.lit(len(n), pl.Int64),
                note=pl.lit("; ".join(notes)),
            )
            .select(list(polars_schema(Forecast)))
        )

    def _tail(self, n: Ints, c: Ints, k: Ints) -> list[tuple[Any, ...]]:
        rng = np.random.default_rng(self.seed)
        tail = fit_tail(n, c)
        chosen = rng.choice(tail.weight.size, size=self.draws, p=tail.weight.ravel() / tail.weight.sum())
        sizes, unsolved = np.unique(n[c == 0], return_counts=True)
        rows: list[tuple[Any, ...]] = []
        for draws in k.tolist():
            seen = n >= draws
            known = estimate(n[seen], c[seen], np.array([draws]))[:, 0].sum() if seen.any() else 0.0
            known += float((c[~seen] > 0).sum())
            mean, drawn = float(known), np.full(self.draws, float(known))
            for size, problems in zip(sizes.tolist(), unsolved.tolist(), strict=True):
                if size < draws:
                    hit = tail.hit(size, draws)
                    mean += problems * float((hit * tail.weight).sum())
                    drawn += rng.binomial(problems, np.broadcast_to(hit, tail.weight.shape).ravel()[chosen])
            low, high = np.quantile(drawn, [0.025, 0.975])
            rows.append(("tail", draws, *(_share(value / len(n)) for value in (mean, min(low, mean), max(high, mean)))))
        return rows

    def _bootstrapped(self, method: str, curve: Curve, n: Ints, c: Ints, k: Ints) -> list[tuple[Any, ...]]:
        rng = np.random.default_rng(self.seed)
        if int(k.max()) <= int(n.min()):
            curve = _measured
        value = curve(n, c, k)
        replicates = np.stack(
            [curve(n[some], c[some], k) for some in (rng.integers(0, len(n), len(n)) for _ in range(self.bootstrap))]
        )
        low, high = np.nanquantile(replicates, [0.025, 0.975], axis=0)
        ends = np.fmin(low, value), np.fmax(high, value)
        rows = zip(k.tolist(), value, *ends, strict=True)
        return [(method, draws, *map(_share, row)) for draws, *row in rows if np.isfinite(row).all()]


def _share(value: float) -> float:
    return float(np.clip(value, 0.0, 1.0))


def _measured(n: Ints, c: Ints, k: Ints) -> Floats:
    return estimate(n, c, k).mean(axis=0)


def measured_curve(n: Ints, c: Ints) -> tuple[Ints, Floats]:
    """Return log-spaced k up to the smallest n, rounded and without repetition, and coverage there."""
    k = np.unique(np.round(np.geomspace(1, int(n.min()), POINTS)).astype(np.int64))
    return k, _measured(n, c, k)


def beta_binomial(n: Ints, c: Ints, k: Ints) -> Floats:
    """Return 1 - E[(1-p)^k] of the maximum-likelihood Beta(a, b)."""
    if not c.any():
        return np.zeros(len(k))
    a, b = fit_beta(n, c)
    return 1.0 - np.exp(special.betaln(a, b + k) - special.betaln(a, b))


def fit_beta(n: Ints, c: Ints) -> tuple[float, float]:
    """Return (a, b) of the Beta that success rates come from, by maximum likelihood; some sample must be correct.

    Args:
        n, c: samples of each problem, and how many of them are correct, shape [problems].
    """
    pairs, counts = np.unique(np.stack([n, c]), axis=1, return_counts=True)
    wrong, right = (pairs[0] - pairs[1]).astype(np.float64), pairs[1].astype(np.float64)

    def loss(theta: Floats) -> float:
        a, b = np.exp(np.clip(theta, -20.0, 20.0))
        return -float(counts @ (special.betaln(right + a, wrong + b) - special.betaln(a, b)))

    found: Any = optimize.minimize(loss, np.log([0.3, 10.0]), method="Nelder-Mead", options={"maxiter": 1000})
    a, b = np.exp(np.clip(found.x, -20.0, 20.0))
    return float(a), float(b)


def power_law(n: Ints, c: Ints, k: Ints) -> Floats:
    """Return exp(a k^b), fitted to coverage itself (not to its logarithm); NaN where there is no fit."""
    points, coverage = measured_curve(n, c)

    def curve(x: Floats, a: float, b: float) -> Floats:
        return np.exp(a * x**b)

    if len(points) < 2 or not coverage.any():
        return np.full(len(k), float(coverage[-1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (a, b), _ = optimize.curve_fit(curve, points.astype(np.float64), coverage, p0=(-2.0, -0.3), maxfev=5000)
    except RuntimeError:
        return np.full(len(k), np.nan)
    return curve(k.astype(np.float64), a, b)


def ttspm(n: Ints, c: Ints, k: Ints) -> Floats:
    """Return F_max (1 - (1-p)^k)."""
    return _saturating(k.astype(np.float64), *_fit_ttspm(n, c))


def _saturating(k: Floats, limit: float, p: float) -> Floats:
    return limit * -np.expm1(k * np.log1p(-p))


def _fit_ttspm(n: Ints, c: Ints) -> tuple[float, float]:
    points, coverage = measured_curve(n, c)
    if not c.any():
        return 0.0, 0.5
    share = float(coverage[-1])
    start = (min(0.99, max(0.01, share)), min(0.99, max(1e-9, share / float(points[-1]))))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optimize.OptimizeWarning)
            (limit, p), _ = optimize.curve_fit(
                _saturating,
                points.astype(np.float64),
                coverage,
                p0=start,
                bounds=([1e-9, 1e-12], [1.0, 1.0 - 1e-9]),
            )
    except RuntimeError:
        return start
    return float(limit), float(p)


def saturates_at(limit: float, p: float, epsilon: float) -> int:
    """Return N*: the number of samples from which one more adds less than ``epsilon`` to F_max (1 - (1-p)^N)."""
    return max(0, int(np.ceil(np.log(epsilon / (limit * p)) / np.log1p(-p)))) if limit * p > epsilon else 0
