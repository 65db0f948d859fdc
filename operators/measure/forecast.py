"""Forecasts of coverage at more samples than were drawn, with intervals; and where drawing more stops to pay."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import Field

from operators.measure.combined import Curve as Measured
from operators.measure.combined import Open, combined, tail_alone
from operators.measure.counts import LEFT_OUT, Drawn, FromCounts, Hints, left_out
from operators.measure.pass_at_k import allocation, estimate, spread
from operators.measure.survival import first_success, unstopped
from operators.measure.tail import fit_all, fit_tail
from schemas.contract import polars_schema
from schemas.errors import BadInput
from schemas.identity import Added
from schemas.later import Floats, Ints, np, optimize, pl, special
from schemas.measures import Forecast

POINTS = 40
"""Log-spaced k at which curves are fitted (Brown et al. 2024)."""
Curve = Callable[[Ints, Ints, Ints], Floats]
"""(n, c, ks) -> coverage at each k."""


class MeasureForecast(FromCounts):
    """Forecast the coverage that the same problems will have once each has k samples.

    Several methods side by side, ``combined`` being the one to go by:

    * ``combined``: the power law from 100 samples of each problem and fewer, from 1,000 the mean of tail, beta-binomial
      and power law, in between a stated mixture (``operators.measure.combined``). Its 95% interval is for the coverage
      that will be seen: what the methods don't know, where they differ, and the draws to come. After a policy that was
      told of the problems beforehand it is the policy's own model (``operators.measure.hinted``), and the only row.
    * ``tail``: of the unsolved ones a share will be solved (``operators.measure.tail``).
    * ``beta_binomial``: p ~ Beta(a, b) by maximum likelihood, 1 - E[(1-p)^k] (Schaeffer et al. 2025).
    * ``power_law``: exp(a k^b) by least squares at 40 log-spaced k (Brown et al. 2024).
    * ``ttspm``: F_max (1 - (1-p)^k) with one p for all problems, the same way; ``saturation`` is
      N* = ceil(ln(eps / (F_max p)) / ln(1-p)), from which a sample adds less than ``epsilon`` ("Scaling over Scaling").
      On problems that differ it saturates far too early, so it is only shown beside the others.

    Intervals of the last three: problems drawn with replacement; a method that can't be fitted has no row, nor have the
    last two where sampling stopped at successes. Where k <= n of every problem, all rows are the unbiased pass@k.
    Models are forecast apart. By what rule problems were sampled is read as by ``measure.pass_at_k``.
    """

    version: ClassVar[int] = 2
    output = Forecast

    k: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Empty: 2, 5 and 10 times the largest n."""
    epsilon: float = Field(default=1e-4, gt=0.0, lt=1.0)
    """``saturation`` is the number of samples from which one more adds less coverage than this."""
    draws: int = Field(default=4000, ge=100)
    """How many draws from the posterior a forecast is made of."""
    bootstrap: int = Field(default=200, ge=20)
    """How many times problems are drawn anew for the intervals."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""
    stopped: Annotated[bool | None, Added] = None
    """Whether n depended on the results. None: as the run's log says; where there is none, only if hints are given."""

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per model, k and method.

        Raises:
            BadInput: nothing to forecast from.
        """
        told = pl.col("hints").is_not_null()
        table = partials.filter((pl.col("n") > 0) | told).with_columns(pl.col("model").fill_null(""))
        table = table.sort("model", "problem_id")
        if not table["n"].sum():
            raise BadInput(
                "measure.forecast: no problem has a sample that counts, so there is nothing to forecast from"
            )
        bare = partials[LEFT_OUT[0]].is_null().all()
        excluded = "" if bare else left_out(partials)
        found = [
            self._forecast(str(model), Drawn.of(counts, self.stopped), excluded)
            for (model,), counts in table.group_by("model", maintain_order=True)
        ]
        return pl.concat(found)

    def _forecast(self, model: str, drawn: Drawn, excluded: str) -> pl.DataFrame:
        n, c = drawn.n, drawn.c
        k = np.array(sorted(set(self.k)) or [2 * int(n.max()), 5 * int(n.max()), 10 * int(n.max())], dtype=np.int64)
        saturation: int | None = None
        if drawn.hints is not None and drawn.first is not None:
            rows = self._hinted(drawn, drawn.hints, drawn.first, k)
        else:
            rows = self._tail_and_combined(drawn, k)
            curves: dict[str, Curve] = {"beta_binomial": beta_binomial}
            if not drawn.stopped:
                curves |= {"power_law": power_law, "ttspm": ttspm}
                saturation = saturates_at(*_fit_ttspm(n, c), self.epsilon) if c.any() else None
            for method, curve in curves.items():
                rows += self._bootstrapped(method, curve, drawn, k)
        by = f"sampled by {', '.join(drawn.policies)}" if drawn.policies else ""
        how = f"{spread(n)}; n may have depended on results" if drawn.stopped else allocation(n)
        return (
            pl.DataFrame(rows, schema=["method", "k", "coverage", "low", "high"], orient="row")
            .with_columns(
                model=pl.lit(model),
                saturation=pl.when(pl.col("method") == "ttspm").then(pl.lit(saturation, pl.Int64)),
                n_problems=pl.lit(len(n), pl.Int64),
                note=pl.lit("; ".join(note for note in (how, by, excluded) if note)),
            )
            .select(list(polars_schema(Forecast)))
        )

    def _hinted(self, drawn: Drawn, told: Hints, first: Ints, k: Ints) -> list[tuple[Any, ...]]:
        from operators.measure.hinted import hinted

        found = hinted(drawn.n, drawn.c, first, told, k, self.draws, self.seed)
        columns = (found.value, found.seen_low, found.seen_high)
        return [
            ("combined", *row) for row in zip(k.tolist(), *(map(_share, column) for column in columns), strict=True)
        ]

    def _tail_and_combined(self, drawn: Drawn, k: Ints) -> list[tuple[Any, ...]]:
        rng = np.random.default_rng(self.seed)
        n, c = drawn.n, drawn.c
        tail = fit_all(n, c) if drawn.stopped else fit_tail(n, c)
        beta = fit_beta(n, c) if c.any() else None
        curve = _curve_of(drawn)
        rows: list[tuple[Any, ...]] = []
        for size in k.tolist():
            open_ = _open(drawn, size)
            if size <= n.min() and not drawn.stopped:
                value, low, high = self._bootstrapped("tail", _measured, drawn, np.array([size]))[0][2:]
                rows += [("tail", size, value, low, high), ("combined", size, value, low, high)]
                continue
            for method, found in (
                ("tail", tail_alone(open_, size, tail, self.draws, rng)),
                ("combined", combined(open_, size, tail, beta, curve, self.draws, rng)),
            ):
                rows.append((method, size, *map(_share, found)))
        return rows

    def _bootstrapped(self, method: str, curve: Curve, drawn: Drawn, k: Ints) -> list[tuple[Any, ...]]:
        rng = np.random.default_rng(self.seed)
        n, c = drawn.n, drawn.c
        if int(k.max()) <= int(n.min()) and not drawn.stopped:
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


def _open(drawn: Drawn, k: int) -> Open:
    """Return what is known of coverage at k: what is solved, and who isn't."""
    n, c = drawn.n, drawn.c
    enough = (n >= k) & (not drawn.stopped)
    solved = float(estimate(n[enough], c[enough], np.array([k])).sum()) if enough.any() else 0.0
    right = (c > 0) & ~enough
    solved += float(right.sum() if drawn.first is None else (drawn.first[right] <= k).sum())
    sizes, problems = np.unique(n[(c == 0) & (n < k)], return_counts=True)
    return Open(solved, sizes, problems, len(n))


def _curve_of(drawn: Drawn) -> Measured:
    """Return what measures coverage at log-spaced k of some of the problems."""
    n, c, first = drawn.n, drawn.c, drawn.first
    if not drawn.stopped:
        return lambda some: measured_curve(n[some], c[some])
    if first is None:
        return lambda some: (np.ones(1, dtype=np.int64), np.zeros(1))
    points = log_spaced(max(1, unstopped(n, first)))
    return lambda some: (points, first_success(n[some], first[some], points))


def _measured(n: Ints, c: Ints, k: Ints) -> Floats:
    return estimate(n, c, k).mean(axis=0)


def measured_curve(n: Ints, c: Ints) -> tuple[Ints, Floats]:
    """Return log-spaced k up to the smallest n, rounded and without repetition, and coverage there."""
    k = log_spaced(int(n.min()))
    return k, _measured(n, c, k)


def log_spaced(largest: int) -> Ints:
    """Return log-spaced k up to ``largest``, rounded and without repetition."""
    return np.unique(np.round(np.geomspace(1, largest, POINTS)).astype(np.int64))


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
