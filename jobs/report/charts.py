"""The report's charts: Altair specifications rendered to inline SVG, one theme for all.

Colours in the SVG are names in disguise: each constant below appears in no other place, and ``style.css`` maps it to a
CSS variable with attribute selectors (``svg [fill="#0a72b1"]``). So one SVG serves light and dark, and still has
sensible colours when it is taken out of the page. Text is left to the page's font.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import altair as alt
import polars as pl
import vl_convert

from jobs.report.collect import RATE_BINS, Lengths
from jobs.report.format import compact, count, interval, percent

RIGHT, WRONG, UNJUDGED = "#0a72b1", "#d45f01", "#8b8b8a"
INK, MUTED, GRID = "#555554", "#767675", "#9c9c9b"
SERIES = ("#8f4fa3", "#0b9e74", "#b08a02", "#5a6b8c")
"""Selection methods, in this order; told apart by eyes of all kinds (after Okabe and Ito)."""
CLASSES = {RIGHT: "right", WRONG: "wrong", UNJUDGED: "unjudged", MUTED: "muted"} | {
    colour: f"series-{i}" for i, colour in enumerate(SERIES)
}
"""Colour -> the CSS class of its legend swatch."""

BANDS = 2
"""Intervals drawn in one figure, at most; more hide each other. The numbers have all."""

WIDE, NARROW = 460, 312
"""Natural widths in CSS pixels; the page scales them to its columns."""

THEME: dict[str, Any] = {
    "background": "transparent",
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "ticks": False,
        "gridColor": GRID,
        "gridOpacity": 0.28,
        "labelColor": MUTED,
        "titleColor": INK,
        "labelFontSize": 12.5,
        "titleFontSize": 12.5,
        "titleFontWeight": "normal",
        "labelPadding": 7,
        "labelFlush": False,
        "titlePadding": 10,
    },
    "axisX": {"grid": False},
    "text": {"fontSize": 12.5, "color": INK},
}


@dataclass(frozen=True)
class Chart:
    """One SVG, its legend as (CSS class of the swatch or "", label), and the numbers it shows as a table."""

    title: str
    svg: str
    legend: Sequence[tuple[str, str]] = ()
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()


def svg(chart: Any, label: str) -> str:
    """Render a chart as an SVG that scales with its container and tells its ``label`` to screen readers."""
    specification = chart.configure(**THEME).to_dict(validate=False)
    text = vl_convert.vegalite_to_svg(specification)
    opening = re.search(r"<svg[^>]*>", text)
    box = re.search(r'viewBox="([^"]*)"', text)
    assert opening and box
    said = escape(label, quote=True)
    head = f'<svg viewBox="{box[1]}" role="img" aria-label="{said}"><title>{said}</title>'
    # All data lie inside their scales, so clips do nothing; their ids are numbered by process and would never repeat.
    body = re.sub(r"<defs>.*?</defs>", "", text[opening.end() :], flags=re.DOTALL)
    return head + re.sub(r' (font-family|clip-path|role|aria-[a-z]+)="[^"]*"', "", body)


def domain(frames: Sequence[pl.DataFrame | None]) -> tuple[float, float]:
    """Return the share axis that coverage and accuracy have in common: in tenths around all intervals."""
    known = [frame for frame in frames if frame is not None]
    low = min((float(frame["low"].min()) for frame in known), default=0.0)  # type: ignore[arg-type]
    high = max((float(frame["high"].max()) for frame in known), default=1.0)  # type: ignore[arg-type]
    return (0.0 if low < 0.5 else int(low * 10) / 10), min(1.0, (int(high * 10 - 1e-9) + 1) / 10)


def _log_axis(values: Sequence[int], title: str) -> alt.X:
    """A base-2 axis with at most eight labelled ticks, all of them values that were measured."""
    known = sorted(set(values))
    step = -(-len(known) // 8)
    ticks = known[:: step or 1]
    ends = [known[0], known[-1]] if known[0] < known[-1] else [known[0] / 2, known[0] * 2]
    scale = alt.Scale(type="log", base=2, domain=ends, nice=False)
    return alt.X("x:Q", scale=scale, title=title, axis=alt.Axis(values=ticks, format=",d", labelOverlap=True))


def _share_axis(ends: tuple[float, float], field: str = "y") -> alt.Y:
    return alt.Y(f"{field}:Q", scale=alt.Scale(domain=list(ends)), title=None, axis=alt.Axis(format=".0%", tickCount=5))


def _curve(
    frame: pl.DataFrame, x: alt.X, ends: tuple[float, float], colour: str, dash: bool = False, band: bool = True
) -> list[Any]:
    # Vega-Lite would start the scale of an area at zero, so every layer states the same one.
    y, low = _share_axis(ends), _share_axis(ends, "low")
    base = alt.Chart(alt.Data(values=frame.to_dicts()))
    line = base.mark_line(color=colour, strokeWidth=1.5 if dash else 2.5, strokeDash=[4, 4] if dash else [1, 0])
    layers: list[Any] = [line.encode(x=x, y=y)]
    if band and frame.height > 1:
        layers.insert(0, base.mark_area(color=colour, opacity=0.17).encode(x=x, y=low, y2="high:Q"))
    elif band:
        layers.insert(0, base.mark_rule(color=colour, strokeWidth=2).encode(x=x, y=low, y2="high:Q"))
    if not dash:
        layers.append(base.mark_circle(color=colour, size=38, opacity=1).encode(x=x, y=y))
    return layers


def coverage(rows: pl.DataFrame, ends: tuple[float, float]) -> Chart:
    """Draw pass@k with its interval band."""
    frame = rows.select(pl.col("k").alias("x"), pl.col("coverage").alias("y"), "low", "high")
    layers = _curve(frame, _log_axis(frame["x"].to_list(), "samples per problem, k"), ends, RIGHT)
    first, last = rows.row(0, named=True), rows.row(-1, named=True)
    label = (
        f"Coverage by samples per problem: pass@{first['k']} is {percent(first['coverage'])}, "
        f"pass@{last['k']} is {percent(last['coverage'])}"
    )
    return Chart(
        "Coverage",
        svg(alt.layer(*layers).properties(width=WIDE - 56, height=230), label),
        [("right", "pass@k, with its 95% interval")],
        ("k", "pass@k", "95% interval", "problems"),
        [
            (count(r["k"]), percent(r["coverage"]), interval(r["low"], r["high"]), count(r["n_problems"]))
            for r in rows.iter_rows(named=True)
        ],
        [
            "The share of problems that have a right one among k samples; to get it, somebody must know which.",
            *rows["note"].unique(maintain_order=True).to_list(),
        ],
    )


def _best_first(rows: pl.DataFrame) -> list[str]:
    """Return the methods: the first (the majority, where it is there), then the others by accuracy at the most n."""
    last = rows.group_by("method", maintain_order=True).last()
    first = rows["method"][0]
    order = last.sort(pl.col("method") != first, -pl.col("accuracy"), "method", maintain_order=True)
    return order["method"].to_list()


def selection(rows: pl.DataFrame, ceiling: pl.DataFrame | None, n_problems: int, ends: tuple[float, float]) -> Chart:
    """Draw the accuracy of each selection method against n, below the coverage it can't exceed."""
    values: list[int] = rows["n"].to_list()
    x = _log_axis(values, "samples per problem, n")
    layers: list[Any] = []
    legend: list[tuple[str, str]] = []
    methods = _best_first(rows)
    for place, (method, colour) in enumerate(zip(methods, SERIES, strict=False)):
        frame = rows.filter(pl.col("method") == method)
        curve = frame.select(pl.col("n").alias("x"), pl.col("accuracy").alias("y"), "low", "high")
        layers += _curve(curve, x, ends, colour, band=place < BANDS)
        legend.append((CLASSES[colour], f"{method}, with its 95% interval" if place < BANDS else method))
    if ceiling is not None:
        seen = ceiling.filter(pl.col("k").is_between(min(values), max(values)))
        frame = seen.select(pl.col("k").alias("x"), pl.col("coverage").alias("y"), "low", "high")
        if frame.height > 1:
            layers = _curve(frame, x, ends, MUTED, dash=True, band=False) + layers
            legend.append(("muted dashed", "pass@k: what a perfect choice would reach"))
    last = rows.filter(pl.col("method") == methods[0]).row(-1, named=True)
    notes = [
        "How often the chosen answer is right, with n samples of each problem and nobody to tell which is right.",
        f"n = {count(n_problems)} problems.",
    ]
    if len(methods) > 1:
        notes.append(f"Bands: {methods[0]} and the best of the others.")
    if len(methods) > len(SERIES):
        notes.append(f"Drawn: {len(SERIES)} of {len(methods)} methods.")
    return Chart(
        "Selection accuracy",
        svg(
            alt.layer(*layers).properties(width=WIDE - 56, height=230),
            f"Accuracy by samples per problem: {methods[0]} reaches {percent(last['accuracy'])} at n = {last['n']}",
        ),
        legend,
        ("n", "method", "accuracy", "95% interval"),
        [
            (count(r["n"]), r["method"], percent(r["accuracy"]), interval(r["low"], r["high"]))
            for r in rows.iter_rows(named=True)
        ],
        notes,
    )


