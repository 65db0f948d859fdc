"""Looking at what there is: runs, their stages, samples, reports and costs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from jobs.config.options import (
    DEFAULT_ROOT,
    JsonOption,
    NewRootOption,
    RootOption,
    RunArgument,
    begun,
    complete_pipeline,
    complete_run,
    console,
    examples,
    print_json,
    wide_console,
)

app = typer.Typer()

SHOWN = 200
"""Runs that are listed for people where no limit is given."""
MARKS = {"ok": "green", "weaker": "yellow", "missing": "red", "absent": "dim"}


@app.command(
    epilog=examples(
        "gristmill runs",
        "gristmill runs --pipeline math --state done --since 2026-11-01 --sort cost --limit 10",
        "gristmill runs --json --root s3://bucket/team",
    )
)
def runs(
    pipeline: Annotated[
        str | None, typer.Option(help="Only runs of this pipeline.", autocompletion=complete_pipeline)
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only runs in this state: done, failed, running, killed, 'budget reached', ..."),
    ] = None,
    job: Annotated[
        str | None, typer.Option(help="Only runs of submissions and nights whose name begins like this: nightly/sums.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="Only runs that began since then (UTC)."),
    ] = None,
    sort: Annotated[
        Literal["started", "cost", "samples", "problems", "seconds"],
        typer.Option(help="Sort by this, the largest first."),
    ] = "started",
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"How many at most; by default all with --json, else {SHOWN}.")
    ] = None,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """List the runs under a root, newest first. $GRISTMILL_CATALOGUE names a database that a team shares."""
    from cluster.storage.root import Root
    from jobs.looking.listing import list_runs
    from jobs.running.run_table import run_lines, state_of

    place = Root.at(root)
    # a run that was killed couldn't write that down: its state is known only once it is looked at
    wanted = None if state is None else [*state, "running"] if "killed" in state else state
    found = list_runs(
        place,
        pipeline=pipeline,
        states=wanted or (),
        job=job,
        since=since.replace(tzinfo=UTC) if since else None,
        sort=sort,
        limit=None if state else limit if limit is not None or as_json else SHOWN + 1,
    )
    if state is not None:
        found = [run for run in found if state_of(place, run) in state][:limit]
    if as_json:
        from jobs.running.summary import document

        print_json([document(place, manifest) for manifest in found])
    elif found:
        shown = found if limit is not None else found[:SHOWN]
        typer.echo("\n".join(run_lines(place, shown)))
        if len(shown) < len(found):
            typer.echo(f"These are the first {SHOWN}; --limit shows more", err=True)
    else:
        typer.echo(f"No runs under {place.url} yet. Start one: gristmill run arithmetic")


@app.command(epilog=examples("gristmill show latest", "gristmill show arithmetic-20260101 --json"))
def show(name: RunArgument, root: RootOption = DEFAULT_ROOT, as_json: JsonOption = False) -> None:
    """Show one run: stages, coverage, and where its datasets are."""
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from jobs.running.summary import document, print_run

    place = Root.at(root)
    manifest = find_run(place, name)
    if as_json:
        print_json({**document(place, manifest), "config": manifest.config, "versions": manifest.versions})
    else:
        print_run(wide_console(), place, manifest)


@app.command(epilog=examples("gristmill samples latest", "gristmill samples latest --problem 7 --only wrong --limit 5"))
def samples(
    name: RunArgument,
    problem: Annotated[str | None, typer.Option(help="Only this problem_id.")] = None,
    sample: Annotated[int | None, typer.Option(min=0, help="Only this sample_index.")] = None,
    only: Annotated[Literal["right", "wrong", "refused"] | None, typer.Option(help="Only these samples.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many samples at most.")] = 20,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Show a run's completions and their verdicts."""
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from jobs.looking.samples import print_samples, sample_rows

    place = Root.at(root)
    rows = sample_rows(place, find_run(place, name), problem, only, limit, sample)
    if as_json:
        print_json(rows.to_dicts())
    else:
        print_samples(console(), rows)


