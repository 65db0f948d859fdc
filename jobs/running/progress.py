"""Watching a run: bars where there is a terminal, plain lines where there is none. Always on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from jobs.running.pace import Pace
from schemas.manifest import RunManifest, StageRecord

LINE_SECONDS = 10.0
"""How often a plain line is printed."""


class Progress:
    """Shows a run's stages: done of planned, rows/s, tokens/s, accepted share, time left. Use as a context manager."""

    def __init__(self, console: Console, quiet: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.quiet = quiet
        self._now = now
        self._live: Live | None = None
        self._rows: dict[str, Pace] = {}
        self._tokens: dict[str, Pace] = {}
        self._printed = now()
        self._announced: set[str] = set()

    def __enter__(self) -> Progress:
        if self.console.is_terminal and not self.quiet:
            self._live = Live(console=self.console, refresh_per_second=5, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, manifest: RunManifest, live: dict[str, int]) -> None:
        """Take the latest counts (see cluster.records.run.Observer)."""
        for record in manifest.stages:
            done = record.reused + record.computed + live.get(record.name, 0)
            self._rows.setdefault(record.name, Pace()).add(self._now(), done)
            self._tokens.setdefault(record.name, Pace()).add(self._now(), record.completion_tokens)
        if self._live:
            self._live.update(self._table(manifest, live))
        elif not self.quiet:
            self._lines(manifest, live)

    def say(self, text: str) -> None:
        """Print what happened, above the bars."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _table(self, manifest: RunManifest, live: dict[str, int]) -> Table:
        table = Table.grid(padding=(0, 2))
        for record in manifest.stages:
            done = min(record.planned, record.reused + record.computed + live.get(record.name, 0))
            spent = _spent(record, manifest)
            share = done / max(1, record.planned) if spent is None else spent
            bar = ProgressBar(total=1.0, completed=share, width=28)
            mark = "[green]✓[/]" if record.complete else "[dim]·[/]" if not done else "[yellow]▸[/]"
            deciding = _deciding(record, manifest)
            facts = self._facts(record, done, deciding, spent)
            table.add_row(mark, record.name, bar, _count(record, done, deciding), facts)
        return table

    def _facts(self, record: StageRecord, done: int, deciding: bool, spent: float | None) -> str:
        rows, tokens = self._rows[record.name].rate, self._tokens[record.name].rate
        facts: list[str] = []
        if record.complete and record.reused >= record.planned:
            return "reused"
        if rows > 0 and not record.complete:
            facts.append(f"{rows:,.1f}/s")
            left = None if deciding else self._rows[record.name].left(record.planned - done)
            if left is not None:
                facts.append(str(left))
        if tokens > 0 and not record.complete:
            facts.append(f"{tokens:,.0f} tokens/s")
        if record.dataset == "verdicts" and record.computed:
            new = " of the new ones" if record.reused else ""
            facts.append(f"{record.accepted / record.computed:.1%}{new} accepted")
        if spent is not None and not record.complete:
            facts.append(f"{spent:.0%} of the budget")
        if record.failed:
            facts.append(f"{record.failed:,} failed")
        return " · ".join(facts)

    def _lines(self, manifest: RunManifest, live: dict[str, int]) -> None:
        now = self._now()
        due = now - self._printed >= LINE_SECONDS
        for record in manifest.stages:
            fresh = record.complete and record.name not in self._announced
            done = min(record.planned, record.reused + record.computed + live.get(record.name, 0))
            if fresh or (due and done and not record.complete):
                deciding = _deciding(record, manifest)
                facts = self._facts(record, done, deciding, _spent(record, manifest))
                said = f"{record.name}: {_count(record, done, deciding)}{f' · {facts}' if facts else ''}"
                self.console.print(said, highlight=False)
            if fresh:
                self._announced.add(record.name)
        if due:
            self._printed = now


def _deciding(record: StageRecord, manifest: RunManifest) -> bool:
    """Whether a policy still decides how many rows a stage gets: often far fewer than it may."""
    return record.kind == "store" and not record.complete and any(found.policy for found in manifest.stages)


def _count(record: StageRecord, done: int, deciding: bool) -> str:
    return f"{done:,} of at most {record.planned:,}" if deciding else f"{done:,}/{record.planned:,}"


def _spent(record: StageRecord, manifest: RunManifest) -> float | None:
    """Return the share of the tightest cap that is spent, for sampling stages under a budget."""
    spending = manifest.spending
    if spending is None or record.dataset != "samples":
        return None
    return spending.share if spending.caps else None
