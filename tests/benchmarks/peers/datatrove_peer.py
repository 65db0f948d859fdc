"""datatrove's InferenceRunner against an endpoint, with and without its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import arguments, prompts, timed
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter

options = arguments()
CHUNK = max(1, min(100, options.problems // 10))
name = "${rank}_chunk_${chunk_index}.jsonl" if options.checkpoints else "${rank}.jsonl"


async def rollout(document: Document, generate: Any, **kwargs: Any) -> Any:
    turn = {"role": "user", "content": document.text}
    result = await generate({"messages": [turn], "max_tokens": 64, "temperature": 1.0})
    return result.text


runner = InferenceRunner(
    rollout_fn=rollout,
    config=InferenceConfig(
        server_type="endpoint",
        endpoint_url=options.url.removesuffix("/v1"),
        model_name_or_path="stub",
        rollouts_per_document=options.samples,
        max_concurrent_generations=options.concurrency,
        # its own default would let one document at a time wait for its slowest rollout
        max_concurrent_documents=max(8, options.concurrency // options.samples),
        metric_interval=3600,
    ),
    output_writer=JsonlWriter(options.out, output_filename=name, compression=None),
    checkpoints_local_dir=str(Path(options.out) / "checkpoints") if options.checkpoints else None,
    records_per_chunk=CHUNK,
)
documents = [Document(text=text, id=str(i)) for i, text in enumerate(prompts(options.problems))]
executor = LocalPipelineExecutor(
    pipeline=[documents, runner], logging_dir=str(Path(options.out) / "logs"), tasks=1, workers=1
)
timed(executor.run)
