"""The report's part on mixtures of experts: which experts a run's tokens went to, and how even that made its GPUs.

From the tokens that the engine counted (``engine.expert_counts``) on the dates of the run. How many nodes a token
reaches follows from a trace alone, and is told by ``gristmill moe evaluate``.
"""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl

from jobs.moe.loads import Counts, counted_stages, evenness, in_means
from jobs.report.charts import NARROW, RIGHT, SERIES, UNJUDGED, WIDE, WRONG, Chart, svg
from schemas.engine import VllmSpec
from schemas.manifest import RunManifest

COLUMNS = 48
"""Of the heat map; where there are more experts, some share one."""
COLOURS = {"measured": RIGHT, "predicted": WRONG, "EPLB": SERIES[0], "linear": UNJUDGED}


def experts(manifest: RunManifest) -> list[Chart]:
    """Return the charts of every sampling stage whose engine counted tokens per expert; none where none did."""
    found: list[Chart] = []
    for stage, spec, counts in counted_stages(manifest):
        found.append(_heat(stage, counts))
        found += _evenness(stage, spec, counts)
    return found


def _heat(stage: str, counts: Counts) -> Chart:
    """Return the load of each expert of each layer, in means of its layer."""
    layers, number = counts.shape
    loads = in_means(counts)
    columns = np.array_split(np.sort(loads, axis=1)[:, ::-1], min(number, COLUMNS), axis=1)
    values = [
        {"layer": layer, "share": at, "load": min(float(load), 4.0)}
        for at, column in enumerate(columns)
        for layer, load in enumerate(column.mean(axis=1))
    ]
    quiet = alt.Axis(labelOverlap=True, tickCount=8)
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_rect()
        .encode(
            alt.X("share:O", title="experts, the heaviest first", axis=alt.Axis(labels=False)),
            alt.Y("layer:O", title="layer with experts", axis=quiet),
            alt.Color("load:Q", scale=alt.Scale(scheme="blues", domain=[0, 4]), legend=None),
        )
        .properties(width=WIDE, height=max(80, min(320, 8 * layers)))
    )
    heaviest = loads.max(axis=1)
    return Chart(
        f"{stage}: load of each expert",
        svg(chart, f"load of each of {number} experts in each of {layers} layers, the darker the more"),
        heads=("layer", "tokens", "heaviest expert", "its load in means", "experts without tokens"),
        rows=[
            (str(at), f"{row.sum():,.0f}", str(int(row.argmax())), f"{heaviest[at]:.2f}", str(int((row == 0).sum())))
            for at, row in enumerate(counts)
        ],
        notes=("In means of its layer; four and more are equally dark.",),
    )


def _evenness(stage: str, spec: VllmSpec, counts: Counts) -> list[Chart]:
    """Return how even the GPUs of each layer were: as planned, as it was, and as other placements would have been."""
    found = evenness(spec, counts)
    if found is None:
        return []
    gpus, lines = found
    table = pl.DataFrame(
        [
            {"layer": at, "placement": name, "y": value}
            for name, values in lines.items()
            for at, value in enumerate(values)
        ]
    )
    colour = alt.Color(
        "placement:N", scale=alt.Scale(domain=list(lines), range=[COLOURS[name] for name in lines]), legend=None
    )
    chart = (
        alt.Chart(table)
        .mark_line(point=True)
        .encode(
            alt.X("layer:Q", title="layer with experts", axis=alt.Axis(tickMinStep=1)),
            alt.Y("y:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(format=".2f")),
            colour,
        )
        .properties(width=NARROW, height=180)
    )
    means = {name: float(np.mean(values)) for name, values in lines.items()}
    swatches = {"measured": "right", "predicted": "wrong", "EPLB": "series-0", "linear": "unjudged"}
    return [
        Chart(
            f"{stage}: balancedness of {gpus} GPUs",
            svg(chart, "mean over fullest GPU by layer: " + ", ".join(f"{k} {v:.3f}" for k, v in means.items())),
            legend=[(swatches[name], f"{name}, mean {means[name]:.3f}") for name in lines],
            heads=("layer", *lines),
            rows=[(str(at), *(f"{values[at]:.3f}" for values in lines.values())) for at in range(len(counts))],
            notes=(
                "Mean load of the GPUs over the fullest one's. EPLB is vLLM's own policy, given these very counts.",
            ),
        )
    ]
