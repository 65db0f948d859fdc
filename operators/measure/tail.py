"""How many of the unsolved problems more samples will solve: a Bayesian look at the left tail of difficulty.

Problems differ in their chance p of a right sample. Coverage at many samples hangs on the density of p near 0, which is
a power law p^(a-1) there (Schaeffer et al. 2025). A beta distribution has such a tail, but fitted to all problems it
lets the easy ones bend it. So it is fitted to the hard ones alone: the counts of at most ``CUTOFF`` right samples,
given that they are no more. And some problems may never be solved: p is 0 with probability z, else Beta(a, b).

Where sampling stopped at successes, that condition means something else for every problem (whoever stopped at the first
success had no chance of more), and all counts are taken as they are (``fit_all``). That is also how the rates of the
very problems that were sampled are learned, easy ones included (``operators.measure.intervals``).

The posterior of (a, b, z) is computed on a grid. The prior of a is log-normal around 0.3, where exponents of measured
coverage curves lie; b is log-uniform; z is 0 with probability 0.8, else small. Where difficulty has a thinner tail than
a power law, forecasts are too low.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.later import Floats, Ints, np, special

CUTOFF = 10
"""Right samples that a problem of the tail has at most. 5 or 20 forecast alike; all bend the tail."""
EXPONENT = (-1.2, 1.0)
"""Mean and standard deviation of ln a."""
NO_ZEROS, ZEROS = 0.8, 6.0
"""P(z = 0), and b of z's Beta(1, b) otherwise."""
GRID = (36, 40)
"""Points of a and b."""
PAIRS = 128
"""Different counts that are looked at in one step (1.5 MB)."""
SHARES = (0.01, 0.97, 33)
"""Points of z beside 0: from, to, how many."""


Theta = tuple[Floats, Floats, Floats]
"""Draws of a, b and z, shape [draws] each."""


@dataclass(frozen=True)
class Tail:
    """A posterior on the grid: ``a`` [as, 1, 1], ``b`` [1, bs, 1], ``z`` [1, 1, zs], ``weight`` [as, bs, zs]."""

    a: Floats
    b: Floats
    z: Floats
    weight: Floats

    def miss(self, k: int) -> Floats:
        """Return E[(1-p)^k] at each point of the grid."""
        return self.z + (1.0 - self.z) * np.exp(special.betaln(self.a, self.b + k) - special.betaln(self.a, self.b))

    def draw(self, count: int, rng: np.random.Generator) -> Theta:
        """Return so many draws from the posterior."""
        chosen = rng.choice(self.weight.size, size=count, p=self.weight.ravel() / self.weight.sum())
        places = np.unravel_index(chosen, self.weight.shape)
        a, b, z = (axis.ravel()[place] for axis, place in zip((self.a, self.b, self.z), places, strict=True))
        return a, b, z

    def hit(self, n: int, k: int) -> Floats:
        """Return the chance that a problem without a right sample among n has one among k > n, at each point."""
        return np.clip(1.0 - self.miss(k) / self.miss(n), 0.0, 1.0)


def never(theta: Theta, n: Ints, c: Ints) -> Floats:
    """Return the chance that each problem can't be solved at all, given its counts: [draws, problems]."""
    a, b, z = (axis[:, None] for axis in theta)
    unseen = special.betaln(a, b + n) - special.betaln(a, b)
    return np.where(c == 0, z / (z + (1.0 - z) * np.exp(unseen)), 0.0)


def expected(theta: Theta, n: Ints, c: Ints, k: Ints) -> Floats:
    """Return E[1 - (1-p)^k] of each problem given its counts, for each draw of a, b and z: [draws, problems, ks]."""
    a, b, _ = (axis[:, None, None] for axis in theta)
    alpha, beta = a + c[:, None], b + (n - c)[:, None]
    found = -np.expm1(special.betaln(alpha, beta + k) - special.betaln(alpha, beta))
    return (1.0 - never(theta, n, c))[:, :, None] * found


