"""A role's engine as the worker that plays episodes sees it, where that engine has workers of its own (it takes GPUs).

Everything that is asked in one turn of the event loop goes out together, dealt out to the engines that have least to
do. The driver says where these are, and again whenever one was replaced. Calls that were with an engine when it died
come back as ``CallLost``, and their desk asks them again; each alone then, and one that kills a second engine is
refused for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.engines.never_sent import NeverSent
from cluster.working.journal import Paid, key_of
from cluster.working.reports import Ready
from cluster.working.serving import Address, Answering, Asked, Measure, Render, Told
from operators.engine import (
    CallLost,
    Completion,
    Engine,
    EngineDied,
    EngineError,
    Request,
    Scored,
    ScoreRequest,
)
from operators.token_tree import Tree, TreeRequest
from schemas.conversation import Turn
from schemas.errors import NodeLost, WorkerLost


@dataclass(eq=False)
class _Place:
    """One engine, and how many calls it has of ours."""

    address: Address
    load: int = 0


@dataclass(eq=False)
class _Waiting:
    asked: Asked
    answer: asyncio.Future[Any]
    sent: bool = False


class FarEngine(Engine):
    """See the module.

    Args:
        replicas: how many engines there are in all.
    """

    def __init__(self, role: str, replicas: int) -> None:
        self._role = role
        self._replicas = replicas
        self._places: dict[str, _Place] = {}
        self._dead: set[str] = set()
        self._outbox: list[_Waiting] = []
        self._suspects: set[bytes] = set()
        self._refused: set[bytes] = set()
        self._there = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def there(self) -> bool:
        return bool(self._places)

    async def until_there(self) -> None:
        """Wait until one of the engines is loaded."""
        await self._there.wait()

    def connect(self, addresses: Sequence[Address], ready: Ready) -> None:
        """Hear where the engines are now; those that we saw dying aren't."""
        self.info, self.counts, self.patience = ready.info, ready.counts, ready.patience
        self.capacity = self._replicas * ready.capacity
        there = {one.name: one for one in addresses if one.name not in self._dead}
        self._places = {name: self._places.get(name, _Place(one)) for name, one in there.items()}
        if self._places:
            self._there.set()
            self._send()
        else:
            self._there.clear()

    # -- as a desk sees it -----------------------------------------------------------------------------------------

    async def render(
        self, messages: Sequence[Turn], *, chat: bool = True, answered: bool = False, tools: Sequence[Turn] = ()
    ) -> str:
        return await self._looked_up(Render(messages, chat, answered, tools))

    async def count_tokens(self, prompt: str) -> int:
        return await self._looked_up(Measure(prompt, most=False))

    async def most_tokens(self, prompt: str) -> int:
        return await self._looked_up(Measure(prompt, most=True))

    async def generate(self, request: Request) -> list[Completion]:
        return await self._asked(request)

    async def score(self, request: ScoreRequest) -> Scored:
        return await self._asked(request)

    async def grow_tree(self, request: TreeRequest) -> Tree:
        return await self._asked(request)

    async def close(self) -> None:
        """Let go of what is under way; the engines are their own workers'."""
        for task in self._sending:
            task.cancel()

    async def _looked_up(self, asked: Measure | Render) -> Any:
        """Return what costs nothing, whoever dies meanwhile."""
        while True:
            try:
                return await self._put(asked)
            except CallLost:
                continue

    async def _asked(self, asked: Paid) -> Any:
        if not self._suspects:
            return await self._put(asked)
        key = key_of(asked)
        if key in self._refused:
            raise self._refusal(asked)
        return await (self._alone(asked, key) if key in self._suspects else self._put(asked))

    # -- sending ---------------------------------------------------------------------------------------------------

    async def _put(self, asked: Asked) -> Any:
        """Ask together with all that is asked in this turn of the loop.

        Raises:
            CallLost: the engine died.
            NeverSent: it was given up before there was an engine.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(asked, loop.create_future())
        self._outbox.append(waiting)
        if len(self._outbox) == 1:
            loop.call_soon(self._send)
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            if waiting.sent:
                raise
            raise NeverSent from None

    def _send(self) -> None:
        if not self._places:
            return  # until we hear of another
        outbox, self._outbox = self._outbox, []
        lists: dict[_Place, list[_Waiting]] = {}
        for waiting in outbox:
            if not waiting.answer.done():
                place = min(self._places.values(), key=lambda one: one.load)
                place.load += 1
                waiting.sent = True
                lists.setdefault(place, []).append(waiting)
        for place, calls in lists.items():
            sending = asyncio.create_task(self._deliver(place, calls))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    async def _deliver(self, place: _Place, calls: list[_Waiting]) -> None:
        try:
            answers = await place.address.call(Answering.answer, [one.asked for one in calls])
        except (WorkerLost, EngineDied) as error:
            asked = [one.asked for one in calls if isinstance(one.asked, Paid)]
            if not isinstance(error, NodeLost):
                self._suspects.update(map(key_of, asked))
            self._lose(place)
            answers = [self._lost(error) for _ in calls]
        finally:
            place.load -= len(calls)
        for one, answer in zip(calls, answers, strict=True):
            if not one.answer.done():
                _settle(one.answer, answer)

    async def _alone(self, asked: Paid, key: bytes) -> Any:
        """Ask what was with an engine when it died: with nothing else in the engine.

        Raises:
            EngineError: it died of it.
        """
        while True:
            try:
                while not self._places:  # another's call may have killed it meanwhile
                    await self._there.wait()
            except asyncio.CancelledError:
                raise NeverSent from None
            place = min(self._places.values(), key=lambda one: one.load)
            sent, place.load = False, place.load + 1
            try:
                hold = await place.address.call(Answering.hold)
                sent = True
                answers = await place.address.call(Answering.answer, [asked], hold)
            except asyncio.CancelledError:
                if sent:
                    raise
                raise NeverSent from None
            except (WorkerLost, EngineDied) as error:
                self._lose(place)
                if sent and not isinstance(error, NodeLost):
                    self._refused.add(key)
                    raise self._refusal(asked) from error
                if sent:
                    raise self._lost(error) from error
                continue
            finally:
                place.load -= 1
            if answers is None:
                continue  # too late: the engine was everybody's again
            self._suspects.discard(key)
            [answer] = answers
            if isinstance(answer, Exception):
                raise answer
            return answer

    def _lost(self, error: BaseException) -> CallLost:
        return CallLost(f"the engine of role '{self._role}' died: {error}", transient=True)

    def _refusal(self, asked: Paid) -> EngineError:
        return EngineError(
            f"request {asked.request_id}: two engines of role '{self._role}' died over it, the second with nothing "
            "else to do; it isn't asked again",
            served=True,
        )

    def _lose(self, place: _Place) -> None:
        self._dead.add(place.address.name)
        self._places.pop(place.address.name, None)
        if not self._places:
            self._there.clear()


def _settle(answer: asyncio.Future[Any], told: Told) -> None:
    if isinstance(told, Exception):
        answer.set_exception(told)
    else:
        answer.set_result(told)
