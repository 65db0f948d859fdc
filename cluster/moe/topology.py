"""The cluster in numbers: nodes, GPUs, memory, links, prices. ``cluster.ray.topology`` reads a live one."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import BadInput
from schemas.yaml_text import load_yaml, read_text

GPUS: dict[str, dict[str, float]] = {
    "A100-40GB": {"memory_gb": 40, "tflops": 312, "memory_tb_s": 1.56, "nvlink_gb_s": 300},
    "A100-80GB": {"memory_gb": 80, "tflops": 312, "memory_tb_s": 2.0, "nvlink_gb_s": 300},
    "H100": {"memory_gb": 80, "tflops": 989, "memory_tb_s": 3.35, "nvlink_gb_s": 450},
    "H200": {"memory_gb": 141, "tflops": 989, "memory_tb_s": 4.8, "nvlink_gb_s": 450},
    "H20": {"memory_gb": 96, "tflops": 148, "memory_tb_s": 4.0, "nvlink_gb_s": 450},
    "H800": {"memory_gb": 80, "tflops": 989, "memory_tb_s": 3.35, "nvlink_gb_s": 200},
    "B200": {"memory_gb": 180, "tflops": 2250, "memory_tb_s": 8.0, "nvlink_gb_s": 900},
    "MI300X": {"memory_gb": 192, "tflops": 1307, "memory_tb_s": 5.3, "nvlink_gb_s": 448},
    "L40S": {"memory_gb": 48, "tflops": 362, "memory_tb_s": 0.864, "nvlink_gb_s": 32},
}
"""Published figures: bf16 Tflop/s without sparsity; links in GB/s in each direction."""


class Cluster(BaseModel):
    """Equal nodes with equal GPUs.

    nodes: 18
    gpus_per_node: 8
    gpu: H100                 # fills in what isn't given: memory_gb, tflops, memory_tb_s, nvlink_gb_s
    network_gb_s: 400         # of a node, in each direction: eight ports of 400 Gb/s
    price_per_gpu_hour: 2.5
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int = Field(ge=1)
    gpus_per_node: int = Field(default=8, ge=1)
    gpu: str = ""
    memory_gb: float = Field(gt=0)
    tflops: float = Field(gt=0)
    """bf16, without sparsity."""
    memory_tb_s: float = Field(gt=0)
    nvlink_gb_s: float = Field(gt=0)
    """Of a GPU, in each direction."""
    network_gb_s: float = Field(default=400.0, gt=0)
    """Of a node, in each direction."""
    price_per_gpu_hour: float = Field(default=0.0, ge=0)
    """Dollars; 0: not known."""

    @model_validator(mode="before")
    @classmethod
    def _known_gpu(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not data.get("gpu"):  # pyright: ignore[reportUnknownMemberType]
            return data  # pyright: ignore[reportUnknownVariableType]
        given: dict[str, Any] = dict(data)  # pyright: ignore[reportUnknownArgumentType]
        known = {name.lower(): figures for name, figures in GPUS.items()}.get(str(given["gpu"]).lower())
        if known is None and not GPUS["H100"].keys() <= given.keys():
            raise ValueError(f"gpu '{given['gpu']}' isn't known ({', '.join(GPUS)}); give {', '.join(GPUS['H100'])}")
        return {**(known or {}), **given}

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node


def read_cluster(path: str) -> Cluster:
    """Read a cluster file (YAML).

    Raises:
        BadInput: no such file, or a key that is wrong.
    """
    try:
        document = load_yaml(read_text(path))
    except (OSError, ValueError) as error:
        raise BadInput(f"cluster '{path}' can't be read: {error}") from error
    try:
        return Cluster.model_validate(document)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(str(part) for part in one['loc']) or 'cluster'}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        )
        raise BadInput(f"cluster '{path}': {told}. Valid: {', '.join(Cluster.model_fields)}") from error
