"""Mass sampling: many completions of each problem from one engine.

One sample is one request with its own seed, derived from the base seed, the problem and the index, so that a text
doesn't depend on how the work was cut up. The operator renders prompts and turns completions into rows; who draws which
index, and where the rows go, is the runner's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, model_validator

from operators.base import Operator
from operators.confidence import WINDOW
from operators.policies.named import AnyPolicy
from operators.strategies.strategy import AnyStrategy
from operators.text import PromptTemplate
from schemas import datasets
from schemas.contract import Columns, polars_schema
from schemas.conversation import Turn, described, spoken
from schemas.datasets import Problem
from schemas.engine import SamplingParams
from schemas.errors import BadInput
from schemas.identity import Added, Execution, sample_seed
from schemas.later import asyncio, np, pl
from schemas.settings import Settings

if TYPE_CHECKING:
    from operators.engine import Completion, Engine
    from operators.strategies.calls import Journal

Engines = TypeVar("Engines")


class Example(Settings):
    """A solved problem shown before the real one."""

    prompt: str
    """What was asked."""
    completion: str
    """How it was answered."""


class ConfidenceCut(Settings):
    """Cut traces that the model itself is unsure of (DeepConf online: Fu et al. 2025).

    The first ``warm_up`` samples of a problem are drawn whole. The confidence that the share ``keep`` of them reaches
    with their lowest group is the threshold: a later sample is cut where a group of ``window`` tokens falls below it.
    """

    warm_up: int = Field(default=16, ge=1)
    """Samples of each problem that are drawn whole, and set the threshold."""
    keep: float = Field(default=0.1, gt=0.0, le=1.0)
    """The share of them whose lowest group reaches the threshold."""
    window: int = Field(default=WINDOW, ge=1)
    """Tokens of a group, over which confidence is averaged."""

    def threshold(self, lowest: Iterable[float | None]) -> float | None:
        """Return the threshold, given the warm-up samples' lowest group confidences; None where there are none."""
        known = [value for value in lowest if value is not None]
        return float(np.quantile(known, 1.0 - self.keep)) if known else None


