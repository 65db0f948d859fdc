"""The scripted engine's next tokens: probabilities and rewards from a table, or by a hash of what was said so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xxhash

from cluster.engines.token_tree import Next
from operators.token_tree import TreeRequest

END = ""
"""The token that ends a text."""
LETTERS = ("a ", "b ", "c ", "d ")
"""What is written where the table has nothing."""
SPREAD = 6.0
"""Of the logits that a hash gives."""


class ScriptedTokens:
    """A ``TokenModel`` of a table: what was said so far ends with -> token -> (probability, reward or None: unseen)."""

    def __init__(self, table: Mapping[str, Mapping[str, tuple[float, float | None]]]) -> None:
        self._table = table
        known = {token for row in table.values() for token in row}
        self._tokens = sorted({END, *LETTERS, *known})
        self.ends = [self._tokens.index(END)]
        self.computed = self.scorer_read = 0
        self._scored = False
        self._said: list[str] = []

    def begin(self, request: TreeRequest) -> tuple[int, Next]:
        self._said, self._scored = [request.prompt + request.prefix], request.has_scorer
        self.computed = self.scorer_read = 0
        read = len(self._said[0].split())
        self._count(read)
        return read, self._look()

    def go_on(self, grown: Sequence[tuple[int, int]]) -> Next:
        self._said = [self._said[place] + self._tokens[token] for place, token in grown]
        self._count(len(grown))
        return self._look()

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(self._tokens[token] for token in tokens)

    def _count(self, tokens: int) -> None:
        self.computed += tokens
        self.scorer_read += tokens * self._scored

    def _look(self) -> Next:
        rows = [self._row(said) for said in self._said]
        return Next(np.array([logits for logits, _ in rows]), np.array([rewards for _, rewards in rows]))

    def _row(self, said: str) -> tuple[list[float], list[float]]:
        fitting = [key for key in self._table if said.endswith(key)]
        if not fitting:
            logits = [
                SPREAD * _hash(f"{said}|{token}") if token in (END, *LETTERS) else -np.inf for token in self._tokens
            ]
            return logits, [_hash(f"reward|{said}|{token}") for token in self._tokens]
        row = self._table[max(fitting, key=len)]
        chances = [row[token][0] if token in row else 0.0 for token in self._tokens]
        told = [row[token][1] if token in row else None for token in self._tokens]
        logits = [float(np.log(chance)) if chance > 0.0 else -np.inf for chance in chances]
        return logits, [np.nan if reward is None else reward for reward in told]


def _hash(text: str) -> float:
    return xxhash.xxh3_64_intdigest(text.encode()) / 2**64
