"""Runs on both runners: the same rows, nothing lost, nothing paid for twice, resumed wherever they were cut."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from cluster.driving.driver import run_pipeline
from cluster.records.reader import find_run, manifests
from cluster.runners.local import LocalRunner
from cluster.runners.runner import Runner
from cluster.storage.root import Root
from operators.sample.sampling import Sampling
from schemas.errors import BadInput, EngineFailed, StageFailed
from schemas.job import RunSettings
from tests.support import QUICK, keys, ray_runner, run, scripted_pipeline, stage, write_problems

RUNNERS = [pytest.param(LocalRunner, id="local"), pytest.param(ray_runner, id="ray", marks=pytest.mark.ray)]


@pytest.mark.parametrize("make", RUNNERS)
def test_a_run_gives_every_row_once_and_a_second_run_gives_nothing(make: Callable[[], Runner], tmp_path: Path) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 6), tmp_path / "calls"
    result = run(make(), scripted_pipeline(source, 20, call_log=str(log)), tmp_path / "root")
    assert result.manifest.state == "done"
    assert len(keys(result)) == len(set(keys(result))) == 120
    assert keys(result) == keys(result, "verify")
    assert result.dataset("count").collect().rows() == [("answers", 6), ("verdicts", 120)]
    again = run(make(), scripted_pipeline(source, 20, call_log=str(log)), tmp_path / "root")
    assert [stage(again, name)["computed"] for name in ("sample", "verify", "select", "count")] == [0, 0, 0, 0]
    assert len(log.read_text().splitlines()) == 120


@pytest.mark.ray
def test_both_runners_give_equal_rows(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 5)
    local = run(LocalRunner(), scripted_pipeline(source, 12), tmp_path / "local")
    ray = run(ray_runner(), scripted_pipeline(source, 12), tmp_path / "ray")
    for name, varying in (("load", []), ("sample", ["run_id"]), ("verify", ["seconds"]), ("select", []), ("count", [])):
        one, other = (r.dataset(name).collect().drop(varying) for r in (local, ray))
        assert one.sort(one.columns[:2]).equals(other.sort(other.columns[:2])), name


def test_topping_up_pays_for_the_difference(tmp_path: Path) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 4), tmp_path / "calls"

    def sampled(path: Path, n: int, **engine: object) -> dict[str, int]:
        return stage(
            run(LocalRunner(), scripted_pipeline(path, n, call_log=str(log), **engine), tmp_path / "root"), "sample"
        )

    assert sampled(source, 32) == {"planned": 128, "reused": 0, "computed": 128}
    assert sampled(source, 48) == {"planned": 192, "reused": 128, "computed": 64}
    assert sampled(source, 16) == {"planned": 64, "reused": 64, "computed": 0}
    assert sampled(source, 48, latency=0.001, slots=3) == {"planned": 192, "reused": 192, "computed": 0}
    other = scripted_pipeline(source, 48, call_log=str(log))
    other.name = "another pipeline with the same sampling settings"
    assert stage(run(LocalRunner(), other, tmp_path / "root"), "sample")["computed"] == 0
    more = write_problems(tmp_path / "more.jsonl", 5)
    assert sampled(more, 48) == {"planned": 240, "reused": 192, "computed": 48}
    calls = Counter(log.read_text().split())
    assert len(calls) == 240
    assert set(calls.values()) == {1}


def test_other_sampling_settings_are_another_store(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 2)
    run(LocalRunner(), scripted_pipeline(source, 8), tmp_path / "root")
    result = run(LocalRunner(), scripted_pipeline(source, 8, Sampling(temperature=0.5)), tmp_path / "root")
    assert stage(result, "sample") == {"planned": 16, "reused": 0, "computed": 16}
    assert len(Root.at(tmp_path / "root").list("samples")) == 2


def test_samples_are_verified_before_sampling_ends(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 4)
    overlap: list[int] = []

    class Watch:
        def update(self, manifest: object, live: dict[str, int]) -> None:
            records = {record.name: record for record in manifest.stages}  # pyright: ignore
            if not records["sample"].complete:
                overlap.append(records["verify"].computed)

        def say(self, text: str) -> None:
            pass

    runner = LocalRunner()
    pipeline = scripted_pipeline(source, 40, latency=0.05, slots=4)
    result = run_pipeline(pipeline, runner, str(tmp_path / "root"), QUICK, Watch())
    runner.close()
    assert result.manifest.state == "done"
    assert max(overlap) > 0


def test_requests_of_different_problems_share_the_engine(tmp_path: Path) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 8), tmp_path / "calls"
    run(LocalRunner(), scripted_pipeline(source, 5, call_log=str(log), slots=16, latency=0.01), tmp_path / "root")
    first = {line.split("/")[0] for line in log.read_text().splitlines()[:16]}
    assert len(first) >= 3


def test_transient_faults_heal_and_permanent_ones_become_rows(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 4)
    pipeline = scripted_pipeline(source, 50, fail_transient=0.2, fail_permanent=0.1)
    result = run(LocalRunner(), pipeline, tmp_path / "root")
    assert result.manifest.state == "done"
    samples = result.dataset("sample").collect()
    assert len(samples) == 200
    failed = samples.filter(pl.col("status") == "error")
    assert 0 < len(failed) < 60
    assert failed["error"].str.contains("refused").all()
    verdicts = result.dataset("verify").collect()
    assert (verdicts["status"] == "skipped").sum() == len(failed)
    record = next(record for record in result.manifest.stages if record.name == "sample")
    assert record.failed == len(failed)


def test_faults_that_outlive_the_retries_leave_the_run_incomplete_and_resumable(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 3)
    sampling = Sampling(retries=0)
    result = run(LocalRunner(), scripted_pipeline(source, 40, sampling, fail_transient=0.3), tmp_path / "root")
    assert result.manifest.state == "incomplete"
    assert "could not be drawn" in (result.manifest.error or "")
    had = len(keys(result))
    assert 0 < had < 120
    healed = run(LocalRunner(), scripted_pipeline(source, 40, sampling), tmp_path / "root")
    assert healed.manifest.state == "done"
    assert stage(healed, "sample") == {"planned": 120, "reused": had, "computed": 120 - had}


def test_a_prompt_longer_than_the_context_is_refused_before_sampling(tmp_path: Path) -> None:
    source, log = tmp_path / "p.jsonl", tmp_path / "calls"
    source.write_text(
        '{"id": "long", "question": "%s", "answer": "1"}\n{"id": "b", "question": "x", "answer": "1"}\n' % ("w " * 99)
    )
    pipeline = scripted_pipeline(source, 4, Sampling(max_tokens=8), context=50, call_log=str(log))
    with pytest.raises(BadInput, match=r"'long' \(\d+ tokens\).*engine.context"):
        run(LocalRunner(), pipeline, tmp_path / "root")
    assert log.read_text() == ""


def test_an_operator_that_raises_fails_the_run_and_keeps_the_samples(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 2)
    pipeline = scripted_pipeline(source, 8)
    broken = pipeline.stages["verify"].operator.model_copy(update={"pattern": "(unclosed"})
    object.__setattr__(pipeline.stages["verify"], "operator", broken)
    with pytest.raises(StageFailed, match="stage verify"):
        run(LocalRunner(), pipeline, tmp_path / "root")
    failed = find_run(Root.at(tmp_path / "root"), "latest")
    assert failed.state == "failed"
    result = run(LocalRunner(), scripted_pipeline(source, 8), tmp_path / "root")
    assert stage(result, "sample") == {"planned": 16, "reused": 16, "computed": 0}


def test_an_engine_that_keeps_dying_ends_the_run(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 2)
    pipeline = scripted_pipeline(source, 8, weights=(1.0,))  # every draw raises: 2 restarts, 2 to search
    with pytest.raises(EngineFailed, match="died 5 times"):
        run(LocalRunner(), pipeline, tmp_path / "root")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from cluster.runners.local import LocalRunner
from tests.support import run, scripted_pipeline
if __name__ == "__main__":
    root = Path({root!r})
    run(LocalRunner(), scripted_pipeline(Path({source!r}), 200, latency=0.02, slots=8, call_log={log!r}), root)
"""


