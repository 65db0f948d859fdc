"""What share of an engine's own speed a pipeline's sampling stage gets: the same requests, driven bare and by us.

    python -m tests.benchmarks.engine_share                                   # llama.cpp
    .venv-vllm/bin/python -m tests.benchmarks.engine_share --engine vllm      # vLLM's CPU build
    python -m tests.benchmarks.engine_share --engine vllm --model Qwen/Qwen3-8B --samples 1000     # on a GPU

16 problems x 32 samples of mixed lengths, in turn: *bare* gives all requests to the engine's own interface at once and
waits (nothing is written); *local* and *ray* run load -> sample -> verify with everything durable. Each in a process of
its own, from the first request to the last answer, loading left out; ``end`` is from there to the run's end.
All of them share the machine's cores. Ratios are of the same round.

Where the rest went, from the actors' timelines: *idle* is the share of the time in which the engine had no request at
all; *not full* that in which it had fewer than it decodes at once (the tail of the last problem, mostly).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster.driving.driver import run_pipeline
from operators.load import Load
from operators.sample.sampling import Sampling
from operators.verify.exact import VerifyExact
from pipelines.graph import Pipeline
from schemas.engine import LlamaCppSpec, VllmSpec
from schemas.identity import problem_keys, sample_seed

PROBLEMS, MAX_TOKENS = 16, 24
QUESTIONS = (
    "Name a colour.",
    "What is 17 + 25?",
    "Write one sentence about the sea.",
    "List three animals that live in a forest, and say one thing about each of them.",
    "A train leaves at 9:40 and arrives at 11:15. How long does it take? Explain how you found out.",
)


def specification(engine: str, model: str = "") -> LlamaCppSpec | VllmSpec:
    """Return the engine: small ones on the CPU, or ``model`` in vLLM on a GPU."""
    if engine == "llama_cpp":
        return LlamaCppSpec(slots=8, context=512)
    if model:
        return VllmSpec(model=model, slots=256, context=2048)
    from tests.with_vllm.models import SMOLLM2

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GB; without it vLLM wants nearly all of the machine's memory
    kwargs = {"enforce_eager": True}
    return VllmSpec(model=str(SMOLLM2), gpus=0, slots=16, context=512, dtype="float32", engine_kwargs=kwargs)


def write_problems(folder: Path) -> Path:
    """Write questions of different lengths, some with a long preamble."""
    rows = [
        {"id": f"p{number}", "prompt": "Think before you answer. " * (4 * (number % 3)) + text, "answer": "42"}
        for number, text in (
            (number, QUESTIONS[number % len(QUESTIONS)] + f" ({number})") for number in range(PROBLEMS)
        )
    ]
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sampling(samples: int) -> Sampling:
    return Sampling(n=samples, max_tokens=MAX_TOKENS)


def bare_requests(source: Path, samples: int) -> list[tuple[list[dict[str, str]], int]]:
    """Return (conversation, seed) of every sample, as the pipeline draws them."""
    problems = Load(source=str(source)).run()
    keys = problem_keys(problems)
    operator = sampling(samples)
    return [
        (operator.messages(row), sample_seed(operator.seed, key, index))
        for key, row in zip(keys, problems.iter_rows(named=True), strict=True)
        for index in range(samples)
    ]


async def bare_vllm(source: Path, spec: VllmSpec, samples: int) -> dict[str, Any]:
    """Give everything to AsyncLLM as it is."""
    from vllm import SamplingParams, TokensPrompt  # pyright: ignore
    from vllm.engine.arg_utils import AsyncEngineArgs  # pyright: ignore
    from vllm.sampling_params import RequestOutputKind  # pyright: ignore
    from vllm.v1.engine.async_llm import AsyncLLM  # pyright: ignore

    from cluster.engines.vllm.arguments import arguments

    engine = await asyncio.to_thread(AsyncLLM.from_engine_args, AsyncEngineArgs(**arguments(spec)))
    tokenizer = engine.get_tokenizer()
    ids: dict[str, list[int]] = {}
    requests: list[tuple[list[int], int]] = []
    for turns, seed in bare_requests(source, samples):
        name = json.dumps(turns)
        if name not in ids:
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            ids[name] = tokenizer.encode(text, add_special_tokens=False)
        requests.append((ids[name], seed))

    async def one(number: int, prompt: list[int], seed: int) -> int:
        params = SamplingParams(
            max_tokens=MAX_TOKENS, seed=seed, logprobs=0, flat_logprobs=True, output_kind=RequestOutputKind.FINAL_ONLY
        )
        found: Any = None
        async for output in engine.generate(TokensPrompt(prompt_token_ids=prompt), params, str(number)):
            found = output
        return len(found.outputs[0].token_ids)

    began = time.time()
    tokens = await asyncio.gather(*[one(i, prompt, seed) for i, (prompt, seed) in enumerate(requests)])
    ended = time.time()
    engine.shutdown()
    return {"tokens": sum(tokens), "samples": len(tokens), "seconds": ended - began}


async def bare_llama_cpp(source: Path, spec: LlamaCppSpec, samples: int) -> dict[str, Any]:
    """Ask llama.cpp's server from as many threads as it has slots, through its own binding."""
    from concurrent.futures import ThreadPoolExecutor

    import xllamacpp

    from cluster.engines.llama_cpp import _parameters, find_model

    server: Any = xllamacpp.Server(_parameters(spec, find_model(spec.model), "unused"))

    def one(request: tuple[list[dict[str, str]], int]) -> int:
        turns, seed = request
        body = {
            "messages": turns,
            "max_tokens": MAX_TOKENS,
            "seed": seed,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "samplers": ["top_k", "top_p", "min_p", "temperature"],
            "repeat_penalty": 1.0,
            "cache_prompt": True,
            "logprobs": True,
        }
        return int(server.handle_chat_completions(body)["usage"]["completion_tokens"])

    requests = bare_requests(source, samples)
    with ThreadPoolExecutor(spec.slots + 2) as threads:
        began = time.time()
        tokens = list(threads.map(one, requests))
        ended = time.time()
    return {"tokens": sum(tokens), "samples": len(tokens), "seconds": ended - began}


