"""The places that a job can be submitted to, by name. A new one is registered here, and nowhere else."""

from __future__ import annotations

from jobs.submit.backend import Backend
from schemas.errors import BadInput
from schemas.extras import remedy


def backend(place: str) -> Backend:
    """Return the backend of a kind of cluster.

    Raises:
        BadInput: a library that it needs isn't installed.
    """
    if place == "local":
        from jobs.submit.local import Local

        return Local()
    if place == "slurm":
        from jobs.submit.slurm import Slurm

        return Slurm()
    if place == "kuberay":
        from jobs.submit.kuberay import KubeRay

        return KubeRay()
    try:
        from jobs.submit.ray import RayJobs
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise BadInput(f"Ray isn't installed: {remedy('ray')}, or use --to local") from error
    return RayJobs()
