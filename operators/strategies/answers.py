"""Answers within an episode: what texts answer, and which of them answer the same. Nobody looks at what is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from operators.select.classes import equivalent_keys
from operators.strategies.episode import Episode
from operators.strategies.words import Node
from operators.thinking import answer_texts, opens_thought
from operators.verify.canonical import cheap_key
from operators.verify.extract import DEFAULT_RULES, Rule, extract_answers
from operators.verify.reading.writing import text_key
from schemas.later import pl
from schemas.settings import Settings

REMEMBERED = 10_000
"""Texts whose answers are remembered: an episode reads a text several times, and reading has a price of its own."""
_READ: dict[tuple[str, bool, tuple[Rule, ...], str | None], str | None] = {}


class Answers(Settings):
    """Where the answer of a text stands (as for ``verify.math``)."""

    extract: tuple[Rule, ...] = DEFAULT_RULES
    """Where to look for the answer, in order."""
    pattern: str | None = None
    """A regular expression with one group, instead of ``extract``."""

    def read(self, ep: Episode, texts: Sequence[str]) -> list[str | None]:
        """Return the answer that each text gives, as it is written there; None where there is none."""
        opened = opens_thought(ep.prompt + ep.setting.lead)
        keys = [(text, opened, self.extract, self.pattern) for text in texts]
        if len(_READ) > REMEMBERED:
            _READ.clear()
        fresh = [key for key in dict.fromkeys(keys) if key not in _READ]
        if fresh:
            column = pl.Series([key[0] for key in fresh], dtype=pl.String)
            spoken = answer_texts(column, pl.Series([opened] * len(fresh), dtype=pl.Boolean))
            found = extract_answers(spoken.fill_null(""), self.extract, self.pattern).to_list()
            _READ.update(zip(fresh, found, strict=True))
        return [_READ[key] for key in keys]

    def classes(self, answers: Sequence[str | None]) -> list[str | None]:
        """Return a name for each answer, the same for those that count as one (0.5 and 1/2)."""
        return list(_classes(tuple(answers)))

    def vote(self, ep: Episode, finals: Sequence[Node], votes: Sequence[float]) -> list[int]:
        """Return the places of the finals whose answer has most votes, ties to the one seen first; [] without any."""
        named = self.classes(self.read(ep, [node.text for node in finals]))
        names = [name for name in dict.fromkeys(named) if name is not None]
        if not names:
            return []
        totals = [math.fsum(vote for vote, own in zip(votes, named, strict=True) if own == name) for name in names]
        winner = names[totals.index(max(totals))]
        return [place for place, name in enumerate(named) if name == winner]


@lru_cache(maxsize=1024)
def _classes(answers: tuple[str | None, ...]) -> tuple[str | None, ...]:
    keys = [None if answer is None else cheap_key(answer) or text_key(answer) for answer in answers]
    votes = {key: keys.count(key) for key in dict.fromkeys(keys) if key is not None}
    table = pl.DataFrame(
        {"problem_key": [""] * len(votes), "answer_key": list(votes), "votes": list(votes.values())},
        schema={"problem_key": pl.String, "answer_key": pl.String, "votes": pl.Int64},
    )
    united = dict(equivalent_keys(table).select("answer_key", "united").iter_rows())
    return tuple(None if key is None else united[key] for key in keys)
