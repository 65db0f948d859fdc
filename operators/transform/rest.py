"""Several problems in one prompt (REST: Pan et al. 2025), so that all stand at each place equally often."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

from pydantic import Field

from operators.base import Operator
from schemas.contract import polars_schema
from schemas.datasets import Problem
from schemas.errors import BadInput
from schemas.identity import problem_keys, prompt_keys
from schemas.later import np, pl

DEMAND = "Answer these questions one by one, in their order. Put each final answer in \\boxed{}."


class SynthesizeRest(Operator):
    """Make prompts that ask several problems at once, for ``verify.rest`` and ``measure.stress``.

    At level s the prompt of problem i asks the s - 1 problems after it, going round, and i itself last. So every
    problem stands once at every place: n prompts a level, n s judgements. Level 1 asks each alone, in the same words.
    Problems with a conversation or tools of their own can't be joined and are left out.
    """

    version: ClassVar[int] = 1
    scope = "dataset"
    inputs = {"problems": Problem.select()}
    output = Problem

    levels: tuple[Annotated[int, Field(ge=1)], ...] = (1, 3, 5)
    """How many problems a prompt asks; one set of prompts for each level."""
    demand: str = DEMAND
    """The instruction that follows the questions."""
    shuffle: bool = False
    """Use a random order of problems, not that of their keys."""
    seed: int = 0
    """The seed of that order."""

    def run(self, problems: pl.LazyFrame) -> pl.DataFrame:
        """Return the prompts, level by level.

        Raises:
            BadInput: fewer problems than a prompt asks: one would meet itself.
        """
        table = problems.filter(pl.col("messages").is_null(), pl.col("tools").is_null()).sort("problem_key").collect()
        rows = list(table.iter_rows(named=True))
        most = max(self.levels)
        if len(rows) < most:
            raise BadInput(
                f"synthesize.rest: level {most} asks that many problems at once, and there are {len(rows)} that can be "
                "joined; leave the level out"
            )
        order = np.random.default_rng(self.seed).permutation(len(rows)) if self.shuffle else np.arange(len(rows))
        made = [
            self._together([rows[order[(at + step) % len(rows)]] for step in (*range(1, level), 0)], level)
            for level in sorted(set(self.levels))
            for at in range(len(rows))
        ]
        found = pl.DataFrame(made, schema={**polars_schema(Problem)})
        found = found.with_columns(problem_keys(found), prompt_keys(found))
        return found.sort("problem_key")

    def _together(self, parts: list[dict[str, Any]], level: int) -> dict[str, Any]:
        asked = "\n\n".join(f"Q{number}: {part['prompt']}" for number, part in enumerate(parts, 1))
        fields = ("problem_id", "answer", "task_type")
        judged = [
            {name: part[name] for name in fields if part[name] is not None}
            | ({"verification": json.loads(part["verification"])} if part["verification"] else {})
            for part in parts
        ]
        return {
            "problem_key": "",
            "problem_id": f"{parts[-1]['problem_id']}/rest{level}",
            "prompt": f"{asked}\n\n{self.demand}",
            "messages": None,
            "tools": None,
            "answer": None,
            "task_type": "rest",
            "verification": json.dumps({"rest": judged}, ensure_ascii=False),
            "metadata": json.dumps({"level": level}),
            "prompt_key": None,
        }
