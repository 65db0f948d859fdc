"""Several verifiers: by the kind of task, all of them, any of them, or a cheap one and then a strong one.

A later verifier sees only the samples that still depend on it. Each sample gets one verdict, under the composition's
own name: that of the verifier that decided, named in ``detail``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from operators.asking import AskingOperator, Tokens
from operators.base import AnyOperator, Operator
from operators.engine import Engine
from operators.verify.verdicts import of_episodes
from schemas.contract import complete, polars_schema
from schemas.datasets import Problem, Sample, Verdict
from schemas.errors import BadInput
from schemas.later import asyncio, pl

KEY = ["problem_key", "sample_index"]
Doubt = Literal["rejected", "accepted", "undecided"]
Part = tuple[Operator, "pl.DataFrame"]
"""A verifier, and the samples it is to judge."""


class Composition(AskingOperator):
    """Base of verifiers made of verifiers; define ``parts`` and ``plan``."""

    scope = "sample"
    inputs = {"samples": Sample.select(), "problems": Problem.select()}
    output = Verdict

    def parts(self) -> tuple[Operator, ...]:
        """Return the verifiers it is made of."""
        raise TypeError(f"{type(self).__name__} doesn't define parts()")

    def most_tokens(self, prompt: Tokens, completion: Tokens) -> tuple[Tokens, Tokens]:
        read, written = 0 * prompt, 0 * prompt
        for part in self.parts():
            if isinstance(part, AskingOperator) and "engine" in part.tools:
                more = part.most_tokens(prompt, completion)
                read, written = read + more[0], written + more[1]
        return read, written

    def plan(self, samples: pl.DataFrame, problems: pl.DataFrame) -> Generator[Part, pl.DataFrame, None]:
        """Yield one verifier after the other with its samples; each ``yield`` gives back its verdicts."""
        raise TypeError(f"{type(self).__name__} doesn't define plan()")

    @property
    def tools(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the parts need, together."""
        return tuple(sorted({tool for part in self.parts() for tool in part.tools}))

    @property
    def compares(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return all(part.compares for part in self.parts())

    def check_problems(self, problems: pl.DataFrame) -> None:
        for part in self.parts():
            part.check_problems(problems)

    def objections(self, problems: pl.DataFrame, **tools: Any) -> list[str]:
        return [line for part in self.parts() for line in _objections(part, problems, tools)]

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame, **tools: Any) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        if "engine" in tools:
            return asyncio.run(self.ask(tools.pop("engine"), samples=samples, problems=problems, **tools))
        plan = self._verdicts(samples, problems)
        try:
            part, rows = next(plan)
            while True:
                part, rows = plan.send(_call(part, rows, problems, tools))
        except StopIteration as end:
            return end.value

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        """Judge with parts that ask an engine among them."""
        samples, problems = inputs.pop("samples"), inputs.pop("problems")
        plan = self._verdicts(samples, problems)
        try:
            part, rows = next(plan)
            while True:
                if "engine" in part.tools:
                    assert isinstance(part, AskingOperator)
                    others = {name: tool for name, tool in inputs.items() if name in part.tools}
                    found = await part.ask(engine, **_columns(part, rows, problems), **others)
                else:
                    found = await asyncio.to_thread(_call, part, rows, problems, inputs)
                part, rows = plan.send(found)
        except StopIteration as end:
            return end.value

    def _verdicts(self, samples: pl.DataFrame, problems: pl.DataFrame) -> Generator[Part, pl.DataFrame, pl.DataFrame]:
        """Go through the plan; return the last verdict of each sample, in the order of the samples."""
        every: list[pl.DataFrame] = []
        plan = self.plan(samples, problems)
        try:
            part, rows = next(plan)
            while True:
                found = yield part, rows
                name = part.public_name()
                # of a verifier that gives several rows (one for each of several problems) the one of the whole
                found = complete(found.filter(pl.col("verifier") == name), Verdict)
                told = pl.concat_str(pl.lit(name), pl.lit(": ") + pl.col("detail"), ignore_nulls=True)
                every.append(found.with_columns(detail=told))
                part, rows = plan.send(found)
        except StopIteration:
            pass
        if not every:
            return pl.DataFrame(schema=polars_schema(Verdict))
        together = pl.concat(every)
        seconds = together.group_by(KEY).agg(pl.col("seconds").sum())
        last = together.unique(KEY, keep="last", maintain_order=True).drop("seconds").join(seconds, on=KEY)
        rows = samples.select(KEY).join(last, on=KEY, how="left", maintain_order="left")
        return of_episodes(rows.with_columns(verifier=pl.lit(self.public_name())), samples)


