"""YAML that somebody else wrote is read, or refused in words: at once, and never with a traceback."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.config.defect import defect
from jobs.config.job_file import read_job
from jobs.config.settings import build_pipeline, parse_assignments, run_settings
from jobs.config.validate import find_problems
from schemas.errors import BadInput
from schemas.yaml_text import load_yaml, read_text

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "values, aliases counted"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: {c: *a}}", "contains itself"),
        ("[" * 30_000, "nest"),
        ("[" * 300 + "]" * 300, "nested more than 64 deep"),
        ("\n".join(" " * i + "a:" for i in range(300)), "nested more than 64 deep"),
        ("n: " + "9" * 20_000, "4300 digits"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands here twice"),
        ("a: 1\nyes: 2", 'line 2: YAML takes the key yes for a value, not for a word; put it in quotes: "yes"'),
        ("{no: 1}", 'quotes: "no"'),
        ("a: {~: 1}", "line 1: YAML takes the key ~ for a value"),
        ("a: 2020-99-99", "month must be"),
        ("a:\n\t- b", "line 2"),
        ("a: \x00", "control characters"),
        ("a: !!python/object/apply:os.system ['id']", "could not determine a constructor"),
        ("a: " + "x" * 2_000_000, "characters"),
    ],
)
def test_unreasonable_texts_are_refused_in_words(text: str, told: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match=told):
        load_yaml(text)
    assert time.process_time() - began < 5.0  # a bomb that goes off takes minutes


def test_reasonable_ones_are_read() -> None:
    assert load_yaml("x: &x {a: 1}\ny: {<<: *x, b: [*x, *x]}") == {"x": {"a": 1}, "y": {"a": 1, "b": [{"a": 1}] * 2}}
    assert load_yaml("") is None
    assert load_yaml("true") is True


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="no plain file"):
            read_text(str(path))
    with pytest.raises(BadInput):
        read_job(str(tmp_path / "pipe.yaml"))


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("sample.n=true", "n takes a number, not true"),
        ("sample.temperature=.inf", "finite"),
        ("sample.temperature=.nan", "finite"),
        ("sample.n=1e400", "whole number"),
        ("run.budget.hours=.inf", "finite"),
        ("run.flush_seconds=.inf", "finite"),
        ("run.budget.samples=yes", "samples takes a number, not true"),
        ("sample.n=" + "9" * 20_000, "4300 digits"),
        ("sample.n=[" + "[" * 10_000, "nest"),
        ("sample=&a [*a]", "contains itself"),
        ("=", "key=value"),
    ],
)
def test_settings_that_are_no_settings(assignment: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        values = parse_assignments([assignment])
        run_settings(values.pop("run", {}), None)
        build_pipeline("arithmetic", values)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from(
    ["pipeline", "settings", "sample", "n", "engine", "kind", "run", "budget", "operator", "load", "source", "hours"]
) | st.text(max_size=5)
DOCUMENTS = st.recursive(
    SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(KEYS, x, max_size=4), max_leaves=12
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=DOCUMENTS, pipeline=st.sampled_from(["math", "arithmetic", "../x", "", "os", "json.tool"]))
def test_whatever_a_job_file_says_what_is_wrong_is_told(tmp_path: Path, document: object, pipeline: str) -> None:
    path = tmp_path / "job.yaml"
    whole = {"pipeline": pipeline, **document} if isinstance(document, dict) else document
    path.write_text(yaml.safe_dump(whole, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    find_problems(str(path))


@settings(max_examples=60, deadline=None)
@given(key=st.text(max_size=12) | st.sampled_from(["sample.n", "engine", "run.budget"]), value=st.text(max_size=20))
def test_whatever_is_set_what_is_wrong_is_told(key: str, value: str) -> None:
    try:
        values = parse_assignments([f"{key}={value}"])
        run_settings(values.pop("run", {}), None)
        build_pipeline("arithmetic", values)
    except BadInput:
        pass


def test_a_defect_is_one_line_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("SOME_API_KEY", "abcd-1234-efgh-5678")
    try:
        raise KeyError("abcd-1234-efgh-5678\nand more")
    except KeyError as error:
        said = defect(error)
    assert len(said.splitlines()) == 1
    [path] = (tmp_path / "gristmill").iterdir()
    assert said.endswith(str(path))
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert "Traceback" in path.read_text() and "abcd-1234" not in path.read_text() + said
