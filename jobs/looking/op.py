"""``gristmill op``: one operator on plain Parquet, JSONL or CSV files, without a pipeline, a store, a run or Ray.

It is how people try one thing on their own data. Tables are taken leniently: ``problem_id`` serves where there is no
``problem_key``, rows are numbered where there is no ``sample_index``, one file may serve several inputs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from cluster.engines import build_engine
from cluster.sandbox import UNSAFE
from cluster.storage.tables import read_table, write_table
from cluster.working.work import run_operator
from jobs.config.settings import build_operator, explain, merge
from operators import operator_class
from operators.base import Operator
from operators.load import Load
from schemas.contract import Columns, conform, validate
from schemas.datasets import DATASETS, Problem, Verdict
from schemas.engine import AnyEngineSpec, LlamaCppSpec
from schemas.errors import BadInput


def run_op(
    name: str, inputs: Sequence[str], output: str, settings: Mapping[str, Any], unsafe: bool = False
) -> pl.DataFrame:
    """Run the operator ``name`` on files and write its result.

    Args:
        inputs: ``dataset=PATH`` each, or one bare ``PATH``.
        output: a path that ends in .parquet, .jsonl or .csv.
        settings: the operator's fields; for an operator that uses an engine, also ``engine``.
        unsafe: run programs that a model wrote without a sandbox.

    Raises:
        BadInput: no such operator, input, column or setting.
    """
    fields = dict(settings)
    engine_settings = fields.pop("engine", None)
    kind = operator_class(name)
    operator = build_operator({"operator": name, **_required_source(kind, inputs, fields)}, name)
    tables = _inputs(operator, {} if operator.scope == "source" else _named(operator, inputs))
    if "engine" not in operator.tools and engine_settings is not None:
        raise BadInput(f"{name} doesn't use an engine; leave engine settings out")
    lazy = operator.scope == "dataset"
    ready = {key: table.lazy() if lazy and table is not None else table for key, table in tables.items()}
    if unsafe and "sandbox" in operator.tools:
        Console(stderr=True).print(UNSAFE.format(stages=name), style="bold red")
    with _tools(operator, engine_settings or {}) as tools:
        result = validate(run_operator(operator, name, ready, unsafe, **tools), operator.output, name)
    write_table(result, output)
    return result


@contextmanager
def _tools(operator: Operator, engine_settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Load the engine for an operator that asks one; free it afterwards."""
    if "engine" not in operator.tools:
        yield {}
        return
    engine = build_engine(_engine_spec(engine_settings))
    try:
        yield {"engine": engine}
    finally:
        asyncio.run(engine.close())


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


def _inputs(operator: Operator, paths: Mapping[str, str]) -> dict[str, pl.DataFrame | None]:
    raw = {path: read_table(path) for path in set(paths.values())}
    raw = {path: _keyed(table) for path, table in _with_common_keys(raw).items()}
    shared = {path for path in raw if list(paths.values()).count(path) > 1}
    tables: dict[str, pl.DataFrame | None] = {}
    for name, columns in operator.inputs.items():
        if name in paths:
            path = paths[name]
            optional = name in operator.optional and path in shared
            tables[name] = _one(name, columns, raw[path], path, path in shared, optional)
        elif name == "problems" and "samples" in paths:
            tables[name] = _one(name, columns, raw[paths["samples"]], paths["samples"], True, False)
        elif name in operator.optional:
            tables[name] = None
        else:
            raise BadInput(f"{operator.public_name()} needs the input '{name}': give --in {name}=PATH")
    return tables


def _one(
    name: str, columns: Columns, table: pl.DataFrame, path: str, shared: bool, optional: bool
) -> pl.DataFrame | None:
    """Return one input's table; of a file that serves several inputs, the problems are its distinct problems."""
    if columns.contract is Problem:
        table = _as_problems(table, path, shared)
    elif "sample_index" in columns.names and "sample_index" not in table.columns:
        table = table.with_columns(sample_index=pl.int_range(pl.len()).over("problem_key"))
    if optional and not set(columns.names) & (set(table.columns) - {"problem_key", "problem_id"}):
        return None
    found = conform(table, columns, f"input {name} ({path})")
    if columns.contract is Verdict and "answer_class" in table.columns and "answer_key" in columns.names:
        found = found.with_columns(table["answer_class"])  # classes from elsewhere are used as they are
    return found


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


def _with_common_keys(tables: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Where one table knows both names of a problem and another only ``problem_id``, use the first one's keys."""
    both = [
        t.select("problem_id", "problem_key") for t in tables.values() if {"problem_id", "problem_key"} <= {*t.columns}
    ]
    if not both:
        return tables
    known = pl.concat([t.cast(pl.String) for t in both]).unique("problem_id")
    return {
        path: table
        if "problem_key" in table.columns or "problem_id" not in table.columns
        else table.with_columns(pl.col("problem_id").cast(pl.String)).join(known, on="problem_id", how="left")
        for path, table in tables.items()
    }


def _as_problems(table: pl.DataFrame, path: str, shared: bool) -> pl.DataFrame:
    """Bring problems under the contract's names (question -> prompt, ...), keeping the keys that samples have."""
    if "problem_key" not in table.columns:  # no id at all: the content is the key, as in a pipeline
        return Load(source=path).normalise(table)
    if shared:
        table = table.unique("problem_key", maintain_order=True)
        if "prompt" not in table.columns:
            table = table.with_columns(prompt="problem_key")  # nothing that reads this table looks at it
    keys = table["problem_key"]
    return Load(source=path).normalise(table.drop("problem_key")).with_columns(keys)
