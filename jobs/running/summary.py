"""What is said when a run ends, and by ``show`` later: tables for people, one document for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.records.reader import naming_damage, open_stage
from cluster.records.refused import refused, remarks, told
from cluster.storage.documents import read_snapshot, tell
from cluster.storage.root import Root
from jobs.running.closing import closing
from jobs.running.run_table import state_of
from jobs.running.unwritten import unwritten
from schemas.errors import DamagedFile
from schemas.manifest import RunManifest, StageRecord
from schemas.prices import MICRO


def document(root: Root, manifest: RunManifest) -> dict[str, Any]:
    """Return a run as one JSON-able document."""
    return {
        "run_id": manifest.run_id,
        "pipeline": manifest.pipeline,
        "state": state_of(root, manifest),
        "started": manifest.started.isoformat(),
        "finished": manifest.finished.isoformat() if manifest.finished else None,
        "root": root.url,
        "datasets": {record.name: root.uri(record.path) for record in manifest.stages},
        "report": root.uri(manifest.report) if manifest.report else None,
        "error": manifest.error,
        "waits_for": manifest.waits_for,
        "spending": manifest.spending.model_dump() if manifest.spending else None,
        "n_problems": manifest.n_problems,
        "notes": [*manifest.notes, *unwritten(root, manifest)],
        "refused": [asdict(found) for found in refused(root, manifest)],
        "stages": [record.model_dump(mode="json") for record in manifest.stages],
        "pass_at_k": coverage(root, manifest),
    }


def coverage(root: Root, manifest: RunManifest) -> list[dict[str, Any]]:
    """Return the rows of the run's pass@k stage; no rows where it has none yet, or a damaged file, which is told of."""
    record = next((record for record in manifest.stages if record.dataset == "pass_at_k"), None)
    if record is None or not record.complete:
        return []
    try:
        with naming_damage(root, manifest, record.name):
            return open_stage(root, manifest, record.name).collect().to_dicts()
    except DamagedFile as error:
        tell(str(error))
        return []


def print_run(console: Console, root: Root, manifest: RunManifest) -> None:
    """Print a run: its stages, coverage, and where everything is."""
    state = state_of(root, manifest)
    state = {"done": "[green]done[/]", "running": "[cyan]running[/]"}.get(state, f"[red]{state}[/]")
    console.print(f"\n[bold]{manifest.run_id}[/]  {state}  {manifest.n_problems:,} problems  {manifest.runner} runner")
    if manifest.error:
        console.print(f"[red]{escape(manifest.error)}[/]", highlight=False)
    if manifest.waits_for:
        console.print(f"waits for: {manifest.waits_for}", style="yellow", soft_wrap=True, markup=False, highlight=False)
    console.print(_stage_table(manifest))
    for line in [*told(refused(root, manifest)), *remarks(manifest), *unwritten(root, manifest)]:
        console.print(line, style="red", soft_wrap=True, highlight=False, markup=False)
    _print_replicas(console, manifest)
    _print_spending(console, manifest)
    _print_coverage(console, root, manifest)
    for record in manifest.stages:
        if record.dataset in ("sft", "preferences", "step_rewards") and record.complete:
            snapshot = read_snapshot(root, record.path)
            rows = snapshot.rows if snapshot is not None else 0
            console.print(
                f"{record.name}: {rows:,} rows in {_parquet_path(root, record)}", soft_wrap=True, highlight=False
            )
    if manifest.report:
        console.print(f"report: {root.uri(manifest.report)}", soft_wrap=True, highlight=False)
    for line in closing(root, manifest):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _stage_table(manifest: RunManifest) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("stage", "operator", "reused", "computed", "of", "failed", "seconds", "tokens"):
        table.add_column(heading, justify="left" if heading in ("stage", "operator") else "right")
    for record in manifest.stages:
        table.add_row(
            record.name,
            record.operator,
            f"{record.reused:,}",
            f"{record.computed:,}",
            f"{record.planned:,}",
            f"[red]{record.failed:,}[/]" if record.failed else "",
            f"{record.seconds:,.1f}" if record.computed else "",
            f"{record.completion_tokens:,}" if record.completion_tokens else "",
        )
    return table


def _print_replicas(console: Console, manifest: RunManifest) -> None:
    for name, replica in manifest.replicas:
        died = f", started again {replica.deaths} time(s)" if replica.deaths else ""
        speed = f"{replica.tokens_per_second:,.0f} tokens/s, " if replica.completion_tokens else ""
        console.print(
            f"{name}: replica {replica.number} on {replica.node or 'a lost node'}: {speed}busy "
            f"{replica.busy_share:.1%} of the time{died}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )


def _print_spending(console: Console, manifest: RunManifest) -> None:
    """Print what the run's account has spent of its caps, and what of that brought nothing."""
    found = manifest.spending
    if found is None:
        return
    spent = {
        "samples": found.samples,
        "tokens": found.tokens,
        "dollars": found.microdollars / MICRO,
        "gpu_hours": found.gpu_hours,
    }
    parts = [f"{spent[name]:,.6g} of {cap:,.6g} {name}" for name, cap in found.caps.items() if name in spent]
    lost = f"; {found.orphaned_tokens:,} tokens at most were lost" if found.orphaned_samples else ""
    console.print(f"account '{found.account}': spent {', '.join(parts)}{lost}", highlight=False, markup=False)


def _print_coverage(console: Console, root: Root, manifest: RunManifest) -> None:
    rows = coverage(root, manifest)
    if not rows:
        return
    console.print("coverage, with 95% intervals for problems like these:", highlight=False)
    for row in rows:
        console.print(
            f"  pass@{row['k']:<5} {row['coverage']:.3f}  [{row['low']:.3f}, {row['high']:.3f}]",
            highlight=False,
            markup=False,
        )
    console.print(f"  {rows[-1]['note']}", highlight=False, markup=False)


def _parquet_path(root: Root, record: StageRecord) -> str:
    names = [name for name in root.list(record.path) if name.endswith(".parquet")]
    return root.uri(record.path, names[0] if len(names) == 1 else "*.parquet")
