"""The view's list of runs, their events as they come, and a run watched in a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from cluster.records.events import EventLog
from cluster.records.reader import HEARTBEAT
from cluster.records.recorder import write_manifest
from cluster.storage.lease import Lease, write_lease
from cluster.storage.root import Root
from jobs.view.events import POINTS, EventTail
from jobs.view.listing import Listing, manifest_of
from jobs.view.serve import listen
from jobs.view.shown import Shown
from jobs.view.terminal import watch
from schemas.errors import BadInput
from schemas.manifest import RunManifest
from tests.benchmarks.view import manifest

RUNS = 40


def run_id(at: int) -> str:
    return f"pipeline-{at % 9}-{at:04}"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GRISTMILL_CATALOGUE", raising=False)
    place = Root.at(tmp_path / "root")
    for at in range(RUNS):
        job = f"nightly/sums/2026-11-{at % 28 + 1:02}" if at % 4 == 0 else None
        write_manifest(place, manifest(run_id(at), at, 10).model_copy(update={"job": job}))
    return place


@pytest.fixture
def listing(root: Root) -> Iterator[Listing]:
    found = Listing(root)
    yield found
    found.close()


def ids(listing: Listing, **asked: str) -> list[str]:
    page = listing.page({"limit": "500", **asked})
    assert page["total"] == len(page["runs"])
    return [run["run_id"] for run in page["runs"]]


def test_runs_are_filtered_sorted_and_paged(listing: Listing) -> None:
    newest = [run_id(at) for at in reversed(range(RUNS))]
    assert ids(listing) == newest
    assert ids(listing, order="asc") == newest[::-1]
    assert ids(listing, pipeline="pipeline-3,pipeline-4") == [name for name in newest if name[9] in "34"]
    assert ids(listing, state="failed") == [run_id(at) for at in (34, 17, 0)]
    assert ids(listing, model="model-2") == [run_id(at) for at in range(37, -1, -5)]
    assert ids(listing, job="nightly/sums") == [run_id(at) for at in range(36, -1, -4)]
    assert ids(listing, text="003") == [name for name in newest if "003" in name]
    assert ids(listing, text="%") == [] and ids(listing, sort="nothing like it") == newest
    assert ids(listing, sort="samples", order="asc")[0] == run_id(0)
    page = listing.page({"offset": "30", "limit": "5"})
    assert (page["total"], [run["run_id"] for run in page["runs"]]) == (RUNS, newest[30:35])
    assert page["runs"][0]["accuracy"] == pytest.approx((400 + 9) / 1000)
    assert dict(page["facets"]["state"]) == {"done": RUNS - 3, "failed": 3}
    assert len(page["nights"]) == 10
    trend = next(one for one in page["trends"] if one["pipeline"] == "pipeline-0")
    assert trend["runs"] == [run_id(at) for at in range(0, RUNS, 9)] and trend["unit"] == "dollars"


def test_a_root_that_cannot_be_written_is_listed_from_the_viewer_s_own_folder(
    root: Root, listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.view.listing.os.access", lambda *_: False)
    assert len(ids(listing)) == RUNS
    assert not (Path(root.url) / "catalogue.sqlite").exists()
    assert [*(tmp_path / "cache").rglob("*.sqlite")]


def test_a_run_that_was_killed_says_so(root: Root, listing: Listing) -> None:
    killed = manifest("killed-one", 99, 10).model_copy(update={"state": "running"})
    write_manifest(root, killed)
    assert listing.page({"limit": "1"})["runs"][0]["state"] == "killed"


@pytest.mark.parametrize("name", ["", ".", "..", "../runs", "a/b", "a\\b", "nope", "x" * 300, "\x00", ".hidden"])
def test_odd_names_are_no_runs(root: Root, name: str) -> None:
    with pytest.raises(BadInput):
        manifest_of(root, name)


def test_what_can_t_be_compared_or_listened_to_is_refused(root: Root) -> None:
    shown = Shown(root)
    for runs in (
        "",
        run_id(1),
        f"{run_id(1)},{run_id(1)}",
        f"{run_id(1)},nope",
        ",".join(run_id(at) for at in range(9)),
    ):
        with pytest.raises(BadInput):
            shown.compare(runs)
    for host in ("0.0.0.0", "::", "", "203.0.113.7"):  # noqa: S104
        with pytest.raises(BadInput):
            listen(host, 0)
    shown.close()


def test_events_are_read_as_they_come(root: Root) -> None:
    log, tail = EventLog(root, run_id(1)), EventTail(root, run_id(1))
    assert not tail.look()
    for rows in (3, 4):
        log.add("commit", stage="sample", rows=rows, part="x")
    log.add("note", "<b>said</b>")
    log.flush()
    assert tail.look() and not tail.look()
    assert tail.rows == {"sample": 7} and tail.history["sample"][1] == [3, 7]
    assert [one["message"] for one in tail.told] == ["<b>said</b>"]
    path = Path(root.uri("runs", run_id(1), "events", "00000.jsonl"))
    line = json.dumps({"time": "2026-11-01T00:00:00+00:00", "event": "commit", "stage": "sample", "rows": 1})
    with path.open("a") as file:
        file.write("not json\n[]\n" + line[:20])
    tail.look()
    assert tail.rows == {"sample": 7}, "half a line is no line"
    with path.open("a") as file:
        file.write(line[20:] + "\n" + (line + "\n") * (3 * POINTS))
    tail.look()
    times, rows = tail.history["sample"]
    assert tail.rows == {"sample": 8 + 3 * POINTS} == {"sample": rows[-1]}
    assert rows[0] == 3 and len(times) == len(rows) <= POINTS


def test_a_run_is_watched_in_a_terminal_to_its_end(root: Root) -> None:
    name = "going-on"
    going = manifest(name, 3, 10).model_copy(update={"state": "running"})
    going.stages[0].planned, going.stages[0].complete = 5000, False
    write_manifest(root, going)
    write_lease(root, f"runs/{name}", Lease.of(name, 0, 60.0), HEARTBEAT)
    log = EventLog(root, name)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            log.add("note", "a worker was lost [red]")
            log.flush()
        else:
            write_manifest(root, RunManifest.model_validate({**going.model_dump(), "state": "done"}))

    told = io.StringIO()
    last = watch(root, going, Console(file=told), sleep)
    assert last.state == "done" and len(slept) == 2
    assert "a worker was lost [red]" in told.getvalue()


def test_a_run_that_nobody_works_on_is_watched_no_longer(root: Root) -> None:
    left = manifest("left", 3, 10).model_copy(update={"state": "running"})
    write_manifest(root, left)
    told = io.StringIO()
    assert watch(root, left, Console(file=told), lambda _: pytest.fail("it waited")).state == "running"
    assert "nobody is at work" in told.getvalue()
