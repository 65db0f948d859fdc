"""``gristmill check-golds``: which answers of a source its verifier can read, before anything is sampled.

Each gold is given to the verifier as if a model had written it. One that isn't accepted, or is only compared word for
word, will call right answers wrong; a problem whose options or tests can't be read will end a run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape

from cluster.working.work import run_operator
from jobs.config.settings import build_operator
from operators.base import Operator
from operators.load import Load
from operators.load.checks import Notes
from operators.verify.golds import golds_of
from operators.verify.reading.reader import read
from operators.verify.reading.tree import Leaf, leaves
from operators.verify.reading.writing import text_key
from schemas.contract import conform
from schemas.errors import BadInput

OF_TASKS = {"code": "verify.code", "choice": "verify.choice"}
"""The verifier of a task type, where none is named; of all others verify.math."""
KINDS = {
    "read": "read by {verifier}",
    "tests": "checked by tests",
    "word for word": "compared word for word: {verifier} can't read them (verify.exact and verify.judge say so openly)",
    "unread": "NOT READ by {verifier}: every sample of these problems would be wrong, or not judged",
    "none": "without an answer",
}


_PROSE = re.compile(r"(?<![\\\w{])[^\W\d_]{3,}(?=[\s.,;:!?]|$)")
"""A word of three letters or more that isn't a command of LaTeX, nor in its braces."""
_IN_FORMULAS = {"sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "mod", "max", "min", "gcd", "lcm", "det"}


@dataclass(frozen=True)
class Gold:
    """What a verifier makes of one expected answer of one problem."""

    problem_id: str
    row: int
    gold: str | None
    kind: str
    detail: str | None = None


def check_golds(load: Load, verifier: str | None) -> tuple[list[Gold], tuple[str, ...]]:
    """Return what becomes of each gold of a source, and what the source has to tell.

    Args:
        verifier: judges all problems; None for one by each problem's task type.

    Raises:
        BadInput: the source can't be read, or the verifier isn't one that compares with golds.
    """
    notes = Notes()
    problems = load.read(notes).with_row_index("row", offset=1)
    found: list[Gold] = []
    tasks = [_task(*row) for row in problems.select("task_type", "verification").iter_rows()]
    for kind, part in problems.group_by(pl.Series("kind", tasks), maintain_order=True):
        name = verifier or OF_TASKS.get(str(kind[0]), "verify.math")
        found += _check(build_operator({"operator": name}, "check-golds"), part)
    return sorted(found, key=lambda gold: gold.row), notes.sentences()


def _task(task_type: str, verification: str | None) -> str:
    """Return what kind of problem one is: what says how it is checked says so, whatever it is called."""
    told = json.loads(verification or "{}")
    return next((task for task, field in (("code", "code"), ("choice", "choices")) if told.get(field)), task_type)


def _check(verifier: Operator, problems: pl.DataFrame) -> Iterator[Gold]:
    if "samples" not in verifier.inputs or "engine" in verifier.tools:
        raise BadInput(f"check-golds: {verifier.public_name()} doesn't compare samples with golds by itself")
    if "sandbox" in verifier.tools:  # programs: there is no answer to give, but there are tests to read
        yield from _readable(verifier, problems, "tests")
        return
    asked: list[dict[str, Any]] = []
    wrong = [gold for gold in _readable(verifier, problems, "read") if gold.kind == "unread"]
    yield from wrong
    unread = {gold.row for gold in wrong}
    for problem in problems.iter_rows(named=True):
        golds = golds_of(problem).texts()
        if problem["row"] not in unread:
            yield from [] if golds else [Gold(problem["problem_id"], problem["row"], None, "none")]
            asked += [{**problem, "gold": gold, "number": number} for number, gold in enumerate(golds)]
    if asked:
        yield from _judged(verifier, pl.DataFrame(asked, infer_schema_length=None))


def _readable(verifier: Operator, problems: pl.DataFrame, kind: str) -> Iterator[Gold]:
    """Yield of each problem whether the verifier takes it at all."""
    for place in range(len(problems)):
        problem = problems.slice(place, 1)
        about = problem.row(0, named=True)
        try:
            verifier.check_problems(problem.drop("row"))
        except BadInput as error:
            yield Gold(about["problem_id"], about["row"], about["answer"], "unread", str(error))
        else:
            yield Gold(about["problem_id"], about["row"], about["answer"], kind)


def _judged(verifier: Operator, asked: pl.DataFrame) -> Iterator[Gold]:
    """Yield what the verifier says of golds that are given as answers."""
    name = verifier.public_name()
    keys = pl.format("{}/{}", "row", "number")
    alone = asked.with_columns(problem_key=keys, answer="gold", verification=_without_answers(asked["verification"]))
    samples = alone.select(
        "problem_key",
        "problem_id",
        sample_index=pl.lit(0),
        completion=pl.col("gold")
        if name in ("verify.exact", "verify.procedure")
        else pl.lit("\\boxed{") + pl.col("gold") + "}",
        status=pl.lit("ok"),
    )
    tables = {"samples": samples, "problems": alone}
    inputs = {key: conform(tables[key], wanted, name) for key, wanted in verifier.inputs.items()}
    verdicts = run_operator(verifier, name, inputs, False)
    for row in (
        asked.with_columns(problem_key=keys).join(verdicts.drop("problem_id"), on="problem_key").iter_rows(named=True)
    ):
        about = (row["problem_id"], row["row"], row["gold"])
        if not row["is_correct"]:
            yield Gold(*about, "unread", row["detail"] or f"it isn't equal to itself (status {row['status']})")
        elif name == "verify.math" and _only_text(row["gold"], row["answer_key"]):
            yield Gold(*about, "word for word")
        else:
            yield Gold(*about, "read")


def _without_answers(verification: pl.Series) -> pl.Series:
    texts: list[str | None] = []
    for text in verification:
        about = json.loads(text or "{}")
        about.pop("answers", None)
        texts.append(json.dumps(about) if about else None)
    return pl.Series("verification", texts, dtype=pl.String)


def _only_text(gold: str, key: str | None) -> bool:
    """Whether an answer is prose, or was compared as text and is several words: nobody says just that."""
    said = {text_key(gold), " ".join(gold.casefold().split())}
    reading = read(gold)
    alone = isinstance(reading, Leaf) and reading.kind in ("words", "text")
    if len(_PROSE.findall(gold)) > 3 or "####" in gold or (alone and key in said and len(gold.split()) > 2):
        return True
    return any(
        (leaf.kind == "text" and len(leaf.text.split()) > 2)
        or (leaf.kind == "formula" and bool({*_PROSE.findall(leaf.text.casefold())} - _IN_FORMULAS))
        for leaf in leaves(reading)
    )


def print_golds(console: Console, golds: list[Gold], notes: tuple[str, ...], verifier: str | None, most: int) -> None:
    """Print how many golds are read, and the first of those that aren't."""
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)
    name = verifier or "its verifier"
    for kind, words in KINDS.items():
        these = [gold for gold in golds if gold.kind == kind]
        if not these:
            continue
        console.print(f"{len(these):,} {words.format(verifier=name)}", soft_wrap=True, highlight=False)
        if kind in ("unread", "word for word"):
            for gold in these[:most]:
                why = f": {gold.detail}" if gold.detail else ""
                text = escape(repr((gold.gold or "")[:100]))
                console.print(
                    f"  row {gold.row} ({escape(gold.problem_id)}) {text}{escape(why)}", soft_wrap=True, highlight=False
                )
            if len(these) > most:
                console.print(f"  ... and {len(these) - most:,} more (--most {len(these)} shows all)", highlight=False)


def document(golds: list[Gold], notes: tuple[str, ...], most: int) -> dict[str, Any]:
    """Return the same for machines."""
    counts = {kind: sum(gold.kind == kind for gold in golds) for kind in KINDS}
    shown = [gold for gold in golds if gold.kind in ("unread", "word for word")][:most]
    rows = [
        {"problem_id": g.problem_id, "row": g.row, "gold": g.gold, "kind": g.kind, "detail": g.detail} for g in shown
    ]
    return {"golds": counts, "notes": list(notes), "rows": rows}
