"""The embedded model for real: n in = n out, seeds, stops, limits, unicode, log-probs, failures, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from cluster.engines import build_engine, resolve
from operators.engine import Completion, Engine, EngineError, Request
from schemas.engine import LlamaCppSpec, SamplingParams
from schemas.errors import BadInput

Result = TypeVar("Result")
SPEC = LlamaCppSpec(slots=4, context=256)
SHORT = SamplingParams(max_tokens=6)


def with_engine(use: Callable[[Engine], Awaitable[Result]]) -> Result:
    async def session() -> Result:
        engine = build_engine(SPEC)
        try:
            return await use(engine)
        finally:
            await engine.close()

    return asyncio.run(session())


async def one(engine: Engine, prompt: str, seed: int = 0, params: SamplingParams = SHORT) -> Completion:
    return (await engine.generate(Request(prompt, params, seed)))[0]


def test_the_chat_template_is_the_models_own() -> None:
    turns = [{"role": "user", "content": "Say ü"}]

    async def use(engine: Engine) -> tuple[str, str, int]:
        prompt = await engine.render(turns)
        return prompt, await engine.render(turns, chat=False), await engine.count_tokens(prompt)

    prompt, plain, tokens = with_engine(use)
    assert prompt.endswith("<|im_start|>user\nSay ü<|im_end|>\n<|im_start|>assistant\n")
    assert plain == "Say ü"
    assert 10 < tokens < 60


def test_samples_limits_stops_and_logprobs() -> None:
    async def use(engine: Engine) -> None:
        prompt = "One, two, three, four,"
        many = await asyncio.gather(*[one(engine, prompt, seed) for seed in range(12)])
        assert len({found.text for found in many}) > 3
        for found in many:
            assert found.completion_tokens <= 6
            assert found.sum_logprob is not None
            assert found.mean_logprob is not None
            assert found.sum_logprob < 0
        assert (await one(engine, prompt, 5)).text == (await one(engine, prompt, 5)).text
        greedy = SamplingParams(max_tokens=8, temperature=0.0)
        first, second = [await one(engine, prompt, seed, greedy) for seed in (1, 2)]
        assert first.text == second.text
        assert "five" in first.text
        assert first.finish_reason == "length"
        stopped = await one(engine, prompt, 1, SamplingParams(max_tokens=8, temperature=0.0, stop=("five",)))
        assert stopped.finish_reason == "stop_string"
        assert "five" not in stopped.text

    with_engine(use)


def test_unicode_comes_out_whole() -> None:
    async def use(engine: Engine) -> None:
        prompt = "😀 😃 😄 😁 😀 😃 😄 😁 😀 😃"
        found = await one(engine, prompt, 0, SamplingParams(max_tokens=12, temperature=0.0))
        assert "\N{REPLACEMENT CHARACTER}" not in found.text.rstrip("\N{REPLACEMENT CHARACTER}")
        assert any(ord(letter) > 0x1F000 for letter in found.text)

    with_engine(use)


def test_one_failure_or_cancellation_leaves_the_others_alone() -> None:
    async def use(engine: Engine) -> None:
        with pytest.raises(EngineError, match="context") as refused:
            await one(engine, "word " * 400)
        assert not refused.value.transient
        doomed = [asyncio.create_task(one(engine, "Tell me", 1, SamplingParams(max_tokens=200))) for _ in range(4)]
        await asyncio.sleep(0.3)
        for task in doomed:
            task.cancel()
        assert (await asyncio.wait_for(one(engine, "One, two,"), timeout=60)).completion_tokens > 0

    with_engine(use)


def test_a_model_that_cannot_be_found_is_bad_input() -> None:
    with pytest.raises(BadInput, match=r"nowhere\.gguf.*GGUF"):
        resolve(LlamaCppSpec(model="nowhere.gguf"))
    name, revision = resolve(SPEC)
    assert "SmolLM2" in name
    assert len(revision) == 32
