"""Ray Data's own LLM processor on vLLM: the same conversations and parameters, one row a sample (it keeps one of n).

Its engine lives and dies with a dataset's execution and tells nothing of when it was ready, so the speed is told by two
executions, a small one and the whole: the tokens between them over the seconds between them.
"""

from __future__ import annotations

import time
from typing import Any

import ray
import ray.data
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

SMALL = 32


def speed(
    requests: list[tuple[list[dict[str, str]], int]], arguments: dict[str, Any], max_tokens: int
) -> dict[str, Any]:
    """Return tokens, samples and seconds of what the whole has more than the small one."""
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    kept = {name: value for name, value in arguments.items() if name not in ("model", "runner")}
    config = vLLMEngineProcessorConfig(
        model_source=arguments["model"],
        engine_kwargs=kept,
        log_engine_metrics=False,  # they need Ray's own metrics extra
        batch_size=64,
        concurrency=1,
        accelerator_type=None,
        placement_group_config={"bundles": [{"CPU": 1}]},
    )
    processor = build_processor(
        config,
        preprocess=lambda row: {
            "messages": row["messages"],
            "sampling_params": {"max_tokens": max_tokens, "temperature": 1.0, "seed": row["seed"], "logprobs": 0},
        },
        postprocess=lambda row: {"tokens": row["num_generated_tokens"]},
    )

    def measured(part: list[tuple[list[dict[str, str]], int]]) -> tuple[float, int]:
        began = time.time()
        rows = ray.data.from_items([{"messages": turns, "seed": seed} for turns, seed in part])
        tokens = sum(row["tokens"] for row in processor(rows).take_all())
        return time.time() - began, tokens

    few_seconds, few_tokens = measured(requests[:SMALL])
    seconds, tokens = measured(requests)
    return {"tokens": tokens - few_tokens, "samples": len(requests) - SMALL, "seconds": seconds - few_seconds}
