"""``gristmill holdout``: does what was tuned hold on held-out problems? The questions are counted in the root.

Every data set and share (``load.source``, ``load.split``, ``load.holdout``) has a folder ``holdout/NAME`` with the
terms that were set with the first question, and a file for each question in the order in which they were asked. Files
are created, never changed: of several who ask at once one is first, and the others ask again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from cluster.records.reader import last_stage, open_stage
from cluster.storage.root import Root
from jobs.config.settings import build_operator
from operators.measure.holdout import MeasureHoldout
from schemas.contract import polars_schema
from schemas.errors import BadInput
from schemas.identity import digest
from schemas.manifest import RunManifest
from schemas.measures import HoldoutAnswer

FOLDER = "holdout"
TERMS = ("tolerance", "budget", "questions", "risk")
"""What is set once for all questions."""


def held_share(config: Mapping[str, Any]) -> float:
    """Return the share of problems that a run's configuration holds out."""
    load = config.get("load")
    return float(load.get("holdout") or 0.0) if isinstance(load, Mapping) else 0.0


def holdout(root: Root, run: RunManifest, method: str, baseline: str, terms: Mapping[str, Any]) -> dict[str, Any]:
    """Ask about each method whose name ``method`` matches, and return all questions of this data set so far.

    Args:
        method: a regular expression; "" asks nothing.
        terms: what the first question sets; the others may leave it out.

    Raises:
        BadInput: nothing is held out, there is nothing to ask about, or other terms than the first question's.
    """
    share = held_share(run.config)
    if not share or run.config["load"].get("part") == "tuning":
        raise BadInput(
            f"run {run.run_id} holds no problems out, or left them out; sample with load.holdout=0.2, and tune on the "
            "others (simulate and bench-engine leave held-out problems out)"
        )
    place = digest([run.config["load"].get("source"), run.config["load"].get("split"), share])[:16]
    if method:
        asks = {"operator": "measure.holdout", "holdout": share, "methods": method, "baseline": baseline}
        given = {name: value for name, value in terms.items() if value is not None}
        build_operator({**asks, **given}, "holdout")  # what can't be asked sets no terms
        operator = build_operator({**asks, **_fixed(root, place, given)}, "holdout")
        tables = _tables(root, run, bool(baseline))
        while True:
            asked = _asked(root, place)
            found = operator.run(**tables, asked=asked.lazy()).filter(pl.col("note") != "asked before")
            if all(_created(root, row, place, f"{row['number']:06}.json") for row in found.iter_rows(named=True)):
                break
    return {"run": run.run_id, "share": share, "log": root.uri(FOLDER, place), "asked": _asked(root, place).to_dicts()}


def _tables(root: Root, run: RunManifest, compared: bool) -> dict[str, pl.LazyFrame]:
    """Return the run's answers and verdicts; only answers where methods are compared."""
    names = {"answers": last_stage(run, "answers"), "verdicts": None if compared else last_stage(run, "verdicts")}
    return {
        name: open_stage(root, run, stage).select(MeasureHoldout.inputs[name].names)
        for name, stage in names.items()
        if stage is not None
    }


def _fixed(root: Root, place: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the terms of the first question."""
    first = {name: said.get(name, MeasureHoldout.model_fields[name].default) for name in TERMS}
    _created(root, first, place, "terms.json")
    fixed: dict[str, Any] = root.read_json(FOLDER, place, "terms.json")
    other = [f"{name} = {fixed[name]}" for name, value in said.items() if fixed[name] != value]
    if other:
        raise BadInput(f"the first question set {', '.join(other)} for all; a budget can't be changed afterwards")
    return fixed


def _created(root: Root, document: Mapping[str, Any], place: str, name: str) -> bool:
    return root.create(json.dumps(document).encode(), FOLDER, place, name)


def _asked(root: Root, place: str) -> pl.DataFrame:
    names = [name for name in root.list(FOLDER, place) if name != "terms.json" and name.endswith(".json")]
    rows = [root.read_json(FOLDER, place, name) for name in names]
    return pl.DataFrame(rows, schema=polars_schema(HoldoutAnswer)).sort("number")


def print_holdout(console: Console, document: Mapping[str, Any]) -> None:
    """Print it for people."""
    rows = document["asked"]
    if not rows:
        console.print("Nothing was asked yet: name a method, gristmill holdout RUN --method majority")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "asked", "tuned on", "answer", "", "left", "within"):
        table.add_column(heading, justify="left" if heading in ("asked", "") else "right")
    for row in rows:
        answer = "" if row["answer"] is None else f"{row['answer']:.3f}"
        numbers = (f"{row['tuning']:.3f}", answer, row["status"], str(row["left"]), f"{row['bound']:.3f}")
        table.add_row(str(row["number"]), row["name"], *numbers)
    console.print(table)
    last = rows[-1]
    console.print(
        f"{last['n_holdout']:,} problems held out, {last['n_tuning']:,} to tune on; {last['left']} more answers may "
        "differ",
        highlight=False,
    )
