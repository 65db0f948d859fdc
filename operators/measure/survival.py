"""Coverage from when problems were first solved: without bias also where sampling stopped at successes.

A problem's first success comes at draw f, or sampling ended at draw n without one (it is censored there). With d_j the
problems first solved by draw j and r_j those that were still unsolved and drawn a j-th time, coverage at k is

    1 - prod_{j <= k} (1 - d_j / r_j)

(Kaplan and Meier 1958). This asks that problems given up early are no harder or easier than those that went on with as
many failures. At k no larger than the n of every unsolved problem nothing was given up, and it is the plain share of
problems with f <= k, whatever the policy was.
"""

from __future__ import annotations

from schemas.errors import BadInput
from schemas.later import Floats, Ints, np

ENDS = (0.025, 0.975)
BLOCK = 4_000_000
"""Numbers drawn at once (32 MB)."""


def unstopped(n: Ints, first: Ints) -> int:
    """Return the largest k at which no unsolved problem had been given up.

    Args:
        n: draws of each problem, shape [problems].
        first: the draw of its first success, 0 where there is none; same shape.
    """
    unsolved = n[first == 0]
    return int(unsolved.min()) if unsolved.size else int(first.max())


def first_success(n: Ints, first: Ints, k: Ints) -> Floats:
    """Return coverage at each k, shape [ks].

    Raises:
        BadInput: nobody was drawn k times while there were unsolved problems, so nothing is known of k.
    """
    times, solved, at_risk = _steps(n, first)
    largest = int(_last(n, first).max())
    all_solved = bool(times.size) and bool(solved[-1] == at_risk[-1]) and int(times[-1]) == largest
    if int(k.max()) > largest and not all_solved:
        raise BadInput(
            f"measure.pass_at_k: k = {int(k.max()):,}, but no unsolved problem has more than {largest:,} samples. Ask "
            f"for k <= {largest:,}, or draw more"
        )
    with np.errstate(divide="ignore"):
        log_missed = np.concatenate([[0.0], np.cumsum(np.log1p(-solved / at_risk))])
    return -np.expm1(log_missed[np.searchsorted(times, k, side="right")])


def interval(n: Ints, first: Ints, k: Ints, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Return the ends of the 95% interval of coverage at each k, of problems like these: two arrays of shape [ks].

    The beta product intervals of Fay, Brittain and Proschan 2013 ("Pointwise confidence intervals for a survival
    distribution with small samples or heavy censoring"): the share missed after draw j is that after draw j - 1 times a
    Beta(r_j - d_j + 1, d_j), and the low end of what is missed takes one more of those still unsolved for solved. Where
    nothing was given up they are Clopper and Pearson's of so many problems; with 8 problems of which one in twenty is
    solved by draw k Greenwood's formula holds the truth in 79% of runs.

    Args:
        draws: of the products.
    """
    rng = np.random.default_rng(seed)
    times, solved, at_risk = _steps(n, first)
    place = np.searchsorted(times, k, side="right")
    missed = np.ones((draws, len(k)))
    step = max(1, BLOCK // (len(times) + 1))
    for start in range(0, draws, step):
        left = rng.beta(at_risk - solved + 1, solved, (min(step, draws - start), len(times)))
        missed[start : start + step] = np.cumprod(np.insert(left, 0, 1.0, axis=1), axis=1)[:, place]
    unsolved = ((first == 0) & (n >= k[:, None])).sum(axis=1) + (first > k[:, None]).sum(axis=1)
    fewer = missed * np.where(unsolved > 0, rng.beta(np.maximum(unsolved, 1), 1.0, missed.shape), 0.0)
    return 1.0 - np.quantile(missed, ENDS[1], axis=0), 1.0 - np.quantile(fewer, ENDS[0], axis=0)


def _last(n: Ints, first: Ints) -> Ints:
    """Return the draw up to which each problem was unsolved and drawn."""
    return np.where(first > 0, first, n)


def _steps(n: Ints, first: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the draws at which problems were first solved, how many were, and how many could have been."""
    times, solved = np.unique(first[first > 0], return_counts=True)
    order = np.sort(_last(n, first))
    return times, solved, len(order) - np.searchsorted(order, times, side="left")
