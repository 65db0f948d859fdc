"""Whether engines can show their models all of the problems' conversations, seen before anything is paid."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from cluster.engines import takes
from cluster.engines.content import TEXT, untaken
from operators.base import Operator
from operators.sample.sampling import Sampling
from pipelines.graph import Stage
from schemas.conversation import MORE, described, spoken
from schemas.datasets import Preference, Problem, Sft
from schemas.engine import EngineSpec
from schemas.errors import BadInput

CONVERSATIONS = (Problem, Sft, Preference)


def check_stages(stages: Iterable[Stage], problems: pl.DataFrame, chosen: pl.DataFrame, before: int) -> None:
    """Refuse problems whose conversations an engine of these stages can't show.

    Args:
        problems: some that the source gave, in its order.
        chosen: those of them that are to be asked.
        before: how many the source gave before these.
    """
    special = _special(problems, before).join(
        chosen.select("problem_key"), on="problem_key", how="semi", maintain_order="left"
    )
    if len(special):
        for stage in stages:
            if stage.engine is not None:
                _check(special, stage.operator, stage.engine, f"stage {stage.name}: ")


def check_problems(operator: Operator, spec: EngineSpec, problems: pl.DataFrame) -> None:
    """Refuse problems whose conversations one operator's engine can't show."""
    _check(_special(problems, 0), operator, spec, "")


def _special(problems: pl.DataFrame, before: int) -> pl.DataFrame:
    """Return the problems that have more than texts, with their ``row`` from 1."""
    columns = {"problem_key", "problem_id", "messages"} - {*problems.columns}
    if columns:
        return pl.DataFrame(schema={"problem_key": pl.String})
    turn = pl.element().struct
    more = pl.any_horizontal(turn.field(name).is_not_null() for name in MORE)
    any_more = pl.col("messages").list.eval(more).list.any().fill_null(False)
    tools = pl.col("tools").is_not_null() if "tools" in problems.columns else pl.lit(False)
    return problems.with_row_index("row", offset=before + 1).filter(any_more | tools)


def _check(special: pl.DataFrame, operator: Operator, spec: EngineSpec, where: str) -> None:
    conversations = [columns for columns in operator.inputs.values() if columns.contract in CONVERSATIONS]
    if not len(special) or not any("messages" in columns.names for columns in conversations):
        return
    taken = takes(spec) if getattr(operator, "chat", True) else TEXT
    continues = isinstance(operator, Sampling)
    for row in special.iter_rows(named=True):
        last = (row["messages"] or [{}])[-1]
        lost = untaken(spoken(row["messages"]), described(row.get("tools")), taken)
        if continues and not lost and last.get("role") == "assistant" and (last.get("tool_calls") or last.get("parts")):
            lost = "a last turn of the assistant that is more than a text: it can't be continued"
        if lost:
            raise BadInput(
                f"{where}row {row['row']} (problem '{row['problem_id']}'): engine '{getattr(spec, 'kind', spec)}' "
                f"can't take {lost}. Use an engine that can (engine.kind=openai, or an engine.chat_template that has a "
                "place for them), or leave these problems out"
            )
