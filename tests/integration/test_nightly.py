"""Schedules under a clock of our own: real runs, simulated nights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cluster.driving.driver import run_pipeline
from cluster.records.reader import find_run, open_stage
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from jobs.config.calendar import night_of, nights_between
from jobs.nightly.attempts import Attempt, Journal
from jobs.nightly.nightly import Busy, Nightly
from jobs.running.run import Job
from schemas.errors import BadInput, EngineFailed
from schemas.job import JobFile
from schemas.manifest import RunManifest
from schemas.schedule import Schedule
from tests.support import write_problems

N = 4
"""Samples of a problem."""


class FakeClock:
    """Goes on when it is told to, or slept on."""

    def __init__(self, begin: datetime) -> None:
        self.time = begin

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=max(0.0, seconds))


def execute(job: Job) -> RunManifest:
    """Run a night's job here."""
    runner = LocalRunner()
    try:
        return run_pipeline(job.pipeline, runner, job.root.url, job.execution).manifest
    finally:
        runner.close()


def job_file(folder: Path, **changes: Any) -> JobFile:
    """Return a nightly job on the scripted engine, whose calls are logged."""
    engine = {"kind": "scripted", "answers": ["0", "1", "2"], "call_log": str(folder / "calls")}
    document: dict[str, Any] = {
        "pipeline": "tests.chaos.pipeline",
        "name": "night",
        "root": str(folder / "root"),
        "settings": {
            "engine": engine,
            "load": {"source": str(folder / "p.jsonl")},
            "sample": {"n": N, "policy": {"name": "uniform"}},
            "verify": {"operator": "verify.exact", "extract": ["whole"]},
        },
        "run": {"flush_seconds": 0.1, "commit_seconds": 0.02},
        "schedule": {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "window_hours": 3, "retry_minutes": 30},
    }
    for key, value in changes.items():
        document[key] = {**document.get(key, {}), **value} if isinstance(value, dict) else value
    return JobFile.model_validate(document)


def calls(folder: Path) -> Counter[str]:
    """Return how often each sample was asked for, by the engine's own log."""
    return Counter((folder / "calls").read_text().split()) if (folder / "calls").exists() else Counter()


def journal(folder: Path) -> list[Attempt]:
    return Journal(Root.at(folder / "root"), "night").read()


def problems_of(folder: Path, attempt: Attempt) -> set[str]:
    """Return the user's names of the problems of a night's dataset."""
    root = Root.at(folder / "root")
    assert attempt.run_id is not None
    manifest = find_run(root, attempt.run_id)
    return set(open_stage(root, manifest, "load").select("problem_id").collect()["problem_id"])


