"""The sample browser's rows: a few problems from hardest to easiest, a few right and wrong samples of each.

Only keys and verdicts are looked through in full; texts are read, and cut, for the chosen samples alone.
"""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from cluster.records.call_trees import ROW, episode_of
from jobs.report.collect import SAMPLE_KEY, Source, collect
from jobs.report.format import count

MAX_PROBLEMS = 60
MAX_SAMPLES = 4
"""Right ones a problem, and as many wrong ones, and as many without a verdict."""
MAX_TEXT = 4000
MAX_CALL = 600
"""Characters of a call's text."""
MAX_CALLS = 64
"""Calls that go on from one."""
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def embed(value: Any) -> str:
    """Return JSON that can stand inside a script element: nothing in it ends the element or a line."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character, escaped in ESCAPES.items():
        text = text.replace(character, escaped)
    return text


def browse(source: Source) -> tuple[list[dict[str, Any]], str] | None:
    """Return the problems with their samples, and a sentence on what is shown of how many; None without samples."""
    chosen, total, order = _choose(source)
    if chosen is None or chosen.is_empty():
        return None
    samples = _samples(source, chosen)
    if samples is None or samples.is_empty():
        return None
    problems = _problems(source, chosen)
    by_problem: dict[str, list[dict[str, Any]]] = {}
    for row in samples.iter_rows(named=True):
        by_problem.setdefault(row.pop("problem_key"), []).append(row)
    trees = _episodes(source, chosen)
    shown = [
        problem | {"samples": by_problem.get(problem["key"], []), "episode": trees.get(problem["key"])}
        for problem in problems
    ]
    n_samples = source.samples["samples"] if source.samples else samples.height
    kinds = f"the first {MAX_SAMPLES} samples of each problem"
    if source.rates is not None:
        kinds = f"of each problem the first {MAX_SAMPLES} right and the first {MAX_SAMPLES} wrong ones"
    note = (
        f"Shown: {count(len(shown))} of {count(total)} problems{order}, {count(samples.height)} of {count(n_samples)} "
        f"samples ({kinds}). Texts are cut at {count(MAX_TEXT)} characters."
    )
    return shown, note


def _episodes(source: Source, chosen: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Return problem key -> its first episode, where a strategy was played: its facts and the tree of its calls."""
    rows = source.scan("samples", *ROW)
    if rows is None or source.calls is None:
        return {}
    mine = rows.join(chosen.lazy().select("problem_key"), on="problem_key", how="semi")
    first = collect(mine.filter(pl.col("episode") == pl.col("episode").min().over("problem_key")))
    keys = first.lazy().select("problem_key", "episode").unique()
    calls = collect(source.calls.join(keys, on=["problem_key", "episode"], how="semi"))
    calls_of = dict(calls.group_by("problem_key"))
    return {
        str(key[0]): _shown(episode_of(table.sort("slot"), calls_of.get(key)))
        for key, table in first.group_by("problem_key", maintain_order=True)
    }


