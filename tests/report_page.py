"""A small run for reports, and a page as a reader sees it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import polars as pl

from jobs.report.build import render
from schemas import datasets, measures
from schemas.contract import Contract, polars_schema
from schemas.manifest import RunManifest, StageRecord

EVIL = "</script><script>alert('x')</script>\u2028<!-- <img src=http://evil.test/x.png>"
VOID = {"meta", "link", "br", "img", "input", "hr"}
STAGES = {
    "load": "problems",
    "sample": "samples",
    "verify": "verdicts",
    "select": "answers",
    "coverage": "pass_at_k",
    "accuracy": "selection_accuracy",
    "sft": "sft",
}


def frame(contract: type[Contract], rows: list[dict[str, Any]]) -> pl.LazyFrame:
    """The contract's columns; null where a row doesn't say (the report reads few of them)."""
    schema = polars_schema(contract)
    return pl.LazyFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


def manifest(**changes: Any) -> RunManifest:
    stages = [
        StageRecord(
            name=name,
            operator=f"operator.{name}",
            dataset=dataset,
            kind="store" if dataset in ("samples", "verdicts") else "snapshot",
            path=name,
            view_id="v",
            planned=40,
            reused=10,
            computed=30,
            seconds=20.0,
            completion_tokens=3000 if name == "sample" else 0,
            complete=True,
        )
        for name, dataset in STAGES.items()
    ]
    started = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
    fields: dict[str, Any] = {
        "run_id": "arithmetic-20260304-050600-ab12",
        "pipeline": "arithmetic",
        "state": "done",
        "started": started,
        "finished": started + timedelta(seconds=75),
        "command": "gristmill run arithmetic --set 'sample.stop=[\"<end>\"]'",
        "runner": "local",
        "config": {"sample": {"operator": "sample", "template": EVIL, "n": 10}},
        "versions": {"gristmill": "0.1.0", "polars": "9.8.7"},
        "stages": stages,
        "n_problems": 4,
    }
    return RunManifest(**{**fields, **changes})


def tables(problems: int = 4, n: int = 10) -> dict[str, pl.LazyFrame]:
    """Problem i of 4 has right samples at the indices below ``n * i / 4``; right ones have 10 tokens, wrong ones 30."""
    keys = [{"problem_key": f"k{i:03}", "problem_id": f"problem-{i}"} for i in range(problems)]
    samples: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    for i, key in enumerate(keys):
        for j in range(n):
            right, judged = j < n * (i % 4) / 4, j < n - 1
            tokens = {"prompt_tokens": 5, "completion_tokens": 10 if right else 30}
            said = {"completion": f"{j} {EVIL}", "status": "ok", "finish_reason": "stop"}
            samples.append({**key, "sample_index": j, **said, **tokens})
            verdict = {"is_correct": right if judged else None, "status": "ok" if judged else "timeout"}
            verdicts.append({**key, "sample_index": j, "predicted_answer": str(j), **verdict})
    curve = [(1, 0.4, 0.2, 0.6), (10, 0.75, 0.5, 0.9)]
    note = "Bootstrap over 4 problems & few samples."
    covered = [{"k": k, "coverage": c, "low": lo, "high": hi, "n_problems": 4, "note": note} for k, c, lo, hi in curve]
    chosen = [{"n": k, "method": "majority", "accuracy": c, "low": lo, "high": hi} for k, c, lo, hi in curve]
    vote = {"method": "majority", "answer": "<b>7</b>", "confidence": 0.5, "n_samples": n}
    return {
        "load": frame(datasets.Problem, [{**key, "prompt": EVIL, "answer": "42"} for key in keys]),
        "sample": frame(datasets.Sample, samples),
        "verify": frame(datasets.Verdict, verdicts),
        "select": frame(datasets.Answer, [{**key, **vote, "is_correct": i > 1} for i, key in enumerate(keys)]),
        "coverage": frame(measures.PassAtK, covered),
        "accuracy": frame(measures.SelectionAccuracy, chosen),
        "sft": frame(datasets.Sft, [{**key, "sample_index": 0} for key in keys[1:]]),
    }


class Page(HTMLParser):
    """Checks that elements nest; collects scripts, attributes, element names and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text += " " + data


def headings(page: Page) -> int:
    return page.names.count("h2")


def said(manifest_: RunManifest, given: dict[str, pl.LazyFrame]) -> str:
    return re.sub(r"\s+", " ", Page(render(manifest_, given)).text)
