"""Gristmill from Python: run and plan pipelines, look at runs, turn functions into operators and verifiers.

    from jobs.api import load_run, plan, run

    print(plan("math", {"load.source": "problems.jsonl", "sample.n": 64}, root="data"))
    made = run("math", {"load.source": "problems.jsonl", "sample.n": 64}, root="data", runner="local")
    made.frame("verdicts").group_by("problem_id").agg(rate=pl.col("is_correct").mean())
    load_run("latest", root="data").coverage

Everything works in notebooks, too, also where an event loop runs already. Errors are ``schemas.errors.GristmillError``;
``BadInput`` is one that the caller can correct.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

import polars as pl
from rich.console import Console

from cluster.records.reader import find_run, last_stage, manifests, open_stage
from cluster.storage.root import Root
from jobs.config.settings import place_of
from jobs.running.run import Job, planned, resolve, run_job
from jobs.running.run_table import state_of
from jobs.running.summary import coverage, document
from operators import operator
from operators.verify.function import VerifyFunction
from pipelines.graph import Pipeline
from schemas.datasets import DATASETS
from schemas.errors import BadInput
from schemas.job import JobFile, RunSettings
from schemas.manifest import RunManifest

__all__ = ["Moment", "Plan", "Run", "load_run", "operator", "plan", "run", "runs", "verifier"]

Result = TypeVar("Result")
DEFAULT_ROOT = "./gristmill-data"


@dataclass(frozen=True)
class Moment:
    """How far a run has got: what ``on_progress`` is given, some times a second.

    Attributes:
        done, planned: rows of each stage; those that were there before count as done.
        tokens: completion tokens that this run has written.
        said: what just happened (a worker was lost, another run is waited for); empty where it is only about counts.
    """

    run_id: str
    done: dict[str, int]
    planned: dict[str, int]
    tokens: int
    said: str = ""


class Run:
    """One run of a pipeline, as it stands in its root. In a notebook it shows its stages and coverage."""

    def __init__(self, root: Root, manifest: RunManifest) -> None:
        self.root = root
        self.manifest = manifest

    @property
    def id(self) -> str:
        return self.manifest.run_id

    @property
    def state(self) -> str:
        """``done``, ``failed``, ``running``, ``killed``, ``budget reached`` or ``interrupted``."""
        return state_of(self.root, self.manifest)

    @property
    def datasets(self) -> dict[str, str]:
        """Stage -> the dataset that it gives (``gristmill describe dataset:NAME`` tells its columns)."""
        return {record.name: record.dataset for record in self.manifest.stages}

    @property
    def coverage(self) -> pl.DataFrame:
        """pass@k with its intervals; no rows where the pipeline doesn't measure it."""
        return pl.DataFrame(coverage(self.root, self.manifest))

    def scan(self, name: str) -> pl.LazyFrame:
        """Return the rows of a stage, or of the last stage that gives a dataset of this name, lazily.

        Raises:
            BadInput: the run has neither.
        """
        return open_stage(self.root, self.manifest, self._stage(name))

    def frame(self, name: str) -> pl.DataFrame:
        """Return what ``scan`` does, read, and sorted by what its rows are known by.

        Raises:
            BadInput: the run has no such stage or dataset.
        """
        contract = DATASETS.get(self.datasets[self._stage(name)])
        rows = self.scan(name).collect()
        return rows.sort(contract.primary_key()) if contract and contract.primary_key() else rows

    def _stage(self, name: str) -> str:
        stage = name if name in self.datasets else last_stage(self.manifest, name)
        if stage is None:
            raise BadInput(f"run {self.id} has no stage or dataset '{name}'; it has {self.datasets}")
        return stage

    @property
    def report(self) -> str | None:
        """The address of its HTML report."""
        return self.root.uri(self.manifest.report) if self.manifest.report else None

    def as_json(self) -> dict[str, Any]:
        """Return what ``gristmill show --json`` prints."""
        return document(self.root, self.manifest)

    def __repr__(self) -> str:
        return f"Run({self.id}, {self.state}, {self.manifest.n_problems:,} problems)"

    def _repr_html_(self) -> str:
        rows = [
            (record.name, record.dataset, f"{record.reused:,}", f"{record.computed:,}", "✓" if record.complete else "…")
            for record in self.manifest.stages
        ]
        table = _table(("stage", "dataset", "reused", "computed", "complete"), rows)
        found = self.coverage
        curve = [
            (f"{row['k']:,}", f"{row['coverage']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}")
            for row in found.to_dicts()
        ]
        shown = _table(("k", "coverage", "95% interval"), curve) if curve else ""
        return f"<p><b>{html.escape(self.id)}</b> · {html.escape(self.state)}</p>{table}{shown}"


