"""Settings: defaults, job file, --set; and errors that offer the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.config.job_file import read_job
from jobs.config.settings import build_pipeline, merge, parse_assignments
from jobs.running.run import prepare
from operators.sample.sampling import Sampling
from operators.verify.exact import VerifyExact
from schemas.errors import BadInput


def test_assignments_are_dotted_keys_with_yaml_values() -> None:
    found = parse_assignments(["sample.n=256", "sample.stop=['\\n', x]", "engine.kind=scripted", "a.b.c=null"])
    assert found["sample"] == {"n": 256, "stop": ["\\n", "x"]}
    assert found["a"] == {"b": {"c": None}}
    with pytest.raises(BadInput, match="key=value"):
        parse_assignments(["sample.n"])


def test_another_kind_or_operator_replaces_the_whole() -> None:
    assert merge({"kind": "a", "x": 1}, {"kind": "b"}) == {"kind": "b"}
    assert merge({"kind": "a", "x": 1}, {"x": 2}) == {"kind": "a", "x": 2}


def test_settings_change_only_what_they_name() -> None:
    pipeline, config = build_pipeline("arithmetic", parse_assignments(["sample.n=5"]))
    operator = pipeline.stages["sample"].operator
    assert isinstance(operator, Sampling)
    assert operator.n == 5
    default, _ = build_pipeline("arithmetic", {})
    assert operator.id() == default.stages["sample"].operator.id()
    assert config.model_dump(mode="json")["sample"]["n"] == 5


def test_an_operator_can_be_swapped_by_name_or_class() -> None:
    for name in ("verify.exact", "operators.verify.exact:VerifyExact"):
        pipeline, _ = build_pipeline("math", {"verify": {"operator": name, "ignore_case": False}})
        assert pipeline.stages["verify"].operator == VerifyExact(ignore_case=False)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["sample.temprature=1"], ["sample.temprature", "did you mean 'temperature'"]),
        (["sampel.n=1"], ["sampel", "did you mean 'sample'"]),
        (["sample.n=0"], ["sample.n", "at least 1", "0"]),
        (["sample.n=-3"], ["sample.n", "-3"]),
        (["verify.operator=verify.maths"], ["verify.maths", "did you mean 'verify.math'"]),
        (["verify.timeot=3"], ["verify.timeot", "did you mean 'timeout'"]),
        (["verify.operator=nowhere.at_all:X"], ["nowhere", "PYTHONPATH"]),
        (["engine.slts=3"], ["engine.slts", "did you mean 'slots'"]),
        (["engine.kind=vlm"], ["engine", "vlm"]),
        (["sample.n=0", "load.limt=3"], ["sample.n", "load.limt"]),
    ],
)
def test_a_wrong_setting_is_named_with_the_nearest_valid_one(assignments: list[str], words: list[str]) -> None:
    with pytest.raises(BadInput) as refused:
        build_pipeline("math", parse_assignments(assignments))
    for word in words:
        assert word in str(refused.value)


def test_the_command_line_wins_over_the_job_file(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("pipeline: arithmetic\nroot: from-file\nrunner: local\nsettings:\n  sample: {n: 3, seed: 4}\n")
    found = prepare(str(job), ["sample.n=5"], "", None, None, None)
    operator = found.pipeline.stages["sample"].operator
    assert isinstance(operator, Sampling)
    assert (operator.n, operator.seed, found.runner) == (5, 4, "local")
    assert found.root.url.endswith("/from-file")
    assert prepare(str(job), [], str(tmp_path), "ray", None, 2).root.url == str(tmp_path)


def test_a_wrong_job_file_is_refused(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("pipelin: arithmetic\n")
    with pytest.raises(BadInput, match="did you mean 'pipeline'"):
        read_job(str(job))
    job.write_text("pipeline: [")
    with pytest.raises(BadInput, match="not valid YAML"):
        read_job(str(job))
    with pytest.raises(BadInput, match="doesn't exist"):
        read_job(str(tmp_path / "absent.yaml"))
