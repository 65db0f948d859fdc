"""The problems of a run as a table: how often they were solved, how alike their answers are, what they took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from cluster.records.reader import open_stage
from jobs.view.figures import wilson
from jobs.view.filling import problem_names
from jobs.view.index import hashed
from jobs.view.watched import Watched
from schemas.prices import MICRO, Prices

COLUMNS = ("drawn", "judged", "right", "rate", "difficulty", "entropy", "distinct", "top", "tokens", "dollars")
PROBLEM = ("problem_key", "problem_id", "prompt", "messages", "tools", "answer", "task_type", "metadata")
"""What a problem's page, and a sample's, say of it."""
BINS = 24
MOST = 500
ANSWERS = 40
"""Groups of answers that a problem's page names; the others share the last."""


def names(watched: Watched) -> pl.DataFrame:
    """Return problem_id and the beginning of the prompt of each of the places' problems, in their order."""
    _, places = watched.open()
    keys = pl.DataFrame({"problem_key": places.keys})
    texts = [
        found.select("problem_key", "problem_id", pl.col("prompt").str.slice(0, 160)).collect()
        for found in problem_names(watched.root, watched.manifest, ("problem_key", "problem_id", "prompt"))
    ]
    if not texts:
        return keys.with_columns(problem_id="problem_key", prompt=pl.lit(""))
    joined = keys.join(pl.concat(texts).unique("problem_key"), on="problem_key", how="left", maintain_order="left")
    return joined.with_columns(pl.col("problem_id").fill_null(pl.col("problem_key")), pl.col("prompt").fill_null(""))


def table(watched: Watched) -> pl.DataFrame:
    """Return a row for each problem with its figures; a figure that isn't known is null."""
    _, places = watched.open()
    assert watched.filler is not None
    sums, answers = watched.filler.tally.sums, watched.answers()
    judged, right = sums["judged"].astype(np.float64), sums["right"].astype(np.float64)
    low, high = wilson(right, judged)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = right / judged
    a, b = _prior(watched)
    found = pl.DataFrame(
        {
            "problem_key": places.keys,
            **{name: sums[name] for name in ("drawn", "judged", "right")},
            "rate": rate,
            "low": low,
            "high": high,
            "difficulty": 1 - (right + a) / (judged + a + b),
            "entropy": answers.entropy,
            "distinct": answers.distinct,
            "top": answers.top,
            "vote": answers.majority,
            "tokens": sums["tokens"] + sums["prompt_tokens"],
            "dollars": _dollars(watched, sums["prompt_tokens"], sums["tokens"]),
        }
    )
    return found.with_columns(pl.col(pl.Float64).fill_nan(None))


def _prior(watched: Watched) -> tuple[float, float]:
    """Return what the run learned of how hard its problems are; nothing, until it has ended."""
    found = next(iter(watched.manifest.posteriors.values()), None)
    return (found.a, found.b) if found else (1.0, 1.0)


def _dollars(watched: Watched, prompt: Any, completion: Any) -> Any:
    assert watched.stage is not None
    rates = Prices.model_validate(watched.manifest.prices.get(watched.stage.name) or {}).rates
    if rates is None:
        return np.full(len(prompt), np.nan)
    return (prompt * rates[0] + completion * rates[2]) / MICRO