class VerifyByTask(Composition):
    """Judge each problem with the verifier of its ``task_type``."""

    version: ClassVar[int] = 1

    verifiers: dict[str, AnyOperator]
    """task_type -> verifier; ``*`` is for all others."""

    def parts(self) -> tuple[Operator, ...]:
        return tuple(self.verifiers.values())

    def check_problems(self, problems: pl.DataFrame) -> None:
        for part, mine in self._shares(problems["task_type"]):
            part.check_problems(problems.filter(mine))

    def objections(self, problems: pl.DataFrame, **tools: Any) -> list[str]:
        shares = self._shares(problems["task_type"])
        return [line for part, mine in shares for line in _objections(part, problems.filter(mine), tools)]

    def plan(self, samples: pl.DataFrame, problems: pl.DataFrame) -> Generator[Part, pl.DataFrame, None]:
        types = samples.join(problems.select("problem_key", "task_type"), on="problem_key", how="left")["task_type"]
        for part, mine in self._shares(types):
            yield part, samples.filter(mine)

    def _shares(self, types: pl.Series) -> list[tuple[Operator, pl.Series]]:
        """Return the verifiers that have something to do, and where."""
        unknown = set(types.unique().drop_nulls()) - set(self.verifiers)
        if unknown and "*" not in self.verifiers:
            raise BadInput(
                f"verify.by_task has no verifier for task_type {sorted(unknown)}; it has {sorted(self.verifiers)}. Add "
                "one, or '*' for all others"
            )
        shares = [
            (part, types.is_in(list(unknown)) | types.is_null() if name == "*" else types == name)
            for name, part in self.verifiers.items()
        ]
        return [(part, mine) for part, mine in shares if mine.any()]


class Chain(Composition):
    """Base of verifiers in a row: the next one sees what the one before left in doubt. Define ``doubted``."""

    verifiers: Annotated[tuple[AnyOperator, ...], Field(min_length=1)]
    """The verifiers, in the order in which they are asked."""

    def doubted(self) -> tuple[Doubt, ...]:
        """Return which verdicts go on to the next verifier."""
        raise TypeError(f"{type(self).__name__} doesn't define doubted()")

    def parts(self) -> tuple[Operator, ...]:
        return self.verifiers

    def plan(self, samples: pl.DataFrame, problems: pl.DataFrame) -> Generator[Part, pl.DataFrame, None]:
        state = (
            pl.when(pl.col("is_correct").is_null()).then(pl.lit("undecided"))
            .when("is_correct").then(pl.lit("accepted")).otherwise(pl.lit("rejected"))
        )  # fmt: skip
        goes_on = (pl.col("status") != "skipped") & state.is_in(self.doubted())
        for part in self.verifiers:
            if samples.is_empty():
                return
            found = yield part, samples
            on = found.filter(pl.col("verifier") == part.public_name(), goes_on)
            samples = samples.join(on, on=KEY, how="semi", maintain_order="left")


class VerifyAllOf(Chain):
    """Right is what all verifiers accept. Those that come later see only what was accepted so far."""

    version: ClassVar[int] = 1

    def doubted(self) -> tuple[Doubt, ...]:
        return ("accepted",)


class VerifyAnyOf(Chain):
    """Right is what any verifier accepts. Those that come later see only what none has accepted yet."""

    version: ClassVar[int] = 1

    def doubted(self) -> tuple[Doubt, ...]:
        return ("rejected", "undecided")


class VerifyCascade(Chain):
    """A cheap verifier first (``verifiers``, from cheap to strong); what it leaves in doubt goes on to the next, whose
    verdict then counts."""

    version: ClassVar[int] = 1

    doubts: tuple[Doubt, ...] = ("rejected", "undecided")
    """Which verdicts go on: of a verifier that seldom accepts wrong answers the rejected ones, of one that seldom
    rejects right ones the accepted."""

    def doubted(self) -> tuple[Doubt, ...]:
        return self.doubts


def _columns(part: Operator, samples: pl.DataFrame, problems: pl.DataFrame) -> dict[str, pl.DataFrame]:
    own = problems.join(samples.select("problem_key").unique(), on="problem_key", how="semi", maintain_order="left")
    tables = {"samples": samples, "problems": own}
    return {name: tables[name].select(columns.names) for name, columns in part.inputs.items()}


def _objections(part: Operator, problems: pl.DataFrame, tools: dict[str, Any]) -> list[str]:
    return part.objections(problems, **{name: tool for name, tool in tools.items() if name in part.tools})


def _call(part: Operator, samples: pl.DataFrame, problems: pl.DataFrame, tools: dict[str, Any]) -> pl.DataFrame:
    given = {name: tool for name, tool in tools.items() if name in part.tools}
    return part.run(**_columns(part, samples, problems), **given)
