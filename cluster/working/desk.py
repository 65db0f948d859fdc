"""The desk: what work asks instead of an engine. It is the only place from which an engine is called.

It tries again what failed in passing, counts what every call took by the engine's own word, sets each call's worst case
apart from the worker's credit before it is sent, and gives answers that are there already without asking.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from cluster.engines.never_sent import NeverSent
from cluster.records.bill import Amount, Bill
from cluster.records.timeline import Timeline
from cluster.working.credit import Credit
from cluster.working.journal import Journal, Paid, key_of
from cluster.working.overrun import Overrun, overrun_of
from cluster.working.stops import ask_for_a_stop
from cluster.working.throttle import Throttle
from cluster.working.tries import Tries
from cluster.working.turnstile import Turnstile
from operators.engine import CallLost, Completion, Engine, EngineError, Request, Scored, ScoreRequest
from operators.token_tree import Tree, TreeRequest
from schemas.conversation import Turn
from schemas.errors import BadInput
from schemas.unicode import whole

FIRST = 4
"""Calls that are sent before the first answer shows what they take, where money is capped."""
TRIES = 5
"""How often an engine is asked again for what costs nothing, such as how long a prompt is: some eight seconds."""
Told = TypeVar("Told")
Said = TypeVar("Said", list[Completion], Scored, Tree)


class Meter:
    """What one engine's calls took, whoever asked.

    Attributes:
        bill: by the engine's own count.
        paid: that, at the engine's prices, and ``lost``.
        lost: the worst cases of calls that brought nothing, since nobody knows what the engine did for them.
        overrun: what the engine takes beyond what was asked of it; ``on_overrun`` is called whenever that grows.
        answered: set once an answer showed what a call really takes, or at once where nothing is capped: before that no
            more than ``FIRST`` are sent.
        estimated: calls whose tokens aren't the engine's own count.
        shows_stops: whether the engine told a stop string when it was asked for one; None before that.
        throttle: lets as many calls by at once as people say.
    """

    def __init__(self, timeline: Timeline, credit: Credit | None, capped: bool = False) -> None:
        self.timeline = timeline
        self.credit = credit
        self.bill = Bill()
        self.paid = Amount()
        self.lost = Amount()
        self.overrun = Overrun()
        self.on_overrun: Callable[[], None] = lambda: None
        self.estimated = 0
        self.answered = asyncio.Event()
        if not capped:
            self.answered.set()
        self.shows_stops: bool | None = None
        self.throttle = Throttle()

    def note(self, answers: Sequence[Completion], prompt: int, completion: int) -> None:
        """Look whether answers took more than the most that was thought possible."""
        before, estimated = self.overrun, False
        for answer in answers:
            estimated = estimated or answer.estimated
            if answer.completion_tokens > completion or answer.prompt_tokens > prompt:
                self.overrun = self.overrun.with_(overrun_of(answer, prompt, completion))
        self.estimated += estimated
        if self.overrun is not before:
            self.on_overrun()

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
        retries: how often a request is tried again after a transient fault, with exponential backoff; None where each
            try has to be paid for by somebody else first, who hears of the fault.
        most_completion: the most tokens that a completion may have, of those that a request asks for.
        journal: where answers are kept until the work is finished; None where none are.
        turnstile: where calls wait for their turn at the engine; None where they needn't.
        rank: the work's; smaller ones go first.
    """

    def __init__(
        self,
        engine: Engine,
        meter: Meter,
        retries: int | None,
        journal: Journal | None = None,
        most_completion: Callable[[int], int] = int,
        turnstile: Turnstile | None = None,
        rank: int = 0,
    ) -> None:
        self._engine = engine
        self._meter = meter
        self._retries = retries
        self._most_completion = most_completion
        self._journal = journal
        self._turnstile = turnstile
        self._rank = rank
        self._asked: Counter[bytes] = Counter()
        self.info = engine.info
        self.capacity = engine.capacity
        self.patience = engine.patience

    @property
    def pays_elsewhere(self) -> bool:
        """Whether nothing is tried again here, since somebody else has to pay for it first."""
        return self._retries is None

    async def render(
        self, messages: Sequence[Turn], *, chat: bool = True, answered: bool = False, tools: Sequence[Turn] = ()
    ) -> str:
        return await self._told(lambda: self._engine.render(messages, chat=chat, answered=answered, tools=tools))

    async def count_tokens(self, prompt: str) -> int:
        return await self._told(lambda: self._engine.count_tokens(prompt))

    async def most_tokens(self, prompt: str) -> int:
        return await self._told(lambda: self._engine.most_tokens(prompt))

    async def _told(self, ask: Callable[[], Awaitable[Told]]) -> Told:
        """Ask for what costs nothing: whoever pays, it is asked again where the engine doesn't answer for a moment."""
        tries: Tries | None = None
        while True:
            try:
                return await ask()
            except EngineError as error:
                tries = tries or Tries(TRIES, self.patience)
                if (pause := tries.again(error)) is None:
                    raise
            await asyncio.sleep(pause)

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

    async def grow_tree(self, request: TreeRequest) -> Tree:
        """See ``Engine.grow_tree``; transient faults were tried again."""
        if self._journal is None:
            return await self._grow_tree(request)
        return await self._once(self._journal, request, self._grow_tree)

    async def _once(self, journal: Journal, request: Paid, ask: Callable[..., Awaitable[Said]]) -> Said:
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
        most = self._most_completion(request.params.max_tokens)

        async def worst(credit: Credit) -> Amount:
            over = self._meter.overrun
            prompt = await self.most_tokens(request.prompt + request.prefix) + over.prompt
            return credit.worst(request.n * prompt, request.n * (most + over.completion))

        async def send() -> list[Completion]:
            answers, longest = await self._engine.generate(request), 0
            for place, one in enumerate(answers):
                if self._engine.counts and not (one.prompt_tokens and (one.completion_tokens or not one.text)):
                    one = await self._counted(request, one)
                answers[place] = one if one.text.isascii() and not (one.reasoning or one.tool_calls) else _written(one)
                longest = max(longest, one.prompt_tokens)
            if longest > len(request.prompt):  # a token is a letter at least, nearly always
                longest = await self.most_tokens(request.prompt + request.prefix)
            self._meter.note(answers, longest, most)
            return answers

        answers = await self._tried(send, worst, _generated)
        if len(answers) != request.n:
            raise EngineError(f"request {request.request_id}: asked for {request.n} completion(s), got {len(answers)}")
        return answers

    async def _counted(self, request: Request, answer: Completion) -> Completion:
        """Return an answer with its tokens, of which the engine says nothing: as many as there can be at most."""
        most = self.most_tokens
        return replace(
            answer,
            estimated=True,
            prompt_tokens=answer.prompt_tokens or await most(request.prompt + request.prefix),
            completion_tokens=answer.completion_tokens or min(await most(answer.text), request.params.max_tokens),
        )

    async def _score(self, request: ScoreRequest) -> Scored:
        async def worst(credit: Credit) -> Amount:
            return credit.worst(await self.most_tokens(request.prompt + request.completion), 0)

        async def send() -> Scored:
            answer = await self._engine.score(request)
            self._meter.estimated += answer.estimated
            return answer

        return await self._tried(send, worst, _scored)

    async def _grow_tree(self, request: TreeRequest) -> Tree:
        async def worst(credit: Credit) -> Amount:
            over, most = self._meter.overrun, request.most(await self.most_tokens(request.prompt + request.prefix))
            return credit.worst(most.read + most.scorer_read + over.prompt, most.written + over.completion)

        async def send() -> Tree:
            tree = await self._engine.grow_tree(request)
            most = request.most(await self.most_tokens(request.prompt + request.prefix))
            as_one = Completion("", "stop", tree.took.read + tree.took.scorer_read, tree.took.written)
            self._meter.note([as_one], most.read + most.scorer_read, most.written)
            return tree

        return await self._tried(send, worst, _grown)

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
        tries: Tries | None = None
        while True:
            if not meter.throttle.free:
                await self._wait_for_a_place(meter.throttle)
            meter.throttle.under_way += 1
            try:
                worst = await self._set_apart(worst_of)
            except BaseException:
                meter.throttle.leave()
                raise
            took: Bill | None = None
            meter.timeline.enter()
            try:
                answer = await send()
                meter.answered.set()
                took = bill_of(answer)
                return answer
            except EngineError as error:
                if not error.served:
                    took = Bill(int(not error.transient), error.used[0], 0, error.used[1])
                tries = tries or Tries(self._retries or 0, 0.0 if self.pays_elsewhere else self.patience)
                pause = 0.0 if isinstance(error, CallLost) else tries.again(error)
                if pause is None:
                    meter.answered.set()
                    raise
            except (BadInput, NeverSent):
                took = Bill()
                raise
            finally:
                meter.throttle.leave()
                meter.timeline.leave(0 if took is None else took.completion_tokens)
                meter.settle(worst, took)
            await asyncio.sleep(pause)

    @staticmethod
    async def _wait_for_a_place(throttle: Throttle) -> None:
        """Wait until fewer calls are under way than people want.

        Raises:
            NeverSent: it was cancelled meanwhile.
        """
        try:
            await throttle.wait()
        except asyncio.CancelledError:
            raise NeverSent from None

    async def _set_apart(self, worst_of: Callable[[Credit], Awaitable[Amount]]) -> Amount:
        """Wait until a call may be sent, and take its worst case from the credit; return it.

        Raises:
            NeverSent: it was cancelled meanwhile.
            EngineError: transient; what somebody else paid for it isn't enough.
        """
        meter = self._meter
        if not meter.answered.is_set() and meter.timeline.in_flight >= FIRST:
            try:
                await meter.answered.wait()
            except asyncio.CancelledError:
                raise NeverSent from None
            if meter.overrun and self.pays_elsewhere:
                raise EngineError("the engine takes more than was set apart", True, served=False, busy=True)
        if meter.credit is None:
            return Amount()
        while True:
            over, worst = meter.overrun, await worst_of(meter.credit)
            await meter.credit.take(worst, self._rank)
            if meter.overrun is over:
                return worst
            meter.credit.settle(worst, Amount())  # while it waited, the engine showed that it takes more

    async def close(self) -> None:
        """Nothing: the engine is its worker's."""


def _written(answer: Completion) -> Completion:
    """Return an answer whose texts can be written, whatever the engine made of its characters."""
    reasoning, calls = answer.reasoning, answer.tool_calls
    return replace(
        answer,
        text=whole(answer.text),
        reasoning=reasoning and whole(reasoning),
        tool_calls=calls and whole(calls),
    )


def _generated(answers: list[Completion]) -> Bill:
    return Bill(
        calls=1,
        prompt_tokens=sum(one.prompt_tokens for one in answers),
        cached_prompt_tokens=sum(one.cached_prompt_tokens for one in answers),
        completion_tokens=sum(one.completion_tokens for one in answers),
        estimated_tokens=sum(one.prompt_tokens + one.completion_tokens for one in answers if one.estimated),
    )


def _grown(answer: Tree) -> Bill:
    took = answer.took
    return Bill(1, took.read + took.scorer_read, 0, took.written, took.passes)


def _scored(answer: Scored) -> Bill:
    estimated = answer.prompt_tokens if answer.estimated else 0
    return Bill(1, answer.prompt_tokens, answer.cached_prompt_tokens, 0, 1, estimated)
