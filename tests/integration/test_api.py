"""Gristmill from Python, and from a notebook."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from jobs.api import Moment, load_run, plan, run, runs, verifier
from operators.load.load import Load
from pipelines.graph import Pipeline
from schemas.errors import BadInput
from tests.own import ends_well
from tests.support import scripted_pipeline, write_problems


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    source = write_problems(tmp_path / "problems.jsonl", 3)
    engine = {"kind": "scripted", "answers": ["0", "1", "2"]}
    return {"load.source": str(source), "sample.n": 8, "engine": engine, "forecast.bootstrap": 20}


def test_a_run_its_frames_and_its_progress(tmp_path: Path, settings: dict[str, Any]) -> None:
    root = str(tmp_path / "root")
    ahead = plan("math", settings, root=root)
    assert ahead.stages.filter(pl.col("name") == "sample")["planned"].item() == 24
    assert "sample" in repr(ahead) and "<table>" in ahead._repr_html_()

    seen: list[Moment] = []
    made = run("math", settings, root=root, runner="local", on_progress=seen.append)
    assert made.state == "done" and made.manifest.n_problems == 3
    assert seen[-1].done["sample"] == seen[-1].planned["sample"] == 24 and seen[-1].run_id == made.id
    assert made.frame("samples").equals(made.frame("sample")) and len(made.frame("verdicts")) == 24
    assert made.datasets["sample"] == "samples"
    assert isinstance(made.scan("verify"), pl.LazyFrame)
    assert made.coverage["k"].to_list()[0] == 1 and "<table>" in made._repr_html_()
    assert made.report is not None and Path(made.report).is_file()

    again = load_run("latest", root=root)
    assert again.id == made.id and again.as_json()["state"] == "done"
    assert runs(root).select("run_id", "pipeline", "state").rows() == [(made.id, "math", "done")]
    with pytest.raises(BadInput, match="no stage or dataset 'nothing'"):
        made.frame("nothing")


def test_where_an_event_loop_runs_already(tmp_path: Path, settings: dict[str, Any]) -> None:
    async def cell() -> str:
        plan("math", settings, root=str(tmp_path / "root"))
        return run("math", settings, root=str(tmp_path / "root"), runner="local").state

    assert asyncio.run(cell()) == "done"


def test_a_pipeline_of_python_and_one_with_a_verifier_of_ones_own(tmp_path: Path, settings: dict[str, Any]) -> None:
    built = scripted_pipeline(Path(settings["load.source"]), 4)
    counted = run(built, root=str(tmp_path / "one"), runner="local").frame("count")
    assert dict(counted.iter_rows()) == {"answers": 3, "verdicts": 12}
    with pytest.raises(BadInput, match="has its settings already"):
        run(built, {"sample.n": 3}, root=str(tmp_path / "one"))

    made = run("math", {**settings, "verify": ends_well}, root=str(tmp_path / "two"), runner="local")
    assert set(made.frame("verdicts")["verifier"]) == {"verify.function"}
    assert made.frame("verdicts")["is_correct"].any()


def test_what_is_wrong_is_said_as_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"sample\.nn'; did you mean 'n'"):
        run("math", {"sample.nn": 3}, root=str(tmp_path))
    with pytest.raises(BadInput, match=r"load\.source isn't given"):
        run("math", root=str(tmp_path), runner="local")
    with pytest.raises(BadInput, match="'sample' was set to a plain value"):
        plan("math", {"sample": 3, "sample.n": 4}, root=str(tmp_path))
    with pytest.raises(BadInput, match="runner 'spark'"):
        run("math", root=str(tmp_path), runner="spark")
    with pytest.raises(BadInput, match="other processes"):
        verifier(lambda completion: True)
    with pytest.raises(BadInput, match="no runs"):
        load_run(root=str(tmp_path))
    empty = Pipeline("empty")
    empty.stage("load", Load(source=str(tmp_path / "nothing.jsonl")))
    with pytest.raises(BadInput, match="doesn't exist"):
        run(empty, root=str(tmp_path), runner="local")


def test_what_a_callback_raises_ends_the_run_and_it_goes_on(tmp_path: Path, settings: dict[str, Any]) -> None:
    def stop(moment: Moment) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        run("math", settings, root=str(tmp_path / "root"), runner="local", on_progress=stop)
    assert run("math", settings, root=str(tmp_path / "root"), runner="local").state == "done"
