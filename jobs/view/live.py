"""A run while it goes on, as one document: stages as datasets, speed, money, figures with their bands."""

from __future__ import annotations

import time
from typing import Any

from cluster.records.refused import refused_of, remarks
from cluster.spending.allocations import read_allocations
from jobs.view.watched import Watched
from schemas.manifest import RunManifest, StageRecord
from schemas.prices import MICRO, Prices, priced_as

SPEED_SECONDS = 30.0
"""Speeds are over the last so many seconds."""

ORDERS = 100
"""Of what a run was told, the last so many are shown."""


def document(watched: Watched) -> dict[str, Any]:
    """Return all that the run's page shows while it goes on."""
    manifest = watched.manifest
    state = "killed" if manifest.state == "running" and not watched.alive else manifest.state
    totals = watched.totals()
    return {
        "run_id": manifest.run_id,
        "pipeline": manifest.pipeline,
        "state": state,
        "started": manifest.started.isoformat(),
        "finished": manifest.finished.isoformat() if manifest.finished else None,
        "command": manifest.command,
        "job": manifest.job,
        "account": manifest.account,
        "error": manifest.error,
        "waits_for": manifest.waits_for,
        "paused": manifest.paused is not None,
        "orders": [{**one.model_dump(mode="json"), "what": one.what} for one in manifest.orders[-ORDERS:]],
        "problems": manifest.n_problems,
        "notes": manifest.notes,
        "remarks": remarks(manifest),
        "ready": watched.ready,
        "trouble": watched.trouble,
        "progress": watched.progress,
        "sampled": watched.stage.name if watched.stage else None,
        "stages": [_stage(watched, record, state == "running") for record in manifest.stages],
        "totals": totals,
        "figures": watched.figures() if watched.ready else {},
        "spending": _spending(manifest, totals),
        "history": {name: [list(points[0]), list(points[1])] for name, points in watched.events.history.items()},
        "growth": watched.growth,
        "told": list(watched.events.told)[-60:],
        "version": watched.version,
    }


def _stage(watched: Watched, record: StageRecord, running: bool) -> dict[str, Any]:
    committed = watched.events.rows.get(record.name, 0)
    there = record.reused + max(record.computed, committed if record.kind == "store" else 0)
    if watched.stage is not None and record.name == watched.stage.name and watched.filler is not None:
        there = max(there, watched.totals()["drawn"]) if running else watched.totals()["drawn"]
    speed = _speed(watched, record.name) if running else None
    idle = running and not record.complete and not record.queued and speed is None
    incomplete = {one.name for one in watched.manifest.stages if not one.complete}
    model = record.engine.model if record.engine else None
    names = ("name", "operator", "dataset", "kind", "planned", "reused", "failed", "quarantined", "skipped", "queued")
    shown = {name: getattr(record, name) for name in (*names, "complete", "policy", "overrun", "truncated")}
    return {
        **shown,
        "inputs": list(record.inputs.values()),
        "there": there,
        "model": model,
        "seconds": record.seconds,
        "tokens": record.prompt_tokens + record.completion_tokens,
        "speed": speed,
        "waits_for": [name for name in record.inputs.values() if name in incomplete] if idle else [],
        "roles": {role: one.model_dump(mode="json") for role, one in record.roles.items()},
        "replicas": [one.model_dump(mode="json") for one in record.replicas],
        "dollars": _dollars(watched.manifest, record),
    }


def _speed(watched: Watched, stage: str) -> float | None:
    """Return rows a second over the last moments; None where nothing was committed in them."""
    times, rows = watched.events.history.get(stage, ([], []))
    since = time.time() - SPEED_SECONDS
    at = next((at for at in range(len(times) - 1, -1, -1) if times[at] < since), 0)
    if len(times) < 2 or times[-1] < since:
        return None
    return (rows[-1] - rows[at]) / max(1.0, time.time() - times[at])


def _dollars(manifest: RunManifest, record: StageRecord) -> float | None:
    """Return what a stage's calls cost in this run; None where a price isn't known."""
    asked = {role: one for role, one in record.roles.items() if priced_as(record.name, role) in manifest.prices}
    if asked:
        parts = [
            Prices.model_validate(manifest.prices[priced_as(record.name, role)]).microdollars(
                one.prompt_tokens, one.cached_prompt_tokens, one.completion_tokens, 0.0
            )
            for role, one in asked.items()
        ]
        return None if None in parts else sum(part or 0 for part in parts) / MICRO
    prices = Prices.model_validate(manifest.prices.get(record.name) or {})
    tokens = (record.prompt_tokens, record.cached_prompt_tokens, record.completion_tokens)
    micro = prices.microdollars(*tokens, record.gpu_seconds)
    return None if micro is None else micro / MICRO


def _spending(manifest: RunManifest, totals: dict[str, int]) -> list[dict[str, Any]]:
    """Return each cap with what is spent of it, and where that ends if the rest costs what was usual so far."""
    found = manifest.spending
    if found is None:
        return []
    spent = {
        "samples": float(found.samples),
        "tokens": float(found.tokens),
        "dollars": found.microdollars / MICRO,
        "gpu_hours": found.gpu_hours,
    }
    planned = sum(one.planned for one in manifest.stages if one.dataset == "samples")
    share = totals.get("drawn", 0) / planned if planned else 0.0
    running = manifest.state == "running" and 0 < share < 1
    return [
        {
            "unit": unit,
            "spent": spent[unit],
            "cap": cap,
            "forecast": min(cap, spent[unit] / share) if running else None,
            "orphaned": found.orphaned_tokens if unit == "tokens" else 0,
        }
        for unit, cap in found.caps.items()
        if unit in spent
    ]


def failures(watched: Watched) -> list[dict[str, Any]]:
    """Return the kinds of refused samples with the words of whoever refused them, the commonest first."""
    if watched.filler is None or watched.places is None or watched.stage is None:
        return []
    rows = watched.filler.samples.scan().select("problem_key", "sample_index", "status", "error")
    found = refused_of(watched.stage.name, watched.places.of(rows))
    return [{"samples": one.samples, "error": one.error} for one in found]


def policy(watched: Watched) -> dict[str, Any] | None:
    """Return the shadow price over time and who got how many samples; None of runs without a policy."""
    record = watched.stage
    if record is None or record.policy is None or watched.filler is None:
        return None
    log = read_allocations(watched.root, watched.run_id)
    log = log.filter(log["stage"] == record.name)
    sent = log.filter(log["count"] > 0).sort("sequence")
    step = max(1, len(sent) // 400)
    drawn = watched.filler.tally.sums["drawn"]
    return {
        "policy": record.policy,
        "decisions": len(sent),
        "sequence": sent["sequence"].gather_every(step).to_list(),
        "shadow_price": sent["shadow_price"].gather_every(step).to_list(),
        "drawn": sorted(drawn.tolist(), reverse=True)[:: max(1, len(drawn) // 400)],
    }
