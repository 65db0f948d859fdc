"""distilabel's TextGeneration with OpenAILLM against an endpoint."""

from __future__ import annotations

import os
from pathlib import Path

from common import arguments, prompts, timed
from distilabel.models.llms import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

options = arguments()
os.environ["HF_HUB_OFFLINE"] = "1"

if __name__ == "__main__":
    with Pipeline(name="bench", cache_dir=Path(options.out) / "cache") as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": text} for text in prompts(options.problems)], batch_size=50)
        llm = OpenAILLM(
            model="stub",
            base_url=options.url,
            api_key="none",
            generation_kwargs={"max_new_tokens": 64, "temperature": 1.0},
        )
        generate = TextGeneration(llm=llm, num_generations=options.samples, input_batch_size=50)
        load >> generate

    def work() -> None:
        made = pipeline.run(use_cache=True)
        made["default"]["train"].to_parquet(str(Path(options.out) / "rows.parquet"))

    timed(work)
