"""From a run's manifest and tables to one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import yaml

from cluster.records.refused import refused_of, remarks, told
from jobs.report import charts
from jobs.report.bills import bills
from jobs.report.browser import browse, embed
from jobs.report.collect import Source
from jobs.report.experts import experts
from jobs.report.format import Z95, compact, count, duration, interval, percent, rate, wilson
from jobs.report.policy import policy
from jobs.report.reliability import calibration
from jobs.report.training import training
from schemas.manifest import RunManifest, StageRecord

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
SCRIPT = Path(__file__).with_name("browser.js").read_text(encoding="utf-8")
TEMPLATES.filters.update(count=count, compact=compact, percent=percent, rate=rate)


VOTE = "How often the most frequent answer is right: what can be reached without a verifier."


@dataclass(frozen=True)
class Tile:
    """One headline number, its 95% interval where it is an estimate, what it counts, and which question it answers."""

    label: str
    value: str
    interval: str = ""
    note: str = ""
    says: str = ""


@dataclass(frozen=True)
class StageRow:
    """One line of the stage table; shares are percentages for the bars."""

    record: StageRecord
    reused: float
    computed: float
    seconds: float
    done: str
    time: str
    speed: str
    unit: str


def render(
    manifest: RunManifest, tables: Mapping[str, pl.LazyFrame], calls: Mapping[str, pl.LazyFrame] | None = None
) -> str:
    """Return a run's report as one self-contained HTML page: no network, no external font, script or style.

    Args:
        tables: stage name -> its rows. Stages that are absent, empty or unfinished leave their sections out.
        calls: the same of the calls of strategies.
    """
    source = Source(manifest, tables, calls)
    found = browse(source)
    config = yaml.safe_dump(manifest.config, sort_keys=False, allow_unicode=True, width=100) if manifest.config else ""
    return TEMPLATES.get_template("template.html").render(
        manifest=manifest,
        started=f"{manifest.started:%d %B %Y, %H:%M UTC}".lstrip("0"),
        lasted=duration((manifest.finished - manifest.started).total_seconds()) if manifest.finished else "",
        engines=_engines(manifest),
        tiles=_tiles(source),
        curves=_curves(source),
        distributions=_distributions(source),
        training=training(source),
        experts=experts(manifest),
        stages=_stages(manifest),
        remarks=_remarks(source),
        replicas=manifest.replicas,
        problems=found[0] if found else [],
        script=SCRIPT,
        policy=policy(*([SCRIPT] if found else [])),
        shown=found[1] if found else "",
        payload=embed(found[0]) if found else "",
        config=config,
    )


def _engines(manifest: RunManifest) -> list[str]:
    named = [f"{s.engine.model} ({s.engine.family} {s.engine.version})" for s in manifest.stages if s.engine]
    return list(dict.fromkeys(text.replace(" )", ")") for text in named))


def _tiles(source: Source) -> list[Tile]:
    manifest, samples = source.manifest, source.samples
    tiles = [Tile("Problems", compact(manifest.n_problems or source.height("problems")))]
    if samples:
        per = samples["samples"] / max(1, samples["problems"])
        failed = f"; {count(samples['failed'])} failed" if samples["failed"] else ""
        tiles.append(Tile("Samples", compact(samples["samples"]), note=f"{per:,.4g} a problem{failed}"))
    tiles += _estimates(source)
    if samples and samples["completion_tokens"]:
        read = compact(samples["prompt_tokens"])
        estimated = f"; {compact(samples['estimated_tokens'])} estimated" if samples["estimated_tokens"] else ""
        note = f"in completions; {read} in prompts{estimated}"
        tiles.append(Tile("Tokens", compact(samples["completion_tokens"]), note=note))
    sampled = [s for s in manifest.stages if s.completion_tokens and s.seconds]
    if sampled:
        tokens, seconds = sum(s.completion_tokens for s in sampled), sum(s.seconds for s in sampled)
        note = f"{compact(tokens)} tokens in {duration(seconds)}, this run"
        tiles.append(Tile("Tokens per second", rate(tokens / seconds), note=note))
    rows = source.height("sft")
    if rows:
        tiles.append(Tile("SFT rows", compact(rows), note="ready to train on"))
    return tiles


def _estimates(source: Source) -> list[Tile]:
    """The shares, each with its interval and its n."""
    tiles: list[Tile] = []
    if source.coverage is not None:
        ends = source.coverage.unique("k", keep="first", maintain_order=True)
        for row in (ends.head(1) if ends.height == 1 else ends[[0, -1]]).iter_rows(named=True):
            bounds, n = interval(row["low"], row["high"]), f"n = {count(row['n_problems'])} problems"
            tries = "one sample" if row["k"] == 1 else f"at least one of {count(row['k'])} samples"
            says = f"How often {tries} is right, on problems like these; whoever picks must know which."
            tiles.append(Tile(f"pass@{row['k']}", percent(row["coverage"]), bounds, n, says))
    if source.selection is not None:
        method = source.selection["method"][0]
        row = source.selection.filter(pl.col("method") == method).row(-1, named=True)
        note = f"n = {count(_n_selected(source, method))} problems"
        label = f"{method.capitalize()} of {count(row['n'])}"
        says = VOTE if method == "majority" else ""
        tiles.append(Tile(label, percent(row["accuracy"]), interval(row["low"], row["high"]), note, says))
    else:
        right, n = _judged_answers(source, "majority")
        if n:
            bounds = interval(*wilson(right, n))
            tiles.append(Tile("Majority", percent(right / n), bounds, f"n = {count(n)} problems", VOTE))
    return tiles + _best_selection(source)


def _best_selection(source: Source) -> list[Tile]:
    """The method that was right most often, beside the majority, with their difference over the same problems."""
    rows = source.rows("answers", "problem_key", "method", "is_correct")
    if rows is None:
        return []
    judged = rows.filter(pl.col("is_correct").is_not_null())
    vote = judged.filter(pl.col("method") == "majority").select("problem_key", vote=pl.col("is_correct"))
    others = judged.filter(pl.col("method") != "majority")
    if vote.is_empty() or others.is_empty():
        return []
    means = (
        others.group_by("method")
        .agg(pl.col("is_correct").mean())
        .sort("is_correct", "method", descending=[True, False])
    )
    best = means["method"][0]
    both = others.filter(pl.col("method") == best).join(vote, on="problem_key")
    apart = (both["is_correct"].cast(pl.Int64) - both["vote"].cast(pl.Int64)).cast(pl.Float64)
    n, right = both.height, int(both["is_correct"].sum())
    if not n:
        return []
    middle, half = 100 * float(apart.mean() or 0.0), 100 * Z95 * float(apart.std() or 0.0) / n**0.5  # type: ignore[arg-type]
    versus = f"{middle:+.1f} points from the majority ({middle - half:+.1f} to {middle + half:+.1f})"
    many = f", the best of {means.height} after the fact" if means.height > 1 else ""
    note = f"n = {count(n)} problems; {versus}{many}"
    says = "How often the best other way to choose among the same samples is right."
    return [Tile(f"Best selection: {best}", percent(right / n), interval(*wilson(right, n)), note, says)]


def _judged_answers(source: Source, method: str) -> tuple[int, int]:
    answers = source.rows("answers", "method", "is_correct")
    if answers is None:
        return 0, 0
    judged = answers.filter(pl.col("method") == method)["is_correct"].drop_nulls()
    return int(judged.sum()), judged.len()


def _n_selected(source: Source, method: str) -> int:
    """How many problems a method's accuracy is over: those whose answers could be judged, else the run's."""
    return _judged_answers(source, method)[1] or source.manifest.n_problems


def _curves(source: Source) -> list[charts.Chart]:
    ends = charts.domain([source.coverage, source.selection])
    found: list[charts.Chart] = []
    if source.coverage is not None:
        found.append(charts.coverage(source.coverage, ends))
    if source.selection is not None:
        n_problems = _n_selected(source, source.selection["method"][0])
        found.append(charts.selection(source.selection, source.coverage, n_problems, ends))
    if source.plain_curve is not None and source.equal_bill is not None:
        found += bills(source.plain_curve, source.equal_bill)
    if source.calibration is not None:
        found.append(calibration(source.calibration, source.uncalibrated))
    if source.forecast is not None:
        found.append(charts.forecast(source.forecast, source.coverage))
    if source.audit is not None:
        found.append(charts.audit(source.audit))
    return found


def _distributions(source: Source) -> list[charts.Chart]:
    found: list[charts.Chart] = []
    if source.verdicts is not None:
        found.append(charts.verdicts(source.verdicts))
    if source.rate_bins is not None and source.rates is not None:
        never = source.rates.filter(pl.col("right") == 0).height
        always = source.rates.filter(pl.col("right") == pl.col("judged")).height
        found.append(charts.pass_rates(source.rate_bins, never, always))
    if source.lengths is not None:
        found.append(charts.lengths(source.lengths))
    return found


def _remarks(source: Source) -> list[str]:
    """Return why samples were refused, and what is to be known of the tokens."""
    samples = source.scan("samples", "status", "error")
    name = next((s.name for s in source.manifest.stages if s.dataset == "samples"), "")
    return [*told([] if samples is None else refused_of(name, samples)), *remarks(source.manifest)]


def _stages(manifest: RunManifest) -> list[StageRow]:
    longest = max((s.seconds for s in manifest.stages), default=0.0) or 1.0
    return [_stage(record, longest) for record in manifest.stages]


def _stage(record: StageRecord, longest: float) -> StageRow:
    whole = max(record.planned, record.reused + record.computed, 1)
    parts = ((record.reused, "reused"), (record.computed, "computed"))
    moved: Any = record.completion_tokens / record.seconds if record.completion_tokens and record.seconds else None
    return StageRow(
        record,
        reused=100 * record.reused / whole,
        computed=100 * record.computed / whole,
        seconds=100 * record.seconds / longest,
        done=", ".join(f"{count(n)} {verb}" for n, verb in parts if n) or "none",
        time=duration(record.seconds) if record.computed else "",
        speed="" if moved is None else rate(moved),
        unit="rows" if record.kind == "store" else "problems",
    )
