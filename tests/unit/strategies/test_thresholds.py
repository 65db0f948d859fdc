"""Thresholds of a cascade keep the accuracy that was wanted, as often as was asked."""

from __future__ import annotations

import numpy as np
import pytest

from operators.strategies.thresholds import cheapest, least_answers, lower_bound, steps
from schemas.errors import BadInput


def test_a_threshold_keeps_a_wanted_accuracy() -> None:
    assert lower_bound(10, 10) == pytest.approx(0.05**0.1)
    assert lower_bound(0, 5) == 0.0
    values = [1.0] * 60 + [0.6] * 40 + [0.3] * 40
    right = [True] * 60 + [True] * 39 + [False] + [False] * 40
    assert cheapest(values, right, 0.9) == 0.6
    assert cheapest(values, right, 0.97) is None
    assert cheapest(values[:5], right[:5], 0.9) is None
    strict, wide, all_of = steps(values, right, 0.9)
    assert (strict.accepted, wide.accepted, all_of.accepted) == (60, 100, 140)
    assert (wide.right, all_of.right) == (99, 99)
    assert [one.passed for one in (strict, wide, all_of)] == [True, True, False]


def test_the_promise_holds_as_often_as_was_asked() -> None:
    """A threshold whose accepted answers are right with less than .9 is chosen in 5% of calibrations at most."""
    truth = {0.2: 0.79, 0.5: 0.92, 0.8: 0.97}
    whole = {value: np.mean([truth[other] for other in truth if other >= value]) for value in truth}
    assert whole[0.2] < 0.9 < whole[0.5]
    misses = passed = 0
    for seed in range(600):
        rng = np.random.default_rng(seed)
        values = rng.choice(list(truth), 400)
        found = cheapest(values.tolist(), [rng.random() < truth[value] for value in values.tolist()], 0.9)
        passed += found is not None
        misses += found is not None and whole[found] < 0.9
    assert passed > 300
    assert misses <= 600 * 0.05


def test_nothing_passes_after_the_first_that_fails() -> None:
    """A run of luck among the cheap ones is no reason to take them."""
    values = [0.9] * 40 + [0.5] * 400
    right = [True] * 30 + [False] * 10 + [True] * 400
    assert cheapest(values, right, 0.9) is None
    assert [one.low > 0.9 for one in steps(values, right, 0.9)] == [False, True]


@pytest.mark.parametrize(("wanted", "sure", "least"), [(0.9, 0.95, 29), (0.5, 0.5, 1), (0.99, 0.99, 459)])
def test_so_few_can_be_enough(wanted: float, sure: float, least: int) -> None:
    assert least_answers(wanted, sure) == least
    assert cheapest([1.0] * least, [True] * least, wanted, sure) == 1.0
    assert cheapest([1.0] * (least - 1), [True] * (least - 1), wanted, sure) is None


@pytest.mark.parametrize("wrong", [[0.5], [0.5, float("nan")], [0.5, float("inf")]])
def test_what_is_no_number_is_refused(wrong: list[float]) -> None:
    with pytest.raises(BadInput):
        steps(wrong, [True, True], 0.9)
    with pytest.raises(BadInput, match="between 0 and 1"):
        steps([], [], 1.0)
    assert steps([], [], 0.9) == []
