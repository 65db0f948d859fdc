"""The forecast to go by: three views of the unsolved problems together, each where it is known to be good.

What was solved stays solved; of the others a share will be, and nobody knows by what law. Three laws are asked, and
each says what chance an unsolved problem has:

* ``tail``, the hard problems alone (``operators.measure.tail``),
* a beta distribution fitted to all problems,
* a power law of the curve that was measured, -ln coverage = exp(a) k^b.

From few samples the first two know nothing of problems that are harder than all that was seen, and the power law, which
takes the whole curve, errs least; from many all three err alike but not the same way, and their mean errs less. So
from 100 samples of each problem and fewer the forecast is the power law, from 1,000 and more the mean of the three, and
between them the power law's weight falls evenly with ln n. (Choosing by how well each law predicts what was held back
was tried and is worse.) The power law is a straight line in ln(-ln coverage) over ln k, with every point weighed by the
binomial error of its coverage.

The interval is that of the three laws' predictions taken together, each with its own uncertainty: the posterior of the
tail, problems drawn with replacement for the power law, and for all of them the luck of the draws to come, each
unsolved problem being solved or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from operators.measure.intervals import ENDS
from operators.measure.tail import Tail
from schemas.later import Floats, Ints, np, special

FEW, MANY = 100, 1000
"""Samples of each problem up to which the power law is taken alone, and from which all three count alike."""
REPLICATES = 40
"""Power laws fitted to problems drawn with replacement."""
Curve = Callable[[Ints], tuple[Ints, Floats]]
"""Which problems (places, drawn with replacement) -> log-spaced k and their coverage there, as measured."""


class Open(NamedTuple):
    """What is known of coverage at some k > n.

    Attributes:
        solved: problems that count as solved, fractions of those with k samples and more included.
        sizes, problems: the different n < k of problems without a right sample, and how many there are of each.
        total: of all problems.
    """

    solved: float
    sizes: Ints
    problems: Ints
    total: int

    @property
    def unsolved(self) -> int:
        return int(self.problems.sum())


def straight(points: Ints, coverage: Floats, k: Ints) -> Floats:
    """Return the power law's coverage at each k, NaN where fewer than two points say something."""
    some = (coverage > 0.0) & (coverage < 1.0)
    if some.sum() < 2:
        return np.full(len(k), np.nan)
    x, share = np.log(points[some].astype(np.float64)), coverage[some]
    missing = -np.log(share)
    slope, start = np.polyfit(x, np.log(missing), 1, w=missing * np.sqrt(share / (1.0 - share)))
    return np.exp(-np.exp(start + slope * np.log(k.astype(np.float64))))


def weights(n: int) -> Floats:
    """Return how much tail, beta and power law count, from n samples of each problem."""
    shared = float(np.clip(np.log(n / FEW) / np.log(MANY / FEW), 0.0, 1.0)) / 3.0
    return np.array([shared, shared, 1.0 - 2.0 * shared])


def tail_alone(open_: Open, k: int, tail: Tail, draws: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return the tail's own forecast of coverage at k and the ends of its 95% interval."""
    mean, drawn = _by_tail(open_, k, tail, draws, rng)
    return _total(open_, mean, drawn)


def combined(
    open_: Open,
    k: int,
    tail: Tail,
    beta: tuple[float, float] | None,
    curve: Curve,
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Return the forecast of coverage at k and the ends of its 95% interval.

    Args:
        beta: a and b of the distribution fitted to all problems; None where no sample is right.
        draws: of each law.
    """
    points, _ = curve(np.arange(open_.total))
    laws = [
        _by_tail(open_, k, tail, draws, rng),
        *([] if beta is None else [_by_beta(open_, k, beta, draws, rng)]),
        *_by_power_law(open_, k, curve, draws, rng),
    ]
    shares = weights(int(points.max())) if len(laws) == 3 else np.full(len(laws), 1.0 / len(laws))
    value = sum(share * mean for share, (mean, _) in zip(shares.tolist(), laws, strict=True))
    return _total(open_, value, np.concatenate([drawn for _, drawn in laws]))


Law = tuple[float, Floats]
"""How many of the unsolved problems will be solved: the mean, and draws."""


def _total(open_: Open, value: float, drawn: Floats) -> tuple[float, float, float]:
    low, high = np.quantile(drawn, ENDS).tolist()
    value, low, high = (found + open_.solved for found in (value, min(low, value), max(high, value)))
    return value / open_.total, low / open_.total, high / open_.total


def _by_tail(open_: Open, k: int, tail: Tail, draws: int, rng: np.random.Generator) -> Law:
    theta = tail.draw(draws, rng)
    mean, drawn = 0.0, np.zeros(draws)
    for size, problems in zip(open_.sizes.tolist(), open_.problems.tolist(), strict=True):
        mean += problems * float((tail.hit(size, k) * tail.weight).sum())
        drawn += rng.binomial(problems, _hits(theta, size, k))
    return mean, drawn


def _by_beta(open_: Open, k: int, beta: tuple[float, float], draws: int, rng: np.random.Generator) -> Law:
    a, b = beta
    hits = -np.expm1(special.betaln(a, b + k) - special.betaln(a, b + open_.sizes.astype(np.float64)))
    drawn = rng.binomial(open_.problems, hits, (draws, len(hits))).sum(axis=1)
    return float(hits @ open_.problems), drawn.astype(np.float64)


def _by_power_law(open_: Open, k: int, curve: Curve, draws: int, rng: np.random.Generator) -> list[Law]:
    """Return the law, if there is one."""
    sizes = np.array([k])
    law = straight(*curve(np.arange(open_.total)), sizes)
    if not np.isfinite(law[0]) or not open_.unsolved:
        return []
    again = [curve(rng.integers(0, open_.total, open_.total)) for _ in range(REPLICATES)]
    ends = np.array([coverage[-1] for _, coverage in again])
    found = np.array([straight(points, coverage, sizes)[0] for points, coverage in again])
    some = np.isfinite(found) & (ends < 1.0)
    best = float(np.clip((law[0] * open_.total - open_.solved) / open_.unsolved, 0.0, 1.0))
    hits = np.append(np.clip((found[some] - ends[some]) / (1.0 - ends[some]), 0.0, 1.0), best)
    drawn = rng.binomial(open_.unsolved, rng.choice(hits, draws))
    return [(best * open_.unsolved, drawn.astype(np.float64))]


def _hits(theta: tuple[Floats, Floats, Floats], n: int, k: int) -> Floats:
    """Return the chance that a problem without a right sample among n has one among k, for each draw of the tail."""
    a, b, z = theta

    def miss(size: int) -> Floats:
        return z + (1.0 - z) * np.exp(special.betaln(a, b + size) - special.betaln(a, b))

    return np.clip(1.0 - miss(k) / miss(n), 0.0, 1.0)