FORECASTS = {
    "combined": "forecast",
    "beta_binomial": "beta-binomial",
    "power_law": "power law",
    "ttspm": "one rate for all (saturates too early)",
}


TO_COME = (
    "The share of these very problems that will have a right sample once each has k. The interval has both what isn't "
    "known of the hard ones and the luck of the samples to come."
)


def forecast(rows: pl.DataFrame, measured: pl.DataFrame | None) -> Chart:
    """Draw the coverage that more samples will bring, behind what was measured; published forecasts beside ours."""
    model = rows["model"][0]
    mine = rows.filter(pl.col("model") == model)
    if "combined" not in mine["method"]:  # of an older run
        mine = mine.with_columns(pl.col("method").replace("tail", "combined"))
    known = mine.clear() if measured is None else measured
    past = known.select(pl.col("k").alias("x"), pl.col("coverage").alias("y"), "low", "high") if len(known) else None
    values: list[int] = sorted({*mine["k"].to_list(), *(past["x"].to_list() if past is not None else [])})
    ends = domain([mine, None if past is None else past])
    x = _log_axis(values, "samples per problem, k")
    layers: list[Any] = []
    legend: list[tuple[str, str]] = []
    if past is not None:
        layers += _curve(past, x, ends, RIGHT)
        legend.append(("right", "measured"))
    for (method, label), colour in zip(FORECASTS.items(), (SERIES[0], *SERIES[1:]), strict=True):
        frame = mine.filter(pl.col("method") == method)
        curve = frame.select(pl.col("k").alias("x"), pl.col("coverage").alias("y"), "low", "high").sort("x")
        if len(curve):
            layers += _curve(curve, x, ends, colour, dash=method != "combined", band=method == "combined")
            legend.append((CLASSES[colour], f"{label}, with its 95% interval" if method == "combined" else label))
    last = mine.filter(pl.col("method") == "combined").sort("k").row(-1, named=True)
    notes = [TO_COME, *rows["note"].unique(maintain_order=True).to_list()]
    models = rows["model"].n_unique()
    return Chart(
        "Coverage to come",
        svg(
            alt.layer(*layers).properties(width=WIDE - 56, height=230),
            f"Forecast of coverage: {percent(last['coverage'])} at {count(last['k'])} samples a problem",
        ),
        legend,
        ("model", "k", "method", "coverage", "95% interval"),
        [
            (r["model"], count(r["k"]), r["method"], percent(r["coverage"]), interval(r["low"], r["high"]))
            for r in rows.iter_rows(named=True)
        ],
        [*notes, f"Drawn: one of {models} models."] if models > 1 else notes,
    )


