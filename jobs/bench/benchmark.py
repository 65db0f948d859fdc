"""The command itself: take a pipeline's engine and prompts, measure, show, write down what ``plan`` will use."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from cluster.engines import build_engine
from cluster.records.throughput import slots_of, write_entry
from cluster.storage.root import Root
from jobs.bench.hardware import describe
from jobs.bench.measure import Meter, Window, measure, summarise
from jobs.bench.plot import save
from jobs.running.run import Job
from operators.engine import Engine, EngineDied, EngineError
from operators.load import Load
from operators.sample.sampling import Sampling
from pipelines.graph import Stage
from schemas.engine import EngineSpec
from schemas.errors import BadInput, EngineFailed
from schemas.prices import Prices
from schemas.throughput import Level, ThroughputEntry

PROMPTS = 64
"""Problems whose prompts are used, in turn."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        levels: requests in flight; empty takes powers of two up to what the engine takes.
        seconds: how long each level is counted in each round.
    """

    levels: tuple[int, ...] = ()
    rounds: int = 3
    seconds: float = 8.0
    prices: Prices = field(default_factory=Prices)
    out: Path | None = None


def parse_levels(text: str) -> tuple[int, ...]:
    """Return ``1,4,16`` as numbers.

    Raises:
        BadInput: something that isn't a positive number.
    """
    try:
        levels = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise BadInput(f"--concurrency takes numbers such as 1,4,16; got '{text}'") from error
    if any(level < 1 for level in levels):
        raise BadInput(f"--concurrency takes numbers from 1 on; got '{text}'")
    return tuple(sorted(set(levels)))


def bench(job: Job, settings: Settings, as_json: bool) -> ThroughputEntry:
    """Measure the engine of a job's first sampling stage; show it, and write the entry and the plot."""
    stage = next((stage for stage in job.pipeline.stages.values() if stage.samples), None)
    if stage is None or stage.engine is None:
        raise BadInput(f"pipeline {job.pipeline.name} has no sampling stage whose engine could be measured")
    console = Console(stderr=True)
    entry = asyncio.run(_measured(job, stage, stage.engine, settings, console))
    place = write_entry(job.root, stage.engine, entry)
    plot = settings.out or _beside(job.root, place)
    if plot is not None:
        save(entry, plot)
    if as_json:
        found = {**entry.model_dump(mode="json"), "entry": place, "plot": str(plot) if plot else None}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        _print(Console(), entry, place, plot)
    return entry


def _beside(root: Root, entry: str) -> Path | None:
    """Return the plot's place beside the entry; a bucket has none."""
    return Path(entry).with_suffix(".html") if root.is_local else None


async def _measured(job: Job, stage: Stage, spec: EngineSpec, settings: Settings, console: Console) -> ThroughputEntry:
    operator = stage.operator
    assert isinstance(operator, Sampling)
    source = next(iter(job.pipeline.stages.values())).operator
    if isinstance(source, Load) and source.holdout and source.part == "all":
        source = source.model_copy(update={"part": "tuning"})
    problems = source.run().head(min(PROMPTS, job.execution.limit or PROMPTS))
    console.print(f"loading {getattr(spec, 'model', '')} ...", highlight=False)
    engine = await asyncio.to_thread(build_engine, spec)
    try:
        prompts = [await operator.prompt(row, engine) for row in problems.iter_rows(named=True)]
        levels = settings.levels or _powers(engine.capacity)
        windows = await _windows(Meter(engine, prompts, operator.n, operator.params), levels, settings, console)
    except (EngineError, EngineDied) as error:
        raise EngineFailed(f"the engine failed while it was measured: {error}") from error
    finally:
        await engine.close()
    return _entry(engine, spec, operator, windows, settings.prices)


async def _windows(meter: Meter, levels: Sequence[int], settings: Settings, console: Console) -> list[Window]:
    """Measure with a progress bar; Ctrl-C keeps what was measured."""
    windows: list[Window] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=len(levels) * settings.rounds)

        def heard(window: Window) -> None:
            windows.append(window)
            said = f"{window.concurrency} in flight: {window.rate:,.0f} tokens/s"
            progress.update(task, advance=1, description=said)

        try:
            await measure(meter, levels, settings.rounds, settings.seconds, heard)
        except asyncio.CancelledError:  # how asyncio.run hands Ctrl-C on
            if not any(window.answers for window in windows):
                raise
            console.print("interrupted: what was measured so far counts")
    return windows


def _powers(capacity: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... up to an engine's capacity, and that."""
    powers = [2**power for power in range(capacity.bit_length()) if 2**power < capacity]
    return (*powers, capacity)


def _entry(
    engine: Engine, spec: EngineSpec, operator: Sampling, windows: Sequence[Window], prices: Prices
) -> ThroughputEntry:
    levels = summarise(windows)
    if not levels:
        raise EngineFailed("no request was answered in the time given; measure for longer: --seconds 60")
    answers = [answer for window in windows for answer in window.answers]
    return ThroughputEntry(
        model=engine.info.model,
        revision=engine.info.revision,
        family=engine.info.family,
        version=engine.info.version,
        hardware=describe(spec),
        slots=slots_of(spec),
        ranks=spec.ranks,
        gpus_per_rank=spec.gpus,
        measured=datetime.now(UTC),
        max_tokens=operator.max_tokens,
        mean_prompt_tokens=sum(answer.prompt_tokens for answer in answers) / len(answers),
        mean_completion_tokens=sum(answer.completion_tokens for answer in answers) / len(answers),
        levels=levels,
        prices=prices,
    )


def _print(console: Console, entry: ThroughputEntry, place: str, plot: Path | None) -> None:
    table = Table(
        box=None, padding=(0, 2, 0, 0), title=f"{entry.model} in {entry.family} {entry.version}, {entry.hardware}"
    )
    for heading in ("in flight", "tokens/s", "range", "prompt tokens/s", "samples/s", "latency", "p95", "n"):
        table.add_column(heading, justify="right")
    for level in entry.levels:
        table.add_row(
            str(level.concurrency),
            f"{level.completion_tokens_per_second:,.1f}",
            f"{level.low:,.1f} to {level.high:,.1f}",
            f"{level.prompt_tokens_per_second:,.0f}",
            f"{level.samples_per_second:,.1f}",
            f"{level.latency_seconds:.2f} s",
            f"{level.latency_p95_seconds:.2f} s",
            f"{level.requests:,}",
        )
    console.print(table)
    rounds = max(level.rounds for level in entry.levels)
    lengths = f"{entry.mean_prompt_tokens:.0f} prompt and {entry.mean_completion_tokens:.1f} completion tokens a sample"
    console.print(f"Median and range of {rounds} rounds; {lengths}.", highlight=False)
    for line in advice(entry.levels):
        console.print(line, highlight=False)
    console.print(f"plan uses {place}", soft_wrap=True, highlight=False)
    if plot is not None:
        console.print(f"plot: {plot}", soft_wrap=True, highlight=False)


def advice(levels: Sequence[Level]) -> list[str]:
    """Say where more requests in flight would pay, or fewer would."""
    if len(levels) < 2:
        return []
    best = max(levels, key=lambda level: level.completion_tokens_per_second)
    last, before = levels[-1], levels[-2]
    if (
        last is best
        and last.low > before.high
        and last.completion_tokens_per_second > 1.1 * before.completion_tokens_per_second
    ):
        return ["Still growing at the end: more slots may pay, as far as memory goes."]
    if last.high < best.low:
        return [f"{best.concurrency} in flight are faster than {last.concurrency}: fewer slots would pay."]
    return []
