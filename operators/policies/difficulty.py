"""How hard problems are, learned while they are sampled: a distribution of success rates, and what hints say about it.

    logit p_i = a + b z_i + s e_i,   e_i ~ N(0, 1)

z_i is what is known of a problem beforehand, such as its success rate with another model or last night's. a, b and s
maximise the likelihood of the counts so far (empirical Bayes; Gelman et al. 2013, "Bayesian Data Analysis", ch. 5) with
weak priors. How much a hint is worth is b against s, and is itself learned: a hint that says nothing gets b near 0 and
leaves every problem with the same wide distribution, so it does next to no harm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize as _optimize  # pyright: ignore[reportMissingTypeStubs]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
optimize: Any = _optimize  # ships no types

LOGITS: Floats = np.linspace(-13.8, 3.9, 96)
RATES: Floats = 1.0 / (1.0 + np.exp(-LOGITS))
LOG_RATE, LOG_MISS = np.log(RATES), np.log1p(-RATES)
"""The grid of success rates on which all distributions are, from 1e-6 to .98."""

START = np.array([-3.0, 0.75, np.log(2.0)])
"""a, b and ln s before anything is known. What is hard for one model is hard for others, so b begins above 0."""
SPREAD = np.array([3.0, 0.75, 0.5])
"""Standard deviations of the normal priors around ``START``."""
BELIEF = 0.1
"""Probability, before anything is known, that hints say something."""
FIRST, GROWTH = 64, 1.25
"""The fit is renewed after so many samples (an eighth of the problems, if that is more), and with a quarter more."""
MOST = 2_000
"""Problems in a fit; where there are more, evenly spaced ones stand for them."""


class Difficulty:
    """Distributions of the success rates of some problems.

    Args:
        problems: how many there are.
        before: n and c of each problem by something similar, shape [problems, 2]; None where nothing is known.
        similar: n and c of other problems of the same kind, shape [others, 2]: they say where a and s begin.
    """

    def __init__(self, problems: int, before: Ints | None = None, similar: Ints | None = None) -> None:
        self.hints = np.zeros(problems) if before is None else hints(before)
        self._hinted = before is not None and bool(np.ptp(self.hints) > 0)
        self.start = START.copy()
        if similar is not None and len(similar):
            n, c = similar.T
            none = np.zeros(len(n))
            plain = START * (1.0, 0.0, 1.0)
            found, _, _ = _fit(plain, [0, 2], log_likelihood(n, c), np.ones(len(n)), none, START)
            self.start[[0, 2]] = found[[0, 2]]
        self.plain, self.hinted = self.start * (1.0, 0.0, 1.0), self.start.copy()
        """a, b and ln s without regard to the hints, and with it."""
        self.trust = BELIEF if self._hinted else 0.0
        """Probability that the hints say something."""
        self._fitted = 0

    def due(self, samples: int) -> bool:
        """Whether so many samples are enough for another fit."""
        return samples >= max(self._fitted + max(FIRST, len(self.hints) // 8), GROWTH * self._fitted)

    def fit(self, drawn: Ints, correct: Ints) -> None:
        """Fit both models to counts, shape [problems] each, and weigh them."""
        self._fitted = int(drawn.sum())
        seen = np.flatnonzero(drawn > 0)
        chosen = seen[:: -(-len(seen) // MOST)] if len(seen) else seen
        states = np.stack([drawn[chosen], correct[chosen], self.hints[chosen]], axis=1)
        states, times = np.unique(states, axis=0, return_counts=True)
        known = log_likelihood(states[:, 0], states[:, 1])
        weight: Floats = times.astype(np.float64) * (len(seen) / max(1, len(chosen)))
        hint: Floats = states[:, 2].astype(np.float64)
        self.plain, without, _ = _fit(self.plain, [0, 2], known, weight, hint, self.start)
        if self._hinted:
            self.hinted, with_them, spread = _fit(self.hinted, [0, 1, 2], known, weight, hint, self.start)
            # Laplace's approximation of the evidence; a and ln s are about as uncertain in both
            gain = without - with_them + np.log(min(1.0, spread / SPREAD[1]))
            self.trust = float(1.0 / (1.0 + (1.0 - BELIEF) / BELIEF * np.exp(-np.clip(gain, -50.0, 50.0))))

    def posterior(self, drawn: Ints, correct: Ints, problems: Ints) -> Floats:
        """Return the distributions of some problems' rates on the grid, given their counts: [problems, rates]."""
        known = log_likelihood(drawn, correct)
        found = (1.0 - self.trust) * _posterior(self.plain, known, self.hints[problems])
        if self.trust > 0.0:
            found += self.trust * _posterior(self.hinted, known, self.hints[problems])
        return found


