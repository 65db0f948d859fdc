"""The plot of a benchmark: tokens a second against requests in flight, with the range of the rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import polars as pl

from jobs.plots import save_chart
from schemas.throughput import ThroughputEntry

BLUE, ORANGE = "#0a72b1", "#d45f01"


def save(entry: ThroughputEntry, path: Path) -> None:
    """Write the plot; the ending says how (``jobs.plots``)."""
    save_chart(chart(entry), path)


def chart(entry: ThroughputEntry) -> Any:
    """Return tokens/s and latency, side by side."""
    frame = pl.DataFrame([level.model_dump() for level in entry.levels])
    values = frame["concurrency"].to_list()
    scale = alt.Scale(type="log", base=2, domain=[min(values), max(max(values), min(values) + 1)], nice=False)
    x = alt.X("concurrency:Q", scale=scale, axis=alt.Axis(values=values, format="d"), title="requests in flight")
    base = alt.Chart(frame)
    speed = alt.layer(
        base.mark_area(opacity=0.2, color=BLUE).encode(
            x, alt.Y("low:Q", title="completion tokens/s"), alt.Y2("high:Q")
        ),
        base.mark_line(point=True, color=BLUE).encode(x, alt.Y("completion_tokens_per_second:Q")),
    ).properties(width=380, height=260, title="Throughput, median and range of the rounds")
    waits = alt.layer(
        base.mark_line(point=True, color=ORANGE).encode(x, alt.Y("latency_seconds:Q", title="seconds a sample")),
        base.mark_line(strokeDash=[4, 3], color=ORANGE).encode(x, alt.Y("latency_p95_seconds:Q")),
    ).properties(width=380, height=260, title="Latency, median and 95th percentile (dashed)")
    about = f"{entry.hardware} · {entry.version} · {entry.slots} slots · {entry.measured:%Y-%m-%d %H:%M} UTC"
    title = alt.TitleParams(f"{entry.model} in {entry.family}", subtitle=about, anchor="start")
    return alt.hconcat(speed, waits).properties(title=title).configure_view(stroke=None)
