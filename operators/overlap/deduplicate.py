"""Near-duplicates among training rows: of texts that say the same, one is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from operators.overlap.minhash import Sketches
from operators.overlap.shingles import Flat, hashed_words, ngrams, normalised, words
from operators.overlap.sifting import Sifting, batches
from schemas.datasets import SAMPLE_KEY
from schemas.later import np, pl


class SynthesizeDeduplicate(Sifting):
    """Keep one row of each group of near-duplicates (MinHash and LSH: Broder 1997; Lee et al. 2022).

    Two rows are near-duplicates where the estimated Jaccard similarity of their sets of ``ngram`` words reaches
    ``threshold``; a group is what a chain of near-duplicates connects. Case, blanks and compatibility forms don't
    count. The estimate's standard error is sqrt(s (1 - s) / permutations), 0.035 at s = 0.8. The result doesn't depend
    on the order of rows or files. Texts are read in batches; memory holds some 100 bytes a row, a temporary file
    4 bytes a permutation.
    """

    version: ClassVar[int] = 1

    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """The least similarity of near-duplicates."""
    permutations: Annotated[int, Field(ge=16, le=4096)] = 128
    """Hash functions of a signature: more are more exact and take longer."""
    ngram: Annotated[int, Field(ge=1)] = 3
    """Words of a shingle; every sign that is neither letter nor digit nor blank is a word."""
    text: Literal["conversation", "completion"] = "conversation"
    """What is compared: all turns but the system's, or what the model said. Short answers are the same for many
    problems, so ``completion`` is for long ones."""
    mask_numbers: bool = False
    """Take texts that differ in their numbers alone for duplicates."""
    keep: Literal["first", "score", "short"] = "first"
    """Which row of a group stays: the lowest problem_key and sample_index; before that, the highest score, or the
    fewest completion tokens."""
    seed: int = 1
    """Of the hash functions."""

    def reasons(self, sft: pl.LazyFrame, **others: pl.LazyFrame) -> pl.DataFrame:
        rows = sft.select(*SAMPLE_KEY, "problem_id", "score", "completion_tokens").collect()
        order = rows.with_row_index("row").sort(SAMPLE_KEY)["row"].cast(pl.Int64).to_numpy()
        with Sketches(self.permutations, self.seed) as sketches:
            sketches.add(self._shingles(sft))
            rows = rows.with_columns(group=sketches.groups(order, self.threshold))
        best = {"first": [], "score": [-pl.col("score").fill_null(-np.inf)], "short": [pl.col("completion_tokens")]}
        rows = rows.sort("group", *best[self.keep], *SAMPLE_KEY)
        name = pl.format("near-duplicate of {}/{}", pl.col("problem_id"), pl.col("sample_index"))
        return rows.with_columns(reason=name.first().over("group")).filter(pl.int_range(pl.len()).over("group") > 0)

    def _shingles(self, sft: pl.LazyFrame) -> Iterator[Flat]:
        turn = pl.element().struct.field("content")
        role = pl.element().struct.field("role")
        wanted = role != "system" if self.text == "conversation" else role == "assistant"
        said = pl.col("messages").list.eval(turn.filter(wanted))
        said = said.list.join("\n") if self.text == "conversation" else said.list.last().fill_null("")
        for batch in batches(sft.select(said.alias("text"))):
            text = normalised(pl.col("text"), mask_numbers=self.mask_numbers)
            yield ngrams(hashed_words(batch.select(words(text, symbols=True)).to_series()), self.ngram)
