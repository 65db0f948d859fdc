"""How hard problems are, learned while they are sampled: a distribution of success rates, and what hints say about it.

    logit p_i = a + sum_j b_j z_ij + s e_i,   e_i ~ N(0, 1)

z_ij is what source j knows of a problem beforehand, such as its success rate with another model or last night's. a, b
and s maximise the likelihood of the counts so far (empirical Bayes; Gelman et al. 2013, "Bayesian Data Analysis", ch.
5) with weak priors. How much a source is worth is its b against s, and is itself learned: one that says nothing gets b
near 0 and leaves every problem with the same wide distribution, so it does next to no harm.

Features of the problems themselves (``operators.measure.features``) are further z, about which nothing is believed
beforehand: their b are around 0, and how far from it is learned, too (``SCALES``: of several priors the one with the
largest evidence; MacKay 1992, "Bayesian Interpolation"). The spread that is left, s, is what a regressor's error is
once the noise of the counts is taken out of it (Lahlou et al. 2023, "DEUP: Direct Epistemic Uncertainty Prediction").

Other problems of the same kind come in groups, such as the nights before (``Group``). Each group has its own a, b and
s, and these are draws of a population; its mean and spread are where those of the problems at hand begin (hierarchical
Bayes; Gelman et al. 2013, ch. 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from schemas.later import Bools, Floats, Ints, Later, np

if TYPE_CHECKING:
    from operators.measure import rates as grid
else:
    grid = Later("operators.measure.rates")

START, SPREAD = (-3.0, math.log(2.0)), (3.0, 0.5)
"""Means and standard deviations of the normal priors of a and ln s."""
WORTH, WORTH_SPREAD = 0.75, 0.75
"""The same of all b together: each source begins with its share of both. What is hard for one model is hard for others,
so the mean is above 0."""
BELIEF = 0.1
"""Probability, before anything is known, that hints say something."""
SCALES = (0.5, 2.0)
"""How many logits all features together may explain, by either prior (standard deviations)."""
FIRST, GROWTH = 64, 1.25
"""The fit is renewed after so many samples (an eighth of the problems, if that is more), and with a quarter more."""
STEP = 1e-3
"""Of differences of gradients."""
MOST = 2_000
"""Problems in a fit; where there are more, evenly spaced ones stand for them."""


class Group(NamedTuple):
    """Other problems of the same kind, that were sampled together.

    Attributes:
        drawn, correct: n and c of each, shape [others].
        features: of each, on the scale of those of the problems at hand, shape [others, features]; None where they are
            not known.
    """

    drawn: Ints
    correct: Ints
    features: Floats | None = None


class Difficulty:
    """Distributions of the success rates of some problems.

    Attributes:
        start: a, b of each source and ln s before anything is known.
        plain, hinted: the same, fitted without regard to the hints (all b are 0), and with it.
        trust: probability that the hints say something.

    Args:
        problems: how many there are.
        before: n and c of each problem by something similar, shape [problems, 2], or by several such sources, shape
            [problems, sources, 2]; None where nothing is known.
        similar: n and c of other problems of the same kind, shape [others, 2]: a group whose features aren't known.
        features: what else is known of each problem, shape [problems, features], each with mean 0 and deviation 1.
        groups: other problems of the same kind: they say where a, b of the features and s begin.
    """

    def __init__(
        self,
        problems: int,
        before: Ints | None = None,
        similar: Ints | None = None,
        features: Floats | None = None,
        groups: Sequence[Group] = (),
    ) -> None:
        self.hints = np.zeros((problems, 1)) if before is None else hints(log_odds(before))
        told, more = self.hints.shape[1], 0 if features is None else features.shape[1]
        if features is not None:
            self.hints = np.concatenate([self.hints, features], axis=1)
        self._hinted = bool((np.ptp(self.hints, axis=0) > 0).any())
        prior = Prior.of(told, more)
        if similar is not None and len(similar):
            groups = [*groups, Group(similar[:, 0], similar[:, 1])]
        ways = [prior.scaled(told, scale) for scale in (SCALES if more else (1.0,))]
        self._prior, ways, self._belief = population(prior, ways, told, groups)
        self._ways = [Way(way, way.mean) for way in ways]
        self.start = ways[-1].mean
        self.plain, self.hinted = self._prior.plain, self.start
        self.trust = self._belief if self._hinted else 0.0
        self._fitted = 0

    def due(self, samples: int) -> bool:
        """Whether so many samples are enough for another fit."""
        return samples >= max(self._fitted + max(FIRST, len(self.hints) // 8), GROWTH * self._fitted)

    def fit(self, drawn: Ints, correct: Ints) -> None:
        """Fit both models to counts, shape [problems] each, and weigh them."""
        self._fitted = int(drawn.sum())
        states, weight = distinct(drawn, correct, self.hints)
        known, hint = log_likelihood(states[:, 0], states[:, 1]), states[:, 2:]
        prior = self._prior
        without = fit(self.plain, prior.ends, known, weight, hint, prior)
        self.plain = without.theta
        if self._hinted:
            gains = np.empty(len(self._ways))
            for place, way in enumerate(self._ways):
                with_them = fit(way.theta, way.prior.all, known, weight, hint, way.prior)
                way.theta = with_them.theta
                gains[place] = without.loss + with_them.evidence(way.prior, way.prior.all)
            self.hinted = self._ways[int(gains.argmax())].theta
            self.trust = trusted(gains, self._belief)

    def posterior(self, drawn: Ints, correct: Ints, problems: Ints) -> Floats:
        """Return the distributions of some problems' rates on the grid, given their counts: [problems, rates]."""
        known, hint = log_likelihood(drawn, correct), self.hints[problems]
        found = (1.0 - self.trust) * posterior(self.plain, known, hint)
        if self.trust > 0.0:
            found += self.trust * posterior(self.hinted, known, hint)
        return found


