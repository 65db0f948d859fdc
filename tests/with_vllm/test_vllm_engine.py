"""vLLM for real, on a CPU: what it says of its samples, guided decoding, adapters, reasoning, rewards, its end."""

from __future__ import annotations

import asyncio
import json
import re

import numpy as np
import pytest

from cluster.engines import build_engine, resolve
from operators.confidence import confidences, of_tokens
from operators.engine import Completion, Engine, EngineDied, EngineError, Request, ScoreRequest
from schemas.engine import LlamaCppSpec, SamplingParams, TransformersSpec, VllmSpec
from schemas.errors import BadInput, EngineFailed
from tests import engines
from tests.engines import Running
from tests.with_vllm import reference
from tests.with_vllm.conftest import running
from tests.with_vllm.models import ADAPTER, CLASSIFIER, MIXTURE, PROCESS, SMOLLM2
from tests.with_vllm.vllm_cpu import engine_cores, on_cpu

pytestmark = pytest.mark.vllm

PROMPT = "The four seasons of the year are"
SHORT = SamplingParams(max_tokens=24)


async def draw(running: Running, count: int, params: SamplingParams = SHORT, prompt: str = PROMPT) -> list[Completion]:
    asked = [running.engine.generate(Request(prompt, params, seed, request_id=f"p/{seed}")) for seed in range(count)]
    return [found for [found] in await asyncio.gather(*asked)]


def differences(prompt: str, samples: list[Completion]) -> list[float]:
    """Return |difference| in nats per token from the reference, of the samples whose tokens their text tells."""
    found: list[float] = []
    ids = reference.token_ids(prompt)
    for sample in samples:
        tokens = reference.token_ids(sample.text) + ([reference.end_token()] if sample.finish_reason == "stop" else [])
        if len(tokens) == sample.completion_tokens and sample.sum_logprob is not None:
            expected = float(reference.logprobs(ids, tokens).sum())
            found.append(abs(expected - sample.sum_logprob) / len(tokens))
    return found


def test_log_probs_are_those_of_a_direct_evaluation(smollm2: Running) -> None:
    found = differences(PROMPT, smollm2.do(draw(smollm2, 32)))
    print(f"vllm: {np.mean(found):.5f} nats per token, {len(found)} samples")
    assert len(found) >= 16
    assert np.mean(found) < 0.02


def test_llama_cpp_agrees_with_the_same_weights() -> None:
    async def session() -> list[Completion]:
        engine = build_engine(LlamaCppSpec(slots=4, context=256))
        try:
            asked = [engine.generate(Request(PROMPT, SHORT, seed)) for seed in range(32)]
            return [found for [found] in await asyncio.gather(*asked)]
        finally:
            await engine.close()

    found = differences(PROMPT, asyncio.run(session()))
    print(f"llama.cpp: {np.mean(found):.5f} nats per token, {len(found)} samples")
    assert len(found) >= 16
    assert np.mean(found) < 0.02


def test_confidence_is_made_of_the_twenty_likeliest_tokens(smollm2: Running) -> None:
    ids = reference.token_ids(PROMPT)
    compared = 0
    for sample in smollm2.do(draw(smollm2, 6)):
        tokens = reference.token_ids(sample.text) + ([reference.end_token()] if sample.finish_reason == "stop" else [])
        if len(tokens) != sample.completion_tokens:
            continue
        compared += 1
        top = np.sort(reference.distributions(ids, tokens), axis=1)[:, -20:]
        lowest, bottom, tail, mean = confidences(of_tokens(top))
        assert sample.lowest_group_confidence == pytest.approx(lowest, abs=0.02)
        assert sample.tail_confidence == pytest.approx(tail, abs=0.02)
        assert sample.bottom_group_confidence == pytest.approx(bottom, abs=0.02)
        assert sample.mean_confidence == pytest.approx(mean, abs=0.02)
    assert compared >= 2


def test_likelihood_is_the_sum_of_the_same_log_probs(smollm2: Running) -> None:
    completion = " spring, summer, autumn and winter."
    scored = smollm2.do(smollm2.engine.score(ScoreRequest(PROMPT, completion, "likelihood")))
    expected = reference.logprobs(reference.token_ids(PROMPT), reference.token_ids(completion))
    assert scored.steps == pytest.approx(expected.tolist(), abs=0.02)
    assert scored.score == pytest.approx(expected.sum(), abs=0.2)


