"""What a job asks a cluster for (``resources:`` in a job file). The same for Ray, Slurm and Kubernetes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""Of groups and Kubernetes objects: lower-case letters, digits and dashes."""


class NodeGroup(BaseModel):
    """Nodes that are all alike."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field(default="workers", pattern=NAME, max_length=40)
    nodes: int = Field(default=1, ge=1)
    gpus: int = Field(default=0, ge=0)
    """GPUs of each node."""
    gpu: str | None = None
    """The kind of GPU: a Slurm GRES type, the value of the Kubernetes label ``nvidia.com/gpu.product``."""
    cpus: int = Field(default=2, ge=1)
    """CPUs of each node."""
    memory_gb: int = Field(default=8, ge=1)
    """Gigabytes of memory of each node."""


class SlurmOptions(BaseModel):
    """Where a Slurm job goes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    options: tuple[str, ...] = ()
    """Further options of sbatch, as they are: ``--reservation=night``."""
    environment: str | None = None
    """The Python environment on the nodes (its folder); by default the one that submits."""
    notice_seconds: int = Field(default=120, ge=1)
    """So long before it is killed a job hears of it, to write down what is in flight."""
    requeues: int = Field(default=10, ge=0)
    """How often a job that was stopped before it was done queues itself again."""


class RayOptions(BaseModel):
    """Where a Ray job goes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    address: str = "http://127.0.0.1:8265"
    """Address of the cluster's dashboard, which takes jobs."""
    packages: bool = False
    """Install our pinned dependencies on the nodes (pip); else their environment has them already."""


class KubeRayOptions(BaseModel):
    """Where a RayJob goes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    image: str = "gristmill:latest"
    """Container image of all pods, built from ``infra/Containerfile`` (or ``infra/gpu/Containerfile``)."""
    namespace: str = Field(default="default", pattern=NAME)
    claim: str | None = Field(default=None, pattern=NAME)
    """A PersistentVolumeClaim that all pods mount, for a root that isn't in an object store."""
    mount: str = "/data"
    """Where the claim is mounted in every pod."""
    service_account: str | None = None
    node_selector: dict[str, str] = Field(default_factory=dict[str, str])
    topology: str | None = None
    """Pods of a group are kept within one value of this node label, such as ``topology.kubernetes.io/zone``, or a
    network block's."""
    queue: str | None = None
    """A Kueue queue; the job then begins suspended."""
    keep_seconds: int = Field(default=600, ge=0)
    """So long after its end the cluster stays, to be looked at."""


class Resources(BaseModel):
    """Nodes, time and shards of a job, and what is particular to each kind of cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    groups: tuple[NodeGroup, ...] = (NodeGroup(),)
    hours: float = Field(default=24.0, gt=0)
    """Wall time; what isn't done by then goes on where it is resumed."""
    shards: int = Field(default=1, ge=1)
    """Independent jobs that take a share of the problems each, and one that puts their work together (Slurm arrays)."""
    files: tuple[str, ...] = ()
    """Further files and folders that a cluster elsewhere must be sent, below the folder in which the job is submitted:
    few-shot examples, one's own modules. ``load.source`` goes along by itself."""
    ray: RayOptions = RayOptions()
    slurm: SlurmOptions = SlurmOptions()
    kuberay: KubeRayOptions = KubeRayOptions()

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