def fit_tail(n: Ints, c: Ints) -> Tail:
    """Return the posterior of the tail, given n samples of each problem, c of them right: shape [problems].

    n must not have depended on the results.
    """
    a, b, z, log_prior = _grid(n)
    return _posterior(a, b, z, log_prior + _log_likelihood_of_few(n, c, a, b, z))


def fit_all(n: Ints, c: Ints) -> Tail:
    """Return the posterior given all counts, however it was decided how many samples each problem gets."""
    a, b, z, log_prior = _grid(n)
    return _posterior(a, b, z, log_prior + _log_likelihood(n, c, a, b, z))


def _grid(n: Ints) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the points of a, b and z, and the log of the prior there."""
    a: Floats = np.exp(EXPONENT[0] + EXPONENT[1] * np.linspace(-4.0, 4.0, GRID[0]))[:, None, None]
    b: Floats = np.geomspace(0.1, 100.0 * float(max(n.max(), 1)), GRID[1])[None, :, None]
    z = np.linspace(*SHARES)
    shares: Floats = np.log1p(-z) * (ZEROS - 1.0)
    shares += np.log(1.0 - NO_ZEROS) - float(special.logsumexp(shares))
    log = np.concatenate([[np.log(NO_ZEROS)], shares]) - 0.5 * ((np.log(a) - EXPONENT[0]) / EXPONENT[1]) ** 2
    return a, b, np.append(0.0, z)[None, None, :], log


def _posterior(a: Floats, b: Floats, z: Floats, log: Floats) -> Tail:
    log = np.broadcast_to(log, np.broadcast_shapes(a.shape, b.shape, z.shape))
    weight = np.exp(log - log.max())
    return Tail(a, b, z, weight / weight.sum())


def _log_likelihood(n: Ints, c: Ints, a: Floats, b: Floats, z: Floats) -> Floats:
    """Return the log-likelihood of all counts, but for a constant, at each point."""
    pairs, times = np.unique(np.stack([n, c]), axis=1, return_counts=True)
    some, none = np.log1p(-z), np.log(np.maximum(z, 1e-300))
    solved = pairs[1] > 0
    total = times[solved].sum() * some + np.zeros((*np.broadcast_shapes(a.shape, b.shape)[:2], 1))
    for start in range(0, int(solved.sum()), PAIRS):
        some_pairs, counts = pairs[:, solved][:, start : start + PAIRS], times[solved][start : start + PAIRS]
        right = some_pairs[1].astype(np.float64)[:, None, None, None]
        wrong = (some_pairs[0] - some_pairs[1]).astype(np.float64)[:, None, None, None]
        logs: Floats = special.betaln(right + a, wrong + b) - special.betaln(a, b)
        total = total + np.tensordot(counts.astype(np.float64), logs, axes=1)
    for drawn, count in zip(pairs[0][~solved].tolist(), times[~solved].tolist(), strict=True):
        total = total + count * np.logaddexp(none, some + special.betaln(a, b + drawn) - special.betaln(a, b))
    return total


def _log_likelihood_of_few(n: Ints, c: Ints, a: Floats, b: Floats, z: Floats) -> Floats:
    """Return the log-likelihood of the counts up to the cutoff, given that they are no more, at each point."""
    some, none = np.log1p(-z), np.log(np.maximum(z, 1e-300))
    total = np.zeros(np.broadcast_shapes(a.shape, b.shape, z.shape))
    for size in np.unique(n[c <= CUTOFF]):
        counts = np.bincount(c[(n == size) & (c <= CUTOFF)]).astype(np.float64)
        right = np.arange(min(CUTOFF, int(size)) + 1, dtype=np.float64)[:, None, None, None]
        ways = special.gammaln(size + 1) - special.gammaln(right + 1) - special.gammaln(size - right + 1)
        logs: Floats = ways + special.betaln(right + a, size - right + b) - special.betaln(a, b)
        total += counts[0] * np.logaddexp(none, some + logs[0]) + counts[1:].sum() * some
        total += np.tensordot(counts[1:], logs[1 : len(counts)], axes=1)
        total -= counts.sum() * np.logaddexp(none, some + np.minimum(special.logsumexp(logs, axis=0), 0.0))
    return total
