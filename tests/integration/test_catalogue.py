"""The catalogue: a copy of the manifests in SQLite and in a real PostgreSQL, with the same answers from both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.records.reader import find_run
from cluster.records.recorder import write_manifest
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from jobs.looking.catalogue import COSTS, DATASETS, POSTERIORS, RUNS, SORTS, Catalogue
from jobs.looking.diff import diff
from jobs.looking.listing import list_runs
from jobs.running.figures import VARIABLE, Sort
from jobs.running.posterior import posteriors
from schemas.errors import BadInput
from schemas.prices import Prices
from tests.commands import gristmill
from tests.postgresql import PASSWORD, postgresql
from tests.support import QUICK, run, scripted_pipeline, write_problems

TABLES = (RUNS, DATASETS, COSTS, POSTERIORS)
PRICES = {"scripted": Prices(dollars_per_million_prompt_tokens=1.0, dollars_per_million_completion_tokens=2.0)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A root with four runs, one of which was killed and one of which belongs to a job."""
    folder = tmp_path_factory.mktemp("catalogue")
    source = write_problems(folder / "p.jsonl", 4)
    made: list[str] = []
    for n, job in ((3, None), (5, "nightly/sums/2026-11-26"), (4, None), (6, None)):
        settings = QUICK.model_copy(update={"job": job, "prices": PRICES})
        result = run(LocalRunner(), scripted_pipeline(source, n), folder / "root", settings)
        result.manifest.posteriors = posteriors(result.root, result.manifest)
        write_manifest(result.root, result.manifest)
        made.append(result.manifest.run_id)
    place = Root.at(folder / "root")
    killed = find_run(place, made[2])
    killed.state, killed.finished = "running", None
    write_manifest(place, killed)
    return place


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgresql(tmp_path_factory.mktemp("postgresql") / "server") as url:
        yield url


def contents(catalogue: Catalogue) -> list[list[dict[str, Any]]]:
    """Return all rows of all tables; times without their zone, which SQLite doesn't keep."""
    found = [catalogue.table(table) for table in TABLES]
    return [
        [
            {name: value.replace(tzinfo=None) if isinstance(value, datetime) else value for name, value in row.items()}
            for row in rows
        ]
        for rows in found
    ]


