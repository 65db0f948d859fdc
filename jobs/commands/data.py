"""Training data out of a run, and from a row of it back to where it came from."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from jobs.config.options import (
    DEFAULT_ROOT,
    JsonOption,
    RootOption,
    RunArgument,
    begun,
    command_line,
    console,
    examples,
    print_json,
)

app = typer.Typer()


@app.command(
    epilog=examples(
        "gristmill export latest --format messages --to data/sft",
        "gristmill export sft-20260101 --format preference --validation 0.1 --to s3://bucket/pairs --licence mit",
    )
)
def export(
    name: RunArgument,
    format: Annotated[
        Literal["messages", "prompt-completion", "preference", "step-rewards", "sharegpt", "alpaca"],
        typer.Option("--format", help="The layout of the rows."),
    ],
    to: Annotated[str, typer.Option("--to", metavar="DIR_OR_URL", help="An empty folder for shards and README.md.")],
    stage: Annotated[
        str | None, typer.Option(help="The stage whose rows are written; by default the last one that fits.")
    ] = None,
    reasoning: Annotated[
        Literal["tags", "open", "field", "drop"],
        typer.Option(
            help="Reasoning in <think> tags: leave it there; drop the opening tag (for chat templates that open the "
            "thought themselves); move it to reasoning_content; or leave it out."
        ),
    ] = "tags",
    validation: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="The share of the problems that is held out for validation.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="A different seed holds out different problems.")] = 0,
    shard_rows: Annotated[int, typer.Option(min=1, help="The most rows in one file.")] = 100_000,
    licence: Annotated[
        str, typer.Option("--licence", "--license", help="The licence on the card: apache-2.0, mit, ...")
    ] = ("unknown"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export in the same place.")
    ] = False,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Include rows of strategies that looked at the expected answers.")
    ] = False,
    counterfactual: Annotated[
        bool, typer.Option("--counterfactual", help="Include rows that are based on passages a model made up.")
    ] = False,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Write a run's training data as Parquet shards with a dataset card, split by problem."""
    begun(f"{name}: reading its rows")
    from cluster.records.reader import find_run
    from cluster.storage.root import Root
    from jobs.export import export as write
    from jobs.export.ask import Ask

    place = Root.at(root)
    ask = Ask(
        format=format,
        to=to,
        stage=stage,
        reasoning=reasoning,
        validation=validation,
        seed=seed,
        shard_rows=shard_rows,
        licence=licence,
        overwrite=overwrite,
        oracle=oracle,
        counterfactual=counterfactual,
        command=command_line(),
    )
    found = write(place, find_run(place, name), ask)
    if as_json:
        print_json(found)
        return
    told = console()
    told.print(
        f"{found['format']} of {found['run_id']}, stage {found['stage']}: {found['train']:,} rows to train on, "
        f"{found['validation']:,} to validate on (problems held out: {found['validation_problems']:,})",
        soft_wrap=True,
        highlight=False,
    )
    told.print(f"card: {found['card']}", soft_wrap=True, highlight=False)


@app.command(epilog=examples("gristmill trace data/sft/train-00000-of-00001.parquet:0"))
def trace(
    row: Annotated[
        str, typer.Argument(metavar="FILE:NUMBER|JSON", help="A training row (counted from 0), or its lineage.")
    ],
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Follow a training row back to the texts of its samples, their verdicts and their problem."""
    begun("walking back from the row")
    from cluster.storage.root import Root
    from jobs.looking.trace import print_trace
    from jobs.looking.trace import trace as walk

    document = walk(Root.at(root), row)
    if as_json:
        print_json(document)
    else:
        print_trace(console(), document)
