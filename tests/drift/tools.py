"""What operators are handed here in place of models, processes and sandboxes: the same answers for the same questions.

Every answer depends on the whole question, so that another prompt, or another job, shows in the output.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from operators.engine import Completion, Engine, EngineInfo, Request, Scored, ScoreRequest
from operators.sandbox import Job, Limits, Mounts, Outcome

ALIGNED = "the dog ||| der Hund\nsleeps ||| schläft\non the old sofa ||| auf dem alten Sofa"
REPLIES: dict[str, tuple[str, ...]] = {
    "VERDICT: SAME": ("So.\nVERDICT: SAME", "So.\nVERDICT: DIFFERENT", "VERDICT: SAME"),
    "VERDICT: RIGHT": ("So.\nVERDICT: RIGHT", "So.\nVERDICT: WRONG", "no verdict"),
    "FOUND:": ("FOUND: it grows\nMISSING: none\nREASON: trees bear it", "FOUND: it is hard\nMISSING: life\nREASON: no"),
    "TEXT:": ("TEXT: Somebody sells sweets in the shape of things. Which of these is a sweet?",),
    "|||": (ALIGNED,),
    "SCORE:": ("So.\nSCORE: 1", "SCORE: 0", "no score"),
    "YES or NO": ("1: YES\n2: NO", "1: YES\n2: YES", "1: NO"),
    "Don't solve it. Name": ("Approach: a table\nPersona: a cook", "Approach: a table\nApproach: an equation"),
    "sells sweets": ("I pick (A).",),
}
"""What a prompt that asks for this is answered with, one of these."""


def number(*what: object) -> int:
    """Return a number that tells one question from another."""
    return zlib.crc32(repr(what).encode())


class Parrot(Engine):
    """Says one of a few things, chosen by prompt and seed, or the last words of the prompt."""

    info = EngineInfo("parrot", "1", "parrot", 100_000, "raw", seeds="exact")
    capacity = 8

    async def render(self, messages: Sequence[Any], *, answered: bool = False, **_: Any) -> str:
        return "".join(f"<{turn['role']}>{turn['content']}" for turn in messages) + ("" if answered else "<assistant>")

    async def count_tokens(self, prompt: str) -> int:
        return len(prompt.split())

    async def generate(self, request: Request) -> list[Completion]:
        return [self._one(request, number(request.prompt, request.prefix, request.seed, at)) for at in range(request.n)]

    def _one(self, request: Request, chosen: int) -> Completion:
        replies = next((replies for asked, replies in REPLIES.items() if asked in request.prompt), None)
        last = " ".join(request.prompt.split()[-12:]).removesuffix("<assistant>")
        text = replies[chosen % len(replies)] if replies else f"{last} (about {chosen % 1000})"
        if "<Parallel>" in request.prompt:
            text = _parallel(request.prompt.rpartition("Reasoning:\n")[2].removesuffix("<assistant>"))
        tokens, mean = len(text.split()), -(chosen % 64) / 32
        confidences = {"lowest_group_confidence": 1.0, "tail_confidence": 1.5, "mean_confidence": 2.0}
        counts = {"prompt_tokens": len(request.prompt.split()), "completion_tokens": tokens}
        return Completion(text, "stop", **counts, sum_logprob=mean * tokens, mean_logprob=mean, **confidences)

    async def score(self, request: ScoreRequest) -> Scored:
        tag, words = request.step_tag, len(request.completion.split())
        parts = max(1, request.completion.count(tag) if tag else words)
        sign = -1 if request.kind == "likelihood" else 1
        steps = tuple(sign * (number(request, at) % 64) / 64 for at in range(parts))
        score = sum(steps) if request.kind == "likelihood" else min(steps)
        return Scored(score, steps if request.kind != "reward" else (), len(request.prompt.split()))

    async def close(self) -> None:
        pass


def _parallel(trace: str) -> str:
    """Return a trace whose first and second half are marked as parallel."""
    words = trace.split(" ")
    first, second = (" ".join(half) for half in (words[: len(words) // 2], words[len(words) // 2 :]))
    goal = "<Goal>\n<Outline>1: one half</Outline>\n<Outline>2: the other</Outline>\n</Goal>\n"
    paths = f"<Path>1: {first}</Path>\n<Path>2: {second}</Path>\n<Conclusion>Both.</Conclusion>\n"
    return f"<Parallel>\n{goal}{paths}</Parallel>"


def share_of_letters(completion: str, answer: str | None) -> float | None:
    """A verifier of a user's own: how many letters of the answer are in the completion."""
    return sum(letter in completion for letter in answer) / len(answer) if answer else None


class Inline:
    """A worker pool that calls."""

    def map(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], seconds: float) -> list[Any]:
        return [function(*call) for call in calls]


class Dry:
    """A sandbox that runs nothing; what comes of a job depends on all of it."""

    def run(self, jobs: Sequence[Job], limits: Limits, mounts: Mounts) -> list[Outcome]:
        outcomes = (
            Outcome("passed", None, 0.0, 0, "fine\n"),
            Outcome("failed", "AssertionError", 0.0, 1, "1 of 2"),
            Outcome("timeout", "it took too long", 0.0, -9),
        )
        return [outcomes[number(job) % 3] for job in jobs]


TOOLS: dict[str, Callable[[], Any]] = {"engine": Parrot, "workers": Inline, "sandbox": Dry}
