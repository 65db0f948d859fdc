"""``gristmill op``: one operator on plain Parquet, JSONL or CSV files, without a pipeline, a store, a run or Ray.

It is how people try one thing on their own data. Tables are taken leniently: ``problem_id`` serves where there is no
``problem_key``, rows are numbered where there is no ``sample_index``, one file may serve several inputs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from cluster.engines import build_engine
from cluster.planning.content import check_problems
from cluster.records.timeline import Timeline
from cluster.sandbox import UNSAFE
from cluster.sandbox.memory_group import uncounted
from cluster.storage.tables import read_rows, typed, write_table
from cluster.working.desk import Desk, Meter
from cluster.working.work import run_operator
from jobs.config.settings import build_operator, explain, merge
from operators import operator_class
from operators.base import Operator
from operators.load import Load
from operators.load.checks import Notes
from operators.load.recorded import COMPLETION_NAMES, as_samples
from operators.load.rows import Rows
from schemas.contract import Columns, conform, polars_schema, validate
from schemas.datasets import DATASETS, Answer, Problem, Sample, Score, Verdict
from schemas.engine import AnyEngineSpec, LlamaCppSpec
from schemas.errors import BadInput, StageFailed
from schemas.identity import digest


def run_op(
    name: str,
    inputs: Sequence[str],
    output: str,
    settings: Mapping[str, Any],
    unsafe: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> pl.DataFrame:
    """Run the operator ``name`` on files and write its result.

    Args:
        inputs: ``dataset=PATH`` each, or one bare ``PATH``.
        output: a path that ends in .parquet, .jsonl or .csv.
        settings: the operator's fields; for an operator that uses an engine, also ``engine``; and ``columns``, which
            names columns of recorded samples: ``{completion: generation}``.
        unsafe: run programs that a model wrote without a sandbox.
        tell: hears what there is to say of the inputs and the result, a sentence at a time.

    Raises:
        BadInput: no such operator, input, column or setting.
        StageFailed: no sample could be judged; what is known of each is written.
    """
    fields = dict(settings)
    engine_settings = fields.pop("engine", None)
    kind = operator_class(name)
    columns = {} if "columns" in kind.model_fields else fields.pop("columns", {})
    operator = build_operator({"operator": name, **_required_source(kind, inputs, fields)}, name)
    _check_output([*inputs, *([str(operator.source)] if isinstance(operator, Load) else [])], output)
    notes = Notes()
    tables = _inputs(operator, {} if operator.scope == "source" else _named(operator, inputs), columns, notes)
    if "engine" not in operator.tools and engine_settings is not None:
        raise BadInput(f"{name} doesn't use an engine; leave engine settings out")
    lazy = frozenset(tables) if operator.scope == "dataset" else operator.lazy
    ready = {key: table.lazy() if key in lazy and table is not None else table for key, table in tables.items()}
    if unsafe and "sandbox" in operator.tools:
        Console(stderr=True).print(UNSAFE.format(stages=name), style="bold red")
    elif "sandbox" in operator.tools and (weaker := uncounted()) is not None:
        tell(weaker)
    with _tools(operator, engine_settings or {}, tables) as tools:
        made = (
            operator.read(notes) if isinstance(operator, Load) else run_operator(operator, name, ready, unsafe, **tools)
        )
        result = validate(made, operator.output, name)
    write_table(result, output)
    for sentence in notes.sentences():
        tell(sentence)
    if operator.output is Verdict:
        _tell_unjudged(name, result, tables.get("problems"), output, tell)
    return result


def who_asks(name: str) -> str:
    """Return the operator that chooses the samples whose labels would tell ``name`` most.

    Raises:
        BadInput: it reads no labels.
    """
    asks = operator_class(name).asks
    if asks is None:
        raise BadInput(f"{name} reads no labels, so --next has nothing to ask for; measure.verifier_audit does")
    return asks


def _tell_unjudged(
    name: str, verdicts: pl.DataFrame, problems: pl.DataFrame | None, output: str, tell: Callable[[str], None]
) -> None:
    """Tell which samples have no verdict.

    Raises:
        StageFailed: every sample that could be judged ended in an error.
    """
    failed = verdicts.filter(pl.col("status").is_in(["error", "timeout"]))
    if len(failed):
        row = failed.row(0, named=True)
        why = f"the first of problem '{row['problem_id']}': {row['detail'] or row['status']}"
        if not (verdicts["is_correct"].is_not_null()).any():
            raise StageFailed(f"{name}: none of {len(verdicts):,} samples could be judged, {why}. All are in {output}")
        tell(f"{len(failed):,} of {len(verdicts):,} samples couldn't be judged, {why}")
    if problems is not None and {"answer", "verification"} <= {*problems.columns}:
        nothing = problems.filter(pl.col("answer").is_null() & pl.col("verification").is_null())
        if len(nothing):
            first = nothing["problem_id" if "problem_id" in nothing.columns else "problem_key"][0]
            tell(f"{len(nothing):,} of {len(problems):,} problems have no answer (the first is '{first}')")


@contextmanager
def _tools(
    operator: Operator, engine_settings: Mapping[str, Any], tables: Mapping[str, pl.DataFrame | None]
) -> Iterator[dict[str, Any]]:
    """Load the engine for an operator that asks one, where it can show what it is asked; free it afterwards."""
    if "engine" not in operator.tools:
        yield {}
        return
    spec = _engine_spec(engine_settings)
    for table in tables.values():
        if table is not None:
            check_problems(operator, spec, table)
    engine = build_engine(spec)
    try:
        yield {"engine": Desk(engine, Meter(Timeline(""), None), getattr(operator, "retries", 0))}
    finally:
        asyncio.run(engine.close())


def _check_output(inputs: Sequence[str], output: str) -> None:
    """Refuse to write over what is read.

    Args:
        inputs: as of ``run_op``, and what the operator reads by its own settings.

    Raises:
        BadInput: the output is one of the inputs, under whatever name, or lies in one.
    """
    place = Path(output).resolve()
    for given in inputs:
        for path in (given, given.partition("=")[2]):
            for found in [path] if Path(path).exists() else glob(path):
                read = Path(found).resolve()
                if path and (read in (place, *place.parents) or (place.exists() and place.samefile(read))):
                    raise BadInput(f"--out '{output}' would be written over the input '{found}': name another file")


def _required_source(kind: type[Operator], inputs: Sequence[str], fields: dict[str, Any]) -> dict[str, Any]:
    """Let ``op load --in FILE`` mean ``--set source=FILE``."""
    if kind.scope == "source" and inputs and "source" not in fields:
        return {**fields, "source": inputs[0].removeprefix("source=")}
    return fields


def _engine_spec(settings: Mapping[str, Any]) -> Any:
    merged = merge(LlamaCppSpec().model_dump(mode="json"), settings)
    try:
        return TypeAdapter(AnyEngineSpec).validate_python(merged)
    except ValidationError as error:
        raise BadInput(explain(error, "engine", merged, prefix="engine")) from error


def _named(operator: Operator, inputs: Sequence[str]) -> dict[str, str]:
    """Return input name -> path. A bare path serves every input that isn't named; datasets that aren't read are left
    out."""
    named: dict[str, str] = {}
    bare: list[str] = []
    for text in inputs:
        key, equals, path = text.partition("=")
        if equals and key in operator.inputs:
            named[key] = path
        elif equals and key in DATASETS:
            continue  # the same files can be given to every operator of a kind
        elif equals and "/" not in key and "." not in key:
            raise BadInput(f"{operator.public_name()} has no input '{key}'; it has {', '.join(operator.inputs)}")
        else:
            bare.append(text)
    if len(bare) > 1:
        raise BadInput(f"name the inputs: --in NAME=PATH with NAME one of {', '.join(operator.inputs)}")
    if not bare and not named:
        raise BadInput(f"{operator.public_name()} reads {', '.join(operator.inputs)}: give --in NAME=PATH")
    for name in operator.inputs:
        if bare and name not in named:
            named[name] = bare[0]
    return named


@dataclass(frozen=True)
class _File:
    """One file that serves as input: its rows as they are written, and as a table with the names of its problems."""

    path: str
    rows: Rows
    table: pl.DataFrame


def _inputs(
    operator: Operator, paths: Mapping[str, str], columns: Mapping[str, Any], notes: Notes
) -> dict[str, pl.DataFrame | None]:
    files = _with_common_keys({path: _read(operator, path, paths, columns, notes) for path in set(paths.values())})
    shared = {path for path in files if list(paths.values()).count(path) > 1}
    tables: dict[str, pl.DataFrame | None] = {}
    for name, wanted in operator.inputs.items():
        if name in paths:
            path = paths[name]
            optional = name in operator.optional and path in shared
            tables[name] = _one(name, wanted, files[path], path in shared, optional)
        elif name == "problems" and "samples" in paths:
            tables[name] = _one(name, wanted, files[paths["samples"]], True, False)
        elif name in operator.optional:
            tables[name] = None
        else:
            raise BadInput(f"{operator.public_name()} needs the input '{name}': give --in {name}=PATH")
    _refuse_strangers(tables, paths)
    _refuse_repetitions(operator, tables)
    return tables


def _refuse_repetitions(operator: Operator, tables: Mapping[str, pl.DataFrame | None]) -> None:
    """Refuse samples, verdicts, scores and answers that are there twice: they would count twice.

    Raises:
        BadInput: naming one of them.
    """
    for name, rows in tables.items():
        contract = operator.inputs[name].contract
        key = contract.primary_key()
        if rows is None or contract not in (Sample, Verdict, Score, Answer) or not set(key) <= set(rows.columns):
            continue
        again = rows.select(key).filter(pl.struct(key).is_duplicated())
        if len(again):
            one = ", ".join(f"{column}={value}" for column, value in again.row(0, named=True).items())
            raise BadInput(
                f"input '{name}': {len(again):,} of {len(rows):,} rows aren't the only ones of their {', '.join(key)} "
                f"(for example {one}); each must be there once"
            )


def _read(operator: Operator, path: str, paths: Mapping[str, str], columns: Mapping[str, Any], notes: Notes) -> _File:
    """Read one file; recorded samples of other tools get our names."""
    rows = read_rows(path)
    served = [name for name, other in paths.items() if other == path]
    if any("completion" in operator.inputs[name].names for name in served):
        rows = as_samples(rows, _named_columns(columns, served), path, notes)
        if "completion" not in rows.columns:
            raise BadInput(
                f"'{path}' has no completions: found {rows.columns}, known are completion, "
                f"{', '.join(COMPLETION_NAMES)}. Name the column: --set columns.completion=NAME"
            )
    table = typed(rows)
    known = {old: new for old, new in operator.synonyms.items() if old in table.columns and new not in table.columns}
    table = _keyed(table.rename(known))
    if "problem_key" not in table.columns and "samples" in paths and {*served} & {"samples", "problems"}:
        table = _keyed(table.with_columns(_prompt_ids(rows, path)))
    return _File(path, rows, table)


def _prompt_ids(rows: Rows, path: str) -> pl.Series:
    """Return ids for rows that have none: equal prompts are one problem, rows without a prompt one each."""
    try:
        texts = Load(source=path).prompts_of(rows)["text"]
    except BadInput:  # there is no prompt: nothing that reads these rows looks at it
        texts = pl.Series([f"row {number}" for number in range(1, len(rows) + 1)], dtype=pl.String)
    return pl.Series("problem_id", [digest(text)[:12] for text in texts])


def _named_columns(columns: Mapping[str, Any], served: Sequence[str]) -> dict[str, str]:
    """Return which column is named for what: for all inputs, or under an input's own name."""
    named = {str(key): value for key, value in columns.items() if isinstance(value, str)}
    for name in served:
        own = columns.get(name)
        named |= {str(key): str(value) for key, value in own.items()} if isinstance(own, Mapping) else {}
    return named