@dataclass(frozen=True)
class Plan:
    """What a run would reuse, draw and spend: the document that ``gristmill plan --json`` prints."""

    document: dict[str, Any]

    @property
    def stages(self) -> pl.DataFrame:
        return pl.DataFrame([{key: stage.get(key) for key in _PLANNED} for stage in self.document["stages"]])

    def __repr__(self) -> str:
        return f"Plan({self.document['pipeline']})\n{self.stages}"

    def _repr_html_(self) -> str:
        rows = [tuple("" if value is None else str(value) for value in row) for row in self.stages.rows()]
        return f"<p><b>{html.escape(self.document['pipeline'])}</b></p>{_table(tuple(self.stages.columns), rows)}"


_PLANNED = ("name", "dataset", "planned", "reused", "to_compute")


def run(
    pipeline: str | Pipeline,
    settings: Mapping[str, Any] | None = None,
    *,
    root: str = DEFAULT_ROOT,
    runner: str = "ray",
    address: str | None = None,
    limit: int | None = None,
    execution: Mapping[str, Any] | None = None,
    on_progress: Callable[[Moment], None] | None = None,
) -> Run:
    """Run a pipeline to its end, or resume it, and write its report. What exists already isn't paid for twice.

    Args:
        pipeline: a name (``math``, ``package.module``), or a pipeline that was built in Python.
        settings: as ``--set`` takes them: ``{"sample.n": 64, "verify": {"operator": "verify.exact"}}``.
        runner: ``ray`` or ``local`` (this process).
        limit: take only the first N problems.
        execution: how it is run, as ``run:`` of a job file has it: ``{"budget": {"tokens": 1_000_000}}``.
        on_progress: called while the run is in progress; an exception from it ends the run in good order.

    Raises:
        BadInput: settings that don't fit, or problems that can't be read; nothing was paid.
        GristmillError: what ended the run; what was committed stays, and the same call continues.
    """
    job = _job(pipeline, settings, root, runner, address, limit, execution)
    quiet = Console(quiet=True)
    return Run(job.root, run_job(job, job.execution, quiet, True, _Watch(on_progress) if on_progress else None))


def plan(
    pipeline: str | Pipeline,
    settings: Mapping[str, Any] | None = None,
    *,
    root: str = DEFAULT_ROOT,
    limit: int | None = None,
    execution: Mapping[str, Any] | None = None,
) -> Plan:
    """Return what ``run`` would reuse, draw and spend. Spends nothing.

    Raises:
        BadInput: settings that don't fit, or problems that can't be read.
    """
    job = _job(pipeline, settings, root, "local", None, limit, execution)
    return Plan(_apart(lambda: planned(job)))


def load_run(name: str = "latest", root: str = DEFAULT_ROOT) -> Run:
    """Return a run by its id, the beginning of one, or ``latest``.

    Raises:
        BadInput: there is no such run.
    """
    place = Root.at(root)
    return Run(place, find_run(place, name))


