"""Playing: what a worker does with the episodes it is given. They are drawn, as samples are; a draw is a whole episode.

Enough episodes are live that the engine stays busy while others wait for their groups or for scores: another one begins
whenever fewer calls are at the engine, or wait for it, than it takes at once. Every answer goes to the episode's
journal and from there to the store of calls, so an episode that was cut off is played again from its answers.
"""

from __future__ import annotations

import asyncio
import math
import traceback
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from itertools import count
from typing import Any

from cluster.engines.never_sent import NeverSent
from cluster.storage.slices import Slice
from cluster.working.drawing import Drawing, Row
from cluster.working.reports import Failed
from cluster.working.roles import Role
from cluster.working.work import tools_of
from operators.engine import EngineDied, EngineError
from operators.strategies.calls import Call, MemoryJournal
from operators.strategies.words import POLICY
from schemas import episodes
from schemas.errors import GristmillError, StageFailed


class EpisodeJournal(MemoryJournal):
    """The calls of one episode; what is new is told.

    Args:
        known: those that were made before.
        on_called: called with rows of calls.
    """

    def __init__(
        self, key: str, index: int, run_id: str, known: list[Call], on_called: Callable[[list[Row]], None]
    ) -> None:
        super().__init__(known)
        self._about = {"problem_key": key, "episode": index, "run_id": run_id}
        self._on_called = on_called

    def note(self, calls: list[Call]) -> None:
        super().note(calls)
        self._on_called([{**asdict(call), **self._about} for call in calls])


class Playing(Drawing):
    """The episodes that one worker has still to play.

    Args:
        roles: the worker's engines.
        on_called: called with rows of calls, as they are answered.
        unsafe: whether generated programs may be run without a sandbox.
        others: those of ``Drawing``.
    """

    def __init__(
        self, roles: Mapping[str, Role], on_called: Callable[[list[Row]], None], unsafe: bool, *others: Any
    ) -> None:
        super().__init__(*others)
        assert self.operator.strategy is not None
        self._roles = roles
        self._policy = roles[POLICY]
        self._on_called = on_called
        self._tools = tools_of(self.operator, unsafe)
        assert self._policy.turnstile is not None
        self._turnstile = self._policy.turnstile
        self._news = asyncio.Event()
        self._turnstile.on_enter, self._turnstile.on_leave = self._on_first_call, self._news.set
        self._fault: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._live: set[asyncio.Task[None]] = set()
        self._ranks = count()
        self._beginning: set[int] = set()
        """Ranks of episodes whose first calls haven't come to the turnstile yet."""
        self._known: defaultdict[tuple[str, int], list[Call]] = defaultdict(list)

    @property
    def draws(self) -> int:
        """How many episodes keep the engine busy, at most."""
        strategy = self.operator.strategy
        assert strategy is not None
        if strategy.live is not None:
            return strategy.live
        width = max(1, strategy.rows)
        own = self._policy.seconds_a_call
        if not own:
            return math.ceil(4 * self.desk.capacity / width)
        others = max((role.seconds_a_call for role in self._roles.values() if role is not self._policy), default=0.0)
        return math.ceil(2 * self.desk.capacity / width * (1 + others / own))

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        return [self._begin_forever(), self._raise_first_fault()]

    async def _read_begun(self, begun: Slice) -> None:
        rows = await asyncio.to_thread(begun.read, self._root, episodes.Call.select())
        for row in rows.iter_rows(named=True):
            where = row.pop("problem_key"), row.pop("episode")
            del row["run_id"]
            row["values"] = None if row["values"] is None else tuple(row["values"])
            self._known[where].append(Call(**row))

    async def _begin_forever(self) -> None:
        """Begin one episode after the other, as the engine gets idle."""
        while True:
            await self._room.wait()
            number, index = await self._queue.get()
            if self._queue.qsize() <= self.draws:
                self._on_hungry()
            while not self._idles:
                self._news.clear()
                await self._news.wait()
            rank = next(self._ranks)
            self._beginning.add(rank)
            episode = asyncio.create_task(self._play(number, index, rank))
            self._live.add(episode)
            episode.add_done_callback(self._on_ended)

    @property
    def _idles(self) -> bool:
        """Whether the engine has room for the calls of another episode."""
        if not self._live:
            return True
        load = self._turnstile.load + len(self._beginning) * self.operator.rows
        return len(self._live) < self.draws and load < self.desk.capacity

    def _on_first_call(self, rank: int) -> None:
        self._beginning.discard(rank)

    def _on_ended(self, episode: asyncio.Task[None]) -> None:
        self._live.discard(episode)
        self._news.set()
        error = None if episode.cancelled() else episode.exception()
        if error is not None and not self._fault.done():
            self._fault.set_result(error)

    async def _raise_first_fault(self) -> None:
        """Wait for what is wrong with an engine, or with the strategy; when all is given up, end what is live."""
        try:
            raise await self._fault
        finally:
            for episode in self._live:
                episode.cancel()
            await asyncio.gather(*self._live, return_exceptions=True)

    async def _play(self, number: int, index: int, rank: int) -> None:
        problem = self._problems[number]
        key = problem["problem_key"]
        journal = EpisodeJournal(key, index, self._run_id, self._known.pop((key, index), []), self._on_called)
        desks = {name: role.desk(self.operator.retries, None, rank) for name, role in self._roles.items()}
        self.under_way += 1
        try:
            prompt = await self._prompt(number, problem)
            played = self.operator.play(problem, prompt, index, desks, journal, self._run_id, self._tools)
            self._on_drawn(await played)
        except EngineError as error:
            self._on_drawn(Failed(number, index, str(error), error.served, again=False))
        except NeverSent:
            raise asyncio.CancelledError from None
        except (EngineDied, GristmillError):
            raise
        except Exception as error:
            assert self.operator.strategy is not None
            raise StageFailed(
                f"strategy {self.operator.strategy.public_name()} raised {type(error).__name__}: {error}\n"
                f"{''.join(traceback.format_exception(error))}"
            ) from None
        finally:
            self._beginning.discard(rank)
            self.under_way -= 1
        self._problems.let_go(number)
        self.outstanding -= 1
