"""Measuring before paying: an engine's speed, policies replayed on recorded samples."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from jobs.config.options import (
    DEFAULT_ROOT,
    JsonOption,
    NewRootOption,
    RootOption,
    SetOption,
    begun,
    complete_pipeline,
    complete_run,
    examples,
)

app = typer.Typer()


@app.command(
    name="bench-engine",
    epilog=examples(
        "gristmill bench-engine",
        "gristmill bench-engine math --set load.source=p.jsonl --set engine.kind=vllm --set engine.model=Qwen/Qwen3-8B",
        "gristmill bench-engine job.yaml --concurrency 1,16,64,256 --price-gpu-hour 2.5 --out speed.png",
    ),
)
def bench_engine(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[PIPELINE|JOB.yaml]",
            help="The pipeline or job whose engine and prompts are used.",
            autocompletion=complete_pipeline,
        ),
    ] = "arithmetic",
    settings: SetOption = None,
    concurrency: Annotated[
        str,
        typer.Option(
            metavar="N,N,...", help="Requests in flight (by default 1, 2, 4, ... up to what the engine takes)."
        ),
    ] = "",
    seconds: Annotated[
        float, typer.Option(min=0.1, help="How many seconds each level is measured in each round.")
    ] = 8.0,
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
        str | None,
        typer.Option(metavar="PATH", help="Where the plot is written (.html, .png, .svg); by default in the root."),
    ] = None,
    root: NewRootOption = "",
    as_json: JsonOption = False,
) -> None:
    """Measure an engine's speed here: tokens/s against requests in flight. `plan` then estimates with the result."""
    begun(f"{target}: reading the settings and the problems")
    from pathlib import Path

    from jobs.bench import bench
    from jobs.bench.benchmark import Settings, parse_levels
    from jobs.running.run import prepare
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
    epilog=examples(
        "gristmill simulate counts.parquet --policy marginal --budget 20000",
        "gristmill simulate counts.parquet --model small --compare --goal yield --prior counts.parquet "
        "--prior-model large",
        "gristmill simulate latest --goal accuracy --compare --plot curves.html",
        "gristmill simulate latest --compare --unit dollars --budget 5 --prices prices.yaml",
        "gristmill simulate pilot.parquet --recommend --reach .8 --features problems.jsonl",
    )
)
def simulate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="COUNTS|RUN",
            help="A table with n and c for each problem, or with samples and their verdicts; or a run.",
            autocompletion=complete_run,
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
    unit: Annotated[
        Literal["samples", "tokens", "dollars"],
        typer.Option(help="What is spent: samples, or what samples of each problem cost on average."),
    ] = "samples",
    prices: Annotated[
        str | None, typer.Option(metavar="YAML", help="Prices by model, for --unit dollars; a run knows its own.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=1e-9, help="How much of the unit may be spent on all problems together.")
    ] = None,
    goal: Annotated[
        Literal["coverage", "yield", "accuracy"],
        typer.Option(help="Problems solved, useful traces (--target for each problem), or right majorities."),
    ] = "coverage",
    target: Annotated[int | None, typer.Option(min=1, help="Useful traces per problem (4 for --goal yield).")] = None,
    model: Annotated[
        str | None, typer.Option(help="Use the rows of this model, where the table has a column 'model'.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(metavar="COUNTS|RUN", help="Counts of the same problems by another model or an earlier night."),
    ] = None,
    prior_model: Annotated[
        str | None,
        typer.Option(help="The model whose rows of --prior are used; by default all models, each as a source."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="What is known about the problems beforehand: numbers, levels, sources, embeddings, prompts.",
        ),
    ] = None,
    holdout: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Leave out this share of the problems, which is held out.")
    ] = 0.0,
    seeds: Annotated[int, typer.Option(min=1, help="How many replays, each in a different order.")] = 20,
    in_flight: Annotated[
        int | None, typer.Option(min=1, help="How many samples are in flight at the same time.")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Compare all policies that fit the goal.")] = False,
    recommend: Annotated[
        bool,
        typer.Option(
            "--recommend",
            help="Recommend a policy, prior and budget that reach --reach, and say what others would cost.",
        ),
    ] = False,
    reach: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, help="For --recommend: the share of problems, traces or answers to reach."),
    ] = 0.8,
    out: Annotated[
        str | None, typer.Option(metavar="PATH", help="Write the curves as .parquet, .jsonl or .csv.")
    ] = None,
    plot: Annotated[str | None, typer.Option(metavar="PATH", help="Plot the curves as .html, .png or .svg.")] = None,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Replay sampling policies on recorded samples: what each would have reached, at what cost. Spends nothing."""
    begun(f"{source}: reading what was recorded")
    from jobs.config.settings import parse_assignments
    from jobs.simulate import simulate as replay
    from jobs.simulate.simulation import Ask

    ask = Ask(
        source=source,
        root=root,
        policies=policy or [],
        settings=parse_assignments(settings or []),
        unit=unit,
        prices=prices,
        budget=budget,
        goal=goal,
        target=target,
        model=model,
        prior=prior,
        prior_model=prior_model,
        holdout=holdout,
        features=features,
        seeds=seeds,
        in_flight=in_flight,
        compare=compare,
        out=out,
        plot=plot,
        reach=reach if recommend else None,
    )
    replay(ask, as_json)


@app.command(
    epilog=examples(
        "gristmill threshold latest --accuracy .9",
        "gristmill threshold answers.csv --accuracy .95 --sure .99 --holdout .2 --json",
        "gristmill run math --set 'sample.strategy={name: cascade, threshold: 0}' --set load.holdout=0.2 "
        "--set engines.large.model=...",
    )
)
def threshold(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|TABLE",
            help="A run of 'cascade' with threshold 0, or a table: problem_id, score, is_correct (and accepted).",
            autocompletion=complete_run,
        ),
    ],
    accuracy: Annotated[
        float, typer.Option(help="The accuracy that answers taken from the small model should have.")
    ] = 0.9,
    sure: Annotated[float, typer.Option(help="The confidence with which it should hold.")] = 0.95,
    holdout: Annotated[
        float,
        typer.Option(min=0.0, max=0.99, help="Leave out this share of the problems (a run leaves out its own)."),
    ] = 0.0,
    root: RootOption = DEFAULT_ROOT,
    as_json: JsonOption = False,
) -> None:
    """Find the threshold at which a cascade's small model keeps an accuracy. Spends nothing."""
    from jobs.config.options import console, print_json
    from jobs.simulate.threshold import print_threshold
    from jobs.simulate.threshold import threshold as calibrated

    document = calibrated(root, source, accuracy, sure, holdout)
    if as_json:
        print_json(document)
    else:
        print_threshold(console(), document)
