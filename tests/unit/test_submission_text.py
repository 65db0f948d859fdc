"""Nothing that a job, a folder or a root is called becomes a line of a script, an option or a piece of shell."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.storage.root import Root
from jobs.config.job_file import read_job
from jobs.submit.kuberay import manifests
from jobs.submit.places import backend
from jobs.submit.submission import Submission, new_submission
from schemas.errors import BadInput
from schemas.job import JobFile

PLAIN: dict[str, Any] = {"pipeline": "math", "settings": {"load": {"source": "s3://bucket/p.jsonl"}}}


def job(**more: Any) -> JobFile:
    return JobFile.model_validate({**PLAIN, **more})


def submission(
    job: JobFile, root: str = "s3://bucket/team", folder: str = "/somewhere", to: Any = "slurm"
) -> Submission:
    return new_submission(job, to, Root.at(root), folder)


@pytest.mark.parametrize("name", ["account", "partition", "qos"])
@pytest.mark.parametrize("value", ["a\ntouch x", "gpu --uid=0 --wrap=foo", "a;b", "$(id)", "", "a\x00", "-x", "ü b"])
def test_names_that_are_no_names_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        job(resources={"slurm": {name: value}})


@pytest.mark.parametrize(
    "more",
    [
        {"resources": {"slurm": {"options": ["--exclusive\ntouch x"]}}},
        {"resources": {"slurm": {"options": ["night"]}}},
        {"resources": {"slurm": {"options": ["--exclusive --uid=0"]}}},
        {"resources": {"slurm": {"options": ["--comment=a\rtouch x"]}}},
        {"resources": {"slurm": {"environment": "/opt/a\nb"}}},
        {"resources": {"groups": [{"gpus": 1, "gpu": "h100\ntouch x"}]}},
        {"resources": {"groups": [{"nodes": 10**30}]}},
        {"resources": {"hours": float("inf")}},
        {"resources": {"hours": 1e300}},
        {"environment": {"X=1; touch x; export Y": "1"}},
        {"environment": {"X": "a\x00b"}},
        {"secrets": {"X Y": None}},
        {"pipeline": "math\ntouch x"},
        {"pipeline": "../../etc/passwd"},
    ],
)
def test_what_could_end_a_line_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        job(**more)


def test_partitions_and_options_as_people_write_them() -> None:
    slurm = {
        "partition": "gpu,gpu-large",
        "qos": "night@a",
        "options": ["--exclusive", "--reservation=the night", "-C a"],
    }
    lines = backend("slurm").preview(submission(job(resources={"slurm": slurm}))).splitlines()
    assert "#SBATCH --partition=gpu,gpu-large" in lines
    assert '#SBATCH --reservation="the night"' in lines
    assert {"#SBATCH --exclusive", "#SBATCH -C a"} <= set(lines)


@pytest.mark.parametrize("place", ["slurm", "local", "ray", "kuberay"])
@pytest.mark.parametrize("name", ["/data/a\nb", "/data/\x1b[2J", "/data/a\u2028b"])
def test_roots_and_folders_with_control_characters_are_refused(place: Any, name: str) -> None:
    with pytest.raises(BadInput, match="control characters"):
        new_submission(job(), place, Root(name), "/somewhere")
    with pytest.raises(BadInput, match="control characters"):
        new_submission(job(), place, Root("/data"), name)


def test_a_root_and_a_folder_with_spaces_quotes_and_per_cent_signs(tmp_path: Path) -> None:
    root, folder = f"{tmp_path}/my 'data' 100%j", f'{tmp_path}/a "b" $HOME'
    text = backend("slurm").preview(submission(job(), root, folder))
    [output] = [line for line in text.splitlines() if line.startswith("#SBATCH --output=")]
    assert shlex.split(output.removeprefix("#SBATCH "))[0].startswith(f"--output={root.replace('%', '%%')}/")
    [chdir] = [line for line in text.splitlines() if line.startswith("#SBATCH --chdir=")]
    assert shlex.split(chdir.removeprefix("#SBATCH ")) == [f"--chdir={folder}"]
    assert f"--root {shlex.quote(root)}" in text
    local = backend("local").preview(submission(job(), root, folder, "local"))
    assert shlex.split(local)[:3] == ["cd", folder, "&&"]


@pytest.mark.parametrize("name", ["plain", "with space", "it's", "a$b", 'a"b', "a;b"])
def test_each_shard_has_a_folder_of_its_own_whatever_the_root_is_called(tmp_path: Path, name: str) -> None:
    root = f"{tmp_path}/{name}"
    made = submission(job(resources={"shards": 3}), root, str(tmp_path))
    [line] = [line for line in backend("slurm").preview(made).splitlines() if "run.shard" in line]
    words = [
        subprocess.run(
            ["bash", "-c", f"printf '%s\\n' {line.removesuffix('&')}"],
            env={"SLURM_ARRAY_TASK_ID": str(number), "address": "a", "port": "1"},
            capture_output=True, text=True, check=True,
        ).stdout.splitlines()
        for number in range(3)
    ]  # fmt: skip
    folders = [found[found.index("--root") + 1] for found in words]
    assert folders == [f"{root}/submissions/{made.id}/shards/{number}" for number in range(3)]
    gather = backend("slurm").preview(made).split("#!/usr/bin/env bash")[2]
    assert all(shlex.quote(folder) in gather for folder in folders)
    assert "--dependency=afterany" in backend("slurm").preview(made)


def test_values_reach_the_job_as_they_are(tmp_path: Path) -> None:
    values = {"A": "x y", "B": "it's $HOME `id`", "C": "two\nlines"}
    text = backend("slurm").preview(submission(job(environment=values)))
    exports = text[text.index("export A=") : text.index("# Each job")]
    shown = subprocess.run(
        ["bash", "-c", f'{exports}\nprintf \'%s|\' "$A" "$B" "$C"'], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split("|")[:3] == list(values.values())


@pytest.mark.parametrize(("code", "told"), [(0, 0), (2, 0), (4, 0), (1, 1), (3, 3), (137, 137)])
def test_kubernetes_tries_again_only_what_may_go_better(code: int, told: int) -> None:
    _, rayjob = manifests(submission(job(), to="kuberay"))
    [shell, flag, text] = shlex.split(rayjob["spec"]["entrypoint"])
    assert (shell, flag) == ("bash", "-c")
    command, ends = text.split("; ", 1)
    assert shlex.split(command)[:4] == ["python", "-m", "jobs.cli", "run"]
    assert subprocess.run(["bash", "-c", f"(exit {code}); {ends}"], capture_output=True).returncode == told


def test_each_job_has_a_folder_of_its_own_short_enough_for_rays_sockets(tmp_path: Path) -> None:
    lines = backend("slurm").preview(submission(job())).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("scratch="))
    script = "\n".join([*lines[at : at + 3], "echo $scratch; rmdir $scratch"])
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as short:
        for folder, parent in ((short, short), (str(tmp_path / ("x" * 60)), "/tmp"), ("/nowhere", "/tmp")):
            shown = [
                subprocess.run(
                    ["bash", "-c", script], capture_output=True, text=True, check=True,
                    env={**os.environ, "TMPDIR": folder, "SLURM_JOB_ID": "12345678"},
                ).stdout.strip()
                for _ in range(2)
            ]  # fmt: skip
            assert all(each.startswith(f"{parent}/gristmill-ray-12345678-") for each in shown)
            assert shown[0] != shown[1]  # two Slurms of one machine may have a job of that number


@pytest.mark.parametrize("target", ["../../x", "a b", "math\n", "/etc/passwd", "a..b", ""])
def test_what_is_no_pipeline_is_told_so(target: str) -> None:
    with pytest.raises(BadInput, match="no job file"):
        read_job(target)


def test_a_submission_with_a_key_in_it_is_refused(tmp_path: Path) -> None:
    from jobs.submit.submission import write_submission

    engine = {"kind": "openai", "model": "m", "extra_body": {"api_key": "sk-123"}}
    made = submission(job(settings={"engine": engine}), str(tmp_path), str(tmp_path))
    with pytest.raises(BadInput, match=r"job\.settings\.engine\.extra_body\.api_key: a key would be written"):
        write_submission(made)
    assert yaml.safe_load(made.job_text())["settings"]["engine"] == engine


@pytest.mark.parametrize("value", ["$(HOME)", "$$(HOME)", "a$", "$(touch x)`id`", "\u2028--uid=0"])
def test_kubernetes_fills_nothing_into_values(value: str) -> None:
    """It takes ``$(NAME)`` for another variable's value, and ``$$`` for a dollar sign."""
    options = {"image": "registry/image:1", "claim": "data", "mount": "/data"}
    asked = job(environment={"X": value}, resources={"groups": [{"gpus": 0}], "kuberay": options})
    _, ray_job = manifests(submission(asked, to="kuberay"), 1)
    [head] = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    [written] = [one["value"] for one in head["env"] if one["name"] == "X"]
    assert written.replace("$$", "\0").count("$") == 0 and written.replace("$$", "$") == value
