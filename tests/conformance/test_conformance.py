"""What every engine has to keep, whatever is behind it (``cases.py`` has the engines)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import statistics
import time
from dataclasses import asdict

import pytest

from operators.engine import Completion, EngineError, Request, Scored, ScoreRequest
from operators.token_tree import TreeRequest
from schemas.datasets import FINISH_REASONS
from schemas.engine import SamplingParams
from schemas.errors import BadInput
from tests.conformance.cases import CASES
from tests.conformance.conftest import Subject
from tests.engines import Running, running

TEXT = "The four seasons of the year are"
SHORT = SamplingParams(max_tokens=6)
GREEDY = SamplingParams(max_tokens=6, temperature=0.0)


def draw(subject: Subject, prompts: list[str], params: SamplingParams = SHORT, first_seed: int = 0) -> list[Completion]:
    """Return one completion of each prompt, all asked for at once; their seeds differ."""

    async def all_of_them() -> list[list[Completion]]:
        return await asyncio.gather(
            *[
                subject.engine.generate(Request(prompt, params, first_seed + at, request_id=f"p/{at}", problem_id="p"))
                for at, prompt in enumerate(prompts)
            ]
        )

    return [found for [found] in subject.do(all_of_them())]


def one(subject: Subject, prompt: str, params: SamplingParams = SHORT, seed: int = 0, n: int = 1) -> list[Completion]:
    return subject.do(subject.engine.generate(Request(prompt, params, seed, n, "p/0", "p")))


def likelihood(subject: Subject | Running, prompt: str, completion: str) -> Scored:
    return subject.do(subject.engine.score(ScoreRequest(prompt, completion, "likelihood")))


def test_what_is_asked_for_is_what_comes(subject: Subject) -> None:
    prompt = subject.prompt(TEXT)
    for n in (1, 3, 2 * subject.case.slots + 1):
        found = one(subject, prompt, n=n)
        assert len(found) == n
        if n > 3:
            assert len({completion.text for completion in found}) > n // 2, "the completions of one request are copies"


def test_every_completion_is_told_in_full(subject: Subject) -> None:
    for completion in draw(subject, [subject.prompt(TEXT)] * 5):
        assert completion.finish_reason in FINISH_REASONS
        assert 1 <= completion.completion_tokens <= 6
        assert completion.prompt_tokens > 0
        assert 0 <= completion.cached_prompt_tokens <= completion.prompt_tokens
        if completion.finish_reason == "length":
            assert completion.completion_tokens == 6
        assert completion.sum_logprob is not None
        assert completion.mean_logprob == pytest.approx(completion.sum_logprob / completion.completion_tokens)


def test_each_answer_belongs_to_its_question(subject: Subject) -> None:
    words = ["red", "seven", "Paris", "cheese", "moon", "river", "piano", "tiger"]
    # a model repeats a list's pattern; the scripted engine is only asked to keep the order of seeds
    prompts = [subject.prompt(f"{word}, {word}, {word}, {word}, {word},") for word in words]
    together = draw(subject, prompts, GREEDY)
    alone = [one(subject, prompt, GREEDY, seed)[0] for seed, prompt in enumerate(prompts)]
    equal = sum(a.text == b.text for a, b in zip(together, alone, strict=True))
    assert equal >= len(words) - 1, "what shares the batch changes what is answered"
    if subject.case.keeps("understands"):
        assert sum(word in found.text for word, found in zip(words, together, strict=True)) >= 6


def test_seeds_keep_what_the_engine_says_of_them(subject: Subject) -> None:
    prompt = subject.prompt(TEXT)
    first, other = draw(subject, [prompt] * 12), draw(subject, [prompt] * 12, first_seed=1000)
    again = draw(subject, [prompt] * 5) + draw(subject, [prompt] * 7, first_seed=5)  # in other company
    equal = sum(a.text == b.text for a, b in zip(first, again, strict=True))
    promise = subject.engine.info.seeds
    assert promise in ("exact", "nearly", "asked")
    print(f"{subject.case.name}: {equal} of 12 equal with the same seeds ({promise})")
    assert equal == 12 if promise == "exact" else equal >= 8 if promise == "nearly" else equal >= 0
    assert len({found.text for found in first}) >= 8, "seeds don't matter"
    assert sum(a.text == b.text for a, b in zip(first, other, strict=True)) <= 4


@pytest.mark.needs("reference")
def test_log_probs_are_those_of_a_direct_evaluation(subject: Subject) -> None:
    prompt = subject.prompt(TEXT)
    samples = draw(subject, [prompt] * 9)
    reference: Subject | Running = subject
    with contextlib.ExitStack() as stack:
        if subject.case.reference != "itself":
            case = next(case for case in CASES if case.name == subject.case.reference)
            reference = stack.enter_context(running(stack.enter_context(case.serving())))
        if subject.case.chat:
            prompt = reference.do(reference.engine.render(json.loads(prompt)))

        async def scores() -> list[Scored]:
            asked = [reference.engine.score(ScoreRequest(prompt, sample.text, "likelihood")) for sample in samples]
            return await asyncio.gather(*asked)

        scored = reference.do(scores())
    found = [
        abs(score.score - sample.sum_logprob) / sample.completion_tokens
        for sample, score in zip(samples, scored, strict=True)
        if sample.sum_logprob is not None and len(score.steps) == sample.completion_tokens  # the text tells its tokens
    ]
    print(f"{subject.case.name}: {statistics.mean(found):.5f} nats per token, {len(found)} samples")
    assert len(found) >= 5
    assert statistics.mean(found) < subject.case.tolerance


@pytest.mark.needs("likelihood")
def test_the_likelihood_of_a_text_is_that_of_its_parts(subject: Subject) -> None:
    prompt, begin, rest = subject.prompt("One, two, three,"), " four,", " five, 😀 שלום e\u0301 six"
    whole = likelihood(subject, prompt, begin + rest)
    parts = [likelihood(subject, prompt, begin), likelihood(subject, prompt + begin, rest)]
    assert whole.score == pytest.approx(sum(part.score for part in parts), abs=0.02 * len(whole.steps))
    assert len(whole.steps) == sum(len(part.steps) for part in parts)
    assert whole.score == pytest.approx(sum(whole.steps))
    assert all(step <= 0 for step in whole.steps)
    if subject.case.model:
        assert parts[0].score > likelihood(subject, prompt, " cheese,").score
    assert likelihood(subject, prompt, begin).score == pytest.approx(parts[0].score, abs=0.1)


def test_a_score_that_an_engine_cannot_give_is_refused(subject: Subject) -> None:
    prompt = subject.prompt(TEXT)
    if not subject.case.keeps("likelihood"):
        with pytest.raises(BadInput, match=r"completions endpoint|echo"):
            likelihood(subject, prompt, " summer")
    if subject.case.model:  # none of these is a reward model; the scripted one plays it
        with pytest.raises((BadInput, EngineError)):
            subject.do(subject.engine.score(ScoreRequest(prompt, " summer", "reward")))


@pytest.mark.needs("fits")
def test_temperature_zero_takes_the_likeliest(subject: Subject) -> None:
    prompt = subject.prompt(TEXT)
    texts = {found.text for seed in (1, 2, 3) for found in one(subject, prompt, GREEDY, seed)}
    assert len(texts) == 1
    sampled = draw(subject, [prompt] * 5)
    [greedy] = one(subject, prompt, GREEDY)
    assert greedy.mean_logprob is not None
    assert greedy.mean_logprob > statistics.mean(found.mean_logprob or 0.0 for found in sampled)


def test_stop_strings_end_a_text_and_stay_out_of_it(subject: Subject) -> None:
    prompt = subject.prompt("One, two, three, four,")
    stop = "five" if subject.case.model else "answer"
    params = SamplingParams(max_tokens=24, temperature=0.0, stop=(stop,))
    for found in draw(subject, [prompt] * 4, params):
        assert stop not in found.text
        if not subject.case.chat:  # a chat model needn't count on
            assert found.finish_reason == ("stop_string" if subject.case.keeps("tells stops") else "stop")
            assert found.stop == (stop if subject.case.keeps("tells stops") else None)
    [unhit] = one(subject, prompt, SamplingParams(max_tokens=4, temperature=0.0, stop=("nowhere-in-it",)))
    assert unhit.finish_reason in ("length", "stop")
    assert unhit.stop is None
    assert (subject.engine.info.stops == "told") == subject.case.keeps("tells stops")
    if subject.case.keeps("tells stops") and not subject.case.chat:
        [without] = one(subject, prompt, params)
        [kept] = one(subject, prompt, params.model_copy(update={"keep_stop": True}))
        assert kept.text == without.text + stop


def test_an_empty_text_is_an_answer(subject: Subject) -> None:
    prompt = subject.prompt("One, two, three, four,")
    stop = (" ", "\n", "f", "F") if subject.case.model else ("answer",)  # an API takes four
    found = draw(subject, [prompt] * 4, SamplingParams(max_tokens=6, temperature=0.0, stop=stop))
    assert len(found) == 4
    if not subject.case.chat:
        assert found[0].text == ""
        assert found[0].completion_tokens >= 1


def test_unicode_comes_whole_there_and_back(subject: Subject) -> None:
    text = "😀 😃 😄 e\u0301 שלום 你好 😀 😃 😄 e\u0301 שלום 你好 😀 😃"
    found = draw(subject, [subject.prompt(text)] * 3, SamplingParams(max_tokens=16, temperature=0.0))
    for completion in found:
        completion.text.encode()  # no lone surrogates
        assert "\N{REPLACEMENT CHARACTER}" not in completion.text.rstrip("\N{REPLACEMENT CHARACTER}")
    if not subject.case.chat:
        assert any(ord(letter) > 127 for letter in found[0].text)


@pytest.mark.needs("fits")
def test_a_text_that_does_not_fit_is_refused_for_good_and_alone(subject: Subject) -> None:
    bad, good = subject.prompt("word " * 700), subject.prompt(TEXT)

    async def twenty() -> list[object]:
        prompts = [good] * 10 + [bad] + [good] * 9
        asked = [
            subject.engine.generate(Request(prompt, SamplingParams(max_tokens=2), at))
            for at, prompt in enumerate(prompts)
        ]
        return await asyncio.gather(*asked, return_exceptions=True)

    found = subject.do(twenty())
    failed = [at for at, answer in enumerate(found) if isinstance(answer, BaseException)]
    assert failed == [10]
    error = found[10]
    assert isinstance(error, EngineError)
    assert not error.transient
    assert re.search("context|token|length", str(error))


def test_what_is_cancelled_makes_room(subject: Subject) -> None:
    prompt = subject.prompt("Tell me a very long story about a king and his three daughters.")

    async def cancel_and_ask() -> float:
        params = SamplingParams(max_tokens=180)
        began = time.perf_counter()
        await subject.engine.generate(Request(prompt, params, 0))
        alone = time.perf_counter() - began
        doomed = [
            asyncio.create_task(subject.engine.generate(Request(prompt, params, seed)))
            for seed in range(2 * subject.case.slots)
        ]
        await asyncio.sleep(0.5)
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        began = time.perf_counter()
        await subject.engine.generate(Request(prompt, SamplingParams(max_tokens=2), 0))
        return (time.perf_counter() - began) / max(alone, 15.0)

    assert subject.do(cancel_and_ask()) < 1, "as long as all of one's story, or longer"


@pytest.mark.needs("continues")
def test_a_begun_completion_is_continued(subject: Subject) -> None:
    prompt = subject.prompt("Count: one, two, three, four,")
    [found] = subject.do(subject.engine.generate(Request(prompt, GREEDY, 0, 1, "p/0", "p", " five, six,")))
    assert not found.text.lstrip().startswith("five, six")
    if not subject.case.chat:
        assert "seven" in found.text


SEASON = {"type": "object", "properties": {"x": {"enum": ["spring", "winter"]}}, "required": ["x"]}


def test_a_search_by_tokens_is_carried_out_or_refused_by_name(subject: Subject) -> None:
    request = TreeRequest(subject.prompt(TEXT), "", 3, 0.9, 1.0, 2, 6, -1024.0, request_id="p/0")
    if not subject.case.keeps("searches by tokens"):
        with pytest.raises(BadInput, match=f"engine '{subject.engine.info.family}' can't search by tokens"):
            subject.do(subject.engine.grow_tree(request))
        return
    first, second = (subject.do(subject.engine.grow_tree(request)) for _ in range(2))
    assert first.took == second.took and [one.text for one in first.finals] == [one.text for one in second.finals]
    assert 1 <= len(first.finals) <= 3 and all(2 <= one.tokens <= 6 for one in first.finals)
    read = subject.do(subject.engine.count_tokens(request.prompt))
    assert first.took.read == read and first.took.computed == read + first.took.passes - 1
    assert all(getattr(first.took, name) <= most for name, most in asdict(request.most(read)).items())


@pytest.mark.needs("regex")
def test_a_regex_is_kept(subject: Subject) -> None:
    assert "regex" in subject.spec.guides
    prompt = subject.prompt("Name a season.")
    for found in draw(subject, [prompt] * 4, SamplingParams(max_tokens=24, regex="(spring|autumn) [0-9]{2}")):
        assert re.fullmatch("(spring|autumn) [0-9]{2}", found.text)


@pytest.mark.needs("json_schema")
def test_a_json_schema_is_kept(subject: Subject) -> None:
    assert "json_schema" in subject.spec.guides
    prompt = subject.prompt("Name a season.")
    guided = draw(subject, [prompt] * 4, SamplingParams(max_tokens=64, json_schema=SEASON))
    whole = [json.loads(found.text) for found in guided if found.finish_reason == "stop"]
    assert all(found["x"] in ("spring", "winter") for found in whole)
    assert whole or all(found.finish_reason == "length" for found in guided)


def test_prompts_are_counted(subject: Subject) -> None:
    short, long = subject.prompt("Hello"), subject.prompt("Hello " * 40)
    counts = [subject.do(subject.engine.count_tokens(prompt)) for prompt in (short, long)]
    assert 0 < counts[0] < counts[1]
    assert subject.engine.capacity >= subject.case.slots


@pytest.mark.needs("tells cached")
def test_a_prompt_that_was_seen_is_not_computed_again(subject: Subject) -> None:
    prompt = subject.prompt("A list of numbers: " + ", ".join(map(str, range(20))))
    found = [one(subject, prompt, SamplingParams(max_tokens=2), seed)[0] for seed in range(2)]
    assert found[-1].cached_prompt_tokens > found[-1].prompt_tokens // 2


@pytest.mark.needs("another loop")
def test_an_engine_works_in_one_event_loop_after_another(subject: Subject) -> None:
    prompt = subject.prompt(TEXT)
    first = one(subject, prompt, GREEDY)

    async def elsewhere() -> list[Completion]:
        requests = [Request(prompt, GREEDY, 0, request_id="p/0", problem_id="p")] * (subject.case.slots + 1)
        return [found for [found] in await asyncio.gather(*map(subject.engine.generate, requests))]

    for _ in range(2):
        there = asyncio.run(elsewhere())
        assert sum(found.text == first[0].text for found in there) >= len(there) - 1
    assert one(subject, prompt, GREEDY)[0].text == first[0].text


@pytest.mark.needs("closes twice")
def test_an_engine_may_be_closed_twice(subject: Subject) -> None:
    with running(subject.spec) as other:
        other.do(other.engine.generate(Request(subject.prompt(TEXT), SHORT, 1, request_id="p/0")))
        other.do(other.engine.close())
