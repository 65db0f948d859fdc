"""The gate: when the next request may be sent, learnt from how the server answers. No engine's library is needed here.

Two things are learnt. *How many at once*: additive increase, multiplicative decrease (Chiu & Jain 1989), halved by
whatever shows that there were too many. *How many a second*: where a server refuses by a rate (429), what it granted
between two refusals is the rate that is gone on with; more is tried slowly, once that went well for a while.

After a refusal nobody is sent until the time that the server told, or a growing pause where it told none. Then one
request tries whether it is over, and the others follow once it is served, or wasn't refused for a moment. So a server
that is away is asked by one request at a time, and one that counts refused calls is hardly asked in vain. Requests keep
the place they first had in the queue.

All of it lives in one event loop, whose clock it goes by.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from itertools import count

from cluster.engines.never_sent import NeverSent

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds of the first pause that the server didn't name, and of the longest; each refusal in a row doubles it."""
TRIAL = 1.0
"""A request that tries whether a pause is over, and isn't refused for so many seconds, is taken to be accepted."""
BURST = 0.5
"""Seconds' worth of requests (and of tokens) that may be made up for at once."""
STEADY = 20.0
"""Seconds without a refusal, until more than what was granted is tried."""
BELOW = 0.03
"""Growth of the rate, each second, up to what was granted."""
ABOVE, MOST_ABOVE = 0.0005, 0.003
"""Growth beyond it, each second, times the seconds since ``STEADY``; and at most."""


