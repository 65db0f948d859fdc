"""Submitting to Kubernetes: a RayJob of the KubeRay operator, which makes the cluster, runs, and takes it down.

Fields as KubeRay has them since 1.5.1 (ray.io/v1). The job file comes in a ConfigMap of the same name, our code in the
image.
"""

from __future__ import annotations

import json
import shlex
from importlib.metadata import version
from typing import Any

import yaml

from cluster.storage.root import Root
from jobs.submit.backend import Backend, ClusterRefused, State, call
from jobs.submit.packing import own_files
from jobs.submit.submission import Submission
from schemas.errors import BadInput
from schemas.resources import NodeGroup

JOB_FOLDER = "/etc/gristmill"
WORKING_FOLDER = "/opt/gristmill"
GPU = "nvidia.com/gpu"
GPU_LABEL = "nvidia.com/gpu.product"
SHARED_MEMORY_SHARE = 0.3
"""Of a node's memory, for Ray's object store."""
LONGEST_NAME = 47
"""Characters of a RayJob's name: the operator makes names of other objects of it."""
ENDED = {"SUCCEEDED", "FAILED", "STOPPED"}


class KubeRay(Backend):
    """kubectl."""

    def preview(self, submission: Submission) -> str:
        return yaml.safe_dump_all(manifests(submission), sort_keys=False, width=120)

    def start(self, submission: Submission, attempt: int) -> dict[str, Any]:
        name = _name(submission, attempt)
        call(["kubectl", "apply", "--filename=-"], yaml.safe_dump_all(manifests(submission, attempt), sort_keys=False))
        return {"name": name, "namespace": submission.job.resources.kuberay.namespace}

    def state(self, submission: Submission, handle: dict[str, Any]) -> tuple[State, str]:
        try:
            found = json.loads(_kubectl(handle, "get", "rayjob", handle["name"], "--output=json"))
        except ClusterRefused as error:
            if "NotFound" in str(error):
                return "gone", "there is no such RayJob any more"
            raise
        status = found.get("status", {})
        job, deployment = status.get("jobStatus", ""), status.get("jobDeploymentStatus", "")
        words = " ".join(filter(None, [job, deployment, status.get("message", "")])) or "not seen by the operator yet"
        if job in ENDED or deployment in ("Complete", "Failed"):
            return "ended", words
        return ("running" if job == "RUNNING" else "waiting"), words

    def logs(self, submission: Submission, handle: dict[str, Any]) -> str:
        return _kubectl(handle, "logs", f"job/{handle['name']}", "--tail=-1")

    def stop(self, submission: Submission, handle: dict[str, Any]) -> None:
        _kubectl(handle, "patch", "rayjob", handle["name"], "--type=merge", '--patch={"spec":{"suspend":true}}')


def manifests(submission: Submission, attempt: int = 1) -> list[dict[str, Any]]:
    """Return the ConfigMap with the job file, and the RayJob.

    Raises:
        BadInput: the root can't be reached from pods, or a secret doesn't say which Secret has it.
    """
    job = submission.job
    options, name = job.resources.kuberay, _name(submission, attempt)
    if job.resources.shards > 1:
        raise BadInput("resources.shards are for Slurm: on Kubernetes one run uses the whole RayCluster")
    root = Root.at(submission.root)
    if root.is_local and (options.claim is None or not f"{root.url}/".startswith(f"{options.mount}/")):
        raise BadInput(
            f"root '{submission.root}': pods don't see this machine's folders. Use an s3:// URL, or name a "
            f"PersistentVolumeClaim in resources.kuberay.claim and a folder below its mount ({options.mount})"
        )
    if sent := own_files(submission):
        raise BadInput(f"{', '.join(sent)}: pods don't see this machine's files; put them into the image, or on s3://")
    labels = {"app.kubernetes.io/name": "gristmill", "gristmill/submission": submission.id}
    about = {"name": name, "namespace": options.namespace, "labels": labels}
    command = submission.command("--runner", "ray", "--address", "auto", "--set", "run.if_busy=wait")
    command[1] = f"{JOB_FOLDER}/job.yaml"
    spec: dict[str, Any] = {
        "entrypoint": _entrypoint(["python", "-m", "jobs.cli", *command]),
        "submissionMode": "K8sJobMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": options.keep_seconds,
        "activeDeadlineSeconds": round(job.resources.hours * 3600),
        "backoffLimit": 2,  # what was committed is found again
        "rayClusterSpec": _cluster(submission, name),
    }
    if options.queue is not None:
        spec["suspend"] = True  # Kueue lets it go
        about["labels"] = {**labels, "kueue.x-k8s.io/queue-name": options.queue}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {"job.yaml": submission.job_text()}},
        {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": about, "spec": spec},
    ]


