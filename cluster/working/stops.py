"""Whether an engine tells that a stop string ended a text: it is asked for a text that one surely ends.

Servers that only speak OpenAI's API say ``stop`` for the model's own end as well; those that tell more show it with the
first answer that a stop string ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from operators.engine import Completion, Engine, EngineError, Request
from schemas.engine import SamplingParams
from schemas.errors import BadInput

LETTERS = ("a", "e", "i", "o")
"""No text of a few words is without all of them; servers take four stop strings."""
QUESTION = "Write a sentence about the sea."
TOKENS = 64
"""Room for a model that thinks in other letters first."""


async def ask_for_a_stop(engine: Engine, generate: Callable[[Request], Awaitable[list[Completion]]]) -> bool:
    """Return whether the engine tells that a stop string ended its answer to a question.

    Args:
        generate: asks the engine, paid and metered as any call.

    Raises:
        EngineError: transient; the engine didn't answer.
    """
    turns = [{"role": "user", "content": QUESTION}]
    try:
        prompt = await engine.render(turns)
    except BadInput:  # it takes plain text alone
        prompt = await engine.render(turns, chat=False)
    params = SamplingParams(max_tokens=TOKENS, temperature=0.0, stop=LETTERS)
    try:
        [answer] = await generate(Request(prompt, params, 0, request_id="stops/0", problem_id="stops"))
    except EngineError as error:
        if error.transient:
            raise
        return False  # it takes no stop strings
    return answer.finish_reason == "stop_string"
