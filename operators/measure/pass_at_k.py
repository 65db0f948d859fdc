"""pass@k: the chance that at least one of k samples is right, estimated without bias from n >= k samples.

Coverage at k is the mean of pass@k over problems. The estimator averages over all subsets of k of the n samples drawn
(Chen et al. 2021, "Evaluating Large Language Models Trained on Code", eq. 1), so nothing depends on their order. It has
no value for k > n, and leaving out the problems with few samples would compare different problems at different k: in
adaptively sampled data that alone lifts a coverage of .50 to .88. So k > n is refused.

Where a problem's n depended on its results, c/n is biased: stopping at the first success, n is small where c/n is large
by luck. When the first success came isn't: ``operators.measure.survival`` estimates coverage from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import gammaln  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from operators.measure.counts import LEFT_OUT, FromCounts, left_out
from operators.measure.survival import first_success, unstopped
from schemas import datasets
from schemas.errors import BadInput
from schemas.identity import Added

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SIMILAR = 0.9
"""Samples that were lost here and there leave n more alike than this; a policy doesn't."""
BLOCK = 4_000_000
"""Numbers held at once while bootstrapping (a few arrays of 32 MB)."""


def pass_at_k(n: Any, c: Any, k: Any) -> Floats:
    """Return pass@k = 1 - C(n-c, k) / C(n, k) of each problem at each k, by log-gamma (to about 1e-11).

    Args:
        n: samples per problem, shape [problems].
        c: correct ones among them, shape [problems].
        k: shape [ks], 1 <= k <= n everywhere.

    Returns:
        Array of shape [problems, ks].

    Raises:
        ValueError: k outside [1, n], or c outside [0, n].
    """
    samples, right, draws = (np.atleast_1d(np.asarray(value, dtype=np.int64)) for value in (n, c, k))
    if ((right < 0) | (right > samples)).any():
        raise ValueError("c must be in [0, n]")
    if draws.size and samples.size and (draws.min() < 1 or draws.max() > samples.min()):
        raise ValueError("k must be in [1, n] for every problem")
    return estimate(samples, right, draws)


def estimate(n: Ints, c: Ints, k: Ints) -> Floats:
    """Return pass@k as ``pass_at_k`` does, of arrays of any leading shape: [..., problems] -> [..., problems, ks]."""
    n, c = n[..., None], c[..., None]
    wrong = n - c
    rest = np.maximum(wrong - k, 0)
    # grouped so that c = 0 gives exactly 0
    log_miss = (_log_factorial(wrong) - _log_factorial(rest)) - (_log_factorial(n) - _log_factorial(n - k))
    return np.where(wrong < k, 1.0, -np.expm1(np.minimum(log_miss, 0.0)))


def _log_factorial(n: Ints) -> Floats:
    few = n.size > 0 and n.max() < n.size  # distinct ones, and looking up costs a tenth of computing
    logs = np.asarray(gammaln((np.arange(n.max() + 1) if few else n) + 1.0), dtype=np.float64)
    return logs[n] if few else logs


def powers_of_two(n: int) -> list[int]:
    """Return 1, 2, 4, ... up to ``n``, and ``n`` itself: the sizes at which curves over samples are measured."""
    sizes = [2**power for power in range(max(n, 1).bit_length())]
    return sizes if sizes[-1] >= n else [*sizes, n]


