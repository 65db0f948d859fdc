"""Stock phrases: what many questions say and none is known by. No leak is made of them.

``stock_phrases.txt`` is shipped: written for this purpose, from what problems of mathematics, science, code and
knowledge ask for, and how prompts frame them. Letters that stand alone and numbers are wildcards in it (``m`` and ``n``
may be ``p`` and ``q``). What many questions of the benchmarks themselves share is found in them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from operators.overlap.passages import LETTER, WORD, Flags, Passages, among, covered, tokens
from operators.overlap.shingles import Hashes
from schemas.later import np, pl

PIECE = 4 * WORD
"""The weight of the pieces that a shipped phrase is known by; a shorter phrase has pieces of all its whole words."""
SHARED = 6 * WORD
"""The weight of what questions of a benchmark share."""
FEWEST, SHARE = 3, 0.001
"""What so many questions share, and this share of them, is no question's own."""
MANY, TEMPLATE = 5, 0.1
"""What so many questions of one file share, and this share of them, is a template that they are put in."""
COPY = 0.1
"""A question that would keep less of its words than this is a copy of others: what copies share is their own."""


@cache
def empty_words() -> frozenset[str]:
    """Return words that tell nothing about which question it is."""
    return frozenset((Path(__file__).parent / "stock_words.txt").read_text(encoding="utf-8").split())


@cache
def shipped() -> dict[int, Hashes]:
    """Return the shipped phrases: weight of a piece -> the sorted hashes of such pieces."""
    lines = (Path(__file__).parent / "stock_phrases.txt").read_text(encoding="utf-8").splitlines()
    table = pl.DataFrame({"text": [line for line in lines if line.strip()]})
    phrases = _words(Passages.of(table.select(tokens(pl.col("text"))).to_series()))
    sizes = np.minimum(phrases.sums(phrases.weights) // WORD * WORD, PIECE)
    found: dict[int, Hashes] = {}
    for weight in np.unique(sizes).tolist():
        first, last, hashes = phrases.runs(weight, kinds=True)
        wanted = sizes[phrases.texts[first]] == weight
        plain = np.concatenate([[0], np.cumsum(phrases.kinds > LETTER)])
        wanted &= 2 * (plain[last] - plain[first]) >= last - first  # more wildcards than that would be anything
        found[weight] = np.unique(hashes[wanted])
    return found


def _words(passages: Passages) -> Passages:
    return passages.only(passages.weights > 0)


class Stock:
    """The stock phrases to look for: the shipped ones, and what many questions of some benchmarks share."""

    def __init__(self, questions: Passages, files: pl.Series) -> None:
        """Learn from benchmarks' questions.

        Args:
            files: which file each question is of.
        """
        self.shared = np.zeros(0, np.uint64)
        words = _words(questions)
        own = ~self._marked(words)
        first, last, hashes = words.runs(SHARED)
        rows = words.texts[first]
        runs = pl.DataFrame({"run": hashes, "question": rows, "file": files.gather(rows)}).unique()
        template = _templates(runs, files)
        common = np.union1d(template, _in_many(runs, len(files)))
        hit = among(hashes, common)
        left = words.sums(own & ~covered(len(own), first[hit], last[hit]))
        copies = np.flatnonzero(left < COPY * words.sums(own))
        others = runs.filter(~pl.col("question").is_in(copies.tolist()))
        self.shared = np.union1d(template, _in_many(others, len(files)))

    def marked(self, passages: Passages) -> Flags:
        """Return which words are of stock phrases."""
        marks = np.zeros(len(passages.hashes), bool)
        marks[passages.weights > 0] = self._marked(_words(passages))
        return marks

    def _marked(self, words: Passages) -> Flags:
        marks = np.zeros(len(words.hashes), bool)
        pieces = [(known, words.runs(weight, kinds=True)) for weight, known in shipped().items()]
        for known, (first, last, hashes) in [*pieces, (self.shared, words.runs(SHARED))]:
            hit = among(hashes, known)
            marks |= covered(len(marks), first[hit], last[hit])
        return marks


def _in_many(runs: pl.DataFrame, questions: int) -> Hashes:
    """Return the runs that many questions share."""
    counts = runs.group_by("run").agg(pl.col("question").n_unique())
    return counts.filter(pl.col("question") >= max(FEWEST, SHARE * questions))["run"].to_numpy()


def _templates(runs: pl.DataFrame, files: pl.Series) -> Hashes:
    """Return the runs that a good part of one file's questions share."""
    sizes = files.value_counts(name="questions").rename({files.name: "file"})
    counts = runs.group_by("run", "file").len("count").join(sizes, on="file")
    many = (pl.col("count") >= MANY) & (pl.col("count") >= TEMPLATE * pl.col("questions"))
    return counts.filter(many)["run"].unique().to_numpy()
