"""What servers' answers mean, what they say they took, and what is read of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from multidict import CIMultiDict

from cluster.engines.openai.reading import Unreadable, read_choices
from cluster.engines.openai.streaming import Cut, Pieces
from cluster.engines.openai.usage import Usage, Worst, read_prompt, read_usage, usage_in
from cluster.engines.openai.verdicts import Meaning, Refusals, error_in, meaning, told, words
from operators.engine import Completion, EngineError
from schemas.engine import OpenAISpec, SamplingParams
from schemas.unicode import whole

WORST = Worst(100, 16)


@pytest.mark.parametrize(
    ("status", "means"),
    [
        *((status, Meaning.BUSY) for status in (409, 425, 429, 500, 502, 503, 521, 522, 523, 525, 529)),
        *((status, Meaning.BUSY_BEGUN) for status in (408, 504, 520, 524)),
        *((status, Meaning.REFUSED) for status in (400, 403, 404, 413, 415, 422, 501)),
        (401, Meaning.KEY),
        (402, Meaning.HOPELESS),
        (200, Meaning.SERVED),
    ],
)
def test_a_status_says_whether_a_request_was_served_and_may_be(status: int, means: Meaning) -> None:
    assert meaning(status) is means


@pytest.mark.parametrize(
    ("error", "means"),
    [
        ({"code": 429, "message": "slow"}, Meaning.BUSY),
        ({"code": "503"}, Meaning.BUSY),
        ({"message": "upstream went away"}, Meaning.BUSY),
        ({"type": "rate_limit_error"}, Meaning.BUSY),
        ({"code": 504}, Meaning.BUSY_BEGUN),
        ({"type": "insufficient_quota"}, Meaning.HOPELESS),
        ({"code": 402}, Meaning.HOPELESS),
        ({"type": "invalid_request_error"}, Meaning.REFUSED),
        ({"code": "content_filter"}, Meaning.REFUSED),
    ],
)
def test_an_error_in_a_good_answer_means_what_it_says(error: dict[str, Any], means: Meaning) -> None:
    found = error_in({"error": error})
    assert found == error
    assert meaning(200, found) is means


def test_an_account_without_money_is_no_rate_limit() -> None:
    assert meaning(429, {"code": "insufficient_quota"}) is Meaning.HOPELESS
    assert meaning(429, {"code": "rate_limit_exceeded"}) is Meaning.BUSY
    assert error_in({"choices": [{}], "error": {"code": 500}}) is None  # there is an answer
    assert error_in({"error": "plain words"}) == {"type": "plain words", "message": "plain words"}


@pytest.mark.parametrize(
    ("status", "document", "means"),
    [
        (429, [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], Meaning.BUSY),
        (200, {"object": "error", "message": "overloaded", "code": 503}, Meaning.BUSY),
        (200, {"code": 504, "message": "gateway"}, Meaning.BUSY_BEGUN),
        (200, {"error": "rate limit exceeded"}, Meaning.BUSY),
        (429, {"error": "insufficient_quota", "message": "no money"}, Meaning.HOPELESS),
        (400, {"code": "Arrearage", "message": "Access denied"}, Meaning.HOPELESS),
        (403, {"error": {"message": "insufficient balance (1008)"}}, Meaning.HOPELESS),
        (
            400,
            {"error": {"type": "x", "message": "Your credit balance is too low to access the API"}},
            Meaning.HOPELESS,
        ),
        (429, {"error": {"type": "exceeded_current_quota_error"}}, Meaning.HOPELESS),
        (429, {"error": {"message": "You exceeded your current quota", "code": 429}}, Meaning.BUSY),
        (422, {"detail": [{"loc": ["body"]}]}, Meaning.REFUSED),
        (200, {"choices": [{"message": {}}], "code": 500, "message": "x"}, Meaning.SERVED),
    ],
)
def test_errors_stand_wherever_servers_put_them(status: int, document: Any, means: Meaning) -> None:
    assert meaning(status, error_in(document)) is means


def test_what_a_server_says_is_told_whole_and_short() -> None:
    assert (
        words({"error": {"message": "no\ud83d", "metadata": {"raw": "his words"}}})
        == "no\N{REPLACEMENT CHARACTER}: his words"
    )
    assert words({"detail": [{"loc": 1}]}).startswith("[{")
    assert words(None, b"<html>\xff") == "<html>\N{REPLACEMENT CHARACTER}"
    assert len(words({"error": "x" * 9000})) == 500


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "90.5"}, 90.5),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        ({"Retry-After": "soon"}, 0.0),
        ({"Retry-After": "-3"}, 0.0),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"X-RateLimit-Reset-Tokens": "120ms", "X-RateLimit-Reset-Requests": "1s"}, 1.0),
        (
            {
                "x-ratelimit-reset-requests": "2h", "x-ratelimit-remaining-requests": "14000",
                "x-ratelimit-reset-tokens": "7.66s", "x-ratelimit-remaining-tokens": "0",
            },
            7.66,
        ),
        ({"ratelimit-reset": "11"}, 11.0),
    ],
)  # fmt: skip
def test_when_to_come_back_is_said_in_many_ways(headers: dict[str, str], seconds: float) -> None:
    assert told(CIMultiDict(headers)) == pytest.approx(seconds)


def test_times_of_day_are_seconds_from_now() -> None:
    later = datetime.now(UTC) + timedelta(seconds=100)
    for headers in (
        {"Retry-After": format_datetime(later, usegmt=True)},
        {"anthropic-ratelimit-tokens-reset": later.isoformat()},
        {"x-ratelimit-reset": str(int(later.timestamp()))},
        {"x-ratelimit-reset": str(int(1000 * later.timestamp()))},
    ):
        assert 95 < told(CIMultiDict(headers)) <= 100, headers


# -- refusals ------------------------------------------------------------------------------------------------------


def refuse(refusals: Refusals, asked: int, status: int = 400, said: str = "no such model") -> bool:
    refusals.on_sent(asked)
    found = refusals.on_refused(status, said, asked)
    refusals.on_back(asked)
    return found


def test_eight_equal_refusals_and_nothing_served_are_the_runs_fault() -> None:
    refusals = Refusals()
    assert [refuse(refusals, prompt) for prompt in range(8)] == [*[False] * 7, True]


def test_numbers_and_names_of_requests_make_no_other_refusal() -> None:
    refusals = Refusals()
    said = [f"max 4096 tokens, you asked {5000 + at} (req-{at:012x}abc)" for at in range(8)]
    assert [refuse(refusals, at, 400, words) for at, words in enumerate(said)][-1]


def test_whatever_else_came_first_refusals_are_about_their_requests() -> None:
    served, mixed = Refusals(), Refusals()
    served.on_served()
    assert not any(refuse(served, prompt) for prompt in range(50))
    assert not any(refuse(mixed, prompt, 400 + prompt % 2) for prompt in range(50))


def test_a_prompt_that_nobody_refused_yet_is_waited_for() -> None:
    refusals = Refusals()
    refusals.on_sent(99)
    assert not any(refuse(refusals, 1, 403, "flagged") for _ in range(20))  # one flagged prompt, and another is out
    refusals.on_served()
    refusals.on_back(99)
    assert not refuse(refusals, 1, 403, "flagged")


def test_a_wrong_address_is_known_at_once_unless_others_are_out() -> None:
    assert refuse(Refusals(), 1, 404)
    assert refuse(Refusals(), 1, 405)
    busy = Refusals()
    busy.on_sent(2)
    assert not refuse(busy, 1, 404)  # a gateway's, perhaps


# -- usage ---------------------------------------------------------------------------------------------------------


def says(prompt: Any, written: Any, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": written, **more}


@pytest.mark.parametrize(
    ("usage", "told", "empty", "counted"),
    [
        (says(20, 12), [None], False, Usage(20, 0, (12,), False)),
        (says("20", 12.0), [None], False, Usage(20, 0, (12,), False)),
        ({"input_tokens": 20, "output_tokens": 12}, [None], False, Usage(20, 0, (12,), False)),
        (None, [None], False, Usage(100, 0, (16,), True)),
        (7, [None], False, Usage(100, 0, (16,), True)),
        ({}, [None, None], False, Usage(100, 0, (16, 16), True)),
        (says(0, 0), [None], False, Usage(100, 0, (16,), True)),
        (says(20, 0), [None], True, Usage(20, 0, (0,), False)),
        (says(20, -3), [None], False, Usage(20, 0, (16,), True)),
        (says(20, 10**12), [None], False, Usage(20, 0, (16,), True)),
        (says(float("nan"), 12), [None], False, Usage(100, 0, (12,), True)),
        (says(True, 12), [None], False, Usage(100, 0, (12,), True)),
        # more than was asked for is what it is: it is billed
        (says(20, 5010), [None], False, Usage(20, 0, (5010,), False)),
        # reasoning beside the completion
        (says(20, 12, total_tokens=532), [None], False, Usage(20, 0, (512,), False)),
        (
            says(20, 12, completion_tokens_details={"reasoning_tokens": 500}),
            [None], False, Usage(20, 0, (512,), False),
        ),
        (
            says(20, 512, completion_tokens_details={"reasoning_tokens": 500}),
            [12], False, Usage(20, 0, (512,), False),
        ),
        ({"prompt_tokens": 20, "total_tokens": 32}, [None], False, Usage(20, 0, (12,), False)),
        (says(20, 2), [5], False, Usage(20, 0, (5,), False)),
        (says(20, 10), [None] * 3, False, Usage(20, 0, (4, 3, 3), False)),
        (says(20, 10), [2, 5], False, Usage(20, 0, (4, 6), False)),
        # what a cache had, in whoever's field
        (says(20, 1, prompt_cache_hit_tokens=16), [None], False, Usage(20, 16, (1,), False)),
        (says(20, 1, cache_read_input_tokens=99), [None], False, Usage(119, 99, (1,), False)),  # counted apart
        (
            {"input_tokens": 4, "output_tokens": 2, "cache_read_input_tokens": 16, "cache_creation_input_tokens": 8},
            [None], False, Usage(28, 16, (2,), False),
        ),
        (
            {"input_tokens": 20, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 30}},
            [None], False, Usage(20, 0, (32,), False),
        ),
        (says(20, 2, reasoning_tokens=30), [None], False, Usage(20, 0, (32,), False)),
        (
            says(20, 1, prompt_tokens_details={"cached_tokens": 4}),
            [None], False, Usage(20, 4, (1,), False),
        ),
        (says(20, 1, prompt_tokens_details=None), [None], False, Usage(20, 0, (1,), False)),
    ],
)  # fmt: skip
def test_the_larger_count_counts_and_none_is_the_worst_case(
    usage: Any, told: list[int | None], empty: bool, counted: Usage
) -> None:
    assert read_usage(usage, WORST, told, 0 if empty else 40) == counted


@pytest.mark.parametrize(
    ("usage", "letters", "counted"),
    [
        (says(20, 2), 400, Usage(20, 0, (2,), False)),
        (says(20, 1), 257, Usage(20, 0, (257,), True)),  # no token is so long; and 16 tokens would hardly be
        (says(20, 1_000_001), 40, Usage(20, 0, (16,), True)),
        (says(20, 900_000), 40, Usage(20, 0, (900_000,), False)),
        (None, 256, Usage(100, 0, (16,), True)),
        (None, 9_000, Usage(100, 0, (9_000,), True)),  # it wrote on beyond what was asked
        (says(20, 5_000), 20_000, Usage(20, 0, (5_000,), False)),
    ],
)
def test_counts_that_the_text_contradicts_are_none(usage: Any, letters: int, counted: Usage) -> None:
    assert read_usage(usage, WORST, [None], letters) == counted


def test_what_was_taken_stands_where_servers_put_it() -> None:
    choice, took = {"message": {}}, says(20, 12)
    assert usage_in({"choices": [choice], "usage": took}) == took
    assert usage_in({"choices": [choice], "usage": None, "x_groq": {"id": "x", "usage": took}}) == took
    assert usage_in({"choices": [{**choice, "usage": took}]}) == took
    assert usage_in({"choices": [choice], "usage": []}) is None
    assert read_prompt({"prompt_tokens": "9"}, 100) == (9, 0, False)
    assert read_prompt({"total_tokens": 9}, 100) == (9, 0, False)
    assert read_prompt(None, 100) == (100, 0, True)


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({}, 64),
        ({"max_completion_tokens": 4096}, 4096),
        ({"max_tokens": None, "max_completion_tokens": 4096}, 4096),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": None}, 1000),
        ({"max_completion_tokens": None}, 64),
        ({"max_completion_tokens": 16}, 64),
    ],
)
def test_what_is_reserved_is_what_the_request_says(body: dict[str, Any], most: int) -> None:
    assert OpenAISpec(model="m", extra_body=body, context=1000).most_completion(64) == most


# -- choices -------------------------------------------------------------------------------------------------------


def read(message: dict[str, Any] | None = None, **choice: Any) -> Completion:
    one = {"message": message or {"content": "4"}, "finish_reason": "stop", **choice}
    answer = {"choices": [one], "usage": {"prompt_tokens": 20, "completion_tokens": 2}}
    [found] = read_choices(json.loads(json.dumps(answer)), SamplingParams(), True, False, WORST)
    return found


def test_content_in_parts_is_joined_and_thoughts_are_apart() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "The "},
        {"type": "output_text", "text": "answer"},
    ]
    found = read({"content": parts})
    assert (found.text, found.reasoning) == ("The answer", "hm")
    assert read({"content": ["a", "b"]}).text == "ab"
    assert read({"content": None, "reasoning_content": "thinking"}, finish_reason="length").reasoning == "thinking"
    assert read({"content": "4", "reasoning": ""}).reasoning is None


def test_a_refusal_is_a_text_with_an_end_of_its_own() -> None:
    found = read({"content": None, "refusal": "I can't."})
    assert (found.text, found.finish_reason) == ("I can't.", "refusal")
    assert read({"content": [{"type": "refusal", "refusal": "No."}]}).finish_reason == "refusal"
    assert read({"content": "4", "refusal": None}).finish_reason == "stop"


def test_calls_are_kept_those_of_the_old_kind_too() -> None:
    called = {"name": "f", "arguments": '{"a": 1}'}
    for message in (
        {"content": None, "tool_calls": [{"id": "c", "type": "function", "function": called}]},
        {"content": None, "function_call": called},
    ):
        calls = json.loads(read(message, finish_reason="tool_calls").tool_calls or "")
        assert calls[0]["function"]["name"] == "f"


@pytest.mark.parametrize("said", ["error", "abort", "insufficient_system_resource", "network_error", "CANCELLED"])
def test_what_was_broken_off_is_no_completion(said: str) -> None:
    with pytest.raises(EngineError) as broken:
        read({"content": "The ans"}, finish_reason=said)
    assert (broken.value.transient, broken.value.busy, broken.value.served) == (True, True, True)
    with pytest.raises(EngineError, match="Provider disconnected"):
        read({"content": "The ans"}, error={"code": 502, "message": "Provider disconnected"})


def test_what_was_filtered_was_paid_for() -> None:
    with pytest.raises(EngineError) as filtered:
        read({"content": "The"}, finish_reason="content_filter")
    assert (filtered.value.transient, filtered.value.used) == (False, (20, 2))


def test_log_probs_that_are_none_leave_the_sum_unknown_and_the_answer_whole() -> None:
    tokens = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": None}]
    choice = {"message": {"content": "4"}, "finish_reason": "stop", "logprobs": {"content": tokens}}
    answer = {"choices": [choice], "usage": says(20, 2)}
    [found] = read_choices(answer, SamplingParams(), True, True, WORST)
    assert (found.text, found.sum_logprob, found.completion_tokens) == ("4", None, 2)


@pytest.mark.parametrize(
    "answer", [[], None, "x", {"choices": None}, {"choices": []}, {"choices": [{"message": {"content": 7}}]}]
)
def test_an_answer_of_another_shape_cannot_be_read(answer: Any) -> None:
    with pytest.raises(Unreadable):
        read_choices(answer, SamplingParams(), True, False, WORST)


# -- pieces --------------------------------------------------------------------------------------------------------


def events(*pieces: Any, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(piece)}\r\n\r\n" for piece in pieces]
    return (": keep-alive\n\n" + "".join(lines) + ("data: [DONE]\n\n" if done else "")).encode()


def delta(finish: str | None = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_pieces_make_the_answer_whatever_they_are_cut_into(size: int) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ": 1}"}}
    data = events(
        delta(role="assistant", content=""), delta(content="Hé"), delta(content="llo"), delta(reasoning_content="hm"),
        delta(index=1, content="other"), delta(tool_calls=[call]), delta(tool_calls=[rest]),
        delta("stop", index=1), delta("tool_calls"), usage,
    )  # fmt: skip
    pieces = Pieces()
    for at in range(0, len(data), size):
        pieces.feed(data[at : at + size])
    found = pieces.whole()
    first, second = (choice["message"] for choice in found["choices"])
    assert (first["content"], first["reasoning_content"], second["content"]) == ("Héllo", "hm", "other")
    assert first["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert [choice["finish_reason"] for choice in found["choices"]] == ["tool_calls", "stop"]
    assert found["usage"]["completion_tokens"] == 4


def test_a_stream_that_ends_in_the_middle_is_no_answer() -> None:
    for data in (
        b"",
        events(delta(content="Hé"), done=False),
        events(delta("stop", content="a"), delta(index=1, content="b")),
    ):
        pieces = Pieces()
        pieces.feed(data)
        with pytest.raises(Cut):
            pieces.whole()
    failed = Pieces()
    failed.feed(events(delta(content="Hé"), {"error": {"code": 429, "message": "slow"}}))
    assert error_in(failed.whole()) == {"code": 429, "message": "slow"}
    assert failed.begun
    refused = Pieces()
    refused.feed(events({"object": "error", "message": "slow", "code": 429}))
    assert error_in(refused.whole()) is not None and not refused.begun


def test_halves_of_characters_are_replaced_and_pairs_are_put_together() -> None:
    assert whole("4 \ud83d") == "4 \N{REPLACEMENT CHARACTER}"
    assert whole("\ud83d\ude00") == "\N{GRINNING FACE}"
    assert whole("\ude00\ud83d") == 2 * "\N{REPLACEMENT CHARACTER}"
    assert whole("häh? ∑ 🙂") == "häh? ∑ 🙂"
