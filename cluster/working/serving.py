"""Serving: what the worker of a role's engine does. Desks in other workers send it lists of calls, metered and paid.

The engine's own faults come back as answers; an engine that dies takes its whole worker along. A call that is thought
to have killed one engine is asked alone: whoever sends it first has the engine for itself (``hold``), so that nothing
else is to blame if that dies too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.records.timeline import Timeline
from operators.engine import Completion, Engine, EngineDied, EngineError, Request, Scored, ScoreRequest
from operators.token_tree import Tree, TreeRequest
from schemas.conversation import Turn
from schemas.errors import BadInput

HOLD_SECONDS = 10.0
"""An engine that is held and isn't asked for so long is everybody's again: whoever held it is gone."""


@dataclass(frozen=True)
class Measure:
    """Ask how many tokens a text has, or may be paid for at most."""

    text: str
    most: bool


@dataclass(frozen=True)
class Render:
    """Ask for the text of a prompt (``Engine.render``)."""

    messages: Sequence[Turn]
    chat: bool
    answered: bool
    tools: Sequence[Turn]


Asked = Request | ScoreRequest | TreeRequest | Measure | Render
Told = list[Completion] | Scored | Tree | int | str | EngineError | BadInput


class Answering(Protocol):
    """A worker of a role's engine, as far as other workers call it."""

    async def answer(self, calls: list[Asked], hold: int = 0) -> list[Told] | None: ...

    async def hold(self) -> int: ...


class Address(Protocol):
    """Where a worker answers others, wherever these are; it is handed around by the driver."""

    @property
    def name(self) -> str:
        """Which one it is: a worker in the place of a dead one has another."""
        ...

    async def call(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call a method of ``Answering``.

        Raises:
            WorkerLost: the worker is gone, or its node (``NodeLost``).
            EngineDied: its engine is.
        """
        ...


class Serving:
    """One engine, as several workers ask it."""

    def __init__(self, engine: Engine, timeline: Timeline) -> None:
        self._engine = engine
        self._timeline = timeline
        self._door = asyncio.Lock()
        self._inside = 0
        self._left = asyncio.Event()
        self._held = 0
        self._holds = 0
        self._lease: asyncio.TimerHandle | None = None
        self._death: Exception | None = None

    async def hold(self) -> int:
        """Wait until nothing is in the engine, and keep everybody else out; return what the next call has to show.

        Raises:
            EngineDied: of what was in it meanwhile; whoever waited for the engine isn't to blame.
        """
        await self._door.acquire()
        try:
            while self._inside:
                self._left.clear()
                await self._left.wait()
            if self._death is not None:
                raise EngineDied(str(self._death)) from self._death
        except BaseException:
            self._door.release()
            raise
        self._holds += 1
        self._held = self._holds
        self._lease = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._let_go)
        return self._held

    def _let_go(self) -> None:
        self._held = 0
        self._door.release()

    async def answer(self, calls: list[Asked], hold: int = 0) -> list[Told] | None:
        """Ask the engine, all at once; return its answers, or its faults in their place.

        Args:
            hold: what ``hold`` returned to whoever asks.

        Returns:
            None where that isn't so any more; nothing was asked.
        """
        if hold:
            if hold != self._held or self._lease is None:
                return None
            self._lease.cancel()
            try:
                return [await self._told(one) for one in calls]
            finally:
                self._let_go()
        async with self._door:
            self._inside += len(calls)
        try:
            return list(await asyncio.gather(*map(self._told, calls)))
        finally:
            self._inside -= len(calls)
            self._left.set()

    async def _told(self, asked: Asked) -> Told:
        try:
            match asked:
                case Measure():
                    measure = self._engine.most_tokens if asked.most else self._engine.count_tokens
                    return await measure(asked.text)
                case Render():
                    about = {"chat": asked.chat, "answered": asked.answered, "tools": asked.tools}
                    return await self._engine.render(asked.messages, **about)
                case _:
                    return await self._timed(asked)
        except (EngineError, BadInput) as error:
            return error
        except Exception as error:
            self._death = error
            raise

    async def _timed(self, asked: Request | ScoreRequest | TreeRequest) -> list[Completion] | Scored | Tree:
        written = 0
        self._timeline.enter()
        try:
            if isinstance(asked, ScoreRequest):
                return await self._engine.score(asked)
            if isinstance(asked, TreeRequest):
                found = await self._engine.grow_tree(asked)
                written = found.took.written
                return found
            answers = await self._engine.generate(asked)
            written = sum(one.completion_tokens for one in answers)
            return answers
        finally:
            self._timeline.leave(written)
