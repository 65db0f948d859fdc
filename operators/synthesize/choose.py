"""Choosing which samples to train on: right, whole, not repeating themselves, and of each problem a few that differ.

Every sample gets a row: kept, or the reason why not. Reasons are given in the order in which they are looked for, so a
wrong sample that was also cut counts as wrong.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from operators.base import Operator
from operators.overlap.shingles import hashed_words, ngrams, normalised, repetition, words
from operators.select.classes import one_verifier
from operators.select.selection import beside
from operators.synthesize.conversation import balanced
from operators.texts import with_texts, without_texts
from operators.thinking import answer_texts
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Path, Sample, Score, Verdict
from schemas.identity import Added
from schemas.later import NDArray, np, pl

REPEATED = 4
"""Words of a run that counts as repeated."""
TEXTS_AT_ONCE = 1_000
"""Of so many texts the words are in memory at a time."""
NUMBERS = (
    *("problem_key", "sample_index", "problem_id", "completion_hash", "finish_reason", "completion_tokens", "status"),
    *("episode", "chosen"),
)
"""What is read of all samples."""
TEXTS = ("completion", "reasoning", "thought_open", "tool_calls")
"""What is read of right ones only."""
SHINGLE = 3
PERMUTATIONS = 64

Script = Literal["Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Han", "Hiragana", "Hangul", "Thai"]


class SynthesizeChoose(Operator):
    """Keep up to ``per_problem`` right samples of each problem, and say of all others why they were left out.

    Short right traces teach as much as long ones (ConCISE: Qiao et al. 2025); traces that differ teach more than copies
    (Yuan et al. 2023, RFT); problems that are always or never solved teach least (Yu et al. 2025, DAPO). Loops are
    found by the share of repeated word n-grams, as in Rae et al. (2021, table A1).
    """

    version: ClassVar[int] = 2
    scope = "problem"
    inputs = {
        "samples": Sample.select(*NUMBERS, *TEXTS),
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "is_correct", "status"),
        "scores": Score.select("problem_key", "sample_index", "scorer", "score", "status"),
    }
    optional = frozenset({"scores"})
    lazy = frozenset({"samples"})
    output = Path

    per_problem: Annotated[int, Field(ge=1)] = 4
    """Most samples of a problem that are kept."""
    prefer: Literal["short", "first", "score", "diverse"] = "short"
    """Which right samples come first: the fewest completion tokens, the lowest sample_index, the highest score (of the
    scorer whose name sorts first), or the shortest one and then always the one least like those that were taken."""
    max_per_episode: Annotated[int, Field(ge=1), Added] = 1
    """How many right samples of one episode of a strategy are taken: the chosen one, and if more are wanted the next
    ones in the order of ``prefer``. Rows of an episode are often nearly the same."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longer completions are left out; null: none is."""
    max_similarity: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Leave a sample out whose words are as like those of one that was taken (estimated Jaccard similarity of sets of
    three words)."""
    max_repetition: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Leave out what repeats itself: the share of its runs of four words that were there before."""
    script: tuple[Script, ...] = ()
    """Leave out texts of which more than a tenth of the letters belong to other scripts."""
    must_match: str | None = None
    """A regular expression that a completion of the right format matches somewhere."""
    min_pass_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Leave out problems that are solved less often; 0 leaves out those never solved, which have nothing to keep."""
    max_pass_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Leave out problems that are solved more often."""
    balance: bool = False
    """Keep fewer samples of easier problems: ``per_problem`` times the share of wrong samples, at least one."""

    @field_validator("must_match")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                pl.Series([""]).str.contains(value)
            except pl.exceptions.ComputeError as error:
                raise ValueError(f"'{value}' isn't a regular expression: {error}") from error
        return value

    def run(
        self,
        samples: pl.DataFrame | pl.LazyFrame,
        verdicts: pl.DataFrame,
        scores: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Return a row for each sample, sorted by problem_key and sample_index; ``weight`` is 1 where it is kept."""
        lazy = samples.lazy()
        judged = one_verifier(verdicts).select(*SAMPLE_KEY, "is_correct", verdict="status")
        rows = beside(without_texts(lazy, NUMBERS), judged).with_row_index("row")
        counted = pl.col("is_correct").filter(~pl.col("verdict").is_in(["error", "skipped"])).fill_null(False)
        rows = rows.with_columns(pass_rate=counted.mean().over("problem_key"))
        rows = rows.with_columns(reason=self._plain_reasons()).drop("status", "verdict", "is_correct", "finish_reason")
        rows = self._add(rows, self._textual_reasons(lazy, rows))
        copies = pl.int_range(pl.len()).over("problem_key", "completion_hash") > 0
        left = rows.filter(pl.col("reason").is_null())
        rows = self._add(rows, left.filter(copies).select("row", reason=pl.lit("the same text as another")))
        rows = self._add(rows, self._beyond_episode(rows.filter(pl.col("reason").is_null()), scores))
        rows = self._add(rows, self._beyond(lazy, rows.filter(pl.col("reason").is_null()), scores))
        kept = pl.col("reason").is_null()
        rows = rows.with_columns(kept=kept, weight=kept.cast(pl.Float64))
        return rows.sort(SAMPLE_KEY).select(list(polars_schema(Path)))

    @staticmethod
    def _add(rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
        """Give reasons to those that have none yet (``found``: row, reason); only this column is made anew."""
        told = rows.select("row", "reason").join(found, on="row", how="left", maintain_order="left", suffix="_found")
        return rows.with_columns(told.select(pl.coalesce("reason", "reason_found")).to_series())

    def _plain_reasons(self) -> pl.Expr:
        """Return the reasons that need no look at the text."""
        right = pl.col("is_correct")
        limit = pl.lit(False) if self.max_tokens is None else pl.col("completion_tokens") > self.max_tokens
        return (
            pl.when(pl.col("status") != "ok").then(pl.lit("failed"))
            .when(pl.col("verdict").is_in(["unparseable", "timeout"])).then(pl.lit("no answer"))
            .when(right.is_null() | (pl.col("verdict") != "ok")).then(pl.lit("not judged"))
            .when(~right).then(pl.lit("wrong"))
            .when(pl.col("finish_reason") == "length").then(pl.lit("truncated"))
            .when(limit).then(pl.lit("too long"))
            .when(pl.col("pass_rate") < self.min_pass_rate).then(pl.lit("problem solved too seldom"))
            .when(pl.col("pass_rate") > self.max_pass_rate).then(pl.lit("problem solved too often"))
        )  # fmt: skip

    def _textual_reasons(self, samples: pl.LazyFrame, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the reasons that lie in the text, of rows that have no other."""
        found = [rows.head(0).select("row", reason=pl.lit("", pl.String))]
        for texts in with_texts(samples, rows, pl.col("reason").is_null(), TEXTS, ["row"]):
            found += [self._told_by_text(some) for some in texts.iter_slices(TEXTS_AT_ONCE)]
        return pl.concat(found)

    def _told_by_text(self, rows: pl.DataFrame) -> pl.DataFrame:
        whole = pl.concat_str(pl.col("reasoning").fill_null(""), pl.lit("\n"), pl.col("completion"))
        lists = rows.select(words(normalised(whole))).to_series()
        loops = pl.Series("loops", repetition(hashed_words(lists), REPEATED), dtype=pl.Float64)
        rows = rows.with_columns(answer=answer_texts(rows["completion"], rows["thought_open"]))
        nothing = pl.col("answer").str.strip_chars().eq("") & pl.col("tool_calls").is_null()
        format_broken = pl.col("answer").is_null() | nothing | ~balanced(whole)
        if self.must_match is not None:
            format_broken = format_broken | ~pl.col("completion").str.contains(self.must_match)
        foreign = pl.lit(False)
        if self.script:
            known = "".join(rf"\p{{{name}}}" for name in (*self.script, "Common", "Inherited"))
            others = whole.str.count_matches(rf"[\p{{L}}--[{known}]]")
            foreign = others > 0.1 * whole.str.count_matches(r"\p{L}")
        reason = (
            pl.when(format_broken).then(pl.lit("broken format"))
            .when(pl.col("loops") > self.max_repetition).then(pl.lit("repeats itself"))
            .when(foreign).then(pl.lit("another script"))
        )  # fmt: skip
        found = rows.with_columns(loops).select("row", reason=reason)
        return found.filter(pl.col("reason").is_not_null())

    def _beyond_episode(self, rows: pl.DataFrame, scores: pl.DataFrame | None) -> pl.DataFrame:
        """Return which of the usable rows are too many of their episode."""
        if not {"episode", "chosen"} <= set(rows.columns) or rows["episode"].null_count() == len(rows):
            return rows.head(0).select("row", reason=pl.lit("", pl.String))
        ordered = self._ordered(rows, scores).sort(
            pl.col("chosen").fill_null(False), descending=True, maintain_order=True
        )
        many = pl.int_range(pl.len()).over("problem_key", "episode") >= self.max_per_episode
        many = many & pl.col("episode").is_not_null()
        return ordered.filter(many).select("row", reason=pl.lit("beyond max_per_episode"))

    def _beyond(self, samples: pl.LazyFrame, rows: pl.DataFrame, scores: pl.DataFrame | None) -> pl.DataFrame:
        """Return which of the usable rows are too many, or too like others."""
        rows = self._ordered(rows, scores)
        quota = pl.lit(float(self.per_problem))
        if self.balance:
            quota = (self.per_problem * (1.0 - pl.col("pass_rate"))).round().clip(1.0)
        rows = rows.with_columns(quota=quota.cast(pl.Int64))
        if self.max_similarity is None and self.prefer != "diverse":
            many = pl.int_range(pl.len()).over("problem_key") >= pl.col("quota")
            return rows.filter(many).select("row", reason=pl.lit("beyond per_problem"))
        parts = [self._unlike(samples, part) for part in rows.partition_by("problem_key", maintain_order=True)]
        empty = rows.head(0).select("row", reason=pl.lit("", pl.String))
        return pl.concat([empty, *parts])

    def _ordered(self, rows: pl.DataFrame, scores: pl.DataFrame | None) -> pl.DataFrame:
        order: list[pl.Expr] = [] if self.prefer == "first" else [pl.col("completion_tokens")]
        if self.prefer == "score" and scores is not None:
            first = scores.select(pl.col("scorer").min()).item()
            mine = scores.filter(pl.col("scorer") == first, pl.col("status") == "ok").select(*SAMPLE_KEY, "score")
            rows = rows.join(mine, on=SAMPLE_KEY, how="left")
            order.insert(0, -pl.col("score").fill_null(-np.inf))
        return rows.sort("problem_key", *order, "sample_index")

    def _unlike(self, samples: pl.LazyFrame, rows: pl.DataFrame) -> pl.DataFrame:
        """Take one problem's rows one by one, none too like those that were taken; return the others."""
        sketch = self._sketches(samples, rows)
        likeness = np.zeros(len(rows))
        taken = np.zeros(len(rows), np.bool_)
        limit = 1.0 if self.max_similarity is None else self.max_similarity
        for _ in range(rows["quota"][0]):
            free = ~taken & ((likeness < limit) | ~taken.any())
            if not free.any():
                break
            if self.prefer == "diverse":
                best = int(np.argmin(np.where(free, likeness, np.inf)))
            else:
                best = int(np.argmax(free))
            taken[best] = True
            likeness = np.maximum(likeness, (sketch == sketch[best]).mean(axis=1))
        alike = pl.Series("alike", likeness >= limit)
        reason = pl.when("alike").then(pl.lit("like another of the problem")).otherwise(pl.lit("beyond per_problem"))
        return rows.with_columns(alike).filter(~pl.Series(taken)).select("row", reason=reason)

    @staticmethod
    def _sketches(samples: pl.LazyFrame, rows: pl.DataFrame) -> NDArray[Any]:
        """Return the MinHash signatures of one problem's texts, in the order of ``rows``: 256 bytes a sample."""
        from operators.overlap.minhash import signatures  # settings do without its library

        found: list[NDArray[Any]] = []
        ordered = rows.sort(SAMPLE_KEY)
        for texts in with_texts(samples, ordered, pl.lit(True), ["completion"]):
            for some in texts.iter_slices(TEXTS_AT_ONCE):
                lists = some.select(words(normalised(pl.col("completion")), symbols=True)).to_series()
                found.append(signatures(ngrams(hashed_words(lists), SHINGLE), PERMUTATIONS, 1))
        places = rows["sample_index"].rank("ordinal").to_numpy() - 1
        return np.concatenate(found)[places]
