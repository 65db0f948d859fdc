"""Many runs as a table, a line each: from their manifests alone, without the imports that rows take."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from cluster.records.reader import seems_alive
from cluster.storage.root import Root
from schemas.manifest import RunManifest


def state_of(root: Root, manifest: RunManifest) -> str:
    """Return a run's state; one that was killed couldn't write down its own."""
    return "killed" if manifest.state == "running" and not seems_alive(root, manifest.run_id) else manifest.state


def print_runs(console: Console, root: Root, manifests: list[RunManifest]) -> None:
    """Print the runs under a root, newest first."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("run", "pipeline", "state", "started (UTC)", "problems", "sampled", "reused"):
        number = heading in ("problems", "sampled", "reused")
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for manifest in manifests:
        sampled = [record for record in manifest.stages if record.dataset == "samples"]
        table.add_row(
            manifest.run_id,
            manifest.pipeline,
            state_of(root, manifest),
            f"{manifest.started:%Y-%m-%d %H:%M}",
            f"{manifest.n_problems:,}",
            f"{sum(record.computed for record in sampled):,}",
            f"{sum(record.reused for record in sampled):,}",
        )
    console.print(table)
