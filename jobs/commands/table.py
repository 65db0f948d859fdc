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
        "run": Place("work", "", "Run a pipeline, or resume it: what is there already is never paid for twice."),
        "plan": Place(
            "work", "", "Say what a run would reuse, top up or compute, what it takes, what to expect. Spends nothing."
        ),
        "validate": Place("job", "", "Say everything that is wrong with a job file at once. Spends nothing."),
        "job": Place("job", "files", "Job files: begin one, print their JSON schema."),
        "op": Place("work", "", "Run one operator on plain Parquet, JSONL or CSV files, without a pipeline."),
        "describe": Place("look", "", "Say what there is, and what its settings and columns mean."),
        "check-golds": Place("work", "", "Say which expected answers no verifier can read, before anything is paid."),
    },
    "Look": {
        "view": Place("view", "", "Watch runs and read their samples in a browser."),
        "watch": Place("view", "", "Watch a run in the terminal, wherever it goes on."),
        "ctl": Place("ctl", "", "Pause, resume or cancel a run that goes on anywhere, or change its settings."),
        "runs": Place("look", "", "List the runs under a root, newest first."),
        "show": Place("look", "", "Show one run: stages, coverage, and where its datasets are."),
        "samples": Place("look", "", "Look at a run's completions and their verdicts."),
        "annotations": Place("annotations", "", "Say what people found of a run's verdicts, and which to ask for."),
        "calls": Place("look", "", "Look at what a strategy asked: the calls of its episodes as trees."),
        "report": Place("look", "", "Write a run's HTML report again and print its path."),
        "cost": Place("look", "", "Say what a run's results cost: by stage, difficulty and outcome."),
        "diff": Place("look", "", "Say what is different between two runs: settings, problems, figures, coverage."),
        "trace": Place("data", "", "Walk a training row back to its samples, their verdicts and their problem."),
    },
    "Take along": {
        "export": Place("data", "", "Write a run's training data as Parquet shards with a dataset card."),
    },
    "Tune": {
        "simulate": Place("measure", "", "Replay sampling policies on recorded samples. Spends nothing."),
        "bench-engine": Place("measure", "", "Measure an engine here: tokens/s against requests in flight."),
        "holdout": Place("look", "", "Ask whether what was tuned holds on held-out problems (load.holdout)."),
        "threshold": Place("measure", "", "Say from which value on a cascade's small model keeps an accuracy."),
        "layout": Place("moe", "", "Rank the ways to serve a mixture of experts on a cluster."),
        "moe": Place("moe", "moe", "Where the experts of a mixture-of-experts model go."),
    },
    "Clusters and nights": {
        "submit": Place("submit", "", "Hand a job to a cluster, where it goes on by itself."),
        "status": Place("submit", "", "Say how a submission or a run is getting on, and what it waits for."),
        "logs": Place("submit", "", "Print what a submission has printed so far, or the events of a run."),
        "cancel": Place("submit", "", "End a submission or a run in good order; what was committed stays."),
        "resume": Place("submit", "", "Submit again, or print the command that goes on."),
        "nightly": Place("nightly", "nightly", "Schedules: one run a date, missed and failed nights by rule."),
    },
    "Keep": {
        "gather": Place("submit", "", "Take samples, verdicts, scores and runs of other roots into this one."),
        "verify-data": Place("keep", "", "Check all files of a run, and mend what can be mended (--repair)."),
        "doctor": Place("look", "", "Say what is there on this machine, what is missing, and what is weaker for it."),
        "gc": Place("keep", "", "Free what no kept run refers to. Paid samples stay, unless they are named."),
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