@dataclass(frozen=True)
class Prior:
    """Independent normal priors of a, b of each source, and ln s; shape [2 + sources] each."""

    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, sources: int, features: int = 0) -> Prior:
        """Return the priors of a fit with so many sources and features."""
        worth, apart = (np.full(sources, some / max(1, sources)) for some in (WORTH, WORTH_SPREAD))
        mean = np.concatenate([START[:1], worth, np.zeros(features), START[1:]])
        return cls(mean, np.concatenate([SPREAD[:1], apart, np.full(features, max(features, 1) ** -0.5), SPREAD[1:]]))

    def scaled(self, sources: int, scale: float) -> Prior:
        """Return priors whose features, those after so many sources, may explain ``scale`` times as much."""
        spread = self.spread.copy()
        spread[1 + sources : -1] *= scale
        return Prior(self.mean, spread)

    def among(self, thetas: list[Floats], places: list[int]) -> Prior:
        """Return the priors of one more group, given those of some groups at some places (``population``)."""
        if not thetas:
            return self
        mean, spread = self.mean.copy(), self.spread.copy()
        found = np.stack(thetas)[:, places]
        mean[places] = found.mean(axis=0)
        off = ((found - mean[places]) ** 2).sum(axis=0)
        spread[places] = np.sqrt((spread[places] ** 2 + off) / len(thetas))
        return Prior(mean, spread)

    @property
    def plain(self) -> Floats:
        """The means, with every b at 0."""
        found = np.zeros_like(self.mean)
        found[self.ends] = self.mean[self.ends]
        return found

    @property
    def ends(self) -> list[int]:
        """Where a and ln s are."""
        return [0, len(self.mean) - 1]

    @property
    def all(self) -> list[int]:
        return list(range(len(self.mean)))


@dataclass
class Way:
    """One prior of what hints and features are worth, and the best a, b and ln s by it so far."""

    prior: Prior
    theta: Floats


class Fit(NamedTuple):
    """A fitted ``theta`` (a, b, ln s), its loss, and the logarithm of the volume in which the free b lie (the square
    root of their covariance's determinant)."""

    theta: Floats
    loss: float
    log_spread: float

    def evidence(self, prior: Prior, free: list[int]) -> float:
        """Return Laplace's approximation of the log evidence; a and ln s are about as uncertain in all models."""
        worth = [place for place in free if place not in prior.ends]
        return min(0.0, self.log_spread - float(np.log(prior.spread[worth]).sum())) - self.loss


