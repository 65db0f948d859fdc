"""Operators that ask an engine: reward models, likelihoods, judges. They are handed the engine and never start one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import Field

from operators.base import Operator
from schemas.identity import Execution
from schemas.later import Ints, asyncio, pl

if TYPE_CHECKING:
    from operators.engine import Engine, EngineError

Tokens = TypeVar("Tokens", int, Ints)
Question = TypeVar("Question")
Answer = TypeVar("Answer")


class AskingOperator(Operator):
    """Base of operators that ask an engine; define ``ask`` instead of ``run``."""

    tools: ClassVar[tuple[str, ...]] = ("engine",)

    retries: Annotated[int, Execution] = Field(default=4, ge=0)
    """How often a request is tried again after a transient fault, with exponential backoff."""

    async def ask(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        """Compute the output table; inputs come by keyword, as for ``run``."""
        raise TypeError(f"{type(self).__name__} doesn't define ask()")

    def run(self, engine: Engine, **inputs: Any) -> pl.DataFrame:
        """Ask in an event loop of this call's own (for ``gristmill op``; a pipeline's worker keeps one loop)."""
        return asyncio.run(self.ask(engine, **inputs))

    def most_tokens(self, prompt: Tokens, completion: Tokens) -> tuple[Tokens, Tokens]:
        """Return the most tokens that the engine reads and writes over one sample, so that money for it is kept.

        Args:
            prompt, completion: tokens of the problem's prompt, and of the completion.
        """
        return prompt + completion, 0 * prompt + int(getattr(self, "max_tokens", 0))

    async def ask_each(
        self, engine: Engine, questions: Sequence[Question], one: Callable[[Question], Awaitable[Answer]]
    ) -> list[Answer | EngineError]:
        """Ask all questions, as many at once as the engine wants; each gets its answer, or what was wrong with it.

        Raises:
            EngineError: a transient fault that outlived all retries; nothing may be committed.
        """
        from operators.engine import EngineError

        slots = asyncio.Semaphore(engine.capacity)

        async def answered(question: Question) -> Answer | EngineError:
            async with slots:
                try:
                    return await one(question)
                except EngineError as error:
                    if error.transient:
                        raise
                    return error

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(answered(question)) for question in questions]
        except ExceptionGroup as failed:  # the first one is why the others were given up
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]


def at_most(template: str) -> int:
    """Return about how many tokens a text has at most: natural language has more than three bytes a token."""
    return len(template.encode()) // 3 + 16