@app.command(
    epilog=examples(
        "gristmill calls latest", "gristmill calls latest --problem 7 --episode 0", "gristmill calls latest --json"
    )
)
def calls(
    name: RunArgument,
    problem: Annotated[str | None, typer.Option(help="Only this problem_id.")] = None,
    episode: Annotated[int | None, typer.Option(min=0, help="Only the episode with this number.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many episodes at most.")] = 3,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Show what a strategy asked: the calls of its episodes as trees, with scores and what was chosen."""
    begun(f"{name}: reading its calls")
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from jobs.looking.calls import episodes, print_episodes

    place = Root.at(root)
    found = episodes(place, find_run(place, name), problem, episode, limit)
    if as_json:
        print_json(found)
    else:
        print_episodes(console(), found)


@app.command(epilog=examples("gristmill report latest"))
def report(name: RunArgument, root: RootOption = DEFAULT_ROOT, as_json: JsonOption = False) -> None:
    """Write a run's HTML report again, and print its path."""
    begun(f"{name}: writing its report")
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from jobs.running.run import write_report

    place = Root.at(root)
    path = write_report(place, find_run(place, name))
    if as_json:
        print_json({"report": path})
    else:
        typer.echo(path)


@app.command(epilog=examples("gristmill cost latest", "gristmill cost arithmetic-20260101 --json"))
def cost(name: RunArgument, root: RootOption = DEFAULT_ROOT, as_json: JsonOption = False) -> None:
    """Show what a run's results cost: by stage, difficulty, outcome; per correct answer, SFT row, 1% of coverage."""
    begun(f"{name}: adding up what it took")
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from jobs.looking.cost import costs, print_costs

    place = Root.at(root)
    document = costs(place, find_run(place, name))
    if as_json:
        print_json(document)
    else:
        print_costs(console(), document)


@app.command(
    epilog=examples(
        "gristmill diff latest arithmetic-20260101",
        "gristmill diff RUN1 RUN2 --json",
        "gristmill diff DIRECT REASONED --paired --by level",
    )
)
def diff(
    first: RunArgument,
    second: Annotated[str, typer.Argument(metavar="RUN", help="The other run.", autocompletion=complete_run)],
    paired: Annotated[
        bool,
        typer.Option("--paired", help="Compare accuracy problem by problem and task by task, the largest loss first."),
    ] = False,
    by: Annotated[
        str,
        typer.Option(metavar="FIELD", help="For --paired: the field of the problems' metadata that names the task."),
    ] = "task_type",
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs: settings, problems, figures, coverage."""
    begun(f"{first}, {second}: reading both runs")
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from jobs.looking.diff import diff as compare
    from jobs.looking.diff import print_diff

    place = Root.at(root)
    runs = find_run(place, first), find_run(place, second)
    if paired:
        from jobs.looking.paired import paired as pair
        from jobs.looking.paired import print_paired

        document = pair(place, *runs, by)
        if as_json:
            print_json(document)
        else:
            print_paired(wide_console(), document)
        return
    document = compare(place, *runs)
    if as_json:
        print_json(document)
    else:
        print_diff(console(), document)


@app.command(
    epilog=examples(
        "gristmill holdout latest --method majority",
        "gristmill holdout latest --method weighted --baseline majority",
        "gristmill holdout latest",
    )
)
def holdout(
    name: RunArgument,
    method: Annotated[
        str,
        typer.Option(
            metavar="REGEX",
            help="Ask about methods and verifiers with matching names; without it, show what was asked.",
        ),
    ] = "",
    baseline: Annotated[str, typer.Option(metavar="METHOD", help="Ask by how much they beat this method.")] = "",
    budget: Annotated[
        int | None, typer.Option(min=1, help="How many answers may differ from the tuned ones (10). Set once.")
    ] = None,
    tolerance: Annotated[float | None, typer.Option(help="A gap that doesn't matter (.08). Set once.")] = None,
    questions: Annotated[
        int | None, typer.Option(min=1, help="How many questions there may be (1000). Set once.")
    ] = None,
    risk: Annotated[
        float | None, typer.Option(help="The risk that an answer is off by more than stated (.05). Set once.")
    ] = None,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Check whether what was tuned holds on held-out problems, without wearing these out (Thresholdout)."""
    begun(f"{name}: reading its answers")
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from jobs.looking.holdout import holdout as ask
    from jobs.looking.holdout import print_holdout

    place = Root.at(root)
    terms = {"budget": budget, "tolerance": tolerance, "questions": questions, "risk": risk}
    document = ask(place, find_run(place, name), method, baseline, terms)
    if as_json:
        print_json(document)
    else:
        print_holdout(console(), document)


@app.command(
    epilog=examples("gristmill describe", "gristmill describe verify.math", "gristmill describe dataset:samples --json")
)
def describe(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Any name from the list, KIND:NAME, or package.module:Class.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List operators, strategies, engines, datasets and more, and explain their settings and columns."""
    from jobs.looking.describe import describe as found
    from jobs.looking.describe import overview
    from jobs.looking.descriptions import print_description, print_overview

    if as_json:
        print_json([one.as_json() for one in found(name)] if name else overview())
    elif name:
        for one in found(name):
            print_description(wide_console(), one)
    else:
        print_overview(wide_console(), overview())


@app.command(epilog=examples("gristmill doctor", "gristmill doctor --root s3://bucket/team --json"))
def doctor(root: NewRootOption = DEFAULT_ROOT, as_json: JsonOption = False) -> None:
    """Show what this machine has, what is missing, and what is weaker without it. Exit code 1 if no run is possible."""
    from rich.table import Table
    from rich.text import Text

    from jobs.looking.doctor import examine

    found: list[dict[str, str]] = []
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for one in examine(root):
        found.append(vars(one))
        said = Text(one.says)
        if one.state != "ok" and one.remedy:
            said.append(f" ({one.remedy})", style="dim")
        table.add_row(Text(one.state, style=MARKS[one.state]), Text(one.name), said)
    if as_json:
        print_json(found)
    else:
        wide_console().print(table)
    if any(one["state"] == "missing" for one in found):
        raise typer.Exit(1)
