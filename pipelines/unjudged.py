"""Whether anything can be judged and measured, seen before anything is paid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipelines.graph import Stage
from schemas.datasets import Verdict
from schemas.errors import BadInput
from schemas.later import pl


def has_answers(problems: pl.DataFrame) -> bool:
    """Whether any of some problems says what is right: an answer, or a verification."""
    return bool(problems.select((pl.col("answer").is_not_null() | pl.col("verification").is_not_null()).any()).item())


def refuse_unjudged(stages: Iterable[Stage]) -> None:
    """Refuse stages that would find nothing to measure, where no problem has an answer.

    Raises:
        BadInput: all verdicts that a stage measures are a comparison with answers that nobody has.
    """
    verifiers: dict[str, str] = {}
    idle: list[str] = []
    for stage in stages:
        judges = [one for one in _upstream(stage) if one.operator.output is Verdict]
        if stage.operator.needs_judged and judges and all(one.operator.compares for one in judges):
            idle.append(stage.name)
            verifiers |= {one.name: one.operator.public_name() for one in judges}
    if idle:
        named = ", ".join(f"{name} ({operator})" for name, operator in verifiers.items())
        raise BadInput(
            f"no problem has an answer, and {named} compares with it: no sample could be judged, and {', '.join(idle)} "
            "would have nothing to measure. Say where the answers are (load.answer_column), or choose a verifier that "
            "needs none (verify.judge, verify.function, verify.command)"
        )


def _upstream(stage: Stage) -> Iterator[Stage]:
    """Yield what a stage is made of, however far up; some of it more than once."""
    for one in stage.inputs.values():
        yield one
        yield from _upstream(one)
