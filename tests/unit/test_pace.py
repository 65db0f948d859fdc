"""Rates and the time that is left, from counts at points in time."""

from __future__ import annotations

from jobs.running.pace import Left, Pace, clock


def test_an_even_pace_is_sure_of_its_end() -> None:
    pace = Pace()
    for second in range(61):
        pace.add(float(second), 10 * second)
    assert pace.rate == 10
    left = pace.left(600)
    assert left == Left(60.0, 60.0, 60.0) and str(left) == "1:00 left"


def test_batches_that_end_together_are_smoothed_and_their_rest_is_a_range() -> None:
    pace = Pace()
    for second in range(61):
        pace.add(float(second), 100 * (second // 20))  # nothing for twenty seconds, then a hundred
    left = pace.left(500)
    assert left is not None and left.low is not None and left.high is not None
    assert left.expected == 100.0 and left.low < 100.0 < left.high
    assert "(" in str(left) and " to " in str(left)


def test_what_came_first_says_little_and_what_stands_still_nothing() -> None:
    pace = Pace()
    pace.add(0.0, 0)
    assert pace.rate == 0 and pace.left(5) is None
    pace.add(5.0, 1)
    assert str(pace.left(10)) == "about 0:50 left"
    for second in range(6, 140):
        pace.add(float(second), 1)
    assert pace.rate == 0 and pace.left(9) is None, "an old beginning is forgotten"


def test_a_rate_that_may_be_none_has_no_latest_end() -> None:
    pace = Pace()
    for second in range(0, 61, 10):
        pace.add(float(second), 50 if second == 60 else 0)  # nothing for long, then all at once
    left = pace.left(100)
    assert left is not None and left.high == float("inf")
    assert str(left).endswith("to ?)")


def test_clocks() -> None:
    assert [clock(seconds) for seconds in (0, 59.9, 61, 3600 * 30)] == ["0:00", "0:59", "1:01", "30:00:00"]
