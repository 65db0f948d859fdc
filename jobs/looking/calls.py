"""``gristmill calls``: what episodes asked, as trees: which call goes on from which, scores, what was chosen."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from cluster.records.reader import open_stage
from cluster.storage.delta import scan_store
from cluster.storage.root import Root
from schemas.datasets import CALLS_FOLDER, Call
from schemas.errors import BadInput
from schemas.manifest import RunManifest, StageRecord

SHOWN = 72
"""Characters of a text that a line of the tree shows."""
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


def episodes(
    root: Root, manifest: RunManifest, problem: str | None, episode: int | None, limit: int
) -> list[dict[str, Any]]:
    """Return episodes of a run, each with its facts and the tree of its calls.

    Args:
        problem: only this problem_id's.
        episode: only this number's.
        limit: how many at most.

    Raises:
        BadInput: the run has no stage that plays a strategy, or no such episode.
    """
    found: list[dict[str, Any]] = []
    played = [record for record in manifest.stages if record.dataset == "samples" and _has_calls(root, record)]
    if not played:
        raise BadInput(f"run {manifest.run_id} has no calls: none of its stages plays a strategy (sample.strategy)")
    for record in played:
        rows = open_stage(root, manifest, record.name).filter(pl.col("episode").is_not_null())
        if problem is not None:
            rows = rows.filter(pl.col("problem_id") == problem)
        if episode is not None:
            rows = rows.filter(pl.col("episode") == episode)
        key = ["problem_key", "episode"]
        wanted = rows.select(key).unique().sort(key).head(limit - len(found)).collect()
        if wanted.is_empty():
            continue
        samples = rows.join(wanted.lazy(), on=key, how="semi").select(ROW).sort(*key, "slot").collect()
        calls = scan_store(root, _folder(record), Call).join(wanted.lazy(), on=key, how="semi").collect()
        calls_of = dict(calls.group_by(key))
        found += [
            _episode(record, table, calls_of.get(name)) for name, table in samples.group_by(key, maintain_order=True)
        ]
    if not found:
        which = "" if problem is None else f" of problem '{problem}'"
        raise BadInput(f"run {manifest.run_id} has no episode{'' if episode is None else f' {episode}'}{which}")
    return found


def _folder(record: StageRecord) -> str:
    return f"{CALLS_FOLDER}/{record.path.split('/')[1]}"


def _has_calls(root: Root, record: StageRecord) -> bool:
    return root.exists(_folder(record), "_delta_log")


def _episode(record: StageRecord, rows: pl.DataFrame, calls: pl.DataFrame | None) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(rows["episode_facts"].drop_nulls()[0])
    ends: list[str | None] = facts.pop("ends", [])
    scores: dict[str, float] = facts.pop("scores", {})
    slots: defaultdict[str, list[int]] = defaultdict(list)
    for slot, end in enumerate(ends):
        if end is not None:
            slots[end].append(slot)
    first = rows.row(0, named=True)
    return {
        "stage": record.name,
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


def print_episodes(console: Console, found: Iterable[dict[str, Any]]) -> None:
    """Print the trees; what no row came of is dim."""
    for one in found:
        row = "no row" if one["chosen"] is None else f"row {one['chosen']} is chosen"
        read, wrote = one["prompt_tokens"], one["completion_tokens"]
        title = (
            f"[bold]{escape(one['problem_id'])}[/bold], episode {one['episode']}: {escape(one['strategy'])}, ended by "
            f"{one['ended_by']}, {row}; {one['calls']:,} calls, {read:,} tokens read, {wrote:,} written, "
            f"{one['scorer_passes']:,} scores"
        )
        tree = Tree(title)
        for node in one["tree"]:
            _grow(tree, node)
        console.print(tree, soft_wrap=True, highlight=False)


def _grow(tree: Tree, node: dict[str, Any]) -> None:
    text = " ".join((node["text"] or node["error"] or "").split())
    text = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
    what = node["role"] if node["kind"] == "generate" else f"{node['role']} {node['kind']}"
    line = f"{node['call']} [{what}]"
    if node["score"] is not None:
        line += f" {node['score']:.3f}"
    line += f" {text}" if text else ""
    if node["rows"]:
        line += f" -> row {', '.join(map(str, node['rows']))}{' (chosen)' if node['chosen'] else ''}"
    style = "bold" if node["chosen"] else "" if node["kept"] else "dim"
    branch = tree.add(escape(line), style=style)
    for child in node["children"]:
        _grow(branch, child)
