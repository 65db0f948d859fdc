"""Runs programs as an ordinary user does, for tests that may be root: no capability, and no control group to be made.

python -m tests.sandbox.ordinary < jobs.json     jobs and limits -> what is weaker, and outcomes
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.sandbox.pool import SandboxPool
from operators.sandbox import CheckJob, Limits, Mounts, Outcome

HOME = Path(__file__).parents[2]
NOBODY = 65534
GROUPS = "/sys/fs/cgroup"


def outcomes(jobs: Sequence[CheckJob], limits: Limits) -> tuple[str, list[Outcome]]:
    """Return (what is weaker for an ordinary user, the outcomes of jobs)."""
    done = subprocess.run(
        [*_seen(), sys.executable, "-m", "tests.sandbox.ordinary"],
        input=json.dumps({"jobs": [dataclasses.asdict(job) for job in jobs], "limits": limits.model_dump()}),
        capture_output=True,
        text=True,
        cwd=HOME,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["weaker"], [Outcome(**outcome) for outcome in found["outcomes"]]


def _seen() -> list[str]:
    """Return a command that shows what an ordinary user couldn't enter, such as an interpreter below /root, and hides
    control groups that one could make."""
    command = ["bwrap", "--dev-bind", "/", "/", *(["--tmpfs", GROUPS] if os.path.isdir(GROUPS) else [])]
    if os.geteuid():
        return command
    made: set[Path] = set()
    for place in (Path(sys.base_prefix), Path(sys.prefix), HOME):
        parents = [*reversed(place.parents)]
        closed = next((at for at, parent in enumerate(parents) if not parent.stat().st_mode & 1), None)
        if closed is None:
            continue
        for parent in parents[closed:]:
            if parent not in made:
                made.add(parent)
                command += ["--perms", "0755", "--tmpfs" if parent == parents[closed] else "--dir", str(parent)]
        command += ["--bind", str(place), str(place)]
    return [*command, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--chdir", str(HOME)]


def main() -> None:
    asked: dict[str, Any] = json.load(sys.stdin)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    with SandboxPool(2) as pool:
        weaker = pool.check()
        found = pool.run([CheckJob(**job) for job in asked["jobs"]], Limits(**asked["limits"]), Mounts())
    print(json.dumps({"weaker": weaker, "outcomes": [dataclasses.asdict(outcome) for outcome in found]}))


if __name__ == "__main__":
    main()
