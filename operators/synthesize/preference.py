"""Preference pairs: a right and a wrong completion of the same problem (DPO, SimPO)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import xxhash
from pydantic import Field

from operators.base import Operator
from operators.select.classes import one_verifier
from operators.synthesize.conversation import Reasoning, asked, said, turn
from operators.texts import among, texts_of, without_texts
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Preference, Problem, Sample, Score, Verdict
from schemas.later import NDArray, np, pl

NUMBERS = (
    *("problem_key", "sample_index", "completion_hash", "finish_reason", "completion_tokens", "mean_logprob"),
    *("run_id", "status"),
)
"""What is read of all samples."""
TEXTS = ("completion", "reasoning", "thought_open", "tool_calls")
"""What is read of those that are paired only."""
OF_EACH = ("sample_index", "completion_hash", "completion_tokens", "run_id", "credit", "weight")


class SynthesizePreference(Operator):
    """Pair up to ``per_problem`` right completions of each problem with wrong ones (Rafailov et al. 2023, DPO).

    Only completions with an ``ok`` verdict that weren't cut at the token limit are paired, of equal texts the first,
    and each at most once. A completion's weight is its score where there are ``scores`` (the scorer whose name sorts
    first), else its mean log-prob. Problems without a right or without a wrong completion give no pairs.
    """

    version: ClassVar[int] = 2
    scope = "problem"
    inputs = {
        "problems": Problem.select("problem_key", "problem_id", "prompt", "messages", "tools"),
        "samples": Sample.select(*NUMBERS, *TEXTS),
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "is_correct", "credit", "status"),
        "scores": Score.select("problem_key", "sample_index", "scorer", "score", "status"),
    }
    optional = frozenset({"scores"})
    lazy = frozenset({"samples"})
    output = Preference

    per_problem: Annotated[int, Field(ge=1)] = 4
    """Most pairs of a problem."""
    rejected: Literal["hardest", "random"] = "hardest"
    """``hardest``: wrong completions of the largest weight first, which the model is surest of; ``random``: by hash."""
    same_length: bool = False
    """Pair only completions whose numbers of tokens lie between the same powers of two, lest length be learned."""
    margin: float | None = None
    """Keep pairs whose right completion outweighs the wrong one by at least this."""
    system: str | None = None
    """A system prompt for the rows."""
    reasoning: Reasoning = "tags"
    """How a completion's reasoning is written down: in tags, as a field of its own, or not at all."""
    seed: int = 0
    """Of the draws where many pairs are as good."""

    def run(
        self,
        problems: pl.DataFrame,
        samples: pl.DataFrame | pl.LazyFrame,
        verdicts: pl.DataFrame,
        scores: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Return the pairs; ``margin`` is the difference of the weights, null where one has none."""
        judged = one_verifier(verdicts).filter(pl.col("status") == "ok", pl.col("is_correct").is_not_null())
        lazy = samples.lazy()
        numbers = without_texts(lazy, NUMBERS)
        usable = numbers.filter(pl.col("status") == "ok", pl.col("finish_reason") != "length")
        rows = usable.join(judged.select(*SAMPLE_KEY, "is_correct", "credit"), on=SAMPLE_KEY)
        rows = rows.with_columns(weight=pl.col("mean_logprob"))
        if scores is not None:
            rows = _scored(rows, scores)
        rows = rows.sort(*SAMPLE_KEY).unique(["problem_key", "completion_hash"], keep="first", maintain_order=True)
        bucket = pl.col("completion_tokens").clip(1).log(2).floor().cast(pl.Int64) if self.same_length else pl.lit(0)
        rows = rows.with_columns(pl.Series("chance", _shuffled(rows["completion_hash"], self.seed)), bucket=bucket)
        group = ["problem_key", "bucket"]
        order = "weight" if self.rejected == "hardest" else "chance"
        right = _ranked(rows.filter("is_correct"), group, "weight")
        wrong = _ranked(rows.filter(~pl.col("is_correct")), group, order)
        pairs = right.join(wrong.select(*group, "rank", *OF_EACH), on=[*group, "rank"], suffix="_wrong")
        pairs = pairs.with_columns(margin=pl.col("weight") - pl.col("weight_wrong"))
        if self.margin is not None:
            pairs = pairs.filter(pl.col("margin") >= self.margin)
        pairs = pairs.sort("problem_key", "rank", "bucket")
        kept = pairs.filter(pl.int_range(pl.len()).over("problem_key") < self.per_problem)
        whole = self._with_texts(kept, lazy, numbers).join(problems, on="problem_key", maintain_order="left")
        sides = {"right": said(whole, self.reasoning), "wrong": said(whole, self.reasoning, suffix="_wrong")}
        table = whole.with_columns(**sides).with_columns(
            prompt=asked(self.system),
            chosen=turn("assistant", pl.col("right"), pl.col("tool_calls")),
            rejected=turn("assistant", pl.col("wrong"), pl.col("tool_calls_wrong")),
            lineage=self._lineage(),
        )
        return table.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(Preference).items())

    @staticmethod
    def _with_texts(pairs: pl.DataFrame, samples: pl.LazyFrame, numbers: pl.DataFrame) -> pl.DataFrame:
        """Add the texts of both sides, those of the wrong one with the suffix ``_wrong``."""
        wrong = pairs.select("problem_key", sample_index="sample_index_wrong")
        texts = texts_of(samples, numbers, among(pl.concat([pairs.select(SAMPLE_KEY), wrong])), TEXTS)
        pairs = pairs.join(texts, on=SAMPLE_KEY, how="left", maintain_order="left")
        beside = texts.rename({name: f"{name}_wrong" for name in ("sample_index", *TEXTS)})
        key = ["problem_key", "sample_index_wrong"]
        return pairs.join(beside, on=key, how="left", maintain_order="left")

    def _lineage(self) -> pl.Expr:
        """Return a JSON object that says which samples a pair is."""
        made_by = pl.lit(f"{self.public_name()} {self.version}").alias("operator")
        both = [pl.col("sample_index").alias("chosen"), pl.col("sample_index_wrong").alias("rejected")]
        return pl.struct("problem_key", *both, "run_id", made_by).struct.json_encode()


def _shuffled(hashes: pl.Series, seed: int) -> NDArray[np.uint64]:
    """Return other hashes of the same texts, which differ by seed: multiplied by an odd number."""
    odd = np.uint64(xxhash.xxh3_64_intdigest(str(seed).encode()) | 1)
    return hashes.to_numpy().view(np.uint64) * odd


def _ranked(rows: pl.DataFrame, group: list[str], by: str) -> pl.DataFrame:
    """Number each group's rows, the largest first."""
    ordered = rows.sort(*group, by, "sample_index", descending=[False, False, True, False], nulls_last=True)
    return ordered.with_columns(rank=pl.int_range(pl.len()).over(group))


def _scored(rows: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """Take the scores of the scorer whose name sorts first as weights."""
    first = scores.select(pl.col("scorer").min()).item()
    found = scores.filter(pl.col("scorer") == first, pl.col("status") == "ok").select(*SAMPLE_KEY, weight="score")
    return rows.drop("weight").join(found, on=SAMPLE_KEY, how="left", maintain_order="left")
