"""Asking a server until it answers: waiting while it can't, telling refusals apart, and knowing why nothing comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from yarl import URL

from cluster.engines.openai.address import Credentials
from cluster.engines.openai.gate import Gate
from cluster.engines.openai.reading import Unreadable
from cluster.engines.openai.sending import Answer, Busy, Line, TooLong
from cluster.engines.openai.verdicts import Meaning, Refusals, error_in, hopeless, meaning, told, words
from operators.engine import EngineError
from schemas.engine import OpenAISpec

Read = TypeVar("Read")
LONE = 3
"""A request that is refused for the so-manieth time while others are served has a fault of its own, and waits alone."""
KEY_SECONDS = 30.0
"""How long a key that the server took before, and refuses now, may take to be put right."""
LONGEST_PAUSE = 30.0
"""Seconds of such a wait."""


class Asked(NamedTuple):
    """One request, and what it may bring.

    Attributes:
        about: a hash of what it asks, the same for all samples of one prompt.
        tokens: what it will take, as far as is known.
        worst: prompt and completion tokens that it may take at most.
        bytes: what its answer may have.
    """

    url: URL
    payload: bytes
    about: int
    tokens: int
    worst: tuple[int, int]
    bytes: int


class Server:
    """One server, as an engine asks it."""

    def __init__(self, spec: OpenAISpec) -> None:
        self._spec = spec
        self._credentials = Credentials(spec)
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}
        self._refusals = Refusals()
        self._gate: Gate | None = None
        """The one through which something was asked last."""
        self._said = ""
        """Why nothing is served, while that is so."""
        self._served = 0

    @property
    def trouble(self) -> str:
        """Why requests aren't answered just now, and when the next one is sent; empty while they are."""
        if not self._said or self._gate is None:
            return ""
        waits = self._gate.waits
        return f"{self._said}{f', next try in {waits:.0f} s' if waits >= 1 else ''}"

    @property
    def refusal(self) -> str:
        """See ``Engine.refusal``."""
        said = self._refusals.only
        return said and str(hopeless(said, self._spec.model, self._credentials.source))

    def _line(self) -> Line:
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            self._lines[loop] = Line(self._spec, self._credentials)
        return self._lines[loop]

    async def ask(self, asked: Asked, read: Callable[[Any], Read], took: Callable[[Read], int]) -> Read:
        """Send a request until it is answered; return what ``read`` makes of the answer.

        A request that nobody served, because the server couldn't, is sent again for ``patience`` seconds. One that may
        have been served isn't: it has to be paid for again, so that is up to whoever asked.

        Args:
            took: how many tokens an answer took.

        Raises:
            EngineError: it failed; see there.
            BadInput: no request can succeed.
        """
        line, first, times = self._line(), None, 0
        gate = self._gate = line.gate
        self._see_whether_it_is_away(gate)
        place = gate.place()
        while True:
            entered, before = await gate.enter(place, asked.tokens), self._served
            self._refusals.on_sent(asked.about)
            alone = False
            try:
                found = await self._once(line, asked, read)
                gate.served(entered, asked.tokens, took(found))
                self._served += 1
                self._said = ""
                return found
            except Busy as busy:
                now, times = asyncio.get_running_loop().time(), times + 1
                first = now if first is None else first
                alone = times >= LONE and not busy.by_rate and self._served > before
                waited = max(now - first, self._away(gate))
                if not alone:
                    gate.refused(entered, min(busy.told, max(0.0, self._spec.patience - waited)), busy.by_rate)
                self._said = f"{self._spec.url} {busy.said}"
                if busy.begun or waited >= self._spec.patience:
                    raise self._given_up(busy, gate, waited) from None
            except EngineError as error:  # which is an answer, too
                gate.served(entered, asked.tokens, sum(error.used))
                raise
            finally:
                self._refusals.on_back(asked.about)
                gate.leave()
            if alone:
                await asyncio.sleep(min(LONGEST_PAUSE, 0.25 * 2**times))

    def _away(self, gate: Gate) -> float:
        """Return for how long nothing was served."""
        return 0.0 if gate.down_since is None else asyncio.get_running_loop().time() - gate.down_since

    def _see_whether_it_is_away(self, gate: Gate) -> None:
        """Ask nothing of a server that was given up, until it is time to see whether it is back.

        Raises:
            EngineError: transient.
        """
        if gate.down_since is not None and gate.waits and self._away(gate) > self._spec.patience:
            raise EngineError(self._said, True, served=False)

    def _given_up(self, busy: Busy, gate: Gate, waited: float) -> EngineError:
        patient = waited < self._spec.patience
        if not patient and self._away(gate) >= self._spec.patience:
            gate.turn_away(lambda: EngineError(self._said, True, served=False))
        return EngineError(self._said, True, served=busy.begun, busy=busy.begun and patient)

    async def _once(self, line: Line, asked: Asked, read: Callable[[Any], Read]) -> Read:
        """Send a request once.

        Raises:
            Busy: the server can't just now.
            EngineError, BadInput: as for ``ask``.
        """
        try:
            answer = await line.send(asked.url, asked.payload, asked.bytes)
        except TooLong as error:
            raise EngineError(f"{self._spec.url}: {error}", used=asked.worst) from None
        error = error_in(answer.document)
        found = meaning(answer.status, error)
        if found is Meaning.SERVED:
            return self._read(answer, read)
        said = f"answers {answer.status}: {words(answer.document, answer.body)}"
        if found in (Meaning.BUSY, Meaning.BUSY_BEGUN):
            begun = answer.begun or found is Meaning.BUSY_BEGUN
            raise Busy(_busy_words(said), begun, told(answer.headers), _by_rate(answer, error))
        if found is Meaning.KEY:
            if await self._credentials.renew(answer.sent):
                raise Busy("answers 401: the key has expired and was read again", begun=False, told=0.001)
            if self._served and self._away(line.gate) < min(KEY_SECONDS, self._spec.patience):
                raise Busy(f"{said}; waiting for {self._credentials.source} to hold another key", begun=False)
        said = f"{self._spec.url} {said.replace('answers', 'answered', 1)}"
        whole_run = found is not Meaning.REFUSED
        if whole_run or self._refusals.on_refused(answer.status, said, asked.about):
            raise hopeless(said, self._spec.model, self._credentials.source)
        raise EngineError(said, used=asked.worst if answer.begun else (0, 0))

    def _read(self, answer: Answer, read: Callable[[Any], Read]) -> Read:
        try:
            found = read(answer.document)
        except Unreadable as error:
            said = str(error) if answer.document is not None else words(None, answer.body)
            raise EngineError(f"{self._spec.url} gave no completion: {said}", True) from error
        except EngineError as error:
            if error.busy:
                raise Busy(f"answers, and doesn't finish: {error.message}", begun=True) from None
            error = EngineError(f"{self._spec.url}: {error.message}", error.transient, used=error.used)
            self._refusals.on_served()
            raise error from None
        self._refusals.on_served()
        return found

    async def close(self) -> None:
        lines, self._lines = self._lines, {}
        for loop, line in lines.items():
            if loop is asyncio.get_running_loop() or loop.is_closed():
                await line.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(line.close(), loop))


def _by_rate(answer: Answer, error: Any) -> bool:
    """Whether a busy server says that there were too many."""
    return answer.status == 429 or "429" in str((error or {}).get("code")) or "rate" in str((error or {}).get("type"))


def _busy_words(said: str) -> str:
    """Return what a busy server said, with the news first where it is known."""
    low = said.lower()
    return f"is loading the model ({said})" if "loading" in low and "model" in low else said
