"""A run's progress in a terminal, for whoever didn't start it: from its manifest and its events."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

from cluster.records.reader import seems_alive
from cluster.storage.root import Root
from jobs.running.progress import Progress
from jobs.view.events import EventTail
from jobs.view.listing import manifest_of
from schemas.manifest import RunManifest

LOOK_SECONDS = 0.5
REMOTE_SECONDS = 5.0


def watch(
    root: Root, manifest: RunManifest, console: Console, sleep: Callable[[float], None] = time.sleep
) -> RunManifest:
    """Show a run until it ends, or nobody is at work on it; return its last manifest."""
    events = EventTail(root, manifest.run_id)
    told = 0
    with Progress(console) as progress:
        while True:
            manifest = manifest_of(root, manifest.run_id)
            events.look()
            for event in list(events.told)[-(events.count - told) :] if events.count > told else []:
                if event["event"] in ("note", "order") and event["message"]:
                    progress.say(event["message"])
            told = events.count
            progress.update(manifest, _since(manifest, events))
            if manifest.state != "running":
                return manifest
            if not seems_alive(root, manifest.run_id):
                progress.say("nobody is at work on this run any more; the same command goes on with it")
                return manifest
            sleep(LOOK_SECONDS if root.is_local else REMOTE_SECONDS)


def _since(manifest: RunManifest, events: EventTail) -> dict[str, int]:
    """Return rows that were committed since the manifest was written, by stage."""
    stores = (record for record in manifest.stages if record.kind == "store")
    return {record.name: max(0, events.rows.get(record.name, 0) - record.computed) for record in stores}
