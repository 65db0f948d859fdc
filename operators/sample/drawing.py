"""Drawing samples: one request, or one episode of a strategy, and the rows that come of it.

``operators.sample.sampling`` says what is drawn; this is how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from operators.confidence import WINDOW
from operators.engine import Completion, Engine, EngineError, Request
from operators.sample.episodes import play as play_episode
from operators.sample.rows import sample_row
from operators.strategies.calls import Journal, MemoryJournal
from operators.strategies.setting import Setting
from operators.strategies.words import POLICY
from operators.thinking import opens_thought
from schemas.identity import sample_seed
from schemas.later import asyncio, pl

if TYPE_CHECKING:
    from operators.sample.sampling import Sampling


async def draw(
    sampling: Sampling,
    problem: Mapping[str, Any],
    prompt: str,
    sample_index: int,
    engine: Engine,
    run_id: str,
    begun: Mapping[str, Any] | None,
    cut_below: float | None,
) -> dict[str, Any]:
    """Draw one sample and return its row; see ``Sampling.draw``."""
    key = problem["problem_key"]
    seed = sample_seed(sampling.seed, key, sample_index)
    params, name = sampling.params, f"{key}/{sample_index}"
    led = opens_thought(prompt + sampling.lead(problem))
    if begun is not None:
        params = params.model_copy(update={"max_tokens": sampling.max_tokens - begun["completion_tokens"]})
        # another seed, or an engine that seeds each request alone would repeat the draws of the beginning
        seed = sample_seed(seed, f"{key}+{begun['completion_tokens']}", sample_index)
    prefix = sampling.lead(problem) + ("" if begun is None else begun["completion"])
    window = WINDOW if sampling.cut is None else sampling.cut.window
    request = Request(prompt, params, seed, 1, name, problem["problem_id"], prefix, window, cut_below)
    try:
        [completion] = await engine.generate(request)
    except EngineError as error:
        if error.transient:
            raise
        failed = Completion("", "error", *error.used)
        return sample_row(problem, sample_index, seed, run_id, failed, led, str(error))
    whole = completion if begun is None else _joined(begun, completion)
    return sample_row(problem, sample_index, seed, run_id, whole, led)


async def play(
    sampling: Sampling,
    problem: Mapping[str, Any],
    prompt: str,
    index: int,
    engines: Mapping[str, Engine],
    journal: Journal,
    run_id: str,
    tools: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """Play one episode of the strategy and return its rows; see ``Sampling.play``."""
    assert sampling.strategy is not None
    seed = sample_seed(sampling.seed, problem["problem_key"], index)
    lead = sampling.lead(problem)
    about = (problem, index, seed, prompt, lead, sampling.params)
    turns = tuple(sampling.asked(problem))
    setting = Setting(*about, engines, journal, sampling.chat, tools or {}, turns)
    return await play_episode(sampling.strategy, setting, run_id)


async def draw_all(
    sampling: Sampling, problems: pl.DataFrame, engine: Engine, tools: Mapping[str, Any]
) -> pl.DataFrame:
    """Return ``n`` samples of each problem, drawn in this process."""
    slots = asyncio.Semaphore(engine.capacity)

    async def one(problem: dict[str, Any], prompt: str, index: int, cut_below: float | None) -> dict[str, Any]:
        async with slots:
            return await draw(sampling, problem, prompt, index, engine, "op", None, cut_below)

    async def episode(problem: dict[str, Any], prompt: str, index: int) -> list[dict[str, Any]]:
        async with slots:
            return await play(sampling, problem, prompt, index, {POLICY: engine}, MemoryJournal(), "op", tools)

    async def all_of(problem: dict[str, Any]) -> list[dict[str, Any]]:
        prompt, threshold = await sampling.prompt(problem, engine), None
        if sampling.strategy is not None:
            draws = sampling.per_problem // sampling.rows
            played = await asyncio.gather(*[episode(problem, prompt, index) for index in range(draws)])
            return [row for rows in played for row in rows]
        first = min(sampling.n, sampling.cut.warm_up) if sampling.cut is not None else 0
        rows = await asyncio.gather(*[one(problem, prompt, index, None) for index in range(first)])
        if sampling.cut is not None:
            threshold = sampling.cut.threshold(row["lowest_group_confidence"] for row in rows)
        rest = [one(problem, prompt, index, threshold) for index in range(first, sampling.n)]
        return [*rows, *await asyncio.gather(*rest)]

    found = await asyncio.gather(*[all_of(problem) for problem in problems.iter_rows(named=True)])
    return sampling.table([row for rows in found for row in rows])


def _joined(begun: Mapping[str, Any], rest: Completion) -> Completion:
    """Return a truncated sample and its continuation as one completion; confidences as far as the parts tell them."""
    tokens = begun["completion_tokens"] + rest.completion_tokens
    before: float | None = begun["sum_logprob"]
    total = before + rest.sum_logprob if before is not None and rest.sum_logprob is not None else None
    groups = [c for c in (begun["lowest_group_confidence"], rest.lowest_group_confidence) if c is not None]
    return replace(
        rest,
        text=begun["completion"] + rest.text,
        prompt_tokens=begun["prompt_tokens"],
        completion_tokens=tokens,
        sum_logprob=total,
        mean_logprob=None if total is None else total / max(1, tokens),
        lowest_group_confidence=min(groups) if groups else None,
        bottom_group_confidence=None,
        mean_confidence=None,
    )