def _shown(episode: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of an episode."""
    names = ("episode", "strategy", "ended_by", "calls", "prompt_tokens", "completion_tokens", "scorer_passes")
    return {name: episode[name] for name in names} | {"tree": [_node(one) for one in episode["tree"][:MAX_CALLS]]}


def _node(call: dict[str, Any]) -> dict[str, Any]:
    text = call["text"] or call["error"] or ""
    return {
        "call": call["call"],
        "role": call["role"] if call["kind"] == "generate" else call["kind"],
        "score": call["score"],
        "text": text if len(text) <= MAX_CALL else f"{text[:MAX_CALL]} […]",
        "rows": call["rows"],
        "chosen": call["chosen"],
        "kept": call["kept"],
        "children": [_node(child) for child in call["children"][:MAX_CALLS]],
    }


def _choose(source: Source) -> tuple[pl.DataFrame | None, int, str]:
    """Pick problems evenly along the order of pass rates; without verdicts, the first by key."""
    rates = source.rates
    if rates is None:
        keys = source.scan("samples", "problem_key")
        if keys is None:
            return None, 0, ""
        found = collect(keys.unique().sort("problem_key")).with_columns(
            pl.lit(None, pl.Float64).alias("rate"), pl.lit(0).alias("right"), pl.lit(0).alias("judged")
        )
        return found.head(MAX_PROBLEMS), found.height, ""
    n = rates.height
    if n <= MAX_PROBLEMS:
        return rates, n, ", hardest first"
    steps = [round(i * (n - 1) / (MAX_PROBLEMS - 1)) for i in range(MAX_PROBLEMS)]
    return rates[steps], n, " (evenly spaced from the hardest to the easiest)"


def _cut(column: str) -> pl.Expr:
    """Cut long texts, with a mark that says so."""
    text = pl.col(column)
    cut = pl.concat_str(text.str.head(MAX_TEXT), pl.lit(" […]"))
    return pl.when(text.str.len_chars() > MAX_TEXT).then(cut).otherwise(text).alias(column)


def _problems(source: Source, chosen: pl.DataFrame) -> list[dict[str, Any]]:
    keys = chosen.lazy().select("problem_key")
    rows = chosen.with_row_index("order")
    texts = source.scan("problems", "problem_key", "problem_id", "prompt", "answer")
    if texts is not None:
        cut = texts.join(keys, on="problem_key", how="semi").with_columns(_cut("prompt"), _cut("answer"))
        rows = rows.join(collect(cut), on="problem_key", how="left")
    answers = source.scan("answers", "problem_key", "method", "answer", "confidence", "n_samples", "is_correct")
    if answers is not None:
        found = collect(answers.join(keys, on="problem_key", how="semi")).sort(pl.col("method") != "majority", "method")
        picked = found.unique("problem_key", keep="first", maintain_order=True).with_columns(_cut("answer"))
        rows = rows.join(picked, on="problem_key", how="left", suffix="_selected")
    selected = "answer_selected" if "answer_selected" in rows.columns else "answer"
    return [
        {
            "key": row["problem_key"],
            "id": row.get("problem_id") or row["problem_key"],
            "right": row["right"],
            "judged": row["judged"],
            "prompt": row.get("prompt"),
            "answer": row.get("answer") if texts is not None else None,
            "selected": row.get(selected) if row.get("method") else None,
            "method": row.get("method"),
            "confidence": row.get("confidence"),
            "n": row.get("n_samples"),
            "correct": row.get("is_correct"),
        }
        for row in rows.sort("order").iter_rows(named=True)
    ]


def _samples(source: Source, chosen: pl.DataFrame) -> pl.DataFrame | None:
    keys = chosen.lazy().select("problem_key")
    found = source.scan(
        "samples", *SAMPLE_KEY, "completion", "reasoning", "status", "finish_reason", "completion_tokens"
    )
    if found is None:
        return None
    verdicts = source.scan("verdicts", *SAMPLE_KEY, "is_correct", "predicted_answer", "status")
    candidates = found.select(SAMPLE_KEY).join(keys, on="problem_key", how="semi")
    if verdicts is None:
        candidates = candidates.with_columns(
            pl.lit(None, pl.Boolean).alias("is_correct"),
            pl.lit(None, pl.String).alias("predicted_answer"),
            pl.lit(None, pl.String).alias("verdict"),
        )
    else:
        judged = verdicts.join(keys, on="problem_key", how="semi").rename({"status": "verdict"})
        candidates = candidates.join(judged, on=SAMPLE_KEY, how="left")
    first = (
        collect(candidates)
        .sort(SAMPLE_KEY)
        .group_by("problem_key", "is_correct", maintain_order=True)
        .head(MAX_SAMPLES)
        .select(*SAMPLE_KEY, "is_correct", "predicted_answer", "verdict")
    )
    texts = collect(
        found.join(first.lazy().select(SAMPLE_KEY), on=SAMPLE_KEY, how="semi").with_columns(
            _cut("completion"), _cut("reasoning")
        )
    )
    rows = texts.join(first, on=SAMPLE_KEY).sort(SAMPLE_KEY)
    return rows.select(
        "problem_key",
        pl.col("sample_index").alias("i"),
        pl.col("is_correct").alias("correct"),
        _cut("predicted_answer").alias("said"),
        pl.when(pl.col("status") == "error").then(pl.lit("sampling error")).otherwise("verdict").alias("verdict"),
        pl.col("finish_reason").alias("finish"),
        pl.col("completion_tokens").alias("tokens"),
        pl.col("completion").alias("text"),
        "reasoning",
    )
