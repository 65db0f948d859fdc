"""When nights are, through changes of the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.config.calendar import check_cron, night_of, nights, nights_between
from schemas.errors import BadInput
from schemas.schedule import Schedule

BERLIN = Schedule(cron="30 2 * * *", timezone="Europe/Berlin")


def test_a_time_that_the_clock_skips_is_as_long_after_the_change() -> None:
    found = nights_between(BERLIN, datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC))
    assert [(night.day.day, night.at.hour, night.at.minute) for night in found] == [
        (28, 1, 30),
        (29, 1, 30),
        (30, 0, 30),
    ]


def test_a_time_that_comes_twice_runs_once_the_first_time() -> None:
    found = nights_between(BERLIN, datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 26, 12, tzinfo=UTC))
    assert [(night.day.day, night.at.hour, night.at.minute) for night in found] == [(25, 0, 30), (26, 1, 30)]
    between = found[0].at + timedelta(minutes=30)  # the clock is put back; 02:30 comes again
    assert next(nights(BERLIN, between)).day == date(2026, 10, 26)


@given(
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kolkata"]),
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    begin=st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)),
)
def test_every_date_has_exactly_one_night(zone: str, minute: int, hour: int, begin: datetime) -> None:
    schedule = Schedule(cron=f"{minute} {hour} * * *", timezone=zone)
    found = list(islice(nights(schedule, begin.replace(tzinfo=UTC)), 400))
    days = [night.day for night in found]
    assert days == [days[0] + timedelta(days=count) for count in range(400)]
    assert all(first.at < second.at for first, second in pairwise(found))
    assert night_of(schedule, days[200]) == found[200]


def test_what_is_not_a_schedule_is_refused() -> None:
    for expression, why in (
        ("x", "five fields"),
        ("61 1 * * *", "out of range"),
        ("0 0 * * FOO", "can't be read"),
        ("30 1,5 * * *", "two times on 2026-01-01"),
        ("*/10 * * * *", "two times"),
        ("30 1 * * * 5", "five fields"),
    ):
        with pytest.raises(BadInput, match=why):
            check_cron(expression)
    check_cron("0 3 * * mon-fri")
    with pytest.raises(ValueError, match="isn't an IANA time zone"):
        Schedule(cron="0 1 * * *", timezone="Berlin")
    with pytest.raises(BadInput, match="no night on"):
        night_of(Schedule(cron="0 3 * * mon"), date(2026, 11, 26))


def test_no_night_before_the_start() -> None:
    schedule = Schedule(cron="0 1 * * *", start=date(2026, 11, 10))
    assert next(nights(schedule, datetime(2026, 11, 1, tzinfo=UTC))).day == date(2026, 11, 10)
