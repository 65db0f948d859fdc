"""What the peers' scripts share: their arguments, and telling when they are ready and done. Standard library only."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable


def arguments() -> argparse.Namespace:
    """Return --url, --problems, --samples, --concurrency, --out, and whether to keep checkpoints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--problems", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--out", required=True)
    parser.add_argument("--checkpoints", action="store_true")
    return parser.parse_args()


def prompts(count: int) -> list[str]:
    """Return the problems' prompts."""
    return [f"What is {i} + {i % 7}?" for i in range(count)]


def timed(work: Callable[[], object]) -> None:
    """Say that start-up is over, work, say how long it took."""
    print("READY", flush=True)
    began = time.perf_counter()
    work()
    print("DONE " + json.dumps({"seconds": time.perf_counter() - began}), flush=True)