def test_kill_9_in_the_middle_of_sampling_costs_only_what_was_not_committed(tmp_path: Path) -> None:
    source, log = write_problems(tmp_path / "p.jsonl", 5), tmp_path / "calls"
    here = str(Path(__file__).parents[2])
    script = KILLED.format(here=here, root=str(tmp_path / "root"), source=str(source), log=str(log))
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": here})
    store = None
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not store:
        time.sleep(0.1)
        found = Root.at(tmp_path / "root").list("samples")
        if found:
            with contextlib.suppress(TableNotFoundError):  # its folder is there before its log has a file
                table = DeltaTable(str(tmp_path / "root" / "samples" / found[0]))
                store = table if table.version() >= 3 else None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store, "nothing was committed"
    before = pl.read_delta(store.table_uri).select("problem_key", "sample_index", "completion")
    assert 0 < len(before) < 1000

    pipeline = scripted_pipeline(source, 200, slots=8, call_log=str(log))
    result = run(LocalRunner(), pipeline, tmp_path / "root")
    assert result.manifest.state == "done"
    undisturbed = run(LocalRunner(), scripted_pipeline(source, 200), tmp_path / "other")
    assert keys(result) == keys(undisturbed)
    committed = {f"{key}/{index}" for key, index, _ in before.rows()}
    calls = Counter(log.read_text().split())
    assert all(calls[name] == 1 for name in committed)
    after = result.dataset("sample").collect().join(before, on=["problem_key", "sample_index"], suffix="_before")
    assert len(after) == len(before)
    assert (after["completion"] == after["completion_before"]).all()


def test_a_long_run_keeps_its_stores_tidy(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 4)
    tiny = RunSettings(flush_rows=4, flush_seconds=0.02, commit_seconds=0.0)
    result = run(LocalRunner(), scripted_pipeline(source, 200, latency=0.002, slots=4), tmp_path / "root", tiny)
    table = DeltaTable(str(tmp_path / "root" / result.manifest.stages[1].path))
    written = list(Path(table.table_uri.removeprefix("file://")).glob("*.parquet"))
    assert len(written) > 100
    assert len(table.file_uris()) < len(written) / 3
    assert len(keys(result)) == len(set(keys(result))) == 800
    assert keys(result) == keys(result, "verify")
    assert result.dataset("count").collect().rows() == [("answers", 4), ("verdicts", 800)]


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 1)
    first = run(LocalRunner(), scripted_pipeline(source, 2), tmp_path / "root")
    second = run(LocalRunner(), scripted_pipeline(source, 3), tmp_path / "root", RunSettings(command="again"))
    root = Root.at(tmp_path / "root")
    assert [found.run_id for found in manifests(root)] == [second.manifest.run_id, first.manifest.run_id]
    assert find_run(root, "latest").command == "again"
    assert first.dataset("sample").collect().height == 2
    with pytest.raises(BadInput, match="no run begins"):
        find_run(root, "nothing")
