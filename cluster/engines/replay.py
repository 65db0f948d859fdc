"""The replay engine: recorded samples played back. For trying operators and policies on what was paid for before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import polars as pl

from operators.engine import Completion, Engine, EngineError, EngineInfo, Request
from schemas.conversation import Turn
from schemas.engine import EngineSpec, ReplaySpec
from schemas.errors import BadInput

_OPTIONAL = (
    *("status", "error", "reasoning", "tool_calls", "finish_reason"),
    *("prompt_tokens", "cached_prompt_tokens", "completion_tokens"),
    *("sum_logprob", "mean_logprob", "lowest_group_confidence", "tail_confidence"),
    *("bottom_group_confidence", "mean_confidence"),
)


class ReplayEngine(Engine):
    """See ``schemas.engine.ReplaySpec``. Samples are found by problem_key, or by problem_id where it has no keys."""

    def __init__(self, spec: ReplaySpec) -> None:
        self.spec = spec
        self.capacity = spec.slots
        self.counts = False
        model, revision = self.resolve(spec)
        self.info = EngineInfo(
            model=model, revision=revision, family="replay", context=spec.context, logprobs="as recorded"
        )
        files = _files(spec.samples)
        table = pl.scan_parquet(files)
        columns = table.collect_schema().names()
        key = "problem_key" if "problem_key" in columns else "problem_id"
        lacking = {key, "sample_index", "completion"} - set(columns)
        if lacking:
            raise BadInput(f"'{spec.samples}' lacks column(s) {sorted(lacking)}; found {columns}")
        self._by_id = key == "problem_id"
        # Arrow memory holds each text once; the index is one integer a sample
        self._table = table.select(
            pl.col(key).cast(pl.String).alias("key"),
            pl.col("sample_index").cast(pl.Int64),
            "completion",
            *[name for name in _OPTIONAL if name in columns],
        ).collect()
        names = zip(self._table["key"], self._table["sample_index"], strict=True)
        self._rows = {f"{name}/{index}": row for row, (name, index) in enumerate(names)}

    @staticmethod
    def resolve(spec: EngineSpec) -> tuple[str, str]:
        """Return (model, hash of the recorded files)."""
        assert isinstance(spec, ReplaySpec)
        return spec.model, _hash(tuple(_files(spec.samples)))

    async def render(
        self, messages: Sequence[Turn], *, chat: bool = True, answered: bool = False, tools: Sequence[Turn] = ()
    ) -> str:
        return "\n".join(str(turn["content"]) for turn in messages)

    async def count_tokens(self, prompt: str) -> int:
        return len(prompt.split())

    async def generate(self, request: Request) -> list[Completion]:
        name = request.request_id
        if self._by_id:
            name = f"{request.problem_id}/{name.rpartition('/')[2]}"
        if name not in self._rows:
            raise EngineError(f"'{self.spec.samples}' holds no sample {name}")
        row = self._table.row(self._rows[name], named=True)
        if row.get("status") == "error":
            raise EngineError(f"sample {name} failed when it was recorded: {row.get('error')}")
        text = row["completion"] or ""
        prompt_tokens, completion_tokens = row.get("prompt_tokens"), row.get("completion_tokens")
        return [
            Completion(
                text=text,
                finish_reason=row.get("finish_reason") or "stop",
                prompt_tokens=len(request.prompt.split()) if prompt_tokens is None else prompt_tokens,
                cached_prompt_tokens=row.get("cached_prompt_tokens") or 0,
                completion_tokens=len(text.split()) if completion_tokens is None else completion_tokens,
                reasoning=row.get("reasoning"),
                tool_calls=row.get("tool_calls"),
                sum_logprob=row.get("sum_logprob"),
                mean_logprob=row.get("mean_logprob"),
                lowest_group_confidence=row.get("lowest_group_confidence"),
                tail_confidence=row.get("tail_confidence"),
                bottom_group_confidence=row.get("bottom_group_confidence"),
                mean_confidence=row.get("mean_confidence"),
            )
        ]

    async def close(self) -> None:
        self._rows = {}


def _files(place: str) -> list[str]:
    path = Path(place)
    files = [path] if path.is_file() else sorted(path.glob("**/*.parquet")) if path.is_dir() else []
    if not files:
        raise BadInput(f"engine.samples '{place}' is neither a Parquet file nor a folder of them")
    return [str(file) for file in files]


@cache
def _hash(files: tuple[str, ...]) -> str:
    whole = hashlib.blake2b(digest_size=16)
    for name in files:
        with open(name, "rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