def _one(name: str, columns: Columns, file: _File, shared: bool, optional: bool) -> pl.DataFrame | None:
    """Return one input's table; of a file that serves several inputs, the problems are its distinct problems."""
    table = file.table
    if columns.contract is Problem:
        table = _as_problems(file, shared)
    elif "sample_index" in columns.names and "sample_index" not in table.columns:
        table = table.with_columns(sample_index=pl.int_range(pl.len()).over("problem_key"))
    if optional and not set(columns.names) & (set(table.columns) - {"problem_key", "problem_id"}):
        return None
    found = conform(table, columns, f"input {name} ({file.path})")
    if columns.contract is Verdict and "answer_class" in table.columns and "answer_key" in columns.names:
        found = found.with_columns(table["answer_class"])  # classes from elsewhere are used as they are
    return found


def _refuse_strangers(tables: Mapping[str, pl.DataFrame | None], paths: Mapping[str, str]) -> None:
    """Refuse samples of problems that aren't there: all they could get are verdicts that say nothing."""
    problems, samples = tables.get("problems"), tables.get("samples")
    if problems is None or samples is None or not {"problem_key"} <= {*problems.columns} & {*samples.columns}:
        return
    known = problems["problem_key"].implode()
    strange = samples.filter(~pl.col("problem_key").is_in(known).fill_null(False))
    if len(strange):
        name = "problem_id" if "problem_id" in strange.columns else "problem_key"
        there = problems[name if name in problems.columns else "problem_key"].head(3).to_list()
        asked = ", ".join(map(repr, strange[name].unique(maintain_order=True).head(3)))
        raise BadInput(
            f"{len(strange):,} of {len(samples):,} samples ({paths.get('samples')}) are of problems that aren't in "
            f"{paths.get('problems', 'it')}: {asked}; the problems there are {', '.join(map(repr, there))}, ... Give "
            "both the same problem_id"
        )


