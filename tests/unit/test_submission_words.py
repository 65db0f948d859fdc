"""Any text at all in a job is refused, or reaches what runs it as one word: scripts keep their lines and directives."""

from __future__ import annotations

import shlex
import subprocess
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.storage.root import Root
from jobs.submit.kuberay import manifests
from jobs.submit.places import backend
from jobs.submit.submission import Submission, new_submission
from schemas.errors import BadInput
from schemas.job import JobFile

SETTINGS = {"load": {"source": "s3://bucket/p.jsonl"}}
HOSTILE = st.one_of(
    st.text(min_size=1, max_size=30),
    st.text("ab /.:=-_$`'\"\\;&|<>(){}[]*?!#~%\n\r\t\0\x85\u2028 ", min_size=1, max_size=30),
    st.sampled_from(
        ["gpu --uid=0", "x\n#SBATCH --uid=0", "$(id)", "`id`", "a'b", 'a"b', "%j", "-x", "--wrap=id", "{0}"]
    ),
)
FIELDS = ["account", "partition", "qos", "environment", "options", "gpu", "name", "root", "folder", "value", "variable"]


def submission(field: str, text: str, to: Any, shards: int = 1) -> Submission:
    """Return a submission with a text in one place.

    Raises:
        ValidationError, BadInput: it can't stand there.
    """
    slurm: dict[str, Any] = {field: text} if field in ("account", "partition", "qos", "environment") else {}
    if field == "options":
        slurm = {"options": [f"--comment={text}"]}
    group = {"gpus": 1, "gpu": text if field == "gpu" else "h100"}
    variables = {"value": {"A": text}, "variable": {text: "1"}}.get(field, {})
    job = JobFile.model_validate(
        {
            "pipeline": "math",
            "settings": SETTINGS,
            "environment": variables,
            "resources": {"slurm": slurm, "groups": [group], "shards": shards},
            **({"name": text} if field == "name" else {}),
        }
    )
    root = f"s3://bucket/{text}" if field == "root" else "s3://bucket/team"
    return new_submission(job, to, Root.at(root), f"/home/{text}" if field == "folder" else "/home")


def directives(script: str) -> list[str]:
    """Return the directives of a script, as sbatch reads them: up to the first line that is no comment."""
    lines = script.split("\n")
    end = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    return [line.removeprefix("#SBATCH ") for line in lines[:end] if line.startswith("#SBATCH ")]


@pytest.mark.parametrize("field", FIELDS)
@settings(max_examples=60, deadline=None)
@given(HOSTILE)
def test_a_batch_script_has_the_directives_that_it_should_have_and_is_a_script(field: str, text: str) -> None:
    try:
        made = submission(field, text, "slurm")
        script = backend("slurm").preview(made)
    except (ValidationError, BadInput):
        return
    plain = directives(backend("slurm").preview(submission("none", "", "slurm")))
    found = directives(script)
    more = {"account", "partition", "qos", "options"} & {field}
    assert len(found) == len(plain) + len(more)
    assert all(len(shlex.split(line)) == 1 for line in found), found
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    run = next(line for line in script.split("\n") if line.startswith("python -m jobs.cli"))
    words = shlex.split(run.partition(" --address ")[0])
    assert words[words.index("--root") + 1] == made.root


@pytest.mark.parametrize("field", ["root", "name", "value"])
@settings(max_examples=60, deadline=None)
@given(HOSTILE)
def test_entry_points_of_ray_and_kubernetes_are_words(field: str, text: str) -> None:
    try:
        made = submission(field, text, "kuberay")
        found = manifests(made)
    except (ValidationError, BadInput):
        return
    assert [*yaml.safe_load_all(backend("kuberay").preview(made))] == found
    shell, flag, inner = shlex.split(found[1]["spec"]["entrypoint"])
    command = shlex.split(inner.partition("; code=$?")[0])
    assert (shell, flag, command[command.index("--root") + 1]) == ("bash", "-c", made.root)
    local = shlex.split(backend("local").preview(made))
    assert local[local.index("--root") + 1] == made.root
