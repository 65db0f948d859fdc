"""What each operator is asked, and how it is asked. An operator with no entry is asked once, with its default settings.

Inputs are the tables in ``inputs/``, small and fixed; each holds rows of one contract.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from operators import operator_class
from operators.base import Operator
from schemas.contract import Columns, conform, polars_schema
from tests.drift.tools import TOOLS, Parrot

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One question to an operator.

    Attributes:
        settings: its fields that aren't the defaults.
        problems: keys of the problems that it is about; all where there are none.
        tables: input -> the table for it, where that isn't the one of its contract; None: not connected.
    """

    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    problems: tuple[str, ...] = ()
    tables: dict[str, str | None] = field(default_factory=dict[str, str | None])


TABLES = {
    "Problem": "problems",
    "Sample": "samples",
    "Verdict": "verdicts",
    "Score": "scores",
    "Path": "paths",
    "Answer": "answers",
    "Sft": "sft",
    "Counts": "counts",
    "Routing": "routing",
    "Label": "labels",
    "Episode": "episodes",
    "Bet": "bets",
}
"""Name of a contract -> the table with rows of it."""
EXACT, CHOICE = {"operator": "verify.exact"}, {"operator": "verify.choice"}
NUMBERS = ("add", "roots", "sixth")
ALONE: dict[str, str | None] = {"evidence": None, "evidence_samples": None}
UNRULED: dict[str, str | None] = {"allocations": None, "before": None}
"""Nobody said by what rule problems were sampled."""
PLAYED: dict[str, str | None] = {"samples": "played", "verdicts": "played_verdicts"}
"""Rows of episodes."""
FORECAST = {"k": [1, 4, 16, 64], "draws": 200, "bootstrap": 20}

CASES: dict[str, tuple[Case, ...]] = {
    "load": (Case({"source": str(HERE / "inputs" / "source.jsonl")}),),
    "sample": (
        Case({"n": 2}, NUMBERS),
        Case({"n": 1, "system": "Be brief.", "template": "Q: {prompt}", "chat": False, "seed": 7}, NUMBERS),
    ),
    "verify.math": (Case({}, NUMBERS),),
    "verify.exact": (Case({}, (*NUMBERS, "capital")), Case({"extract": ["whole"], "ignore_case": False}, ("capital",))),
    "verify.code": (Case({}, ("code",)),),
    "verify.command": (Case({"command": ["check", "{file}"]}, ("add", "code")),),
    "verify.choice": (Case({}, ("fruit",)),),
    "verify.procedure": (Case({}, ("tea",)),),
    "verify.judge": (Case({}, NUMBERS), Case({"votes": 4, "swap": False}, ("code", "fruit"))),
    "verify.rest": (Case({}, ("pair",)), Case({"verifier": EXACT}, ("pair",))),
    "verify.by_task": (Case({"verifiers": {"text": EXACT, "choice": CHOICE}}, ("capital", "fruit")),),
    "verify.all_of": (Case({"verifiers": [EXACT, CHOICE]}, ("fruit",)),),
    "verify.any_of": (Case({"verifiers": [EXACT, CHOICE]}, ("fruit",)),),
    "verify.cascade": (Case({"verifiers": [EXACT, CHOICE]}, ("fruit",)),),
    "verify.function": (Case({"function": "tests.drift.tools:share_of_letters"}, (*NUMBERS, "capital")),),
    "verify.reasoning_gym": (Case({}, ("gym",)),),
    "select.several": (Case({"methods": [{"operator": "select.majority"}, {"operator": "select.best_of_n"}]}),),
    "select.weighted": (Case(), Case(tables={"scores": None})),
    "select.mbr": (Case(tables=ALONE), Case({"utility": "f1", "text": "completion"}, tables=ALONE)),
    "prune.confidence": (Case(), Case({"by": "tail"})),
    "score.judge": (Case({}, NUMBERS), Case({"checklist": ["Is it short?", "Is it right?"]}, NUMBERS)),
    "score.search": (Case(tables=PLAYED),),
    "score.steps": (Case({}, NUMBERS), Case({"by": {"name": "prm"}, "most": 2}, NUMBERS)),
    "select.episode": (Case(tables=PLAYED), Case({"by": "best", "scorer": "score.process"}, tables=PLAYED)),
    "collect.episodes": (Case(tables=PLAYED),),
    "synthesize.approaches": (Case({"asked": 3, "held_out": 2, "examples": 1, "personas": 1}),),
    "collect.bets": (Case({"experiment": "plain"}, tables={"samples": "debated"}),),
    "measure.bets": (Case({"bootstrap": 100}),),
    "measure.conflict": (Case({"bootstrap": 100, "by": "known"}, tables={"episodes": "clashes"}),),
    "measure.episodes": (Case(tables=PLAYED),),
    "measure.equal_bill": (
        Case({"bootstrap": 100}, tables={"episodes_search": "episodes", "verdicts_search": "played_verdicts"}),
    ),
    "measure.plain_curve": (Case({"bootstrap": 100}),),
    "measure.pass_at_k": (
        Case({"k": [1, 2, 4]}, tables={"counts": None, **UNRULED}),
        Case({"k": [1, 8]}, tables={"verdicts": None, **UNRULED}),
        Case({"k": [1, 2], "stopped": True}, tables={"counts": None, **UNRULED}),
    ),
    "measure.forecast": (Case(FORECAST, tables={"verdicts": None, **UNRULED}),),
    "measure.verifier_audit": (
        Case(tables={"reference": "reference", "labels": None}),
        Case(tables={"reference": None}),
    ),
    "measure.next_labels": (Case({"next": 5}), Case({"next": 5, "goal": "precision"}, tables={"scores": None})),
    "measure.estimate": (Case({"by": ["length", "task_type"]}, tables={"cheap": "reference", "verdicts": None}),),
    "measure.reliability": (
        Case({"k": [1, 2]}, tables={"counts": None, **UNRULED}),
        Case({"k": [1, 8]}, tables={"verdicts": None, **UNRULED}),
    ),
    "measure.bounds": (Case(), Case({"each": True}, tables={"samples": None})),
    "measure.paired": (Case({"bootstrap": 200}, tables={"second": "reference"}),),
    "measure.stress": (Case(tables={"verdicts": "rest_verdicts", "samples": None}),),
    "measure.by_steps": (Case({}, ("tea",)),),
    "measure.holdout": (Case({"holdout": 0.5, "budget": 1}), Case({"holdout": 0.5, "baseline": "majority"})),
    "measure.pairs": (Case({"bootstrap": 100}, tables={"pairs": "pairs", "second": "second"}),),
    "measure.mcq_confidence": (Case({"bootstrap": 100}, tables={"reasoned": "reference"}),),
    "score.letters": (Case({}, ("fruit",)),),
    "synthesize.pairs": (Case({}, NUMBERS),),
    "synthesize.rest": (Case({"levels": [1, 2]}, (*NUMBERS, "capital")),),
    "synthesize.sft": (Case(), Case(tables={"paths": None})),
    "synthesize.siblings": (Case(tables=PLAYED), Case({"per_episode": 2}, tables={**PLAYED, "verdicts": None})),
    "synthesize.tree_rewards": (Case(tables=PLAYED), Case({"shared": False, "threshold": 1.0}, tables=PLAYED)),
    "train.navigator": (Case({"updates": 2}, tables={"samples": "navigated"}),),
    "synthesize.choose": (Case(), Case({"prefer": "score"}), Case({"prefer": "diverse"}), Case(tables=PLAYED)),
    "synthesize.deduplicate": (Case(), Case({"threshold": 0.5, "ngram": 1})),
    "synthesize.decontaminate": (Case({"benchmarks": [f"{HERE}/inputs/source.jsonl"], "ngram": 3}),),
    "synthesize.mix": (Case({"rows": {"math": 2, "*": 1}}), Case({"shares": {"math": 0.5, "choice": 0.5}})),
    "synthesize.concise": (Case(), Case({"method": "stop"})),
    "synthesize.counterfactual": (Case({}, ("fruit",)),),
    "synthesize.thought_pairs": (Case(tables={"sft": "counterfactuals"}),),
    "synthesize.roll_outs": (Case(), Case({"per_problem": 1, "rule": "line"})),
    "synthesize.roll_out_rewards": (
        Case(tables={"problems": "roll_outs", "verdicts": "roll_out_verdicts"}),
        Case({"estimate": "soft"}, tables={"problems": "roll_outs", "verdicts": "roll_out_verdicts"}),
    ),
}