AUDITED = {
    "completeness": "completeness: right ones accepted",
    "soundness": "soundness: wrong ones rejected",
    "precision": "right among the accepted, one draw",
    "ceiling": "right among the accepted, drawing until one is",
    "accuracy_judged": "accuracy as the verifier says",
    "accuracy_corrected": "accuracy corrected for its errors",
}


def audit(rows: pl.DataFrame) -> Chart:
    """Draw the expected value of resampling against the number of tries; tell how far the verifier can be trusted."""
    curve = rows.filter(pl.col("metric") == "value").select(pl.col("k").alias("x"), pl.col("value").alias("y"))
    best = rows.filter(pl.col("metric") == "best_tries").row(0, named=True)
    line = (
        alt.Chart(alt.Data(values=curve.to_dicts()))
        .mark_line(color=RIGHT, strokeWidth=2, point={"color": RIGHT, "size": 24})
        .encode(
            x=_log_axis(curve["x"].to_list(), "tries until one is accepted, K"), y=alt.Y("y:Q", title="value, R(K)")
        )
    )
    label = f"Expected value of resampling: best at K = {best['value']:g} tries"
    return Chart(
        "The verifier, audited",
        svg(line.properties(width=WIDE - 56, height=230), label),
        [("right", f"expected value; best at K* = {best['value']:g}")],
        ("measure", "value", "95% interval", "samples"),
        [
            (
                AUDITED[r["metric"]] + (f", prior {r['prior']}" if r["prior"] else ""),
                percent(r["value"]) if r["value"] is not None else "",
                interval(r["low"], r["high"]) if r["low"] is not None else "",
                count(r["n"]),
            )
            for r in rows.filter(pl.col("metric").is_in(list(AUDITED))).iter_rows(named=True)
        ],
        [f"{best['note']}."],
    )


