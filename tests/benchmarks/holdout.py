"""Adaptive questions on pure noise, through Thresholdout and of the holdout itself: python -m tests.benchmarks.holdout

After Dwork et al. 2015 (their experiment): problems whose answers are coin flips, and features that are coin flips,
too. Each question is how often a predictor is right. The first ones are the features; then come votes of more and more
of those features that seemed to predict on both parts. Every true mean is .5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from operators.numeric.thresholdout import Thresholdout, Told

VOTES = 50
"""How many of the questions are votes."""


@dataclass(frozen=True)
class Replay:
    """What came of one series of questions.

    Attributes:
        asked: how many were asked.
        largest_error, false_discoveries: of Thresholdout's answers: how far off .5 they are, and how many are further
            above it than the bound.
        plain_error, plain_false_discoveries: the same of the holdout's own means, asked by somebody who goes by these.
    """

    asked: int
    largest_error: float
    false_discoveries: int
    plain_error: float
    plain_false_discoveries: int


def adaptive(problems: int, questions: int, seed: int, about: Thresholdout) -> list[tuple[Told, float]]:
    """Return the answers to all questions, and the tuning part's means."""
    tuning, holdout = _coins(problems, questions, seed)
    found: list[tuple[Told, float]] = []
    spent = 0

    def ask(on_tuning: float, on_holdout: float) -> float | None:
        nonlocal spent
        told = about.ask(on_tuning, on_holdout, len(found), spent)
        spent += told.status == "differs"
        found.append((told, on_tuning))
        return told.value

    said = np.array([ask(a, b) or 0.5 for a, b in zip(tuning.mean(axis=0), holdout.mean(axis=0), strict=True)])
    for votes in _votes(said - 0.5):
        ask(*(float((part @ votes > votes.sum() / 2).mean()) for part in (tuning, holdout)))
    return found


def replay(problems: int, questions: int, seed: int, about: Thresholdout) -> Replay:
    """Ask one series, both ways."""
    answers = [told.value for told, _ in adaptive(problems, questions, seed, about)]
    errors = np.array([value - 0.5 for value in answers if value is not None])
    _, holdout = _coins(problems, questions, seed)
    edges = holdout.mean(axis=0) - 0.5
    plain = [*edges, *(float((holdout @ votes > votes.sum() / 2).mean()) - 0.5 for votes in _votes(edges))]
    bound = about.bound(problems)
    return Replay(
        len(answers),
        float(np.abs(errors).max()),
        int((errors > bound).sum()),
        float(np.abs(plain).max()),
        int((np.array(plain) > bound).sum()),
    )


def _coins(problems: int, questions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each feature is right on each problem, of both parts: [problems, features]."""
    rng = np.random.default_rng(seed)
    tuning, holdout = rng.integers(0, 2, (2, problems, questions - VOTES)).astype(np.float64)
    return tuning, holdout


def _votes(edges: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the weights of votes of the features with the largest edges: 1/50, 2/50, ... of them."""
    order = np.argsort(-np.abs(edges))
    for number in range(1, VOTES + 1):
        weights = np.zeros(len(edges))
        some = order[: len(edges) * number // VOTES]
        weights[some] = edges[some]
        yield weights


def main() -> None:
    """Print what 100 series come to."""
    for problems in (500, 1000, 4000):
        about = Thresholdout(budget=5)
        found = [replay(problems, 1000, seed, about) for seed in range(100)]
        bound, error = about.bound(problems), max(one.largest_error for one in found)
        wrong, plain = (sum(n > 0 for n in some) for some in zip(*map(_discoveries, found), strict=True))
        reuse = float(np.mean([one.plain_error for one in found]))
        print(f"{problems:>5} held out, bound {bound:.3f}: largest error {error:.3f}, {wrong} of 100 series with a "
              f"false discovery; plain reuse: error {reuse:.3f}, {plain} of 100", flush=True)  # fmt: skip


def _discoveries(one: Replay) -> tuple[int, int]:
    return one.false_discoveries, one.plain_false_discoveries


if __name__ == "__main__":
    main()
