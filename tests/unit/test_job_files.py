"""Job files: a commented one for each pipeline, everything that is wrong at once, nothing secret in them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from jobs.config.job_file import read_job
from jobs.config.job_init import init, job_schema, template
from jobs.config.validate import find_problems
from jobs.running.run import prepare
from pipelines import PIPELINES
from schemas.errors import BadInput
from tests.support import write_problems

SCHEMA = job_schema()
VALID = jsonschema.Draft202012Validator(SCHEMA)


def write(folder: Path, text: str) -> str:
    path = folder / "job.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_new_job_file_is_what_the_pipeline_does_by_default(pipeline: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    written = init(str(path), pipeline)
    assert [Path(name).name for name in written] == ["job.yaml", "job.schema.json"]
    VALID.validate(yaml.safe_load(path.read_text()))
    assert json.loads((tmp_path / "job.schema.json").read_text()) == SCHEMA
    made = prepare(str(path), [], "", None, None, None)
    default = prepare(
        pipeline,
        [f"load.source={yaml.safe_load(path.read_text())['settings']['load']['source']}"],
        "",
        None,
        None,
        None,
    )
    assert [stage.operator for stage in made.pipeline.stages.values()] == [
        stage.operator for stage in default.pipeline.stages.values()
    ]
    with pytest.raises(BadInput, match="there already"):
        init(str(path), pipeline)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_comment_of_a_new_job_file_can_be_taken_in(pipeline: str) -> None:
    """All settings that stand there as comments are the defaults, and fit."""
    text = template("job.yaml", pipeline)
    settings = text[text.index("\nsettings:") : text.index("\nrun:")]
    VALID.validate({"pipeline": pipeline, **yaml.safe_load(re.sub(r"^(\s*)# ", r"\1", settings, flags=re.MULTILINE))})


def test_names_alone_are_enough_for_editors_as_they_are_for_validate() -> None:
    sample = {"n": 8, "policy": "marginal", "strategy": {"name": "best_of", "scorer": "certainty"}}
    VALID.validate({"pipeline": "math", "settings": {"sample": sample}})
    VALID.validate({"pipeline": "math", "settings": {"sample": {"policy": {"name": "marginal", "least": 0.01}}}})
    assert not VALID.is_valid({"pipeline": "math", "settings": {"sample": {"policy": 7}}})


def test_the_example_of_everything_else_fits(tmp_path: Path) -> None:
    text = template("job.yaml", "arithmetic")
    rest = text[text.index("# environment:") :]
    rest = "\n".join(
        line[2:] if line.startswith("# ") else line
        for line in rest.splitlines()
        if ": " in line or "- " in line or line.endswith(":")
    )
    rest = "\n".join(line for line in rest.splitlines() if not line[:1].isupper())
    document = {"pipeline": "arithmetic", **yaml.safe_load(rest)}
    VALID.validate(document)
    assert {"environment", "secrets", "resources", "schedule", "exports", "notify", "retention"} <= document.keys()
    assert find_problems(write(tmp_path, yaml.safe_dump(document)))[0] == []


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOBODY_HAS_THIS", raising=False)
    problems, _ = find_problems(
        write(
            tmp_path,
            """
pipeline: math
root: ${env:NOBODY_HAS_THIS}/data
settings: {sample: {nn: 3, template: "${env:MY_API_KEY}"}, load: {source: nowhere.jsonl}}
run: {flush: 3, budget: {}}
schedule: {cron: "30 1,5 * * *"}
notify: [{kind: webhook}]
""",
        )
    )
    said = "\n".join(problems)
    for wanted in (
        "root: the environment has no 'NOBODY_HAS_THIS'",
        "'MY_API_KEY' is a secret",
        "unknown key 'sample.nn'; did you mean 'n'?",
        "unknown key 'run.flush'",
        "run.budget: name a cap",
        "two times on",
        "notify.0: give url or url_env",
    ):
        assert wanted in said, said
    problems, _ = find_problems(write(tmp_path, "pipeline: math\nsettings: {load: {source: nowhere.jsonl}}\n"))
    assert problems == ["'nowhere.jsonl' doesn't exist"]
    problems, _ = find_problems(
        write(
            tmp_path, "pipeline: math\nschedule: {cron: '0 1 * * *', timezone: Berlin}\nresources: {nodes: 3}\nnam: x\n"
        )
    )
    said = "\n".join(problems)
    assert "isn't an IANA time zone" in said
    assert "unknown key 'resources.nodes'" in said
    assert "unknown key 'nam'; did you mean 'name'?" in said


def test_values_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_BUCKET", "bucket")
    monkeypatch.setenv("MY_TOKEN", "very-secret")
    path = write(
        tmp_path,
        "pipeline: arithmetic\nroot: s3://${env:TEAM_BUCKET}/${env:NOT_SET:-team}\n"
        "secrets: {MY_TOKEN: null, OTHER: s/k}\n",
    )
    assert read_job(path).root == "s3://bucket/team"
    problems, notes = find_problems(path)
    assert problems == []
    assert notes == ["OTHER isn't set here; secrets wants it where the job runs"]
    with pytest.raises(BadInput, match="'OTHER' is a secret"):
        read_job(write(tmp_path, "pipeline: arithmetic\nroot: ${env:OTHER}\nsecrets: {OTHER: s/k}\n"))


def test_a_named_secret_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from jobs.running.run import run_job

    monkeypatch.delenv("NOBODY_HAS_THIS", raising=False)
    source = write_problems(tmp_path / "p.jsonl", 2)
    text = (
        f"pipeline: math\nrunner: local\nsecrets: {{NOBODY_HAS_THIS: null}}\nsettings: {{load: {{source: {source}}}}}\n"
    )
    job = prepare(write(tmp_path, text), [], str(tmp_path / "root"), None, None, None)
    with pytest.raises(BadInput, match="NOBODY_HAS_THIS isn't set"):
        run_job(job, job.execution, Console(quiet=True))
    assert not (tmp_path / "root").exists()


def test_nothing_of_a_job_file_is_evaluated(tmp_path: Path) -> None:
    for text in (
        "pipeline: !!python/object/apply:os.system ['touch evaluated']\n",
        "pipeline: arithmetic\nroot: !!python/name:os.getcwd\n",
    ):
        problems, _ = find_problems(write(tmp_path, text))
        assert len(problems) == 1 and "not valid YAML" in problems[0]
    problems, _ = find_problems(write(tmp_path, "pipeline: arithmetic\nroot: $(touch evaluated)\n"))
    assert problems == []
    assert not (tmp_path / "evaluated").exists()
