"""Ray Data's map_batches with an asynchronous HTTP function, written to Parquet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import ray
import ray.data
from common import arguments, prompts, timed

options = arguments()
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
ray.data.DataContext.get_current().enable_progress_bars = False
WORKERS = 2


class Ask:
    """One batch of prompts, as many requests at once as its share of the concurrency."""

    def __init__(self) -> None:
        self.url = f"{options.url}/chat/completions"

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {**batch, "completion": asyncio.run(self._all(list(batch["prompt"])))}

    async def _all(self, texts: list[str]) -> list[str]:
        slots = asyncio.Semaphore(options.concurrency // WORKERS)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(text: str) -> str:
                body = {"model": "stub", "messages": [{"role": "user", "content": text}], "max_tokens": 64}
                async with slots, session.post(self.url, json=body) as response:
                    answer = await response.json()
                    return answer["choices"][0]["message"]["content"]

            return await asyncio.gather(*[one(text) for text in texts])


def work() -> None:
    rows = [
        {"problem": problem, "index": index, "prompt": text}
        for problem, text in enumerate(prompts(options.problems))
        for index in range(options.samples)
    ]
    dataset = ray.data.from_items(rows, override_num_blocks=max(2, len(rows) // 1000))
    asked = dataset.map_batches(Ask, batch_size=1000, concurrency=WORKERS, num_cpus=0.5)
    asked.write_parquet(str(Path(options.out) / "rows"))


ray.get(ray.remote(num_cpus=1)(lambda: None).remote())
timed(work)
