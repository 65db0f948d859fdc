"""Supervised fine-tuning rows: a few verified-correct completions of each problem, as conversations.

A row is a problem's own turns and one completion of it that a verifier accepted, with enough lineage to find the sample
again. Selection is a sort and a cut: distinct, finished, right completions, in the preferred order, the first few.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from operators.base import Operator
from operators.select.classes import one_verifier
from operators.synthesize.choose import SynthesizeChoose
from operators.synthesize.conversation import Reasoning, asked, said, turn
from operators.texts import among, texts_of, without_texts
from schemas.contract import polars_schema
from schemas.datasets import SAMPLE_KEY, Path, Problem, Sample, Sft, Verdict
from schemas.identity import Added
from schemas.later import pl


class SynthesizeSft(Operator):
    """Keep up to ``per_problem`` correct completions of each problem as chat messages.

    Given ``paths`` (``synthesize.choose``), exactly what these keep is taken, and the settings of the choice here are
    not looked at. Otherwise ``synthesize.choose`` chooses with the settings that both have: right, finished and
    distinct samples in an unbroken format. Several verifiers of a sample: the one whose name sorts first is used.
    """

    version: ClassVar[int] = 4
    scope = "problem"
    inputs = {
        "problems": Problem.select("problem_key", "problem_id", "prompt", "messages", "tools"),
        "samples": Sample.select(
            "problem_key",
            "sample_index",
            "problem_id",
            "completion",
            "reasoning",
            "thought_open",
            "tool_calls",
            "turns",
            "episode_facts",
            "completion_hash",
            "finish_reason",
            "completion_tokens",
            "run_id",
            "status",
        ),
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "is_correct", "credit", "status"),
        "paths": Path.select("problem_key", "sample_index", "kept"),
    }
    optional = frozenset({"paths"})
    lazy = frozenset({"samples"})
    output = Sft

    per_problem: Annotated[int, Field(ge=1)] = 4
    """Most rows of a problem."""
    prefer: Literal["short", "first"] = "short"
    """``short``: fewest completion tokens (ConCISE: the shorter of two right traces teaches more per token); ``first``:
    lowest sample_index, an unbiased draw of what the model gets right. Ties go to the lowest sample_index."""
    system: str | None = None
    """A system turn put first, unless the problem's own messages bring one."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Leave out longer completions."""
    reasoning: Annotated[Reasoning, Added] = "tags"
    """How a completion's reasoning is written down: in tags, as a field of its own, or not at all."""
    conversation: Annotated[Literal["last", "whole"], Added] = "last"
    """What is taken of an episode that is a conversation (revisions, a debate): its last answer alone, or all of its
    turns. Where tools were called or programs run it is always all: the answer stands on what they said; ``tools`` then
    has what the model was told of them."""

    def chooser(self) -> SynthesizeChoose:
        """Return what chooses the rows where nothing else did."""
        return SynthesizeChoose(per_problem=self.per_problem, prefer=self.prefer, max_tokens=self.max_tokens)

    def run(
        self,
        problems: pl.DataFrame,
        samples: pl.DataFrame | pl.LazyFrame,
        verdicts: pl.DataFrame,
        paths: pl.DataFrame | None = None,
    ) -> pl.DataFrame:
        """Return the kept rows, sorted by problem_key and sample_index; ``score`` is the verdict's credit."""
        judged = one_verifier(verdicts).select(*SAMPLE_KEY, "verifier", "credit", "is_correct", verdict="status")
        if paths is None:
            paths = self.chooser().run(samples, verdicts)
        lazy = samples.lazy()
        every = without_texts(lazy, [*SAMPLE_KEY, "completion_tokens"])
        others = [name for name in lazy.collect_schema() if name not in SAMPLE_KEY]
        few = texts_of(lazy, every, among(paths.filter("kept")), others)
        rows = few.join(judged, on=SAMPLE_KEY)
        kept = rows.join(problems.drop("problem_id"), on="problem_key")
        kept = kept.with_columns(said=said(kept, self.reasoning))
        last = turn("assistant", pl.col("said"), pl.col("tool_calls"))
        called = pl.col("turns").list.eval(pl.element().struct.field("tool_calls").is_not_null()).list.any()
        used = pl.col("episode_facts").str.json_path_match("$.note.tool_calls").cast(pl.Int64) > 0
        whole = pl.lit(self.conversation == "whole") | called.fill_null(False) | used.fill_null(False)
        answers = pl.when(whole).then(pl.coalesce("turns", last)).otherwise(last)
        messages = pl.concat_list(asked(self.system), answers)
        offered = pl.col("episode_facts").str.json_path_match("$.tools")
        table = kept.with_columns(
            messages=messages, tools=pl.coalesce(offered, "tools"), score=pl.col("credit"), lineage=self._lineage()
        )
        schema = polars_schema(Sft)
        return table.select(pl.col(name).cast(dtype) for name, dtype in schema.items()).sort(*SAMPLE_KEY)

    def _lineage(self) -> pl.Expr:
        """Return a JSON object that says which sample a row is and who accepted it."""
        made_by = pl.lit(f"{self.public_name()} {self.version}").alias("operator")
        return pl.struct(*SAMPLE_KEY, "run_id", "verifier", "credit", made_by).struct.json_encode()
