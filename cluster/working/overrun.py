"""What an engine takes beyond what was asked of it.

Reservations go by what a request says: its prompt, and the bound of its completion. A server may read more (a prompt of
its own before ours) or write more (reasoning that its bound doesn't bind). The first answer that shows it raises what
is set apart for every request that hasn't been sent.
"""

from __future__ import annotations

from dataclasses import dataclass

from operators.engine import Completion


@dataclass(frozen=True)
class Overrun:
    """Tokens beyond the worst case of one request's prompt, and of one completion; the largest so far."""

    prompt: int = 0
    completion: int = 0

    def __bool__(self) -> bool:
        return bool(self.prompt or self.completion)

    def with_(self, other: Overrun) -> Overrun:
        """Return the larger of each; this one itself where it is."""
        found = Overrun(max(self.prompt, other.prompt), max(self.completion, other.completion))
        return self if found == self else found


def overrun_of(answer: Completion, prompt: int, completion: int) -> Overrun:
    """Return what an answer took beyond the most that its prompt and a completion may have."""
    return Overrun(max(0, answer.prompt_tokens - prompt), max(0, answer.completion_tokens - completion))