def trusted(gains: Floats, belief: float) -> float:
    """Return the probability that hints say something, given by how much they raise the log evidence under each of
    several priors, shape [priors], and what was believed before."""
    best = float(gains.max())
    gain = best + float(np.log(np.exp(gains - best).mean()))
    return float(1.0 / (1.0 + (1.0 - belief) / belief * np.exp(-np.clip(gain, -50.0, 50.0))))


def population(prior: Prior, ways: list[Prior], told: int, groups: Sequence[Group]) -> tuple[Prior, list[Prior], float]:
    """Return the priors of new problems, given what other groups of problems were like.

    The mean over groups of a parameter, and, of prior standard deviation s0, the spread

        sqrt((s0^2 + sum_j (theta_j - mean)^2) / J),

    the mode of a scaled inverse chi-squared posterior with one prior degree of freedom: one group moves the mean alone.
    What each group's own estimate is off is in it, so it is rather too wide. Sources are about the problems at hand, so
    groups tell nothing of their b.

    Args:
        prior: without features.
        ways: with them, by each scale.
        told: how many sources come before the features.

    Returns:
        Both kinds of priors, and how far features are believed from the start.
    """
    plain: list[Floats] = []
    whole: list[list[Floats]] = [[] for _ in ways]
    beliefs: list[float] = []
    free = [0, *range(1 + told, len(ways[0].mean))]
    for group in groups:
        if not group.drawn.any():
            continue
        hint = np.zeros((len(group.drawn), len(ways[0].mean) - 2))
        if group.features is not None:
            hint[:, told:] = group.features
        states, weight = distinct(group.drawn, group.correct, hint)
        known, hint = log_likelihood(states[:, 0], states[:, 1]), states[:, 2:]
        without = fit(prior.plain, prior.ends, known, weight, hint, prior)
        plain.append(without.theta)
        if not hint.any():
            continue
        fits = [fit(way.mean, free, known, weight, hint, way) for way in ways]
        gains = [without.loss + one.evidence(way, free) for one, way in zip(fits, ways, strict=True)]
        beliefs.append(trusted(np.array(gains), BELIEF))
        for place, one in enumerate(fits):
            whole[place].append(one.theta)
    if not beliefs:
        return prior.among(plain, prior.ends), [way.among(plain, prior.ends) for way in ways], BELIEF
    found = [way.among(thetas, free) for way, thetas in zip(ways, whole, strict=True)]
    return prior.among(plain, prior.ends), found, float(np.clip(np.mean(beliefs), BELIEF, 1.0 - BELIEF))


def log_odds(before: Ints) -> Floats:
    """Return what counts by something similar say about each problem: log odds of success, NaN where there are none.

    Args:
        before: as ``Difficulty`` takes them.

    Returns:
        Array of shape [problems, sources].
    """
    n, c = np.moveaxis(before.reshape(len(before), -1, 2).astype(np.float64), -1, 0)
    with np.errstate(invalid="ignore"):
        return np.where(n > 0, np.log((c + 0.5) / (n - c + 0.5)), np.nan)


def hints(odds: Floats) -> Floats:
    """Return log odds on one scale for all sources, 0 where there are none: [problems, sources] -> the same shape."""
    known: Bools = ~np.isnan(odds)
    count = np.maximum(known.sum(axis=0), 1)
    apart: Floats = np.where(known, odds - np.where(known, odds, 0.0).sum(axis=0) / count, 0.0)
    spread = np.sqrt((apart**2).sum(axis=0) / count)
    return np.round(1.5 * apart / np.where(spread > 0, spread, 1.0), 2)


