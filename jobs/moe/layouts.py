"""Layouts as a table and as a document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.moe.layout import RUNTIME_GB, USABLE, Layouts
from cluster.moe.models import MoeModel
from cluster.moe.topology import Cluster


def document_of(model: MoeModel, cluster: Cluster, found: Layouts) -> dict[str, Any]:
    """Return everything that is known of the layouts, for programs."""
    return {
        "model": {
            **asdict(model),
            "parameters": model.parameters,
            "active": model.active,
            "expert_bytes": model.expert_bytes,
            "slot_bytes": model.slot_bytes,
            "kv_bytes": model.kv_bytes,
        },
        "cluster": cluster.model_dump(),
        "usable_gb": cluster.memory_gb * USABLE,
        "layouts": [
            {
                **asdict(layout),
                "ep": layout.ep,
                "gpus": layout.gpus,
                "memory_gb": layout.memory.total,
                "memory": {**asdict(layout.memory), "runtime": RUNTIME_GB},
                "flags": layout.flags,
            }
            for layout in found.fitting
        ],
        "rejected": [
            {"reason": reason, "ways": number, "example": example}
            for reason, (number, example) in found.rejected.items()
        ],
    }


def print_layouts(console: Console, model: MoeModel, cluster: Cluster, found: Layouts, limit: int) -> None:
    """Print the best layouts and the reasons against the others."""
    console.print(
        f"{model.name}: {model.parameters / 1e9:,.1f}B parameters, {model.active / 1e9:,.1f}B active, "
        f"{model.moe_layers} layers of {model.experts} experts (top {model.top_k}), a redundant slot on every layer "
        f"takes {model.slot_bytes / 1e9:.2f} GB"
    )
    table = Table(
        title=f"{cluster.nodes} nodes x {cluster.gpus_per_node} {cluster.gpu or 'GPUs'}", title_justify="left"
    )
    for name in ("TP", "PP", "DP", "EP", "redundant", "replicas", "GB a GPU", "tokens/s a GPU", "$/Mtoken", "idle"):
        table.add_column(name, justify="right")
    for layout in found.fitting[:limit]:
        price = f"{layout.dollars:.3f}" if layout.dollars else "-"
        cells = (layout.tp, layout.pp, layout.dp, layout.ep, layout.redundant, layout.replicas)
        table.add_row(
            *(str(cell) for cell in cells),
            f"{layout.memory.total:.1f}",
            f"{layout.tokens_per_second:,.0f}",
            price,
            str(layout.idle),
        )
    if found.fitting:
        console.print(table)
        console.print("The best one's flags (vLLM): " + " ".join(found.fitting[0].flags), highlight=False)
        console.print("Speeds are estimates: they compare layouts, they don't predict an engine.", style="dim")
    else:
        console.print("No layout fits.", style="bold red")
    for reason, (number, example) in found.rejected.items():
        console.print(f"{number:,} rejected: {reason}; for example {example}", highlight=False, style="dim")
