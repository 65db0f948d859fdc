"""Samples that were refused, in the words of whoever refused them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.records.reader import open_stage
from cluster.storage.root import Root
from schemas.manifest import RunManifest

if TYPE_CHECKING:
    import polars as pl

REMEDY = "--retry-errors draws them again, once the reason is gone"
_VARYING = r"\b[0-9a-f]{8}[0-9a-f-]*\b|\d+"
SHOWN = 3
"""So many kinds of refusals are told."""
_LONG = 300


@dataclass(frozen=True)
class Refused:
    """Samples of one stage that were refused in the same words.

    Attributes:
        error: those of one of them; others may name other numbers.
    """

    stage: str
    samples: int
    error: str

    def __str__(self) -> str:
        words = re.sub(r"\s+", " ", self.error)
        return f"{self.samples:,} failed: {words if len(words) <= _LONG else words[:_LONG] + '...'}"


def refused(root: Root, manifest: RunManifest) -> list[Refused]:
    """Return the refused samples of a run, those of earlier runs that it reads included, the commonest first."""
    found: list[Refused] = []
    for record in manifest.stages:
        if record.dataset != "samples" or not (record.failed or record.reused):
            continue
        found += refused_of(record.name, open_stage(root, manifest, record.name))
    return found


def refused_of(stage: str, rows: pl.LazyFrame) -> list[Refused]:
    """Return the refused samples of a stage, the commonest first."""
    import polars as pl

    alike = pl.col("error").fill_null("no reason was kept").str.replace_all(_VARYING, "#")
    kinds = rows.filter(pl.col("status") == "error").group_by(alike.alias("kind"))
    counted = kinds.agg(pl.len().alias("samples"), pl.col("error").min())
    counted = counted.sort("samples", "kind", descending=[True, False]).collect()
    return [Refused(stage, row["samples"], row["error"] or "") for row in counted.iter_rows(named=True)]


def remarks(manifest: RunManifest) -> list[str]:
    """Return sentences about what engines say that they took, where that isn't what counts."""
    lines: list[str] = []
    for record in manifest.stages:
        if record.estimated:
            lines.append(
                f"{record.name}: the tokens of {record.estimated:,} answers are estimated at the most they can be: the "
                "engine doesn't say, or says what can't be"
            )
        if record.overrun:
            lines.append(f"{record.name}: {record.overrun}")
    return lines


def told(found: list[Refused]) -> list[str]:
    """Return sentences about refused samples, and what can be done."""
    if not found:
        return []
    rest = sum(one.samples for one in found[SHOWN:])
    lines = [f"{one.stage}: {one}" for one in found[:SHOWN]]
    lines += [f"{rest:,} more failed for other reasons"] if rest else []
    return [*lines, REMEDY]