def said(root: Root, *arguments: str, **environment: str) -> str:
    done = gristmill(*arguments, "--root", root.url, cwd=Path(root.url).parent, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_catalogue_that_was_deleted_is_the_same_again(root: Root) -> None:
    before = json.loads(said(root, "runs", "--json"))
    file = Path(root.url) / "catalogue.sqlite"
    made = Catalogue(root)
    assert made.sync() == 4
    first = contents(made)
    file.unlink()
    again = Catalogue(root)
    assert again.sync() == 4
    assert again.sync() == 0
    assert contents(again) == first
    assert json.loads(said(root, "runs", "--json")) == before
    assert [run["state"] for run in before] == ["done", "killed", "done", "done"]
    assert all({"run_id", "pipeline", "state", "started", "root", "datasets"} <= run.keys() for run in before)


@pytest.mark.postgresql
def test_postgresql_and_sqlite_give_the_same_answers(root: Root, server: str, tmp_path: Path) -> None:
    catalogues = [Catalogue(root, f"sqlite:///{tmp_path / 'other.sqlite'}"), Catalogue(root, server)]
    for catalogue in catalogues:
        assert catalogue.sync() == 4
    one, other = (contents(catalogue) for catalogue in catalogues)
    assert one == other
    assert [len(rows) for rows in one] == [4, 20, 4, 4]
    questions: list[dict[str, Any]] = [
        *({"sort": sort} for sort in SORTS),
        {"states": ["running"]},
        {"job": "nightly/sums/"},
        {"job": "nightly/%"},
        {"pipeline": "scripted", "limit": 2},
        {"since": datetime.now(UTC) - timedelta(hours=1)},
        {"since": datetime.now(UTC) + timedelta(hours=1)},
    ]
    sizes: list[int] = []
    for question in questions:
        one, other = (catalogue.runs(**question) for catalogue in catalogues)
        assert one == other, question
        sizes.append(len(one))
    assert sizes == [4, 4, 4, 4, 4, 1, 1, 0, 2, 4, 0]
    shared = said(root, "runs", "--json", **{VARIABLE: server})
    assert json.loads(shared) == json.loads(said(root, "runs", "--json"))
    for catalogue in catalogues:
        catalogue.close()


@pytest.mark.postgresql
def test_the_password_of_a_database_is_never_shown(root: Root, server: str) -> None:
    wrong = server.replace(PASSWORD, "other-secret")
    for url, why in (
        (wrong, "can't be opened.*password authentication failed"),
        (wrong.replace("127.0.0.1", "127.0.0.1:x"), "isn't the URL of a database"),
        (wrong.replace("postgresql+psycopg", "nosuch"), "can't be opened"),
    ):
        with pytest.raises(BadInput, match=why) as refused:
            Catalogue(root, url)
        assert "other-secret" not in str(refused.value)


def test_runs_are_filtered_and_sorted(root: Root) -> None:
    by_cost = json.loads(said(root, "runs", "--json", "--sort", "samples", "--limit", "2"))
    samples = [next(stage for stage in run["stages"] if stage["name"] == "sample")["computed"] for run in by_cost]
    assert samples == [12, 8]  # 3 samples of 4 problems; then 2 more each
    assert [run["state"] for run in json.loads(said(root, "runs", "--json", "--state", "killed"))] == ["killed"]
    assert json.loads(said(root, "runs", "--json", "--since", "2999-01-01")) == []
    assert len(json.loads(said(root, "runs", "--json", "--job", "nightly/sums"))) == 1


def test_two_runs_are_compared(root: Root) -> None:
    runs = json.loads(said(root, "runs", "--json"))
    found = json.loads(said(root, "diff", runs[3]["run_id"], runs[0]["run_id"], "--json"))
    assert found["settings"] == [{"key": "sample.n", "values": [3, 6]}]
    assert found["problems"] == {"both": 4, "only_first": 0, "only_second": 0}
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert stages["sample"]["figures"]["planned"] == [12, 24]
    assert not stages["sample"]["same_rows"]
    assert "load" not in stages or stages["load"]["same_rows"]
    for row in found["coverage"]:
        assert row["paired"] == 4 and row["difference_low"] <= row["difference"] <= row["difference_high"]
        assert row["difference"] == pytest.approx(row["coverage_second"] - row["coverage"])
    same = diff(root, find_run(root, runs[0]["run_id"]), find_run(root, runs[0]["run_id"]))
    assert same["settings"] == same["stages"] == []
    assert "sample.n" in said(root, "diff", runs[3]["run_id"], runs[0]["run_id"])


def test_a_root_that_can_only_be_read_has_its_runs_listed(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.looking.catalogue._own", lambda root: (_ for _ in ()).throw(PermissionError("read-only")))
    catalogue = Catalogue(root)
    catalogue.sync()
    assert len(catalogue.runs()) == 4


@pytest.mark.parametrize("sort", [*SORTS])
def test_few_runs_are_listed_from_their_manifests_as_the_catalogue_lists_them(
    root: Root, sort: Sort, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"pipeline": "scripted", "limit": 2},
        {"states": ["done"], "since": datetime.now(UTC) - timedelta(days=30)},
        {"job": "nightly/"},
        {"pipeline": "nothing"},
    ]
    few = [[run.run_id for run in list_runs(root, sort=sort, **one)] for one in asked]
    monkeypatch.setattr("jobs.looking.listing.FEW", 0)
    assert [[run.run_id for run in list_runs(root, sort=sort, **one)] for one in asked] == few
    assert len(few[0]) == 4
