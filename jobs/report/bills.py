"""The report's charts of strategies beside plain sampling: accuracy and coverage against the bill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import polars as pl

from jobs.report.charts import CLASSES, INK, RIGHT, SERIES, WIDE, Chart, svg
from jobs.report.format import compact, percent

UNITS = {"completion_tokens": "tokens written", "tokens": "tokens read and written", "dollars": "dollars"}
METHODS = {"majority": SERIES[0], "rpc": SERIES[1], "best_of_n": SERIES[2], "coverage": RIGHT}
"""Drawn, in this order; sampling that stops by itself is among the numbers."""


def bills(curve: pl.DataFrame, compared: pl.DataFrame) -> list[Chart]:
    """Draw, for each unit of the bill that is known, curves of plain sampling and a point for each arm.

    Args:
        curve: rows of ``measure.plain_curve``.
        compared: rows of ``measure.equal_bill``.
    """
    return [_of(unit, name, curve, compared) for unit, name in UNITS.items() if unit in set(curve["unit"])]


def _of(unit: str, name: str, curve: pl.DataFrame, compared: pl.DataFrame) -> Chart:
    lines = curve.filter(pl.col("unit") == unit)
    arms = compared.filter(pl.col("unit") == unit)
    drawn = arms.filter(pl.col("method") == "majority", pl.col("bill") > 0)
    spent = pl.concat([lines["bill"], drawn["bill"]])
    low, high = float(spent.min() or 1.0), float(spent.max() or 1.0)  # pyright: ignore[reportArgumentType]
    ends = [low, high] if low < high else [low / 2, low * 2]
    form = "$~g" if unit == "dollars" else "~s"
    x = alt.X(
        "x:Q", scale=alt.Scale(type="log", domain=ends, nice=False), title=f"{name}, per problem",
        axis=alt.Axis(format=form, tickCount=6, labelOverlap=True),
    )  # fmt: skip
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, 1]), title=None, axis=alt.Axis(format=".0%", tickCount=5))
    layers: list[Any] = []
    legend: list[tuple[str, str]] = []
    for method, colour in METHODS.items():
        own = lines.filter(pl.col("method") == method).sort("n").select(x="bill", y="accuracy")
        if own.is_empty():
            continue
        base = alt.Chart(alt.Data(values=own.to_dicts()))
        layers.append(base.mark_line(color=colour, strokeWidth=2).encode(x=x, y=y))
        legend.append((CLASSES[colour], "coverage: some sample is right" if method == "coverage" else method))
    for row in drawn.iter_rows(named=True):
        base = alt.Chart(alt.Data(values=[{"x": row["bill"], "y": row["accuracy"], "name": row["arm"]}]))
        layers.append(base.mark_circle(color=INK, size=70, opacity=1).encode(x=x, y=y))
        text = base.mark_text(color=INK, align="center", dy=-11, fontSize=11.5)
        layers.append(text.encode(x=x, y=y, text="name:N"))
    return Chart(
        f"Strategies against {name}",
        svg(
            alt.layer(*layers).properties(width=WIDE - 56, height=230),
            f"Accuracy of plain sampling and of {len(drawn)} arms by {name}",
        ),
        legend,
        ("arm", "beside", "bill", "N*", "accuracy", "plain at N*", "difference", "95% interval", "note"),
        list(_numbers(unit, arms)),
        ["Dots are what a strategy's episodes chose. Lines are of plain samples that take as much: their votes, and "
         "whether some one is right. The interval of the difference is for problems like these."],
    )  # fmt: skip


def _numbers(unit: str, arms: pl.DataFrame) -> Iterator[tuple[str, ...]]:
    for row in arms.iter_rows(named=True):
        bill = "unknown" if row["bill"] is None else compact(row["bill"])
        bill = f"${row['bill']:.4g}" if row["bill"] is not None and unit == "dollars" else bill
        known = row["difference"] is not None
        yield (
            row["arm"], row["method"], bill, "" if row["n_equal"] is None else f"{row['n_equal']:.1f}",
            percent(row["accuracy"]), percent(row["baseline"]) if known else "",
            f"{100 * row['difference']:+.1f}" if known else "",
            f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}" if known else "", row["note"],
        )  # fmt: skip
