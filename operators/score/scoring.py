"""What operators that score completions share: each distinct text is scored once, neighbours in length together."""

from __future__ import annotations

from typing import Any, ClassVar

from operators.asking import AskingOperator
from operators.engine import Engine, EngineError
from schemas import datasets
from schemas.contract import complete
from schemas.conversation import Turn, described, spoken
from schemas.datasets import EPISODE, SAMPLE_KEY, Problem, Score
from schemas.later import pl

TEXT = ["problem_key", "completion_hash"]
Row = dict[str, Any]


class Scoring(AskingOperator):
    """Base of operators that score completions; define ``score``.

    Each distinct completion of a problem is scored once, in the order of problems and lengths: neighbours in length
    cost the same, and the completions of a problem share their beginning (engines keep it). Failed samples are
    ``skipped``, what an engine refused is ``error`` with the reason in ``detail``.
    """

    scope = "sample"
    inputs = {
        "problems": Problem.select("problem_key", "prompt", "messages", "tools"),
        "samples": datasets.Sample.select(
            "problem_key", "sample_index", "problem_id", "completion", "completion_hash", "status", *sorted(EPISODE)
        ),
    }
    output = Score
    also: ClassVar[tuple[str, ...]] = ()
    """More columns of the samples that tell texts apart."""

    scorer: str = ""
    """Name in the ``scorer`` column; by default the operator's own."""
    system: str | None = None
    """A system prompt before the problem."""
    chat: bool = True
    """Apply the model's chat template; otherwise the turns are joined as plain text."""

    async def score(self, engine: Engine, problem: Row, row: Row) -> Row:
        """Return ``score`` (and ``step_scores``, ``detail``) of one completion.

        Raises:
            EngineError: it can't be scored.
        """
        raise TypeError(f"{type(self).__name__} doesn't define score()")

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        samples: pl.DataFrame = inputs["samples"]
        asked = {row["problem_key"]: row for row in inputs["problems"].iter_rows(named=True)}
        keys = [*TEXT, *self.also]
        distinct = samples.filter(pl.col("status") == "ok").unique(keys, maintain_order=True)
        distinct = distinct.sort("problem_key", pl.col("completion").str.len_bytes(), maintain_order=True)
        rows = list(distinct.iter_rows(named=True))
        answers = await self.ask_each(engine, rows, lambda row: self.score(engine, asked[row["problem_key"]], row))
        found = [{"detail": str(a)} if isinstance(a, EngineError) else a for a in answers]
        schema = {"score": pl.Float64, "step_scores": pl.List(pl.Float32), "detail": pl.String}
        values = pl.DataFrame([{name: row.get(name) for name in schema} for row in found], schema=schema)
        scores = pl.concat([distinct.select(keys), values], how="horizontal")
        joined = samples.join(scores, on=keys, how="left", maintain_order="left", nulls_equal=True)
        failed = pl.col("status") != "ok"
        status = pl.when(failed).then(pl.lit("skipped")).when(pl.col("score").is_null()).then(pl.lit("error"))
        named = joined.with_columns(scorer=pl.lit(self.scorer_name), status=status.otherwise(pl.lit("ok")))
        return complete(named, Score)

    @property
    def scorer_name(self) -> str:
        """Name in the ``scorer`` column."""
        return self.scorer or self.public_name().removeprefix("score.")

    def conversation(self, problem: Row, completion: str | None = None) -> list[Turn]:
        """Return a problem as turns, with its answer where one is given."""
        turns = spoken(problem["messages"]) or [{"role": "user", "content": problem["prompt"]}]
        if self.system is not None and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": self.system})
        return turns if completion is None else [*turns, {"role": "assistant", "content": completion}]

    async def rendered(self, engine: Engine, problem: Row, completion: str | None = None) -> str:
        """Return a problem's prompt, or with a completion the whole conversation."""
        turns, tools = self.conversation(problem, completion), described(problem.get("tools"))
        return await engine.render(turns, chat=self.chat, answered=completion is not None, tools=tools)


def name_of(row: Row) -> str:
    """Return the name of a request about one sample."""
    return "/".join(str(row[key]) for key in SAMPLE_KEY)