def test_guided_decoding(smollm2: Running) -> None:
    schema = {"type": "object", "properties": {"season": {"enum": ["spring", "winter"]}}, "required": ["season"]}
    guided = smollm2.do(draw(smollm2, 4, SamplingParams(max_tokens=64, json_schema=schema)))
    whole = [json.loads(sample.text) for sample in guided if sample.finish_reason == "stop"]
    assert whole
    assert all(found["season"] in ("spring", "winter") for found in whole)
    for sample in smollm2.do(draw(smollm2, 8, SamplingParams(max_tokens=24, regex="(spring|autumn) [0-9]{2}"))):
        assert re.fullmatch("(spring|autumn) [0-9]{2}", sample.text)
        assert np.isfinite(sample.lowest_group_confidence or 0.0)


def test_many_of_one_request_are_all_returned_in_order(smollm2: Running) -> None:
    many = smollm2.do(smollm2.engine.generate(Request(PROMPT, SHORT, 5, n=40)))
    assert len(many) == 40
    assert len({found.text for found in many}) > 20
    [first] = smollm2.do(smollm2.engine.generate(Request(PROMPT, SHORT, 5)))
    assert first.text == many[0].text
    assert sum(found.cached_prompt_tokens for found in many) >= 0


def test_an_adapter_changes_texts_and_identity(smollm2: Running) -> None:
    plain, adapted = on_cpu(), on_cpu(adapter=str(ADAPTER))
    assert resolve(plain)[0] == resolve(adapted)[0]
    assert resolve(plain)[1] != resolve(adapted)[1]
    greedy = SamplingParams(max_tokens=12, temperature=0.0)
    with running(adapter=str(ADAPTER)) as other:
        [tuned] = other.do(draw(other, 1, greedy))
    [base] = smollm2.do(draw(smollm2, 1, greedy))
    assert tuned.text != base.text
    with pytest.raises(BadInput, match="no folder of a LoRA adapter"):
        resolve(on_cpu(adapter="nowhere"))


def test_a_mixture_of_experts_that_reasons_by_a_template_of_its_own() -> None:
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[answer]"
    with running(model=str(MIXTURE), slots=8, reasoning_parser="deepseek_r1", chat_template=template) as found:
        prompt = found.do(found.engine.render([{"role": "user", "content": "Why?"}]))
        assert prompt == "[user] Why?\n[answer]"
        samples = found.do(draw(found, 12))
        assert len({sample.reasoning for sample in samples}) == 12  # without a closing tag all of it is reasoning
        guided = SamplingParams(max_tokens=48, regex="<think>because (it|he) [a-z]{3}</think>42")
        [sample] = found.do(draw(found, 1, guided, prompt))
        assert sample.text == "42"
        assert re.fullmatch("because (it|he) [a-z]{3}", sample.reasoning or "")


def test_rewards_are_the_classifiers_own(classifier: Running) -> None:
    texts = ["What is 2 + 2? 4", "What is 2 + 2? 5", "Nothing at all"]
    do, engine = classifier.do, classifier.engine

    async def all_of_them() -> list[float]:
        asked = [engine.score(ScoreRequest(text, "", "reward")) for text in texts]
        return [scored.score for scored in await asyncio.gather(*asked)]

    scores = do(all_of_them())
    same_beginning = [ScoreRequest("many words " * 100 + end, "", "reward") for end in ("this", "that")]
    first, second = (do(engine.score(request)) for request in same_beginning)
    assert second.cached_prompt_tokens >= 128 > first.cached_prompt_tokens
    with pytest.raises(BadInput, match="gives scores, not completions"):
        do(draw(classifier, 1))
    with pytest.raises(BadInput, match=r"need engine\.task=token_classify"):
        do(engine.score(ScoreRequest("a", "b", "steps", step_tag="\n")))
    with pytest.raises(EngineError, match="tokens, the context"):
        do(engine.score(ScoreRequest("word " * 600, "", "reward")))
    assert scores == pytest.approx([float(reference.classify(text, CLASSIFIER)[0]) for text in texts], abs=0.01)


def test_each_step_gets_its_process_reward(process_rewards: Running) -> None:
    prompt, completion = "Solve it.\n", "first step\nsecond step\nthird step\n"
    do, engine = process_rewards.do, process_rewards.engine
    scored = do(engine.score(ScoreRequest(prompt, completion, "steps", step_tag="\n")))
    with pytest.raises(EngineError, match="no step tag"):
        do(engine.score(ScoreRequest(prompt, "no end", "steps", step_tag="\n")))
    logits = reference.classify(prompt + completion, PROCESS)
    good = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    ids = reference.token_ids(prompt + completion, PROCESS)
    [tag] = reference.token_ids("\n", PROCESS)
    places = [at for at, token in enumerate(ids) if token == tag]
    assert scored.steps == pytest.approx(good[places][1:].tolist(), abs=0.01)
    assert scored.score == min(scored.steps)


