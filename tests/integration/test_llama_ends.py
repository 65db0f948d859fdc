"""llama.cpp's server ends when it is told to, however early that is."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio
from cluster.engines import build_engine
from schemas.engine import LlamaCppSpec

async def once():
    engine = build_engine(LlamaCppSpec(slots=1, context=64))
    await engine.close()

for _ in range(4):
    asyncio.run(once())
print("ended")
"""


def test_engines_that_nobody_asked_anything_end() -> None:
    programs = [subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:  # several at once: a busy machine is what it takes
        assert [program.communicate(timeout=120)[0] for program in programs] == ["ended\n"] * 3
    finally:
        for program in programs:
            program.kill()