class Gate:
    """Lets requests through.

    Args:
        most: requests in flight at most.
        per_second: requests each second at most; None where only the server's refusals say.
        tokens_per_second: likewise of tokens, prompts and completions together.
    """

    def __init__(
        self,
        most: int,
        per_second: float | None = None,
        tokens_per_second: float | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.most = most
        self.limit = float(most)
        self.in_flight = 0
        self.rate: float | None = None
        """Requests each second that the server is thought to grant; None while it never refused by a rate."""
        self.down_since: float | None = None
        """Since when nothing was served, after a refusal."""
        self._loop = asyncio.get_running_loop()
        self._clock = clock or self._loop.time
        self._given, self._tokens = per_second, tokens_per_second
        self._places = count()
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._next = self._next_tokens = float("-inf")
        """When the next request may go, by the rates."""
        self._pause_until = self._trial_until = float("-inf")
        self._trying = False
        """Whether a pause isn't over yet: one request at a time finds out."""
        self._pauses = 0
        """How many there were: what was sent before the latest tells nothing new."""
        self._streak = 0
        """Pauses in a row that weren't long enough."""
        self._by_rate = False
        """Whether the pause that is on is because of a rate."""
        self._wide = self.limit
        """The limit before that pause."""
        self._ceiling: float | None = None
        """Up to where the rate grows quickly."""
        self._grown = self._refused_at = self._tried_at = float("-inf")
        """When the rate last grew, a request was last refused, and a pause was last tried."""
        self._since: float | None = None
        self._granted = 0
        """Requests that were sent since ``_since``, when sending began again, and not refused: a model may take minutes
        to serve what it took."""
        self._begun = 0
        """How many pauses there had been then."""

    def place(self) -> int:
        """Return a place in the queue, behind all that were given."""
        return next(self._places)

    async def enter(self, place: int, tokens: int = 0) -> int:
        """Wait for one's turn; return after how many pauses that was. Whoever entered has to ``leave``.

        Args:
            tokens: what the request will take, as far as is known.

        Raises:
            NeverSent: it was cancelled meanwhile.
        """
        now = self._clock()
        if not self._queue and (wait := self._wait(now)) is not None and wait <= 0:
            return self._take(now, tokens)
        turn: asyncio.Future[None] = self._loop.create_future()
        entry = (place, tokens, turn)
        heapq.heappush(self._queue, entry)
        self._let_go()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the turn was given; somebody else takes it
            else:
                self._queue.remove(entry)
                heapq.heapify(self._queue)
            raise NeverSent from None
        return self._pauses

    def leave(self) -> None:
        """Note that a request came back."""
        self.in_flight -= 1
        if self._queue:
            self._let_go()

    def turn_away(self, error: Callable[[], Exception]) -> None:
        """End the waiting of all that wait, with an error of its own for each."""
        queue, self._queue = self._queue, []
        for _, _, turn in queue:
            if not turn.done():
                turn.set_exception(error())

    @property
    def waits(self) -> float:
        """Seconds until the next request is sent, where a pause is on."""
        return max(0.0, self._pause_until - self._clock())

    # -- what the server says --------------------------------------------------------------------------------------

    def served(self, entered: int, expected: int = 0, tokens: int = 0) -> None:
        """Note that a request was served.

        Args:
            entered: after how many pauses.
            expected: the tokens it entered with.
            tokens: those it took.
        """
        self.down_since = None
        if self.limit < self.most:
            self.limit = min(float(self.most), self.limit + 1.0 / self.limit)
        if entered == self._pauses:
            if self._trying:
                self._go_on()
            elif self.rate is not None:
                self._grow(self._clock())
            self._streak = 0
        if self._tokens is not None:
            self._next_tokens -= (expected - tokens) / self._tokens

    def refused(self, entered: int, told: float = 0.0, by_rate: bool = False) -> None:
        """Note that the server can't now.

        Args:
            entered: after how many pauses the request was sent.
            told: seconds after which the server wants to be asked again; 0 where it doesn't say.
            by_rate: it says that there were too many, not that it is broken.
        """
        now = self._clock()
        self.down_since = now if self.down_since is None else self.down_since
        if told:
            self._pause_until = max(self._pause_until, now + told)
        self._granted -= entered >= self._begun
        if entered < self._pauses:
            return  # it was on its way when another was refused
        if not self._streak:
            self._wide = self.limit
        if not (by_rate and self._streak):
            self.limit = max(1.0, self.limit / 2)
        self._streak += 1
        self._pauses += 1
        self._trying, self._trial_until = True, float("-inf")
        self._by_rate = by_rate and (self._streak > 1 or told > 0)
        if not told:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._streak - 1)) * random.uniform(0.8, 1.2)
            self._pause_until = max(self._pause_until, now + pause)
        if by_rate and self._streak == 1 and self.rate is not None:
            self._ceiling = 0.97 * self.rate
        self._refused_at = now

    # -- when the next one goes ------------------------------------------------------------------------------------

    @property
    def _pace(self) -> float | None:
        """Requests each second, by what was set and what was learnt."""
        if self.rate is None or self._given is None:
            return self.rate or self._given
        return min(self.rate, self._given)

    def _wait(self, now: float) -> float | None:
        """Return for how many seconds nobody may be sent; None until something comes back."""
        if self.in_flight >= int(self.limit):
            return None
        return max(self._pause_until, self._trial_until, self._next, self._next_tokens) - now

    def _take(self, now: float, tokens: int) -> int:
        self.in_flight += 1
        self._granted += 1
        self._since = now if self._since is None else self._since
        pace = self._pace
        if pace is not None:
            self._next = max(self._next, now - BURST) + 1.0 / pace
        if self._tokens is not None:
            self._next_tokens = max(self._next_tokens, now - BURST) + tokens / self._tokens
        if self._trying:
            if self._trial_until > float("-inf"):
                self._go_on()  # the request before wasn't refused
            else:
                self._tried_at, self._trial_until = now, now + TRIAL
        return self._pauses

    def _let_go(self) -> None:
        """Send those whose turn it is; look again when the next one's comes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            now = self._clock()
            wait = self._wait(now)
            if wait is None:
                return
            if wait > 0:
                self._timer = self._loop.call_later(wait, self._let_go)
                return
            _, tokens, turn = heapq.heappop(self._queue)
            if not turn.done():
                self._take(now, tokens)
                turn.set_result(None)

    # -- the rate --------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """The pause is over: go on, at the rate that was granted until now where refusals are by a rate."""
        self._trying, self._trial_until = False, float("-inf")
        end = self._tried_at
        if self._by_rate and self._since is not None and end > self._since:
            # it was over at some time since the latest refusal
            granted, least = max(1, self._granted), end - self._since
            if self.rate is None:
                self.rate = granted / least
                self._ceiling = granted / ((end + max(self._since, self._refused_at)) / 2 - self._since)
            else:
                # where the first pause was long enough, the rate was only a little too high
                least_share = 0.9 if self._streak == 1 else 0.5
                self.rate *= min(0.95, max(least_share, granted / least / self.rate))
            self.limit = max(self.limit, self._wide)  # it wasn't that they were too many at once
        self._since, self._granted, self._begun, self._grown = end, 0, self._pauses, self._clock()
        if self._queue:
            self._let_go()

    def _grow(self, now: float) -> None:
        assert self.rate is not None
        passed, self._grown = now - self._grown, now
        below = self._ceiling is None or self.rate < self._ceiling
        steady = now - self._refused_at - STEADY
        self.rate *= 1.0 + passed * (BELOW if below else min(MOST_ABOVE, ABOVE * max(0.0, steady)))
