"""Preference pairs within episodes: texts that began alike and ended better or worse, right and wrong revisions."""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar, Literal

from pydantic import Field

from operators.base import Operator
from operators.select.classes import one_verifier
from operators.synthesize.conversation import Reasoning, asked, said, turn
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Preference, Problem, Sample, Verdict
from schemas.later import pl

SAID = ("sample_index", "completion", "reasoning", "thought_open", "tool_calls")


class SynthesizeSiblings(Operator):
    """Pair texts of one episode: siblings of a tree of thoughts, attempts of a chain of revisions (``every=true``).

    A pair's better text is the right one where ``verdicts`` are given, else the one of the larger score of the search.
    Of an episode those pairs are kept whose texts share the longest beginning (in a tree: that part ways last), then
    those of the largest gap between their scores. Episodes that looked at the answer are as good here as others.
    Lineage names the episode, whose calls the sampling stage keeps.
    """

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {
        "problems": Problem.select("problem_key", "problem_id", "prompt", "messages", "tools"),
        "samples": Sample.select(
            *("problem_key", "sample_index", "completion", "reasoning", "thought_open", "tool_calls"),
            *("finish_reason", "run_id", "status", "episode", "slot", "lineage", "search_score"),
        ),
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "is_correct", "status"),
    }
    optional = frozenset({"verdicts"})
    output = Preference

    per_episode: int = Field(default=1, ge=1)
    """Most pairs of an episode."""
    within: Literal["episode", "lineage"] = "episode"
    """Pair all texts of an episode, or those of one first step, or one chain, alone."""
    margin: float = Field(default=0.0, ge=0.0)
    """Without verdicts: the least gap between the scores."""
    system: str | None = None
    """A system prompt for the rows."""
    reasoning: Reasoning = "tags"
    """How a completion's reasoning is written down: in tags, as a field of its own, or not at all."""

    def run(self, problems: pl.DataFrame, samples: pl.DataFrame, verdicts: pl.DataFrame | None = None) -> pl.DataFrame:
        """Return the pairs; ``margin`` is the gap between the scores, null where there are none."""
        usable = samples.filter(
            pl.col("status") == "ok", pl.col("finish_reason") != "length", pl.col("episode").is_not_null()
        )
        if verdicts is None:
            usable = usable.with_columns(worth=pl.col("search_score"))
        else:
            judged = one_verifier(verdicts).filter(pl.col("status") == "ok", pl.col("is_correct").is_not_null())
            worth = judged.select(*SAMPLE_KEY, worth=pl.col("is_correct").cast(pl.Float64))
            usable = usable.join(worth, on=SAMPLE_KEY, maintain_order="left")
        group = ["problem_key", "episode", *(["lineage"] if self.within == "lineage" else [])]
        rows = usable.filter(pl.col("worth").is_not_null()).sort(*SAMPLE_KEY)
        rows = rows.unique([*group, "completion"], keep="first", maintain_order=True)
        pairs: list[dict[str, Any]] = []
        for _, one in rows.group_by(group, maintain_order=True):
            pairs += self._pairs(one.to_dicts(), verdicts is None)
        kept = ("problem_key", "episode", "run_id")
        schema = {name: rows.schema[name] for name in (*kept, *SAID)}
        schema |= {f"{name}_worse": rows.schema[name] for name in SAID} | {"margin": pl.Float64()}
        whole = pl.DataFrame(pairs, schema=schema).join(problems, on="problem_key", maintain_order="left")
        sides = {"better": said(whole, self.reasoning), "worse": said(whole, self.reasoning, suffix="_worse")}
        both = [pl.col("sample_index").alias("chosen"), pl.col("sample_index_worse").alias("rejected")]
        made_by = pl.lit(f"{self.public_name()} {self.version}").alias("operator")
        table = whole.with_columns(**sides).with_columns(
            prompt=asked(self.system),
            chosen=turn("assistant", pl.col("better"), pl.col("tool_calls")),
            rejected=turn("assistant", pl.col("worse"), pl.col("tool_calls_worse")),
            lineage=pl.struct("problem_key", "episode", *both, "run_id", made_by).struct.json_encode(),
        )
        return table.select(pl.col(name).cast(dtype) for name, dtype in polars_schema(Preference).items())

    def _pairs(self, rows: list[dict[str, Any]], scored: bool) -> list[dict[str, Any]]:
        """Return an episode's pairs, the best ones first, as many as are kept."""
        found: list[tuple[int, float, dict[str, Any]]] = []
        for one, two in combinations(rows, 2):
            better, worse = (one, two) if one["worth"] > two["worth"] else (two, one)
            if better["worth"] == worse["worth"] or (scored and better["worth"] - worse["worth"] < self.margin):
                continue
            shared = _shared(one["completion"], two["completion"])
            scores = [row["search_score"] for row in (better, worse)]
            gap = None if None in scores else scores[0] - scores[1]
            pair = {name: better[name] for name in ("problem_key", "episode", "run_id", *SAID)}
            pair |= {f"{name}_worse": worse[name] for name in SAID} | {"margin": gap}
            found.append((shared, gap or 0.0, pair))
        found.sort(key=lambda pair: (-pair[0], -pair[1]))
        return [pair for _, _, pair in found[: self.per_episode]]


def _shared(one: str, two: str) -> int:
    """Return how many characters two texts begin with alike."""
    return next(
        (at for at, (mine, other) in enumerate(zip(one, two, strict=False)) if mine != other), min(len(one), len(two))
    )
