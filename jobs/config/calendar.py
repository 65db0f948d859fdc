"""When nights are: a cron expression in a time zone, one night a date, through changes of the clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

from schemas.errors import BadInput
from schemas.schedule import Schedule

LOOK_AHEAD = 400
"""So many nights of a new expression are looked at for two on one date."""
FIELDS = 5


@dataclass(frozen=True, order=True)
class Night:
    """One date of a schedule.

    Attributes:
        day: the date in the schedule's time zone, the night's name.
        at: when it begins, in UTC.
    """

    day: date
    at: datetime


def check_cron(expression: str) -> None:
    """Refuse an expression that isn't one, or that has two times on one date.

    Raises:
        BadInput: saying what is wrong.
    """
    try:
        if len(expression.split()) != FIELDS:
            raise CroniterError("it needs five fields: minute, hour, day of month, month, day of week")
        times = list(islice(_local_times(expression, datetime(2026, 1, 1)), LOOK_AHEAD))
    except (CroniterError, KeyError) as error:  # names of days that aren't any
        raise BadInput(f"schedule.cron '{expression}' can't be read: {error}. For example '30 1 * * *'") from error
    for first, second in pairwise(times):
        if first.date() == second.date():
            raise BadInput(
                f"schedule.cron '{expression}' has two times on {first:%Y-%m-%d} ({first:%H:%M} and {second:%H:%M}); a "
                "night is run once a date"
            )


def nights(schedule: Schedule, after: datetime) -> Iterator[Night]:
    """Yield the nights that begin after a point in time, in order, without end.

    The expression is followed on the wall clock: a time that a change of the clock skips is as long after the change
    as it would have been after the last hour before it (02:30 becomes 03:30), and of one that comes twice, the first is
    meant (PEP 495: ``fold=0`` for both).
    """
    zone = ZoneInfo(schedule.timezone)
    begin = after.astimezone(zone).replace(tzinfo=None) - timedelta(days=1)  # clocks may have been put back meanwhile
    if schedule.start is not None:
        begin = max(begin, datetime.combine(schedule.start, time()) - timedelta(seconds=1))
    for local in _local_times(schedule.cron, begin):
        at = local.replace(tzinfo=zone).astimezone(UTC)
        if at > after:
            yield Night(local.date(), at)


def nights_between(schedule: Schedule, after: datetime, until: datetime) -> list[Night]:
    """Return the nights that begin after ``after`` and not after ``until``."""
    found: list[Night] = []
    for night in nights(schedule, after):
        if night.at > until:
            break
        found.append(night)
    return found


def night_of(schedule: Schedule, day: date) -> Night:
    """Return the night of a date.

    Raises:
        BadInput: the schedule has none on it.
    """
    zone = ZoneInfo(schedule.timezone)
    midnight = datetime.combine(day, time(), zone).astimezone(UTC)
    for night in nights(schedule, midnight - timedelta(seconds=1)):
        if night.day == day:
            return night
        if night.day > day:
            break
    raise BadInput(f"the schedule '{schedule.cron}' has no night on {day}")


def _local_times(expression: str, begin: datetime) -> Iterator[datetime]:
    """Yield times on the wall clock, without a zone."""
    times = croniter(expression, begin)
    while True:
        yield times.get_next(datetime)