def test_an_unsure_trace_is_cut(smollm2: Running) -> None:
    """With a threshold that every group is below, a trace ends with its first whole group; with none it goes on."""

    def sample(cut_below: float | None) -> Completion:
        request = Request(PROMPT, SamplingParams(max_tokens=64), 7, request_id="k/0", window=8, cut_below=cut_below)
        [found] = smollm2.do(smollm2.engine.generate(request))
        return found

    whole, cut, spared = sample(None), sample(1e9), sample(0.0)
    assert cut.finish_reason == "cut"
    assert 8 <= cut.completion_tokens <= 16
    assert whole.text.startswith(cut.text)
    assert cut.lowest_group_confidence is not None and cut.lowest_group_confidence < 1e9
    assert (spared.text, spared.finish_reason) == (whole.text, whole.finish_reason)
    assert spared.completion_tokens == whole.completion_tokens > 16


def test_transformers_gives_the_same_scores(classifier: Running, process_rewards: Running) -> None:
    texts = ["What is 2 + 2? 4", "What is 2 + 2? 5, or perhaps it is something else", "Nothing at all"]
    prompt, completion = "Solve it.\n", "first step\nsecond step\nthird step\n"
    steps = ScoreRequest(prompt, completion, "steps", step_tag="\n")

    async def rewards(engine: Engine) -> list[float]:
        asked = [engine.score(ScoreRequest(text, "", "reward")) for text in texts]
        return [scored.score for scored in await asyncio.gather(*asked)]

    from_vllm = classifier.do(rewards(classifier.engine))
    steps_from_vllm = process_rewards.do(process_rewards.engine.score(steps)).steps
    full = {"dtype": "float32", "batch": 2}
    with engines.running(TransformersSpec(model=str(CLASSIFIER), **full)) as found:
        assert found.do(rewards(found.engine)) == pytest.approx(from_vllm, abs=1e-3)
        with pytest.raises(BadInput, match="gives scores, not completions"):
            found.do(draw(found, 1))
        with pytest.raises(BadInput, match=r"need engine\.task=token_classify"):
            found.do(found.engine.score(steps))
    with engines.running(TransformersSpec(model=str(PROCESS), task="token_classify", **full)) as found:
        assert found.do(found.engine.score(steps)).steps == pytest.approx(steps_from_vllm, abs=1e-3)
        with pytest.raises(EngineError, match="no step tag"):
            found.do(found.engine.score(ScoreRequest(prompt, "no end", "steps", step_tag="\n")))
        with pytest.raises(EngineError, match="tokens, the context"):
            found.do(found.engine.score(ScoreRequest("word " * 5000, "a\n", "steps", step_tag="\n")))
    with engines.running(TransformersSpec(model=str(SMOLLM2), task="likelihood", **full)) as found:
        scored = found.do(found.engine.score(ScoreRequest(PROMPT, " Paris, of course.", "likelihood")))
    prompt_ids, ids = reference.token_ids(PROMPT), reference.token_ids(" Paris, of course.")
    assert scored.steps == pytest.approx(reference.logprobs(prompt_ids, ids).tolist(), abs=1e-3)


def test_a_dead_engine_core_is_told_in_its_own_words_or_as_killed() -> None:
    others = engine_cores()
    with running() as found:
        task = found.do(_begin(found))
        cores = [core for core in engine_cores() if core not in others]
        assert cores
        for core in cores:
            core.kill()
        with pytest.raises(EngineDied, match="engine core died"):
            found.do(_end(task))


async def _begin(running: Running) -> asyncio.Task[list[Completion]]:
    task = asyncio.create_task(draw(running, 8, SamplingParams(max_tokens=400)))
    await asyncio.sleep(1.0)
    return task


async def _end(task: asyncio.Task[list[Completion]]) -> list[Completion]:
    return await task


def test_a_model_that_cannot_be_served_is_told_in_vllms_words(tmp_path: object) -> None:
    folder = str(tmp_path)
    with pytest.raises(EngineFailed, match="vLLM can't serve"):
        build_engine(VllmSpec(model=folder, gpus=0))
    with pytest.raises(BadInput, match="no parser 'nonsense'"):
        build_engine(on_cpu(model=str(CLASSIFIER), task="classify", reasoning_parser="nonsense"))