def hints(before: Ints) -> Floats:
    """Return what counts by something similar say about each problem: standardised log odds, 0 where there are none."""
    n, c = before.astype(np.float64).T
    known: NDArray[np.bool_] = n > 0
    odds: Floats = np.log((c + 0.5) / (n - c + 0.5))
    if not known.any():
        return np.zeros(len(before))
    spread = float(odds[known].std())
    scaled: Floats = (odds - odds[known].mean()) / (spread if spread > 0 else 1.0)
    rounded: Floats = np.round(1.5 * scaled, 2)
    return np.where(known, rounded, 0.0)


def log_likelihood(drawn: Any, correct: Any) -> Floats:
    """Return ln P(counts | rate) on the grid but for a constant, shape [problems, rates]."""
    correct, wrong = np.asarray(correct, dtype=np.float64), np.asarray(drawn - correct, dtype=np.float64)
    return correct[:, None] * LOG_RATE + wrong[:, None] * LOG_MISS


def _posterior(theta: Floats, known: Floats, hint: Floats) -> Floats:
    a, b, log_spread = theta
    return _normalise(known - 0.5 * ((LOGITS - (a + b * hint)[:, None]) / np.exp(log_spread)) ** 2)[1]


def _fit(
    theta: Floats, free: list[int], known: Floats, weight: Floats, hint: Floats, start: Floats
) -> tuple[Floats, float, float]:
    """Return the best a, b and ln s, of which some are free, their loss, and the standard error of b."""

    def loss(some: Floats) -> tuple[float, Floats]:
        value, gradient = _loss(whole(some), known, weight, hint, start)
        return value, gradient[free]

    def whole(some: Floats) -> Floats:
        full = theta.copy()
        full[free] = some
        return full

    found = optimize.minimize(loss, theta[free], jac=True, method="BFGS", options={"maxiter": 50})
    if not np.isfinite(found.x).all():
        return theta, float(loss(theta[free])[0]), float(SPREAD[1])
    best = whole(found.x)
    ahead = best + np.array([0.0, 1e-3, 0.0])
    bend = (_loss(ahead, known, weight, hint, start)[1][1] - _loss(best, known, weight, hint, start)[1][1]) / 1e-3
    fixed = [place for place in range(len(theta)) if place not in free]
    unasked = 0.5 * float((((best - start) / SPREAD)[fixed] ** 2).sum())  # the prior of what isn't in the model
    return best, float(found.fun) - unasked, float(1.0 / np.sqrt(max(bend, 1e-6)))


def _loss(theta: Floats, known: Floats, weight: Floats, hint: Floats, start: Floats) -> tuple[float, Floats]:
    """Return the negative log posterior density of a, b and ln s, and its gradient."""
    a, b, log_spread = theta
    spread: Floats = np.exp(log_spread)
    apart = (LOGITS - (a + b * hint)[:, None]) / spread
    prior = -0.5 * apart * apart
    total, shares = _normalise(prior)
    evidence, posterior = _normalise(prior + known)
    change = posterior - shares
    by_mean = (change * apart).sum(axis=1) / spread
    by_spread = (change * apart * apart).sum(axis=1)
    gain = np.array([weight @ by_mean, weight @ (by_mean * hint), weight @ by_spread])
    off = (theta - start) / SPREAD
    return float(-(weight @ (evidence - total)) + 0.5 * off @ off), -gain + off / SPREAD


def _normalise(logs: Floats) -> tuple[Floats, Floats]:
    """Return ln of the sums of exp(logs) along the grid, and the shares in them."""
    top = logs.max(axis=1, keepdims=True)
    shares = np.exp(logs - top)
    sums = shares.sum(axis=1, keepdims=True)
    return (top + np.log(sums))[:, 0], shares / sums
