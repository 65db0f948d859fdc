"""A mixture's experts as the page shows them: the load of each in each layer, and how even that made the GPUs."""

from __future__ import annotations

from typing import Any

from jobs.moe.loads import counted_stages, evenness, in_means
from schemas.manifest import RunManifest


def loads(manifest: RunManifest) -> list[dict[str, Any]]:
    """Return a document for each stage whose engine counted tokens per expert.

    ``loads`` [layers, experts] is in means of a layer; ``balance`` has by placement (measured, predicted, EPLB, linear)
    the mean load of the GPUs over the fullest one's, by layer.
    """
    found: list[dict[str, Any]] = []
    for stage, spec, counts in counted_stages(manifest):
        even = evenness(spec, counts)
        document = {"stage": stage, "model": spec.model, "loads": in_means(counts).round(3).tolist()}
        found.append({**document, "gpus": even[0] if even else None, "balance": even[1] if even else {}})
    return found
