"""Knowledge conflicts: how often does a model keep to what it remembers, against what it reads?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any, ClassVar

from pydantic import Field

from operators.base import Operator
from operators.measure.intervals import ENDS
from operators.measure.paired import mcnemar
from operators.strategies.clash import COUNTER, DROPPED, MEMORY, UNCERTAIN
from schemas.contract import polars_schema
from schemas.datasets import Problem
from schemas.episodes import Episode
from schemas.errors import BadInput
from schemas.later import Floats, Ints, NDArray, np, pl
from schemas.studies import Conflict

SAID = "said_"


class MeasureConflict(Operator):
    """Memorisation ratios of episodes of ``clash`` (Xie et al. 2024), by condition.

    * ``kept``: share of the episodes that got as far as the conditions, and ``dropped``, why the others didn't. All
      other figures are about those that did.
    * ``memorised``: f_m / (f_m + f_c), of f_m answers from memory and f_c counter answers: 1 is stubborn, 0 receptive.
    * ``uncertain`` and ``unreadable``: shares of all answers.
    * ``order``: ``memorised`` where the passage for the memory comes first, less where it comes last.
    * ``flips``: of two conditions, the share of the questions whose answer is from memory in just one of them.

    ``about`` tells where the memory is right from where it is wrong (there the counter answer is the truth), and the
    groups of ``by``. 95% intervals draw problems with replacement.
    """

    version: ClassVar[int] = 1
    scope = "dataset"
    inputs = {
        "episodes": Episode.select("problem_key", "episode", "strategy", "note"),
        "problems": Problem.select("problem_key", "metadata"),
    }
    optional = frozenset({"problems"})
    output = Conflict

    by: str = ""
    """A field of the problems' metadata, such as how well known their subject is."""
    bootstrap: int = Field(default=2000, ge=100)
    """How many times questions are drawn anew for the intervals."""
    seed: int = 0
    """Of the random draws: the same seed, the same intervals."""

    def run(self, episodes: pl.LazyFrame, problems: pl.LazyFrame | None = None) -> pl.DataFrame:
        """Return one row per figure.

        Raises:
            BadInput: there is no episode of ``clash``.
        """
        table = episodes.filter(pl.col("strategy") == "clash").sort("problem_key", "episode").collect()
        if table.is_empty():
            raise BadInput("measure.conflict: there is no episode of the strategy clash")
        notes: list[dict[str, float]] = [json.loads(text) for text in table["note"]]
        groups = {"": np.ones(len(table), dtype=bool)}
        right = np.array([note.get("right", -1.0) for note in notes])
        groups |= {"memory right": right == 1.0, "memory wrong": right == 0.0}
        if problems is not None and self.by:
            about = dict(problems.select("problem_key", "metadata").collect().iter_rows())
            known = [str(json.loads(about.get(key) or "{}").get(self.by)) for key in table["problem_key"]]
            groups |= {name: np.array([one == name for one in known]) for name in sorted(set(known) - {"None"})}
        rows: list[dict[str, Any]] = []
        for name, some in groups.items():
            place = table["problem_key"].filter(pl.Series(some)).rank("dense").to_numpy().astype(np.int64) - 1
            mine = [note for note, is_in in zip(notes, some, strict=True) if is_in]
            rows += [{"about": name, **row} for row in self._of(mine, place)]
        return pl.DataFrame(rows, schema=polars_schema(Conflict))

    def _of(self, notes: list[dict[str, float]], place: Ints) -> Iterator[dict[str, Any]]:
        """Yield the figures of some episodes; ``place`` says which belong to one problem."""
        if not notes:
            return
        count = int(place.max()) + 1
        rng = np.random.default_rng(self.seed)
        drawn = rng.multinomial(count, np.full(count, 1.0 / count), self.bootstrap).astype(np.float64)
        weights = np.concatenate([np.ones((1, count)), drawn])

        def ratio(top: NDArray[Any], of: NDArray[Any]) -> Floats:
            """Return a ratio of sums over episodes, and the same of each draw of problems."""
            tops, ofs = (weights @ np.bincount(place, one, count) for one in (top, of))
            with np.errstate(invalid="ignore", divide="ignore"):
                return tops / ofs

        every = np.ones(len(notes))
        why = np.array([int(note.get("dropped", 0)) for note in notes])
        yield _row("kept", "", ratio(why == 0, every), len(notes))
        for number, reason in enumerate(DROPPED, 1):
            if (why == number).any():
                yield _row("dropped", reason, ratio(why == number, every), len(notes))
        names = sorted({name for note in notes for name in note if name.startswith(SAID)})
        said = {name.removeprefix(SAID): np.array([int(note.get(name, -1)) for note in notes]) for name in names}
        memorised: dict[str, Floats] = {}
        for name, one in said.items():
            asked = (one >= 0).astype(np.float64)
            memorised[name] = ratio(one == MEMORY, (one == MEMORY) | (one == COUNTER))
            decided = int(((one == MEMORY) | (one == COUNTER)).sum())
            yield _row("memorised", name, memorised[name], decided)
            for metric, value in (("uncertain", UNCERTAIN), ("unreadable", 0)):
                yield _row(metric, name, ratio(one == value, asked), int(asked.sum()))
        if {"memory_first", "counter_first"} <= said.keys():
            apart = memorised["memory_first"] - memorised["counter_first"]
            yield _row("order", "", apart, int((said["memory_first"] >= 0).sum()))
        for one, other in combinations(said, 2):
            both = np.isin(said[one], (MEMORY, COUNTER)) & np.isin(said[other], (MEMORY, COUNTER))
            lost = both & (said[one] == MEMORY) & (said[other] == COUNTER)
            won = both & (said[one] == COUNTER) & (said[other] == MEMORY)
            row = _row("flips", f"{one} {other}", ratio(lost | won, both), int(both.sum()))
            yield row | {"p_value": mcnemar(int(lost.sum()), int(won.sum()))}


def _row(metric: str, condition: str, drawn: Floats, n: int) -> dict[str, Any]:
    """Return a figure with its interval; ``drawn`` is the estimate, then that of each draw."""
    row = {"metric": metric, "condition": condition, "value": None, "low": None, "high": None, "p_value": None, "n": n}
    if np.isfinite(drawn[0]):
        low, high = np.nanquantile(drawn[1:], ENDS)
        row |= {"value": float(drawn[0]), "low": float(low), "high": float(high)}
    return row