def test_thirty_nights(tmp_path: Path) -> None:
    """Across a change of the clock, with missed, failed and overlapping nights, late problems and a month's budget."""
    schedule = Schedule(cron="30 2 * * *", timezone="Europe/Berlin")
    begin = datetime(2026, 10, 9, 12, tzinfo=UTC)
    all_nights = nights_between(schedule, begin, begin + timedelta(days=30))
    assert len(all_nights) == 30
    assert [night.at.hour for night in all_nights[:16]] == [0] * 16  # 02:30 CEST; of 25 October's two the first
    assert [night.at.hour for night in all_nights[16:]] == [1] * 14  # 02:30 CET

    clock = FakeClock(begin)
    file = job_file(tmp_path, schedule={"month": {"samples": 130}})
    missed, flaky, broken, long = (5, 6, 7), 10, 13, 15
    state = {"problems": 0, "failures": 0}
    refused: list[str] = []

    def add_problems(count: int) -> None:
        path = tmp_path / "p.jsonl"
        old = path.read_text() if path.exists() else ""
        write_problems(path, count, state["problems"])
        path.write_text(old + path.read_text())
        state["problems"] += count

    def run_night(number: int) -> Callable[[Job], RunManifest]:
        def run(job: Job) -> RunManifest:
            if number == flaky and state["failures"] == 0:
                state["failures"] += 1
                raise EngineFailed("the server is down")
            if number == broken:
                raise EngineFailed("the server is down all night")
            manifest = execute(job)
            add_problems(1)  # a late one: the night has read its problems already
            if number == long and not refused:
                clock.sleep(26 * 3600)  # into the next night, whose timer calls meanwhile
                with pytest.raises(Busy, match="still running"):
                    Nightly(lambda: file, "", execute, clock, said.append).run()
                refused.append("yes")
            return manifest

        return run

    said: list[str] = []
    made: list[Attempt] = []
    for number, night in enumerate(all_nights):
        add_problems(1)
        if number in missed:
            continue
        clock.time = max(clock.time, night.at + timedelta(minutes=5))
        made += Nightly(lambda: file, "", run_night(number), clock, said.append).run()

    known = journal(tmp_path)
    by_day: dict[date, list[str]] = {}
    for one in known:
        by_day.setdefault(one.day, []).append(one.state)
    days = [night.day for night in all_nights]
    assert [by_day[days[number]] for number in missed] == [["missed"]] * 3
    assert by_day[days[flaky]] == ["failed", "done"]
    assert by_day[days[broken]] == ["failed"] * 6  # at 02:35, and every half hour until its three hours are over
    assert by_day[days[long]] == ["done"]
    assert by_day[days[long + 1]] == ["done"]
    assert refused == ["yes"]
    assert list(by_day) == sorted(by_day) == days

    # no sample was drawn twice, and no more than the month's in any month
    drawn = calls(tmp_path)
    assert drawn and max(drawn.values()) == 1
    spent = {
        month: sum(one.spent.samples for one in known if one.spent and one.day.month == month) for month in (10, 11)
    }
    assert spent[10] == 130
    assert spent[11] <= 130
    assert sum(spent.values()) == drawn.total()
    october = [by_day[day][-1] for day in days if day.month == 10]
    assert october.count("budget reached") == 1
    assert set(october[october.index("budget reached") + 1 :]) == {"unaffordable"}
    assert by_day[date(2026, 11, 1)] == ["done"]

    # every night's dataset has what was new: each problem is finished in one night, late ones in the next
    complete = [one for one in known if one.complete]
    taken = Counter(name for one in complete for name in problems_of(tmp_path, one))
    reached = next(one for one in complete if one.state == "budget reached")
    again = {name for name, times in taken.items() if times > 1}
    assert again <= problems_of(tmp_path, reached)
    first_after = problems_of(tmp_path, next(one for one in complete if one.day > reached.day))
    assert again <= first_after
    assert len(taken) == state["problems"] - 1  # the last night's late one waits for the next night
    for one in complete:
        folder = tmp_path / "root" / "nightly" / "night" / str(one.day)
        assert json.loads((folder / "night.json").read_text())["run_id"] == one.run_id
    latest = json.loads((tmp_path / "root" / "nightly" / "night" / "latest.json").read_text())
    assert latest["day"] == str(days[-1])
    assert pl.scan_parquet(f"{latest['datasets']['load']}/*.parquet").collect().height == latest["problems"]


def test_all_missed_nights_are_caught_up_where_that_is_the_rule(tmp_path: Path) -> None:
    write_problems(tmp_path / "p.jsonl", 3)
    clock = FakeClock(datetime(2026, 3, 27, 2, tzinfo=UTC))
    for rule, states in (
        ("all", ["done", "nothing new", "nothing new", "nothing new"]),
        ("latest", ["done", "missed", "missed", "nothing new"]),
        ("none", ["done", "missed", "missed", "missed"]),
    ):
        file = job_file(tmp_path, name=f"night-{rule}", schedule={"catch_up": rule})
        clock.time = datetime(2026, 3, 27, 2, tzinfo=UTC)
        Nightly(lambda file=file: file, "", execute, clock, print).run()
        clock.time = datetime(2026, 3, 30, 12, tzinfo=UTC)
        Nightly(lambda file=file: file, "", execute, clock, print).run()
        assert [one.state for one in Journal(Root.at(tmp_path / "root"), f"night-{rule}").read()] == states
        assert not Nightly(lambda file=file: file, "", execute, clock, print).run()  # once is enough
    assert max(calls(tmp_path).values()) == 1


def test_a_date_is_run_once_and_can_be_filled_in_later(tmp_path: Path) -> None:
    write_problems(tmp_path / "p.jsonl", 2)
    clock = FakeClock(datetime(2026, 11, 20, 2, tzinfo=UTC))
    made = Nightly(lambda: job_file(tmp_path), "", execute, clock, print)
    assert [one.state for one in made.run()] == ["done"]
    write_problems(tmp_path / "p.jsonl", 4)
    assert made.run() == []
    filled = made.backfill(date(2026, 11, 18), date(2026, 11, 20))
    assert [(one.day.day, one.state) for one in filled] == [(18, "done"), (19, "nothing new")]
    assert json.loads((tmp_path / "root/nightly/night/latest.json").read_text())["day"] == "2026-11-20"
    with pytest.raises(BadInput, match="still to come"):
        made.backfill(date(2026, 11, 21), date(2026, 11, 22))


