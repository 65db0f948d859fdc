"""Control variates: what cheap scores of all samples say about the mean of expensive verdicts on some of them.

Several expectations of one sample, E[y g] / E[g] for several weights g (all samples, those of a level, the long ones),
each from the same verdicts. With r whether a sample was judged and p the probability that it would be, every function z
of cheap things gives a control variate (r/p - 1) z, whose mean is 0. So

    psi_i = (1/n_i) sum_j [ r/p y g  -  (r/p - 1) z' lambda ]        sum_i psi_i / sum_i (1/n_i) sum_j g

is unbiased for any lambda, and lambda = Cov(z)^-1 Cov(z, y g) takes out all of the variance that z explains (Hammersley
and Handscomb 1964, "Monte Carlo Methods", ch. 5; with p from a design that hangs on what was seen: Robins, Rotnitzky
and Zhao 1994). As z serve the constant, which makes it the mean of those judged where nothing else helps, and
a prediction of y: prediction-powered inference (Angelopoulos, Duchi and Zrnic 2023, "PPI++").
Predictions and lambda of a problem are fitted to other problems (Chernozhukov et al. 2018, "Double/Debiased Machine
Learning": cross-fitting), so that nothing is explained twice.

There are two predictions, one by all samples judged and one by those of the group alone (cheap scores may mean
something else there). Their mean and their difference are both control variates, so several expectations at once are
no worse than each apart, and mostly better. Nothing is chosen by what comes out: of several estimates the one that
claims the least error would be one that was lucky, and its interval too short.

Where a few rare samples make most of the error, its estimate is itself uncertain. Intervals are Student's with the
degrees of freedom that its scatter is worth (Satterthwaite 1946): 2 (sum_i v_i)^2 / sum_i v_i^2 or so for the squares
v_i that it is the sum of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from schemas.later import Bools, Floats, Ints, np

FOLDS = 5
RIDGE = 1.0
"""Of the predictions' coefficients, in judged samples' worth: features are standardised."""
STEPS = 8
"""Of Newton's method; what isn't there by then is good enough as a control variate."""
OWN = 40
"""Judged samples from which a group has predictions of its own."""
SHRINK = 1e-3
"""Of lambda's equations, relative to their diagonal."""
APART = 30.0
"""Judged problems that it takes to believe half of what the two predictions' difference seems to tell."""


@dataclass(frozen=True)
class Sampled:
    """Samples, some of which were judged.

    Attributes:
        y: verdicts in [0, 1], anything where there is none: [samples].
        judged: whether a sample was judged: [samples].
        chance: with what probability it would be, above 0: [samples].
        cheap: features of all samples: [samples, features].
        problem: whose sample it is, numbered from 0: [samples].
        whole: whether problems were chosen to be judged, with all their samples; else samples.
    """

    y: Floats
    judged: Bools
    chance: Floats
    cheap: Floats
    problem: Ints
    whole: bool


class Expectation(NamedTuple):
    """One expectation, by all that is known (``value``) and by the judged samples alone (``plain``).

    Attributes:
        error: standard errors, for problems like these.
        same_error: for the mean of these very samples, had all been judged.
        freedom: degrees of freedom of each error: at most the judged problems less what was fitted (judged samples,
            where they were chosen one by one and these very samples are asked about).
        problems: those with a judged sample.
        n: judged samples.
        of: all of them.
    """

    value: float
    error: float
    same_error: float
    plain: float
    plain_error: float
    plain_same_error: float
    freedom: float
    same_freedom: float
    plain_freedom: float
    problems: int
    n: int
    of: int


def estimate(sampled: Sampled, groups: Bools, seed: int) -> list[Expectation]:
    """Return the expectation of each group's verdicts, all from the same fits.

    Args:
        groups: which samples each is about, shape [samples, groups].
        seed: of the folds.
    """
    problems = int(sampled.problem.max()) + 1
    fold = np.random.default_rng(seed).permutation(problems) % FOLDS
    features = standardised(sampled.cheap)
    pooled = _predictions(sampled, features, np.ones(len(sampled.y), dtype=np.bool_), fold)
    found: list[Expectation] = []
    for column in groups.T:
        few = int((sampled.judged & column).sum()) < OWN
        own = pooled if column.all() or few else _predictions(sampled, features, column, fold)
        one = _expectation(sampled, column, pooled, own, fold)
        found.append(one if one.same_error < one.plain_same_error else _without(one))
    return found


def _without(found: Expectation) -> Expectation:
    """Return the mean of the judged samples alone, where cheap scores don't help."""
    return found._replace(
        value=found.plain,
        error=found.plain_error,
        same_error=found.plain_same_error,
        freedom=found.plain_freedom,
        same_freedom=found.plain_freedom,
    )


def standardised(cheap: Floats) -> Floats:
    """Return features with their squares, each with mean 0 and deviation 1; constant ones are left out."""
    cheap = cheap / np.maximum(np.abs(cheap).max(axis=0, initial=0.0), 1e-300)  # so that no square is too large
    wide = np.concatenate([cheap, cheap**2], axis=1)
    varying = wide.std(axis=0) > 1e-9
    some = wide[:, varying]
    return (some - some.mean(axis=0)) / some.std(axis=0)


def _predictions(sampled: Sampled, features: Floats, group: Bools, fold: Ints) -> Floats:
    """Return the chance of a right verdict of each sample, fitted to the judged samples of other folds."""
    x = np.concatenate([np.ones((len(features), 1)), features], axis=1)
    weight = np.where(sampled.judged & group, 1.0 / sampled.chance, 0.0)
    weight *= (weight > 0).sum() / max(weight.sum(), 1e-12)
    found = np.zeros(len(x))
    for number in range(FOLDS):
        here = fold[sampled.problem] == number
        some = (weight > 0) & ~here
        found[here] = _chance(x[here], _logistic(x[some], sampled.y[some], weight[some]))
    return found