def page(watched: Watched, asked: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of problems, how many fit, and a histogram of each column over those that fit.

    Args:
        asked: text (in id or prompt), ``column=low..high``, sort, order (asc), offset, limit.
    """
    rows = watched.cached("problem table", lambda: table(watched))
    named = watched.cached("problem names", lambda: names(watched), once=True)
    rows = pl.concat([rows, named.drop("problem_key")], how="horizontal")
    if asked.get("text"):
        said = asked["text"].lower()
        hit = pl.any_horizontal(
            pl.col(name).str.to_lowercase().str.contains(said, literal=True) for name in ("problem_id", "prompt")
        )
        rows = rows.filter(hit)
    for name in COLUMNS:
        low, high = _ends(asked.get(name, ""))
        if low is not None:
            rows = rows.filter(pl.col(name) >= low)
        if high is not None:
            rows = rows.filter(pl.col(name) <= high)
    sort = asked.get("sort", "")
    if sort in (*COLUMNS, "problem_id"):
        rows = rows.sort(sort, "problem_id", descending=[asked.get("order") != "asc", False], nulls_last=True)
    offset, limit = _whole(asked.get("offset", ""), 0), min(MOST, _whole(asked.get("limit", ""), 100))
    return {
        "total": len(rows),
        "problems": rows.slice(offset, limit).to_dicts(),
        "histograms": {name: bins for name in COLUMNS if (bins := _histogram(rows[name])) is not None},
    }


def _histogram(values: pl.Series) -> dict[str, Any] | None:
    known = values.drop_nulls().cast(pl.Float64).to_numpy()
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    if low == high:
        return {"edges": [low, high], "counts": [len(known)]}
    bins = BINS
    if values.dtype.is_integer():
        width = max(1, math.ceil((high - low + 1) / BINS))
        bins = math.ceil((high - low + 1) / width)
        high = low + bins * width
    counts, edges = np.histogram(known, bins=bins, range=(low, high))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _ends(text: str) -> tuple[float | None, float | None]:
    low, _, high = text.partition("..")
    try:
        return (float(low) if low else None, float(high) if high else None)
    except ValueError:
        return None, None


def _whole(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


def problem(watched: Watched, key: str) -> dict[str, Any]:
    """Return one problem: its text, its samples as places with verdict and answer, the answers with their votes."""
    index, places = watched.open()
    number = places.number(key)
    if number is None:
        return {}
    first, end = places.span(number)
    slots = np.flatnonzero(index.read("status", first, end) > 0) + first
    texts = _answer_texts(watched, key)
    answers = index.at("answer", slots)
    groups = [{"answer": text, "code": code, "votes": votes} for code, text, votes in _grouped(answers, texts)]
    shown = {group["code"]: at for at, group in enumerate(groups)}
    row = watched.cached("problem table", lambda: table(watched)).row(number, named=True)
    return {
        **row,
        **problem_text(watched, key),
        "slots": slots.tolist(),
        "indices": places.indices(slots).tolist(),
        "verdicts": index.at("verdict", slots).tolist(),
        "tokens": index.at("tokens", slots).tolist(),
        "groups": groups,
        "group": [shown.get(int(code), -1) for code in answers],
        "methods": _methods(watched, key),
    }


def _grouped(answers: Any, texts: Mapping[int, str]) -> list[tuple[int, str | None, int]]:
    codes, counts = np.unique(answers, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:ANSWERS]
    return [(int(codes[at]), texts.get(int(codes[at])), int(counts[at])) for at in order]


def _answer_texts(watched: Watched, key: str) -> dict[int, str]:
    if watched.filler is None or watched.filler.verdicts is None:
        return {}
    rows = watched.filler.verdicts.scan(key, key).filter(pl.col("problem_key") == key)
    found = rows.select("answer_key", "predicted_answer").drop_nulls("answer_key").unique("answer_key").collect()
    return {hashed(answer): said or answer for answer, said in found.iter_rows()}


def problem_text(watched: Watched, key: str) -> dict[str, Any]:
    """Return what a problem says; nothing where it isn't one of the run's."""
    for found in problem_names(watched.root, watched.manifest, PROBLEM):
        rows = found.filter(pl.col("problem_key") == key).collect().to_dicts()
        if rows:
            return {**rows[0], "expected": rows[0]["answer"]}
    return {"problem_id": key, "prompt": "", "expected": None}


def _methods(watched: Watched, key: str) -> list[dict[str, Any]]:
    """Return the answers that selection methods gave."""
    found: list[dict[str, Any]] = []
    for record in watched.manifest.stages:
        if record.dataset == "answers" and record.complete:
            rows = open_stage(watched.root, watched.manifest, record.name).filter(pl.col("problem_key") == key)
            found += [{"stage": record.name, **row} for row in rows.collect().drop("problem_key").to_dicts()]
    return found
