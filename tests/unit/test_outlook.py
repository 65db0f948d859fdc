"""What more samples would bring, and that nothing is left to gain where nothing is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from jobs.running.outlook import Outlook, points_of, worth_until
from jobs.running.plan_text import print_outlook


def curve(*coverage: float) -> list[tuple[int, float, float, float]]:
    return [(4 * 2**step, value, value - 0.01, value) for step, value in enumerate(coverage)]


def shown(*coverage: float) -> list[str]:
    text = io.StringIO()
    points = points_of(curve(*coverage), 10.0)
    print_outlook(Console(file=text, width=200), Outlook(None, "", "tokens", points, None, None))
    return text.getvalue().splitlines()


def test_a_percent_costs_what_the_step_to_it_costs() -> None:
    first, second, third = points_of(curve(0.5, 0.6, 0.65), 10.0)
    assert (first.gained, first.per_percent, first.cost) == (None, None, 40.0)
    assert second.gained == pytest.approx(10.0) and second.per_percent == pytest.approx(4.0)
    assert third.per_percent == pytest.approx(16.0)
    assert worth_until([first, second, third], 5.0) == 8
    assert worth_until([first, second, third], 20.0) == 16


@pytest.mark.parametrize("coverage", [(1.0, 1.0), (0.9999, 1.0), (0.5, 0.5), (0.7, 0.7 - 1e-12), (0.31, 0.3104)])
def test_where_nothing_is_gained_no_price_is_named(coverage: tuple[float, float]) -> None:
    points = points_of(curve(*coverage), 1e9)
    assert points[1].per_percent is None and points[1].gained is not None
    assert worth_until(points, 1e30) == 4
    first, second = shown(*coverage)
    assert "left to gain" not in first and "nothing left to gain" in second and "1%" not in second


def test_what_costs_nothing_is_worth_it() -> None:
    assert worth_until(points_of(curve(0.5, 0.6, 0.65), 0.0), 0.0) == 16


def test_a_small_step_is_judged_by_what_twice_the_samples_would_bring() -> None:
    rows = [(1000, 0.5, 0.4, 0.6), (1001, 0.5004, 0.4, 0.6)]
    assert points_of(rows, 1.0)[1].per_percent == pytest.approx(1 / 0.04)
    assert "the next 1% at" in shown(0.5, 0.51)[1]
