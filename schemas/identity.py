"""What makes two results the same: canonical hashes of configurations, problems and seeds.

An identity is the part of a configuration that changes results. Fields that only say *how* something is executed
(slots, replicas, how many samples) are annotated with ``Execution`` and left out, so that moving a run to another
machine, or asking for more of it, never pays for anything twice. A field that a later version added is annotated with
``Added`` and left out while it has its default, so that an upgrade doesn't either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from typing import Any

import xxhash
from pydantic import BaseModel

from schemas.conversation import has_more, plain_turns, turns_dtype
from schemas.later import pl


class _Execution:
    """Marker for ``Annotated[T, Execution]``: the field is recorded, never hashed."""


class _Added:
    """Marker for ``Annotated[T, Added]``: the field came later, and isn't hashed while it has its default."""


class ExecutionKeys(frozenset[str]):
    """Marker for ``Annotated[dict, ExecutionKeys({...})]``: of this mapping, these keys are not hashed."""


Execution = _Execution()
Added = _Added()


def identity(model: BaseModel) -> dict[str, Any]:
    """Return the JSON-able part of ``model`` that changes results (see ``Execution``, ``Added``, ``ExecutionKeys``)."""
    found: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        marks, value = field.metadata, getattr(model, name)
        if any(isinstance(mark, _Execution) for mark in marks):
            continue
        for mark in marks:
            if isinstance(mark, ExecutionKeys):
                value = {key: item for key, item in value.items() if key not in mark}
        if any(isinstance(mark, _Added) for mark in marks) and value == field.get_default(call_default_factory=True):
            continue
        found[name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fingerprint = getattr(value, "fingerprint", None)  # an operator in an operator: its name and version count
        return identity(value) if fingerprint is None else fingerprint()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def digest(value: Any) -> str:
    """Return 32 hex digits of BLAKE2b over the canonical JSON of ``value``."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def digest_of(values: Iterable[Any]) -> str:
    """Return ``digest(list(values))``, without the list."""
    found = hashlib.blake2b(b"[", digest_size=16)
    for number, value in enumerate(values):
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        found.update(f"{',' if number else ''}{text}".encode())
    found.update(b"]")
    return found.hexdigest()


def difference(old: Any, new: Any, path: str = "") -> list[str]:
    """Name what changed between two identities: ``["sample.temperature 0.8 -> 1.0"]``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
        return [
            line
            for key in keys  # pyright: ignore[reportUnknownVariableType]
            for line in difference(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType]
        ]
    return [] if old == new else [f"{path} {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


PROBLEM_KEY_COLUMNS = ("prompt", "messages", "answer", "task_type", "verification")
"""What the prompt and the check depend on; `metadata` and `problem_id` are not part of a problem's content."""


def problem_keys(problems: pl.DataFrame) -> pl.Series:
    """Return the ``problem_key`` of each row: a hash of what its prompt and its check depend on."""
    columns = (*PROBLEM_KEY_COLUMNS, "tools")
    present = {name: kind for name, kind in problems.schema.items() if name in columns and kind != pl.Null}
    plain = {name: pl.col(name) for name, kind in present.items() if kind == pl.String and name != "tools"}
    if present.get("messages") == turns_dtype() and not has_more(problems["messages"]):
        turn = pl.element().struct
        plain["messages"] = pl.col("messages").list.eval(pl.struct(turn.field("content"), turn.field("role")))
    other = [pl.col(name).is_not_null() for name in present if name not in plain]
    whole = problems.select(
        text=pl.struct(
            plain.get(name, pl.lit(None, pl.String)).alias(name) for name in sorted(PROBLEM_KEY_COLUMNS)
        ).struct.json_encode(),  # writes such a row exactly as ``digest`` does
        other=pl.any_horizontal(pl.lit(False), *other),
    )
    keys = [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in whole["text"]]
    rows = problems.filter(whole["other"]).iter_rows(named=True)
    for place, row in zip(whole["other"].arg_true(), rows, strict=True):
        keys[place] = digest(_content(row))
    return pl.Series("problem_key", keys, dtype=pl.String)


def _content(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is hashed of a problem; what plain conversations don't have isn't hashed."""
    content = {name: row.get(name) for name in PROBLEM_KEY_COLUMNS}
    if content["messages"] is not None:
        said = [{name: value for name, value in turn.items() if value is not None} for turn in content["messages"]]
        content["messages"] = said
    return content if row.get("tools") is None else {**content, "tools": row["tools"]}


def sample_seed(base: int, problem_key: str, sample_index: int) -> int:
    """Return the seed of one sample, in [0, 2^31): it depends on nothing but these three."""
    return xxhash.xxh3_64_intdigest(f"{base}/{problem_key}/{sample_index}".encode()) & 0x7FFF_FFFF


def prompt_keys(problems: pl.DataFrame) -> pl.Series:
    """Return the ``prompt_key`` of each row: a hash of what the model reads, whatever the answer is said to be."""
    asked = [name for name in ("prompt", "messages", "tools") if name in problems.columns]
    return problem_keys(problems.select(asked)).alias("prompt_key")


def completion_hashes(texts: Iterable[str]) -> list[int]:
    """Return the signed 64-bit xxh3 of each text."""
    # xxh3 is a public, stable hash (Polars' own is not), and about a microsecond a row.
    return [((xxhash.xxh3_64_intdigest(text.encode()) + 2**63) % 2**64) - 2**63 for text in texts]


class TableDigest:
    """A content hash of a table that comes in pieces: its columns, dtypes and values in order.

    Conversations of plain turns, and no tools, count as what they were before there was more. A ``prompt_key`` follows
    from the rest.

    Args:
        more: the columns that have more in some piece (``more_in``).
    """

    def __init__(self, more: Collection[str]) -> None:
        self._more = more
        self._hash = hashlib.blake2b(digest_size=16)
        self._begun = False

    def add(self, table: pl.DataFrame) -> None:
        """Take the next rows."""
        table = table.drop("prompt_key", *(["tools"] if "tools" not in self._more else []), strict=False)
        plain = [name for name, kind in table.schema.items() if kind == turns_dtype() and name not in self._more]
        table = table.with_columns(plain_turns(name) for name in plain)
        if not self._begun:
            head = json.dumps([(name, str(dtype)) for name, dtype in table.schema.items()])
            self._hash.update(head.encode())
            self._begun = True
        self._hash.update(table.write_ndjson().encode())

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def more_in(table: pl.DataFrame) -> set[str]:
    """Return the columns that have what older tables can't: turns with more than a role and a content, tools."""
    found = {name for name, kind in table.schema.items() if kind == turns_dtype() and has_more(table[name])}
    return found | ({"tools"} if "tools" in table.columns and table["tools"].null_count() < len(table) else set())


def table_digest(table: pl.DataFrame) -> str:
    """Return the content hash of a whole table."""
    whole = TableDigest(more_in(table))
    whole.add(table)
    return whole.hexdigest()
