"""Intervals of coverage, for two questions: of problems like these, and of these very problems.

*New problems.* Whoever asks how good a model is on problems of this kind sees the sampled ones as draws from many. Each
gives one unbiased number in [0, 1], and the interval is Gaffke's for the mean of such numbers (Gaffke 2005, "Three test
statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable"; Learned-Miller and Thomas
2019): weights Dirichlet(1, ..., 1) over the sorted numbers and one atom more, at 0 for the low end and at 1 for the
high one, and of the weighted means the 2.5% and 97.5% quantiles. The atom is what wasn't seen: with nothing solved
among 8 problems the high end is .37, where a bootstrap says 0. In simulations no case covered less than 95%.

*These problems.* Whoever compares two runs on the same problems, or watches one benchmark, holds them constant; what is
left is the luck of the samples. The rates are drawn from their posterior given all counts (a beta distribution with a
mass at 0, ``operators.measure.tail``), so that a problem without a right sample isn't taken for one that has none.
"""

from __future__ import annotations

from operators.measure.tail import Theta, expected, fit_all, never
from schemas.later import Floats, Ints, np

ENDS = (0.025, 0.975)
BLOCK = 4_000_000
"""Numbers held at once (a few arrays of 32 MB)."""
MOST = 2_000
"""Problems whose rates are drawn; where there are more, evenly spaced ones stand for them."""


def new_problems(least: Floats, most: Floats, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Return the ends of the 95% intervals of the mean over problems like these, two arrays of shape [ks].

    Args:
        least: an unbiased number in [0, 1] for each problem, or one that is too small on average: [problems, ks].
        most: the same numbers, or such that are too large on average.
        draws: of the weights.
    """
    problems, ks = least.shape
    low, high = np.empty((draws, ks)), np.empty((draws, ks))
    rng = np.random.default_rng(seed)
    bottom, top = np.sort(least, axis=0), np.sort(most, axis=0)
    step = max(1, BLOCK // (problems + 1))
    for start in range(0, draws, step):
        weights = rng.standard_exponential((min(step, draws - start), problems + 1))
        weights /= weights.sum(axis=1, keepdims=True)
        low[start : start + step] = weights[:, 1:] @ bottom
        high[start : start + step] = weights[:, :-1] @ top + weights[:, -1:]
    return np.quantile(low, ENDS[0], axis=0), np.minimum(np.quantile(high, ENDS[1], axis=0), 1.0)


def differences(values: Floats, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Return the ends of the 95% intervals of the mean of differences in [-1, 1], of problems like these.

    Args:
        values: the difference of two unbiased numbers for each problem, shape [problems, ks].
    """
    halves = 0.5 * (values + 1.0)
    low, high = new_problems(halves, halves, draws, seed)
    return 2.0 * low - 1.0, 2.0 * high - 1.0


def same_problems(n: Ints, c: Ints, k: Ints, draws: int, seed: int) -> Floats:
    """Return draws of these problems' own coverage at each k, shape [draws, ks].

    Args:
        n, c: samples of each problem, and right ones, shape [problems]; n may have depended on the results.
    """
    rng = np.random.default_rng(seed)
    theta = fit_all(n, c).draw(draws, rng)
    order = np.lexsort((c, n))
    chosen = order[:: -(-len(order) // MOST)]
    step = max(1, BLOCK // (4 * len(chosen) * len(k)))
    found = np.empty((draws, len(k)))
    for start in range(0, draws, step):
        a, b, z = (axis[start : start + step] for axis in theta)
        found[start : start + step] = _coverages((a, b, z), n[chosen], c[chosen], k, len(n), rng)
    return found


def _coverages(theta: Theta, n: Ints, c: Ints, k: Ints, problems: int, rng: np.random.Generator) -> Floats:
    a, b, _ = (axis[:, None] for axis in theta)
    log_miss = np.log1p(-np.minimum(rng.beta(a + c, b + (n - c)), 1.0 - 1e-12))
    log_miss[rng.random(log_miss.shape) < never(theta, n, c)] = 0.0
    found = np.stack([-np.expm1(size * log_miss).mean(axis=1) for size in k.tolist()], axis=1)
    if problems > len(n):  # a few stand for many, whose mean varies less
        mean = expected(theta, n, c, k).mean(axis=1)
        found = mean + (found - mean) * np.sqrt(len(n) / problems)
    return found


def ends(draws: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Return the ends of 95% intervals from draws, shape [draws, ks], stretched to the estimates themselves."""
    low, high = np.quantile(draws, ENDS, axis=0)
    return np.minimum(low, value), np.maximum(high, value)
