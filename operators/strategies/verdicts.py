"""Verdicts within an episode: whether a text is right. Who asks has seen the answer: its rows are an upper bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from operators.base import Operator
from operators.strategies.calls import Call, digest_of
from operators.strategies.episode import SCORE_PATH, Episode
from schemas.contract import polars_schema
from schemas.datasets import Problem, Sample
from schemas.errors import BadInput
from schemas.later import asyncio, pl


async def verdicts(ep: Episode, verifier: Operator, texts: Sequence[str]) -> list[bool | None]:
    """Return whether each text answers the problem rightly; None where the verifier can't tell.

    The same text is judged once in an episode, and what the journal has isn't judged again.

    Raises:
        BadInput: the verifier needs what an episode hasn't.
    """
    paths = {text: f"{SCORE_PATH}{digest_of('verdict', verifier.fingerprint(), text)}" for text in texts}
    known = {text: found[0].value for text, path in paths.items() if (found := ep.setting.journal.find(path))}
    fresh = [text for text in paths if text not in known]
    if fresh:
        right = await asyncio.to_thread(judged, verifier, ep.problem, fresh, ep.setting.tools)
        for text, value in zip(fresh, right, strict=True):
            known[text] = None if value is None else float(value)
            path = paths[text]
            call = Call(
                path, 0, None, ep.branch, "verifier", "verdict", path.removeprefix(SCORE_PATH),
                prefix_length=len(text), value=known[text],
            )  # fmt: skip
            ep.setting.journal.note([call])
    return [None if (value := known[text]) is None else value == 1.0 for text in texts]


def judged(
    verifier: Operator, about_it: Mapping[str, Any], texts: Sequence[str], tools: Mapping[str, Any]
) -> list[bool | None]:
    """Return what a verifier says of texts that answer one problem.

    Raises:
        BadInput: it needs a tool that isn't there.
    """
    lacking = [tool for tool in verifier.tools if tool not in tools]
    if lacking:
        raise BadInput(f"{verifier.public_name()} needs {', '.join(lacking)}, which an episode hasn't")
    wanted = verifier.inputs["problems"].names if "problems" in verifier.inputs else ()
    about = polars_schema(Problem)
    problem = pl.DataFrame([about_it], schema={name: about[name] for name in wanted}, orient="row", strict=False)
    told = {
        "problem_key": about_it["problem_key"],
        "problem_id": about_it["problem_id"],
        "status": "ok",
        "finish_reason": "stop",
        "completion_hash": 0,
        "prompt_tokens": 0,
        "cached_prompt_tokens": 0,
        "completion_tokens": 0,
        "seed": 0,
        "run_id": "",
    }
    rows = [told | {"sample_index": place, "completion": text} for place, text in enumerate(texts)]
    sample = polars_schema(Sample)
    names = verifier.inputs["samples"].names
    samples = pl.DataFrame(rows, schema=sample).select(names)
    tables = {"samples": samples} | ({"problems": problem} if wanted else {})
    found = verifier.run(**tables, **{tool: tools[tool] for tool in verifier.tools})
    return found.sort("sample_index")["is_correct"].to_list()
