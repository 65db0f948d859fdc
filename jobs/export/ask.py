"""What a user wants exported, and how."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.export.formats import Format, Reasoning


@dataclass(frozen=True)
class Ask:
    """What to export.

    Attributes:
        stage: by default the last one that gives the format's dataset.
        validation: share of the problems whose rows are held out.
        shard_rows: rows of a file at most.
        licence: as the dataset hub names licences.
        overwrite: replace an earlier export in the same place.
        oracle: export also what strategies found that looked at the answers on their way.
        counterfactual: export also what comes of passages that a model wrote for what isn't true (and of oracles); the
            lineage of each row says so.
    """

    format: Format
    to: str
    stage: str | None = None
    reasoning: Reasoning = "tags"
    validation: float = 0.05
    seed: int = 0
    shard_rows: int = 100_000
    licence: str = "unknown"
    overwrite: bool = False
    oracle: bool = False
    counterfactual: bool = False
    command: str = ""