def _keyed(table: pl.DataFrame) -> pl.DataFrame:
    """Give a table both names of its problem, as strings."""
    for alias in ("problem_index", "id", "unique_id", "task_id"):
        if not {"problem_id", "problem_key"} & set(table.columns) and alias in table.columns:
            table = table.rename({alias: "problem_id"})
    if "problem_id" in table.columns and "problem_key" not in table.columns:
        table = table.with_columns(problem_key=pl.col("problem_id").cast(pl.String))
    elif "problem_key" in table.columns and "problem_id" not in table.columns:
        table = table.with_columns(problem_id=pl.col("problem_key").cast(pl.String))
    return table


def _with_common_keys(files: dict[str, _File]) -> dict[str, _File]:
    """Where one table knows both names of a problem and another only ``problem_id``, use the first one's keys."""
    both = [
        file.table.select("problem_id", "problem_key")
        for file in files.values()
        if {"problem_id", "problem_key"} <= {*file.table.columns}
    ]
    if not both:
        return files
    known = pl.concat([table.cast(pl.String) for table in both]).unique("problem_id")
    return {
        path: file
        if "problem_key" in file.table.columns or "problem_id" not in file.table.columns
        else replace(
            file,
            table=file.table.with_columns(pl.col("problem_id").cast(pl.String)).join(
                known, on="problem_id", how="left"
            ),
        )
        for path, file in files.items()
    }


def _as_problems(file: _File, shared: bool) -> pl.DataFrame:
    """Bring problems under the contract's names (question -> prompt, ...), keeping the keys that samples have."""
    load, rows, table = Load(source=file.path), file.rows, file.table
    if "problem_key" not in table.columns:  # no id at all: the content is the key, as in a pipeline
        return load.normalise(rows)
    own = ["problem_key", "problem_id"]
    rows = rows.select(name for name in rows.columns if name not in own).with_columns(
        *(table[name].cast(pl.String) for name in own)
    )
    if shared:
        first = table["problem_key"].is_first_distinct().arg_true().to_list()
        said = {*polars_schema(Sample)} - {"problem_key", "problem_id"}
        rows = rows.take(first).select(name for name in rows.columns if name not in said)
        if "prompt" not in rows.columns:
            rows = rows.with_columns(rows.table["problem_key"].alias("prompt"))  # nothing that reads it looks at it
    keys = rows.table["problem_key"]
    found = load.normalise(rows.select(name for name in rows.columns if name != "problem_key"))
    return found.with_columns(keys)
