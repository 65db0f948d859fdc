"""Ray Data's map_batches with an asynchronous HTTP function, written to Parquet; with and without its checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.data.checkpoint import CheckpointConfig

from tests.benchmarks.peers.common import arguments, prompts, timed

BATCH = 1000
"""Rows a batch; the actor works on several at a time, so one's slowest request doesn't hold up the others."""


class Ask:
    """An asynchronous actor: all its batches share the connections and the limit."""

    def __init__(self, url: str, concurrency: int) -> None:
        self.url = f"{url}/chat/completions"
        self.slots = asyncio.Semaphore(concurrency)
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        if self.session is None:
            self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        yield {**batch, "completion": await asyncio.gather(*[self._one(str(text)) for text in batch["prompt"]])}

    async def _one(self, text: str) -> str:
        assert self.session is not None
        body = {"model": "stub", "messages": [{"role": "user", "content": text}], "max_tokens": 64}
        async with self.slots, self.session.post(self.url, json=body) as response:
            return (await response.json())["choices"][0]["message"]["content"]


def main() -> None:
    options = arguments()
    out = Path(options.out)
    total = options.problems * options.samples
    batch = min(BATCH, max(1, total // 2))
    (out / "in").mkdir(exist_ok=True)
    texts = [text for text in prompts(options.problems) for _ in range(options.samples)]
    ids = [f"{i // options.samples}/{i % options.samples}" for i in range(total)]
    for first in range(0, total, batch):  # files as blocks: its checkpoints filter what is read
        part = pa.table({"id": ids[first : first + batch], "prompt": texts[first : first + batch]})
        pq.write_table(part, out / "in" / f"{first:08}.pq")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    if options.checkpoints:
        context.checkpoint_config = CheckpointConfig("id", str(out / "checkpoints"), delete_checkpoint_on_success=False)
    ray.get(ray.remote(num_cpus=1)(lambda: None).remote())

    def work() -> None:
        read = ray.data.read_parquet(str(out / "in"), file_extensions=["pq"])
        asked = read.map_batches(
            Ask,
            fn_constructor_args=(options.url, options.concurrency),
            batch_size=batch,
            concurrency=1,
        )
        asked.write_parquet(str(out / "rows"))

    timed(work)


if __name__ == "__main__":
    main()