def bootstrap(n: Ints, c: Ints, k: Ints, replicates: int, seed: int) -> tuple[Floats, Floats]:
    """Return the ends of the 95% intervals of coverage at each k, two arrays of shape [ks].

    Outer: problems are drawn with replacement. Inner: the number of right samples of each drawn problem is drawn anew
    from Binomial(n, c/n). With c/n in the place of the true rate the inner draws make pass@k smaller on average (a
    problem with c = 1 is missed e^-1 of the time), so replicates are centred on the estimate, which has no bias, before
    the 2.5% and 97.5% quantiles are taken. Both levels together are a little wider than needed: resampling problems
    already sees some of the noise within them.
    """
    rng = np.random.default_rng(seed)
    value = estimate(n, c, k).mean(axis=0)
    means = np.empty((replicates, k.size))
    step = max(1, BLOCK // max(1, n.size * k.size))
    for start in range(0, replicates, step):
        block = slice(start, min(start + step, replicates))
        drawn = rng.integers(0, n.size, size=(block.stop - block.start, n.size))
        samples = n[drawn]
        right = rng.binomial(samples, c[drawn] / samples)
        means[block] = estimate(samples, right, k).mean(axis=1)
    low, high = np.quantile(means - means.mean(axis=0) + value, [0.025, 0.975], axis=0)
    return np.clip(np.minimum(low, value), 0.0, 1.0), np.clip(np.maximum(high, value), 0.0, 1.0)


class PassAtK(FromCounts):
    """Coverage (mean pass@k) with 95% intervals, from verdicts or from bare counts (which win where both are given).

    Verdicts that say nothing about a sample (error, skipped, timeout, no known answer) are left out of its problem's n,
    problems with n = 0 are left out of the mean, and ``note`` says so. ``note`` also says how n were allocated.

    Where a policy stopped at successes (``stopped``), coverage is estimated from when each problem was first solved
    (``operators.measure.survival``); this takes verdicts, whose order is known.
    """

    version: ClassVar[int] = 1
    output = datasets.PassAtK

    k: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Empty: powers of two up to the smallest n, and that n."""
    bootstrap: int = Field(default=1000, ge=100)
    """Bootstrap replicates."""
    seed: int = 0
    """Of the bootstrap."""
    stopped: Annotated[bool | None, Added] = None
    """Whether n depended on the results. None: where the smallest n is less than nine tenths of the largest."""

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Return one row per k.

        Raises:
            BadInput: nothing to measure, or k greater than the n of some problem.
        """
        bare = partials.filter(pl.col(LEFT_OUT[0]).is_null())  # all of one call, so they keep their order
        table = partials.sort("problem_id") if bare.is_empty() else bare
        excluded = left_out(table)
        measured = table.filter(pl.col("n") > 0)
        if measured.is_empty():
            raise BadInput(
                f"measure.pass_at_k: none of {len(table)} problem(s) has a sample that counts, so there is nothing to "
                f"measure{f' ({excluded})' if excluded else ''}; pass@k needs verdicts on problems with a known answer"
            )
        n, c = (measured[name].to_numpy().astype(np.int64) for name in ("n", "c"))
        stopped = n.min() < SIMILAR * n.max() if self.stopped is None else self.stopped
        if stopped and bare.is_empty():
            first = measured["first"].fill_null(0).to_numpy().astype(np.int64)
            k = np.array(sorted(set(self.k)) or powers_of_two(unstopped(n, first)), dtype=np.int64)
            value, low, high = first_success(n, first, k)
            how = f"{spread(n)}; n may have depended on results: from when each problem was first solved (Kaplan-Meier)"
        else:
            k = np.array(sorted(set(self.k)) or powers_of_two(int(n.min())), dtype=np.int64)
            self._refuse_few(measured, k)
            value = estimate(n, c, k).mean(axis=0)
            low, high = bootstrap(n, c, k, self.bootstrap, self.seed)
            how = "; ".join(note for note in (allocation(n), _degenerate(n, c)) if note)
        notes = [how, _unmeasured(len(table) - len(measured)), excluded, _models(measured)]
        columns = {"k": k, "coverage": value, "low": low, "high": high}
        return pl.DataFrame(columns).with_columns(
            pl.lit(len(measured), pl.Int64).alias("n_problems"),
            pl.lit("; ".join(note for note in notes if note)).alias("note"),
        )

    def _refuse_few(self, counts: pl.DataFrame, k: Ints) -> None:
        few = counts.filter(pl.col("n") < int(k.max())).sort("n", "problem_id")
        if few.is_empty():
            return
        smallest = int(few["n"][0])
        named = ", ".join(
            f"'{problem}' (n = {n:,})" for problem, n in few.select("problem_id", "n").head(3).iter_rows()
        )
        raise BadInput(
            f"measure.pass_at_k: k = {_listed(k[k > smallest])} needs that many samples of every problem, but "
            f"{len(few):,} of {len(counts):,} problems have fewer, for example {named}. Leaving these out would "
            f"measure different problems at different k. Ask for k <= {smallest:,}, draw more samples of them, or "
            "leave them out of the whole measurement"
        )


def allocation(n: Sequence[int] | Ints) -> str:
    """Say how samples were allocated: "n = 32 for all 16 problems"."""
    low, high, problems = int(np.min(n)), int(np.max(n)), len(n)
    if low == high:
        return f"n = {low:,} for all {problems:,} problems" if problems > 1 else f"n = {low:,} for 1 problem"
    return f"{spread(n)}: unequal n, without bias only where n didn't depend on the results"


def spread(n: Sequence[int] | Ints) -> str:
    """Say how far n differs: "n = 1 to 40 over 16 problems (median 12)"."""
    return f"n = {int(np.min(n)):,} to {int(np.max(n)):,} over {len(n):,} problems (median {np.median(n):,.0f})"


def _degenerate(n: Ints, c: Ints) -> str:
    if not ((c == 0) | (c == n)).all():
        return ""
    what = "no sample is right" if not c.any() else "every problem's samples are all right or all wrong"
    return f"{what}: the bootstrap can't see the noise within problems, so the interval is too narrow"


def _unmeasured(problems: int) -> str:
    return f"{problems:,} problem(s) without any usable verdict left out" if problems else ""


def _models(counts: pl.DataFrame) -> str:
    models = counts["model"].n_unique()
    return f"{models} models pooled, a row of counts each" if models > 1 else ""


def _listed(values: Ints) -> str:
    shown = [f"{value:,}" for value in values.tolist()]
    return ", ".join(shown) if len(shown) <= 4 else f"{', '.join(shown[:3])}, ... {shown[-1]}"
