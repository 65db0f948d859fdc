"""Annotations: what people say of verdicts, in one table of the root (``schemas.books.Annotation``).

Rows are only added, by whoever annotates, at the same time as others and while runs go on. They are about samples of a
store, not about a run, so they hold for every run that reads the same verdicts, and no garbage collection takes them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cluster.records.reader import last_stage, open_stage
from cluster.storage.appending import append, read_appended
from cluster.storage.root import Root
from operators.select.classes import one_verifier
from schemas.books import Annotation
from schemas.contract import polars_schema, validate
from schemas.datasets import SAMPLE_KEY
from schemas.errors import BadInput, ContractViolation
from schemas.manifest import RunManifest, StageRecord
from schemas.orders import ODD

FOLDER = "annotations"
LONGEST = 10_000
"""Characters of a note."""
VERDICT = ("verifier", "is_correct")


class Said(BaseModel):
    """What whoever annotates says of one sample; everything else is looked up.

    Attributes:
        is_correct: null takes back what was said.
        stratum, stratum_size: of which lot the sample was drawn, where it was asked for.
        time: now, where nothing is said; never later, as nothing that is said afterwards would count.
    """

    model_config = ConfigDict(strict=True)

    problem_key: str = Field(max_length=1_000)
    sample_index: int = Field(ge=0, lt=2**31)
    author: str = Field(min_length=1, max_length=200)
    is_correct: bool | None
    note: str = Field(default="", max_length=LONGEST)
    stratum: str | None = Field(default=None, max_length=200)
    stratum_size: int | None = Field(default=None, ge=1, lt=2**53)
    time: datetime | None = None

    @field_validator("author", "stratum")
    @classmethod
    def _shown(cls, text: str | None) -> str | None:
        if text is not None and ODD.search(text):
            raise ValueError("has characters that can't be shown")
        return text

    @property
    def moment(self) -> datetime:
        now = datetime.now(UTC)
        if self.time is None:
            return now
        return min(now, self.time if self.time.tzinfo is not None else self.time.replace(tzinfo=UTC))


def _read(said: Mapping[str, Any]) -> Said:
    try:
        return Said.model_validate(
            {name: said[name] for name in Said.model_fields if said.get(name) is not None or name == "is_correct"}
        )
    except (ValidationError, KeyError) as error:
        first = error.errors(include_input=False)[0] if isinstance(error, ValidationError) else None
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else f"{error} is lacking"
        raise BadInput(f"these annotations can't be written: {why}") from error


def judged_stage(manifest: RunManifest) -> StageRecord:
    """Return the stage whose verdicts people annotate: the last one that gives some.

    Raises:
        BadInput: there is none.
    """
    name = last_stage(manifest, "verdicts")
    record = next((one for one in manifest.stages if one.name == name), None)
    if record is None:
        raise BadInput(f"run {manifest.run_id} has no stage that gives verdicts, so there is nothing to annotate")
    return record


def annotate(root: Root, manifest: RunManifest, said: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Write annotations down; return the rows.

    Args:
        said: of each what ``Said`` has, as far as it is known; other fields are looked up.

    Raises:
        BadInput: the run has no such verdict, or something that can't be said; nothing was written.
    """
    record = judged_stage(manifest)
    given = [_read(one) for one in said]
    keys = pl.DataFrame(
        [(one.problem_key, one.sample_index) for one in given],
        schema={"problem_key": pl.String, "sample_index": pl.Int64}, orient="row",
    )  # fmt: skip
    known = open_stage(root, manifest, record.name).select(*SAMPLE_KEY, "problem_id", *VERDICT)
    found = one_verifier(known).join(keys.unique().lazy(), on=SAMPLE_KEY, how="semi").collect()
    verdicts = {(row["problem_key"], row["sample_index"]): row for row in found.iter_rows(named=True)}
    rows: list[dict[str, Any]] = []
    for one in given:
        verdict = verdicts.get((one.problem_key, one.sample_index))
        if verdict is None:
            raise BadInput(f"run {manifest.run_id} has no verdict on {one.problem_key[:100]}/{one.sample_index}")
        rows.append(
            {
                **verdict,
                **one.model_dump(),
                "time": one.moment,
                "id": secrets.token_hex(12),
                "store": record.path,
                "run_id": manifest.run_id,
                "accepted": verdict["is_correct"],
            }
        )
    try:
        table = validate(pl.DataFrame(rows, schema=polars_schema(Annotation), orient="row"), Annotation, FOLDER)
    except (ContractViolation, pl.exceptions.PolarsError, TypeError) as error:
        raise BadInput(f"these annotations can't be written: {error}") from error
    append(root, FOLDER, Annotation, table)
    return table


def annotations_of(root: Root, manifest: RunManifest, sample: tuple[str, int] | None = None) -> pl.DataFrame:
    """Return what was said of a run's verdicts, the last word on each sample, in the order of the samples.

    Args:
        sample: problem_key and sample_index of the only one that is asked about.
    """
    record = judged_stage(manifest)
    rows = read_appended(root, FOLDER, Annotation).filter(pl.col("store") == record.path)
    if sample is not None:
        rows = rows.filter(pl.col("problem_key") == sample[0], pl.col("sample_index") == sample[1])
    if rows.is_empty():
        return rows
    asked = (pl.col(name).drop_nulls().last().over(SAMPLE_KEY) for name in ("stratum", "stratum_size"))
    rows = rows.sort("time", maintain_order=True).with_columns(asked)  # who was asked for once stays so
    last = rows.unique(SAMPLE_KEY, keep="last", maintain_order=True)
    said = last.filter(pl.col("is_correct").is_not_null())
    mine = open_stage(root, manifest, record.name).select(SAMPLE_KEY)
    mine = mine.filter(pl.col("problem_key").is_in(said["problem_key"].unique().to_list()))
    return said.lazy().join(mine, on=SAMPLE_KEY, how="semi").sort(SAMPLE_KEY).collect()