def runs(root: str = DEFAULT_ROOT) -> pl.DataFrame:
    """Return the runs under a root, the newest first: run_id, pipeline, state, started, finished, n_problems."""
    place = Root.at(root)
    schema = {"run_id": pl.String, "pipeline": pl.String, "state": pl.String, "started": pl.Datetime("us", "UTC"),
              "finished": pl.Datetime("us", "UTC"), "n_problems": pl.Int64}  # fmt: skip
    rows = [{name: getattr(one, name) for name in schema} | {"state": state_of(place, one)} for one in manifests(place)]
    return pl.DataFrame(rows, schema=schema).sort("started", descending=True)


def verifier(function: Callable[..., Any] | None = None, **settings: Any) -> Any:
    """Turn a function into a verifier: ``check(completion, answer, problem)``, or what it takes of these.

        @verifier(timeout=2.0)
        def ends_well(completion, answer):
            return completion.strip().endswith(answer)

    ``run("math", {"verify": ends_well, ...})`` takes it; in pipelines of one's own it is ``ends_well.operator``. It can
    still be called. It runs in processes of its own, so it must be in a module that they can import, and not in the
    notebook itself.

    Args:
        settings: of ``verify.function``: ``timeout``, ``threshold``, ``sandbox``, ...

    Raises:
        BadInput: the function is defined where no other process can find it.
    """
    if function is None:
        return lambda given: verifier(given, **settings)
    name = f"{function.__module__}:{function.__qualname__}"
    if function.__module__ == "__main__" or "<" in function.__qualname__:
        raise BadInput(
            f"verifier '{function.__qualname__}' can't be found by other processes: write it to a module (in a "
            "notebook: %%writefile checks.py) and import it from there"
        )
    function.operator = VerifyFunction(function=name, **settings)  # type: ignore[attr-defined]
    return function


class _Watch:
    """Tells a callback what a run's observer hears."""

    def __init__(self, tell: Callable[[Moment], None]) -> None:
        self._tell = tell
        self._last = Moment("", {}, {}, 0)

    def update(self, manifest: RunManifest, live: dict[str, int]) -> None:
        done = {one.name: one.reused + one.computed + live.get(one.name, 0) for one in manifest.stages}
        planned = {one.name: one.planned for one in manifest.stages}
        tokens = sum(one.completion_tokens for one in manifest.stages)
        self._last = Moment(manifest.run_id, done, planned, tokens)
        self._tell(self._last)

    def say(self, text: str) -> None:
        last = self._last
        self._tell(Moment(last.run_id, last.done, last.planned, last.tokens, text))


def _job(
    pipeline: str | Pipeline,
    settings: Mapping[str, Any] | None,
    root: str,
    runner: str,
    address: str | None,
    limit: int | None,
    execution: Mapping[str, Any] | None,
) -> Job:
    if runner not in ("ray", "local"):
        raise BadInput(f"runner '{runner}': it is 'ray' or 'local'")
    if isinstance(pipeline, Pipeline):
        if settings:
            raise BadInput("a pipeline that was built in Python has its settings already; leave them out")
        done = RunSettings.model_validate({**(execution or {}), "limit": limit})
        return Job(pipeline, Root.at(root), runner, address, done, JobFile(pipeline=pipeline.name))
    file = JobFile.model_validate(
        {"pipeline": pipeline, "settings": nested(settings or {}), "runner": runner, "address": address,
         "limit": limit, "run": dict(execution or {})}
    )  # fmt: skip
    return resolve(file, root)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"sample.n": 4}`` as ``{"sample": {"n": 4}}``.

    Raises:
        BadInput: a key inside a value that is set before.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        value = getattr(value, "operator", value) if isinstance(value, FunctionType) else value
        place, last = place_of(found, key, f"setting '{key}'")
        place[last] = (
            {**place[last], **value} if isinstance(place.get(last), dict) and isinstance(value, dict) else value
        )
    return found


def _apart(work: Callable[[], Result]) -> Result:
    """Do something that starts an event loop, in a thread of its own where one runs here already (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