def piped(spec: LlamaCppSpec | VllmSpec, source: Path, samples: int, runner_name: str, folder: Path) -> dict[str, Any]:
    """Run the pipeline; return what its sampling stage did, by the workers' own timelines."""
    if runner_name == "ray":
        from cluster.ray.runner import RayRunner

        runner: Any = RayRunner()
    else:
        from cluster.runners.local import LocalRunner

        runner = LocalRunner()
    pipeline = Pipeline("share")
    problems = pipeline.stage("load", Load(source=str(source)))
    drawn = pipeline.stage("sample", sampling(samples), engine=spec, problems=problems)
    pipeline.stage("verify", VerifyExact(), problems=problems, samples=drawn)
    try:
        result = run_pipeline(pipeline, runner, str(folder))
    finally:
        ended = time.time()
        runner.close()
    assert result.manifest.state == "done"
    stage = next(record for record in result.manifest.stages if record.name == "sample")
    [replica] = stage.replicas
    return {
        "tokens": replica.completion_tokens,
        "samples": stage.computed,
        "seconds": replica.last - replica.first,
        "end": ended - replica.first,
        "idle": 1 - replica.busy_share,
    }


def child(options: argparse.Namespace) -> None:
    """Measure once, in a process of its own; print one line of JSON."""
    folder = Path(options.folder)
    source, spec = write_problems(folder), specification(options.engine, options.model)
    if options.child == "ray-data":
        from cluster.engines.vllm.arguments import arguments
        from tests.benchmarks.peers.ray_data_llm_peer import speed

        assert isinstance(spec, VllmSpec)
        found = speed(bare_requests(source, options.samples), arguments(spec), MAX_TOKENS)
    elif options.child != "bare":
        found = piped(spec, source, options.samples, options.child, folder / "data")
    elif isinstance(spec, VllmSpec):
        found = asyncio.run(bare_vllm(source, spec, options.samples))
    else:
        found = asyncio.run(bare_llama_cpp(source, spec, options.samples))
    print("FOUND " + json.dumps(found), flush=True)
    os._exit(0)  # what engines do at the end of a process is not measured


def measured(mode: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.engine_share", "--child", mode, "--engine", options.engine]
    command += ["--model", options.model, "--samples", str(options.samples)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, "--folder", folder], capture_output=True, text=True, timeout=3600)
    line = next((line for line in done.stdout.splitlines() if line.startswith("FOUND ")), None)
    assert line is not None, done.stderr[-3000:]
    found = json.loads(line.removeprefix("FOUND "))
    return {**found, "rate": found["tokens"] / found["seconds"], "load": os.getloadavg()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["llama_cpp", "vllm"], default="llama_cpp")
    parser.add_argument("--model", default="", help="a model for vLLM on a GPU; by default SmolLM2 on the CPU")
    parser.add_argument("--samples", type=int, default=32, help="for each of the 16 problems")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", default="bare,local,ray", help="also ray-data: Ray Data's LLM processor (vLLM)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
    modes = options.modes.split(",")
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(options.rounds):
        order = modes[number % len(modes) :] + modes[: number % len(modes)]  # each is first once
        rounds.append({})
        for mode in order:
            found = rounds[-1][mode] = measured(mode, options)
            idle = f", idle {100 * found['idle']:.2f}%, end after {found['end']:.1f} s" if "idle" in found else ""
            print(
                f"round {number + 1} {mode:6} {found['rate']:7.1f} tokens/s ({found['samples']} samples, "
                f"{found['tokens']:,} tokens, {found['seconds']:.1f} s{idle}, load {found['load']:.1f})",
                flush=True,
            )
    for mode in modes:
        rates = [found[mode]["rate"] for found in rounds]
        said = f"{mode:6} median {statistics.median(rates):7.1f} tokens/s [{min(rates):.1f}, {max(rates):.1f}]"
        if mode != "bare" and "bare" in modes:
            shares = [found[mode]["rate"] / found["bare"]["rate"] for found in rounds]
            said += f"   share of bare {statistics.median(shares):.3f} [{min(shares):.3f}, {max(shares):.3f}]"
        print(said)


if __name__ == "__main__":
    main()
