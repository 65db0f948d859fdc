"""How many of the unsolved problems more samples will solve: a Bayesian look at the left tail of difficulty.

Problems differ in their chance p of a right sample. Coverage at many samples hangs on the density of p near 0, which is
a power law p^(a-1) there (Schaeffer et al. 2025). A beta distribution has such a tail, but fitted to all problems it
lets the easy ones bend it. So it is fitted to the hard ones alone: the counts of at most ``CUTOFF`` right samples,
given that they are no more. And some problems may never be solved: p is 0 with probability z, else Beta(a, b).

The posterior of (a, b, z) is computed on a grid. The prior of a is log-normal around 0.3, where exponents of measured
coverage curves lie; b is log-uniform; z is 0 with probability 0.8, else small. Where difficulty has a thinner tail than
a power law, forecasts are too low.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special as _special  # pyright: ignore[reportMissingTypeStubs]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
special: Any = _special  # it ships no types

CUTOFF = 10
"""Right samples that a problem of the tail has at most. 5 or 20 forecast alike; all bend the tail."""
EXPONENT = (-1.2, 1.0)
"""Mean and standard deviation of ln a."""
NO_ZEROS, ZEROS = 0.8, 6.0
"""P(z = 0), and b of z's Beta(1, b) otherwise."""
GRID = (36, 40)
"""Points of a and b."""
SHARES: Floats = np.concatenate([np.zeros(1), np.linspace(0.01, 0.97, 33)])
"""Points of z."""


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

    def hit(self, n: int, k: int) -> Floats:
        """Return the chance that a problem without a right sample among n has one among k > n, at each point."""
        return np.clip(1.0 - self.miss(k) / self.miss(n), 0.0, 1.0)


def fit_tail(n: Ints, c: Ints) -> Tail:
    """Return the posterior, given n samples of each problem, c of them right: shape [problems]."""
    a: Floats = np.exp(EXPONENT[0] + EXPONENT[1] * np.linspace(-4.0, 4.0, GRID[0]))[:, None, None]
    b: Floats = np.geomspace(0.1, 100.0 * float(n.max()), GRID[1])[None, :, None]
    z = SHARES[None, None, :]
    shares: Floats = np.log1p(-SHARES[1:]) * (ZEROS - 1.0)
    shares += np.log(1.0 - NO_ZEROS) - float(special.logsumexp(shares))
    log = np.concatenate([[np.log(NO_ZEROS)], shares]) - 0.5 * ((np.log(a) - EXPONENT[0]) / EXPONENT[1]) ** 2
    log = log + _log_likelihood(n, c, a, b, z)
    weight = np.exp(log - log.max())
    return Tail(a, b, z, weight / weight.sum())


def _log_likelihood(n: Ints, c: Ints, a: Floats, b: Floats, z: Floats) -> Floats:
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
