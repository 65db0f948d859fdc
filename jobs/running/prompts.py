"""What a plan says of prompts: the first one as the model reads it, and which are too long for their engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cluster.engines import build_engine
from cluster.planning.plan import RunPlan
from operators.engine import Engine
from operators.sample.lengths import TooLong, is_too_long, told
from operators.sample.sampling import Sampling
from schemas.engine import EngineSpec
from schemas.errors import BadInput

TEMPLATE_BYTES = 2048
"""What a chat template may put around a prompt."""


async def look_at_prompts(plan: RunPlan, sure: bool) -> tuple[RunPlan, dict[str, str]]:
    """Return the plan with what is to be told of prompts that are too long, and each sampling stage's first prompt.

    Args:
        sure: start every engine and ask it; else only one whose context some prompt might fill.

    Raises:
        BadInput: prompts are too long, and aren't to be skipped.
    """
    notes: list[str] = []
    first: dict[str, str] = {}
    for name, planned in plan.stages.items():
        operator, spec = planned.stage.operator, planned.stage.engine
        if not isinstance(operator, Sampling) or spec is None:
            continue
        if not sure and (planned.held >= planned.planned or not _may_be_full(plan, operator, spec)):
            continue
        engine = await asyncio.to_thread(build_engine, spec)
        try:
            problem = next(plan.problems.tables(plan.root)).row(0, named=True)
            first[name] = await _whole(problem, operator, engine)
            lengths = [] if planned.held >= planned.planned else await _lengths(plan, operator, engine, name)
        finally:
            await engine.close()
        notes += lengths
    return replace(plan, notes=(*plan.notes, *notes)), first


async def _whole(problem: Mapping[str, Any], operator: Sampling, engine: Engine) -> str:
    """Return all that the model reads of a problem: the prompt, and where its answer is begun already."""
    return await operator.prompt(problem, engine) + operator.lead(problem)


async def _lengths(plan: RunPlan, operator: Sampling, engine: Engine, name: str) -> list[str]:
    found: list[TooLong] = []
    for table in plan.problems.tables(plan.root):
        for problem in table.iter_rows(named=True):
            prompt = await _whole(problem, operator, engine)
            if (too_long := await is_too_long(operator, engine, problem, prompt)) is not None:
                found.append(too_long)
    if not found:
        return []
    sentence = told(found, operator, engine.info.context, name)
    if operator.too_long == "refuse":
        raise BadInput(sentence)
    return [sentence]


def _may_be_full(plan: RunPlan, operator: Sampling, spec: EngineSpec) -> bool:
    """Whether the longest prompt, with what surrounds it, might fill an engine's context."""
    context: int | None = getattr(spec, "context", None)
    if context is None:
        return False
    around = [operator.system or "", operator.template, *(e.prompt + e.completion for e in operator.few_shot)]
    whole = plan.problems.longest + sum(len(text.encode()) for text in around) + TEMPLATE_BYTES
    return whole > context - operator.max_tokens
