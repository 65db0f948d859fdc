"""Budget forcing (Muennighoff et al. 2025, "s1"): make a model think longer by a word, or shorter by a cut."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from operators.strategies.episode import Episode
from operators.strategies.strategy import Strategy
from operators.strategies.talking import SILENT, continued, only
from operators.strategies.words import Ask, Bill, Node, Result
from operators.thinking import opens_thought

WAITS = 32
"""Words that are put in at most, where it is tokens that are wanted."""


class Force(Strategy):
    """Where the model would close its thought, put a word in its place, ``waits`` times; at the limit close it.

    Follows s1's code, but for two things: the thought and the answer have the stage's ``max_tokens`` together, and a
    model that ends its text within the thought is taken to have closed it. A thought that is cut after N tokens
    (``waits=0, max_think=N``) is one point of the curve of accuracy over tokens.
    """

    version: ClassVar[int] = 1
    steps: ClassVar[bool] = True

    waits: int = Field(default=1, ge=0, le=WAITS)
    """How often the end of the thought is put off."""
    word: str = "Wait"
    """What is written in place of the end."""
    max_think: int | None = Field(default=None, ge=1)
    """The most tokens of the thought; by default what the answer leaves of the stage's."""
    min_think: int = Field(default=0, ge=0)
    """Think on until there are so many tokens, whatever ``waits`` says."""
    answer_tokens: int = Field(default=512, ge=1)
    """The most tokens of the answer; at most half of the stage's."""
    opening: str = "<think>\n"
    """What opens a thought; put before a completion where the prompt hasn't opened one."""
    close: str = Field(default="</think>", min_length=1)
    """What closes a thought."""
    cue: str = "Final answer: "
    """How the answer begins where the thought was cut."""

    @property
    def _most_waits(self) -> int:
        return WAITS if self.min_think else self.waits

    def _shares(self, most: int) -> tuple[int, int]:
        """Return the most tokens of the thought and of the answer."""
        answer = max(1, min(self.answer_tokens, most // 2))
        think = max(1, most - answer)
        return min(think, self.max_think or think), answer

    def worst(self, prompt: int, most: int) -> Bill:
        think, answer = self._shares(most)
        given = self.opening + self._most_waits * self.word + self.close + self.cue
        calls = self._most_waits + 2
        return Bill(calls, calls * (prompt + len(given.encode()) + 4 + think), 0, think + answer)

    async def play(self, ep: Episode) -> Result:
        left, answer = self._shares(ep.params.max_tokens)
        thought = Node(text="" if opens_thought(ep.prompt + ep.setting.lead) else self.opening)
        waits = 0
        while True:
            ask = Ask(prefix=thought.text, max_tokens=left, stop=(self.close,), keep_stop=False, parent=thought.call)
            [said] = await ep.generate([ask])
            if said.finish in SILENT:
                return only(
                    replace(continued(thought, said), text="") if thought.call is None else thought.end(said.finish)
                )
            thought, left = continued(thought, said), left - said.tokens
            closed = said.finish in ("stop", "stop_string")
            wanted = waits < self.waits or thought.tokens < self.min_think
            if not closed or not wanted or waits == self._most_waits or left <= 0 or (waits and not said.text.strip()):
                break
            thought, waits = replace(thought, text=thought.text + self.word), waits + 1
        ep.note(waits=waits, thought_tokens=thought.tokens, cut=not closed)
        begun = thought.text.rstrip() + f"\n{self.close}\n\n" + ("" if closed else self.cue)
        [said] = await ep.generate([Ask(prefix=begun, max_tokens=answer, parent=thought.call)])
        return only(continued(replace(thought, text=begun), said))