def _entrypoint(command: list[str]) -> str:
    """Return what the submitter's pod runs.

    A job that failed gets a new cluster (``backoffLimit``). That mends neither bad input (2) nor a budget that is spent
    (4), so these end the job; what became of the run stands in its manifest and in the log.
    """
    ends = 'code=$?; case $code in 2|4) echo "exit code $code: nothing to try again"; exit 0;; esac; exit $code'
    return shlex.join(["bash", "-c", f"{shlex.join(command)}; {ends}"])


def _cluster(submission: Submission, name: str) -> dict[str, Any]:
    """Return the RayCluster: a head without work of its own, and a group of workers for each group of nodes."""
    head = NodeGroup(name="head", cpus=2, memory_gb=8)
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},  # the operator makes the token
        "headGroupSpec": {
            "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "2"},  # noqa: S104 (in a pod, behind its token)
            "template": _pod(submission, head, name, is_head=True),
        },
        "workerGroupSpecs": [
            {
                "groupName": group.name,
                "replicas": group.nodes,
                "minReplicas": group.nodes,
                "maxReplicas": group.nodes,
                "rayStartParams": {"num-gpus": str(group.gpus)} if group.gpus else {},
                "template": _pod(submission, group, name),
            }
            for group in submission.job.resources.groups
        ],
    }


def _pod(submission: Submission, group: NodeGroup, name: str, is_head: bool = False) -> dict[str, Any]:
    options = submission.job.resources.kuberay
    memory = f"{group.memory_gb}Gi"
    amounts: dict[str, str] = {"cpu": str(group.cpus), "memory": memory}
    if group.gpus:
        amounts[GPU] = str(group.gpus)
    volumes: list[dict[str, Any]] = [
        {"name": "job", "configMap": {"name": name}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _shared_memory(group)}},
    ]
    mounts = [{"name": "job", "mountPath": JOB_FOLDER, "readOnly": True}, {"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108 (the pod's own)
    if options.claim is not None:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": options.claim}})
        mounts.append({"name": "data", "mountPath": options.mount})
    container: dict[str, Any] = {
        "name": "ray-head" if is_head else "ray-worker",
        "image": options.image,
        "workingDir": WORKING_FOLDER,
        "env": _environment(submission),
        "resources": {"limits": amounts, "requests": amounts},
        "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if is_head:
        ports = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080}
        container["ports"] = [{"name": port, "containerPort": number} for port, number in ports.items()]
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": volumes,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000},
    }
    if options.service_account is not None:
        spec["serviceAccountName"] = options.service_account
    selector = {**options.node_selector, **({GPU_LABEL: group.gpu} if group.gpus and group.gpu else {})}
    if selector:
        spec["nodeSelector"] = selector
    if group.gpus:
        spec["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    labels = {
        "app.kubernetes.io/name": "gristmill",
        "gristmill/submission": submission.id,
        "gristmill/group": group.name,
    }
    if options.topology is not None and not is_head:
        spec["affinity"] = {
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_together(options.topology, labels)]}
        }
    return {"metadata": {"labels": labels}, "spec": spec}


def _together(topology: str, labels: dict[str, str]) -> dict[str, Any]:
    """Return the rule that pods of these labels share one value of a node's label."""
    return {"topologyKey": topology, "labelSelector": {"matchLabels": labels}}


def _environment(submission: Submission) -> list[dict[str, Any]]:
    """Return plain variables as they are, and secrets by the name of the Secret that has them.

    Kubernetes fills ``$(NAME)`` in, from other variables; ``$$`` is a dollar sign.
    """
    plain = submission.job.environment.items()
    found: list[dict[str, Any]] = [{"name": name, "value": value.replace("$", "$$")} for name, value in plain]
    for name, reference in submission.job.secrets.items():
        secret, slash, key = (reference or "").partition("/")
        if not (secret and slash and key):
            raise BadInput(f"secrets.{name}: say which Secret has it, as '{name}: secret/key'")
        found.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return found


def _shared_memory(group: NodeGroup) -> str:
    return f"{max(1, round(SHARED_MEMORY_SHARE * group.memory_gb))}Gi"


def _name(submission: Submission, attempt: int) -> str:
    """Return the RayJob's name: the submission's, with a title that is short enough for KubeRay."""
    title, stamp = submission.job.title, submission.id[len(submission.job.title) :]
    ending = stamp if attempt == 1 else f"{stamp}-{attempt}"
    return title[: LONGEST_NAME - len(ending)].rstrip("-") + ending


def _kubectl(handle: dict[str, Any], *arguments: str) -> str:
    return call(["kubectl", f"--namespace={handle['namespace']}", *arguments])
