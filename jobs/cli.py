"""The command line. Each command parses, builds and runs; everything else lives in the modules it calls.

Exit codes: 0 done, 1 failed, 2 bad input or usage, 3 incomplete (resumable), 4 budget reached.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from jobs.moe.cli import layout, moe
from jobs.settings import parse_assignments
from schemas import __version__
from schemas.errors import BadInput, BudgetReached, GristmillError, RunIncomplete
from schemas.installation import check_installation
from schemas.redaction import redact

app = typer.Typer(
    name="gristmill",
    help="Sample a language model thousands of times per problem; get verified answers and training data.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

DEFAULT_ROOT = "./gristmill-data"

RootOption = Annotated[
    str, typer.Option("--root", envvar="GRISTMILL_ROOT", help="Where data is kept: a folder or an s3:// URL.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: sample.n=256 (value as YAML).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
UnsafeOption = Annotated[
    bool,
    typer.Option(
        "--allow-unsafe-execution", help="Run programs that a model wrote [bold red]without a sandbox[/]. Don't."
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Take only the first N problems.")]


def _complete_pipeline(incomplete: str) -> list[str]:
    from pipelines import PIPELINES

    return [name for name in PIPELINES if name.startswith(incomplete)]


def _complete_operator(incomplete: str) -> list[str]:
    from operators import OPERATORS

    return [name for name in OPERATORS if name.startswith(incomplete)]


def _complete_run(incomplete: str) -> list[str]:
    from cluster.records import manifests
    from cluster.storage.root import Root

    root = Root.at(os.environ.get("GRISTMILL_ROOT", DEFAULT_ROOT))
    return [found.run_id for found in manifests(root) if found.run_id.startswith(incomplete)]


TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE|JOB.yaml", help="A pipeline's name or a job file.", autocompletion=_complete_pipeline
    ),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, its beginning, or 'latest'.", autocompletion=_complete_run)
]


def _examples(*lines: str) -> str:
    return "[bold]Examples[/]\n\n" + "\n\n".join(f"[cyan]$ {line}[/]" for line in lines)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gristmill {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    check_installation()


@app.command(
    epilog=_examples(
        "gristmill run arithmetic",
        "gristmill run math --set load.source=problems.jsonl --set sample.n=256",
        "gristmill run job.yaml --root s3://bucket/team --address auto",
        "gristmill run arithmetic --dry-run",
    )
)
def run(
    target: TargetArgument,
    settings: SetOption = None,
    root: RootOption = "",
    runner: Annotated[Literal["ray", "local"] | None, typer.Option(help="Where work runs (ray by default).")] = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster to join; else Ray starts here by itself.")] = None,
    limit: LimitOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and the first prompt; sample nothing.")
    ] = False,
    if_busy: Annotated[
        Literal["refuse", "wait", "read"] | None,
        typer.Option(help="Where another run writes the same samples: end, wait for it, or take what is there."),
    ] = None,
    allow_unsafe_execution: UnsafeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a pipeline, or resume it: what is there already is never paid for twice."""
    from jobs.run import execute, prepare, show_dry_run

    job = prepare(target, settings or [], root, runner, address, limit)
    if dry_run:
        show_dry_run(job, as_json)
        return
    changed: dict[str, Any] = {"command": _command(), **({"if_busy": if_busy} if if_busy else {})}
    if allow_unsafe_execution:
        changed["allow_unsafe_execution"] = True
    state = execute(job, job.execution.model_copy(update=changed), as_json)
    if state == "budget reached":
        raise typer.Exit(BudgetReached.exit_code)
    if state != "done":
        raise typer.Exit(GristmillError.exit_code if state == "failed" else RunIncomplete.exit_code)