def distinct(drawn: Ints, correct: Ints, hint: Floats) -> tuple[Floats, Floats]:
    """Return what is known of problems that were drawn (n, c, hints), each once, and how many each row stands for.

    Where there are more than ``MOST``, evenly spaced ones stand for them.
    """
    seen = np.flatnonzero(drawn > 0)
    chosen = seen[:: -(-len(seen) // MOST)] if len(seen) else seen
    states = np.column_stack([drawn[chosen], correct[chosen], hint[chosen]])
    states, times = np.unique(states, axis=0, return_counts=True)
    return states.astype(np.float64), times.astype(np.float64) * (len(seen) / max(1, len(chosen)))


def log_likelihood(drawn: Any, correct: Any) -> Floats:
    """Return ln P(counts | rate) on the grid but for a constant, shape [problems, rates]."""
    correct, wrong = np.asarray(correct, dtype=np.float64), np.asarray(drawn - correct, dtype=np.float64)
    return correct[:, None] * grid.LOG_RATE + wrong[:, None] * grid.LOG_MISS


def posterior(theta: Floats, known: Floats, hint: Floats) -> Floats:
    """Return the distributions on the grid of rates whose counts have the log-likelihoods ``known``: same shape."""
    return _normalise(known - 0.5 * _apart(theta, hint) ** 2)[1]


def fit(theta: Floats, free: list[int], known: Floats, weight: Floats, hint: Floats, prior: Prior) -> Fit:
    """Return the best a, b and ln s, of which some are free.

    Args:
        theta: where to begin; what isn't free stays as it is.
        known: log-likelihoods, shape [states, rates].
        weight: how many problems each row stands for, shape [states].
        hint: shape [states, sources].
    """

    def loss(some: Floats) -> tuple[float, Floats]:
        value, gradient = _loss(whole(some), known, weight, hint, prior)
        return value, gradient[free]

    def whole(some: Floats) -> Floats:
        full = theta.copy()
        full[free] = some
        return full

    from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]: 40 MB, for which only fitting pays

    worth = [place for place in free if place not in prior.ends]
    found = cast(Any, optimize).minimize(loss, theta[free], jac=True, method="BFGS", options={"maxiter": 50})
    if not np.isfinite(found.x).all():
        return Fit(theta, float(loss(theta[free])[0]), float(np.log(prior.spread[worth]).sum()))
    best = whole(found.x)
    bend = curvature(best, known, weight, hint, prior)[np.ix_(worth, worth)]
    fixed = [place for place in range(len(theta)) if place not in free]
    unasked = 0.5 * float((((best - prior.mean) / prior.spread)[fixed] ** 2).sum())  # priors of what isn't in the model
    return Fit(best, float(found.fun) - unasked, -0.5 * float(np.log(np.maximum(np.linalg.eigvalsh(bend), 1e-6)).sum()))


def curvature(theta: Floats, known: Floats, weight: Floats, hint: Floats, prior: Prior) -> Floats:
    """Return the second derivatives of the negative log posterior density at ``theta``: shape [len(theta)] * 2."""
    here = _loss(theta, known, weight, hint, prior)[1]
    ahead = [_loss(theta + step, known, weight, hint, prior)[1] for step in STEP * np.eye(len(theta))]
    bend = (np.stack(ahead) - here) / STEP
    return 0.5 * (bend + bend.T)


def _loss(theta: Floats, known: Floats, weight: Floats, hint: Floats, prior: Prior) -> tuple[float, Floats]:
    """Return the negative log posterior density of a, b and ln s, and its gradient."""
    spread: Floats = np.exp(theta[-1])
    apart = _apart(theta, hint)
    log_prior = -0.5 * apart * apart
    total, shares = _normalise(log_prior)
    evidence, after = _normalise(log_prior + known)
    change = after - shares
    by_mean = (change * apart).sum(axis=1) / spread
    by_spread = (change * apart * apart).sum(axis=1)
    gain = np.array([weight @ by_mean, *((weight * by_mean) @ hint), weight @ by_spread])
    off = (theta - prior.mean) / prior.spread
    return float(-(weight @ (evidence - total)) + 0.5 * off @ off), -gain + off / prior.spread


def _apart(theta: Floats, hint: Floats) -> Floats:
    """Return how far each rate of the grid is from each row's mean, in units of s: shape [rows, rates]."""
    return (grid.LOGITS - (theta[0] + hint @ theta[1:-1])[:, None]) / np.exp(theta[-1])


def _normalise(logs: Floats) -> tuple[Floats, Floats]:
    """Return ln of the sums of exp(logs) along the grid, and the shares in them."""
    top = logs.max(axis=1, keepdims=True)
    shares = np.exp(logs - top)
    sums = shares.sum(axis=1, keepdims=True)
    return (top + np.log(sums))[:, 0], shares / sums