class Sampling(Operator, SamplingParams):
    """Draw ``n`` completions of every problem (repeated sampling: Brown et al. 2024, "Large Language Monkeys")."""

    version: ClassVar[int] = 1
    scope = "sample"
    inputs = {"problems": Problem.select("problem_key", "problem_id", "prompt", "messages", "tools")}
    output = datasets.Sample

    n: Annotated[int, Execution] = Field(default=64, ge=1)
    """Samples per problem. Not part of the identity: asking for more tops up what is there."""
    seed: int = 0
    """The base seed, from which the seed of each sample is derived."""
    system: str | None = None
    """A system prompt before every problem."""
    template: PromptTemplate = "{prompt}"
    """The user's turn; ``{prompt}`` is replaced, other braces are left alone."""
    few_shot: tuple[Example, ...] = ()
    """Solved problems that are shown before every problem, as earlier turns."""
    chat: bool = True
    """Apply the model's chat template; otherwise turns are joined as plain text (base models)."""
    separator: str = "\n\n"
    """What is put between turns where ``chat`` is false."""
    extend_truncated: Annotated[bool, Execution] = False
    """Where samples with a smaller ``max_tokens`` are there, take the finished ones over and continue those that were
    cut (``finish_reason = length``) from where they were cut. Drawing only these afresh would favour short answers."""
    cut: Annotated[ConfidenceCut | None, Added] = None
    """Cut unsure traces, on engines that can."""
    strategy: Annotated[AnyStrategy | None, Added] = None
    """How the calls of one draw are spent: a search, revisions, a debate. Without one a draw is one completion. A
    strategy's draw is an *episode*, which may give several rows; ``n`` is rounded up to whole ones."""
    policy: Annotated[AnyPolicy | None, Execution] = None
    """What decides how many samples each problem gets, up to ``n``; by default all get ``n``, and under a budget
    ``marginal`` decides (``uniform`` where nothing judges the samples)."""
    too_long: Annotated[Literal["refuse", "skip"], Execution] = "refuse"
    """What becomes of problems whose prompt leaves no room for ``max_tokens`` in the engine's context: refuse the run,
    or leave them out of it and say how many."""
    retries: Annotated[int, Execution] = Field(default=4, ge=0)
    """How often a request is tried again after a transient fault, with exponential backoff."""

    @model_validator(mode="after")
    def _strategy_alone(self) -> Sampling:
        """Refuse what a strategy would have to do itself."""
        if self.strategy is not None:
            for name in ("cut", "extend_truncated", "stop", "json_schema", "regex"):
                if getattr(self, name):
                    raise ValueError(f"sample.{name} and sample.strategy exclude one another")
            if self.strategy.by_tokens:
                for name in ("top_p", "top_k", "min_p"):
                    if getattr(self, name) != type(self).model_fields[name].default:
                        raise ValueError(
                            f"strategy {self.strategy.public_name()} chooses among next tokens by its own settings, "
                            f"and sample.{name} would change nothing"
                        )
        return self

    @property
    def tools(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """An engine, and what the strategy needs beside it."""
        return ("engine", *(() if self.strategy is None else self.strategy.tools))

    @property
    def reads(self) -> Columns:
        """What a draw is told of a problem: its answer only where a strategy says that it looks at it."""
        plain = self.inputs["problems"]
        if self.strategy is None:
            return plain
        return Problem.select() if self.strategy.shows_answers else Problem.select(*plain.names, *self.strategy.columns)

    @property
    def rows(self) -> int:
        """Sample rows of one draw."""
        return 1 if self.strategy is None else self.strategy.rows

    @property
    def per_problem(self) -> int:
        """Samples per problem: ``n``, rounded up to whole episodes."""
        return -(-self.n // self.rows) * self.rows

    def refuse_equal_episodes(self) -> None:
        """Refuse several episodes of a strategy that would all be the same.

        Raises:
            BadInput: with the remedy.
        """
        if self.strategy is None or self.per_problem == self.rows or not self.strategy.all_greedy(self.temperature):
            return
        name, most = self.strategy.public_name(), self.rows
        by_tokens = self.strategy.by_tokens
        why = "leaves nothing to chance" if by_tokens else "asks all of an episode at temperature 0"
        raise BadInput(
            f"strategy {name} {why}, so every episode of a problem would be the same, and sample.n = {self.n} asks for "
            f"{self.per_problem // most}; set sample.n to {most} (one episode)"
            f"{'' if by_tokens else ', or a temperature above 0'}"
        )

    def of_roles(self, engines: Mapping[str, Engines]) -> dict[str, Engines]:
        """Return those of some engines that the strategy asks, by role."""
        asked = () if self.strategy is None else (*self.strategy.asks, *self.strategy.optional_roles)
        return {role: engine for role, engine in engines.items() if role in asked}

    def messages(self, problem: Mapping[str, Any]) -> list[Turn]:
        """Return the conversation that asks one problem: system, examples, then its own turns.

        A problem's own ``messages`` are taken as they are (after the system turn, unless they bring one). Where the
        last of them is the assistant's, it is the beginning of the completion (``lead``).
        """
        own = spoken(problem.get("messages"))
        turns: list[Turn] = []
        if self.system is not None and not (own and own[0]["role"] == "system"):
            turns.append({"role": "system", "content": self.system})
        for example in self.few_shot:
            turns.append({"role": "user", "content": self.template.replace("{prompt}", example.prompt)})
            turns.append({"role": "assistant", "content": example.completion})
        turns += own or [{"role": "user", "content": self.template.replace("{prompt}", problem["prompt"])}]
        if self.chat:
            return turns
        return self._as_text(turns)

    def _as_text(self, turns: list[Turn]) -> list[Turn]:
        """Put the separator behind every turn that ends an exchange, so that joined contents read as a document."""
        plain: list[Turn] = []
        for position, turn in enumerate(turns):
            closes = turn["role"] != "user" and position < len(turns) - 1 and isinstance(turn["content"], str)
            plain.append({**turn, "content": turn["content"] + self.separator} if closes else turn)
        return plain

    async def prompt(self, problem: Mapping[str, Any], engine: Engine) -> str:
        """Return the rendered prompt of a problem, without its ``lead``."""
        turns = self._asked(problem)
        return await engine.render(turns, chat=self.chat, tools=described(problem.get("tools")))

    def _asked(self, problem: Mapping[str, Any]) -> list[Turn]:
        """Return the conversation without the beginning of the completion."""
        turns = self.messages(problem)
        return turns[:-1] if turns[-1]["role"] == "assistant" else turns

    @staticmethod
    def lead(problem: Mapping[str, Any]) -> str:
        """Return the beginning of the completion: what a problem's last turn says, where that is the assistant's.

        It is continued and not part of the samples' completions.
        """
        own: list[Turn] = list(problem.get("messages") or [])
        return own[-1]["content"] if own and own[-1]["role"] == "assistant" else ""

    async def draw(
        self,
        problem: Mapping[str, Any],
        prompt: str,
        sample_index: int,
        engine: Engine,
        run_id: str,
        begun: Mapping[str, Any] | None = None,
        cut_below: float | None = None,
    ) -> dict[str, Any]:
        """Draw one sample and return its row.

        A permanent failure is a row with ``status = error``.

        Args:
            cut_below: the problem's threshold (``cut``).
            begun: the row of a truncated sample that is to be continued (``extend_truncated``).

        Raises:
            EngineError: a transient fault that outlived all retries; nothing may be committed for this index.
        """
        from operators.engine import Completion, EngineError, Request  # what settings do without
        from operators.sample.rows import sample_row
        from operators.thinking import opens_thought

        key = problem["problem_key"]
        seed = sample_seed(self.seed, key, sample_index)
        params, name = self.params, f"{key}/{sample_index}"
        led = opens_thought(prompt + self.lead(problem))
        if begun is not None:
            params = params.model_copy(update={"max_tokens": self.max_tokens - begun["completion_tokens"]})
            # another seed, or an engine that seeds each request alone would repeat the draws of the beginning
            seed = sample_seed(seed, f"{key}+{begun['completion_tokens']}", sample_index)
        prefix = self.lead(problem) + ("" if begun is None else begun["completion"])
        window = WINDOW if self.cut is None else self.cut.window
        request = Request(prompt, params, seed, 1, name, problem["problem_id"], prefix, window, cut_below)
        try:
            [completion] = await engine.generate(request)
        except EngineError as error:
            if error.transient:
                raise
            failed = Completion("", "error", *error.used)
            return sample_row(problem, sample_index, seed, run_id, failed, led, str(error))
        whole = completion if begun is None else _joined(begun, completion)
        return sample_row(problem, sample_index, seed, run_id, whole, led)

    async def play(
        self,
        problem: Mapping[str, Any],
        prompt: str,
        index: int,
        engines: Mapping[str, Engine],
        journal: Journal,
        run_id: str,
        tools: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Play one episode of the strategy and return its rows: as many as ``rows`` says.

        Args:
            index: of the episode.
            engines: role -> engine; ``policy`` at least.
            journal: the episode's; what it has isn't asked again.
            tools: those of ``tools`` that aren't engines.

        Raises:
            EngineError: a transient fault that outlived all retries; nothing may be committed for this index.
        """
        from operators.sample.episodes import play
        from operators.strategies.setting import Setting

        assert self.strategy is not None
        seed = sample_seed(self.seed, problem["problem_key"], index)
        lead = self.lead(problem)
        about = (problem, index, seed, prompt, lead, self.params)
        turns = tuple(self._asked(problem))
        setting = Setting(*about, engines, journal, self.chat, tools or {}, turns)
        return await play(self.strategy, setting, run_id)

    @staticmethod
    def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
        """Return rows of ``draw`` as a samples table."""
        return pl.DataFrame(rows, schema=polars_schema(datasets.Sample), orient="row")

    def run(self, problems: pl.DataFrame, engine: Engine, **tools: Any) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Draw ``n`` samples of each problem in this process (for ``gristmill op``; pipelines stream instead)."""
        self.refuse_equal_episodes()
        return asyncio.run(self._draw_all(problems, engine, tools))

    async def _draw_all(self, problems: pl.DataFrame, engine: Engine, tools: Mapping[str, Any]) -> pl.DataFrame:
        from operators.strategies.calls import MemoryJournal
        from operators.strategies.words import POLICY

        slots = asyncio.Semaphore(engine.capacity)

        async def one(problem: dict[str, Any], prompt: str, index: int, cut_below: float | None) -> dict[str, Any]:
            async with slots:
                return await self.draw(problem, prompt, index, engine, "op", None, cut_below)

        async def episode(problem: dict[str, Any], prompt: str, index: int) -> list[dict[str, Any]]:
            async with slots:
                return await self.play(problem, prompt, index, {POLICY: engine}, MemoryJournal(), "op", tools)

        async def all_of(problem: dict[str, Any]) -> list[dict[str, Any]]:
            prompt, threshold = await self.prompt(problem, engine), None
            if self.strategy is not None:
                draws = self.per_problem // self.rows
                played = await asyncio.gather(*[episode(problem, prompt, index) for index in range(draws)])
                return [row for rows in played for row in rows]
            first = min(self.n, self.cut.warm_up) if self.cut is not None else 0
            rows = await asyncio.gather(*[one(problem, prompt, index, None) for index in range(first)])
            if self.cut is not None:
                threshold = self.cut.threshold(row["lowest_group_confidence"] for row in rows)
            rest = [one(problem, prompt, index, threshold) for index in range(first, self.n)]
            return [*rows, *await asyncio.gather(*rest)]

        found = await asyncio.gather(*[all_of(problem) for problem in problems.iter_rows(named=True)])
        return self.table([row for rows in found for row in rows])


BEGUN = ("completion", "completion_tokens", "prompt_tokens", "sum_logprob", "lowest_group_confidence")
"""What continuing a truncated sample needs to know of it."""


def _joined(begun: Mapping[str, Any], rest: Completion) -> Completion:
    """Return a truncated sample and its continuation as one completion; confidences as far as the parts tell them."""
    tokens = begun["completion_tokens"] + rest.completion_tokens
    before: float | None = begun["sum_logprob"]
    total = before + rest.sum_logprob if before is not None and rest.sum_logprob is not None else None
    groups = [c for c in (begun["lowest_group_confidence"], rest.lowest_group_confidence) if c is not None]
    return replace(
        rest,
        text=begun["completion"] + rest.text,
        prompt_tokens=begun["prompt_tokens"],
        completion_tokens=tokens,
        sum_logprob=total,
        mean_logprob=None if total is None else total / max(1, tokens),
        lowest_group_confidence=min(groups) if groups else None,
        bottom_group_confidence=None,
        mean_confidence=None,
    )
