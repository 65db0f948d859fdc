"""distilabel's TextGeneration with OpenAILLM against an endpoint.

Each sample is a row of its own: its ``num_generations`` would ask for all of a problem's in one request (``n`` = 1,000,
which no vendor takes), and it has no other limit of what is in flight than the size of a batch.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "DISTILABEL_LOG_LEVEL": "WARNING"}  # before it is imported

from common import arguments, prompts, timed
from distilabel.models.llms import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

options = arguments()

if __name__ == "__main__":
    rows = [
        {"instruction": text, "problem": problem, "index": index}
        for problem, text in enumerate(prompts(options.problems))
        for index in range(options.samples)
    ]
    with Pipeline(name="bench", cache_dir=Path(options.out) / "cache") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=options.concurrency)
        llm = OpenAILLM(
            model="stub",
            base_url=options.url,
            api_key="none",
            generation_kwargs={"max_new_tokens": 64, "temperature": 1.0},
        )
        generate = TextGeneration(llm=llm, input_batch_size=options.concurrency)
        load >> generate

    def work() -> None:
        made = pipeline.run(use_cache=True)
        made["default"]["train"].to_parquet(str(Path(options.out) / "rows.parquet"))

    timed(work)
