"""Runs programs as an ordinary user does, for tests that may be root: no capability, and no control group to be made.

python -m tests.sandbox.ordinary < jobs.json     jobs and limits -> what is weaker, and outcomes
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.sandbox.pool import SandboxPool
from operators.sandbox import Job, Limits, Mounts, Outcome

HOME = Path(__file__).parents[2]
NOBODY = 65534
GROUPS = "/sys/fs/cgroup"


def outcomes(jobs: Sequence[Job], limits: Limits) -> tuple[str, list[Outcome]]:
    """Return (what is weaker for an ordinary user, the outcomes of jobs)."""
    command = [*_seen(), sys.executable, "-m", "tests.sandbox.ordinary"]
    done = subprocess.run(command, input=pickle.dumps(([*jobs], limits)), capture_output=True, cwd=HOME)
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


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
    jobs, limits = pickle.load(sys.stdin.buffer)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    with SandboxPool(2) as pool:
        answer = pool.check(), pool.run(jobs, limits, Mounts())
    sys.stdout.buffer.write(pickle.dumps(answer))


if __name__ == "__main__":
    main()
