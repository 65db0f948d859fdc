"""What a job asks a cluster for (``resources:`` in a job file). The same for Ray, Slurm and Kubernetes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from schemas.settings import Settings

NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""Of groups and Kubernetes objects: lower-case letters, digits and dashes."""
WORD = r"^[A-Za-z0-9][A-Za-z0-9._:@+-]*$"
"""Names that administrators give: accounts, qualities of service, kinds of GPUs."""
WORDS = r"^[A-Za-z0-9][A-Za-z0-9._:@+-]*(,[A-Za-z0-9][A-Za-z0-9._:@+-]*)*$"
"""One or several of these, with commas in between."""
OPTION = r"^--?[A-Za-z][A-Za-z0-9-]*(=[^\x00-\x1f\x7f]*| [^\x00-\x1f\x7f-][^\x00-\x1f\x7f]*)?$"
"""One option of sbatch, with its value if it has one."""
PLAIN = r"^[^\x00-\x1f\x7f]*$"
"""Text without line breaks and other control characters."""
MOST_NODES = 100_000
MOST_HOURS = 87_600.0
"""Ten years."""


class NodeGroup(Settings):
    """Nodes that are all alike."""

    name: str = Field(default="workers", pattern=NAME, max_length=40)
    """What the group is called."""
    nodes: int = Field(default=1, ge=1, le=MOST_NODES)
    """How many nodes there are."""
    gpus: int = Field(default=0, ge=0, le=1024)
    """GPUs of each node."""
    gpu: str | None = Field(default=None, pattern=WORD, max_length=63)
    """The kind of GPU: a Slurm GRES type, the value of the Kubernetes label ``nvidia.com/gpu.product``."""
    cpus: int = Field(default=2, ge=1, le=100_000)
    """CPUs of each node."""
    memory_gb: int = Field(default=8, ge=1, le=1_000_000)
    """Gigabytes of memory of each node."""


class SlurmOptions(Settings):
    """Where a Slurm job goes."""

    partition: str | None = Field(default=None, pattern=WORDS)
    """The partition that it is submitted to."""
    account: str | None = Field(default=None, pattern=WORD)
    """The account that it is charged to."""
    qos: str | None = Field(default=None, pattern=WORD)
    """The quality of service."""
    options: tuple[Annotated[str, Field(pattern=OPTION)], ...] = ()
    """Further options of sbatch, as they are: ``--reservation=night``."""
    environment: str | None = Field(default=None, pattern=PLAIN)
    """The Python environment on the nodes (its folder); by default the one that submits."""
    notice_seconds: int = Field(default=120, ge=1)
    """How many seconds before Slurm kills a job the job is told, so that it can write down what is in flight."""
    requeues: int = Field(default=10, ge=0)
    """How often a job that was stopped before it was done queues itself again."""


class RayOptions(Settings):
    """Where a Ray job goes."""

    address: str = "http://127.0.0.1:8265"
    """Address of the cluster's dashboard, which takes jobs."""
    packages: bool = False
    """Install our pinned dependencies on the nodes (pip); otherwise their environment has to have them."""


class KubeRayOptions(Settings):
    """Where a RayJob goes."""

    image: str = "gristmill:latest"
    """Container image of all pods, built from ``infra/Containerfile`` (or ``infra/gpu/Containerfile``)."""
    namespace: str = Field(default="default", pattern=NAME)
    """The namespace of its objects."""
    claim: str | None = Field(default=None, pattern=NAME)
    """A PersistentVolumeClaim that all pods mount, for a root that isn't in an object store."""
    mount: str = Field(default="/data", pattern=PLAIN)
    """Where the claim is mounted in every pod."""
    service_account: str | None = None
    """The service account under which its pods run."""
    node_selector: dict[str, str] = Field(default_factory=dict[str, str])
    """Labels of the nodes it may run on."""
    topology: str | None = None
    """Pods of a group are kept within one value of this node label, such as ``topology.kubernetes.io/zone``, or a
    network block's."""
    queue: str | None = None
    """A Kueue queue; the job then begins suspended."""
    keep_seconds: int = Field(default=600, ge=0)
    """How long the cluster stays after the job's end, so that it can be looked at."""


class Resources(Settings):
    """Nodes, time and shards of a job, and what is particular to each kind of cluster."""

    groups: tuple[NodeGroup, ...] = Field(default=(NodeGroup(),), min_length=1)
    """The nodes that are asked for, alike within a group."""
    hours: float = Field(default=24.0, gt=0, le=MOST_HOURS, allow_inf_nan=False)
    """Hours of wall time; what isn't done by then continues when the job is resumed."""
    shards: int = Field(default=1, ge=1, le=MOST_NODES)
    """How many independent jobs share the problems; one more puts their work together (Slurm arrays)."""
    files: tuple[str, ...] = ()
    """Further files and folders that a cluster elsewhere must be sent, below the folder in which the job is submitted:
    few-shot examples, one's own modules. ``load.source`` goes along by itself."""
    ray: RayOptions = RayOptions()
    """Settings for ``--to ray``."""
    slurm: SlurmOptions = SlurmOptions()
    """Settings for ``--to slurm``."""
    kuberay: KubeRayOptions = KubeRayOptions()
    """Settings for ``--to kuberay``."""

    @field_validator("files")
    @classmethod
    def _inside(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for name in files:
            if name.startswith(("/", "~")) or ".." in name.split("/"):
                raise ValueError(f"'{name}' isn't below the folder in which the job is submitted")
        return files

    @model_validator(mode="after")
    def _named_once(self) -> Resources:
        names = [group.name for group in self.groups]
        if len({*names}) < len(names):
            raise ValueError(f"groups need names of their own, not {names}")
        return self

    @property
    def nodes(self) -> int:
        return sum(group.nodes for group in self.groups)

    @property
    def gpus(self) -> int:
        return sum(group.nodes * group.gpus for group in self.groups)
