"""Answers within an episode: what texts answer, and which of them answer the same. Nobody looks at what is right."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

from operators.select.classes import equivalent_keys
from operators.strategies.episode import Episode
from operators.strategies.words import Node
from operators.thinking import answer_texts, opens_thought
from operators.verify.canonical import cheap_key
from operators.verify.extract import DEFAULT_RULES, Rule, extract_answers
from operators.verify.reading.writing import text_key
from schemas.settings import Settings


class Answers(Settings):
    """Where the answer of a text stands (as for ``verify.math``)."""

    extract: tuple[Rule, ...] = DEFAULT_RULES
    """Where to look for the answer, in order."""
    pattern: str | None = None
    """A regular expression with one group, instead of ``extract``."""

    def read(self, ep: Episode, texts: Sequence[str]) -> list[str | None]:
        """Return the answer that each text gives, as it is written there; None where there is none."""
        opened = opens_thought(ep.prompt + ep.setting.lead)
        spoken = answer_texts(pl.Series(texts, dtype=pl.String), pl.Series([opened] * len(texts), dtype=pl.Boolean))
        return extract_answers(spoken.fill_null(""), self.extract, self.pattern).to_list()

    def classes(self, answers: Sequence[str | None]) -> list[str | None]:
        """Return a name for each answer, the same for those that count as one (0.5 and 1/2)."""
        keys = [None if answer is None else cheap_key(answer) or text_key(answer) for answer in answers]
        votes = {key: keys.count(key) for key in dict.fromkeys(keys) if key is not None}
        table = pl.DataFrame(
            {"problem_key": [""] * len(votes), "answer_key": list(votes), "votes": list(votes.values())},
            schema={"problem_key": pl.String, "answer_key": pl.String, "votes": pl.Int64},
        )
        united = dict(equivalent_keys(table).select("answer_key", "united").iter_rows())
        return [None if key is None else united[key] for key in keys]

    def vote(self, ep: Episode, finals: Sequence[Node], votes: Sequence[float]) -> list[int]:
        """Return the places of the finals whose answer has most votes, ties to the one seen first; [] without any."""
        named = self.classes(self.read(ep, [node.text for node in finals]))
        names = [name for name in dict.fromkeys(named) if name is not None]
        if not names:
            return []
        totals = [math.fsum(vote for vote, own in zip(votes, named, strict=True) if own == name) for name in names]
        winner = names[totals.index(max(totals))]
        return [place for place, name in enumerate(named) if name == winner]
