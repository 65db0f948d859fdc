"""What only a GPU can show of the vLLM engine; run by smoke.sh. Prints what it saw, and fails where that is wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from cluster.engines import build_engine
from operators.engine import Engine, Request
from schemas.engine import SamplingParams, VllmSpec

GREEDY = SamplingParams(max_tokens=32, temperature=0.0)


def used_megabytes() -> int:
    """Return what is allocated on all GPUs, in MiB."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return sum(int(line) for line in subprocess.check_output(command, text=True).split())


async def greedy(engine: Engine) -> str:
    prompt = await engine.render([{"role": "user", "content": "Name the four seasons."}])
    return (await engine.generate(Request(prompt, GREEDY, 0)))[0].text


async def sleeps_and_wakes(model: str) -> None:
    """An engine that takes turns gives its memory back, and says the same when it has it again."""
    engine = await asyncio.to_thread(
        build_engine, VllmSpec(model=model, context=2048, gpu_memory_utilization=0.5, takes_turns="smoke")
    )
    before, awake = await greedy(engine), used_megabytes()
    began = time.perf_counter()
    await engine.sleep()
    asleep, fell_asleep = used_megabytes(), time.perf_counter()
    await engine.wake()
    woke = time.perf_counter()
    after = await greedy(engine)
    await engine.close()
    print(
        f"sleep {fell_asleep - began:.2f} s, wake {woke - fell_asleep:.2f} s; GPU memory {awake:,} -> {asleep:,} MiB; "
        f"same text afterwards: {before == after}"
    )
    assert asleep < awake / 2, "the sleeping engine keeps its memory"
    assert before == after, "the engine says something else after it slept"


async def side_by_side(model: str) -> None:
    """Two engines live on one GPU, each in its fraction."""
    spec = VllmSpec(model=model, context=2048, gpus=0.5, gpu_memory_utilization=0.4)
    engines = [await asyncio.to_thread(build_engine, spec) for _ in range(2)]
    texts = await asyncio.gather(*[greedy(engine) for engine in engines])
    for engine in engines:
        await engine.close()
    print(f"two engines on one GPU: {'equal' if texts[0] == texts[1] else 'different'} greedy texts")


async def quantised(model: str) -> None:
    engine = await asyncio.to_thread(build_engine, VllmSpec(model=model, context=2048))
    text = await greedy(engine)
    await engine.close()
    print(f"quantised checkpoint {model}: {text[:80]!r}")
    assert text.strip(), "no text"


def main(model: str, quantised_model: str = "") -> None:
    asyncio.run(sleeps_and_wakes(model))
    asyncio.run(side_by_side(model))
    if quantised_model:
        asyncio.run(quantised(quantised_model))


if __name__ == "__main__":
    main(*sys.argv[1:])
