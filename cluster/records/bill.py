"""What calls to an engine took, and what may be spent on them."""

from __future__ import annotations

from dataclasses import dataclass
from operator import add, sub


@dataclass(frozen=True)
class Amount:
    """Something spent, lent or reserved.

    Attributes:
        tokens: of prompts (cached or not) and completions.
        microdollars: millionths of a dollar; 0 where no price is asked for.
    """

    samples: int = 0
    tokens: int = 0
    microdollars: int = 0

    @property
    def parts(self) -> tuple[int, int, int]:
        return self.samples, self.tokens, self.microdollars

    def __bool__(self) -> bool:
        return any(self.parts)

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.samples + other.samples, self.tokens + other.tokens, self.microdollars + other.microdollars)

    def __sub__(self, other: Amount) -> Amount:
        return self + other * -1

    def __mul__(self, times: int) -> Amount:
        return Amount(self.samples * times, self.tokens * times, self.microdollars * times)

    def covers(self, other: Amount) -> bool:
        """Whether there is at least as much of everything."""
        return all(mine >= theirs for mine, theirs in zip(self.parts, other.parts, strict=True))

    def at_most(self, other: Amount) -> Amount:
        """Return the smaller of each part."""
        return Amount(*map(min, self.parts, other.parts))

    def at_least(self, other: Amount) -> Amount:
        """Return the larger of each part."""
        return Amount(*map(max, self.parts, other.parts))


@dataclass(frozen=True)
class Bill:
    """What some calls took, as the engine counted.

    Attributes:
        calls: answers, and requests that were refused.
        prompt_tokens: the cached ones included; those of scored texts too.
        passes: texts that were scored.
        estimated_tokens: those of the tokens that aren't the engine's own count, but the most that there can be.
    """

    calls: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    passes: int = 0
    estimated_tokens: int = 0

    @property
    def parts(self) -> tuple[int, ...]:
        """All of them, in order."""
        return (
            *(self.calls, self.prompt_tokens, self.cached_prompt_tokens, self.completion_tokens),
            *(self.passes, self.estimated_tokens),
        )

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Bill) -> Bill:
        return Bill(*map(add, self.parts, other.parts))

    def __sub__(self, other: Bill) -> Bill:
        return Bill(*map(sub, self.parts, other.parts))
