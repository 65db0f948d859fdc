"""The files in infra/: each read by what it is for, or by that one's schema."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml

from cluster.ray.metrics import FIGURES

INFRA = Path(__file__).parents[2] / "infra"


def test_the_ray_cluster_fits_its_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((INFRA / "ray" / "cluster.yaml").read_text()), schema)


@pytest.mark.parametrize("version", ["1.30", "1.33"])
def test_the_cron_job_fits_its_schema(version: str) -> None:
    kubernetes_validate.validate(
        yaml.safe_load((INFRA / "kubernetes" / "nightly.yaml").read_text()), version, strict=True
    )


def test_the_dashboard_is_the_one_that_is_made_and_shows_figures_that_exist() -> None:
    path = INFRA / "grafana" / "gristmill.json"
    made = subprocess.run(
        [sys.executable, str(INFRA / "grafana" / "make.py")], capture_output=True, text=True, check=True
    ).stdout
    assert path.read_text() == made
    dashboard = json.loads(made)
    expressions = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    shown = set(re.findall(r"(?<=ray_)gristmill_\w+", expressions))
    assert len(shown) > 8 and not re.search(r"(?<!ray_)gristmill_", expressions)
    assert shown <= FIGURES.keys()
    for name, (_, labels) in FIGURES.items():
        for used in re.findall(rf"{name}\{{([^}}]*)\}}", expressions):
            assert set(re.findall(r"(\w+)=~", used)) <= set(labels)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_units_are_well_formed(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None, "systemd-analyze comes with Debian's systemd"
    program = tmp_path / "gristmill"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in ("gristmill-nightly@.service", "gristmill-nightly@.timer"):
        text = (INFRA / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/gristmill/.venv/bin/gristmill", str(program)))
    units = [str(tmp_path / "gristmill-nightly@.service"), str(tmp_path / "gristmill-nightly@.timer")]
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "gristmill-nightly" in line]
    assert ours == []


def test_the_bootstrap_puts_everything_in_place(tmp_path: Path) -> None:
    environment = {**os.environ, "GRISTMILL_PREFIX": str(tmp_path), "GRISTMILL_NO_SETUP": "1"}
    for _ in range(2):  # again is fine
        subprocess.run(["bash", str(INFRA / "bootstrap.sh")], env=environment, check=True, capture_output=True)
    assert (tmp_path / "etc/systemd/system/gristmill-nightly@.timer").is_file()
    assert (tmp_path / "opt/gristmill/jobs/cli.py").is_file()
    assert not (tmp_path / "opt/gristmill/jobs/jobs").exists()
    said = subprocess.run(
        ["bash", str(INFRA / "bootstrap.sh"), "--dry-run"], capture_output=True, text=True, check=True
    )
    assert "+ apt-get install" in said.stdout


def test_containers_do_not_run_as_root() -> None:
    for path in INFRA.rglob("Containerfile"):
        text = path.read_text()
        copied = re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", text, flags=re.MULTILINE)
        for name in {name for line in copied for name in line.split()} - {"."}:
            assert (INFRA.parent / name).exists(), name
        users = re.findall(r"^USER (\S+)$", text, flags=re.MULTILINE)
        assert users and users[-1] == "gristmill", path


def test_scripts_are_well_formed() -> None:
    for path in INFRA.rglob("*.sh"):
        subprocess.run(["bash", "-n", str(path)], check=True)
