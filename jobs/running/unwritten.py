"""Strategies that wait for something which a model must write by itself: whether it does."""

from __future__ import annotations

import json

from cluster.records.reader import naming_damage, open_stage
from cluster.storage.root import Root
from operators.strategies.strategy import strategy_class
from schemas.errors import BadInput, DamagedFile, DamagedLog
from schemas.later import pl
from schemas.manifest import RunManifest

PROBE = 32
"""Episodes that are looked at: after so many without it, the model doesn't write it."""


def unwritten(root: Root, manifest: RunManifest) -> list[str]:
    """Return a sentence for each sampling stage whose first episodes have nothing of what its strategy waits for."""
    said: list[str] = []
    for record in manifest.stages:
        if record.dataset != "samples" or not record.complete:
            continue
        try:
            with naming_damage(root, manifest, record.name):
                rows = open_stage(root, manifest, record.name).filter(pl.col("episode_facts").is_not_null())
                facts = rows.select("episode_facts").head(PROBE).collect().to_series().to_list()
        except (DamagedFile, DamagedLog):  # which is told of where refused samples are looked for
            continue
        told = [json.loads(text) for text in facts]
        if told:
            said += _of(record.name, str(told[0]["strategy"]), [one["note"] for one in told])
    return said


def _of(stage: str, strategy: str, notes: list[dict[str, float]]) -> list[str]:
    try:
        awaits = strategy_class(strategy).awaits
    except BadInput:  # somebody's own, that isn't here any more
        return []
    return [
        f"stage {stage}: the model doesn't write {what}: none of the first {len(notes)} episode(s) of strategy "
        f"'{strategy}' has any, so they are worth no more than plain samples"
        for name, what in awaits.items()
        if not any(note.get(name) for note in notes)
    ]
