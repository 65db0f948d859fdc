"""The plot of an evaluation: how even each layer is under each policy, and where a plan's load lies."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import NDArray

from cluster.moe.measure import Measured, gpu_shares
from cluster.moe.placement import Placement
from cluster.moe.routing import counts_of
from jobs.plots import save_chart

WIDTH = 640


def save_evaluation(
    path: Path, measured: dict[str, list[Measured]], routed: NDArray[np.integer], placement: Placement
) -> None:
    """Write balancedness and remote nodes by layer, and the load of each GPU in each layer, as .html, .png or .svg."""
    table = pl.DataFrame(
        [
            {"layer": layer, "policy": name, "balancedness": one.balancedness, "remote": one.remote}
            for name, layers in measured.items()
            for layer, one in enumerate(layers)
        ]
    )
    color = alt.Color("policy:N", sort=list(measured), title="policy", scale=alt.Scale(scheme="tableau10"))
    base = alt.Chart(table).mark_line(point=True).properties(width=WIDTH, height=180)
    x = alt.X("layer:Q", title="layer with experts", axis=alt.Axis(tickMinStep=1))
    even = base.encode(x, alt.Y("balancedness:Q", title="balancedness", scale=alt.Scale(zero=False)), color)
    remote = base.encode(x, alt.Y("remote:Q", title="remote nodes per token", scale=alt.Scale(zero=False)), color)
    heat = (
        alt.Chart(_loads(routed, placement), title="load of each GPU under the plan, in means of its layer")
        .mark_rect()
        .encode(
            alt.X("gpu:O", title="GPU", axis=alt.Axis(labelOverlap=True)),
            alt.Y("layer:O", title="layer with experts", axis=alt.Axis(labelOverlap=True)),
            alt.Color("load:Q", title="load", scale=alt.Scale(scheme="blueorange", domainMid=1.0)),
            tooltip=["layer", "gpu", alt.Tooltip("load:Q", format=".2f"), "experts"],
        )
        .properties(width=WIDTH, height=max(120, min(480, 12 * len(placement.physical_to_logical))))
    )
    save_chart(alt.vconcat(even, remote, heat).resolve_scale(color="independent"), path)


def _loads(routed: NDArray[np.integer], placement: Placement) -> pl.DataFrame:
    counts = counts_of(routed, placement.experts)
    shape = placement.shape
    rows: list[dict[str, object]] = []
    for layer, row in enumerate(placement.physical_to_logical):
        loads = counts[layer] @ gpu_shares(row, placement.shares(layer), shape, placement.experts)
        held = row.reshape(shape.gpus, -1)
        mean = max(float(loads.mean()), 1e-12)
        rows += [
            {"layer": layer, "gpu": gpu, "load": float(load) / mean, "experts": " ".join(map(str, held[gpu]))}
            for gpu, load in enumerate(loads)
        ]
    return pl.DataFrame(rows)
