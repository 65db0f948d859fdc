"""The desk: what work asks instead of an engine. It is the only place from which an engine is called.

It tries again what failed in passing, counts what every call took by the engine's own word, sets each call's worst case
apart from the worker's credit before it is sent, and gives answers that are there already without asking.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from cluster.records.bill import Amount, Bill
from cluster.records.timeline import Timeline
from cluster.working.credit import Credit
from cluster.working.journal import Journal, key_of
from cluster.working.stops import ask_for_a_stop
from cluster.working.turnstile import Turnstile
from operators.engine import Completion, Engine, EngineError, Request, Scored, ScoreRequest
from schemas.conversation import Turn
from schemas.errors import BadInput

Said = TypeVar("Said", list[Completion], Scored)


class Meter:
    """What one engine's calls took, whoever asked.

    Attributes:
        bill: by the engine's own count.
        paid: that, at the engine's prices, and ``lost``.
        lost: the worst cases of calls that brought nothing, since nobody knows what the engine did for them.
        shows_stops: whether the engine told a stop string when it was asked for one; None before that.
    """

    def __init__(self, timeline: Timeline, credit: Credit | None) -> None:
        self.timeline = timeline
        self.credit = credit
        self.bill = Bill()
        self.paid = Amount()
        self.lost = Amount()
        self.shows_stops: bool | None = None

    def settle(self, worst: Amount, took: Bill | None) -> None:
        """Note what became of a call; None where nobody knows."""
        if took is not None:
            self.bill += took
        if self.credit is None:
            return
        used = worst
        if took is not None:
            used = self.credit.price(took.prompt_tokens, took.cached_prompt_tokens, took.completion_tokens)
        else:
            self.lost += worst
        self.paid += used
        self.credit.settle(worst, used)


class Desk(Engine):
    """An engine as work sees it; made for one piece of work, or for all the sampling of a worker.

    Args:
        retries: how often a request is tried again after a transient fault, with exponential backoff.
        journal: where answers are kept until the work is finished; None where none are.
        turnstile: where calls wait for their turn at the engine; None where they needn't.
        rank: the work's; smaller ones go first.
    """

    def __init__(
        self,
        engine: Engine,
        meter: Meter,
        retries: int,
        journal: Journal | None = None,
        turnstile: Turnstile | None = None,
        rank: int = 0,
    ) -> None:
        self._engine = engine
        self._meter = meter
        self._retries = retries
        self._journal = journal
        self._turnstile = turnstile
        self._rank = rank
        self._asked: Counter[bytes] = Counter()
        self.info = engine.info
        self.capacity = engine.capacity

    async def render(
        self, messages: Sequence[Turn], *, chat: bool = True, answered: bool = False, tools: Sequence[Turn] = ()
    ) -> str:
        return await self._engine.render(messages, chat=chat, answered=answered, tools=tools)

    async def count_tokens(self, prompt: str) -> int:
        return await self._engine.count_tokens(prompt)

    async def most_tokens(self, prompt: str) -> int:
        return await self._engine.most_tokens(prompt)

    async def tells_stops(self) -> bool:
        """Whether ``finish_reason`` tells stop strings. What isn't known of an engine is asked, once in its life.

        Raises:
            EngineError: transient; the engine didn't answer.
        """
        if self._engine.info.stops == "told":
            return True
        if self._meter.shows_stops is None:
            self._meter.shows_stops = await ask_for_a_stop(self, self._generate)
        return self._meter.shows_stops

    async def generate(self, request: Request) -> list[Completion]:
        """See ``Engine.generate``; transient faults were tried again.

        Raises:
            BadInput: the text shall end with its stop string, and the engine doesn't tell what ended a text.
        """
        if request.params.keep_stop and request.params.stop and not await self.tells_stops():
            raise BadInput(f"keep_stop: {self.info.model} doesn't tell a stop string from the end of a text")
        if self._journal is None:
            return await self._generate(request)
        return await self._once(self._journal, request, self._generate)

    async def score(self, request: ScoreRequest) -> Scored:
        """See ``Engine.score``; transient faults were tried again."""
        if self._journal is None:
            return await self._score(request)
        return await self._once(self._journal, request, self._score)

    async def _once(
        self, journal: Journal, request: Request | ScoreRequest, ask: Callable[..., Awaitable[Said]]
    ) -> Said:
        """Ask what has no answer yet. Who asks the same several times gets as many answers, the known ones first."""
        key = key_of(request)
        place = self._asked[key]
        self._asked[key] += 1
        if (known := journal.find(key, place)) is not None:
            return known  # pyright: ignore[reportReturnType]: the key tells the kinds apart
        answer = await ask(request)
        journal.note(key, answer)
        return answer

    async def _generate(self, request: Request) -> list[Completion]:
        async def worst(credit: Credit) -> Amount:
            prompt = await self._engine.most_tokens(request.prompt + request.prefix)
            return credit.worst(request.n * prompt, request.n * request.params.max_tokens)

        async def send() -> list[Completion]:
            answers = await self._engine.generate(request)
            if not self._engine.counts or all(
                one.prompt_tokens and (one.completion_tokens or not one.text) for one in answers
            ):
                return answers
            return [await self._counted(request, one) for one in answers]

        answers = await self._tried(send, worst, _generated)
        if len(answers) != request.n:
            raise EngineError(f"request {request.request_id}: asked for {request.n} completion(s), got {len(answers)}")
        return answers

    async def _counted(self, request: Request, answer: Completion) -> Completion:
        """Return an answer with its tokens, of which the engine says nothing: as many as there can be at most."""
        most = self._engine.most_tokens
        return replace(
            answer,
            prompt_tokens=answer.prompt_tokens or await most(request.prompt + request.prefix),
            completion_tokens=answer.completion_tokens or min(await most(answer.text), request.params.max_tokens),
        )

    async def _score(self, request: ScoreRequest) -> Scored:
        async def worst(credit: Credit) -> Amount:
            return credit.worst(await self._engine.most_tokens(request.prompt + request.completion), 0)

        return await self._tried(lambda: self._engine.score(request), worst, _scored)

    async def _tried(
        self,
        send: Callable[[], Awaitable[Said]],
        worst_of: Callable[[Credit], Awaitable[Amount]],
        bill_of: Callable[[Said], Bill],
    ) -> Said:
        if self._turnstile is None:
            return await self._paid(send, worst_of, bill_of)
        await self._turnstile.enter(self._rank)
        try:
            return await self._paid(send, worst_of, bill_of)
        finally:
            self._turnstile.leave()

    async def _paid(
        self,
        send: Callable[[], Awaitable[Said]],
        worst_of: Callable[[Credit], Awaitable[Amount]],
        bill_of: Callable[[Said], Bill],
    ) -> Said:
        meter = self._meter
        worst = Amount() if meter.credit is None else await worst_of(meter.credit)
        for attempt in range(self._retries + 1):
            if meter.credit is not None:
                await meter.credit.take(worst, self._rank)
            took: Bill | None = None
            meter.timeline.enter()
            try:
                answer = await send()
                took = bill_of(answer)
                return answer
            except EngineError as error:
                if not error.transient:
                    took = Bill(calls=1)  # a request that is refused takes nothing
                    raise
                if attempt == self._retries:
                    raise
            finally:
                meter.timeline.leave(0 if took is None else took.completion_tokens)
                meter.settle(worst, took)
            await asyncio.sleep(min(30.0, 0.25 * 2**attempt) * (0.5 + random.random()))
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Nothing: the engine is its worker's."""


def _generated(answers: list[Completion]) -> Bill:
    return Bill(
        calls=1,
        prompt_tokens=sum(one.prompt_tokens for one in answers),
        cached_prompt_tokens=sum(one.cached_prompt_tokens for one in answers),
        completion_tokens=sum(one.completion_tokens for one in answers),
    )


def _scored(answer: Scored) -> Bill:
    return Bill(1, answer.prompt_tokens, answer.cached_prompt_tokens, 0, 1)
