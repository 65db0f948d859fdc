"""``gristmill calls``: what episodes asked, as trees: which call goes on from which, scores, what was chosen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from cluster.records.call_trees import ROW, calls_of, episode_of
from cluster.records.reader import open_stage
from cluster.storage.root import Root
from schemas.errors import BadInput
from schemas.manifest import RunManifest

SHOWN = 72
"""Characters of a text that a line of the tree shows."""


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
    tables = calls_of(root, manifest)
    played = [record for record in manifest.stages if record.name in tables]
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
        calls = dict(tables[record.name].join(wanted.lazy(), on=key, how="semi").collect().group_by(key))
        found += [
            {"stage": record.name, **episode_of(table, calls.get(name))}
            for name, table in samples.group_by(key, maintain_order=True)
        ]
    if not found:
        which = "" if problem is None else f" of problem '{problem}'"
        raise BadInput(f"run {manifest.run_id} has no episode{'' if episode is None else f' {episode}'}{which}")
    return found


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