def test_a_night_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    write_problems(tmp_path / "p.jsonl", 2)
    clock = FakeClock(datetime(2026, 11, 20, 2, tzinfo=UTC))
    file = job_file(tmp_path)
    found = Journal(Root.at(tmp_path / "root"), "night")
    assert file.schedule is not None
    night = night_of(file.schedule, date(2026, 11, 20))
    dead = found.claim(night, clock.now(), [])
    assert dead is not None and dead.lease is not None
    assert found.claim(night, clock.now() + timedelta(seconds=1), []) is None  # another process, at the same moment
    found.write(dead.model_copy(update={"lease": dead.lease.model_copy(update={"born": 1})}))  # its process is gone
    assert [one.state for one in found.read()] == ["cut off"]
    assert [one.state for one in Nightly(lambda: file, "", execute, clock, print).run()] == ["done"]
    assert [one.state for one in found.read()] == ["cut off", "done"]


def test_a_night_without_a_right_answer_is_done_and_exports_nothing(tmp_path: Path) -> None:
    write_problems(tmp_path / "p.jsonl", 2)
    engine = {"kind": "scripted", "answers": ["no idea"]}
    settings = {"engine": engine, "load": {"source": str(tmp_path / "p.jsonl")}, "sample": {"n": 2}}
    file = job_file(tmp_path, pipeline="math").model_copy(update={"settings": settings})
    file = JobFile.model_validate({**file.model_dump(exclude_none=True), "exports": [{"format": "messages"}]})
    clock = FakeClock(datetime(2026, 11, 20, 2, tzinfo=UTC))
    [night] = Nightly(lambda: file, "", execute, clock, print).run()
    assert (night.state, night.exports) == ("done", {})
    assert json.loads((tmp_path / "root/nightly/night/latest.json").read_text())["day"] == "2026-11-20"


def test_a_night_learns_from_the_one_before(tmp_path: Path) -> None:
    write_problems(tmp_path / "p.jsonl", 3)
    clock = FakeClock(datetime(2026, 11, 20, 2, tzinfo=UTC))
    settings = {**job_file(tmp_path).settings, "sample": {"n": 8, "policy": {"name": "marginal", "target": 1}}}
    file = job_file(tmp_path, settings=settings)
    seen: list[Job] = []

    def run(job: Job) -> RunManifest:
        seen.append(job)
        return execute(job)

    first = Nightly(lambda: file, "", run, clock, print).run()
    write_problems(tmp_path / "p.jsonl", 6)
    clock.time += timedelta(days=1)
    second = Nightly(lambda: file, "", run, clock, print).run()
    assert [one.state for one in first + second] == ["done", "done"]
    assert [job.pipeline.stages["sample"].operator.policy.before for job in seen] == [None, first[0].run_id]  # pyright: ignore
    assert second[0].problems == 3
    write_problems(tmp_path / "p.jsonl", 9)
    clock.time += timedelta(days=1)
    Nightly(lambda: file, "", run, clock, print).run()
    nights = [job.pipeline.stages["sample"].operator.policy.nights for job in seen]  # pyright: ignore
    assert nights == [(), (first[0].run_id,), (first[0].run_id, second[0].run_id)]
    log = tmp_path / "root" / "runs" / str(second[0].run_id) / "allocations" / "rules" / "sample.parquet"
    assert first[0].run_id in pl.read_parquet(log)["rule"][0], "the log says which nights a night begins with"


def test_a_gate_keeps_the_money_and_is_not_tried_again(tmp_path: Path) -> None:
    write_problems(tmp_path / "p.jsonl", 30)
    gate = {"samples": 8, "least_accepted": 0.9}
    file = job_file(tmp_path, run={"budget": {"samples": 120, "gate": gate}})
    clock = FakeClock(datetime(2026, 11, 20, 2, tzinfo=UTC))
    made = Nightly(lambda: file, "", execute, clock, print).run()
    assert [one.state for one in made] == ["gate"]
    assert "accepted" in (made[0].error or "")
    assert calls(tmp_path).total() == 8
    assert Nightly(lambda: file, "", execute, clock, print).run() == []