def _logistic(x: Floats, y: Floats, weight: Floats) -> Floats:
    """Return the coefficients of a logistic regression with a ridge, by Newton's method."""
    ridge = np.full(x.shape[1], RIDGE)
    ridge[0] = 1e-3
    beta = np.zeros(x.shape[1])
    for _ in range(STEPS):
        p = _chance(x, beta)
        bend = (x * (weight * np.maximum(p * (1.0 - p), 1e-4))[:, None]).T @ x + np.diag(ridge)
        beta = beta + np.linalg.solve(bend, x.T @ (weight * (y - p)) - ridge * beta)
    return beta


def _chance(x: Floats, beta: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(x @ beta, -30.0, 30.0)))


def _expectation(sampled: Sampled, group: Bools, pooled: Floats, own: Floats, fold: Ints) -> Expectation:
    problem, problems = sampled.problem, len(fold)
    size = np.bincount(problem, minlength=problems).astype(np.float64)
    drawn = np.where(sampled.judged, 1.0 / sampled.chance, 0.0)
    y = np.where(sampled.judged, sampled.y, 0.0)
    inside = group.astype(np.float64)
    seen = sampled.judged & group
    z = np.stack([inside, inside * 0.5 * (pooled + own), inside * 0.5 * (own - pooled)], axis=1)
    answered = int((np.bincount(problem[seen], minlength=problems) > 0).sum())
    shrink = np.array([SHRINK, SHRINK, SHRINK + APART / max(1, answered)])

    def by_problem(values: Floats) -> Floats:
        return np.bincount(problem, values, problems).astype(np.float64) / size

    judged, share, drawn_share = (by_problem(one) for one in (drawn * y * inside, inside, drawn * inside))
    controls = np.stack([by_problem((drawn - 1.0) * column) for column in z.T], axis=1)
    plain = float(judged.sum() / max(drawn_share.sum(), 1e-12))
    of = float(share.mean())
    psi, residual = np.empty(problems), np.empty(len(y))
    for number in np.unique(fold):
        others, here = fold != number, fold == number
        by = _lambda(controls[others], (judged - plain * share)[others], shrink)
        psi[here] = judged[here] - controls[here] @ by
        rows = here[problem]
        residual[rows] = (group * y - z @ by)[rows]
    value = float(psi.sum() / share.sum())
    fitted = 2 if own is pooled else 3
    lots = answered if sampled.whole else int(seen.sum())  # what was chosen by lot
    most, most_plain = max(1, answered - fitted), max(1, answered - 1)
    error, freedom = _error(psi - value * share, of, most)
    same_error, same_freedom = _same_error(sampled, residual, size, of, max(1, lots - fitted))
    plain_error, plain_freedom = _error(judged - plain * drawn_share, float(drawn_share.mean()), most_plain)
    return Expectation(
        value=value,
        error=error,
        same_error=same_error,
        plain=plain,
        plain_error=plain_error,
        plain_same_error=_same_error(sampled, group * (y - plain), size, of, max(1, lots - 1))[0],
        freedom=freedom,
        same_freedom=same_freedom,
        plain_freedom=plain_freedom,
        problems=answered,
        n=int(seen.sum()),
        of=int(group.sum()),
    )


def _lambda(controls: Floats, target: Floats, shrink: Floats) -> Floats:
    """Return the coefficients that leave the least variance: their covariances', the controls' means being 0."""
    moments: Floats = controls.T @ controls
    shrunk = moments + np.diag(shrink * np.diag(moments) + 1e-12)
    return np.linalg.solve(shrunk, controls.T @ target).astype(np.float64)


def _error(influence: Floats, of: float, most: int) -> tuple[float, float]:
    """Return the standard error of a mean over problems, ``of`` being what it is divided by, and its degrees of freedom
    (``most`` at most)."""
    squares = (influence - influence.mean()) ** 2
    problems = len(influence)
    inflated = (most + 1) / most  # as the variance of a few judged problems is
    scatter = _scatter(squares) - 1.0 / problems  # the number of problems is given
    return float(np.sqrt(squares.sum() * inflated) / (problems * max(of, 1e-12))), _freedom(scatter, most)


def _same_error(sampled: Sampled, residual: Floats, size: Floats, of: float, most: int) -> tuple[float, float]:
    """Return the standard error that the choice of who is judged makes, all else being as it is, and its degrees of
    freedom."""
    problem = sampled.problem
    drawn = np.where(sampled.judged, residual / sampled.chance / size[problem], 0.0)
    if sampled.whole:
        sums = np.bincount(problem, drawn, len(size))
        chance = np.bincount(problem, sampled.chance, len(size)) / size
        squares = sums**2 * (1.0 - chance)
    else:
        squares = drawn**2 * (1.0 - sampled.chance)
    error = float(np.sqrt(squares.sum() * (most + 1) / most) / (len(size) * max(of, 1e-12)))
    return error, _freedom(_scatter(squares), most)


def _scatter(squares: Floats) -> float:
    """Return the squared coefficient of variation of a sum, of which each summand is there or not by chance."""
    total = float(squares.sum())
    return float(squares @ squares) / total**2 if total > 0.0 else 0.0


def _freedom(scatter: float, most: int) -> float:
    """Return the degrees of freedom of a variance whose estimate scatters so much."""
    return float(np.clip(2.0 / scatter, 1.0, most)) if scatter > 0.0 else float(most)
