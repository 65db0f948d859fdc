"""Whether guided decoding did what it was asked: a server that doesn't know the field says nothing and ignores it."""

from __future__ import annotations

import json
import re

from operators.engine import Completion, EngineError
from schemas.engine import SamplingParams


def check_guide(params: SamplingParams, completion: Completion) -> None:
    """Check a completion that ended by itself; one that was cut can't be judged.

    Raises:
        EngineError: it is no JSON document, or doesn't match the expression.
    """
    if completion.finish_reason != "stop":
        return
    if params.regex is not None and not re.fullmatch(params.regex, completion.text):
        raise EngineError(
            f"the server didn't keep to the regex; does it know guided decoding? {completion.text[:80]!r}"
        )
    if params.json_schema is not None:
        try:
            json.loads(completion.text)
        except ValueError as error:
            said = f"{completion.text[:80]!r}"
            raise EngineError(f"the server didn't write JSON; does it know guided decoding? {said}") from error
