"""What the peers' scripts share: their arguments, and telling when they are ready and done. Standard library only."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable


def arguments() -> argparse.Namespace:
    """Return --url, --problems, --samples, --concurrency, --out; --checkpoints and --ray where a tool has them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--problems", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--out", required=True)
    parser.add_argument("--checkpoints", action="store_true")
    parser.add_argument("--ray", action="store_true")
    return parser.parse_args()


def prompts(count: int) -> list[str]:
    """Return the problems' prompts."""
    return [f"What is {i} + {i % 7}?" for i in range(count)]


def timed(work: Callable[[], object]) -> None:
    """Tell that start-up is over, work, tell that it is done; times are of the machine's monotonic clock."""
    print("READY " + json.dumps({"at": time.monotonic()}), flush=True)
    work()
    print("DONE " + json.dumps({"at": time.monotonic()}), flush=True)
