"""Tokens per expert of one engine's life, as a file of the ``expert_counts`` dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import fsspec
import polars as pl

from operators.engine import EngineInfo
from schemas.contract import polars_schema, validate
from schemas.experts import ExpertCount


def write_expert_counts(
    counts: Mapping[int, Sequence[int]],
    info: EngineInfo,
    quantization: str,
    job_class: str,
    folder: str,
    now: datetime | None = None,
) -> str | None:
    """Write counts (layer -> tokens of each expert) below a folder or URL; return the file, None where there are none.

    Layers are numbered from 0 through those that have experts. The night is the date in UTC.
    """
    if not counts:
        return None
    night = (now or datetime.now(UTC)).date()
    key = {"model": info.model, "revision": info.revision, "quantization": quantization, "job_class": job_class}
    rows = [
        {**key, "night": night, "layer": at, "expert": expert, "tokens": tokens}
        for at, layer in enumerate(sorted(counts))
        for expert, tokens in enumerate(counts[layer])
    ]
    table = validate(pl.DataFrame(rows, schema=polars_schema(ExpertCount)), ExpertCount, "expert_counts")
    path = f"{folder.rstrip('/')}/{night:%Y%m%d}-{uuid4().hex[:12]}.parquet"
    if "://" not in path:
        Path(folder).mkdir(parents=True, exist_ok=True)
    with fsspec.open(path, "wb") as file:  # pyright: ignore[reportUnknownMemberType]
        table.write_parquet(file)  # pyright: ignore[reportArgumentType]
    return path
