"""The replay engine: recorded samples come back as they were, by key or by the user's id."""

from __future__ import annotations

import asyncio
from pathlib import Path

import polars as pl
import pytest

from cluster.engines import resolve
from cluster.engines.replay import ReplayEngine
from operators.engine import Completion, EngineError, Request
from schemas.engine import ReplaySpec, SamplingParams


def play(engine: ReplayEngine, request_id: str, problem_id: str = "") -> Completion:
    request = Request("some prompt", SamplingParams(), 0, 1, request_id, problem_id)
    [completion] = asyncio.run(engine.generate(request))
    return completion


def record(path: Path, **columns: list[object]) -> ReplaySpec:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(columns).write_parquet(path)
    return ReplaySpec(samples=str(path))


def test_samples_are_found_by_key_whatever_it_contains(tmp_path: Path) -> None:
    keys = ["plain", "with/slash", "with/7", "ünï 好"]
    spec = record(
        tmp_path / "s.parquet",
        problem_key=[key for key in keys for _ in range(2)],
        sample_index=[0, 1] * len(keys),
        completion=[f"{key}:{index}" for key in keys for index in range(2)],
    )
    engine = ReplayEngine(spec)
    for key in keys:
        for index in range(2):
            assert play(engine, f"{key}/{index}").text == f"{key}:{index}"


def test_samples_without_keys_are_found_by_problem_id(tmp_path: Path) -> None:
    spec = record(tmp_path / "s.parquet", problem_id=["a/b"], sample_index=[3], completion=["text"])
    engine = ReplayEngine(spec)
    assert play(engine, "0f3c/3", "a/b").text == "text"
    with pytest.raises(EngineError):
        play(engine, "0f3c/3", "another")


def test_a_missing_sample_is_named_and_final(tmp_path: Path) -> None:
    engine = ReplayEngine(record(tmp_path / "s.parquet", problem_key=["p"], sample_index=[0], completion=["x"]))
    with pytest.raises(EngineError, match="p/1") as caught:
        play(engine, "p/1")
    assert not caught.value.transient


def test_recorded_columns_come_back(tmp_path: Path) -> None:
    spec = record(
        tmp_path / "s.parquet",
        problem_key=["p"],
        sample_index=[0],
        completion=["the text"],
        reasoning=["because"],
        finish_reason=["length"],
        prompt_tokens=[11],
        completion_tokens=[5],
        sum_logprob=[-2.5],
        mean_logprob=[-0.5],
    )
    assert play(ReplayEngine(spec), "p/0") == Completion(
        "the text", "length", 11, 5, reasoning="because", sum_logprob=-2.5, mean_logprob=-0.5
    )


def test_a_bare_recording_counts_words(tmp_path: Path) -> None:
    spec = record(tmp_path / "s.parquet", problem_key=["p"], sample_index=[0], completion=["one two three"])
    completion = play(ReplayEngine(spec), "p/0")
    assert (completion.finish_reason, completion.prompt_tokens, completion.completion_tokens) == ("stop", 2, 3)
    assert completion.sum_logprob is None


def test_a_folder_is_one_recording_and_its_content_the_revision(tmp_path: Path) -> None:
    for part in range(3):
        record(tmp_path / f"{part}.parquet", problem_key=["p"], sample_index=[part], completion=[f"text {part}"])
    spec = ReplaySpec(samples=str(tmp_path))
    engine = ReplayEngine(spec)
    assert [play(engine, f"p/{part}").text for part in range(3)] == ["text 0", "text 1", "text 2"]
    assert resolve(spec)[1] == engine.info.revision != resolve(ReplaySpec(samples=str(tmp_path / "0.parquet")))[1]
