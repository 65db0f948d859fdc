"""The report's chart of how far confidences can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from jobs.report.charts import CLASSES, MUTED, SERIES, WIDE, Chart, svg
from jobs.report.format import count, interval, percent


def calibration(rows: pl.DataFrame, uncalibrated: Sequence[str] = ()) -> Chart:
    """Draw how often answers are right against how sure each method was of them; tell its errors.

    Args:
        uncalibrated: methods whose confidence is a model's own, with no known answers to fit it to.
    """
    axis = alt.Axis(format=".0%", tickCount=5)
    x = alt.X("x:Q", scale=alt.Scale(domain=[0, 1]), title="confidence", axis=axis)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, 1]), title=None, axis=axis)
    ends = [{"x": 0, "y": 0}, {"x": 1, "y": 1}]
    layers: list[Any] = [
        alt.Chart(alt.Data(values=ends)).mark_line(color=MUTED, strokeDash=[4, 4], strokeWidth=1.5).encode(x=x, y=y)
    ]
    legend = [("muted dashed", "as often right as said")]
    for row, colour in zip(rows.iter_rows(named=True), SERIES, strict=False):
        points = [{"x": one["confidence"], "y": one["accuracy"], "n": one["n"]} for one in row["bins"] if one["n"]]
        base = alt.Chart(alt.Data(values=points))
        layers.append(base.mark_line(color=colour, strokeWidth=1.5).encode(x=x, y=y))
        size = alt.Size("n:Q", scale=alt.Scale(range=[16, 160]), legend=None)
        layers.append(base.mark_circle(color=colour, opacity=1).encode(x=x, y=y, size=size))
        legend.append((CLASSES[colour], f"{row['method']}: {_error(row)}"))
    first = rows.row(0, named=True)
    notes = [
        "Whether a confidence says how often answers are right. Dots are tenths of confidence, larger where there are "
        "more answers. RMSCE is the bins' root mean squared gap without what chance adds to it; ECE has that in it."
    ]
    if uncalibrated:
        notes.append(f"Uncalibrated, a model's own opinion of itself: {', '.join(uncalibrated)}.")
    if len(rows) > len(SERIES):
        notes.append(f"Drawn: {len(SERIES)} of {len(rows)} methods.")
    return Chart(
        "Calibration",
        svg(
            alt.layer(*layers).properties(width=WIDE - 56, height=230),
            f"Share of right answers by confidence: {first['method']} has {_error(first)}",
        ),
        legend,
        ("method", "accuracy", "95% interval", "RMSCE", "95% interval", "ECE", "Brier", "problems"),
        [
            (
                r["method"],
                percent(r["accuracy"]),
                interval(r["accuracy_low"], r["accuracy_high"]),
                "" if r["rmsce"] is None else percent(r["rmsce"]),
                "" if r["rmsce"] is None else interval(r["rmsce_low"], r["rmsce_high"]),
                percent(r["ece"]),
                f"{r['brier']:.3f}",
                count(r["n"]),
            )
            for r in rows.iter_rows(named=True)
        ],
        notes,
    )


def _error(row: dict[str, Any]) -> str:
    """Say how far confidences are off; older runs have the plain error only."""
    return f"ECE {percent(row['ece'])}" if row["rmsce"] is None else f"RMSCE {percent(row['rmsce'])}"