def verdicts(rows: pl.DataFrame) -> Chart:
    """Draw how many verdicts there are of each kind: status by right, wrong or undecided."""
    total = int(rows["n"].sum())
    colours = {True: RIGHT, False: WRONG, None: UNJUDGED}
    words = {True: "right", False: "wrong", None: "undecided"}
    bars = [
        {
            "name": words[r["is_correct"]] if r["status"] == "ok" else f"{r['status']}, {words[r['is_correct']]}",
            "n": r["n"],
            "colour": colours[r["is_correct"]],
            "label": f"{compact(r['n'])}  ({percent(r['n'] / total)})",
        }
        for r in rows.iter_rows(named=True)
    ]
    base = alt.Chart(alt.Data(values=bars)).encode(y=alt.Y("name:N", sort=None, axis=None))
    scale = alt.Scale(domain=[0, max(b["n"] for b in bars)], nice=False)
    bar = base.mark_bar(height=14, cornerRadiusEnd=2, yOffset=9).encode(
        x=alt.X("n:Q", axis=None, scale=scale), color=alt.Color("colour:N", scale=None)
    )
    name = base.mark_text(align="left", baseline="middle", dy=-9).encode(x=alt.value(0), text="name:N")
    number = base.mark_text(align="right", baseline="middle", dy=-9).encode(x=alt.value(NARROW - 10), text="label:N")
    chart = alt.layer(bar, name, number).properties(width=NARROW - 10, height=alt.Step(46))
    label = f"Verdicts, {count(total)} in all: " + "; ".join(f"{b['name']} {b['label']}" for b in bars)
    return Chart("Verdicts", svg(chart, label), [("", f"n = {count(total)} verdicts")])


def pass_rates(bins: pl.DataFrame, never: int, always: int) -> Chart:
    """Draw how many problems have which share of right samples."""
    total = int(bins["n"].sum())
    gap = 0.04
    values = [
        {"low": (r["bin"] + gap) / RATE_BINS, "high": (r["bin"] + 1 - gap) / RATE_BINS, "n": r["n"]}
        for r in bins.iter_rows(named=True)
    ]
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_rect(color=RIGHT, cornerRadius=1)
        .encode(
            x=alt.X(
                "low:Q", scale=alt.Scale(domain=[0, 1]), title="right samples", axis=alt.Axis(format=".0%", tickCount=5)
            ),
            x2="high:Q",
            y=alt.Y("n:Q", title="problems", axis=alt.Axis(format=",d", tickCount=4, tickMinStep=1)),
            y2=alt.datum(0),
        )
        .properties(width=NARROW - 60, height=180)
    )
    ends = (("never", never), ("always", always))
    told = "; ".join(f"{word} right: {count(n)} ({percent(n / total)})" for word, n in ends)
    return Chart(
        "Pass rate by problem",
        svg(chart, f"Histogram of pass rates of {count(total)} problems. {told}"),
        [("", f"n = {count(total)} problems with verdicts"), ("", told)],
    )


def lengths(found: Lengths) -> Chart:
    """Draw the lengths of right and wrong completions, each as a share of its own group."""
    totals = {row["is_correct"]: row for row in found.groups.iter_rows(named=True)}
    colours, words = {True: RIGHT, False: WRONG}, {True: "right", False: "wrong"}
    last = int(found.bins["bin"].max()) + found.width  # type: ignore[arg-type]
    layers: list[Any] = []
    for correct, group in totals.items():
        have = dict(found.bins.filter(pl.col("is_correct") == correct).select("bin", "n").iter_rows())
        edges = range(0, last + 1, found.width)
        steps = [{"x": edge, "y": have.get(edge, 0) / group["n"]} for edge in edges]
        base = alt.Chart(alt.Data(values=steps)).encode(
            x=alt.X("x:Q", title="tokens", scale=alt.Scale(domain=[0, last], nice=False), axis=alt.Axis(tickCount=5)),
            y=alt.Y("y:Q", title="share of its group", axis=alt.Axis(format=".0%", tickCount=4)),
        )
        colour = colours[correct]
        layers.append(base.mark_area(interpolate="step-after", color=colour, opacity=0.22))
        layers.append(base.mark_line(interpolate="step-after", color=colour, strokeWidth=1.75))
        middle = alt.Chart(alt.Data(values=[{"x": group["median"]}])).mark_rule(color=colour, strokeDash=[3, 3])
        layers.append(middle.encode(x="x:Q"))
    said = [f"{words[c]}: n = {count(g['n'])}, median {count(g['median'])}" for c, g in totals.items()]
    notes = ["Dashed lines are medians."]
    if found.above:
        notes.append(f"{count(found.above)} longer completions are beyond the axis.")
    return Chart(
        "Completion length",
        svg(alt.layer(*layers).properties(width=NARROW - 60, height=180), f"Tokens per completion; {'; '.join(said)}"),
        [(words[correct], text) for correct, text in zip(totals, said, strict=True)],
        notes=notes,
    )
