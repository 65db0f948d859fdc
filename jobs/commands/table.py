"""All commands by name: what each is for, and the module that has it, which is imported when it is called."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple

import typer.main
from typer.core import TyperGroup


class Place(NamedTuple):
    """Where a command is: ``module`` of this package; ``group`` if it has commands of its own."""

    module: str
    group: str
    help: str


SECTIONS: dict[str, dict[str, Place]] = {
    "Run": {
        "run": Place("work", "", "Run a pipeline, or resume it. Nothing is ever paid for twice."),
        "plan": Place(
            "work", "", "Show what a run would reuse and compute, what it would cost, what to expect. Spends nothing."
        ),
        "validate": Place("job", "", "List everything that is wrong with a job file. Spends nothing."),
        "job": Place("job", "files", "Start a job file, or print the JSON schema of job files."),
        "op": Place("work", "", "Run one operator on plain Parquet, JSONL or CSV files, without a pipeline."),
        "describe": Place("look", "", "List operators, strategies, engines, datasets; explain settings and columns."),
        "check-golds": Place("work", "", "List the expected answers that no verifier can read."),
    },
    "Look": {
        "view": Place("view", "", "Watch runs and read their samples in a browser."),
        "watch": Place("view", "", "Watch a run in the terminal, whichever machine it is on."),
        "ctl": Place("ctl", "", "Pause, resume or cancel a run on any machine, or change its settings."),
        "runs": Place("look", "", "List the runs under a root, newest first."),
        "show": Place("look", "", "Show one run: stages, coverage, and where its datasets are."),
        "samples": Place("look", "", "Show a run's completions and their verdicts."),
        "annotations": Place(
            "annotations", "", "Show what people found about a run's verdicts; choose what to label next."
        ),
        "calls": Place("look", "", "Show what a strategy asked: the calls of its episodes as trees."),
        "report": Place("look", "", "Write a run's HTML report again, and print its path."),
        "cost": Place("look", "", "Show what a run's results cost: by stage, difficulty and outcome."),
        "diff": Place("look", "", "Compare two runs: settings, problems, figures, coverage."),
        "trace": Place("data", "", "Follow a training row back to its samples, their verdicts and their problem."),
    },
    "Export": {
        "export": Place("data", "", "Write a run's training data as Parquet shards with a dataset card."),
    },
    "Tune": {
        "simulate": Place("measure", "", "Replay sampling policies on recorded samples. Spends nothing."),
        "bench-engine": Place("measure", "", "Measure an engine's speed here: tokens/s against requests in flight."),
        "holdout": Place("look", "", "Check whether what was tuned holds on held-out problems (load.holdout)."),
        "threshold": Place("measure", "", "Find the threshold at which a cascade's small model keeps an accuracy."),
        "layout": Place("moe", "", "Rank the ways to serve a mixture of experts on a cluster."),
        "moe": Place("moe", "moe", "Place the experts of a mixture-of-experts model on GPUs."),
    },
    "Clusters and nights": {
        "submit": Place("submit", "", "Submit a job to a cluster."),
        "status": Place("submit", "", "Show how a submission or a run is doing, and what it is waiting for."),
        "logs": Place("submit", "", "Print the output of a submission so far, or the events of a run."),
        "cancel": Place("submit", "", "End a submission or a run in good order. What was committed stays."),
        "resume": Place("submit", "", "Submit again, or print the command that continues a run."),
        "nightly": Place("nightly", "nightly", "Run a job every night, and catch up on missed or failed nights."),
    },
    "Maintain": {
        "gather": Place("submit", "", "Copy samples, verdicts, scores and runs of other roots into this one."),
        "verify-data": Place("keep", "", "Check all files of a run, and repair what can be repaired (--repair)."),
        "doctor": Place("look", "", "Show what this machine has, what is missing, and what is weaker without it."),
        "gc": Place("keep", "", "Free what no kept run refers to. Paid samples stay unless you name them."),
    },
}
PLACES = {name: place for section in SECTIONS.values() for name, place in section.items()}


class ByName(MutableMapping[str, Any]):
    """The commands, each imported when it is looked up."""

    def __init__(self) -> None:
        self._more: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name in self._more:
            return self._more[name]
        place = PLACES[name]
        module = importlib.import_module(f"jobs.commands.{place.module}")
        if place.group:
            found = typer.main.get_group(getattr(module, place.group))
            found.name = name
        else:
            found = typer.main.get_group(module.app).commands[name]
        self._more[name] = found
        return found

    def __iter__(self) -> Iterator[str]:
        yield from PLACES
        yield from (name for name in self._more if name not in PLACES)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __setitem__(self, name: str, command: Any) -> None:
        self._more[name] = command

    def __delitem__(self, name: str) -> None:
        del self._more[name]


class Commands(TyperGroup):
    """``gristmill`` itself: its help and what TAB offers come from the table, without importing any command."""

    def __init__(self, **about: Any) -> None:
        super().__init__(**about)
        self.commands = ByName()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        rest = [*itertools.dropwhile(lambda word: word.startswith("-"), args)]  # TAB: only flags come before a command
        ctx._protected_args, ctx.args = rest[:1], rest[1:]  # what the parent does, without importing pydantic for it
        return ctx.args

    def list_commands(self, ctx: Any) -> list[str]:
        return [*PLACES]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, place.help) for name, place in section.items()], col_max=14)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        from typer._click.shell_completion import CompletionItem  # what the parent returns

        said = [CompletionItem(name, help=p.help) for name, p in PLACES.items() if name.startswith(incomplete)]
        options = super(TyperGroup, self).shell_complete(ctx, incomplete)
        return [*said, *options]
