"""Coverage where hints chose whom to sample: what is known of those that were given up comes from the hints, too.

A policy that was told how the same problems went with another model gives the hard ones up early, or never begins
them. They aren't like the others, so Kaplan and Meier's estimate (``operators.measure.survival``) is far too high.
Whether a problem was given up depends on its counts and its hints alone, and given these its rate is independent of
that. So the policy's own model of difficulty, with the hints as covariates (``operators.measure.difficulty``), fitted
to all counts, says what the missing samples would have been:

    coverage(k) = mean over problems of  1 if solved by draw k,  0 if unsolved at draw k,
                  else P(solved by draw k | its counts, its hints)

Nothing of the model is in what was seen. Intervals draw a, b and s from their posterior (Laplace's approximation).
Those of these very problems rest on the model alone, which is never quite right, so they are ``WIDER`` than it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from operators.measure.counts import Hints
from operators.measure.difficulty import (
    SCALES,
    Prior,
    curvature,
    distinct,
    fit,
    grid,
    hints,
    log_likelihood,
    posterior,
)
from operators.measure.intervals import ENDS, ends
from schemas.later import Floats, Ints, np

THETAS = 200
"""Draws of a, b and s."""
WIDER = 1.2
"""Of the deviations of these problems' coverage. As the model has them, intervals hold the truth in .89 to .93 of runs
of ``marginal`` with another model's counts."""
WORK = 4_000_000
"""Problems times draws of a, b and s, beyond which there are fewer of them."""


class Estimate(NamedTuple):
    """Coverage at each k, and its 95% intervals, shape [ks] each.

    Attributes:
        low, high: for problems like these.
        same_low, same_high: for these very problems.
        seen_low, seen_high: for how many of these will be solved once each has k samples.
    """

    value: Floats
    low: Floats
    high: Floats
    same_low: Floats
    same_high: Floats
    seen_low: Floats
    seen_high: Floats


class Chances(NamedTuple):
    """What one draw of a, b and s says.

    Attributes:
        solved: the chance that each problem is solved by draw k, given all that was seen: [problems, ks].
        rates: cumulative distribution of each problem's rate on the grid: [problems, rates].
    """

    solved: Floats
    rates: Floats


def hinted(n: Ints, c: Ints, first: Ints, told: Hints, k: Ints, draws: int, seed: int) -> Estimate:
    """Return coverage at each k.

    Args:
        n, c: draws of each problem, and right ones among them, shape [problems]; n = 0 is allowed.
        first: the draw of its first success, 0 where there is none.
        told: what the policy knew beforehand.
        draws: of what intervals are made of.
    """
    rng = np.random.default_rng(seed)
    count = int(np.clip(WORK // len(n), 20, THETAS))
    each = -(-draws // count)
    value = np.zeros(len(k))
    low, high, same, seen = np.empty((4, count * each, len(k)))
    miss = np.exp(k[:, None] * grid.LOG_MISS)  # [ks, rates]
    for place, chances in enumerate(_chances(n, c, first, told, k, count, rng)):
        value += chances.solved.mean(axis=0) / count
        for row in range(place * each, (place + 1) * each):
            came = rng.random(len(n))[:, None] < chances.solved
            weights = rng.standard_exponential(len(n) + 1)
            weights /= weights.sum()
            sums = np.sort(came, axis=0)
            seen[row] = came.mean(axis=0)
            low[row] = weights[1:] @ sums
            high[row] = weights[:-1] @ sums + weights[-1]
            picked = (rng.random(len(n))[:, None] > chances.rates).sum(axis=1).clip(0, len(grid.LOG_MISS) - 1)
            same[row] = 1.0 - miss[:, picked].mean(axis=1)
    of_new = np.minimum(np.quantile(low, ENDS[0], axis=0), value), np.maximum(np.quantile(high, ENDS[1], axis=0), value)
    centre = same.mean(axis=0)
    same = np.clip(centre + WIDER * (same - centre), 0.0, 1.0)
    return Estimate(value, *of_new, *ends(same, value), *ends(seen, value))


def _chances(
    n: Ints, c: Ints, first: Ints, told: Hints, k: Ints, count: int, rng: np.random.Generator
) -> Iterator[Chances]:
    """Yield what ``count`` draws of a, b and s say."""
    sources, features = told.odds.shape[1], told.features.shape[1]
    hint = np.concatenate([hints(told.odds), told.features], axis=1)
    states, weight = distinct(n, c, hint)
    known = log_likelihood(states[:, 0], states[:, 1])
    priors = [Prior.of(sources, features).scaled(sources, scale) for scale in (SCALES if features else (1.0,))]
    fits = [fit(prior.mean, prior.all, known, weight, states[:, 2:], prior) for prior in priors]
    chosen = int(np.argmax([one.evidence(prior, prior.all) for one, prior in zip(fits, priors, strict=True)]))
    best, prior = fits[chosen].theta, priors[chosen]
    bend = curvature(best, known, weight, states[:, 2:], prior)
    values, vectors = np.linalg.eigh(bend)
    root = vectors / np.sqrt(np.maximum(values, prior.spread.max() ** -2.0))
    of_each = log_likelihood(n, c)
    done = (first > 0)[:, None] & (first[:, None] <= k)
    open_ = (first == 0)[:, None] & (n[:, None] < k)
    further = np.maximum(k - n[:, None], 0)
    for _ in range(count):
        theta = best + root @ rng.standard_normal(len(best))
        shares = posterior(theta, of_each, hint)
        missed = np.stack(
            [(shares * np.exp(further[:, place, None] * grid.LOG_MISS)).sum(axis=1) for place in range(len(k))], axis=1
        )
        yield Chances(np.where(open_, 1.0 - missed, done.astype(np.float64)), shares.cumsum(axis=1))
