"""The embedded model for real: what the conformance suite doesn't ask of every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic import ValidationError

from cluster.engines import build_engine, resolve
from operators.engine import Completion, Engine, EngineError, Request, ScoreRequest
from schemas.engine import LlamaCppSpec, SamplingParams
from schemas.errors import BadInput

Result = TypeVar("Result")
SPEC = LlamaCppSpec(slots=4, context=256)
SHORT = SamplingParams(max_tokens=6)


def with_engine(use: Callable[[Engine], Awaitable[Result]], spec: LlamaCppSpec = SPEC) -> Result:
    async def session() -> Result:
        engine = build_engine(spec)
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
        assert (await asyncio.wait_for(one(engine, "One, two,"), timeout=600)).completion_tokens > 0

    with_engine(use)


def test_a_model_that_cannot_be_found_is_bad_input() -> None:
    with pytest.raises(BadInput, match=r"nowhere\.gguf.*GGUF"):
        resolve(LlamaCppSpec(model="nowhere.gguf"))
    name, revision = resolve(SPEC)
    assert "SmolLM2" in name
    assert len(revision) == 32


LONG = " ".join(f"Item {number} costs {number} dollars." for number in range(12)) + " Together:"


def test_a_prompt_is_computed_once_for_all_slots() -> None:
    async def use(engine: Engine) -> None:
        found = await engine.generate(Request(LONG, SamplingParams(max_tokens=2), 1, 8))
        assert found[0].prompt_tokens > 60
        assert all(completion.prompt_tokens - completion.cached_prompt_tokens <= 1 for completion in found)
        # two at a time, in turn: nobody gets what another one's prompt left behind
        prompts = [LONG, f"Again. {LONG}", "One, two, three, four,", "red, red, red, red,"] * 3
        greedy = SamplingParams(max_tokens=3, temperature=0.0)
        together = await asyncio.gather(*[one(engine, prompt, 1, greedy) for prompt in prompts])
        assert all("five" in answer.text for answer in together[2::4])
        assert all("red" in answer.text for answer in together[3::4])

    with_engine(use)


def test_the_copy_of_a_prompt_is_left_to_the_others_by_one_that_is_cancelled() -> None:
    async def use(engine: Engine) -> None:
        for wait in (0.0, 0.05, 0.3):
            prompt = f"{wait}: {LONG}"
            tasks = [asyncio.create_task(one(engine, prompt, seed)) for seed in range(7)]
            await asyncio.sleep(wait)
            for task in tasks[:3]:
                task.cancel()
            found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 600)
            assert all(isinstance(answer, Completion) for answer in found[3:])

    with_engine(use)


def test_every_token_of_a_text_has_its_likelihood_also_inside_characters() -> None:
    async def use(engine: Engine) -> None:
        prompt, text = "The four seasons are", " spring 😀 שלום e\u0301 and fall"
        whole = await engine.score(ScoreRequest(prompt, text, "likelihood"))
        assert len(whole.steps) == await engine.count_tokens(prompt + text) - await engine.count_tokens(prompt)
        assert whole.score == pytest.approx(sum(whole.steps))
        assert all(-40 < step <= 0 for step in whole.steps)
        assert (await engine.score(ScoreRequest(prompt, "", "likelihood"))).steps == ()
        with pytest.raises(EngineError, match=r"has 40[0-9] tokens, the context 256"):
            await engine.score(ScoreRequest(prompt, " word" * 400, "likelihood"))
        with pytest.raises(EngineError, match="empty prompt"):
            await engine.score(ScoreRequest("", "text", "likelihood"))
        with pytest.raises(BadInput, match="score"):
            await engine.score(ScoreRequest(prompt, text, "reward"))

    with_engine(use)


@pytest.mark.parametrize("schema", [{"type": "array", "uniqueItems": True}, {"type": "nonsense"}, {"not": {}}])
def test_a_guide_that_llama_cpp_would_ignore_is_refused(schema: dict[str, object]) -> None:
    async def use(engine: Engine) -> None:
        with pytest.raises(BadInput, match="can't guide by this JSON schema"):
            await one(engine, "Name:", 1, SamplingParams(max_tokens=4, json_schema=schema))
        with pytest.raises(BadInput, match="regex"):
            await one(engine, "Name:", 1, SamplingParams(max_tokens=4, regex="a"))

    with_engine(use)


def test_a_chat_template_may_be_given_as_text_or_file(tmp_path: Path) -> None:
    template = "{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}\n{% endfor %}[assistant]"
    file = tmp_path / "chat.jinja"
    file.write_text(template)
    spec = SPEC.model_copy(update={"chat_template": template})
    assert LlamaCppSpec(chat_template=str(file)).chat_template == template

    async def use(engine: Engine) -> str:
        return await engine.render([{"role": "user", "content": "Say ü"}])

    assert with_engine(use, spec) == "[user] Say ü\n[assistant]"
    with pytest.raises(ValidationError, match="neither a Jinja template nor a file"):
        LlamaCppSpec(chat_template="nowhere.jinja")
    with pytest.raises(BadInput, match=r"engine\.chat_template"):
        build_engine(SPEC.model_copy(update={"chat_template": "{% for"}))
