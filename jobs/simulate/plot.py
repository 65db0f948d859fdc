"""The plot of a simulation: value against samples drawn, with bands."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import polars as pl

from jobs.plots import save_chart


def save_plot(table: pl.DataFrame, path: Path, titles: tuple[str, str], problems: int, seeds: int) -> None:
    """Write curves as .html, .png or .svg.

    Args:
        table: policy, cost, value, low, high.
        titles: what the value is, and in which unit the cost.
    """
    value, unit = titles
    order = table["policy"].unique(maintain_order=True).to_list()
    color = alt.Color("policy:N", sort=order, title="policy", scale=alt.Scale(scheme="tableau10"))
    base = alt.Chart(table)
    x = alt.X(
        "cost:Q",
        scale=alt.Scale(type="log"),
        title=f"{unit} spent" if unit != "samples" else "samples drawn",
        axis=alt.Axis(format="~s"),
    )
    chart = alt.layer(
        base.mark_area(opacity=0.15).encode(x, alt.Y("low:Q", title=value), alt.Y2("high:Q"), color),
        base.mark_line().encode(x, alt.Y("value:Q", title=value), color),
    ).properties(width=640, height=380, title=f"{problems:,} problems, {seeds} replays, 5% to 95%")
    save_chart(chart, path)
