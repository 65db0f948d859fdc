"""How sure a model was of what it wrote: DeepConf's summaries of a trace's token probabilities (Fu et al. 2025)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOP = 20
"""Log-probs per token that a token's confidence is made of."""
WINDOW = 2048
"""Tokens of a group."""


def confidences(top: NDArray[np.float64], window: int = WINDOW) -> tuple[float, float]:
    """Return (lowest group confidence, tail confidence) of one trace.

    A token's confidence is minus the mean of its most likely candidates' log-probs (of those that were possible at all,
    where decoding was guided); a group is a sliding window of tokens, the whole trace where that is shorter. Without
    tokens both are NaN.

    Args:
        top: [tokens, candidates], natural logarithms.
    """
    if not len(top):
        return float("nan"), float("nan")
    possible = np.isfinite(top)
    tokens = -np.where(possible, top, 0.0).sum(axis=1) / np.maximum(1, possible.sum(axis=1))
    if len(tokens) <= window:
        mean = float(tokens.mean())
        return mean, mean
    sums = np.concatenate([[0.0], np.cumsum(tokens)])
    groups = (sums[window:] - sums[:-window]) / window
    return float(groups.min()), float(groups[-1])
