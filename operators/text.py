"""Templates and what models say at the end of a text: what operators that ask models share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator


def _has_prompt(template: str) -> str:
    if "{prompt}" not in template:
        raise ValueError("the template must contain {prompt}")
    return template


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"'{pattern}' isn't a regular expression: {error}") from error
    return pattern


PromptTemplate = Annotated[str, AfterValidator(_has_prompt)]
"""A user's turn with {prompt} in it; other braces are left alone."""
Pattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression of Python's."""


def fill(template: str, places: dict[str, str]) -> str:
    """Fill named places in; braces in what is filled in, and others of the template, are left alone."""
    pattern = "|".join(rf"\{{{name}\}}" for name in places)
    return re.sub(pattern, lambda match: places[match[0][1:-1]], template)


def said_last(text: str, yes: str, no: str) -> bool | None:
    """Return which of two regular expressions matches last in a text; None where neither does."""
    ends = {
        verdict: max((match.end() for match in re.finditer(pattern, text)), default=-1)
        for verdict, pattern in ((True, yes), (False, no))
    }
    return None if ends[True] == ends[False] else ends[True] > ends[False]
