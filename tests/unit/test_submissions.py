"""What would be submitted where: scripts and manifests, read by the tools that will read them."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from jobs.submit.kuberay import manifests
from jobs.submit.packing import pack
from jobs.submit.places import backend
from jobs.submit.submission import Submission
from jobs.submit.submitting import make_submission
from schemas.errors import BadInput
from tests.support import write_problems

KUBERNETES = "1.33"
INFRA = Path(__file__).parents[2] / "infra"

LARGE = """\
pipeline: math
name: deepseek
root: s3://bucket/team
settings:
  engine: {kind: vllm, model: deepseek-ai/DeepSeek-V3, data_parallel: 144, expert_parallel: true, slots: 64}
  load: {source: s3://bucket/problems.jsonl}
  sample: {n: 1000, max_tokens: 4096}
run: {budget: {gpu_hours: 1700}}
environment: {HF_HOME: /models}
secrets: {AWS_ACCESS_KEY_ID: s3/access-key, AWS_SECRET_ACCESS_KEY: s3/secret-key}
resources:
  groups: [{name: h100, nodes: 18, gpus: 8, gpu: NVIDIA-H100-80GB-HBM3, cpus: 96, memory_gb: 1024}]
  hours: 11.5
  slurm: {partition: gpu, account: team, qos: night, options: ["--exclusive"]}
  kuberay:
    {image: "example/gristmill-gpu:1", namespace: mill, topology: topology.kubernetes.io/zone, queue: night}
"""

RAYJOB_FIELDS = {
    "entrypoint": str, "submissionMode": str, "shutdownAfterJobFinishes": bool, "ttlSecondsAfterFinished": int,
    "activeDeadlineSeconds": int, "backoffLimit": int, "rayClusterSpec": dict, "suspend": bool,
}  # fmt: skip
"""Of RayJobSpec, ray.io/v1, as KubeRay's API reference has them."""
CLUSTER_FIELDS = {"rayVersion": str, "headGroupSpec": dict, "workerGroupSpecs": list, "authOptions": dict}
HEAD_FIELDS = {"rayStartParams": dict, "template": dict}
GROUP_FIELDS = {**HEAD_FIELDS, "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function from a job file's text, a place and assignments to a submission."""
    monkeypatch.chdir(tmp_path)

    def made(text: str, to: Any, *assignments: str, root: str = "") -> Submission:
        (tmp_path / "job.yaml").write_text(text)
        return make_submission("job.yaml", to, root, list(assignments))

    return made


def check_fields(found: dict[str, Any], known: dict[str, type]) -> None:
    assert {name for name in found if name not in known or not isinstance(found[name], known[name])} == set()


def check_pod(template: dict[str, Any]) -> None:
    about = {"name": "pod", **template["metadata"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": template["spec"]}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    assert template["spec"]["securityContext"]["runAsNonRoot"]


def test_the_example_of_eighteen_nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = INFRA / "examples" / "deepseek-v3.yaml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRISTMILL_ROOT", raising=False)
    script = backend("slurm").preview(make_submission(str(path), "slurm", "", []))
    assert "#SBATCH --nodes=18\n" in script and "#SBATCH --gpus-per-node=h100:8\n" in script
    _, job = yaml.safe_load_all(backend("kuberay").preview(make_submission(str(path), "kuberay", "", [])))
    [group] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] * int(group["rayStartParams"]["num-gpus"]) == 144
    check_pod(group["template"])


def test_the_cluster_that_stays() -> None:
    cluster = yaml.safe_load((INFRA / "kubernetes" / "raycluster.yaml").read_text())
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    check_fields(spec, {**CLUSTER_FIELDS, "enableInTreeAutoscaling": bool, "autoscalerOptions": dict})
    assert spec["rayVersion"] == version("ray")
    check_fields(spec["headGroupSpec"], HEAD_FIELDS)
    for group in spec["workerGroupSpecs"]:
        check_fields(group, GROUP_FIELDS)
    for template in (spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])):
        check_pod(template)


