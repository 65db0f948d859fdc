"""Building engines and resolving their models: what is found, and what the error says where nothing is."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from cluster.engines import build_engine, resolve
from schemas.engine import LlamaCppSpec, ReplaySpec, ScriptedSpec
from schemas.errors import BadInput


def test_a_scripted_revision_is_constant() -> None:
    assert resolve(ScriptedSpec()) == resolve(ScriptedSpec(answers=("1",), slots=3))


def test_a_built_engine_reports_what_was_resolved() -> None:
    spec = ScriptedSpec(model="mine", slots=7, context=99)
    engine = build_engine(spec)
    assert (engine.info.model, engine.info.revision) == resolve(spec)
    assert engine.capacity == 7
    assert engine.info.context == 99


def test_weights_are_known_by_their_content_not_their_path(tmp_path: Path) -> None:
    for name, content in (("a.gguf", b"one"), ("b.gguf", b"one"), ("c.gguf", b"two")):
        (tmp_path / name).write_bytes(content)
    first, same, other = (
        resolve(LlamaCppSpec(model=str(tmp_path / name)))[1] for name in ("a.gguf", "b.gguf", "c.gguf")
    )
    assert first == same
    assert first != other


def test_a_missing_weights_file_is_named() -> None:
    with pytest.raises(BadInput, match=r"/nowhere/model\.gguf"):
        resolve(LlamaCppSpec(model="/nowhere/model.gguf"))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "not-a-model.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(BadInput, match="not-a-model"):
        build_engine(LlamaCppSpec(model=str(path)))


def test_replay_needs_files(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing.parquet"):
        with pytest.raises(BadInput, match="Parquet"):
            resolve(ReplaySpec(samples=str(place)))


def test_replay_names_the_columns_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    pl.DataFrame({"problem_id": ["p"], "text": ["42"]}).write_parquet(path)
    with pytest.raises(BadInput, match=r"completion.*sample_index"):
        build_engine(ReplaySpec(samples=str(path)))
