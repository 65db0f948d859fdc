"""Measuring engines: rates that can be reckoned beforehand, what is written down, and what plan makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.runners.local import LocalRunner
from jobs.bench import bench
from jobs.bench.benchmark import Settings, advice, parse_levels
from jobs.cli import app
from jobs.running.estimate import REMEDY, estimate
from jobs.running.run import Job, prepare
from schemas.errors import BadInput, EngineFailed
from schemas.prices import Prices
from schemas.throughput import Level, ThroughputEntry
from tests.support import run, write_problems


def job(tmp_path: Path, n: int = 100, **engine: Any) -> Job:
    """Return the math pipeline on the scripted engine, over four problems."""
    source = write_problems(tmp_path / "p.jsonl", 4)
    settings = {
        "engine.kind": "scripted",
        "load.source": str(source),
        "sample.n": n,
        "engine.answers": "[one two three]",
    }
    settings |= {f"engine.{key}": value for key, value in engine.items()}
    assigned = [
        f"{key}={json.dumps(value)}" if not isinstance(value, str) else f"{key}={value}"
        for key, value in settings.items()
    ]
    return prepare("math", assigned, str(tmp_path / "root"), "local", None, None)


def test_the_rate_of_a_slow_engine_is_its_slots_over_its_latency(tmp_path: Path) -> None:
    prices = Prices(dollars_per_million_prompt_tokens=1.0, dollars_per_million_completion_tokens=10.0)
    how = Settings(levels=(1, 8), rounds=3, seconds=1.0, prices=prices, out=tmp_path / "speed.svg")
    entry = bench(job(tmp_path, latency=0.05, slots=8), how, as_json=True)
    one, eight = entry.levels
    assert one.concurrency == 1
    for level in (one, eight):  # by Little's law, however busy the machine is
        expected = 3 * level.concurrency / level.latency_seconds
        assert level.completion_tokens_per_second == pytest.approx(expected, rel=0.3)
        assert level.completion_tokens_per_second < 1.1 * 3 * level.concurrency / 0.05
        assert level.latency_seconds >= 0.05
    assert eight.low <= eight.completion_tokens_per_second <= eight.high
    assert eight.rounds == 3
    assert eight.requests > 2 * one.requests
    assert entry.best is eight
    assert entry.mean_completion_tokens == 3
    assert (tmp_path / "speed.svg").read_text().startswith("<svg")


def test_plan_tells_what_is_known_and_where_it_is_from(tmp_path: Path) -> None:
    from cluster.planning.plan import make_plan

    first = job(tmp_path, latency=0.02, slots=8)
    unknown = estimate(make_plan(first.pipeline, first.root))["sample"]
    assert unknown.samples == 400
    assert unknown.completion_tokens == 400 * 512
    assert "worst case" in unknown.tokens_from
    assert unknown.hours is None
    assert unknown.dollars is None
    assert unknown.throughput_from == REMEDY
    prices = Prices(dollars_per_million_prompt_tokens=1.0, dollars_per_million_completion_tokens=10.0)
    entry = bench(first, Settings(levels=(8,), rounds=1, seconds=1.0, prices=prices), as_json=True)
    known = estimate(make_plan(first.pipeline, first.root))["sample"]
    assert known.completion_tokens == 1200
    assert known.tokens_from == "bench-engine"
    assert known.hours == pytest.approx(1200 / entry.best.completion_tokens_per_second / 3600)
    assert known.dollars == pytest.approx((known.prompt_tokens + 10 * 1200) / 1e6)
    run(LocalRunner(), first.pipeline, tmp_path / "root")
    more = job(tmp_path, latency=0.02, slots=8, n=1000)
    topped_up = estimate(make_plan(more.pipeline, more.root))["sample"]
    assert topped_up.samples == 3600
    assert "400 samples that are there" in topped_up.tokens_from
    assert topped_up.throughput_from.startswith("run math-")


def test_an_engine_of_other_slots_has_an_entry_of_its_own(tmp_path: Path) -> None:
    for slots in (4, 8):
        bench(job(tmp_path, slots=slots), Settings(levels=(2,), rounds=1, seconds=0.2), as_json=True)
    entries = [
        ThroughputEntry.model_validate_json(path.read_text()) for path in (tmp_path / "root/engines").glob("*.json")
    ]
    assert sorted(entry.slots for entry in entries) == [4, 8]
    assert len(list((tmp_path / "root/engines").glob("*.html"))) == 2


def test_an_engine_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="refused, as scripted"):
        bench(job(tmp_path, fail_permanent=1.0), Settings(levels=(2,), rounds=1, seconds=0.5), as_json=True)
    with pytest.raises(EngineFailed, match="engine died of 'What'"):
        bench(job(tmp_path, deadly="What"), Settings(levels=(2,), rounds=1, seconds=0.5), as_json=True)


def test_bad_levels_and_plots_are_refused(tmp_path: Path) -> None:
    assert parse_levels("4, 1,16") == (1, 4, 16)
    for text in ("four", "0,1"):
        with pytest.raises(BadInput, match="--concurrency"):
            parse_levels(text)
    how = Settings(levels=(1,), rounds=1, seconds=0.2, out=tmp_path / "speed.doc")
    with pytest.raises(BadInput, match="html, png, svg"):
        bench(job(tmp_path), how, as_json=True)


def test_advice_is_only_given_where_the_rounds_agree() -> None:
    def level(concurrency: int, low: float, median: float, high: float) -> Level:
        rest = {"prompt_tokens_per_second": 1, "samples_per_second": 1, "latency_seconds": 1, "latency_p95_seconds": 1}
        rates = {"low": low, "completion_tokens_per_second": median, "high": high}
        return Level.model_validate({"concurrency": concurrency, "rounds": 3, "requests": 9, **rates, **rest})

    assert advice([level(8, 90, 100, 110), level(16, 180, 200, 220)]) == [
        "Still growing at the end: more slots may pay, as far as memory goes."
    ]
    assert advice([level(8, 90, 100, 110), level(16, 80, 120, 160)]) == []
    [said] = advice([level(8, 190, 200, 210), level(16, 80, 100, 120)])
    assert said.startswith("8 in flight are faster than 16")


def test_the_command_writes_the_entry_and_prints_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_problems(tmp_path / "p.jsonl", 2)
    arguments = ["bench-engine", "math", "--set", f"load.source={source}", "--set", "engine.kind=scripted", "--json"]
    app(
        [*arguments, "--seconds", "0.3", "--rounds", "1", "--concurrency", "4", "--root", str(tmp_path)],
        standalone_mode=False,
    )
    found = json.loads(capsys.readouterr().out)
    assert found["levels"][0]["concurrency"] == 4
    assert Path(found["entry"]).is_file()
    assert "<html" in Path(found["plot"]).read_text().lower()