@app.command(
    epilog=_examples(
        "gristmill plan arithmetic",
        "gristmill plan math --set load.source=p.jsonl --set sample.n=1000",
        "gristmill plan job.yaml --set run.budget.dollars=50 --set run.prices=prices.yaml --worth 2",
    )
)
def plan(
    target: TargetArgument,
    settings: SetOption = None,
    root: RootOption = "",
    limit: LimitOption = None,
    worth: Annotated[
        float | None,
        typer.Option(metavar="DOLLARS", help="What 1% of coverage is worth (tokens where no price is known)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a run would reuse, top up or compute, what it takes and what to expect of it. Spends nothing."""
    from jobs.run import prepare, show_plan

    show_plan(prepare(target, settings or [], root, "local", None, limit), as_json, worth)


@app.command(
    epilog=_examples(
        "gristmill op verify.math --in samples=s.parquet --in problems=p.jsonl --out verdicts.parquet",
        "gristmill op measure.pass_at_k --in verdicts.parquet --out coverage.csv --set k=[1,10,100]",
        "gristmill op mypackage.ops:MyOperator --in rows.parquet --out result.parquet",
    )
)
def op(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="verify.math, ... or package.module:Class", autocompletion=_complete_operator
        ),
    ],
    inputs: Annotated[list[str] | None, typer.Option("--in", metavar="[INPUT=]PATH", help="A table to read.")] = None,
    out: Annotated[
        str, typer.Option("--out", metavar="PATH", help="Where the result goes (.parquet, .jsonl, .csv).")
    ] = "",
    settings: SetOption = None,
    allow_unsafe_execution: UnsafeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run one operator on plain Parquet, JSONL or CSV files, without a pipeline."""
    from jobs.op import run_op

    if not out:
        raise BadInput("give the place of the result: --out PATH")
    result = run_op(name, inputs or [], out, parse_assignments(settings or []), allow_unsafe_execution)
    if as_json:
        _print_json({"operator": name, "rows": len(result), "out": out})
    else:
        Console().print(f"{name}: {len(result):,} rows in {out}", soft_wrap=True, highlight=False)


@app.command(epilog=_examples("gristmill runs", "gristmill runs --json --root s3://bucket/team"))
def runs(root: RootOption = DEFAULT_ROOT, as_json: JsonOption = False) -> None:
    """List the runs under a root, newest first."""
    from cluster.records import manifests
    from cluster.storage.root import Root
    from jobs.summary import document, print_runs

    place = Root.at(root)
    found = list(manifests(place))
    if as_json:
        _print_json([document(place, manifest) for manifest in found])
    elif found:
        print_runs(Console(), place, found)
    else:
        Console().print(f"No runs under {place.url} yet. Start one: gristmill run arithmetic", soft_wrap=True)


@app.command(epilog=_examples("gristmill show latest", "gristmill show arithmetic-20260101 --json"))
def show(name: RunArgument, root: RootOption = DEFAULT_ROOT, as_json: JsonOption = False) -> None:
    """Show one run: stages, coverage, and where its datasets are."""
    from cluster.records import find_run
    from cluster.storage.root import Root
    from jobs.summary import document, print_run

    place = Root.at(root)
    manifest = find_run(place, name)
    if as_json:
        _print_json({**document(place, manifest), "config": manifest.config, "versions": manifest.versions})
    else:
        print_run(Console(), place, manifest)


@app.command(
    epilog=_examples("gristmill samples latest", "gristmill samples latest --problem 7 --only wrong --limit 5")
)
def samples(
    name: RunArgument,
    problem: Annotated[str | None, typer.Option(help="Only this problem_id.")] = None,
    only: Annotated[Literal["right", "wrong"] | None, typer.Option(help="Only these samples.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many samples at most.")] = 20,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Look at a run's completions and their verdicts."""
    from cluster.records import find_run
    from cluster.storage.root import Root
    from jobs.summary import print_samples, sample_rows

    place = Root.at(root)
    rows = sample_rows(place, find_run(place, name), problem, only, limit)
    if as_json:
        _print_json(rows.to_dicts())
    else:
        print_samples(Console(), rows)


@app.command(epilog=_examples("gristmill report latest"))
def report(name: RunArgument, root: RootOption = DEFAULT_ROOT, as_json: JsonOption = False) -> None:
    """Write a run's HTML report again and print its path."""
    from cluster.records import find_run
    from cluster.storage.root import Root
    from jobs.run import write_report

    place = Root.at(root)
    path = write_report(place, find_run(place, name))
    if as_json:
        _print_json({"report": path})
    else:
        typer.echo(path)


@app.command(
    name="verify-data",
    epilog=_examples("gristmill verify-data latest", "gristmill verify-data arithmetic-20260101 --repair"),
)
def verify_data(
    name: RunArgument,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take out what is damaged, so that the next run makes it again.")
    ] = False,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Check all files of a run, page by page and against each other; exit code 1 if something is wrong."""
    from cluster.records import find_run
    from cluster.storage.root import Root
    from jobs.verify_data import check_run

    place = Root.at(root)
    if not check_run(place, find_run(place, name), repair, as_json):
        raise typer.Exit(1)


@app.command(
    name="bench-engine",
    epilog=_examples(
        "gristmill bench-engine",
        "gristmill bench-engine math --set load.source=p.jsonl --set engine.kind=vllm --set engine.model=Qwen/Qwen3-8B",
        "gristmill bench-engine job.yaml --concurrency 1,16,64,256 --price-gpu-hour 2.5 --out speed.png",
    ),
)
def bench_engine(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[PIPELINE|JOB.yaml]", help="Whose engine and prompts.", autocompletion=_complete_pipeline
        ),
    ] = "arithmetic",
    settings: SetOption = None,
    concurrency: Annotated[
        str, typer.Option(metavar="N,N,...", help="Requests in flight (by default 1, 2, 4, ... to what it takes).")
    ] = "",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each level is measured in each round.")] = 8.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often all levels are measured, in turn.")] = 3,
    price_prompt: Annotated[
        float | None, typer.Option(metavar="DOLLARS", min=0.0, help="Price of a million prompt tokens.")
    ] = None,
    price_cached: Annotated[
        float | None, typer.Option(metavar="DOLLARS", min=0.0, help="Price of a million cached prompt tokens.")
    ] = None,
    price_completion: Annotated[
        float | None, typer.Option(metavar="DOLLARS", min=0.0, help="Price of a million completion tokens.")
    ] = None,
    price_gpu_hour: Annotated[
        float | None, typer.Option(metavar="DOLLARS", min=0.0, help="Price of one GPU for one hour.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="PATH", help="Where the plot goes (.html, .png, .svg); by default the root.")
    ] = None,
    root: RootOption = "",
    as_json: JsonOption = False,
) -> None:
    """Measure an engine here: tokens/s against requests in flight. The result is what plan estimates with."""
    from pathlib import Path

    from jobs.bench import bench
    from jobs.bench.command import Settings, parse_levels
    from jobs.run import prepare
    from schemas.prices import Prices

    prices = Prices(
        dollars_per_million_prompt_tokens=price_prompt,
        dollars_per_million_cached_prompt_tokens=price_cached,
        dollars_per_million_completion_tokens=price_completion,
        dollars_per_gpu_hour=price_gpu_hour,
    )
    how = Settings(parse_levels(concurrency), rounds, seconds, prices, Path(out) if out else None)
    bench(prepare(target, settings or [], root, "local", None, None), how, as_json)


@app.command(
    epilog=_examples(
        "gristmill simulate counts.parquet --policy marginal --budget 20000",
        "gristmill simulate counts.parquet --model small --compare --goal yield --prior counts.parquet "
        "--prior-model large",
        "gristmill simulate latest --goal accuracy --compare --plot curves.html",
    )
)
def simulate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="COUNTS|RUN",
            help="A table with n and c of each problem, or with samples and their verdicts; or a run.",
            autocompletion=_complete_run,
        ),
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="uniform, until_correct, greedy, marginal, consistency, pets, with_flaws or compute_optimal.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the policies.")
    ] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Samples, all problems together.")] = None,
    goal: Annotated[
        Literal["coverage", "yield", "accuracy"],
        typer.Option(help="Problems solved, useful traces (--target of each problem), or right majorities."),
    ] = "coverage",
    target: Annotated[int | None, typer.Option(min=1, help="Useful traces of a problem (4 for --goal yield).")] = None,
    model: Annotated[str | None, typer.Option(help="Whose rows, where the table has a column 'model'.")] = None,
    prior: Annotated[
        str | None, typer.Option(metavar="COUNTS|RUN", help="The same problems by another model or an earlier night.")
    ] = None,
    prior_model: Annotated[str | None, typer.Option(help="Whose rows of --prior.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many replays, each in another order.")] = 20,
    in_flight: Annotated[int | None, typer.Option(min=1, help="Samples that are out at the same time.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="All policies that fit the goal.")] = False,
    out: Annotated[str | None, typer.Option(metavar="PATH", help="The curves as .parquet, .jsonl or .csv.")] = None,
    plot: Annotated[str | None, typer.Option(metavar="PATH", help="The curves as .html, .png or .svg.")] = None,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Replay sampling policies on recorded samples: what each would have reached, and for how much. Spends nothing."""
    from jobs.simulate import simulate as replay
    from jobs.simulate.command import Ask

    ask = Ask(
        source=source,
        root=root,
        policies=policy or [],
        settings=parse_assignments(settings or []),
        budget=budget,
        goal=goal,
        target=target,
        model=model,
        prior=prior,
        prior_model=prior_model,
        seeds=seeds,
        in_flight=in_flight,
        compare=compare,
        out=out,
        plot=plot,
    )
    replay(ask, as_json)


@app.command(epilog=_examples("gristmill cost latest", "gristmill cost arithmetic-20260101 --json"))
def cost(name: RunArgument, root: RootOption = DEFAULT_ROOT, as_json: JsonOption = False) -> None:
    """Say what a run's results cost: by stage, difficulty and outcome; per correct answer, SFT row, 1% of coverage."""
    from cluster.records import find_run
    from cluster.storage.root import Root
    from jobs.cost import costs, print_costs

    place = Root.at(root)
    document = costs(place, find_run(place, name))
    if as_json:
        _print_json(document)
    else:
        print_costs(Console(), document)


@app.command(
    epilog=_examples(
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
    stage: Annotated[str | None, typer.Option(help="Whose rows; by default the last stage that fits.")] = None,
    reasoning: Annotated[
        Literal["tags", "field", "drop"],
        typer.Option(help="Reasoning in <think> tags: leave it there, move it to reasoning_content, or leave it out."),
    ] = "tags",
    validation: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the problems that are held out.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Another seed holds out other problems.")] = 0,
    shard_rows: Annotated[int, typer.Option(min=1, help="Rows of a file at most.")] = 100_000,
    licence: Annotated[str, typer.Option("--licence", "--license", help="For the card: apache-2.0, mit, ...")] = (
        "unknown"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in that place.")] = False,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Write a run's training data as Parquet shards with a dataset card, split by problem."""
    from cluster.records import find_run
    from cluster.storage.root import Root
    from jobs.export import export as write
    from jobs.export.command import Ask

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
        command=_command(),
    )
    found = write(place, find_run(place, name), ask)
    if as_json:
        _print_json(found)
        return
    console = Console()
    console.print(
        f"{found['format']} of {found['run_id']}, stage {found['stage']}: {found['train']:,} rows to train on, "
        f"{found['validation']:,} to validate on ({found['validation_problems']:,} problems held out)",
        soft_wrap=True,
        highlight=False,
    )
    console.print(f"card: {found['card']}", soft_wrap=True, highlight=False)


@app.command(epilog=_examples("gristmill trace data/sft/train-00000-of-00001.parquet:0"))
def trace(
    row: Annotated[
        str, typer.Argument(metavar="FILE:NUMBER|JSON", help="A training row (counted from 0), or its lineage.")
    ],
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Walk a training row back to its samples' texts, their verdicts and their problem."""
    from cluster.storage.root import Root
    from jobs.trace import print_trace
    from jobs.trace import trace as walk

    document = walk(Root.at(root), row)
    if as_json:
        _print_json(document)
    else:
        print_trace(Console(), document)


@app.command(epilog=_examples("gristmill gc --dry-run", "gristmill gc --older-than 72 --root s3://bucket/team"))
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")] = False,
    older_than: Annotated[float, typer.Option(min=0.0, metavar="HOURS", help="What is younger stays.")] = 24.0,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Remove files that nothing names any more; never samples, verdicts, results or anything a live run may read."""
    from cluster.garbage import collect
    from cluster.storage.root import Root

    found = collect(Root.at(root), older_than, dry_run)
    if as_json:
        kinds = {kind: {"files": found.count(kind), "bytes": found.size(kind)} for kind in found.files}
        paths = [path for files in found.files.values() for path in files]
        _print_json({"dry_run": dry_run, "older_than": found.limit, **kinds, "paths": paths, "spared": found.spared})
        return
    typer.echo(f"{'Would remove' if dry_run else 'Removed'} what is older than {found.limit:%Y-%m-%d %H:%M} UTC:")
    for kind in found.files:
        typer.echo(f"  {kind}: {found.count(kind):,} files, {found.size(kind):,} bytes")
    for note in found.spared:
        typer.echo(f"  left alone: {note}")


app.add_typer(moe, name="moe")
app.command(epilog=_examples("gristmill layout DeepSeek-V3 --cluster cluster.yaml"))(layout)


def _command() -> str:
    return shlex.join(["gristmill", *sys.argv[1:]])


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def main() -> None:
    """Run the command line; every error we raise on purpose becomes one message and its exit code."""
    try:
        code = app(standalone_mode=False)
    except GristmillError as error:
        typer.echo(f"error: {redact(str(error))}", err=True)
        code = error.exit_code
    except typer.Abort:
        typer.echo("interrupted", err=True)
        code = RunIncomplete.exit_code
    except typer.TyperException as error:  # usage: an unknown command or option, a missing argument
        typer.echo(f"error: {str(error).rstrip('.')}. See gristmill --help", err=True)
        code = BadInput.exit_code
    except Exception:  # a defect of ours: the traceback helps, but it must not show a key either
        typer.echo(redact(traceback.format_exc()), err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
