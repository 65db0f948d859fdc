"""The scripted engine: equal rows from equal seeds, failures that heal or don't, and speed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from cluster.engines.scripted import ScriptedEngine
from operators.engine import Completion, EngineDied, EngineError, Request, Scored, ScoreRequest
from schemas.engine import SamplingParams, ScriptedSpec


def ask(
    engine: ScriptedEngine, seed: int = 1, prompt: str = "What is 40 + 2?", n: int = 1, **params: object
) -> list[Completion]:
    request = Request(prompt, SamplingParams.model_validate(params), seed, n, f"p/{seed}")
    return asyncio.run(engine.generate(request))


def test_equal_seeds_give_equal_completions_in_any_engine_and_order() -> None:
    spec = ScriptedSpec(answers=("41", "42", "43"))
    forward, backward = ScriptedEngine(spec), ScriptedEngine(spec)
    first = [ask(forward, seed) for seed in range(200)]
    second = [ask(backward, seed) for seed in reversed(range(200))]
    assert first == second[::-1]
    assert {completion.text for [completion] in first} == {"41", "42", "43"}


def test_latency_does_not_change_what_is_drawn() -> None:
    answers = ("1", "2", "3")
    quick, slow = (
        ScriptedEngine(ScriptedSpec(answers=answers)),
        ScriptedEngine(ScriptedSpec(answers=answers, latency=0.01)),
    )
    assert [ask(quick, seed) for seed in range(10)] == [ask(slow, seed) for seed in range(10)]


def test_answers_follow_their_weights() -> None:
    engine = ScriptedEngine(ScriptedSpec(answers=("right", "wrong"), weights=(0.25, 0.75)))
    share = sum(ask(engine, seed)[0].text == "right" for seed in range(4000)) / 4000
    assert share == pytest.approx(0.25, abs=0.03)  # four standard errors


def test_answers_by_prompt_and_placeholders() -> None:
    engine = ScriptedEngine(ScriptedSpec(answers=("{seed}: {prompt} {other}",), by_prompt={"red": ("rot",)}))
    assert ask(engine, 7, "say red")[0].text == "rot"
    assert ask(engine, 7, "say blue")[0].text == "7: say blue {other}"


def test_asked_n_got_n() -> None:
    engine = ScriptedEngine(ScriptedSpec(answers=("a", "b")))
    assert len(ask(engine, n=17)) == 17
    assert ask(engine, n=17) == ask(engine, n=17)


def test_too_many_words_are_cut_and_say_so() -> None:
    [cut] = ask(ScriptedEngine(ScriptedSpec(answers=("one two three",))), max_tokens=2)
    assert (cut.text, cut.finish_reason, cut.completion_tokens) == ("one two", "length", 2)
    [whole] = ask(ScriptedEngine(ScriptedSpec(answers=("one two three",))), max_tokens=3)
    assert (whole.text, whole.finish_reason, whole.completion_tokens) == ("one two three", "stop", 3)


def test_the_earliest_stop_string_ends_the_text() -> None:
    [completion] = ask(ScriptedEngine(ScriptedSpec(answers=("one; two. three",))), stop=(".", ";"))
    assert (completion.text, completion.finish_reason) == ("one", "stop_string")


def test_log_probs_are_of_the_seed_or_absent() -> None:
    engine = ScriptedEngine(ScriptedSpec(answers=("one two three",)))
    [first], [again], [other] = ask(engine, 1), ask(engine, 1), ask(engine, 2)
    assert first.sum_logprob is not None and first.sum_logprob <= 0
    assert first.mean_logprob == pytest.approx(first.sum_logprob / 3)
    assert first.sum_logprob == again.sum_logprob != other.sum_logprob
    silent = ScriptedEngine(ScriptedSpec(logprobs=False))
    assert ask(silent)[0].sum_logprob is None
    assert silent.info.logprobs == "none"


def test_transient_failures_heal_at_the_second_attempt() -> None:
    spec = ScriptedSpec(fail_transient=0.5)
    engine, healthy = ScriptedEngine(spec), ScriptedEngine(ScriptedSpec())
    failed = 0
    for seed in range(200):
        try:
            ask(engine, seed)
        except EngineError as error:
            assert error.transient
            failed += 1
        assert ask(engine, seed) == ask(healthy, seed)
    assert 60 < failed < 140


def test_permanent_failures_are_of_the_seed() -> None:
    def refused(engine: ScriptedEngine) -> list[int]:
        seeds: list[int] = []
        for seed in range(200):
            try:
                ask(engine, seed)
            except EngineError as error:
                assert not error.transient
                assert f"p/{seed}" in str(error)
                seeds.append(seed)
        return seeds

    spec = ScriptedSpec(fail_permanent=0.2)
    engine = ScriptedEngine(spec)
    first = refused(engine)
    assert 15 < len(first) < 70
    assert refused(engine) == first == refused(ScriptedEngine(spec))


def test_two_engines_share_a_call_log(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    engines = [ScriptedEngine(ScriptedSpec(call_log=str(log))) for _ in range(2)]
    for seed in range(100):
        ask(engines[seed % 2], seed)
    for engine in engines:
        asyncio.run(engine.close())
    assert log.read_text().splitlines() == [f"p/{seed}" for seed in range(100)]


def test_ten_thousand_requests_take_seconds_at_most() -> None:
    engine = ScriptedEngine(ScriptedSpec())
    params = SamplingParams()

    async def burst() -> None:
        await asyncio.gather(*(engine.generate(Request("q", params, seed, 1, f"p/{seed}")) for seed in range(10_000)))

    start = time.process_time()
    asyncio.run(burst())
    assert time.process_time() - start < 3.0  # about 0.3 s alone on a core


def test_chat_is_marked_up_and_plain_text_is_not() -> None:
    engine = ScriptedEngine(ScriptedSpec())
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert asyncio.run(engine.render(turns, chat=False)) == "Be brief.Hello"
    chat = asyncio.run(engine.render(turns))
    assert "user" in chat and chat.index("Be brief.") < chat.index("Hello")
    assert asyncio.run(engine.count_tokens("three short words")) == 3


def score(engine: ScriptedEngine, completion: str, kind: str = "reward", step_tag: str = "") -> Scored:
    return asyncio.run(engine.score(ScoreRequest("What is 40 + 2?", completion, kind, step_tag, "p/0")))  # pyright: ignore[reportArgumentType]


def test_scores_are_of_the_text_alone() -> None:
    one, other = ScriptedEngine(ScriptedSpec()), ScriptedEngine(ScriptedSpec(slots=3))
    rewards = [score(one, str(number)).score for number in range(50)]
    assert rewards == [score(other, str(number)).score for number in range(50)]
    assert len(set(rewards)) == 50
    assert 0 <= min(rewards) < 0.2 < 0.8 < max(rewards) <= 1


def test_steps_and_likelihoods_have_a_value_for_each_part() -> None:
    engine = ScriptedEngine(ScriptedSpec())
    steps = score(engine, "first +second +", "steps", "+")
    assert len(steps.steps) == 2
    assert steps.score == min(steps.steps)
    with pytest.raises(EngineError, match=r"no step tag '\+'"):
        score(engine, "nothing", "steps", "+")
    likelihood = score(engine, "one two three", "likelihood")
    assert len(likelihood.steps) == 3
    assert likelihood.score == pytest.approx(sum(likelihood.steps))
    assert max(likelihood.steps) <= 0


def test_a_sleeping_engine_is_not_asked_and_writes_down_its_turns(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    engine = ScriptedEngine(ScriptedSpec(call_log=str(log)))
    ask(engine, 1)
    asyncio.run(engine.sleep())
    with pytest.raises(AssertionError, match="p/2 reached an engine that sleeps"):
        ask(engine, 2)
    with pytest.raises(AssertionError, match="sleeps"):
        score(engine, "4")
    asyncio.run(engine.wake())
    ask(engine, 3)
    asyncio.run(engine.close())
    assert log.read_text().splitlines() == ["p/1", "#sleep scripted", "p/2", "score p/0", "#wake scripted", "p/3"]


def test_a_deadly_prompt_is_the_end_of_the_engine() -> None:
    engine = ScriptedEngine(ScriptedSpec(deadly="poison"))
    assert ask(engine, prompt="water")
    with pytest.raises(EngineDied, match="poison"):
        ask(engine, prompt="some poison")
    with pytest.raises(EngineDied, match="poison"):
        score(engine, "poison")
