"""Traces of reasoning as text: cut into steps, what states the answer kept apart, answers compared.

A trace in ``<think>`` tags states its answer behind them. In one without tags it is the shortest run of last steps
that has the whole's answer. Joined again, the parts give the text that was cut, character by character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from operators.cutting import RULES, StepRule
from operators.verify.canonical import cheap_key
from operators.verify.extract import DEFAULT_RULES, Rule, extract_answers
from operators.verify.reading.writing import text_key
from schemas.later import pl

ANSWER_RULES: tuple[Rule, ...] = ("tag", *DEFAULT_RULES, "last_line")
_THINKING = re.compile(r"(?s)^(\s*<think>\s*)(.*?)(\s*</think>.*)$")


@dataclass(frozen=True)
class Trace:
    """A trace in parts. ``before`` opens it, ``steps`` end with their separators, ``after`` states the answer."""

    before: str
    steps: tuple[str, ...]
    after: str

    @property
    def text(self) -> str:
        return self.before + "".join(self.steps) + self.after

    def with_steps(self, steps: Iterable[str]) -> Trace:
        """Return the trace with other steps."""
        return replace(self, steps=tuple(steps))


def cut_traces(
    texts: Sequence[str],
    rule: StepRule = "blank_line",
    extract: Sequence[Rule] = ANSWER_RULES,
    pattern: str | None = None,
) -> list[Trace]:
    """Return the parts of each trace; of one whose answer can't be found ``after`` is the last step."""
    whole = answer_keys(texts, extract, pattern)
    traces: list[Trace] = []
    for text in texts:
        tagged = _THINKING.match(text)
        if tagged:
            traces.append(Trace(tagged[1], tuple(steps_of(tagged[2], rule)), tagged[3]))
        else:
            steps = steps_of(text, rule)
            traces.append(Trace("", tuple(steps[:-1]), "".join(steps[-1:])))
    # an answer that stands before a remark: take the steps from there on
    rest = [at for at, trace in enumerate(traces) if not trace.before and trace.steps and whole[at] is not None]
    shortest = {at: traces[at] for at in rest}
    while rest:
        found = answer_keys([traces[at].after for at in rest], extract, pattern)
        rest = [at for at, key in zip(rest, found, strict=True) if key != whole[at]]
        for at in rest:
            *steps, last = traces[at].steps
            traces[at] = Trace("", tuple(steps), last + traces[at].after)
        rest = [at for at in rest if traces[at].steps]
    # one that only the whole text has (two steps together make it) is left as the last step
    return [shortest[at] if at in shortest and not trace.steps else trace for at, trace in enumerate(traces)]


def steps_of(text: str, rule: StepRule) -> list[str]:
    """Return the steps of a text, each with the separator behind it."""
    ends = [match.end() for match in re.finditer(RULES[rule], text) if match.end() > 0]
    bounds = [0, *dict.fromkeys(ends), len(text)]
    steps = [text[low:high] for low, high in pairwise(bounds) if high > low]
    if len(steps) > 1 and not steps[0].strip():
        steps = [steps[0] + steps[1], *steps[2:]]
    return steps


def answer_keys(
    texts: Sequence[str], extract: Sequence[Rule] = ANSWER_RULES, pattern: str | None = None
) -> list[str | None]:
    """Return a key of the answer that each text comes to, equal for equal answers; None where none is found."""
    return [None if answer is None else answer_key(answer) for answer in answers_of(texts, extract, pattern)]


def answers_of(
    texts: Sequence[str], extract: Sequence[Rule] = ANSWER_RULES, pattern: str | None = None
) -> list[str | None]:
    """Return the answer that each text comes to, as it is written."""
    return extract_answers(pl.Series("text", texts, dtype=pl.String), extract, pattern).to_list()


def answer_key(answer: str) -> str:
    """Return a key that is the same for every way of writing the same number."""
    return cheap_key(answer) or text_key(answer)
