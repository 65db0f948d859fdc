"""Several problems in one prompt, each verified by itself (REST: Pan et al. 2025, "Stress Testing ... at Once")."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

from operators.base import AnyOperator, Operator
from operators.thinking import answers_only
from operators.verify.math import VerifyMath
from operators.verify.verdicts import SAMPLES, of_episodes
from schemas.contract import complete, polars_schema
from schemas.datasets import Problem, Verdict
from schemas.errors import BadInput
from schemas.later import pl

_HEADING = re.compile(
    r"(?im)^[\s#*>\-(]*(?:(?:problem|question|answer|solution|part|q|a)\s*[#:.]?\s*(\d+)\b|(\d+)\s*[).:])[\s*:.)]*"
)


class VerifyRest(Operator):
    """Judge each of the problems that one prompt asks, with ``verifier``.

    A problem's ``verification`` has ``{"rest": [{"problem_id": ..., "answer": ..., ...}, ...]}``: its parts, in the
    order in which they are asked; each may have ``verification`` and ``task_type`` of its own. A completion is cut at
    headings that number its parts ("Problem 2:", "2."), where all are there; else its boxed answers are taken in order.

    Gives one verdict for the whole (credit: the share of parts that are right; right if all are) and one for each part,
    whose verifier is ``verify.rest/NUMBER`` (from 1) and whose ``problem_id`` is the part's own.
    """

    version: ClassVar[int] = 2
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select(),
    }
    output = Verdict

    verifier: AnyOperator = VerifyMath()
    """What judges each part."""

    @property
    def tools(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the verifier of the parts needs."""
        return self.verifier.tools

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame, **tools: Any) -> pl.DataFrame:  # pyright: ignore[reportIncompatibleMethodOverride]
        if "engine" in tools:
            raise BadInput("verify.rest can't use a verifier that asks an engine")
        samples = answers_only(samples, problems)
        parts = pl.concat([_parts(row) for row in problems.iter_rows(named=True)])
        counts = parts.group_by("whole").len("parts")
        asked = samples.join(counts, left_on="problem_key", right_on="whole", how="left", maintain_order="left")
        pieces = self._pieces(asked)
        inner = self.verifier.inputs
        table = pieces.join(parts, on=["whole", "part"], maintain_order="left")
        tables = {
            "samples": table.with_columns(thought_open=pl.lit(False), episode=pl.lit(None), chosen=pl.lit(None)),
            "problems": parts.drop("whole", "part"),
        }  # fmt: skip
        found = self.verifier.run(
            **{name: tables[name].select(columns.names) for name, columns in inner.items()}, **tools
        )
        own = table.select("sample_index", "whole", "whole_index", "part")  # pieces are numbered throughout
        rows = found.join(own, on="sample_index", maintain_order="left").with_columns(
            problem_key="whole",
            sample_index="whole_index",
            verifier=pl.format("{}/{}", pl.lit(self.public_name()), "part"),
        )
        rows = complete(rows, Verdict)
        return of_episodes(pl.concat([self._whole(samples, rows), rows]), samples)

    def check_problems(self, problems: pl.DataFrame) -> None:
        self.verifier.check_problems(_all_parts(problems))

    def objections(self, problems: pl.DataFrame, **tools: Any) -> list[str]:
        return self.verifier.objections(_all_parts(problems), **tools)

    def _pieces(self, samples: pl.DataFrame) -> pl.DataFrame:
        """Return one row for each part of each sample: whole, whole_index, part, sample_index, completion, status."""
        cut = [cut_parts(text, parts) for text, parts in samples.select("completion", "parts").iter_rows()]
        pieces = samples.select(
            whole="problem_key",
            whole_index="sample_index",
            status="status",
            completion=pl.Series(cut, dtype=pl.List(pl.String)),
        )
        pieces = pieces.with_columns(part=pl.int_ranges(1, pl.col("completion").list.len() + 1))
        pieces = pieces.explode("completion", "part")
        return pieces.with_columns(sample_index=pl.int_range(pl.len()).cast(pl.Int64))

    def _whole(self, samples: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        key = ["problem_key", "sample_index"]
        right = pl.col("is_correct").fill_null(False)
        known = pl.col("is_correct").is_not_null()
        skipped = (pl.col("status") == "skipped").all()
        together = rows.group_by(key).agg(
            is_correct=pl.when(right.all()).then(True).when((known & ~right).any()).then(False),
            credit=pl.when(known.all()).then(right.mean()),
            status=pl.when(skipped).then(pl.lit("skipped")).when(known.all() | (known & ~right).any())
            .then(pl.lit("ok")).otherwise(pl.col("status").filter(~known).first()),
            detail=pl.format("{} of {} right", right.sum(), pl.len()),
            seconds=pl.col("seconds").sum(),
        )  # fmt: skip
        nothing = {name: pl.lit(None, dtype=pl.String) for name in ("predicted_answer", "answer_key")}
        whole = samples.select(*key, "problem_id").join(together, on=key, maintain_order="left")
        return complete(whole.with_columns(verifier=pl.lit(self.public_name()), **nothing), Verdict)


def _all_parts(problems: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([_parts(row) for row in problems.iter_rows(named=True)]).drop("whole", "part")


def _parts(row: dict[str, Any]) -> pl.DataFrame:
    """Return the parts of one problem as problems of their own, with ``whole`` (its key) and ``part`` (from 1)."""
    listed = json.loads(row["verification"] or "{}").get("rest")
    if not isinstance(listed, list) or not listed or not all(isinstance(part, dict) for part in listed):  # pyright: ignore[reportUnknownVariableType]
        raise BadInput(
            f"problem '{row['problem_id']}': verification.rest must be a list of the problems that it asks, each with "
            "an answer"
        )
    parts: list[dict[str, Any]] = listed  # pyright: ignore[reportUnknownVariableType]
    rows = [
        {
            "problem_key": f"{row['problem_key']}/{number}",
            "problem_id": str(part.get("problem_id", f"{row['problem_id']}/{number}")),
            "prompt": str(part.get("prompt", row["prompt"])),
            "messages": None,
            "tools": None,
            "answer": None if part.get("answer") is None else str(part["answer"]),
            "task_type": str(part.get("task_type", row["task_type"])),
            "verification": None if part.get("verification") is None else json.dumps(part["verification"]),
            "metadata": None,
            "whole": row["problem_key"],
            "part": number,
        }
        for number, part in enumerate(parts, 1)
    ]
    return pl.DataFrame(rows, schema={**polars_schema(Problem), "whole": pl.String, "part": pl.Int64})


def headings(text: str) -> dict[int, tuple[int, int]]:
    """Return where the heading of each part begins and ends."""
    places: dict[int, tuple[int, int]] = {}
    for match in _HEADING.finditer(text):
        number = int(match[1] or match[2])
        if number == len(places) + 1:  # in order; a later "2." of a list within a part doesn't count
            places[number] = match.span()
    return places


def cut_parts(text: str, parts: int) -> list[str]:
    """Cut a completion into the answers to its ``parts`` problems, "" where there is none."""
    places = headings(text)
    if len(places) >= parts:
        ends = [places[number + 1][0] for number in range(1, parts)] + [len(text)]
        return [text[places[number][1] : end] for number, end in zip(range(1, parts + 1), ends, strict=True)]
    boxes = re.findall(r"\\boxed\s*\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}", text)
    if not boxes and parts == 1:
        return [text]
    return [boxes[at] if at < len(boxes) else "" for at in range(parts)]
