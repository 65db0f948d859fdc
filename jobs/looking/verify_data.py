"""``gristmill verify-data``: shows how far it is, prints what is wrong, what was repaired and what to do."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from cluster.storage.root import Root
from cluster.upkeep.repair import repair
from cluster.upkeep.verify_data import Verification, verify
from schemas.manifest import RunManifest


def check_run(root: Root, manifest: RunManifest, mend: bool, as_json: bool) -> bool:
    """Verify a run's data, repair what is damaged if told, print the result; return whether all was well."""
    result = _verify(root, manifest)
    repaired = repair(root, manifest, result.findings) if mend else []
    if as_json:
        sys.stdout.write(json.dumps(document(root, manifest, result, repaired), indent=2, ensure_ascii=False) + "\n")
    else:
        _print(root, manifest, result, repaired, mend)
    return not result.findings


def _verify(root: Root, manifest: RunManifest) -> Verification:
    console = Console(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("verifying")
        return verify(root, manifest, lambda done, of: progress.update(task, completed=done, total=max(1, of)))


def document(root: Root, manifest: RunManifest, result: Verification, repaired: list[str]) -> dict[str, Any]:
    """Return what was found as one JSON-able document."""
    return {
        "run_id": manifest.run_id,
        "root": root.url,
        "files": result.files,
        "rows": result.rows,
        "bytes": result.size,
        "findings": [{**asdict(found), "keys": [list(item) for item in found.keys]} for found in result.findings],
        "unchecked": result.unchecked,
        "repaired": repaired,
        "command": manifest.command,
    }


def _print(root: Root, manifest: RunManifest, result: Verification, repaired: list[str], mend: bool) -> None:
    say(f"{manifest.run_id}: {result.files:,} files, {result.rows:,} rows, {result.size:,} bytes checked")
    for note in result.unchecked:
        say(f"not checked: {note}")
    if not result.findings:
        say("All is well.")
        return
    say(f"{len(result.findings):,} finding(s):")
    for found in result.findings:
        say(f"  {f'{found.stage}: ' if found.stage else ''}{found.file} {found.what}")
    again = manifest.command or "the same run"
    if mend:
        say("Repaired:" if repaired else "Nothing of this could be repaired.")
        for line in repaired:
            say(f"  {line}")
        say(f"Make what is missing again:\n  {again}")
    elif any(found.remedy in ("mend", "drop", "cut", "recompute", "remove") for found in result.findings):
        command = shlex.join(["gristmill", "verify-data", manifest.run_id, "--root", root.url, "--repair"])
        say(f"Take out what is damaged, then make it again; what is whole stays:\n  {command}\n  {again}")
    elif any(found.remedy == "rerun" for found in result.findings):
        say(f"Make what is missing again:\n  {again}")
    for found in result.findings:
        if found.remedy == "none":
            say(f"No command repairs {found.file}; a new run over the same data writes records of its own:\n  {again}")
            break


def say(text: str) -> None:
    """Print a line that may hold anything."""
    Console().print(text, highlight=False, markup=False, soft_wrap=True)
