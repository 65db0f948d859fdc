"""How sure a model was of what it wrote: DeepConf's summaries of a trace's token probabilities (Fu et al. 2025)."""

from __future__ import annotations

from typing import NamedTuple

from schemas.later import Floats, np

TOP = 20
"""Log-probs per token that a token's confidence is made of."""
WINDOW = 2048
"""Tokens of a group."""


class Confidences(NamedTuple):
    """The four summaries of a trace; NaN where it has no tokens."""

    lowest: float
    """The lowest confidence among all groups of tokens."""
    bottom: float
    """The mean of the lowest tenth of the groups."""
    tail: float
    """The confidence of the last group of tokens."""
    mean: float
    """The mean confidence of all tokens."""


def of_tokens(top: Floats) -> Floats:
    """Return each token's confidence: minus the mean of its most likely candidates' log-probs, shape [tokens].

    Candidates that weren't possible at all, where decoding was guided, are left out.

    Args:
        top: [tokens, candidates], natural logarithms.
    """
    possible = np.isfinite(top)
    return -np.where(possible, top, 0.0).sum(axis=1) / np.maximum(1, possible.sum(axis=1))


def confidences(tokens: Floats, window: int = WINDOW) -> Confidences:
    """Return the summaries of one trace.

    A group is a sliding window of tokens, the whole trace where that is shorter.

    Args:
        tokens: each token's confidence.
    """
    if not len(tokens):
        return Confidences(*[float("nan")] * 4)
    mean = float(tokens.mean())
    if len(tokens) <= window:
        return Confidences(mean, mean, mean, mean)
    sums = np.concatenate([[0.0], np.cumsum(tokens)])
    groups = (sums[window:] - sums[:-window]) / window
    few = max(1, len(groups) // 10)
    bottom = float(np.partition(groups, few - 1)[:few].mean())
    return Confidences(float(groups.min()), bottom, float(groups[-1]), mean)


class Watch:
    """Looks at a trace's tokens as they come, and sees a group below a threshold.

    Attributes:
        seen: tokens so far.
    """

    def __init__(self, window: int, threshold: float) -> None:
        self.window = window
        self.threshold = threshold
        self.seen = 0
        self._last: Floats = np.zeros(0)

    def sees(self, top: Floats) -> bool:
        """Return whether a whole group that ends among the new tokens is below the threshold.

        Args:
            top: the new tokens' candidates: [tokens, candidates], natural logarithms.
        """
        if not len(top):
            return False
        self.seen += len(top)
        tokens = np.concatenate([self._last, of_tokens(top)])
        self._last = tokens[max(0, len(tokens) - self.window + 1) :]
        return len(tokens) >= self.window and confidences(tokens, self.window).lowest < self.threshold
