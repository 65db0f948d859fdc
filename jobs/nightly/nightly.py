"""A schedule at work: which nights are due, one after the other, each until it is over or its time has passed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from cluster.storage.root import Root
from jobs.config.calendar import Night, check_cron, night_of, nights, nights_between
from jobs.nightly.attempts import Attempt, Journal
from jobs.nightly.clock import Clock
from jobs.nightly.night import Unaffordable, export_night, make_night
from jobs.nightly.notify import notify
from jobs.running.run import Job
from schemas.errors import BadInput, GristmillError, NothingToDo
from schemas.job import JobFile
from schemas.manifest import RunManifest
from schemas.schedule import Event, Schedule

Execute = Callable[[Job], RunManifest]
"""Runs a job to its end."""


class Busy(GristmillError):
    """Another process is at a night of this schedule; it goes on with what is due when it has ended."""

    exit_code = 0


class Nightly:
    """One schedule.

    Args:
        read: reads the job file; called for each attempt, so that what was changed meanwhile counts.
        execute: runs a night's job.
        say: tells whoever watches.
    """

    def __init__(
        self, read: Callable[[], JobFile], root: str, execute: Execute, clock: Clock, say: Callable[[str], None]
    ) -> None:
        self.read = read
        self.file = read()
        self.journal = Journal(Root.at(root or self.file.root or "./gristmill-data"), self.file.title)
        self.execute = execute
        self.clock = clock
        self.say = say
        check_cron(self.schedule.cron)

    @property
    def schedule(self) -> Schedule:
        """The schedule.

        Raises:
            BadInput: the job has none.
        """
        if self.file.schedule is None:
            raise BadInput("the job has no schedule; add 'schedule: {cron: \"30 1 * * *\", timezone: Europe/Berlin}'")
        return self.file.schedule

    def run(self) -> list[Attempt]:
        """Run what is due, and try again what failed, until nothing is due any more; return what was done.

        Raises:
            Busy: another process is at it.
        """
        made: list[Attempt] = []
        while (night := self._next()) is not None:
            attempt = self._attempt(night)
            made.append(attempt)
            if attempt.state == "interrupted":
                break
            if not attempt.over and self._again(attempt) is not None:
                self.clock.sleep(60 * self.schedule.retry_minutes)
        return made

    def forever(self) -> None:
        """Run every night at its time, until the process is ended."""
        while True:
            try:
                if any(attempt.state == "interrupted" for attempt in self.run()):
                    return
            except Busy as busy:
                self.say(str(busy))
            coming = next(nights(self.schedule, self.clock.now()))
            self.say(f"the next night, {coming.day}, begins at {coming.at:%Y-%m-%d %H:%M} UTC")
            self.clock.sleep((coming.at - self.clock.now()).total_seconds())

    def backfill(self, first: date, last: date) -> list[Attempt]:
        """Run the nights of some dates that have no complete run, whatever the rule for missed ones says.

        Raises:
            BadInput: the dates are in the future, or the schedule has none of them.
            Busy: another process is at a night.
        """
        if last < first:
            raise BadInput(f"--from {first} is after --to {last}")
        made: list[Attempt] = []
        days = [first + timedelta(days=count) for count in range((last - first).days + 1)]
        found = [night for day in days if (night := self._on(day)) is not None]
        if not found:
            raise BadInput(f"the schedule '{self.schedule.cron}' has no night from {first} to {last}")
        for night in found:
            if night.at > self.clock.now():
                raise BadInput(f"the night of {night.day} is still to come")
            known = self.journal.read()
            if any(one.day == night.day and (one.complete or one.state == "nothing new") for one in known):
                self.say(f"{night.day}: was run before")
                continue
            made.append(self._attempt(night))
            if made[-1].state == "interrupted":
                break
        return made

    def coming(self, count: int) -> list[Night]:
        """Return the next nights."""
        following = nights(self.schedule, self.clock.now())
        return [next(following) for _ in range(count)]

    def _on(self, day: date) -> Night | None:
        try:
            return night_of(self.schedule, day)
        except BadInput:
            return None

    # -- which night is next -------------------------------------------------------------------------------------

    def _next(self) -> Night | None:
        """Return the night to run now; what is left out by the rule for missed ones is written down.

        Raises:
            Busy: another process is at one.
        """
        self.file = self.read()
        known, now, schedule = self.journal.read(), self.clock.now(), self.schedule
        live = next((one for one in known if one.live), None)
        if live is not None:
            raise Busy(
                f"the night of {live.day} is still running (process {live.lease.pid if live.lease else '?'} on "
                f"{live.lease.host if live.lease else '?'}); what is due is run after it"
            )
        if known and not known[-1].over and self._again(known[-1]) is not None:
            return Night(known[-1].day, known[-1].at)
        after = max((one.at for one in known), default=now - timedelta(hours=schedule.window_hours))
        if not known and schedule.start is not None:
            after = datetime.combine(schedule.start, datetime.min.time(), now.tzinfo) - timedelta(days=2)
        due = nights_between(schedule, after, now)
        wanted = self._by_rule(due, now)
        for night in due if wanted is None else [night for night in due if night < wanted]:
            self._leave_out(night, now)
        return wanted

    def _by_rule(self, due: Sequence[Night], now: datetime) -> Night | None:
        """Return which of the nights that are due is run next: those before it are missed."""
        if not due:
            return None
        if self.schedule.catch_up == "all":
            return due[0]
        if self.schedule.catch_up == "none" and now > due[-1].at + timedelta(hours=self.schedule.window_hours):
            return None
        return due[-1]

    def _leave_out(self, night: Night, now: datetime) -> None:
        attempt = self.journal.claim(night, now, self.journal.read(), "missed")
        if attempt is not None:
            self.say(f"{night.day}: missed")
            self._tell("missed", attempt)

    def _again(self, attempt: Attempt) -> datetime | None:
        """Return when a night that failed is tried again; None where its time has passed by then, or it is over."""
        if attempt.over:
            return None
        tried = [one for one in self.journal.read() if one.day == attempt.day]
        begin = max(attempt.at, min((one.started for one in tried), default=attempt.started))
        now = self.clock.now()
        again = (
            now if attempt.state in ("cut off", "interrupted") else now + timedelta(minutes=self.schedule.retry_minutes)
        )
        return again if again <= begin + timedelta(hours=self.schedule.window_hours) else None

    # -- one attempt ---------------------------------------------------------------------------------------------

    def _attempt(self, night: Night) -> Attempt:
        """Run a night once.

        Raises:
            Busy: another process took it.
        """
        known = self.journal.read()
        attempt = self.journal.claim(night, self.clock.now(), known)
        if attempt is None:
            raise Busy(f"another process has begun the night of {night.day}")
        self.say(f"{night.day}: attempt {attempt.number}, due {night.at:%Y-%m-%d %H:%M} UTC")
        with self.journal.held(attempt):
            self._execute(attempt, known)
        attempt.finished, attempt.lease = self.clock.now(), None
        self.journal.write(attempt)
        if attempt.complete:
            self.journal.publish(attempt, known)
        self._report(attempt)
        return attempt

    def _execute(self, attempt: Attempt, known: Sequence[Attempt]) -> None:
        """Run the job and note what became of it."""
        try:
            job = make_night(self.file, self.journal, attempt, known, self.say)
            self._take_over(attempt, self.execute(job))
        except NothingToDo as error:
            attempt.state, attempt.error = "nothing new", str(error)
        except Unaffordable as error:
            attempt.state, attempt.error = "unaffordable", str(error)
        except GristmillError as error:
            attempt.state, attempt.error = "failed", str(error)
        except KeyboardInterrupt:
            attempt.state, attempt.error = "interrupted", "interrupted"
        except Exception as error:  # a defect must not look like a night that is still running
            attempt.state, attempt.error = "failed", repr(error)

    def _take_over(self, attempt: Attempt, manifest: RunManifest) -> None:
        attempt.run_id, attempt.error = manifest.run_id, manifest.error
        attempt.problems, attempt.spent = manifest.n_problems, manifest.spending
        attempt.datasets = {record.name: self.journal.root.uri(record.path) for record in manifest.stages}
        if manifest.state in ("done", "budget reached"):
            attempt.exports = export_night(self.file, self.journal, attempt, manifest)
            attempt.state = "done" if manifest.state == "done" else "budget reached"
        elif manifest.gate_failed:
            attempt.state = "gate"
        else:
            attempt.state = "interrupted" if manifest.state == "interrupted" else "failed"

    def _report(self, attempt: Attempt) -> None:
        self.say(
            f"{attempt.day}: {attempt.state}{f': {attempt.error}' if attempt.error and not attempt.complete else ''}"
        )
        event: dict[str, Event] = {
            "done": "done",
            "budget reached": "done",
            "nothing new": "done",
            "unaffordable": "budget",
        }
        self._tell(event.get(attempt.state, "failed"), attempt)

    def _tell(self, event: Event, attempt: Attempt) -> None:
        again = self._again(attempt) if event == "failed" else None
        document: dict[str, Any] = {
            "job": self.journal.name,
            "day": str(attempt.day),
            "state": attempt.state,
            "attempt": attempt.number,
            "problems": attempt.problems,
            "run_id": attempt.run_id,
            "error": attempt.error,
            "again": None if again is None else again.isoformat(timespec="minutes"),
            "root": self.journal.root.url,
            "spent": None if attempt.spent is None else attempt.spent.model_dump(),
        }
        notify(self.file.notify, event, document, self.say)