def test_a_large_job_on_slurm(make: Any, tmp_path: Path) -> None:
    text = backend("slurm").preview(make(LARGE, "slurm"))
    for line in (
        "--nodes=18", "--ntasks-per-node=1", "--cpus-per-task=96", "--mem=1024G", "--time=11:30:00",
        "--gpus-per-node=NVIDIA-H100-80GB-HBM3:8", "--signal=B:TERM@120", "--requeue", "--partition=gpu",
        "--account=team", "--qos=night", "--exclusive", "--open-mode=append",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in text, text
    (tmp_path / "script.sh").write_text(text)
    subprocess.run(["bash", "-n", str(tmp_path / "script.sh")], check=True)
    assert "export HF_HOME=/models" in text
    assert "AWS_SECRET_ACCESS_KEY" not in text  # it goes along in the environment


def test_a_large_job_on_kubernetes(make: Any) -> None:
    documents = list(yaml.safe_load_all(backend("kuberay").preview(make(LARGE, "kuberay"))))
    configuration, job = documents
    kubernetes_validate.validate(configuration, KUBERNETES, strict=True)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "night"
    check_fields(job["spec"], RAYJOB_FIELDS)
    assert job["spec"]["activeDeadlineSeconds"] == 41400
    cluster = job["spec"]["rayClusterSpec"]
    check_fields(cluster, CLUSTER_FIELDS)
    check_fields(cluster["headGroupSpec"], HEAD_FIELDS)
    [group] = cluster["workerGroupSpecs"]
    check_fields(group, GROUP_FIELDS)
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 18
    for template in (cluster["headGroupSpec"]["template"], group["template"]):
        check_pod(template)
        [container] = template["spec"]["containers"]
        secret = next(one for one in container["env"] if one["name"] == "AWS_SECRET_ACCESS_KEY")
        assert secret["valueFrom"]["secretKeyRef"] == {"name": "s3", "key": "secret-key"}
    spec = group["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "96", "memory": "1024Gi", "nvidia.com/gpu": "8"}
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    [rule] = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "topology.kubernetes.io/zone"
    assert rule["labelSelector"]["matchLabels"].items() <= group["template"]["metadata"]["labels"].items()
    inside = yaml.safe_load(configuration["data"]["job.yaml"])
    assert inside["settings"]["sample"]["n"] == 1000


def test_what_pods_can_not_see_is_refused(make: Any, tmp_path: Path) -> None:
    local = LARGE.replace("s3://bucket/team", "./data")
    with pytest.raises(BadInput, match=r"pods don't see this machine's folders.*resources.kuberay.claim"):
        backend("kuberay").preview(make(local, "kuberay"))
    claimed = LARGE.replace("s3://bucket/team", "/data/team").replace("namespace: mill", "namespace: mill, claim: data")
    _, job = yaml.safe_load_all(backend("kuberay").preview(make(claimed, "kuberay")))
    volumes = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data"}} in volumes
    with pytest.raises(BadInput, match="say which Secret has it"):
        backend("kuberay").preview(make(LARGE.replace("s3/access-key", "null"), "kuberay"))
    write_problems(tmp_path / "p.jsonl", 2)
    with pytest.raises(BadInput, match=r"p\.jsonl: pods don't see"):
        backend("kuberay").preview(make(LARGE.replace("s3://bucket/problems.jsonl", "p.jsonl"), "kuberay"))


def test_a_long_name_is_shortened_for_kubernetes(make: Any) -> None:
    submission = make(LARGE.replace("name: deepseek", f"name: {'a-long-name-' * 3}x"), "kuberay")
    for attempt in (1, 2, 12):
        _, job = manifests(submission, attempt)
        name = job["metadata"]["name"]
        assert len(name) <= 47 and name.startswith("a-long-name-") and "--" not in name
        assert submission.id[-20:] in name


def test_shards_are_an_array_and_a_job_after_it(make: Any, tmp_path: Path) -> None:
    text = LARGE + "  shards: 4\n"
    slurm = backend("slurm")
    preview = slurm.preview(make(text, "slurm"))
    assert "#SBATCH --array=0-3\n" in preview
    assert '--set run.shard="$SLURM_ARRAY_TASK_ID"/4' in preview
    assert "run.budget.gpu_hours=425" in preview  # a quarter each
    assert "jobs.cli gather" in preview
    for part in preview.split("#!/usr/bin/env bash")[1:]:
        (tmp_path / "script.sh").write_text(part)
        subprocess.run(["bash", "-n", str(tmp_path / "script.sh")], check=True)
    for place in ("ray", "kuberay", "local"):
        with pytest.raises(BadInput, match="shards are for Slurm"):
            backend(place).preview(make(text, place))


def test_slurm_takes_one_group(make: Any) -> None:
    two = LARGE.replace("groups: [{name: h100", "groups: [{name: small, gpus: 1}, {name: h100")
    with pytest.raises(BadInput, match="one group of equal nodes"):
        backend("slurm").preview(make(two, "slurm"))


def test_what_a_ray_cluster_is_sent(make: Any, tmp_path: Path) -> None:
    write_problems(tmp_path / "p.jsonl", 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "ops.py").write_text("X = 1\n")
    text = LARGE.replace("s3://bucket/problems.jsonl", "p.jsonl").replace("  hours", "  files: [mine]\n  hours")
    submission = make(text, "ray", "sample.n=7")
    assert submission.job.settings["sample"] == {"n": 7, "max_tokens": 4096}
    names = pack(submission, tmp_path / "packed")
    assert {"p.jsonl", "mine/ops.py", "jobs/cli.py", "jobs/report/template.html"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]
    assert sum((tmp_path / "packed" / name).stat().st_size for name in names) < 5_000_000
    preview = yaml.safe_load(backend("ray").preview(submission))
    assert preview["secrets"] == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    assert preview["env_vars"]["HF_HOME"] == "/models"
    with pytest.raises(BadInput, match="say where data is kept"):
        make(LARGE.replace("root: s3://bucket/team\n", ""), "ray")
    with pytest.raises(BadInput, match="isn't below the folder"):
        make(LARGE.replace("  hours", "  files: [../x]\n  hours"), "ray")
    absolute = make(LARGE.replace("s3://bucket/problems.jsonl", str(tmp_path / "p.jsonl")), "ray")
    with pytest.raises(BadInput, match="relative to the folder"):
        backend("ray").preview(absolute)
