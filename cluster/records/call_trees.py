"""What the episodes of a strategy asked, as trees: which call goes on from which, its score, and what came of it."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import polars as pl

from cluster.storage.delta import calls_folder, scan_store
from cluster.storage.root import Root
from schemas.episodes import Call
from schemas.manifest import RunManifest

ROW = ("problem_key", "problem_id", "episode", "slot", "chosen", "search_score", "finish_reason", "episode_facts")
TOLD = (
    "call",
    "attempt",
    "role",
    "kind",
    "lead",
    "text",
    "finish",
    "prompt_tokens",
    "completion_tokens",
    "value",
    "error",
)


def calls_of(root: Root, manifest: RunManifest) -> dict[str, pl.LazyFrame]:
    """Return the calls of each sampling stage that plays a strategy."""
    folders = {record.name: calls_folder(record.path) for record in manifest.stages if record.dataset == "samples"}
    return {
        name: scan_store(root, folder, Call) for name, folder in folders.items() if root.exists(folder, "_delta_log")
    }


def episode_of(rows: pl.DataFrame, calls: pl.DataFrame | None) -> dict[str, Any]:
    """Return an episode's facts and the tree of its calls.

    Args:
        rows: its samples, with the columns of ``ROW``.
        calls: its calls; None where they are gone.
    """
    facts: dict[str, Any] = json.loads(rows["episode_facts"].drop_nulls()[0])
    ends: list[str | None] = facts.pop("ends", [])
    scores: dict[str, float] = facts.pop("scores", {})
    slots: defaultdict[str, list[int]] = defaultdict(list)
    for slot, end in enumerate(ends):
        if end is not None:
            slots[end].append(slot)
    first = rows.row(0, named=True)
    return {
        "problem_id": first["problem_id"],
        "problem_key": first["problem_key"],
        "episode": first["episode"],
        **facts,
        "tree": [] if calls is None else _tree(calls, slots, scores, facts["chosen"]),
    }


def _tree(
    calls: pl.DataFrame, slots: dict[str, list[int]], scores: dict[str, float], chosen: int | None
) -> list[dict[str, Any]]:
    """Return the calls that go on from none, each with those that go on from it (their newest attempts).

    What only asked for a score has no place of its own: its value stands at the text that it is about.
    """
    newest = calls.filter(pl.col("attempt") == pl.col("attempt").max().over("call"))
    written = newest.filter(pl.col("kind").is_in(["score", "likelihood"]).not_()).to_dicts()
    nodes: dict[str, dict[str, Any]] = {}
    for row in sorted(written, key=lambda row: _order(row["call"])):
        mine = slots.get(row["call"], [])
        node = {name: row[name] for name in TOLD} | {"score": scores.get(row["call"])}
        nodes[row["call"]] = node | {"rows": mine, "chosen": chosen in mine, "children": []}
    roots: list[dict[str, Any]] = []
    for row in sorted(written, key=lambda row: _order(row["call"])):
        parent = nodes.get(row["parent_call"] or "")
        (roots if parent is None else parent["children"]).append(nodes[row["call"]])
    for root in roots:
        _mark(root)
    return roots


def _mark(node: dict[str, Any]) -> bool:
    """Say of each call whether its text is part of a row; return whether this one's is."""
    below = [_mark(child) for child in node["children"]]
    node["kept"] = bool(node["rows"]) or any(below)
    return node["kept"]


def _order(call: str) -> tuple[tuple[int, int, str], ...]:
    """Return what sorts paths as they were asked: numbers as numbers."""
    parts = call.replace(":", ".").replace("/", ".").split(".")
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
