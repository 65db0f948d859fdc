"""Coverage from when problems were first solved: without bias also where sampling stopped at successes.

A problem's first success comes at draw f, or sampling ended at draw n without one (it is censored there). With d_j the
problems first solved by draw j and r_j those that were still unsolved and drawn a j-th time, coverage at k is

    1 - prod_{j <= k} (1 - d_j / r_j)

(Kaplan and Meier 1958). This asks that problems given up early are no harder or easier than those that went on with as
many failures. At k no larger than the n of every unsolved problem nothing was given up, and it is the plain share of
problems with f <= k, whatever the policy was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.errors import BadInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Z = 1.959964


def unstopped(n: Ints, first: Ints) -> int:
    """Return the largest k at which no unsolved problem had been given up.

    Args:
        n: draws of each problem, shape [problems].
        first: the draw of its first success, 0 where there is none; same shape.
    """
    unsolved = n[first == 0]
    return int(unsolved.min()) if unsolved.size else int(first.max())


def first_success(n: Ints, first: Ints, k: Ints) -> tuple[Floats, Floats, Floats]:
    """Return coverage at each k and the ends of its 95% interval, three arrays of shape [ks].

    Intervals are Greenwood's on the scale of ln(-ln(1 - coverage)); where nothing or everything is solved they are
    Clopper and Pearson's of that many problems.

    Raises:
        BadInput: nobody was drawn k times while there were unsolved problems, so nothing is known of k.
    """
    ends = np.where(first > 0, first, n)
    times, solved = np.unique(first[first > 0], return_counts=True)
    order = np.sort(ends)
    at_risk = len(ends) - np.searchsorted(order, times, side="left")
    largest = int(ends.max())
    all_solved = bool(times.size) and bool((solved == at_risk)[-1]) and int(times[-1]) == largest
    if int(k.max()) > largest and not all_solved:
        raise BadInput(
            f"measure.pass_at_k: k = {int(k.max()):,}, but no unsolved problem has more than {largest:,} samples. Ask "
            f"for k <= {largest:,}, or draw more"
        )
    with np.errstate(divide="ignore"):
        steps = np.log1p(-solved / at_risk)
        spread = solved / (at_risk * np.maximum(at_risk - solved, 1e-300))
    place = np.searchsorted(times, k, side="right")
    log_missed = np.concatenate([[0.0], np.cumsum(steps)])[place]
    variance = np.concatenate([[0.0], np.cumsum(spread)])[place]
    value = -np.expm1(log_missed)
    low, high = np.zeros(len(k)), np.ones(len(k))
    inside = (log_missed < 0) & np.isfinite(log_missed)
    error = Z * np.sqrt(variance[inside]) / -log_missed[inside]
    low[inside] = -np.expm1(log_missed[inside] * np.exp(-error))
    high[inside] = -np.expm1(log_missed[inside] * np.exp(error))
    edge = 0.025 ** (1.0 / len(n))
    high[log_missed == 0.0] = 1.0 - edge
    low[np.isneginf(log_missed)] = edge
    return value, low, high
