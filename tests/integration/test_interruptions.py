"""Runs that are stopped, paused or doubled: what was drawn is kept, one writer at a time, the same command goes on."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.records.reader import find_run, manifests
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from schemas.errors import StoreBusy
from schemas.job import RunSettings
from tests.commands import Command
from tests.support import keys, run, scripted_pipeline, stage, write_problems

HERE = Path(__file__).parents[2]


def start(folder: Path, *more: str, latency: float = 0.05, n: int = 200) -> Command:
    """Start a run of 4 problems on the command line."""
    write_problems(folder / "problems.jsonl", 4)
    settings = {
        "load.source": "problems.jsonl",
        "sample.n": n,
        "engine.kind": "scripted",
        "engine.answers": "['0','1','2']",
        "engine.latency": latency,
        "engine.slots": 8,
        "engine.call_log": str(folder / "calls"),
        "verify.operator": "verify.exact",
        "forecast.bootstrap": 20,
        "run.flush_seconds": 0.3,
        "run.commit_seconds": 0.1,
    }
    command = ["run", "math", "--runner", "local", "--json"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return Command(*command, *more, folder=folder)


def wait_for(what: Callable[[], Any], seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it didn't happen in time"
        time.sleep(0.05)


def committed(folder: Path) -> int:
    """Return how many samples are facts."""
    import polars as pl

    root = folder / "gristmill-data"
    stores = Root.at(root).list("samples")
    try:
        return pl.scan_delta(str(root / "samples" / stores[0])).select(pl.len()).collect().item() if stores else 0
    except Exception:  # the table is being made
        return 0


def finish(process: Command) -> tuple[int, str, str]:
    out, err = process.communicate()
    return process.wait(), out, err


@pytest.mark.parametrize(
    ("number", "runner"),
    [
        (signal.SIGTERM, "local"),
        (signal.SIGINT, "local"),
        pytest.param(signal.SIGTERM, "ray", marks=pytest.mark.ray),
    ],
)
def test_a_signal_stops_in_good_order_and_the_same_command_goes_on(
    tmp_path: Path, number: signal.Signals, runner: str
) -> None:
    first = start(tmp_path, "--runner", runner, latency=0.25)
    wait_for(lambda: committed(tmp_path) >= 50)
    first.send_signal(number)
    code, out, err = finish(first)
    assert code == 3, err
    assert json.loads(out)["state"] == "interrupted"
    assert f"{number.name}: stopping" in err
    assert "The same command continues from here" in err
    asked = len((tmp_path / "calls").read_text().split())
    # nothing that was asked for was dropped: in flight requests had their grace, and all was committed
    assert committed(tmp_path) == asked < 800
    code, _, err = finish(start(tmp_path, latency=0.0))
    assert code == 0, err
    calls = Counter((tmp_path / "calls").read_text().split())
    assert len(calls) == 800
    assert set(calls.values()) == {1}


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    first = start(tmp_path, "--set", "run.grace_seconds=3600", latency=3600.0)
    wait_for(lambda: (tmp_path / "calls").exists() and (tmp_path / "calls").read_text())
    first.send_signal(signal.SIGTERM)
    time.sleep(1.0)
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    code, _, err = finish(first)  # long before its grace is over
    assert code == 3, err


def test_a_second_signal_charges_nothing_that_waits_for_a_server(tmp_path: Path) -> None:
    """Who never got an answer owes nothing: the last report says so, however soon it is wanted."""
    write_problems(tmp_path / "problems.jsonl", 4)
    settings = {
        "load.source": "problems.jsonl",
        "sample.n": 20,
        "engine.kind": "openai",
        "engine.model": "away",
        "engine.patience": 3600,
        "verify.operator": "verify.exact",
        "run.budget.tokens": 1_000_000,
        "run.grace_seconds": 3600,
    }
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and doesn't listen: whoever calls is refused
        settings["engine.url"] = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        first = Command("run", "math", "--runner", "local", *words, folder=tmp_path)
        wait_for(lambda: "Cannot connect" in first.errors())
        first.send_signal(signal.SIGTERM)
        wait_for(lambda: "again: stop now" in first.errors())
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        code, _, err = finish(first)
    assert code == 3 and "without its last report" not in err, err
    [manifest] = manifests(Root.at(tmp_path / "gristmill-data"))
    spending = manifest.spending
    assert manifest.state == "interrupted" and spending is not None
    assert (spending.samples, spending.tokens, spending.orphaned_samples, spending.orphaned_tokens) == (0, 0, 0, 0)


def test_a_second_driver_is_refused_waits_or_reads(tmp_path: Path) -> None:
    first = start(tmp_path, n=600, latency=2.0)  # for ten minutes, so it is stopped before
    wait_for(lambda: committed(tmp_path) >= 20)
    code, _, err = finish(start(tmp_path, n=600))
    assert code == 3
    assert "is being written by run math-" in err
    assert "--if-busy wait" in err
    reader = start(tmp_path, "--if-busy", "read", n=600)
    waiter = start(tmp_path, "--if-busy", "wait", n=600, latency=0.0)
    code, _, err = finish(reader)
    assert code in (0, 3), err  # 3 where the first's verdicts were not there yet
    assert "Reading what is there" in err
    wait_for(lambda: "waiting: store samples/" in waiter.errors())
    first.send_signal(signal.SIGTERM)
    code, out, err = finish(first)
    assert (code, json.loads(out)["state"]) == (3, "interrupted"), err
    code, _, err = finish(waiter)
    assert code == 0, err
    calls = Counter((tmp_path / "calls").read_text().split())
    assert len(calls) == 2400
    assert set(calls.values()) == {1}


def test_a_paused_driver_that_was_taken_over_cannot_commit(tmp_path: Path) -> None:
    first = start(tmp_path, "--set", "run.lease_seconds=1", latency=0.25)
    wait_for(lambda: committed(tmp_path) >= 20)
    first.send_signal(signal.SIGSTOP)
    try:
        time.sleep(1.5)
        second = start(tmp_path, "--set", "run.lease_seconds=1", latency=0.0)
        code, _, err = finish(second)
        assert code == 0, err
    finally:
        first.send_signal(signal.SIGCONT)
    texts = run_texts(tmp_path)
    code, _, err = finish(first)
    assert code == 3
    assert "took over" in err
    assert run_texts(tmp_path) == texts
    assert len(texts) == 800


def run_texts(folder: Path) -> dict[tuple[str, int], tuple[str, str]]:
    """Return key -> (text, run) of all samples."""
    import polars as pl

    root = folder / "gristmill-data"
    rows = pl.read_delta(str(root / "samples" / Root.at(root).list("samples")[0]))
    assert rows.select("problem_key", "sample_index").is_duplicated().sum() == 0
    return {
        (k, i): (text, who)
        for k, i, text, who in rows.select("problem_key", "sample_index", "completion", "run_id").rows()
    }


def test_a_view_does_not_change_when_others_add_to_its_store(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 3)
    small = run(LocalRunner(), scripted_pipeline(source, 10), tmp_path / "root")
    before = {name: small.dataset(name).collect() for name in ("sample", "verify", "select")}
    run(LocalRunner(), scripted_pipeline(source, 40), tmp_path / "root")
    for name, rows in before.items():
        order = rows.columns[:2]
        assert small.dataset(name).collect().sort(order).equals(rows.sort(order))


def test_a_run_that_only_reads_needs_no_lease(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 3)
    first = run(LocalRunner(), scripted_pipeline(source, 10), tmp_path / "root")
    from cluster.planning.plan import make_plan

    plan = make_plan(scripted_pipeline(source, 20), Root.at(tmp_path / "root"))
    store = plan.stages["sample"].store
    assert store is not None
    store.acquire("somebody else")
    again = run(LocalRunner(), scripted_pipeline(source, 10), tmp_path / "root")
    assert again.manifest.state == "done"
    assert keys(again) == keys(first)
    with pytest.raises(StoreBusy):
        run(LocalRunner(), scripted_pipeline(source, 20), tmp_path / "root")
    reading = RunSettings(flush_seconds=0.2, commit_seconds=0.05, if_busy="read")
    read = run(LocalRunner(), scripted_pipeline(source, 20), tmp_path / "root", reading)
    assert read.manifest.state == "done"
    assert stage(read, "sample") == {"planned": 30, "reused": 30, "computed": 0}
    assert keys(read) == keys(first)
    assert find_run(Root.at(tmp_path / "root"), "latest").run_id == read.manifest.run_id
    assert [found.state for found in manifests(Root.at(tmp_path / "root"))].count("done") == 3