def cases(name: str) -> tuple[Case, ...]:
    """Return what an operator is asked."""
    return CASES.get(name, (Case(),))


@cache
def table(name: str) -> pl.DataFrame:
    return pl.read_ndjson(HERE / "inputs" / f"{name}.jsonl", infer_schema_length=None)


def answer(name: str, case: Case) -> pl.DataFrame:
    """Return what an operator says to a case, without the columns that tell how long it took."""
    operator = operator_class(name)(**case.settings)
    tools = {tool: TOOLS[tool]() for tool in operator.tools}
    if hasattr(operator, "draw"):
        made = asyncio.run(_drawn(operator, _input(case, operator.inputs["problems"], "problems", False)))
    else:
        inputs = {
            name: _input(case, columns, name, name in operator.optional) for name, columns in operator.inputs.items()
        }
        lazy = operator.scope == "dataset"
        ready = {name: found.lazy() if lazy and found is not None else found for name, found in inputs.items()}
        made = operator.run(**ready, **tools)
    return made.select([column for column in polars_schema(operator.output) if column != "seconds"])


def _input(case: Case, columns: Columns, name: str, optional: bool) -> pl.DataFrame | None:
    source = case.tables.get(name, TABLES.get(columns.contract.__name__))
    if source is None:  # a case says so, or it is an optional input of a contract that no table here has
        assert name in case.tables or optional, f"no table has rows of {columns.contract.__name__}: add one to inputs/"
        return None
    found = conform(table(source), columns, source)
    if case.problems and "problem_key" in found.columns:
        found = found.filter(pl.col("problem_key").is_in(case.problems))
    return found


async def _drawn(operator: Operator, problems: pl.DataFrame | None) -> pl.DataFrame:
    """Draw samples, as a pipeline's worker does."""
    assert problems is not None
    engine, sampling = Parrot(), operator
    rows: list[dict[str, Any]] = []
    for problem in problems.iter_rows(named=True):
        prompt = await sampling.prompt(problem, engine)
        rows += [await sampling.draw(problem, prompt, index, engine, "run") for index in range(sampling.n)]
    return pl.DataFrame(rows, schema=polars_schema(operator.output))
